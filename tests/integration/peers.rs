//! Who is dialled, again and again, and how peers come and go.

use libp2p::multiaddr::Protocol;
use selkie::{Config, Item, ItemKind, NetworkEvent, PeerInfo, peers::Banned};

use crate::{raw_peer::RawPeer, support::*};

fn bootstrapping(seeds: &[PeerInfo]) -> Config {
    let mut config = listening(TCP);
    config.network.bootstrap_peers = seeds.to_vec();
    config
}

/// An address of loopback where nobody listens, for now.
fn closed() -> selkie::Multiaddr {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("loopback")
        .port();
    format!("/ip4/127.0.0.1/tcp/{port}")
        .parse()
        .expect("an address")
}

#[tokio::test]
async fn a_stranger_that_stays_does_not_end_the_search_for_bootstrap_peers() {
    let (address, keypair) = (closed(), selkie::Keypair::generate_ed25519());
    let seed = PeerInfo {
        addresses: vec![closed(), address.clone()],
        ..PeerInfo::new(keypair.public().to_peer_id())
    };
    let mut node = Node::start(bootstrapping(&[seed])).await;
    soon("bootstrap", node.connect_bootstrap_peers())
        .await
        .expect_err("it is down");
    let stranger = RawPeer::plain().await;
    stranger.dial(node.address());
    node.connected(stranger.id).await;
    // Now it comes up, at its second address.
    let late = selkie::P2PNetworkManager::with(
        listening(&address.to_string()),
        keypair,
        selkie::chain::Opaque,
    );
    let late = late.await.expect("the configuration is right");
    late.start().await.expect("it listens");
    node.connected(late.local_peer_id).await;
    assert_eq!(node.get_connected_peers().len(), 2);
}

#[tokio::test]
async fn a_peer_that_roams_takes_over_from_its_eldest_connection() {
    let mut node = Node::start(listening(TCP)).await;
    let keypair = selkie::Keypair::generate_ed25519();
    // Each time it comes from somewhere else, and its last connection is dead without a word.
    let mut places = Vec::new();
    for _ in 0..4 {
        let place =
            selkie::P2PNetworkManager::with(listening(TCP), keypair.clone(), selkie::chain::Opaque);
        let place = place.await.expect("the configuration is right");
        let events = place.subscribe_events();
        place.start().await.expect("it listens");
        let dialled = soon("the dial", place.dial(node.address())).await;
        dialled.expect("it is let in, however often it came before");
        places.push((place, events));
    }
    let peer = keypair.public().to_peer_id();
    node.connected(peer).await;
    for (_, events) in &mut places[..2] {
        let ended = async {
            while !matches!(
                events.recv().await.expect("it runs"),
                NetworkEvent::PeerDisconnected { .. }
            ) {}
        };
        soon("the end of an old connection", ended).await;
    }
    let peers = node.get_connected_peers();
    assert!(matches!(&peers[..], [one] if one.peer_id == peer));
    let (last, _) = places.last().expect("there are four");
    let vote = Item::new(ItemKind::Vote, "aye").into();
    let sent = soon("an answer", last.send_message(node.id(), vote)).await;
    sent.expect("the newest connection lives");
}

#[tokio::test]
async fn who_is_refused_is_told_of_with_its_address() {
    let mut node = Node::start(listening(TCP)).await;
    let mut stranger = Config::default();
    stranger.chain.network_id = "elsewhere".to_owned();
    let stranger = Node::start(stranger).await;
    let refused = stranger.dial(node.address()).await;
    refused.expect_err("it is of another network");
    let address = node.event("the refusal", |event| match event {
        NetworkEvent::PeerRefused { address, .. } => Some(address),
        _ => None,
    });
    let address = address.await.expect("it came from somewhere");
    assert!(address.to_string().starts_with("/ip4/127.0.0.1/tcp/"));
}

