//! What the propagation of blocks asks the chain, and is answered. `intake/question.rs` asks it: slow work, done off the network task.

use bytes::Bytes;
use libp2p::PeerId;

use crate::{
    chain::{Block, BlockParts, Checked, ItemId, TransactionKey, Verdict},
    propagation::{
        blocks::{
            coded::{BroadcastId, Encoded, InconsistentCoding, Reconstruction},
            compact::{BlockCheck, HeaderCheck, Join, Matched, Matching},
        },
        pool::Mempool,
    },
};

/// Something that only the chain can say, or that takes long.
#[derive(Clone, Debug)]
pub(crate) enum Question {
    /// Whether a header is good.
    Header(HeaderCheck),
    /// What of a compact block is in the pool.
    Match(Matching),
    /// What block these transactions make.
    Join(Join),
    /// Whether a block is good.
    Block(BlockCheck),
    /// Whether the header of a block that comes in chunks is good.
    CodedHeader {
        broadcast: BroadcastId,
        block: ItemId,
        header: Bytes,
        /// Who told of it first.
        peer: PeerId,
    },
    /// What block these chunks make.
    Reconstruct(Reconstruction),
    /// Whether a block that came in chunks is good.
    CodedBlock {
        broadcast: BroadcastId,
        block: ItemId,
        /// Who told of it first.
        peer: Option<PeerId>,
        bytes: Bytes,
        /// Whether the chain has accepted these very bytes before.
        is_here: bool,
    },
    /// The chunks of a block: its identity, header and bytes.
    Encode(ItemId, Bytes, Bytes),
}

/// The answer to a [`Question`], with what the asker needs to recognise it.
#[derive(Debug)]
pub(crate) enum Answer {
    Header(HeaderCheck, Checked),
    Matched(Matched),
    Joined(Join, Option<Block>),
    Checked(BlockCheck, Checked, Option<Box<AcceptedBlock>>),
    CodedHeader {
        broadcast: BroadcastId,
        checked: Checked,
        peer: PeerId,
    },
    Reconstructed(Result<Encoded, InconsistentCoding>),
    CodedBlock {
        broadcast: BroadcastId,
        checked: Checked,
        peer: Option<PeerId>,
        accepted: Option<Box<AcceptedBlock>>,
    },
    /// `None`: it cannot be encoded.
    Encoded(ItemId, Option<Encoded>),
}

/// A block that the chain has accepted, and what propagation wants to know of it.
#[derive(Clone, Debug)]
pub(crate) struct AcceptedBlock {
    pub(crate) id: ItemId,
    pub(crate) block: Block,
    /// `None`: the chain's blocks are opaque.
    pub(crate) parts: Option<BlockParts>,
    /// The keys of its transactions, in order.
    pub(crate) keys: Vec<TransactionKey>,
    /// What names its bytes.
    pub(crate) key: TransactionKey,
    /// Whether the application has got it now, and not before by another way.
    pub(crate) is_first: bool,
}

impl AcceptedBlock {
    /// Bytes of its transactions that are not in the pool; 0 for an opaque block.
    pub(crate) fn novel_bytes(&self, pool: &Mempool) -> usize {
        let transactions = self.parts.iter().flat_map(|parts| &parts.transactions);
        let novel = transactions
            .zip(&self.keys)
            .filter(|(_, key)| pool.get(key).is_none());
        novel.map(|(bytes, _)| bytes.len()).sum()
    }
}

impl Question {
    /// The peer that caused it. `None`: our own blocks, and what is put together from many peers' chunks.
    pub(crate) fn peer(&self) -> Option<PeerId> {
        match self {
            Self::Header(check) => Some(check.peer),
            Self::Match(matching) => Some(matching.peer),
            Self::Join(join) => Some(join.peer),
            Self::Block(check) => Some(check.peer),
            Self::CodedHeader { peer, .. } => Some(*peer),
            Self::CodedBlock { peer, .. } => *peer,
            Self::Reconstruct(_) | Self::Encode(..) => None,
        }
    }

    /// The answer where the chain failed to give one. `None`: the asker's own patience ends it.
    pub(crate) fn unanswered(self) -> Option<Answer> {
        let ignore = |data: &[u8]| Checked::ignore(data, "the application failed; see its log");
        Some(match self {
            Self::Header(check) => {
                let checked = ignore(&check.header);
                Answer::Header(check, checked)
            }
            Self::Match(matching) => Answer::Matched(matching.failed()),
            Self::Join(join) => Answer::Joined(join, None),
            Self::Block(check) => {
                let checked = ignore(&check.block.data);
                Answer::Checked(check, checked, None)
            }
            Self::CodedHeader {
                broadcast,
                header,
                peer,
                ..
            } => Answer::CodedHeader {
                broadcast,
                checked: ignore(&header),
                peer,
            },
            Self::CodedBlock {
                broadcast,
                peer,
                bytes,
                ..
            } => Answer::CodedBlock {
                broadcast,
                checked: ignore(&bytes),
                peer,
                accepted: None,
            },
            Self::Encode(id, ..) => Answer::Encoded(id, None),
            Self::Reconstruct(_) => return None,
        })
    }
}

impl Answer {
    /// The block that it brings, and the peer that sent it, where that is one.
    pub(crate) fn accepted(&self) -> Option<(&AcceptedBlock, Option<PeerId>)> {
        match self {
            Self::Checked(check, _, Some(block)) => Some((block, Some(check.peer))),
            Self::CodedBlock {
                accepted: Some(block),
                peer,
                ..
            } => Some((block, *peer)),
            _ => None,
        }
    }

    /// What the chain said to a peer's header or block.
    fn judged(&self) -> Option<(PeerId, &Checked)> {
        match self {
            // Opaque blocks are told apart by their whole.
            Self::Header(check, checked)
                if !check.header.is_empty() || checked.verdict == Verdict::Reject =>
            {
                Some((check.peer, checked))
            }
            Self::Checked(check, checked, _) => Some((check.peer, checked)),
            Self::CodedHeader { checked, peer, .. } => Some((*peer, checked)),
            Self::CodedBlock { checked, peer, .. } => Some(((*peer)?, checked)),
            _ => None,
        }
    }

    /// The peer whose header or block the chain was asked about in vain: nothing is wrong with it, it is of no use. An honest peer
    /// brings one now and then.
    pub(crate) fn ignored(&self) -> Option<PeerId> {
        let (peer, checked) = self.judged()?;
        (checked.verdict == Verdict::Ignore).then_some(peer)
    }

    /// The peer whose block was not accepted, and why.
    pub(crate) fn refused(&self) -> Option<(PeerId, String)> {
        let (peer, checked) = self.judged()?;
        (checked.verdict != Verdict::Accept).then(|| (peer, checked.reason.clone()))
    }
}
