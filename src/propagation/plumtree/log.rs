//! What was accepted lately: every peer reads on in it at its own pace.
//!
//! One log serves all peers, so that an accepted item costs one entry however many there are, and a batch is encoded
//! once for everybody it is pushed to. It has a queue for each source ([`Source`]), in order; how far a peer has read in each, and whose
//! turn it is, is in `reader.rs`. So who floods is what a slow reader is told late, and nobody else.
//!
//! Bounds: `max_bytes` of items, with their overhead, as soon as those that came together are all here. What everybody has had time for leaves
//! first, the eldest of it, so that what was brought long ago takes no room from who brings something now; then the eldest of whoever has most
//! here. What just came together stays, since nobody can have read it, unless it is over a quarter of the room. Beside them, what of a batch was
//! encoded: as much again as its items at most; and the list of what was fetched ([`Told`]). A peer that reads so slowly that batches were still to come misses them
//! here, which is told ([`super::overtaken`]); transactions it finds by reconciliation.

use std::{
    cell::{Cell, OnceCell},
    cmp::Reverse,
    collections::{HashMap, VecDeque, hash_map},
    time::Duration,
};

use bytes::Bytes;

use super::{
    long::LONG,
    told::{Fetched, Told},
};
use crate::{
    chain::ShortId,
    keyed::Keyed,
    order,
    platform::Instant,
    propagation::{
        announce::Columns,
        source::{Place, Source},
        wire::{Items, Kind, MAX_BATCH},
    },
};

/// A batch is full with so many bytes: big enough to cost little each, small enough that a vote waits for few.
pub(super) const BATCH_BYTES: usize = 32 << 10;
/// The same of a tree whose items wait for no company, and so for few others where a limit holds them up.
const URGENT_BATCH_BYTES: usize = 4 << 10;
/// Beside its bytes, what an entry costs here, about; and a batch.
const OVERHEAD: usize = 128;
const BATCH_OVERHEAD: usize = 256;
/// What a source just brought pushes out others' while all that is here of it is at most this part of the room.
const SHIELDED: usize = 4;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Log {
    /// By the numbers of their sources.
    queues: Vec<Queue>,
    /// The numbers of those, whoever began a batch last first; and how many batches were begun in all.
    recent: Vec<usize>,
    begun: u64,
    /// How many have left.
    gone: u64,
    /// Where each entry is.
    index: HashMap<ShortId, At, Keyed>,
    /// What was fetched on its way here, of which everybody is told at once.
    told: Told,
    bytes: usize,
    max_bytes: usize,
    /// What is older everybody has had time for.
    fresh_for: Duration,
    /// When something came last.
    last_at: Option<Instant>,
    /// How long single items may wait for company in a batch, and the bytes with which it is full.
    company: Duration,
    batch_bytes: usize,
}

/// What one source brought.
#[derive(Debug, Default)]
pub(super) struct Queue {
    batches: VecDeque<Batch>,
    /// The number of the first batch.
    first: u64,
    /// How many batches there were in all when the last one here was begun.
    begun: u64,
    /// What they cost, and what all have that were ever here.
    bytes: usize,
    total: u64,
}

/// For each source, the number of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Marks(Vec<u64>);

#[derive(Clone, Copy, Debug, PartialEq)]
struct At {
    source: Source,
    /// The batch's number, and which of its entries it is.
    number: u64,
    entry: usize,
}

/// Items that came together, and leave together.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) entries: Vec<Entry>,
    pub(super) at: Instant,
    bytes: usize,
    cost: usize,
    /// What all batches of this source before this one have cost.
    before: u64,
    /// Who has some of it.
    known: u128,
    /// Its number in the list of what was fetched, if all of it was: a batch is so or not.
    told: Option<u64>,
    /// Whether some of it is of no use any more.
    withdrawn: bool,
    /// Whether somebody has read it: nothing is added after that, which they would miss.
    taken: Cell<bool>,
    /// As it is pushed and announced, encoded when the first peer wants it.
    frame: OnceCell<Bytes>,
    columns: OnceCell<Columns>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: ShortId,
    pub(super) data: Bytes,
    pub(super) fee_rate: u64,
    /// The places of peers that have it: they sent or announced it.
    pub(super) known: u128,
    /// Whether it was fetched on its way here.
    pub(super) fetched: bool,
    /// It is of no use any more: who asks for it gets it, and nobody is told.
    pub(super) withdrawn: bool,
}

