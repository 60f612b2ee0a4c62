//! The pool of accepted transactions: what peers may fetch, blocks are rebuilt from and pools are reconciled by.
//!
//! Entries lie in a slab and are found by [`ShortId`], the name that announcements carry. By what they pay for 1,000 bytes
//! they fall into 252 classes, four to each doubling, like the buckets of an HdrHistogram; in a class each source ([`Source`]) has a queue
//! in order of arrival, linked through the slab. So insertion, lookup, removal and eviction take the same few steps however many
//! there are. Order within a class is not worth more: its fee rates are within a quarter of each other.
//!
//! When the pool is full, somebody of the lowest class leaves for a newcomer of that class or a higher one: the eldest, if it has been there for
//! [`MempoolConfig::old_after`] and the newcomer's source has no quarter of the class yet, so that who once filled the pool takes no room from who comes now; else the eldest of the source that
//! has most in there, so that who floods pushes out what it brought itself. A newcomer
//! that pays less than all is refused. What left for another, found no room, is ignored by the chain or has expired is remembered for a while (`unwanted.rs`). Among equals the newcomer wins, because otherwise a chain without fees would
//! come to a halt with the first full pool.
//!
//! **Two transactions with one short id.** The elder stays, and the other is [`Insertion::Collision`]. That is
//! harmless: it has been accepted and may still travel and stand in a block, only this pool does not serve it. Somebody who
//! wants that for a transaction of another needs 2^64 hashes ([`ShortId`] has the sums); by chance a million entries hold
//! such a pair once in 30 million pools.
//!
//! **Bounds.** [`MempoolConfig::max_bytes`], counting [`OVERHEAD`] for each entry, and [`MempoolConfig::max_age`]. Tables grow with
//! use, keep the size that they once had, and are counted by the overhead. The data is kept as it is given:
//! a slice of a frame keeps the whole frame in memory, so a caller that has one copies it (`Bytes::copy_from_slice`).

mod classes;

use std::{
    collections::{HashMap, VecDeque},
    iter,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use self::classes::{Class, Classes, class_of};
use crate::{
    chain::{ShortId, TransactionKey},
    keyed::Keyed,
    platform::Instant,
    propagation::{plumtree::fee_rate, pool::unwanted::Unwanted, source::Source},
};

/// What an entry costs beside its data, in bytes, about: its place in the slab, in the index, and two small allocations.
pub const OVERHEAD: usize = 208;
/// The most entries that one call of [`Mempool::expire`] removes: a millisecond's work.
pub const MAX_EXPIRED: usize = 4096;

/// Entries in one piece of the slab.
const PIECE: usize = 4096;
/// Bytes of a usual transaction: for so many of them the index has room from the beginning, up to a million, since to make room
/// would hold up everything else for milliseconds.
const USUAL: usize = 250;
const MOST_USUAL: usize = 1 << 20;

/// How much the pool holds, and how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MempoolConfig {
    /// Bytes of transactions, and [`OVERHEAD`] for each. **Default:** 24 MiB.
    pub max_bytes: usize,
    /// How long a transaction stays that no block takes up. **Default:** 1 h.
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
    /// How long a transaction stays among equal payers whatever others bring: until enough blocks were made that might have taken it up, so some
    /// intervals between them. After that it may leave for who comes now. **Default:** 5 min, for blocks each minute or so.
    #[serde(with = "humantime_serde")]
    pub old_after: Duration,
    /// Ids of confirmed transactions that are remembered at least, up to twice as many, and as many of rejected ones: a copy
    /// of such a one is not taken up. An eighth as many of each of those that are not taken for a while: there was no room for them, the chain
    /// ignores them, they expired. **Default:** 229,376, with which a table of 2^18 places is full.
    pub max_seen: usize,
}

impl Default for MempoolConfig {
    fn default() -> Self {
        Self {
            max_bytes: 24 << 20,
            max_age: Duration::from_secs(60 * 60),
            old_after: Duration::from_secs(5 * 60),
            max_seen: (1 << 18) / 8 * 7,
        }
    }
}

/// What came of an insertion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Insertion {
    /// It is in the pool now; others may have left for it.
    Inserted,
    /// It was there already, and stays as it was.
    Known,
    /// Another transaction with its short id is there, and stays.
    Collision,
    /// The pool is full of what pays more, or the transaction is larger than the pool.
    Refused,
}

