//! A block of 1 MB, whose transactions nobody has, from one node to all its peers, which have nobody else; all in one process.
//!
//! The physical limit is its bytes through as many encrypted connections: with both cores, some 1,000 MB a second.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use selkie::{Application, Block, Item, P2PNetworkManager, chain::Opaque};

use crate::{
    LISTEN, node, nodes, runtime,
    support::{Figure, Measured, full_or},
};

const PEERS: [usize; 3] = [100, 300, 1000];
const ROUNDS: usize = 3;
const SIZE: usize = 1_000_000;
const SETTLING: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(120);

pub fn measure() -> Vec<Figure> {
    let figure = |peers: usize| {
        let rounds = 0..full_or(ROUNDS, 1);
        let rounds: Vec<_> = rounds
            .map(|_| runtime().block_on(spread(full_or(peers, 10))))
            .collect();
        eprintln!("a block of 1 MB to {peers} peers: {rounds:.2?} s");
        Figure {
            name: format!("a block of 1 MB to {peers} peers"),
            value: Measured::of(rounds),
            unit: "s",
            baseline: None,
            baseline_name: "",
            target: None,
        }
    };
    PEERS.into_iter().map(figure).collect()
}

/// Seconds until all have it.
async fn spread(peers: usize) -> f64 {
    let arrived = Arrived::default();
    let hub = node(Some(LISTEN), peers + 1, Opaque).await;
    let crowd = nodes(peers, &hub.listeners()[0], arrived.clone()).await;
    while hub.get_connected_peers().len() < peers {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(full_or(SETTLING, SETTLING / 20)).await;
    let begin = Instant::now();
    let mut state = 1;
    let word = |_| {
        state = crate::lab::attacker::splitmix(state);
        state.to_le_bytes()
    };
    let block: Vec<u8> = (0..SIZE / 8).flat_map(word).collect();
    hub.submit(Item::Block(Block::new(block)))
        .await
        .expect("it is valid");
    while arrived.0.load(Ordering::Relaxed) < peers {
        assert!(
            begin.elapsed() < PATIENCE,
            "{} of {peers} have it",
            arrived.0.load(Ordering::Relaxed)
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = begin.elapsed().as_secs_f64();
    // Each takes a moment until its connection is closed.
    join_all(crowd.iter().map(P2PNetworkManager::shutdown)).await;
    hub.shutdown().await;
    took
}

/// Counts who has the block.
#[derive(Clone, Default)]
struct Arrived(Arc<AtomicUsize>);

impl Application for Arrived {
    fn deliver(&self, _: &Item) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
