//! Budgets for all peers together and for each.

use std::{collections::HashMap, num::NonZeroU64, time::Duration};

use libp2p::PeerId;
use serde::{Deserialize, Serialize};

use super::{
    budget::{Admission, Budget},
    class::Class,
};

use crate::platform::Instant;

/// The limits of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetConfig {
    /// Bytes a second of all peers together; a node's configuration wants 200,000 at least. **Default:** `None`, no limit.
    pub global: Option<NonZeroU64>,
    /// Bytes a second of each peer. **Default:** `None`, no limit.
    pub per_peer: Option<NonZeroU64>,
    /// Peers with an account; beyond them the one that sent longest ago starts anew. **Default:** 1,024.
    pub max_peers: usize,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self {
            global: None,
            per_peer: None,
            max_peers: 1024,
        }
    }
}

/// One direction's budgets: for all peers together, and for each. A node holds two, up and down.
///
/// A driver asks [`Budgets::ready`] before it reads or sends a message, and calls [`Budgets::charge`] when it has.
///
/// Of the common budget a peer leaves something to the others, up to half a burst when it was served just now and less as
/// time goes by. So the one who has waited longest is the first to find enough, and no peer is starved by the order
/// in which a driver asks.
///
/// Bounds: `max_peers` accounts of fixed size; none where there is no limit.
#[derive(Debug)]
pub struct Budgets {
    config: BudgetConfig,
    global: Option<Budget>,
    accounts: HashMap<PeerId, Account>,
}

#[derive(Debug)]
struct Account {
    budget: Option<Budget>,
    served: Instant,
}

impl Budgets {
    /// Full buckets.
    pub fn new(config: BudgetConfig, now: Instant) -> Self {
        Self {
            config,
            global: config.global.map(|rate| Budget::new(rate, now)),
            accounts: HashMap::new(),
        }
    }

    /// Whether a message may go now; if so, it is charged.
    pub fn admit(&mut self, peer: PeerId, class: Class, bytes: usize, now: Instant) -> Admission {
        let admission = self.ready(&peer, class, now);
        if admission == Admission::Now {
            self.charge(peer, class, bytes, now);
        }
        admission
    }

    /// Whether a message of this class may go now, or whether to read on. Nothing is charged.
    pub fn ready(&mut self, peer: &PeerId, class: Class, now: Instant) -> Admission {
        let account = self.accounts.get_mut(peer);
        let reserve = account.as_ref().map_or(Duration::ZERO, |account| {
            let idle = now.saturating_duration_since(account.served);
            let share = Budget::BURST.div_duration_f64(Budget::BURST + idle);
            (Budget::BURST / 2).mul_f64(share)
        });
        let own = account.and_then(|account| account.budget.as_mut());
        let own = own.map_or(Admission::Now, |budget| budget.ready(class, now));
        let global = self.global.as_mut();
        let global = global.map_or(Admission::Now, |budget| {
            budget.ready_above(reserve, class, now)
        });
        own.later(global)
    }

    /// Whether what all peers have together is used up for now.
    pub fn is_used_up(&mut self, class: Class, now: Instant) -> bool {
        let global = self.global.as_mut();
        global.is_some_and(|budget| budget.ready(class, now) != Admission::Now)
    }

