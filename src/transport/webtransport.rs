//! WebTransport for the native node: listening only, for browsers dial and native nodes have QUIC.
//!
//! It is the best way from a tab to a node: QUIC's own streams with backpressure, in pages and in workers, and no
//! certificate of a CA, since the address carries the hashes of the node's certificates
//! ([libp2p/specs webtransport](https://github.com/libp2p/specs/tree/master/webtransport)). HTTP/3 is `wtransport`'s. On
//! the client's first stream Noise proves both identities, and tells the hashes again, so that who hands out the address
//! can't put a certificate of his own beneath.
//!
//! Browsers accept such a certificate for at most 14 days. `certificates.rs` makes them in pairs, the one in use and the next,
//! both of which stand in the address; when the next takes over, the listener reports the address anew.
//!
//! Bounds: 256 streams that a peer may open at once, 10 MB unread a stream and 15 MB a connection, the limits of libp2p's QUIC.

mod certificates;
mod stream;

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    FutureExt, StreamExt,
    channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded},
    future::{BoxFuture, Pending},
    ready,
    stream::{BoxStream, FuturesUnordered, SelectAll, Stream as FuturesStream},
};
use if_watch::{IfEvent, tokio::IfWatcher};
use libp2p::{
    Multiaddr, PeerId,
    core::{
        muxing::{StreamMuxer, StreamMuxerEvent},
        transport::{DialOpts, ListenerId, TransportError, TransportEvent},
        upgrade::InboundConnectionUpgrade,
    },
    identity::Keypair,
    multiaddr::Protocol,
    noise,
};
use wtransport::{
    Endpoint, Identity, RecvStream, SendStream, ServerConfig, VarInt,
    config::{Ipv6DualStackConfig, QuicTransportConfig},
    endpoint::{IncomingSession, endpoint_side::Server},
    error::ConnectionError,
};

use certificates::{Certificates, Hashes};
use stream::Rest;

use crate::platform::{self, Delay};
pub use stream::Stream;

/// Where libp2p's WebTransport lives on a host, and how it proves who it is.
const PATH: &str = "/.well-known/libp2p-webtransport?type=noise";
/// How often the certificates' age is looked at. By the clock on the wall, since a monotonic one stands still in a
/// machine that sleeps.
const LOOK: Duration = Duration::from_secs(3600);
/// The limits of libp2p's QUIC transport.
const MAX_STREAMS: u32 = 256;
const MAX_STREAM_BYTES: u32 = 10_000_000;
const MAX_CONNECTION_BYTES: u32 = 15_000_000;
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const MAX_IDLE_MILLISECONDS: u32 = 10_000;

/// Listens on `/ip4` or `/ip6`, `/udp/<port>/quic-v1/webtransport`; an unspecified address stands for all of this host's. All
/// other addresses, and dialling, are [`MultiaddrNotSupported`](TransportError::MultiaddrNotSupported).
pub struct Transport {
    keypair: Keypair,
    listeners: SelectAll<Listener>,
}

impl Transport {
    /// A transport that proves this identity.
    pub fn new(keypair: Keypair) -> Self {
        Self {
            keypair,
            listeners: SelectAll::new(),
        }
    }
}