#[tokio::test]
async fn several_addresses_of_a_peer_are_one_connection_and_the_own_one_is_left_out() {
    let mut config = listening(TCP);
    for address in ["/ip4/127.0.0.1/tcp/0/ws", "/ip4/127.0.0.1/udp/0/quic-v1"] {
        let address = address.parse().expect("an address");
        config.network.listen_addresses.push(address);
    }
    let mut seed = Node::start(config).await;
    let keypair = selkie::Keypair::generate_ed25519();
    let own = PeerInfo {
        addresses: vec![closed()],
        ..PeerInfo::new(keypair.public().to_peer_id())
    };
    let entry = |address| PeerInfo {
        addresses: vec![address],
        ..PeerInfo::new(seed.id())
    };
    let mut seeds: Vec<_> = seed.listeners().into_iter().map(entry).collect();
    seeds.push(own);
    let node =
        selkie::P2PNetworkManager::with(bootstrapping(&seeds), keypair, selkie::chain::Opaque);
    let node = node.await.expect("the configuration is right");
    let mut events = node.subscribe(|event| matches!(event, NetworkEvent::DialFailed { .. }));
    node.start().await.expect("it listens");
    soon("bootstrap", node.connect_bootstrap_peers())
        .await
        .expect("it is up");
    seed.connected(node.local_peer_id).await;
    // All dials are over where another one is.
    let other = Node::start(listening(TCP)).await;
    soon("the dial", node.dial(other.address()))
        .await
        .expect("it is up");
    assert_eq!(node.connection_metrics().active_connections, 2);
    assert_eq!(node.connection_metrics().connection_success_rate, 1.0);
    node.shutdown().await;
    assert!(events.recv().await.is_none(), "no dial failed");
}

#[tokio::test]
async fn leaving_and_coming_back_is_a_new_connection_each_time() {
    let (mut node, mut other) = (
        Node::start(listening(TCP)).await,
        Node::start(listening(TCP)).await,
    );
    for round in 0..20 {
        soon("the dial", node.dial(other.address()))
            .await
            .expect("it is there");
        node.connected(other.id()).await;
        other.connected(node.id()).await;
        let vote = Item::new(ItemKind::Vote, format!("aye {round}"));
        other.submit(vote.clone()).await.expect("a peer is there");
        assert_eq!(
            node.event("a vote", from_a_peer).await,
            vote,
            "round {round}"
        );
        soon("the parting", node.disconnect(other.id()))
            .await
            .expect("connected");
        assert!(node.get_connected_peers().is_empty(), "round {round}");
        node.disconnected(other.id()).await;
    }
}

#[tokio::test]
async fn who_is_dialled_right_after_its_refusal_is_reached_when_that_is_over() {
    let (mut node, other) = (
        Node::start(listening(TCP)).await,
        Node::start(Config::default()).await,
    );
    let named = node.address();
    let mut unnamed = named.clone();
    assert!(matches!(unnamed.pop(), Some(Protocol::P2p(_))));
    for address in [unnamed, named].iter().cycle().take(8) {
        let who = Banned::Peer(other.id());
        node.ban(who, None).await.expect("it runs");
        let refused = soon("the refusal", other.dial(address.clone())).await;
        refused.expect_err("it is banned");
        assert!(node.unban(who));
        let dialled = soon("the dial", other.dial(address.clone())).await;
        assert_eq!(dialled.expect("it is banned no more"), node.id());
        node.connected(other.id()).await;
        soon("the parting", other.disconnect(node.id()))
            .await
            .expect("connected");
        node.disconnected(other.id()).await;
    }
}

fn from_a_peer(event: NetworkEvent) -> Option<Item> {
    match event {
        NetworkEvent::ItemAccepted {
            item,
            source: Some(_),
            ..
        } => Some(item),
        _ => None,
    }
}

#[tokio::test]
async fn a_plain_peer_that_only_publishes_is_heard() {
    let mut node = Node::start(listening(TCP)).await;
    let mut plain = RawPeer::plain().await;
    let topic = "/selkie/selkie-dev/transaction/1";
    plain.dial(node.address());
    node.connected(plain.id).await;
    plain.subscribed(topic).await;
    plain.publish(topic, "pay");
    let item = Item::new(ItemKind::Transaction, "pay");
    assert_eq!(node.event("an item", from_a_peer).await, item);
}

