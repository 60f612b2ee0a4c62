//! A peer that has snapshots: what it offers, what it is asked for, how fast it sends.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    bitmap::Bitmap,
    pace::Pace,
    wire::{Message, Part, Request},
};
use crate::{
    chain::{SNAPSHOT_GROUP, SnapshotId},
    platform::Instant,
};

/// Requests of one peer that have no end yet, cancelled ones too: who never ends those is asked no more.
const MAX_REQUESTS: usize = 64;
/// What is asked of who has not been measured.
const FIRST_WINDOW: f64 = 2_097_152.0;
/// Beyond the way there and back, a source is asked for what it sends in so many seconds, so that it never waits.
const AHEAD: f64 = 0.25;
/// The first rest of who did not answer, or has no time.
const REST: Duration = Duration::from_secs(1);
/// A rest is twice the one before, and at most 2^6 times the first.
const MAX_REST: u32 = 6;

#[derive(Debug)]
pub(super) struct Source {
    /// What it has of each snapshot; `None`: all.
    pub(super) offers: BTreeMap<SnapshotId, Option<Bitmap>>,
    /// What it was asked for, in the order of its numbers.
    pub(super) requests: BTreeMap<u32, Asked>,
    pub(super) pace: Pace,
    /// Bytes that it is asked for and that are not cancelled.
    owed: usize,
    active: usize,
    last_number: u32,
    rest_until: Option<Instant>,
    /// How often it let us down since it last answered a request to its end.
    failures: u32,
    /// It has lied: nothing is taken from it any more.
    pub(super) is_liar: bool,
}

/// A request under way.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) snapshot: SnapshotId,
    pub(super) part: Part,
    pub(super) next: u16,
    pub(super) end: u16,
    /// The first piece has to bring the values.
    pub(super) values: bool,
    pub(super) is_cancelled: bool,
    /// Bytes to come, about: all groups count as whole.
    left: usize,
}

