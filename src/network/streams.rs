//! Streams of protocols that are the user's own, over the connections that there are.
//!
//! `libp2p-stream` is made for just this and was left aside: it keeps a channel for every connection that there ever was, so whoever
//! comes and goes grows this node's memory; it dials by itself, past the addresses that may be dialled; and it bounds no peer's
//! streams. Its shape is kept: a handler that negotiates, and streams that are their owner's from then on.
//!
//! A peer's stream is its protocol's handler's once the peer is past the hello: one that comes before waits for that, and goes with a
//! peer that is refused or banned. Bounds: [`MAX_PROTOCOLS`] names of [`MAX_NAME`] bytes, all of which identify tells;
//! [`MAX_STREAMS`] streams each way with a peer, [`MAX_INBOUND`] of all peers'; and a peer opens no more than [`OPENED`]. What is beyond is reset.
//! What a stream has unread is bounded by its connection's windows (`transport/`), whether or not anybody reads it; and it never makes the connection stand
//! (`streams/ahead.rs`). Where all that is unread has no room, a stream is reset.

use std::{
    collections::{HashMap, VecDeque},
    fmt, io,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm,
    },
};
use tokio::sync::{Semaphore, oneshot};

use super::shared::SharedTable;
use crate::{
    error::{NetworkError, ProtocolError},
    peers::Stage,
    platform::lock::lock,
    traffic::Rate,
    transport::links::Links,
};

mod ahead;
mod handler;
mod stream;

use handler::{Handler, Names, Wanted};
pub use stream::ProtocolStream;

/// Protocols that are handled at once. Each peer is told their names, in a message that libp2p lets have 4 KiB.
pub(crate) const MAX_PROTOCOLS: usize = 16;
/// Bytes of a protocol's name.
pub(crate) const MAX_NAME: usize = 64;
/// Streams that are open with a peer at once, each way.
pub(crate) const MAX_STREAMS: usize = 16;
/// Streams that all peers together have open here.
const MAX_INBOUND: usize = 1024;
/// How often a peer may open one on a connection.
const OPENED: Rate = Rate {
    per_second: 100,
    burst: 200,
};
/// Peers that are looked through for some that are gone, at least.
const FEW: usize = 64;

/// What the names of protocols begin with that are this node's own or libp2p's.
const TAKEN: [&str; 5] = ["/selkie/", "/ipfs/", "/libp2p/", "/meshsub/", "/floodsub/"];

/// Where a handler's outcome goes to, and what it does with a stream.
pub(crate) type Serve =
    Arc<dyn Fn(PeerId, ProtocolStream) -> BoxFuture<'static, io::Result<()>> + Send + Sync>;

/// Where a stream goes that was asked for.
pub(crate) type StreamReply = oneshot::Sender<Result<ProtocolStream, ProtocolError>>;

/// A peer has opened a stream.
pub(crate) struct Inbound {
    pub(crate) peer: PeerId,
    pub(crate) protocol: StreamProtocol,
    pub(crate) stream: ProtocolStream,
    pub(crate) serve: Serve,
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, protocol, .. } = self;
        write!(f, "Inbound({protocol} of {peer})")
    }
}

/// The name of a protocol of the user's.
///
/// # Errors
/// [`NetworkError::Argument`]: it is none, or not free for use.
pub(crate) fn name(name: String) -> Result<StreamProtocol, NetworkError> {
    let wrong = |problem: String| NetworkError::argument("protocol", name.escape_debug(), problem);
    let is_plain = name.len() > 1 && name.bytes().all(|byte| byte.is_ascii_graphic());
    if !name.starts_with('/') || !is_plain || name.len() > MAX_NAME {
        let form = format!(
            "give a slash and printable ASCII without blanks, {MAX_NAME} bytes at most, as /my-chain/light/1"
        );
        return Err(wrong(form));
    }
    if TAKEN.iter().any(|taken| name.starts_with(taken)) {
        let others = "names that begin so are of this node's own protocols; give one of your own";
        return Err(wrong(others.to_owned()));
    }
    StreamProtocol::try_from_owned(name.clone()).map_err(|error| wrong(error.to_string()))
}

/// See the module's documentation.
pub(crate) struct Streams {
    table: SharedTable,
    links: Links,
    timeout: Duration,
    handled: HashMap<StreamProtocol, Serve>,
    names: Names,
    peers: HashMap<PeerId, Places>,
    /// With so many peers those are forgotten that are gone.
    many: usize,
    inbound: Arc<Semaphore>,
    /// Streams of peers that are not past the hello.
    early: HashMap<PeerId, Vec<(StreamProtocol, ProtocolStream)>>,
    events: VecDeque<ToSwarm<Inbound, Wanted>>,
}

/// The places of a peer's streams, which outlive its connections.
struct Places {
    theirs: Arc<Semaphore>,
    ours: Arc<Semaphore>,
}

impl Default for Places {
    fn default() -> Self {
        let places = || Arc::new(Semaphore::new(MAX_STREAMS));
        Self {
            theirs: places(),
            ours: places(),
        }
    }
}

impl Places {
    /// Whether a connection or a stream knows them.
    fn are_used(&self) -> bool {
        Arc::strong_count(&self.theirs) + Arc::strong_count(&self.ours) > 2
    }
}

