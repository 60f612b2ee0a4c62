//! From one bootstrap address in a network of 200 nodes to 20 peers; and, after a restart, from the book to as many, with no address given.
//!
//! The network is in a process of its own, all of it with the defaults and the same bootstrap peer, which
//! is full: so whoever comes hears from it of others and finds no place there, or takes another's. The newcomer wants 20 peers by itself, where 8 are the default. From
//! its start to the moment when it has them, hello and lanes over with each.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use selkie::{Config, Keypair, P2PNetworkManager, PeerInfo, chain::Opaque};

use crate::{
    JOINING, LISTEN,
    child::{self, Child},
    runtime, started,
    support::{Figure, Measured, full_or},
};

const NODES: usize = 200;
const PEERS: usize = 20;
const ROUNDS: usize = 10;
/// What a node of the network has before anybody comes: those that it wants, by default.
const SETTLED: usize = 8;
const SETTLING: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(120);
/// Seconds.
const MOST: f64 = 5.0;
const MOST_WITH_BOOK: f64 = 2.0;

pub fn measure() -> Vec<Figure> {
    let [times, again] = runtime().block_on(rounds());
    eprintln!("to {PEERS} peers: {times:.3?} s; with a book: {again:.3?} s");
    let figure = |name: &str, times: Vec<f64>, most: f64| Figure {
        name: name.to_owned(),
        value: Measured::of(times),
        unit: "s",
        baseline: None,
        baseline_name: "",
        target: Some(0.0..=most),
    };
    vec![
        figure("one bootstrap address to 20 peers of 200", times, MOST),
        figure("a restart with a book to 20 peers", again, MOST_WITH_BOOK),
    ]
}

async fn rounds() -> [Vec<f64>; 2] {
    let count = full_or(NODES, 12);
    let wanted = full_or(PEERS, 4);
    let (mut network, seed) = Child::start(&["network", &count.to_string()]);
    let begin = Instant::now();
    loop {
        let [fewest] = network.ask();
        if fewest >= full_or(SETTLED, 4) as f64 {
            break;
        }
        assert!(begin.elapsed() < PATIENCE, "one has only {fewest} peers");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    tokio::time::sleep(full_or(SETTLING, SETTLING / 20)).await;
    let seed: PeerInfo = seed.to_string().parse().expect("it ends in its id");
    let (mut times, mut again) = (Vec::new(), Vec::new());
    for _ in 0..full_or(ROUNDS, 1) {
        let mut config = member(LISTEN);
        config.protocol.kademlia_config.wanted_peers = wanted;
        let key = Keypair::generate_ed25519();
        let with_seed = {
            let mut config = config.clone();
            config.network.bootstrap_peers = vec![seed.clone()];
            config
        };
        let (node, time) = joins(with_seed, &key, None, wanted).await;
        times.push(time);
        // Where others know it to be.
        let mut home = node.listeners()[0].clone();
        home.pop();
        config.network.listen_addresses = vec![home];
        node.shutdown().await;
        let book = node.save_address_book();
        let (node, time) = joins(config, &key, Some(&book), wanted).await;
        again.push(time);
        node.shutdown().await;
    }
    network.end();
    [times, again]
}

/// A node, and the seconds after which it had so many peers.
async fn joins(
    config: Config,
    key: &Keypair,
    book: Option<&[u8]>,
    wanted: usize,
) -> (P2PNetworkManager, f64) {
    let node = P2PNetworkManager::with(config, key.clone(), Opaque).await;
    let node = node.expect("a node");
    if let Some(book) = book {
        node.load_address_book(book)
            .expect("it was saved a moment ago");
    }
    let begin = Instant::now();
    node.start().await.expect("it starts");
    let seeking = node.clone();
    // The bootstrap peer may say that it is full.
    tokio::spawn(async move { seeking.connect_bootstrap_peers().await });
    loop {
        let peers = node.get_connected_peers().len();
        if peers >= wanted {
            return (node, begin.elapsed().as_secs_f64());
        }
        assert!(begin.elapsed() < PATIENCE, "it has only {peers} peers");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// One of a network, with the defaults.
pub fn member(listen: impl AsRef<str>) -> Config {
    let mut config = Config::default();
    config.network.listen_addresses = vec![listen.as_ref().parse().expect("an address")];
    config.protocol.kademlia_config.mdns = false;
    config
}

/// In the child: so many nodes that know the first one's address. It answers with the fewest peers that one of them has.
pub async fn network(count: &str) {
    let count: usize = count.parse().expect("a number");
    let seed = started(member(LISTEN), Opaque).await;
    let address = seed.listeners()[0].clone();
    let known: PeerInfo = address.to_string().parse().expect("it ends in its id");
    let join = |_| {
        let mut config = member(LISTEN);
        config.network.bootstrap_peers = vec![known.clone()];
        async move {
            let node = started(config, Opaque).await;
            // Where it is full the network is found all the same.
            let _ = node.connect_bootstrap_peers().await;
            node
        }
    };
    let joining = stream::iter(1..count).map(join);
    let mut nodes: Vec<_> = joining.buffer_unordered(JOINING).collect().await;
    nodes.push(seed);
    println!("{address}");
    child::answer(move || {
        let counts = nodes.iter().map(|node| node.get_connected_peers().len());
        vec![counts.min().unwrap_or_default() as f64]
    });
    std::future::pending().await
}
