//! Two nodes that meet through a third: a circuit through a libp2p relay.
//!
//! Ann can't be reached from outside, so she listens at a relay; Bob dials her there. A tab does the same over the relay's WebSocket:
//! `node.dial` of the second address that is printed. The relay here is bare libp2p, as anybody may run one: Selkie is a client of
//! circuits so far, no server. Relays allow little by default (128 KiB, two minutes a circuit), enough to meet and say hello.

use std::time::Duration;

use futures::StreamExt;
use libp2p::{
    Multiaddr, Swarm, SwarmBuilder, identify,
    multiaddr::Protocol,
    noise, ping, relay,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use selkie::{NetworkConfig, NetworkEvent, NetworkMessage, P2PNetworkManager, Transaction};

#[derive(NetworkBehaviour)]
struct Relay {
    relay: relay::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [tcp, websocket] = start_relay().await?;
    let at_relay = tcp.clone().with(Protocol::P2pCircuit);
    let ann = P2PNetworkManager::new(NetworkConfig {
        listen_addresses: vec![at_relay],
        ..Default::default()
    })
    .await?;
    let bob = P2PNetworkManager::new(NetworkConfig::default()).await?;
    let mut events = ann.subscribe_events();
    futures::try_join!(ann.start(), bob.start())?;
    // The relay has given her a place once she listens there.
    while let Some(event) = events.recv().await {
        if matches!(event, NetworkEvent::Listening(_)) {
            break;
        }
    }
    let there = |relay: Multiaddr| {
        relay
            .with(Protocol::P2pCircuit)
            .with(Protocol::P2p(ann.local_peer_id))
    };
    println!("Ann is at {}", there(tcp.clone()));
    println!("and for a tab at {}", there(websocket));
    bob.dial(there(tcp)).await?;
    let transaction = Transaction::new("pay Ann 5");
    bob.broadcast_message(NetworkMessage::Transaction(transaction))
        .await?;
    while let Some(event) = events.recv().await {
        println!("{event}");
        if matches!(event, NetworkEvent::ItemAccepted { .. }) {
            break;
        }
    }
    futures::join!(ann.shutdown(), bob.shutdown());
    Ok(())
}

/// A relay on loopback; its addresses over TCP and over WebSocket.
async fn start_relay() -> Result<[Multiaddr; 2], Box<dyn std::error::Error>> {
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )?
        .with_websocket(noise::Config::new, yamux::Config::default)
        .await?
        .with_behaviour(|key| Relay {
            relay: relay::Behaviour::new(key.public().to_peer_id(), relay::Config::default()),
            identify: identify::Behaviour::new(identify::Config::new(
                "/relay/1".to_owned(),
                key.public(),
            )),
            ping: ping::Behaviour::default(),
        })?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
        .build();
    let tcp = listen(&mut swarm, "/ip4/127.0.0.1/tcp/0").await?;
    let websocket = listen(&mut swarm, "/ip4/127.0.0.1/tcp/0/ws").await?;
    tokio::spawn(swarm.for_each(|_| async {}));
    Ok([tcp, websocket])
}

async fn listen(
    swarm: &mut Swarm<Relay>,
    address: &str,
) -> Result<Multiaddr, Box<dyn std::error::Error>> {
    swarm.listen_on(address.parse()?)?;
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            // A relay tells in a reservation where it can be reached.
            swarm.add_external_address(address.clone());
            return Ok(address.with(Protocol::P2p(*swarm.local_peer_id())));
        }
    }
}
