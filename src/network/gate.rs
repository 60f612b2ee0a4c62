//! The gate: a behaviour without a protocol that lets connections in or not, and tells what addresses may be believed.
//!
//! It drives [`crate::peers`]' places, bans and addresses. Whom it turns away, it turns away before any protocol runs. What
//! comes before a peer has proved who it is, is `transport/door.rs`'s business, and what is dialled too.

use std::{
    convert::Infallible,
    net::IpAddr,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId, connection_limits,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm, dummy,
    },
};

use crate::{
    network::shared::SharedTable,
    peers::{Account, Connected, Direction, Neighbour, NetworkGroup, Scope, ip_of},
    platform::{self, lock::lock},
    transport::SharedPolicy,
};

/// See the module's documentation.
pub(crate) struct Gate {
    pub(crate) table: SharedTable,
    pub(crate) connected: Connected,
    pub(crate) policy: SharedPolicy,
    /// Bounds the dials that are under way. It has no protocol either, so it needs no place among the behaviours, each of which
    /// costs a layer around every handler.
    pub(crate) dials: connection_limits::Behaviour,
}

/// Why a connection was turned away.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct TurnedAway(&'static str);

impl Gate {
    /// Of the addresses of `about` that the peer `teller` told (itself, in identify), those that may be kept, shown and
    /// added to a routing table. All that strangers tell goes through here; see [`crate::peers::AddressPolicy`].
    pub(crate) fn learnt<'a>(
        &self,
        teller: &PeerId,
        about: &PeerId,
        addresses: impl IntoIterator<Item = &'a Multiaddr>,
    ) -> Vec<Multiaddr> {
        let scope = self.connected.scope(teller);
        let mut policy = lock(&self.policy);
        let learnt = policy.learnt(scope, about, addresses);
        policy.note(self.connected.ip(teller), &learnt);
        learnt
    }

    /// Of the addresses that somebody on the local network said of a peer, those that may be kept; where they are,
    /// [`Self::keeps_near`] lets them be dialled.
    pub(crate) fn learnt_near(&self, neighbour: &Neighbour) -> Vec<Multiaddr> {
        let Some(scope) = Scope::of_ip(neighbour.host) else {
            return Vec::new();
        };
        lock(&self.policy).learnt(scope, &neighbour.peer, &neighbour.addresses)
    }

    /// Addresses that somebody on the local network said from this host are kept.
    pub(crate) fn keeps_near(&self, host: IpAddr, learnt: &[Multiaddr]) {
        lock(&self.policy).note(Some(host), learnt);
    }

    /// Whose share of what all have together a connected peer has.
    pub(crate) fn account(&self, peer: &PeerId) -> Account {
        self.connected.account(peer)
    }

    /// The network from which a connected peer tells.
    pub(crate) fn network(&self, peer: &PeerId) -> NetworkGroup {
        self.connected.network(peer)
    }

    /// The user wants this address dialled, now or later: it may be anything. To be called before each such dial.
    pub(crate) fn vouch(&self, address: &Multiaddr) {
        lock(&self.policy).vouch(address);
    }

    /// Where a peer is that was dialled a moment ago by this address, as far as can be known.
    pub(crate) fn place_of(&self, peer: &PeerId, address: &Multiaddr) -> Option<IpAddr> {
        lock(&self.policy).place_of(peer, address)
    }

    /// Turns away who is in a banned network; `comes`: by itself.
    fn admit_from(&self, remote: Option<IpAddr>, comes: bool) -> Result<(), ConnectionDenied> {
        let is_banned = remote.is_some_and(|ip| {
            let table = lock(&self.table);
            table.bans().holds_address(ip, comes, platform::now())
        });
        if is_banned {
            return Err(ConnectionDenied::new(TurnedAway("its network is banned")));
        }
        Ok(())
    }

    fn admit(
        &self,
        peer: &PeerId,
        direction: Direction,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        lock(&self.table)
            .admits(peer, direction, platform::now())
            .map_err(|why| ConnectionDenied::new(TurnedAway(why)))?;
        Ok(dummy::ConnectionHandler)
    }
}

impl NetworkBehaviour for Gate {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.admit_from(ip_of(remote), true)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        // Of several one may lead elsewhere.
        let admitted = addresses.iter().map(|to| self.admit_from(ip_of(to), false));
        admitted.reduce(Result::or).unwrap_or(Ok(()))?;
        self.dials
            .handle_pending_outbound_connection(connection, peer, addresses, role)
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let handler = self.admit(&peer, Direction::Inbound)?;
        let make_room = |group| lock(&self.table).makes_room(group);
        self.connected
            .admits(remote, make_room)
            .map_err(|why| ConnectionDenied::new(TurnedAway(why)))?;
        Ok(handler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        // It is no longer under way.
        self.dials
            .handle_established_outbound_connection(connection, peer, address, role, port)?;
        self.admit_from(self.place_of(&peer, address), false)?;
        self.admit(&peer, Direction::Outbound)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.dials.on_swarm_event(event);
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                let (peer, remote) = (
                    established.peer_id,
                    established.endpoint.get_remote_address(),
                );
                let theirs = established.endpoint.is_listener();
                self.connected
                    .enter(peer, established.connection_id, remote, theirs);
                lock(&self.policy).met(Scope::of_remote(remote));
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.connected.leave(&closed.peer_id, closed.connection_id);
            }
            FromSwarm::NewListenAddr(new) => lock(&self.policy).owns(new.addr),
            FromSwarm::ExpiredListenAddr(expired) => lock(&self.policy).disowns(expired.addr),
            FromSwarm::ExternalAddrConfirmed(confirmed) => lock(&self.policy).owns(confirmed.addr),
            FromSwarm::ExternalAddrExpired(expired) => lock(&self.policy).disowns(expired.addr),
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}
