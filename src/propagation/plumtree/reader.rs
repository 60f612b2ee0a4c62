//! How far a peer has read in the log, and whose items it gets next.
//!
//! Those of each source in turn, by what they cost, however many wait: start-time fair queueing (Goyal, Vin and Cheng, "Start-time Fair
//! Queuing", SIGCOMM 1996). A batch begins, in the reader's time, where the one before of its source ended, or now; whose begins
//! first is next. So a source that brings little is read at once, and one that floods is read with what is left.
//!
//! A reader looks only at those sources of which it has something to read, or that began a batch since it looked last: those that
//! brought something once cost it nothing. Who is next is on top of a heap, so a batch costs few steps however many sources wait; what may
//! not be read yet is looked at once in a turn.
//!
//! Bounds: a few numbers for each source that ever brought something, 256 at most.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::log::{Batch, Log, Marks, Queue};
use crate::propagation::source::Source;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Reader {
    turns: Vec<Turn>,
    /// The sources of which there may be something to read, each once, as far as it has `seen` the batches that were begun: when each
    /// begins, and among equals who came first.
    waiting: BinaryHeap<Reverse<(u64, u64, usize)>>,
    came: u64,
    seen: u64,
    /// How many batches had left the log when it was last looked which of them it missed.
    gone: u64,
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
    waits: bool,
}

/// What becomes of the batch whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is read.
    Read,
    /// It may not be read yet: another one's turn.
    Later,
    /// Nothing more is read in this turn.
    Enough,
}

impl Reader {
    /// Reads from here on, all but its own; no further than `until`, if that is given.
    pub(super) fn new(from: &Marks, own: Option<Source>, until: Option<Marks>) -> Self {
        let turn = |next| Turn {
            next,
            ..Turn::default()
        };
        Self {
            turns: from.iter().map(turn).collect(),
            waiting: BinaryHeap::new(),
            came: 0,
            seen: 0,
            gone: 0,
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
        let mut waiting = self.waiting();
        let has_more = |source| self.has_more_of(log, source);
        waiting.any(has_more) || log.begun_since(self.seen).any(has_more)
    }

    /// Whether it has not read as far as here yet.
    pub(super) fn is_before(&self, marks: &Marks) -> bool {
        let mut marks = marks.iter().enumerate();
        marks.any(|(place, mark)| self.reads(place) && self.turn(place).next < mark)
    }

    /// Passes over what is gone; how many batches these are.
    pub(super) fn pass_over(&mut self, log: &Log) -> u64 {
        self.look(log);
        let mut missed = 0;
        if std::mem::replace(&mut self.gone, log.gone()) == log.gone() {
            return missed;
        }
        for Reverse((.., source)) in &self.waiting {
            if let Some(queue) = log.queue(*source)
                && let Some(turn) = self.turns.get_mut(*source)
            {
                missed += queue.first().saturating_sub(turn.next);
                turn.next = turn.next.max(queue.first());
            }
        }
        missed
    }

    /// Reads in turns what there is, as far as it `takes` it.
    pub(super) fn read(&mut self, log: &Log, mut takes: impl FnMut(&Batch) -> Step) {
        self.look(log);
        let mut aside = Vec::new();
        while let Some(Reverse(next)) = self.waiting.pop() {
            let (begins, _, source) = next;
            let front = log.queue(source).filter(|_| self.has_more_of(log, source));
            let front = front.and_then(|queue| queue.from(self.turn(source).next));
            let Some(turn) = self.turns.get_mut(source) else {
                continue;
            };
            turn.waits = false;
            let Some((number, batch)) = front else {
                continue;
            };
            let step = takes(batch);
            if step != Step::Read {
                turn.waits = true;
                aside.push(Reverse(next));
                if step == Step::Enough {
                    break;
                }
                continue;
            }
            batch.take();
            // What was put aside may have been overtaken.
            self.clock = self.clock.max(begins);
            turn.served = self.clock.saturating_add(batch.cost() as u64);
            turn.next = number + 1;
            if self.has_more_of(log, source) {
                self.wait(source);
            }
        }
        self.waiting.extend(aside);
    }

    /// A source waits for its turn.
    fn wait(&mut self, source: usize) {
        if let Some(turn) = self.turns.get_mut(source) {
            turn.waits = true;
            let begins = turn.served.max(self.clock);
            self.came += 1;
            self.waiting.push(Reverse((begins, self.came, source)));
        }
    }

    fn waiting(&self) -> impl Iterator<Item = usize> {
        self.waiting.iter().map(|Reverse((.., source))| *source)
    }

    /// Whose batches were begun since it looked last has something to read.
    fn look(&mut self, log: &Log) {
        let mut new = Vec::new();
        for source in log.begun_since(self.seen) {
            if self.turns.len() <= source {
                self.turns.resize(source + 1, Turn::default());
            }
            // What is gone already it has missed.
            let end = log.queue(source).map_or(0, Queue::end);
            let turn = self.turn(source);
            if self.reads(source) && turn.next < end && !turn.waits {
                new.push(source);
            }
        }
        // Who began first is first.
        new.into_iter().rev().for_each(|source| self.wait(source));
        self.seen = log.begun();
    }

    /// Whether there is something of this source to read.
    fn has_more_of(&self, log: &Log, source: usize) -> bool {
        let end = self
            .until
            .as_ref()
            .map_or(u64::MAX, |until| until.of(source));
        log.queue(source).is_some_and(|queue| {
            let next = self.turn(source).next.max(queue.first());
            next < queue.end().min(end) && self.reads(source)
        })
    }

    fn reads(&self, place: usize) -> bool {
        self.own.is_none_or(|own| own.index() != place)
    }

    fn turn(&self, place: usize) -> Turn {
        self.turns.get(place).copied().unwrap_or_default()
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
            fetched: false,
            withdrawn: false,
        }
    }

