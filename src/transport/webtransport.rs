//! WebTransport for the native node: listening only, for browsers dial and native nodes have QUIC.
//!
//! It is the best way from a tab to a node: QUIC's own streams with backpressure, in pages and in workers, and no
//! certificate of a CA, since the address carries the hashes of the node's certificates
//! ([libp2p/specs webtransport](https://github.com/libp2p/specs/tree/master/webtransport)). `session.rs` is the HTTP/3 of one
//! session and owns its QUIC connection. On the client's first stream Noise proves both identities, and tells the hashes again, so
//! that who hands out the address can't put a certificate of his own beneath; then `connection.rs` is the multiplexer.
//!
//! Browsers accept such a certificate for at most 14 days. `certificates.rs` makes them in pairs, the one in use and the next,
//! both of which stand in the address; when the next takes over, the listener reports the address anew.
//!
//! Bounds: 256 streams that a peer may open at once, 2 MiB unread a stream and 15 MB a connection, as over QUIC (`quic.rs`).
//! Before a client has proved who it is, it has only what `session.rs` grants, and `door.rs` ends it when its time is over: dropping
//! the handshake, wherever it stands, closes the connection, and keep-alives can't prolong that. From `RETRY_FROM` handshakes on a client
//! must first show that it is where it says (QUIC's Retry, RFC 9000, 8.1.2), so that nobody fills the places under others' addresses.

mod certificates;
mod connection;
mod session;
mod stream;

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, Pending},
    ready,
    stream::{BoxStream, SelectAll, Stream as FuturesStream},
};
use if_watch::{IfEvent, tokio::IfWatcher};
use libp2p::{
    Multiaddr, PeerId,
    core::transport::{DialOpts, ListenerId, TransportError, TransportEvent},
    identity::Keypair,
    multiaddr::Protocol,
    noise,
};
use socket2::Socket;
use wtransport::{
    Identity,
    config::QuicTransportConfig,
    quinn::{self, Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime, VarInt},
};

use certificates::Certificates;
pub use connection::Connection;
pub use stream::Stream;

use super::quic::{MAX_CONNECTION_BYTES, MAX_STREAM_BYTES};
use crate::platform::{self, Delay};

/// How often it is looked at whether the certificates are still right. By the clock on the wall, since a monotonic one stands
/// still in a machine that sleeps, and often, since a clock that was wrong at the start may be set right at any time.
const LOOK: Duration = Duration::from_secs(60);
/// The limits of libp2p's QUIC transport.
const MAX_STREAMS: u32 = 256;
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const MAX_IDLE_MILLISECONDS: u32 = 10_000;
/// Datagrams are part of WebTransport, and nobody reads them: the oldest make room.
const MAX_DATAGRAM_BYTES: usize = 4096;
/// Handshakes of one listener from which on a client must show that it is where it says.
const RETRY_FROM: usize = 32;
/// Clients that are sent back, and whatever else has no event, between two turns of others.
const MAX_STEPS: usize = 64;
/// First packets that wait to be taken up, and what else of their clients waits with them, in bytes.
const MAX_UNTAKEN: usize = 256;
const MAX_UNTAKEN_BYTES: u64 = 8 * 1024;

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
    /// QUIC failed.
    #[error("the connection failed: {0}")]
    Quic(#[from] quinn::ConnectionError),
    /// A stream ended before its time.
    #[error("a stream ended before its time: {0}")]
    Read(#[from] quinn::ReadExactError),
    /// The client takes no more of a stream.
    #[error("a stream is no longer read: {0}")]
    Write(#[from] quinn::WriteError),
    /// What the client sends is no HTTP/3.
    #[error("the client breaks the rules of HTTP/3: {0}")]
    Http(&'static str),
    /// The client has ended its session.
    #[error("the client has ended its session")]
    Ended,
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
    endpoint: Endpoint,
    incoming: BoxStream<'static, Incoming>,
    /// Each handshake under way has a copy.
    handshakes: Arc<()>,
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
        let endpoint = Endpoint::new(
            EndpointConfig::default(),
            Some(server_config(certificates.current())),
            bound(wanted)?,
            Arc::new(TokioRuntime),
        )?;
        let socket = endpoint.local_addr()?;
        let mut listener = Self {
            id,
            keypair,
            incoming: futures::stream::unfold(endpoint.clone(), |endpoint| async {
                Some((endpoint.accept().await?, endpoint))
            })
            .boxed(),
            endpoint,
            handshakes: Arc::new(()),
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
        let config = server_config(self.certificates.current());
        self.endpoint.set_server_config(Some(config));
        for ip in addresses {
            self.up(ip);
        }
        Ok(())
    }

    /// The handshake with a client, unless it must first show that it is where it says.
    fn accept(&self, incoming: Incoming) -> Option<Event> {
        if Arc::strong_count(&self.handshakes) > RETRY_FROM && incoming.may_retry() {
            // It may, so this does not fail; the client comes again.
            let _ = incoming.retry();
            return None;
        }
        let remote = multiaddress(incoming.remote_address());
        let (keypair, hashes) = (self.keypair.clone(), self.certificates.hashes());
        let under_way = Arc::clone(&self.handshakes);
        let upgrade = async move {
            let accepted = Connection::accept(incoming, keypair, hashes).await;
            drop(under_way);
            accepted
        };
        Some(TransportEvent::Incoming {
            listener_id: self.id,
            local_addr: multiaddress(self.socket),
            send_back_addr: remote,
            upgrade: upgrade.boxed(),
        })
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
        for _ in 0..MAX_STEPS {
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
            match ready!(this.incoming.poll_next_unpin(cx)) {
                Some(incoming) => {
                    if let Some(event) = this.accept(incoming) {
                        return Poll::Ready(Some(event));
                    }
                }
                None => return Poll::Ready(None),
            }
        }
        // First packets may come faster than they can be sent back to show where they are from; others have their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// The socket; one of IPv6 takes no IPv4.
fn bound(address: SocketAddr) -> io::Result<UdpSocket> {
    let domain = socket2::Domain::for_address(address);
    let socket = Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// What a client is granted until [`Session::trust`](session::Session::trust).
fn server_config(identity: Identity) -> ServerConfig {
    let mut quic = QuicTransportConfig::default();
    quic.max_concurrent_bidi_streams(session::EARLY_STREAMS.into())
        .max_concurrent_uni_streams(session::MAX_CONTROL_STREAMS.into())
        .stream_receive_window(MAX_STREAM_BYTES.into())
        .receive_window(session::EARLY_BYTES.into())
        .datagram_receive_buffer_size(Some(MAX_DATAGRAM_BYTES))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(VarInt::from_u32(MAX_IDLE_MILLISECONDS).into()));
    // Of wtransport's configuration only TLS is wanted: it binds nothing.
    let mut config = wtransport::ServerConfig::builder()
        .with_bind_default(0)
        .with_custom_transport(identity, quic)
        .build()
        .quic_config()
        .clone();
    config
        .max_incoming(MAX_UNTAKEN)
        .incoming_buffer_size(MAX_UNTAKEN_BYTES)
        .incoming_buffer_size_total(MAX_UNTAKEN as u64 * MAX_UNTAKEN_BYTES);
    config
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
