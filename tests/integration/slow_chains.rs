//! Chains that take their time: who sends them items is held up, told and counted, and nothing that they have not checked counts as
//! arrived.

use std::{
    future::ready,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, ThreadId},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture};
use selkie::{
    Application, Block, Checked, Config, Item, ItemId, ItemKind, Keypair, NetworkEvent,
    NetworkMessage, P2PNetworkManager, ProtocolError, Transaction, Vote, chain::bitcoin::Bitcoin,
    storage::StoreError,
};

use crate::{
    raw_peer::{RawPeer, framed},
    support::*,
};

/// Little room for checks of transactions and votes.
fn cramped() -> Config {
    let mut config = listening(TCP);
    config.protocol.propagation.transactions.max_item = 1024;
    config.protocol.propagation.votes.max_item = 1024;
    let validation = &mut config.protocol.validation;
    let room = (1 << 20) + 1024;
    for share in [&mut validation.transactions, &mut validation.votes] {
        (share.all, share.per_peer) = (room, room);
    }
    validation.max_in_flight = 2;
    config
}

#[tokio::test]
async fn what_has_no_room_is_told_and_counted_and_votes_keep_theirs() {
    let gate = Arc::new(Gate::default());
    // Or a failed test would never end.
    let opens = Opens(Arc::clone(&gate));
    let chain = Slow(gate, ItemKind::Transaction);
    let mut node = Node::with(cramped(), chain).await;
    let mut peer = Node::start(cramped()).await;
    connect(&mut peer, &mut node).await;
    let sent = peer.broadcast_transactions(transactions(5000)).await;
    assert!(sent.expect("sent").iter().all(Result::is_ok));
    let vote = Item::new(ItemKind::Vote, "aye");
    peer.submit(vote.clone()).await.expect("sent");
    assert_eq!(node.item().await.0, vote, "while transactions are held up");
    // What cannot be made to wait is refused.
    let mut handed = 0;
    let refused = async {
        loop {
            handed += 1;
            let transaction = Transaction::new(format!("handed over {handed}"));
            let handing = node.handle_transaction(transaction, peer.id());
            let tried = tokio::time::timeout(Duration::from_millis(20), handing).await;
            if let Ok(Err(error)) = tried {
                return error.to_string();
            }
        }
    };
    let reason = soon("no room", refused).await;
    assert!(
        reason.contains("protocol.validation.transactions"),
        "{reason}"
    );
    assert!(node.message_metrics().items_turned_away > 0);
    drop(opens);
    for _ in 0..5000 + handed - 1 {
        assert_eq!(node.item().await.0.kind(), ItemKind::Transaction);
    }
}

