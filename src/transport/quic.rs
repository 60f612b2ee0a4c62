//! QUIC for the native node, and what WebTransport, which is QUIC below, shares with it.
//!
//! It is libp2p's QUIC ([libp2p/specs quic](https://github.com/libp2p/specs/tree/master/quic)): version 1 of `quinn`, ALPN `libp2p`, each
//! side's identity in a certificate of its own ([libp2p/specs tls](https://github.com/libp2p/specs/blob/master/tls/tls.md)), no negotiation of
//! multiplexers. `libp2p-quic` speaks to it, and it to that; it is not in its place because it leaves open how much of what is written may be
//! unacknowledged, and takes up a handshake for whoever names an address in a packet. `quic/listener.rs` listens, `quic/connection.rs` is the multiplexer.
//!
//! A dial goes from a listener's socket where one reaches the peer, so that a NAT shows the address at which this node is reached;
//! else from one socket for all of a family.
//! Dialling as the one who listens, for hole punching, is not there: no protocol here asks for it.
//!
//! Bounds. **Received**: quinn ends a whole connection where one stream has over [`MAX_SPANS`] pieces that do not touch each other, since each costs room of
//! its own. A link that loses many packets of one flight, as a full buffer does, makes as many of them out of what an honest peer
//! sent: with the 10 MB a stream that rust-libp2p grants, 7,000 packets may be under way. A stream may therefore have so little
//! unread that its packets, even if every second one is lost, stay below that number. What all connections together may have is in
//! `quic/windows.rs`; that one's is used up is told by `quic/standing.rs`. Until its peer has proved who it is, a connection has [`EARLY_BYTES`] and [`EARLY_STREAMS`]
//! streams: quinn sets up as much of a stream before it is opened as after. **Sent**: what is written is copied and kept until it is
//! acknowledged, at most [`MAX_UNACKNOWLEDGED_BYTES`] a connection; so much does a peer hold here that reads and acknowledges nothing, and so
//! much may stand still in it that was written. The price of these is the rate over a long way: a stream has 1 MiB each round trip at most, 10 MB a second at 100 ms,
//! and what is sent on a connection twice that.

mod connection;
pub(super) mod listener;
mod runtime;
mod standing;
mod windows;

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use libp2p::{
    Multiaddr, PeerId,
    core::{
        Endpoint as Role,
        transport::{DialOpts, ListenerId, PortUse, TransportError},
    },
    identity::Keypair,
    multiaddr::Protocol,
    tls,
};
use quinn::{
    ClientConfig, Endpoint, EndpointConfig, ServerConfig, TransportConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};

pub use connection::Connection;
use listener::{
    Caller, Event, Listeners, Service, Upgrade, endpoint, multiaddress, socket_address,
};
pub use standing::{Gauge, Watch};
pub use windows::{Window, Windows};

use crate::platform::Executor;

/// Bytes of a connection that may be written and not acknowledged.
const MAX_UNACKNOWLEDGED_BYTES: u32 = 2 << 20;
/// Streams that a peer may have open at once, about as many as over Yamux: for each quinn keeps up to 32 KiB more than is unread.
const MAX_STREAMS: u32 = 128;
/// Bytes that may be unread, and streams that a peer may have open, until then.
const EARLY_BYTES: u32 = 256 << 10;
const EARLY_STREAMS: u32 = 16;
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const MAX_IDLE_MILLISECONDS: u32 = 10_000;

/// What is taken for a round trip until one was measured, as in Chromium (RFC 9002, 6.2.2, advises 333 ms): a handshake that was given up stays in memory
/// for nine of them, and a flood of such would fill it.
const FIRST_ROUND_TRIP: Duration = Duration::from_millis(100);

/// Pieces of one stream that quinn keeps (`MAX_CHUNKS` of quinn-proto 0.11).
const MAX_SPANS: u32 = 1024;
/// What a packet carries of a stream at least, where its sender has more to send: QUIC's smallest packet (RFC 9000, 14.1) less its header and seal.
const PACKET_BYTES: u32 = 1150;
const _: () = assert!(windows::MOST_OF_STREAM / PACKET_BYTES / 2 < MAX_SPANS);

/// TLS wants a server's name, and libp2p has none.
const NAME: &str = "l";

