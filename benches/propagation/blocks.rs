//! A real block of which the receiver's pool holds 99 of 100 transactions: what it costs on the wire, and how long it takes.
//!
//! Two nodes in one process over TCP, every byte counted that the receiver reads. An earlier block goes first, after which
//! the receiver has asked to be sent new ones unasked.

use std::time::Instant;

use selkie::{
    Application, Block, Item, ItemKind, NetworkEvent, P2PNetworkManager, Transaction,
    chain::{bitcoin::Bitcoin, block_file::BlockFile},
    mpsc,
};

use crate::{
    node,
    support::{Figure, Measured, full_or},
};

const ROUNDS: usize = 5;
const TCP: &str = "/ip4/127.0.0.1/tcp/0";
/// One transaction in so many is not in the pool.
const NEW: usize = 100;

pub fn measure() -> Vec<Figure> {
    let count = full_or(ROUNDS, 1);
    eprintln!("a block of known transactions: {count} rounds");
    let rounds: Vec<_> = (0..count)
        .map(|_| crate::one_thread().block_on(round()))
        .collect();
    let size = testdata("block-413567.raw").data.len() as f64;
    let median = |of: fn(&(f64, f64)) -> f64| Measured::of(rounds.iter().map(of));
    vec![
        Figure {
            name: "a known block, on the wire".to_owned(),
            value: median(|round| round.0),
            unit: "bytes",
            baseline: Some(size.into()),
            baseline_name: "the block",
            target: Some(0.0..=0.03),
        },
        Figure {
            name: "a known block, until it is delivered".to_owned(),
            value: median(|round| round.1 * 1e3),
            unit: "ms",
            baseline: None,
            baseline_name: "",
            target: None,
        },
    ]
}

/// Bytes that the receiver read for it, and seconds until it was there.
async fn round() -> (f64, f64) {
    let (sender, receiver) = (node(None, Bitcoin).await, node(Some(TCP), Bitcoin).await);
    let mut items = receiver.subscribe(|event| matches!(event, NetworkEvent::ItemAccepted { .. }));
    sender
        .dial(receiver.listeners().remove(0))
        .await
        .expect("connected");
    let block = testdata("block-413567.raw");
    let parts = Bitcoin.split_block(&block).expect("it is Bitcoin's");
    let known = parts.transactions.into_iter().enumerate().skip(1);
    let known = known.filter(|(place, _)| place % NEW != 0);
    let known: Vec<_> = known.map(|(_, data)| Transaction::new(data)).collect();
    let count = known.len();
    sender.broadcast_transactions(known).await.expect("a peer");
    until(&mut items, ItemKind::Transaction, count).await;
    send(&sender, &mut items, testdata("chain-0-438.dat")).await;
    let before = receiver.message_metrics().bytes_received;
    let begin = Instant::now();
    send(&sender, &mut items, block).await;
    let took = begin.elapsed().as_secs_f64();
    let bytes = receiver.message_metrics().bytes_received - before;
    sender.shutdown().await;
    receiver.shutdown().await;
    (bytes as f64, took)
}

async fn send(node: &P2PNetworkManager, items: &mut mpsc::Receiver<NetworkEvent>, block: Block) {
    node.submit(Item::Block(block)).await.expect("it is valid");
    until(items, ItemKind::Block, 1).await;
}

async fn until(items: &mut mpsc::Receiver<NetworkEvent>, kind: ItemKind, count: usize) {
    let mut seen = 0;
    while seen < count {
        let event = items.recv().await.expect("it runs");
        if let NetworkEvent::ItemAccepted { item, .. } = event {
            seen += usize::from(item.kind() == kind);
        }
    }
}

/// The first block of a file, or the only one, after its transactions.
fn testdata(name: &str) -> Block {
    let path = format!("{}/testdata/{name}", env!("CARGO_MANIFEST_DIR"));
    let file = BlockFile::open(path).expect("the file is there");
    let blocks = file.filter_map(|item| match item.expect("it is whole") {
        Item::Block(block) => Some(block),
        _ => None,
    });
    blocks.into_iter().next().expect("a block")
}
