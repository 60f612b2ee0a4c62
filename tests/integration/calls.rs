//! Every call in an order that nobody would choose: before the start and after the end, dropped at any await, from many
//! threads, and when the task panics.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::future::join_all;
use selkie::{
    Block, Config, DiscoveryError, Item, ItemKind, NetworkError, NetworkEvent, NetworkMessage,
    P2PNetworkManager, PeerId, PeerInfo, ProtocolError, StateRequest, Transaction, Verdict,
};

use crate::support::*;

/// What a call came to, in a word.
type Outcome = String;
type Call = Pin<Box<dyn Future<Output = Outcome> + Send>>;

fn word<T>(outcome: Result<T, NetworkError>) -> Outcome {
    match outcome {
        Ok(_) => "ok".to_owned(),
        Err(NetworkError::Protocol(error)) => protocol_word::<()>(Err(error)),
        Err(error) => {
            assert!(error.is_fatal() || error.code() != "not-running");
            error.code().to_owned()
        }
    }
}

fn protocol_word<T>(outcome: Result<T, ProtocolError>) -> Outcome {
    match outcome {
        Ok(_) => "ok".to_owned(),
        Err(error) => {
            assert_eq!(error.is_fatal(), error.code() == "not-running");
            error.code().to_owned()
        }
    }
}

fn discovery_word<T>(outcome: Result<T, DiscoveryError>) -> Outcome {
    match outcome {
        Ok(_) => "ok".to_owned(),
        Err(DiscoveryError::Network(error)) => error.code().to_owned(),
        Err(error) => error.to_string(),
    }
}

/// Every call there is that asks something of the node's task, by its name.
fn every_call(node: &P2PNetworkManager) -> Vec<(&'static str, Call)> {
    macro_rules! call {
        ($word:ident, $name:ident($($argument:expr),*)) => {{
            let node = node.clone();
            let call: Call = Box::pin(async move { $word(node.$name($($argument),*).await) });
            (stringify!($name), call)
        }};
    }
    let peer = PeerId::random();
    let other = PeerInfo {
        addresses: vec!["/ip4/127.0.0.1/tcp/1".parse().expect("an address")],
        ..PeerInfo::new(peer)
    };
    let (block, transaction) = (Block::new("block"), Transaction::new("transaction"));
    let vote = NetworkMessage::from(Item::new(ItemKind::Vote, "aye"));
    let item = Item::new(ItemKind::Block, "another");
    let silent = "/ip4/127.0.0.1/tcp/1".parse().expect("an address");
    let handed = transaction.clone();
    let (question, nobody) = (StateRequest::default(), Vec::new());
    let direct = vote.clone();
    let (zero, second) = (Duration::ZERO, Duration::from_secs(1));
    vec![
        call!(word, dial(silent)),
        call!(word, connect_bootstrap_peers()),
        call!(word, add_peer(other)),
        call!(word, submit(item)),
        call!(word, broadcast_message(vote)),
        call!(word, broadcast_transactions(vec![transaction])),
        call!(word, remove_transactions(Vec::new())),
        call!(word, is_flushed()),
        call!(word, is_flushed_to(peer)),
        call!(word, wake()),
        call!(word, subscribe_topic("chat", true)),
        call!(word, publish_topic("chat", "hello")),
        call!(word, report(vec![1], peer, Verdict::Accept)),
        call!(word, disconnect(peer)),
        call!(word, send_message(peer, direct)),
        call!(
            word,
            broadcast_message(NetworkMessage::PeerExchange(Vec::new()))
        ),
        call!(word, broadcast_transactions(nobody)),
        call!(protocol_word, request_state(peer, question)),
        call!(discovery_word, discover_local_peers()),
        call!(word, topics()),
        call!(word, handle("/echo/1", |_, _| async { Ok(()) })),
        call!(word, open(peer, "/echo/1")),
        call!(word, unhandle("/echo/1")),
        call!(word, unsubscribe_topic("chat")),
        call!(word, takes_part(peer, ItemKind::Vote)),
        call!(word, expect_duty(Vec::new(), zero, second)),
        call!(word, blacklist(Vec::new())),
        call!(word, ban(PeerId::random(), Some(second))),
        call!(word, watch_state([vec![7; 32]])),
        call!(protocol_word, handle_block(block, peer)),
        call!(protocol_word, handle_transaction(handed, peer)),
    ]
}

