//! A stream with the place that it takes.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::Stream;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::ahead::Ahead;

/// A stream of a protocol of one's own: bytes both ways, as fast as both ends read them.
///
/// `poll_close` ends the sending side, and the peer reads an end after the last byte. A stream that is dropped before is over: the peer gets no
/// more, and reads [`io::ErrorKind::ConnectionReset`], as this side does where the peer or the connection gave up. Over QUIC and
/// WebTransport that reads as an end: there a message has to say where it ends.
pub struct ProtocolStream {
    inner: Arc<Ahead<Stream>>,
    /// Closed by its end.
    connection: watch::Receiver<()>,
    /// Free again with the stream.
    places: Vec<OwnedSemaphorePermit>,
}

impl ProtocolStream {
    pub(super) fn new(
        inner: Arc<Ahead<Stream>>,
        connection: watch::Receiver<()>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            inner,
            connection,
            places: vec![place],
        }
    }

    /// It has one more place, until it is dropped.
    pub(super) fn takes(&mut self, place: OwnedSemaphorePermit) {
        self.places.push(place);
    }

    /// Ready when the connection has ended, for who has nothing to read or to write just then: a stream holds its place until it is
    /// dropped. What had come may be read still.
    pub fn connection_end(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut connection = self.connection.clone();
        // Nobody sends anything.
        async move { while connection.changed().await.is_ok() {} }
    }
}

impl std::fmt::Debug for ProtocolStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProtocolStream").finish_non_exhaustive()
    }
}

impl AsyncRead for ProtocolStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_read(cx, buf)
    }
}

impl AsyncWrite for ProtocolStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.inner
            .poll_with(cx, |inner, cx| inner.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_with(cx, AsyncWrite::poll_flush)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_with(cx, AsyncWrite::poll_close)
    }
}