impl Log {
    /// Items are read, and come for, while they are `fresh_for` so long; single ones may wait for `company` so long.
    pub(super) fn new(
        max_bytes: usize,
        fresh_for: Duration,
        company: Duration,
        keyed: Keyed,
    ) -> Self {
        Self {
            queues: Vec::new(),
            recent: Vec::new(),
            begun: 0,
            gone: 0,
            index: HashMap::with_hasher(keyed),
            told: Told::default(),
            bytes: 0,
            max_bytes,
            fresh_for,
            last_at: None,
            company,
            batch_bytes: if company.is_zero() {
                URGENT_BATCH_BYTES
            } else {
                BATCH_BYTES
            },
        }
    }

    /// The bytes with which a batch is full.
    pub(super) fn batch_bytes(&self) -> usize {
        self.batch_bytes
    }

    /// What a source has brought.
    pub(super) fn queue(&self, source: usize) -> Option<&Queue> {
        self.queues.get(source)
    }

    /// How many batches were begun in all.
    pub(super) fn begun(&self) -> u64 {
        self.begun
    }

    /// How many batches have left.
    pub(super) fn gone(&self) -> u64 {
        self.gone
    }

    /// The sources of all batches that were begun since there were so many, each once, the latest first.
    pub(super) fn begun_since(&self, begun: u64) -> impl Iterator<Item = usize> {
        let is_since = move |queue: &Queue| queue.begun > begun;
        let recent = self.recent.iter().copied();
        recent.take_while(move |source| self.queue(*source).is_some_and(is_since))
    }

    /// How many of them have brought something lately.
    pub(super) fn sources(&self) -> usize {
        let is_fresh = |batch: &&Batch| !self.is_old(batch);
        let last = self.queues.iter().filter_map(|queue| queue.batches.back());
        last.filter(is_fresh).count()
    }

    /// Whether everybody has had time for it, when something came last.
    fn is_old(&self, batch: &Batch) -> bool {
        self.last_at
            .is_some_and(|last| last.duration_since(batch.at) > self.fresh_for)
    }

    /// The numbers that the next batches will have.
    pub(super) fn ends(&self) -> Marks {
        Marks(self.queues.iter().map(Queue::end).collect())
    }

    /// The numbers of the first batches that came so long ago at most, whoever brought them; of so many items at most, the newest.
    pub(super) fn recent(&self, age: Duration, most: usize, now: Instant) -> Marks {
        let mut recent = Vec::new();
        for (place, queue) in self.queues.iter().enumerate() {
            let newest = queue.batches.iter().rev();
            let numbers = (queue.first..queue.end()).rev();
            let is_recent =
                |(_, batch): &(u64, &Batch)| now.saturating_duration_since(batch.at) <= age;
            let batches = numbers.zip(newest).take_while(is_recent).take(most);
            recent.extend(batches.map(|(number, batch)| (batch, place, number)));
        }
        order::sort_by_key(&mut recent, |(batch, place, number)| {
            (Reverse(batch.at), *place, Reverse(*number))
        });
        let (mut marks, mut items) = (self.ends(), 0);
        for (batch, place, number) in recent {
            items += batch.entries.len();
            if items > most {
                break;
            }
            if let Some(mark) = marks.0.get_mut(place) {
                *mark = number;
            }
        }
        marks
    }

    /// When something came last.
    pub(super) fn last_at(&self) -> Option<Instant> {
        self.last_at
    }

    /// The number of the batch that is a source's last, or will be its first.
    pub(super) fn last_of(&self, source: Source) -> u64 {
        let queue = self.queues.get(source.index());
        queue.map_or(0, |queue| queue.end().saturating_sub(1))
    }

