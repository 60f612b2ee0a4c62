//! Items and messages: our own on their way out, and what a peer is asked or hands over.

use std::sync::Arc;

use futures::{StreamExt, stream::FuturesUnordered};
use libp2p::PeerId;

use super::{Command, P2PNetworkManager};
use crate::{
    chain::{Checked, Item, ItemId, Verdict},
    network::{
        Block, NetworkError, NetworkMessage, PeerInfo, ProtocolError, StateRequest, StateResponse,
        Transaction, protocol,
    },
    platform,
};

impl P2PNetworkManager {
    /// Sends a message to one connected peer; returns when the peer has taken it (which is not a verdict).
    ///
    /// # Errors
    /// [`ProtocolError`] as [`NetworkError::Protocol`]: refused, timed out, too large, not spoken there.
    pub async fn send_message(
        &self,
        peer_id: PeerId,
        message: NetworkMessage,
    ) -> Result<(), NetworkError> {
        self.request(peer_id, &message)
            .await
            .map(drop)
            .map_err(NetworkError::from)
    }

    /// Sends a message to all: items are checked by the application and gossiped, a peer exchange goes to each peer
    /// directly. Returns when the message is in the send queues; waits where the network is busy.
    ///
    /// # Errors
    /// [`NetworkError::NoPeers`] where nobody takes part, [`NetworkError::Busy`] where all queues are full (the item
    /// is then only offered to peers by the next heartbeats), [`NetworkError::Protocol`] where the chain does not accept the item.
    pub async fn broadcast_message(&self, message: NetworkMessage) -> Result<(), NetworkError> {
        match message.into_item() {
            Ok(item) => self.submit(item).await.map(drop),
            Err(NetworkMessage::PeerExchange(peers)) => self.exchange_peers(peers).await,
            Err(_) => Err(ProtocolError::NotBroadcastable.into()),
        }
    }

    /// Checks an item of our own and gossips it; returns its identity. It is also delivered here, with no source.
    ///
    /// # Errors
    /// As [`Self::broadcast_message`].
    pub async fn submit(&self, item: Item) -> Result<ItemId, NetworkError> {
        let limit = self.config.protocol.gossipsub_config.max_transmit_size;
        let (kind, data) = (item.kind(), item.data().clone());
        if data.len() > limit {
            return Err(ProtocolError::TooLarge {
                size: data.len(),
                limit,
            }
            .into());
        }
        let application = Arc::clone(&self.shared.application);
        let checked = platform::offload(move || (item.check(&*application), item)).await;
        let (
            Checked {
                id,
                verdict,
                reason,
                ..
            },
            item,
        ) = checked.ok_or(NetworkError::NotRunning)?;
        match verdict {
            Verdict::Accept => {}
            Verdict::Ignore => return Err(ProtocolError::Ignored { kind, reason }.into()),
            Verdict::Reject => return Err(ProtocolError::Rejected { kind, reason }.into()),
        }
        let topic = protocol::topic(&self.config.chain.network_id, kind);
        self.publish_topic(topic, data).await?;
        self.command(Command::Deliver {
            item,
            id: id.clone(),
        })
        .await?;
        Ok(id)
    }

    /// Handles a block that a peer sent by other means: checked, delivered and gossiped like one that arrived here.
    ///
    /// # Errors
    /// [`ProtocolError::Rejected`] (the peer then pays), [`ProtocolError::Ignored`], [`ProtocolError::Duplicate`].
    pub async fn handle_block(&self, block: Block, peer_id: PeerId) -> Result<(), ProtocolError> {
        self.handle(Item::Block(block), peer_id).await
    }

    /// Handles a transaction that a peer sent by other means, as [`Self::handle_block`].
    ///
    /// # Errors
    /// As [`Self::handle_block`].
    pub async fn handle_transaction(
        &self,
        transaction: Transaction,
        peer_id: PeerId,
    ) -> Result<(), ProtocolError> {
        self.handle(Item::Transaction(transaction), peer_id).await
    }

    /// Asks a peer about the chain's state. The proof is not checked here: what proves what, the chain knows.
    ///
    /// # Errors
    /// [`ProtocolError::Refused`] where the peer serves no state; timeouts and broken connections.
    pub async fn request_state(
        &self,
        peer_id: PeerId,
        request: StateRequest,
    ) -> Result<StateResponse, ProtocolError> {
        let answer = self
            .request(peer_id, &NetworkMessage::StateRequest(request))
            .await?;
        answer.ok_or_else(|| ProtocolError::Refused("an answer without state".to_owned()))
    }

    async fn handle(&self, item: Item, peer: PeerId) -> Result<(), ProtocolError> {
        let asked = self
            .ask(|reply| Command::Handle { item, peer, reply })
            .await;
        asked.map_err(|error| ProtocolError::Network(error.to_string()))?
    }

    async fn request(
        &self,
        peer: PeerId,
        message: &NetworkMessage,
    ) -> Result<Option<StateResponse>, ProtocolError> {
        let (frame, limit) = (
            message.encode(),
            self.config
                .protocol
                .request_response_config
                .max_message_size,
        );
        if frame.len() > limit {
            return Err(ProtocolError::TooLarge {
                size: frame.len(),
                limit,
            });
        }
        if !self.shared.state().peers.contains_key(&peer) {
            return Err(ProtocolError::Network(
                NetworkError::NotConnected(peer).to_string(),
            ));
        }
        let asked = self.ask(|reply| Command::Send { peer, frame, reply }).await;
        asked.map_err(|error| ProtocolError::Network(error.to_string()))?
    }

    async fn exchange_peers(&self, peers: Vec<PeerInfo>) -> Result<(), NetworkError> {
        let to: Vec<_> = self
            .get_connected_peers()
            .into_iter()
            .filter(|peer| peer.selkie)
            .collect();
        if to.is_empty() {
            return Err(NetworkError::NoPeers {
                topic: "peer exchange".to_owned(),
            });
        }
        let message = NetworkMessage::PeerExchange(peers);
        let mut sends: FuturesUnordered<_> = to
            .iter()
            .map(|peer| self.request(peer.peer_id, &message))
            .collect();
        let mut outcome = Ok(());
        let mut taken = false;
        while let Some(sent) = sends.next().await {
            match sent {
                Ok(_) => taken = true,
                Err(error) => outcome = Err(error.into()),
            }
        }
        if taken { Ok(()) } else { outcome }
    }
}
