//! What was accepted lately, in order: every peer reads on in it at its own pace.
//!
//! One log serves all peers, so that an accepted item costs one entry however many there are, and a batch is encoded
//! once for everybody it is pushed to. A peer is a cursor. Bounds: `max_bytes` of items; the eldest leave
//! first. A peer that reads so slowly that they were still to come misses them here, which is told ([`super::overtaken`]); transactions it
//! finds by reconciliation.

use std::{
    cell::OnceCell,
    collections::{HashMap, VecDeque},
    mem,
    time::Duration,
};

use bytes::Bytes;

use crate::{
    chain::ShortId,
    keyed::Keyed,
    platform::Instant,
    propagation::{
        announce::Columns,
        wire::{Items, Kind, MAX_BATCH},
    },
};

/// Which of the peers' places: a bit in [`Entry::known`].
pub(super) type Place = u8;
/// Places there are; a peer beyond them is told even what it may know.
pub(super) const PLACES: Place = 128;
/// A batch is full with so many bytes: big enough to cost little each, small enough that a vote waits for few.
pub(super) const BATCH_BYTES: usize = 32 << 10;
/// Beside its bytes, what an entry costs here, about.
const OVERHEAD: usize = 128;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Log {
    batches: VecDeque<Batch>,
    /// The number of the first batch.
    first: u64,
    index: Index,
    bytes: usize,
    max_bytes: usize,
    /// What all items ever added have cost.
    total: u64,
}

/// Where each entry is: its batch's number, and its place in there.
///
/// In two generations: the younger one takes what comes, and when all that the elder one knows is gone it is emptied at once and
/// they change places. To take out each entry by itself would cost a look into cold memory; so there are up to
/// twice as many here as in the log.
#[derive(Debug)]
struct Index {
    younger: HashMap<ShortId, (u64, usize), Keyed>,
    elder: HashMap<ShortId, (u64, usize), Keyed>,
    /// The first batch of the younger one.
    since: u64,
}

/// Items that came together, and leave together.
#[derive(Debug)]
pub(super) struct Batch {
    /// Who sent them; `None`: they are our own.
    pub(super) source: Option<Place>,
    pub(super) entries: Vec<Entry>,
    pub(super) at: Instant,
    bytes: usize,
    /// What all batches before this one have cost.
    before: u64,
    /// Who has some of it.
    known: u128,
    /// As it is pushed and announced, encoded when the first peer wants it; nothing is added after that.
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
}

impl Log {
    pub(super) fn new(max_bytes: usize, keyed: Keyed) -> Self {
        Self {
            batches: VecDeque::new(),
            first: 0,
            index: Index::new(keyed),
            bytes: 0,
            max_bytes,
            total: 0,
        }
    }

    /// The number of the first batch that is still here.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The number that the next batch will have.
    pub(super) fn end(&self) -> u64 {
        self.first + self.batches.len() as u64
    }

    /// Adds an entry that is not there; entries of one source that come within `patience` share a batch.
    pub(super) fn append(
        &mut self,
        source: Option<Place>,
        entry: Entry,
        now: Instant,
        patience: Duration,
    ) {
        let open = |batch: &Batch| {
            batch.source == source
                && batch.frame.get().is_none()
                && batch.columns.get().is_none()
                && !batch.is_full()
                && now.duration_since(batch.at) <= patience
        };
        if !self.batches.back().is_some_and(open) {
            self.batches.push_back(Batch {
                source,
                entries: Vec::new(),
                at: now,
                bytes: 0,
                before: self.total,
                known: 0,
                frame: OnceCell::new(),
                columns: OnceCell::new(),
            });
        }
        let number = self.end().saturating_sub(1);
        let Some(batch) = self.batches.back_mut() else {
            return;
        };
        self.bytes += entry.data.len() + OVERHEAD;
        batch.bytes += entry.data.len();
        batch.known |= entry.known;
        self.total += (entry.data.len() + OVERHEAD) as u64;
        self.index.insert(entry.id, (number, batch.entries.len()));
        batch.entries.push(entry);
        while self.bytes > self.max_bytes && self.batches.len() > 1 {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        let Some(batch) = self.batches.pop_front() else {
            return;
        };
        let bytes = |entry: &Entry| entry.data.len() + OVERHEAD;
        self.bytes -= batch.entries.iter().map(bytes).sum::<usize>();
        self.first += 1;
        self.index.forget_before(self.first, self.end());
    }

    /// The batch with this number; the first there is if that one is gone already.
    pub(super) fn from(&self, number: u64) -> Option<(u64, &Batch)> {
        let number = number.max(self.first);
        let place = usize::try_from(number - self.first).ok()?;
        Some((number, self.batches.get(place)?))
    }

    /// What the items from the batch with this number on cost here.
    pub(super) fn bytes_from(&self, number: u64) -> u64 {
        self.from(number)
            .map_or(0, |(_, batch)| self.total - batch.before)
    }

    pub(super) fn get(&self, id: ShortId) -> Option<&Entry> {
        let (number, place) = self.index.get(id, self.first)?;
        let batch = usize::try_from(number - self.first).ok()?;
        self.batches.get(batch)?.entries.get(place)
    }

    /// Notes that a peer has this item; false where it is not here.
    pub(super) fn mark(&mut self, id: ShortId, peer: Option<Place>) -> bool {
        let Some((number, place)) = self.index.get(id, self.first) else {
            return false;
        };
        let batch = usize::try_from(number - self.first).ok();
        let batch = batch.and_then(|batch| self.batches.get_mut(batch));
        if let Some(batch) = batch
            && let Some(entry) = batch.entries.get_mut(place)
        {
            entry.known |= bit(peer);
            batch.known |= bit(peer);
        }
        true
    }

    /// These places are free for other peers: nothing is known of those.
    pub(super) fn forget(&mut self, places: u128) {
        for batch in &mut self.batches {
            if bit(batch.source) & places != 0 {
                batch.source = None;
            }
            batch.known &= !places;
            for entry in &mut batch.entries {
                entry.known &= !places;
            }
        }
    }
}

impl Index {
    fn new(keyed: Keyed) -> Self {
        Self {
            younger: HashMap::with_hasher(keyed.clone()),
            elder: HashMap::with_hasher(keyed),
            since: 0,
        }
    }

