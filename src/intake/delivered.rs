//! Which blocks the application has got, so that it gets none twice.
//!
//! Transactions and votes are named by their bytes, and no two copies are checked at once. A block's name is the chain's, and is known
//! after the check only: copies that come by different ways at the same time are told apart here, where the checks run.
//! Bounds: `protocol.propagation.blocks.max_seen` identities.

use std::sync::Mutex;

use crate::{chain::ItemId, keyed::Keyed, platform::lock::lock, remembered::Remembered};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct DeliveredBlocks(Mutex<Remembered<ItemId>>);

impl DeliveredBlocks {
    /// None was delivered yet; the last `most` are remembered. `seed` is random and secret.
    pub(crate) fn new(most: usize, seed: &[u8; 16]) -> Self {
        Self(Mutex::new(Remembered::new(most, Keyed::new(seed))))
    }

    /// A block is about to be delivered, if it was not lately. Copies that come meanwhile count as delivered.
    pub(crate) fn claim<'a>(&'a self, id: &'a ItemId) -> Option<Claim<'a>> {
        let is_new = lock(&self.0).insert(id.clone());
        is_new.then_some(Claim {
            blocks: self,
            id: Some(id),
        })
    }

    /// A block that was delivered is not kept: it is delivered again when it comes again.
    pub(crate) fn forget(&self, id: &ItemId) {
        lock(&self.0).remove(id);
    }
}

/// A block that is being delivered; the next copy is delivered again, where this is dropped and not kept.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    blocks: &'a DeliveredBlocks,
    id: Option<&'a ItemId>,
}

impl Claim<'_> {
    /// It was delivered.
    pub(crate) fn keep(mut self) {
        self.id = None;
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.blocks.forget(id);
        }
    }
}
