//! One snapshot that is being fetched: which chunks are wanted, under way, being applied, and done. Knows nothing of sources but their
//! names.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use libp2p::PeerId;

use super::{
    bitmap::Bitmap,
    loaded::Loaded,
    tree,
    wire::{HashedPiece, Part},
};
use crate::{
    chain::{ChunkOrder, SNAPSHOT_GROUP, Snapshot, SnapshotHash, SnapshotId},
    platform::Instant,
};

/// Of the rarest chunks so many are looked at for one that a source has; then any will do.
const MAX_SCAN: usize = 256;

#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) snapshot: Snapshot,
    pub(super) id: SnapshotId,
    /// The chunks that the sink has taken.
    pub(super) done: Bitmap,
    pub(super) under_way: BTreeMap<Part, UnderWay>,
    pub(super) applying: BTreeMap<u32, Applying>,
    hashes: Option<Loaded>,
    /// The chunks that are done, under way or being applied.
    taken: Bitmap,
    /// The others: how many partial sources have each, a random number, and which.
    wanted: BTreeSet<(u16, u32, u32)>,
    rarity: Vec<u16>,
    /// Parts under way of whose rest nobody is asked.
    orphans: BTreeSet<Part>,
    /// Bytes of all parts under way and all that are being applied.
    held: usize,
    seed: u32,
    order: ChunkOrder,
    /// The first chunk that is not done.
    next: u32,
    /// Right bytes that have come, about: no more than there are.
    came: u64,
}

/// A part that was asked for.
#[derive(Debug)]
pub(super) struct UnderWay {
    length: usize,
    /// The hash that its groups make.
    hash: SnapshotHash,
    /// What each group's value has to be; empty until some source has told.
    values: Vec<SnapshotHash>,
    /// Here are its bytes, from the first right group on.
    bytes: Vec<u8>,
    has: Vec<bool>,
    missing: usize,
    /// Who is asked.
    pub(super) askers: Vec<PeerId>,
    brought: BTreeMap<PeerId, usize>,
}

/// A chunk that waits for the sink.
#[derive(Debug)]
pub(super) struct Applying {
    pub(super) bytes: Bytes,
    pub(super) sender: PeerId,
    pub(super) tries: u32,
    /// Not with the sink now: it is asked again then.
    pub(super) again_at: Option<Instant>,
}

