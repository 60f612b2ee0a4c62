//! Closes connections within a limited time.
//!
//! A muxer closes in order: it sends what it holds, then its farewell, and waits for the socket to take them. A peer that never
//! reads lets it wait for ever, and one that is out of reach for as long as the system goes on trying; libp2p waits along, and
//! the peer stays connected so long. Here a close that takes longer than [`PATIENCE`] is over: what is left is dropped with
//! the connection.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::FutureExt;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};

use crate::platform::Delay;

/// How long a connection may take to close.
const PATIENCE: Duration = Duration::from_secs(2);

/// A connection whose close ends.
pub struct Closing<M> {
    inner: M,
    patience: Duration,
    /// Runs from the moment at which the close began.
    end: Option<Delay>,
}

impl<M> Closing<M> {
    /// This connection, so limited.
    pub fn new(inner: M) -> Self {
        Self {
            inner,
            patience: PATIENCE,
            end: None,
        }
    }
}

impl<M: StreamMuxer<Error = io::Error> + Unpin> StreamMuxer for Closing<M> {
    type Substream = M::Substream;
    type Error = io::Error;

    fn poll_inbound(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Self::Substream>> {
        Pin::new(&mut self.get_mut().inner).poll_inbound(cx)
    }

    fn poll_outbound(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Self::Substream>> {
        Pin::new(&mut self.get_mut().inner).poll_outbound(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Poll::Ready(closed) = Pin::new(&mut this.inner).poll_close(cx) {
            return Poll::Ready(closed);
        }
        let patience = this.patience;
        let end = this.end.get_or_insert_with(|| Delay::new(patience));
        end.poll_unpin(cx).map(Ok)
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        Pin::new(&mut self.get_mut().inner).poll(cx)
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use futures::io::Cursor;
    use libp2p::core::muxing::StreamMuxerExt;

    use super::*;

    /// Its peer never reads.
    struct Stuck;

    impl StreamMuxer for Stuck {
        type Substream = Cursor<Vec<u8>>;
        type Error = io::Error;

        fn poll_inbound(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<io::Result<Self::Substream>> {
            Poll::Pending
        }

        fn poll_outbound(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<io::Result<Self::Substream>> {
            Poll::Pending
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
            Poll::Pending
        }
    }

    #[test]
    fn a_close_ends_though_the_peer_never_reads() {
        let mut closing = Closing::new(Stuck);
        closing.patience = Duration::from_millis(1);
        assert!(futures::executor::block_on(closing.close()).is_ok());
    }
}
