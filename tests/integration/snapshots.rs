//! Fast sync between whole nodes: the chain's state in place of the blocks before it, then blocks.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use libp2p::core::muxing::SubstreamBox;
use selkie::{
    Application, Block, Checked, Config, Item, ItemId, Keypair, NetworkEvent, PeerId, Transaction,
    chain::{
        BlockParts, BlockPlace, ChainStore, ChunkOrder, SNAPSHOT_GROUP, Snapshot, SnapshotProof,
        SnapshotSink, SnapshotSource, SyncHeader, SyncVerdict, TrustVerifier,
        ledger::{self, Address, DEVELOPMENT_VOTERS, Genesis, Ledger, Transfer, development_key},
    },
    storage::{MemoryStore, Store},
    sync::snapshots::{Checkpoint, Message, Offer, Part, Piece, Request, tree},
};
use tokio::sync::{Mutex, Notify};

use crate::{
    link::{Link, Manners, Service, put, read_frame},
    proto::{Proto, framed},
    support::{Node, TCP, listening, soon},
};

const NETWORK: &str = "selkie-dev";
pub const CHUNK: u32 = 16 << 10;
/// Accounts that are paid, beside those that there are.
const ACCOUNTS: u32 = 3000;

pub fn config() -> Config {
    let mut config = listening(TCP);
    // Nobody else is looked for.
    config.protocol.kademlia_config.mdns = false;
    config.protocol.sync.snapshots.make_every = 0;
    let download = &mut config.protocol.sync.snapshots.download;
    download.min_gain = 20;
    // Each source has its share, however soon the first one answers.
    download.max_window = 16 << 10;
    download.settle = Duration::from_secs(1);
    download.search = Duration::from_secs(3);
    download.trust = Duration::from_secs(2);
    config
}

pub fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new(1 << 28, &ledger::SCHEMA).expect("memory"))
}

pub fn ledger(store: Arc<dyn Store>) -> Ledger {
    Ledger::open(Genesis::development(NETWORK), store).expect("a genesis")
}

pub fn grow(ledger: &Ledger) {
    let key = development_key(NETWORK, "proposer");
    let time = ledger.tip().height + 1;
    let block = ledger.propose(&key, time).expect("a block");
    ledger.deliver(&Item::Block(block));
}

/// The newest block is final.
pub fn finalize(ledger: &Ledger) {
    for number in 0..DEVELOPMENT_VOTERS {
        let key = development_key(NETWORK, &format!("voter {number}"));
        if let Some(vote) = ledger.vote(&key).expect("written") {
            ledger.deliver(&Item::Vote(vote));
        }
    }
    assert_eq!(ledger.tip().final_height, ledger.tip().height);
}

/// A ledger of many accounts and 50 blocks, the 40th of which is final.
fn long_ledger() -> Ledger {
    let ledger = ledger(memory());
    let genesis = *ledger.genesis_hash();
    for number in 0..ACCOUNTS {
        let (from, nonce) = (number % 10, u64::from(number / 10));
        let key = development_key(NETWORK, &format!("account {from}"));
        let mut to = [7; 32];
        to[..4].copy_from_slice(&number.to_be_bytes());
        let transfer = Transfer::new(&genesis, &key, Address::new(to), 5, 1, nonce);
        let transfer = Transaction::new(transfer.encode());
        ledger.deliver(&Item::Transaction(transfer));
        if number % 600 == 599 {
            grow(&ledger);
        }
    }
    while ledger.tip().height < 40 {
        grow(&ledger);
    }
    finalize(&ledger);
    ledger
}

/// One with a snapshot of its final block, and ten blocks more.
fn with_snapshot() -> (Ledger, Snapshot) {
    let ledger = long_ledger();
    let made = ledger.make_snapshot(None, CHUNK).expect("written");
    let snapshot = made.expect("there is a block");
    assert!(
        snapshot.height == 40 && snapshot.chunks() > 6,
        "{snapshot:?}"
    );
    for _ in 0..10 {
        grow(&ledger);
    }
    (ledger, snapshot)
}

