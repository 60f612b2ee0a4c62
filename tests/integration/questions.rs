//! What a chain is asked about its state, and chains that fail: questions are bounded, those who read no answers give way, and a panic
//! holds nothing up.

use std::{
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use bytes::Bytes;
use selkie::{
    Application, Block, Checked, Item, ItemKind, NetworkEvent, NetworkMessage, ProtocolError,
    StateRequest, StateResponse, Transaction,
};

use crate::{
    raw_peer::{RawPeer, framed},
    support::*,
};

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
