//! A scenario, run: `deeds.rs` is what is done to the nodes, `effects.rs` what is wrong with them, `chain.rs` their
//! chain, `attackers.rs` who means harm.

mod attackers;
mod chain;
mod deeds;
mod effects;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use selkie::{
    Item, ItemId, Multiaddr, NetworkEvent, P2PNetworkManager, PeerId, PeerInfo,
    peers::{Ban, Banned},
};
use selkie_sim_host::{Random, clock, cpu_time, peak_memory};

use crate::{
    Simulation, baseline,
    deliveries::{Deliveries, Due},
    executor::{self, Node},
    healing::Healing,
    net,
    peering::Peering,
    record,
    report::{Bytes, Cost, Event, NodeReport, Part, Report},
    scenario::{Kind, Scenario, Speaks, allot},
    spread::Spreads,
    topology::{self, Edge},
    verdict::{self, Seen},
};

use attackers::Harm;
use chain::{Chain, Mind, Pool};
use deeds::Deeds;
use effects::Effects;

/// How often the run tells how far it is.
const STEP: Duration = Duration::from_millis(100);
/// Events kept for the trace.
const MAX_EVENTS: usize = 200_000;

/// What the tasks of a run share.
struct Shared {
    spreads: Spreads,
    peering: Peering,
    events: Vec<Event>,
    events_left_out: u64,
    not_taken: Vec<String>,
    /// Who has banned whom.
    bans: BTreeSet<(Node, Node)>,
    /// The lowest score that one has had with another.
    scores: BTreeMap<(Node, Node), f64>,
    /// Events that a subscriber did not get.
    missed: u64,
}

impl Shared {
    fn new(scenario: &Scenario) -> Self {
        let wanted = scenario.must.peers.as_ref().map_or(0, |peers| peers.count);
        Self {
            spreads: Spreads::default(),
            peering: Peering::new(wanted),
            events: Vec::new(),
            events_left_out: 0,
            not_taken: Vec::new(),
            bans: BTreeSet::new(),
            scores: BTreeMap::new(),
            missed: 0,
        }
    }

    /// What a sound run has none of.
    fn odd_or_missed(&self) -> Vec<String> {
        let mut odd = self.spreads.odd.clone();
        if self.missed > 0 {
            odd.push(format!("{} events came to no subscriber", self.missed));
        }
        odd
    }