/// Why a WebTransport connection, or a listener, did not come up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The socket, or the list of this host's addresses, is not to be had.
    #[error("WebTransport can't listen: {0}")]
    Socket(#[from] io::Error),
    /// The certificate could not be made.
    #[error("WebTransport's certificate could not be made: {0}")]
    Certificate(String),
    /// QUIC or HTTP/3 failed.
    #[error("the WebTransport session failed: {0}")]
    Session(#[from] ConnectionError),
    /// The client wants something else of this host.
    #[error("the client asked for another path than libp2p's")]
    Path,
    /// The other side is not who it has to be.
    #[error("the handshake failed: {0}")]
    Noise(#[from] noise::Error),
}

type Event = TransportEvent<BoxFuture<'static, Result<(PeerId, Connection), Error>>, Error>;

impl libp2p::core::Transport for Transport {
    type Output = (PeerId, Connection);
    type Error = Error;
    type ListenerUpgrade = BoxFuture<'static, Result<Self::Output, Error>>;
    type Dial = Pending<Result<Self::Output, Error>>;

    fn listen_on(&mut self, id: ListenerId, addr: Multiaddr) -> Result<(), TransportError<Error>> {
        let socket = socket_address(&addr).ok_or(TransportError::MultiaddrNotSupported(addr))?;
        let listener = Listener::new(id, socket, self.keypair.clone());
        self.listeners
            .push(listener.map_err(TransportError::Other)?);
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let listener = self.listeners.iter_mut().find(|listener| listener.id == id);
        listener.is_some_and(|listener| {
            listener.close();
            true
        })
    }

    fn dial(&mut self, addr: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<Error>> {
        Err(TransportError::MultiaddrNotSupported(addr))
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event> {
        match self.listeners.poll_next_unpin(cx) {
            Poll::Ready(Some(event)) => Poll::Ready(event),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

/// The socket that an address names, if it is one to listen on by WebTransport.
fn socket_address(addr: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = addr.iter();
    let ip: IpAddr = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match (parts.next()?, parts.next()?, parts.next()?, parts.next()) {
        (Protocol::Udp(port), Protocol::QuicV1, Protocol::WebTransport, None) => {
            Some(SocketAddr::new(ip, port))
        }
        _ => None,
    }
}

/// Without the certificates' hashes.
fn multiaddress(socket: SocketAddr) -> Multiaddr {
    Multiaddr::from(socket.ip())
        .with(Protocol::Udp(socket.port()))
        .with(Protocol::QuicV1)
        .with(Protocol::WebTransport)
}

struct Listener {
    id: ListenerId,
    keypair: Keypair,
    endpoint: Arc<Endpoint<Server>>,
    sessions: BoxStream<'static, IncomingSession>,
    certificates: Certificates,
    look: Delay,
    /// Only where the address stands for all of this host's.
    interfaces: Option<IfWatcher>,
    socket: SocketAddr,
    /// What the address stands for now.
    reported: Vec<IpAddr>,
    events: VecDeque<Event>,
    closed: bool,
}

impl Listener {
    fn new(id: ListenerId, wanted: SocketAddr, keypair: Keypair) -> Result<Self, Error> {
        let certificates = Certificates::new(platform::date())?;
        let endpoint = Endpoint::server(server_config(wanted, certificates.current()))?;
        let endpoint = Arc::new(endpoint);
        let socket = endpoint.local_addr()?;
        let mut listener = Self {
            id,
            keypair,
            sessions: futures::stream::unfold(Arc::clone(&endpoint), |endpoint| async {
                Some((endpoint.accept().await, endpoint))
            })
            .boxed(),
            endpoint,
            certificates,
            look: Delay::new(LOOK),
            interfaces: None,
            socket,
            reported: Vec::new(),
            events: VecDeque::new(),
            closed: false,
        };
        if socket.ip().is_unspecified() {
            listener.interfaces = Some(IfWatcher::new()?);
        } else {
            listener.up(socket.ip());
        }
        Ok(listener)
    }

    fn close(&mut self) {
        if !self.closed {
            self.closed = true;
            self.endpoint.close(VarInt::from_u32(0), b"");
            let listener_id = self.id;
            self.events.push_back(TransportEvent::ListenerClosed {
                listener_id,
                reason: Ok(()),
            });
        }
    }

    fn address(&self, ip: IpAddr) -> Multiaddr {
        let plain = multiaddress(SocketAddr::new(ip, self.socket.port()));
        let with_hash = |address: Multiaddr, hash| address.with(Protocol::Certhash(hash));
        self.certificates
            .hashes()
            .into_iter()
            .fold(plain, with_hash)
    }

    fn up(&mut self, ip: IpAddr) {
        if ip.is_ipv4() == self.socket.is_ipv4() && !self.reported.contains(&ip) {
            self.reported.push(ip);
            self.events.push_back(TransportEvent::NewAddress {
                listener_id: self.id,
                listen_addr: self.address(ip),
            });
        }
    }

    fn down(&mut self, ip: IpAddr) {
        let before = self.reported.len();
        self.reported.retain(|reported| *reported != ip);
        if self.reported.len() < before {
            self.events.push_back(TransportEvent::AddressExpired {
                listener_id: self.id,
                listen_addr: self.address(ip),
            });
        }
    }

    /// Goes over to the next certificate once it is time.
    fn renew(&mut self) -> Result<(), Error> {
        let Some(renewed) = self.certificates.renewed(platform::date())? else {
            return Ok(());
        };
        let addresses = self.reported.clone();
        for ip in &addresses {
            self.down(*ip);
        }
        self.certificates = renewed;
        let config = server_config(self.socket, self.certificates.current());
        self.endpoint.reload_config(config, false)?;
        for ip in addresses {
            self.up(ip);
        }
        Ok(())
    }

    fn accept(&self, session: IncomingSession) -> Event {
        let hashes = self.certificates.hashes();
        TransportEvent::Incoming {
            listener_id: self.id,
            local_addr: multiaddress(self.socket),
            send_back_addr: multiaddress(session.remote_address()),
            upgrade: upgrade(session, self.keypair.clone(), hashes).boxed(),
        }
    }

    fn failed(&self, error: Error) -> Event {
        TransportEvent::ListenerError {
            listener_id: self.id,
            error,
        }
    }
}

impl FuturesStream for Listener {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let this = &mut *self;
        loop {
            if let Some(event) = this.events.pop_front() {
                return Poll::Ready(Some(event));
            }
            if this.closed {
                return Poll::Ready(None);
            }
            if let Some(Poll::Ready(event)) = this.interfaces.as_mut().map(|i| i.poll_if_event(cx))
            {
                match event {
                    Ok(IfEvent::Up(net)) => this.up(net.addr()),
                    Ok(IfEvent::Down(net)) => this.down(net.addr()),
                    Err(error) => return Poll::Ready(Some(this.failed(error.into()))),
                }
                continue;
            }
            if this.look.poll_unpin(cx).is_ready() {
                this.look.reset(LOOK);
                if let Err(error) = this.renew() {
                    return Poll::Ready(Some(this.failed(error)));
                }
                continue;
            }
            let session = ready!(this.sessions.poll_next_unpin(cx));
            return Poll::Ready(session.map(|session| this.accept(session)));
        }
    }
}

fn server_config(socket: SocketAddr, identity: Identity) -> ServerConfig {
    let mut quic = QuicTransportConfig::default();
    quic.max_concurrent_bidi_streams(MAX_STREAMS.into())
        .stream_receive_window(MAX_STREAM_BYTES.into())
        .receive_window(MAX_CONNECTION_BYTES.into())
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(
            wtransport::quinn::VarInt::from_u32(MAX_IDLE_MILLISECONDS).into(),
        ));
    let builder = ServerConfig::builder();
    let bound = match socket {
        SocketAddr::V4(_) => builder.with_bind_address(socket),
        SocketAddr::V6(v6) => builder.with_bind_address_v6(v6, Ipv6DualStackConfig::Deny),
    };
    bound.with_custom_transport(identity, quic).build()
}

async fn upgrade(
    session: IncomingSession,
    keypair: Keypair,
    hashes: Hashes,
) -> Result<(PeerId, Connection), Error> {
    let request = session.await?;
    if request.path() != PATH {
        request.not_found().await;
        return Err(Error::Path);
    }
    let session = request.accept().await?;
    let first = session.accept_bi().await?;
    let connection = Connection::new(session);
    let first = Stream::new(first, connection.rests.0.clone());
    let noise = noise::Config::new(&keypair)?.with_webtransport_certhashes(hashes.into());
    // Its protocol is part of the path; nothing is negotiated on the stream.
    let (peer_id, _) = noise.upgrade_inbound(first, "/noise").await?;
    Ok((peer_id, connection))
}

/// A WebTransport session as a multiplexer: its bidirectional streams are libp2p's.
pub struct Connection {
    session: wtransport::Connection,
    inbound: Opening,
    outbound: Opening,
    /// What streams leave behind, and its way here.
    rests: (UnboundedSender<Rest>, UnboundedReceiver<Rest>),
    finishing: FuturesUnordered<BoxFuture<'static, ()>>,
}

/// One stream in the making, begun when it is first asked for.
type Opening = Option<BoxFuture<'static, Result<(SendStream, RecvStream), Error>>>;

impl Connection {
    fn new(session: wtransport::Connection) -> Self {
        Self {
            session,
            inbound: None,
            outbound: None,
            rests: unbounded(),
            finishing: FuturesUnordered::new(),
        }
    }
}

fn poll_opening<F>(
    opening: &mut Opening,
    begin: impl FnOnce() -> F,
    cx: &mut Context<'_>,
) -> Poll<Result<(SendStream, RecvStream), Error>>
where
    F: Future<Output = Result<(SendStream, RecvStream), Error>> + Send + 'static,
{
    let opened = ready!(
        opening
            .get_or_insert_with(|| begin().boxed())
            .poll_unpin(cx)
    );
    *opening = None;
    Poll::Ready(opened)
}

impl StreamMuxer for Connection {
    type Substream = Stream;
    type Error = Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Stream, Error>> {
        let this = &mut *self;
        let session = &this.session;
        let begin = || {
            let session = session.clone();
            async move { Ok(session.accept_bi().await?) }
        };
        let halves = ready!(poll_opening(&mut this.inbound, begin, cx))?;
        Poll::Ready(Ok(Stream::new(halves, this.rests.0.clone())))
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Stream, Error>> {
        let this = &mut *self;
        let session = &this.session;
        let begin = || {
            let session = session.clone();
            async move {
                let opening = session.open_bi().await?.await;
                opening.map_err(|error| Error::Socket(io::Error::other(error)))
            }
        };
        let halves = ready!(poll_opening(&mut this.outbound, begin, cx))?;
        Poll::Ready(Ok(Stream::new(halves, this.rests.0.clone())))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.session.close(VarInt::from_u32(0), b"");
        Poll::Ready(Ok(()))
    }

    /// The end of the session is told by the inbound streams.
    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, Error>> {
        while let Poll::Ready(Some(rest)) = self.rests.1.poll_next_unpin(cx) {
            self.finishing.push(stream::finish(rest).boxed());
        }
        while let Poll::Ready(Some(())) = self.finishing.poll_next_unpin(cx) {}
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_webtransport_addresses_are_listened_on() {
        let socket = |text: &str| socket_address(&text.parse().expect("an address"));
        let right = socket("/ip4/127.0.0.1/udp/7/quic-v1/webtransport");
        assert_eq!(right, Some(([127, 0, 0, 1], 7).into()));
        assert!(socket("/ip6/::1/udp/7/quic-v1/webtransport").is_some());
        for other in [
            "/ip4/127.0.0.1/udp/7/quic-v1",
            "/ip4/127.0.0.1/tcp/7/ws",
            "/ip4/127.0.0.1/udp/7/webrtc-direct",
            "/dns/example.org/udp/7/quic-v1/webtransport",
            "/ip4/127.0.0.1/udp/7/quic-v1/webtransport/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN",
        ] {
            assert_eq!(socket(other), None, "{other}");
        }
    }
}
