//! Two honest nodes that know only the victim, so that all they say to each other goes through it; and newcomers.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, core::upgrade::OutboundConnectionUpgrade, multiaddr::Protocol, noise};
use selkie::{
    Application, Config, Item, Keypair, NetworkEvent, P2PNetworkManager, Transaction, Vote,
};
use tokio_util::compat::TokioAsyncReadCompatExt;
use wtransport::{ClientConfig, Endpoint, tls::Sha256Digest};

use super::attacker::{Via, address, splitmix};

const VOTES: Duration = Duration::from_millis(25);
const TRANSACTIONS: Duration = Duration::from_millis(20);
const VOTE_BYTES: usize = 100;
const TRANSACTION_BYTES: usize = 250;
const NEWCOMERS_PATIENCE: Duration = Duration::from_secs(10);
/// How long one that did not get in waits before it tries again; then twice as long, as a node does.
const NEWCOMERS_PAUSE: Duration = Duration::from_secs(1);

/// What an item begins with: who made it, what it is, its number.
const HEAD: usize = 10;

/// All items that the two have made, and when the other had them.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<HashMap<[u8; HEAD], Journey>>>);

#[derive(Clone, Copy)]
struct Journey {
    made: Instant,
    arrived: Option<Instant>,
}

/// One side's view of the ledger.
struct Side {
    who: u8,
    ledger: Ledger,
}

impl Application for Side {
    fn deliver(&self, item: &Item) {
        let Some(head) = item.data().first_chunk::<HEAD>() else {
            return;
        };
        // Own items are delivered too.
        if head[0] != self.who
            && let Some(journey) = self.ledger.0.lock().expect("no panic").get_mut(head)
        {
            journey.arrived.get_or_insert_with(Instant::now);
        }
    }
}

impl Ledger {
    fn make(&self, who: u8, kind: u8, number: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![who, kind];
        bytes.extend_from_slice(&number.to_le_bytes());
        let head = *bytes.first_chunk::<HEAD>().expect("just written");
        let mut state = number ^ u64::from(who) << 56;
        while bytes.len() < length {
            state = splitmix(state);
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        bytes.truncate(length);
        let journey = Journey {
            made: Instant::now(),
            arrived: None,
        };
        self.0.lock().expect("no panic").insert(head, journey);
        bytes
    }

    /// How long votes took that were made in a span of time, in milliseconds; those that have not come count until now.
    pub fn votes(&self, from: Instant, to: Instant) -> Vec<f64> {
        let (items, now) = (self.0.lock().expect("no panic"), Instant::now());
        let votes = items
            .iter()
            .filter(|(head, journey)| head[1] == b'v' && (from..to).contains(&journey.made));
        let took = |journey: &Journey| journey.arrived.unwrap_or(now) - journey.made;
        votes
            .map(|(_, journey)| took(journey).as_secs_f64() * 1e3)
            .collect()
    }

    /// How many of a kind were made in a span of time, and how many of them did not come.
    pub fn lost(&self, kind: u8, from: Instant, to: Instant) -> (usize, usize) {
        let items = self.0.lock().expect("no panic");
        let made = items
            .iter()
            .filter(|(head, journey)| head[1] == kind && (from..to).contains(&journey.made));
        let lost = made
            .clone()
            .filter(|(_, journey)| journey.arrived.is_none());
        (made.count(), lost.count())
    }
}

/// The two.
pub struct Pair {
    pub ledger: Ledger,
    pub ids: [String; 2],
    /// What they held against the victim, or what ended their connections to it.
    pub complaints: Arc<Mutex<Vec<String>>>,
    nodes: Vec<P2PNetworkManager>,
    tasks: tokio::task::JoinSet<()>,
}

impl Pair {
    /// Connects both and begins to talk.
    pub async fn join(victim: &Multiaddr) -> Self {
        let ledger = Ledger::default();
        let complaints: Arc<Mutex<Vec<String>>> = Arc::default();
        let mut tasks = tokio::task::JoinSet::new();
        let mut nodes = Vec::new();
        for who in [b'a', b'b'] {
            let node = P2PNetworkManager::with(
                quiet(),
                Keypair::generate_ed25519(),
                Side {
                    who,
                    ledger: ledger.clone(),
                },
            );
            let node = node.await.expect("the configuration is right");
            let mut events = node.subscribe_events();
            let heard = Arc::clone(&complaints);
            let (knows, known) = tokio::sync::oneshot::channel();
            tasks.spawn(async move {
                // Who attacks is told of as any peer is, and may be dialled: what comes of that is no complaint.
                let victim = known.await.ok();
                while let Some(event) = events.recv().await {
                    if let NetworkEvent::PeerScored { peer_id, .. }
                    | NetworkEvent::PeerDisconnected { peer_id, .. } = &event
                        && Some(*peer_id) == victim
                    {
                        heard.lock().expect("no panic").push(event.to_string());
                    }
                }
            });
            node.start().await.expect("nothing to listen on");
            let dialled = node.dial(victim.clone()).await;
            let _ = knows.send(dialled.expect("the victim is there"));
            nodes.push(node);
        }
        let ids = [0, 1].map(|index: usize| nodes[index].local_peer_id.to_string());
        Self {
            ledger,
            ids,
            complaints,
            nodes,
            tasks,
        }
    }

