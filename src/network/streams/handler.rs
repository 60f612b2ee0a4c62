//! One connection's part: says which protocols are handled, takes the peer's streams while there is room, opens ours, and has all of them kept (`keeper.rs`).

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{Ready, ready},
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use libp2p::{
    Stream, StreamProtocol,
    core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo},
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol,
        handler::{
            ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
        },
    },
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::{OPENED, ProtocolStream, StreamReply, keeper::Keeper};
use crate::{
    error::ProtocolError,
    platform::{self, lock::lock},
    traffic::Pace,
    transport::links::Link,
};

/// What is handled, for all connections: who says that it is, says so to peers at once.
pub(super) type Names = Arc<Mutex<Vec<StreamProtocol>>>;

/// A stream that is asked for.
pub(crate) struct Wanted {
    pub(super) protocol: StreamProtocol,
    pub(super) place: OwnedSemaphorePermit,
    pub(super) reply: StreamReply,
}

impl std::fmt::Debug for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Wanted").field(&self.protocol).finish()
    }
}

/// See the module's documentation.
pub(crate) struct Handler {
    names: Names,
    /// Where the peer's streams find room.
    room: Arc<Semaphore>,
    pace: Pace,
    timeout: Duration,
    /// At most as many as have a place.
    wanted: VecDeque<Wanted>,
    came: VecDeque<(StreamProtocol, ProtocolStream)>,
    /// Its end is the connection's.
    connection: watch::Sender<()>,
    /// Those that are open: at most as many as have a place.
    keeper: Keeper<Stream>,
}

impl Handler {
    pub(super) fn new(
        names: Names,
        room: Arc<Semaphore>,
        link: Option<Arc<Link>>,
        timeout: Duration,
    ) -> Self {
        Self {
            names,
            room,
            pace: Pace::new(OPENED),
            timeout,
            wanted: VecDeque::new(),
            came: VecDeque::new(),
            connection: watch::Sender::default(),
            keeper: Keeper::new(link),
        }
    }

    /// A stream that is open now, with its place.
    fn opened(&mut self, stream: Stream, place: OwnedSemaphorePermit) -> ProtocolStream {
        let stream = self.keeper.keep(stream);
        ProtocolStream::new(stream, self.connection.subscribe(), place)
    }

    /// The peer has opened one; where there is no room it is dropped, which resets it.
    fn take(&mut self, protocol: StreamProtocol, stream: Stream) {
        if let Ok(place) = Arc::clone(&self.room).try_acquire_owned()
            && self.pace.admits(1, platform::now())
        {
            let stream = self.opened(stream, place);
            self.came.push_back((protocol, stream));
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Wanted;
    type ToBehaviour = (StreamProtocol, ProtocolStream);
    type InboundProtocol = Named;
    type OutboundProtocol = Named;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Wanted;

    fn listen_protocol(&self) -> SubstreamProtocol<Named> {
        SubstreamProtocol::new(Named(lock(&self.names).clone()), ())
    }

    fn on_behaviour_event(&mut self, wanted: Wanted) {
        self.wanted.push_back(wanted);
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Named, Wanted, Self::ToBehaviour>> {
        self.keeper.poll(cx);
        if let Some(came) = self.came.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(came));
        }
        while let Some(wanted) = self.wanted.pop_front() {
            if wanted.reply.is_closed() {
                continue;
            }
            let names = Named(vec![wanted.protocol.clone()]);
            let protocol = SubstreamProtocol::new(names, wanted).with_timeout(self.timeout);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Named, Named, (), Wanted>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (stream, protocol),
                ..
            }) => self.take(protocol, stream),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (stream, _),
                info: wanted,
            }) => {
                let stream = self.opened(stream, wanted.place);
                // Who asked may be gone; then it is dropped.
                let _ = wanted.reply.send(Ok(stream));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError {
                info: wanted,
                error,
            }) => {
                let error = match error {
                    StreamUpgradeError::Timeout => ProtocolError::Timeout,
                    StreamUpgradeError::NegotiationFailed => {
                        ProtocolError::Unsupported(wanted.protocol.to_string())
                    }
                    StreamUpgradeError::Io(error) => ProtocolError::Broken(error.to_string()),
                    StreamUpgradeError::Apply(never) => match never {},
                };
                let _ = wanted.reply.send(Err(error));
            }
            _ => {}
        }
    }
}

/// A stream of one of these protocols, with nothing said on it yet.
pub(crate) struct Named(Vec<StreamProtocol>);

impl UpgradeInfo for Named {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for Named {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}

impl OutboundUpgrade<Stream> for Named {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}
