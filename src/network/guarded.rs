//! A panic on a connection ends that connection, and nothing else.
//!
//! libp2p runs each connection as a task of its own. A panic there takes the task with it, and the swarm is never told: the peer
//! would count as connected until the node ends, keep its place, and get nothing. So each handler is polled behind a guard. One
//! that panicked is never polled again; its connection is closed in order, and the log says why. Below it, the muxer has a guard of
//! its own (`transport/meter.rs`). Where a panic ends everything, as in a browser, there is nothing to guard.

use std::{
    collections::VecDeque,
    ops::{Deref, DerefMut},
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        CloseConnection, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId,
        FromSwarm, NetworkBehaviour, SubstreamProtocol, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm, handler::ConnectionEvent,
    },
};

use crate::platform;

/// A behaviour whose handlers may panic.
pub(crate) struct Guarded<B> {
    inner: B,
    /// Connections that are to be closed: at most one entry for each that is open.
    panicked: VecDeque<(PeerId, ConnectionId)>,
}

/// A handler that may panic. It is on the heap: libp2p's task of a connection has room for a handler wherever it moves one, for as long as the
/// connection is there.
pub(crate) struct GuardedHandler<H> {
    inner: Box<H>,
    state: State,
}

/// What a handler tells: its own events, or with which words it panicked.
pub(crate) type Told<E> = Result<E, String>;

#[derive(Debug)]
enum State {
    Sound,
    /// The behaviour is to hear of it.
    Panicked(String),
    /// It has heard.
    Over,
}

impl<B> Guarded<B> {
    pub(crate) fn new(inner: B) -> Self {
        Self {
            inner,
            panicked: VecDeque::new(),
        }
    }

    fn handler<H>(inner: H) -> GuardedHandler<H> {
        GuardedHandler {
            inner: Box::new(inner),
            state: State::Sound,
        }
    }
}

impl<B> Deref for Guarded<B> {
    type Target = B;

    fn deref(&self) -> &B {
        &self.inner
    }
}

