//! A set as an endless series of coded symbols: which element is in which symbol, and what a symbol holds.
//!
//! An element is in symbol `i` with probability `2 / (i + 2)`, the paper's `1 / (1 + i / 2)`. For an element in
//! symbol `i` the chance that it skips all of `i + 1 ..= j` is then a product that telescopes:
//! `(i + 1)(i + 2) / ((j + 1)(j + 2))`. So its next symbol after `i` is drawn at once: with `r` uniform among the 32-bit
//! numbers it is the least `j` with `r (j + 1)(j + 2) >= 2^32 (i + 1)(i + 2)`. The paper approximates the same by
//! a square root of floats; these are integers, equal on every platform.
//!
//! The paper's encoder makes one symbol at a time from a heap of all elements by next symbol. Symbols travel in runs,
//! so ours walks over the elements once a run instead: the memory is read in order, and there is no heap to mend.

use siphasher::sip::SipHasher24;

use super::{MAX_SYMBOLS, Snapshot};
use crate::chain::TransactionKey;

/// The hash functions of one session: SipHash-2-4 under a key to which both sides gave half, so that nobody can make
/// transactions beforehand whose short ids collide.
#[derive(Clone, Debug)]
pub(super) struct SessionHash(SipHasher24);

impl SessionHash {
    pub(super) fn new(initiator_salt: u64, responder_salt: u64) -> Self {
        Self(SipHasher24::new_with_keys(initiator_salt, responder_salt))
    }

    /// An element as the coding sees it.
    pub(super) fn short_id(&self, key: &TransactionKey) -> u64 {
        self.0.hash(key.as_bytes())
    }

    /// What tells a symbol of one element from one of several. Of another input length than a short id, so
    /// independent of it under the same key.
    pub(super) fn checksum(&self, short_id: u64) -> u32 {
        let [a, b, c, d, ..] = self.0.hash(&short_id.to_le_bytes()).to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }
}

/// The symbols that an element is in, in ascending order: 0 always, then ever more rarely.
#[derive(Clone, Debug)]
pub(super) struct Indices {
    generator: u64,
    next: u32,
}

impl Indices {
    pub(super) fn of(short_id: u64) -> Self {
        Self {
            generator: short_id,
            next: 0,
        }
    }

    /// The next symbol if it is below `end`, which is at most [`MAX_SYMBOLS`].
    pub(super) fn next_below(&mut self, end: u32) -> Option<u32> {
        let index = self.next;
        if index >= end.min(MAX_SYMBOLS) {
            return None;
        }
        self.next = following(index, self.draw());
        Some(index)
    }

    /// SplitMix64 (Steele, Lea, Flood: OOPSLA 2014), of which the upper half is taken.
    fn draw(&mut self) -> u64 {
        self.generator = self.generator.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.generator;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) >> 32
    }
}

/// The least `j` with `r (j + 1)(j + 2) >= 2^32 (i + 1)(i + 2)`, where `i < MAX_SYMBOLS`. It is above `i`, since
/// `r < 2^32`. Where `r` is 0 there is none, and where it is small `j` is beyond the end of every session.
fn following(i: u32, r: u64) -> u32 {
    if r == 0 {
        return u32::MAX;
    }
    // Below 2^62, as MAX_SYMBOLS is 2^15.
    let i = u64::from(i);
    let quotient = (((i + 1) * (i + 2)) << 32).div_ceil(r);
    // The least m with m (m + 1) >= quotient is the quotient's integer square root or one above; j is m - 1.
    let root = quotient.isqrt();
    let j = if root * (root + 1) >= quotient {
        root - 1
    } else {
        root
    };
    u32::try_from(j).unwrap_or(u32::MAX)
}

/// What a symbol holds: the elements in it, added up. The difference of two sets' symbols is the symbol of the sets'
/// difference, since what both hold cancels out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Symbol {
    /// The short ids, by exclusive or.
    pub(super) sum: u64,
    /// Their checksums, by exclusive or.
    pub(super) checksum: u32,
    /// How many; in a difference, how many only they hold less how many only we hold.
    pub(super) count: i32,
}

impl Symbol {
    pub(super) fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// Adds an element `times` times: once, or minus once.
    pub(super) fn add(&mut self, element: &Element, times: i32) {
        self.sum ^= element.short_id;
        self.checksum ^= element.checksum;
        self.count += times;
    }

    /// What is left when another symbol is taken away.
    pub(super) fn less(&self, other: &Self) -> Self {
        Self {
            sum: self.sum ^ other.sum,
            checksum: self.checksum ^ other.checksum,
            count: self.count - other.count,
        }
    }
}

/// An element on its way through the symbols.
#[derive(Clone, Debug)]
pub(super) struct Element {
    pub(super) short_id: u64,
    pub(super) checksum: u32,
    pub(super) indices: Indices,
}

impl Element {
    pub(super) fn new(short_id: u64, hash: &SessionHash) -> Self {
        Self {
            short_id,
            checksum: hash.checksum(short_id),
            indices: Indices::of(short_id),
        }
    }
}

/// What an [`Encoder`] takes for each key, beside the snapshot: 36 bytes.
pub(crate) const KEY_BYTES: usize = size_of::<Element>() + size_of::<u32>();

/// Makes the symbols of a snapshot, run by run.
#[derive(Debug)]
pub(super) struct Encoder {
    snapshot: Snapshot,
    /// Ascending by short id. Two of one short id, as in one of 2^29 pools of 2^18 keys, spoil the session if the other
    /// side lacks them: their sums cancel out.
    elements: Vec<Element>,
    /// Each element's place in the snapshot.
    places: Vec<u32>,
    made: u32,
}

