//! Beginnings and ends: start, dials that fail for many reasons, bootstrap, shutdown, the last handle, and what ends subscriptions.

use selkie::{
    Config, Item, ItemKind, Keypair, NetworkError, NetworkEvent, P2PNetworkManager, PeerId,
    PeerInfo,
};

use crate::support::*;

#[tokio::test]
async fn a_node_starts_once() {
    let node = P2PNetworkManager::new(listening(TCP))
        .await
        .expect("the configuration is right");
    let early = node
        .dial(TCP.parse().expect("an address"))
        .await
        .expect_err("not started");
    assert_eq!(
        early.to_string(),
        "the node is not running; call start() first, or make a new one after shutdown()"
    );
    node.start().await.expect("it listens");
    assert!(
        !node.listeners().is_empty(),
        "start returns when it listens"
    );
    let again = node.start().await.expect_err("started before");
    assert!(matches!(again, NetworkError::AlreadyStarted) && !again.is_fatal());
    let late = node.load_address_book(&[]).expect_err("it runs");
    assert!(matches!(late, NetworkError::AlreadyStarted), "{late}");
    node.is_flushed().await.expect("it goes on");
    node.shutdown().await;
    node.shutdown().await;
    let over = node.start().await.expect_err("it has ended");
    assert!(matches!(over, NetworkError::NotRunning) && over.is_fatal());
    assert!(matches!(
        node.dial(TCP.parse().expect("an address")).await,
        Err(NetworkError::NotRunning)
    ));
    assert!(
        node.subscribe_events().recv().await.is_none(),
        "nothing follows the end"
    );
}

#[tokio::test]
async fn an_address_that_cannot_be_listened_on_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = format!(
        "/ip4/127.0.0.1/tcp/{}",
        taken.local_addr().expect("bound").port()
    );
    let node = P2PNetworkManager::new(listening(&address))
        .await
        .expect("the configuration is right");
    let mut events = node.subscribe_events();
    let error = soon("the start", node.start()).await.expect_err("it can't");
    assert!(
        error
            .to_string()
            .starts_with(&format!("can't listen on {address}: ")),
        "{error}"
    );
    assert!(error.is_fatal());
    assert!(matches!(
        node.is_flushed().await,
        Err(NetworkError::NotRunning)
    ));
    assert!(soon("the end of its events", events.recv()).await.is_none());
}

async fn dial_error(node: &Node, address: impl ToString) -> String {
    let address = address.to_string().parse().expect("an address");
    let error = soon("the dial's end", node.dial(address))
        .await
        .expect_err("it can't be reached");
    assert_eq!((error.code(), error.is_fatal()), ("dial", false));
    error.to_string()
}

#[tokio::test]
async fn a_dial_that_fails_says_why() {
    let mut node = Node::start(listening(TCP)).await;
    let (own, other) = (node.address(), Node::start(listening(TCP)).await);

    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .expect("loopback")
        .local_addr()
        .expect("bound");
    let closed = format!("/ip4/127.0.0.1/tcp/{}", closed.port());
    let error = dial_error(&node, &closed).await;
    assert_eq!(
        error,
        format!("can't reach {closed}: nobody listens there (connection refused)")
    );
    let event = node.event("a failed dial", |event| match event {
        NetworkEvent::DialFailed {
            peer_id: None,
            reason,
            ..
        } => Some(reason),
        _ => None,
    });
    assert!(event.await.contains("nobody listens"));

    let error = dial_error(&node, &own).await;
    assert!(error.ends_with("this is the node's own address"), "{error}");
    let mut bare = own.clone();
    bare.pop();
    let error = dial_error(&node, &bare).await;
    assert!(error.ends_with("this is the node's own address"), "{error}");

    let mut wrong = other.address();
    wrong.pop();
    let wrong = wrong.with_p2p(PeerId::random()).expect("no id at its end");
    let error = dial_error(&node, &wrong).await;
    assert!(
        error.contains(&format!("another peer answers there: {}", other.id())),
        "{error}"
    );

    let error = dial_error(&node, "/ip4/127.0.0.1/udp/1/utp").await;
    assert!(error.contains("no transport here can dial"), "{error}");
    let error = dial_error(&node, "/dns4/no-such-host.invalid/tcp/1").await;
    assert!(error.contains("no-such-host.invalid"), "{error}");
}

#[tokio::test]
async fn two_dials_to_one_peer_both_succeed() {
    let mut node = Node::start(Config::default()).await;
    let mut config = listening(TCP);
    config
        .network
        .listen_addresses
        .push("/ip4/127.0.0.1/tcp/0/ws".parse().expect("an address"));
    let other = Node::start(config).await;
    let [first, second] = &other.listeners()[..] else {
        panic!("two listeners")
    };
    let dials = futures::join!(
        node.manager.dial(first.clone()),
        node.manager.dial(second.clone()),
        node.manager.dial(first.clone())
    );
    assert!(matches!(dials, (Ok(_), Ok(_), Ok(_))), "{dials:?}");
    node.connected(other.id()).await;
    assert_eq!(node.get_connected_peers().len(), 1);
    assert_eq!(
        soon("a third dial", node.dial(first.clone()))
            .await
            .expect("connected"),
        other.id()
    );
}

