//! Listening by QUIC, whatever is spoken above it: QUIC's own streams, or WebTransport's sessions.
//!
//! A client must first show that it is where it says (QUIC's Retry, RFC 9000, 8.1.2): its first packet is answered with a token, and nothing
//! is kept or computed for it until it comes back with that. So forged packets take no handshake's place and cost no signature, and an
//! honest client waits for one round trip more. Tokens for later connections are not given out: a client keeps them by the server's
//! name, and to QUIC all of libp2p's nodes have the same.
//!
//! Bounds: [`MAX_UNTAKEN`] first packets that wait to be taken up, each with [`MAX_UNTAKEN_BYTES`] of its client; where there are more,
//! quinn leaves them unanswered, and their clients send them again.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{
    StreamExt,
    future::BoxFuture,
    ready,
    stream::{BoxStream, SelectAll, Stream},
};
use if_watch::{IfEvent, tokio::IfWatcher};
use libp2p::{
    Multiaddr, PeerId,
    core::transport::{ListenerId, TransportEvent},
    multiaddr::Protocol,
};
use quinn::{
    Connection, ConnectionError, Endpoint, EndpointConfig, Incoming, ServerConfig, TransportConfig,
    ValidationTokenConfig, VarInt,
};
use socket2::Socket;

use super::{
    runtime::Connections,
    windows::{Window, Windows},
};
use crate::{peers::AddressGroup, platform::Executor};

/// Clients that are sent back, and whatever else has no event, between two turns of others.
const MAX_STEPS: usize = 64;
/// First packets that wait to be taken up: more than there may be handshakes, of which each waits for its turn.
const MAX_UNTAKEN: usize = 1024;
/// What else of its client waits with one of them, in bytes.
const MAX_UNTAKEN_BYTES: u64 = 8 * 1024;

/// What is spoken above QUIC.
pub trait Service: Sized + Send + Unpin + 'static {
    /// What a client becomes.
    type Connection: Send + 'static;
    /// Why it does not.
    type Error: From<io::Error> + Send + Unpin + 'static;

    /// The address of a socket.
    fn address(socket: SocketAddr) -> Multiaddr;

    /// The same with all that who dials it has to know.
    fn told(&self, socket: SocketAddr) -> Multiaddr {
        Self::address(socket)
    }

    /// What clients are shown.
    fn config(&self) -> ServerConfig;

    /// What they are granted until they have proved who they are.
    fn limits(&self) -> TransportConfig;

    /// The handshake with a client; who drops it ends it.
    fn accept(&self, caller: Caller) -> Upgrade<Self>;

    /// What takes this one's place, once it is time.
    fn poll_renewed(&mut self, _: &mut Context<'_>) -> Poll<Result<Self, Self::Error>> {
        Poll::Pending
    }
}

/// A client that waits to be taken up.
pub struct Caller {
    incoming: Incoming,
    config: ServerConfig,
    limits: TransportConfig,
    windows: Windows,
    from: Option<AddressGroup>,
}

impl Caller {
    /// QUIC's handshake with it. The window is its connection's, for as long as that is there.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn answered(self) -> Result<(Connection, Window), ConnectionError> {
        let (mut config, mut limits) = (self.config, self.limits);
        let window = self.windows.grant_to(self.from);
        limits.stream_receive_window(window.of_stream());
        config.transport_config(Arc::new(limits));
        let connection = self.incoming.accept_with(Arc::new(config))?.await?;
        Ok((connection, window))
    }
}

/// A handshake under way.
pub type Upgrade<S> =
    BoxFuture<'static, Result<(PeerId, <S as Service>::Connection), <S as Service>::Error>>;
/// What a transport reports.
pub type Event<S> = TransportEvent<Upgrade<S>, <S as Service>::Error>;

/// The listeners of a transport.
pub struct Listeners<S: Service> {
    all: SelectAll<Listener<S>>,
    windows: Windows,
    executor: Executor,
}

impl<S: Service> Listeners<S> {
    /// None yet, whose connections have these windows and run here.
    pub fn new(windows: Windows, executor: &Executor) -> Self {
        Self {
            all: SelectAll::new(),
            windows,
            executor: executor.clone(),
        }
    }

    /// Listens; an unspecified address stands for all of this host's.
    ///
    /// # Errors
    /// Where the socket, or the list of this host's addresses, is not to be had.
    pub fn listen(
        &mut self,
        id: ListenerId,
        socket: SocketAddr,
        service: S,
        config: EndpointConfig,
    ) -> Result<(), S::Error> {
        let server = limited(service.config());
        let endpoint = endpoint(socket, config, Some(server.clone()), &self.executor)?;
        let windows = self.windows.clone();
        let listener = Listener::new(id, endpoint, (service, server), windows)?;
        self.all.push(listener);
        Ok(())
    }

    /// Ends one, and all connections from its socket.
    pub fn remove(&mut self, id: ListenerId) -> bool {
        let listener = self.all.iter_mut().find(|listener| listener.id == id);
        listener.is_some_and(|listener| {
            listener.close();
            true
        })
    }

    /// One from whose socket this one is reached.
    pub fn reaching(&self, to: SocketAddr) -> Option<Endpoint> {
        let listener = self.all.iter().find(|listener| listener.reaches(to))?;
        Some(listener.endpoint.clone())
    }

