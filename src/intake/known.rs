//! What is asked of those who keep the items: whether one is here.

use crate::{
    chain::{ItemKind, TransactionKey},
    propagation::Propagation,
};

/// How an item stands here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is neither here nor was it, as far as is remembered.
    New,
    /// A copy of it is being checked.
    Checking,
    /// It was accepted, and the pool had no room for it. Peers' copies are known; its maker may hand it in again.
    Crowded,
    /// It is here, or it was accepted, confirmed or rejected lately.
    Known,
}

/// Who keeps votes and transactions. Each look costs the same, however many there are.
pub(crate) trait Inventory {
    /// How a vote or a transaction stands.
    fn standing(&self, kind: ItemKind, key: &TransactionKey) -> Standing;

    /// A vote or a transaction is being checked from now on, until it is concluded.
    fn claim(&mut self, kind: ItemKind, key: &TransactionKey);
}

impl Inventory for Propagation {
    fn standing(&self, kind: ItemKind, key: &TransactionKey) -> Standing {
        if self.checks(kind, key) {
            Standing::Checking
        } else if self.knows(kind, key) {
            Standing::Known
        } else if self.crowded_out(kind, key) {
            Standing::Crowded
        } else {
            Standing::New
        }
    }

    fn claim(&mut self, kind: ItemKind, key: &TransactionKey) {
        Propagation::claim(self, kind, key);
    }
}
