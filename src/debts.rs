//! What those who are gone owe, for the day when they come again: to leave and come back clears nobody's account.
//!
//! Bounds: [`MAX_GONE`] accounts, and each until it rests. Of more, those go first that rest first.

use std::collections::{BTreeSet, HashMap};

use libp2p::PeerId;

use crate::platform::Instant;

/// How many are remembered.
const MAX_GONE: usize = 1024;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Debts<T> {
    accounts: HashMap<PeerId, (Instant, T)>,
    /// When each of them rests.
    order: BTreeSet<(Instant, PeerId)>,
}

impl<T> Default for Debts<T> {
    fn default() -> Self {
        Self {
            accounts: HashMap::new(),
            order: BTreeSet::new(),
        }
    }
}

impl<T> Debts<T> {
    /// A peer has left, and its account rests at this time: it is kept until then.
    pub(crate) fn keep(&mut self, peer: PeerId, account: T, rests_at: Instant, now: Instant) {
        self.take(&peer);
        self.accounts.insert(peer, (rests_at, account));
        self.order.insert((rests_at, peer));
        while let Some(&(at, first)) = self.order.first()
            && (at <= now || self.order.len() > MAX_GONE)
        {
            self.take(&first);
        }
    }

    /// The account of a peer that is gone, if it may owe something yet.
    pub(crate) fn get(&self, peer: &PeerId) -> Option<&T> {
        self.accounts.get(peer).map(|(_, account)| account)
    }

    /// A peer is here again: its account, if it may owe something yet.
    pub(crate) fn take(&mut self, peer: &PeerId) -> Option<T> {
        let (rests_at, account) = self.accounts.remove(peer)?;
        self.order.remove(&(rests_at, *peer));
        Some(account)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::platform::test;

    #[test]
    fn the_last_account_of_who_left_is_kept_until_it_rests_and_few_are() {
        let (mut debts, now) = (Debts::default(), crate::platform::now());
        let second = Duration::from_secs(1);
        let [one, two] = [PeerId::random(), PeerId::random()];
        debts.keep(one, 1, now + second, now);
        debts.keep(one, 2, now + 3 * second, now);
        debts.keep(two, 3, now + second, now);
        debts.keep(two, 4, now, now);
        assert_eq!(debts.take(&two), None, "it rests");
        debts.keep(two, 5, now + 4 * second, now + 2 * second);
        assert_eq!(debts.get(&one), Some(&2));
        assert_eq!((debts.take(&one), debts.take(&one)), (Some(2), None));
        for number in 0..2 * MAX_GONE {
            debts.keep(PeerId::random(), number, now + 3 * second, now);
            // Who comes and goes without end has one account.
            debts.keep(one, number, now + 5 * second, now);
        }
        assert_eq!(
            (debts.accounts.len(), debts.order.len()),
            (MAX_GONE, MAX_GONE)
        );
        assert_eq!(debts.take(&two), Some(5), "who owes longest is kept");
    }
}
