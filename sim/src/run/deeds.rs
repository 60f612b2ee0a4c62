//! What is done to the nodes, and when.

use std::{cmp::Reverse, collections::BTreeSet, rc::Rc, time::Duration};

use selkie_sim_host::{Random, clock};

use super::{
    Run,
    chain::{Chain, Made, Mind, Parts},
    effects::Effect,
};
use crate::{
    Simulation,
    executor::{self, Node},
    net, record,
    scenario::{Fault, Kind, Nodes, Publish, bytes_a_second, transaction_bytes},
    spread::HandedIn,
    topology::Edge,
};

/// Something that is done to the nodes.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    /// Something that lasts begins: its number.
    Begin(usize),
    /// Nodes start for the first time.
    Start(Vec<Node>),
    Reset(Vec<Node>),
    Publish(Node, Made),
    /// Something that lasted ends.
    End(usize),
}

/// All that is to be done.
#[derive(Debug, Default)]
pub(super) struct Deeds {
    /// The latest first, once they are sorted.
    waiting: Vec<(Duration, Deed)>,
    /// What lasts, by number.
    effects: Vec<Effect>,
}

impl Deeds {
    /// These start then.
    pub(super) fn start(&mut self, at: Duration, nodes: Vec<Node>) {
        self.waiting.push((at, Deed::Start(nodes)));
    }

    pub(super) fn lasts(&mut self, at: Duration, until: Option<Duration>, effect: Effect) {
        let number = self.effects.len();
        self.effects.push(effect);
        self.waiting.push((at, Deed::Begin(number)));
        self.waiting
            .extend(until.map(|until| (until, Deed::End(number))));
    }

    /// At one moment they come as they were planned, but for ends, which come last: what touches is one.
    pub(super) fn sort(&mut self) {
        self.waiting.reverse();
        self.waiting
            .sort_by_key(|(at, deed)| Reverse((*at, matches!(deed, Deed::End(_)))));
    }

    /// When the next is due.
    pub(super) fn next(&self) -> Option<Duration> {
        self.waiting.last().map(|(at, _)| *at)
    }

    fn pop(&mut self, now: Duration) -> Option<Deed> {
        self.waiting
            .pop_if(|(at, _)| *at <= now)
            .map(|(_, deed)| deed)
    }
}

