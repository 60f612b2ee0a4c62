//! The one door for items: the same limits by every way, each item delivered once, and an Ok is true.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use bytes::Bytes;
use selkie::{
    Application, Block, Checked, Config, Item, ItemKind, NetworkEvent, NetworkMessage,
    ProtocolError, StateRequest, StateResponse, Transaction, Vote,
    chain::{TransactionKey, bitcoin::Bitcoin},
};

use crate::{
    raw_peer::{RawPeer, framed},
    support::*,
};

fn transactions(count: u32) -> Vec<Transaction> {
    let transaction = |number: u32| {
        let mut data = number.to_le_bytes().to_vec();
        data.resize(250, 7);
        Transaction::new(data)
    };
    (0..count).map(transaction).collect()
}

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

/// A chain that panics over what begins with `panic`, and answers a question when it is told to.
struct Fragile {
    asked: Sender<()>,
    answer: Mutex<Receiver<()>>,
}

impl Fragile {
    fn new() -> (Self, Receiver<()>, Sender<()>) {
        let ((asked, questions), (go, answer)) = (channel(), channel());
        let answer = Mutex::new(answer);
        (Self { asked, answer }, questions, go)
    }
}

fn sound(data: &Bytes) -> Checked {
    assert!(!data.starts_with(b"panic"), "this chain is fragile");
    Checked::opaque(data)
}

impl Application for Fragile {
    fn check_transaction(&self, transaction: &Transaction) -> Checked {
        sound(&transaction.data)
    }

    fn check_block(&self, block: &Block) -> Checked {
        sound(&block.data)
    }

    fn deliver(&self, item: &Item) {
        assert!(
            !item.data().starts_with(b"late panic"),
            "this chain is fragile"
        );
    }

    fn query(&self, request: &StateRequest) -> Option<StateResponse> {
        assert_ne!(request.key, "panic", "this chain is fragile");
        self.asked.send(()).ok()?;
        self.answer.lock().ok()?.recv().ok()?;
        Some(StateResponse {
            height: 1,
            value: request.key.clone(),
            proof: Bytes::new(),
        })
    }
}

#[tokio::test]
async fn a_chain_that_panics_ignores_the_item_and_holds_nothing_up() {
    let (chain, _questions, _go) = Fragile::new();
    let mut node = Node::with(listening(TCP), chain).await;
    let mut peer = Node::start(listening(TCP)).await;
    connect(&mut peer, &mut node).await;
    // More than may be checked at once.
    for number in 0..10 {
        for text in ["panic", "late panic"] {
            let transaction = Transaction::new(format!("{text} {number}"));
            let ignored = node.handle_transaction(transaction, peer.id()).await;
            assert!(
                matches!(ignored, Err(ProtocolError::Ignored { .. })),
                "{ignored:?}"
            );
        }
        let block = Block::new(format!("panic {number}"));
        let ignored = node.handle_block(block, peer.id()).await;
        assert!(
            matches!(ignored, Err(ProtocolError::Ignored { .. })),
            "{ignored:?}"
        );
        peer.submit(Item::new(ItemKind::Transaction, format!("panic {number}")))
            .await
            .expect("sent");
    }
    let request = StateRequest {
        key: "panic".into(),
        height: None,
    };
    let refused = peer.request_state(node.id(), request).await;
    assert_eq!(refused.expect_err("it failed").code(), "refused");
    let fine = Item::new(ItemKind::Transaction, "fine");
    peer.submit(fine.clone()).await.expect("sent");
    assert_eq!(node.item().await.0, fine);
    assert_eq!(
        node.peer_metrics().peer_reputation.get(&peer.id()),
        Some(&0.0),
        "nobody pays for it"
    );
    let reason = node
        .event("a refused item", |event| match event {
            NetworkEvent::ItemRefused { reason, .. } => Some(reason),
            _ => None,
        })
        .await;
    assert!(reason.contains("failed"), "{reason}");
}