/// What a piece proves of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It breaks the protocol.
    Broken(&'static str),
    /// Its bytes are not the snapshot's.
    False(&'static str),
}

impl Fetch {
    /// One of whose chunks some are here already.
    pub(super) fn new(snapshot: Snapshot, stored: &[u32], order: ChunkOrder, seed: u32) -> Self {
        let mut done = Bitmap::new(snapshot.chunks());
        for index in stored {
            done.insert(*index);
        }
        let rarity = vec![0; usize::try_from(done.length()).unwrap_or_default()];
        let mut fetch = Self {
            id: snapshot.id(),
            taken: done.clone(),
            done,
            under_way: BTreeMap::new(),
            applying: BTreeMap::new(),
            hashes: None,
            wanted: BTreeSet::new(),
            rarity,
            orphans: BTreeSet::new(),
            held: 0,
            seed,
            order,
            next: 0,
            came: 0,
            snapshot,
        };
        fetch.pass();
        fetch.rank(std::iter::empty());
        fetch
    }

    /// Orders the wanted chunks anew, by what the partial sources have. Linear in chunks and sources.
    pub(super) fn rank<'a>(&mut self, partial: impl Iterator<Item = &'a Bitmap>) {
        self.rarity.fill(0);
        for have in partial {
            for index in have.iter() {
                if let Some(count) = self.rarity.get_mut(index as usize) {
                    *count = count.saturating_add(1);
                }
            }
        }
        let chunks = 0..self.done.length();
        let wanted = chunks.filter(|index| !self.taken.contains(*index));
        self.wanted = wanted.map(|index| self.key(index)).collect();
    }

    /// How a chunk stands in the order: the rarest first, equals in an order that is the node's own, so that nodes that fetch the same
    /// snapshot soon have chunks for each other.
    fn key(&self, index: u32) -> (u16, u32, u32) {
        let rarity = self.rarity.get(index as usize).copied().unwrap_or_default();
        if self.order == ChunkOrder::Rising {
            return (0, 0, index);
        }
        let mixed = (index ^ self.seed).wrapping_mul(0x9e37_79b1);
        (
            rarity,
            (mixed ^ mixed >> 15).wrapping_mul(0x85eb_ca6b),
            index,
        )
    }

    /// A part to ask a source for that nobody is asked for now. `has`: what it has; `None`: all. `most`: bytes that may be held.
    pub(super) fn choose(&self, have: Option<&Bitmap>, most: usize) -> Option<Part> {
        if self.hashes.is_none() {
            let is_free =
                !self.under_way.contains_key(&Part::Hashes) || self.orphans.contains(&Part::Hashes);
            return is_free.then_some(Part::Hashes);
        }
        // Chunks that would wait too long for their turn are left for later.
        let ahead = u32::try_from(most).unwrap_or(u32::MAX) / self.snapshot.chunk_size.max(1);
        let end = match self.order {
            ChunkOrder::Any => u32::MAX,
            ChunkOrder::Rising => self.next.saturating_add(ahead.max(1)),
        };
        let has = |index: u32| index < end && have.is_none_or(|have| have.contains(index));
        let has_part = |part: &&Part| matches!(part, Part::Chunk(index) if has(*index));
        if let Some(orphan) = self.orphans.iter().find(has_part) {
            return Some(*orphan);
        }
        let rarest = self
            .wanted
            .iter()
            .take(MAX_SCAN)
            .map(|(_, _, index)| *index);
        let any = || {
            let have = have?;
            have.without(&self.taken)
                .next()
                .filter(|index| *index < end)
        };
        let index = rarest.into_iter().find(|index| has(*index)).or_else(any)?;
        let length = self.snapshot.chunk_length(index)?;
        let has_room = self.held == 0
            || self.held + length <= most
            || self.order == ChunkOrder::Rising && index == self.next;
        has_room.then_some(Part::Chunk(index))
    }

    /// A source is asked for a part: the groups from the first missing one to the last, and whether the values are to come with them.
    pub(super) fn ask(&mut self, part: Part, peer: PeerId) -> Option<((u16, u16), bool)> {
        let hash = self.hash(part)?;
        let length = part.length(&self.snapshot)?;
        self.orphans.remove(&part);
        if let Part::Chunk(index) = part
            && self.taken.insert(index)
        {
            self.wanted.remove(&self.key(index));
        }
        let held = &mut self.held;
        let part = self.under_way.entry(part).or_insert_with(|| {
            *held += length;
            UnderWay::new(length, hash)
        });
        part.askers.push(peer);
        Some((part.range()?, part.values.is_empty()))
    }

    fn hash(&self, part: Part) -> Option<SnapshotHash> {
        match part {
            Part::Hashes => Some(self.snapshot.root),
            Part::Chunk(index) => {
                let (hashes, _) = self.hashes.as_ref()?.bytes().as_chunks();
                hashes.get(index as usize).copied()
            }
        }
    }

    /// A source is not asked for a part any more.
    pub(super) fn release(&mut self, part: Part, peer: &PeerId) {
        let Some(it) = self.under_way.get_mut(&part) else {
            return;
        };
        it.askers.retain(|asker| asker != peer);
        if !it.askers.is_empty() {
            return;
        }
        if it.missing < it.has.len() {
            self.orphans.insert(part);
            return;
        }
        self.held = self.held.saturating_sub(it.length);
        self.under_way.remove(&part);
        self.orphans.remove(&part);
        if let Part::Chunk(index) = part {
            self.taken.remove(index);
            self.wanted.insert(self.key(index));
        }
    }

    /// Takes a piece of a part; what is not needed any more, or is here already, is left. True: the part is complete, and a chunk of it waits for the sink.
    pub(super) fn take(
        &mut self,
        from: PeerId,
        part: Part,
        piece: &HashedPiece,
    ) -> Result<bool, Fault> {
        let Some(it) = self.under_way.get_mut(&part) else {
            return Ok(false);
        };
        let missing = it.missing;
        it.take(from, piece)?;
        self.came += ((missing - it.missing) * SNAPSHOT_GROUP) as u64;
        if it.missing > 0 {
            return Ok(false);
        }
        let Some(it) = self.under_way.remove(&part) else {
            return Ok(false);
        };
        self.orphans.remove(&part);
        let sender = it.brought.iter().max_by_key(|(_, groups)| **groups);
        let sender = sender.map_or(from, |(peer, _)| *peer);
        match part {
            Part::Hashes => {
                self.held = self.held.saturating_sub(it.length);
                self.hashes = Some(Loaded::checked(it.bytes.into(), it.values));
            }
            Part::Chunk(index) => {
                let applying = Applying {
                    bytes: it.bytes.into(),
                    sender,
                    tries: 0,
                    again_at: None,
                };
                self.applying.insert(index, applying);
            }
        }
        Ok(true)
    }

    /// The sink has taken a chunk.
    pub(super) fn applied(&mut self, index: u32) {
        if let Some(applied) = self.applying.remove(&index) {
            self.held = self.held.saturating_sub(applied.bytes.len());
            self.done.insert(index);
            self.pass();
        }
    }

    /// Right bytes that have come, about. What comes twice counts once.
    pub(super) fn came(&self) -> u64 {
        self.came
    }

    /// Whether a chunk is with the sink.
    pub(super) fn waits_for_sink(&self) -> bool {
        self.applying.keys().any(|index| self.is_next(*index))
    }

    /// Whether the sink takes this chunk now.
    pub(super) fn is_next(&self, index: u32) -> bool {
        self.order == ChunkOrder::Any || index == self.next
    }

    /// A chunk that has waited for its turn, which is now.
    pub(super) fn next_waiting(&self) -> Option<u32> {
        let is_waiting = self.order == ChunkOrder::Rising && self.applying.contains_key(&self.next);
        is_waiting.then_some(self.next)
    }

    fn pass(&mut self) {
        while self.done.contains(self.next) {
            self.next += 1;
        }
    }

    /// Bytes of the chunks that the sink has taken.
    pub(super) fn bytes_done(&self) -> u64 {
        let chunk = u64::from(self.snapshot.chunk_size);
        let last = self.done.length().saturating_sub(1);
        let short = chunk * u64::from(self.done.length()) - self.snapshot.size;
        let all = chunk * u64::from(self.done.count());
        all - if self.done.contains(last) { short } else { 0 }
    }

    /// The hashes of its chunks, once they are here.
    pub(super) fn hashes(&self) -> Option<Loaded> {
        self.hashes.clone()
    }

    /// Bytes of parts under way and of those that are being applied.
    pub(super) fn held(&self) -> usize {
        self.held
    }
}