    /// A node has accepted an item that a peer brought, and a block's transactions with it.
    fn came(&mut self, node: Node, from: PeerId, item: &Item, id: &ItemId) {
        let now = clock::now();
        self.spreads.came(node, from, id, now);
        if let Item::Block(block) = item {
            let ids = chain::transactions(block);
            self.spreads.confirmed(node, from, &ids, now);
        }
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
    let is_measured = scenario.measured();
    let mut measured = Part::default();
    while simulation.now() < scenario.duration {
        let (at, spent) = (simulation.now(), cpu_time());
        run.act(simulation);
        run.look_whether_whole(simulation);
        let next = run.deeds.next().unwrap_or(scenario.duration);
        let until = next.min(at + STEP).min(scenario.duration);
        simulation.run_for(until.saturating_sub(at));
        if is_measured.contains(&at) {
            measured.cpu += cpu_time().saturating_sub(spent);
            measured.time += simulation.now().saturating_sub(at);
        }
        let milliseconds = simulation.now().as_millis();
        progress.store(
            u64::try_from(milliseconds).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }
    run.report(simulation, begun, measured)
}

/// A run as it goes.
struct Run {
    scenario: Scenario,
    edges: Vec<Edge>,
    /// The hosts' own.
    lines: Vec<net::Line>,
    /// Whoever is not honest: what liars publish is no honest item, and nothing is owed to them.
    liars: BTreeSet<Node>,
    /// Who means harm, of those, and how.
    harm: BTreeMap<Node, Harm>,
    /// Nodes that speak gossipsub, and run.
    plain: BTreeMap<Node, baseline::Handle>,
    /// What each node's chain keeps; none where nobody makes blocks of it.
    pools: Vec<Pool>,
    /// When each node ran; the last may still.
    ran: Vec<Vec<Span>>,
    /// What is done, and when.
    deeds: Deeds,
    /// What is wrong at the moment.
    effects: Effects,
    /// What each node's protocols have written in lives that are over.
    streams: Vec<u64>,
    shared: Rc<RefCell<Shared>>,
    /// Whether the network is one again, where that is asked.
    healing: Option<Healing>,
    banned_at: f64,
}

/// From when, and until when where it is over.
pub(crate) type Span = (Duration, Option<Duration>);

impl Run {
    fn new(scenario: Scenario, simulation: &mut Simulation) -> Self {
        let edges = scenario.topology.edges(scenario.nodes, simulation.random());
        let mut publications = scenario.publish.iter();
        let has_parts = publications.any(|publish| publish.known.is_some());
        let all = scenario.all_nodes();
        let keep = if has_parts { all } else { 0 };
        Self {
            edges,
            lines: Vec::new(),
            liars: (scenario.nodes..all).collect(),
            harm: BTreeMap::new(),
            plain: BTreeMap::new(),
            pools: (0..keep).map(|_| Pool::default()).collect(),
            ran: vec![Vec::new(); all],
            deeds: Deeds::default(),
            effects: Effects::default(),
            streams: vec![0; all],
            shared: Rc::new(RefCell::new(Shared::new(&scenario))),
            // Who speaks gossipsub does not say to whom it is connected.
            healing: (scenario.must.whole.is_some() && scenario.speaks == Speaks::Selkie)
                .then(|| Healing::new(scenario.ends())),
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
        let all = scenario.all_nodes();
        let places = scenario.network.places(all, simulation.random());
        self.lines = self.lines(simulation.random());
        for (node, (place, line)) in places.into_iter().zip(&self.lines).enumerate() {
            match scenario.neighbour(node) {
                Some(neighbour) => simulation.add_beside(neighbour, place, *line),
                None => simulation.add(place, *line),
            };
        }
        for plan in &scenario.path {
            let [one, other] = plan.between;
            net::set_path(one, other, Some(plan.path()));
        }
        self.plan_attackers(simulation.random());
        for fault in &scenario.fault {
            self.plan(fault, simulation.random());
        }
        for (index, publish) in scenario.publish.iter().enumerate() {
            let from = publish.from.choose(scenario.nodes, simulation.random());
            let honest = from.into_iter().filter(|node| !self.liars.contains(node));
            let honest: Vec<_> = honest.collect();
            self.publish(publish, &honest, Some(index), simulation.random());
        }
        let (mut now, mut later) = (Vec::new(), BTreeMap::<Duration, Vec<Node>>::new());
        for node in 0..all {
            let at = self.harm.get(&node).map_or(scenario.start, Harm::start);
            if at.is_zero() {
                now.push(node);
            } else {
                later.entry(at).or_default().push(node);
            }
        }
        for (at, nodes) in later {
            self.deeds.start(at, nodes);
        }
        self.deeds.sort();
        for node in now {
            self.start(simulation, node);
        }
    }

    fn lines(&self, random: &mut Random) -> Vec<net::Line> {
        let classes = &self.scenario.line;
        if classes.is_empty() {
            return vec![net::Line::default(); self.scenario.all_nodes()];
        }
        let shares: Vec<f64> = classes.iter().map(|class| class.share).collect();
        let which = allot(self.scenario.all_nodes(), &shares, random);
        which
            .into_iter()
            .map(|class| classes[class].line())
            .collect()
    }

    fn start(&mut self, simulation: &mut Simulation, node: Node) {
        if let Some(script) = self.harm.get(&node).and_then(Harm::script) {
            simulation.script(node, script);
        }
        match self.scenario.speaks {
            Speaks::Selkie => self.start_selkie(simulation, node),
            Speaks::Gossipsub => self.start_plain(simulation, node),
        }
        self.ran[node].push((clock::now(), None));
        let mut shared = self.shared.borrow_mut();
        shared.spreads.started(node, simulation.peer(node));
        shared.peering.started(node, clock::now());
    }

    fn start_selkie(&mut self, simulation: &mut Simulation, node: Node) {
        let mut config = self.scenario.config.clone();
        config.network.bootstrap_peers = self
            .dials(simulation, node)
            .map(|address| {
                let peer = address.to_string().parse::<PeerInfo>();
                peer.expect("it has the peer's id at its end")
            })
            .collect();
        let chain = self.chain(node);
        let manager = simulation
            .start(node, config, chain)
            .unwrap_or_else(|error| panic!("node {node} does not start: {error}"));
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

    fn start_plain(&mut self, simulation: &mut Simulation, node: Node) {
        let (keypair, address) = simulation.host(node);
        let plan = baseline::Plan {
            keypair,
            address,
            dials: self.dials(simulation, node).collect(),
            max_message: self
                .scenario
                .config
                .protocol
                .gossipsub_config
                .max_transmit_size,
            application: Box::new(self.chain(node)),
        };
        let shared = Rc::clone(&self.shared);
        let heard = move |heard: baseline::Heard| {
            record::event(node, &heard.id.to_string());
            // Own ones are known since their user handed them in.
            if let Some(source) = heard.source {
                let mut shared = shared.borrow_mut();
                shared.came(node, source, &heard.item, &heard.id);
            }
        };
        let handle = simulation.run_on(node, || baseline::node(plan, heard));
        self.plain.insert(node, handle);
    }

    /// Whom a node dials at first.
    fn dials(&self, simulation: &Simulation, node: Node) -> impl Iterator<Item = Multiaddr> {
        let edges = self.edges.iter();
        let dialled = edges.filter(move |(one, _)| *one == node);
        dialled.map(|(_, other)| simulation.address(*other))
    }

    /// A node's chain, with nothing in it.
    fn chain(&mut self, node: Node) -> Chain {
        let mind = match self.harm.get(&node) {
            Some(harm) => harm.mind(self.scenario.speaks),
            None if self.liars.contains(&node) => Mind::Liar,
            None => Mind::Honest,
        };
        let pool = self.pools.get_mut(node).map(|pool| {
            *pool = Pool::default();
            pool.clone()
        });
        Chain { mind, pool }
    }

    /// Whether a node runs.
    fn runs(&self, simulation: &Simulation, node: Node) -> bool {
        simulation.node(node).is_some() || self.plain.contains_key(&node)
    }

    /// Its peers.
    fn peers(&self, simulation: &Simulation, node: Node) -> Vec<PeerId> {
        let selkie = simulation.node(node).map(|manager| {
            let peers = manager.get_connected_peers().into_iter();
            peers.map(|peer| peer.peer_id).collect()
        });
        let plain = self.plain.get(&node).map(baseline::Handle::peers);
        selkie.or(plain).unwrap_or_default()
    }

    fn look_whether_whole(&mut self, simulation: &Simulation) {
        let now = simulation.now();
        let is_open = |healing: &Healing| healing.is_open(now);
        if self.healing.as_ref().is_some_and(is_open)
            && self.is_whole(simulation)
            && let Some(healing) = &mut self.healing
        {
            healing.is_whole(now);
        }
    }

    /// Whether each honest node that runs reaches each other over connections that both ends have.
    fn is_whole(&self, simulation: &Simulation) -> bool {
        let honest = (0..self.ran.len()).filter(|node| !self.liars.contains(node));
        let running: Vec<(PeerId, BTreeSet<PeerId>)> = honest
            .filter_map(|node| {
                let peers = simulation.node(node)?.get_connected_peers().into_iter();
                let peers = peers.map(|peer| peer.peer_id).collect();
                Some((simulation.peer(node), peers))
            })
            .collect();
        let mut edges = Vec::new();
        for (one, (own, peers)) in running.iter().enumerate() {
            for (other, (theirs, back)) in running.iter().enumerate().skip(one + 1) {
                if peers.contains(theirs) && back.contains(own) {
                    edges.push((one, other));
                }
            }
        }
        !running.is_empty() && topology::is_connected(running.len(), &edges)
    }

    /// A node's process is about to end.
    fn stopped(&mut self, node: Node, simulation: &Simulation) {
        self.streams[node] = self.streams(node, simulation);
        if let Some((_, end @ None)) = self.ran[node].last_mut() {
            *end = Some(clock::now());
        }
    }

    /// What a node's protocols have written so far, in all its lives.
    fn streams(&self, node: Node, simulation: &Simulation) -> u64 {
        let manager = simulation.node(node);
        self.streams[node] + manager.map_or(0, |manager| manager.message_metrics().bytes_sent)
    }

    fn report(self, simulation: &Simulation, begun: Duration, measured: Part) -> Report {
        let honest = (0..self.scenario.nodes).filter(|node| !self.liars.contains(node));
        let honest: BTreeSet<PeerId> = honest.map(|node| simulation.peer(node)).collect();
        let nodes = (0..self.scenario.all_nodes()).map(|node| {
            let peers = self.peers(simulation, node);
            let spans = self.ran[node].iter().map(|(from, until)| {
                let until = until.unwrap_or(self.scenario.duration);
                (from.as_secs_f64(), until.as_secs_f64())
            });
            NodeReport {
                peer: simulation.peer(node).to_string(),
                runs: self.runs(simulation, node),
                lies: self.liars.contains(&node),
                honest_peers: peers.iter().filter(|peer| honest.contains(peer)).count(),
                peers: peers.len(),
                banned_networks: banned_networks(simulation, node),
                sent: net::sent(node),
                streams: self.streams(node, simulation),
                ran: spans.collect(),
            }
        });
        let nodes: Vec<NodeReport> = nodes.collect();
        let cost = Cost {
            cpu: cpu_time().saturating_sub(begun),
            measured,
            memory: peak_memory(),
            polls: executor::polls(),
        };
        // Tasks that outlive this have nothing more to tell.
        let shared = self.shared.replace(Shared::new(&self.scenario));
        let odd = shared.odd_or_missed();
        let due = Due {
            must: &self.scenario.must,
            duration: self.scenario.duration,
            ran: &self.ran,
            liars: &self.liars,
        };
        let items = shared.spreads.judged(|item| due.nodes(item));
        let deliveries = Deliveries::of(&items, None, &due);
        let kinds = Kind::ALL.map(|kind| (kind, Deliveries::of(&items, Some(kind), &due)));
        let seen = Seen {
            publish: &self.scenario.publish,
            nodes: &nodes,
            items: &items,
            deliveries: &deliveries,
            lives: shared.peering.lives(),
            healing: self.healing.as_ref(),
            bans: &shared.bans,
            scores: &shared.scores,
            odd: &odd,
            memory: cost.memory,
        };
        let verdicts = verdict::of(&due, &seen);
        Report {
            about: self.scenario.about,
            seed: simulation.seed(),
            hash: simulation.hash(),
            traps_entropy: simulation.traps_entropy(),
            verdicts,
            duration: self.scenario.duration,
            cost,
            bytes: Bytes::of(&nodes, &kinds),
            edges: self.edges,
            nodes,
            events: shared.events,
            events_left_out: shared.events_left_out,
            not_taken: shared.not_taken,
            odd,
            deliveries,
            kinds: kinds
                .into_iter()
                .filter(|(_, found)| found.items > 0)
                .collect(),
            items,
        }
    }
}

/// How many networks a node keeps out, of those with more than one address.
fn banned_networks(simulation: &Simulation, node: Node) -> usize {
    let manager = simulation.node(node);
    let bans = manager.map(P2PNetworkManager::bans).unwrap_or_default();
    let is_network = |ban: &Ban| match ban.who {
        Banned::Network(net) => net.prefix_len() < net.max_prefix_len(),
        Banned::Peer(_) => false,
    };
    bans.iter().filter(|ban| is_network(ban)).count()
}

/// A node has told something.
fn heard(shared: &mut Shared, node: Node, event: NetworkEvent, banned_at: f64) {
    let words = event.to_string();
    record::event(node, &words);
    let now = clock::now();
    match event {
        NetworkEvent::ItemAccepted {
            item, id, source, ..
        } => {
            // Own ones are known since their user handed them in.
            if let Some(source) = source {
                shared.came(node, source, &item, &id);
            }
            return;
        }
        NetworkEvent::PeerScored { peer_id, score, .. } => {
            if let Some(whom) = shared.spreads.node(&peer_id) {
                let lowest = shared.scores.entry((node, whom)).or_insert(score);
                *lowest = lowest.min(score);
                if score <= banned_at {
                    shared.bans.insert((node, whom));
                }
            }
        }
        NetworkEvent::PeerConnected(peer) => shared.peering.connected(node, peer.peer_id, now),
        NetworkEvent::PeerDisconnected { peer_id, .. } => {
            shared.peering.disconnected(node, &peer_id);
        }
        _ => {}
    }
    shared.note(node, words);
}
