//! What the state machine asks of its driver.

use bytes::Bytes;
use libp2p::PeerId;

use super::announcement::BroadcastId;
use super::encoding::Reconstruction;
use crate::chain::ItemId;
use crate::peers::Misdeed;

/// Something to do. A driver does all that an input yields, in order, and answers each check, the sooner the better.
#[derive(Clone, Debug)]
pub enum Action {
    /// Have the chain check a header; the answer goes to [`super::Broadcasts::header_checked`].
    CheckHeader {
        /// The broadcast.
        broadcast: BroadcastId,
        /// The identity that the announcer gave; the chain's must be the same.
        block: ItemId,
        /// The header; empty where the announcer says that the chain's blocks are opaque.
        header: Bytes,
        /// Who told of it first.
        peer: PeerId,
    },
    /// Run this off the network task; what comes of it goes to [`super::Broadcasts::reconstructed`].
    Reconstruct(Reconstruction),
    /// The block is decoded. Have the chain check it; the answer goes to [`super::Broadcasts::block_checked`].
    CheckBlock {
        /// The broadcast.
        broadcast: BroadcastId,
        /// The identity under which it came; the chain's must be the same.
        block: ItemId,
        /// Who told of it first.
        peer: Option<PeerId>,
        /// The block.
        bytes: Bytes,
    },
    /// A broadcast came to nothing. Who told of it is told that this node takes no part, and tells of the block in another way once
    /// it has it.
    Abandoned {
        /// The block's identity.
        block: ItemId,
        /// Why.
        reason: Abandonment,
    },
    /// A peer tells of new broadcasts sooner than it may, or sends a chunk twice since its streams are others now. Nobody pays for that, but it
    /// costs the peer more of its limits.
    Needless {
        /// Who.
        peer: PeerId,
    },
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

/// What has become of a block of ours at a peer that was to have it in chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its chain has accepted the block.
    Has,
    /// It takes no part in the broadcast, or that has ended before the peer had the block: tell it of the block in another way.
    Left,
}

/// Why a broadcast came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Abandonment {
    /// Nobody has sent a new chunk for too long, or too few of them.
    #[error("too few chunks came")]
    Stuck,
    /// The chunks do not belong together: [`super::InconsistentCoding`].
    #[error("its chunks are no encoding of any block")]
    Inconsistent,
    /// The chain rejected what was decoded.
    #[error("its chunks make another block than its header says")]
    Rejected,
}
