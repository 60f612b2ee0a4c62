//! Places, patience and silence: `max_peers`, `connection_timeout`, `keepalive_interval` do what they say.

use std::time::{Duration, Instant};

use futures::future::{join_all, select_all};
use selkie::{
    Application, Config, NetworkMessage, PeerId, ProtocolError, StateRequest, StateResponse,
    chain::{MAX_STATE_KEYS, StateBatch, StateRoot},
};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{mpsc, watch},
};

use crate::{
    raw_peer::{RawPeer, framed, good_hello},
    support::*,
};

#[tokio::test]
async fn when_all_places_are_taken_the_next_peer_is_refused() {
    let mut config = listening(TCP);
    config.network.max_peers = 2;
    let mut node = Node::start(config).await;
    let mut peers = [
        Node::start(listening(TCP)).await,
        Node::start(listening(TCP)).await,
    ];
    for peer in &mut peers {
        connect(peer, &mut node).await;
    }
    let late = Node::start(listening(TCP)).await;
    let told = soon("the dial", late.dial(node.address()))
        .await
        .expect_err("no room")
        .to_string();
    assert!(
        told.contains("all places are taken (network.max_peers); try another node"),
        "{told}"
    );
    assert_eq!(
        node.refused(late.id()).await,
        "all places are taken (network.max_peers)"
    );
    let out = soon("the dial", node.dial(late.address()))
        .await
        .expect_err("no room")
        .to_string();
    assert!(
        out.ends_with("all places are taken (network.max_peers)"),
        "{out}"
    );
    assert_eq!(node.get_connected_peers().len(), 2);
    // A place that is free again is given again.
    let [first, _] = &peers;
    node.disconnect(first.id()).await.expect("connected");
    assert_eq!(
        node.disconnected(first.id()).await,
        "disconnected by this node's user"
    );
    soon("the dial", late.dial(node.address()))
        .await
        .expect("there is room");
}

#[tokio::test]
async fn who_comes_to_a_full_node_takes_the_place_of_the_least_useful_which_is_told() {
    // The first of their network, the eight nearest and twelve for what they brought stay.
    const PLACES: usize = 22;
    let mut config = listening(TCP);
    config.protocol.kademlia_config.wanted_peers = 0;
    config.network.max_peers = PLACES;
    let mut node = Node::start(config).await;
    let mut peers = Vec::new();
    for _ in 0..PLACES {
        let mut peer = RawPeer::hostile().await;
        peer.join(&node).await;
        peers.push(peer);
    }
    for peer in &peers {
        node.connected(peer.id).await;
    }
    let mut late = RawPeer::hostile().await;
    late.join(&node).await;
    node.connected(late.id).await;
    let told = peers.iter_mut().map(|peer| Box::pin(peer.request()));
    let ((words, channel), which, _) = soon("the goodbye", select_all(told)).await;
    let words = String::from_utf8_lossy(&words);
    assert!(
        words.contains("you make room for others as the least useful; try another node"),
        "{words}"
    );
    let parted = peers.swap_remove(which);
    assert_eq!(node.get_connected_peers().len(), PLACES + 1, "it reads");
    parted.respond(channel, framed(&good_hello()));
    let reason = node.disconnected(parted.id).await;
    assert!(reason.contains("made room for others"), "{reason}");
    // Now nobody may be let go.
    peers.push(late);
    for peer in &peers {
        node.protect(peer.id, "all").expect("protected");
    }
    let mut last = RawPeer::hostile().await;
    last.join(&node).await;
    assert_eq!(
        node.refused(last.id).await,
        "all places are taken (network.max_peers)"
    );
    assert!(!node.unprotect(&peers[0].id, "all"));
    node.protect(last.id, "").expect_err("no tag");
}

#[tokio::test]
async fn who_is_told_to_go_says_why_and_goes() {
    let mut node = Node::start(listening(TCP)).await;
    let mut peer = RawPeer::hostile().await;
    peer.join(&node).await;
    node.connected(peer.id).await;
    let refusal = [&[0x1a, 9][..], b"made room"].concat();
    peer.hello(node.id(), framed(&[good_hello(), refusal].concat()));
    let answer = peer.answer().await.expect("it has read that");
    assert!(!String::from_utf8_lossy(&answer).contains("made room"));
    assert_eq!(node.disconnected(peer.id).await, "made room");
    assert_eq!(node.score(&peer.id).0, 0.0);
}

