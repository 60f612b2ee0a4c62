//! Protocols of one's own, over the connections that there are.

use std::{future::Future, io, sync::Arc};

use futures::FutureExt;
use libp2p::PeerId;
use tokio::sync::oneshot;

use super::P2PNetworkManager;
use crate::{
    error::{NetworkError, ProtocolError},
    network::{
        ProtocolStream,
        shared::Command,
        streams::{Serve, name},
    },
};

impl P2PNetworkManager {
    /// Handles a protocol of one's own from now on: `handler` is called with each stream that a peer opens, in a task of its own.
    ///
    /// Peers are those that are past the hello, plain libp2p peers too (`PeerInfo::selkie` tells them apart). The stream ends when the handler
    /// drops it: close it for the peer to read an end. Of a handler that returns an error or panics
    /// [`NetworkEvent::HandlerFailed`](crate::NetworkEvent::HandlerFailed) tells. A peer has at most 16 streams open here, all peers together 1,024; beyond that,
    /// and over 100 a second (200 at once), they are reset. What is not read waits at the peer, beyond a window of 256 KiB to
    /// 1.25 MiB, and holds up nothing else; where all that is not read leaves no room, streams are reset whose handlers don't read (docs/protocols.md).
    ///
    /// A handler that holds the node, to `ban` a peer say, keeps it running until [`Self::shutdown`] or [`Self::unhandle`]: it is a handle like any other.
    ///
    /// ```no_run
    /// # async fn example(node: selkie::P2PNetworkManager) -> Result<(), selkie::NetworkError> {
    /// use futures::{AsyncReadExt, AsyncWriteExt};
    /// node.handle("/my-chain/echo/1", |_peer, mut stream| async move {
    ///     let mut word = Vec::new();
    ///     (&mut stream).take(1024).read_to_end(&mut word).await?;
    ///     stream.write_all(&word).await?;
    ///     stream.close().await
    /// })
    /// .await
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`NetworkError::Argument`] where the name is none (a slash and printable ASCII without blanks, 64 bytes at most), begins as those of this node's own
    /// protocols do (`/selkie/`, `/ipfs/`, `/libp2p/`, `/meshsub/`, `/floodsub/`), or is handled already, or 16 are; [`NetworkError::NotRunning`].
    pub async fn handle<H, F>(
        &self,
        protocol: impl Into<String>,
        handler: H,
    ) -> Result<(), NetworkError>
    where
        H: Fn(PeerId, ProtocolStream) -> F + Send + Sync + 'static,
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let protocol = name(protocol.into())?;
        let serve: Serve = Arc::new(move |peer, stream| handler(peer, stream).boxed());
        self.ask(|reply| Command::Serve {
            protocol,
            serve,
            reply,
        })
        .await?
    }

    /// Handles a protocol no more. Streams that are open go on.
    ///
    /// # Errors
    /// [`NetworkError::NotRunning`]; [`NetworkError::Argument`] as [`Self::handle`].
    pub async fn unhandle(&self, protocol: impl Into<String>) -> Result<(), NetworkError> {
        let protocol = name(protocol.into())?;
        self.command(Command::Unserve { protocol }).await
    }

    /// Opens a stream of a protocol to a connected peer, on its newest connection; returns when the peer has agreed to it. Bytes go as fast as both ends read them. The
    /// stream ends when it is dropped.
    ///
    /// # Errors
    /// [`NetworkError::Argument`] as [`Self::handle`]; [`NetworkError::NotRunning`]; as [`NetworkError::Protocol`]:
    /// [`NotConnected`](ProtocolError::NotConnected); [`Unsupported`](ProtocolError::Unsupported) where the peer does not handle it;
    /// [`TooManyStreams`](ProtocolError::TooManyStreams) where 16 to it are open; [`Timeout`](ProtocolError::Timeout) where it has not answered within
    /// `network.connection_timeout`; [`Broken`](ProtocolError::Broken) where the connection ended.
    pub async fn open(
        &self,
        peer: PeerId,
        protocol: impl Into<String>,
    ) -> Result<ProtocolStream, NetworkError> {
        let protocol = name(protocol.into())?;
        let (reply, opened) = oneshot::channel();
        let command = Command::OpenStream {
            peer,
            protocol,
            reply,
        };
        self.command(command).await?;
        if let Ok(opened) = opened.await {
            return Ok(opened?);
        }
        self.running()?;
        Err(ProtocolError::Broken("its connection has ended".to_owned()).into())
    }
}