#[tokio::test]
async fn a_plain_peer_that_says_more_of_itself_than_fits_stays() {
    let mut node = Node::start(listening(TCP)).await;
    let plain = RawPeer::plain().await;
    plain.act(|swarm| {
        // Twenty are told at most, so these are long ones.
        for port in 1..=20 {
            let address = format!("/dns4/{}.example/tcp/{port}", "a".repeat(250));
            swarm.add_external_address(address.parse().expect("an address"));
        }
    });
    plain.dial(node.address());
    node.connected(plain.id).await;
    let [peer] = &node.get_connected_peers()[..] else {
        panic!("one peer")
    };
    assert_eq!((peer.selkie, peer.reputation), (false, 0.0));
}

#[tokio::test]
async fn peers_that_say_no_hello_keep_nobody_out() {
    let mut config = listening(TCP);
    config.network.max_peers = 8;
    config.security.connection_limits.connections_per_address = 100;
    let mut node = Node::start(config).await;
    let mut mute = Vec::new();
    for _ in 0..40 {
        let mut peer = RawPeer::hostile().await;
        peer.dial(node.address());
        peer.connected().await;
        mute.push(peer);
    }
    let mut newcomer = Node::start(listening(TCP)).await;
    connect(&mut newcomer, &mut node).await;
    let eldest = mute.first().expect("forty of them").id;
    assert_eq!(
        node.refused(eldest).await,
        "it had not said hello when others waited"
    );
}

#[tokio::test]
async fn what_is_published_right_after_a_dial_arrives() {
    let mut listener = Node::start(listening(TCP)).await;
    listener
        .subscribe_topic("chat", false)
        .await
        .expect("joined");
    let message = |event| match event {
        NetworkEvent::TopicMessage(message) => Some(message.data),
        _ => None,
    };
    for round in 0..20 {
        let node = Node::start(Config::default()).await;
        soon("the dial", node.dial(listener.address()))
            .await
            .expect("it is there");
        let text = format!("hello {round}");
        soon("publishing", node.publish_topic("chat", text.clone()))
            .await
            .expect("its subscription is on the way");
        let heard = listener.event("a message", message).await;
        assert_eq!(heard, text);
        node.shutdown().await;
    }
    // Nobody listens: it is said, a moment later.
    let node = Node::start(Config::default()).await;
    soon("the dial", node.dial(listener.address()))
        .await
        .expect("it is there");
    let error = soon("publishing", node.publish_topic("nobody's", "anyone?"))
        .await
        .expect_err("nobody listens");
    assert_eq!(error.code(), "no-peers");
}

/// A node that knows one other.
async fn knowing(seed: &Node, change: impl FnOnce(&mut Config)) -> Node {
    let info = PeerInfo {
        addresses: vec![seed.address()],
        ..PeerInfo::new(seed.id())
    };
    let mut config = bootstrapping(&[info]);
    change(&mut config);
    Node::start(config).await
}

#[tokio::test]
async fn who_know_one_node_find_each_other() {
    let seed = Node::start(listening(TCP)).await;
    let mut first = knowing(&seed, |_| {}).await;
    let mut second = knowing(&seed, |_| {}).await;
    for node in [&first, &second] {
        let bootstrap = soon("bootstrap", node.connect_bootstrap_peers()).await;
        bootstrap.expect("it is up");
    }
    first.connected(second.id()).await;
    second.connected(first.id()).await;
}

#[tokio::test]
async fn a_network_of_small_nodes_has_room_for_one_more() {
    let small = |config: &mut Config| config.network.max_peers = 3;
    let mut config = listening(TCP);
    small(&mut config);
    let seed = Node::start(config).await;
    let mut nodes = Vec::new();
    for _ in 0..4 {
        let mut node = knowing(&seed, small).await;
        // The seed is full for the last one, and answers who else is there.
        let _ = soon("bootstrap", node.connect_bootstrap_peers()).await;
        node.event("a place", |event| {
            matches!(event, NetworkEvent::PeerConnected(_)).then_some(())
        })
        .await;
        nodes.push(node);
    }
    for node in &nodes {
        let dialled = node
            .get_connected_peers()
            .into_iter()
            .filter(|peer| peer.direction == Some(selkie::peers::Direction::Outbound));
        assert!(dialled.count() <= 2, "half of the places at most");
    }
}