#[tokio::test]
async fn who_is_gone_when_the_host_wakes_is_let_go_at_once_and_who_is_there_stays() {
    let mut config = listening(TCP);
    // No ping tells it within this test.
    config.network.keepalive_interval = Duration::from_secs(3600);
    config.network.connection_timeout = Duration::from_secs(2);
    let gone = Node::start(config.clone()).await;
    let mut there = Node::start(config.clone()).await;
    let mut node = Node::start(config).await;
    let (hush, allowed) = watch::channel(u64::MAX);
    let address = narrow(&gone.address(), [allowed.clone(), allowed]).await;
    let dialled = soon("the dial", node.dial(address)).await;
    dialled.expect("the proxy carries it");
    connect(&mut node, &mut there).await;
    hush.send(0).expect("it is carried");
    node.wake().await.expect("it runs");
    let reason = node.disconnected(gone.id()).await;
    assert!(reason.contains("since this host woke"), "{reason}");
    let peers = node.get_connected_peers();
    assert!(matches!(&peers[..], [one] if one.peer_id == there.id()));
    assert_eq!(there.get_connected_peers()[0].reputation, 0.0);
    // Asked again at once it does nothing; what is no node says so.
    node.wake().await.expect("it runs");
    node.shutdown().await;
    node.wake().await.expect_err("it is over");
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_let_go() {
    let (keepalive, timeout) = (Duration::from_millis(500), Duration::from_millis(500));
    let mut config = listening(TCP);
    config.network.keepalive_interval = keepalive;
    config.network.connection_timeout = timeout;
    let mut listener = Node::start(config.clone()).await;
    let mut dialler = Node::start(config).await;
    let (hush, allowed) = watch::channel(u64::MAX);
    let address = narrow(&listener.address(), [allowed.clone(), allowed]).await;
    soon("the dial", dialler.dial(address))
        .await
        .expect("the proxy carries it");
    dialler.connected(listener.id()).await;
    listener.connected(dialler.id()).await;
    // While it answers it stays, however often the time runs out: three round trips are three intervals.
    let pinged = |node: &Node| {
        node.get_connected_peers()
            .first()
            .and_then(|peer| peer.round_trip)
    };
    let mut last = None;
    let mut changes = 0;
    soon("three pings", async {
        while changes < 3 {
            let now = pinged(&dialler);
            changes += usize::from(now != last && now.is_some());
            last = now;
            tokio::task::yield_now().await;
        }
    })
    .await;
    let begin = Instant::now();
    hush.send(0).expect("it is carried");
    assert_eq!(
        dialler.disconnected(listener.id()).await,
        "it does not answer pings"
    );
    assert_eq!(
        listener.disconnected(dialler.id()).await,
        "it does not answer pings"
    );
    let took = begin.elapsed();
    // Deadlines are looked at each second, and the host may be busy.
    assert!(
        took < keepalive + timeout + Duration::from_secs(3),
        "{took:?}"
    );
}

/// A dial there ends in time, with a sentence for a person.
async fn times_out(address: String) {
    let mut config = Config::default();
    if address.contains("webrtc") {
        config = listening("/ip4/127.0.0.1/udp/0/webrtc-direct");
    }
    config.network.connection_timeout = Duration::from_millis(500);
    let node = Node::start(config).await;
    let begin = Instant::now();
    let error = soon(
        "the dial's end",
        node.dial(address.parse().expect("an address")),
    )
    .await;
    let (error, took) = (
        error.expect_err("nobody answers").to_string(),
        begin.elapsed(),
    );
    assert!(
        error.starts_with(&format!("can't reach {address}: ")),
        "{error}"
    );
    assert!(error.contains("did not answer in time"), "{error}");
    assert!(
        took > Duration::from_millis(400) && took < Duration::from_secs(5),
        "{took:?}"
    );
}

#[tokio::test]
async fn a_listener_that_accepts_and_says_nothing_times_out() {
    let mute = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let port = mute.local_addr().expect("bound").port();
    times_out(format!("/ip4/127.0.0.1/tcp/{port}")).await;
    times_out(format!("/ip4/127.0.0.1/tcp/{port}/ws")).await;
}

#[tokio::test]
async fn a_udp_port_that_says_nothing_times_out() {
    let mute = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
    let port = mute.local_addr().expect("bound").port();
    times_out(format!("/ip4/127.0.0.1/udp/{port}/quic-v1")).await;
    #[cfg(feature = "webrtc")]
    {
        let certificate = "uEiDDq4_xNyDorZBH3TlGazyJdOWSwvo4PUo5YHFMrvDE8g";
        times_out(format!(
            "/ip4/127.0.0.1/udp/{port}/webrtc-direct/certhash/{certificate}"
        ))
        .await;
    }
}

#[tokio::test]
async fn who_connects_and_says_nothing_is_let_go() {
    let mut config = listening(TCP);
    config.network.connection_timeout = Duration::from_millis(300);
    let node = Node::start(config).await;
    let address = node.address().to_string();
    let port = address.split('/').nth(4).expect("a port");
    let mut mute = TcpStream::connect(format!("127.0.0.1:{port}"))
        .await
        .expect("it listens");
    let mut words = Vec::new();
    // The node's side of the negotiation, then the end.
    let _ = soon("the end", mute.read_to_end(&mut words)).await;
    assert_eq!(node.connection_metrics().active_connections, 0);
}

/// libp2p's ping finds such a stream ended, and opens another with the ping after: every second one is lost.
#[tokio::test]
async fn a_peer_that_ends_its_ping_streams_stays() {
    let mut config = listening(TCP);
    config.network.keepalive_interval = Duration::from_millis(800);
    config.network.connection_timeout = Duration::from_millis(800);
    let mut node = Node::start(config).await;
    let mut plain = RawPeer::with_one_ping_a_stream().await;
    plain.dial(node.address());
    node.connected(plain.id).await;
    // At five a second at most, through the silence after which it would be let go and more.
    plain.pinged(20).await;
    let peers = node.get_connected_peers();
    assert!(matches!(&peers[..], [peer] if peer.peer_id == plain.id && peer.reputation == 0.0));
}

#[tokio::test]
async fn a_peer_that_knows_no_ping_is_not_blamed_for_silence() {
    let mut config = listening(TCP);
    config.network.keepalive_interval = Duration::from_millis(100);
    config.network.connection_timeout = Duration::from_millis(300);
    let mut node = Node::start(config).await;
    let plain = RawPeer::without_ping().await;
    plain.dial(node.address());
    node.connected(plain.id).await;
    // Deadlines are looked at several times until these are refused one after another.
    for _ in 0..3 {
        let mute = RawPeer::hostile().await;
        mute.dial(node.address());
        assert_eq!(node.refused(mute.id).await, "it did not say hello in time");
    }
    assert_eq!(node.get_connected_peers()[0].peer_id, plain.id);
}

#[tokio::test]
async fn a_peer_that_tells_no_subscriptions_is_ready_a_moment_later() {
    let mut node = Node::start(listening(TCP)).await;
    let mut peer = RawPeer::hostile().await;
    peer.dial(node.address());
    peer.connected().await;
    peer.hello(node.id(), framed(&good_hello()));
    peer.answer().await.expect("welcome");
    node.connected(peer.id).await;
    assert!(node.get_connected_peers()[0].selkie);
}

/// As long as a test waits.
const PATIENCE: Duration = Duration::from_secs(30);

/// Two nodes that let each other send so many messages a second, and a tenth as many at once.
async fn paced(per_second: u32) -> (Node, Node) {
    let mut config = listening(TCP);
    config.security.rate_limits.messages_per_second = per_second;
    config.security.rate_limits.burst = per_second / 10;
    // How long a turn takes on a busy machine is not what is tried here.
    config.protocol.request_response_config.request_timeout = PATIENCE;
    let mut here = Node::with(config.clone(), TestChain::default()).await;
    let mut there = Node::with(config, TestChain::default()).await;
    connect(&mut here, &mut there).await;
    (here, there)
}

#[tokio::test]
async fn a_thousand_questions_at_once_wait_for_their_turn_and_none_is_refused() {
    let (here, mut there) = paced(500).await;
    let ask = |_| here.request_state(there.id(), StateRequest::default());
    let answers = soon("the answers", join_all((0..1000).map(ask))).await;
    for answer in answers {
        assert_eq!(answer.expect("it serves state").height, 7);
    }
    unblamed(&mut there);
}

/// A question about as many keys as may be, which this chain refuses.
fn batch() -> NetworkMessage {
    NetworkMessage::StateBatch(StateBatch {
        at: StateRoot {
            height: 7,
            root: vec![7; 32].into(),
        },
        keys: vec![vec![7; 32].into(); MAX_STATE_KEYS],
    })
}

/// What so many of these come to, at once.
async fn ask_many(here: &Node, there: &Node, count: usize) -> Vec<String> {
    let ask = |_| here.send_message(there.id(), batch());
    let answers = soon("the answers", join_all((0..count).map(ask))).await;
    let told = answers
        .into_iter()
        .map(|answer| answer.expect_err("no state").to_string());
    told.collect()
}

#[tokio::test]
async fn a_question_about_many_keys_counts_as_many_at_both_ends() {
    let (here, mut there) = paced(500).await;
    for told in ask_many(&here, &there, 40).await {
        assert!(told.contains("serves no such state"), "{told}");
    }
    unblamed(&mut there);
    // Who counts it as one goes too fast.
    let mut config = listening(TCP);
    config.security.rate_limits.messages_per_second = 100_000;
    config.security.rate_limits.burst = 100_000;
    let mut hasty = Node::with(config, TestChain::default()).await;
    connect(&mut hasty, &mut there).await;
    let told = ask_many(&hasty, &there, 40).await;
    assert!(
        told.iter()
            .any(|told| told.contains("more often than you may")),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_question_about_too_many_keys_is_not_sent() {
    let (here, mut there) = paced(500).await;
    let NetworkMessage::StateBatch(mut many) = batch() else {
        panic!("it is one");
    };
    many.keys.push(vec![7; 32].into());
    let sent = here.send_message(there.id(), NetworkMessage::StateBatch(many));
    let error = sent.await.expect_err("65");
    assert_eq!(error.code(), "too-large");
    let selkie::NetworkError::Protocol(ProtocolError::TooLarge { size, limit, .. }) = error else {
        panic!("{error}");
    };
    assert_eq!((size, limit), (65, 64));
    unblamed(&mut there);
}

#[tokio::test]
async fn many_peer_exchanges_at_once_wait_for_their_turn_and_none_is_refused() {
    let (here, mut there) = paced(500).await;
    let tell = |_| here.broadcast_message(NetworkMessage::PeerExchange(Vec::new()));
    let told = soon("the exchanges", join_all((0..80).map(tell))).await;
    for told in told {
        told.expect("it takes them");
    }
    unblamed(&mut there);
}

/// A chain that tells of whom it is asked what stands behind a peer.
struct Staked(mpsc::UnboundedSender<PeerId>);

impl Application for Staked {
    fn stake_of(&self, peer: &PeerId) -> u64 {
        self.0.send(*peer).expect("the test waits");
        7
    }
}

#[tokio::test]
async fn the_chain_is_asked_what_stands_behind_a_peer() {
    let (asked, mut told) = mpsc::unbounded_channel();
    let mut node = Node::with(listening(TCP), Staked(asked)).await;
    let mut peer = Node::start(listening(TCP)).await;
    connect(&mut peer, &mut node).await;
    assert_eq!(soon("the question", told.recv()).await, Some(peer.id()));
}

/// A chain that takes its time to answer.
struct Slow;

impl Application for Slow {
    fn query(&self, _: &StateRequest) -> Option<StateResponse> {
        std::thread::sleep(Duration::from_millis(250));
        Some(StateResponse::default())
    }
}

#[tokio::test]
async fn a_node_that_is_busy_says_so_and_is_not_blamed() {
    let mut config = listening(TCP);
    config.protocol.request_response_config.request_timeout = Duration::from_secs(1);
    let mut asker = Node::with(config.clone(), TestChain::default()).await;
    let mut busy = Node::with(config, Slow).await;
    connect(&mut asker, &mut busy).await;
    let ask = |_| asker.request_state(busy.id(), StateRequest::default());
    let answers = soon("the answers", join_all((0..16).map(ask))).await;
    let (answered, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert!(!answered.is_empty() && !refused.is_empty());
    for refused in refused {
        let told = refused.expect_err("it is busy").to_string();
        assert!(told.contains("ask again later"), "{told}");
    }
    unblamed(&mut asker);
}
