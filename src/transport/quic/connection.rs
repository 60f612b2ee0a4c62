//! A QUIC connection as a multiplexer, and its streams.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{AsyncRead, AsyncWrite, FutureExt, future::BoxFuture, ready};
use libp2p::{
    PeerId,
    core::muxing::{StreamMuxer, StreamMuxerEvent},
    tls,
};
use quinn::{ConnectionError, RecvStream, SendStream, VarInt, rustls::pki_types::CertificateDer};

use super::{Error, Gauge, Watch, trust, windows::Window};
use crate::transport::links::Link;

type Opening = BoxFuture<'static, Result<(SendStream, RecvStream), ConnectionError>>;

/// A connection whose peer has proved who it is.
pub struct Connection {
    quic: quinn::Connection,
    _window: Window,
    watch: Watch,
    inbound: Option<Opening>,
    outbound: Option<Opening>,
    closing: Option<BoxFuture<'static, ConnectionError>>,
}

impl Connection {
    /// What the handshake made, and who the peer is.
    pub(super) fn new(
        (quic, mut window): (quinn::Connection, Window),
    ) -> Result<(PeerId, Self), Error> {
        let peer = peer_of(&quic).ok_or(Error::Identity)?;
        trust(&quic, &mut window);
        let connection = Self {
            watch: Watch::new(quic.clone(), &window),
            quic,
            _window: window,
            inbound: None,
            outbound: None,
            closing: None,
        };
        Ok((peer, connection))
    }

    /// Where it says whether it stands.
    pub(in crate::transport) fn link(&self) -> Arc<Link> {
        self.watch.link()
    }
}

/// Who the peer's certificate says that it is; the handshake has checked it.
fn peer_of(quic: &quinn::Connection) -> Option<PeerId> {
    let chain: Box<Vec<CertificateDer<'static>>> = quic.peer_identity()?.downcast().ok()?;
    let certificate = tls::certificate::parse(chain.first()?).ok()?;
    Some(certificate.peer_id())
}

impl StreamMuxer for Connection {
    type Substream = Stream;
    type Error = Error;

    fn poll_inbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Stream, Error>> {
        let this = self.get_mut();
        let inbound = this.inbound.get_or_insert_with(|| {
            let quic = this.quic.clone();
            async move { quic.accept_bi().await }.boxed()
        });
        let opened = ready!(inbound.poll_unpin(cx));
        this.inbound = None;
        Poll::Ready(Ok(Stream::new(opened?, this.watch.gauge())))
    }

    fn poll_outbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Stream, Error>> {
        let this = self.get_mut();
        let outbound = this.outbound.get_or_insert_with(|| {
            let quic = this.quic.clone();
            async move { quic.open_bi().await }.boxed()
        });
        let opened = ready!(outbound.poll_unpin(cx));
        this.outbound = None;
        Poll::Ready(Ok(Stream::new(opened?, this.watch.gauge())))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        this.watch.link().ends();
        let closing = this.closing.get_or_insert_with(|| {
            let quic = this.quic.clone();
            quic.close(VarInt::from_u32(0), b"");
            async move { quic.closed().await }.boxed()
        });
        match ready!(closing.poll_unpin(cx)) {
            ConnectionError::LocallyClosed => Poll::Ready(Ok(())),
            error => Poll::Ready(Err(error.into())),
        }
    }

    /// Its end is told by its streams.
    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        self.get_mut().watch.poll(cx);
        Poll::Pending
    }
}

/// A stream of a [`Connection`]. When it is dropped, what was written still arrives, and the peer is asked for no more.
pub struct Stream {
    send: SendStream,
    receive: RecvStream,
    gauge: Gauge,
    /// QUIC's end can be said once, while `close` may be called again.
    is_closed: bool,
}

impl Stream {
    fn new((send, receive): (SendStream, RecvStream), gauge: Gauge) -> Self {
        Self {
            send,
            receive,
            gauge,
            is_closed: false,
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.gauge.stir();
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = ready!(AsyncRead::poll_read(Pin::new(&mut self.receive), cx, buf));
        self.gauge.stir();
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
        if !self.is_closed {
            ready!(AsyncWrite::poll_close(Pin::new(&mut self.send), cx))?;
            self.is_closed = true;
        }
        Poll::Ready(Ok(()))
    }
}
