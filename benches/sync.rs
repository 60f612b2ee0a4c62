//! How fast a node gets the blocks that it has missed: whole nodes over TCP, in one process.
//!
//! | part | what is measured |
//! | --- | --- |
//! | `line` | small blocks over a line of 200 ms round trip, beside one a round trip |
//! | `ledger` | a ledger of 100,000 blocks: headers, blocks, each transfer's signature, the state, and a store in a file |
//!
//! Everything is measured, or what is named: `cargo bench --bench sync -- line`.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use libp2p::multiaddr::Protocol;
use selkie::{
    Application, Block, Config, Item, Keypair, Multiaddr, NetworkEvent, P2PNetworkManager,
    Transaction,
    chain::{
        BlockPlace, ChainStore,
        ledger::{Address, Genesis, Ledger, SCHEMA, Transfer, development_key},
    },
    storage::{MemoryStore, RedbStore},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
};

mod support;
use support::{Figure, Measured, cpu_seconds, full_or, report};

#[allow(dead_code)]
#[path = "../tests/support/small_chain.rs"]
mod small_chain;
use small_chain::SmallChain;

/// As in the `selkie` command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Half a round trip of the long line.
const LATENCY: Duration = Duration::from_millis(100);
/// Blocks over the long line, and their bytes.
const SMALL: (u64, usize) = (50_000, 300);
/// Blocks of the ledger, each with a transfer.
const LEDGER: u64 = 100_000;
/// The bounds: so many times one at a time; seconds.
const TIMES: f64 = 500.0;
const MOST: f64 = 600.0;
/// What is not here after so long does not come.
const PATIENCE: Duration = Duration::from_secs(1800);
/// Bytes that a store in memory may hold.
const MEMORY: usize = 8 << 30;
const TCP: &str = "/ip4/127.0.0.1/tcp/0";

#[tokio::main]
async fn main() {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let is_named = |name: &str| words.iter().any(|word| word == name);
    let some = ["line", "ledger"].into_iter().any(is_named);
    let mut figures = Vec::new();
    if !some || is_named("line") {
        figures.extend(line().await);
    }
    if !some || is_named("ledger") {
        figures.extend(ledger().await);
    }
    report("sync", &figures);
}

async fn line() -> Vec<Figure> {
    let (count, bytes) = (full_or(SMALL.0, 500), SMALL.1);
    eprintln!("{count} blocks of {bytes} bytes over a line of 200 ms");
    let chain = SmallChain::of(count, bytes);
    let source = node(Some(TCP), chain.clone()).await;
    let mine = SmallChain::default();
    let sink = node(None, mine.clone()).await;
    let round_trips = round_trips(delayed(echo().await).await).await;
    let one_each = round_trips.iter().map(|round_trip| 1.0 / round_trip);
    let port = delayed(port_of(&source.listeners()[0])).await;
    let at = format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}", source.local_peer_id);
    let took = synced(&sink, at.parse().expect("an address"), &chain.tip()).await;
    assert_eq!(mine.tip(), chain.tip());
    vec![Figure {
        name: "small blocks, 200 ms round trip".to_owned(),
        value: (count as f64 / took.as_secs_f64()).into(),
        unit: "blocks/s",
        baseline: Some(Measured::of(one_each)),
        baseline_name: "one a round trip",
        target: Some(TIMES..=f64::INFINITY),
    }]
}

