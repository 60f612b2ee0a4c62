//! What was here and is not taken from peers again for a while: it found no room, the chain ignores it for now, or nobody took it up in time.
//!
//! Peers go on offering such a transaction, each of them once by an announcement and then in each comparison of pools. So its name is
//! remembered; its maker may hand it in again at any time. What its own chain said, what pays better and its age put it here, and nothing that a peer says.
//!
//! - **Crowded out.** It was good, and paid less than the rest. If it were remembered for long, a flood of better payers would keep it out
//!   long after the flood is in a block. So it is forgotten when the pool has room again, and after [`CROWDED`] to twice that in any case.
//! - **Ignored.** The next block may make it valid, or the transaction that it builds on may be on its way. So it may come again after
//!   [`FIRST_PAUSE`], and after four times as long each time that it is ignored once more, up to [`LONGEST_PAUSE`]: what
//!   stays useless is checked once in that time, however many peers have it.
//! - **Expired.** Each node's clock began when the transaction came there, so some peers have it for as long again. It is neither fetched nor
//!   wanted of those for [`MempoolConfig::max_age`](super::MempoolConfig) to twice that. Who pushes it brings it all the same: what was found by a comparison, or fetched, is
//!   pushed by nobody, so its maker has sent it again.
//!
//! A comparison names transactions by hashes of their whole keys under a key of its own: so the keys are kept, and stand beside those that are too young to be compared.
//!
//! Bounds: of each kind the last of these at least, an eighth of [`MempoolConfig::max_seen`](super::MempoolConfig), and at most twice as many. With the default
//! 57,344, which take 2.5 to 4 MiB of each kind; a comparison finds 24,000.

use std::time::Duration;

use super::seen::Memory;
use crate::{
    chain::{ShortId, TransactionKey},
    platform::Instant,
};

/// How long at least a transaction is remembered for which the pool had no room.
pub(crate) const CROWDED: Duration = Duration::from_secs(60);
/// How long one is not taken that the chain has ignored once, and at most.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_secs(10);
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Of what is remembered of confirmed transactions, one part in so many.
const PART: usize = 8;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Unwanted {
    crowded: Lasting<TransactionKey>,
    ignored: Lasting<Ignored>,
    expired: Lasting<TransactionKey>,
}

/// The chain has ignored it, and it is not taken again until then.
#[derive(Clone, Copy, Debug)]
struct Ignored {
    key: TransactionKey,
    pause: Duration,
    until: Instant,
}

/// What is remembered for some time, and up to twice as long.
#[derive(Debug)]
struct Lasting<V> {
    memory: Memory<V>,
    lasts: Duration,
    /// When the younger generation becomes the elder; `None`: there is nothing.
    ages_at: Option<Instant>,
}

impl Unwanted {
    /// Nothing was here. `max_age`: how long the pool keeps a transaction. `seed` keys the tables: 16 random bytes that no peer knows.
    pub(crate) fn new(max_seen: usize, max_age: Duration, seed: &[u8; 16]) -> Self {
        let generation = (max_seen / PART).max(1);
        Self {
            crowded: Lasting::new(generation, CROWDED, seed),
            ignored: Lasting::new(generation, 2 * LONGEST_PAUSE, seed),
            expired: Lasting::new(generation, max_age, seed),
        }
    }

    /// The chain has accepted it, and the pool has no room for it.
    pub(crate) fn crowd_out(&mut self, key: TransactionKey, now: Instant) {
        self.crowded.insert(key.short(), key, now);
    }

    /// Whether the pool had no room for this lately.
    pub(crate) fn is_crowded_out(&self, id: ShortId) -> bool {
        self.crowded.memory.contains(id)
    }

    /// The pool has room again: what had none may come.
    pub(crate) fn forget_crowded_out(&mut self) {
        self.crowded.forget();
    }

    /// The chain can do nothing with it for now.
    pub(crate) fn ignore(&mut self, key: TransactionKey, now: Instant) {
        let before = self.ignored.memory.get(key.short());
        let pause = before.map_or(FIRST_PAUSE, |before| {
            before.pause.saturating_mul(4).min(LONGEST_PAUSE)
        });
        let until = now + pause;
        let ignored = Ignored { key, pause, until };
        self.ignored.insert(key.short(), ignored, now);
    }

    /// It has been here for as long as anything is.
    pub(crate) fn expire(&mut self, key: TransactionKey, now: Instant) {
        self.expired.insert(key.short(), key, now);
    }

    /// Whether this is not taken, though it is sent: it had no room, or was ignored.
    pub(crate) fn is_refused(&self, id: ShortId, now: Instant) -> bool {
        let ignored = self.ignored.memory.get(id);
        self.is_crowded_out(id) || ignored.is_some_and(|ignored| now < ignored.until)
    }

