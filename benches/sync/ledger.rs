//! A ledger of many blocks, each with a transfer, from a node in another process into a file: full sync judges all of its blocks; fast sync takes
//! the state of a final one shortly before the last, and is measured until it has that.

use std::sync::Arc;

use selkie::{
    Application, Block, Config, Item, Transaction,
    chain::ledger::{
        Address, DEVELOPMENT_VOTERS, Genesis, Ledger, SCHEMA, Transfer, development_key,
    },
    storage::{MemoryStore, RedbStore},
};

use crate::{
    child::{self, Child},
    nodes::{LISTEN, config, runtime, started},
    support::{Figure, cpu_seconds, full_or, smoke},
    synced,
};

const COUNT: u64 = 100_000;
/// Of a bench's network.
const NETWORK: &str = "bench";
/// Blocks after the one whose state is offered.
const AFTER: u64 = 100;
/// Seconds.
const MOST: f64 = 600.0;
/// So many times full sync's.
const TIMES: f64 = 10.0;
/// Bytes that a store in memory may hold.
const MEMORY: usize = 8 << 30;

pub fn measure() -> Vec<Figure> {
    let count = full_or(COUNT, 300);
    eprintln!("a ledger of {count} blocks: it is made first");
    let (mut source, address) = Child::start(&["ledger", &count.to_string()]);
    let mut take = |takes_state: bool| {
        let [before] = source.ask();
        let here = cpu_seconds();
        let mut config = config(None);
        config.protocol.sync.snapshots.take = takes_state;
        soon_in_smoke(&mut config);
        let (took, base) = runtime().block_on(async {
            let folder = tempfile::tempdir().expect("a folder");
            let store = RedbStore::open(&folder.path().join("ledger"), &SCHEMA).expect("a store");
            let mine =
                Ledger::open(Genesis::development(NETWORK), Arc::new(store)).expect("a ledger");
            let sink = started(config, mine.clone()).await;
            // A node that has the state calls itself synced there, and the blocks after it did not come within 25 s: a fault that is known.
            let last = if takes_state { count - AFTER } else { count };
            let took = synced(&sink, address.clone(), last).await;
            let base = sink.sync_status().expect("it syncs").base;
            sink.shutdown().await;
            (took.as_secs_f64(), base)
        });
        let [after] = source.ask();
        let cpu = after - before + cpu_seconds() - here;
        eprintln!("   {took:.2} s, CPU {cpu:.2} s, from block {base} on");
        (took, cpu, base)
    };
    let (full, cpu, base) = take(false);
    assert_eq!(base, 0, "all blocks");
    let (fast, fast_cpu, base) = take(true);
    assert!(smoke() || base > count / 2, "a state in their place");
    source.end();
    let figure = |what: &str, unit, value: f64, target| Figure {
        name: format!("ledger of 100,000 blocks, {what}"),
        value: value.into(),
        unit,
        baseline: None,
        baseline_name: "",
        target,
    };
    let count = count as f64;
    vec![
        figure("full sync, time", "s", full, Some(0.0..=MOST)),
        figure("full sync, rate", "blocks/s", count / full, None),
        figure(
            "full sync, CPU of both ends a block",
            "us",
            cpu * 1e6 / count,
            None,
        ),
        figure("fast sync, time", "s", fast, None),
        figure("fast sync, CPU of both ends", "s", fast_cpu, None),
        Figure {
            baseline: Some((count / full).into()),
            baseline_name: "full sync",
            ..figure(
                "fast sync, rate",
                "blocks/s",
                count / fast,
                Some(TIMES..=f64::INFINITY),
            )
        },
    ]
}

/// In the smoke form the chain is shorter than what is worth a snapshot.
fn soon_in_smoke(config: &mut Config) {
    let download = &mut config.protocol.sync.snapshots.download;
    download.min_gain = full_or(download.min_gain, AFTER);
    download.settle = full_or(download.settle, std::time::Duration::ZERO);
}

/// The child: its figure is its CPU time.
pub async fn serve(count: &str) {
    let count: u64 = count.parse().expect("a number");
    let made = tokio::task::spawn_blocking(move || {
        let ledger = new();
        grow(&ledger, count - AFTER);
        finalize(&ledger);
        let made = ledger.make_snapshot(None, 1 << 20).expect("written");
        assert_eq!(made.map(|it| it.height), Some(count - AFTER));
        grow(&ledger, AFTER);
        ledger
    });
    let node = started(config(Some(LISTEN)), made.await.expect("it is made")).await;
    println!("{}", node.listeners()[0]);
    child::answer(|| vec![cpu_seconds()]);
    std::future::pending().await
}

/// One in memory, at its genesis.
pub fn new() -> Ledger {
    let store = MemoryStore::new(MEMORY, &SCHEMA).expect("a store");
    Ledger::open(Genesis::development(NETWORK), Arc::new(store)).expect("a ledger")
}

/// Adds blocks.
pub fn grow(ledger: &Ledger, count: u64) {
    for _ in 0..count {
        let block = next(ledger);
        ledger.deliver(&Item::Block(block));
    }
}

/// The next block, with a transfer.
pub fn next(ledger: &Ledger) -> Block {
    let key = |role: &str| development_key(NETWORK, role);
    let height = ledger.tip().height + 1;
    // Some accounts come into being, and all are used again.
    let to = Address::of(&key(&format!("somebody {}", height % 10_000)));
    let paid = Transfer::new(
        ledger.genesis_hash(),
        &key("account 0"),
        to,
        1,
        1,
        height - 1,
    );
    ledger.deliver(&Item::Transaction(Transaction::new(paid.encode())));
    ledger.propose(&key("proposer"), height).expect("a block")
}

/// The last block is final.
fn finalize(ledger: &Ledger) {
    for number in 0..DEVELOPMENT_VOTERS {
        let key = development_key(NETWORK, &format!("voter {number}"));
        // The last of them is not needed.
        if let Some(vote) = ledger.vote(&key).expect("written") {
            ledger.deliver(&Item::Vote(vote));
        }
    }
}
