//! Peers that write what no honest one writes: each gets a refusal or an end, a score, and nobody panics.

use std::sync::atomic::Ordering::Relaxed;

use libp2p::{request_response as rr, swarm::SwarmEvent};
use selkie::{
    Config, Item, ItemKind, NetworkMessage, ProtocolError, StateRequest, Transaction, Vote,
};

use crate::{
    raw_peer::{Counted, RawEvent, RawPeer, framed, good_hello},
    support::*,
};

/// A node still serves: a well-behaved peer connects and is heard.
async fn still_serves(mut node: Node) {
    let mut friend = Node::start(Config::default()).await;
    connect(&mut friend, &mut node).await;
    friend
        .submit(Item::new(ItemKind::Vote, "aye"))
        .await
        .expect("sent");
    assert_eq!(node.item().await.2, Some(friend.id()));
}

/// Which of the broken frames is cut short.
const CUT_SHORT: usize = 2;

/// Five bytes that promise 4 GiB, a frame just over the limit, one cut short, and one that is no protobuf.
fn broken_frames(limit: usize) -> [(Vec<u8>, &'static str); 4] {
    let mut over = Vec::new();
    prost::encode_length_delimiter(limit + 1, &mut over).expect("vectors grow");
    [
        (
            vec![0xff, 0xff, 0xff, 0xff, 0x0f],
            "a frame of 4294967295 bytes is over the limit",
        ),
        (over, "is over the limit"),
        (vec![100, 1, 2, 3], "ended in the middle of a message"),
        (framed(&[0xff; 20]), "rotobuf"),
    ]
}

#[tokio::test]
async fn broken_hellos_end_the_connection_at_once() {
    let mut node = Node::start(listening(TCP)).await;
    for (frame, words) in broken_frames(1024) {
        let mut peer = RawPeer::hostile().await;
        peer.dial(node.address());
        peer.connected().await;
        peer.hello(node.id(), frame);
        let answer = peer.answer().await.expect("it is told why");
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.contains(words) && answer.contains("see docs/wire.md"),
            "{answer}"
        );
        assert_eq!(
            node.scored(peer.id).await,
            ("it sent an invalid message", -10.0)
        );
        let reason = node.refused(peer.id).await;
        assert!(
            reason.starts_with("its hello breaks the rules: ") && reason.contains(words),
            "{reason}"
        );
        peer.disconnected().await;
    }
    still_serves(node).await;
}

#[tokio::test]
async fn broken_answers_to_a_hello_fail_the_dial() {
    let mut node = Node::start(Config::default()).await;
    for (frame, _) in broken_frames(1024) {
        let mut peer = RawPeer::hostile().await;
        let address = peer.address.clone();
        let (dialled, ()) = futures::join!(soon("the dial", node.dial(address)), async {
            let (_, channel) = peer.request().await;
            peer.respond(channel, frame);
        });
        let reason = dialled.expect_err("no hello").to_string();
        assert!(reason.contains("hello"), "{reason}");
        assert_eq!(
            node.scored(peer.id).await,
            ("it sent an invalid message", -10.0)
        );
        peer.disconnected().await;
    }
}

#[tokio::test]
async fn who_never_answers_the_hello_is_let_go() {
    let mut config = Config::default();
    config.network.connection_timeout = std::time::Duration::from_millis(300);
    let mut node = Node::start(config).await;
    let mut peer = RawPeer::hostile().await;
    let address = peer.address.clone();
    let (dialled, _held) = futures::join!(soon("the dial", node.dial(address)), peer.request());
    let reason = dialled.expect_err("silence").to_string();
    assert!(reason.contains("hello"), "{reason}");
    assert_eq!(
        node.scored(peer.id).await,
        ("it did not answer in time", -2.0)
    );
    peer.disconnected().await;
}

#[tokio::test]
async fn who_never_says_hello_is_let_go() {
    let mut config = listening(TCP);
    config.network.connection_timeout = std::time::Duration::from_millis(300);
    let mut node = Node::start(config).await;
    let mut peer = RawPeer::hostile().await;
    peer.dial(node.address());
    assert_eq!(node.scored(peer.id).await.0, "it did not answer in time");
    assert_eq!(node.refused(peer.id).await, "it did not say hello in time");
    peer.disconnected().await;
}

#[tokio::test]
async fn who_changes_its_mind_about_its_network_is_gone_for_good() {
    let mut node = Node::start(listening(TCP)).await;
    let mut peer = RawPeer::hostile().await;
    peer.join(&node).await;
    node.connected(peer.id).await;
    peer.hello(node.id(), framed(&[&[0x0a, 5][..], b"other"].concat()));
    let answer = peer.answer().await.expect("it is told why");
    assert!(
        String::from_utf8_lossy(&answer).contains("this is network \"selkie-dev\", not \"other\"")
    );
    let reason = node.disconnected(peer.id).await;
    assert!(reason.contains("not \"other\""), "{reason}");
    assert!(node.get_connected_peers().is_empty(), "no ghost stays");
}