fn bootstrapped() -> Config {
    let mut config = listening(TCP);
    let nobody = PeerInfo {
        addresses: vec!["/ip4/127.0.0.1/tcp/1".parse().expect("an address")],
        ..PeerInfo::new(PeerId::random())
    };
    config.network.bootstrap_peers = vec![nobody];
    config
}

#[tokio::test]
async fn calls_before_the_start_and_after_the_end_say_so() {
    let node = P2PNetworkManager::new(bootstrapped())
        .await
        .expect("the configuration is right");
    let mut events = node.subscribe_events();
    for ended in [false, true] {
        for (name, call) in every_call(&node) {
            assert_eq!(
                soon(name, call).await,
                "not-running",
                "{name}, ended: {ended}"
            );
        }
        assert!(node.get_connected_peers().is_empty() && node.listeners().is_empty());
        assert_eq!(node.peer_metrics().peer_count, 0);
        assert_eq!(node.connection_metrics().active_connections, 0);
        if !ended {
            node.start().await.expect("it listens");
            let (one, two) = futures::join!(node.shutdown(), node.shutdown());
            assert_eq!((one, two), ((), ()));
        }
    }
    let last = soon("the end of its events", async {
        let mut last = None;
        while let Some(event) = events.recv().await {
            last = Some(event);
        }
        last
    });
    assert!(matches!(last.await, Some(NetworkEvent::Stopped)));
}

#[tokio::test]
async fn a_mistake_in_a_call_is_the_calls_and_the_node_goes_on() {
    let node = Node::start(listening(TCP)).await;
    for number in 0..256 {
        let joined = node.subscribe_topic(format!("topic {number}"), false).await;
        joined.expect("there is room");
    }
    let long = "x".repeat(257);
    let mistakes = [
        (node.subscribe_topic("", false).await, "1 to 256 bytes"),
        (node.subscribe_topic(long, false).await, "1 to 256 bytes"),
        (node.subscribe_topic("one more", false).await, "leave one"),
        (
            node.add_peer(PeerInfo::new(PeerId::random())).await,
            "at least one address",
        ),
    ];
    for (outcome, advice) in mistakes {
        let error = outcome.expect_err("a mistake");
        assert_eq!(
            (error.code(), error.is_fatal()),
            ("invalid-argument", false)
        );
        let told = error.to_string();
        assert!(told.contains(advice) && !told.contains("config"), "{told}");
    }
    node.unsubscribe_topic("topic 7").await.expect("it runs");
    let joined = node.subscribe_topic("one more", false).await;
    joined.expect("there is room again");
}

