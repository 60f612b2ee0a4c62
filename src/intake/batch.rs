//! Items of one kind from one peer that are new here.

use libp2p::PeerId;

use crate::{
    chain::{ItemKind, TransactionKey},
    lanes::Taken,
    propagation::plumtree::Fresh,
};

/// Whence a batch came: its kind, its sender, and what it took there.
pub(crate) type Origin = (ItemKind, PeerId, Taken);

/// Items of one kind from one peer that are new here.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) kind: ItemKind,
    pub(crate) source: PeerId,
    pub(crate) items: Vec<Fresh>,
    /// What it took of its lane: to be given back when it is done with.
    pub(crate) taken: Taken,
}

impl Batch {
    pub(crate) fn origin(&self) -> Origin {
        (self.kind, self.source, self.taken)
    }

    pub(crate) fn keys(&self) -> Vec<TransactionKey> {
        self.items.iter().map(|fresh| fresh.key).collect()
    }

    /// Bytes of payload.
    pub(crate) fn size(&self) -> usize {
        self.items.iter().map(|fresh| fresh.data.len()).sum()
    }
}
