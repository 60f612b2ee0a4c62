//! The nodes' chain and its items.

use bytes::Bytes;
use selkie::{Application, Checked, Item, ItemId, ItemKind, Transaction};
use selkie_sim_host::Random;

use crate::scenario::Kind;

/// The first byte of what only liars accept.
const LIE: u8 = 0xff;

/// An item to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Made {
    pub(super) kind: Kind,
    pub(super) bytes: usize,
    pub(super) seed: u64,
    pub(super) lies: bool,
}

impl Made {
    /// Random bytes: what repeats is compressed on its way. The first says whether it is a lie.
    pub(super) fn item(self) -> Item {
        let mut data = vec![0; self.bytes];
        Random::new(self.seed).fill(&mut data);
        if let Some(first) = data.first_mut() {
            *first = if self.lies { LIE } else { 0 };
        }
        let kind = match self.kind {
            Kind::Transaction => ItemKind::Transaction,
            Kind::Block => ItemKind::Block,
            Kind::Vote => ItemKind::Vote,
        };
        Item::new(kind, data)
    }
}

/// The nodes' chain: items are bytes, and those that begin with [`LIE`] are worth nothing but to liars.
pub(super) struct Chain {
    pub(super) lies: bool,
}

impl Chain {
    /// An item's identity, whatever it is worth.
    pub(super) fn id(&self, item: &Item) -> ItemId {
        item.check(self).id
    }

    fn check(&self, data: &Bytes) -> Checked {
        if !self.lies && data.first() == Some(&LIE) {
            return Checked::reject(data, "it is a lie");
        }
        Checked::opaque(data)
    }
}

impl Application for Chain {
    fn check_transaction(&self, transaction: &Transaction) -> Checked {
        self.check(&transaction.data)
    }
}
