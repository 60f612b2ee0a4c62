//! Their symbols less ours, peeled until nothing is left.
//!
//! A symbol with one element gives that element away; taken out of all its other symbols it makes more of them give
//! theirs away (the paper's peeling). When every symbol is zero all is found: symbol 0 holds every element, so
//! nothing is overlooked.
//!
//! **Checksums of 32 bits suffice.** A symbol of several elements passes for one of a single element if its count is 1
//! or -1, its checksum fits (one in `2^32`), and its sum, read as a short id, is in that very symbol (one
//! in `(i + 2) / 2`); one that would be ours must also be in our snapshot. A symbol is looked at when it came and
//! when an element was taken out: over `d` differences fewer than `20 d` times for up to 1,000, `30 d` for the most
//! that a session finds. So by the checksum alone one session in 200,000 goes wrong with 1,000 differences, one in
//! 7,000 with the most. It then finds no end, and the next one has other salts. No wrong
//! element is ever reported: all symbols would have to become zero with it.
//!
//! **Bounds, whatever they send.** No element is found twice, and no more elements than symbols came: in an honest
//! difference each makes a symbol zero for good. Each changes only the symbols that it is in: about
//! `2 ln(symbols)`, a few times that for a short id that was searched for with the key in hand.

use std::collections::BTreeMap;

use super::coding::{Element, Encoder, SessionHash, Symbol, usize_from};
use crate::chain::TransactionKey;

/// Who holds an element that the other one lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Ours,
    Theirs,
}

impl Side {
    /// What such an element adds to the count of a difference.
    fn count(self) -> i32 {
        match self {
            Self::Ours => -1,
            Self::Theirs => 1,
        }
    }
}

/// Finds the difference of two sets from ours and the other's symbols.
#[derive(Debug)]
pub(super) struct Decoder {
    hash: SessionHash,
    ours: Encoder,
    their_size: u32,
    /// Their symbols less ours less what was found.
    left: Vec<Symbol>,
    received: u32,
    /// How many of `left` are not zero.
    unsolved: usize,
    found: BTreeMap<u64, (Element, Side)>,
    /// For [`Decoder::estimate`]: the sum over all symbols but the first.
    squares: u128,
}

impl Decoder {
    pub(super) fn new(hash: SessionHash, ours: Encoder, their_size: u32) -> Self {
        Self {
            hash,
            ours,
            their_size,
            left: Vec::new(),
            received: 0,
            unsolved: 0,
            found: BTreeMap::new(),
            squares: 0,
        }
    }

    /// How many symbols came.
    pub(super) fn received(&self) -> u32 {
        self.received
    }

    /// Whether the difference is found.
    pub(super) fn is_complete(&self) -> bool {
        self.received > 0 && self.unsolved == 0
    }

    /// The short ids of what only they hold, ascending.
    pub(super) fn only_theirs(&self) -> Vec<u64> {
        self.short_ids(Side::Theirs).collect()
    }

    /// What only we hold.
    pub(super) fn only_ours(&self) -> Vec<TransactionKey> {
        let short_ids = self.short_ids(Side::Ours);
        short_ids.filter_map(|id| self.ours.key(id)).collect()
    }

    fn short_ids(&self, side: Side) -> impl Iterator<Item = u64> {
        let found = self.found.iter().filter(move |(_, found)| found.1 == side);
        found.map(|(short_id, _)| *short_id)
    }

    /// How many elements the difference has, as far as can be told yet: about the square root of `2 / received` off
    /// on average.
    ///
    /// An element is in symbol `i` with probability `p = 2 / (i + 2)`, so over `d` differences the symbol's count has mean
    /// `D p` and variance `d p (1 - p)`, where `D` is the difference of the sizes.
    pub(super) fn estimate(&self) -> u32 {
        let (ours, theirs) = (self.ours.len(), self.their_size);
        let mean = self.squares / u128::from(self.received.saturating_sub(1).max(1));
        let most = ours.saturating_add(theirs);
        u32::try_from(mean)
            .unwrap_or(most)
            .clamp(ours.abs_diff(theirs), most)
    }

    fn observe(&mut self, index: u32, count: i32) {
        let excess = i128::from(self.their_size) - i128::from(self.ours.len());
        let deviation = i128::from(count) * (i128::from(index) + 2) - 2 * excess;
        let square = deviation.unsigned_abs().pow(2);
        // No division by zero: symbol 0 holds everything, so its count tells nothing.
        self.squares += square.checked_div(2 * u128::from(index)).unwrap_or(0);
    }