#[tokio::test]
async fn a_node_that_never_started_ends_too() {
    for shut_down in [true, false] {
        let node = P2PNetworkManager::new(listening(TCP))
            .await
            .expect("the configuration is right");
        let mut events = node.subscribe_events();
        if shut_down {
            node.shutdown().await;
            assert!(matches!(node.start().await, Err(NetworkError::NotRunning)));
        }
        drop(node);
        assert!(soon("the end of its events", events.recv()).await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_from_many_threads_at_once_all_return() {
    let node = Node::start(bootstrapped()).await;
    let callers = (0..16).map(|_| {
        let node = node.manager.clone();
        tokio::spawn(async move {
            for (name, call) in every_call(&node) {
                let outcome = soon(name, call).await;
                assert_ne!(outcome, "not-running", "{name}");
            }
            drop(node.subscribe_events());
            node.message_metrics();
        })
    });
    for caller in soon("all of them", join_all(callers)).await {
        caller.expect("no caller panics");
    }
    let ends = (0..8).map(|_| node.shutdown());
    soon("the end", join_all(ends)).await;
}

/// Polls a future so many times, however often it asks; whether it was done by then.
async fn polled(mut call: Call, times: usize) -> bool {
    for _ in 0..times {
        let mut context = Context::from_waker(Waker::noop());
        if call.as_mut().poll(&mut context).is_ready() {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}

#[tokio::test]
async fn a_call_may_be_dropped_at_any_await() {
    let node = Node::start(bootstrapped()).await;
    let calls = every_call(&node).len();
    for index in 0..calls {
        for times in 0..20 {
            let (_, call) = every_call(&node).swap_remove(index);
            if polled(call, times).await {
                break;
            }
        }
    }
    let joined = soon("an answer", node.subscribe_topic("still-here", false)).await;
    joined.expect("it goes on");
    // The end may be dropped too, and asked for again.
    let handle = node.manager.clone();
    let end: Call = Box::pin(async move {
        handle.shutdown().await;
        String::new()
    });
    polled(end, 1).await;
    soon("the end", node.shutdown()).await;
}

#[tokio::test]
async fn a_start_that_is_dropped_has_begun_all_the_same() {
    let node = P2PNetworkManager::new(listening(TCP))
        .await
        .expect("the configuration is right");
    let mut events = node.subscribe_events();
    {
        let mut start = pin!(node.start());
        let polled = start.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Pending | Poll::Ready(Ok(()))));
    }
    let first = soon("its address", events.recv()).await;
    assert!(
        matches!(first, Some(NetworkEvent::Listening(_))),
        "{first:?}"
    );
    node.shutdown().await;
}

#[tokio::test]
async fn the_last_handle_may_go_in_the_middle_of_a_call() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let silent = silent.expect("loopback");
    let address = format!(
        "/ip4/127.0.0.1/tcp/{}",
        silent.local_addr().expect("bound").port()
    );
    let Node {
        manager,
        mut events,
        ..
    } = Node::start(listening(TCP)).await;
    let call =
        tokio::spawn(async move { manager.dial(address.parse().expect("an address")).await });
    let _accepted = soon("the dial", silent.accept()).await.expect("it dials");
    call.abort();
    soon("the end of its events", async {
        while events.recv().await.is_some() {}
    })
    .await;
}

/// Panics where the swarm logs something, in the thread that does: the node's task.
struct Mine(Arc<AtomicBool>);

impl tracing::Subscriber for Mine {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "libp2p_swarm"
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        assert!(
            !self.0.swap(false, Ordering::Relaxed),
            "a bug of the network's"
        );
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn a_panic_in_the_task_ends_every_subscription_and_every_call() {
    let armed = Arc::new(AtomicBool::new(false));
    let _logging = tracing::subscriber::set_default(Mine(Arc::clone(&armed)));
    let mut node = Node::start(listening(TCP)).await;
    let mut votes = node.subscribe(|event| !matches!(event, NetworkEvent::ItemAccepted { .. }));
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let silent = format!(
        "/ip4/127.0.0.1/tcp/{}",
        silent.local_addr().expect("bound").port()
    );
    let pending = node.dial(silent.parse().expect("an address"));
    let peer = Node::start(listening(TCP)).await;
    armed.store(true, Ordering::Relaxed);
    let (pending, crashing) = soon("their ends", async {
        futures::join!(pending, node.dial(peer.address()))
    })
    .await;
    assert!(
        matches!(pending, Err(NetworkError::NotRunning)),
        "{pending:?}"
    );
    assert!(
        matches!(crashing, Err(NetworkError::NotRunning)),
        "{crashing:?}"
    );
    for events in [&mut node.events, &mut votes] {
        let last = soon("the end of its events", async {
            let mut last = None;
            while let Some(event) = events.recv().await {
                last = Some(event);
            }
            last
        });
        match last.await {
            Some(event @ NetworkEvent::Crashed { .. }) => {
                assert_eq!(
                    event.to_string(),
                    "a panic ended this: a bug of the network's"
                );
                assert!(event.is_error());
            }
            event => panic!("{event:?}"),
        }
    }
    for (name, call) in every_call(&node) {
        assert_eq!(soon(name, call).await, "not-running", "{name}");
    }
    soon("a shutdown after the end", node.shutdown()).await;
    assert!(node.subscribe_events().recv().await.is_none());
    assert!(node.listeners().is_empty() && node.get_connected_peers().is_empty());
}

#[tokio::test]
async fn a_thread_without_a_runtime_calls_as_others_do() {
    let mut node = Node::with(listening(TCP), TestChain::default()).await;
    let mut peer = Node::with(listening(TCP), TestChain::default()).await;
    connect(&mut peer, &mut node).await;
    let (manager, to) = (node.manager.clone(), peer.id());
    let calls = move || {
        let large = |byte: u8| vec![byte; 100 << 10];
        let item = Item::new(ItemKind::Block, large(1));
        let sent = futures::executor::block_on(manager.submit(item));
        sent.expect("a block that is hashed elsewhere");
        let many = (2..5).map(|byte| Transaction::new(large(byte))).collect();
        let sent = futures::executor::block_on(manager.broadcast_transactions(many));
        assert!(sent.expect("sent").iter().all(Result::is_ok));
        let asked = manager.request_state(to, StateRequest::default());
        futures::executor::block_on(asked).expect("an answer, checked");
    };
    let thread = std::thread::spawn(calls);
    let done = tokio::task::spawn_blocking(move || thread.join());
    let done = soon("the calls", done).await.expect("no panic");
    done.expect("no panic on the thread");
}
