//! Items and questions between nodes: broadcast, direct messages, verdicts, state.

use bytes::Bytes;
use selkie::{
    Application, Block, Config, Item, ItemKind, NetworkError, NetworkEvent, NetworkMessage,
    ProtocolError, StateRequest, StateResponse, Transaction, Vote,
};

use crate::support::*;

fn item(kind: ItemKind, text: &'static str) -> Item {
    Item::new(kind, text)
}

#[tokio::test]
async fn broadcast_reaches_everybody_and_is_delivered_to_the_chain() {
    let chain = TestChain::default();
    let delivered = std::sync::Arc::clone(&chain.delivered);
    let mut a = Node::start(listening(TCP)).await;
    let mut b = Node::with(listening(TCP), TestChain::default()).await;
    let mut c = Node::with(listening(TCP), chain).await;
    connect(&mut a, &mut b).await;
    connect(&mut c, &mut b).await;
    let items = [
        item(ItemKind::Vote, "aye"),
        item(ItemKind::Block, "block"),
        item(ItemKind::Transaction, "pay"),
    ];
    for sent in &items {
        a.broadcast_message(sent.clone().into())
            .await
            .expect("b listens");
        assert_eq!(a.item().await.2, None, "one's own is seen too");
        let (received, _, source) = c.item().await;
        assert_eq!(
            (&received, source),
            (sent, Some(b.id())),
            "it came by way of b"
        );
    }
    assert_eq!(*delivered.lock().expect("unpoisoned"), items);
}

#[tokio::test]
async fn an_invalid_item_stops_at_the_first_honest_node_and_costs_its_sender() {
    let mut forger = Node::start(listening(TCP)).await;
    let mut middle = Node::with(listening(TCP), TestChain::default()).await;
    let mut end = Node::with(listening(TCP), TestChain::default()).await;
    connect(&mut forger, &mut middle).await;
    connect(&mut end, &mut middle).await;
    forger
        .submit(item(ItemKind::Transaction, "old news"))
        .await
        .expect("sent");
    forger
        .submit(item(ItemKind::Transaction, "bad money"))
        .await
        .expect("sent");
    assert_eq!(
        middle.scored(forger.id()).await,
        ("it sent an item that the chain rejects", -10.0)
    );
    let refused = |event| match event {
        NetworkEvent::ItemRefused {
            kind: ItemKind::Transaction,
            reason,
            ..
        } => Some(reason),
        _ => None,
    };
    for reason in ["it begins with old", "it begins with bad"] {
        assert_eq!(middle.event("a refused item", refused).await, reason);
    }
    // It decays from then on.
    let score = middle.peer_metrics().peer_reputation[&forger.id()];
    assert!((-10.0..-9.9).contains(&score), "{score}");
    // What comes after reaches the end; what was refused did not come before it.
    forger
        .submit(item(ItemKind::Transaction, "good money"))
        .await
        .expect("sent");
    assert_eq!(
        end.item().await.0,
        item(ItemKind::Transaction, "good money")
    );
    assert!(
        end.peer_metrics()
            .peer_reputation
            .values()
            .all(|score| *score == 0.0),
        "the middle does not pay"
    );
}

#[tokio::test]
async fn own_items_are_checked_before_they_are_sent() {
    let node = Node::with(listening(TCP), TestChain::default()).await;
    let submit = async |text| {
        node.submit(item(ItemKind::Block, text))
            .await
            .expect_err("not sent")
    };
    assert_eq!(
        submit("bad").await.to_string(),
        "the chain rejects this block: it begins with bad"
    );
    assert_eq!(submit("old").await.code(), "ignored");
    assert!(matches!(submit("good").await, NetworkError::NoPeers { .. }));
    let giant = Item::Vote(Vote::new(vec![1; 5 << 20]));
    assert_eq!(
        node.submit(giant).await.expect_err("too large").code(),
        "too-large"
    );
    let question = NetworkMessage::StateRequest(StateRequest::default());
    assert_eq!(
        node.broadcast_message(question)
            .await
            .expect_err("for one peer")
            .code(),
        "not-broadcastable"
    );
}

