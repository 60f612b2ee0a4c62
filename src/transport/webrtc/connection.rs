//! A WebRTC connection as a multiplexer: each stream is a data channel.
//!
//! Channels that the peer opens wait here for libp2p, at most [`MAX_WAITING`]; one more is closed. How many are ours, `numbers.rs`
//! limits. A stream that is
//! dropped before its end tells the peer by a reset, which its drop listener writes. When the browser gives the connection up, every poll
//! ends with an error; dropping a [`Connection`] closes it.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    io, mem,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use futures::{AsyncRead, AsyncWrite, StreamExt, stream::FuturesUnordered};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p_webrtc_utils::DropListener;
use send_wrapper::SendWrapper;
use wasm_bindgen::{JsCast, closure::Closure, prelude::*};
use web_sys::{
    Event, RtcDataChannel, RtcDataChannelEvent, RtcDataChannelInit, RtcPeerConnection,
    RtcPeerConnectionState,
};

use super::{
    Error,
    channel::{Channel, Unread},
    numbers::Numbers,
};

/// How many channels that a peer opened may wait to be taken; libp2p takes them whenever its task runs.
pub const MAX_WAITING: usize = 128;

#[wasm_bindgen]
extern "C" {
    /// An `RTCPeerConnection` whose exceptions are errors. `web_sys` does not expect one of this method, and it would leave Rust in the
    /// middle of a poll, with all that is borrowed there borrowed for ever.
    type Opener;

    #[wasm_bindgen(method, catch, js_name = createDataChannel)]
    fn create_data_channel(
        this: &Opener,
        label: &str,
        options: &RtcDataChannelInit,
    ) -> Result<RtcDataChannel, JsValue>;
}

/// An `RTCPeerConnection`, whichever way it came to be.
///
/// It is `Send` because the swarm wants that; it must stay on its thread, as everything does in WebAssembly
/// without shared memory.
pub struct Connection(SendWrapper<Inner>);

struct Inner {
    peer: RtcPeerConnection,
    shared: Rc<RefCell<Shared>>,
    unread: Unread,
    numbers: Numbers,
    drops: FuturesUnordered<DropListener<Channel>>,
    _opened: Closure<dyn Fn(RtcDataChannelEvent)>,
    _changed: Closure<dyn Fn(Event)>,
}

/// What the event handlers and the multiplexer have in common.
#[derive(Default)]
struct Shared {
    inbound: VecDeque<Channel>,
    over: bool,
    waiting: Vec<Waker>,
}

impl Shared {
    /// Applies what an event says, then wakes whoever waits, the state being free again.
    fn update(state: &RefCell<Self>, change: impl FnOnce(&mut Self)) {
        let waiting = {
            let mut shared = state.borrow_mut();
            change(&mut shared);
            mem::take(&mut shared.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    fn wait(&mut self, cx: &Context<'_>) {
        if !self.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.waiting.push(cx.waker().clone());
        }
    }
}

impl Connection {
    /// A connection over which the peer's channels are streams from now on.
    pub fn new(peer: RtcPeerConnection) -> Self {
        let shared = Rc::new(RefCell::new(Shared::default()));
        let unread = Unread::new(Cell::new(0));
        let (state, counted) = (Rc::clone(&shared), Rc::clone(&unread));
        let opened = Closure::<dyn Fn(_)>::new(move |event: RtcDataChannelEvent| {
            if state.borrow().inbound.len() >= MAX_WAITING {
                return event.channel().close();
            }
            let channel = Channel::new(event.channel(), Rc::clone(&counted));
            Shared::update(&state, |shared| shared.inbound.push_back(channel));
        });
        peer.set_ondatachannel(Some(opened.as_ref().unchecked_ref()));
        let (state, watched) = (Rc::clone(&shared), peer.clone());
        let changed = Closure::<dyn Fn(_)>::new(move |_: Event| {
            if matches!(
                watched.connection_state(),
                RtcPeerConnectionState::Failed | RtcPeerConnectionState::Closed
            ) {
                Shared::update(&state, |shared| shared.over = true);
            }
        });
        peer.set_onconnectionstatechange(Some(changed.as_ref().unchecked_ref()));
        Self(SendWrapper::new(Inner {
            peer,
            shared,
            unread,
            numbers: Numbers::default(),
            drops: FuturesUnordered::new(),
            _opened: opened,
            _changed: changed,
        }))
    }

    /// The stream of the Noise handshake: both sides know its channel, number 0, without being told.
    pub(super) fn handshake_stream(&mut self) -> Result<Stream, Error> {
        let options = RtcDataChannelInit::new();
        options.set_negotiated(true);
        options.set_id(0);
        self.open(&options)
    }

    /// Ready once the browser has given the connection up.
    pub(super) fn failure(&self) -> impl Future<Output = ()> + Unpin + use<> {
        let shared = Rc::clone(&self.0.shared);
        poll_fn(move |cx| {
            let mut shared = shared.borrow_mut();
            if shared.over {
                return Poll::Ready(());
            }
            shared.wait(cx);
            Poll::Pending
        })
    }

    fn open(&mut self, options: &RtcDataChannelInit) -> Result<Stream, Error> {
        let opener: &Opener = self.0.peer.unchecked_ref();
        let created = opener.create_data_channel("", options);
        let channel = created.map_err(Error::thrown)?;
        self.0.numbers.take(channel.clone());
        let channel = Channel::new(channel, Rc::clone(&self.0.unread));
        Ok(self.stream(channel))
    }

    fn stream(&mut self, channel: Channel) -> Stream {
        let (stream, listener) = libp2p_webrtc_utils::Stream::new(channel);
        self.0.drops.push(listener);
        for waker in mem::take(&mut self.0.shared.borrow_mut().waiting) {
            waker.wake();
        }
        Stream(SendWrapper::new(stream))
    }

    fn alive(&self) -> Result<(), Error> {
        match self.0.shared.borrow().over {
            true => Err(Error::Broken),
            false => Ok(()),
        }
    }
}

impl StreamMuxer for Connection {
    type Substream = Stream;
    type Error = Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Stream, Error>> {
        self.alive()?;
        let next = self.0.shared.borrow_mut().inbound.pop_front();
        match next {
            Some(channel) => Poll::Ready(Ok(self.stream(channel))),
            None => {
                self.0.shared.borrow_mut().wait(cx);
                Poll::Pending
            }
        }
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Stream, Error>> {
        self.alive()?;
        ready!(self.0.numbers.poll_free(cx))?;
        Poll::Ready(self.open(&RtcDataChannelInit::new()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.peer.close();
        Poll::Ready(Ok(()))
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, Error>> {
        self.alive()?;
        // What a listener could not tell, the end of its channel tells.
        while let Poll::Ready(Some(_)) = self.0.drops.poll_next_unpin(cx) {}
        self.0.shared.borrow_mut().wait(cx);
        Poll::Pending
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.peer.set_ondatachannel(None);
        self.peer.set_onconnectionstatechange(None);
        self.peer.close();
    }
}

/// A stream of a [`Connection`].
pub struct Stream(SendWrapper<libp2p_webrtc_utils::Stream<Channel>>);

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_close(cx)
    }
}
