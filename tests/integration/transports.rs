//! Every transport: a dial, both sides identified, a real block one way and a real transaction back.

use libp2p::multiaddr::Protocol;
use selkie::{
    Block, Checked, Config, Item, NetworkError, NetworkEvent, P2PNetworkManager,
    chain::{Application, BlockParts, bitcoin::Bitcoin},
};

use crate::support::*;

async fn carries_real_items(listen: &str, transport: &str) {
    let block = block();
    if listen.starts_with("/ip6/") && std::net::UdpSocket::bind("[::1]:0").is_err() {
        return println!("skipped: this host has no IPv6 loopback (::1)");
    }
    let mut config = listening(listen);
    config.protocol.identify_config.agent_version = "listener/1".to_owned();
    let mut listener = Node::with(config, Bitcoin).await;
    // WebRTC is dialled from a listening socket; the others need none.
    let config = if transport == "webrtc-direct" {
        listening(listen)
    } else {
        selkie::Config::default()
    };
    let mut dialler = Node::with(config, Bitcoin).await;
    connect(&mut dialler, &mut listener).await;

    let agent = |event| match event {
        NetworkEvent::PeerIdentified {
            agent, protocols, ..
        } => Some((agent, protocols)),
        _ => None,
    };
    let (name, protocols) = dialler.event("identify", agent).await;
    assert_eq!(name, "listener/1");
    assert!(
        protocols
            .iter()
            .any(|p| p == "/selkie/selkie-dev/message/1"),
        "{protocols:?}"
    );
    listener.event("identify", agent).await;
    for node in [&dialler, &listener] {
        let peers = node.get_connected_peers();
        assert_eq!(peers.len(), 1);
        assert_eq!((peers[0].transport(), peers[0].selkie), (transport, true));
        assert_eq!(
            node.peer_metrics().peer_distribution.get(transport),
            Some(&1)
        );
    }

    // One of the block's: it is in no block yet.
    let payment = transaction();
    let own = dialler.submit(payment.clone()).await.expect("it is valid");
    assert_eq!(own, payment.check(&Bitcoin).id);
    assert_eq!(dialler.item().await.2, None, "its own");
    assert_eq!(listener.item().await, (payment, own, Some(dialler.id())));

    let sent = listener
        .submit(Item::Block(Block::new(block.clone())))
        .await
        .expect("it is valid");
    assert_eq!(sent.to_string(), BLOCK_413567);
    let (item, received_id, source) = dialler.item().await;
    assert_eq!((received_id, source), (sent, Some(listener.id())));
    assert!(*item.data() == block, "not a byte is different");
    let received = dialler.message_metrics().bytes_received;
    assert!(
        received > block.len() as u64,
        "{received} bytes were counted"
    );
}