    /// Adds an entry; those of one source that come while the first may wait for company share a batch, but for a long one, which all are pushed as it is.
    /// [`Self::trim`] is to follow the last of those that
    /// come together.
    pub(super) fn append(&mut self, source: Source, entry: Entry, now: Instant) {
        self.last_at = Some(now);
        let place = source.index();
        if self.queues.len() <= place {
            self.recent.extend(self.queues.len()..=place);
            self.queues.resize_with(place + 1, Queue::default);
        }
        let Some(queue) = self.queues.get_mut(place) else {
            return;
        };
        let (company, full) = (self.company, self.batch_bytes);
        let open = |batch: &Batch| {
            !batch.taken.get()
                && batch.told.is_some() == entry.fetched
                && batch.bytes < full
                && entry.data.len() <= LONG
                && batch.entries.len() < MAX_BATCH
                && now.duration_since(batch.at) <= company
        };
        if !queue.batches.back().is_some_and(open) {
            if let Some(full) = queue.batches.back_mut() {
                full.entries.shrink_to_fit();
            }
            let told = entry.fetched.then(|| self.told.push(place, queue.end()));
            queue.batches.push_back(Batch::new(told, now, queue.total));
            queue.count(BATCH_OVERHEAD);
            self.bytes += BATCH_OVERHEAD;
            self.begun += 1;
            queue.begun = self.begun;
            if let Some(at) = self.recent.iter().position(|source| *source == place)
                && let Some(later) = self.recent.get_mut(..=at)
            {
                later.rotate_right(1);
            }
        }
        let number = queue.end().saturating_sub(1);
        let Some(batch) = queue.batches.back_mut() else {
            return;
        };
        let at = At {
            source,
            number,
            entry: batch.entries.len(),
        };
        self.index.insert(entry.id, at);
        let cost = batch.add(entry);
        queue.count(cost);
        self.bytes += cost;
    }

    /// Keeps no more than there is room for. What has come of a source from its batch with this number on stays as long as there is
    /// anything else and the source has at most its part of the room ([`SHIELDED`]): beyond that it pushes out nothing of others that is fresh.
    pub(super) fn trim(&mut self, source: Source, since: u64) {
        while self.bytes > self.max_bytes
            && let Some(place) = self.gives_way(source, since)
        {
            self.drop_front(place);
        }
    }

    /// Whose eldest batch goes next: the eldest of all if it is old, else that of who has most. A source that has its part of the room
    /// already pushes out nobody for being old.
    fn gives_way(&self, source: Source, since: u64) -> Option<usize> {
        let part = self.max_bytes / SHIELDED;
        let own = self.queues.get(source.index());
        let has_much = own.is_some_and(|own| own.bytes > part);
        let queues = self.queues.iter().enumerate();
        let fronts = queues.filter_map(|(place, queue)| {
            let front = queue.batches.front()?;
            let is_shielded = place == source.index() && queue.first >= since;
            let is_much = queue.bytes > part && queue.batches.len() > 1;
            let may_go = !is_shielded || is_much;
            may_go.then_some((place, queue, front))
        });
        let due = fronts.max_by_key(|(_, queue, front)| {
            let is_old = !has_much && self.is_old(front);
            let old_since = is_old.then_some(Reverse(front.at));
            (old_since, queue.bytes)
        });
        let own = own.filter(|own| own.batches.len() > 1);
        due.map(|(place, ..)| place).or(own.map(|_| source.index()))
    }

    fn drop_front(&mut self, place: usize) {
        let Some(queue) = self.queues.get_mut(place) else {
            return;
        };
        let Some(batch) = queue.batches.pop_front() else {
            return;
        };
        let number = queue.first;
        queue.first += 1;
        self.gone += 1;
        queue.bytes -= batch.cost;
        self.bytes -= batch.cost;
        for entry in &batch.entries {
            // What came once more while it was here is found at its later place.
            if let hash_map::Entry::Occupied(at) = self.index.entry(entry.id)
                && (at.get().source.index(), at.get().number) == (place, number)
            {
                at.remove();
            }
        }
        if batch.told.is_some() {
            let queues = &self.queues;
            let first = |source: usize| queues.get(source).map_or(0, Queue::first);
            self.told
                .left(|fetched| first(fetched.source) <= fetched.number);
        }
    }

    /// The number that the next batch will have that was fetched.
    pub(super) fn told_end(&self) -> u64 {
        self.told.end()
    }

