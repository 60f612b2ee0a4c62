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
//! Bounds: those of QUIC (`quic.rs`). Before a client has proved who it is, it has only what `session.rs` grants, and `door.rs` ends it when
//! its time is over: dropping the handshake, wherever it stands, closes the connection, and keep-alives can't prolong that.

mod certificates;
mod connection;
mod session;
mod stream;

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, future::Pending, ready};
use libp2p::{
    Multiaddr, PeerId,
    core::transport::{DialOpts, ListenerId, TransportError},
    identity::Keypair,
    multiaddr::Protocol,
    noise,
};
use quinn::{ServerConfig, TransportConfig};
use wtransport::Identity;

use certificates::Certificates;
pub use connection::Connection;
pub use stream::Stream;

use super::quic::{
    Gauge, Watch, Window, Windows, endpoint_config, limits,
    listener::{Caller, Event, Listeners, Service, Upgrade, multiaddress, socket_address},
    trust,
};
use crate::platform::{self, Delay, Executor};

/// How often it is looked at whether the certificates are still right. By the clock on the wall, since a monotonic one stands
/// still in a machine that sleeps, and often, since a clock that was wrong at the start may be set right at any time.
const LOOK: Duration = Duration::from_secs(60);
/// Datagrams are part of WebTransport, and nobody reads them: the oldest make room.
const MAX_DATAGRAM_BYTES: usize = 4096;

/// Listens on `/ip4` or `/ip6`, `/udp/<port>/quic-v1/webtransport`; an unspecified address stands for all of this host's. All
/// other addresses, and dialling, are [`MultiaddrNotSupported`](TransportError::MultiaddrNotSupported).
pub struct Transport {
    keypair: Keypair,
    listeners: Listeners<Sessions>,
}

impl Transport {
    /// A transport that proves this identity, whose connections have these windows and run here.
    pub fn new(keypair: Keypair, windows: Windows, executor: &Executor) -> Self {
        Self {
            keypair,
            listeners: Listeners::new(windows, executor),
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

impl libp2p::core::Transport for Transport {
    type Output = (PeerId, Connection);
    type Error = Error;
    type ListenerUpgrade = Upgrade<Sessions>;
    type Dial = Pending<Result<Self::Output, Error>>;

    fn listen_on(&mut self, id: ListenerId, addr: Multiaddr) -> Result<(), TransportError<Error>> {
        let socket = listened(&addr).ok_or(TransportError::MultiaddrNotSupported(addr))?;
        let config = endpoint_config();
        let listening = Sessions::new(self.keypair.clone())
            .and_then(|sessions| self.listeners.listen(id, socket, sessions, config));
        listening.map_err(TransportError::Other)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.listeners.remove(id)
    }

    fn dial(&mut self, addr: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<Error>> {
        Err(TransportError::MultiaddrNotSupported(addr))
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event<Sessions>> {
        self.listeners.poll(cx)
    }
}

/// The socket that an address names, if it is one to listen on by WebTransport.
fn listened(addr: &Multiaddr) -> Option<SocketAddr> {
    let (socket, rest) = socket_address(addr)?;
    matches!(rest.as_slice(), [Protocol::WebTransport]).then_some(socket)
}

/// What a listener offers: sessions under the certificates of now.
pub struct Sessions {
    keypair: Keypair,
    certificates: Certificates,
    look: Delay,
}

impl Sessions {
    fn new(keypair: Keypair) -> Result<Self, Error> {
        Ok(Self {
            keypair,
            certificates: Certificates::new(platform::date())?,
            look: Delay::new(LOOK),
        })
    }
}

impl Service for Sessions {
    type Connection = Connection;
    type Error = Error;

    fn address(socket: SocketAddr) -> Multiaddr {
        multiaddress(socket).with(Protocol::WebTransport)
    }

    fn told(&self, socket: SocketAddr) -> Multiaddr {
        let with_hash = |address: Multiaddr, hash| address.with(Protocol::Certhash(hash));
        self.certificates
            .hashes()
            .into_iter()
            .fold(Self::address(socket), with_hash)
    }

    fn config(&self) -> ServerConfig {
        server_config(self.certificates.current())
    }

    /// Until [`Session::trust`](session::Session::trust).
    fn limits(&self) -> TransportConfig {
        let mut limits = limits();
        limits
            .max_concurrent_bidi_streams(session::EARLY_STREAMS.into())
            .max_concurrent_uni_streams(session::MAX_CONTROL_STREAMS.into())
            .receive_window(session::EARLY_BYTES.into())
            .datagram_receive_buffer_size(Some(MAX_DATAGRAM_BYTES));
        limits
    }

    fn accept(&self, caller: Caller) -> Upgrade<Self> {
        let hashes = self.certificates.hashes();
        Connection::accept(caller, self.keypair.clone(), hashes).boxed()
    }

    /// Those of the next certificate, once it is time.
    fn poll_renewed(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self, Error>> {
        loop {
            ready!(self.look.poll_unpin(cx));
            self.look.reset(LOOK);
            if let Some(certificates) = self.certificates.renewed(platform::date())? {
                return Poll::Ready(Ok(Self {
                    keypair: self.keypair.clone(),
                    certificates,
                    look: Delay::new(LOOK),
                }));
            }
        }
    }
}

/// What a client is shown.
fn server_config(identity: Identity) -> ServerConfig {
    // Of wtransport's configuration only TLS is wanted: it binds nothing.
    wtransport::ServerConfig::builder()
        .with_bind_default(0)
        .with_identity(identity)
        .build()
        .quic_config()
        .clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_webtransport_addresses_are_listened_on() {
        let socket = |text: &str| listened(&text.parse().expect("an address"));
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
