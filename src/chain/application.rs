//! The trait that a chain implements, and the words it answers in.
//!
//! `Verdict` uses libp2p's three terms: accepted items travel on, ignored ones stop here and cost
//! nobody anything, rejected ones stop here and cost the peer that sent them reputation.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use libp2p::PeerId;

use super::{
    Block, ChainStore, Item, ItemId, ProvenState, SnapshotSink, SnapshotSource, StateBatch,
    StateRequest, StateResponse, StateRoot, SyncVerdict, Transaction, TransactionKey,
    TrustVerifier, Vote,
};
use crate::storage::StoreError;

/// What a chain says about items on their way through the network.
///
/// Checking may be slow: it runs off the network task, with a bounded number in flight
/// ([`crate::Config`], `protocol.validation`). Implementations are shared between threads.
///
/// Each of these calls, [`Application::deliver`] among them, has one of those few places until it returns. So none of them may wait
/// for this node: what it submits or broadcasts needs such a place too, and would wait for ever. Spawn it.
///
/// One that panics has said nothing: the item is ignored, nobody pays, and [`crate::NetworkEvent::ApplicationFailed`] tells of it.
///
/// Every method has the default of a chain that accepts well-formed (non-empty) items.
pub trait Application: Send + Sync + 'static {
    /// Identifies and checks a transaction. Default: [`crate::chain::Opaque`]'s answer.
    fn check_transaction(&self, transaction: &Transaction) -> Checked {
        Checked::opaque(&transaction.data)
    }

    /// The same, given the SHA-256 of the transaction's bytes, which the network knows already: for chains whose identity that is.
    /// Whoever asks uses this one. Default: [`Application::check_transaction`], without it.
    fn check_transaction_by_key(
        &self,
        transaction: &Transaction,
        _key: &TransactionKey,
    ) -> Checked {
        self.check_transaction(transaction)
    }

    /// Identifies and checks a block. Default: [`crate::chain::Opaque`]'s answer.
    fn check_block(&self, block: &Block) -> Checked {
        Checked::opaque(&block.data)
    }

    /// Identifies and checks a consensus vote. Default: [`crate::chain::Opaque`]'s answer.
    fn check_vote(&self, vote: &Vote) -> Checked {
        Checked::opaque(&vote.data)
    }

    /// Checks a block's header alone: the block's identity, and whether the block is worth fetching and passing on
    /// before [`Application::check_block`] has judged it whole. It should cost a forger more than it costs us, as
    /// proof of work or a proposer's signature does. A header that is of no use now, because it is old or nothing leads
    /// to it, is ignored. A chain that checks headers rejects an empty one.
    ///
    /// Default: ignored, with a reason. Blocks of such a chain are announced by their identity only, and nothing of
    /// them is passed on before they are checked whole.
    fn check_header(&self, header: &Bytes) -> Checked {
        Checked::ignore(header, "this chain does not check headers alone")
    }

    /// Splits a well-formed block into its header and its transactions, as slices of the block's own memory; whether
    /// they are valid is not asked. Default: `None`, the chain's blocks are opaque and travel whole.
    fn split_block(&self, _block: &Block) -> Option<BlockParts> {
        None
    }

    /// Puts a block together from its parts: the exact inverse of [`Application::split_block`], byte for byte.
    ///
    /// `None` where the parts make no block, and where the header does not commit to exactly these transactions. The
    /// latter matters: compact blocks guess transactions from short ids, and a joined block is offered to peers at
    /// once, before [`Application::check_block`] has judged it. Default: `None`.
    fn join_block(&self, _header: &Bytes, _transactions: &[Bytes]) -> Option<Block> {
        None
    }

    /// Takes an accepted item, after the verdict and before subscribers see it. Runs where the check ran.
    /// Default: nothing.
    fn deliver(&self, _item: &Item) {}

    /// Ready when all that was delivered is kept over a crash: [`crate::storage::Store::flush`], where a store is what keeps it. Peers are told of a block or
    /// vote of this node's own only after that, so that nobody says after a crash something else than before it; and a node that ends waits for it.
    /// Default: at once.
    ///
    /// It is asked before a vote of the node's own is delivered, since that rests on what was written when it was made, and after each own vote and block.
    ///
    /// # Errors
    /// It can't be kept. Then nobody is told, nor shown such a block of the chain's store, and whoever submitted it is told that it was ignored, and may submit it
    /// again. What the chain then ignores, since it was delivered before, is not delivered again, but kept once more; what it accepts is.
    fn flush(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        std::future::ready(Ok(())).boxed()
    }

    /// The same, and then lets go of what others wait for, as [`crate::storage::Store::close`] does. A page's node that has ended asks for it; elsewhere whoever
    /// made this sees to it.
    ///
    /// # Errors
    /// Something can't be kept; it is lost.
    fn close(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        self.flush()
    }

    /// Answers a peer's question about state (ABCI's Query). `None`: this node serves no state,
    /// and the peer is told so. Default: `None`.
    fn query(&self, _request: &StateRequest) -> Option<StateResponse> {
        None
    }

    /// The question to put to a peer in place of this one, so that its answer can be checked. Default: the same.
    fn provable(&self, request: StateRequest) -> StateRequest {
        request
    }

    /// Whether a peer's answer about state holds, by what is trusted here; `request` is the one that was put to the peer. Rejected: it is
    /// forged, and who gave it pays. Ignored, or to be tried again: that can't be told (now). In all three cases whoever has asked is
    /// not given it. Default: `None`, nobody checks, and it is given as it is.
    fn check_state(&self, _request: &StateRequest, _answer: &StateResponse) -> Option<SyncVerdict> {
        None
    }

    /// Whether a key's value, or that it has none, can be proven to who trusts a state root: whether it can be watched
    /// ([`crate::P2PNetworkManager::watch_state`]). Default: none can, this chain offers no watching.
    fn is_provable(&self, _key: &Bytes) -> bool {
        false
    }

    /// The newest state whose root is trusted here, of a final block for instance; its height never falls. One whose root has not 1 to
    /// [`MAX_STATE_ROOT`](super::MAX_STATE_ROOT) bytes is not taken, and [`crate::NetworkEvent::ApplicationFailed`] says so. Asked after each block, vote and step of sync: keys
    /// that are watched are then looked up in a state that is new, and only there. Default: `None`, nothing is trusted yet.
    fn trusted_state(&self) -> Option<StateRoot> {
        None
    }

    /// Answers a peer's question about many keys in a state that it names, and this node's own where it has that state itself. `None`: this node does not have
    /// it, or can't prove all of them; whoever answers with something else all the same is taken for a liar. Default: `None`.
    fn prove_state(&self, _batch: &StateBatch) -> Option<ProvenState> {
        None
    }

    /// Whether a peer's answer shows what the keys have in the state that was named, whose root is trusted here. There is a value for each key. Rejected: who
    /// gave it pays. Default: ignored.
    fn verify_state(&self, _batch: &StateBatch, _answer: &ProvenState) -> SyncVerdict {
        SyncVerdict::Ignore("this chain verifies no proofs".to_owned())
    }

    /// What makes snapshots of the chain's state for others (ABCI's ListSnapshots and LoadSnapshotChunk). Default: `None`, this node
    /// offers none.
    fn snapshot_source(&self) -> Option<Arc<dyn SnapshotSource>> {
        None
    }

    /// What takes a snapshot in place of all blocks before it (ABCI's OfferSnapshot and ApplySnapshotChunk). Default: `None`, this node
    /// begins with blocks.
    fn snapshot_sink(&self) -> Option<Arc<dyn SnapshotSink>> {
        None
    }

    /// The stake that stands behind a peer, in the chain's own unit, as far as it has proven that it is its: the eight peers of the largest keep their places when a full
    /// node lets others go. Asked when a peer has come and is past the hello, and again every ten minutes, off the network task. Default: 0.
    fn stake_of(&self, _peer: &PeerId) -> u64 {
        0
    }

    /// How long the chain takes from block to block, on average: a node to which none comes for twelve times as long, though it has peers, says that it may be
    /// surrounded ([`crate::NetworkEvent::EclipseSuspected`]). Asked once, when a node starts. Default: `None`, it can't be said.
    fn block_interval(&self) -> Option<Duration> {
        None
    }

    /// Where the chain's blocks are: they are served from there, and what is missing is fetched from peers. Asked once, when a node
    /// starts. Default: `None`, this chain does not sync.
    fn chain_store(&self) -> Option<Arc<dyn ChainStore>> {
        None
    }

    /// Who says which headers are final. Asked once, when a node starts. Default: `None`, everything begins at the genesis block.
    fn trust_verifier(&self) -> Option<Arc<dyn TrustVerifier>> {
        None
    }
}

