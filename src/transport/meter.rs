//! Counts the bytes of every stream of every connection, on any transport.
//!
//! What is counted is what protocols read and write: encryption and framing below come on top (2 to 4%
//! on full frames).
//!
//! Here, too, a panic below ends the connection it happened on, as an error (`network/guarded.rs` says why).

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent, SubstreamBox};

use super::closing::Closing;
use crate::platform;

/// The counters, shared by all connections of a node.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    received: AtomicU64,
    sent: AtomicU64,
}

impl Meter {
    /// Bytes read from peers so far.
    pub fn received(&self) -> u64 {
        self.counters.received.load(Relaxed)
    }

    /// Bytes written to peers so far.
    pub fn sent(&self) -> u64 {
        self.counters.sent.load(Relaxed)
    }

    /// The connection, counted; and closed in time (`closing.rs`).
    pub fn muxer(&self, inner: StreamMuxerBox) -> StreamMuxerBox {
        StreamMuxerBox::new(Closing::new(Metered {
            inner,
            meter: self.clone(),
        }))
    }
}

/// A connection or a stream, counted.
struct Metered<T> {
    inner: T,
    meter: Meter,
}

impl<T: Unpin> Metered<T> {
    fn project(self: Pin<&mut Self>) -> (Pin<&mut T>, &Meter) {
        let this = self.get_mut();
        (Pin::new(&mut this.inner), &this.meter)
    }

    fn stream(meter: &Meter, inner: SubstreamBox) -> Metered<SubstreamBox> {
        Metered {
            inner,
            meter: meter.clone(),
        }
    }
}

impl StreamMuxer for Metered<StreamMuxerBox> {
    type Substream = Metered<SubstreamBox>;
    type Error = io::Error;

    fn poll_inbound(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Self::Substream>> {
        let (inner, meter) = self.project();
        guarded(|| inner.poll_inbound(cx)).map_ok(|stream| Self::stream(meter, stream))
    }

    fn poll_outbound(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Self::Substream>> {
        let (inner, meter) = self.project();
        guarded(|| inner.poll_outbound(cx)).map_ok(|stream| Self::stream(meter, stream))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        guarded(|| self.project().0.poll_close(cx))
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        guarded(|| self.project().0.poll(cx))
    }
}

/// What a call comes to; that it panicked is an error of the connection.
fn guarded<T>(call: impl FnOnce() -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
    platform::guard(call).unwrap_or_else(|words| {
        tracing::error!(%words, "a connection panicked, please report it; it is closed");
        Poll::Ready(Err(io::Error::other(format!("it panicked: {words}"))))
    })
}

impl AsyncRead for Metered<SubstreamBox> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let (inner, meter) = self.project();
        inner.poll_read(cx, buf).map_ok(|count| {
            meter.counters.received.fetch_add(count as u64, Relaxed);
            count
        })
    }
}

impl AsyncWrite for Metered<SubstreamBox> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let (inner, meter) = self.project();
        inner.poll_write(cx, buf).map_ok(|count| {
            meter.counters.sent.fetch_add(count as u64, Relaxed);
            count
        })
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().0.poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().0.poll_close(cx)
    }
}