/// A transaction in the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pooled {
    /// Its name.
    pub key: TransactionKey,
    /// Its exact bytes.
    pub data: Bytes,
    /// The fee per 1,000 bytes, in the chain's smallest unit.
    pub fee_rate: u64,
    /// When it was inserted.
    pub at: Instant,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Mempool {
    config: MempoolConfig,
    /// In pieces, so that it grows without being moved: that would take as long as a hundred votes on their way.
    /// Shared with [`Pieces`] that are at work: what changes meanwhile is copied, a piece at a time.
    slab: Vec<Arc<Piece>>,
    /// Empty places of the slab, taken in the order in which they became free: neighbours in a queue stay neighbours.
    free: VecDeque<Place>,
    index: HashMap<ShortId, Place, Keyed>,
    classes: Classes,
    /// What is not here, and not to come for a while.
    unwanted: Unwanted,
    bytes: usize,
    inserted: u64,
    /// Before then nothing is old: that is looked up anew when the time has come.
    expires_at: Option<Instant>,
}

/// A place in the slab.
type Place = u32;

type Piece = Vec<Option<Entry>>;

/// The transactions of a pool as they are at one moment, to be walked away from the network task. As long as it lives the pool
/// copies what it changes, so it should not live long.
#[derive(Clone, Debug, Default)]
pub struct Pieces(Vec<Arc<Piece>>);

impl Pieces {
    /// All transactions, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Pooled> + Clone {
        pooled(&self.0)
    }
}

fn pooled(slab: &[Arc<Piece>]) -> impl Iterator<Item = &Pooled> + Clone {
    let entries = slab.iter().flat_map(|piece| piece.iter()).flatten();
    entries.map(|entry| &entry.pooled)
}

#[derive(Clone, Debug)]
struct Entry {
    pooled: Pooled,
    source: Source,
    /// The neighbours in its class, of the same source.
    elder: Option<Place>,
    younger: Option<Place>,
}

impl Mempool {
    /// An empty pool. `seed` keys the index: 16 random bytes that no peer knows.
    pub fn new(config: MempoolConfig, seed: &[u8; 16]) -> Self {
        let usual = config.max_bytes / (OVERHEAD + USUAL);
        let index = HashMap::with_capacity_and_hasher(usual.min(MOST_USUAL), Keyed::new(seed));
        let unwanted = Unwanted::new(config.max_seen, config.max_age, seed);
        Self {
            config,
            unwanted,
            slab: Vec::new(),
            free: VecDeque::new(),
            index,
            classes: Classes::new(),
            bytes: 0,
            inserted: 0,
            expires_at: None,
        }
    }

    /// Adds a transaction of our own that the chain has accepted, with its whole fee in the chain's smallest unit.
    ///
    /// `data` is kept as it is; the module's documentation says when to copy it. The key is taken as given.
    pub fn insert(
        &mut self,
        key: TransactionKey,
        data: Bytes,
        fee: u64,
        now: Instant,
    ) -> Insertion {
        self.insert_of(Source::OWN, (key, data, fee), now)
    }

    /// As [`Mempool::insert`], of a transaction that somebody has brought.
    pub(crate) fn insert_of(
        &mut self,
        source: Source,
        (key, data, fee): (TransactionKey, Bytes, u64),
        now: Instant,
    ) -> Insertion {
        match self.get_short(key.short()) {
            Some(pooled) if pooled.key == key => return Insertion::Known,
            Some(_) => return Insertion::Collision,
            None => {}
        }
        let fee_rate = fee_rate(fee, data.len());
        let (class, cost) = (class_of(fee_rate), cost(&data));
        if !self.make_room(source, (class, cost), now) {
            self.unwanted.crowd_out(key, now);
            return Insertion::Refused;
        }
        let pooled = Pooled {
            key,
            data,
            fee_rate,
            at: now,
        };
        if self.link(pooled, source, (class, cost)).is_none() {
            // Only a pool of terabytes has no place left that 32 bits could name.
            return Insertion::Refused;
        }
        Insertion::Inserted
    }

