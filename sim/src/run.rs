//! A scenario, run.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes as Payload;
use selkie::{Application, Checked, Item, ItemKind, NetworkEvent, PeerInfo, Transaction};
use selkie_sim_host::{Random, clock, cpu_time, peak_memory};
use serde::Serialize;

use crate::{
    Simulation,
    executor::{self, Node},
    net, record,
    scenario::{Fault, Kind, Nodes, Publish, Scenario, allot, bytes_a_second},
    spread::{Spread, Spreads, seconds},
    topology::Edge,
    verdict::{self, Seen, Verdict},
};

/// How often the run tells how far it is.
const STEP: Duration = Duration::from_millis(100);
/// The first byte of what only liars accept.
const LIE: u8 = 0xff;
/// Events kept for the trace.
const MAX_EVENTS: usize = 200_000;

/// What came of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What the scenario is for.
    pub about: String,
    /// The seed.
    pub seed: u64,
    /// Of all that happened: the same in each run of the seed.
    pub hash: String,
    /// What must hold, and whether it does.
    pub verdicts: Vec<Verdict>,
    /// How long it was, in virtual seconds.
    #[serde(serialize_with = "seconds")]
    pub duration: Duration,
    /// What it cost.
    pub cost: Cost,
    /// Who knew whom at the beginning; the first dials.
    pub edges: Vec<Edge>,
    /// The nodes.
    pub nodes: Vec<NodeReport>,
    /// All items.
    pub items: Vec<Spread>,
    /// What nodes told, the items aside, and what was done to them.
    pub events: Vec<Event>,
    /// Events beyond those.
    pub events_left_out: u64,
    /// Items that a node did not take of its own user: the reasons.
    pub not_taken: Vec<String>,
    /// Deliveries that should not be.
    pub odd: Vec<String>,
}

/// What a run cost, which differs from run to run.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// CPU time.
    #[serde(serialize_with = "seconds")]
    pub cpu: Duration,
    /// The most memory that the process had, in bytes.
    pub memory: u64,
    /// Polls of tasks.
    pub polls: u64,
}

/// A node at the end.
#[derive(Clone, Debug, Serialize)]
pub struct NodeReport {
    /// Its id.
    pub peer: String,
    /// Whether it runs.
    pub runs: bool,
    /// Whether it is a liar.
    pub lies: bool,
    /// Its peers.
    pub peers: usize,
    /// Bytes that it put on its line.
    pub sent: u64,
    /// When it ran, in seconds.
    pub ran: Vec<(f64, f64)>,
}

/// Something happened at a node.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// When, in seconds.
    #[serde(serialize_with = "seconds")]
    pub at: Duration,
    /// Where.
    pub node: Node,
    /// What, in words.
    pub what: String,
}

/// A page around a report's JSON.
const PAGE: &str = include_str!("report.html");

impl Report {
    /// A page that shows it, and needs nothing else.
    ///
    /// # Errors
    /// As `serde_json`.
    pub fn html(&self) -> serde_json::Result<String> {
        // Nothing in it ends the script that holds it.
        let data = serde_json::to_string(self)?.replace("</", "<\\/");
        Ok(PAGE.replacen("\"DATA\"", &data, 1))
    }

    /// Whether all holds that must.
    pub fn holds(&self) -> bool {
        self.verdicts.iter().all(|verdict| verdict.holds)
    }
}

/// What the tasks of a run share.
#[derive(Default)]
struct Shared {
    spreads: Spreads,
    events: Vec<Event>,
    events_left_out: u64,
    not_taken: Vec<String>,
    /// Who has banned whom.
    bans: BTreeSet<(Node, Node)>,
    /// Events that a subscriber did not get.
    missed: u64,
}

impl Shared {
    /// What a sound run has none of.
    fn odd_or_missed(&self) -> Vec<String> {
        let mut odd = self.spreads.odd.clone();
        if self.missed > 0 {
            odd.push(format!("{} events came to no subscriber", self.missed));
        }
        odd
    }

    fn note(&mut self, node: Node, what: String) {
        if self.events.len() < MAX_EVENTS {
            let at = clock::now();
            self.events.push(Event { at, node, what });
        } else {
            self.events_left_out += 1;
        }
    }
}

