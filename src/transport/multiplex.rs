//! Many streams over one connection: Yamux (<https://github.com/hashicorp/yamux/blob/master/spec.md>), for the transports whose
//! connections are one stream of bytes.
//!
//! The crate `yamux` speaks it, as in libp2p's own upgrade (`/yamux/1.0.0`). That one leaves its limits where they are: 512 streams,
//! and a GiB of what a peer has sent and nobody has read. A stream begins with a window of 256 KiB, which the specification grants. A
//! window whose half was read within two round trips doubles and never shrinks, and the round trip is what the peer makes of it by
//! answering the first ping late and no further one. So a peer that has its streams read fast for a while, and then sends what is not
//! read, had nearly all of that GiB here. The limits here are:
//!
//! - Streams, both sides' together: [`OTHERS`], and as many as direct messages may have. A peer that opens more is told to go away, and the
//!   connection ends where this node needs one more itself.
//! - What is unread: 256 KiB for each of them, and what all windows together may be longer than that: [`GROWTH`]. So one stream
//!   gets 16 MiB over a long way, 80 MiB/s at a round trip of 200 ms, or several share them. With the defaults that is 48 MiB for a
//!   connection, whatever its peer does; QUIC's are held to 15 MB. What bytes cost beside, where they come a few at a time, is not
//!   counted.
//! - What waits to be sent: 12 pieces of each stream, of up to 16 KiB. Whoever writes more waits.
//! - Streams that the peer has opened and nobody has taken up yet: [`MAX_WAITING`]; a further one is reset.
//!
//! A close says farewell to the peer and ends when that is written, or when the time for it is up (`closing.rs`).

use std::{
    collections::VecDeque,
    future::{Ready, ready},
    io, iter,
    pin::Pin,
    task::{Context, Poll, Waker, ready as poll_ready},
};

use ::yamux::{Config, ConnectionError, DEFAULT_CREDIT, Mode};
use futures::{AsyncRead, AsyncWrite};
use libp2p::core::{
    muxing::{StreamMuxer, StreamMuxerEvent},
    upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo},
};

/// Streams of all protocols but direct messages: Kademlia's 64, the lanes' six and as many while they open anew, gossip's two, and
/// what hello, identify, ping and circuits need.
const OTHERS: usize = 96;
/// What the windows of a connection may have beyond the 256 KiB of each, together, in bytes.
const GROWTH: usize = 16 << 20;
/// Streams that wait to be taken up. libp2p takes up 128 before it leaves others waiting.
const MAX_WAITING: usize = 32;

/// Makes a connection carry streams.
#[derive(Clone, Debug)]
pub struct Multiplex(Config);

impl Multiplex {
    /// Connections on which so many streams may carry direct messages.
    pub fn new(messages: usize) -> Self {
        let streams = OTHERS.saturating_add(messages);
        let window = streams
            .saturating_mul(bytes(DEFAULT_CREDIT))
            .saturating_add(GROWTH);
        let mut config = Config::default();
        // In this order, since the crate wants room for all streams at any time.
        config
            .set_max_connection_receive_window(None)
            .set_max_num_streams(streams)
            .set_max_connection_receive_window(Some(window));
        Self(config)
    }

