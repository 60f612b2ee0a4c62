//! What was fetched lately, until it shows whether that had to be.
//!
//! That an item was fetched says little: the push may have been under way, only later than the announcement, the patience and the answer.
//! A link that is made to push for such items makes a cycle, which is cut again, perhaps elsewhere, and so on without end. So it is waited for
//! the push. What nobody has pushed by then had to be fetched, and its announcer counts as one who rescues. What a link pushes meanwhile is
//! no duplicate that speaks against it, since without the fetch it would have been the first; where the pusher had to fetch it too
//! ([`Items::fetched`](crate::propagation::wire::Items::fetched)), the fetch stays one that had to be.
//!
//! Bounds: [`MOST`] items. Beyond them, which takes overload, nothing is learnt, and no duplicate counts meanwhile.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use libp2p::PeerId;

use crate::{chain::ShortId, keyed::Keyed, platform::Instant};

/// Items that are waited for at once.
const MOST: usize = 1 << 13;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Rescues {
    /// Who answered, and when the item was announced first.
    fetched: HashMap<ShortId, (PeerId, Instant), Keyed>,
    /// When the answers came, in this order.
    order: VecDeque<(Instant, ShortId)>,
}

impl Rescues {
    pub(super) fn new(keyed: Keyed) -> Self {
        Self {
            fetched: HashMap::with_hasher(keyed),
            order: VecDeque::new(),
        }
    }

    /// A peer has sent what it was asked for and nobody had sent before; it was announced first at `since`.
    pub(super) fn fetched(&mut self, id: ShortId, from: PeerId, since: Instant, now: Instant) {
        if !self.is_full() {
            self.fetched.insert(id, (from, since));
            self.order.push_back((now, id));
        }
    }

    /// Whether there is no room for more.
    pub(super) fn is_full(&self) -> bool {
        self.order.len() >= MOST
    }

    /// Whether an item was fetched that nobody has pushed yet.
    pub(super) fn waits_for(&self, id: &ShortId) -> bool {
        self.fetched.contains_key(id)
    }

    /// A link that pushes brought an item. If that was fetched, it need not have been: when it had been announced first.
    pub(super) fn pushed(&mut self, id: &ShortId) -> Option<Instant> {
        self.fetched.remove(id).map(|(_, since)| since)
    }

    /// The next item that nobody has pushed in so long a time after it was fetched: when that was, and of whom.
    pub(super) fn next_needed(
        &mut self,
        wait: Duration,
        now: Instant,
    ) -> Option<(Instant, PeerId)> {
        while let Some((at, id)) = self.order.front().copied()
            && at + wait <= now
        {
            self.order.pop_front();
            if let Some((from, _)) = self.fetched.remove(&id) {
                return Some((at, from));
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
        let (start, peer) = (crate::platform::now(), PeerId::random());
        let mut rescues = Rescues::new(Keyed::new(&[1; 16]));
        for number in 0..3 {
            let at = start + Duration::from_millis(number);
            rescues.fetched(id(number), peer, start, at);
        }
        assert_eq!(rescues.pushed(&id(1)), Some(start));
        assert_eq!(rescues.pushed(&id(1)), None, "the second is a duplicate");
        assert_eq!(rescues.pushed(&id(9)), None, "nobody fetched it");
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
        assert_eq!(rescues.pushed(&id(2)), None, "too late");
    }

    #[test]
    fn no_more_are_held_than_there_is_room_for() {
        let (now, peer) = (crate::platform::now(), PeerId::random());
        let mut rescues = Rescues::new(Keyed::new(&[1; 16]));
        for number in 0..2 * MOST as u64 {
            rescues.fetched(id(number), peer, now, now);
        }
        assert_eq!((rescues.order.len(), rescues.fetched.len()), (MOST, MOST));
        let needed = std::iter::from_fn(|| rescues.next_needed(WAIT, now + WAIT));
        assert_eq!(needed.count(), MOST);
        assert!(rescues.order.is_empty() && rescues.fetched.is_empty());
    }
}
