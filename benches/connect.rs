//! How long a connection takes, natively over loopback: Selkie beside bare libp2p, in turn, in the same process.
//!
//! Bare libp2p has the same transports and the behaviours identify and ping. What is compared is libp2p's own
//! measure on the dialler, from the dial to an authenticated and multiplexed connection; "ready" adds what comes before a
//! user can do something with the peer: Selkie's hello and gossip subscriptions, and for bare libp2p the peer's identify.
//!
//! There are some rounds, each with new nodes, and in a round the two sides take turns at going first. A figure is
//! the median of the rounds' medians, or of their p99s, with the least and the most of them: one p99 of a few hundred connections is the system's
//! third-worst hiccup and says little of the code.

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
use tokio::sync::mpsc;

mod support;
use support::{Figure, Measured, cpu_seconds, full_or, quantile, report};

/// Rounds per transport, and connections measured per side in each; a tenth more go first to warm up.
const ROUNDS: usize = 5;
const RUNS: usize = 200;
/// Of WebRTC-direct, where a connection takes 0.2 s at least: `webrtc-ice` looks for a path at that interval.
const WEBRTC_RUNS: usize = 12;
/// The bound: within 10% of bare libp2p.
const TARGET: std::ops::RangeInclusive<f64> = 0.0..=1.10;

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
    let (rounds, runs) = (full_or(ROUNDS, 1), full_or(RUNS, 5));
    let transports = [
        ("TCP", "/ip4/127.0.0.1/tcp/0", runs),
        ("QUIC", "/ip4/127.0.0.1/udp/0/quic-v1", runs),
        ("WebSocket", "/ip4/127.0.0.1/tcp/0/ws", runs),
        (
            "WebRTC-direct",
            "/ip4/127.0.0.1/udp/0/webrtc-direct",
            full_or(WEBRTC_RUNS, 1),
        ),
    ];
    let mut figures = Vec::new();
    for (name, address, runs) in transports {
        eprintln!("{name}: {rounds} rounds of {runs} connections per side");
        let address = address.parse().expect("an address");
        figures.extend(measure(name, address, rounds, runs).await);
    }
    report("connect", &figures);
}

async fn measure(name: &str, listen: Multiaddr, count: usize, runs: usize) -> Vec<Figure> {
    let mut rounds = Vec::new();
    for _ in 0..count {
        let round = round(&listen, runs).await;
        for (side, failures) in [
            ("Selkie", &round.selkie.failures),
            ("bare libp2p", &round.bare.failures),
        ] {
            if let Some(first) = failures.first() {
                eprintln!("   {} of {side}'s dials failed: {first}", failures.len());
            }
        }
        rounds.push(round);
    }
    let median = |side: fn(&Round) -> &Side, of: &dyn Fn(&Side) -> f64| {
        Measured::of(rounds.iter().map(|round| of(side(round))))
    };
    let figure = |what: &str, of: &dyn Fn(&Side) -> f64, target| Figure {
        name: format!("{name}, {what}"),
        value: median(|round| &round.selkie, of),
        unit: "ms",
        baseline: Some(median(|round| &round.bare, of)),
        baseline_name: "bare libp2p",
        target,
    };
    let established = |share| move |side: &Side| side.time(|s| s.established, share);
    let ready = |share| move |side: &Side| side.time(|s| s.ready, share);
    vec![
        figure("established, median", &established(0.5), Some(TARGET)),
        figure("established, p99", &established(0.99), Some(TARGET)),
        figure("ready, median", &ready(0.5), None),
        figure("ready, p99", &ready(0.99), None),
        figure(
            "CPU of both ends",
            &|side| side.cpu / side.samples.len() as f64 * 1e3,
            None,
        ),
    ]
}

/// What one side did in a round.
#[derive(Default)]
struct Side {
    samples: Vec<Sample>,
    /// Seconds of CPU time, of the dialler and the listener.
    cpu: f64,
    /// Why dials came to nothing; they are in no other figure.
    failures: Vec<String>,
}

impl Side {
    /// In milliseconds.
    fn time(&self, of: fn(&Sample) -> Duration, share: f64) -> f64 {
        let times = self.samples.iter().map(|s| of(s).as_secs_f64() * 1e3);
        quantile(&mut times.collect::<Vec<_>>(), share)
    }
}

struct Round {
    selkie: Side,
    bare: Side,
}

async fn round(listen: &Multiaddr, runs: usize) -> Round {
    // WebRTC is dialled from a listening socket.
    let from = listen
        .iter()
        .any(|part| part == Protocol::WebRTCDirect)
        .then(|| listen.clone());
    let mut listener = Ours::new(Some(listen.clone())).await;
    let target = listener.node.listeners().remove(0);
    let mut bare_listener = BareListener::new(listen.clone()).await;
    let (mut dialler, mut bare_dialler) = diallers(from.clone()).await;

    let (mut selkie, mut bare) = (Side::default(), Side::default());
    let warm_up = runs.div_ceil(10);
    for run in 0..warm_up + runs {
        // libp2p-webrtc keeps the address of a connection that is closed, and the next dial from there would wait in vain.
        if from.is_some() && run > 0 {
            dialler.node.shutdown().await;
            (dialler, bare_dialler) = diallers(from.clone()).await;
        }
        for selkies_turn in [run % 2 == 0, run % 2 == 1] {
            let begin = cpu_seconds();
            let (side, sample) = if selkies_turn {
                let sample = selkie_connect(&mut dialler, &mut listener, &target).await;
                (&mut selkie, sample)
            } else {
                let sample = bare_connect(&mut bare_dialler, &mut bare_listener).await;
                (&mut bare, sample)
            };
            match sample {
                Ok(sample) if run >= warm_up => {
                    side.samples.push(sample);
                    side.cpu += cpu_seconds() - begin;
                }
                Ok(_) => {}
                Err(reason) => side.failures.push(reason),
            }
        }
    }
    bare_listener.task.abort();
    dialler.node.shutdown().await;
    listener.node.shutdown().await;
    Round { selkie, bare }
}

