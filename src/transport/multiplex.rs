//! Many streams over one connection: Yamux (<https://github.com/hashicorp/yamux/blob/master/spec.md>), for the transports whose
//! connections are one stream of bytes.
//!
//! The crate `yamux` speaks it, as in libp2p's own upgrade (`/yamux/1.0.0`). That one leaves its limits where they are: 512 streams,
//! and a GiB of what a peer has sent and nobody has read. A stream begins with a window of 256 KiB, which the specification grants. A
//! window whose half was read within two round trips doubles and never shrinks, and the round trip is what the peer makes of it by
//! answering the first ping late and no further one. So a peer that has its streams read fast for a while, and then sends what is not
//! read, had nearly all of that GiB here. The limits here are:
//!
//! - Streams, both sides' together: [`OTHERS`], and as many as direct messages may have; [`OWN`] of them are kept for those that this node
//!   opens. A further one of the peer's is reset, a further one of ours waits for another's end.
//! - What is unread: 256 KiB for each of them, and what all windows together may be longer than that: [`GROWTH`]. So one stream
//!   gets 1.25 MiB over a long way, 6 MiB/s at a round trip of 200 ms, or several share them. What all connections of the node have unread has
//!   a room of 32 MiB, whatever their peers do, and 2 MiB each where that is full (`unread.rs`). What that costs beside, where the bytes come one by one, is held
//!   to a tenth more by `frames.rs`.
//! - What waits to be sent: 12 pieces of each stream, of up to 16 KiB. Whoever writes more waits. And resets: of a peer that does not read those
//!   of [`GHOSTS`] streams nothing more is read. Nothing is kept of what they brought but 16 KiB that may be under way.
//!
//! A close says farewell to the peer and ends when that is written, or when the time for it is up (`closing.rs`).

mod frames;
mod unread;

use std::{
    collections::VecDeque,
    future::{Ready, ready},
    io, iter,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready as poll_ready},
};

use ::yamux::{Config, ConnectionError, DEFAULT_CREDIT, Mode};
use futures::{AsyncRead, AsyncWrite, StreamExt};
use libp2p::core::{
    muxing::{StreamMuxer, StreamMuxerEvent},
    upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo},
};

use super::links::Link;
use frames::{Frames, Streams};
use unread::{Room, Unread};

/// Streams of all protocols but direct messages: Kademlia's 64, the lanes' six and as many while they open anew, gossip's two, the user's own
/// protocols' 16 each way, and what hello, identify, ping and circuits need.
const OTHERS: usize = 128;
/// Streams of them that the peer's leave free: the lanes' six and as many while they open anew, those of the user's protocols, Kademlia's, and
/// one each of the rest.
const OWN: usize = 48;
/// Streams that are gone here, and that the peer does not know to be.
const GHOSTS: usize = 256;
/// What the windows of a connection may have beyond the 256 KiB of each, together, in bytes: a connection must
/// have room for them beside others' windows, however full the node's is.
const GROWTH: usize = 1 << 20;

/// Makes a connection carry streams. All clones share one room for what is unread.
#[derive(Clone, Debug)]
pub struct Multiplex {
    streams: usize,
    config: Config,
    room: Room,
}

impl Multiplex {
    /// Connections on which so many streams may carry direct messages.
    pub fn new(messages: usize) -> Self {
        let streams = OTHERS.saturating_add(messages);
        let all = streams.saturating_add(GHOSTS);
        let window = all
            .saturating_mul(bytes(DEFAULT_CREDIT))
            .saturating_add(GROWTH);
        let mut config = Config::default();
        // In this order, since the crate wants room for all streams at any time.
        config
            .set_max_connection_receive_window(None)
            .set_max_num_streams(all)
            .set_max_connection_receive_window(Some(window));
        Self {
            streams,
            config,
            room: Room::default(),
        }
    }

