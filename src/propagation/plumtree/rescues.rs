//! What was fetched lately, until it shows whether that had to be.
//!
//! That an item was fetched says little: the push may have been under way, only later than the announcement, the patience and the answer.
//! A link that is made to push for such items makes a cycle, which is cut again, perhaps elsewhere, and so on without end. So it is waited for
//! the push, or for word that there would have been one ([`Items::spared`](crate::propagation::wire::Items::spared)). What nobody has pushed by
//! then had to be fetched, and its announcer counts as one who rescues. What a link pushes is no duplicate that speaks against it, since without the fetch
//! it would have been the first; and it shows how long pushes take, also where it comes too late for that. Only what the chain has accepted counts.
//!
//! Bounds: [`MOST`] items, for [`KEPT`] and as long as they are waited for. The eldest leave that were waited for long enough; where there are none, what more is
//! fetched says nothing, and the others speak for it.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use libp2p::PeerId;

use crate::{chain::ShortId, keyed::Keyed, platform::Instant};

/// Items of which it is known that they were fetched, and for how long: what comes later is no push that was under way.
const MOST: usize = 1 << 14;
const KEPT: Duration = Duration::from_secs(10);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Rescues {
    fetched: HashMap<ShortId, Fetched, Keyed>,
    /// When the answers came, in this order; and how many of the first were waited for long enough.
    order: VecDeque<(Instant, ShortId)>,
    waited: usize,
}

#[derive(Debug)]
struct Fetched {
    /// Who answered, and when.
    of: PeerId,
    at: Instant,
    /// When the item was announced first.
    since: Instant,
}

impl Rescues {
    pub(super) fn new(keyed: Keyed) -> Self {
        Self {
            fetched: HashMap::with_hasher(keyed),
            order: VecDeque::new(),
            waited: 0,
        }
    }

    /// A peer has sent what it was asked for and nobody had sent before; it was announced first at `since`.
    pub(super) fn fetched(&mut self, id: ShortId, from: PeerId, since: Instant, now: Instant) {
        let is_over = |(at, _): &(Instant, ShortId)| *at + KEPT < now;
        while self.waited > 0
            && (self.order.len() >= MOST || self.order.front().is_some_and(is_over))
        {
            self.drop_eldest();
        }
        if self.order.len() >= MOST {
            return;
        }
        let fetched = Fetched {
            of: from,
            at: now,
            since,
        };
        self.fetched.insert(id, fetched);
        self.order.push_back((now, id));
    }

    fn drop_eldest(&mut self) {
        let Some((at, eldest)) = self.order.pop_front() else {
            return;
        };
        // It may have been fetched again since.
        if self
            .fetched
            .get(&eldest)
            .is_some_and(|fetched| fetched.at == at)
        {
            self.fetched.remove(&eldest);
        }
        self.waited -= 1;
    }

    /// A link that pushes brought an item. If that was fetched of another one, it need not have been: who had sent it, and when it had been announced first.
    pub(super) fn pushed(
        &mut self,
        id: &ShortId,
        by: PeerId,
        now: Instant,
    ) -> Option<(PeerId, Instant)> {
        self.fetched.get(id).filter(|fetched| fetched.of != by)?;
        let fetched = self.fetched.remove(id)?;
        (now <= fetched.at + KEPT).then_some((fetched.of, fetched.since))
    }

