//! How far a peer has read in the log, and whose items it gets next.
//!
//! Those of each source in turn, by what they cost, however many wait: start-time fair queueing (Goyal, Vin and Cheng, "Start-time Fair
//! Queuing", SIGCOMM 1996). A batch begins, in the reader's time, where the one before of its source ended, or now; whose begins
//! first is next. So a source that brings little is read at once, and one that floods is read with what is left.
//!
//! Bounds: two numbers for each source that ever brought something, 256 at most.

use super::log::{Batch, Log, Marks, Queue};
use crate::propagation::source::Source;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Reader {
    turns: Vec<Turn>,
    /// The reader's time: when what was read last began.
    clock: u64,
    /// Whose items it does not read: its own.
    own: Option<Source>,
    /// It reads no further than here.
    until: Option<Marks>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    /// The number of the next batch.
    next: u64,
    /// When, in the reader's time, the one before ended.
    served: u64,
}

impl Reader {
    /// Reads from here on, all but its own; no further than `until`, if that is given.
    pub(super) fn new(from: &Marks, own: Option<Source>, until: Option<Marks>) -> Self {
        let turn = |next| Turn { next, served: 0 };
        Self {
            turns: from.iter().map(turn).collect(),
            clock: 0,
            own,
            until,
        }
    }

    /// How far it has read.
    pub(super) fn marks(&self) -> Marks {
        Marks::new(self.turns.iter().map(|turn| turn.next))
    }

    /// The number of the next batch of our own items.
    pub(super) fn own_items(&self) -> u64 {
        self.turn(Source::OWN.index()).next
    }

    /// Whether there is more to read.
    pub(super) fn has_more(&self, log: &Log) -> bool {
        self.unread(log).next().is_some()
    }

    /// Whether it has not read as far as here yet.
    pub(super) fn is_before(&self, marks: &Marks) -> bool {
        let mut marks = marks.iter().enumerate();
        marks.any(|(place, mark)| self.reads(place) && self.turn(place).next < mark)
    }

    /// Passes over what is gone; how many batches these are.
    pub(super) fn pass_over(&mut self, log: &Log) -> u64 {
        let mut missed = 0;
        for (place, queue) in log.queues().iter().enumerate() {
            let turn = self.turn(place);
            let gone = queue.first().saturating_sub(turn.next);
            if gone > 0 && self.reads(place) {
                missed += gone;
                let next = queue.first();
                self.set(place, Turn { next, ..turn });
            }
        }
        missed
    }