impl Source {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            offers: BTreeMap::new(),
            requests: BTreeMap::new(),
            pace: Pace::new(now),
            owed: 0,
            active: 0,
            last_number: 0,
            rest_until: None,
            failures: 0,
            is_liar: false,
        }
    }

    /// Whether it has a part of a snapshot, as it says.
    pub(super) fn has(&self, snapshot: &SnapshotId, part: Part) -> bool {
        match (self.offers.get(snapshot), part) {
            (None, _) => false,
            (Some(None), _) | (Some(Some(_)), Part::Hashes) => true,
            (Some(Some(have)), Part::Chunk(index)) => have.contains(index),
        }
    }

    /// It does not have a part of a snapshot of so many chunks that it said it has. Without the hashes it has nothing.
    pub(super) fn lacks(&mut self, snapshot: &SnapshotId, part: Part, chunks: u32) {
        match part {
            Part::Hashes => drop(self.offers.remove(snapshot)),
            Part::Chunk(index) => {
                if let Some(have) = self.offers.get_mut(snapshot) {
                    have.get_or_insert_with(|| Bitmap::all(chunks))
                        .remove(index);
                }
            }
        }
    }

    /// Whether it can be asked for more. One that let us down is asked for one thing at a time until it has brought that.
    pub(super) fn has_room(&self, max_window: usize, now: Instant) -> bool {
        if self.is_liar
            || self.requests.len() >= MAX_REQUESTS
            || self.rest_until.is_some_and(|until| now < until)
        {
            return false;
        }
        let window = self.pace.measured().map_or(FIRST_WINDOW, |rate| {
            rate * (AHEAD + self.pace.latency().as_secs_f64())
        });
        self.active == 0 || self.failures == 0 && (self.owed as f64) < window.min(max_window as f64)
    }

    /// Asks it for groups of a part.
    pub(super) fn ask(
        &mut self,
        (snapshot, part): (SnapshotId, Part),
        (first, end): (u16, u16),
        values: bool,
        now: Instant,
    ) -> Message {
        if self.active == 0 {
            self.pace.begin(now);
        }
        let left = usize::from(end - first) * SNAPSHOT_GROUP;
        (self.owed, self.active) = (self.owed + left, self.active + 1);
        self.last_number = self.last_number.wrapping_add(1);
        let number = self.last_number;
        let asked = Asked {
            snapshot,
            part,
            next: first,
            end,
            values,
            is_cancelled: false,
            left,
        };
        self.requests.insert(number, asked);
        Message::Request(Request {
            number,
            snapshot,
            part,
            first,
            end,
            values,
        })
    }

    /// So many groups have come for a request. True: it is over.
    pub(super) fn came(&mut self, number: u32, groups: u16, bytes: usize, now: Instant) -> bool {
        let Some(asked) = self.requests.get_mut(&number) else {
            return false;
        };
        asked.next += groups;
        asked.values = false;
        let left = usize::from(asked.end.saturating_sub(asked.next)) * SNAPSHOT_GROUP;
        let less = asked.left.saturating_sub(left);
        asked.left = left;
        if !asked.is_cancelled {
            self.owed = self.owed.saturating_sub(less);
        }
        self.pace.arrived(bytes, now);
        let is_over = asked.next >= asked.end;
        if is_over {
            self.end(number);
            self.failures = 0;
        }
        is_over
    }

    /// A request is answered, or refused.
    pub(super) fn end(&mut self, number: u32) -> Option<Asked> {
        let asked = self.requests.remove(&number)?;
        if !asked.is_cancelled {
            self.owed = self.owed.saturating_sub(asked.left);
            self.active = self.active.saturating_sub(1);
        }
        Some(asked)
    }

    /// What it was asked for and is not needed any more, as far as `is_needless` says so: the numbers, and what each was.
    pub(super) fn cancel(&mut self, is_needless: impl Fn(&Asked) -> bool) -> Vec<(u32, Part)> {
        let mut cancelled = Vec::new();
        for (number, asked) in &mut self.requests {
            if !asked.is_cancelled && is_needless(asked) {
                asked.is_cancelled = true;
                self.owed = self.owed.saturating_sub(asked.left);
                self.active = self.active.saturating_sub(1);
                cancelled.push((*number, asked.part));
            }
        }
        cancelled
    }

    /// It did not do what it was asked for: it is left alone for a while.
    pub(super) fn rest(&mut self, now: Instant) {
        self.rest_until = Some(now + REST * (1 << self.failures.min(MAX_REST)));
        self.failures += 1;
    }

    /// What it sends was not read here for so long.
    pub(super) fn unheard(&mut self, time: Duration, now: Instant) {
        self.pace.unheard(time, now);
    }

    /// Whether something is owed and nothing came for so long.
    pub(super) fn is_stalled(&self, patience: Duration, now: Instant) -> bool {
        self.active > 0 && now.saturating_duration_since(self.pace.heard()) >= patience
    }

    /// In how many seconds it will have brought a part, as far as can be told.
    pub(super) fn seconds_to_bring(&self, part: Part, now: Instant) -> f64 {
        let active = self.requests.values().filter(|it| !it.is_cancelled);
        let mut bytes = 0;
        for asked in active {
            bytes += asked.left;
            if asked.part == part {
                break;
            }
        }
        bytes as f64 / self.pace.hoped(true, now)
    }

    /// In how many seconds it would bring so many bytes more.
    pub(super) fn seconds_for(&self, bytes: usize, now: Instant) -> f64 {
        let rate = self.pace.hoped(self.active > 0, now);
        (self.owed + bytes) as f64 / rate + self.pace.latency().as_secs_f64()
    }

    /// The parts that it is asked for.
    pub(super) fn owes(&self) -> BTreeSet<Part> {
        let active = self.requests.values().filter(|it| !it.is_cancelled);
        active.map(|it| it.part).collect()
    }
}
