//! A hash for tables of short ids, under a key of this node.
//!
//! Whoever makes transactions makes their short ids too, and with enough tries thousands that would share one place of a
//! table whose hash is known. The key is random for each node and is never told, so two ids share a place as seldom as
//! random ones do, whoever chose them: multiplication by a secret factor is universal (Dietzfelbinger, Hagerup, Katajainen and
//! Penttonen, "A Reliable Randomized Algorithm for the Closest-Pair Problem", 1997), and both halves of the product are
//! used, since the table looks at the low bits and the high ones. It takes a nanosecond, where SipHash takes
//! twenty, a dozen times for each transaction. The key is a parameter, and not std's `RandomState` (which `clippy.toml` forbids), because a core
//! has no source of randomness of its own and std's is a constant in a browser.

use std::hash::{BuildHasher, Hasher};

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(crate) struct Keyed {
    mask: u64,
    factor: u64,
}

impl Keyed {
    pub(crate) fn new(key: &[u8; 16]) -> Self {
        let key = u128::from_le_bytes(*key);
        // The halves of the key; an even factor would lose a bit.
        let [mask, factor] = [key as u64, (key >> 64) as u64];
        Self {
            mask,
            factor: factor | 1,
        }
    }
}

impl BuildHasher for Keyed {
    type Hasher = Mixer;

    fn build_hasher(&self) -> Mixer {
        Mixer {
            key: self.clone(),
            state: 0,
        }
    }
}

/// The hash of one id.
#[derive(Debug)]
pub(crate) struct Mixer {
    key: Keyed,
    state: u64,
}

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word.iter_mut()
                .zip(chunk)
                .for_each(|(to, from)| *to = *from);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.state ^ word ^ self.key.mask) * u128::from(self.key.factor);
        self.state = (product as u64) ^ ((product >> 64) as u64);
    }

    fn finish(&self) -> u64 {
        self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    /// Numbers that differ in a few bits only, at either end: they spread over the places of a table as random ones would.
    #[test]
    fn what_is_alike_is_spread() {
        let keyed = Keyed::new(b"a key of 16 byte");
        for shift in [0, 20, 48] {
            for (from, bits) in [(0, 10), (57, 7)] {
                let places: std::collections::HashSet<_> = (0..1_u64 << bits)
                    .map(|number| keyed.hash_one(number << shift) >> from & ((1 << bits) - 1))
                    .collect();
                // Random ones fill 63% of the places.
                let share = places.len() as f64 / f64::from(1 << bits);
                assert!(share > 0.5, "{shift} {from}: {share}");
            }
        }
        assert_ne!(keyed.hash_one(1_u64), Keyed::new(&[9; 16]).hash_one(1_u64));
    }
}
