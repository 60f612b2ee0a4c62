//! The gate: a behaviour without a protocol that lets connections in or not.
//!
//! It drives [`crate::peers::Places`] and [`crate::peers::Bans`]. Whom it turns away, it turns away before any protocol runs.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm, dummy,
    },
};

use crate::peers::{Bans, Places};
use crate::platform;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) places: Places,
    pub(crate) bans: Bans,
}

/// Why a connection was turned away.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct TurnedAway(&'static str);

impl Gate {
    fn admit(&self, peer: &PeerId) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        if self.bans.holds(peer, platform::now()) {
            return Err(ConnectionDenied::new(TurnedAway("this peer is banned")));
        }
        self.places
            .admits(peer)
            .map_err(|why| ConnectionDenied::new(TurnedAway(why)))?;
        Ok(dummy::ConnectionHandler)
    }
}

impl NetworkBehaviour for Gate {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit(&peer)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit(&peer)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => self.places.enter(established.peer_id),
            FromSwarm::ConnectionClosed(closed) => self.places.leave(&closed.peer_id),
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
