//! What waits for each peer to read, and for whom our own messages wait.
//!
//! gossipsub has a queue to each peer, limited in messages, each with its own copy, and tells nothing of it but whether it is empty
//! ([`super::inner::has_read`]). So what goes to a peer is counted, and counts as waiting until its queue was seen empty. From
//! half of its room on, the queue is looked at every [`LOOK`], and what is published here waits for it: so nothing is lost to a
//! peer that reads, however much there is to publish. Who has not read by the end of [`PATIENCE`] is waited for no longer:
//! what then finds no room is dropped for it alone, and told ([`Unread::lost`]). The other half is for what cannot wait.
//!
//! Who reads slowly holds up others little. Everybody has [`MOMENT`] to read; beyond it peers are waited for out of a purse that all share, and
//! into which publishing pays: [`PATIENCE`] for each half of a peer's room. So peers that take turns in reading late hold up no more than
//! the slowest one alone may, but for the moments and the shares: each peer's waits are counted, and forgotten as publishing pays;
//! where the purse is empty, those go that cost more than an equal share of [`PATIENCE`] of late, and who cost less is waited for as
//! before. So all together cost twice what one alone may at most, and who reads a little late loses nothing to those
//! that read very late. Whoever goes is at no fault; but who had [`PATIENCE`] to itself and did not read is not waited for within [`REST`].
//! What a peer asked for makes nobody wait.
//!
//! All together have a room too, for what peers may leave unread each would add up. Each may have as much of it as it leaves free (A. Choudhury,
//! E. Hahne, 1998), an equal share at least, and one message always. Our own messages wait from half of that on, so who reads loses nothing, however much
//! others leave unread.
//!
//! Bounds: an account for each peer that something went to, and a mark and a cost for each that was waited for of late.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use libp2p::PeerId;

use crate::platform::Instant;

/// How long our own messages wait for a peer to read: while it may hold them up, it has so long for two megabytes.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// How long everybody is waited for, whatever others have done.
const MOMENT: Duration = Duration::from_millis(30);
/// How long nobody waits for who was waited for in vain.
const REST: Duration = Duration::from_secs(10);
/// How often a full queue is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// How often what was dropped is told.
const TELL: Duration = Duration::from_secs(1);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Unread {
    max_bytes: usize,
    max_messages: usize,
    /// What may wait for all together, in bytes, but for one message each and shares of those that came when they were larger. And what does.
    max_together: usize,
    together: usize,
    accounts: HashMap<PeerId, Account>,
    /// Who is waited for, and since when.
    waited: BTreeMap<PeerId, Instant>,
    /// How long slow peers may be waited for yet, and until when that was paid.
    purse: Duration,
    paid_until: Option<Instant>,
    /// How much publishing has paid since the beginning, and what each peer has cost beyond the moments: as much more as it costs of late.
    earned: Duration,
    costs: BTreeMap<PeerId, Duration>,
    /// Who was waited for in vain, and until when it is not again.
    rests: BTreeMap<PeerId, Instant>,
    looks_at: Option<Instant>,
    /// What was dropped and not told yet.
    lost: BTreeMap<PeerId, usize>,
    tells_at: Option<Instant>,
}

/// What went to a peer since its queue was last seen empty.
#[derive(Debug, Default)]
struct Account {
    bytes: usize,
    messages: usize,
    /// What of it the peer did not ask for.
    unasked: (usize, usize),
    /// Whether it is waited for, or was and did not read.
    was_waited: bool,
    looked_at: Option<Instant>,
}

impl Unread {
    /// So many bytes, and messages, may wait for one peer, and so many bytes for all together.
    pub(super) fn new(max_bytes: usize, max_messages: usize, max_together: usize) -> Self {
        Self {
            max_bytes,
            max_messages,
            max_together,
            together: 0,
            accounts: HashMap::new(),
            waited: BTreeMap::new(),
            purse: PATIENCE,
            paid_until: None,
            earned: Duration::ZERO,
            costs: BTreeMap::new(),
            rests: BTreeMap::new(),
            looks_at: None,
            lost: BTreeMap::new(),
            tells_at: None,
        }
    }

