//! What peers say to each other about blocks.
//!
//! Every message but [`BlockMessage::HighBandwidth`] names its block by the chain's identity first, so that one about
//! a block that is here already is put aside before anything else is looked at. The name is the sender's word: the
//! chain checks it against the header, or against the whole block.

use bytes::Bytes;

use super::CompactBlock;
use super::choice::Form;
use crate::chain::ItemId;

/// A message between peers. [`BlockMessage::encode`] and [`BlockMessage::decode`] know its bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum BlockMessage {
    /// "I have this block."
    Announcement(Announcement),
    /// A block in compact form: to a peer that asked for new blocks in this form, or as an answer.
    Compact(CompactBlock),
    /// Asks for a block that was announced.
    GetBlock(GetBlock),
    /// Asks for the transactions that a compact block left open.
    GetTransactions(MissingTransactions),
    /// The answer to [`BlockMessage::GetTransactions`].
    Transactions(Transactions),
    /// A whole block; an answer also to a request for the compact form.
    Whole(WholeBlock),
    /// The answer to any request about a block that is not here.
    NotFound(ItemId),
    /// Whether the receiver is to send new blocks in compact form, unasked (BIP-152's `sendcmpct`). Not so at first.
    HighBandwidth(bool),
    /// "You have told me of this block: I have it, or want nothing more of it." So its sender knows what has arrived.
    Settled(ItemId),
}

impl BlockMessage {
    /// What kind of message this is, for a trace.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Announcement(_) => "announcement",
            Self::Compact(_) => "compact block",
            Self::GetBlock(_) => "request for a block",
            Self::GetTransactions(_) => "request for missing transactions",
            Self::Transactions(_) => "missing transactions",
            Self::Whole(_) => "whole block",
            Self::NotFound(_) => "not found",
            Self::HighBandwidth(_) => "high-bandwidth mode",
            Self::Settled(_) => "settled",
        }
    }
}

/// "I have this block", by its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The block's identity.
    pub id: ItemId,
    /// Its header, at most [`super::MAX_HEADER`] bytes; empty where the chain's blocks are opaque.
    pub header: Bytes,
}

/// Asks for a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetBlock {
    /// The block's identity.
    pub id: ItemId,
    /// [`Form::Compact`] or [`Form::Whole`]. The compact form may be answered by the whole block, never the other way.
    pub form: Form,
}

/// Asks for some transactions of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingTransactions {
    /// The block's identity.
    pub id: ItemId,
    /// Their places in the block, rising; at least one, below [`super::MAX_TRANSACTIONS`].
    pub indexes: Vec<usize>,
}

/// The transactions that were asked for, in the order of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transactions {
    /// The block's identity.
    pub id: ItemId,
    /// Their exact bytes, none of them empty.
    pub transactions: Vec<Bytes>,
}

/// A whole block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WholeBlock {
    /// The block's identity.
    pub id: ItemId,
    /// The block's bytes, as the chain serialises it.
    pub data: Bytes,
}