    /// The places whose items are read, in order, with how many bytes.
    fn read(reader: &mut Reader, log: &Log) -> Option<(Place, usize)> {
        let mut read = None;
        reader.read(log, |batch| {
            if read.is_some() {
                return Step::Enough;
            }
            read = Some((batch.entries[0].data[0], batch.bytes()));
            Step::Read
        });
        read
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
        assert_eq!(all(&mut main), [3, 1, 1]);
        assert_eq!(all(&mut again), [3, 1]);
        assert!(!main.has_more(&log) && !again.has_more(&log));
        assert!(!main.is_before(&log.ends()) && main.marks().of(2) == 2);
    }

    #[test]
    fn whose_items_are_read_is_looked_at_no_more() {
        let (mut log, now) = (log(), crate::platform::now());
        let mut reader = Reader::new(&log.ends(), None, None);
        for place in 0..128 {
            log.append(Source::at(place), entry(place, 0, 100), now);
        }
        for place in 0..128 {
            assert_eq!(read(&mut reader, &log), Some((place, 100)), "in order");
        }
        assert!(reader.waiting.is_empty() && !reader.has_more(&log));
        log.append(Source::at(5), entry(5, 1, 100), now);
        assert!(reader.has_more(&log));
        assert_eq!(reader.pass_over(&log), 0);
        assert_eq!(reader.waiting().collect::<Vec<_>>(), [6]);
        assert_eq!(
            log.begun_since(log.begun() - 2).collect::<Vec<_>>(),
            [6, 128]
        );
    }

    #[test]
    fn a_batch_costs_no_look_at_all_others_that_wait() {
        const SOURCES: u8 = 127;
        let (mut log, start) = (log(), crate::platform::now());
        for number in 0..10 {
            for place in 0..SOURCES {
                // Of each source in a batch of its own.
                let at = start + Duration::from_millis(number);
                log.append(Source::at(place), entry(place, number, 100), at);
            }
        }
        let mut reader = Reader::new(&Marks::default(), None, None);
        let (mut looks, mut read) = (0, Vec::new());
        reader.read(&log, |batch| {
            looks += 1;
            // The half of them may not be read yet.
            if batch.entries[0].data[0] % 2 > 0 {
                return Step::Later;
            }
            read.push(batch.entries[0].data[0]);
            Step::Read
        });
        let even = usize::from(SOURCES).div_ceil(2);
        assert_eq!((read.len(), looks), (10 * even, read.len() + even - 1));
        assert!(read[..even].is_sorted(), "each once before any twice");
        let mut first = None;
        reader.read(&log, |batch| {
            first.get_or_insert(batch.entries[0].data[0]);
            Step::Enough
        });
        assert_eq!(first, Some(1), "who was put aside is next");
        assert!(reader.has_more(&log));
        assert_eq!(reader.waiting.len(), even - 1);
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