impl Streams {
    /// None yet, on connections with these links; a stream has to open within this time.
    pub(crate) fn new(table: SharedTable, links: Links, timeout: Duration) -> Self {
        Self {
            table,
            links,
            timeout,
            handled: HashMap::new(),
            names: Arc::default(),
            peers: HashMap::new(),
            many: FEW,
            inbound: Arc::new(Semaphore::new(MAX_INBOUND)),
            early: HashMap::new(),
            events: VecDeque::new(),
        }
    }

    /// Has a protocol's streams served from now on.
    ///
    /// # Errors
    /// [`NetworkError::Argument`]: it is handled already, or too many others are.
    pub(crate) fn handle(
        &mut self,
        protocol: StreamProtocol,
        serve: Serve,
    ) -> Result<(), NetworkError> {
        let wrong = |problem: String| Err(NetworkError::argument("protocol", &protocol, problem));
        if self.handled.contains_key(&protocol) {
            return wrong("it is handled already; end that first".to_owned());
        }
        if self.handled.len() >= MAX_PROTOCOLS {
            return wrong(format!(
                "{MAX_PROTOCOLS} are handled already; end one first"
            ));
        }
        lock(&self.names).push(protocol.clone());
        self.handled.insert(protocol, serve);
        Ok(())
    }

    /// Has no more of them served. Those that are open go on.
    pub(crate) fn unhandle(&mut self, protocol: &StreamProtocol) {
        lock(&self.names).retain(|name| name != protocol);
        self.handled.remove(protocol);
    }

    /// Opens a stream to a peer.
    pub(crate) fn open(&mut self, peer_id: PeerId, protocol: StreamProtocol, reply: StreamReply) {
        let refusal = if !is_here(&self.table, &peer_id) {
            ProtocolError::NotConnected(peer_id)
        } else if let Ok(place) =
            Arc::clone(&self.peers.entry(peer_id).or_default().ours).try_acquire_owned()
        {
            self.events.push_back(ToSwarm::NotifyHandler {
                peer_id,
                handler: NotifyHandler::Any,
                event: Wanted {
                    protocol,
                    place,
                    reply,
                },
            });
            return;
        } else {
            ProtocolError::TooManyStreams(MAX_STREAMS)
        };
        // Who asked may be gone.
        let _ = reply.send(Err(refusal));
    }

    /// A peer is past the hello.
    pub(crate) fn ready(&mut self, peer: PeerId) {
        for (protocol, stream) in self.early.remove(&peer).unwrap_or_default() {
            self.serve(peer, protocol, stream);
        }
    }

    /// A peer is gone.
    pub(crate) fn gone(&mut self, peer: &PeerId) {
        self.early.remove(peer);
    }

    fn serve(&mut self, peer: PeerId, protocol: StreamProtocol, stream: ProtocolStream) {
        // One of a protocol that is handled no more is reset.
        if let Some(serve) = self.handled.get(&protocol) {
            self.events.push_back(ToSwarm::GenerateEvent(Inbound {
                peer,
                protocol,
                stream,
                serve: Arc::clone(serve),
            }));
        }
    }

    fn handler(&mut self, peer: PeerId, remote: &Multiaddr) -> Handler {
        if self.peers.len() >= self.many {
            self.peers.retain(|_, places| places.are_used());
            self.many = FEW + 2 * self.peers.len();
        }
        let theirs = Arc::clone(&self.peers.entry(peer).or_default().theirs);
        let inbound = Arc::clone(&self.inbound);
        let link = self.links.of(peer, remote);
        Handler::new(
            Arc::clone(&self.names),
            [theirs, inbound],
            link,
            self.timeout,
        )
    }
}

/// Whether a peer is past the hello, and stays.
fn is_here(table: &SharedTable, peer: &PeerId) -> bool {
    matches!(lock(table).stage(peer), Some(Stage::Ready | Stage::Plain))
}

impl NetworkBehaviour for Streams {
    type ConnectionHandler = Handler;
    type ToSwarm = Inbound;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer, remote))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer, remote))
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        _: ConnectionId,
        (protocol, stream): THandlerOutEvent<Self>,
    ) {
        let stage = lock(&self.table).stage(&peer);
        match stage {
            Some(Stage::Ready | Stage::Plain) => self.serve(peer, protocol, stream),
            Some(Stage::Greeting | Stage::Greeted) => {
                self.early.entry(peer).or_default().push((protocol, stream));
            }
            // It is on its way out.
            Some(Stage::Leaving | Stage::Ending) | None => drop(stream),
        }
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        // Whoever adds one polls the swarm next: the task's loop.
        self.events.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn a_protocol_has_a_name_of_its_own() {
        for good in ["/a", "/my-chain/light/1", "/selkies/1"] {
            assert_eq!(name(good.to_owned()).expect("a name").as_ref(), good);
        }
        let longest = format!("/{}", "x".repeat(MAX_NAME - 1));
        name(longest.clone()).expect("as long as may be");
        let too_long = format!("{longest}x");
        for (bad, advice) in [
            ("", "give a slash"),
            ("/", "give a slash"),
            ("echo", "give a slash"),
            ("/two words", "give a slash"),
            ("/line\n", "give a slash"),
            ("/caf\u{e9}", "give a slash"),
            (&*too_long, "64 bytes at most"),
            ("/selkie/hello/1", "of this node's own"),
            ("/ipfs/ping/1.0.0", "of this node's own"),
            ("/meshsub/1.1.0", "of this node's own"),
        ] {
            let error = name(bad.to_owned()).expect_err(bad);
            assert_eq!(error.code(), "invalid-argument");
            assert!(error.to_string().contains(advice), "{error}");
        }
    }
}
