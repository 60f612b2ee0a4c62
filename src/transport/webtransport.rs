//! WebTransport for the native node: listening only, for browsers dial and native nodes have QUIC.
//!
//! It is the best way from a tab to a node: QUIC's own streams with backpressure, in pages and in workers, and no
//! certificate of a CA, since the address carries the hashes of the node's certificates
//! ([libp2p/specs webtransport](https://github.com/libp2p/specs/tree/master/webtransport)). `session.rs` is the HTTP/3 of one
//! session and owns its QUIC connection. On the client's first stream Noise proves both identities, and tells the hashes again, so
//! that who hands out the address can't put a certificate of his own beneath; then `connection.rs` is the multiplexer.
//!
//! Browsers accept such a certificate for at most 14 days. `certificates.rs` derives them from the identity and the time: the one in use and the
//! next stand in the address, which is thereby the same after a new start; when the next takes over, the listener reports the address anew.
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
use crate::platform::{self, Delay, Executor, SystemTime};

/// The node's.
const WALL: Wall = Wall {
    date: platform::date,
    look: Duration::from_secs(60),
};
/// Datagrams are part of WebTransport, and nobody reads them: the oldest make room.
const MAX_DATAGRAM_BYTES: usize = 4096;

/// Listens on `/ip4` or `/ip6`, `/udp/<port>/quic-v1/webtransport`; an unspecified address stands for all of this host's. All
/// other addresses, and dialling, are [`MultiaddrNotSupported`](TransportError::MultiaddrNotSupported).
pub struct Transport {
    keypair: Keypair,
    wall: Wall,
    listeners: Listeners<Sessions>,
}

/// How it is looked at whether the certificates are still right. By the clock on the wall, since a monotonic one stands still in a machine that
/// sleeps, and often, since a clock that was wrong at the start may be set right at any time.
#[derive(Clone, Copy)]
struct Wall {
    date: fn() -> SystemTime,
    look: Duration,
}

