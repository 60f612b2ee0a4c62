//! Transfers that wait for a block, for whoever makes one.
//!
//! Bounds: [`MAX_POOL`] transfers. When it is full the one with the lowest fee goes, and what pays no more does not come in. Of two with
//! one nonce of one account the one that pays more stays.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::address::Address;
use super::transfer::Transfer;

/// How many transfers wait at most: 4 MB with their places.
pub(super) const MAX_POOL: usize = 16_384;

#[derive(Clone, Debug, Default)]
pub(super) struct Pool {
    transfers: BTreeMap<(Address, u64), Transfer>,
    /// The same by fee.
    by_fee: BTreeSet<(u64, Address, u64)>,
}

impl Pool {
    pub(super) fn insert(&mut self, transfer: Transfer) {
        let place = (transfer.from, transfer.nonce);
        if let Some(before) = self.transfers.get(&place)
            && before.fee >= transfer.fee
        {
            return;
        }
        self.remove(place);
        self.transfers.insert(place, transfer);
        self.by_fee.insert((transfer.fee, place.0, place.1));
        if self.transfers.len() > MAX_POOL
            && let Some(&(_, from, nonce)) = self.by_fee.first()
        {
            self.remove((from, nonce));
        }
    }

    fn remove(&mut self, place: (Address, u64)) {
        if let Some(transfer) = self.transfers.remove(&place) {
            self.by_fee.remove(&(transfer.fee, place.0, place.1));
        }
    }

    /// An account has sent so many: what comes before has no use any more.
    pub(super) fn sent(&mut self, from: Address, count: u64) {
        let old = self.transfers.range((from, 0)..(from, count));
        let old: Vec<_> = old.map(|(place, _)| *place).collect();
        old.into_iter().for_each(|place| self.remove(place));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.transfers.len(), self.by_fee.len());
        self.transfers.len()
    }

    /// Transfers that `execute` takes, those that pay most first, each account's in their order.
    pub(super) fn choose<E>(
        &self,
        most: usize,
        mut execute: impl FnMut(&Transfer) -> Result<bool, E>,
    ) -> Result<Vec<Transfer>, E> {
        let mut next = BinaryHeap::new();
        let mut last = None;
        for ((from, nonce), transfer) in &self.transfers {
            if last.replace(from) != Some(from) {
                next.push((transfer.fee, *from, *nonce));
            }
        }
        let mut chosen = Vec::new();
        while chosen.len() < most
            && let Some((_, from, nonce)) = next.pop()
        {
            let Some(transfer) = self.transfers.get(&(from, nonce)) else {
                continue;
            };
            if !execute(transfer)? {
                continue;
            }
            chosen.push(*transfer);
            let following = nonce.checked_add(1).map(|nonce| (from, nonce));
            if let Some(following) = following.and_then(|place| self.transfers.get(&place)) {
                next.push((following.fee, from, following.nonce));
            }
        }
        Ok(chosen)
    }
}