    /// The transaction with this key.
    pub fn get(&self, key: &TransactionKey) -> Option<&Pooled> {
        self.get_short(key.short())
            .filter(|pooled| pooled.key == *key)
    }

    /// The transaction with this short id.
    pub fn get_short(&self, id: ShortId) -> Option<&Pooled> {
        let place = self.index.get(&id)?;
        Some(&self.entry(*place)?.pooled)
    }

    /// Whether a transaction with this short id is here: one look into the index, and cheaper than to get it.
    pub fn contains_short(&self, id: ShortId) -> bool {
        self.index.contains_key(&id)
    }

    /// Takes a transaction out: a block has confirmed it, or the application has replaced it.
    pub fn remove(&mut self, key: &TransactionKey) -> Option<Pooled> {
        self.get(key)?;
        let place = *self.index.get(&key.short())?;
        let removed = self.unlink(place);
        self.forget_crowded_out();
        removed
    }

    /// The chain can do nothing with a transaction for now: it is not taken from peers for a while.
    pub(crate) fn ignore(&mut self, key: TransactionKey, now: Instant) {
        self.unwanted.ignore(key, now);
    }

    /// What is not taken from peers for a while.
    pub(crate) fn unwanted(&self) -> &Unwanted {
        &self.unwanted
    }

    /// What found no room may come as soon as an eighth of it is free.
    fn forget_crowded_out(&mut self) {
        if self.bytes <= self.config.max_bytes / 8 * 7 {
            self.unwanted.forget_crowded_out();
        }
    }

    /// Takes out what is older than [`MempoolConfig::max_age`], at most [`MAX_EXPIRED`] entries: call again while
    /// [`Mempool::next_deadline`] is past.
    pub fn expire(&mut self, now: Instant) -> Vec<TransactionKey> {
        self.unwanted.on_time(now);
        let mut expired = Vec::new();
        if self.expires_at.is_none_or(|at| now < at) {
            return expired;
        }
        let max_age = self.config.max_age;
        for class in 0..=Class::MAX {
            while expired.len() < MAX_EXPIRED
                && let Some(place) =
                    self.eldest(class, |at| now.saturating_duration_since(at) >= max_age)
                && let Some(pooled) = self.unlink(place)
            {
                self.unwanted.expire(pooled.key, now);
                expired.push(pooled.key);
            }
        }
        let eldest = self.classes.taken().flat_map(|(_, payers)| payers.eldest());
        let eldest = eldest.filter_map(|place| Some(self.entry(place)?.pooled.at));
        self.expires_at = eldest.min().and_then(|at| at.checked_add(max_age));
        if !expired.is_empty() {
            self.forget_crowded_out();
        }
        expired
    }

    /// A transaction that is the eldest of its source in this class, of which that is so.
    fn eldest(&self, class: Class, is_so: impl Fn(Instant) -> bool) -> Option<Place> {
        let mut eldest = self.classes.payers(class)?.eldest();
        eldest.find(|place| {
            self.entry(*place)
                .is_some_and(|entry| is_so(entry.pooled.at))
        })
    }

    /// When [`Mempool::expire`] has something to do, or earlier.
    pub fn next_deadline(&self) -> Option<Instant> {
        let forgets_at = self.unwanted.next_deadline();
        forgets_at.into_iter().chain(self.expires_at).min()
    }

    /// All transactions, highest fees first, and in a class the eldest of each source first. Lazy: who wants a bounded number takes it.
    pub fn best_paying(&self) -> impl Iterator<Item = &Pooled> {
        let payers = self.classes.taken().rev();
        payers
            .flat_map(|(_, payers)| payers.eldest())
            .flat_map(move |eldest| {
                let next = |entry: &&Entry| self.entry(entry.younger?);
                iter::successors(self.entry(eldest), next).map(|entry| &entry.pooled)
            })
    }

    /// All transactions, in no order: to rebuild a block from.
    pub fn iter(&self) -> impl Iterator<Item = &Pooled> + Clone {
        pooled(&self.slab)
    }

    /// All transactions as they are now: one step for each 4,096 of them.
    pub fn pieces(&self) -> Pieces {
        Pieces(self.slab.clone())
    }