#[tokio::test]
async fn a_direct_item_is_checked_and_gossiped_on() {
    let mut a = Node::start(listening(TCP)).await;
    let mut b = Node::with(listening(TCP), TestChain::default()).await;
    let mut c = Node::start(listening(TCP)).await;
    connect(&mut a, &mut b).await;
    connect(&mut c, &mut b).await;
    let pay = NetworkMessage::Transaction(Transaction::new("pay"));
    a.send_message(b.id(), pay).await.expect("taken");
    assert_eq!(b.item().await.2, Some(a.id()));
    assert_eq!(c.item().await.2, Some(b.id()));
    let bad = NetworkMessage::Block(Block::new("bad block"));
    a.send_message(b.id(), bad)
        .await
        .expect("taken, which is no verdict");
    assert_eq!(b.scored(a.id()).await.1, -10.0);
}

#[tokio::test]
async fn items_that_came_by_other_means_are_handled_alike() {
    let mut a = Node::with(listening(TCP), TestChain::default()).await;
    let mut b = Node::start(listening(TCP)).await;
    connect(&mut b, &mut a).await;
    a.handle_block(Block::new("block"), b.id())
        .await
        .expect("valid");
    assert_eq!(a.item().await.2, Some(b.id()));
    assert_eq!(b.item().await.2, Some(a.id()), "it went on by gossip");
    let again = a.handle_block(Block::new("block"), b.id()).await;
    assert!(matches!(again, Err(ProtocolError::Duplicate)), "{again:?}");
    let old = a.handle_transaction(Transaction::new("old"), b.id()).await;
    assert!(matches!(old, Err(ProtocolError::Ignored { .. })), "{old:?}");
    let bad = a.handle_transaction(Transaction::new("bad"), b.id()).await;
    assert!(
        matches!(bad, Err(ProtocolError::Rejected { .. })),
        "{bad:?}"
    );
    assert_eq!(a.scored(b.id()).await.1, -10.0);
}

#[tokio::test]
async fn state_is_asked_of_a_peer() {
    let mut asker = Node::start(Config::default()).await;
    let mut chain = Node::with(listening(TCP), TestChain::default()).await;
    connect(&mut asker, &mut chain).await;
    let ask = |key: &'static str, height| {
        asker.request_state(
            chain.id(),
            StateRequest {
                key: key.into(),
                height,
            },
        )
    };
    let answer = ask("ann", None).await.expect("served");
    assert_eq!(
        (answer.height, &answer.value[..], &answer.proof[..]),
        (7, &b"ann"[..], &b"because"[..])
    );
    assert_eq!(
        ask("ann", Some(u64::MAX)).await.expect("served").height,
        u64::MAX
    );
    assert_eq!(
        ask("secret", None)
            .await
            .expect_err("not served")
            .to_string(),
        "the peer refused: this node serves no such state"
    );
    let long = StateRequest {
        key: vec![0; 2000].into(),
        height: None,
    };
    let refused = asker
        .request_state(chain.id(), long)
        .await
        .expect_err("over the limit");
    assert_eq!(refused.code(), "too-large");
    assert!(
        refused.to_string().contains("state_request.key"),
        "{refused}"
    );
    let score = chain.peer_metrics().peer_reputation;
    assert_eq!(score.get(&asker.id()), Some(&0.0), "it was not sent");
    // The default application serves none; nobody is asked who is not connected.
    assert_eq!(
        chain
            .request_state(asker.id(), StateRequest::default())
            .await
            .expect_err("none")
            .code(),
        "refused"
    );
    let stranger = selkie::PeerId::random();
    let unknown = asker
        .request_state(stranger, StateRequest::default())
        .await
        .expect_err("not there");
    assert!(
        unknown
            .to_string()
            .contains("is not connected; dial it first"),
        "{unknown}"
    );
}