    /// Takes their next symbols in.
    pub(super) fn receive(&mut self, theirs: &[Symbol]) {
        let start = self.received;
        let ours = self.ours.run(start.saturating_add(length(theirs)));
        let mut run: Vec<_> = theirs.iter().zip(&ours).map(|(t, o)| t.less(o)).collect();
        self.received += length(&run);
        for (index, symbol) in (start..).zip(&run) {
            self.observe(index, symbol.count);
        }
        for (element, side) in self.found.values_mut() {
            while let Some(index) = element.indices.next_below(self.received) {
                if let Some(symbol) = run.get_mut(usize_from(index - start)) {
                    symbol.add(element, -side.count());
                }
            }
        }
        self.unsolved += run.iter().filter(|symbol| !symbol.is_zero()).count();
        self.left.append(&mut run);
        self.peel((start..self.received).collect());
    }

    /// Looks at these symbols, and at what changes, until none gives an element away.
    fn peel(&mut self, mut queue: Vec<u32>) {
        let mut path = Vec::new();
        while let Some(index) = queue.pop() {
            if self.found.len() >= self.left.len() {
                return;
            }
            let Some((mut element, side)) = self.sole_element(index) else {
                continue;
            };
            path.clear();
            while let Some(index) = element.indices.next_below(self.received) {
                path.push(index);
            }
            if path.binary_search(&index).is_err() {
                continue;
            }
            for index in &path {
                let Some(symbol) = self.left.get_mut(usize_from(*index)) else {
                    continue;
                };
                self.unsolved -= usize::from(!symbol.is_zero());
                symbol.add(&element, -side.count());
                self.unsolved += usize::from(!symbol.is_zero());
                if symbol.count.abs() == 1 {
                    queue.push(*index);
                }
            }
            self.found.insert(element.short_id, (element, side));
        }
    }

    /// The element of a symbol that looks like one of a single element, and can be what it looks like.
    fn sole_element(&self, index: u32) -> Option<(Element, Side)> {
        let symbol = self.left.get(usize_from(index))?;
        let side = [Side::Ours, Side::Theirs]
            .into_iter()
            .find(|side| side.count() == symbol.count)?;
        let element = Element::new(symbol.sum, &self.hash);
        let possible = element.checksum == symbol.checksum
            && !self.found.contains_key(&element.short_id)
            && self.ours.key(element.short_id).is_some() == (side == Side::Ours);
        possible.then_some((element, side))
    }
}

