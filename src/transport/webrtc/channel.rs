//! A data channel as a byte stream.
//!
//! The handlers are attached where the channel comes to be, since a browser forgets messages that nobody listens to.
//! A browser can't be told to stop receiving, so what is unread is bounded for a whole connection by [`MAX_UNREAD`], and a peer
//! that exceeds it loses the channel. Libp2p reads whenever its task runs, which is after every event; an honest peer does not come
//! near. Writing waits while the browser holds [`MAX_UNSENT`] bytes and goes on at its `bufferedamountlow` event; a
//! flush completes at once, or every message would cost a round trip.
//!
//! When the last owner drops a channel, it closes [`LINGER`] later: a native peer that has not yet read what was written last would
//! lose it to the reset of the SCTP stream, and there is no acknowledged end (FIN_ACK) in `libp2p-webrtc-utils` 0.5.

use std::{
    cell::{Cell, RefCell},
    fmt, io, mem,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use futures::{AsyncRead, AsyncWrite};
use js_sys::{ArrayBuffer, Uint8Array};
use wasm_bindgen::{JsCast, closure::Closure};
use web_sys::{Event, MessageEvent, RtcDataChannel, RtcDataChannelState, RtcDataChannelType};

use super::Error;
use crate::platform::{self, Delay};

/// How many received bytes may wait for their readers, over all channels of a connection.
pub const MAX_UNREAD: usize = 16 * 1024 * 1024;

/// From how many bytes in the browser's send buffer on a writer waits. Half of it is a line of 50 Mbit/s and 20 ms.
pub const MAX_UNSENT: u32 = 256 * 1024;

/// How long a channel stays open after its last owner has dropped it. Each takes a number for as long, of which there are few
/// (`numbers.rs`), and direct messages go on.
pub const LINGER: Duration = Duration::from_secs(2);

/// The bytes that wait for their readers, counted over a connection's channels.
pub(super) type Unread = Rc<Cell<usize>>;

/// Clones are one channel.
#[derive(Clone)]
pub(super) struct Channel(Rc<Inner>);

struct Inner {
    channel: RtcDataChannel,
    shared: Rc<RefCell<Shared>>,
    _wake: Closure<dyn Fn(Event)>,
    _message: Closure<dyn Fn(MessageEvent)>,
}

/// What the event handlers and the stream have in common. Never borrowed across a call into JavaScript,
/// which could call a handler.
struct Shared {
    unread: BytesMut,
    counted: Unread,
    overrun: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    closer: Option<Waker>,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Channel({:?})", self.0.channel.id())
    }
}

impl Channel {
    pub(super) fn new(channel: RtcDataChannel, counted: Unread) -> Self {
        channel.set_binary_type(RtcDataChannelType::Arraybuffer);
        channel.set_buffered_amount_low_threshold(MAX_UNSENT / 2);
        let shared = Rc::new(RefCell::new(Shared {
            unread: BytesMut::new(),
            counted,
            overrun: false,
            reader: None,
            writer: None,
            closer: None,
        }));
        let state = Rc::clone(&shared);
        let wake = Closure::<dyn Fn(Event)>::new(move |_| Shared::update(&state, |_| ()));
        let handler = wake.as_ref().unchecked_ref();
        channel.set_onopen(Some(handler));
        channel.set_onbufferedamountlow(Some(handler));
        channel.set_onclose(Some(handler));
        let (state, full) = (Rc::clone(&shared), channel.clone());
        let message = Closure::<dyn Fn(MessageEvent)>::new(move |event: MessageEvent| {
            if !Shared::update(&state, |shared| shared.receive(&event)) {
                full.close();
            }
        });
        channel.set_onmessage(Some(message.as_ref().unchecked_ref()));
        Self(Rc::new(Inner {
            channel,
            shared,
            _wake: wake,
            _message: message,
        }))
    }

    fn state(&self) -> RtcDataChannelState {
        self.0.channel.ready_state()
    }

    /// Whether it is open yet, or why it is no more.
    fn opened(&self) -> io::Result<bool> {
        if self.0.shared.borrow().overrun {
            let reason = "the peer sent more than may wait to be read";
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        match self.state() {
            RtcDataChannelState::Connecting => Ok(false),
            RtcDataChannelState::Open => Ok(true),
            _ => Err(io::Error::new(io::ErrorKind::BrokenPipe, Error::Broken)),
        }
    }
}

impl Shared {
    /// Applies what an event says, then wakes whoever waits, the state being free again.
    fn update<T>(state: &RefCell<Self>, change: impl FnOnce(&mut Self) -> T) -> T {
        let (result, waiting) = {
            let mut shared = state.borrow_mut();
            let waiting = [
                shared.reader.take(),
                shared.writer.take(),
                shared.closer.take(),
            ];
            (change(&mut shared), waiting)
        };
        waiting.into_iter().flatten().for_each(Waker::wake);
        result
    }

    /// Takes a message in; false if there is no room for it, or it is none of libp2p's.
    fn receive(&mut self, event: &MessageEvent) -> bool {
        let data = event.data();
        let room = MAX_UNREAD.saturating_sub(self.counted.get());
        let bytes = data
            .dyn_ref::<ArrayBuffer>()
            .map(|data| Uint8Array::new(data));
        let fits = bytes.and_then(|bytes| {
            let length = usize::try_from(bytes.length()).ok()?;
            (length <= room).then_some((bytes, length))
        });
        let Some((bytes, length)) = fits.filter(|_| !self.overrun) else {
            self.overrun = true;
            self.forget();
            return false;
        };
        let before = self.unread.len();
        self.unread.resize(before + length, 0);
        if let Some(tail) = self.unread.get_mut(before..) {
            bytes.copy_to(tail);
        }
        self.counted.set(self.counted.get() + length);
        true
    }

    fn forget(&mut self) {
        let unread = mem::take(&mut self.unread);
        self.uncount(unread.len());
    }

    fn uncount(&self, length: usize) {
        self.counted.set(self.counted.get().saturating_sub(length));
    }
}

impl AsyncRead for Channel {
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
            shared.uncount(length);
            if shared.unread.is_empty() {
                shared.unread = BytesMut::new();
            }
            return Poll::Ready(Ok(length));
        }
        drop(shared);
        match self.opened() {
            Ok(_) => {
                self.0.shared.borrow_mut().reader = Some(cx.waker().clone());
                Poll::Pending
            }
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Poll::Ready(Ok(0)),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl AsyncWrite for Channel {
    /// All of it or nothing: what is written here at once is one message, whose size `small_writes.rs` keeps down.
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let channel = &self.0.channel;
        if !self.opened()? || channel.buffered_amount() >= MAX_UNSENT {
            self.0.shared.borrow_mut().writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let sent = channel.send_with_u8_array(buf);
        Poll::Ready(
            sent.map(|()| buf.len())
                .map_err(|thrown| io::Error::other(Error::thrown(thrown))),
        )
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.opened().map(|_| ()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.state() == RtcDataChannelState::Closed {
            return Poll::Ready(Ok(()));
        }
        self.0.shared.borrow_mut().closer = Some(cx.waker().clone());
        self.0.channel.close();
        Poll::Pending
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.channel.set_onopen(None);
        self.channel.set_onbufferedamountlow(None);
        self.channel.set_onclose(None);
        self.channel.set_onmessage(None);
        self.shared.borrow_mut().forget();
        if matches!(
            self.channel.ready_state(),
            RtcDataChannelState::Connecting | RtcDataChannelState::Open
        ) {
            let channel = self.channel.clone();
            platform::spawn(async move {
                Delay::new(LINGER).await;
                channel.close();
            });
        }
    }
}
