//! Kademlia behind a guard: the routing table holds only what this node has seen for itself.
//!
//! libp2p's Kademlia (Maymounkov and Mazieres, 2002; libp2p/specs kad-dht) takes what it is given. This behaviour stands
//! around it and decides what that is:
//!
//! - **Addresses** come in by two doors only: the user's own ([`Routing::vouch`]), and what a connected peer tells of itself
//!   ([`Routing::told`]), of which it believes the address that was dialled, and those on the host that the connection comes
//!   from. So nobody makes this node, or those who ask it, dial somebody else. At most [`MAX_ADDRESSES`] of each kind a peer;
//!   each telling replaces whatever the table had from the peer, also before it went and came again.
//! - **It dials nobody**: whom a lookup would meet, it tells ([`RoutingEvent::Meets`]), and whoever dials decides; the lookup goes on
//!   without those that are not dialled. What a peer answers is told too ([`RoutingEvent::Named`]), cut to [`MAX_NAMED`] peers. A lookup begins when
//!   somebody wants one ([`Routing::look`]), and when the table is small and grows. No other behaviour gets addresses from here.
//! - **Records and providers** of strangers are not kept: nothing here uses them.
//! - **Questions** are answered at [`QUESTIONS`] a peer. What comes sooner is dropped, and told so that its sender pays.
//!
//! Bounds: an entry for each connected peer, and for [`MAX_VOUCHED`] of the user's; the table is Kademlia's own, 20 peers for each
//! of 256 distances. Its streams are 32 a connection, 16 KiB a message. Addresses are kept in two more places of libp2p's, which
//! only the user's own reach: request-response's two lists, of 100 peers with 10 addresses each, the least used of which
//! make room. Identify's own list is off (`behaviour.rs`).

use std::{
    collections::BTreeMap,
    net::IpAddr,
    task::{Context, Poll},
};

use futures::ready;
use libp2p::{
    Multiaddr, PeerId,
    core::{ConnectedPoint, Endpoint, transport::PortUse},
    kad::{self, store::MemoryStore},
    multiaddr::Protocol,
    swarm::{
        ConnectionDenied, ConnectionId, DialError, DialFailure, FromSwarm, NetworkBehaviour,
        THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
    },
};

use crate::{
    config::Config,
    error::NetworkError,
    peers::{AddressPolicy, PeerInfo, without_id},
    platform,
    traffic::{Cost, Limit, Limits, Protocol as Limited, Rate, RateLimiter},
};

/// The most addresses of one peer that the table holds from the user, and from the peer.
const MAX_ADDRESSES: usize = 8;
/// Peers whose addresses the user gave that are kept apart; of further ones the peer's own word replaces the user's.
const MAX_VOUCHED: usize = 1024;
/// How many questions of one peer are answered: a bootstrap asks a peer some 20 times.
const QUESTIONS: Rate = Rate {
    per_second: 20,
    burst: 200,
};
/// The most peers that an answer may name, as many as a bucket holds, and the most addresses of each.
const MAX_NAMED: (usize, usize) = (20, AddressPolicy::MAX_ADDRESSES);
/// Lookups at once from which on no further one is begun.
const LOOKUPS: usize = 3;

type Kad = kad::Behaviour<MemoryStore>;
/// What a peer's stream said: Kademlia's own type, which it does not name.
type Said = THandlerOutEvent<Kad>;

/// See the module's documentation.
pub(crate) struct Routing {
    own: PeerId,
    kad: Kad,
    /// Where connected peers are connected from, or to.
    peers: BTreeMap<PeerId, BTreeMap<ConnectionId, Box<ConnectedPoint>>>,
    /// What the user said, the eldest first.
    vouched: BTreeMap<PeerId, Vec<Multiaddr>>,
    limiter: RateLimiter,
    /// Peers that asked sooner than they may, to be told.
    excess: Vec<PeerId>,
    /// What peers named, to be told.
    named: Vec<(PeerId, Vec<PeerInfo>)>,
}

/// What the table has to say.
#[derive(Debug)]
pub(crate) enum RoutingEvent {
    /// A peer asks more often than it may.
    TooManyQuestions(PeerId),
    /// A peer names others.
    Named {
        /// Who answered.
        teller: PeerId,
        /// At most [`MAX_NAMED`].
        peers: Vec<PeerInfo>,
    },
    /// A lookup would ask this peer, which is not connected. It waits until the peer is, its dial has failed, or
    /// [`Routing::not_met`] says that nobody dials it.
    Meets(PeerId),
    /// Kademlia's own event.
    Kad(Box<kad::Event>),
}

