//! A node that makes transactions at a rate for whoever connects: for `benches/browser/bench.mjs`, whose tab can't have a
//! node of this kind in its own process.

use std::time::{Duration, Instant};

use selkie::chain::Opaque;

use crate::{node, two_nodes::noise};

const TICK: Duration = Duration::from_millis(10);
const SIZE: usize = 250;

/// Prints its address; ends with its input.
pub async fn send(listen: &str, rate: &str) {
    let rate: f64 = rate.parse().expect("transactions a second");
    crate::child::answer(Vec::new);
    let node = node(Some(listen), Opaque).await;
    println!("{}", node.listeners()[0]);
    let mut ticks = tokio::time::interval(TICK);
    let (begin, mut sent) = (Instant::now(), 0);
    loop {
        ticks.tick().await;
        let due = (begin.elapsed().as_secs_f64() * rate) as u64;
        let transactions = (sent..due).map(|number| selkie::Transaction::new(noise(number, SIZE)));
        // While nobody is there they are for nobody.
        let _ = node.broadcast_transactions(transactions.collect()).await;
        sent = due;
    }
}