impl UnderWay {
    fn new(length: usize, hash: SnapshotHash) -> Self {
        let groups = tree::groups(length);
        Self {
            length,
            hash,
            values: Vec::new(),
            bytes: Vec::new(),
            has: vec![false; groups],
            missing: groups,
            askers: Vec::new(),
            brought: BTreeMap::new(),
        }
    }

    /// From the first missing group to the one after the last.
    fn range(&self) -> Option<(u16, u16)> {
        let first = self.has.iter().position(|has| !has)?;
        let last = self.has.iter().rposition(|has| !has)?;
        Some((first.try_into().ok()?, (last + 1).try_into().ok()?))
    }

    /// Bytes that are missing, about.
    pub(super) fn missing_bytes(&self) -> usize {
        self.missing * SNAPSHOT_GROUP
    }

    fn take(&mut self, from: PeerId, piece: &HashedPiece) -> Result<(), Fault> {
        let HashedPiece { piece, found } = piece;
        if !piece.values.is_empty() {
            if piece.values.len() != self.has.len() || tree::root(&piece.values) != Some(self.hash)
            {
                return Err(Fault::False(
                    "the values of its groups do not make a chunk's hash",
                ));
            }
            if self.values.is_empty() {
                self.values.clone_from(&piece.values);
            }
        }
        let first = usize::from(piece.first);
        let begin = first * SNAPSHOT_GROUP;
        let end = begin + tree::groups(piece.data.len()) * SNAPSHOT_GROUP;
        let right = end.min(self.length).saturating_sub(begin);
        if piece.data.len() != right {
            return Err(Fault::Broken("a piece that is not what was asked for"));
        }
        if self.values.is_empty() {
            // It was asked for when the values were here, and cancelled; the part was given up since, and begun anew.
            return Ok(());
        }
        let alone;
        let found = if self.has.len() == 1 {
            alone = tree::values(&piece.data);
            &alone
        } else {
            found
        };
        let groups = piece.data.chunks(SNAPSHOT_GROUP).zip(found);
        for (place, (group, found)) in (first..).zip(groups) {
            if self.values.get(place) != Some(found) {
                return Err(Fault::False("a group that is not the chunk's"));
            }
            self.put(place, group);
            *self.brought.entry(from).or_default() += 1;
        }
        Ok(())
    }

    fn put(&mut self, place: usize, group: &[u8]) {
        if self.bytes.is_empty() {
            self.bytes = vec![0; self.length];
        }
        let room = self.bytes.get_mut(place * SNAPSHOT_GROUP..);
        let room = room.and_then(|room| room.get_mut(..group.len()));
        if let (Some(has), Some(room)) = (self.has.get_mut(place), room)
            && !*has
        {
            room.copy_from_slice(group);
            *has = true;
            self.missing -= 1;
        }
    }
}