impl Run {
    /// What a fault does, and when.
    pub(super) fn plan(&mut self, fault: &Fault, random: &mut Random) {
        let count = self.scenario.nodes;
        let mut choose = |nodes: &Nodes| nodes.choose(count, random).into_iter().collect();
        let effect = match fault {
            Fault::Crash {
                nodes, loses_disk, ..
            } => Effect::Down {
                nodes: choose(nodes),
                loses_disk: *loses_disk,
            },
            Fault::PowerOff {
                nodes, loses_disk, ..
            } => Effect::Off {
                nodes: choose(nodes),
                loses_disk: *loses_disk,
            },
            Fault::Blackhole { nodes, .. } => Effect::Dark(choose(nodes)),
            Fault::Partition { groups, .. } => Effect::Parted(*groups),
            Fault::Cut { from, to, .. } => Effect::Cut {
                from: choose(from),
                to: choose(to),
            },
            Fault::SlowCpu { nodes, poll, .. } => Effect::SlowCpu(choose(nodes), *poll),
            Fault::SlowApplication { nodes, check, .. } => {
                Effect::SlowApplication(choose(nodes), *check)
            }
            Fault::Line {
                nodes,
                up_mbit,
                down_mbit,
                ..
            } => {
                let line = net::Line {
                    up: bytes_a_second(*up_mbit),
                    down: bytes_a_second(*down_mbit),
                };
                Effect::Line(choose(nodes), line)
            }
            Fault::NoInbound { at, nodes, .. } => {
                let nodes = choose(nodes);
                if at.is_zero() {
                    lead_outwards(&mut self.edges, &nodes);
                }
                Effect::NoInbound(nodes)
            }
            Fault::Skew { nodes, seconds, .. } => {
                #[allow(
                    clippy::cast_possible_truncation,
                    reason = "checked to be below 2^63 ns"
                )]
                let nanoseconds = (seconds * 1e9) as i64;
                Effect::Skew(choose(nodes), nanoseconds)
            }
            Fault::Reset { at, nodes } => {
                let nodes = nodes.choose(count, random);
                return self.deeds.waiting.push((*at, Deed::Reset(nodes)));
            }
            Fault::Liars {
                at,
                until,
                nodes,
                per_second,
                bytes,
            } => {
                let nodes = nodes.choose(count, random);
                for liar in &nodes {
                    let lies = Publish {
                        kind: Kind::Transaction,
                        from: Nodes::All,
                        start: *at,
                        end: (*until).min(self.scenario.duration),
                        per_second: *per_second,
                        bytes: *bytes,
                        known: None,
                        transaction_bytes: transaction_bytes(),
                    };
                    self.publish(&lies, &[*liar], None, random);
                }
                return self.liars.extend(nodes);
            }
        };
        let (at, until) = fault.times();
        self.deeds.lasts(at, until, effect);
    }

    /// Does what is due.
    pub(super) fn act(&mut self, simulation: &mut Simulation) {
        while let Some(deed) = self.deeds.pop(clock::now()) {
            self.perform(deed, simulation);
        }
    }

    fn note(&self, simulation: &Simulation, node: Node, what: &str) {
        simulation.note(node, what);
        self.shared.borrow_mut().note(node, format!("[{what}]"));
    }

    fn perform(&mut self, deed: Deed, simulation: &mut Simulation) {
        let count = self.scenario.nodes;
        match deed {
            Deed::Begin(number) => {
                let effect = self.deeds.effects[number].clone();
                for node in effect.nodes(count) {
                    self.note(simulation, node, effect.words().0);
                }
                self.effects.begin(number, effect.clone());
                self.apply(&effect, simulation);
                if effect.loses_disk() {
                    for node in effect.nodes(count) {
                        simulation.rename(node);
                    }
                }
            }
            Deed::End(number) => {
                let Some(effect) = self.effects.end(number) else {
                    return;
                };
                for node in effect.nodes(count) {
                    self.note(simulation, node, effect.words().1);
                }
                self.apply(&effect, simulation);
            }
            Deed::Start(nodes) => {
                for node in nodes {
                    self.turn(node, simulation);
                }
            }
            Deed::Reset(nodes) => {
                for node in nodes {
                    self.note(simulation, node, "loses its connections");
                    (0..self.ran.len()).for_each(|other| net::reset(node, other));
                }
            }
            Deed::Publish(by, made) => self.hand_in(by, made, simulation),
        }
    }

    /// Makes the nodes that an effect is about what they are to be, now that it has begun or ended.
    fn apply(&mut self, effect: &Effect, simulation: &mut Simulation) {
        for node in effect.nodes(self.scenario.nodes) {
            match effect {
                Effect::Down { .. } | Effect::Off { .. } => self.turn(node, simulation),
                Effect::Dark(_) => net::black_hole(node, self.effects.is_dark(node)),
                Effect::Parted(_) => {
                    net::part(node, self.effects.group(node, self.scenario.nodes));
                }
                Effect::Cut { to, .. } => {
                    for other in to {
                        net::cut(node, *other, self.effects.is_cut(node, *other));
                    }
                }
                Effect::SlowCpu(..) => executor::slow_down(node, self.effects.poll(node)),
                Effect::SlowApplication(..) => {
                    simulation.work_takes_on(node, self.effects.check(node));
                }
                Effect::Line(..) => {
                    let line = self.effects.line(node).unwrap_or(self.lines[node]);
                    net::set_line(node, line);
                }
                Effect::NoInbound(_) => net::take_inbound(node, self.effects.takes_inbound(node)),
                Effect::Skew(..) => executor::skew(node, self.effects.skew(node)),
            }
        }
    }

    /// Ends a node's process or starts one, and its host's power.
    fn turn(&mut self, node: Node, simulation: &mut Simulation) {
        let (is_down, runs) = (self.effects.is_down(node), self.runs(simulation, node));
        // Without power nothing says goodbye.
        net::power(node, !self.effects.is_off(node));
        if is_down && runs {
            self.stopped(node, simulation);
            simulation.crash(node);
            self.plain.remove(&node);
        } else if !is_down && !runs {
            let is_first = self.ran[node].is_empty();
            let words = if is_first { "starts" } else { "starts again" };
            self.note(simulation, node, words);
            self.start(simulation, node);
        }
    }

    /// A node's user hands in an item, where the node runs.
    fn hand_in(&self, by: Node, made: Made, simulation: &Simulation) {
        let (selkie, plain) = (simulation.node(by).cloned(), self.plain.get(&by).cloned());
        if selkie.is_none() && plain.is_none() {
            return;
        }
        let (item, words) = made.item(by, self.pools.get(by));
        if let Some(words) = words {
            self.note(simulation, by, &words);
        }
        let id = Chain {
            mind: Mind::Liar,
            pool: None,
        }
        .id(&item);
        let handed_in = HandedIn {
            by,
            kind: made.kind,
            bytes: item.data().len(),
            at: clock::now(),
            publication: made.publication,
        };
        let spreads = &mut self.shared.borrow_mut().spreads;
        spreads.published(handed_in, &id);
        let shared = Rc::clone(&self.shared);
        executor::spawn(Some(by), async move {
            let outcome = match (selkie, plain) {
                (Some(manager), _) => {
                    let sent = manager.submit(item).await;
                    sent.map(drop).map_err(|error| error.to_string())
                }
                (None, Some(plain)) => plain.submit(item).await,
                (None, None) => return,
            };
            let mut shared = shared.borrow_mut();
            match outcome {
                Ok(()) => shared.spreads.answered(&id, true),
                Err(error) => {
                    let words = format!("node {by}: {error}");
                    record::event(by, &words);
                    shared.spreads.answered(&id, false);
                    shared.not_taken.push(words);
                }
            }
        });
    }

    /// The items of a publication of the scenario, or a liar's, each of one of these nodes.
    pub(super) fn publish(
        &mut self,
        publish: &Publish,
        from: &[Node],
        publication: Option<usize>,
        random: &mut Random,
    ) {
        if from.is_empty() {
            return;
        }
        for at in moments(publish, random) {
            let by = from[random.index(from.len())];
            let made = Made {
                kind: publish.kind,
                bytes: publish.bytes,
                parts: publish.known.map(|known| Parts {
                    known,
                    transaction_bytes: publish.transaction_bytes,
                }),
                seed: random.next_u64(),
                publication,
            };
            self.deeds.waiting.push((at, Deed::Publish(by, made)));
        }
    }
}