    /// How many transactions there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// How many were ever inserted: how much the pool has changed between two looks.
    pub fn inserted(&self) -> u64 {
        self.inserted
    }

    /// What they cost: their bytes, and [`OVERHEAD`] for each.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Evicts until a newcomer fits; false and nothing evicted where it must not.
    fn make_room(&mut self, source: Source, (class, cost): (Class, usize), now: Instant) -> bool {
        let Some(limit) = self.config.max_bytes.checked_sub(cost) else {
            return false;
        };
        // What pays no more, from the least on, as far as it is needed: most often the first class has enough.
        let payers = self.classes.taken();
        let mut payers = payers.take_while(|(lowest, _)| *lowest <= class);
        let mut rest = self.bytes;
        while rest > limit
            && let Some((_, payers)) = payers.next()
        {
            rest -= payers.bytes;
        }
        drop(payers);
        if rest > limit {
            return false;
        }
        let old = now.checked_sub(self.config.old_after);
        while self.bytes > limit {
            let lowest = self.classes.taken().next();
            let due = lowest.and_then(|(_, payers)| payers.gives_way(source, old));
            let Some(pooled) = due.and_then(|due| self.unlink(due)) else {
                return false;
            };
            self.unwanted.crowd_out(pooled.key, now);
        }
        true
    }

    fn entry(&self, place: Place) -> Option<&Entry> {
        let (piece, place) = split(place)?;
        self.slab.get(piece)?.get(place)?.as_ref()
    }

    fn slot(&mut self, place: Place) -> Option<&mut Option<Entry>> {
        let (piece, place) = split(place)?;
        Arc::make_mut(self.slab.get_mut(piece)?).get_mut(place)
    }

    /// Puts an entry at the end of its queue.
    fn link(
        &mut self,
        pooled: Pooled,
        source: Source,
        (class, cost): (Class, usize),
    ) -> Option<()> {
        let (id, at) = (pooled.key.short(), pooled.at);
        let expires_at = at.checked_add(self.config.max_age);
        let elder = self.classes.get(class, source).map(|queue| queue.youngest);
        let entry = Some(Entry {
            pooled,
            source,
            elder,
            younger: None,
        });
        let place = match self.free.pop_front() {
            Some(place) => {
                *self.slot(place)? = entry;
                place
            }
            None => {
                let last = self.slab.last().is_none_or(|piece| piece.len() == PIECE);
                if last {
                    self.slab.push(Arc::new(Vec::with_capacity(PIECE)));
                }
                let before = (self.slab.len() - 1) * PIECE;
                let piece = Arc::make_mut(self.slab.last_mut()?);
                let place = Place::try_from(before + piece.len()).ok()?;
                piece.push(entry);
                place
            }
        };
        if let Some(Some(elder)) = elder.and_then(|elder| self.slot(elder)) {
            elder.younger = Some(place);
        }
        self.classes.push(class, source, (place, at), cost);
        self.expires_at = self.expires_at.into_iter().chain(expires_at).min();
        self.bytes += cost;
        self.index.insert(id, place);
        self.inserted += 1;
        Some(())
    }

    /// Takes an entry out of everything.
    fn unlink(&mut self, place: Place) -> Option<Pooled> {
        let entry = self.slot(place)?.take()?;
        let Entry {
            pooled,
            source,
            elder,
            younger,
        } = entry;
        self.free.push_back(place);
        self.index.remove(&pooled.key.short());
        let (class, cost) = (class_of(pooled.fee_rate), cost(&pooled.data));
        self.bytes -= cost;
        if let Some(Some(elder)) = elder.and_then(|elder| self.slot(elder)) {
            elder.younger = younger;
        }
        let younger = younger.and_then(|place| {
            let younger = self.slot(place)?.as_mut()?;
            younger.elder = elder;
            Some((place, younger.pooled.at))
        });
        self.classes.unlink(class, source, (elder, younger), cost);
        Some(pooled)
    }
}

/// The piece of the slab, and the place in there.
fn split(place: Place) -> Option<(usize, usize)> {
    let place = usize::try_from(place).ok()?;
    Some((place / PIECE, place % PIECE))
}

fn cost(data: &Bytes) -> usize {
    data.len().saturating_add(OVERHEAD)
}

#[cfg(test)]
mod tests;