impl Transport {
    /// A transport that proves this identity, whose connections have these windows and run here.
    pub fn new(keypair: Keypair, windows: Windows, executor: &Executor) -> Self {
        Self {
            keypair,
            wall: WALL,
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
        let listening = Sessions::new(self.keypair.clone(), self.wall)
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
    wall: Wall,
    look: Delay,
}

impl Sessions {
    fn new(keypair: Keypair, wall: Wall) -> Result<Self, Error> {
        Ok(Self {
            certificates: Certificates::new(&keypair, (wall.date)())?,
            keypair,
            wall,
            look: Delay::new(wall.look),
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
            .addressed()
            .into_iter()
            .fold(Self::address(socket), with_hash)
    }

    fn config(&self) -> ServerConfig {
        server_config(self.certificates.shown())
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
        let hashes = self.certificates.proved();
        Connection::accept(caller, self.keypair.clone(), hashes).boxed()
    }

    /// Those of other certificates, once it is another time.
    fn poll_renewed(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self, Error>> {
        let wall = self.wall;
        loop {
            ready!(self.look.poll_unpin(cx));
            self.look.reset(wall.look);
            if let Some(certificates) = self.certificates.renewed((wall.date)())? {
                return Poll::Ready(Ok(Self {
                    keypair: self.keypair.clone(),
                    certificates,
                    wall,
                    look: Delay::new(wall.look),
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
    use std::{
        net::Ipv4Addr,
        sync::atomic::{AtomicU64, Ordering},
    };

    use libp2p::{
        Transport as _,
        core::{transport::TransportEvent, upgrade::OutboundConnectionUpgrade},
        multiaddr::multihash::Multihash,
    };
    use tokio_util::compat::TokioAsyncReadCompatExt;
    use wtransport::{ClientConfig, Endpoint, tls::Sha256Digest};

    use super::*;

    /// What the clock on the wall says, in seconds.
    static NOW: AtomicU64 = AtomicU64::new(0);

    fn set(time: SystemTime) {
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        NOW.store(since.expect("after 1970").as_secs(), Ordering::Relaxed);
    }

    const SET_BY_HAND: Wall = Wall {
        date: || SystemTime::UNIX_EPOCH + Duration::from_secs(NOW.load(Ordering::Relaxed)),
        look: Duration::from_millis(10),
    };

    fn listening(keypair: &Keypair) -> Transport {
        let mut transport = Transport {
            wall: SET_BY_HAND,
            ..Transport::new(keypair.clone(), Windows::default(), &Executor::default())
        };
        let address = "/ip4/127.0.0.1/udp/0/quic-v1/webtransport".parse();
        transport
            .listen_on(ListenerId::next(), address.expect("an address"))
            .expect("it listens");
        transport
    }

    /// The next address, with those before it that are none any more; who comes meanwhile is let in.
    async fn next_address(transport: &mut Transport) -> (Vec<Multiaddr>, Multiaddr) {
        let mut expired = Vec::new();
        loop {
            match std::future::poll_fn(|cx| Pin::new(&mut *transport).poll(cx)).await {
                TransportEvent::NewAddress { listen_addr, .. } => return (expired, listen_addr),
                TransportEvent::AddressExpired { listen_addr, .. } => expired.push(listen_addr),
                TransportEvent::Incoming { upgrade, .. } => {
                    tokio::spawn(upgrade);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn hashes(address: &Multiaddr) -> Vec<Multihash<64>> {
        let hash = |part| match part {
            Protocol::Certhash(hash) => Some(hash),
            _ => None,
        };
        address.iter().filter_map(hash).collect()
    }

    /// As a page dials: the certificate by its hash, by the true clock, and then Noise, which wants all hashes of the address.
    async fn dial(address: &Multiaddr) -> Result<PeerId, noise::Error> {
        let port = address.iter().find_map(|part| match part {
            Protocol::Udp(port) => Some(port),
            _ => None,
        });
        let digest =
            |hash: &Multihash<64>| Sha256Digest::new(hash.digest().try_into().expect("a SHA-256"));
        let config = ClientConfig::builder()
            .with_bind_address(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .with_server_certificate_hashes(hashes(address).iter().map(digest))
            .build();
        let client = Endpoint::client(config).expect("a client");
        let url = format!(
            "https://127.0.0.1:{}/.well-known/libp2p-webtransport?type=noise",
            port.expect("a port")
        );
        let session = client.connect(url).await.expect("its certificate is good");
        let stream = session.open_bi().await.expect("room for a stream");
        let (send, receive) = stream.await.expect("a stream");
        let noise = noise::Config::new(&Keypair::generate_ed25519())?
            .with_webtransport_certhashes(hashes(address).into_iter().collect());
        let stream = tokio::io::join(receive, send).compat();
        let (peer, _) = noise.upgrade_outbound(stream, "/noise").await?;
        Ok(peer)
    }

    /// On a clock that is set by hand: an address from before a rotation dials after it, through Noise.
    #[tokio::test]
    async fn addresses_outlast_a_rotation_a_new_start_and_a_wrong_clock() {
        let keypair = Keypair::generate_ed25519();
        // The true time's period is the second one, since the dialler looks at the true clock.
        let rotation = certificates::tests::began(&keypair, platform::date());
        set(rotation - Duration::from_secs(1800));
        let mut transport = listening(&keypair);
        let (_, old) = next_address(&mut transport).await;
        assert_eq!(hashes(&old).len(), 2);
        set(rotation + Duration::from_secs(1800));
        let (expired, new) = next_address(&mut transport).await;
        assert_eq!(expired, std::slice::from_ref(&old));
        assert_eq!(hashes(&new)[0], hashes(&old)[1]);
        let serving = tokio::spawn(async move { next_address(&mut transport).await });
        for address in [&old, &new] {
            let peer = dial(address).await.expect("all its hashes are proved");
            assert_eq!(peer, keypair.public().to_peer_id());
        }
        // What nobody has ever been told is not proved.
        let mut forged = old.clone();
        let stranger = Keypair::generate_ed25519();
        let strangers = certificates::Certificates::new(&stranger, platform::date());
        let [theirs, _] = strangers.expect("made").addressed();
        forged.push(Protocol::Certhash(theirs));
        let error = dial(&forged).await.expect_err("a hash of somebody else's");
        assert!(
            matches!(error, noise::Error::UnknownWebTransportCerthashes(..)),
            "{error}"
        );
        serving.abort();
        let (_, again) = next_address(&mut listening(&keypair)).await;
        assert_eq!(hashes(&again), hashes(&new));
        // One that starts under a wrong clock (libp2p/go-libp2p#1833) has its right address once that is set.
        set(rotation + Duration::from_secs(30 * 86_400));
        let mut early = listening(&keypair);
        let (_, wrong) = next_address(&mut early).await;
        assert_ne!(hashes(&wrong), hashes(&new));
        set(rotation + Duration::from_secs(1800));
        let (expired, healed) = next_address(&mut early).await;
        assert_eq!((expired, hashes(&healed)), (vec![wrong], hashes(&new)));
        let serving = tokio::spawn(async move { next_address(&mut early).await });
        dial(&healed).await.expect("its certificate is valid now");
        serving.abort();
    }

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
