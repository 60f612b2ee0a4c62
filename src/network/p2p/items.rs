//! Items and messages: our own on their way out, and what a peer hands over.

use std::mem::discriminant;

use bytes::Bytes;
use futures::{StreamExt, stream, stream::FuturesUnordered};
use libp2p::PeerId;
use tokio::sync::oneshot;

use super::{Command, P2PNetworkManager, Submission};
use crate::{
    chain::{Block, Item, ItemId, ItemKind, Transaction, TransactionKey},
    error::{NetworkError, ProtocolError},
    intake::{ItemLimits, OVERHEAD, Outcomes},
    network::NetworkMessage,
    peers::PeerInfo,
    platform,
};

/// What a batch of our own items costs at most, in bytes with their overhead, unless one item is larger: the network takes one
/// after the other.
const BATCH: usize = 128 << 10;
/// Batches of one call that are under way at once.
const UNDER_WAY: usize = 4;
/// Bytes from which on keys are computed off the caller's task.
const MUCH: usize = 64 << 10;

impl P2PNetworkManager {
    /// Sends a message to one connected peer; returns when the peer has taken it (which is not a verdict).
    ///
    /// Messages go no faster than `security.rate_limits` lets a peer send them (100 a second on average, 150 at once, by default; of peer
    /// exchanges 10 and 48): further ones wait for their turn, for `protocol.request_response_config.request_timeout` at most. So
    /// whoever gives no higher figures than its peers is never refused for its haste.
    ///
    /// # Errors
    /// [`ProtocolError`] as [`NetworkError::Protocol`]: refused, timed out, too large, not spoken there;
    /// [`ProtocolError::Busy`] where a thousand messages to this peer wait already.
    pub async fn send_message(
        &self,
        peer_id: PeerId,
        message: NetworkMessage,
    ) -> Result<(), NetworkError> {
        self.request(peer_id, &message)
            .await
            .map_err(NetworkError::from)
    }

    /// Sends a message to all: items are checked by the application and gossiped, a peer exchange goes to each peer
    /// directly. Of an item it returns when that is in the send queues, and waits where the network is busy; of a peer exchange when each peer has taken it or
    /// failed to, which takes `protocol.request_response_config.request_timeout` at most, and it is no error where one has taken it.
    ///
    /// # Errors
    /// [`NetworkError::NoPeers`] where nobody takes part, and nothing is taken; [`NetworkError::NotSent`] where nobody could be
    /// sent it once it was checked; [`NetworkError::Busy`] where no peer has read enough to make room for
    /// `protocol.request_response_config.request_timeout`, and nothing is taken; [`NetworkError::Protocol`] where the chain does
    /// not accept the item.
    pub async fn broadcast_message(&self, message: NetworkMessage) -> Result<(), NetworkError> {
        match message.into_item() {
            Ok(item) => self.submit(item).await.map(drop),
            Err(NetworkMessage::PeerExchange(peers)) => self.exchange_peers(peers).await,
            Err(_) => Err(ProtocolError::NotBroadcastable.into()),
        }
    }

    /// Checks an item of our own and sends it on its way; returns its identity. It is also delivered here, with no source. Waits
    /// where the network is busy. A future that is dropped leaves it either sent and delivered, or not taken at all.
    ///
    /// # Errors
    /// As [`Self::broadcast_message`].
    pub async fn submit(&self, item: Item) -> Result<ItemId, NetworkError> {
        let kind = item.kind();
        // Nothing is computed over what can't be sent.
        self.limits().check(kind, item.data().len())?;
        let outcomes = self.submit_batch(kind, vec![item.data().clone()]).await?;
        let outcome = outcomes.into_iter().next();
        Ok(outcome.unwrap_or(Err(ProtocolError::Duplicate))?)
    }