/// Why a QUIC connection, or a listener, did not come up, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The socket, or the list of this host's addresses, is not to be had.
    #[error("QUIC has no socket: {0}")]
    Socket(#[from] io::Error),
    /// The certificate could not be made.
    #[error("QUIC's certificate could not be made: {0}")]
    Certificate(String),
    /// It can't be dialled.
    #[error("it can't be dialled: {0}")]
    Dial(#[from] quinn::ConnectError),
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Connection(#[from] quinn::ConnectionError),
    /// The other side's certificate names nobody.
    #[error("the certificate does not say who the peer is")]
    Identity,
}

/// Listens on, and dials, `/ip4` or `/ip6`, `/udp/<port>/quic-v1`; all other addresses are
/// [`MultiaddrNotSupported`](TransportError::MultiaddrNotSupported).
pub struct Transport {
    service: Plain,
    client: ClientConfig,
    windows: Windows,
    listeners: Listeners<Plain>,
    executor: Executor,
    /// For dials that no listener's socket reaches, of IPv6 or not.
    dialers: HashMap<bool, Endpoint>,
}

impl Transport {
    /// A transport that proves this identity, whose connections have these windows and run here.
    ///
    /// # Errors
    /// Where the certificate can't be made.
    pub fn new(keypair: &Keypair, windows: Windows, executor: &Executor) -> Result<Self, Error> {
        let failed = |error: &dyn ToString| Error::Certificate(error.to_string());
        let server = tls::make_server_config(keypair).map_err(|error| failed(&error))?;
        let server = QuicServerConfig::try_from(server).map_err(|error| failed(&error))?;
        let client = tls::make_client_config(keypair, None).map_err(|error| failed(&error))?;
        let client = QuicClientConfig::try_from(client).map_err(|error| failed(&error))?;
        let mut server = ServerConfig::with_crypto(Arc::new(server));
        // Who moves is not seen to: the peer's address is that of its handshake.
        server.migration(false);
        Ok(Self {
            service: Plain { server },
            client: ClientConfig::new(Arc::new(client)),
            listeners: Listeners::new(windows.clone(), executor),
            windows,
            executor: executor.clone(),
            dialers: HashMap::new(),
        })
    }

    /// From where an address is dialled.
    fn dialer(&mut self, to: SocketAddr, port_use: PortUse) -> io::Result<Endpoint> {
        let reused = port_use == PortUse::Reuse;
        if reused && let Some(endpoint) = self.listeners.reaching(to) {
            return Ok(endpoint);
        }
        if reused && let Some(endpoint) = self.dialers.get(&to.is_ipv6()) {
            return Ok(endpoint.clone());
        }
        let any: SocketAddr = if to.is_ipv6() {
            (Ipv6Addr::UNSPECIFIED, 0).into()
        } else {
            (Ipv4Addr::UNSPECIFIED, 0).into()
        };
        let endpoint = endpoint(any, endpoint_config(), None, &self.executor)?;
        if reused {
            self.dialers.insert(to.is_ipv6(), endpoint.clone());
        }
        Ok(endpoint)
    }
}

impl libp2p::core::Transport for Transport {
    type Output = (PeerId, Connection);
    type Error = Error;
    type ListenerUpgrade = Upgrade<Plain>;
    type Dial = BoxFuture<'static, Result<Self::Output, Error>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<Error>> {
        let socket = plain(&address).ok_or(TransportError::MultiaddrNotSupported(address))?;
        let service = self.service.clone();
        let listening = self
            .listeners
            .listen(id, socket, service, endpoint_config());
        listening.map_err(TransportError::Other)?;
        // It ends with its last connection; dials go from the listener's socket now.
        self.dialers.remove(&socket.is_ipv6());
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.listeners.remove(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<Error>> {
        let names_one = |to: &SocketAddr| to.port() != 0 && !to.ip().is_unspecified();
        let to = plain(&address).filter(names_one);
        let (Some(to), Role::Dialer) = (to, options.role) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let dialer = self.dialer(to, options.port_use);
        let dialer = dialer.map_err(|error| TransportError::Other(error.into()))?;
        let (mut client, windows) = (self.client.clone(), self.windows.clone());
        let dialled = async move {
            let (window, mut limits) = (windows.grant(), plain_limits());
            limits.stream_receive_window(window.of_stream());
            client.transport_config(Arc::new(limits));
            let connection = dialer.connect_with(client, to, NAME)?.await?;
            Connection::new((connection, window))
        };
        Ok(dialled.boxed())
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event<Plain>> {
        self.listeners.poll(cx)
    }
}

/// The socket that an address names, if it is one of plain QUIC.
fn plain(address: &Multiaddr) -> Option<SocketAddr> {
    let (socket, rest) = socket_address(address)?;
    matches!(rest.as_slice(), [] | [Protocol::P2p(_)]).then_some(socket)
}

/// QUIC with nothing between its streams and libp2p.
#[derive(Clone)]
pub struct Plain {
    server: ServerConfig,
}

impl Service for Plain {
    type Connection = Connection;
    type Error = Error;

    fn address(socket: SocketAddr) -> Multiaddr {
        multiaddress(socket)
    }

    fn config(&self) -> ServerConfig {
        self.server.clone()
    }

    fn limits(&self) -> TransportConfig {
        plain_limits()
    }

    fn accept(&self, caller: Caller) -> Upgrade<Self> {
        async move { Connection::new(caller.answered().await?) }.boxed()
    }
}

/// Streams of two ways, and nothing else.
fn plain_limits() -> TransportConfig {
    let mut limits = limits();
    limits
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None);
    limits
}

/// What a peer may have and hold until it has proved who it is; streams of one way, datagrams, and the windows of streams are the caller's business.
pub(super) fn limits() -> TransportConfig {
    let mut limits = TransportConfig::default();
    limits
        .max_concurrent_bidi_streams(EARLY_STREAMS.into())
        .receive_window(EARLY_BYTES.into())
        .send_window(MAX_UNACKNOWLEDGED_BYTES.into())
        .initial_rtt(FIRST_ROUND_TRIP)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(VarInt::from_u32(MAX_IDLE_MILLISECONDS).into()))
        .allow_spin(false);
    limits
}

/// The peer of a connection has proved who it is: from now on it may have what peers have.
pub(super) fn trust(quic: &quinn::Connection, window: &mut Window) {
    window.settle();
    quic.set_max_concurrent_bi_streams(MAX_STREAMS.into());
    quic.set_receive_window(window.of_connection());
}

/// For any socket of this node.
pub(super) fn endpoint_config() -> EndpointConfig {
    let mut config = EndpointConfig::default();
    config.supported_versions(vec![1]);
    config
}

#[cfg(test)]
mod tests;
