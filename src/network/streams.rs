//! Streams of protocols that are the user's own, over the connections that there are.
//!
//! `libp2p-stream` is made for just this and was left aside: it keeps a channel for every connection that there ever was, so whoever
//! comes and goes grows this node's memory; it dials by itself, past the addresses that may be dialled; and it bounds no peer's
//! streams. Its shape is kept: a handler that negotiates, and streams that are their owner's from then on.
//!
//! A peer's stream is its protocol's handler's once the peer is past the hello: one that comes before waits for that, and goes with a
//! peer that is refused or banned. Such early ones are few ([`MAX_EARLY_OF_ACCOUNT`]; of one that comes by a circuit as many, and of all those
//! [`MAX_EARLY_OF_CROWD`]; [`MAX_EARLY`] of all) and take nobody's
//! place: who never says hello keeps nobody out but others that have not. Bounds: [`MAX_PROTOCOLS`] names of [`MAX_NAME`] bytes, all of which identify tells;
//! [`MAX_STREAMS`] streams each way with a peer, [`MAX_INBOUND`] of all peers past the hello; and a peer opens no more than [`OPENED`]. What is beyond is reset.
//! What a stream has unread is bounded by its connection's windows (`transport/`), whether or not anybody reads it; and it never makes the connection stand
//! (`streams/ahead.rs`), but where there is no room for what is unread; there those are reset that nobody reads (`streams/keeper.rs`).
//!
//! A stream is opened on the connection that was established last, as the lanes are (`lanes/session.rs`): who comes by a new one has left the one before.

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
    peers::{Account, Stage},
    platform::lock::lock,
    traffic::{Payer, Rate},
    transport::links::Links,
};

mod ahead;
mod handler;
mod keeper;
mod stream;

use handler::{Handler, Names, Wanted};
pub use stream::ProtocolStream;

/// Protocols that are handled at once. Each peer is told their names, in a message that libp2p lets have 4 KiB.
pub(crate) const MAX_PROTOCOLS: usize = 16;
/// Bytes of a protocol's name.
pub(crate) const MAX_NAME: usize = 64;
/// Streams that are open with a peer at once, each way.
pub(crate) const MAX_STREAMS: usize = 16;
/// Streams that all peers past the hello together have open here.
const MAX_INBOUND: usize = 1024;
/// Streams that wait for a hello, of all peers of one account, of all that come by circuits, which have no more than that in common, and of all.
const MAX_EARLY_OF_ACCOUNT: usize = MAX_STREAMS;
const MAX_EARLY_OF_CROWD: usize = MAX_EARLY / 2;
const MAX_EARLY: usize = 256;
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
    early: Early<(StreamProtocol, ProtocolStream)>,
    events: VecDeque<ToSwarm<Inbound, Wanted>>,
}

/// The places of a peer's streams, which outlive its connections, and those in the order in which they were established.
struct Places {
    theirs: Arc<Semaphore>,
    ours: Arc<Semaphore>,
    connections: Vec<ConnectionId>,
    /// By its last connection.
    account: Option<Account>,
}

/// Streams of peers that are not past the hello, and the accounts of these.
struct Early<S>(HashMap<PeerId, (Account, Vec<S>)>);

impl<S> Early<S> {
    /// One more waits, or is reset where there is no room for it.
    fn wait(&mut self, (peer, account): (PeerId, Account), stream: S) {
        let (mut all, mut shared, mut own) = (0, 0, 0);
        for (other, (payer, streams)) in &self.0 {
            let count = streams.len();
            all += count;
            shared += if *payer == account { count } else { 0 };
            own += if *other == peer { count } else { 0 };
        }
        let fits = if account.is_crowd() {
            own < MAX_EARLY_OF_ACCOUNT && shared < MAX_EARLY_OF_CROWD
        } else {
            shared < MAX_EARLY_OF_ACCOUNT
        };
        if fits && all < MAX_EARLY {
            let (_, streams) = self.0.entry(peer).or_insert((account, Vec::new()));
            streams.push(stream);
        }
    }

