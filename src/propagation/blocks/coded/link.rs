//! One peer's part in one broadcast.

use std::time::Duration;

use super::actions::Fate;
use super::chunk_set::ChunkSet;

use crate::platform::Instant;

/// How many times the patience a chunk may take that comes.
const MOST_TIMES: u32 = 3;

/// What a peer and we know of each other in a broadcast.
#[derive(Debug)]
pub(super) struct Link {
    /// The chunks that the peer holds: as it says, or since it sent them.
    pub(super) has: ChunkSet,
    /// The chunks that we sent it. None is ever sent twice.
    pub(super) sent: ChunkSet,
    /// The chunks that it sent us.
    pub(super) got: ChunkSet,
    /// The chunks that it wants from us.
    pub(super) wants: ChunkSet,
    /// The chunks that we want from it.
    pub(super) asked: ChunkSet,
    /// The chunks that we ever wanted from it.
    ever_asked: ChunkSet,
    /// When it last sent a chunk that it was asked for, or was asked, and told so, while none was open.
    progress: Instant,
    /// The same, but that bytes of a chunk which are on their way count as one for some time.
    moved: Instant,
    /// The chunks that it was told last that we want.
    told_wants: ChunkSet,
    /// Others are asked before it, until it is told anew what we want.
    pub(super) passed_over: bool,
    /// It was told that we want chunks, and has sent none for too long.
    pub(super) silent: bool,
    /// What it sent was lost here: no silence counts against it.
    excused: bool,
    /// It may be sent chunks that it has not asked for.
    pub(super) unasked: bool,
    /// It has spoken of the broadcast.
    pub(super) heard: bool,
    /// It was told of the broadcast.
    pub(super) told: bool,
    /// It is to be told how things stand.
    pub(super) stale: bool,
    /// It needs nothing any more.
    pub(super) done: bool,
    /// It does not take part, or no more: it holds nothing for us, whatever it said.
    left: bool,
    /// Its streams were others before: a chunk that was under way then may come twice.
    pub(super) has_moved: bool,
    /// It says that it holds all chunks: that its chain has accepted the block.
    pub(super) vouches: bool,
    /// It sent a false chunk. Nothing more is taken from it, nor given.
    pub(super) barred: bool,
}

impl Link {
    pub(super) fn new(heard: bool, unasked: bool, now: Instant) -> Self {
        Self {
            has: ChunkSet::EMPTY,
            sent: ChunkSet::EMPTY,
            got: ChunkSet::EMPTY,
            wants: ChunkSet::EMPTY,
            asked: ChunkSet::EMPTY,
            ever_asked: ChunkSet::EMPTY,
            progress: now,
            moved: now,
            told_wants: ChunkSet::EMPTY,
            passed_over: false,
            silent: false,
            excused: false,
            unasked,
            heard,
            told: false,
            stale: false,
            done: false,
            left: false,
            has_moved: false,
            vouches: false,
            barred: false,
        }
    }

    /// The chunks that the peer holds, or will once what we sent has arrived.
    pub(super) fn known(&self) -> ChunkSet {
        self.has | self.sent
    }

    /// The peer said what it holds, of `all`. False: that is nothing new.
    pub(super) fn says(&mut self, have: ChunkSet, all: ChunkSet) -> bool {
        self.heard = true;
        self.vouches |= have & all == all;
        let news = (have & all) - self.has;
        if self.left || news.is_empty() {
            return false;
        }
        self.has = self.has | news;
        true
    }

    /// The peer does not take part, or no more. False: that is nothing new.
    pub(super) fn leaves(&mut self) -> bool {
        self.heard = true;
        self.has = ChunkSet::EMPTY;
        self.asked = ChunkSet::EMPTY;
        !std::mem::replace(&mut self.left, true)
    }

    /// What has become of the block at the peer, if it has said so.
    pub(super) fn fate(&self) -> Option<Fate> {
        if self.vouches {
            Some(Fate::Has)
        } else {
            self.left.then_some(Fate::Left)
        }
    }

    /// The chunks that it can still send us: none comes twice.
    pub(super) fn offers(&self) -> ChunkSet {
        if self.barred {
            return ChunkSet::EMPTY;
        }
        self.has - self.got
    }

