//! A node whose only bootstrap peer is down: how long after that is back it has joined it, whoever else is connected.
//!
//! Some nodes at once, each with a bootstrap peer of its own and three strangers that have dialled it. The bootstrap peers have been down for a minute or more, so
//! that the pauses between two dials are the longest; they come up at moments that are spread over the longest of them.

use std::time::{Duration, Instant};

use futures::future::join_all;
use selkie::{Keypair, P2PNetworkManager, PeerInfo, chain::Opaque};

use crate::{
    join::member,
    node, runtime, started,
    support::{Figure, Measured, full_or},
};

const NODES: u32 = 8;
const STRANGERS: usize = 3;
const DOWN: Duration = Duration::from_secs(60);
/// The longest pause between two dials of a bootstrap peer.
const PAUSE: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(120);
/// Seconds.
const MOST: f64 = 30.0;

pub fn measure() -> Vec<Figure> {
    let nodes = full_or(NODES, 1);
    eprintln!("{nodes} nodes whose bootstrap peers are down");
    let times = runtime().block_on(join_all((0..nodes).map(waits)));
    eprintln!("   {times:.2?} s after they are back");
    vec![Figure {
        name: "the only bootstrap peer is back, until joined".to_owned(),
        value: Measured::of(times),
        unit: "s",
        baseline: None,
        baseline_name: "",
        target: Some(0.0..=MOST),
    }]
}

/// Seconds from the start of its bootstrap peer.
async fn waits(number: u32) -> f64 {
    let key = Keypair::generate_ed25519();
    let home = format!("/ip4/127.0.251.{}/tcp/30303", number + 1);
    let seed: PeerInfo = format!("{home}/p2p/{}", key.public().to_peer_id())
        .parse()
        .expect("an address");
    let mut config = member(format!("/ip4/127.0.252.{}/tcp/30303", number + 1));
    config.network.bootstrap_peers = vec![seed.clone()];
    let joining = started(config, Opaque).await;
    joining
        .connect_bootstrap_peers()
        .await
        .expect_err("it is down");
    let mut strangers = Vec::new();
    for _ in 0..STRANGERS {
        let stranger = node(None, 8, Opaque).await;
        let dialled = stranger.dial(joining.listeners()[0].clone()).await;
        dialled.expect("there is a place");
        strangers.push(stranger);
    }
    let down = DOWN + PAUSE * number / NODES;
    tokio::time::sleep(full_or(down, Duration::from_secs(1))).await;
    let late = P2PNetworkManager::with(member(home), key, Opaque).await;
    let late = late.expect("a node");
    let begin = Instant::now();
    late.start().await.expect("it starts");
    let is_joined = || {
        let peers = joining.get_connected_peers();
        peers.iter().any(|peer| peer.peer_id == seed.peer_id)
    };
    while !is_joined() {
        assert!(begin.elapsed() < PATIENCE, "it is not joined");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    begin.elapsed().as_secs_f64()
}