    /// What was fetched from the batch with this number on, in order, as far as it is still here.
    pub(super) fn told_from(&self, told: u64) -> impl Iterator<Item = (u64, &Batch)> {
        let here = |fetched: Fetched| {
            let (number, batch) = self.queue(fetched.source)?.from(fetched.number)?;
            (number == fetched.number).then_some((fetched.told, batch))
        };
        self.told.from(told).filter_map(here)
    }

    /// What is ours from the batch with this number on costs here.
    pub(super) fn own_from(&self, number: u64) -> u64 {
        let own = self.queues.get(Source::OWN.index());
        own.map_or(0, |queue| {
            let from = queue.from(number);
            from.map_or(0, |(_, batch)| queue.total - batch.before)
        })
    }

    /// Nobody is to be told of this item any more.
    pub(super) fn withdraw(&mut self, id: ShortId) {
        let at = self.index.get(&id).copied();
        if let Some((batch, entry)) = at.and_then(|at| self.batch_mut(at))
            && let Some(entry) = batch.entries.get_mut(entry)
        {
            (batch.withdrawn, entry.withdrawn) = (true, true);
        }
    }

    fn batch_mut(&mut self, at: At) -> Option<(&mut Batch, usize)> {
        let queue = self.queues.get_mut(at.source.index())?;
        let batch = usize::try_from(at.number.checked_sub(queue.first)?).ok()?;
        Some((queue.batches.get_mut(batch)?, at.entry))
    }

    pub(super) fn get(&self, id: ShortId) -> Option<&Entry> {
        let at = self.index.get(&id)?;
        let queue = self.queues.get(at.source.index())?;
        let (number, batch) = queue.from(at.number)?;
        batch.entries.get(at.entry).filter(|_| number == at.number)
    }

    /// Notes that a peer has this item; false where it is not here.
    pub(super) fn mark(&mut self, id: ShortId, peer: Option<Place>) -> bool {
        let Some(at) = self.index.get(&id).copied() else {
            return false;
        };
        if let Some((batch, entry)) = self.batch_mut(at)
            && let Some(entry) = batch.entries.get_mut(entry)
        {
            entry.known |= bit(peer);
            batch.known |= bit(peer);
        }
        true
    }

    /// These places are free for other peers: nothing is known of those.
    pub(super) fn forget(&mut self, places: u128) {
        for batch in self.queues.iter_mut().flat_map(|queue| &mut queue.batches) {
            batch.known &= !places;
            for entry in &mut batch.entries {
                entry.known &= !places;
            }
        }
    }
}

impl Marks {
    /// For each source that had something, in order.
    pub(super) fn new(numbers: impl Iterator<Item = u64>) -> Self {
        Self(numbers.collect())
    }

    /// The number for the source with this number.
    pub(super) fn of(&self, source: usize) -> u64 {
        self.0.get(source).copied().unwrap_or(0)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        self.0.iter().copied()
    }
}

impl Queue {
    /// The number of the first batch that is still here.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The number that the next batch will have.
    pub(super) fn end(&self) -> u64 {
        self.first + self.batches.len() as u64
    }

    /// The batch with this number; the first there is if that one is gone already.
    pub(super) fn from(&self, number: u64) -> Option<(u64, &Batch)> {
        let number = number.max(self.first);
        let place = usize::try_from(number - self.first).ok()?;
        Some((number, self.batches.get(place)?))
    }

    fn count(&mut self, cost: usize) {
        self.bytes += cost;
        self.total += cost as u64;
    }
}

impl Batch {
    fn new(told: Option<u64>, at: Instant, before: u64) -> Self {
        Self {
            entries: Vec::with_capacity(1),
            at,
            bytes: 0,
            cost: BATCH_OVERHEAD,
            before,
            known: 0,
            told,
            withdrawn: false,
            taken: Cell::new(false),
            frame: OnceCell::new(),
            columns: OnceCell::new(),
        }
    }

    /// What the entry costs.
    fn add(&mut self, entry: Entry) -> usize {
        let cost = entry.data.len() + OVERHEAD;
        self.bytes += entry.data.len();
        self.cost += cost;
        self.known |= entry.known;
        self.entries.push(entry);
        cost
    }

    /// Somebody reads it.
    pub(super) fn take(&self) {
        self.taken.set(true);
    }