    /// How many chunks it has sent that we never wanted from it.
    pub(super) fn thrust(&self) -> usize {
        (self.got - self.ever_asked).len()
    }

    /// Asks the peer for a chunk.
    pub(super) fn ask(&mut self, index: u8, now: Instant) {
        if self.asked.is_empty() {
            (self.progress, self.moved) = (now, now);
        }
        self.asked.insert(index);
        self.ever_asked.insert(index);
        self.stale = true;
    }

    /// What we want of it goes out. True: its time begins, and it has let nobody wait before.
    pub(super) fn tells_wants(&mut self, now: Instant) -> bool {
        self.passed_over = false;
        let is_first = self.is_yet_to_be_told();
        if self.owed().is_empty() {
            (self.progress, self.moved) = (now, now);
        }
        self.told_wants = self.asked;
        is_first
    }

    /// The chunks that it is asked for, and was told so.
    fn owed(&self) -> ChunkSet {
        self.asked & self.told_wants
    }

    /// Whether it is asked for chunks, was told of none of them, and is not silent about others.
    pub(super) fn is_yet_to_be_told(&self) -> bool {
        !self.silent && !self.asked.is_empty() && self.owed().is_empty()
    }

    /// Takes back what the peer was asked for.
    pub(super) fn unask(&mut self) {
        self.stale |= !self.asked.is_empty();
        self.asked = ChunkSet::EMPTY;
    }

    /// It lets us wait, and what it was asked for is taken back. It is silent only about what it was told. True: that counts against it.
    pub(super) fn stalls(&mut self) -> bool {
        let is_silent = !self.owed().is_empty();
        self.silent |= is_silent;
        self.passed_over = true;
        self.unask();
        is_silent && !self.excused
    }

    /// Whether it pays where the broadcast is abandoned for want of chunks.
    pub(super) fn pays_for_silence(&self) -> bool {
        self.silent && !self.excused && !self.asked.is_empty()
    }

    /// A chunk of the peer is lost, and does not come again; which one it was nobody knows, so what it was asked for is taken back.
    pub(super) fn loses(&mut self) {
        (self.excused, self.silent, self.passed_over) = (true, false, true);
        self.unask();
    }

    /// What the peer sends was not read here for so long.
    pub(super) fn is_unheard(&mut self, time: Duration, now: Instant) {
        self.silent = false;
        for at in [&mut self.progress, &mut self.moved] {
            *at = now.min(*at + time);
        }
    }

    /// Bytes of the peer come. Over a slow line a chunk takes longer than the patience; that is as good as a chunk, unless it lasts too long.
    pub(super) fn comes(&mut self, patience: Duration, now: Instant) {
        if now <= self.progress + patience * MOST_TIMES {
            self.moved = now;
        }
    }

    /// A chunk has come from the peer. True: it was asked for it.
    pub(super) fn delivers(&mut self, index: u8, now: Instant) -> bool {
        self.has.insert(index);
        self.silent = false;
        let asked = self.asked.remove(index);
        if asked {
            (self.progress, self.moved) = (now, now);
        }
        asked
    }

    /// When the peer will have let us wait for too long. `None`: it was asked for nothing.
    pub(super) fn stalls_at(&self, patience: Duration) -> Option<Instant> {
        (!self.asked.is_empty()).then(|| self.moved + patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn a_chunk_that_comes_slowly_is_waited_for_and_one_that_drips_is_not() {
        let (start, patience) = (crate::platform::now(), Duration::from_millis(500));
        let mut link = Link::new(true, true, start);
        link.ask(3, start);
        let step = patience / 5;
        let at = |number: u32| start + step * number;
        // Twice the patience.
        for number in 1..10 {
            link.comes(patience, at(number));
            assert_eq!(link.stalls_at(patience), Some(at(number) + patience));
        }
        assert!(link.delivers(3, at(10)));
        link.ask(4, at(10));
        // Whatever frames they are of.
        for number in 11..100 {
            link.comes(patience, at(number));
        }
        let last = at(10) + patience * MOST_TIMES;
        assert_eq!(link.stalls_at(patience), Some(last + patience));
    }
}
