//! Which blocks the application has got, so that it gets none twice.
//!
//! Transactions and votes are named by their bytes, and no two copies are checked at once. A block's name is the chain's, and is known
//! after the check only: copies that come by different ways at the same time are told apart here, where the checks run.
//! Bounds: `protocol.propagation.blocks.max_seen` identities.

use std::{collections::hash_map::RandomState, sync::Mutex};

use crate::{chain::ItemId, platform::lock::lock, remembered::Remembered};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct DeliveredBlocks(Mutex<Remembered<ItemId>>);

impl DeliveredBlocks {
    /// None was delivered yet; the last `most` are remembered.
    pub(crate) fn new(most: usize) -> Self {
        Self(Mutex::new(Remembered::new(most, RandomState::new())))
    }

    /// Delivers a block, if it was not lately; whether it did. Copies that come meanwhile count as delivered; where `deliver`
    /// panics the next one is delivered again.
    pub(crate) fn deliver(&self, id: &ItemId, deliver: impl FnOnce()) -> bool {
        if !lock(&self.0).insert(id.clone()) {
            return false;
        }
        let mut claim = Claim {
            blocks: self,
            id: Some(id),
        };
        deliver();
        claim.id = None;
        true
    }
}

/// A block that is being delivered; it is not, where this is dropped with its name.
struct Claim<'a> {
    blocks: &'a DeliveredBlocks,
    id: Option<&'a ItemId>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            lock(&self.blocks.0).remove(id);
        }
    }
}