    /// Charges bytes that were sent or have come.
    pub fn charge(&mut self, peer: PeerId, class: Class, bytes: usize, now: Instant) {
        if let Some(budget) = &mut self.global {
            budget.charge(class, bytes, now);
        }
        let per_peer = self.config.per_peer;
        if per_peer.is_none() && self.global.is_none() {
            return;
        }
        if self.accounts.len() >= self.config.max_peers && !self.accounts.contains_key(&peer) {
            let oldest = self
                .accounts
                .iter()
                .min_by_key(|(_, account)| account.served);
            let oldest = oldest.map(|(peer, _)| *peer);
            oldest.map(|peer| self.accounts.remove(&peer));
        }
        let account = self.accounts.entry(peer).or_insert_with(|| Account {
            budget: per_peer.map(|rate| Budget::new(rate, now)),
            served: now,
        });
        account.served = now;
        if let Some(budget) = &mut account.budget {
            budget.charge(class, bytes, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;
    use proptest::prelude::*;

    const MEGABYTE: usize = 1_000_000;

    fn budgets(global: u64, per_peer: u64, now: Instant) -> Budgets {
        let config = BudgetConfig {
            global: NonZeroU64::new(global),
            per_peer: NonZeroU64::new(per_peer),
            max_peers: 100,
        };
        Budgets::new(config, now)
    }

    /// Someone who always has something to send, of these sizes in turn, and comes back so late.
    #[derive(Debug)]
    struct Sender {
        class: Class,
        sizes: Vec<usize>,
        lateness: Vec<Duration>,
    }

    /// What each sends when, in the order of time. Who is asked to come at the same time comes in the order of the list.
    fn run(
        budgets: &mut Budgets,
        senders: &[Sender],
        time: Duration,
        start: Instant,
    ) -> Vec<(Duration, usize, usize)> {
        let peers: Vec<_> = senders.iter().map(|_| PeerId::random()).collect();
        let mut next = vec![(start, 0); senders.len()];
        let mut sent = Vec::new();
        loop {
            let (place, _) = next
                .iter()
                .enumerate()
                .min_by_key(|(_, (at, _))| at)
                .expect("one");
            let sender = &senders[place];
            let (now, turn) = &mut next[place];
            if *now > start + time {
                return sent;
            }
            let size = sender.sizes[*turn % sender.sizes.len()];
            let lateness = sender.lateness[*turn % sender.lateness.len()];
            match budgets.admit(peers[place], sender.class, size, *now) {
                Admission::At(at) => {
                    assert!(at > *now);
                    *now = at + lateness;
                }
                Admission::Now => {
                    sent.push((*now - start, place, size));
                    *turn += 1;
                    // Votes would never end.
                    if sender.class == Class::Vote {
                        *now += lateness;
                    }
                }
            }
        }
    }

    fn total(sent: &[(Duration, usize, usize)], of: usize) -> usize {
        let own = sent.iter().filter(|(_, place, _)| *place == of);
        own.map(|(.., size)| size).sum()
    }

    /// The least and the most bytes in any ten seconds, over what a megabyte a second is in that time.
    fn windows(sent: &[(Duration, usize, usize)]) -> (f64, f64) {
        let (mut least, mut most) = (f64::MAX, 0f64);
        let (mut bytes, mut first) = (0, 0);
        for (last, (now, _, size)) in sent.iter().enumerate() {
            bytes += size;
            while *now - sent[first].0 > Duration::from_secs(10) {
                bytes -= sent[first].2;
                first += 1;
            }
            most = most.max(bytes as f64 / 1e7);
            if first > 0 && last % 16 == 0 {
                least = least.min(bytes as f64 / 1e7);
            }
        }
        (least, most)
    }

    fn senders(class: Class) -> impl Strategy<Value = Vec<Sender>> {
        let sizes = proptest::collection::vec(1usize..16_000, 50);
        let lateness = proptest::collection::vec((0u64..30).prop_map(Duration::from_millis), 50);
        let sender = (sizes, lateness).prop_map(move |(sizes, lateness)| Sender {
            class,
            sizes,
            lateness,
        });
        proptest::collection::vec(sender, 1..6)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]

        #[test]
        fn any_ten_seconds_stay_within_five_percent(
            bulk in senders(Class::Transaction),
            blocks in senders(Class::Block),
            requests in senders(Class::BlockRequest),
            kinds in 0..4,
            vote_sizes in proptest::collection::vec(100usize..300, 20),
            votes_every in 1u64..20,
        ) {
            let start = crate::platform::now();
            let mut senders = match kinds {
                0 => bulk,
                1 => blocks,
                2 => requests,
                _ => bulk.into_iter().chain(blocks).collect(),
            };
            senders.push(Sender {
                class: Class::Vote,
                sizes: vote_sizes,
                lateness: vec![Duration::from_millis(votes_every)],
            });
            let sent = run(&mut budgets(1_000_000, 0, start), &senders, Duration::from_secs(25), start);
            let (least, most) = windows(&sent);
            prop_assert!(least >= 0.95 && most <= 1.05, "{} to {}", least, most);
        }
    }

    fn steady(class: Class, size: usize) -> Sender {
        Sender {
            class,
            sizes: vec![size],
            lateness: vec![Duration::ZERO],
        }
    }

    #[test]
    fn a_flood_of_votes_is_not_delayed_and_starves_nobody() {
        let start = crate::platform::now();
        let mut budgets = budgets(1_000_000, 0, start);
        let flood = Sender {
            lateness: vec![Duration::from_millis(1)],
            ..steady(Class::Vote, 3000)
        };
        let senders = [flood, steady(Class::Transaction, 1000)];
        let ten = Duration::from_secs(10);
        let sent = run(&mut budgets, &senders, ten, start);
        assert_eq!(total(&sent, 0), 10_001 * 3000, "three times the budget");
        let bulk = total(&sent, 1);
        assert!((1_240_000..1_360_000).contains(&bulk), "an eighth: {bulk}");
        // The flood's debt is forgotten soon after its end.
        let soon = start + ten + Budget::VOTE_DEBT * 8 / 7 + Duration::from_millis(1);
        let peer = PeerId::random();
        assert_eq!(budgets.admit(peer, Class::Block, 1, soon), Admission::Now);
    }

    #[test]
    fn blocks_come_before_bulk() {
        let start = crate::platform::now();
        let mut budgets = budgets(1_000_000, 0, start);
        let senders = [steady(Class::Sync, 1000), steady(Class::Block, 10_000)];
        let sent = run(&mut budgets, &senders, Duration::from_secs(8), start);
        let (bulk, blocks) = (total(&sent, 0), total(&sent, 1));
        assert!((1_000_000..1_120_000).contains(&bulk), "{bulk}");
        assert!((7_000_000..7_120_000).contains(&blocks), "{blocks}");
    }

    #[test]
    fn peers_have_their_own_limits_within_the_common_one() {
        let start = crate::platform::now();
        let mut budgets = budgets(1_000_000, 300_000, start);
        let ten = Duration::from_secs(10);
        let senders = [(); 2].map(|()| steady(Class::Sync, 5000));
        let sent = run(&mut budgets, &senders, ten, start);
        for place in 0..2 {
            let own = total(&sent, place);
            assert!((3_000_000..3_100_000).contains(&own), "{own}");
        }
        let senders = [(); 5].map(|()| steady(Class::Sync, 5000));
        let sent = run(&mut budgets, &senders, ten, start + ten);
        let all: usize = sent.iter().map(|(.., size)| size).sum();
        assert!((10_000_000..10_200_000).contains(&all), "{all}");
    }

    #[test]
    fn no_peer_is_starved_by_the_order_in_which_they_are_asked() {
        let start = crate::platform::now();
        let mut budgets = budgets(1_000_000, 0, start);
        let senders = [(); 5].map(|()| steady(Class::Sync, 5000));
        let sent = run(&mut budgets, &senders, Duration::from_secs(10), start);
        for place in 0..senders.len() {
            let own = total(&sent, place);
            assert!((1_700_000..2_300_000).contains(&own), "{place}: {own}");
        }
    }

    #[test]
    fn reading_pauses_until_what_came_is_paid_for() {
        let (now, peer) = (crate::platform::now(), PeerId::random());
        let mut down = budgets(0, 1_000_000, now);
        assert_eq!(down.ready(&peer, Class::Sync, now), Admission::Now);
        down.charge(peer, Class::Sync, MEGABYTE, now);
        let Admission::At(at) = down.ready(&peer, Class::Sync, now) else {
            panic!("in debt");
        };
        assert_eq!((at - now).as_millis(), 900, "all but the burst");
        assert_eq!(down.ready(&peer, Class::Vote, now), Admission::Now);
        assert_eq!(down.ready(&peer, Class::Block, now), Admission::Now);
        assert_eq!(down.ready(&peer, Class::Sync, at), Admission::Now);
    }

    #[test]
    fn accounts_are_bounded_and_no_limit_keeps_none() {
        let now = crate::platform::now();
        let mut unlimited = budgets(0, 0, now);
        let mut limited = budgets(1, 1, now);
        for number in 0..200 {
            let (peer, now) = (PeerId::random(), now + Duration::from_millis(number));
            for class in Class::ALL {
                let admission = unlimited.admit(peer, class, usize::MAX, now);
                assert_eq!(admission, Admission::Now);
                limited.charge(peer, class, usize::MAX, now);
            }
            assert!(limited.accounts.contains_key(&peer));
        }
        assert_eq!((unlimited.accounts.len(), limited.accounts.len()), (0, 100));
        let peers: Vec<_> = limited.accounts.keys().copied().collect();
        for peer in peers {
            assert_ne!(limited.ready(&peer, Class::Block, now), Admission::Now);
        }
    }
}
