//! A node that is killed again and again while it takes a snapshot and the blocks after it. `SELKIE_KILLS` says how often; a thousand times is for a night.

use std::{
    collections::BTreeSet,
    env, fs,
    path::Path,
    process::{Child, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use bytes::Bytes;
use selkie::{
    Application, Block, Checked, Config, Item, Keypair, P2PNetworkManager, Transaction, Vote,
    chain::{
        BlockParts, ChainStore, Snapshot, SnapshotProof, SnapshotSink, SnapshotSource, SyncVerdict,
        TrustVerifier,
        ledger::{self, Address, DEVELOPMENT_VOTERS, Genesis, Ledger, Transfer, development_key},
    },
    storage::{MemoryStore, RedbStore, Store},
};

use crate::command::{PATIENCE, a_key, command};

const NETWORK: &str = "selkie-dev";
const CHUNK: u32 = 16 << 10;
/// Chunks that the node asks for at a time.
const IN_FLIGHT: usize = 2;
const HEIGHT: u64 = 40;
const LAST: u64 = 60;
/// Milliseconds within which it is killed: where it came to something the last time, and at most.
const SOON: u64 = 60;
const LATE: u64 = 4000;

fn memory() -> Ledger {
    let store = MemoryStore::new(1 << 28, &ledger::SCHEMA).expect("memory");
    Ledger::open(Genesis::development(NETWORK), Arc::new(store)).expect("a genesis")
}

fn grow(ledger: &Ledger) {
    let key = development_key(NETWORK, "proposer");
    let block = ledger.propose(&key, ledger.tip().height + 1);
    ledger.deliver(&Item::Block(block.expect("a block")));
}

fn finalize(ledger: &Ledger) {
    for number in 0..DEVELOPMENT_VOTERS {
        let key = development_key(NETWORK, &format!("voter {number}"));
        let vote: Option<Vote> = ledger.vote(&key).expect("written");
        vote.into_iter()
            .for_each(|vote| ledger.deliver(&Item::Vote(vote)));
    }
}

/// One of many accounts, with a snapshot, and without the blocks before that: a state has to come first.
fn maker() -> (Ledger, Snapshot) {
    let first = memory();
    for number in 0..3000_u32 {
        let (from, nonce) = (number % 10, u64::from(number / 10));
        let key = development_key(NETWORK, &format!("account {from}"));
        let mut to = [7; 32];
        to[..4].copy_from_slice(&number.to_be_bytes());
        let paid = Transfer::new(first.genesis_hash(), &key, Address::new(to), 5, 1, nonce);
        first.deliver(&Item::Transaction(Transaction::new(paid.encode())));
        if number % 600 == 599 {
            grow(&first);
        }
    }
    while first.tip().height < HEIGHT {
        grow(&first);
    }
    finalize(&first);
    let made = first.make_snapshot(None, CHUNK).expect("written");
    let snapshot = made.expect("there is a block");
    let maker = memory();
    assert_eq!(maker.offer_snapshot(&snapshot, None), SyncVerdict::Accept);
    for index in 0..snapshot.chunks() {
        let bytes = first.load_snapshot_chunk(&snapshot, index).expect("made");
        let sender = Keypair::generate_ed25519().public().to_peer_id();
        let applied = maker.apply_snapshot_chunk(index, &bytes, &sender);
        assert_eq!(applied, SyncVerdict::Accept);
    }
    assert_eq!(maker.finish_snapshot(&snapshot), SyncVerdict::Accept);
    while maker.tip().height < LAST {
        grow(&maker);
    }
    finalize(&maker);
    let again = maker.make_snapshot(Some(HEIGHT), CHUNK).expect("written");
    assert_eq!(again.as_ref(), Some(&snapshot), "the same bytes");
    (maker, snapshot)
}

/// Tells which chunks are read for others.
#[derive(Clone)]
struct Telling(Ledger, mpsc::Sender<u32>);

impl Application for Telling {
    fn check_block(&self, block: &Block) -> Checked {
        self.0.check_block(block)
    }

    fn check_header(&self, header: &Bytes) -> Checked {
        self.0.check_header(header)
    }

    fn split_block(&self, block: &Block) -> Option<BlockParts> {
        self.0.split_block(block)
    }

    fn join_block(&self, header: &Bytes, transactions: &[Bytes]) -> Option<Block> {
        self.0.join_block(header, transactions)
    }

    fn chain_store(&self) -> Option<Arc<dyn ChainStore>> {
        self.0.chain_store()
    }

    fn trust_verifier(&self) -> Option<Arc<dyn TrustVerifier>> {
        self.0.trust_verifier()
    }

    fn snapshot_source(&self) -> Option<Arc<dyn SnapshotSource>> {
        Some(Arc::new(self.clone()))
    }
}

impl SnapshotSource for Telling {
    fn list_snapshots(&self) -> Vec<Snapshot> {
        self.0.list_snapshots()
    }

    fn load_snapshot_hashes(&self, snapshot: &Snapshot) -> Option<Bytes> {
        self.0.load_snapshot_hashes(snapshot)
    }

    fn load_snapshot_chunk(&self, snapshot: &Snapshot, index: u32) -> Option<Bytes> {
        // Fails where the test is over.
        let _ = self.1.send(index);
        self.0.load_snapshot_chunk(snapshot, index)
    }

    fn prove_snapshot(&self, snapshot: &Snapshot) -> Option<SnapshotProof> {
        self.0.prove_snapshot(snapshot)
    }
}

/// What a killed node has left: its height, and the chunks of the snapshot that it is taking. Its state is that of the chain at that height.
fn left(data: &Path, maker: &Ledger, snapshot: &Snapshot) -> (u64, BTreeSet<u32>) {
    if !data.exists() {
        return (0, BTreeSet::new());
    }
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(data, &ledger::SCHEMA).expect("whole"));
    let left = Ledger::open(Genesis::development(NETWORK), store).expect("it is one");
    let height = left.tip().height;
    let all = |ledger: &Ledger| {
        let mut row = Vec::new();
        loop {
            let last = row.rchunks_exact(ledger::CHUNK_ACCOUNT).next();
            let last = last.and_then(|account: &[u8]| account.first_chunk().copied());
            let last = last.map(Address::new);
            let more = ledger.state_chunk(height, last.as_ref(), 4096);
            match more.expect("read").expect("it is kept") {
                more if more.is_empty() => return row,
                more => row.extend(more),
            }
        }
    };
    if height == 0 {
        assert_eq!(all(&left), all(&memory()));
    } else {
        let chain = maker.chain_store().expect("it syncs");
        let id = chain.id_at(height).expect("it is a block of the chain");
        assert_eq!(id.as_bytes(), left.tip().id);
        assert!(all(&left) == all(maker), "another state at {height}");
    }
    let chunks = match left.unfinished_snapshot() {
        Some(unfinished) => {
            assert_eq!(unfinished, *snapshot);
            left.stored_snapshot_chunks(snapshot)
        }
        None => Vec::new(),
    };
    (height, chunks.into_iter().collect())
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % most.max(1)
    }
}