#[tokio::test]
async fn who_subscribes_while_a_check_is_under_way_hears_what_it_accepts() {
    let gate = Arc::new(Gate::default());
    let opens = Opens(Arc::clone(&gate));
    let chain = Slow(Arc::clone(&gate), ItemKind::Transaction);
    let key = Keypair::generate_ed25519();
    let node = P2PNetworkManager::with(listening(TCP), key, chain).await;
    let node = node.expect("the configuration is right");
    node.start().await.expect("it listens");
    let peer = Node::start(listening(TCP)).await;
    soon("the dial", peer.dial(node.listeners()[0].clone()))
        .await
        .expect("it is there");
    let item = Item::new(ItemKind::Transaction, "pay Ann 5");
    peer.submit(item.clone()).await.expect("sent");
    soon("a check", async {
        while gate.2.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut events = node.subscribe(|event| matches!(event, NetworkEvent::ItemAccepted { .. }));
    drop(opens);
    let event = soon("the event", events.next()).await;
    let Some(NetworkEvent::ItemAccepted { item: told, .. }) = event else {
        panic!("{event:?}");
    };
    assert_eq!(told, item);
}

/// A field of a protobuf message.
fn field(tag: u8, value: &[u8]) -> Vec<u8> {
    [&[tag << 3 | 2][..], &framed(value)].concat()
}

/// Gossipsub frames, each with one item.
fn gossiped(kind: ItemKind, items: &[Vec<u8>]) -> Vec<u8> {
    let topic = format!("/selkie/selkie-dev/{}/1", kind.name());
    let frame = |item: &Vec<u8>| {
        let message = [field(2, item), field(4, topic.as_bytes())].concat();
        framed(&field(2, &message))
    };
    items.iter().flat_map(frame).collect()
}

#[tokio::test]
async fn what_gossip_brought_without_room_is_gossiped_on_once_it_comes_by_the_lanes() {
    const BLOCKS: &str = "/selkie/selkie-dev/block/1";
    let mut config = listening(TCP);
    let gossip = &mut config.protocol.gossipsub_config;
    // It keeps for some heartbeats what it has heard.
    gossip.heartbeat_interval = Duration::from_secs(3);
    gossip.max_bytes_per_second = 256 << 20;
    let gate = Arc::new(Gate::default());
    let opens = Opens(Arc::clone(&gate));
    let mut node = Node::with(config, Slow(gate, ItemKind::Block)).await;
    let (mut flooder, mut reader) = (RawPeer::plain().await, RawPeer::plain().await);
    reader.subscribe(BLOCKS);
    for plain in [&mut flooder, &mut reader] {
        plain.dial(node.address());
        plain.subscribed(BLOCKS).await;
    }
    // More than may wait of one peer, in two places, while the chain takes its time.
    let blocks: Vec<_> = (0..40_u8).map(|number| vec![number; 512 << 10]).collect();
    let last = blocks[39].clone();
    let mut frames = gossiped(ItemKind::Block, &blocks);
    frames.extend(gossiped(ItemKind::Vote, &[b"aye".to_vec()]));
    flooder.script(node.id(), frames);
    assert_eq!(node.item().await.0.kind(), ItemKind::Vote, "all came");
    assert!(node.message_metrics().items_turned_away > 0);
    drop(opens);
    let mut peer = Node::start(listening(TCP)).await;
    connect(&mut peer, &mut node).await;
    let item = Item::new(ItemKind::Block, last.clone());
    peer.submit(item).await.expect("sent");
    while reader.gossip().await.1 != last {}
}

#[tokio::test]
async fn who_waits_behind_a_peer_that_takes_nothing_is_told() {
    let mut config = listening(TCP);
    config.protocol.request_response_config.request_timeout = Duration::from_secs(1);
    let sender = Node::start(config.clone()).await;
    config.protocol.validation.transactions.per_peer = 512 << 20;
    config.protocol.validation.transactions.all = 512 << 20;
    let gate = Arc::new(Gate::default());
    let _opens = Opens(Arc::clone(&gate));
    let peer = Node::with(config, Slow(gate, ItemKind::Transaction)).await;
    soon("the dial", sender.dial(peer.address()))
        .await
        .expect("it is there");
    let sent = sender.broadcast_transactions(transactions(200_000)).await;
    let sent = sent.expect("some are taken");
    let refused: Vec<_> = sent.iter().filter_map(|one| one.as_ref().err()).collect();
    assert!(!refused.is_empty() && refused.len() < sent.len());
    assert!(
        refused
            .iter()
            .all(|error| error.to_string().contains("queues are full"))
    );
    let one = Item::new(ItemKind::Transaction, "one more");
    let busy = sender.submit(one).await.expect_err("no room");
    assert_eq!(busy.code(), "busy");
    let vote = Item::new(ItemKind::Vote, "aye");
    sender
        .submit(vote)
        .await
        .expect("votes have their own room");
}

/// What becomes of transactions whose sender loses its last peer while it checks the first of them; and the sender.
async fn sent_as_the_last_peer_leaves(
    transactions: Vec<Transaction>,
) -> (Vec<Result<ItemId, ProtocolError>>, Node) {
    let gate = Arc::new(Gate::default());
    let opens = Opens(Arc::clone(&gate));
    let chain = Slow(Arc::clone(&gate), ItemKind::Transaction);
    let mut sender = Node::with(listening(TCP), chain).await;
    let mut peer = Node::start(listening(TCP)).await;
    connect(&mut peer, &mut sender).await;
    let manager = sender.manager.clone();
    let sent = tokio::spawn(async move { manager.broadcast_transactions(transactions).await });
    soon("a check", async {
        while gate.2.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    peer.shutdown().await;
    sender.disconnected(peer.id()).await;
    drop(opens);
    let outcomes = soon("all outcomes", sent).await.expect("no panic");
    (outcomes.expect("each has one of its own"), sender)
}

#[tokio::test]
async fn what_was_accepted_and_what_was_not_taken_are_told_apart_when_the_last_peer_leaves() {
    let many = (0..3000_u32).map(|number| {
        let mut data = number.to_le_bytes().to_vec();
        data.resize(1024, 7);
        Transaction::new(data)
    });
    let (outcomes, mut sender) = sent_as_the_last_peer_leaves(many.collect()).await;
    assert_eq!(outcomes.len(), 3000);
    let of = |code: &str| {
        let errors = outcomes.iter().filter_map(|one| one.as_ref().err());
        errors.filter(|error| error.code() == code).count()
    };
    let (accepted, not_taken) = (of("not-sent"), of("no-peers"));
    assert!(accepted > 0 && not_taken > 0, "{accepted}, {not_taken}");
    assert_eq!(accepted + not_taken, 3000);
    for _ in 0..accepted {
        assert_eq!(sender.item().await.0.kind(), ItemKind::Transaction);
    }
}

#[tokio::test]
async fn what_was_refused_is_told_so_when_the_last_peer_leaves() {
    let two = ["fine", "bad"].map(Transaction::new).into();
    let (outcomes, _) = sent_as_the_last_peer_leaves(two).await;
    let codes = outcomes
        .iter()
        .map(|one| one.as_ref().err().map(ProtocolError::code));
    assert_eq!(
        codes.collect::<Vec<_>>(),
        [Some("not-sent"), Some("rejected")]
    );
}

#[tokio::test]
async fn who_says_hello_and_opens_no_lanes_has_nothing() {
    let mut node = Node::start(listening(TCP)).await;
    let mut raw = RawPeer::hostile().await;
    raw.join(&node).await;
    node.connected(raw.id).await;
    let block = Item::new(ItemKind::Block, "one");
    node.submit(block).await.expect("it takes part by gossip");
    assert!(!node.is_flushed_to(raw.id).await.expect("running"));
}

#[tokio::test]
async fn a_disk_that_takes_its_time_holds_up_no_network() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let mut node = Node::with(listening(TCP), Archive(Arc::clone(&asked))).await;
    let mut peer = Node::start(listening(TCP)).await;
    connect(&mut peer, &mut node).await;
    let vote = Item::new(ItemKind::Vote, "aye");
    node.submit(vote.clone()).await.expect("kept, and sent");
    assert_eq!(peer.item().await.0, vote);
    // The node's task runs on this thread, as everything here.
    let here = thread::current().id();
    let asked = asked.lock().expect("whole");
    assert!(!asked.is_empty() && !asked.contains(&here));
}

/// Waits until peers have what a node has accepted.
async fn flushed(node: &Node) {
    while !node.is_flushed().await.expect("running") {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_a_peer_has_not_checked_yet_is_not_flushed() {
    let gate = Arc::new(Gate::default());
    let opens = Opens(Arc::clone(&gate));
    let sender = Node::start(listening(TCP)).await;
    let peer = Node::with(listening(TCP), Slow(gate, ItemKind::Transaction)).await;
    soon("the dial", sender.dial(peer.address()))
        .await
        .expect("it is there");
    let one = Item::new(ItemKind::Transaction, "one");
    sender.submit(one).await.expect("taken");
    assert!(!sender.is_flushed().await.expect("running"));
    drop(opens);
    soon("the acknowledgement", flushed(&sender)).await;
}

#[tokio::test]
async fn a_block_that_a_peer_is_checking_is_not_flushed() {
    let gate = Arc::new(Gate::default());
    let opens = Opens(Arc::clone(&gate));
    let sender = Node::start(listening(TCP)).await;
    let peer = Node::with(listening(TCP), Slow(Arc::clone(&gate), ItemKind::Block)).await;
    soon("the dial", sender.dial(peer.address()))
        .await
        .expect("it is there");
    let block = Item::new(ItemKind::Block, vec![7; 100_000]);
    sender.submit(block).await.expect("taken");
    let arrives = async {
        while gate.2.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    };
    soon("the block", arrives).await;
    for _ in 0..100 {
        assert!(!sender.is_flushed().await.expect("running"));
    }
    drop(opens);
    soon("the peer's word", flushed(&sender)).await;
}

#[tokio::test]
async fn one_peer_has_a_block_that_another_is_checking() {
    let gate = Arc::new(Gate::default());
    let opens = Opens(Arc::clone(&gate));
    let sender = Node::start(listening(TCP)).await;
    let slow = Node::with(listening(TCP), Slow(gate, ItemKind::Block)).await;
    let quick = Node::start(listening(TCP)).await;
    for peer in [&slow, &quick] {
        soon("the dial", sender.dial(peer.address()))
            .await
            .expect("it is there");
    }
    let has = async |peer: &Node| {
        while !sender.is_flushed_to(peer.id()).await.expect("running") {
            tokio::task::yield_now().await;
        }
    };
    let block = Item::new(ItemKind::Block, "one");
    sender.submit(block).await.expect("taken");
    soon("the quick one's word", has(&quick)).await;
    assert!(!sender.is_flushed_to(slow.id()).await.expect("running"));
    assert!(!sender.is_flushed().await.expect("running"));
    let nobody = sender.id();
    assert!(!sender.is_flushed_to(nobody).await.expect("running"));
    drop(opens);
    soon("the slow one's word", has(&slow)).await;
}

#[tokio::test]
async fn who_has_received_blocks_waits_for_nobody_at_its_end() {
    let mut sender = Node::with(listening(TCP), Bitcoin).await;
    let mut receiver = Node::with(listening(TCP), Bitcoin).await;
    connect(&mut sender, &mut receiver).await;
    // It comes in chunks, being new.
    let block = Item::new(ItemKind::Block, block());
    sender.submit(block.clone()).await.expect("it is valid");
    assert!(receiver.item().await.0 == block);
    soon("the receiver's end", flushed(&receiver)).await;
    soon("the sender's end", flushed(&sender)).await;
    let mut receiver = Node::start(listening(TCP)).await;
    let mut sender = Node::start(listening(TCP)).await;
    connect(&mut sender, &mut receiver).await;
    let block = Item::new(ItemKind::Block, "a small one");
    sender.submit(block.clone()).await.expect("it is valid");
    assert!(receiver.item().await.0 == block);
    soon("the receiver's end", flushed(&receiver)).await;
    soon("the sender's end", flushed(&sender)).await;
}

#[tokio::test]
async fn who_waits_for_its_chain_to_check_votes_goes_on_sending() {
    let gate = Arc::new(Gate::default());
    let opens = Opens(Arc::clone(&gate));
    let mut config = listening(TCP);
    // Votes leave checks for its own transactions.
    config.protocol.validation.max_in_flight = 64;
    let mut slow = Node::with(config, Slow(gate, ItemKind::Vote)).await;
    let mut peer = Node::start(listening(TCP)).await;
    connect(&mut peer, &mut slow).await;
    // More than its lane is read ahead: what the peer acknowledges comes behind them.
    let votes = 40;
    for number in 0..votes {
        let vote = Item::new(ItemKind::Vote, vec![number; 32 << 10]);
        peer.submit(vote).await.expect("sent");
    }
    let count = 10_000;
    let sent = slow.broadcast_transactions(transactions(count));
    let sent = soon("the transactions' way", sent).await;
    assert!(sent.expect("sent").iter().all(Result::is_ok));
    let mut come = 0;
    while come < count {
        come += u32::from(peer.item().await.0.kind() == ItemKind::Transaction);
    }
    drop(opens);
    let mut checked = 0;
    while checked < votes {
        checked += u8::from(slow.item().await.0.kind() == ItemKind::Vote);
    }
    unblamed(&mut slow);
    unblamed(&mut peer);
}

#[tokio::test]
async fn large_blocks_of_many_peers_come_in_turns_and_nobody_pays() {
    let mut node = Node::start(listening(TCP)).await;
    let mut makers = Vec::new();
    // Together they are longer than the 12 MiB that all long frames of blocks may take up, and no more than that: each goes on to all others.
    for number in 0..4 {
        let mut maker = Node::start(listening(TCP)).await;
        connect(&mut maker, &mut node).await;
        let block = Item::new(ItemKind::Block, vec![number; 3_200_000]);
        maker.submit(block).await.expect("it is valid");
        makers.push(maker);
    }
    for _ in &makers {
        assert_eq!(node.item().await.0.kind(), ItemKind::Block);
    }
    unblamed(&mut node);
    makers.iter_mut().for_each(unblamed);
}

#[tokio::test]
async fn a_slow_chain_holds_its_peers_up_and_gets_all_of_their_votes() {
    let gate = Arc::new(Gate::default());
    let opens = Opens(Arc::clone(&gate));
    let mut node = Node::with(cramped(), Slow(gate, ItemKind::Vote)).await;
    let mut peers = Vec::new();
    for _ in 0..2 {
        let mut peer = Node::start(cramped()).await;
        connect(&mut peer, &mut node).await;
        peers.push(peer);
    }
    // More than the room of all: lanes have to wait.
    let votes = 700;
    for number in 0..votes {
        for (place, peer) in peers.iter().enumerate() {
            let mut data = format!("vote {number} of {place}").into_bytes();
            data.resize(1000, 7);
            peer.broadcast_message(NetworkMessage::ConsensusVote(Vote::new(data)))
                .await
                .expect("sent");
        }
    }
    drop(opens);
    for _ in 0..2 * votes {
        assert_eq!(node.item().await.0.kind(), ItemKind::Vote);
    }
    assert_eq!(node.message_metrics().items_turned_away, 0);
    for peer in &peers {
        let reputation = node.peer_metrics().peer_reputation;
        assert_eq!(reputation.get(&peer.id()), Some(&0.0));
    }
}

/// A chain whose checks of one kind wait at a gate.
struct Slow(Arc<Gate>, ItemKind);

#[derive(Default)]
struct Gate(Mutex<bool>, Condvar, AtomicUsize);

struct Opens(Arc<Gate>);

impl Drop for Opens {
    fn drop(&mut self) {
        if let Ok(mut open) = self.0.0.lock() {
            *open = true;
        }
        self.0.1.notify_all();
    }
}

impl Gate {
    fn pass(&self) {
        self.2.fetch_add(1, Ordering::SeqCst);
        let open = self.0.lock().expect("unpoisoned");
        drop(self.1.wait_while(open, |open| !*open));
    }
}

impl Slow {
    fn check(&self, kind: ItemKind, data: &Bytes) -> Checked {
        if self.1 == kind {
            self.0.pass();
        }
        if data.starts_with(b"bad") {
            return Checked::reject(data, "it begins with bad");
        }
        Checked::opaque(data)
    }
}

impl Application for Slow {
    fn check_transaction(&self, transaction: &Transaction) -> Checked {
        self.check(ItemKind::Transaction, &transaction.data)
    }

    fn check_block(&self, block: &Block) -> Checked {
        self.check(ItemKind::Block, &block.data)
    }

    fn check_vote(&self, vote: &Vote) -> Checked {
        self.check(ItemKind::Vote, &vote.data)
    }
}

/// Notes on which threads it is asked to keep what it has.
struct Archive(Arc<Mutex<Vec<ThreadId>>>);

impl Application for Archive {
    fn flush(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        self.0.lock().expect("whole").push(thread::current().id());
        ready(Ok(())).boxed()
    }
}