#[tokio::test]
async fn peers_tell_each_other_of_peers() {
    let mut a = Node::start(listening(TCP)).await;
    let mut b = Node::start(listening(TCP)).await;
    let told = vec![selkie::PeerInfo {
        addresses: vec!["/ip4/1.2.3.4/tcp/30303".parse().expect("an address")],
        ..selkie::PeerInfo::new(selkie::PeerId::random())
    }];
    let alone = a
        .broadcast_message(NetworkMessage::PeerExchange(told.clone()))
        .await;
    assert!(
        matches!(alone, Err(NetworkError::NoPeers { .. })),
        "{alone:?}"
    );
    connect(&mut a, &mut b).await;
    a.broadcast_message(NetworkMessage::PeerExchange(told.clone()))
        .await
        .expect("b takes it");
    let heard = b.event("discovered peers", |event| match event {
        NetworkEvent::PeersDiscovered(peers) => Some(peers),
        _ => None,
    });
    assert_eq!(heard.await, told);
}

#[tokio::test]
async fn a_dial_ends_when_the_peer_hears_what_is_published() {
    for _ in 0..20 {
        let mut listener = Node::start(listening("/memory/0")).await;
        let dialler = Node::start(Config::default()).await;
        dialler.dial(listener.address()).await.expect("it is there");
        dialler
            .submit(item(ItemKind::Vote, "aye"))
            .await
            .expect("nothing to wait for");
        assert_eq!(listener.item().await.2, Some(dialler.id()));
    }
}

/// A chain whose state is as large as the key says, in MiB.
struct Large;

impl Application for Large {
    fn query(&self, request: &StateRequest) -> Option<StateResponse> {
        let mib = usize::from(*request.key.first()?);
        Some(StateResponse {
            height: 1,
            value: vec![7; mib << 20].into(),
            proof: Bytes::new(),
        })
    }
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_refused_and_costs_nobody() {
    let mut asker = Node::start(Config::default()).await;
    let mut chain = Node::with(listening(TCP), Large).await;
    connect(&mut asker, &mut chain).await;
    let ask = |mib: u8| {
        let key = vec![mib].into();
        asker.request_state(chain.id(), StateRequest { key, height: None })
    };
    for _ in 0..3 {
        let refused = ask(5).await.expect_err("too large");
        assert_eq!(refused.code(), "refused");
        assert!(refused.to_string().contains("bytes, over the limit of"));
    }
    assert_eq!(ask(1).await.expect("served").value.len(), 1 << 20);
    let score = asker.peer_metrics().peer_reputation;
    assert_eq!(score.get(&chain.id()), Some(&0.0));
}

#[tokio::test]
async fn many_messages_at_once_to_one_peer_take_turns() {
    let mut a = Node::start(Config::default()).await;
    let mut b = Node::start(listening(TCP)).await;
    connect(&mut a, &mut b).await;
    let both = async |number: u32| {
        let message = |from| {
            let vote = Vote::new(format!("{from} {number}"));
            NetworkMessage::ConsensusVote(vote)
        };
        let (there, back) = futures::join!(
            a.send_message(b.id(), message("a")),
            b.send_message(a.id(), message("b"))
        );
        there.expect("taken");
        back.expect("taken");
    };
    futures::future::join_all((0..64).map(both)).await;
    for (node, peer) in [(&a, &b), (&b, &a)] {
        let score = node.peer_metrics().peer_reputation;
        assert_eq!(score.get(&peer.id()), Some(&0.0));
    }
}

#[tokio::test]
async fn a_busy_peer_pays_for_no_stream_that_it_ends() {
    let mut a = Node::start(Config::default()).await;
    let mut few = listening(TCP);
    few.protocol.request_response_config.max_concurrent_streams = 2;
    let mut b = Node::with(few, TestChain::default()).await;
    connect(&mut a, &mut b).await;
    let ask = |number: u32| {
        let key = format!("ann {number}").into();
        a.request_state(b.id(), StateRequest { key, height: None })
    };
    let answers = futures::future::join_all((0..50).map(ask)).await;
    for answer in answers {
        let code = answer.map_or_else(|error| error.code(), |_| "answered");
        assert!(["answered", "broken", "refused"].contains(&code), "{code}");
    }
    ask(50).await.expect("it has time again");
    let score = a.peer_metrics().peer_reputation;
    assert_eq!(score.get(&b.id()), Some(&0.0));
}