    /// A message of our own is published: for that slow peers may be waited for.
    pub(super) fn earn(&mut self, size: usize) {
        let share = |part: usize, half: usize| PATIENCE.mul_f64(part as f64 / half.max(1) as f64);
        let worth = share(size, self.max_bytes / 2).max(share(1, self.max_messages / 2));
        self.purse = (self.purse + worth).min(PATIENCE);
        self.earned = self.earned.saturating_add(worth);
    }

    /// A message goes to a peer, for which may be waited. False: there is no room for it, and it must not wait.
    pub(super) fn add(&mut self, peer: PeerId, size: usize, now: Instant) -> bool {
        if !self.count(peer, size, now) {
            return false;
        }
        let rests = self.rests.get(&peer).is_some_and(|until| now < *until);
        let most = self.most(&peer);
        if let Some(account) = self.accounts.get_mut(&peer) {
            account.unasked.0 += size;
            account.unasked.1 += 1;
            let (bytes, messages) = account.unasked;
            let is_half = bytes > most / 2 || messages > self.max_messages / 2;
            if is_half && !rests && !std::mem::replace(&mut account.was_waited, true) {
                self.waited.insert(peer, now);
                self.looks_at.get_or_insert(now + LOOK);
            }
        }
        true
    }

    /// A message goes to a peer that asked for it, which nobody waits for. False: there is no room for it.
    pub(super) fn count(&mut self, peer: PeerId, size: usize, now: Instant) -> bool {
        self.accounts.entry(peer).or_default();
        if !self.fits(&peer, size) {
            self.lose(peer, now);
            return false;
        }
        if let Some(account) = self.accounts.get_mut(&peer) {
            account.bytes += size;
            account.messages += 1;
            self.together += size;
        }
        true
    }

    /// Whether there is room for a message to a peer.
    pub(super) fn fits(&self, peer: &PeerId, size: usize) -> bool {
        let account = self.accounts.get(peer);
        let before = account.map_or((0, 0), |account| (account.bytes, account.messages));
        let (bytes, messages) = (before.0 + size, before.1 + 1);
        let is_over = messages > 1 && bytes > self.most(peer);
        !is_over && bytes <= self.max_bytes && messages <= self.max_messages
    }

    /// What may wait for one peer, in bytes, beside what waits for others.
    fn most(&self, peer: &PeerId) -> usize {
        let others = self.together - self.bytes(peer);
        let left_free = self.max_together.saturating_sub(others) / 2;
        let share = self.max_together / self.accounts.len().max(1);
        left_free.max(share).min(self.max_bytes)
    }

    /// What waits for a peer, in bytes.
    pub(super) fn bytes(&self, peer: &PeerId) -> usize {
        self.accounts.get(peer).map_or(0, |account| account.bytes)
    }

    /// A message to a peer is dropped.
    pub(super) fn lose(&mut self, peer: PeerId, now: Instant) {
        *self.lost.entry(peer).or_default() += 1;
        self.tells_at.get_or_insert(now + TELL);
    }

    /// Whether a peer, which may have no more than so many bytes, has no room for a message, and its queue is to be looked at before that
    /// is dropped.
    pub(super) fn is_full(
        &mut self,
        peer: &PeerId,
        size: usize,
        most: usize,
        now: Instant,
    ) -> bool {
        let most = most.min(self.most(peer));
        let Some(account) = self.accounts.get_mut(peer) else {
            return false;
        };
        let is_full = account.bytes + size > most || account.messages >= self.max_messages;
        let lately = account.looked_at.is_some_and(|at| now < at + LOOK);
        let looks = is_full && !lately;
        if looks {
            account.looked_at = Some(now);
        }
        looks
    }

