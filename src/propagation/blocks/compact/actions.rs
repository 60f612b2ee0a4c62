//! What the state machine asks of its driver.

use bytes::Bytes;
use libp2p::PeerId;

use super::compact_block::CompactBlock;
use super::message::BlockMessage;
use super::part::Part;
use super::reconstruction::Reconstruction;
use crate::chain::Block;
use crate::chain::{ItemId, TransactionKey};
use crate::peers::Misdeed;

/// Something to do. A driver does all that an input yields, in order, and answers each check, the sooner the better.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send a message to a peer.
    Send {
        /// To whom.
        peer: PeerId,
        /// What.
        message: BlockMessage,
        /// Why, for a trace.
        why: &'static str,
    },
    /// Ask a peer for something of a block as soon as its stream has room: [`super::CompactBlocks::next_request`] says for what.
    Ask {
        /// Whom.
        peer: PeerId,
        /// The block's identity.
        block: ItemId,
        /// Why, for a trace.
        why: &'static str,
    },
    /// Send a part of a block that is here to a peer, as the peer reads: [`super::CompactBlocks::serve`] says the bytes.
    Serve {
        /// To whom.
        peer: PeerId,
        /// The block's identity.
        block: ItemId,
        /// What of it.
        part: Part,
        /// Why, for a trace.
        why: &'static str,
    },
    /// A block is kept no more: whoever waits for a part of it is told so.
    Gone(ItemId),
    /// Send a block that is here to a peer in coded chunks, as the hook has chosen.
    SendCoded {
        /// To whom.
        peer: PeerId,
        /// The block's identity.
        block: ItemId,
        /// Why, for a trace.
        why: &'static str,
    },
    /// Call [`crate::Application::check_header`]; the answer goes to [`super::CompactBlocks::header_checked`].
    CheckHeader(HeaderCheck),
    /// Match a compact block with the transactions at hand ([`Matching::run`]); what comes of it goes to
    /// [`super::CompactBlocks::matched`]. That walks over all of them: do it off the network task.
    Match(Matching),
    /// Call [`crate::Application::join_block`]; the answer goes to [`super::CompactBlocks::joined`].
    Join(Join),
    /// Call [`crate::Application::check_block`]; the answer goes to [`super::CompactBlocks::block_checked`]. The
    /// driver delivers what is accepted.
    CheckBlock(BlockCheck),
    /// A peer did wrong.
    Misdeed {
        /// Who.
        peer: PeerId,
        /// What, for its reputation.
        misdeed: Misdeed,
        /// What, for a person.
        why: &'static str,
    },
}

/// A header to be checked. Hand it back with the verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderCheck {
    /// The identity that the peer gave; the chain's must be the same.
    pub id: ItemId,
    /// The header; empty where the peer says that the chain's blocks are opaque.
    pub header: Bytes,
    /// Who sent it first.
    pub peer: PeerId,
}

/// A compact block to be matched with the transactions at hand.
#[derive(Clone, Debug, PartialEq)]
pub struct Matching {
    /// The peer from which it came.
    pub peer: PeerId,
    /// The compact block, whose header was checked.
    pub compact: CompactBlock,
    /// The largest block, in bytes.
    pub max_block_bytes: usize,
}

/// What came of a [`Matching`].
#[derive(Clone, Debug)]
pub struct Matched {
    pub(super) id: ItemId,
    pub(super) peer: PeerId,
    /// `None`: it makes a block that is too large, or could not be matched.
    pub(super) reconstruction: Option<Reconstruction>,
}

impl Matching {
    /// Matches it. `pool` are the transactions at hand: the mempool's, then recent and orphan ones. May take long.
    pub fn run<'a>(self, pool: impl IntoIterator<Item = (TransactionKey, &'a Bytes)>) -> Matched {
        let reconstruction = Reconstruction::new(&self.compact, pool, self.max_block_bytes).ok();
        Matched {
            reconstruction,
            ..self.failed()
        }
    }

    /// The answer where nobody could match it.
    pub fn failed(self) -> Matched {
        Matched {
            id: self.compact.id().clone(),
            peer: self.peer,
            reconstruction: None,
        }
    }
}

/// A block to be joined. Hand it back with the block, or with `None` where the chain refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// The block's identity.
    pub id: ItemId,
    /// The peer from which the compact block came.
    pub peer: PeerId,
    /// The block's header, which was checked.
    pub header: Bytes,
    /// Its transactions, in order.
    pub transactions: Vec<Bytes>,
    /// Indexes of those that were not here before, rising.
    pub lacked: Vec<usize>,
}

/// A block to be checked. Hand it back with the verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockCheck {
    /// The identity under which it came; the chain's must be the same.
    pub id: ItemId,
    /// The peer from which it came.
    pub peer: PeerId,
    /// The block.
    pub block: Block,
    /// Whether the peer sent it whole. If so, the peer answers for it; if it was joined, nobody does.
    pub whole: bool,
}

/// The actions that one input yields: for each a bounded number per connected peer and per block in progress.
#[derive(Debug, Default)]
pub(super) struct Actions(Vec<Action>);

impl Actions {
    pub(super) fn push(&mut self, action: Action) {
        self.0.push(action);
    }

    pub(super) fn send(&mut self, peer: PeerId, message: BlockMessage, why: &'static str) {
        self.push(Action::Send { peer, message, why });
    }

    pub(super) fn ask(&mut self, peer: PeerId, block: ItemId, why: &'static str) {
        self.push(Action::Ask { peer, block, why });
    }

    /// Tells who has told of a block that it is here, or not wanted any more.
    pub(super) fn settled(&mut self, peer: PeerId, id: &ItemId, why: &'static str) {
        self.send(peer, BlockMessage::Settled(id.clone()), why);
    }

    pub(super) fn blame(&mut self, peer: PeerId, misdeed: Misdeed, why: &'static str) {
        self.push(Action::Misdeed { peer, misdeed, why });
    }

    /// Has a block joined of which nothing is missing.
    pub(super) fn join(&mut self, peer: PeerId, reconstruction: Reconstruction) {
        let id = reconstruction.id().clone();
        let header = reconstruction.header().clone();
        let lacked = reconstruction.lacked().to_vec();
        if let Some(transactions) = reconstruction.into_transactions() {
            self.push(Action::Join(Join {
                id,
                peer,
                header,
                transactions,
                lacked,
            }));
        }
    }

    pub(super) fn into_vec(self) -> Vec<Action> {
        self.0
    }
}
