//! Keeps every WebRTC data channel message under 8 KiB.
//!
//! A data channel carries messages, and its reader must have a buffer for a whole one. The specification
//! allows 16 KiB, but `webrtc-data` 0.17 reads into 8 KiB and resets the stream on more
//! (<https://github.com/webrtc-rs/webrtc/issues/823>), and `libp2p-webrtc-utils` 0.5 joins what is written before a flush
//! to one message of up to twice 16 KiB (<https://github.com/libp2p/rust-libp2p/issues/4049>). So a stream here
//! takes no more than fits and flushes before it takes more. Bounds: a counter per stream.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent, SubstreamBox};

/// The framing of one write, generously: a length, two tags and a flag.
const OVERHEAD: usize = 32;
/// The most in one message: what the reader has room for, less the framing of a write and of a closing flag after it.
const MAX_WRITE: usize = 8192 - 2 * OVERHEAD;

/// The connection, with small messages only.
pub fn muxer(inner: StreamMuxerBox) -> StreamMuxerBox {
    StreamMuxerBox::new(Connection(inner))
}

struct Connection(StreamMuxerBox);

struct Stream {
    inner: SubstreamBox,
    /// Bytes that the next flush will send, framing included.
    unflushed: usize,
}

impl Stream {
    fn new(inner: SubstreamBox) -> Self {
        Self {
            inner,
            unflushed: 0,
        }
    }
}

impl StreamMuxer for Connection {
    type Substream = Stream;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        Pin::new(&mut self.0).poll_inbound(cx).map_ok(Stream::new)
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        Pin::new(&mut self.0).poll_outbound(cx).map_ok(Stream::new)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.unflushed > 0 && self.unflushed + buf.len() > MAX_WRITE {
            ready!(self.as_mut().poll_flush(cx))?;
        }
        let fits = buf.get(..MAX_WRITE).unwrap_or(buf);
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, fits))?;
        self.unflushed += written + OVERHEAD;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        self.unflushed = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}