    fn connection<C: AsyncRead + AsyncWrite + Unpin>(self, io: C, mode: Mode) -> Connection<C> {
        Connection {
            inner: ::yamux::Connection::new(io, self.0, mode),
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
    inner: ::yamux::Connection<C>,
    /// Streams of the peer that came while nobody asked for one.
    waiting: VecDeque<::yamux::Stream>,
    /// Who has asked for one in vain.
    taker: Option<Waker>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Connection<C> {
    /// Moves all that waits on the connection, until the peer opens a stream.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<::yamux::Stream>> {
        let next = poll_ready!(self.inner.poll_next_inbound(cx));
        let closed = || Err(ConnectionError::Closed);
        Poll::Ready(next.unwrap_or_else(closed).map_err(failed))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Connection<C> {
    type Substream = ::yamux::Stream;
    type Error = io::Error;

    fn poll_inbound(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Self::Substream>> {
        let this = self.get_mut();
        if let Some(stream) = this.waiting.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        let next = this.poll_next(cx);
        if next.is_pending() {
            this.taker = Some(cx.waker().clone());
        }
        next
    }

    fn poll_outbound(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Self::Substream>> {
        self.get_mut().inner.poll_new_outbound(cx).map_err(failed)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().inner.poll_close(cx).map_err(failed)
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        let this = self.get_mut();
        let stream = poll_ready!(this.poll_next(cx))?;
        // One that is dropped is reset.
        if this.waiting.len() < MAX_WAITING {
            this.waiting.push_back(stream);
            if let Some(taker) = this.taker.take() {
                taker.wake();
            }
        }
        // What else the connection has to do has its turn before the next one.
        cx.waker().wake_by_ref();
        Poll::Pending
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
mod tests {
    use std::{cell::Cell, future::poll_fn, time::Duration};

    use futures::{AsyncReadExt, AsyncWriteExt, io::WriteHalf};
    use libp2p::core::muxing::StreamMuxerExt;
    use tokio::{io::DuplexStream, sync::Notify};
    use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

    use super::*;

    type Io = Compat<DuplexStream>;

    const DATA: u8 = 0;
    const WINDOW: u8 = 1;
    const PING: u8 = 2;
    const GO_AWAY: u8 = 3;
    const SYN: u8 = 1;
    const ACK: u8 = 2;
    const RST: u8 = 8;

    /// A connection, and the bare bytes of its peer.
    fn pair(messages: usize) -> (Connection<Io>, Io) {
        let (near, far) = tokio::io::duplex(1 << 16);
        let multiplex = Multiplex::new(messages);
        (
            multiplex.connection(near.compat(), Mode::Server),
            far.compat(),
        )
    }

    fn header(kind: u8, flag: u8, stream: u32, length: u32) -> [u8; 12] {
        let mut header = [0, kind, 0, flag, 0, 0, 0, 0, 0, 0, 0, 0];
        header[4..8].copy_from_slice(&stream.to_be_bytes());
        header[8..].copy_from_slice(&length.to_be_bytes());
        header
    }

    /// What the node has said to its peer.
    #[derive(Default)]
    struct Heard {
        /// Bytes that the first stream may send.
        credit: Cell<u32>,
        ping: Cell<Option<u32>>,
        pongs: Cell<u32>,
        news: Notify,
    }

    impl Heard {
        async fn hear(&self, mut io: impl AsyncRead + Unpin) {
            let mut frame = [0; 12];
            while io.read_exact(&mut frame).await.is_ok() {
                let word =
                    |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|next| frame[at + next]));
                match (frame[1], frame[3]) {
                    (WINDOW, _) => self.credit.set(self.credit.get() + word(8)),
                    (PING, SYN) => self.ping.set(Some(word(8))),
                    (PING, ACK) => self.pongs.set(self.pongs.get() + 1),
                    (kind, _) => assert!(matches!(kind, DATA | GO_AWAY), "{kind}"),
                }
                self.news.notify_one();
            }
        }

        async fn until(&self, holds: impl Fn() -> bool) {
            while !holds() {
                self.news.notified().await;
            }
        }
    }

    /// Sends as much as it may on its first stream.
    async fn flood(io: &mut WriteHalf<Io>, heard: &Heard, sent: &Cell<usize>) {
        let piece = [7; 16 << 10];
        while heard.credit.get() > 0 {
            let length = heard.credit.get().min(16 << 10);
            heard.credit.set(heard.credit.get() - length);
            let length_of = usize::try_from(length).expect("small");
            io.write_all(&header(DATA, 0, 1, length))
                .await
                .expect("it is there");
            io.write_all(&piece[..length_of])
                .await
                .expect("it is there");
            sent.set(sent.get() + length_of);
            // Its window comes meanwhile.
            tokio::task::yield_now().await;
        }
    }

    /// A round trip that is made of nothing but this attack's delay: so much time the node's reader has for half a window.
    const LATE: Duration = Duration::from_millis(500);
    /// Enough for windows of twice as much.
    const READ: usize = 48 << 20;

    #[tokio::test]
    async fn who_makes_its_round_trips_long_and_is_not_read_gets_a_stream_of_16_mib_and_no_more() {
        let (mut connection, peer) = pair(32);
        let (heard, sent, read) = (Heard::default(), Cell::new(0), Cell::new(0));
        let (hears, mut speaks) = peer.split();
        let node = async {
            let mut stream = None;
            poll_fn(|cx| {
                let _ = connection.poll_unpin(cx);
                if stream.is_none()
                    && let Poll::Ready(opened) = connection.poll_inbound_unpin(cx)
                {
                    stream = Some(opened.expect("a stream"));
                }
                let mut room = vec![0; 64 << 10];
                while read.get() < READ
                    && let Some(stream) = stream.as_mut()
                    && let Poll::Ready(count) = Pin::new(stream).poll_read(cx, &mut room)
                {
                    read.set(read.get() + count.expect("bytes"));
                    let _ = connection.poll_unpin(cx);
                }
                heard.news.notify_one();
                Poll::<()>::Pending
            })
            .await;
        };
        let attack = async {
            speaks
                .write_all(&header(WINDOW, SYN, 1, 0))
                .await
                .expect("it is there");
            heard.credit.set(heard.credit.get() + DEFAULT_CREDIT);
            heard.until(|| heard.ping.get().is_some()).await;
            tokio::time::sleep(LATE).await;
            let ping = heard.ping.take().expect("it came");
            speaks
                .write_all(&header(PING, ACK, 0, ping))
                .await
                .expect("it is there");
            let mut last = 0;
            while read.get() < READ || last < sent.get() {
                last = sent.get();
                flood(&mut speaks, &heard, &sent).await;
                // Whatever it may send more is told before the answer to the second of these.
                for _ in 0..2 {
                    let pongs = heard.pongs.get();
                    speaks
                        .write_all(&header(PING, SYN, 0, 9))
                        .await
                        .expect("it is there");
                    heard.until(|| heard.pongs.get() > pongs).await;
                }
            }
        };
        tokio::select! {
            () = heard.hear(hears) => panic!("the node has ended the connection"),
            () = node => {}
            () = attack => {}
        }
        let unread = sent.get() - read.get();
        assert!(unread <= GROWTH + bytes(DEFAULT_CREDIT), "{unread}");
        assert!(
            unread > 4 << 20,
            "a long way is worth a long window: {unread}"
        );
    }

    #[tokio::test]
    async fn streams_that_nobody_takes_up_are_few_and_the_rest_is_reset() {
        let (mut connection, mut peer) = pair(2);
        let surplus = 8;
        for stream in 0..u32::try_from(MAX_WAITING + surplus).expect("small") {
            let opening = header(WINDOW, SYN, 2 * stream + 1, 0);
            peer.write_all(&opening).await.expect("it is there");
        }
        let node = poll_fn(|cx| connection.poll_unpin(cx).map(drop));
        let resets = async {
            let (mut frame, mut resets) = ([0; 12], 0);
            while resets < surplus {
                peer.read_exact(&mut frame).await.expect("a frame");
                resets += usize::from(frame[3] & RST != 0);
            }
        };
        tokio::select! {
            () = node => panic!("the connection has ended"),
            () = resets => {}
        }
        assert_eq!(connection.waiting.len(), MAX_WAITING);
    }
}
