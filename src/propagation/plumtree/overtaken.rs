//! Peers that read so slowly that something left the log before they had read it: how much, to be told now and then.
//!
//! Bounds: a count for each peer that is connected.

use std::{collections::BTreeMap, time::Duration};

use libp2p::PeerId;

use crate::platform::Instant;

/// How often it is told.
const TELL: Duration = Duration::from_secs(1);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Overtaken {
    /// Batches that each has missed since that was last told.
    missed: BTreeMap<PeerId, u64>,
    tells_at: Option<Instant>,
}

impl Overtaken {
    /// A peer has missed so many batches.
    pub(super) fn note(&mut self, peer: PeerId, batches: u64, now: Instant) {
        *self.missed.entry(peer).or_default() += batches;
        self.tells_at.get_or_insert(now + TELL);
    }

    /// Whether something is still to be told.
    pub(super) fn has_news(&self) -> bool {
        !self.missed.is_empty()
    }

    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.missed.remove(peer);
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.tells_at
    }

    /// What each has missed, once it is time to tell.
    pub(super) fn take(&mut self, now: Instant) -> BTreeMap<PeerId, u64> {
        if self.tells_at.is_none_or(|at| now < at) {
            return BTreeMap::new();
        }
        self.tells_at = None;
        std::mem::take(&mut self.missed)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Accepted, Plumtree},
        *,
    };
    use crate::{
        chain::TransactionKey,
        platform::test,
        propagation::{
            TreeConfig,
            output::{Output, Part},
            pool::Mempool,
            wire::Link,
        },
    };

    fn item(number: u64) -> Accepted {
        let mut data = number.to_le_bytes().to_vec();
        data.resize(1000, 0);
        let key = TransactionKey::of(&data);
        let data = data.into();
        Accepted { key, data, fee: 0 }
    }

    #[test]
    fn who_reads_so_slowly_that_something_is_gone_before_is_told_and_not_counted_as_served_before()
    {
        let config = TreeConfig {
            max_log_bytes: 64 << 10,
            ..TreeConfig::default()
        };
        let mut tree = Plumtree::new(config, &[1; 16]);
        let pool = Mempool::new(Default::default(), &[1; 16]);
        let [fast, slow] = [(); 2].map(|()| PeerId::random());
        let mut now = crate::platform::now();
        tree.connected(fast, now);
        tree.connected(slow, now);
        for number in 0..200_u64 {
            tree.accepted(None, [item(number)], now);
            now += Duration::from_millis(10);
            while tree.next(fast, Some(&pool), now).is_some() {}
        }
        now += Duration::from_secs(1);
        assert!(tree.is_taken(None, now), "it waits for it yet");
        while tree.next(slow, Some(&pool), now).is_some() {}
        assert!(!tree.is_taken(None, now + Duration::from_secs(60)));
        assert_eq!(tree.next_deadline(), Some(now + TELL));
        let outputs = tree.on_time(&pool, now + TELL);
        let [Output::Overtaken(peer, batches)] = outputs[..] else {
            unreachable!("{outputs:?}");
        };
        assert!(peer == slow && (100..160).contains(&batches), "{batches}");
        assert!(tree.on_time(&pool, now + TELL * 2).is_empty(), "told once");
        assert!(tree.is_taken(None, now), "it has read all the rest");
    }

    #[test]
    fn whom_we_let_wait_ourselves_is_not_slow() {
        let config = TreeConfig {
            max_log_bytes: 64 << 10,
            max_announced: 64,
            ..TreeConfig::default()
        };
        let mut tree = Plumtree::new(config, &[1; 16]);
        let pool = Mempool::new(Default::default(), &[1; 16]);
        let (peer, mut now) = (PeerId::random(), crate::platform::now());
        tree.connected(peer, now);
        tree.on_link(peer, &Link { push: false }, now);
        for number in 0..1000 {
            tree.accepted(None, [item(number)], now);
            now += Duration::from_millis(10);
            while tree.next(peer, None, now).is_some() {}
            assert!(tree.on_time(&pool, now).is_empty());
        }
    }
}