impl Routing {
    /// An empty table.
    pub(crate) fn new(config: &Config, own: PeerId) -> Result<Self, NetworkError> {
        let settings = &config.protocol.kademlia_config;
        // Nothing is kept for others, and nothing of our own is put there.
        let store = kad::store::MemoryStoreConfig {
            max_records: 0,
            max_value_bytes: 0,
            max_providers_per_key: 0,
            max_provided_keys: 0,
        };
        let store = MemoryStore::with_config(own, store);
        let mut kad_config = kad::Config::new(config.protocol_name("kad/1")?);
        kad_config
            .set_query_timeout(settings.query_timeout)
            .set_record_filtering(kad::StoreInserts::FilterBoth)
            .set_replication_interval(None)
            .set_publication_interval(None)
            .set_provider_publication_interval(None)
            .set_periodic_bootstrap_interval(None)
            .set_kbucket_inserts(kad::BucketInserts::Manual);
        let mut kad = Kad::with_config(own, store, kad_config);
        kad.set_mode(Some(if config.serves_dht() {
            kad::Mode::Server
        } else {
            kad::Mode::Client
        }));
        let limits = Limits {
            discovery: Limit {
                items: Some(QUESTIONS),
                bytes: None,
            },
            ..Limits::default()
        };
        Ok(Self {
            own,
            kad,
            peers: BTreeMap::new(),
            vouched: BTreeMap::new(),
            limiter: RateLimiter::new(limits),
            excess: Vec::new(),
            named: Vec::new(),
        })
    }

    /// Asks the nearest peers that are connected, or come to be, for those that are nearest to a place among the ids.
    pub(crate) fn look(&mut self, place: Vec<u8>) {
        if self.kad.iter_queries().count() < LOOKUPS {
            self.kad.get_closest_peers(place);
        }
    }

    /// Lookups under way.
    #[cfg(test)]
    pub(crate) fn lookups(&self) -> usize {
        self.kad.iter_queries().count()
    }

    /// Nobody dials this peer: lookups go on without it.
    pub(crate) fn not_met(&mut self, peer: PeerId) {
        self.kad.on_swarm_event(FromSwarm::DialFailure(DialFailure {
            peer_id: Some(peer),
            error: &DialError::Aborted,
            // The lookups go by the peer.
            connection_id: ConnectionId::new_unchecked(usize::MAX),
        }));
    }

    /// The user knows that a peer is at an address.
    pub(crate) fn vouch(&mut self, peer: &PeerId, address: Multiaddr) {
        let address = without_id(&address);
        if self.vouched.len() < MAX_VOUCHED || self.vouched.contains_key(peer) {
            let vouched = self.vouched.entry(*peer).or_default();
            vouched.retain(|known| *known != address);
            if vouched.len() == MAX_ADDRESSES {
                let eldest = vouched.remove(0);
                self.kad.remove_address(peer, &with_id(&eldest, *peer));
            }
            vouched.push(address.clone());
        }
        self.kad.add_address(peer, address);
    }

    /// A connected peer that speaks Kademlia tells where it is: of that, what this node has seen for itself, with what the
    /// user said, is all that the table has of it from now on.
    pub(crate) fn told(&mut self, peer: PeerId, addresses: &[Multiaddr]) {
        let Some(connections) = self.peers.get(&peer) else {
            return;
        };
        let mut right = believed(connections.values().map(Box::as_ref), addresses);
        right.extend(self.vouched.get(&peer).into_iter().flatten().cloned());
        let right: Vec<_> = right.iter().map(|right| with_id(right, peer)).collect();
        let before = self.addresses(&peer);
        for address in right.iter().filter(|new| !before.contains(new)) {
            self.kad.add_address(&peer, address.clone());
        }
        for address in before.iter().filter(|old| !right.contains(old)) {
            self.kad.remove_address(&peer, address);
        }
    }

    /// The addresses of a peer in the table.
    fn addresses(&mut self, peer: &PeerId) -> Vec<Multiaddr> {
        let key = kad::KBucketKey::from(*peer);
        let bucket = self.kad.kbucket(*peer);
        bucket.map_or(Vec::new(), |bucket| {
            let entries = bucket.iter();
            let mine = entries.filter(|entry| *entry.node.key == key);
            mine.flat_map(|entry| entry.node.value.iter().cloned().collect::<Vec<_>>())
                .collect()
        })
    }
}

