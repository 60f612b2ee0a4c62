//! Which blocks the application has got, so that it gets none twice.
//!
//! Transactions and votes are named by their bytes, and no two copies are checked at once. A block's name is the chain's, and is known
//! after the check only: copies that come by different ways at the same time are told apart here, where the checks run.
//! Bounds: two generations of [`GENERATION`] identities.

use std::{collections::HashSet, mem, sync::Mutex};

use crate::{chain::ItemId, platform::lock::lock};

/// Identities in one generation.
const GENERATION: usize = 4096;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct DeliveredBlocks(Mutex<[HashSet<ItemId>; 2]>);

impl DeliveredBlocks {
    /// Whether this block is delivered now for the first time, lately.
    pub(crate) fn is_first(&self, id: &ItemId) -> bool {
        let mut generations = lock(&self.0);
        let [younger, elder] = &mut *generations;
        if younger.contains(id) || elder.contains(id) {
            return false;
        }
        if younger.len() >= GENERATION {
            mem::swap(younger, elder);
            younger.clear();
        }
        younger.insert(id.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn each_is_first_once_and_no_more_are_remembered_than_allowed() {
        let delivered = DeliveredBlocks::default();
        let id = |number: usize| ItemId::sha256(&number.to_le_bytes());
        for number in 0..3 * GENERATION {
            assert!(delivered.is_first(&id(number)));
            assert!(!delivered.is_first(&id(number)));
        }
        assert!(!delivered.is_first(&id(2 * GENERATION)));
        let generations = lock(&delivered.0);
        assert!(generations.iter().all(|ids| ids.len() <= GENERATION));
    }
}
