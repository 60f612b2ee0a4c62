//! A scenario, run: `deeds.rs` is what is done to the nodes, `item.rs` their chain.

mod deeds;
mod item;

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

use selkie::{ItemKind, NetworkEvent, PeerInfo};
use selkie_sim_host::{Random, clock, cpu_time, peak_memory};

use crate::{
    Simulation,
    executor::{self, Node},
    net, record,
    report::{Cost, Event, NodeReport, Report},
    scenario::{Kind, Scenario, allot},
    spread::Spreads,
    topology::Edge,
    verdict::{self, Seen},
};

use deeds::Deed;
use item::Chain;

/// How often the run tells how far it is.
const STEP: Duration = Duration::from_millis(100);
/// Events kept for the trace.
const MAX_EVENTS: usize = 200_000;

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
