//! What is done to the nodes, and when.

use std::{rc::Rc, time::Duration};

use selkie_sim_host::{Random, clock};

use super::{Run, item::Made};
use crate::{
    Simulation,
    executor::{self, Node},
    net, record,
    scenario::{Fault, Kind, Nodes, Publish, bytes_a_second},
};

/// Something that is done to the nodes.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    Crash(Vec<Node>),
    Restart(Vec<Node>),
    Part(usize),
    Cut(Vec<Node>, Vec<Node>, bool),
    Reset(Vec<Node>),
    SlowDown(Vec<Node>, Duration),
    Line(Vec<Node>, Option<net::Line>),
    TakeInbound(Vec<Node>, bool),
    Skew(Vec<Node>, i64),
    Publish(Node, Made),
}

impl Run {
    /// What a fault does, and when.
    pub(super) fn plan(&mut self, fault: &Fault, random: &mut Random) {
        let count = self.scenario.nodes;
        let mut deeds = |at: Duration, deed: Deed, until: Option<Duration>, undone: Deed| {
            self.deeds.push((at, deed));
            self.deeds.extend(until.map(|until| (until, undone)));
        };
        match fault {
            Fault::Crash { at, until, nodes } => {
                let nodes = nodes.choose(count, random);
                deeds(
                    *at,
                    Deed::Crash(nodes.clone()),
                    *until,
                    Deed::Restart(nodes),
                );
            }
            Fault::Partition { at, until, groups } => {
                deeds(*at, Deed::Part(*groups), Some(*until), Deed::Part(1));
            }
            Fault::Cut {
                at,
                until,
                from,
                to,
            } => {
                let (from, to) = (from.choose(count, random), to.choose(count, random));
                let cut = |is_cut| Deed::Cut(from.clone(), to.clone(), is_cut);
                deeds(*at, cut(true), Some(*until), cut(false));
            }
            Fault::Reset { at, nodes } => {
                let nodes = nodes.choose(count, random);
                self.deeds.push((*at, Deed::Reset(nodes)));
            }
            Fault::SlowCpu {
                at,
                until,
                nodes,
                poll,
            } => {
                let nodes = nodes.choose(count, random);
                let slow = Deed::SlowDown(nodes.clone(), *poll);
                deeds(
                    *at,
                    slow,
                    Some(*until),
                    Deed::SlowDown(nodes, Duration::ZERO),
                );
            }
            Fault::Line {
                at,
                until,
                nodes,
                up_mbit,
                down_mbit,
            } => {
                let nodes = nodes.choose(count, random);
                let line = net::Line {
                    up: bytes_a_second(*up_mbit),
                    down: bytes_a_second(*down_mbit),
                };
                let other = Deed::Line(nodes.clone(), Some(line));
                deeds(*at, other, Some(*until), Deed::Line(nodes, None));
            }
            Fault::NoInbound { at, until, nodes } => {
                let nodes = nodes.choose(count, random);
                let none = Deed::TakeInbound(nodes.clone(), false);
                deeds(*at, none, *until, Deed::TakeInbound(nodes, true));
            }
            Fault::Skew { at, nodes, seconds } => {
                let nodes = nodes.choose(count, random);
                #[allow(
                    clippy::cast_possible_truncation,
                    reason = "checked to be below 2^63 ns"
                )]
                let nanoseconds = (seconds * 1e9) as i64;
                self.deeds.push((*at, Deed::Skew(nodes, nanoseconds)));
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
                        end: *until,
                        per_second: *per_second,
                        bytes: *bytes,
                    };
                    self.publish(&lies, &[*liar], true, random);
                }
                self.liars.extend(nodes);
            }
        }
    }

    /// Does what is due.
    pub(super) fn act(&mut self, simulation: &mut Simulation) {
        while let Some((_, deed)) = self.deeds.pop_if(|(at, _)| *at <= clock::now()) {
            self.perform(deed, simulation);
        }
    }

    fn perform(&mut self, deed: Deed, simulation: &mut Simulation) {
        let count = self.scenario.nodes;
        let note = |nodes: &[Node], what: &str| {
            for node in nodes {
                simulation.note(*node, what);
                self.shared.borrow_mut().note(*node, format!("[{what}]"));
            }
        };
        match deed {
            Deed::Crash(nodes) => {
                note(&nodes, "crashes");
                for node in nodes {
                    self.stopped(node);
                    simulation.crash(node);
                }
            }
            Deed::Restart(nodes) => {
                note(&nodes, "starts again");
                for node in nodes {
                    if simulation.node(node).is_none() {
                        self.start(simulation, node);
                    }
                }
            }
            Deed::Part(groups) => {
                let all: Vec<Node> = (0..count).collect();
                note(
                    &all,
                    if groups > 1 {
                        "is parted from others"
                    } else {
                        "reaches all again"
                    },
                );
                all.into_iter()
                    .for_each(|node| net::part(node, node * groups / count));
            }
            Deed::Cut(from, to, is_cut) => {
                note(
                    &from,
                    if is_cut {
                        "is not heard any more"
                    } else {
                        "is heard again"
                    },
                );
                for one in &from {
                    to.iter().for_each(|other| net::cut(*one, *other, is_cut));
                }
            }
            Deed::Reset(nodes) => {
                note(&nodes, "loses its connections");
                for node in nodes {
                    (0..count).for_each(|other| net::reset(node, other));
                }
            }
            Deed::SlowDown(nodes, poll) => {
                note(
                    &nodes,
                    if poll.is_zero() {
                        "is fast again"
                    } else {
                        "is slow"
                    },
                );
                nodes
                    .into_iter()
                    .for_each(|node| executor::slow_down(node, poll));
            }
            Deed::Line(nodes, line) => {
                note(&nodes, "has another line");
                for node in nodes {
                    net::set_line(node, line.unwrap_or(self.lines[node]));
                }
            }
            Deed::TakeInbound(nodes, takes) => {
                note(
                    &nodes,
                    if takes {
                        "takes connections again"
                    } else {
                        "takes no connections"
                    },
                );
                nodes
                    .into_iter()
                    .for_each(|node| net::take_inbound(node, takes));
            }
            Deed::Publish(by, made) => {
                let Some(manager) = simulation.node(by).cloned() else {
                    return;
                };
                let shared = Rc::clone(&self.shared);
                executor::spawn(Some(by), async move {
                    if let Err(error) = manager.submit(made.item()).await {
                        let words = format!("node {by}: {error}");
                        record::event(by, &words);
                        shared.borrow_mut().not_taken.push(words);
                    }
                });
            }
            Deed::Skew(nodes, nanoseconds) => {
                note(&nodes, "has another date");
                nodes
                    .into_iter()
                    .for_each(|node| executor::skew(node, nanoseconds));
            }
        }
    }

    /// Items at random moments, each of one of these nodes.
    pub(super) fn publish(
        &mut self,
        publish: &Publish,
        from: &[Node],
        lies: bool,
        random: &mut Random,
    ) {
        let mut at = publish.start;
        while !from.is_empty() {
            // The pauses of a Poisson process.
            let pause = -(1.0 - random.unit()).ln() / publish.per_second;
            at += Duration::from_secs_f64(pause);
            if at >= publish.end {
                return;
            }
            let by = from[random.index(from.len())];
            let made = Made {
                kind: publish.kind,
                bytes: publish.bytes,
                seed: random.next_u64(),
                lies,
            };
            self.deeds.push((at, Deed::Publish(by, made)));
        }
    }
}