fn kill(mut child: Child) {
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}

#[test]
fn a_node_that_is_killed_at_any_moment_is_never_wrong_and_fetches_anew_what_was_in_flight() {
    let rounds = env::var("SELKIE_KILLS").map_or(30, |rounds| rounds.parse().expect("a number"));
    let (maker, snapshot) = maker();
    let (sender, loads) = mpsc::channel();
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let mut config = Config::default();
    config.network.listen_addresses = vec!["/ip4/127.0.0.1/tcp/0".parse().expect("an address")];
    config.protocol.kademlia_config.mdns = false;
    config.protocol.sync.snapshots.make_every = 0;
    config.chain.genesis = maker.genesis_hash().to_vec();
    let source = runtime.block_on(async {
        let (key, chain) = (Keypair::generate_ed25519(), Telling(maker.clone(), sender));
        let source = P2PNetworkManager::with(config, key, chain).await;
        let source = source.expect("the configuration is right");
        source.start().await.expect("it listens");
        source
    });
    let address = source.listeners().into_iter().next().expect("it listens");

    let folder = tempfile::tempdir().expect("a folder");
    let (key, data) = (a_key(folder.path()), folder.path().join("ledger"));
    let file = folder.path().join("node.toml");
    let text = format!(
        "[network]\nlisten_addresses = []\n[protocol.kademlia_config]\nmdns = false\n\
         [protocol.sync.snapshots]\nmake_every = 0\n[protocol.sync.snapshots.download]\nmin_gain = 20\nsettle = \"0s\"\n\
         max_window = {CHUNK}\nmax_bytes_in_flight = {}\n",
        IN_FLIGHT * CHUNK as usize
    );
    fs::write(&file, text).expect("written");
    let path = |path: &Path| path.display().to_string();
    let (data_path, file, address) = (path(&data), path(&file), address.to_string());
    let arguments = [
        "run",
        "--chain",
        "ledger",
        "--key",
        &key,
        "--data",
        &data_path,
        "--config",
        &file,
        "--bootstrap",
        &address,
        "--no-control",
    ];

    let mut random = Random(41);
    let (mut height, mut stored) = (0, BTreeSet::new());
    let (mut syncs, mut fetched, mut midway) = (0, 0, 0);
    let mut time = SOON;
    for round in 0..rounds {
        let mut child = command(&arguments);
        let child = child.stdout(Stdio::null()).stderr(Stdio::null());
        let child = child.spawn().expect("it starts");
        // After some chunks, or a while; and then at any moment of what it does with them.
        let mut came = Vec::new();
        if height < HEIGHT {
            for _ in 0..=random.below(5) {
                let missing = stored.len() + came.len() < snapshot.chunks() as usize;
                if missing {
                    came.push(loads.recv_timeout(PATIENCE).expect("it asks for one"));
                }
            }
        }
        thread::sleep(Duration::from_millis(random.below(time)));
        kill(child);
        came.extend(loads.try_iter());
        for chunk in &came {
            assert!(!stored.contains(chunk), "{chunk} was here in round {round}");
        }
        fetched += came.len();
        let (now, chunks) = left(&data, &maker, &snapshot);
        assert!(now >= height, "{now} after {height}");
        if now < HEIGHT {
            assert!(
                chunks.is_superset(&stored),
                "some are lost in round {round}"
            );
            midway += usize::from(!chunks.is_empty());
        }
        // How long it takes to start depends on the machine: who came to nothing has twice as long the next time.
        time = if (now, &chunks) == (height, &stored) {
            LATE.min(2 * time)
        } else {
            SOON
        };
        (height, stored) = (now, chunks);
        if height >= HEIGHT {
            syncs += 1;
        }
        if height == LAST || height >= HEIGHT && random.below(2) == 0 {
            (height, stored) = (0, BTreeSet::new());
            fs::remove_file(&data).expect("it is there");
        }
    }
    println!("{rounds} kills, {midway} of them midway, {fetched} chunks fetched");
    assert!(midway > 0 && syncs > 0, "{midway}, {syncs}");
    let most = snapshot.chunks() as usize * (syncs + 1) + IN_FLIGHT * rounds;
    assert!(fetched <= most, "{fetched} of at most {most}");
    runtime.block_on(source.shutdown());
}