#[tokio::test]
async fn broken_messages_cost_and_are_refused() {
    let mut config = listening(TCP);
    let limit = config.protocol.request_response_config.max_message_size;
    // Room for all of them.
    config.security.peer_scoring.disconnect_at = -1000.0;
    config.security.peer_scoring.ban_at = -2000.0;
    let mut node = Node::start(config).await;
    let mut peer = RawPeer::hostile().await;
    peer.join(&node).await;
    node.connected(peer.id).await;
    for (number, (frame, words)) in broken_frames(limit).into_iter().enumerate() {
        peer.message(node.id(), frame);
        let answer = peer.answer().await.expect("it is told why");
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.contains(words), "{answer}");
        if number != CUT_SHORT {
            assert_eq!(node.scored(peer.id).await.0, "it sent an invalid message");
        }
    }
    peer.message(node.id(), framed(&[]));
    let answer = peer.answer().await.expect("it is told why");
    assert!(String::from_utf8_lossy(&answer).contains("a message of no known kind"));
    assert_eq!(
        node.peer_metrics().peer_reputation.len(),
        1,
        "it is here still"
    );
    still_serves(node).await;
}

#[tokio::test]
async fn to_be_cut_short_is_no_misdeed_but_to_be_so_without_end() {
    let mut config = listening(TCP);
    config.security.rate_limits.messages_per_second = 1;
    config.security.rate_limits.burst = 5;
    let mut node = Node::start(config).await;
    let mut peer = RawPeer::hostile().await;
    peer.join(&node).await;
    node.connected(peer.id).await;
    for _ in 0..3 {
        peer.message(node.id(), vec![100, 1, 2, 3]);
        peer.answer().await.expect("it is told");
    }
    unblamed(&mut node);
    for _ in 0..10 {
        peer.message(node.id(), vec![100, 1, 2, 3]);
    }
    let told = ("it sends more often than it may", -1.0);
    assert_eq!(node.scored(peer.id).await, told);
}

#[tokio::test]
async fn who_writes_much_before_its_hello_is_stopped_at_once() {
    let node = Node::start(listening(TCP)).await;
    let mut peer = RawPeer::hostile().await;
    peer.dial(node.address());
    peer.connected().await;
    peer.message(node.id(), framed(&vec![0; 4 << 20]));
    // It writes more than its stream's window, so that its own codec comes to no answer.
    let stopped = peer.event("the end", |event| match event {
        SwarmEvent::Behaviour(RawEvent::Message(rr::Event::OutboundFailure { error, .. })) => {
            Some(matches!(error, rr::OutboundFailure::Io(_)))
        }
        _ => None,
    });
    assert!(stopped.await, "it waits for its own time to be over");
}

/// Messages whose turn does not come stand unread in their streams' windows.
#[tokio::test]
async fn what_many_peers_leave_unread_has_one_room_and_who_stands_there_pays_nothing() {
    const PEERS: usize = 10;
    const WINDOW: usize = 256 << 10;
    let mut node = Node::start(listening("/memory/0")).await;
    let mut peers = Vec::new();
    for _ in 0..PEERS {
        let mut peer = RawPeer::hostile().await;
        peer.join(&node).await;
        let message = framed(&vec![0; 4 << 20]);
        for _ in 0..32 {
            peer.begin_message(node.id(), message[..WINDOW + 64].to_vec());
        }
        peers.push(peer);
    }
    // All on one thread: when nothing has moved in so many turns, nothing does until some time is over.
    let written = || peers.iter().map(|peer| peer.written.load(Relaxed)).sum();
    let (mut before, mut still): (usize, _) = (0, 0);
    while still < 10_000 {
        tokio::task::yield_now().await;
        let now = written();
        still = if now == before { still + 1 } else { 0 };
        before = now;
    }
    // Windows let each have 8 MiB unread.
    let most = (32 << 20) + PEERS * (2 * WINDOW + Counted::HELD);
    assert!((24 << 20..most).contains(&before), "{before}");
    unblamed(&mut node);
    let last = peers.last_mut().expect("ten");
    node.disconnect(last.id).await.expect("it is there");
    last.disconnected().await;
    unblamed(&mut node);
    still_serves(node).await;
}

#[tokio::test]
async fn broken_answers_to_a_message_are_typed_errors() {
    let mut node = Node::start(listening(TCP)).await;
    node.events.missed();
    for (number, (frame, _)) in broken_frames((4 << 20) + 1024).into_iter().enumerate() {
        let mut peer = RawPeer::hostile().await;
        peer.join(&node).await;
        node.connected(peer.id).await;
        let (asked, ()) = futures::join!(
            node.manager.request_state(peer.id, StateRequest::default()),
            async {
                let (_, channel) = peer.request().await;
                peer.respond(channel, frame);
            }
        );
        let error = asked.expect_err("garbage");
        let code = if number == 3 {
            "invalid-message"
        } else {
            "broken"
        };
        assert_eq!(error.code(), code, "{error}");
        if number == CUT_SHORT {
            assert!(error.to_string().contains("in the middle"), "{error}");
            let reputation = node.peer_metrics().peer_reputation;
            assert_eq!(reputation.get(&peer.id), Some(&0.0), "it may be busy");
            continue;
        }
        assert_eq!(
            node.scored(peer.id).await,
            ("it sent an invalid message", -10.0)
        );
    }
}