    /// Bytes of its items.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What it costs here.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    /// Its number in the list of what was fetched, of which everybody is told at once; `None`: it came by itself.
    pub(super) fn told(&self) -> Option<u64> {
        self.told
    }

    /// Whether all of it is for a peer whose place's bit this is.
    pub(super) fn is_all_for(&self, place: u128) -> bool {
        self.known & place == 0 && !self.withdrawn
    }

    /// The batch as it is announced to who has nothing of it.
    pub(super) fn columns(&self) -> &Columns {
        self.columns.get_or_init(|| {
            let mut columns = Columns::default();
            for entry in &self.entries {
                columns.push(entry.id, entry.data.len(), entry.fee_rate);
            }
            columns
        })
    }

    /// The batch as it is pushed.
    pub(super) fn frame(&self) -> Bytes {
        let frame = || {
            let items = self.entries.iter().map(|entry| entry.data.clone());
            encode(items.collect())
        };
        self.frame.get_or_init(frame).clone()
    }
}

impl Entry {
    /// Whether it is for a peer whose place's bit this is, which does not have it.
    pub(super) fn is_for(&self, place: u128) -> bool {
        self.known & place == 0 && !self.withdrawn
    }
}

/// Items as they are pushed.
fn encode(items: Vec<Bytes>) -> Bytes {
    Kind::Items(Items::packed(items)).into_frame()
}