    fn connection<C: AsyncRead + AsyncWrite + Unpin>(self, io: C, mode: Mode) -> Connection<C> {
        let unread = Unread::new(self.room);
        let streams = Streams::new(self.streams, self.streams - OWN, mode, unread);
        let io = Frames::new(io, streams.clone());
        Connection {
            inner: ::yamux::Connection::new(io, self.config, mode),
            streams,
            waiting: VecDeque::new(),
            taker: None,
        }
    }
}

impl UpgradeInfo for Multiplex {
    type Info = &'static str;
    type InfoIter = iter::Once<Self::Info>;

    fn protocol_info(&self) -> Self::InfoIter {
        iter::once("/yamux/1.0.0")
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> InboundConnectionUpgrade<C> for Multiplex {
    type Output = Connection<C>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Output>>;

    fn upgrade_inbound(self, io: C, _: Self::Info) -> Self::Future {
        ready(Ok(self.connection(io, Mode::Server)))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> OutboundConnectionUpgrade<C> for Multiplex {
    type Output = Connection<C>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Output>>;

    fn upgrade_outbound(self, io: C, _: Self::Info) -> Self::Future {
        ready(Ok(self.connection(io, Mode::Client)))
    }
}

/// A connection that carries streams.
pub struct Connection<C> {
    inner: ::yamux::Connection<Frames<C>>,
    streams: Streams,
    /// Streams of the peer that came while nobody asked for one.
    waiting: VecDeque<Stream>,
    /// Who has asked for one in vain.
    taker: Option<Waker>,
}

impl<C> Connection<C> {
    /// Its link, where it says whether it is read no further.
    pub fn link(&self) -> Arc<Link> {
        self.streams.link()
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> Connection<C> {
    /// Moves all that waits on the connection, until the peer opens a stream.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let next = poll_ready!(self.inner.poll_next_inbound(cx));
        let closed = || Err(ConnectionError::Closed);
        let stream = next.unwrap_or_else(closed).map_err(failed)?;
        if self.streams.has(stream.id().val()) {
            return Poll::Ready(Ok(Stream::new(stream, &self.streams)));
        }
        // There was no room for it, and what is dropped is reset. What else there is to do has its turn before the next one.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Connection<C> {
    type Substream = Stream;
    type Error = io::Error;

    fn poll_inbound(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Self::Substream>> {
        let this = self.get_mut();
        // `poll` moves the connection, and is always called.
        if let Some(stream) = this.waiting.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        this.taker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_outbound(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Self::Substream>> {
        let this = self.get_mut();
        poll_ready!(this.streams.poll_room(cx));
        let stream = poll_ready!(this.inner.poll_new_outbound(cx)).map_err(failed)?;
        this.streams.opened(stream.id().val());
        Poll::Ready(Ok(Stream::new(stream, &this.streams)))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.streams.end();
        this.inner.poll_close(cx).map_err(failed)
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        let this = self.get_mut();
        let stream = poll_ready!(this.poll_next(cx))?;
        this.waiting.push_back(stream);
        if let Some(taker) = this.taker.take() {
            taker.wake();
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// A stream that takes its place until it is dropped.
pub struct Stream {
    inner: ::yamux::Stream,
    streams: Streams,
}

impl Stream {
    fn new(inner: ::yamux::Stream, streams: &Streams) -> Self {
        let streams = streams.clone();
        Self { inner, streams }
    }
}

impl Drop for Stream {
    /// `yamux` keeps what is unread until the peer has been told of the end.
    fn drop(&mut self) {
        self.streams.dropped(self.inner.id().val());
        let mut nobody = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(Ok(_))) = self.inner.poll_next_unpin(&mut nobody) {}
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let id = this.inner.id().val();
        let count = poll_ready!(Pin::new(&mut this.inner).poll_read(cx, buf)).unwrap_or(0);
        if count == 0 && !buf.is_empty() && !this.streams.has_ended(id) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        this.streams.read(id, count);
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_close(cx)
    }
}

fn failed(error: ConnectionError) -> io::Error {
    match error {
        ConnectionError::Io(error) => error,
        other => io::Error::other(other),
    }
}

fn bytes(credit: u32) -> usize {
    usize::try_from(credit).unwrap_or(usize::MAX)
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests;
