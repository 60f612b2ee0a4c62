//! A bidirectional WebTransport stream as libp2p wants it.
//!
//! What it adds to QUIC's two halves is its end. QUIC tells a peer to stop sending when a stream is dropped on which more could
//! come, if only the peer's own end; and Firefox (153) then forgets the answer that it has not read yet, with
//! "Error in input stream". So the receiving half of a stream goes to its connection, which reads on
//! until the peer has ended it, for at most [`PATIENCE`] and [`MAX_REST`] bytes.
//!
//! What was written arrives, whether or not the stream was closed before it was dropped: quinn ends the sending half then. A reset
//! would throw away the answer to a message that was refused before its end (`network/codec.rs`).

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{
    AsyncRead, AsyncReadExt, AsyncWrite, channel::mpsc::UnboundedSender, future::select, pin_mut,
};
use quinn::{RecvStream, SendStream};

use super::{Gauge, session::Halves};

use crate::platform::Delay;

/// How long a peer may take to end its side.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much it may send meanwhile that nobody wants.
const MAX_REST: usize = 64 * 1024;

/// What is left of a stream: at most as many as a connection may have streams.
pub(super) type Rest = RecvStream;

/// A stream of a [`Connection`](super::Connection).
pub struct Stream {
    send: SendStream,
    /// Until the peer has ended it.
    receive: Option<Rest>,
    rests: UnboundedSender<Rest>,
    gauge: Gauge,
}

impl Stream {
    pub(super) fn new((send, receive): Halves, rests: UnboundedSender<Rest>, gauge: Gauge) -> Self {
        Self {
            send,
            receive: Some(receive),
            rests,
            gauge,
        }
    }
}

/// Reads a stream to its end, within bounds.
pub(super) async fn finish(rest: Rest) {
    let read = async {
        let mut rest = AsyncReadExt::take(rest, MAX_REST as u64);
        let mut bytes = [0; 1024];
        while rest.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
    };
    pin_mut!(read);
    select(read, Delay::new(PATIENCE)).await;
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let Some(receive) = &mut self.receive else {
            return Poll::Ready(Ok(0));
        };
        let read = ready!(AsyncRead::poll_read(Pin::new(receive), cx, buf));
        self.gauge.stir();
        if matches!(read, Ok(0)) && !buf.is_empty() {
            self.receive = None;
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.gauge.stir();
        AsyncWrite::poll_write(Pin::new(&mut self.send), cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.send), cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_close(Pin::new(&mut self.send), cx)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.gauge.stir();
        if let Some(rest) = self.receive.take() {
            // An error says that the connection is gone.
            let _ = self.rests.unbounded_send(rest);
        }
    }
}
