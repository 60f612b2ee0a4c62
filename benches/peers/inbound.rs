//! A node that holds 10,000 connections which others have opened: what each takes of its memory, and all of its CPU time; and whether it still lets
//! somebody in, answers and passes on.
//!
//! The node is alone in its process, all behaviours on. Half of its peers are bare libp2p (TCP, identify, ping, gossipsub in a topic), half are
//! Selkie's nodes, each with this one connection and in two processes a kind. How many come a second is bounded by those that dial, which share the machine's
//! cores with it; so its own CPU time for each is told beside it. The baseline is a node of bare libp2p among as many of its kind.
//!
//! Each connection is a file here and there: the limit of open files has to be above 10,000 (`ulimit -n`; `./build.sh bench` raises it as far as it may).

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use libp2p::swarm::SwarmEvent;
use selkie::{Item, ItemKind, Multiaddr, NetworkEvent, P2PNetworkManager, PeerId, chain::Opaque};

use crate::{
    JOINING,
    child::{self, Child},
    hub::{Hub, bare_node, beside},
    node, nodes, runtime,
    support::{Figure, Measured, full_or},
};

const PEERS: usize = 10_000;
/// Processes of each kind of peers.
const CROWDS: usize = 2;
const ROUNDS: usize = 20;
/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(500);
/// How long nothing is measured after the last one has come, and for how long then.
const SETTLING: Duration = Duration::from_secs(20);
const TIME: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(600);
/// For each connection, kB.
const MOST_MEMORY: f64 = 40.0;
/// Of a core.
const MOST_CPU: f64 = 0.05;
/// Milliseconds.
const MOST_TIME: f64 = 100.0;

pub fn measure() -> Vec<Figure> {
    let peers = full_or(PEERS, 20);
    let files = open_files();
    assert!(
        files > peers + 100,
        "{files} files may be open and each of {peers} connections is one: raise that (ulimit -n)"
    );
    eprintln!("{peers} inbound connections");
    let held = runtime().block_on(selkie(peers / 2));
    eprintln!("   {held:.3?}");
    let bare = runtime().block_on(bare(peers));
    eprintln!("   bare libp2p: {bare:.3?}");
    let figure = |name: &str, unit, value: Measured, target: Option<f64>| Figure {
        name: format!("{PEERS} inbound, {name}"),
        value,
        unit,
        baseline: None,
        baseline_name: "",
        target: target.map(|most| 0.0..=most),
    };
    let memory = |target| figure("memory a connection", "kB", held.rest.memory.into(), target);
    let cpu = |target| figure("CPU at rest", "of a core", held.rest.cpu.into(), target);
    let rate = figure("accepted a second", "", held.rest.rate.into(), None);
    let each = figure("CPU for each that comes", "ms", held.rest.each.into(), None);
    let of = |name: &str, memory: f64| figure(name, "kB", memory.into(), None);
    let soon = |name: &str, times: &[f64]| {
        let times = Measured::of(times.iter().copied());
        figure(name, "ms", times, Some(MOST_TIME))
    };
    let [plain, ours] = held.memory;
    vec![
        memory(Some(MOST_MEMORY)),
        beside(memory(None), bare.memory),
        of("memory a connection of bare libp2p", plain),
        of("memory a connection of Selkie's", ours),
        cpu(Some(MOST_CPU)),
        beside(cpu(None), bare.cpu),
        beside(rate, bare.rate),
        beside(each, bare.each),
        soon("one more is ready", &held.ready),
        soon("a message is answered", &held.answered),
        soon("a vote from one peer to another", &held.passed_on),
    ]
}

/// What peers of a node show, and all that it has at rest.
#[derive(Debug)]
struct Rest {
    /// Kilobytes a connection.
    memory: f64,
    /// Cores, for all that there are.
    cpu: f64,
    /// Connections a second.
    rate: f64,
    /// Milliseconds of CPU for each that comes.
    each: f64,
}

#[derive(Debug)]
struct Held {
    rest: Rest,
    /// Kilobytes a connection of bare libp2p, and of Selkie's.
    memory: [f64; 2],
    /// Milliseconds.
    ready: Vec<f64>,
    answered: Vec<f64>,
    passed_on: Vec<f64>,
}

async fn selkie(of_each: usize) -> Held {
    let mut hub = Hub::start("selkie");
    let mut crowds = Vec::new();
    let half = held(&mut hub, "bare-gossip", of_each, &mut crowds).await;
    let other = held(&mut hub, "selkie", of_each, &mut crowds).await;
    let (ready, answered, passed_on) = serves(&hub.address).await;
    assert_eq!(hub.state().peers, of_each * 2, "some have left");
    hub.end();
    crowds.into_iter().for_each(Child::end);
    let mean = |one: f64, other: f64| (one + other) / 2.0;
    Held {
        rest: Rest {
            memory: mean(half.memory, other.memory),
            cpu: other.cpu,
            rate: 1.0 / mean(1.0 / half.rate, 1.0 / other.rate),
            each: mean(half.each, other.each),
        },
        memory: [half.memory, other.memory],
        ready,
        answered,
        passed_on,
    }
}