    /// Checks transactions of our own and broadcasts them: for many, much cheaper than one by one. Returns what became of
    /// each, in order. However many there are, they go in pieces as the network takes them: it waits for room, and nothing
    /// is buffered without bound. A future that is dropped leaves some of them sent and the rest not taken.
    ///
    /// # Errors
    /// [`NetworkError::NoPeers`] where nobody takes part, [`NetworkError::Busy`], [`NetworkError::NotRunning`], where that holds for all of
    /// them; none of them is sent then. [`NetworkError::NotSent`] where all were accepted here and nobody could be
    /// sent any. Of one transaction: as [`Self::broadcast_message`]; [`ProtocolError::NoPeers`], [`ProtocolError::Busy`] and
    /// [`ProtocolError::NotSent`] where others fared otherwise.
    pub async fn broadcast_transactions(
        &self,
        transactions: Vec<Transaction>,
    ) -> Result<Vec<Result<ItemId, ProtocolError>>, NetworkError> {
        self.running()?;
        let mut outcomes = Vec::with_capacity(transactions.len());
        let batches = batches(transactions);
        let sends = batches.map(async |batch| {
            let count = batch.len();
            (count, self.submit_batch(ItemKind::Transaction, batch).await)
        });
        let mut sends = std::pin::pin!(stream::iter(sends).buffered(UNDER_WAY));
        let (mut differ, mut failure) = (false, None);
        while let Some((count, sent)) = sends.next().await {
            match sent {
                Ok(sent) => {
                    differ = true;
                    outcomes.extend(sent);
                }
                Err(error) => {
                    let failed = || Err(ProtocolError::of(&error));
                    outcomes.extend((0..count).map(|_| failed()));
                    let kind = discriminant(&error);
                    differ |= discriminant(failure.get_or_insert(error)) != kind;
                }
            }
        }
        match failure {
            Some(error) if !differ => Err(error),
            _ => Ok(outcomes),
        }
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

    async fn submit_batch(
        &self,
        kind: ItemKind,
        batch: Vec<Bytes>,
    ) -> Result<Outcomes, NetworkError> {
        if self.idle().is_some() {
            return Err(NetworkError::NotRunning);
        }
        let much = batch.iter().map(Bytes::len).sum::<usize>() > MUCH;
        let keyed = move || {
            let items = batch.into_iter();
            items
                .map(|data| (TransactionKey::of(&data), data))
                .collect()
        };
        let items = if much {
            let keyed = platform::offload(keyed).await;
            keyed.ok_or(NetworkError::NotRunning)?
        } else {
            keyed()
        };
        let (reply, answer) = oneshot::channel();
        let submission = Submission { kind, items, reply };
        let mut kinds = ItemKind::ALL.into_iter().zip(&self.submissions);
        let (_, submissions) = kinds
            .find(|(of, _)| *of == kind)
            .ok_or(NetworkError::NotRunning)?;
        let sent = submissions.send(submission).await;
        sent.map_err(|_| NetworkError::NotRunning)?;
        answer.await.map_err(|_| NetworkError::NotRunning)?
    }

    fn limits(&self) -> ItemLimits {
        ItemLimits::new(&self.config.protocol.propagation)
    }

    /// Handles a block that a peer sent by other means: checked, delivered and gossiped like one that arrived here.
    ///
    /// # Errors
    /// [`ProtocolError::Rejected`] (the peer then pays), [`ProtocolError::Ignored`], which is also where there is no room for it now, [`ProtocolError::Duplicate`];
    /// [`ProtocolError::TooLarge`], [`ProtocolError::Empty`], [`ProtocolError::NotRunning`].
    pub async fn handle_block(&self, block: Block, peer_id: PeerId) -> Result<(), ProtocolError> {
        self.handed(Item::Block(block), peer_id).await
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
        self.handed(Item::Transaction(transaction), peer_id).await
    }

    async fn handed(&self, item: Item, peer: PeerId) -> Result<(), ProtocolError> {
        let asked = self
            .ask(|reply| Command::Handle { item, peer, reply })
            .await;
        asked.map_err(|error| ProtocolError::of(&error))?
    }

    async fn request(&self, peer: PeerId, message: &NetworkMessage) -> Result<(), ProtocolError> {
        self.running().map_err(|error| ProtocolError::of(&error))?;
        self.questions().message(peer, message).await.map(drop)
    }

    async fn exchange_peers(&self, peers: Vec<PeerInfo>) -> Result<(), NetworkError> {
        self.running()?;
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
                Ok(()) => taken = true,
                Err(error) => outcome = Err(error.into()),
            }
        }
        if taken { Ok(()) } else { outcome }
    }
}

/// Transactions in batches of at most [`BATCH`].
fn batches(transactions: Vec<Transaction>) -> impl Iterator<Item = Vec<Bytes>> {
    let mut rest = transactions.into_iter().map(|one| one.data).peekable();
    std::iter::from_fn(move || {
        let (mut batch, mut cost) = (Vec::new(), 0);
        while let Some(data) =
            rest.next_if(|data| batch.is_empty() || cost + data.len() + OVERHEAD <= BATCH)
        {
            cost += data.len() + OVERHEAD;
            batch.push(data);
        }
        (!batch.is_empty()).then_some(batch)
    })
}