impl Encoder {
    pub(super) fn new(snapshot: Snapshot, hash: &SessionHash) -> Self {
        let mut short_ids: Vec<_> = snapshot
            .keys()
            .iter()
            .zip(0u32..)
            .map(|(key, place)| (hash.short_id(key), place))
            .collect();
        short_ids.sort_unstable();
        let element = |(short_id, _): &(u64, u32)| Element::new(*short_id, hash);
        Self {
            elements: short_ids.iter().map(element).collect(),
            places: short_ids.iter().map(|(_, place)| *place).collect(),
            snapshot,
            made: 0,
        }
    }

    /// How many elements there are.
    pub(super) fn len(&self) -> u32 {
        self.snapshot.len()
    }

    /// The key with this short id.
    pub(super) fn key(&self, short_id: u64) -> Option<TransactionKey> {
        let by_short_id = |element: &Element| element.short_id.cmp(&short_id);
        let element = self.elements.binary_search_by(by_short_id).ok()?;
        let place = self.places.get(element)?;
        self.snapshot.keys().get(usize_from(*place)).copied()
    }

    /// The symbols from the first that was not made yet up to `end`, which is at most [`MAX_SYMBOLS`].
    pub(super) fn run(&mut self, end: u32) -> Vec<Symbol> {
        let start = self.made;
        self.made = end.min(MAX_SYMBOLS).max(start);
        let mut run = vec![Symbol::default(); usize_from(self.made - start)];
        for element in &mut self.elements {
            while let Some(index) = element.indices.next_below(self.made) {
                if let Some(symbol) = run.get_mut(usize_from(index - start)) {
                    symbol.add(element, 1);
                }
            }
        }
        run
    }
}

/// Lossless: no skin has less than 32 bits.
pub(super) fn usize_from(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;
    use proptest::prelude::*;

    fn encoder(keys: u32, hash: &SessionHash) -> Encoder {
        let key = |n: u32| TransactionKey::of(&n.to_le_bytes());
        Encoder::new(
            Snapshot::new((0..keys).map(key).collect(), Vec::new()).expect("few keys"),
            hash,
        )
    }

    proptest! {
        #[test]
        fn the_following_symbol_is_the_least_that_the_rule_allows(i in 0..MAX_SYMBOLS, bits in 1u32..=32, r: u32) {
            let r = r >> (32 - bits);
            let j = following(i, r.into());
            let reached = |j: u32| {
                let (i, j, r) = (u128::from(i), u128::from(j), u128::from(r));
                r * (j + 1) * (j + 2) >= ((i + 1) * (i + 2)) << 32
            };
            if r == 0 {
                prop_assert_eq!(j, u32::MAX);
            } else {
                prop_assert!(j > i && reached(j) && !reached(j - 1), "{} after {} by {}", j, i, r);
            }
        }

        #[test]
        fn a_run_is_the_same_in_one_and_in_pieces(keys in 0u32..100, mut ends in proptest::collection::vec(0u32..2000, 1..10)) {
            let hash = SessionHash::new(1, 2);
            let (mut whole, mut pieces) = (encoder(keys, &hash), encoder(keys, &hash));
            ends.sort_unstable();
            let last = *ends.last().expect("one");
            let in_pieces: Vec<_> = ends.iter().flat_map(|end| pieces.run(*end)).collect();
            prop_assert_eq!(whole.run(last), in_pieces);
        }
    }

    #[test]
    fn an_element_is_in_symbol_i_with_probability_two_in_i_and_two() {
        const ELEMENTS: u32 = 20_000;
        let mut counts = [0u32; 600];
        for element in 0..ELEMENTS {
            let short_id =
                SessionHash::new(3, 4).short_id(&TransactionKey::of(&element.to_le_bytes()));
            let mut indices = Indices::of(short_id);
            while let Some(index) = indices.next_below(600) {
                counts[usize_from(index)] += 1;
            }
        }
        assert_eq!(counts[0], ELEMENTS, "symbol 0 holds everything");
        let mut chi_squared = 0.0;
        for (i, count) in (0u32..).zip(counts).skip(1) {
            let p = 2.0 / (f64::from(i) + 2.0);
            let (mean, variance) = (f64::from(ELEMENTS) * p, f64::from(ELEMENTS) * p * (1.0 - p));
            chi_squared += (f64::from(count) - mean).powi(2) / variance;
        }
        // 599 degrees of freedom: 599 on average, give or take 35.
        assert!((450.0..750.0).contains(&chi_squared), "{chi_squared}");
    }

    #[test]
    fn elements_end_with_the_session_and_a_draw_of_nothing() {
        let mut indices = Indices::of(7);
        while indices.next_below(u32::MAX).is_some() {}
        assert!(indices.next >= MAX_SYMBOLS);
        let mut encoder = encoder(10, &SessionHash::new(1, 2));
        assert_eq!(encoder.run(u32::MAX).len(), usize_from(MAX_SYMBOLS));
        assert!(encoder.run(u32::MAX).is_empty() && encoder.run(0).is_empty());
    }

    #[test]
    fn keys_are_found_by_their_short_ids() {
        let hash = SessionHash::new(5, 6);
        let encoder = encoder(1000, &hash);
        let key = TransactionKey::of(&999u32.to_le_bytes());
        assert_eq!(encoder.key(hash.short_id(&key)), Some(key));
        let stranger = TransactionKey::of(&1000u32.to_le_bytes());
        assert_eq!(encoder.key(hash.short_id(&stranger)), None);
    }
}
