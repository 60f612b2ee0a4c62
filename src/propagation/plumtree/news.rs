//! Who told lately of items that came and were accepted: of those, one can be asked to push where nobody does any more.
//!
//! What is told of and never comes shows nothing, since anybody can make up ids. So it is counted when an item is accepted: all who had told of it
//! by then had it, or guessed well.
//!
//! Bounds: two sets of places, for half of [`NEWS`] each.

use std::time::Duration;

use crate::platform::Instant;

/// Who told of something new within this is remembered; or within half of it.
const NEWS: Duration = Duration::from_secs(10);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct News {
    latest: u128,
    before: u128,
    since: Option<Instant>,
}

impl News {
    /// An item was accepted that the peers in these places had, or had told of.
    pub(super) fn came(&mut self, places: u128, now: Instant) {
        self.turn(now);
        self.latest |= places;
    }

    /// The places of those who told of something lately.
    pub(super) fn places(&mut self, now: Instant) -> u128 {
        self.turn(now);
        self.latest | self.before
    }

    /// These places are free for other peers.
    pub(super) fn forget(&mut self, places: u128) {
        self.latest &= !places;
        self.before &= !places;
    }

    fn turn(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        if now < since + NEWS / 2 {
            return;
        }
        self.before = if now < since + NEWS { self.latest } else { 0 };
        (self.latest, self.since) = (0, Some(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn who_told_is_remembered_for_a_while_and_not_for_ever() {
        let (start, mut news) = (crate::platform::now(), News::default());
        assert_eq!(news.places(start), 0);
        news.came(0b01, start);
        news.came(0b10, start + NEWS / 2);
        assert_eq!(news.places(start + NEWS / 2), 0b11);
        news.forget(0b01);
        assert_eq!(news.places(start + NEWS), 0b10);
        assert_eq!(news.places(start + 2 * NEWS), 0);
        news.came(0b100, start + 10 * NEWS);
        assert_eq!(news.places(start + 20 * NEWS), 0);
    }
}