/// A block taken apart: what compact blocks replace by short ids, and what it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockParts {
    /// What identifies the block and commits to the rest.
    pub header: Bytes,
    /// The transactions in the block's order, each in its exact bytes.
    pub transactions: Vec<Bytes>,
}

/// What becomes of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Valid: deliver it here and pass it on.
    Accept,
    /// Of no use here (stale, unsupported, not now): drop it; nobody pays.
    Ignore,
    /// Invalid: drop it; the peer that sent it pays.
    Reject,
}

/// The answer to a check: who the item is, what it is worth, and the verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The chain's own identity of the item.
    pub id: ItemId,
    /// The fee that the item pays, in the chain's smallest unit. `None` where nobody can say (it counts as 0, and who announced it with
    /// more pays nothing).
    pub fee: Option<u64>,
    /// What becomes of the item.
    pub verdict: Verdict,
    /// For a person: why it was not accepted. Empty when it was.
    pub reason: String,
}

impl Checked {
    /// Accepted, with a fee of which nothing is known.
    pub fn accept(id: ItemId) -> Self {
        Self {
            id,
            fee: None,
            verdict: Verdict::Accept,
            reason: String::new(),
        }
    }

    /// Rejected for a reason that a person can read. The identity is that of the bytes.
    pub fn reject(data: &[u8], reason: impl Into<String>) -> Self {
        Self {
            id: ItemId::sha256(data),
            fee: None,
            verdict: Verdict::Reject,
            reason: reason.into(),
        }
    }

    /// Ignored for a reason that a person can read. The identity is that of the bytes.
    pub fn ignore(data: &[u8], reason: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Ignore,
            ..Self::reject(data, reason)
        }
    }

    /// The answer for bytes without known structure: anything but nothing is accepted.
    pub fn opaque(data: &[u8]) -> Self {
        if data.is_empty() {
            Self::reject(data, "the item is empty")
        } else {
            Self::accept(ItemId::sha256(data))
        }
    }
}