#[tokio::test]
async fn bootstrap_uses_the_addresses_that_work_and_comes_back() {
    let mut anchor = Node::start(listening(TCP)).await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .expect("loopback")
        .local_addr()
        .expect("bound");
    let dead = format!("/ip4/127.0.0.1/tcp/{}", closed.port());
    let (id, address) = (anchor.id(), anchor.address());
    let bootstrap = |dead_id: PeerId| {
        let mut config = Config::default();
        let dead = PeerInfo {
            addresses: vec![dead.parse().expect("an address")],
            ..PeerInfo::new(dead_id)
        };
        let alive = PeerInfo {
            addresses: vec![address.clone()],
            ..PeerInfo::new(id)
        };
        config.network.bootstrap_peers = vec![dead, alive];
        config
    };
    // A dead peer beside a live one, and a dead address of the live one.
    for dead_id in [PeerId::random(), id] {
        let mut node = Node::start(bootstrap(dead_id)).await;
        soon("bootstrap", node.connect_bootstrap_peers())
            .await
            .expect("one is alive");
        anchor.connected(node.id()).await;
        // Alone again, it dials again.
        anchor.disconnect(node.id()).await.expect("connected");
        node.disconnected(anchor.id()).await;
        node.connected(anchor.id()).await;
        node.shutdown().await;
        anchor.disconnected(node.id()).await;
    }
    let mut config = bootstrap(PeerId::random());
    config.network.bootstrap_peers.pop();
    let lonely = Node::start(config).await;
    let error = soon("bootstrap", lonely.connect_bootstrap_peers())
        .await
        .expect_err("all are dead");
    assert!(error.to_string().contains("nobody listens"), "{error}");
}

#[tokio::test]
async fn shutdown_closes_connections_and_subscriptions() {
    let (mut a, mut b) = (
        Node::start(listening(TCP)).await,
        Node::start(listening(TCP)).await,
    );
    connect(&mut a, &mut b).await;
    soon("the end", a.shutdown()).await;
    b.disconnected(a.id()).await;
    assert!(b.get_connected_peers().is_empty() && a.get_connected_peers().is_empty());
    a.event("its own end", |event| {
        matches!(event, NetworkEvent::Stopped).then_some(())
    })
    .await;
    assert!(a.events.recv().await.is_none());
    let late = a
        .submit(Item::new(ItemKind::Vote, "aye"))
        .await
        .expect_err("over");
    assert!(matches!(late, NetworkError::NotRunning));
}

#[tokio::test]
async fn dropping_the_last_handle_ends_the_node() {
    let (mut a, mut b) = (
        Node::start(listening(TCP)).await,
        Node::start(listening(TCP)).await,
    );
    connect(&mut a, &mut b).await;
    let Node {
        manager,
        mut events,
        ..
    } = a;
    let (id, clone) = (manager.local_peer_id, manager.clone());
    drop(manager);
    assert_eq!(
        clone.get_connected_peers().len(),
        1,
        "a clone keeps it alive"
    );
    drop(clone);
    b.disconnected(id).await;
    soon("the end of its events", async {
        while events.recv().await.is_some() {}
    })
    .await;
}

#[tokio::test]
async fn an_identity_is_the_same_node_again() {
    let keypair = Keypair::generate_ed25519();
    for _ in 0..2 {
        let node =
            P2PNetworkManager::with(listening(TCP), keypair.clone(), selkie::chain::Opaque).await;
        let node = node.expect("the configuration is right");
        assert_eq!(node.local_peer_id, keypair.public().to_peer_id());
    }
}

#[tokio::test]
async fn there_are_places_for_256_subscribers_and_one_that_goes_makes_room() {
    let node = Node::start(listening(TCP)).await;
    // The node of these tests has one itself.
    let mut all: Vec<_> = (1..256).map(|_| node.subscribe_events()).collect();
    assert!(node.subscribe_events().recv().await.is_none(), "no place");
    all.pop();
    let mut last = node.subscribe_events();
    node.shutdown().await;
    let end = soon("its end", last.recv()).await;
    assert!(matches!(end, Some(NetworkEvent::Stopped)), "{end:?}");
}

#[tokio::test]
async fn a_panic_in_wants_ends_that_subscription_with_the_reason() {
    let mut node = Node::start(listening(TCP)).await;
    let mut broken = node.subscribe(|_| panic!("a bug of the user's"));
    // It may call the node, too.
    let handle = node.manager.clone();
    let mut asking = node.subscribe(move |_| handle.get_connected_peers().is_empty());
    let mut other = Node::start(listening(TCP)).await;
    node.dial(other.address()).await.expect("it is there");
    node.connected(other.id()).await;
    other.connected(node.id()).await;
    match soon("the reason", broken.recv()).await {
        Some(NetworkEvent::Crashed { reason }) => assert_eq!(reason, "a bug of the user's"),
        event => panic!("{event:?}"),
    }
    assert!(soon("its end", broken.recv()).await.is_none());
    node.shutdown().await;
    let last = soon("its end", async {
        let mut last = None;
        while let Some(event) = asking.recv().await {
            last = Some(event);
        }
        last
    });
    assert!(last.await.is_some());
}

#[tokio::test]
async fn a_place_at_what_is_no_relay_is_told_of_and_asked_for_again() {
    let relay = Node::start(listening(TCP)).await;
    let address = format!("{}/p2p-circuit", relay.address());
    let mut node = Node::start(listening(&address)).await;
    for _ in 0..2 {
        let told = node.event("no place", |event| match event {
            NetworkEvent::NotListening { address, .. } => Some(address),
            _ => None,
        });
        assert_eq!(told.await.to_string(), address);
    }
}