fn tip(ledger: &Ledger) -> BlockPlace {
    ledger.chain_store().expect("it syncs").tip()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_node_takes_the_state_and_then_blocks_and_follows() {
    let (maker, snapshot) = with_snapshot();
    let source = Node::with(config(), maker.clone()).await;
    let mine = ledger(memory());
    let mut sink = Node::with(config(), Stopping::of(&mine).0).await;
    sink.dial(source.address()).await.expect("it is there");
    assert_eq!(sink.took_state().await, snapshot.height);
    sink.synced_to(50).await;
    assert_eq!(mine.tip().state_root, maker.tip().state_root);
    assert_eq!(mine.tip().id, maker.tip().id);
    let status = sink.sync_status().expect("it syncs");
    assert_eq!(
        (status.base, status.snapshot, status.trouble),
        (41, None, None)
    );
    // Blocks go on, as with any other.
    let next = maker.propose(&development_key(NETWORK, "proposer"), 51);
    source
        .submit(Item::Block(next.expect("a block")))
        .await
        .expect("it goes");
    sink.synced_to(51).await;
    assert_eq!(tip(&mine), tip(&maker));
    for node in [&sink, &source] {
        let misdeeds = node.peer_metrics().peer_reputation;
        assert!(misdeeds.values().all(|score| *score == 0.0), "{misdeeds:?}");
    }
}

/// A source of snapshots whose chunks are not what they ought to be, as a peer that is none of ours.
struct Liar {
    source: Ledger,
    snapshot: Snapshot,
    lane: SubstreamBox,
}

impl Liar {
    /// Joins a node, and answers it until it is put out.
    async fn join(
        node: &Node,
        source: &Ledger,
        snapshot: &Snapshot,
    ) -> (PeerId, Link, [SubstreamBox; 2]) {
        let key = Keypair::generate_ed25519();
        let (lanes, waiting) = tokio::sync::oneshot::channel();
        let (lanes, waiting) = (Mutex::new(Some(lanes)), Mutex::new(Some(waiting)));
        let (source, snapshot) = (source.clone(), snapshot.clone());
        let (waiting, told) = (Arc::new(waiting), Arc::new((source, snapshot)));
        let listen = Service::Custom(Arc::new(move |stream| {
            let (waiting, told) = (Arc::clone(&waiting), Arc::clone(&told));
            Box::pin(async move {
                let Some(waiting) = waiting.lock().await.take() else {
                    return;
                };
                let (source, snapshot) = (*told).clone();
                let lane = waiting.await.expect("the lane is open");
                let liar = Self {
                    source,
                    snapshot,
                    lane,
                };
                // It ends where the node has had enough.
                drop(liar.answer(stream).await);
            })
        }));
        let manners = Manners::good().with("/bulk/1", listen);
        let link = Link::dial(&node.address(), &key, manners)
            .await
            .expect("it listens");
        let mut hello = link.open("/selkie/hello/1").await.expect("it greets");
        let words = Proto::new().bytes(1, NETWORK).uint(5, 2).framed();
        put(&mut hello, &words).await.expect("it hears");
        let answer = read_frame(&mut hello, 1024).await.expect("it answers");
        assert!(!answer.is_empty());
        let urgent = link.lane("/urgent/1").await.expect("a lane");
        let block = link.lane("/block/1").await.expect("a lane");
        let bulk = link.lane("/bulk/1").await.expect("a lane");
        let lanes = lanes.lock().await.take().expect("one");
        assert!(lanes.send(bulk).is_ok());
        (key.public().to_peer_id(), link, [urgent, block])
    }

    async fn answer(mut self, mut stream: SubstreamBox) -> io::Result<()> {
        loop {
            let frame = read_frame(&mut stream, 1 << 20).await?;
            // Field 10, and its length.
            let [0x52, rest @ ..] = &frame[..] else {
                continue;
            };
            let skip = 1 + rest.iter().take_while(|byte| **byte & 0x80 != 0).count();
            let message = Bytes::copy_from_slice(&rest[skip..]);
            match Message::decode(message).map_err(io::Error::other)? {
                Message::Seek => self.offer().await?,
                Message::Request(request) => self.lie(request).await?,
                _ => {}
            }
        }
    }

    async fn say(&mut self, message: Message) -> io::Result<()> {
        let frame = Proto::new().bytes(10, message.encode());
        put(&mut self.lane, &framed(frame.as_ref())).await
    }

    async fn offer(&mut self) -> io::Result<()> {
        let snapshot = self.snapshot.clone();
        let offer = Offer {
            snapshot,
            have: None,
        };
        self.say(Message::Offers(vec![offer])).await
    }

    /// Of the hashes it says the truth.
    async fn lie(&mut self, request: Request) -> io::Result<()> {
        let bytes = match request.part {
            Part::Hashes => self.source.load_snapshot_hashes(&self.snapshot),
            Part::Chunk(index) => self.source.load_snapshot_chunk(&self.snapshot, index),
        };
        let bytes = bytes.expect("it is there");
        let first = usize::from(request.first);
        let begin = first * SNAPSHOT_GROUP;
        let mut data = bytes[begin..bytes.len().min(begin + SNAPSHOT_GROUP)].to_vec();
        if request.part != Part::Hashes {
            data[7] ^= 1;
        }
        let values = if request.values {
            tree::values(&bytes)
        } else {
            Vec::new()
        };
        let piece = Piece {
            number: request.number,
            first: request.first,
            values,
            data: data.into(),
        };
        self.say(Message::Piece(piece)).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_serves_a_wrong_chunk_pays_and_the_state_is_right() {
    let (maker, snapshot) = with_snapshot();
    let source = Node::with(config(), maker.clone()).await;
    let mine = ledger(memory());
    let mut sink = Node::with(config(), Stopping::of(&mine).0).await;
    let (liar, link, _lanes) = Liar::join(&sink, &maker, &snapshot).await;
    sink.connected(liar).await;
    sink.dial(source.address()).await.expect("it is there");
    sink.event("its price", |event| match event {
        NetworkEvent::PeerScored {
            peer_id, reason, ..
        } if peer_id == liar => {
            assert_eq!(reason, "it offered or sent a false snapshot");
            Some(())
        }
        _ => None,
    })
    .await;
    soon("its end", link.ended()).await;
    assert_eq!(sink.took_state().await, 40);
    sink.synced_to(50).await;
    assert_eq!(mine.tip().state_root, maker.tip().state_root);
    let misdeeds = sink.peer_metrics().peer_reputation;
    assert_eq!(misdeeds.get(&source.id()), Some(&0.0), "{misdeeds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_snapshot_or_its_proof_it_is_blocks_and_that_is_told() {
    let maker = long_ledger();
    // One of a block that nobody has voted for shows nothing.
    let unproven = ledger(memory());
    for height in 1..=40 {
        let block = maker.block(height).expect("read").expect("there");
        unproven.deliver(&Item::Block(block));
    }
    unproven
        .make_snapshot(None, CHUNK)
        .expect("written")
        .expect("made");
    for chain in [maker.clone(), unproven] {
        let source = Node::with(config(), chain).await;
        let mine = ledger(memory());
        let mut sink = Node::with(config(), mine.clone()).await;
        sink.dial(source.address()).await.expect("it is there");
        let reason = sink.took_no_state().await;
        assert!(reason.contains("blocks are fetched instead"), "{reason}");
        sink.synced_to(40).await;
        assert_eq!(mine.tip().id, maker.tip().id);
        assert_eq!(sink.sync_status().expect("it syncs").base, 0);
        source.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_trust_enough_and_a_wrong_one_is_none() {
    let (maker, snapshot) = with_snapshot();
    let source = Node::with(config(), Stopping::of(&maker).0).await;
    for (root, is_right) in [(snapshot.state_root.to_vec(), true), (vec![1; 32], false)] {
        let mine = ledger(memory());
        let mut config = config();
        let download = &mut config.protocol.sync.snapshots.download;
        download.checkpoint = Some(Checkpoint {
            height: 40,
            state_root: root,
        });
        let mut sink = if is_right {
            Node::with(config, Stopping::of(&mine).0).await
        } else {
            Node::with(config, mine.clone()).await
        };
        sink.dial(source.address()).await.expect("it is there");
        if is_right {
            assert_eq!(sink.took_state().await, 40);
        } else {
            sink.took_no_state().await;
        }
        sink.synced_to(50).await;
        assert_eq!(mine.tip().id, maker.tip().id);
    }
}

/// Takes no blocks before it has a state, so that it is not there by blocks before a snapshot is found.
struct Waiting(Ledger);

impl ChainStore for Waiting {
    fn read_header(&self, header: &Bytes) -> Option<SyncHeader> {
        self.0.read_header(header)
    }

    fn read_block(&self, block: &Block) -> Option<SyncHeader> {
        self.0.read_block(block)
    }

    fn tip(&self) -> BlockPlace {
        tip(&self.0)
    }

    fn base(&self) -> u64 {
        self.0.base()
    }

    fn id_at(&self, height: u64) -> Option<ItemId> {
        self.0.id_at(height)
    }

    fn headers(&self, from: u64, max_count: usize, max_bytes: usize) -> Vec<Bytes> {
        self.0.headers(from, max_count, max_bytes)
    }

    fn block(&self, id: &ItemId) -> Option<Block> {
        ChainStore::block(&self.0, id)
    }

    fn append_headers(&self, headers: &[Bytes]) -> (usize, SyncVerdict) {
        if self.0.tip().height == 0 {
            return (0, SyncVerdict::Retry("a state comes first".to_owned()));
        }
        self.0.append_headers(headers)
    }

    fn append(&self, block: &Block) -> SyncVerdict {
        self.0.append(block)
    }
}

/// A ledger that takes a state first, of that so many chunks and no more; and whose snapshots have no proof.
#[derive(Clone)]
struct Stopping(Arc<Taking>);

struct Taking {
    ledger: Ledger,
    most: AtomicUsize,
    taken: AtomicUsize,
    full: Notify,
}

impl Stopping {
    fn of(ledger: &Ledger) -> (Self, Arc<Taking>) {
        let taking = Arc::new(Taking {
            ledger: ledger.clone(),
            most: AtomicUsize::new(usize::MAX),
            taken: AtomicUsize::new(0),
            full: Notify::new(),
        });
        (Self(Arc::clone(&taking)), taking)
    }
}

impl Application for Stopping {
    fn check_block(&self, block: &Block) -> Checked {
        self.0.ledger.check_block(block)
    }

    fn check_header(&self, header: &Bytes) -> Checked {
        self.0.ledger.check_header(header)
    }

    fn split_block(&self, block: &Block) -> Option<BlockParts> {
        self.0.ledger.split_block(block)
    }

    fn join_block(&self, header: &Bytes, transactions: &[Bytes]) -> Option<Block> {
        self.0.ledger.join_block(header, transactions)
    }

    fn chain_store(&self) -> Option<Arc<dyn ChainStore>> {
        Some(Arc::new(Waiting(self.0.ledger.clone())))
    }

    fn trust_verifier(&self) -> Option<Arc<dyn TrustVerifier>> {
        self.0.ledger.trust_verifier()
    }

    fn snapshot_sink(&self) -> Option<Arc<dyn SnapshotSink>> {
        Some(Arc::new(self.clone()))
    }

    fn snapshot_source(&self) -> Option<Arc<dyn SnapshotSource>> {
        Some(Arc::new(self.clone()))
    }
}

impl SnapshotSource for Stopping {
    fn list_snapshots(&self) -> Vec<Snapshot> {
        self.0.ledger.list_snapshots()
    }

    fn load_snapshot_hashes(&self, snapshot: &Snapshot) -> Option<Bytes> {
        self.0.ledger.load_snapshot_hashes(snapshot)
    }

    fn load_snapshot_chunk(&self, snapshot: &Snapshot, index: u32) -> Option<Bytes> {
        self.0.ledger.load_snapshot_chunk(snapshot, index)
    }

    fn prove_snapshot(&self, _: &Snapshot) -> Option<SnapshotProof> {
        None
    }
}

impl SnapshotSink for Stopping {
    fn offer_snapshot(&self, snapshot: &Snapshot, header: Option<&Bytes>) -> SyncVerdict {
        self.0.ledger.offer_snapshot(snapshot, header)
    }

    fn chunk_order(&self) -> ChunkOrder {
        self.0.ledger.chunk_order()
    }

    fn stored_snapshot_chunks(&self, snapshot: &Snapshot) -> Vec<u32> {
        self.0.ledger.stored_snapshot_chunks(snapshot)
    }

    fn apply_snapshot_chunk(&self, index: u32, bytes: &Bytes, sender: &PeerId) -> SyncVerdict {
        if self.0.taken.load(Ordering::SeqCst) >= self.0.most.load(Ordering::SeqCst) {
            self.0.full.notify_one();
            return SyncVerdict::Retry("it is enough for today".to_owned());
        }
        self.0.taken.fetch_add(1, Ordering::SeqCst);
        self.0.ledger.apply_snapshot_chunk(index, bytes, sender)
    }

    fn finish_snapshot(&self, snapshot: &Snapshot) -> SyncVerdict {
        self.0.ledger.finish_snapshot(snapshot)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_stopped_midway_fetches_the_rest() {
    let (maker, snapshot) = with_snapshot();
    let source = Node::with(config(), maker.clone()).await;
    let store = memory();
    let (first, taking) = Stopping::of(&ledger(Arc::clone(&store)));
    taking.most.store(3, Ordering::SeqCst);
    let sink = Node::with(config(), first).await;
    sink.dial(source.address()).await.expect("it is there");
    soon("three chunks", taking.full.notified()).await;
    sink.shutdown().await;

    let mine = ledger(store);
    let (second, taking) = Stopping::of(&mine);
    let mut sink = Node::with(config(), second).await;
    sink.dial(source.address()).await.expect("it is there");
    assert_eq!(sink.took_state().await, 40);
    sink.synced_to(50).await;
    assert_eq!(mine.tip().state_root, maker.tip().state_root);
    let rest = usize::try_from(snapshot.chunks()).expect("few") - 3;
    assert_eq!(taking.taken.load(Ordering::SeqCst), rest);
}