    /// The next batch, of those that `may` be read now.
    pub(super) fn read<'log>(
        &mut self,
        log: &'log Log,
        may: impl Fn(&Batch) -> bool,
    ) -> Option<&'log Batch> {
        let fronts = self.unread(log).filter_map(|(place, queue)| {
            let turn = self.turn(place);
            let (number, batch) = queue.from(turn.next)?;
            let begins = turn.served.max(self.clock);
            may(batch).then_some((begins, place, number, batch))
        });
        let (begins, place, number, batch) = fronts.min_by_key(|(begins, ..)| *begins)?;
        batch.take();
        self.clock = begins;
        let served = begins.saturating_add(batch.cost() as u64);
        let next = number + 1;
        self.set(place, Turn { next, served });
        Some(batch)
    }

    /// The queues with something to read.
    fn unread<'log>(&self, log: &'log Log) -> impl Iterator<Item = (usize, &'log Queue)> {
        let queues = log.queues().iter().enumerate();
        queues.filter(|(place, queue)| {
            let until = self.until.as_ref();
            let end = until.map_or(u64::MAX, |until| until.of(*place));
            let next = self.turn(*place).next.max(queue.first());
            next < queue.end().min(end) && self.reads(*place)
        })
    }

    fn reads(&self, place: usize) -> bool {
        self.own.is_none_or(|own| own.index() != place)
    }

    fn turn(&self, place: usize) -> Turn {
        self.turns.get(place).copied().unwrap_or_default()
    }

    fn set(&mut self, place: usize, turn: Turn) {
        if self.turns.len() <= place {
            self.turns.resize(place + 1, Turn::default());
        }
        if let Some(to) = self.turns.get_mut(place) {
            *to = turn;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{super::log::Entry, *};
    use crate::{chain::ShortId, keyed::Keyed, platform::test, propagation::source::Place};

    fn log() -> Log {
        let fresh_for = Duration::from_secs(10);
        Log::new(1 << 20, fresh_for, Duration::ZERO, Keyed::new(&[1; 16]))
    }

    fn entry(place: Place, number: u64, size: usize) -> Entry {
        let mut id = number.to_le_bytes();
        id[7] = place;
        Entry {
            id: ShortId::new(id),
            data: vec![place; size].into(),
            fee_rate: 0,
            known: 0,
        }
    }

    /// The places whose items are read, in order, with how many bytes.
    fn read(reader: &mut Reader, log: &Log) -> Option<(Place, usize)> {
        let batch = reader.read(log, |_| true)?;
        Some((batch.entries[0].data[0], batch.bytes()))
    }

    #[test]
    fn who_brings_little_is_read_next_however_much_another_has_brought() {
        let (mut log, now) = (log(), crate::platform::now());
        let mut reader = Reader::new(&log.ends(), None, None);
        let flood = |log: &mut Log, from: u64| {
            for number in from..from + 10_000 {
                let since = log.last_of(Source::at(1));
                log.append(Source::at(1), entry(1, number, 250), now);
                log.trim(Source::at(1), since);
            }
        };
        let mut read_one = |log: &Log| read(&mut reader, log).map(|(place, _)| place);
        flood(&mut log, 0);
        for number in 0..20 {
            assert_eq!(read_one(&log), Some(1));
            log.append(Source::at(2), entry(2, number, 250), now);
            flood(&mut log, 10_000 * (number + 1));
            assert_eq!(read_one(&log), Some(2), "{number}");
        }
        assert!(reader.pass_over(&log) > 0, "of the flood");
        assert!(!reader.turns.is_empty() && reader.has_more(&log));
    }

    #[test]
    fn nobody_reads_what_it_brought_itself_nor_further_than_it_shall() {
        let (mut log, now) = (log(), crate::platform::now());
        let start = log.ends();
        for place in 1..4 {
            log.append(Source::at(place), entry(place, 0, 100), now);
        }
        let until = log.ends();
        let mut main = Reader::new(&start, Some(Source::at(2)), None);
        let mut again = Reader::new(&start, Some(Source::at(2)), Some(until));
        log.append(
            Source::at(1),
            entry(1, 1, 100),
            now + Duration::from_secs(1),
        );
        let all = |reader: &mut Reader| {
            std::iter::from_fn(|| read(reader, &log).map(|(place, _)| place)).collect::<Vec<_>>()
        };
        assert!(main.is_before(&log.ends()));
        assert_eq!(all(&mut main), [1, 3, 1]);
        assert_eq!(all(&mut again), [1, 3]);
        assert!(!main.has_more(&log) && !again.has_more(&log));
        assert!(!main.is_before(&log.ends()) && main.marks().of(2) == 2);
    }

    proptest! {
        #[test]
        fn as_long_as_two_have_something_left_they_get_as_much(
            sizes in proptest::collection::vec(proptest::collection::vec(1usize..6000, 1..20), 2..5),
        ) {
            let (mut log, now) = (log(), crate::platform::now());
            let mut left = Vec::new();
            for (place, sizes) in sizes.iter().enumerate() {
                let place = Place::try_from(place).expect("small");
                for (number, size) in sizes.iter().enumerate() {
                    let at = now + Duration::from_millis(number as u64);
                    log.append(Source::at(place), entry(place, number as u64, *size), at);
                }
                left.push(sizes.len());
            }
            let mut reader = Reader::new(&Marks::default(), None, None);
            let mut got = vec![0; sizes.len()];
            while let Some((place, bytes)) = read(&mut reader, &log) {
                got[usize::from(place)] += bytes + 128 + 256;
                left[usize::from(place)] -= 1;
                for (one, _) in left.iter().enumerate().filter(|(_, left)| **left > 0) {
                    let most = got.iter().max().expect("some");
                    prop_assert!(got[one] + 2 * (6000 + 384) >= *most, "{:?}", got);
                }
            }
            prop_assert!(left.iter().all(|left| *left == 0));
        }
    }
}
