//! What a node says itself goes to peers when its chain has kept it, by no way before, and may be given again where that failed.

use std::{
    collections::VecDeque,
    future::ready,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use selkie::{
    Application, Block, Checked, Item, ItemKind, NetworkEvent, Vote,
    chain::ledger::{self, Genesis, Ledger, development_key},
    storage::{Batch, KeyRange, MemoryStore, Page, Store, StoreError, Table},
};

use crate::support::*;

fn full() -> StoreError {
    StoreError::Full {
        place: "the disk".to_owned(),
        reason: "there is no room".to_owned(),
    }
}

/// A chain that ignores what it has, and keeps what it has as this says, one time after the other; then always.
#[derive(Default)]
struct Disk {
    keeps: Mutex<VecDeque<bool>>,
    items: Mutex<Vec<Bytes>>,
}

impl Disk {
    fn check(&self, data: &Bytes) -> Checked {
        let has = self.items.lock().expect("whole").contains(data);
        if has {
            return Checked::ignore(data, "it is here");
        }
        Checked::opaque(data)
    }

    /// Whether it keeps what it has, the next times.
    fn will(&self, keeps: &[bool]) {
        self.keeps.lock().expect("whole").extend(keeps);
    }

    fn has(&self) -> Vec<Bytes> {
        self.items.lock().expect("whole").clone()
    }
}

impl Application for Disk {
    fn check_block(&self, block: &Block) -> Checked {
        self.check(&block.data)
    }

    fn check_vote(&self, vote: &Vote) -> Checked {
        self.check(&vote.data)
    }

    fn deliver(&self, item: &Item) {
        self.items.lock().expect("whole").push(item.data().clone());
    }

    fn flush(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        let keeps = self.keeps.lock().expect("whole").pop_front();
        let kept = keeps.unwrap_or(true).then_some(()).ok_or_else(full);
        ready(kept).boxed()
    }
}

/// The same chain for whoever asks it.
struct Shared(Arc<Disk>);

impl Application for Shared {
    fn check_block(&self, block: &Block) -> Checked {
        self.0.check_block(block)
    }

    fn check_vote(&self, vote: &Vote) -> Checked {
        self.0.check_vote(vote)
    }

    fn deliver(&self, item: &Item) {
        self.0.deliver(item);
    }

    fn flush(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        self.0.flush()
    }
}

async fn refused(node: &Node, item: &Item) {
    let error = node.submit(item.clone()).await.expect_err("no room");
    assert!(error.to_string().contains("the disk is full"), "{error}");
}

#[tokio::test]
async fn what_can_not_be_kept_is_told_to_nobody_and_is_when_it_is_given_again() {
    let disk = Arc::<Disk>::default();
    let mut node = Node::with(listening(TCP), Shared(Arc::clone(&disk))).await;
    let mut peer = Node::start(listening(TCP)).await;
    connect(&mut peer, &mut node).await;
    let [vote, late, block] = [
        (ItemKind::Vote, "aye"),
        (ItemKind::Vote, "late"),
        (ItemKind::Block, "a block"),
    ]
    .map(|(kind, data)| Item::new(kind, data));
    // What a vote rests on is not kept, so that the chain does not even hear of it.
    disk.will(&[false]);
    refused(&node, &vote).await;
    assert!(disk.has().is_empty());
    // The vote itself is not.
    disk.will(&[true, false]);
    refused(&node, &late).await;
    disk.will(&[false, false]);
    for _ in 0..2 {
        refused(&node, &block).await;
    }
    assert_eq!(disk.has(), [late.data(), block.data()]);
    let marker = Item::new(ItemKind::Transaction, "this is sent");
    node.submit(marker.clone()).await.expect("it is no word");
    assert_eq!(peer.item().await.0, marker);
    for item in [&vote, &late, &block] {
        node.submit(item.clone()).await.expect("there is room");
        assert_eq!(peer.item().await.0, *item);
        let again = node.submit(item.clone()).await.expect_err("known");
        assert_eq!(again.code(), "duplicate");
    }
    let given = disk.has();
    let given = given.iter().filter(|item| *item != marker.data());
    assert_eq!(given.count(), 3, "each once");
}

#[tokio::test]
async fn what_can_not_be_kept_at_the_end_is_told_before_it() {
    let disk = Arc::<Disk>::default();
    let mut node = Node::with(listening(TCP), Shared(Arc::clone(&disk))).await;
    disk.will(&[false]);
    node.shutdown().await;
    let told = node.event("what is lost", |event| match event {
        NetworkEvent::ApplicationFailed { call, reason, .. } => Some((call, reason)),
        _ => None,
    });
    let (call, reason) = told.await;
    assert_eq!(call, "flush");
    assert!(reason.contains("the disk is full"), "{reason}");
    assert!(matches!(
        node.events.recv().await,
        Some(NetworkEvent::Stopped)
    ));
}

/// A store that has what is committed, and keeps it as long as there is room.
struct Behind {
    store: MemoryStore,
    is_full: AtomicBool,
}

impl Store for Behind {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.store.get(table, key)
    }

    fn range(&self, table: Table, range: KeyRange<'_>) -> Result<Page, StoreError> {
        self.store.range(table, range)
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.store.commit(batch)
    }

    fn flush(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        let is_full = self.is_full.load(Ordering::SeqCst);
        let kept = (!is_full).then_some(()).ok_or_else(full);
        ready(kept).boxed()
    }
}

fn store() -> MemoryStore {
    MemoryStore::new(1 << 26, &ledger::SCHEMA).expect("memory")
}

const NETWORK: &str = "selkie-dev";

fn open(store: Arc<dyn Store>) -> Ledger {
    Ledger::open(Genesis::development(NETWORK), store).expect("a genesis")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_is_not_kept_is_not_synced_from_the_chain_that_has_it() {
    let disk = Arc::new(Behind {
        store: store(),
        is_full: AtomicBool::new(true),
    });
    let maker = open(disk.clone());
    let mut source = Node::with(listening(TCP), maker.clone()).await;
    let peers_ledger = open(Arc::new(store()));
    let mut peer = Node::with(listening(TCP), peers_ledger.clone()).await;
    connect(&mut peer, &mut source).await;
    let key = development_key(NETWORK, "proposer");
    let block = Item::Block(maker.propose(&key, 1).expect("a block"));
    refused(&source, &block).await;
    assert_eq!(maker.tip().height, 1, "it is here");
    let voter = development_key(NETWORK, "voter 0");
    let vote = maker.vote(&voter).expect("written").expect("a vote");
    refused(&source, &Item::Vote(vote)).await;
    // Whoever comes now asks how far the source is.
    let late_ledger = open(Arc::new(store()));
    let mut late = Node::with(listening(TCP), late_ledger.clone()).await;
    late.dial(source.address()).await.expect("it is there");
    let synced = late.event("the end of sync", |event| match event {
        NetworkEvent::Synced { height } => Some(height),
        _ => None,
    });
    assert_eq!(synced.await, 0);
    assert_eq!(peers_ledger.tip().height + late_ledger.tip().height, 0);
    disk.is_full.store(false, Ordering::SeqCst);
    source.submit(block.clone()).await.expect("there is room");
    for node in [&mut peer, &mut late] {
        assert_eq!(node.item().await.0, block);
    }
    let vote = maker.vote(&voter).expect("read").expect("the same");
    let vote = Item::Vote(vote);
    source.submit(vote.clone()).await.expect("there is room");
    assert_eq!(peer.item().await.0, vote);
}
