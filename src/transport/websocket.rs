//! The browser's own WebSocket as a libp2p transport: dialling only, for a page cannot listen.
//!
//! A WebSocket is the one transport that every browser, worker and Node (22 and later) has, so it
//! is the one that always works; unless the page was loaded over https, the dialled node needs no
//! certificate. This module turns a socket's events into a byte stream for Noise and Yamux. It
//! follows the [WebSocket standard](https://websockets.spec.whatwg.org/) and takes the constructor
//! from the global scope, never from `window` or `self`, so that all places are the same to it.
//!
//! ## Reading
//!
//! Each message is appended to one buffer and wakes the reader in that very event. A browser gives
//! no way to stop a peer from sending, so the buffer is bounded by [`MAX_UNREAD`] and a peer that
//! exceeds it loses the connection. An honest peer does not come near it: Yamux empties the buffer
//! whenever its task runs, which is after every event, keeps what it takes within the windows of
//! its streams, and grants new credit only to streams that are read. Boundaries between messages
//! mean nothing; only binary messages are libp2p, so a text message ends the connection.
//!
//! ## Writing
//!
//! One write is one message of at most [`MAX_MESSAGE`] bytes. Nothing is gathered here, because
//! Noise above seals small writes together until it is flushed. The browser sends from a buffer of
//! its own which cannot be flushed, only watched: `bufferedAmount`. While it holds [`MAX_UNSENT`]
//! bytes or more, writing waits; a flush completes at once, since waiting for an empty buffer would
//! stop the stream at every message. No event tells that the buffer drains, so a waiting writer
//! looks again whenever the peer says something (its Yamux windows speak of exactly this progress)
//! and, because the peer may be silent, after [`DRAIN_CHECK`] by a one-shot timer. No timer exists
//! at any other moment: an idle connection costs nothing.
//!
//! ## Ending
//!
//! Whatever ends a connection wakes whoever waits for it, to read, to write or to close. Bytes that
//! came before the peer's close are still read, then end of file, or the reason when there is one
//! worth telling. Dropping a [`Connection`] takes the handlers off the socket before the closures
//! that they call are freed, and closes it. How long a dial may take is the caller's to say:
//! dropping the dial's future gives up.