#[tokio::test]
async fn who_finds_the_only_node_that_it_knows_full_comes_again_soon() {
    let mut config = listening(TCP);
    config.network.max_peers = 1;
    let mut seed = Node::start(config).await;
    let mut guest = Node::start(Config::default()).await;
    connect(&mut guest, &mut seed).await;
    seed.protect(guest.id(), "guest").expect("protected");
    let mut node = knowing(&seed, |_| {}).await;
    let refused = soon("bootstrap", node.connect_bootstrap_peers()).await;
    refused.expect_err("it is full, and knows nobody else who can be dialled");
    guest.shutdown().await;
    node.connected(seed.id()).await;
}

#[tokio::test]
async fn nobody_is_dialled_whom_the_user_let_go_or_where_nobody_is_wanted() {
    // It dials nobody: who was let go may come by itself.
    let mut config = listening(TCP);
    config.protocol.kademlia_config.wanted_peers = 0;
    let mut seed = Node::start(config).await;
    let mut node = knowing(&seed, |_| {}).await;
    let mut loner = knowing(&seed, |config| {
        config.protocol.kademlia_config.wanted_peers = 0;
    })
    .await;
    for node in [&node, &loner] {
        soon("bootstrap", node.connect_bootstrap_peers())
            .await
            .expect("it is up");
    }
    // The seed tells the node of the loner, so that the lookups go on.
    node.connected(loner.id()).await;
    loner.connected(node.id()).await;
    soon("the parting", node.disconnect(seed.id()))
        .await
        .expect("connected");
    seed.disconnected(node.id()).await;
    soon("the parting", loner.disconnect(seed.id()))
        .await
        .expect("connected");
    seed.disconnected(loner.id()).await;
    // A newcomer names the seed, and one more that is dialled.
    let mut named = listening(TCP);
    named.protocol.kademlia_config.wanted_peers = 0;
    let mut named = Node::start(named).await;
    let newcomer = knowing(&seed, |_| {}).await;
    soon("bootstrap", newcomer.connect_bootstrap_peers())
        .await
        .expect("it is up");
    for other in [&named, &node] {
        soon("the dial", newcomer.dial(other.address()))
            .await
            .expect("it is up");
    }
    named.connected(node.id()).await;
    assert!(
        seed.get_connected_peers()
            .iter()
            .all(|peer| peer.peer_id == newcomer.id())
    );
    assert!(
        loner
            .get_connected_peers()
            .iter()
            .all(|peer| peer.direction == Some(selkie::peers::Direction::Inbound)),
        "it dials nobody by itself"
    );
}

#[tokio::test]
async fn a_start_dials_nobody() {
    let seed = Node::start(listening(TCP)).await;
    let mut node = knowing(&seed, |_| {}).await;
    // What the start had dialled would be there before.
    let mut other = Node::start(listening(TCP)).await;
    connect(&mut node, &mut other).await;
    assert_eq!(node.connection_metrics().active_connections, 1);
    assert_eq!(seed.connection_metrics().active_connections, 0);
}

#[tokio::test]
async fn who_has_not_said_hello_can_be_let_go() {
    let node = Node::start(listening(TCP)).await;
    let mut raw = RawPeer::hostile().await;
    raw.dial(node.address());
    raw.connected().await;
    node.has_connection().await;
    assert!(node.get_connected_peers().is_empty(), "not yet");
    let peer = node.connections()[0].peer_id;
    soon("the parting", node.disconnect(peer))
        .await
        .expect("it is connected");
    raw.disconnected().await;
    assert!(node.connections().is_empty());
}