    /// The next item that nobody has pushed in so long a time after it was fetched: when that was, and of whom.
    pub(super) fn next_needed(
        &mut self,
        wait: Duration,
        now: Instant,
    ) -> Option<(Instant, PeerId)> {
        while let Some((at, id)) = self.order.get(self.waited)
            && *at + wait <= now
        {
            self.waited += 1;
            if let Some(fetched) = self.fetched.get(id).filter(|fetched| fetched.at == *at) {
                return Some((*at, fetched.of));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    const WAIT: Duration = Duration::from_millis(300);

    fn id(number: u64) -> ShortId {
        ShortId::new(number.to_le_bytes())
    }

    #[test]
    fn what_nobody_pushes_in_time_had_to_be_fetched_and_nothing_else() {
        let (start, [peer, other]) = (crate::platform::now(), [(); 2].map(|()| PeerId::random()));
        let mut rescues = Rescues::new(Keyed::new(&[1; 16]));
        for number in 0..3 {
            let at = start + Duration::from_millis(number);
            rescues.fetched(id(number), peer, start, at);
        }
        assert_eq!(
            rescues.pushed(&id(1), peer, start + WAIT),
            None,
            "it has sent it before"
        );
        assert_eq!(
            rescues.pushed(&id(1), other, start + WAIT),
            Some((peer, start))
        );
        assert_eq!(
            rescues.pushed(&id(1), other, start + WAIT),
            None,
            "the second is a duplicate"
        );
        assert_eq!(
            rescues.pushed(&id(9), other, start + WAIT),
            None,
            "nobody fetched it"
        );
        assert_eq!(rescues.next_needed(WAIT, start + WAIT / 2), None);
        let later = start + WAIT + Duration::from_millis(1);
        assert_eq!(rescues.next_needed(WAIT, later), Some((start, peer)));
        assert_eq!(
            rescues.next_needed(WAIT, later),
            None,
            "1 was pushed, 2 may be yet"
        );
        assert_eq!(
            rescues
                .next_needed(WAIT, start + 2 * WAIT)
                .map(|(_, from)| from),
            Some(peer)
        );
        let since = Some((peer, start));
        assert_eq!(
            rescues.pushed(&id(2), other, start + WAIT),
            since,
            "too late, which shows how late"
        );
    }

    #[test]
    fn however_much_is_fetched_some_of_it_is_waited_for_long_enough() {
        let (mut now, peer) = (crate::platform::now(), PeerId::random());
        let mut rescues = Rescues::new(Keyed::new(&[1; 16]));
        let (wait, mut needed) = (Duration::from_millis(2560), 0);
        // 20,000 a second, for ten seconds.
        for number in 0..200_000 {
            now += Duration::from_micros(50);
            rescues.fetched(id(number), peer, now, now);
            needed += std::iter::from_fn(|| rescues.next_needed(wait, now)).count();
            assert!(rescues.order.len() <= MOST);
        }
        assert!(needed >= 2 * MOST, "{needed}");
    }

    #[test]
    fn what_is_waited_for_longer_than_others_are_kept_counts_too() {
        let (start, peer) = (crate::platform::now(), PeerId::random());
        let mut rescues = Rescues::new(Keyed::new(&[1; 16]));
        let (wait, mut needed) = (KEPT * 2, 0);
        for number in 0..400 {
            let now = start + KEPT / 100 * u32::try_from(number).expect("small");
            rescues.fetched(id(number), peer, start, now);
            needed += std::iter::from_fn(|| rescues.next_needed(wait, now)).count();
        }
        assert_eq!(needed, 200);
    }

    #[test]
    fn no_more_are_held_than_there_is_room_for() {
        let (now, peer) = (crate::platform::now(), PeerId::random());
        let mut rescues = Rescues::new(Keyed::new(&[1; 16]));
        for number in 0..2 * MOST as u64 {
            rescues.fetched(id(number), peer, now, now);
        }
        assert_eq!((rescues.order.len(), rescues.fetched.len()), (MOST, MOST));
        let count = |rescues: &mut Rescues, at| {
            std::iter::from_fn(|| rescues.next_needed(WAIT, at)).count()
        };
        assert_eq!(count(&mut rescues, now + WAIT), MOST);
        let later = now + WAIT;
        for number in 2 * MOST as u64..2 * MOST as u64 + 10 {
            rescues.fetched(id(number), peer, now, later);
        }
        assert_eq!(count(&mut rescues, later), 0, "each once");
        assert_eq!(count(&mut rescues, later + WAIT), 10);
        assert_eq!((rescues.order.len(), rescues.fetched.len()), (MOST, MOST));
    }
}
