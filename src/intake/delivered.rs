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

    /// Whether this block is delivered now for the first time, lately.
    pub(crate) fn is_first(&self, id: &ItemId) -> bool {
        lock(&self.0).insert(id.clone())
    }
}
