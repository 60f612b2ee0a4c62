//! A node that is many blocks behind a ledger which grows meanwhile: both rates, until it is as far as the chain. Both nodes are in this process, with the
//! proposer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use selkie::{Item, NetworkEvent};

use crate::{
    PATIENCE, ledger,
    nodes::{LISTEN, config, runtime, started},
    support::{Figure, full_or},
};

/// Blocks that it is behind at first.
const BEHIND: u64 = 20_000;
/// Between two blocks of the chain.
const EVERY: Duration = Duration::from_millis(5);

pub fn measure() -> Vec<Figure> {
    let behind = full_or(BEHIND, 200);
    eprintln!("{behind} blocks behind a chain that grows");
    let (grown, synced, seconds) = runtime().block_on(catches_up(behind));
    eprintln!("   {seconds:.2} s: {grown} blocks made, {synced} fetched");
    vec![Figure {
        name: "20,000 blocks behind a ledger that grows, rate until as far".to_owned(),
        value: (synced as f64 / seconds).into(),
        unit: "blocks/s",
        baseline: Some((grown as f64 / seconds).into()),
        baseline_name: "the chain's own",
        target: Some(1.0..=f64::INFINITY),
    }]
}

/// Blocks that were made meanwhile, blocks that came, seconds.
async fn catches_up(behind: u64) -> (u64, u64, f64) {
    let chain = ledger::new();
    let before = chain.clone();
    let made = tokio::task::spawn_blocking(move || ledger::grow(&before, behind));
    made.await.expect("it is made");
    let source = started(config(Some(LISTEN)), chain.clone()).await;
    let mine = ledger::new();
    let mut config = config(None);
    config.protocol.sync.snapshots.take = false;
    let sink = started(config, mine.clone()).await;
    let mut events = sink.subscribe_events();
    let begin = Instant::now();
    sink.dial(source.listeners()[0].clone())
        .await
        .expect("it is there");
    let ends = Arc::new(AtomicBool::new(false));
    let grows = {
        let (chain, source, ends) = (chain.clone(), source.clone(), Arc::clone(&ends));
        tokio::spawn(async move {
            let mut due = tokio::time::interval(EVERY);
            while !ends.load(Ordering::Relaxed) {
                due.tick().await;
                let block = ledger::next(&chain);
                // Before they have greeted each other nobody is told of it.
                let _ = source.submit(Item::Block(block)).await;
            }
        })
    };
    let comes = async {
        loop {
            match events.recv().await.expect("the node runs") {
                NetworkEvent::Synced { height } if height >= behind => break,
                _ => {}
            }
        }
    };
    let comes = tokio::time::timeout(PATIENCE, comes).await;
    comes.expect("it is as far");
    let seconds = begin.elapsed().as_secs_f64();
    let (grown, synced) = (chain.tip().height - behind, mine.tip().height);
    ends.store(true, Ordering::Relaxed);
    grows.await.expect("it ends");
    (grown, synced, seconds)
}
