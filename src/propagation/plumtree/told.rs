//! What was fetched on its way here: everybody is told of it at once, before its turn, and it is pushed to nobody.
//!
//! A list of those batches of the log, numbered in order, so that one number says how far a peer was told. As all others they stand in
//! the log, which drops them: here is only where.
//!
//! Bounds: an entry for each such batch that is in the log, and for as many at most that have left it.

use std::collections::VecDeque;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Told {
    list: VecDeque<Fetched>,
    /// The number of the next.
    end: u64,
    /// How many of the list have left the log.
    gone: usize,
}

/// A batch that was fetched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fetched {
    /// Its number here.
    pub(super) told: u64,
    /// Its source's number, and its own number there.
    pub(super) source: usize,
    pub(super) number: u64,
}

impl Told {
    /// One more, of this source and with this number there: its number here.
    pub(super) fn push(&mut self, source: usize, number: u64) -> u64 {
        let told = self.end;
        self.end += 1;
        self.list.push_back(Fetched {
            told,
            source,
            number,
        });
        told
    }

    /// One of them has left the log, which says which ones are still there.
    pub(super) fn left(&mut self, is_here: impl Fn(&Fetched) -> bool) {
        self.gone += 1;
        // So each is looked at few times.
        if self.gone > self.list.len() / 2 {
            self.list.retain(is_here);
            self.gone = 0;
        }
    }

    /// The number that the next will have.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Those from this number on, in order; some may have left the log.
    pub(super) fn from(&self, told: u64) -> impl Iterator<Item = Fetched> {
        let first = self.list.partition_point(|fetched| fetched.told < told);
        self.list.range(first..).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn what_has_left_takes_no_more_room_than_what_is_here() {
        const HERE: u64 = 100;
        let mut told = Told::default();
        for number in 0..100_000 {
            assert_eq!(told.push(7, number), number);
            if let Some(left) = number.checked_sub(HERE) {
                told.left(|fetched| fetched.number > left);
            }
            assert!(told.list.len() as u64 <= 2 * HERE + 2);
        }
        let numbers = told.from(99_998).map(|fetched| fetched.number);
        assert!(numbers.eq(99_998..100_000));
        assert_eq!((told.from(100_000).count(), told.end()), (0, 100_000));
    }
}