    /// A peer waits no longer, with its streams.
    fn leave(&mut self, peer: &PeerId) -> Vec<S> {
        let waited = self.0.remove(peer);
        waited.map(|(_, streams)| streams).unwrap_or_default()
    }
}

impl Default for Places {
    fn default() -> Self {
        let places = || Arc::new(Semaphore::new(MAX_STREAMS));
        Self {
            theirs: places(),
            ours: places(),
            connections: Vec::new(),
            account: None,
        }
    }
}

impl Places {
    /// Whether a connection or a stream knows them.
    fn are_used(&self) -> bool {
        let count = Arc::strong_count(&self.theirs) + Arc::strong_count(&self.ours);
        count > 2 || !self.connections.is_empty()
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
            early: Early(HashMap::new()),
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
        // Who asked may be gone.
        let refuse = |reply: StreamReply, why| _ = reply.send(Err(why));
        let places = self.peers.get(&peer_id);
        let newest = places.and_then(|places| Some((places, *places.connections.last()?)));
        let (true, Some((places, newest))) = (is_here(&self.table, &peer_id), newest) else {
            return refuse(reply, ProtocolError::NotConnected(peer_id));
        };
        let Ok(place) = Arc::clone(&places.ours).try_acquire_owned() else {
            return refuse(reply, ProtocolError::TooManyStreams(MAX_STREAMS));
        };
        self.events.push_back(ToSwarm::NotifyHandler {
            peer_id,
            handler: NotifyHandler::One(newest),
            event: Wanted {
                protocol,
                place,
                reply,
            },
        });
    }

    /// A peer is past the hello.
    pub(crate) fn ready(&mut self, peer: PeerId) {
        for (protocol, stream) in self.early.leave(&peer) {
            self.serve(peer, protocol, stream);
        }
    }

    /// A peer is gone.
    pub(crate) fn gone(&mut self, peer: &PeerId) {
        self.early.leave(peer);
    }

    fn serve(&mut self, peer: PeerId, protocol: StreamProtocol, mut stream: ProtocolStream) {
        // One of a protocol that is handled no more is reset, and so is one too many.
        if let Some(serve) = self.handled.get(&protocol)
            && let Ok(place) = Arc::clone(&self.inbound).try_acquire_owned()
        {
            stream.takes(place);
            self.events.push_back(ToSwarm::GenerateEvent(Inbound {
                peer,
                protocol,
                stream,
                serve: Arc::clone(serve),
            }));
        }
    }