/// Of the addresses that a peer tells of itself, those on the host that it is connected from, and before them those that
/// were dialled and led to it.
fn believed<'a>(
    connections: impl Iterator<Item = &'a ConnectedPoint> + Clone,
    addresses: &'a [Multiaddr],
) -> Vec<Multiaddr> {
    let dialled = connections
        .clone()
        .filter(|point| point.is_dialer())
        .map(ConnectedPoint::get_remote_address);
    let hosts: Vec<_> = connections
        .map(ConnectedPoint::get_remote_address)
        .filter(|address| !is_circuit(address))
        .filter_map(host)
        .collect();
    let at_home = |address: &&Multiaddr| {
        !is_circuit(address) && host(address).is_some_and(|host| hosts.contains(&host))
    };
    let mut believed = Vec::new();
    for address in dialled.chain(addresses.iter().filter(at_home)) {
        let address = without_id(address);
        if address.len() <= AddressPolicy::MAX_BYTES && !believed.contains(&address) {
            believed.push(address);
        }
        if believed.len() == MAX_ADDRESSES {
            break;
        }
    }
    believed
}

fn host(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(IpAddr::from(ip).to_canonical()),
        _ => None,
    }
}

fn is_circuit(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

fn with_id(address: &Multiaddr, peer: PeerId) -> Multiaddr {
    let bare = without_id(address);
    bare.with(Protocol::P2p(peer))
}

impl NetworkBehaviour for Routing {
    type ConnectionHandler = <Kad as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = RoutingEvent;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.kad
            .handle_pending_inbound_connection(connection, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.kad
            .handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        // Who dials knows where to.
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.kad
            .handle_established_outbound_connection(connection, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match &event {
            FromSwarm::ConnectionEstablished(established) => {
                let connections = self.peers.entry(established.peer_id).or_default();
                let endpoint = Box::new(established.endpoint.clone());
                connections.insert(established.connection_id, endpoint);
            }
            FromSwarm::ConnectionClosed(closed) => {
                if let Some(connections) = self.peers.get_mut(&closed.peer_id) {
                    connections.remove(&closed.connection_id);
                }
                if closed.remaining_established == 0 {
                    self.peers.remove(&closed.peer_id);
                    self.limiter.forget(&closed.peer_id, platform::now());
                }
            }
            _ => {}
        }
        self.kad.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        mut event: THandlerOutEvent<Self>,
    ) {
        if let Said::FindNodeRes { closer_peers, .. } = &mut event {
            let (peers, addresses) = MAX_NAMED;
            closer_peers.truncate(peers);
            for named in &mut *closer_peers {
                named.multiaddrs.truncate(addresses);
            }
            let named = closer_peers.iter().map(|named| PeerInfo {
                addresses: named.multiaddrs.clone(),
                ..PeerInfo::new(named.node_id)
            });
            self.named.push((peer, named.collect()));
        }
        let asks = matches!(
            event,
            Said::FindNodeReq { .. }
                | Said::GetProvidersReq { .. }
                | Said::AddProvider { .. }
                | Said::GetRecord { .. }
                | Said::PutRecord { .. }
        );
        let cost = Cost { items: 1, bytes: 0 };
        let limit = Limited::Discovery;
        if asks
            && self
                .limiter
                .admits(peer, limit, cost, platform::now())
                .is_err()
        {
            // One report a peer and poll: who asks on pays on.
            if !self.excess.contains(&peer) {
                self.excess.push(peer);
            }
            return;
        }
        self.kad
            .on_connection_handler_event(peer, connection, event);
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some(peer) = self.excess.pop() {
            return Poll::Ready(ToSwarm::GenerateEvent(RoutingEvent::TooManyQuestions(peer)));
        }
        // Before the lookup that asked would meet them.
        if let Some((teller, peers)) = self.named.pop() {
            return Poll::Ready(ToSwarm::GenerateEvent(RoutingEvent::Named {
                teller,
                peers,
            }));
        }
        match ready!(self.kad.poll(cx)) {
            ToSwarm::Dial { opts } => {
                let peer = opts.get_peer_id().unwrap_or(self.own);
                Poll::Ready(ToSwarm::GenerateEvent(RoutingEvent::Meets(peer)))
            }
            action => Poll::Ready(action.map_out(|event| RoutingEvent::Kad(Box::new(event)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;
    use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};

    fn address(text: &str) -> Multiaddr {
        text.parse().expect("an address")
    }

    fn inbound(from: &str) -> ConnectedPoint {
        ConnectedPoint::Listener {
            local_addr: address("/ip4/127.0.0.1/tcp/1"),
            send_back_addr: address(from),
        }
    }

    fn connected(from: &str) -> (Routing, PeerId) {
        let mut routing = Routing::new(&Config::default(), PeerId::random()).expect("right");
        let peer = PeerId::random();
        comes(&mut routing, peer, from);
        (routing, peer)
    }

    fn comes(routing: &mut Routing, peer_id: PeerId, from: &str) {
        routing.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
            peer_id,
            connection_id: ConnectionId::new_unchecked(0),
            endpoint: &inbound(from),
            failed_addresses: &[],
            other_established: 0,
        }));
    }

    fn goes(routing: &mut Routing, peer_id: PeerId, from: &str) {
        routing.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
            peer_id,
            connection_id: ConnectionId::new_unchecked(0),
            endpoint: &inbound(from),
            cause: None,
            remaining_established: 0,
        }));
    }

    #[test]
    fn only_the_host_that_a_peer_comes_from_is_believed() {
        let (mut routing, peer) = connected("/ip4/203.0.113.9/tcp/50000");
        let told = [
            "/ip4/192.168.1.1/tcp/80/x-parity-ws/%2Freboot%3Fnow",
            "/ip4/127.0.0.1/tcp/7777",
            "/dns4/victim.example/tcp/443/wss",
            "/ip4/203.0.113.7/tcp/30303",
            "/ip4/203.0.113.9/tcp/30303",
        ]
        .map(address);
        routing.told(peer, &told);
        let right = with_id(&address("/ip4/203.0.113.9/tcp/30303"), peer);
        assert_eq!(routing.addresses(&peer), [right]);
    }

    #[test]
    fn ever_new_addresses_replace_the_old_ones() {
        let (mut routing, peer) = connected("/ip4/203.0.113.9/tcp/50000");
        for round in 1..200u16 {
            let ports = (0..40).map(|port| round * 40 + port);
            let told: Vec<_> = ports
                .map(|port| address(&format!("/ip4/203.0.113.9/tcp/{port}")))
                .collect();
            routing.told(peer, &told);
            assert_eq!(routing.addresses(&peer).len(), MAX_ADDRESSES);
        }
        routing.told(peer, &[]);
        assert!(routing.addresses(&peer).is_empty(), "it told none");
        routing.told(PeerId::random(), &[address("/ip4/203.0.113.9/tcp/1")]);
        assert_eq!(routing.peers.len(), 1, "a stranger's words are not kept");
    }

    #[test]
    fn who_comes_again_and_again_has_one_entry_that_does_not_grow() {
        let from = "/ip4/203.0.113.9/tcp/50000";
        let (mut routing, peer) = connected(from);
        for port in 1..200u16 {
            let told = address(&format!("/ip4/203.0.113.9/tcp/{port}"));
            routing.told(peer, std::slice::from_ref(&told));
            assert_eq!(routing.addresses(&peer), [with_id(&told, peer)]);
            goes(&mut routing, peer, from);
            comes(&mut routing, peer, from);
        }
        assert!(routing.peers.len() == 1 && routing.vouched.is_empty());
    }

    #[test]
    fn what_the_user_said_stays_beside_what_the_peer_tells() {
        let (mut routing, peer) = connected("/ip4/203.0.113.9/tcp/50000");
        let port = |port: usize| address(&format!("/dns4/seed.example/tcp/{port}"));
        for number in 0..20 {
            routing.vouch(&peer, port(number));
            routing.vouch(&peer, with_id(&port(number), peer));
        }
        let vouched: Vec<_> = (20 - MAX_ADDRESSES..20).map(port).collect();
        assert_eq!(routing.vouched.get(&peer), Some(&vouched));
        for told in 0..20 {
            routing.told(peer, &[address(&format!("/ip4/203.0.113.9/tcp/{told}"))]);
            let known = routing.addresses(&peer);
            assert_eq!(known.len(), MAX_ADDRESSES + 1);
            assert!(
                vouched
                    .iter()
                    .all(|kept| known.contains(&with_id(kept, peer)))
            );
        }
        for _ in 0..MAX_VOUCHED * 2 {
            routing.vouch(&PeerId::random(), port(1));
        }
        assert_eq!(routing.vouched.len(), MAX_VOUCHED);
    }

    #[test]
    fn the_address_that_was_dialled_is_believed_whatever_it_is() {
        let dialled = ConnectedPoint::Dialer {
            address: address("/dns4/node.example/tcp/443/wss"),
            role_override: Endpoint::Dialer,
            port_use: PortUse::Reuse,
        };
        let told = [address("/ip4/10.0.0.1/tcp/1")];
        assert_eq!(
            believed([&dialled].into_iter(), &told),
            [address("/dns4/node.example/tcp/443/wss")]
        );
    }
}