/// Runs a scenario in this simulation, whose first it is. `progress` is told how many virtual milliseconds have gone by.
///
/// # Panics
/// Where a node does, or a start fails.
pub fn run(scenario: &Scenario, simulation: &mut Simulation, progress: &Arc<AtomicU64>) -> Report {
    let begun = cpu_time();
    let mut run = Run::new(scenario.clone(), simulation);
    run.begin(simulation);
    while simulation.now() < scenario.duration {
        run.act(simulation);
        let next = run.deeds.last().map_or(scenario.duration, |(at, _)| *at);
        let until = next.min(simulation.now() + STEP).min(scenario.duration);
        simulation.run_for(until.saturating_sub(simulation.now()));
        let milliseconds = simulation.now().as_millis();
        progress.store(
            u64::try_from(milliseconds).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }
    run.report(simulation, begun)
}

/// A run as it goes.
struct Run {
    scenario: Scenario,
    edges: Vec<Edge>,
    /// The hosts' own.
    lines: Vec<net::Line>,
    liars: BTreeSet<Node>,
    /// When each node ran; the last may still.
    ran: Vec<Vec<Span>>,
    /// What is done, and when; the latest first.
    deeds: Vec<(Duration, Deed)>,
    shared: Rc<RefCell<Shared>>,
    banned_at: f64,
}

/// From when, and until when where it is over.
pub(crate) type Span = (Duration, Option<Duration>);

/// Something that is done to the nodes.
#[derive(Clone, Debug)]
enum Deed {
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

/// An item to be made.
#[derive(Clone, Copy, Debug)]
struct Made {
    kind: Kind,
    bytes: usize,
    seed: u64,
    lies: bool,
}

impl Made {
    /// Random bytes: what repeats is compressed on its way. The first says whether it is a lie.
    fn item(self) -> Item {
        let mut data = vec![0; self.bytes];
        Random::new(self.seed).fill(&mut data);
        if let Some(first) = data.first_mut() {
            *first = if self.lies { LIE } else { 0 };
        }
        let kind = match self.kind {
            Kind::Transaction => ItemKind::Transaction,
            Kind::Block => ItemKind::Block,
            Kind::Vote => ItemKind::Vote,
        };
        Item::new(kind, data)
    }
}

impl Run {
    fn new(scenario: Scenario, simulation: &mut Simulation) -> Self {
        let edges = scenario.topology.edges(scenario.nodes, simulation.random());
        Self {
            edges,
            lines: Vec::new(),
            liars: BTreeSet::new(),
            ran: vec![Vec::new(); scenario.nodes],
            deeds: Vec::new(),
            shared: Rc::default(),
            banned_at: scenario.config.security.peer_scoring.ban_at,
            scenario,
        }
    }

    /// Hosts, nodes, and all that is to be done.
    fn begin(&mut self, simulation: &mut Simulation) {
        let scenario = self.scenario.clone();
        simulation.work_takes(scenario.work_takes);
        if scenario.shuffle {
            simulation.shuffle();
        }
        simulation.regions(scenario.network.paths());
        let places = scenario.network.places(scenario.nodes, simulation.random());
        self.lines = self.lines(simulation.random());
        for (place, line) in places.into_iter().zip(&self.lines) {
            simulation.add(place, *line);
        }
        for fault in &scenario.fault {
            self.plan(fault, simulation.random());
        }
        for publish in &scenario.publish {
            let from = publish.from.choose(scenario.nodes, simulation.random());
            let honest = from.into_iter().filter(|node| !self.liars.contains(node));
            self.publish(
                publish,
                &honest.collect::<Vec<_>>(),
                false,
                simulation.random(),
            );
        }
        // The last first, so that the next is taken from the end.
        self.deeds.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        for node in 0..scenario.nodes {
            self.start(simulation, node);
        }
    }

    fn lines(&self, random: &mut Random) -> Vec<net::Line> {
        let classes = &self.scenario.line;
        if classes.is_empty() {
            return vec![net::Line::default(); self.scenario.nodes];
        }
        let shares: Vec<f64> = classes.iter().map(|class| class.share).collect();
        let which = allot(self.scenario.nodes, &shares, random);
        which
            .into_iter()
            .map(|class| classes[class].line())
            .collect()
    }

    /// What a fault does, and when.
    fn plan(&mut self, fault: &Fault, random: &mut Random) {
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
    fn act(&mut self, simulation: &mut Simulation) {
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

    fn start(&mut self, simulation: &mut Simulation, node: Node) {
        let dialled = self.edges.iter().filter(|(one, _)| *one == node);
        let mut config = self.scenario.config.clone();
        config.network.bootstrap_peers = dialled
            .map(|(_, other)| {
                let address = simulation.address(*other).to_string();
                address
                    .parse::<PeerInfo>()
                    .expect("it has the peer's id at its end")
            })
            .collect();
        let chain = Chain {
            lies: self.liars.contains(&node),
        };
        let manager = simulation
            .start(node, config, chain)
            .unwrap_or_else(|error| panic!("node {node} does not start: {error}"));
        self.ran[node].push((clock::now(), None));
        self.shared
            .borrow_mut()
            .spreads
            .started(node, manager.local_peer_id);
        let (shared, banned_at) = (Rc::clone(&self.shared), self.banned_at);
        let mut events = manager.subscribe_events();
        drop(manager);
        simulation.spawn(async move {
            let mut missed = 0;
            while let Some(event) = events.recv().await {
                let mut shared = shared.borrow_mut();
                shared.missed += events.missed() - missed;
                missed = events.missed();
                heard(&mut shared, node, event, banned_at);
            }
        });
    }

    fn stopped(&mut self, node: Node) {
        if let Some((_, end @ None)) = self.ran[node].last_mut() {
            *end = Some(clock::now());
        }
    }

    /// Items at random moments, each of one of these nodes.
    fn publish(&mut self, publish: &Publish, from: &[Node], lies: bool, random: &mut Random) {
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

    fn report(self, simulation: &Simulation, begun: Duration) -> Report {
        let liars = &self.liars;
        let nodes = (0..self.scenario.nodes).map(|node| {
            let manager = simulation.node(node);
            let spans = self.ran[node].iter().map(|(from, until)| {
                let until = until.unwrap_or(self.scenario.duration);
                (from.as_secs_f64(), until.as_secs_f64())
            });
            NodeReport {
                peer: simulation.peer(node).to_string(),
                runs: manager.is_some(),
                lies: liars.contains(&node),
                peers: manager.map_or(0, |manager| manager.get_connected_peers().len()),
                sent: net::sent(node),
                ran: spans.collect(),
            }
        });
        let nodes: Vec<NodeReport> = nodes.collect();
        let cost = Cost {
            cpu: cpu_time().saturating_sub(begun),
            memory: peak_memory(),
            polls: executor::polls(),
        };
        let shared = self.shared.take();
        let odd = shared.odd_or_missed();
        let seen = Seen {
            nodes: &nodes,
            items: shared.spreads.items(),
            bans: &shared.bans,
            odd: &odd,
            memory: cost.memory,
        };
        let verdicts = verdict::of(&self.scenario, &self.ran, &seen);
        Report {
            about: self.scenario.about,
            seed: simulation.seed(),
            hash: simulation.hash(),
            verdicts,
            duration: self.scenario.duration,
            cost,
            edges: self.edges,
            nodes,
            events: shared.events,
            events_left_out: shared.events_left_out,
            not_taken: shared.not_taken,
            odd,
            items: shared.spreads.into_items(),
        }
    }
}

/// A node has told something.
fn heard(shared: &mut Shared, node: Node, event: NetworkEvent, banned_at: f64) {
    let words = event.to_string();
    record::event(node, &words);
    match event {
        NetworkEvent::ItemAccepted {
            item, id, source, ..
        } => {
            let kind = match item.kind() {
                ItemKind::Transaction => Kind::Transaction,
                ItemKind::Block => Kind::Block,
                ItemKind::Vote => Kind::Vote,
            };
            let (spreads, now) = (&mut shared.spreads, clock::now());
            match source {
                None => spreads.published(node, kind, item.data().len(), &id, now),
                Some(source) => spreads.came(node, source, &id, now),
            }
            return;
        }
        NetworkEvent::PeerScored { peer_id, score, .. } if score <= banned_at => {
            let banned = shared.spreads.node(&peer_id);
            shared.bans.extend(banned.map(|banned| (node, banned)));
        }
        _ => {}
    }
    shared.note(node, words);
}

/// The nodes' chain: items are bytes, and those that begin with [`LIE`] are worth nothing but to liars.
struct Chain {
    lies: bool,
}

impl Chain {
    fn check(&self, data: &Payload) -> Checked {
        if !self.lies && data.first() == Some(&LIE) {
            return Checked::reject(data, "it is a lie");
        }
        Checked::opaque(data)
    }
}

impl Application for Chain {
    fn check_transaction(&self, transaction: &Transaction) -> Checked {
        self.check(&transaction.data)
    }
}