    /// Begins to make votes and transactions.
    pub fn talk(&mut self) {
        for (node, who) in self.nodes.iter().zip([b'a', b'b']) {
            for (kind, pause, length) in [
                (b'v', VOTES, VOTE_BYTES),
                (b't', TRANSACTIONS, TRANSACTION_BYTES),
            ] {
                let (node, ledger) = (node.clone(), self.ledger.clone());
                self.tasks.spawn(async move {
                    let mut ticks = tokio::time::interval(pause);
                    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
                    for number in 0.. {
                        ticks.tick().await;
                        let data = ledger.make(who, kind, number, length);
                        let item = match kind {
                            b'v' => Item::Vote(Vote::new(data)),
                            _ => Item::Transaction(Transaction::new(data)),
                        };
                        // What is not sent counts as lost.
                        let _ = node.submit(item).await;
                    }
                });
            }
        }
    }

    pub async fn leave(mut self) {
        self.tasks.abort_all();
        for node in self.nodes {
            node.shutdown().await;
        }
    }
}

/// Where newcomers come from: the attacker's address, as behind one NAT, and another.
pub const HOSTS: [Ipv4Addr; 2] = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)];

/// A node that only dials.
pub fn quiet() -> Config {
    let mut config = Config::default();
    config.protocol.kademlia_config.mdns = false;
    config
}

/// How many of so many new nodes get in that come from an address.
pub async fn newcomers(addresses: &[Multiaddr], via: Via, from: Ipv4Addr, count: usize) -> usize {
    let address = address(addresses, via);
    let mut dials = tokio::task::JoinSet::new();
    for _ in 0..count {
        let address = address.clone();
        dials.spawn(async move {
            let comes = async {
                let mut pause = NEWCOMERS_PAUSE;
                if via == Via::WebTransport {
                    while webtransport(&address, from).await.is_none() {
                        wait(&mut pause).await;
                    }
                    return true;
                }
                // It dials from where it listens.
                let listens = match via {
                    Via::Tcp => format!("/ip4/{from}/tcp/0"),
                    Via::WebSocket => format!("/ip4/{from}/tcp/0/ws"),
                    Via::Quic | Via::WebTransport => format!("/ip4/{from}/udp/0/quic-v1"),
                };
                let mut config = quiet();
                config.network.listen_addresses = vec![listens.parse().expect("an address")];
                let Ok(node) = P2PNetworkManager::new(config).await else {
                    return false;
                };
                if node.start().await.is_err() {
                    return false;
                }
                while node.dial(address.clone()).await.is_err() {
                    wait(&mut pause).await;
                }
                node.shutdown().await;
                true
            };
            tokio::time::timeout(NEWCOMERS_PATIENCE, comes)
                .await
                .unwrap_or(false)
        });
    }
    let mut came = 0;
    while let Some(outcome) = dials.join_next().await {
        came += usize::from(outcome.unwrap_or(false));
    }
    came
}

/// Waits for the next try.
async fn wait(pause: &mut Duration) {
    tokio::time::sleep(*pause).await;
    *pause *= 2;
}

/// A browser's way in, as far as the proof of identities.
async fn webtransport(address: &Multiaddr, from: Ipv4Addr) -> Option<()> {
    let client = Endpoint::client(webtransport_config(address, from)).ok()?;
    let session = client.connect(webtransport_url(address)).await.ok()?;
    let (send, receive) = session.open_bi().await.ok()?.await.ok()?;
    let hashes = address.iter().filter_map(|part| match part {
        Protocol::Certhash(hash) => Some(hash),
        _ => None,
    });
    let noise = noise::Config::new(&Keypair::generate_ed25519())
        .ok()?
        .with_webtransport_certhashes(hashes.collect());
    let stream = tokio::io::join(receive, send).compat();
    noise.upgrade_outbound(stream, "/noise").await.ok()?;
    Some(())
}

pub fn webtransport_config(address: &Multiaddr, from: Ipv4Addr) -> ClientConfig {
    let hashes = address.iter().filter_map(|part| match part {
        Protocol::Certhash(hash) => Some(Sha256Digest::new(hash.digest().try_into().ok()?)),
        _ => None,
    });
    ClientConfig::builder()
        .with_bind_address(SocketAddr::from((from, 0)))
        .with_server_certificate_hashes(hashes.collect::<Vec<_>>())
        .build()
}

pub fn webtransport_url(address: &Multiaddr) -> String {
    let port = address.iter().find_map(|part| match part {
        Protocol::Udp(port) => Some(port),
        _ => None,
    });
    let port = port.unwrap_or_default();
    format!("https://127.0.0.1:{port}/.well-known/libp2p-webtransport?type=noise")
}
