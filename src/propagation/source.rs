//! Who brought an item, where room and turns are shared by that.
//!
//! We ourselves are one source, each peer with a place in the trees another. Peers beyond the places, and those that are gone or have no
//! lanes, share what numbers are left, by a hash that nobody else can compute. A place that is free goes to another peer: what is still
//! here of the one before counts as its successor's, of whose items it is the eldest, which leave first.

use std::hash::BuildHasher;

use libp2p::PeerId;

use crate::keyed::Keyed;

/// Which of the peers' places in a tree: a bit in what is noted of an item.
pub(super) type Place = u8;
/// Places there are; a peer beyond them is told even what it may know.
pub(super) const PLACES: Place = 128;
/// The first number of those that several share, and how many these are.
const SHARED: u8 = PLACES + 1;
const SHARERS: u8 = u8::MAX - PLACES;

/// See the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source(u8);

impl Source {
    /// Ourselves.
    pub(crate) const OWN: Self = Self(0);

    /// The peer that has this place.
    pub(super) fn at(place: Place) -> Self {
        Self(place.min(PLACES - 1) + 1)
    }

    /// A peer without one.
    pub(super) fn elsewhere(peer: &PeerId, keyed: &Keyed) -> Self {
        let share = keyed.hash_one(peer) % u64::from(SHARERS);
        Self(SHARED + u8::try_from(share).unwrap_or(0))
    }

    /// Its number, from 0 to 255.
    pub(super) fn index(self) -> usize {
        self.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn nobody_shares_with_us_or_with_who_has_a_place() {
        let placed = (0..PLACES).map(|place| Source::at(place).index());
        assert!(placed.eq(1..=usize::from(PLACES)));
        let keyed = Keyed::new(&[5; 16]);
        let others = (0..1000).map(|_| Source::elsewhere(&PeerId::random(), &keyed).index());
        let others: std::collections::HashSet<_> = others.collect();
        assert!(others.iter().all(|index| (129..=255).contains(index)));
        assert!(others.len() > 100, "{}", others.len());
    }
}