async fn bare(peers: usize) -> Rest {
    let (mut hub, mut crowds) = (Hub::start("bare-gossip"), Vec::new());
    let rest = held(&mut hub, "bare-gossip", peers, &mut crowds).await;
    hub.end();
    crowds.into_iter().for_each(Child::end);
    rest
}

/// So many of a kind more, in some processes: what each of them takes, and what all that there are then do at rest.
async fn held(hub: &mut Hub, kind: &str, count: usize, crowds: &mut Vec<Child>) -> Rest {
    let (before, begin) = (hub.state(), Instant::now());
    let (each, address) = ((count / CROWDS).to_string(), hub.address.to_string());
    for _ in 0..CROWDS {
        crowds.push(Child::start(&["crowd", kind, &each, &address]).0);
    }
    let come = crowds.len() - CROWDS;
    for crowd in &mut crowds[come..] {
        while crowd.ask() != [(count / CROWDS) as f64] {
            assert!(begin.elapsed() < PATIENCE, "they do not get in");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let all = before.peers + count;
    hub.peers(all).await;
    let (came, took) = (hub.state(), begin.elapsed());
    tokio::time::sleep(full_or(SETTLING, SETTLING / 20)).await;
    let settled = hub.state();
    let time = full_or(TIME, TIME / 20);
    tokio::time::sleep(time).await;
    let end = hub.state();
    assert_eq!(end.peers, all, "some have left");
    Rest {
        memory: (end.memory - before.memory) / count as f64 / 1e3,
        cpu: (end.cpu - settled.cpu) / time.as_secs_f64(),
        rate: count as f64 / took.as_secs_f64(),
        each: (came.cpu - before.cpu) * 1e3 / count as f64,
    }
}

/// In the child: so many peers of a kind, which answers how many are connected.
pub async fn crowd(kind: &str, count: &str, hub: &str) {
    println!("{hub}");
    let hub: Multiaddr = hub.parse().expect("an address");
    let count: usize = count.parse().expect("a number");
    if kind == "selkie" {
        let crowd = nodes(count, &hub, Opaque).await;
        child::answer(move || vec![crowd.len() as f64]);
    } else {
        let joining = stream::iter(0..count).map(|_| bare_peer(&hub));
        let joined = joining.buffer_unordered(JOINING).count().await;
        child::answer(move || vec![joined as f64]);
    }
    std::future::pending().await
}

/// A peer of bare libp2p that stays.
async fn bare_peer(hub: &Multiaddr) {
    let mut swarm = bare_node(true);
    swarm.dial(hub.clone()).expect("it dials");
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::ConnectionEstablished { .. } => break,
            SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error}"),
            _ => {}
        }
    }
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
}

/// Milliseconds until one more is let in, until a message has its answer, and until a vote of one peer is at another.
async fn serves(address: &Multiaddr) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let (mut ready, mut answered, mut passed_on) = (Vec::new(), Vec::new(), Vec::new());
    let (from, to) = (node(None, 8, Opaque).await, node(None, 8, Opaque).await);
    let mut votes = to.subscribe(|event| matches!(event, NetworkEvent::ItemAccepted { .. }));
    let hub = joined(&from, address).await;
    joined(&to, address).await;
    for round in 0..full_or(ROUNDS, 2) {
        tokio::time::sleep(full_or(PAUSE, PAUSE / 10)).await;
        let one_more = node(None, 8, Opaque).await;
        let begin = Instant::now();
        joined(&one_more, address).await;
        ready.push(milliseconds(begin));
        one_more.shutdown().await;
        let begin = Instant::now();
        let vote = |what: &str| Item::new(ItemKind::Vote, format!("{what} {round}"));
        let sent = from.send_message(hub, vote("to the hub").into()).await;
        sent.expect("it answers");
        answered.push(milliseconds(begin));
        let (vote, begin) = (vote("to all"), Instant::now());
        from.submit(vote.clone()).await.expect("a peer is there");
        while !matches!(
            votes.recv().await.expect("it runs"),
            NetworkEvent::ItemAccepted { item, .. } if item == vote
        ) {}
        passed_on.push(milliseconds(begin));
    }
    from.shutdown().await;
    to.shutdown().await;
    (ready, answered, passed_on)
}

async fn joined(node: &P2PNetworkManager, address: &Multiaddr) -> PeerId {
    node.dial(address.clone()).await.expect("there is a place")
}

fn milliseconds(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e3
}

/// How many files this process, and those that it starts, may have open.
fn open_files() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let mut words = line.into_iter().flat_map(str::split_whitespace);
    let soft = words.nth(3);
    soft.and_then(|text| text.parse().ok())
        .unwrap_or(usize::MAX)
}
