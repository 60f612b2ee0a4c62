//! Transactions through a node with few peers and with many, of which it pushes them to equally few: CPU for each.
//!
//! One peer sends, three are pushed what comes, and all others are [`crate::onlookers`]. What grows is only what it takes to tell
//! those: with 1,000 peers at most [`MOST`] times what it takes with 10.

use std::time::{Duration, Instant};

use selkie::{Transaction, chain::Opaque};

use crate::{
    hub::Hub,
    nodes, onlookers, runtime,
    support::{Figure, Measured, full_or},
};

const PEERS: [usize; 3] = [10, 100, 1000];
const ROUNDS: usize = 3;
/// The links that push at first, by default: the sender's, and these.
const PUSHED: usize = 3;
/// As many as a busy chain has.
const PER_SECOND: usize = 2000;
const SIZE: usize = 250;
const TICK: Duration = Duration::from_millis(10);
const TIME: Duration = Duration::from_secs(10);
const SETTLING: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(30);
const MOST: f64 = 1.5;

pub fn measure() -> Vec<Figure> {
    let measured = PEERS.map(|peers| {
        let peers = full_or(peers, PEERS[0]);
        let rounds = 0..full_or(ROUNDS, 1);
        let rounds: Vec<_> = rounds.map(|_| runtime().block_on(through(peers))).collect();
        eprintln!("transactions through a node with {peers} peers: {rounds:.1?} us of CPU each");
        Measured::of(rounds)
    });
    let [few, ..] = measured;
    let figure = |(peers, value): (usize, Measured)| Figure {
        name: format!("a transaction, with {peers} peers, CPU"),
        value,
        unit: "us",
        baseline: Some(few),
        baseline_name: "with 10 peers",
        target: Some(0.0..=MOST),
    };
    PEERS.into_iter().zip(measured).map(figure).collect()
}

/// Microseconds of CPU for each.
async fn through(peers: usize) -> f64 {
    let mut hub = Hub::start("selkie");
    let address = hub.address.clone();
    let pushed = nodes(1 + PUSHED, &address, Opaque).await;
    hub.peers(pushed.len()).await;
    let links = onlookers::join(peers - pushed.len(), &address).await;
    hub.peers(peers).await;
    tokio::time::sleep(full_or(SETTLING, SETTLING / 10)).await;
    let before = hub.state();
    let each = PER_SECOND / 100;
    let mut ticks = tokio::time::interval(TICK);
    let begin = Instant::now();
    let mut sent = 0;
    while begin.elapsed() < full_or(TIME, TIME / 20) {
        ticks.tick().await;
        let batch = (sent..sent + each).map(|number| Transaction::new(noise(number)));
        let told = pushed[0].broadcast_transactions(batch.collect()).await;
        sent += told
            .expect("there is a peer")
            .iter()
            .filter(|one| one.is_ok())
            .count();
    }
    let patience = Instant::now();
    while hub.state().transactions < before.transactions + sent && patience.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The last announcements are on their way.
    tokio::time::sleep(full_or(SETTLING, SETTLING / 10)).await;
    let after = hub.state();
    assert_eq!(
        after.transactions - before.transactions,
        sent,
        "some were lost"
    );
    assert_eq!(after.peers, peers, "some have left");
    drop(links);
    hub.end();
    (after.cpu - before.cpu) / sent as f64 * 1e6
}

/// Bytes that no compression makes smaller.
fn noise(number: usize) -> Vec<u8> {
    let mut state = number as u64;
    let word = |_| {
        state = crate::lab::attacker::splitmix(state);
        state.to_le_bytes()
    };
    (0..SIZE.div_ceil(8)).flat_map(word).take(SIZE).collect()
}
