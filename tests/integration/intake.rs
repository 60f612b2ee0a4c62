//! The one door for items: the same limits by every way, each item delivered once, and an Ok is true.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use selkie::{
    Application, Config, Item, ItemKind, NetworkMessage, ProtocolError, Transaction, Vote,
    chain::TransactionKey,
};

use crate::{
    raw_peer::{RawPeer, framed},
    support::*,
};

#[tokio::test]
async fn a_hundred_thousand_transactions_at_once_all_arrive() {
    let (count, chain) = (100_000, TestChain::default());
    let delivered = Arc::clone(&chain.delivered);
    let mut config = listening(TCP);
    config.protocol.validation.max_unread_bytes = 1 << 30;
    let mut sender = Node::with(config.clone(), chain).await;
    let mut peer = Node::start(config).await;
    connect(&mut sender, &mut peer).await;
    let sending = sender.manager.clone();
    let sent =
        tokio::spawn(async move { sending.broadcast_transactions(transactions(count)).await });
    for _ in 0..count {
        peer.item().await;
    }
    let outcomes = soon("the answer", sent).await.expect("no panic");
    let outcomes = outcomes.expect("there is a peer");
    assert_eq!(outcomes.len(), count as usize);
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(delivered.lock().expect("unpoisoned").len(), count as usize);
}

#[tokio::test]
async fn a_call_that_is_dropped_leaves_what_it_sent_sent_and_delivered() {
    let chain = TestChain::default();
    let delivered = Arc::clone(&chain.delivered);
    let mut sender = Node::with(listening(TCP), chain).await;
    let mut peer = Node::start(listening(TCP)).await;
    connect(&mut sender, &mut peer).await;
    {
        let mut call = std::pin::pin!(sender.manager.broadcast_transactions(transactions(20_000)));
        let first = peer.item();
        tokio::select! {
            _ = &mut call => {}
            _ = first => {}
        }
    }
    // The last of what was taken is followed by one more, which arrives after it.
    sender
        .submit(Item::new(ItemKind::Vote, "aye"))
        .await
        .expect("sent");
    let last = Item::new(ItemKind::Transaction, "the last one");
    sender.submit(last.clone()).await.expect("sent");
    let mut received = 1;
    loop {
        match peer.item().await.0 {
            item if item == last => break,
            Item::Transaction(_) => received += 1,
            _ => {}
        }
    }
    let count = || {
        let delivered = delivered.lock().expect("unpoisoned");
        let counts = |item: &&Item| item.kind() == ItemKind::Transaction && **item != last;
        delivered.iter().filter(counts).count()
    };
    // Checks of batches may end in another order than they began.
    while received < count() {
        if let Item::Transaction(_) = peer.item().await.0 {
            received += 1;
        }
    }
    assert_eq!(count(), received, "what was delivered here was sent");
}

#[tokio::test]
async fn votes_over_the_limit_are_refused_where_they_are_made_and_nobody_pays() {
    let mut config = listening(TCP);
    config.protocol.propagation.votes.push_peers = 0;
    let (mut a, mut b) = (Node::start(config.clone()).await, Node::start(config).await);
    connect(&mut a, &mut b).await;
    for number in 0..6 {
        let vote = Vote::new(vec![number; 70 << 10]);
        let refused = a
            .submit(Item::Vote(vote.clone()))
            .await
            .expect_err("too large");
        assert_eq!(refused.code(), "too-large");
        assert!(refused.to_string().contains("votes.max_item"), "{refused}");
        let refused = a
            .send_message(b.id(), NetworkMessage::ConsensusVote(vote))
            .await;
        assert_eq!(refused.expect_err("too large").code(), "too-large");
    }
    let large = Item::new(ItemKind::Vote, vec![7; 64 << 10]);
    a.submit(large.clone())
        .await
        .expect("the largest there may be");
    assert_eq!(b.item().await.0, large);
    for (node, other) in [(&a, b.id()), (&b, a.id())] {
        let reputation = node.peer_metrics().peer_reputation;
        assert_eq!(reputation.get(&other), Some(&0.0));
    }
}