impl<B> DerefMut for Guarded<B> {
    fn deref_mut(&mut self) -> &mut B {
        &mut self.inner
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Guarded<B> {
    type ConnectionHandler = GuardedHandler<THandler<B>>;
    type ToSwarm = B::ToSwarm;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.inner
            .handle_pending_inbound_connection(connection, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner
            .handle_established_inbound_connection(connection, peer, local, remote)
            .map(Self::handler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.inner
            .handle_pending_outbound_connection(connection, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner
            .handle_established_outbound_connection(connection, peer, address, role, port)
            .map(Self::handler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {
            Ok(event) => self
                .inner
                .on_connection_handler_event(peer, connection, event),
            Err(panic) => {
                tracing::error!(%peer, %panic, "a connection's handler panicked, please report it; the connection is closed");
                self.panicked.push_back((peer, connection));
            }
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some((peer_id, connection)) = self.panicked.pop_front() {
            return Poll::Ready(ToSwarm::CloseConnection {
                peer_id,
                connection: CloseConnection::One(connection),
            });
        }
        self.inner.poll(cx)
    }
}

impl<H: ConnectionHandler> GuardedHandler<H> {
    /// Calls the handler, if it never panicked.
    fn call<T>(&mut self, call: impl FnOnce(&mut H) -> T) -> Option<T> {
        if !matches!(self.state, State::Sound) {
            return None;
        }
        match platform::guard(|| call(&mut *self.inner)) {
            Ok(answer) => Some(answer),
            Err(panic) => {
                self.state = State::Panicked(panic);
                None
            }
        }
    }

    /// With which words it panicked, once.
    fn panic(&mut self) -> Option<String> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Panicked(words) => Some(words),
            before => {
                self.state = before;
                None
            }
        }
    }
}

impl<H: ConnectionHandler> ConnectionHandler for GuardedHandler<H> {
    type FromBehaviour = H::FromBehaviour;
    type ToBehaviour = Told<H::ToBehaviour>;
    type InboundProtocol = H::InboundProtocol;
    type OutboundProtocol = H::OutboundProtocol;
    type InboundOpenInfo = H::InboundOpenInfo;
    type OutboundOpenInfo = H::OutboundOpenInfo;

    // Has no state that could break, and an answer that can't be left out.
    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol, Self::InboundOpenInfo> {
        self.inner.listen_protocol()
    }

    fn connection_keep_alive(&self) -> bool {
        // Who panicked is kept until that is told.
        !matches!(self.state, State::Sound) || self.inner.connection_keep_alive()
    }

    fn on_behaviour_event(&mut self, event: Self::FromBehaviour) {
        self.call(|inner| inner.on_behaviour_event(event));
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<
            '_,
            Self::InboundProtocol,
            Self::OutboundProtocol,
            Self::InboundOpenInfo,
            Self::OutboundOpenInfo,
        >,
    ) {
        self.call(|inner| inner.on_connection_event(event));
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<
        ConnectionHandlerEvent<Self::OutboundProtocol, Self::OutboundOpenInfo, Self::ToBehaviour>,
    > {
        let polled = self.call(|inner| inner.poll(cx)).unwrap_or(Poll::Pending);
        if let Some(words) = self.panic() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(Err(words)));
        }
        polled.map(|event| event.map_custom(Ok))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::ToBehaviour>> {
        // What a broken one left is lost with its connection.
        self.call(|inner| inner.poll_close(cx))
            .unwrap_or(Poll::Ready(None))
            .map(|event| event.map(Ok))
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, thread};

    use futures::{StreamExt, executor::block_on, future};
    use libp2p::{
        Swarm, Transport as _,
        core::{
            transport::MemoryTransport,
            upgrade::{DeniedUpgrade, Version},
        },
        identity::Keypair,
        noise,
        swarm::{self, SwarmEvent, dial_opts::DialOpts},
        yamux,
    };

    use super::*;

    /// Where a handler panics.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Bomb {
        None,
        Poll,
        Event,
    }

    impl ConnectionHandler for Bomb {
        type FromBehaviour = ();
        type ToBehaviour = Infallible;
        type InboundProtocol = DeniedUpgrade;
        type OutboundProtocol = DeniedUpgrade;
        type InboundOpenInfo = ();
        type OutboundOpenInfo = ();

        fn listen_protocol(&self) -> SubstreamProtocol<DeniedUpgrade> {
            SubstreamProtocol::new(DeniedUpgrade, ())
        }

        fn connection_keep_alive(&self) -> bool {
            true
        }

        fn on_behaviour_event(&mut self, (): ()) {
            assert_ne!(*self, Self::Event, "by an event");
        }

        fn poll(
            &mut self,
            _: &mut Context<'_>,
        ) -> Poll<ConnectionHandlerEvent<DeniedUpgrade, (), Infallible>> {
            assert_ne!(*self, Self::Poll, "by a poll");
            Poll::Pending
        }

        fn on_connection_event(&mut self, _: ConnectionEvent<'_, DeniedUpgrade, DeniedUpgrade>) {}
    }

    /// Gives each connection such a handler, and each handler an event.
    struct Bombs(Bomb, VecDeque<(PeerId, ConnectionId)>);

    impl NetworkBehaviour for Bombs {
        type ConnectionHandler = Bomb;
        type ToSwarm = Infallible;

        fn handle_established_inbound_connection(
            &mut self,
            _: ConnectionId,
            _: PeerId,
            _: &Multiaddr,
            _: &Multiaddr,
        ) -> Result<Bomb, ConnectionDenied> {
            Ok(self.0)
        }

        fn handle_established_outbound_connection(
            &mut self,
            _: ConnectionId,
            _: PeerId,
            _: &Multiaddr,
            _: Endpoint,
            _: PortUse,
        ) -> Result<Bomb, ConnectionDenied> {
            Ok(self.0)
        }

        fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
            if let FromSwarm::ConnectionEstablished(new) = event {
                self.1.push_back((new.peer_id, new.connection_id));
            }
        }

        fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: Infallible) {
            match event {}
        }

        fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, ()>> {
            match self.1.pop_front() {
                Some((peer_id, connection)) => Poll::Ready(ToSwarm::NotifyHandler {
                    peer_id,
                    handler: swarm::NotifyHandler::One(connection),
                    event: (),
                }),
                None => Poll::Pending,
            }
        }
    }

    fn node(bomb: Bomb) -> Swarm<Guarded<Bombs>> {
        let keypair = Keypair::generate_ed25519();
        let transport = MemoryTransport::new()
            .upgrade(Version::V1)
            .authenticate(noise::Config::new(&keypair).expect("a key"))
            .multiplex(yamux::Config::default())
            .boxed();
        // A thread for each connection, so that a panic ends no more than tokio's would.
        let config = swarm::Config::with_executor(|task| {
            thread::spawn(|| block_on(task));
        });
        let behaviour = Guarded::new(Bombs(bomb, VecDeque::new()));
        Swarm::new(transport, behaviour, keypair.public().to_peer_id(), config)
    }

    async fn closed(swarm: &mut Swarm<Guarded<Bombs>>) {
        loop {
            if let SwarmEvent::ConnectionClosed { .. } = swarm.select_next_some().await {
                return;
            }
        }
    }

    /// Without the guard neither side ever hears that the connection is gone.
    fn ends_the_connection(bomb: Bomb) {
        let (mut sound, mut broken) = (node(Bomb::None), node(bomb));
        let any = "/memory/0".parse().expect("an address");
        sound.listen_on(any).expect("a port is free");
        block_on(async {
            let address = loop {
                if let SwarmEvent::NewListenAddr { address, .. } = sound.select_next_some().await {
                    break address;
                }
            };
            let dial = DialOpts::peer_id(*sound.local_peer_id()).addresses(vec![address]);
            broken.dial(dial.build()).expect("it can be dialled");
            future::join(closed(&mut sound), closed(&mut broken)).await;
        });
        assert!(!broken.is_connected(sound.local_peer_id()));
    }

    #[test]
    fn a_handler_that_panics_when_it_is_polled_ends_its_connection() {
        ends_the_connection(Bomb::Poll);
    }

    #[test]
    fn a_handler_that_panics_over_an_event_ends_its_connection() {
        ends_the_connection(Bomb::Event);
    }
}
