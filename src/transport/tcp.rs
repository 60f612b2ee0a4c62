//! libp2p's TCP, whose listeners have their port for themselves: plain, and below WebSocket with and without TLS.
//!
//! libp2p's listens with `SO_REUSEPORT`, as it dials from the port at which it listens: so a NAT has one hole for both, and others can come through it. But
//! whoever listens at that port with the same option, as any node of the same user does, is let in by the system without a word, and gets half of those who
//! come. So an address is bound once without that option before it is listened on, which fails where somebody listens, whatever their options; that
//! socket is dropped at once, and who listened first goes on undisturbed. Connections are in nobody's way: those made from that port,
//! and those that a node which has just ended has left behind. Two that begin to listen within the same microseconds are not told apart.
//!
//! On Linux that is so of addresses that overlap too, `0.0.0.0` and one interface's. Other systems let a socket with `SO_REUSEADDR`, as libp2p's are, beside one
//! whose address is another, be it that one of the two is a wildcard; the more particular one gets who comes for it. There only the very same address is for one
//! node: without that option an address would not be free as long as connections are left of the last node that listened there.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, Transport,
    core::transport::{DialOpts, ListenerId, TransportError, TransportEvent, map_err::MapErr},
    multiaddr::Protocol,
    tcp,
};
use socket2::{Domain, Socket, Type};

/// See the module's documentation.
pub struct Tcp {
    inner: Inner,
}

type Inner = MapErr<tcp::tokio::Transport, fn(io::Error) -> Failed>;

/// What the system said. Its error is the source of this one, since who looks for it along the sources passes over one that stands bare in a choice of
/// transports.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failed(#[source] io::Error);

impl Tcp {
    /// TCP that sends each write at once.
    pub fn new() -> Self {
        let inner = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
        Self {
            inner: inner.map_err(Failed),
        }
    }
}

impl Transport for Tcp {
    type Output = <Inner as Transport>::Output;
    type Error = Failed;
    type ListenerUpgrade = <Inner as Transport>::ListenerUpgrade;
    type Dial = <Inner as Transport>::Dial;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<Failed>> {
        let Some(socket) = socket_address(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        bind_alone(socket).map_err(|error| TransportError::Other(Failed(error)))?;
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<Failed>> {
        self.inner.dial(address, options)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Failed>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

/// Binds and lets go.
///
/// # Errors
/// Somebody listens there; or why this node can't.
fn bind_alone(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        // As the listener.
        socket.set_only_v6(true)?;
    }
    // On Windows it is what lets others listen too, and nothing is left behind there.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

/// The socket of an address of TCP.
fn socket_address(address: &Multiaddr) -> Option<SocketAddr> {
    let parts: Vec<_> = address.iter().collect();
    let ([ip, Protocol::Tcp(port)] | [ip, Protocol::Tcp(port), Protocol::P2p(_)]) =
        parts.as_slice()
    else {
        return None;
    };
    let ip: IpAddr = match ip {
        Protocol::Ip4(ip) => (*ip).into(),
        Protocol::Ip6(ip) => (*ip).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, *port))
}
