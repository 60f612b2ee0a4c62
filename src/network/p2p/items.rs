//! Items and messages: our own on their way out, and what a peer is asked or hands over.

use std::sync::Arc;

use futures::{StreamExt, stream::FuturesUnordered};
use libp2p::PeerId;

use tokio::sync::oneshot;

use super::P2PNetworkManager;
use crate::{
    chain::{
        Block, Checked, Item, ItemId, ItemKind, StateRequest, StateResponse, Transaction,
        TransactionKey, Verdict,
    },
    error::{NetworkError, ProtocolError},
    intake::checked,
    network::{
        NetworkMessage,
        shared::{Command, Submission},
    },
    peers::PeerInfo,
    platform,
    propagation::plumtree::Accepted,
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
        let (kind, size) = (item.kind(), item.data().len());
        if size > limit {
            return Err(ProtocolError::TooLarge { size, limit }.into());
        }
        let application = Arc::clone(&self.shared.application);
        let check = move || {
            let (checked, block) = checked(&item, &*application);
            (checked, block, item)
        };
        let (
            Checked {
                id,
                fee,
                verdict,
                reason,
            },
            block,
            item,
        ) = platform::offload(check)
            .await
            .ok_or(NetworkError::NotRunning)?;
        match verdict {
            Verdict::Accept => {}
            Verdict::Ignore => return Err(ProtocolError::Ignored { kind, reason }.into()),
            Verdict::Reject => return Err(ProtocolError::Rejected { kind, reason }.into()),
        }
        if kind == ItemKind::Transaction {
            let key = TransactionKey::of(item.data());
            let data = item.data().clone();
            let accepted = Accepted { key, data, fee };
            let news = self
                .submit_transactions(vec![(item, accepted, id.clone())])
                .await?;
            return if news == [true] {
                Ok(id)
            } else {
                Err(ProtocolError::Duplicate.into())
            };
        }
        let published = item.clone();
        self.ask(|reply| Command::Submit {
            item: published,
            fee,
            block,
            reply,
        })
        .await??;
        self.command(Command::Deliver {
            item,
            id: id.clone(),
        })
        .await?;
        Ok(id)
    }

    /// Checks transactions of our own and broadcasts them: for many, much cheaper than one by one. Returns what became of
    /// each, in order; waits where the network is busy, so that nothing is buffered without bound.
    ///
    /// # Errors
    /// [`NetworkError::NoPeers`] where nobody takes part; none of them is sent then. Of one transaction: as
    /// [`Self::broadcast_message`].
    pub async fn broadcast_transactions(
        &self,
        transactions: Vec<Transaction>,
    ) -> Result<Vec<Result<ItemId, ProtocolError>>, NetworkError> {
        let application = Arc::clone(&self.shared.application);
        let limit = self.config.protocol.propagation.transactions.max_item;
        let check = move |transaction: Transaction| {
            let size = transaction.data.len();
            if size > limit {
                return Err(ProtocolError::TooLarge { size, limit });
            }
            let (kind, data) = (ItemKind::Transaction, transaction.data.clone());
            let key = TransactionKey::of(&data);
            let Checked {
                id,
                fee,
                verdict,
                reason,
            } = application.check_transaction_by_key(&transaction, &key);
            match verdict {
                Verdict::Accept => Ok((
                    Item::Transaction(transaction),
                    Accepted { key, data, fee },
                    id,
                )),
                Verdict::Ignore => Err(ProtocolError::Ignored { kind, reason }),
                Verdict::Reject => Err(ProtocolError::Rejected { kind, reason }),
            }
        };
        let checks = move || transactions.into_iter().map(check).collect::<Vec<_>>();
        let checked = platform::offload(checks)
            .await
            .ok_or(NetworkError::NotRunning)?;
        let (mut outcomes, mut accepted) = (Vec::new(), Vec::new());
        for outcome in checked {
            outcomes.push(outcome.map(|transaction| {
                let id = transaction.2.clone();
                accepted.push(transaction);
                id
            }));
        }
        let mut news = self.submit_transactions(accepted).await?.into_iter();
        for outcome in &mut outcomes {
            if outcome.is_ok() && news.next() == Some(false) {
                *outcome = Err(ProtocolError::Duplicate);
            }
        }
        Ok(outcomes)
    }

    /// Takes transactions out of the pool: the application has replaced them, or what they spend is spent. They are no more
    /// offered to peers that come, and copies of them that still arrive are not checked again for a while.
    /// [`TransactionKey::of`] a transaction's bytes names it. What a block has confirmed leaves by itself.
    ///
    /// # Errors
    /// [`NetworkError::NotRunning`].
    pub async fn remove_transactions(&self, keys: Vec<TransactionKey>) -> Result<(), NetworkError> {
        self.command(Command::Remove { keys }).await
    }

    async fn submit_transactions(
        &self,
        transactions: Vec<(Item, Accepted, ItemId)>,
    ) -> Result<Vec<bool>, NetworkError> {
        if self.idle().is_some() {
            return Err(NetworkError::NotRunning);
        }
        let (reply, answer) = oneshot::channel();
        let submission = Submission {
            transactions,
            reply,
        };
        let sent = self.submissions.send(submission).await;
        sent.map_err(|_| NetworkError::NotRunning)?;
        answer.await.map_err(|_| NetworkError::NotRunning)?
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
        if !self.shared.peers().is_shown(&peer) {
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