    /// What there is to report.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event<S>> {
        match self.all.poll_next_unpin(cx) {
            Poll::Ready(Some(event)) => Poll::Ready(event),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

struct Listener<S: Service> {
    id: ListenerId,
    service: S,
    config: ServerConfig,
    windows: Windows,
    endpoint: Endpoint,
    incoming: BoxStream<'static, Incoming>,
    /// Only where the address stands for all of this host's.
    interfaces: Option<IfWatcher>,
    socket: SocketAddr,
    /// What the address stands for now.
    reported: Vec<IpAddr>,
    events: VecDeque<Event<S>>,
    closed: bool,
}

impl<S: Service> Listener<S> {
    fn new(
        id: ListenerId,
        endpoint: Endpoint,
        (service, config): (S, ServerConfig),
        windows: Windows,
    ) -> Result<Self, S::Error> {
        let socket = endpoint.local_addr()?;
        let mut listener = Self {
            id,
            service,
            config,
            windows,
            incoming: futures::stream::unfold(endpoint.clone(), |endpoint| async {
                Some((endpoint.accept().await?, endpoint))
            })
            .boxed(),
            endpoint,
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

    /// Whether packets from its socket come there.
    fn reaches(&self, to: SocketAddr) -> bool {
        let (own, to) = (self.socket.ip(), to.ip());
        let same_family = own.is_ipv4() == to.is_ipv4();
        let same_scope = own.is_unspecified() || own.is_loopback() == to.is_loopback();
        !self.closed && same_family && same_scope
    }

    fn told(&self, ip: IpAddr) -> Multiaddr {
        self.service.told(SocketAddr::new(ip, self.socket.port()))
    }

    fn up(&mut self, ip: IpAddr) {
        if ip.is_ipv4() == self.socket.is_ipv4() && !self.reported.contains(&ip) {
            self.reported.push(ip);
            self.events.push_back(TransportEvent::NewAddress {
                listener_id: self.id,
                listen_addr: self.told(ip),
            });
        }
    }

    fn down(&mut self, ip: IpAddr) {
        let before = self.reported.len();
        self.reported.retain(|reported| *reported != ip);
        if self.reported.len() < before {
            self.events.push_back(TransportEvent::AddressExpired {
                listener_id: self.id,
                listen_addr: self.told(ip),
            });
        }
    }

    fn renew(&mut self, service: S) {
        let addresses = self.reported.clone();
        for ip in &addresses {
            self.down(*ip);
        }
        self.config = limited(service.config());
        self.endpoint.set_server_config(Some(self.config.clone()));
        self.service = service;
        for ip in addresses {
            self.up(ip);
        }
    }

    /// The handshake with a client, unless it must first show that it is where it says.
    fn accept(&self, incoming: Incoming) -> Option<Event<S>> {
        if !incoming.remote_address_validated() {
            // Such a client may be sent back, so this does not fail; it comes again.
            let _ = incoming.retry();
            return None;
        }
        let send_back_addr = S::address(incoming.remote_address());
        let caller = Caller {
            incoming,
            config: self.config.clone(),
            limits: self.service.limits(),
            windows: self.windows.clone(),
            from: AddressGroup::of_public(&send_back_addr),
        };
        Some(TransportEvent::Incoming {
            listener_id: self.id,
            local_addr: S::address(self.socket),
            send_back_addr,
            upgrade: self.service.accept(caller),
        })
    }

    fn failed(&self, error: S::Error) -> Event<S> {
        TransportEvent::ListenerError {
            listener_id: self.id,
            error,
        }
    }
}

impl<S: Service> Stream for Listener<S> {
    type Item = Event<S>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event<S>>> {
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
            if let Poll::Ready(renewed) = this.service.poll_renewed(cx) {
                match renewed {
                    Ok(service) => this.renew(service),
                    Err(error) => return Poll::Ready(Some(this.failed(error))),
                }
                continue;
            }
            match ready!(this.incoming.poll_next_unpin(cx)) {
                Some(incoming) => {
                    if let Some(event) = this.accept(incoming) {
                        return Poll::Ready(Some(event));
                    }
                }
                None => this.close(),
            }
        }
        // First packets may come faster than they can be sent back to show where they are from; others have their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// QUIC on a socket, whose connections run here; one of IPv6 takes no IPv4. Without a server's configuration it only dials.
///
/// # Errors
/// Where the socket is not to be had.
pub fn endpoint(
    address: SocketAddr,
    config: EndpointConfig,
    server: Option<ServerConfig>,
    executor: &Executor,
) -> io::Result<Endpoint> {
    let domain = socket2::Domain::for_address(address);
    let socket = Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Endpoint::new(
        config,
        server,
        UdpSocket::from(socket),
        Arc::new(Connections::new(executor)),
    )
}

/// The socket that an address of QUIC begins with, and what comes after.
pub fn socket_address(address: &Multiaddr) -> Option<(SocketAddr, Vec<Protocol<'_>>)> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match (parts.next()?, parts.next()?) {
        (Protocol::Udp(port), Protocol::QuicV1) => {
            Some((SocketAddr::new(ip, port), parts.collect()))
        }
        _ => None,
    }
}

/// The address of a socket that speaks QUIC.
pub fn multiaddress(socket: SocketAddr) -> Multiaddr {
    Multiaddr::from(socket.ip())
        .with(Protocol::Udp(socket.port()))
        .with(Protocol::QuicV1)
}

/// The same for all clients that are not taken up yet.
fn limited(mut config: ServerConfig) -> ServerConfig {
    let mut tokens = ValidationTokenConfig::default();
    tokens.sent(0);
    config
        .validation_token_config(tokens)
        .max_incoming(MAX_UNTAKEN)
        .incoming_buffer_size(MAX_UNTAKEN_BYTES)
        .incoming_buffer_size_total(MAX_UNTAKEN as u64 * MAX_UNTAKEN_BYTES);
    config
}