use std::{
    borrow::Cow,
    cell::RefCell,
    io, mem,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use futures::{
    FutureExt,
    future::{BoxFuture, Pending, poll_fn},
    io::{AsyncRead, AsyncWrite},
};
use js_sys::{ArrayBuffer, Uint8Array};
use libp2p::{
    Multiaddr,
    core::transport::{DialOpts, ListenerId, TransportError, TransportEvent},
    multiaddr::Protocol,
};
use send_wrapper::SendWrapper;
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use web_sys::{BinaryType, CloseEvent, Event, MessageEvent, WebSocket};

use crate::platform::Delay;

/// How many received bytes may wait for their reader; a peer that sends more is disconnected.
pub const MAX_UNREAD: usize = 16 * 1024 * 1024;

/// From how many bytes in the browser's send buffer on a writer waits. The buffer may exceed it by
/// one message.
pub const MAX_UNSENT: u32 = 1024 * 1024;

/// The largest message sent; longer writes are split, so that the peer can start with the first
/// part while the last one is on its way.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// After how long a writer that waits for the browser's send buffer looks at it again. Browsers
/// round shorter timers up to this; in a hidden tab they stretch it to a second.
pub const DRAIN_CHECK: Duration = Duration::from_millis(4);

/// The read buffer gives its memory back when it is empty and larger than this.
const KEPT_CAPACITY: usize = 64 * 1024;

/// A normal end (RFC 6455, section 7.4.1).
const CLOSE_NORMAL: u16 = 1000;

/// The peer broke a rule. Scripts may send 1000 and the private range from 3000 on, nothing else.
const CLOSE_VIOLATION: u16 = 4000;

/// Dials WebSocket addresses with the browser's own `WebSocket`.
///
/// It takes `/ip4`, `/ip6`, `/dns`, `/dns4` and `/dns6` followed by `/tcp/<port>` and `/ws`,
/// `/wss`, `/tls/ws` or `/tls/sni/<name>/ws` (whose name is then the host, for a browser checks the
/// certificate against it), with a path in `x-parity-ws` or not, with `/p2p/<peer>` or not. All
/// other addresses, and listening, are
/// [`MultiaddrNotSupported`](TransportError::MultiaddrNotSupported): another transport may take
/// them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Transport;

impl Transport {
    /// There is nothing to configure.
    pub const fn new() -> Self {
        Self
    }
}

impl libp2p::core::Transport for Transport {
    type Output = Connection;
    type Error = Error;
    type ListenerUpgrade = Pending<Result<Connection, Error>>;
    type Dial = BoxFuture<'static, Result<Connection, Error>>;

    fn listen_on(&mut self, _: ListenerId, addr: Multiaddr) -> Result<(), TransportError<Error>> {
        Err(TransportError::MultiaddrNotSupported(addr))
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(
        &mut self,
        addr: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<Error>> {
        match to_url(&addr) {
            Some(url) if opts.role.is_dialer() => Ok(Connection::open(url).boxed()),
            _ => Err(TransportError::MultiaddrNotSupported(addr)),
        }
    }

    fn poll(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Error>> {
        Poll::Pending
    }
}

/// The URL that the browser is given for `addr`, or `None` if this is no WebSocket address.
fn to_url(addr: &Multiaddr) -> Option<String> {
    let mut parts = addr.iter();
    let mut host = match parts.next()? {
        Protocol::Ip4(ip) => ip.to_string(),
        Protocol::Ip6(ip) => format!("[{ip}]"),
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => domain(name)?,
        _ => return None,
    };
    let Protocol::Tcp(port) = parts.next()? else {
        return None;
    };
    let (scheme, path) = match parts.next()? {
        Protocol::Ws(path) => ("ws", path),
        Protocol::Wss(path) => ("wss", path),
        Protocol::Tls => match parts.next()? {
            Protocol::Ws(path) => ("wss", path),
            Protocol::Sni(name) => {
                host = domain(name)?;
                let Protocol::Ws(path) = parts.next()? else {
                    return None;
                };
                ("wss", path)
            }
            _ => return None,
        },
        _ => return None,
    };
    let slash = if path.starts_with('/') { "" } else { "/" };
    match (parts.next(), parts.next()) {
        (None, None) | (Some(Protocol::P2p(_)), None) => {
            Some(format!("{scheme}://{host}:{port}{slash}{path}"))
        }
        _ => None,
    }
}

/// A name that cannot be mistaken for another part of a URL; addresses come from strangers.
fn domain(name: Cow<'_, str>) -> Option<String> {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    (!name.is_empty() && name.chars().all(plain)).then(|| name.into_owned())
}

/// Why a WebSocket could not be opened or did not last.
///
/// Browsers hide from scripts why a connection failed, lest pages probe the networks of their users;
/// the sentences name what is usually the matter.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The browser would not even try.
    #[error(
        "the browser refused to dial {url} ({reason}); a page loaded over https may dial wss:// \
         only, and a host without a global WebSocket (Node before 22) cannot dial at all"
    )]
    Refused {
        /// What was dialled.
        url: String,
        /// What the browser said.
        reason: String,
    },
    /// No WebSocket came up.
    #[error(
        "no WebSocket came up at {url}; check that a node listens there with /ws, that no firewall \
         is between, that its certificate is valid if it is wss://, and that the page may dial it \
         (the browser's console may know more)"
    )]
    Unreachable {
        /// What was dialled.
        url: String,
    },
    /// The connection broke without a closing handshake.
    #[error("the connection broke: the peer or the network is gone; dial again")]
    Broken,
    /// The connection was closed in order, by this side or the other, before this write.
    #[error("the WebSocket is closed; dial again")]
    Closed,
    /// The peer closed the connection and said why.
    #[error("the peer closed the WebSocket with code {code}: {reason:?}")]
    ClosedByPeer {
        /// A status code of RFC 6455, section 7.4.
        code: u16,
        /// The peer's words, at most 123 bytes.
        reason: String,
    },
    /// The peer sent text.
    #[error(
        "the peer sent a text message, but libp2p speaks binary; check that the address is a \
         libp2p node's"
    )]
    Text,
    /// The peer sent more than may wait to be read.
    #[error(
        "the peer sent over {MAX_UNREAD} bytes that were not read yet, regardless of flow control"
    )]
    TooMuchUnread,
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error {
            Error::Refused { .. } => io::ErrorKind::PermissionDenied,
            Error::Unreachable { .. } => io::ErrorKind::ConnectionRefused,
            Error::Broken => io::ErrorKind::ConnectionReset,
            Error::Closed => io::ErrorKind::BrokenPipe,
            Error::ClosedByPeer { .. } => io::ErrorKind::ConnectionAborted,
            Error::Text | Error::TooMuchUnread => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}

/// An open WebSocket as a byte stream.
///
/// It is `Send` because the swarm wants that; it must stay on its thread, as everything does in
/// WebAssembly without shared memory.
#[derive(Debug)]
pub struct Connection(SendWrapper<Inner>);

