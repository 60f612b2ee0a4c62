//! A chain whose state is any bytes: a source that has them in a file, and a sink that gives them to the built-in ledger's store, or drops them.
//!
//! The ledger keeps chunks as it does its own, and is never told that all are here: what it would make of them is another measurement (`ledger.rs`). A
//! checkpoint says that the state is right. The chain has one block; until the state is here the sink cannot take it.

use std::{
    fs::File,
    io::Write,
    os::unix::fs::FileExt,
    path::Path,
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use bytes::Bytes;
use selkie::{
    Application, Block, Checked, Config, PeerId,
    chain::{
        ChainStore, Snapshot, SnapshotChunk, SnapshotHasher, SnapshotSink, SnapshotSource,
        SyncVerdict,
        ledger::{Genesis, Ledger, SCHEMA},
    },
    storage::RedbStore,
    sync::snapshots::Checkpoint,
};

use crate::{small_chain::SmallChain, support::full_or};

const HEIGHT: u64 = 1;
const STATE_ROOT: [u8; 32] = [7; 32];
/// The ledger's.
const FORMAT: u32 = 1;

/// Who has the state.
#[derive(Clone)]
pub struct Source(Arc<Made>);

struct Made {
    chain: SmallChain,
    file: File,
    snapshot: Snapshot,
    hashes: Bytes,
}

impl Source {
    /// Of so many bytes that no compression makes smaller.
    pub fn of(bytes: u64, chunk_size: u32) -> Self {
        let mut file = tempfile::tempfile().expect("a file");
        let mut hasher = SnapshotHasher::new(chunk_size).expect("a size");
        let (mut left, mut number) = (bytes, 0);
        while left > 0 {
            let piece = noise(number, left.min(1 << 20) as usize);
            file.write_all(&piece).expect("there is room");
            hasher.update(&piece);
            left -= piece.len() as u64;
            number += 1;
        }
        let root = Bytes::from_static(&STATE_ROOT);
        let (snapshot, hashes) = hasher.finish(HEIGHT, FORMAT, root).expect("one");
        Self(Arc::new(Made {
            chain: SmallChain::of(HEIGHT, 100),
            file,
            snapshot,
            hashes,
        }))
    }
}

impl Application for Source {
    fn check_block(&self, block: &Block) -> Checked {
        self.0.chain.check_block(block)
    }

    fn chain_store(&self) -> Option<Arc<dyn ChainStore>> {
        self.0.chain.chain_store()
    }

    fn snapshot_source(&self) -> Option<Arc<dyn SnapshotSource>> {
        Some(Arc::new(self.clone()))
    }
}

impl SnapshotSource for Source {
    fn list_snapshots(&self) -> Vec<Snapshot> {
        vec![self.0.snapshot.clone()]
    }

    fn load_snapshot_hashes(&self, _: &Snapshot) -> Option<Bytes> {
        Some(self.0.hashes.clone())
    }

    fn load_snapshot_chunk(&self, snapshot: &Snapshot, index: u32) -> Option<Bytes> {
        let mut chunk = vec![0; snapshot.chunk_length(index)?];
        let at = u64::from(index) * u64::from(snapshot.chunk_size);
        self.0.file.read_exact_at(&mut chunk, at).ok()?;
        Some(chunk.into())
    }
}

/// Who takes it.
#[derive(Clone)]
pub struct Sink(Arc<Taking>);

struct Taking {
    chain: SmallChain,
    /// Where chunks are kept.
    ledger: Option<Ledger>,
    times: Mutex<Times>,
    ended: mpsc::Sender<Times>,
}

/// When what came.
#[derive(Clone)]
pub struct Times {
    pub offered: Instant,
    /// Each chunk.
    pub chunks: Vec<Instant>,
    pub finished: Instant,
}

impl Sink {
    /// One that keeps chunks in a ledger's file, or none; and where it tells that all are here.
    pub fn new(file: Option<&Path>) -> (Self, mpsc::Receiver<Times>) {
        let ledger = file.map(|file| {
            let store = RedbStore::open(file, &SCHEMA).expect("a store");
            Ledger::open(Genesis::development("bench"), Arc::new(store)).expect("a ledger")
        });
        let (chain, now) = (SmallChain::default(), Instant::now());
        chain.fail(usize::MAX);
        let (ended, told) = mpsc::channel();
        let times = Times {
            offered: now,
            chunks: Vec::new(),
            finished: now,
        };
        let sink = Self(Arc::new(Taking {
            chain,
            ledger,
            times: Mutex::new(times),
            ended,
        }));
        (sink, told)
    }

    /// Has it take the state of the only block.
    pub fn trusts(config: &mut Config) {
        let download = &mut config.protocol.sync.snapshots.download;
        download.min_gain = HEIGHT;
        // Offers are waited for before the time begins.
        download.settle = full_or(download.settle, Duration::from_millis(100));
        download.checkpoint = Some(Checkpoint {
            height: HEIGHT,
            state_root: STATE_ROOT.to_vec(),
        });
    }
}

impl Application for Sink {
    fn check_block(&self, block: &Block) -> Checked {
        self.0.chain.check_block(block)
    }

    fn chain_store(&self) -> Option<Arc<dyn ChainStore>> {
        self.0.chain.chain_store()
    }

    fn snapshot_sink(&self) -> Option<Arc<dyn SnapshotSink>> {
        Some(Arc::new(self.clone()))
    }
}

impl SnapshotSink for Sink {
    fn offer_snapshot(&self, snapshot: &Snapshot, header: Option<&Bytes>) -> SyncVerdict {
        self.0.times.lock().expect("no panic").offered = Instant::now();
        match &self.0.ledger {
            Some(ledger) => ledger.offer_snapshot(snapshot, header),
            None => SyncVerdict::Accept,
        }
    }

    fn apply_snapshot_chunk(&self, index: u32, bytes: &Bytes, sender: &PeerId) -> SyncVerdict {
        let chunk = SnapshotChunk {
            index,
            bytes: bytes.clone(),
            sender: *sender,
        };
        self.apply_snapshot_chunks(&[chunk]).1
    }

    fn apply_snapshot_chunks(&self, chunks: &[SnapshotChunk]) -> (usize, SyncVerdict) {
        let (count, verdict) = match &self.0.ledger {
            Some(ledger) => ledger.apply_snapshot_chunks(chunks),
            None => (chunks.len(), SyncVerdict::Accept),
        };
        let mut times = self.0.times.lock().expect("no panic");
        times.chunks.extend(vec![Instant::now(); count]);
        (count, verdict)
    }

    fn finish_snapshot(&self, snapshot: &Snapshot) -> SyncVerdict {
        let mut times = self.0.times.lock().expect("no panic");
        assert_eq!(times.chunks.len() as u64, u64::from(snapshot.chunks()));
        times.finished = Instant::now();
        self.0.ended.send(times.clone()).expect("it is awaited");
        self.0.chain.fail(0);
        SyncVerdict::Accept
    }
}

/// Bytes that no compression makes smaller, different for each seed.
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut data = Vec::with_capacity(bytes.next_multiple_of(8));
    while data.len() < bytes {
        state = (state ^ (state >> 29))
            .wrapping_mul(0xBF58_476D_1CE4_E5B9)
            .wrapping_add(seed | 1);
        data.extend_from_slice(&state.to_le_bytes());
    }
    data.truncate(bytes);
    data
}
