//! A connection in a host: whatever is done with it is done there.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{
    FutureExt,
    future::{self, BoxFuture, Either},
};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent, SubstreamBox};
use tokio::runtime::Handle;

use super::{CLOSING, Place};
use crate::platform::Delay;

/// A connection that holds its host.
pub(super) struct Connection {
    /// `None`: it is being dropped.
    inner: Option<StreamMuxerBox>,
    place: Option<Place>,
    runtime: Handle,
    /// Comes when the host's connections are to end.
    ended: BoxFuture<'static, ()>,
}

impl Connection {
    pub(super) fn new(inner: StreamMuxerBox, place: Place) -> Self {
        let mut ends = place.host.ends.subscribe();
        Self {
            inner: Some(inner),
            runtime: place.host.runtime.clone(),
            place: Some(place),
            ended: async move { drop(ends.wait_for(|ends| *ends).await) }
                .fuse()
                .boxed(),
        }
    }

    fn within<R>(
        self: Pin<&mut Self>,
        call: impl FnOnce(Pin<&mut StreamMuxerBox>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        let this = self.get_mut();
        let _within = this.runtime.enter();
        match &mut this.inner {
            Some(inner) => call(Pin::new(inner)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl Drop for Connection {
    /// Whoever drops it without closing it leaves that to its host.
    fn drop(&mut self) {
        if let (Some(mut inner), Some(place)) = (self.inner.take(), self.place.take()) {
            self.runtime.spawn(async move {
                let closes = future::poll_fn(|cx| Pin::new(&mut inner).poll_close(cx));
                let closed = future::select(closes, Delay::new(CLOSING)).await;
                match closed {
                    Either::Left(_) => place.give_back(),
                    Either::Right(_) => drop(place),
                }
            });
        }
    }
}

impl StreamMuxer for Connection {
    type Substream = SubstreamBox;
    type Error = io::Error;

    fn poll_inbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<SubstreamBox>> {
        self.within(|inner| inner.poll_inbound(cx))
    }

    fn poll_outbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<SubstreamBox>> {
        self.within(|inner| inner.poll_outbound(cx))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = self.as_mut().within(|inner| inner.poll_close(cx));
        if closed.is_ready()
            && let Some(place) = self.place.take()
        {
            place.give_back();
        }
        closed
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        if self.ended.poll_unpin(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        self.within(|inner| inner.poll(cx))
    }
}
