//! How long a connection takes, natively over loopback: Selkie beside bare libp2p, in turn, in the same process.
//!
//! Bare libp2p has the same transports and the behaviours identify and ping. What is compared is libp2p's own
//! measure on the dialler, from the dial to an authenticated and multiplexed connection; "to ready" adds what comes before a
//! user can do something with the peer: Selkie's hello, and for bare libp2p the peer's identify.

use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, identify,
    multiaddr::Protocol,
    noise, ping,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use selkie::{Config, NetworkEvent, P2PNetworkManager};

mod support;
use support::{Figure, cpu_seconds, quantile, report};

/// Connections measured per transport and side, after as many as this warm-up.
const RUNS: usize = 200;
const WARM_UP: usize = 20;
/// The bound: within 10% of bare libp2p.
const TARGET: f64 = 1.10;

#[derive(NetworkBehaviour)]
struct Bare {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

/// One connection's times.
struct Sample {
    established: Duration,
    ready: Duration,
}

#[tokio::main]
async fn main() {
    let transports = [
        ("TCP", "/ip4/127.0.0.1/tcp/0"),
        ("QUIC", "/ip4/127.0.0.1/udp/0/quic-v1"),
        ("WebSocket", "/ip4/127.0.0.1/tcp/0/ws"),
        ("WebRTC-direct", "/ip4/127.0.0.1/udp/0/webrtc-direct"),
    ];
    let mut figures = Vec::new();
    for (name, address) in transports {
        figures.extend(measure(name, address.parse().expect("an address")).await);
    }
    report("connect", &figures);
}

async fn measure(name: &str, listen: Multiaddr) -> Vec<Figure> {
    // WebRTC is dialled from a listening socket.
    let from = listen
        .iter()
        .any(|part| part == Protocol::WebRTCDirect)
        .then(|| listen.clone());
    let listener = selkie_node(Some(listen.clone())).await;
    let dialler = selkie_node(from.clone()).await;
    let target = listener.listeners().remove(0);
    let mut events = dialler.subscribe_events();

    let (bare_address, bare_listener) = bare_listener(listen).await;
    let mut bare = bare_swarm().await;
    if let Some(from) = from {
        bare.listen_on(from).expect("listening");
    }

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let (mut our_cpu, mut their_cpu) = (0.0, 0.0);
    for run in 0..WARM_UP + RUNS {
        let begin = cpu_seconds();
        let our = selkie_connect(&dialler, &mut events, &target).await;
        let middle = cpu_seconds();
        let their = bare_connect(&mut bare, &bare_address).await;
        if run >= WARM_UP {
            our_cpu += middle - begin;
            their_cpu += cpu_seconds() - middle;
            ours.push(our);
            theirs.push(their);
        }
    }
    bare_listener.abort();
    dialler.shutdown().await;
    listener.shutdown().await;

    let times = |samples: &[Sample], of: fn(&Sample) -> Duration, share| {
        let mut times: Vec<_> = samples.iter().map(|s| of(s).as_secs_f64() * 1e3).collect();
        quantile(&mut times, share)
    };
    let figure = |what: &str, of: fn(&Sample) -> Duration, share, target| Figure {
        name: format!("{name}, {what}"),
        value: times(&ours, of, share),
        unit: "ms",
        baseline: Some(times(&theirs, of, share)),
        baseline_name: "bare libp2p",
        target,
    };
    vec![
        figure("established, median", |s| s.established, 0.5, Some(TARGET)),
        figure("established, p99", |s| s.established, 0.99, Some(TARGET)),
        figure("ready, median", |s| s.ready, 0.5, None),
        Figure {
            name: format!("{name}, CPU of both sides"),
            value: our_cpu / RUNS as f64 * 1e3,
            unit: "ms",
            baseline: Some(their_cpu / RUNS as f64 * 1e3),
            baseline_name: "bare libp2p",
            target: None,
        },
    ]
}

async fn selkie_node(listen: Option<Multiaddr>) -> P2PNetworkManager {
    let mut config = Config::default();
    config.network.listen_addresses = listen.into_iter().collect();
    let node = P2PNetworkManager::new(config).await.expect("a node");
    node.start().await.expect("it listens");
    node
}

async fn selkie_connect(
    node: &P2PNetworkManager,
    events: &mut selkie::mpsc::Receiver<NetworkEvent>,
    target: &Multiaddr,
) -> Sample {
    let begin = Instant::now();
    let peer = node.dial(target.clone()).await.expect("connected");
    let ready = begin.elapsed();
    let info = node
        .get_connected_peers()
        .into_iter()
        .find(|info| info.peer_id == peer);
    let established = info
        .and_then(|info| info.connected_in)
        .expect("it was measured");
    node.disconnect(peer).await.expect("connected until now");
    while !matches!(
        events.recv().await,
        Some(NetworkEvent::PeerDisconnected { .. })
    ) {}
    Sample { established, ready }
}

async fn bare_connect(swarm: &mut Swarm<Bare>, target: &Multiaddr) -> Sample {
    let begin = Instant::now();
    swarm.dial(target.clone()).expect("dialling");
    let mut established = None;
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::ConnectionEstablished { established_in, .. } => {
                established = Some(established_in)
            }
            SwarmEvent::Behaviour(BareEvent::Identify(identify::Event::Received {
                peer_id,
                ..
            })) => {
                let (established, ready) = (established.expect("connected first"), begin.elapsed());
                bare_disconnect(swarm, peer_id).await;
                return Sample { established, ready };
            }
            _ => {}
        }
    }
}

async fn bare_disconnect(swarm: &mut Swarm<Bare>, peer: PeerId) {
    swarm.disconnect_peer_id(peer).expect("connected");
    while !matches!(
        swarm.select_next_some().await,
        SwarmEvent::ConnectionClosed { .. }
    ) {}
}

async fn bare_listener(listen: Multiaddr) -> (Multiaddr, tokio::task::JoinHandle<()>) {
    let mut swarm = bare_swarm().await;
    swarm.listen_on(listen).expect("listening");
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address
                .with_p2p(*swarm.local_peer_id())
                .unwrap_or_else(|address| address);
        }
    };
    let task = tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    (address, task)
}

async fn bare_swarm() -> Swarm<Bare> {
    let noise = noise::Config::new;
    let yamux = yamux::Config::default;
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise, yamux)
        .expect("tcp")
        .with_quic()
        .with_other_transport(|key| {
            let certificate = libp2p_webrtc::tokio::Certificate::generate(&mut rand::rng())
                .expect("a certificate");
            libp2p_webrtc::tokio::Transport::new(key.clone(), certificate)
        })
        .expect("webrtc")
        .with_dns()
        .expect("dns")
        .with_websocket(noise, yamux)
        .await
        .expect("websocket")
        .with_behaviour(|key| Bare {
            identify: identify::Behaviour::new(identify::Config::new(
                "/bare/1".to_owned(),
                key.public(),
            )),
            ping: ping::Behaviour::default(),
        })
        .expect("behaviours")
        .build()
}