/// A dialler of each side, from this address where it matters.
async fn diallers(from: Option<Multiaddr>) -> (Ours, Swarm<Bare>) {
    let mut bare = bare_swarm().await;
    if let Some(from) = &from {
        bare.listen_on(from.clone()).expect("listening");
        while !matches!(
            bare.select_next_some().await,
            SwarmEvent::NewListenAddr { .. }
        ) {}
    }
    (Ours::new(from).await, bare)
}

/// A Selkie node.
struct Ours {
    node: P2PNetworkManager,
    events: selkie::mpsc::Receiver<NetworkEvent>,
}

impl Ours {
    async fn new(listen: Option<Multiaddr>) -> Self {
        let mut config = Config::default();
        config.network.listen_addresses = listen.into_iter().collect();
        // One peer that comes 200 times in a second sends more than it may otherwise.
        config.security.rate_limits.messages_per_second = 10_000;
        let node = P2PNetworkManager::new(config).await.expect("a node");
        let events = node.subscribe_events();
        node.start().await.expect("it listens");
        Self { node, events }
    }

    /// Lets its peer go, which may be gone already.
    async fn end(&mut self, peer: PeerId) {
        let _ = self.node.disconnect(peer).await;
        self.until(|event| matches!(event, NetworkEvent::PeerDisconnected { .. }))
            .await;
    }

    async fn until(&mut self, wanted: impl Fn(&NetworkEvent) -> bool) {
        while !wanted(&self.events.recv().await.expect("the node runs")) {}
    }
}

async fn selkie_connect(
    dialler: &mut Ours,
    listener: &mut Ours,
    target: &Multiaddr,
) -> Result<Sample, String> {
    let begin = Instant::now();
    let dialled = dialler.node.dial(target.clone()).await;
    let peer = dialled.map_err(|error| error.to_string())?;
    let ready = begin.elapsed();
    let info = dialler
        .node
        .get_connected_peers()
        .into_iter()
        .find(|info| info.peer_id == peer);
    let established = info
        .and_then(|info| info.connected_in)
        .expect("it was measured");
    listener
        .until(|event| matches!(event, NetworkEvent::PeerConnected(_)))
        .await;
    // The listener first: one that still has the connection takes the next for a further one of the same peer.
    listener.end(dialler.node.local_peer_id).await;
    dialler.end(peer).await;
    Ok(Sample { established, ready })
}

async fn bare_connect(
    dialler: &mut Swarm<Bare>,
    listener: &mut BareListener,
) -> Result<Sample, String> {
    let begin = Instant::now();
    dialler.dial(listener.address.clone()).expect("dialling");
    let mut established = None;
    let (sample, peer) = loop {
        match dialler.select_next_some().await {
            SwarmEvent::ConnectionEstablished { established_in, .. } => {
                established = Some(established_in)
            }
            SwarmEvent::OutgoingConnectionError { error, .. } => return Err(error.to_string()),
            SwarmEvent::Behaviour(BareEvent::Identify(identify::Event::Received {
                peer_id,
                ..
            })) => {
                let established = established.expect("connected first");
                let ready = begin.elapsed();
                break (Sample { established, ready }, peer_id);
            }
            _ => {}
        }
    };
    let us = *dialler.local_peer_id();
    listener.end.send(us).await.expect("it runs");
    listener.ended.recv().await.expect("it runs");
    // It may be gone already.
    let _ = dialler.disconnect_peer_id(peer);
    while !matches!(
        dialler.select_next_some().await,
        SwarmEvent::ConnectionClosed { .. }
    ) {}
    Ok(sample)
}

/// A bare node that listens, in a task of its own as Selkie's is.
struct BareListener {
    address: Multiaddr,
    /// Whom it shall let go, and that somebody has gone.
    end: mpsc::Sender<PeerId>,
    ended: mpsc::Receiver<()>,
    task: tokio::task::JoinHandle<()>,
}

impl BareListener {
    async fn new(listen: Multiaddr) -> Self {
        let mut swarm = bare_swarm().await;
        swarm.listen_on(listen).expect("listening");
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address
                    .with_p2p(*swarm.local_peer_id())
                    .unwrap_or_else(|address| address);
            }
        };
        let (end, mut ends) = mpsc::channel(1);
        let (gone, ended) = mpsc::channel(1);
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(peer) = ends.recv() => {
                        // It may have gone already.
                        let _ = swarm.disconnect_peer_id(peer);
                    }
                    event = swarm.select_next_some() => {
                        if let SwarmEvent::ConnectionClosed { .. } = event {
                            let _ = gone.send(()).await;
                        }
                    }
                }
            }
        });
        Self {
            address,
            end,
            ended,
            task,
        }
    }
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