/// A place's bit; a peer without a place has none.
pub(super) fn bit(place: Option<Place>) -> u128 {
    place.map_or(0, |place| 1_u128.checked_shl(place.into()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{chain::TransactionKey, platform::test};

    const COMPANY: Duration = Duration::from_millis(2);

    fn entry(number: u64, size: usize) -> Entry {
        let mut data = number.to_le_bytes().to_vec();
        data.resize(size, 0);
        Entry {
            id: TransactionKey::of(&data).short(),
            data: data.into(),
            fee_rate: 0,
            known: 0,
            fetched: false,
            withdrawn: false,
        }
    }

    const FRESH: Duration = Duration::from_secs(10);

    fn log(max_bytes: usize) -> Log {
        Log::new(max_bytes, FRESH, COMPANY, Keyed::new(&[1; 16]))
    }

    /// An entry that comes alone.
    fn append(log: &mut Log, source: Source, entry: Entry, now: Instant) {
        let since = log.last_of(source);
        log.append(source, entry, now);
        log.trim(source, since);
    }

    fn queue(log: &Log, source: Source) -> &Queue {
        &log.queues[source.index()]
    }

    #[test]
    fn one_sources_entries_share_a_batch_until_it_is_full_or_late_or_read() {
        let (mut log, now) = (log(1 << 20), crate::platform::now());
        let mut number = 0;
        let mut add = |log: &mut Log, source, at: u64, size| {
            number += 1;
            let at = now + Duration::from_millis(at);
            log.append(source, entry(number, size), at);
            queue(log, source).end()
        };
        let (own, peer) = (Source::OWN, Source::at(1));
        assert_eq!(add(&mut log, own, 0, 100), 1);
        assert_eq!(add(&mut log, own, 2, 100), 1);
        assert_eq!(add(&mut log, own, 3, 100), 2, "late");
        assert_eq!(add(&mut log, peer, 3, 100), 1, "another source");
        assert_eq!(add(&mut log, own, 3, 100), 2, "which is in nobody's way");
        assert_eq!(add(&mut log, peer, 3, BATCH_BYTES), 1);
        assert_eq!(add(&mut log, peer, 3, 100), 2, "full");
        let (number, batch) = queue(&log, peer).from(1).expect("it is there");
        assert!((number, batch.frame().is_empty()) == (1, false));
        batch.take();
        assert_eq!(add(&mut log, peer, 3, 100), 3, "read");
    }

    /// The ids of what was fetched, of the batches from this number on.
    fn told(log: &Log, from: u64) -> Vec<ShortId> {
        let batches = log.told_from(from).map(|(_, batch)| batch);
        let entries = batches.flat_map(|batch| &batch.entries);
        entries.map(|entry| entry.id).collect()
    }

    #[test]
    fn what_was_fetched_is_told_of_in_order_as_long_as_it_is_here() {
        let (mut log, now) = (log(40 * 1128), crate::platform::now());
        let fetched = |number| Entry {
            fetched: number % 2 > 0,
            ..entry(number, 1000)
        };
        let id = |number| entry(number, 1000).id;
        for number in 0..6 {
            log.append(Source::at(1), fetched(number), now);
        }
        assert_eq!(told(&log, 0), [id(1), id(3), id(5)]);
        assert_eq!(told(&log, 2), [id(5)]);
        assert_eq!((told(&log, 3), log.told_end()), (Vec::new(), 3));
        for number in 6..1006 {
            let since = log.last_of(Source::at(1));
            log.append(Source::at(1), fetched(number), now);
            log.trim(Source::at(1), since);
        }
        assert_eq!(log.told_end(), 503);
        let left = told(&log, 0);
        assert!((10..=20).contains(&left.len()));
        assert_eq!(left.last(), Some(&id(1005)));
    }

    #[test]
    fn what_is_fetched_is_told_at_once_however_much_was_before() {
        let (mut log, start) = (log(8 << 20), crate::platform::now());
        let (count, source) = (40_000, Source::at(1));
        let mut add = |from: u64, fetched| {
            for number in from..from + count {
                // Ten to a batch.
                let now = start + COMPANY * 2 * u32::try_from(number / 10).expect("small");
                let since = log.last_of(source);
                let entry = entry(number, 250);
                log.append(source, Entry { fetched, ..entry }, now);
                log.trim(source, since);
            }
        };
        add(0, true);
        add(count, false);
        let last = Entry {
            fetched: true,
            ..entry(2 * count, 250)
        };
        let id = last.id;
        append(&mut log, source, last, start + FRESH * 2);
        assert_eq!(told(&log, 0), [id]);
    }

    #[test]
    fn items_that_wait_for_no_company_make_short_batches() {
        let mut log = Log::new(1 << 20, FRESH, Duration::ZERO, Keyed::new(&[1; 16]));
        let now = crate::platform::now();
        for number in 0..100 {
            log.append(Source::at(1), entry(number, 100), now);
        }
        for batch in &queue(&log, Source::at(1)).batches {
            assert!(batch.entries.len() <= 41, "{}", batch.entries.len());
        }
    }

    #[test]
    fn the_eldest_of_who_has_most_leave_and_nothing_of_them_stays() {
        let (mut log, now) = (log(10_000), crate::platform::now());
        let (few, many) = (Source::OWN, Source::at(3));
        for number in 0..1000 {
            let at = now + Duration::from_millis(number) * 3;
            if number % 100 == 0 {
                append(&mut log, few, entry(number, 30), at);
            }
            append(&mut log, many, entry(number + 5000, 300), at);
            let batches = || log.queues.iter().flat_map(|queue| &queue.batches);
            let cost: usize = batches().map(Batch::cost).sum();
            let of_queues: usize = log.queues.iter().map(|queue| queue.bytes).sum();
            assert!(log.bytes <= 10_000 && cost == log.bytes && of_queues == cost);
            let entries: usize = batches().map(|batch| batch.entries.len()).sum();
            assert_eq!(log.index.len(), entries);
            for entry in batches().flat_map(|batch| &batch.entries) {
                assert!(log.get(entry.id).is_some_and(|found| found.id == entry.id));
            }
        }
        assert_eq!(queue(&log, few).first(), 0, "nothing of it is gone");
        assert!(queue(&log, many).first() > 900);
        assert_eq!(log.own_from(9), 30 + 128 + 256);
        let id = queue(&log, many).from(0).expect("some are left").1.entries[0].id;
        assert!(log.mark(id, Some(127)) && log.mark(id, None));
        assert_eq!(log.get(id).expect("it is there").known, 1 << 127);
        log.forget(bit(Some(127)) | bit(Some(3)));
        assert_eq!(log.get(id).expect("it is there").known, 0);
        let gone = entry(5000, 300).id;
        assert!(!log.mark(gone, Some(0)) && log.get(gone).is_none());
    }

    #[test]
    fn what_came_lately_is_found_whoever_brought_it_and_no_more_than_so_many() {
        let (mut log, start) = (log(1 << 20), crate::platform::now());
        for number in 0..20 {
            let source = Source::at(u8::try_from(number % 2).expect("small"));
            let at = start + COMPANY * 2 * number as u32;
            append(&mut log, source, entry(number, 300), at);
        }
        let of = |marks: &Marks| [0, 1].map(|at| marks.of(Source::at(at).index()));
        let now = start + COMPANY * 2 * 20;
        let recent = |numbers: u32, most| log.recent(COMPANY * 2 * numbers, most, now);
        assert_eq!(of(&recent(20, 100)), [0, 0]);
        assert_eq!(of(&recent(4, 100)), [8, 8]);
        assert_eq!(of(&recent(4, 3)), [9, 8]);
        assert_eq!(of(&recent(4, 0)), [10, 10]);
        assert_eq!(recent(0, 100), log.ends());
    }

    #[test]
    fn one_long_item_stays_whoever_has_most() {
        let (mut log, now) = (log(10_000), crate::platform::now());
        for number in 0..20 {
            append(
                &mut log,
                Source::at(1),
                entry(number, 300),
                now + COMPANY * 2 * number as u32,
            );
        }
        let long = entry(100, 9000);
        let id = long.id;
        append(&mut log, Source::at(2), long, now);
        assert!(log.get(id).is_some() && log.bytes <= 10_000);
    }

    #[test]
    fn what_came_twice_is_found_until_the_later_one_is_gone() {
        let (mut log, now) = (log(2000), crate::platform::now());
        let id = entry(1, 300).id;
        for number in [1, 2, 3, 1] {
            let at = now + COMPANY * 2 * number as u32;
            append(&mut log, Source::OWN, entry(number, 300), at + COMPANY);
        }
        assert!(queue(&log, Source::OWN).first() > 0 && log.get(id).is_some());
    }

    #[test]
    fn who_floods_pushes_out_nothing_old_of_others() {
        let (mut log, now) = (log(100_000), crate::platform::now());
        let (honest, flood) = (Source::at(1), Source::at(2));
        append(&mut log, honest, entry(1, 300), now);
        let later = now + FRESH + Duration::from_secs(1);
        for number in 0..1000 {
            append(&mut log, flood, entry(1000 + number, 300), later);
        }
        assert_eq!(queue(&log, honest).first(), 0);
        assert!(queue(&log, flood).first() > 0 && log.bytes <= 100_000);
    }

    #[test]
    fn what_is_old_gives_way_before_who_has_most_and_counts_as_nobodys_share() {
        let (mut log, now) = (log(100_000), crate::platform::now());
        for place in 0..10 {
            let at = now + COMPANY * 2 * u32::from(place);
            for number in 0..20 {
                let number = 100 * u64::from(place) + number;
                append(&mut log, Source::at(place), entry(number, 300), at);
            }
        }
        assert_eq!(log.sources(), 10);
        let (later, busy) = (now + 2 * FRESH, Source::at(100));
        for number in 0..50 {
            append(&mut log, busy, entry(10_000 + number, 300), later);
        }
        assert_eq!((log.sources(), queue(&log, busy).first()), (1, 0));
        let firsts = (0..10).map(|place| queue(&log, Source::at(place)).first());
        assert!(firsts.is_sorted_by(|a, b| a >= b), "the eldest first");
    }

    #[test]
    fn what_comes_together_stays_together() {
        let (mut log, now) = (log(100_000), crate::platform::now());
        for number in 0..200 {
            let source = Source::at(u8::try_from(number % 20).expect("small"));
            append(&mut log, source, entry(number, 300), now);
        }
        let (source, since) = (Source::at(100), log.last_of(Source::at(100)));
        for number in 0..40 {
            log.append(source, entry(10_000 + number, 300), now);
        }
        log.trim(source, since);
        assert!(log.bytes <= 100_000 && queue(&log, source).first() == 0);
        // Much more pushes out nothing of others that is fresh.
        for number in 0..1000 {
            log.append(source, entry(20_000 + number, 300), now);
        }
        log.trim(source, since);
        assert!(log.bytes <= 100_000 && queue(&log, source).first() > 0);
        let others = (0..20).map(|at| queue(&log, Source::at(at)).bytes);
        assert!(others.sum::<usize>() > 70_000);
    }
}
