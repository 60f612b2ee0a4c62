//! A WebTransport session whose client has proved who it is, as a multiplexer: its bidirectional streams are libp2p's.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{
    FutureExt, StreamExt,
    channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded},
    future::BoxFuture,
    ready,
    stream::FuturesUnordered,
};
use libp2p::{
    PeerId,
    core::{
        muxing::{StreamMuxer, StreamMuxerEvent},
        upgrade::InboundConnectionUpgrade,
    },
    identity::Keypair,
    noise,
};

use super::{
    Caller, Error, Watch,
    certificates::Hash,
    session::Session,
    stream::{self, Rest, Stream},
};

use crate::transport::links::Link;

/// See the module's documentation.
pub struct Connection {
    session: Session,
    watch: Watch,
    /// What streams leave behind, and its way here. One of each stream, so no more than there are streams, which QUIC bounds.
    rests: (UnboundedSender<Rest>, UnboundedReceiver<Rest>),
    finishing: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl Connection {
    /// The whole handshake: QUIC, HTTP/3, and Noise on the client's first stream. The connection ends when this is dropped.
    pub(super) async fn accept(
        caller: Caller,
        keypair: Keypair,
        hashes: [Hash; 3],
    ) -> Result<(PeerId, Self), Error> {
        let mut session = Session::accept(caller).await?;
        let first = session.first().await?;
        let mut connection = Self {
            watch: session.watch(),
            session,
            rests: unbounded(),
            finishing: FuturesUnordered::new(),
        };
        let first = connection.stream(first);
        let noise = noise::Config::new(&keypair)?.with_webtransport_certhashes(hashes.into());
        // Its protocol is part of the path; nothing is negotiated on the stream.
        let mut noise = noise.upgrade_inbound(first, "/noise").boxed();
        let (peer_id, _) = std::future::poll_fn(|cx| {
            // The client may end its session meanwhile.
            if connection.session.poll_end(cx).is_ready() {
                return Poll::Ready(Err(Error::Ended));
            }
            noise.poll_unpin(cx).map_err(Error::from)
        })
        .await?;
        drop(noise);
        connection.session.trust();
        Ok((peer_id, connection))
    }

    /// Where it says whether it stands.
    pub(in crate::transport) fn link(&self) -> Arc<Link> {
        self.watch.link()
    }

    fn stream(&self, halves: super::session::Halves) -> Stream {
        Stream::new(halves, self.rests.0.clone(), self.watch.gauge())
    }
}

impl StreamMuxer for Connection {
    type Substream = Stream;
    type Error = Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Stream, Error>> {
        let halves = ready!(self.session.poll_inbound(cx))?;
        Poll::Ready(Ok(self.stream(halves)))
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Stream, Error>> {
        let halves = ready!(self.session.poll_outbound(cx))?;
        Poll::Ready(Ok(self.stream(halves)))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.watch.link().ends();
        self.session.close();
        Poll::Ready(Ok(()))
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, Error>> {
        while let Poll::Ready(Some(rest)) = self.rests.1.poll_next_unpin(cx) {
            self.finishing.push(stream::finish(rest).boxed());
        }
        while let Poll::Ready(Some(())) = self.finishing.poll_next_unpin(cx) {}
        self.watch.poll(cx);
        self.session.poll_end(cx).map(|()| Err(Error::Ended))
    }
}
