//! One connection's part: says which protocols are handled, takes the peer's streams while there is room, opens ours, and reads all of them ahead (`ahead.rs`).

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{Ready, ready},
    sync::{Arc, Mutex, Weak},
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

use super::{
    OPENED, ProtocolStream, StreamReply,
    ahead::{AHEAD, Ahead, Call},
};
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
    /// Where the peer's streams find room: all of these have to have some.
    rooms: [Arc<Semaphore>; 2],
    pace: Pace,
    timeout: Duration,
    /// At most as many as have a place.
    wanted: VecDeque<Wanted>,
    came: VecDeque<(StreamProtocol, ProtocolStream)>,
    /// Its end is the connection's.
    connection: watch::Sender<()>,
    /// Its connection's, which widens that's window.
    link: Option<Arc<Link>>,
    /// Those that are open: at most as many as have a place. They call when there is something to do with one.
    open: Vec<Weak<Ahead<Stream>>>,
    call: Arc<Call>,
}

impl Handler {
    pub(super) fn new(
        names: Names,
        rooms: [Arc<Semaphore>; 2],
        link: Option<Arc<Link>>,
        timeout: Duration,
    ) -> Self {
        Self {
            names,
            rooms,
            pace: Pace::new(OPENED),
            timeout,
            wanted: VecDeque::new(),
            came: VecDeque::new(),
            connection: watch::Sender::default(),
            link,
            open: Vec::new(),
            call: Arc::default(),
        }
    }

    /// A stream that is open now, with its places.
    fn opened(&mut self, stream: Stream, places: Vec<OwnedSemaphorePermit>) -> ProtocolStream {
        let ahead = Arc::new(Ahead::new(stream, Arc::clone(&self.call)));
        self.open.push(Arc::downgrade(&ahead));
        ProtocolStream::new(ahead, self.connection.subscribe(), places)
    }

    /// Reads ahead, and has the connection's window as wide as what is full wants it. Where there is no room for all, those go that were last.
    fn read_ahead(&mut self) {
        let mut room = vec![0; AHEAD];
        let (mut full, mut newly) = (Vec::new(), Vec::new());
        self.open.retain(|stream| {
            let Some(stream) = stream.upgrade() else {
                return false;
            };
            match stream.fill(&mut room) {
                (true, true) => full.push(stream),
                (true, false) => newly.push(stream),
                (false, _) => {}
            }
            true
        });
        full.append(&mut newly);
        if let Some(link) = &self.link {
            while !link.keep(full.len())
                && let Some(last) = full.pop()
            {
                tracing::debug!("a stream that is not read is reset: there is no room for more");
                last.reset();
            }
        }
    }

    /// The peer has opened one; where there is no room it is dropped, which resets it.
    fn take(&mut self, protocol: StreamProtocol, stream: Stream) {
        let rooms = self.rooms.iter().cloned();
        let places: Result<Vec<_>, _> = rooms.map(Semaphore::try_acquire_owned).collect();
        if let Ok(places) = places
            && self.pace.admits(1, platform::now())
        {
            let stream = self.opened(stream, places);
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
        if self.call.came(cx) {
            self.read_ahead();
        }
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
                let stream = self.opened(stream, vec![wanted.place]);
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