#[tokio::test]
async fn nodes_whose_limits_differ_tell_each_other_and_part() {
    let mut config = Config::default();
    config.protocol.propagation.votes.max_item = 128 << 10;
    let a = Node::start(config).await;
    let mut b = Node::start(listening(TCP)).await;
    let refused = soon("the dial", a.dial(b.address())).await;
    let refused = refused.expect_err("its limits differ").to_string();
    assert!(refused.contains("votes.max_item"), "{refused}");
    let refused = b.refused(a.id()).await;
    assert!(
        refused.contains("limit of 65536 bytes, not 131072"),
        "{refused}"
    );
}

/// A direct message with a transaction: field 2 of docs/wire.md.
fn message(transaction: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x12, u8::try_from(transaction.len()).expect("short")];
    bytes.extend(transaction);
    framed(&bytes)
}

#[tokio::test]
async fn what_was_here_is_not_delivered_again_whichever_way_it_comes() {
    let chain = TestChain::default();
    let delivered = Arc::clone(&chain.delivered);
    let mut node = Node::with(listening(TCP), chain).await;
    let mut peer = Node::start(listening(TCP)).await;
    connect(&mut peer, &mut node).await;
    let pay = Item::new(ItemKind::Transaction, "pay");
    peer.submit(pay.clone()).await.expect("sent");
    assert_eq!(node.item().await.0, pay);
    // A block has confirmed it: it is in no pool any more.
    let key = selkie::chain::TransactionKey::of(b"pay");
    node.remove_transactions(vec![key]).await.expect("it runs");
    // Directly and handed over.
    let mut hostile = RawPeer::hostile().await;
    hostile.join(&node).await;
    hostile.message(node.id(), message(b"pay"));
    hostile.answer().await.expect("taken");
    let again = node
        .handle_transaction(Transaction::new("pay"), peer.id())
        .await;
    assert!(matches!(again, Err(ProtocolError::Duplicate)), "{again:?}");
    // Our own.
    assert_eq!(
        node.submit(pay.clone()).await.expect_err("known").code(),
        "duplicate"
    );
    let block = Item::new(ItemKind::Block, "a block");
    node.submit(block.clone()).await.expect("sent");
    assert_eq!(
        node.submit(block.clone()).await.expect_err("known").code(),
        "duplicate"
    );
    // By gossip.
    let mut plain = RawPeer::plain().await;
    for kind in ["transaction", "block"] {
        plain.subscribe(format!("/selkie/selkie-dev/{kind}/1"));
    }
    plain.dial(node.address());
    // In the order in which the node joins them.
    for kind in ["block", "transaction"] {
        plain
            .subscribed(&format!("/selkie/selkie-dev/{kind}/1"))
            .await;
    }
    plain.publish("/selkie/selkie-dev/transaction/1", "pay");
    plain.publish("/selkie/selkie-dev/block/1", "a block");
    plain.publish("/selkie/selkie-dev/transaction/1", "something new");
    let new = Item::new(ItemKind::Transaction, "something new");
    while node.item().await.0 != new {}
    let delivered = delivered.lock().expect("unpoisoned");
    for item in [pay, block, new] {
        let count = delivered.iter().filter(|one| **one == item).count();
        assert_eq!(count, 1, "{item:?}");
    }
}

#[tokio::test]
async fn our_own_items_are_delivered_here_too_and_once() {
    let chain = TestChain::default();
    let delivered = Arc::clone(&chain.delivered);
    let mut a = Node::with(listening(TCP), chain).await;
    let mut b = Node::start(listening(TCP)).await;
    connect(&mut a, &mut b).await;
    let mut items = Vec::new();
    for kind in ItemKind::ALL {
        let item = Item::new(kind, "ours");
        // Two at the same moment: one is the copy.
        let both = futures::join!(a.submit(item.clone()), a.submit(item.clone()));
        assert_eq!(u8::from(both.0.is_ok()) + u8::from(both.1.is_ok()), 1);
        items.push(item);
    }
    assert_eq!(*delivered.lock().expect("unpoisoned"), items);
}

