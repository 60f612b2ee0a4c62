//! Waits for the streams of WebTransport that its peer has not granted yet.
//!
//! A stream beyond what QUIC's peer grants is to wait until it may be opened (W3C WebTransport, `createBidirectionalStream`). Chromium refuses
//! it instead, and `libp2p-webtransport-websys` 0.6 takes that for the connection's end. A node grants few streams until it knows who comes, and the
//! page knows before the node does: by its second stream the connection would be lost wherever the way there is long. So a
//! stream that is refused is asked for anew. That a connection has truly ended is seen where the peer's streams are awaited, and who wants a stream
//! gives up by a time limit of its own. Bounds: one timer a connection.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::FutureExt;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent, SubstreamBox};

use crate::platform::Delay;

/// How soon a stream is asked for anew: well below the time of a way that is long.
const AGAIN: Duration = Duration::from_millis(20);

/// The connection, whose streams wait.
pub fn muxer(inner: StreamMuxerBox) -> StreamMuxerBox {
    StreamMuxerBox::new(Connection {
        inner,
        refused: None,
    })
}

struct Connection {
    inner: StreamMuxerBox,
    /// Until when nothing is asked for, after a refusal.
    refused: Option<Delay>,
}

impl StreamMuxer for Connection {
    type Substream = SubstreamBox;
    type Error = io::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<SubstreamBox>> {
        Pin::new(&mut self.inner).poll_inbound(cx)
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<SubstreamBox>> {
        loop {
            if let Some(refused) = &mut self.refused {
                ready!(refused.poll_unpin(cx));
                self.refused = None;
            }
            match ready!(Pin::new(&mut self.inner).poll_outbound(cx)) {
                Ok(stream) => return Poll::Ready(Ok(stream)),
                Err(_) => self.refused = Some(Delay::new(AGAIN)),
            }
        }
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures::io::Cursor;
    use libp2p::core::muxing::StreamMuxerExt;
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    /// Grants a stream once it has refused so many, and has ended.
    struct Grudging(usize);

    impl StreamMuxer for Grudging {
        type Substream = Cursor<Vec<u8>>;
        type Error = io::Error;

        fn poll_inbound(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<io::Result<Self::Substream>> {
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }

        fn poll_outbound(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<io::Result<Self::Substream>> {
            Poll::Ready(match self.0.checked_sub(1) {
                Some(left) => {
                    self.0 = left;
                    Err(io::Error::other("none granted"))
                }
                None => Ok(Cursor::default()),
            })
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
            Poll::Pending
        }
    }

    #[test]
    async fn a_stream_that_is_refused_comes_later_and_a_connections_end_is_told() {
        let mut connection = muxer(StreamMuxerBox::new(Grudging(3)));
        let stream = poll_fn(|cx| connection.poll_outbound_unpin(cx)).await;
        assert!(stream.is_ok());
        let end = poll_fn(|cx| connection.poll_inbound_unpin(cx)).await;
        assert!(end.is_err());
    }
}
