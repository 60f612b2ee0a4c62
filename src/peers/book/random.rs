//! Choices that nobody can foresee and a test can repeat: SipHash-2-4 of a counter, under a key that is handed in.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher24;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Random {
    key: [u8; 16],
    drawn: u64,
}

impl Random {
    pub(super) fn new(key: [u8; 16]) -> Self {
        Self { key, drawn: 0 }
    }

    /// One of `0..count`; `None` where there are none.
    pub(super) fn below(&mut self, count: usize) -> Option<usize> {
        self.drawn += 1;
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write_u64(self.drawn);
        // Biased by less than count / 2^64.
        let drawn = hasher.finish().checked_rem(count as u64)?;
        usize::try_from(drawn).ok()
    }

    /// One of them.
    pub(super) fn one_of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        let place = self.below(all.len())?;
        all.get(place)
    }
}
