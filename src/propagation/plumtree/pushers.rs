//! The links that push, counted, and by the places of their peers: so it costs no walk over all to see whether anybody pushes yet.
//!
//! Bounds: a set of places and a number.

use super::log::bit;
use crate::propagation::source::Place;

/// See the module's documentation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Pushers {
    placed: u128,
    /// How many have no place.
    others: usize,
}

impl Pushers {
    /// The link of a peer with this place, or none, pushes from now on.
    pub(super) fn begins(&mut self, place: Option<Place>) {
        self.placed |= bit(place);
        self.others += usize::from(place.is_none());
    }

    /// And this one no more.
    pub(super) fn ends(&mut self, place: Option<Place>) {
        self.placed &= !bit(place);
        self.others -= usize::from(place.is_none());
    }

    pub(super) fn count(&self) -> usize {
        self.placed.count_ones() as usize + self.others
    }

    /// Whether all of them are in these places.
    pub(super) fn are_all_in(&self, places: u128) -> bool {
        self.others == 0 && self.placed & !places == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn who_pushes_is_counted_wherever_it_is() {
        let mut pushers = Pushers::default();
        assert!(pushers.are_all_in(0));
        for place in [Some(0), Some(127), None, None] {
            pushers.begins(place);
        }
        assert_eq!(pushers.count(), 4);
        assert!(!pushers.are_all_in(u128::MAX));
        (0..2).for_each(|_| pushers.ends(None));
        assert!(pushers.are_all_in(1 << 127 | 1) && !pushers.are_all_in(1));
        pushers.ends(Some(127));
        assert!(pushers.are_all_in(1) && pushers.count() == 1);
    }
}