#[tokio::test]
async fn who_never_answers_a_message_times_out() {
    let mut config = listening(TCP);
    config.protocol.request_response_config.request_timeout = std::time::Duration::from_millis(300);
    let mut node = Node::start(config).await;
    let mut peer = RawPeer::hostile().await;
    peer.join(&node).await;
    node.connected(peer.id).await;
    let vote = NetworkMessage::ConsensusVote(Vote::new("aye"));
    let (sent, _held) = futures::join!(node.manager.send_message(peer.id, vote), peer.request());
    let told = sent.expect_err("silence").to_string();
    assert!(
        told.starts_with("the peer did not answer in time"),
        "{told}"
    );
    assert_eq!(
        node.scored(peer.id).await,
        ("it did not answer in time", -2.0)
    );
    assert_eq!(node.message_metrics().message_success_rate, 0.0);
}

#[tokio::test]
async fn nobody_talks_before_the_hello_or_more_often_than_allowed() {
    let mut config = listening(TCP);
    config.security.rate_limits.messages_per_second = 1;
    config.security.rate_limits.burst = 3;
    let mut node = Node::start(config).await;
    let mut peer = RawPeer::hostile().await;
    peer.dial(node.address());
    peer.connected().await;
    let message = framed(&NetworkMessage::Transaction(Transaction::new("pay")).encode());
    peer.message(node.id(), message.clone());
    let answer = peer.answer().await.expect("it is told why");
    assert!(String::from_utf8_lossy(&answer).contains("say hello first"));
    peer.subscribe("/selkie/selkie-dev/block/1");
    peer.hello(node.id(), framed(&good_hello()));
    peer.answer().await.expect("welcome");
    for _ in 0..10 {
        peer.message(node.id(), message.clone());
    }
    assert_eq!(
        node.scored(peer.id).await,
        ("it sends more often than it may", -1.0)
    );
}

#[tokio::test]
async fn who_has_not_said_hello_and_who_never_stops_pays_too() {
    let mut config = listening(TCP);
    config.security.rate_limits.messages_per_second = 1;
    config.security.rate_limits.burst = 3;
    let mut node = Node::start(config).await;
    let told = ("it sends more often than it may", -1.0);
    let mut early = RawPeer::hostile().await;
    early.dial(node.address());
    early.connected().await;
    let message = framed(&NetworkMessage::Transaction(Transaction::new("pay")).encode());
    for _ in 0..10 {
        early.message(node.id(), message.clone());
    }
    assert_eq!(node.scored(early.id).await, told);
    let mut greeting = RawPeer::hostile().await;
    greeting.dial(node.address());
    greeting.connected().await;
    for _ in 0..10 {
        greeting.hello(node.id(), framed(&good_hello()));
        // Those above the limit have none.
        let _ = greeting.answer().await;
    }
    assert_eq!(node.scored(greeting.id).await, told);
}

#[tokio::test]
async fn misdeeds_end_in_a_ban() {
    let mut config = listening(TCP);
    config.security.peer_scoring.disconnect_at = -15.0;
    config.security.peer_scoring.ban_at = -35.0;
    let mut node = Node::with(config, TestChain::default()).await;
    let mut peer = RawPeer::hostile().await;
    let bad = |number: u8| {
        framed(
            &NetworkMessage::Transaction(Transaction::new(vec![b'b', b'a', b'd', number])).encode(),
        )
    };
    // Two bad items end the first connection, each further one ends the next, and the fourth bans.
    for (number, items) in [(0, 2), (2, 1), (3, 1)] {
        peer.join(&node).await;
        for item in 0..items {
            peer.message(node.id(), bad(number + item));
        }
        let reason = node.disconnected(peer.id).await;
        let expected = if number == 3 {
            "it is banned: "
        } else {
            "its reputation is used up: "
        };
        assert!(reason.starts_with(expected), "{reason}");
        peer.disconnected().await;
    }
    peer.dial(node.address());
    assert_eq!(node.refused(peer.id).await, "this peer is banned");
    let address = peer.address.clone();
    let dialled = soon("the dial", node.dial(address))
        .await
        .expect_err("banned")
        .to_string();
    assert!(dialled.ends_with("this peer is banned"), "{dialled}");
}

#[tokio::test]
async fn an_answer_that_is_no_answer_is_an_error() {
    let mut node = Node::start(listening(TCP)).await;
    let mut peer = RawPeer::hostile().await;
    peer.join(&node).await;
    node.connected(peer.id).await;
    // "Received" (field 1, empty) where state was asked for.
    let (asked, ()) = futures::join!(
        node.manager.request_state(peer.id, StateRequest::default()),
        async {
            let (_, channel) = peer.request().await;
            peer.respond(channel, framed(&[0x0a, 0]));
        }
    );
    assert!(matches!(asked, Err(ProtocolError::Refused(_))), "{asked:?}");
}
