//! Addresses that strangers tell: what can do harm is neither dialled nor handed on.

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, identify, kad, noise,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use selkie::{NetworkEvent, NetworkMessage, PeerInfo};
use tokio::net::TcpListener;

use crate::support::*;

#[derive(NetworkBehaviour)]
struct Teller {
    identify: identify::Behaviour,
    kad: kad::Behaviour<kad::store::MemoryStore>,
}

/// A plain libp2p peer that serves the DHT and says of itself that it is at these addresses.
fn teller(addresses: &[Multiaddr]) -> Swarm<Teller> {
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )
        .expect("noise")
        .with_behaviour(|key| {
            let id = key.public().to_peer_id();
            let store = kad::store::MemoryStore::new(id);
            let config = kad::Config::new(StreamProtocol::new("/selkie/selkie-dev/kad/1"));
            let mut kad = kad::Behaviour::with_config(id, store, config);
            kad.set_mode(Some(kad::Mode::Server));
            let identify = identify::Config::new("/raw/1".to_owned(), key.public());
            Teller {
                identify: identify::Behaviour::new(identify),
                kad,
            }
        })
        .expect("a behaviour")
        .build();
    for address in addresses {
        swarm.add_external_address(address.clone());
    }
    swarm
}

/// A port that nobody should come to, or somebody.
async fn trap() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    (listener, format!("/ip4/127.0.0.1/tcp/{port}"))
}

/// Nobody has come since.
fn is_empty(trap: TcpListener) -> bool {
    let visit = trap.into_std().expect("a listener").accept();
    visit.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

/// Comes, tells where it is, and goes.
async fn visits(stranger: &mut Swarm<Teller>, node: &Node) {
    stranger.dial(node.address()).expect("an address");
    let identified = async {
        loop {
            let event = stranger.select_next_some().await;
            if let SwarmEvent::Behaviour(TellerEvent::Identify(identify::Event::Sent { .. })) =
                event
            {
                break;
            }
        }
    };
    soon("identify", identified).await;
    let _ = stranger.disconnect_peer_id(node.id());
    let gone = async {
        while !matches!(
            stranger.select_next_some().await,
            SwarmEvent::ConnectionClosed { .. }
        ) {}
    };
    soon("the end", gone).await;
}

/// When a stranger has gone, others hear from the DHT where it said to be. No request carries a stranger's path, and an address
/// that may be dialled is dialled once, however often it is told.
#[tokio::test]
async fn a_strangers_hint_makes_no_request_and_little_traffic() {
    let seed = Node::start(listening(TCP)).await;
    let (harmless, plain) = trap().await;
    let (router, reboot) = trap().await;
    let reboot = format!("{reboot}/x-parity-ws/%2Freboot%3Fnow");
    let told = [&reboot, &plain].map(|text| text.parse().expect("an address"));
    let mut stranger = teller(&told);
    for _ in 0..3 {
        visits(&mut stranger, &seed).await;
    }
    let mut config = listening(TCP);
    config.network.bootstrap_peers = vec![PeerInfo {
        addresses: vec![seed.address()],
        ..PeerInfo::new(seed.id())
    }];
    let node = Node::start(config).await;
    soon("bootstrap", node.connect_bootstrap_peers())
        .await
        .expect("it is up");
    let visit = soon("the one harmless dial", harmless.accept())
        .await
        .expect("it listens");
    for _ in 0..3 {
        visits(&mut stranger, &seed).await;
    }
    visits(&mut teller(&[]), &node).await;
    assert!(is_empty(harmless), "one hint, one dial");
    assert!(is_empty(router), "no request goes where a stranger says");
    drop(visit);
}

/// What is told of others is shown to the user only as far as it can be dialled without harm.
#[tokio::test]
async fn an_exchange_hands_on_no_harmful_address() {
    let mut a = Node::start(listening(TCP)).await;
    let mut b = Node::start(listening(TCP)).await;
    connect(&mut a, &mut b).await;
    let told = |addresses: &[&str]| PeerInfo {
        addresses: addresses
            .iter()
            .map(|text| text.parse().expect("an address"))
            .collect(),
        ..PeerInfo::new(PeerId::random())
    };
    let good = told(&[
        "/ip4/1.2.3.4/tcp/80/x-parity-ws/%2Freboot%3Fnow",
        "/dns4/router/tcp/80/ws",
        "/ip4/1.2.3.4/tcp/1",
    ]);
    let bad = told(&["/ip4/224.0.0.1/udp/1/quic-v1"]);
    let ourselves = PeerInfo {
        peer_id: b.id(),
        ..told(&["/ip4/1.2.3.4/tcp/1"])
    };
    a.broadcast_message(NetworkMessage::PeerExchange(vec![
        good.clone(),
        bad,
        ourselves,
    ]))
    .await
    .expect("b takes it");
    let heard = b.event("discovered peers", |event| match event {
        NetworkEvent::PeersDiscovered(peers) => Some(peers),
        _ => None,
    });
    let expected = PeerInfo {
        addresses: vec!["/ip4/1.2.3.4/tcp/1".parse().expect("an address")],
        ..good
    };
    assert_eq!(heard.await, [expected]);
}
