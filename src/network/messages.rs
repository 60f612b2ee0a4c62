//! Direct messages' behaviour: libp2p's, whose codec hears for whose connection it is cloned.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId, StreamProtocol,
    core::{Endpoint, transport::PortUse},
    request_response::{self as rr, OutboundRequestId, ProtocolSupport, ResponseChannel},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm,
    },
};

use super::{
    codec::{Frame, FrameCodec, Newcomer, Progress, Request},
    shared::SharedTable,
};
use crate::{
    config::RequestResponseConfig,
    peers::{Account, Stage},
    platform::lock::lock,
};

type Inner = rr::Behaviour<FrameCodec>;

/// Streams beside those of messages, by which two nodes tell each other of themselves (`task/exchange.rs`).
const TELLINGS: usize = 4;

/// See the module's documentation.
pub(crate) struct Messages {
    inner: Inner,
    newcomer: Newcomer,
}

impl Messages {
    /// Messages of this protocol; the table knows who said hello.
    pub(crate) fn new(
        config: &RequestResponseConfig,
        protocol: StreamProtocol,
        table: SharedTable,
    ) -> Self {
        let newcomer = Newcomer::default();
        let greeted = move |peer: &PeerId| {
            let stage = lock(&table).stage(peer);
            matches!(stage, Some(Stage::Greeted | Stage::Ready))
        };
        let codec = FrameCodec::new(config.max_message_size);
        let codec = codec.with_room(config, greeted, Arc::clone(&newcomer));
        let limits = rr::Config::default()
            .with_request_timeout(config.request_timeout)
            .with_max_concurrent_streams(config.max_concurrent_streams + TELLINGS);
        let inner = Inner::with_codec(codec, [(protocol, ProtocolSupport::Full)], limits);
        Self { inner, newcomer }
    }

    /// Sends a message to a peer; what comes back tells how far it has come.
    pub(crate) fn send_request(
        &mut self,
        peer: &PeerId,
        frame: Vec<u8>,
    ) -> (OutboundRequestId, Progress) {
        let (frame, progress) = Frame::asking(frame);
        (self.inner.send_request(peer, Ok(frame)), progress)
    }

    /// Answers one.
    ///
    /// # Errors
    /// The answer: the peer is gone.
    pub(crate) fn send_response(
        &mut self,
        channel: ResponseChannel<Frame>,
        answer: Frame,
    ) -> Result<(), Frame> {
        self.inner.send_response(channel, answer)
    }
}

impl NetworkBehaviour for Messages {
    type ConnectionHandler = <Inner as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = rr::Event<Request, Frame>;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        *lock(&self.newcomer) = Some((peer, Account::of(peer, remote)));
        self.inner
            .handle_established_inbound_connection(connection, peer, local, remote)
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
        *lock(&self.newcomer) = Some((peer, Account::of(peer, address)));
        self.inner
            .handle_established_outbound_connection(connection, peer, address, role, port)
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
        self.inner
            .on_connection_handler_event(peer, connection, event);
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.inner.poll(cx)
    }
}