    /// Whether our own messages need wait for nobody.
    pub(super) fn has_room(&self) -> bool {
        self.waited.is_empty()
    }

    /// The peers that are waited for.
    pub(super) fn waited(&self) -> Vec<PeerId> {
        self.waited.keys().copied().collect()
    }

    /// A peer's queue is empty, or the peer is gone.
    pub(super) fn clear(&mut self, peer: &PeerId) {
        let account = self.accounts.remove(peer).unwrap_or_default();
        self.together -= account.bytes;
        self.waited.remove(peer);
    }

    /// The peers that have something to read, as far as is known.
    pub(super) fn peers(&self) -> Vec<PeerId> {
        self.accounts.keys().copied().collect()
    }

    /// When [`Self::on_time`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let looks_at = self.looks_at.filter(|_| !self.waited.is_empty());
        looks_at.into_iter().chain(self.tells_at).min()
    }

    /// Lets those go who were waited for long enough. True: it is time to look at the queues of the others.
    pub(super) fn on_time(&mut self, now: Instant) -> bool {
        self.pay(now);
        let earned = self.earned;
        self.costs.retain(|_, cost| *cost > earned);
        let share = PATIENCE / u32::try_from(self.costs.len().max(1)).unwrap_or(u32::MAX);
        let (rests, purse, costs) = (&mut self.rests, self.purse, &self.costs);
        rests.retain(|_, until| now < *until);
        self.waited.retain(|peer, since| {
            let waited = now.saturating_duration_since(*since);
            if waited >= PATIENCE {
                rests.insert(*peer, now + REST);
            }
            let cost = costs.get(peer).map_or(Duration::ZERO, |all| *all - earned);
            waited < PATIENCE && (waited < MOMENT || !purse.is_zero() || cost <= share)
        });
        let looks = self.looks_at.is_some_and(|at| at <= now);
        if looks {
            self.looks_at = (!self.waited.is_empty()).then(|| now + LOOK);
        }
        looks
    }

    /// Takes out of the purse for how long slow peers were waited for, and counts what each of them cost.
    fn pay(&mut self, now: Instant) {
        let paid_until = self.paid_until.replace(now);
        let waited = |since: Instant| {
            let late = since + MOMENT;
            now.saturating_duration_since(paid_until.map_or(late, |paid| paid.max(late)))
        };
        let mut longest = Duration::ZERO;
        for (peer, since) in &self.waited {
            let waited = waited(*since);
            longest = longest.max(waited);
            if !waited.is_zero() {
                let cost = self.costs.entry(*peer).or_insert(self.earned);
                *cost = (*cost).max(self.earned).saturating_add(waited);
            }
        }
        self.purse = self.purse.saturating_sub(longest);
    }

    /// How many messages were dropped for whom, when it is time to tell.
    pub(super) fn lost(&mut self, now: Instant) -> BTreeMap<PeerId, usize> {
        if self.tells_at.is_none_or(|at| now < at) {
            return BTreeMap::new();
        }
        self.tells_at = None;
        std::mem::take(&mut self.lost)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::platform::test;

    #[test]
    fn who_reads_is_waited_for_and_loses_nothing() {
        let (mut unread, peer, now) = (
            Unread::new(1000, 100, 8000),
            PeerId::random(),
            crate::platform::now(),
        );
        assert!(unread.add(peer, 500, now) && unread.has_room());
        assert!(unread.add(peer, 1, now) && !unread.has_room());
        assert_eq!(unread.deadline(), Some(now + LOOK));
        assert!(unread.on_time(now + LOOK) && unread.waited() == [peer]);
        unread.clear(&peer);
        assert!(unread.has_room() && unread.deadline().is_none());
        assert!(unread.add(peer, 1000, now) && !unread.has_room());
    }

    #[test]
    fn who_does_not_read_is_waited_for_once_and_loses_alone() {
        let (mut unread, now) = (Unread::new(1000, 10, 8000), crate::platform::now());
        let (deaf, other) = (PeerId::random(), PeerId::random());
        assert!((0..6).all(|_| unread.add(deaf, 1, now)) && !unread.has_room());
        unread.on_time(now + PATIENCE);
        assert!(unread.has_room());
        let later = now + PATIENCE;
        assert!((0..4).all(|_| unread.add(deaf, 1, later)) && unread.has_room());
        let mut is_full = || unread.is_full(&deaf, 1, usize::MAX, later);
        assert!(is_full() && !is_full());
        assert!(!unread.add(deaf, 1, later) && unread.add(other, 1, later));
        assert!(unread.lost(later).is_empty(), "told together");
        let lost: Vec<_> = unread.lost(later + TELL).into_iter().collect();
        assert_eq!(lost, [(deaf, 1)]);
        assert!(unread.deadline().is_none());
    }

    #[test]
    fn many_that_do_not_read_hold_little_more_than_their_room_and_who_reads_loses_nothing() {
        let (mut unread, now) = (Unread::new(1000, 100, 2000), crate::platform::now());
        let deaf: Vec<_> = (0..20).map(|_| PeerId::random()).collect();
        for peer in &deaf {
            (0..100).for_each(|_| _ = unread.add(*peer, 10, now));
        }
        assert!(unread.together <= 4 * 2000, "{}", unread.together);
        let reader = PeerId::random();
        for _ in 0..100 {
            assert!(unread.add(reader, 900, now), "it has read all");
            assert!(!unread.add(reader, 900, now), "and now it has not");
            let is_full = unread.is_full(&reader, 1, usize::MAX, now + LOOK);
            assert!(is_full, "so it is looked at");
            unread.clear(&reader);
        }
        deaf.iter().for_each(|peer| unread.clear(peer));
        assert_eq!(unread.together, 0);
    }

    #[test]
    fn who_reads_is_waited_for_and_loses_nothing_where_four_that_do_not_have_filled_the_room() {
        let (mut unread, mut now) = (Unread::new(1000, 1000, 4000), crate::platform::now());
        let deaf = [(); 4].map(|()| PeerId::random());
        let readers = [(); 16].map(|()| PeerId::random());
        for peer in &deaf {
            (0..100).for_each(|_| _ = unread.add(*peer, 10, now));
        }
        now += PATIENCE;
        unread.on_time(now);
        assert!(unread.has_room(), "they are waited for no longer");
        let mut published = 0;
        for _ in 0..1000 {
            if unread.has_room() {
                unread.earn(50);
                published += 1;
                deaf.iter().for_each(|peer| _ = unread.add(*peer, 50, now));
                assert!(readers.iter().all(|peer| unread.add(*peer, 50, now)));
            } else {
                now += LOOK;
                unread.on_time(now);
                readers.iter().for_each(|peer| unread.clear(peer));
            }
        }
        assert!(published > 100, "{published}");
        assert!(unread.together <= 2 * 4000, "{}", unread.together);
    }

    #[test]
    fn what_is_published_reaches_all_however_many_they_are() {
        let (mut unread, now) = (Unread::new(1000, 100, 2000), crate::platform::now());
        for _ in 0..100 {
            assert!(unread.add(PeerId::random(), 1000, now));
        }
    }

    #[test]
    fn eleven_that_take_turns_hold_up_little_and_no_latecomer_pays() {
        let (mut unread, start) = (Unread::new(1 << 20, 100, 8 << 20), crate::platform::now());
        let strangers = [(); 11].map(|()| PeerId::random());
        let honest = PeerId::random();
        // Each stranger reads all just before it would be let go, and they are filled one after the other.
        for (place, stranger) in strangers.iter().enumerate() {
            (0..4 * place).for_each(|_| assert!(unread.add(*stranger, 1, start)));
        }
        let (mut now, mut published, mut lost) = (start, 0, 0);
        let mut reads_at = [None; 11];
        for _ in 0..6000 {
            if unread.has_room() {
                unread.earn(1);
                published += 1;
                strangers
                    .iter()
                    .for_each(|peer| _ = unread.add(*peer, 1, now));
                lost += usize::from(!unread.add(honest, 1, now));
            }
            now += LOOK;
            unread.on_time(now);
            for (stranger, reads_at) in strangers.iter().zip(&mut reads_at) {
                if unread.waited.contains_key(stranger) {
                    reads_at.get_or_insert(now + PATIENCE * 9 / 10);
                }
                if reads_at.is_some_and(|at| at <= now) {
                    *reads_at = None;
                    unread.clear(stranger);
                }
            }
            // The honest one reads what it has within the moment.
            if unread
                .waited
                .get(&honest)
                .is_some_and(|since| now >= *since + LOOK)
            {
                unread.clear(&honest);
            }
        }
        // Half of a room for each two seconds, and the moments.
        let per_half = PATIENCE * 2 + (MOMENT + LOOK) * 12 + LOOK * 50;
        let least = 50 * 60 * 1000 / per_half.as_millis();
        assert!(published >= least, "{published} of at least {least}");
        assert!(lost == 0 && !unread.rests.contains_key(&honest));
    }

    #[test]
    fn who_comes_late_to_be_waited_for_is_not_put_to_rest_for_others() {
        let (mut unread, now) = (Unread::new(1000, 100, 8000), crate::platform::now());
        let (deaf, late) = (PeerId::random(), PeerId::random());
        assert!(unread.add(deaf, 600, now));
        let almost = now + PATIENCE - LOOK;
        unread.on_time(almost);
        assert!(unread.add(late, 600, almost));
        unread.on_time(now + PATIENCE);
        assert_eq!(unread.waited(), [late], "it has its moment");
        unread.on_time(almost + PATIENCE / 2);
        assert_eq!(unread.waited(), [late], "it has its share");
        unread.on_time(almost + PATIENCE / 2 + MOMENT * 2);
        assert!(unread.has_room(), "the purse is empty");
        unread.clear(&late);
        assert!(unread.add(late, 600, almost + MOMENT) && !unread.has_room());
        unread.clear(&deaf);
        unread.clear(&late);
        assert!(
            unread.add(deaf, 600, almost + MOMENT) && unread.has_room(),
            "it rests"
        );
    }

    #[test]
    fn nobody_waits_for_what_was_asked_for() {
        let (mut unread, asks, now) = (
            Unread::new(1000, 100, 8000),
            PeerId::random(),
            crate::platform::now(),
        );
        assert!(unread.count(asks, 900, now) && unread.has_room());
        assert!(unread.add(asks, 100, now) && unread.has_room());
    }

    proptest! {
        #[test]
        fn nothing_waits_beyond_the_bound_and_nobody_is_waited_for_too_long(
            steps in proptest::collection::vec((0..3_usize, 0..700_usize, 0..40_u64, any::<bool>()), 0..300),
        ) {
            let peers = [(); 3].map(|()| PeerId::random());
            let (mut unread, mut now) = (Unread::new(1000, 5, 8000), crate::platform::now());
            let mut waiting = [(0, 0); 3];
            for (place, size, millis, reads) in steps {
                now += Duration::from_millis(millis);
                if unread.deadline().is_some_and(|at| at <= now) {
                    unread.on_time(now);
                    unread.lost(now);
                    prop_assert!(unread.deadline().is_none_or(|at| at > now));
                }
                if reads {
                    unread.clear(&peers[place]);
                    waiting[place] = (0, 0);
                } else if unread.add(peers[place], size, now) {
                    waiting[place].0 += size;
                    waiting[place].1 += 1;
                }
                prop_assert!(waiting.iter().all(|(bytes, count)| *bytes <= 1000 && *count <= 5));
                prop_assert!(unread.waited.values().all(|since| now < *since + PATIENCE + LOOK));
                prop_assert!(unread.purse <= PATIENCE);
            }
        }
    }
}