/// Who takes no connections from the start dials whom it knows: else it might never have a peer.
fn lead_outwards(edges: &mut [Edge], nodes: &BTreeSet<Node>) {
    for (one, other) in edges {
        if nodes.contains(other) && !nodes.contains(one) {
            std::mem::swap(one, other);
        }
    }
}

/// When items are made: at the start, so that no publication makes none by chance, and from then on with the pauses of a Poisson process.
fn moments(publish: &Publish, random: &mut Random) -> Vec<Duration> {
    let mut at = publish.start;
    let mut moments = Vec::new();
    while at < publish.end {
        moments.push(at);
        let pause = -(1.0 - random.unit()).ln() / publish.per_second;
        // Of the rarest the next would come after the end of all time.
        let pause = Duration::try_from_secs_f64(pause).unwrap_or(Duration::MAX);
        at = at.saturating_add(pause);
    }
    moments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_no_connections_dials_whom_it_knows() {
        let mut edges = [(0, 2), (2, 1), (0, 1), (3, 2)];
        lead_outwards(&mut edges, &[2, 3].into());
        assert_eq!(edges, [(2, 0), (2, 1), (0, 1), (3, 2)]);
    }

    #[test]
    fn no_publication_makes_nothing_by_chance() {
        let second = Duration::from_secs(1);
        let publish = Publish {
            kind: Kind::Block,
            from: Nodes::All,
            start: 6 * second,
            end: 10 * second,
            per_second: 0.5,
            bytes: 100,
            known: None,
            transaction_bytes: 400,
        };
        let count = 1_000;
        let mut all = 0;
        for seed in 0..count {
            let moments = moments(&publish, &mut Random::new(seed));
            assert_eq!(moments.first(), Some(&publish.start), "seed {seed}");
            assert!(moments.iter().all(|at| *at < publish.end));
            all += moments.len();
        }
        // The first, and two more on average.
        assert!((2_800..3_200).contains(&all), "{all}");
        let rare = Publish {
            per_second: 1e-300,
            ..publish
        };
        assert_eq!(moments(&rare, &mut Random::new(1)), [rare.start]);
    }

    #[test]
    fn what_ends_at_a_moment_ends_after_what_begins_then() {
        let second = Duration::from_secs(1);
        let mut deeds = Deeds::default();
        for (from, until) in [(2, 5), (5, 8), (1, 2)] {
            let cut = Effect::Dark([0].into());
            deeds.lasts(from * second, Some(until * second), cut);
        }
        deeds.waiting.push((5 * second, Deed::Reset(vec![0])));
        deeds.sort();
        let order: Vec<_> = std::iter::from_fn(|| deeds.pop(Duration::MAX))
            .map(|deed| format!("{deed:?}"))
            .collect();
        assert_eq!(
            order,
            [
                "Begin(2)",
                "Begin(0)",
                "End(2)",
                "Begin(1)",
                "Reset([0])",
                "End(0)",
                "End(1)"
            ]
        );
    }
}