/// A run is at most `MAX_SYMBOLS` long.
fn length(run: &[Symbol]) -> u32 {
    u32::try_from(run.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::{MAX_SYMBOLS, Snapshot};
    use super::*;
    use crate::platform::test;
    use proptest::prelude::*;

    fn hash() -> SessionHash {
        SessionHash::new(11, 12)
    }

    fn encoder(keys: std::ops::Range<u32>, hash: &SessionHash) -> Encoder {
        let key = |n: u32| TransactionKey::of(&n.to_le_bytes());
        Encoder::new(
            Snapshot::new(keys.map(key).collect(), Vec::new()).expect("few keys"),
            hash,
        )
    }

    fn found(decoder: &Decoder) -> usize {
        decoder.only_ours().len() + decoder.only_theirs().len()
    }

    /// How many symbols find `differences` when they come one by one. What both sides hold cancels out, so a pool of
    /// a few keys tells as much as one of many.
    fn symbols_needed(differences: u32, seed: u64) -> u32 {
        let hash = SessionHash::new(seed, differences.into());
        let half = differences / 2;
        let (ours, mut theirs) = (
            encoder(0..10 + half, &hash),
            encoder(half..10 + differences, &hash),
        );
        let mut decoder = Decoder::new(hash, ours, theirs.len());
        for symbol in theirs.run(4 * differences + 500) {
            decoder.receive(&[symbol]);
            if decoder.is_complete() {
                break;
            }
        }
        assert_eq!(u32::try_from(found(&decoder)), Ok(differences));
        decoder.received()
    }

    /// The paper has 1.35 for many differences and at most 1.72 on average.
    #[test]
    fn symbols_a_difference_are_as_in_the_paper() {
        for (differences, sessions, at_most) in [
            (1, 10, 1.0),
            (4, 100, 2.0),
            (16, 100, 2.0),
            (100, 30, 1.6),
            (1000, 10, 1.45),
        ] {
            let symbols: u32 = (0..sessions)
                .map(|seed| symbols_needed(differences, seed.into()))
                .sum();
            let ratio = f64::from(symbols) / f64::from(sessions * differences);
            println!("{differences} differences: {ratio:.3} symbols each");
            assert!((1.0..=at_most).contains(&ratio), "{differences}: {ratio}");
        }
    }

    #[test]
    fn the_estimate_is_near() {
        let hash = hash();
        for (ours, theirs, differences) in
            [(0..1500, 500..2000, 1000.0), (0..3000, 900..2000, 1900.0)]
        {
            let mut theirs = encoder(theirs, &hash);
            let mut decoder = Decoder::new(hash.clone(), encoder(ours, &hash), theirs.len());
            decoder.receive(&theirs.run(256));
            let ratio = f64::from(decoder.estimate()) / differences;
            assert!((0.75..1.25).contains(&ratio), "{ratio}");
        }
    }

    #[test]
    fn the_estimate_survives_the_extremes() {
        let hash = hash();
        let most = super::super::MAX_POOL;
        let mut decoder = Decoder::new(hash.clone(), encoder(0..0, &hash), most);
        let count = i32::try_from(most).expect("few");
        let symbol = Symbol {
            count,
            ..Symbol::default()
        };
        decoder.receive(&vec![symbol; usize_from(MAX_SYMBOLS)]);
        assert_eq!(decoder.estimate(), most);
        assert_eq!(found(&decoder), 0);
        decoder.receive(&[symbol]);
        assert_eq!(decoder.received(), MAX_SYMBOLS, "no symbol beyond the last");
    }

    /// A liar knows the key, so it can put elements with fitting checksums where it likes.
    fn lies() -> impl Strategy<Value = Vec<(u64, u32, bool)>> {
        proptest::collection::vec((0u64..20, 0u32..100, any::<bool>()), 0..400)
    }

    proptest! {
        #[test]
        fn peeling_ends_whatever_they_send(lies in lies(), honest in 0u32..40, runs in 1u32..5) {
            let hash = hash();
            let mut symbols = encoder(10..10 + honest, &hash).run(100);
            for (n, index, add) in lies {
                // Half of them are elements of ours.
                let key = TransactionKey::of(&u32::try_from(n).expect("small").to_le_bytes());
                let short_id = if n % 2 == 0 { hash.short_id(&key) } else { n };
                let times = if add { 1 } else { -1 };
                symbols[usize_from(index)].add(&Element::new(short_id, &hash), times);
            }
            let mut decoder = Decoder::new(hash.clone(), encoder(0..30, &hash), honest);
            for run in symbols.chunks(usize_from(100 / runs)) {
                decoder.receive(run);
                prop_assert!(found(&decoder) <= decoder.left.len());
                let unsolved = decoder.left.iter().filter(|symbol| !symbol.is_zero()).count();
                prop_assert_eq!(decoder.unsolved, unsolved);
                let _ = decoder.estimate();
            }
            let theirs = decoder.only_theirs();
            prop_assert!(theirs.is_sorted_by(|a, b| a < b));
        }
    }

    #[test]
    fn an_element_in_a_symbol_where_it_does_not_belong_is_not_taken() {
        let hash = hash();
        let element = Element::new(99, &hash);
        let mut path = element.indices.clone();
        let mut belongs = [false; 50];
        while let Some(index) = path.next_below(50) {
            belongs[usize_from(index)] = true;
        }
        let mut symbols = [Symbol::default(); 50];
        for (symbol, belongs) in symbols.iter_mut().zip(belongs) {
            if !belongs {
                symbol.add(&element, 1);
            }
        }
        let mut decoder = Decoder::new(hash.clone(), encoder(0..0, &hash), 1);
        decoder.receive(&symbols);
        assert_eq!((found(&decoder), decoder.is_complete()), (0, false));
    }

    #[test]
    fn an_element_of_ours_is_not_taken_for_theirs_nor_one_of_theirs_for_ours() {
        let hash = hash();
        let ours = hash.short_id(&TransactionKey::of(&3u32.to_le_bytes()));
        for (short_id, times) in [(ours, 2), (77, -1)] {
            let mut decoder = Decoder::new(hash.clone(), encoder(3..4, &hash), 2);
            let mut theirs = encoder(3..4, &hash).run(1);
            for symbol in &mut theirs {
                symbol.add(&Element::new(short_id, &hash), times);
            }
            decoder.receive(&theirs);
            assert_eq!((found(&decoder), decoder.is_complete()), (0, false));
        }
    }
}
