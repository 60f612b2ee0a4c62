//! The node in the middle, in a process of its own: Selkie's, or one of bare libp2p with identify and ping, and gossipsub where that is compared.
//!
//! It prints its address, and then for each line on its input [`Hub`]'s figures.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::StreamExt;
use libp2p::{
    Multiaddr, Swarm, SwarmBuilder,
    gossipsub::{self, IdentTopic, MessageAuthenticity},
    identify, noise, ping,
    swarm::{NetworkBehaviour, SwarmEvent, behaviour::toggle::Toggle},
    tcp, yamux,
};
use selkie::{Application, Item};

use crate::{
    LISTEN,
    child::{self, Child},
    node,
    support::{Figure, cpu_seconds},
};

/// More peers than any part has, also where half of them are plain ones.
const MAX_PEERS: usize = 24_000;

/// A figure of Selkie's hub beside that of one of bare libp2p in the same run, which has no target of its own.
pub fn beside(figure: Figure, baseline: f64) -> Figure {
    Figure {
        name: format!("{}, beside bare libp2p", figure.name),
        baseline: Some(baseline.into()),
        baseline_name: "bare libp2p",
        target: None,
        ..figure
    }
}

/// The hub as seen from outside.
pub struct Hub {
    child: Child,
    pub address: Multiaddr,
}

/// What it tells of itself.
pub struct State {
    pub peers: usize,
    /// Transactions that the chain has accepted.
    pub transactions: usize,
    /// Seconds of CPU time since it began.
    pub cpu: f64,
    /// Bytes in memory.
    pub memory: f64,
}

impl Hub {
    /// `selkie`, `bare` or `bare-gossip`.
    pub fn start(what: &str) -> Self {
        let (child, address) = Child::start(&[what]);
        Self { child, address }
    }

    pub fn state(&mut self) -> State {
        let [peers, transactions, cpu, memory] = self.child.ask();
        State {
            peers: peers as usize,
            transactions: transactions as usize,
            cpu,
            memory,
        }
    }

    /// Waits until it has so many peers.
    pub async fn peers(&mut self, count: usize) {
        while self.state().peers < count {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    pub fn end(self) {
        self.child.end();
    }
}

/// Counts transactions.
#[derive(Clone, Default)]
struct Counter(Arc<AtomicUsize>);

impl Application for Counter {
    fn deliver(&self, item: &Item) {
        if matches!(item, Item::Transaction(_)) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// In the child: Selkie's.
pub async fn selkie() {
    let counter = Counter::default();
    let node = node(Some(LISTEN), MAX_PEERS, counter.clone()).await;
    println!("{}", node.listeners()[0]);
    child::answer(move || {
        let peers = node.get_connected_peers().len();
        figures(peers, counter.0.load(Ordering::Relaxed))
    });
    std::future::pending().await
}

/// In the child: bare libp2p's.
pub async fn bare(gossips: bool) {
    let mut swarm = bare_node(gossips);
    swarm
        .listen_on(LISTEN.parse().expect("an address"))
        .expect("it listens");
    let count = Arc::new(AtomicUsize::new(0));
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { address, .. } => {
                println!("{address}");
                let count = Arc::clone(&count);
                child::answer(move || figures(count.load(Ordering::Relaxed), 0));
            }
            SwarmEvent::ConnectionEstablished { .. } => {
                count.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

#[derive(NetworkBehaviour)]
pub struct Bare {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    gossip: Toggle<gossipsub::Behaviour>,
}

/// A node of bare libp2p; `gossips`: with gossipsub, and in a topic.
pub fn bare_node(gossips: bool) -> Swarm<Bare> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default().nodelay(true),
            noise::Config::new,
            yamux::Config::default,
        )
        .expect("tcp")
        .with_behaviour(|key| Bare {
            identify: identify::Behaviour::new(identify::Config::new(
                "/bench/1".to_owned(),
                key.public(),
            )),
            ping: ping::Behaviour::default(),
            gossip: gossips.then(gossip).into(),
        })
        .expect("behaviours")
        .build()
}

fn gossip() -> gossipsub::Behaviour {
    let config = gossipsub::ConfigBuilder::default()
        .validation_mode(gossipsub::ValidationMode::Anonymous)
        .build()
        .expect("right");
    let mut gossip =
        gossipsub::Behaviour::new(MessageAuthenticity::Anonymous, config).expect("right");
    gossip
        .subscribe(&IdentTopic::new("bench"))
        .expect("a topic");
    gossip
}

fn figures(peers: usize, transactions: usize) -> Vec<f64> {
    vec![peers as f64, transactions as f64, cpu_seconds(), memory()]
}

/// Bytes of this process that are in memory (Linux; pages of 4 KiB).
fn memory() -> f64 {
    let status = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = status
        .split(' ')
        .nth(1)
        .and_then(|text| text.parse::<f64>().ok());
    pages.unwrap_or(f64::NAN) * 4096.0
}