/// A node whose pool is small, and a peer of it whose pool is not.
async fn beside_a_small_pool() -> (Node, Node) {
    let mut config = listening(TCP);
    config.protocol.propagation.transactions.max_item = 1024;
    let mut peer = Node::start(config.clone()).await;
    config.protocol.propagation.mempool.max_bytes = 64 << 10;
    let mut node = Node::start(config).await;
    connect(&mut peer, &mut node).await;
    (peer, node)
}

#[tokio::test]
async fn who_was_crowded_out_comes_back_when_the_flood_is_confirmed() {
    let (peer, mut node) = beside_a_small_pool().await;
    let honest = Transaction::new("honest");
    let flood = transactions(1000);
    peer.submit(Item::Transaction(honest.clone()))
        .await
        .expect("sent");
    let mut arrive = async |count| {
        for _ in 0..count {
            node.item().await;
        }
    };
    arrive(1).await;
    let keys: Vec<_> = flood
        .iter()
        .map(|one| TransactionKey::of(&one.data))
        .collect();
    let sent = peer.broadcast_transactions(flood).await.expect("sent");
    assert!(sent.iter().all(Result::is_ok));
    arrive(1000).await;
    // A copy that comes now is known, and not checked again.
    let again = node.handle_transaction(honest.clone(), peer.id()).await;
    assert!(matches!(again, Err(ProtocolError::Duplicate)), "{again:?}");
    node.remove_transactions(keys).await.expect("it runs");
    peer.send_message(node.id(), NetworkMessage::Transaction(honest.clone()))
        .await
        .expect("taken");
    let (item, _, source) = node.item().await;
    assert_eq!(item, Item::Transaction(honest));
    assert_eq!(source, Some(peer.id()));
}

#[tokio::test]
async fn a_maker_hands_in_again_what_was_crowded_out() {
    let (_peer, node) = beside_a_small_pool().await;
    let own = Transaction::new("mine");
    let own = Item::Transaction(own);
    node.submit(own.clone()).await.expect("sent");
    let sent = node.broadcast_transactions(transactions(1000)).await;
    assert!(sent.expect("sent").iter().all(Result::is_ok));
    node.submit(own.clone()).await.expect("taken again");
    let again = node.submit(own).await.expect_err("it is here");
    assert_eq!(again.code(), "duplicate");
}

#[tokio::test]
async fn what_was_accepted_arrives_though_the_node_ends_at_once() {
    for kind in ItemKind::ALL {
        for round in 0..5_u8 {
            let sender = Node::start(listening(TCP)).await;
            let mut peer = Node::start(listening(TCP)).await;
            soon("the dial", sender.dial(peer.address()))
                .await
                .expect("it is there");
            let item = Item::new(kind, vec![round; 60_000]);
            sender.submit(item.clone()).await.expect("sent");
            soon("the end", sender.shutdown()).await;
            assert_eq!(peer.item().await.0, item, "{kind} {round}");
        }
    }
}

/// Its first delivery fails.
#[derive(Default)]
struct FailsOnce(Arc<AtomicUsize>);

impl Application for FailsOnce {
    fn deliver(&self, _: &Item) {
        let before = self.0.fetch_add(1, Ordering::SeqCst);
        assert!(before > 0, "the disk is full");
    }
}

#[tokio::test]
async fn a_block_whose_delivery_failed_is_delivered_when_it_comes_again() {
    let chain = FailsOnce::default();
    let deliveries = Arc::clone(&chain.0);
    let mut node = Node::with(listening(TCP), chain).await;
    let mut peer = Node::start(listening(TCP)).await;
    connect(&mut peer, &mut node).await;
    let block = Item::new(ItemKind::Block, "block");
    node.submit(block.clone()).await.expect_err("it fails");
    node.submit(block.clone()).await.expect("it is new");
    assert_eq!(deliveries.load(Ordering::SeqCst), 2);
    assert_eq!(peer.item().await.0, block);
}
