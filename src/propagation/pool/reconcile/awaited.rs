//! What an initiator has wanted of the other side, to know it by when it comes.

use super::coding::SessionHash;
use crate::chain::TransactionKey;

/// Transactions that were wanted of a peer, by their short ids. Eight bytes and a mark for each.
#[derive(Clone, Debug, PartialEq)]
pub struct Awaited {
    /// Of the session.
    salts: [u64; 2],
    /// Ascending, and which of them have come.
    short_ids: Vec<u64>,
    came: Vec<bool>,
    rest: usize,
}

impl Awaited {
    /// `short_ids` are ascending, as in a [`Want`](super::Want).
    pub(super) fn new(salts: [u64; 2], short_ids: Vec<u64>) -> Self {
        Self {
            salts,
            came: vec![false; short_ids.len()],
            rest: short_ids.len(),
            short_ids,
        }
    }

    /// A transaction has come. Whether it was wanted, which it is once.
    pub fn came(&mut self, key: &TransactionKey) -> bool {
        let [initiator, responder] = self.salts;
        let short_id = SessionHash::new(initiator, responder).short_id(key);
        let place = self.short_ids.binary_search(&short_id).ok();
        let came = place.and_then(|place| self.came.get_mut(place));
        let is_first = came.is_some_and(|came| !std::mem::replace(came, true));
        self.rest -= usize::from(is_first);
        is_first
    }

    /// How many were wanted.
    pub fn len(&self) -> usize {
        self.short_ids.len()
    }

    /// Whether none is to come any more.
    pub fn is_empty(&self) -> bool {
        self.rest == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn each_that_was_wanted_is_known_once() {
        let keys = [1_u8, 2, 3].map(|number| TransactionKey::of(&[number]));
        let hash = SessionHash::new(5, 6);
        let mut short_ids: Vec<_> = keys[..2].iter().map(|key| hash.short_id(key)).collect();
        short_ids.sort_unstable();
        let mut awaited = Awaited::new([5, 6], short_ids);
        assert_eq!(keys.map(|key| awaited.came(&key)), [true, true, false]);
        assert!(awaited.is_empty() && awaited.len() == 2);
        assert!(!awaited.came(&keys[0]), "it has come");
    }
}