    /// Whether this is not asked for: it is not taken, or has expired here.
    pub(crate) fn is_unasked(&self, id: ShortId, now: Instant) -> bool {
        self.is_refused(id, now) || self.expired.memory.contains(id)
    }

    /// All that is not asked for.
    pub(crate) fn keys(&self, now: Instant) -> Vec<TransactionKey> {
        let ignored = self.ignored.memory.values();
        let ignored = ignored.filter(|ignored| now < ignored.until);
        let ignored = ignored.map(|ignored| ignored.key);
        let others = [&self.crowded, &self.expired].into_iter();
        let others = others.flat_map(|others| others.memory.values().copied());
        others.chain(ignored).collect()
    }

    /// Forgets what is long ago.
    pub(crate) fn on_time(&mut self, now: Instant) {
        self.crowded.on_time(now);
        self.ignored.on_time(now);
        self.expired.on_time(now);
    }

    /// When [`Self::on_time`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let ages = [
            self.crowded.ages_at,
            self.ignored.ages_at,
            self.expired.ages_at,
        ];
        ages.into_iter().flatten().min()
    }
}

impl<V> Lasting<V> {
    fn new(generation: usize, lasts: Duration, seed: &[u8; 16]) -> Self {
        Self {
            memory: Memory::new(seed, generation),
            lasts,
            ages_at: None,
        }
    }

    fn insert(&mut self, id: ShortId, value: V, now: Instant) {
        self.memory.insert(id, value);
        if self.ages_at.is_none() {
            self.ages_at = now.checked_add(self.lasts);
        }
    }

    fn forget(&mut self) {
        if self.ages_at.take().is_some() {
            self.memory.age();
            self.memory.age();
        }
    }

    fn on_time(&mut self, now: Instant) {
        while self.ages_at.is_some_and(|at| at <= now) {
            self.memory.age();
            let next = self.ages_at.and_then(|at| at.checked_add(self.lasts));
            self.ages_at = next.filter(|_| !self.memory.is_empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    const HOUR: Duration = Duration::from_secs(3600);

    fn unwanted(max_seen: usize) -> Unwanted {
        Unwanted::new(max_seen, HOUR, &[7; 16])
    }

    fn key(number: u64) -> TransactionKey {
        TransactionKey::of(&number.to_le_bytes())
    }

    #[test]
    fn what_had_no_room_is_known_for_a_while_or_until_there_is_some() {
        let (mut unwanted, now) = (unwanted(1000), crate::platform::now());
        let is_known = |unwanted: &Unwanted, number| unwanted.is_crowded_out(key(number).short());
        unwanted.crowd_out(key(1), now);
        unwanted.on_time(now + CROWDED * 3 / 2);
        unwanted.crowd_out(key(2), now + CROWDED * 3 / 2);
        assert!(is_known(&unwanted, 1));
        unwanted.on_time(now + CROWDED * 2);
        assert!(!is_known(&unwanted, 1) && is_known(&unwanted, 2));
        unwanted.forget_crowded_out();
        assert!(!is_known(&unwanted, 2) && unwanted.next_deadline().is_none());
        // Long asleep.
        unwanted.crowd_out(key(3), now + CROWDED * 4);
        unwanted.on_time(now + CROWDED * 400);
        assert!(!is_known(&unwanted, 3) && unwanted.next_deadline().is_none());
    }

    #[test]
    fn a_flood_of_what_has_no_room_is_bounded() {
        let (mut unwanted, now) = (unwanted(10 * PART), crate::platform::now());
        (0..1000).for_each(|number| unwanted.crowd_out(key(number), now));
        (0..1000).for_each(|number| unwanted.ignore(key(number), now));
        (0..1000).for_each(|number| unwanted.expire(key(number), now));
        let known = unwanted.keys(now).len();
        assert!((30..=60).contains(&known), "{known}");
    }

    #[test]
    fn what_is_ignored_again_and_again_is_taken_ever_more_seldom() {
        let (mut unwanted, start) = (unwanted(1000), crate::platform::now());
        let (id, mut taken) = (key(1).short(), Vec::new());
        for second in 0..300 {
            let now = start + Duration::from_secs(second);
            unwanted.on_time(now);
            if !unwanted.is_refused(id, now) {
                taken.push(second);
                unwanted.ignore(key(1), now);
            }
            assert_eq!(unwanted.keys(now), [key(1)]);
        }
        assert_eq!(taken, [0, 10, 50, 110, 170, 230, 290]);
    }

    #[test]
    fn what_has_expired_is_taken_of_who_sends_it_and_not_asked_for() {
        let (mut unwanted, now) = (unwanted(1000), crate::platform::now());
        let id = key(1).short();
        unwanted.expire(key(1), now);
        assert!(unwanted.is_unasked(id, now) && !unwanted.is_refused(id, now));
        unwanted.on_time(now + 2 * HOUR);
        assert!(!unwanted.is_unasked(id, now) && unwanted.keys(now).is_empty());
    }
}