macro_rules! transports {
    ($($(#[$gate:meta])? $name:ident: $listen:expr, $transport:expr;)*) => {
        $($(#[$gate])?
        #[tokio::test]
        async fn $name() {
            carries_real_items($listen, $transport).await;
        })*
    };
}

transports! {
    tcp_ip4: TCP, "tcp";
    tcp_ip6: "/ip6/::1/tcp/0", "tcp";
    quic_ip4: "/ip4/127.0.0.1/udp/0/quic-v1", "quic";
    quic_ip6: "/ip6/::1/udp/0/quic-v1", "quic";
    websocket_ip4: "/ip4/127.0.0.1/tcp/0/ws", "ws";
    websocket_ip6: "/ip6/::1/tcp/0/ws", "ws";
    memory: "/memory/0", "memory";
    #[cfg(feature = "webrtc")] webrtc_direct_ip4: "/ip4/127.0.0.1/udp/0/webrtc-direct", "webrtc-direct";
    #[cfg(feature = "webrtc")] webrtc_direct_ip6: "/ip6/::1/udp/0/webrtc-direct", "webrtc-direct";
}

/// Why a node can't listen there.
async fn refusal(address: &str) -> String {
    let node = P2PNetworkManager::new(listening(address)).await;
    let started = node.expect("the configuration is right").start().await;
    match started.expect_err(address) {
        NetworkError::Listen { reason, .. } => reason,
        other => panic!("{address}: {other}"),
    }
}

fn port_of(node: &Node) -> u16 {
    let address = node.address();
    let port = address.iter().find_map(|part| match part {
        Protocol::Tcp(port) => Some(port),
        _ => None,
    });
    port.expect("it listens on TCP")
}

#[tokio::test]
async fn a_port_at_which_a_node_listens_is_for_no_other() {
    for first in ["", "/ws"] {
        let mut node = Node::start(listening(&format!("{TCP}{first}"))).await;
        let port = port_of(&node);
        let same = ["", "/ws"].map(|rest| format!("/ip4/127.0.0.1/tcp/{port}{rest}"));
        // Other systems let addresses that only overlap stand beside each other.
        let overlapping = format!("/ip4/0.0.0.0/tcp/{port}");
        let overlapping = cfg!(target_os = "linux").then_some(overlapping);
        for second in same.into_iter().chain(overlapping) {
            let reason = refusal(&second).await;
            assert!(reason.contains("the port is taken"), "{second}: {reason}");
        }
        // Once it has ended the port is free at once, whatever its connections leave behind.
        let mut peer = Node::start(Config::default()).await;
        connect(&mut peer, &mut node).await;
        node.shutdown().await;
        Node::start(listening(&format!("/ip4/127.0.0.1/tcp/{port}{first}"))).await;
    }
}

#[tokio::test]
async fn a_dial_that_is_under_way_at_the_end_holds_no_port() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let silent = silent.expect("loopback");
    let at = silent.local_addr().expect("bound").port();
    for rest in ["", "/ws"] {
        let node = Node::start(listening(&format!("{TCP}{rest}"))).await;
        let (port, dialler) = (port_of(&node), (*node).clone());
        let to = format!("/ip4/127.0.0.1/tcp/{at}{rest}");
        let to = to.parse().expect("an address");
        let dial = tokio::spawn(async move { dialler.dial(to).await });
        let (_link, _) = soon("the dial", silent.accept()).await.expect("it comes");
        node.shutdown().await;
        let again = P2PNetworkManager::new(listening(&format!("/ip4/127.0.0.1/tcp/{port}{rest}")));
        let again = again.await.expect("the configuration is right");
        again.start().await.expect("the port is free");
        assert!(dial.await.expect("it ends").is_err());
        again.shutdown().await;
    }
}

#[tokio::test]
async fn a_node_dials_from_the_port_at_which_it_listens() {
    let mut node = Node::start(listening(TCP)).await;
    let mut peer = Node::start(listening(TCP)).await;
    connect(&mut node, &mut peer).await;
    let from = peer.connections()[0].address.clone();
    let port = Protocol::Tcp(port_of(&node));
    assert!(from.iter().any(|part| part == port), "{from}");
}

#[tokio::test]
async fn who_cannot_listen_is_told_what_helps_on_every_transport() {
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let [tcp, udp] = [tcp.local_addr(), udp.local_addr()].map(|at| at.expect("bound").port());
    for (taken, rest) in [
        (format!("tcp/{tcp}"), ""),
        (format!("tcp/{tcp}"), "/ws"),
        (format!("udp/{udp}"), "/quic-v1"),
        (format!("udp/{udp}"), "/quic-v1/webtransport"),
    ] {
        let reason = refusal(&format!("/ip4/127.0.0.1/{taken}{rest}")).await;
        assert!(
            reason.contains("the port is taken"),
            "{taken}{rest}: {reason}"
        );
        // Of the documentation's addresses no host has any.
        let reason = refusal(&format!("/ip4/203.0.113.1/{taken}{rest}")).await;
        assert!(
            reason.contains("no interface here"),
            "{taken}{rest}: {reason}"
        );
    }
}

/// A chain whose blocks look like Bitcoin's, and that takes anything under the identity of the true one.
struct Forger;

impl Application for Forger {
    fn check_block(&self, _: &Block) -> Checked {
        Checked::accept(Bitcoin.check_block(&Block::new(block())).id)
    }

    fn split_block(&self, block: &Block) -> Option<BlockParts> {
        Bitcoin.split_block(block)
    }
}

#[tokio::test]
async fn a_forged_block_is_refused_and_its_sender_pays() {
    let mut honest = Node::with(listening(TCP), Bitcoin).await;
    let mut forger = Node::with(listening(TCP), Forger).await;
    connect(&mut forger, &mut honest).await;
    let mut forged = block().to_vec();
    if let Some(byte) = forged.last_mut() {
        *byte ^= 1;
    }
    let forged = Block::new(forged);
    let reason = Bitcoin.check_block(&forged).reason;
    forger
        .submit(Item::Block(forged))
        .await
        .expect("its own application takes anything");
    let refused = honest.event("a refused item", |event| match event {
        NetworkEvent::ItemRefused { source, reason, .. } => Some((source, reason)),
        NetworkEvent::ItemAccepted { .. } => panic!("a forged block was accepted"),
        _ => None,
    });
    // The score comes first, the reason right after it.
    assert_eq!(refused.await, (forger.id(), reason));
    let score = honest.get_connected_peers()[0].reputation;
    assert!((-10.0..-9.9).contains(&score), "{score}");
}

#[tokio::test]
async fn a_closed_network_is_closed_outwards_too() {
    let closed = |secret: &str| {
        let mut config = listening(TCP);
        config.security.noise_config.prologue = Some(secret.to_owned());
        config
    };
    let mut open = listening(TCP);
    let quic = "/ip4/127.0.0.1/udp/0/quic-v1".parse().expect("an address");
    open.network.listen_addresses.push(quic);
    let open = Node::start(open).await;
    let mut member = Node::start(closed("secret")).await;
    for address in open.listeners() {
        let error = soon("the dial", member.dial(address)).await;
        let error = error.expect_err("it has no secret").to_string();
        assert!(error.contains("security.noise_config.prologue"), "{error}");
    }
    let mut other = Node::start(closed("secret")).await;
    connect(&mut member, &mut other).await;
}