    /// Where an entry is, unless its batch is before the first one.
    fn get(&self, id: ShortId, first: u64) -> Option<(u64, usize)> {
        let at = self.younger.get(&id).or_else(|| self.elder.get(&id))?;
        Some(*at).filter(|(number, _)| *number >= first)
    }

    fn insert(&mut self, id: ShortId, at: (u64, usize)) {
        self.younger.insert(id, at);
    }

    /// Batches before `first` are gone; the next one will be `end`.
    fn forget_before(&mut self, first: u64, end: u64) {
        if first >= self.since {
            mem::swap(&mut self.younger, &mut self.elder);
            self.younger.clear();
            self.since = end;
        }
    }
}

impl Batch {
    /// Bytes of its items.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES || self.entries.len() >= MAX_BATCH
    }

    /// The places of peers that have some of it.
    pub(super) fn known(&self) -> u128 {
        self.known
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
        let encode = || {
            let items = self.entries.iter().map(|entry| entry.data.clone());
            Kind::Items(Items::packed(items.collect())).into_frame()
        };
        self.frame.get_or_init(encode).clone()
    }
}

/// A place's bit; a peer without a place has none.
pub(super) fn bit(place: Option<Place>) -> u128 {
    place.map_or(0, |place| 1_u128.checked_shl(place.into()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{chain::TransactionKey, platform::test};

    fn entry(number: u64, size: usize) -> Entry {
        let mut data = number.to_le_bytes().to_vec();
        data.resize(size, 0);
        Entry {
            id: TransactionKey::of(&data).short(),
            data: data.into(),
            fee_rate: 0,
            known: 0,
        }
    }

    #[test]
    fn one_sources_entries_share_a_batch_until_it_is_full_or_late_or_sent() {
        let (mut log, now, patience) = (
            Log::new(1 << 20, Keyed::new(&[1; 16])),
            crate::platform::now(),
            Duration::from_millis(2),
        );
        let mut number = 0;
        let mut add = |log: &mut Log, source, at: u64, size| {
            number += 1;
            log.append(
                source,
                entry(number, size),
                now + Duration::from_millis(at),
                patience,
            );
            log.end()
        };
        assert_eq!(add(&mut log, None, 0, 100), 1);
        assert_eq!(add(&mut log, None, 2, 100), 1);
        assert_eq!(add(&mut log, None, 3, 100), 2, "late");
        assert_eq!(add(&mut log, Some(1), 3, 100), 3, "another source");
        assert_eq!(add(&mut log, Some(1), 3, BATCH_BYTES), 3);
        assert_eq!(add(&mut log, Some(1), 3, 100), 4, "full");
        let (number, batch) = log.from(3).expect("it is there");
        assert!((number, batch.frame().is_empty()) == (3, false));
        assert_eq!(add(&mut log, Some(1), 3, 100), 5, "sent");
    }

    #[test]
    fn the_eldest_leave_and_nothing_of_them_stays() {
        let (mut log, now) = (
            Log::new(10_000, Keyed::new(&[1; 16])),
            crate::platform::now(),
        );
        for number in 0..1000 {
            log.append(None, entry(number, 300), now, Duration::ZERO);
            let at = now + Duration::from_millis(number);
            log.append(Some(3), entry(number + 5000, 300), at, Duration::ZERO);
            let entries: usize = log.batches.iter().map(|batch| batch.entries.len()).sum();
            assert!(log.bytes <= 10_000 && entries * 428 == log.bytes);
            let known = log.index.younger.len() + log.index.elder.len();
            assert!(known <= 2 * entries + 2, "{known} of {entries}");
            for entry in log.batches.iter().flat_map(|batch| &batch.entries) {
                assert!(log.get(entry.id).is_some_and(|found| found.id == entry.id));
            }
        }
        let (number, batch) = log.from(0).expect("some are left");
        assert!(number > 1900 && number < log.end());
        let id = batch.entries[0].id;
        assert!(log.mark(id, Some(127)) && log.mark(id, None));
        assert_eq!(log.get(id).expect("it is there").known, 1 << 127);
        log.forget(bit(Some(127)) | bit(Some(3)));
        assert_eq!(log.get(id).expect("it is there").known, 0);
        assert!(log.batches.iter().all(|batch| batch.source.is_none()));
        assert!(!log.mark(entry(0, 300).id, Some(0)) && log.get(entry(0, 300).id).is_none());
    }
}
