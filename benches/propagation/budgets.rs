//! Byte budgets: what goes over the wire in ten seconds beside what may, while there is always more to send.
//!
//! Five pairs of nodes for each of the four kinds of budget, all at once, each with a megabyte a second. What counts is the
//! bytes of the transport, so that frames, encryption and all other protocols are part of it.

use std::time::Duration;

use futures::future::join_all;
use selkie::{Config, Keypair, P2PNetworkManager, chain::Opaque, traffic::BudgetConfig};

use crate::{
    support::{Figure, Measured, full_or},
    two_nodes::batch,
};

const PAIRS: u64 = 5;
const RATE: u64 = 1_000_000;
const TIME: Duration = Duration::from_secs(10);
/// After the buckets, full at first, are empty.
const SETTLING: Duration = Duration::from_secs(2);

#[derive(Clone, Copy)]
enum Kind {
    Upload,
    UploadPerPeer,
    Download,
    DownloadPerPeer,
}

pub fn measure() -> Vec<Figure> {
    let pairs = full_or(PAIRS, 1);
    eprintln!("byte budgets: {pairs} pairs of nodes for each of four");
    let kinds = [
        (Kind::Upload, "sent"),
        (Kind::UploadPerPeer, "sent to a peer"),
        (Kind::Download, "read"),
        (Kind::DownloadPerPeer, "read from a peer"),
    ];
    let figure = |(kind, name): (Kind, &'static str)| async move {
        let pairs = (0..pairs).map(|pair| bytes(kind, pair));
        let bytes = join_all(pairs).await;
        eprintln!("   {name}: {bytes:.0?}");
        Figure {
            name: format!("wire bytes {name} in 10 s"),
            value: Measured::of(bytes),
            unit: "",
            baseline: Some(((RATE * TIME.as_secs()) as f64).into()),
            baseline_name: "the budget",
            target: Some(0.95..=1.05),
        }
    };
    crate::one_thread().block_on(join_all(kinds.into_iter().map(figure)))
}

async fn bytes(kind: Kind, pair: u64) -> f64 {
    let (mut sender, mut receiver) = (Config::default(), Config::default());
    let (global, per_peer) = (BudgetConfig::default(), BudgetConfig::default());
    let rate = std::num::NonZeroU64::new(RATE);
    let global = BudgetConfig {
        global: rate,
        ..global
    };
    let per_peer = BudgetConfig {
        per_peer: rate,
        ..per_peer
    };
    match kind {
        Kind::Upload => sender.protocol.propagation.upload = global,
        Kind::UploadPerPeer => sender.protocol.propagation.upload = per_peer,
        Kind::Download => receiver.protocol.propagation.download = global,
        Kind::DownloadPerPeer => receiver.protocol.propagation.download = per_peer,
    }
    let listen = "/ip4/127.0.0.1/tcp/0".parse().expect("an address");
    receiver.network.listen_addresses = vec![listen];
    let (sender, receiver) = (start(sender).await, start(receiver).await);
    let address = receiver.listeners().remove(0);
    sender.dial(address).await.expect("connected");
    let mut number = pair << 32;
    let flood = async {
        loop {
            let sent = sender.broadcast_transactions(batch(&mut number)).await;
            sent.expect("there is a peer");
        }
    };
    let count = async {
        tokio::time::sleep(full_or(SETTLING, SETTLING / 10)).await;
        let received = || receiver.message_metrics().bytes_received;
        let before = received();
        tokio::time::sleep(full_or(TIME, TIME / 10)).await;
        (received() - before) as f64
    };
    let bytes = tokio::select! {
        bytes = count => bytes,
        () = flood => unreachable!("it has no end"),
    };
    sender.shutdown().await;
    receiver.shutdown().await;
    bytes
}

async fn start(config: Config) -> P2PNetworkManager {
    let node = P2PNetworkManager::with(config, Keypair::generate_ed25519(), Opaque).await;
    let node = node.expect("a node");
    node.start().await.expect("it starts");
    node
}