#[derive(Debug)]
struct Inner {
    socket: WebSocket,
    shared: Rc<RefCell<Shared>>,
    /// Armed only while a writer waits for the browser's send buffer.
    drain: Option<Delay>,
    /// Whether this side began the closing handshake.
    closing: bool,
    _handlers: Handlers,
}

/// What the event handlers and the stream have in common. Never borrowed across a call into
/// JavaScript, which could call a handler.
#[derive(Debug, Default)]
struct Shared {
    status: Status,
    unread: BytesMut,
    waiting: Waiting,
}

#[derive(Debug, Default)]
enum Status {
    #[default]
    Connecting,
    Open,
    Closed,
    Failed(Error),
}

/// Who waits for an event. Every event wakes them all: mostly they are one task.
#[derive(Debug, Default)]
struct Waiting {
    opener: Option<Waker>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    closer: Option<Waker>,
}

/// The closures that the socket calls; they live as long as they are attached.
#[derive(Debug)]
struct Handlers {
    _open: Closure<dyn Fn()>,
    _message: Closure<dyn Fn(MessageEvent)>,
    _error: Closure<dyn Fn(Event)>,
    _close: Closure<dyn Fn(CloseEvent)>,
}

impl Connection {
    async fn open(url: String) -> Result<Self, Error> {
        let connection = Self::connecting(url)?;
        poll_fn(|cx| {
            let mut shared = connection.0.shared.borrow_mut();
            match &shared.status {
                Status::Connecting => {
                    shared.waiting.opener = Some(cx.waker().clone());
                    Poll::Pending
                }
                Status::Open => Poll::Ready(Ok(())),
                Status::Closed => Poll::Ready(Err(Error::Closed)),
                Status::Failed(error) => Poll::Ready(Err(error.clone())),
            }
        })
        .await?;
        Ok(connection)
    }

    fn connecting(url: String) -> Result<Self, Error> {
        let socket = WebSocket::new(&url).map_err(|thrown| Error::Refused {
            url: url.clone(),
            reason: sentence(&thrown),
        })?;
        socket.set_binary_type(BinaryType::Arraybuffer);
        let shared = Rc::default();
        let handlers = Handlers::attach(&socket, &shared, url);
        Ok(Self(SendWrapper::new(Inner {
            socket,
            shared,
            drain: None,
            closing: false,
            _handlers: handlers,
        })))
    }
}

/// What a thrown value says for itself.
fn sentence(thrown: &JsValue) -> String {
    match thrown.dyn_ref::<js_sys::Error>() {
        Some(error) => error.message().into(),
        None => format!("{thrown:?}"),
    }
}

impl Handlers {
    fn attach(socket: &WebSocket, shared: &Rc<RefCell<Shared>>, url: String) -> Self {
        let state = Rc::clone(shared);
        let open = Closure::<dyn Fn()>::new(move || {
            Shared::update(&state, |shared| shared.status = Status::Open);
        });
        let (state, channel) = (Rc::clone(shared), socket.clone());
        let message = Closure::<dyn Fn(MessageEvent)>::new(move |event: MessageEvent| {
            if let Err(error) = Shared::update(&state, |shared| shared.receive(&event.data())) {
                // It fails only for codes and reasons that are out of range; these are not.
                let _ = channel.close_with_code_and_reason(CLOSE_VIOLATION, error);
            }
        });
        let state = Rc::clone(shared);
        let error = Closure::<dyn Fn(Event)>::new(move |_| {
            Shared::update(&state, |shared| {
                let error = match shared.status {
                    Status::Connecting => Error::Unreachable { url: url.clone() },
                    _ => Error::Broken,
                };
                shared.end(Status::Failed(error));
            });
        });
        let state = Rc::clone(shared);
        let close = Closure::<dyn Fn(CloseEvent)>::new(move |event: CloseEvent| {
            Shared::update(&state, |shared| shared.end(ending(&event)));
        });
        socket.set_onopen(Some(open.as_ref().unchecked_ref()));
        socket.set_onmessage(Some(message.as_ref().unchecked_ref()));
        socket.set_onerror(Some(error.as_ref().unchecked_ref()));
        socket.set_onclose(Some(close.as_ref().unchecked_ref()));
        Self {
            _open: open,
            _message: message,
            _error: error,
            _close: close,
        }
    }
}

/// Going away (1001) and saying nothing (1005) are as good as a normal end.
fn ending(event: &CloseEvent) -> Status {
    match event.code() {
        _ if !event.was_clean() => Status::Failed(Error::Broken),
        CLOSE_NORMAL | 1001 | 1005 => Status::Closed,
        code => Status::Failed(Error::ClosedByPeer {
            code,
            reason: event.reason(),
        }),
    }
}

