//! WebSocket for the native node, with TLS where a listener's address wants it: `/tls/ws`, or `/wss`.
//!
//! libp2p's transport does all but two things, which are here. It keeps one certificate for ever; one of a CA is good for weeks, and is
//! renewed in its files. These are looked at while the node runs (`files.rs`), and who comes from then on is shown the new one; connections that are
//! there go on. And it listens at IP addresses only, of which the certificate knows nothing: at `/dns4/example.org/tcp/443/tls/ws` this one listens
//! on all of this host's interfaces (`/dns6`: on those of IPv6), and tells that name and no other, since others can dial nothing else.
//!
//! Bounds: a few words for each listener with TLS, and the files' (`files.rs`).

mod files;

use std::{
    collections::HashMap,
    iter, mem,
    net::{Ipv4Addr, Ipv6Addr},
    pin::Pin,
    task::{Context, Poll},
};

use futures::{AsyncRead, AsyncWrite, ready};
use libp2p::{
    Multiaddr, Transport,
    core::transport::{DialOpts, ListenerId, TransportError, TransportEvent},
    multiaddr::Protocol,
    websocket::{self, error::Error, tls},
};

pub use files::{Files, load};

/// The longest WebSocket message, in bytes. Its room is taken when its header has come, from whoever sent it, so it is little more than
/// libp2p's nodes put into one: up to 192 KiB of Noise.
const MAX_MESSAGE: usize = 256 * 1024;

/// libp2p's WebSocket, as the module's documentation says.
pub struct WebSocket<T>
where
    T: Transport,
    T::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    inner: websocket::Config<T>,
    files: Option<Files>,
    /// Those with TLS; some have a name.
    secure: HashMap<ListenerId, Option<Name>>,
}

/// What others know a listener by that is bound to interfaces.
struct Name {
    name: Protocol<'static>,
    is_told: bool,
}

type Event<T> = TransportEvent<
    <websocket::Config<T> as Transport>::ListenerUpgrade,
    Error<<T as Transport>::Error>,
>;

impl<T> WebSocket<T>
where
    T: Transport + Send + Unpin + 'static,
    T::Error: Send + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
    T::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    /// WebSocket over such connections. Without files it listens nowhere with TLS; it dials all the same.
    pub fn new(inner: T, files: Option<Files>) -> Self {
        let mut inner = websocket::Config::new(inner);
        inner.set_max_data_size(MAX_MESSAGE);
        if let Some(files) = &files {
            inner.set_tls_config(files.tls());
        }
        Self {
            inner,
            files,
            secure: HashMap::new(),
        }
    }

    /// Takes up new files; tells of such as are of no use.
    fn poll_files(&mut self, cx: &mut Context<'_>) -> Poll<Event<T>> {
        let (Some(files), Some(listener)) = (&mut self.files, self.secure.keys().next()) else {
            return Poll::Pending;
        };
        loop {
            match ready!(files.poll_changed(cx)) {
                Ok(tls) => {
                    self.inner.set_tls_config(tls);
                }
                Err(error) => {
                    return Poll::Ready(TransportEvent::ListenerError {
                        listener_id: *listener,
                        error: Error::Tls(tls::Error::Tls(Box::new(error))),
                    });
                }
            }
        }
    }

    /// An event as it is told, if it is: a name once, and for as long as its listener is there, whatever interfaces come and go.
    fn named(&mut self, mut event: Event<T>) -> Option<Event<T>> {
        match &mut event {
            TransportEvent::NewAddress {
                listener_id,
                listen_addr,
            } => {
                if let Some(Some(Name { name, is_told })) = self.secure.get_mut(listener_id) {
                    if mem::replace(is_told, true) {
                        return None;
                    }
                    let rest = listen_addr.iter().skip(1);
                    *listen_addr = iter::once(name.clone()).chain(rest).collect();
                }
            }
            TransportEvent::AddressExpired { listener_id, .. } => {
                if let Some(Some(_)) = self.secure.get(listener_id) {
                    return None;
                }
            }
            TransportEvent::ListenerClosed { listener_id, .. } => {
                self.secure.remove(listener_id);
            }
            _ => {}
        }
        Some(event)
    }
}

impl<T> Transport for WebSocket<T>
where
    T: Transport + Send + Unpin + 'static,
    T::Error: Send + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
    T::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = <websocket::Config<T> as Transport>::Output;
    type Error = Error<T::Error>;
    type ListenerUpgrade = <websocket::Config<T> as Transport>::ListenerUpgrade;
    type Dial = <websocket::Config<T> as Transport>::Dial;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<Self::Error>> {
        if !has_tls(&address) {
            return self.inner.listen_on(id, address);
        }
        let (bound, name) = match interfaces(&address) {
            Some((bound, name)) => (bound, Some(name)),
            None => (address, None),
        };
        self.inner.listen_on(id, bound)?;
        let name = name.map(|name| Name {
            name,
            is_told: false,
        });
        self.secure.insert(id, name);
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        self.inner.dial(address, options)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event<T>> {
        if let Poll::Ready(event) = self.poll_files(cx) {
            return Poll::Ready(event);
        }
        loop {
            let event = ready!(Pin::new(&mut self.inner).poll(cx));
            if let Some(event) = self.named(event) {
                return Poll::Ready(event);
            }
        }
    }
}

/// Whether it is one of WebSocket with TLS: `…/tls/ws` or `…/wss`.
pub fn has_tls(address: &Multiaddr) -> bool {
    let mut parts = address.iter().collect::<Vec<_>>().into_iter().rev();
    match parts.next() {
        Some(Protocol::Wss(_)) => true,
        Some(Protocol::Ws(_)) => parts.next() == Some(Protocol::Tls),
        _ => false,
    }
}

/// The interfaces for which a name stands at which is listened, and the name.
fn interfaces(address: &Multiaddr) -> Option<(Multiaddr, Protocol<'static>)> {
    let mut parts = address.iter();
    let name = parts.next()?;
    let interfaces = match &name {
        Protocol::Dns4(_) => Protocol::Ip4(Ipv4Addr::UNSPECIFIED),
        Protocol::Dns6(_) => Protocol::Ip6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let bound = iter::once(interfaces).chain(parts).collect();
    Some((bound, name.acquire()))
}