async fn ledger() -> Vec<Figure> {
    let count = full_or(LEDGER, 300);
    eprintln!("a ledger of {count} blocks: it is made first");
    let maker = tokio::task::spawn_blocking(move || made(count));
    let maker = maker.await.expect("it is made");
    let source = node(Some(TCP), maker.clone()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let store = RedbStore::open(&folder.path().join("ledger"), &SCHEMA).expect("a store");
    let mine = Ledger::open(Genesis::development("bench"), Arc::new(store)).expect("a ledger");
    let sink = node(None, mine.clone()).await;
    let tip = maker.chain_store().expect("it syncs").tip();
    let before = cpu_seconds();
    let took = synced(&sink, source.listeners()[0].clone(), &tip).await;
    let cpu = (cpu_seconds() - before) * 1e6 / count as f64;
    assert_eq!(mine.tip(), maker.tip());
    let figure = |what: &str, unit, value: f64, target| Figure {
        name: format!("ledger of 100,000 blocks, full sync, {what}"),
        value: value.into(),
        unit,
        baseline: None,
        baseline_name: "",
        target,
    };
    let seconds = took.as_secs_f64();
    vec![
        figure("time", "s", seconds, Some(0.0..=MOST)),
        figure("rate", "blocks/s", count as f64 / seconds, None),
        figure("CPU of both ends a block", "us", cpu, None),
    ]
}

/// A ledger of so many blocks.
fn made(count: u64) -> Ledger {
    let store = MemoryStore::new(MEMORY, &SCHEMA).expect("a store");
    let ledger = Ledger::open(Genesis::development("bench"), Arc::new(store)).expect("a ledger");
    let key = |role: &str| development_key("bench", role);
    let (proposer, payer) = (key("proposer"), key("account 0"));
    for height in 1..=count {
        // Some accounts come into being, and all are used again.
        let to = Address::of(&key(&format!("somebody {}", height % 10_000)));
        let paid = Transfer::new(ledger.genesis_hash(), &payer, to, 1, 1, height - 1);
        ledger.deliver(&Item::Transaction(Transaction::new(paid.encode())));
        let block: Block = ledger.propose(&proposer, height).expect("a block");
        ledger.deliver(&Item::Block(block));
    }
    assert_eq!(ledger.tip().height, count);
    ledger
}

async fn node(listen: Option<&str>, application: impl Application) -> P2PNetworkManager {
    let mut config = Config::default();
    let listen = listen.map(|listen| listen.parse().expect("an address"));
    config.network.listen_addresses = listen.into_iter().collect();
    // What is measured is a network of known links.
    config.protocol.kademlia_config.wanted_peers = 0;
    config.protocol.kademlia_config.mdns = false;
    let node = P2PNetworkManager::with(config, Keypair::generate_ed25519(), application)
        .await
        .expect("a node");
    node.start().await.expect("it starts");
    node
}

/// How long it takes from the connection to the last block.
async fn synced(sink: &P2PNetworkManager, source: Multiaddr, tip: &BlockPlace) -> Duration {
    let mut events = sink.subscribe_events();
    sink.dial(source).await.expect("it is there");
    let begin = Instant::now();
    let is_last = |event: &NetworkEvent| matches!(event, NetworkEvent::SyncProgress { done, total, .. } if *done == tip.height && total == done);
    let comes = async { while !is_last(&events.recv().await.expect("the node runs")) {} };
    let comes = tokio::time::timeout(PATIENCE, comes).await;
    comes.expect("the last block comes");
    begin.elapsed()
}

fn port_of(address: &Multiaddr) -> u16 {
    let port = address.iter().find_map(|part| match part {
        Protocol::Tcp(port) => Some(port),
        _ => None,
    });
    port.expect("a TCP address")
}

/// A port behind which another one lies at the end of the long line.
async fn delayed(far: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(("127.0.0.1", far)).await.expect("there");
            near.set_nodelay(true).expect("it is open");
            far.set_nodelay(true).expect("it is open");
            let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
            tokio::spawn(carry(from_near, to_far));
            tokio::spawn(carry(from_far, to_near));
        }
    });
    port
}

/// One direction of the line: what goes in comes out later, and as much may be on the way as goes in meanwhile.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
    let (put, mut under_way) = mpsc::channel::<(Instant, Vec<u8>)>(1024);
    tokio::spawn(async move {
        while let Some((at, bytes)) = under_way.recv().await {
            tokio::time::sleep_until(at.into()).await;
            to.write_all(&bytes).await?;
        }
        to.shutdown().await
    });
    loop {
        let mut bytes = vec![0; 64 << 10];
        let length = from.read(&mut bytes).await?;
        if length == 0 {
            return Ok(());
        }
        bytes.truncate(length);
        if put.send((Instant::now() + LATENCY, bytes)).await.is_err() {
            return Ok(());
        }
    }
}

/// A port that says what it hears.
async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).expect("it is open");
            let (mut from, mut to) = stream.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from, &mut to).await });
        }
    });
    port
}

/// How long a byte takes there and back, in seconds.
async fn round_trips(port: u16) -> Vec<f64> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("there");
    stream.set_nodelay(true).expect("it is open");
    let mut samples = Vec::new();
    for _ in 0..5 {
        let begin = Instant::now();
        stream.write_all(&[1]).await.expect("it is open");
        stream.read_exact(&mut [0]).await.expect("it is open");
        samples.push(begin.elapsed().as_secs_f64());
    }
    samples
}