impl Shared {
    /// Applies what an event says, then wakes whoever waited for it, the state being free again.
    fn update<T>(state: &RefCell<Self>, change: impl FnOnce(&mut Self) -> T) -> T {
        let (result, waiting) = {
            let mut shared = state.borrow_mut();
            (change(&mut shared), mem::take(&mut shared.waiting))
        };
        [
            waiting.opener,
            waiting.reader,
            waiting.writer,
            waiting.closer,
        ]
        .into_iter()
        .flatten()
        .for_each(Waker::wake);
        result
    }

    /// The first ending counts: browsers report an error and then a close that knows less.
    fn end(&mut self, ending: Status) {
        if matches!(self.status, Status::Connecting | Status::Open) {
            self.status = ending;
        }
    }

    /// Takes a message in, or ends the connection and says in words for the peer why.
    fn receive(&mut self, data: &JsValue) -> Result<(), &'static str> {
        if !matches!(self.status, Status::Open) {
            return Ok(());
        }
        let Some(buffer) = data.dyn_ref::<ArrayBuffer>() else {
            return Err(self.refuse(Error::Text, "libp2p messages are binary"));
        };
        let bytes = Uint8Array::new(buffer);
        let before = self.unread.len();
        let after = usize::try_from(bytes.length())
            .ok()
            .and_then(|length| before.checked_add(length))
            .filter(|after| *after <= MAX_UNREAD);
        let Some(after) = after else {
            return Err(self.refuse(Error::TooMuchUnread, "too much was sent unread"));
        };
        self.unread.resize(after, 0);
        if let Some(tail) = self.unread.get_mut(before..) {
            bytes.copy_to(tail);
        }
        Ok(())
    }

    /// What a peer that breaks the rules sent before is worth nothing and gives its memory back.
    fn refuse(&mut self, error: Error, to_peer: &'static str) -> &'static str {
        self.unread = BytesMut::new();
        self.end(Status::Failed(error));
        to_peer
    }
}

impl Inner {
    /// Why nothing can be written any more, if so.
    fn check_alive(&self) -> io::Result<()> {
        match &self.shared.borrow().status {
            Status::Connecting | Status::Open => Ok(()),
            Status::Closed => Err(Error::Closed.into()),
            Status::Failed(error) => Err(error.clone().into()),
        }
    }

    /// Ready once the browser's send buffer takes more.
    fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.socket.buffered_amount() >= MAX_UNSENT {
            self.shared.borrow_mut().waiting.writer = Some(cx.waker().clone());
            ready!(
                self.drain
                    .get_or_insert_with(|| Delay::new(DRAIN_CHECK))
                    .poll_unpin(cx)
            );
            self.drain = None;
        }
        self.drain = None;
        Poll::Ready(())
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut shared = self.0.shared.borrow_mut();
        let length = buf.len().min(shared.unread.len());
        if length > 0 {
            let (filled, _) = buf.split_at_mut(length);
            shared.unread.copy_to_slice(filled);
            if shared.unread.is_empty() && shared.unread.capacity() > KEPT_CAPACITY {
                shared.unread = BytesMut::new();
            }
            return Poll::Ready(Ok(length));
        }
        match &shared.status {
            Status::Connecting | Status::Open => {
                shared.waiting.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            Status::Closed => Poll::Ready(Ok(0)),
            Status::Failed(error) => Poll::Ready(Err(error.clone().into())),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let inner = &mut *self.get_mut().0;
        inner.check_alive()?;
        // The browser drops what is sent after the peer's close frame without an error.
        if inner.closing || inner.socket.ready_state() != WebSocket::OPEN {
            return Poll::Ready(Err(Error::Closed.into()));
        }
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(inner.poll_drained(cx));
        let message = buf.get(..MAX_MESSAGE).unwrap_or(buf);
        match inner.socket.send_with_u8_array(message) {
            Ok(()) => Poll::Ready(Ok(message.len())),
            Err(_) => Poll::Ready(Err(Error::Closed.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.check_alive())
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.get_mut().0;
        if inner.check_alive().is_err() {
            return Poll::Ready(Ok(()));
        }
        inner.shared.borrow_mut().waiting.closer = Some(cx.waker().clone());
        if !mem::replace(&mut inner.closing, true) {
            // What was written before is sent before; the close event follows the peer's answer.
            let _ = inner.socket.close_with_code(CLOSE_NORMAL);
        }
        Poll::Pending
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.socket.set_onopen(None);
        self.socket.set_onmessage(None);
        self.socket.set_onerror(None);
        self.socket.set_onclose(None);
        // Does nothing if it is closed already.
        let _ = self.socket.close_with_code(CLOSE_NORMAL);
    }
}