#[tokio::test]
async fn questions_about_state_are_bounded_and_hold_up_no_item() {
    let (chain, questions, go) = Fragile::new();
    let mut config = listening(TCP);
    config.protocol.validation.max_queries_in_flight = 1;
    config.protocol.validation.queries.per_peer = 3;
    let mut node = Node::with(config, chain).await;
    let mut peer = Node::start(listening(TCP)).await;
    connect(&mut peer, &mut node).await;
    let ask = |key: &'static str| {
        let (asker, node) = (peer.manager.clone(), node.id());
        tokio::spawn(async move {
            let request = StateRequest {
                key: key.into(),
                height: None,
            };
            asker.request_state(node, request).await
        })
    };
    let asked: Vec<_> = ["a", "b", "c", "d"].into_iter().map(ask).collect();
    let begun = tokio::task::spawn_blocking(move || {
        let begun = questions.recv_timeout(Duration::from_secs(30));
        (begun, questions)
    });
    let (begun, _questions) = begun.await.expect("no panic");
    begun.expect("one is being answered");
    // Items go on meanwhile.
    let fine = Item::new(ItemKind::Transaction, "fine");
    peer.submit(fine.clone()).await.expect("sent");
    assert_eq!(node.item().await.0, fine);
    for _ in 0..3 {
        go.send(()).expect("it waits");
    }
    let (mut answered, mut refused) = (0, Vec::new());
    for answer in asked {
        match soon("an answer", answer).await.expect("no panic") {
            Ok(_) => answered += 1,
            Err(error) => refused.push(error.to_string()),
        }
    }
    assert_eq!((answered, refused.len()), (3, 1), "{refused:?}");
    assert!(
        refused[0].contains("too many questions about state"),
        "{refused:?}"
    );
}

/// A chain with much to say of its state, which notes who was answered.
#[derive(Clone, Default)]
struct Talkative(Arc<Mutex<Vec<Bytes>>>);

impl Application for Talkative {
    fn query(&self, request: &StateRequest) -> Option<StateResponse> {
        self.0.lock().ok()?.push(request.key.clone());
        Some(StateResponse {
            height: 1,
            value: request.key.clone(),
            proof: vec![7; 1 << 20].into(),
        })
    }
}

#[tokio::test]
async fn who_reads_no_answers_about_state_gets_few_and_others_get_theirs() {
    let chain = Talkative::default();
    let mut config = listening(TCP);
    let messages = &mut config.protocol.request_response_config;
    // Room for one of the longest.
    messages.max_connection_bytes = messages.max_message_size;
    let mut node = Node::with(config, chain.clone()).await;
    let mut deaf = RawPeer::hostile().await;
    deaf.join(&node).await;
    node.connected(deaf.id).await;
    let ask = |key: &'static str| StateRequest {
        key: key.into(),
        height: None,
    };
    for _ in 0..8 {
        let question = NetworkMessage::StateRequest(ask("deaf")).encode();
        deaf.deaf_message(node.id(), framed(&question));
    }
    let mut peer = Node::start(listening(TCP)).await;
    connect(&mut peer, &mut node).await;
    for _ in 0..4 {
        let answer = peer.request_state(node.id(), ask("peer")).await;
        assert_eq!(answer.expect("an answer").value, "peer");
    }
    let answered = chain.0.lock().expect("no panic").clone();
    let to_deaf = answered.iter().filter(|key| key[..] == b"deaf"[..]).count();
    assert_eq!((to_deaf, answered.len()), (1, 5), "{answered:?}");
}

/// A chain whose state is as long as an answer may be.
struct Longest;

impl Application for Longest {
    fn query(&self, request: &StateRequest) -> Option<StateResponse> {
        Some(StateResponse {
            height: 1,
            value: request.key.clone(),
            proof: vec![7; 4 << 20].into(),
        })
    }
}

#[tokio::test]
async fn a_crowd_that_reads_no_answers_about_state_gives_way() {
    let mut config = listening(TCP);
    // So that only who gives way makes room.
    config.protocol.request_response_config.request_timeout = Duration::from_secs(600);
    let mut node = Node::with(config, Longest).await;
    let ask = |key: &'static str| StateRequest {
        key: key.into(),
        height: None,
    };
    let mut crowd = Vec::new();
    for _ in 0..9 {
        let mut deaf = RawPeer::hostile().await;
        deaf.join(&node).await;
        node.connected(deaf.id).await;
        for _ in 0..2 {
            let question = NetworkMessage::StateRequest(ask("deaf")).encode();
            deaf.deaf_message(node.id(), framed(&question));
        }
        crowd.push(deaf);
    }
    let mut peer = Node::start(listening(TCP)).await;
    connect(&mut peer, &mut node).await;
    let answers = (0..4).map(|_| peer.request_state(node.id(), ask("peer")));
    let answers = soon("answers", futures::future::join_all(answers)).await;
    for answer in answers {
        assert_eq!(answer.expect("an answer").value, "peer");
    }
}

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
struct Gate(Mutex<bool>, std::sync::Condvar, AtomicUsize);

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