    fn handler(
        &mut self,
        connection: ConnectionId,
        (peer, endpoint): (PeerId, Endpoint),
        remote: &Multiaddr,
    ) -> Handler {
        if self.peers.len() >= self.many {
            self.peers.retain(|_, places| places.are_used());
            self.many = FEW + 2 * self.peers.len();
        }
        let places = self.peers.entry(peer).or_default();
        places.account = Some(Account::of(peer, remote));
        let theirs = Arc::clone(&places.theirs);
        let link = self.links.of(connection, (peer, endpoint), remote);
        Handler::new(Arc::clone(&self.names), theirs, link, self.timeout)
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
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(connection, (peer, Endpoint::Listener), remote))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(connection, (peer, Endpoint::Dialer), remote))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(new) => {
                let places = self.peers.entry(new.peer_id).or_default();
                places.connections.push(new.connection_id);
            }
            FromSwarm::ConnectionClosed(gone) => {
                if let Some(places) = self.peers.get_mut(&gone.peer_id) {
                    places.connections.retain(|id| *id != gone.connection_id);
                }
            }
            _ => {}
        }
    }

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
                let account = self.peers.get(&peer).and_then(|places| places.account);
                let account = account.unwrap_or(Account::Peer(peer));
                self.early.wait((peer, account), (protocol, stream));
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
    use std::collections::HashSet;

    use libp2p::{
        core::ConnectedPoint,
        swarm::behaviour::{ConnectionClosed, ConnectionEstablished},
    };

    use super::*;
    use crate::{
        peers::{Bans, Grouping, Limits, PeerInfo, Reputation, Table},
        platform::{self, test},
    };

    /// The streams of a node that has one peer.
    fn streams(peer: PeerId) -> Streams {
        let hour = Duration::from_secs(3600);
        let limits = Limits {
            max_peers: 2,
            low_watermark: 0,
            hello: hour,
            silence: hour,
        };
        let reputation = Reputation::new(hour, -20.0, -50.0, 100);
        let mut table = Table::new(
            limits,
            reputation,
            Bans::new(HashSet::new(), hour, 100),
            Grouping::default(),
            &[1; 16],
        );
        let now = platform::now();
        table.connected(ConnectionId::new_unchecked(0), PeerInfo::new(peer), now);
        table.never_greets(peer, now);
        Streams::new(Arc::new(table.into()), Links::default(), hour)
    }

    /// On which connection one is opened; `None`: on none.
    fn opened_on(streams: &mut Streams, peer: PeerId) -> Option<ConnectionId> {
        let (reply, _) = oneshot::channel();
        streams.open(peer, StreamProtocol::new("/a"), reply);
        let mut nobody = Context::from_waker(std::task::Waker::noop());
        match streams.poll(&mut nobody) {
            Poll::Ready(ToSwarm::NotifyHandler {
                peer_id,
                handler: NotifyHandler::One(connection),
                ..
            }) if peer_id == peer => Some(connection),
            Poll::Ready(event) => panic!("{event:?}"),
            Poll::Pending => None,
        }
    }

    #[test]
    fn one_is_opened_on_the_newest_connection_that_is_there() {
        let peer = PeerId::random();
        let mut streams = streams(peer);
        let endpoint = ConnectedPoint::Listener {
            local_addr: "/memory/1".parse().expect("an address"),
            send_back_addr: "/memory/2".parse().expect("an address"),
        };
        let ids = [1, 2, 3].map(ConnectionId::new_unchecked);
        for connection_id in ids {
            let new = ConnectionEstablished {
                peer_id: peer,
                connection_id,
                endpoint: &endpoint,
                failed_addresses: &[],
                other_established: 0,
            };
            streams.on_swarm_event(FromSwarm::ConnectionEstablished(new));
        }
        let [first, second, third] = ids;
        for (gone, newest) in [(second, Some(third)), (third, Some(first)), (first, None)] {
            let gone = ConnectionClosed {
                peer_id: peer,
                connection_id: gone,
                endpoint: &endpoint,
                cause: None,
                remaining_established: 0,
            };
            streams.on_swarm_event(FromSwarm::ConnectionClosed(gone));
            assert_eq!(opened_on(&mut streams, peer), newest);
        }
    }

    /// How many of its streams wait, where each of these peers opens one more than may wait.
    fn early(remotes: &[&str]) -> Vec<usize> {
        let mut early = Early(HashMap::new());
        let peers: Vec<_> = remotes.iter().map(|_| PeerId::random()).collect();
        for (peer, remote) in peers.iter().zip(remotes) {
            let account = Account::of(*peer, &remote.parse().expect("an address"));
            for _ in 0..=MAX_STREAMS {
                early.wait((*peer, account), ());
            }
        }
        let waited = peers.iter().map(|peer| early.leave(peer).len());
        waited.collect()
    }

    #[test]
    fn one_by_a_circuit_takes_no_other_s_early_room() {
        let circuit = format!("/ip4/1.2.3.4/tcp/5/p2p/{}/p2p-circuit", PeerId::random());
        assert_eq!(early(&[&circuit, &circuit]), [MAX_STREAMS; 2]);
        // Those of one address share what one has; and however many come by circuits, there is room for others.
        let (one, other) = ("/ip4/1.2.3.4/tcp/5", "/ip4/1.2.3.5/tcp/5");
        assert_eq!(early(&[one, one, other]), [MAX_STREAMS, 0, MAX_STREAMS]);
        let mut crowd = vec![&*circuit; 20];
        crowd.push(one);
        let waited = early(&crowd);
        assert_eq!(waited[..20].iter().sum::<usize>(), MAX_EARLY_OF_CROWD);
        assert_eq!(waited[20], MAX_STREAMS);
    }

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
