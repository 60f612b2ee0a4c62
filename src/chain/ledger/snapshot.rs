//! Snapshots of the ledger: made for others, and taken from them.
//!
//! Format 1: the header (213 bytes) and all accounts after it in their order (`restore.rs`). The header is in it because
//! the next block names it; it has to be a proposer's, and to have the state root that the network found to be a final header's.
//!
//! Made ones lie in the store, chunk by chunk, until they are forgotten or their block leaves the chain; chunks that come lie there too until all are, so
//! that a process that is killed fetches none of them again. The bytes follow from the block alone: whoever makes a snapshot of a height makes the same.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `snapshots` | height (8) | format (4), chunk size (4), size (8), root (32), state root (32), the chunks' hashes |
//! | `chunks` | height (8), index (4) | a chunk of a made one |
//! | `incoming` | index (4) | a chunk of the one that is being taken |
//! | `arrived` | index (4) | nothing: it is in `incoming` |
//! | `offer` | height (8) | the same as in `snapshots` of that one, with the trusted header, where it was told, for the hashes |

use bytes::{Bytes, BytesMut};
use libp2p::PeerId;

use super::chain::Pinned;
use super::codec::{Malformed, Reader};
use super::header::Header;
use super::restore::{CHUNK_ACCOUNT, RestoreError};
use super::stored::{Head, damaged};
use super::tree;
use super::{Address, HISTORY, Judgement, Ledger, LedgerError};
use crate::{
    chain::{
        Snapshot, SnapshotChunk, SnapshotHasher, SnapshotProof, SnapshotSink, SnapshotSource,
        SyncVerdict,
    },
    storage::{Batch, KeyRange, Store, StoreError, Table},
};

/// The largest snapshot that is taken, in bytes: 350 million accounts. What is offered may lie about its size until all of it is here.
pub const MAX_SNAPSHOT: u64 = 16 << 30;

/// Headers in a proof, at most: 43 kB of them, beside a certificate.
pub(super) const MAX_PROOF_HEADERS: usize = 200;

/// What the bytes are.
const FORMAT: u32 = 1;
/// Accounts that are read at once.
const PAGE: usize = 4096;

const SNAPSHOTS: Table = Table::new("snapshots");
const CHUNKS: Table = Table::new("chunks");
const INCOMING: Table = Table::new("incoming");
const ARRIVED: Table = Table::new("arrived");
const OFFER: Table = Table::new("offer");

impl Ledger {
    /// Makes a snapshot of the state after the final block of a height; without one, of the newest final block, or of the newest where none
    /// is final. `None`: there is no block, or that of this height is not final. The chain goes on meanwhile, and keeps what is being read. It may
    /// take minutes: call it where that matters to nobody.
    ///
    /// # Errors
    /// The chunk size is impossible ([`Snapshot::check`]); another one is being made; the block is more than [`super::HISTORY`] below the
    /// newest or was before a snapshot, or the votes take it off meanwhile; or the store can't be read or written.
    pub fn make_snapshot(
        &self,
        height: Option<u64>,
        chunk_size: u32,
    ) -> Result<Option<Snapshot>, LedgerError> {
        let Some(reading) = self.read_at_length(height)? else {
            return Ok(None);
        };
        let (store, height) = (&*self.0.stored.store, reading.head.height);
        if let Some(record) = store.get(SNAPSHOTS, &height.to_be_bytes())? {
            let (made, _) = decode(&height.to_be_bytes(), &record)
                .map_err(|wrong| damaged(&wrong.to_string()))?;
            if made.chunk_size == chunk_size {
                return Ok(Some(made));
            }
        }
        let mut making = Making {
            store,
            height,
            chunk: BytesMut::new(),
            chunk_size: usize::try_from(chunk_size).unwrap_or(usize::MAX),
            hasher: SnapshotHasher::new(chunk_size)?,
            next: 0,
        };
        let mut batch = unfinished(store)?;
        forget(height, &mut batch);
        store.commit(&batch)?;
        let state_root = self.read_into(&mut making, &reading);
        // What was read since the chain went back may be anything.
        if !reading.is_here() {
            return Err(LedgerError::NotKept { height });
        }
        let (made, batch) = making.finish(state_root?)?;
        // Who goes back takes off what is made above: nothing is between looking and writing.
        let chain = self.0.chain();
        if !chain.pinned.as_ref().is_some_and(|pinned| pinned.is_here) {
            return Err(LedgerError::NotKept { height });
        }
        store.commit(&batch)?;
        Ok(Some(made))
    }

    /// Keeps the state that a snapshot is made of until it is read. `None`: there is no such block, or it is not final.
    fn read_at_length(&self, wanted: Option<u64>) -> Result<Option<Reading<'_>>, LedgerError> {
        let mut chain = self.0.chain();
        let newest = chain.head;
        let height = match (wanted, chain.final_height) {
            (Some(height), newest_final) if height > newest_final => return Ok(None),
            (Some(height), _) => height,
            (None, 0) => newest.height,
            (None, newest_final) => newest_final,
        };
        if height == 0 {
            return Ok(None);
        }
        if chain.pinned.is_some() {
            return Err(LedgerError::Making);
        }
        let head = match newest.height.saturating_sub(height) {
            0 => Some(newest),
            age if age <= HISTORY => self.0.stored.head(height)?,
            _ => None,
        };
        let head = head.ok_or(LedgerError::NotKept { height })?;
        chain.pinned = Some(Pinned {
            height,
            is_here: true,
        });
        Ok(Some(Reading { ledger: self, head }))
    }

    /// Header and accounts: the state's root.
    fn read_into(
        &self,
        making: &mut Making<'_>,
        reading: &Reading<'_>,
    ) -> Result<Bytes, StoreError> {
        let header = self.0.stored.headers(reading.head.height, 1)?.pop();
        let header = header.ok_or_else(|| damaged("a block has no header"))?;
        let decoded = Header::decode(&header).map_err(|wrong| damaged(&wrong.to_string()))?;
        making.add(&header)?;
        let mut after = None;
        loop {
            let accounts = self.accounts(&reading.head, after.as_ref(), PAGE)?;
            let Some(last) = accounts.rchunks_exact(CHUNK_ACCOUNT).next() else {
                break;
            };
            let last = last
                .first_chunk()
                .ok_or_else(|| damaged("an account is none"))?;
            after = Some(Address::new(*last));
            making.add(&accounts)?;
        }
        Ok(decoded.state_root.to_vec().into())
    }
}

/// A state that is kept as long as this is there.
struct Reading<'a> {
    ledger: &'a Ledger,
    head: Head,
}

impl Reading<'_> {
    /// Whether the chain has not gone back to before it.
    fn is_here(&self) -> bool {
        let chain = self.ledger.0.chain();
        chain.pinned.as_ref().is_some_and(|pinned| pinned.is_here)
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.ledger.0.chain().pinned = None;
    }
}

/// A snapshot on its way into the store.
struct Making<'a> {
    store: &'a dyn Store,
    height: u64,
    chunk: BytesMut,
    chunk_size: usize,
    hasher: SnapshotHasher,
    next: u32,
}

impl Making<'_> {
    fn add(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.hasher.update(bytes);
        self.chunk.extend_from_slice(bytes);
        while self.chunk.len() >= self.chunk_size {
            let chunk = self.chunk.split_to(self.chunk_size);
            self.write(chunk.freeze())?;
        }
        Ok(())
    }

    fn write(&mut self, chunk: Bytes) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        batch.put(CHUNKS, chunk_key(self.height, self.next), chunk);
        self.next = self.next.saturating_add(1);
        self.store.commit(&batch)
    }

    /// The last chunk is written; what is left to be written is what makes it one.
    fn finish(mut self, state_root: Bytes) -> Result<(Snapshot, Batch), LedgerError> {
        let rest = self.chunk.split().freeze();
        if !rest.is_empty() {
            self.write(rest)?;
        }
        let (snapshot, hashes) = self.hasher.finish(self.height, FORMAT, state_root)?;
        let mut record = encode(&snapshot);
        record.extend_from_slice(&hashes);
        let mut batch = Batch::default();
        batch.put(SNAPSHOTS, self.height.to_be_bytes().to_vec(), record);
        Ok((snapshot, batch))
    }
}

fn chunk_key(height: u64, index: u32) -> Vec<u8> {
    [&height.to_be_bytes()[..], &index.to_be_bytes()].concat()
}

/// Takes away what is there of snapshots that were not finished.
fn unfinished(store: &dyn Store) -> Result<Batch, StoreError> {
    let mut batch = Batch::default();
    let mut from = Bytes::new();
    for (height, _) in store.range(SNAPSHOTS, KeyRange::default())?.entries {
        let end = [&height[..], &[0; 4]].concat();
        batch.delete_range(CHUNKS, from, Some(end.into()));
        from = [&height[..], &[u8::MAX; 4]].concat().into();
    }
    batch.delete_range(CHUNKS, from, None);
    Ok(batch)
}

/// Takes away what was made of blocks above a height: they leave the chain.
pub(super) fn forget_above(height: u64, batch: &mut Batch) {
    let next = height.saturating_add(1).to_be_bytes();
    batch.delete_range(SNAPSHOTS, next.to_vec(), None);
    batch.delete_range(CHUNKS, next.to_vec(), None);
}

/// Takes away all that was made: what was before is not the chain's any more.
pub(super) fn forget_all(batch: &mut Batch) {
    batch.delete_range(SNAPSHOTS, Bytes::new(), None);
    batch.delete_range(CHUNKS, Bytes::new(), None);
}

/// Takes a made one away.
fn forget(height: u64, batch: &mut Batch) {
    batch.delete(SNAPSHOTS, height.to_be_bytes().to_vec());
    batch.delete_range(
        CHUNKS,
        chunk_key(height, 0),
        Some(chunk_key(height, u32::MAX).into()),
    );
}

fn encode(snapshot: &Snapshot) -> Vec<u8> {
    let mut record = snapshot.format.to_be_bytes().to_vec();
    record.extend(snapshot.chunk_size.to_be_bytes());
    record.extend(snapshot.size.to_be_bytes());
    record.extend(snapshot.root);
    record.extend_from_slice(&snapshot.state_root);
    record
}

/// A snapshot of this format, and what follows it in the record.
fn decode(height: &[u8], record: &Bytes) -> Result<(Snapshot, Bytes), Malformed> {
    let mut height = Reader::new(height, "a height");
    let mut reader = Reader::new(record, "a snapshot's record");
    let snapshot = Snapshot {
        height: height.u64()?,
        format: reader.u32()?,
        chunk_size: reader.u32()?,
        size: reader.u64()?,
        root: reader.array()?,
        state_root: record.slice_ref(reader.take(32)?),
    };
    Ok((snapshot, record.slice_ref(reader.rest())))
}

impl SnapshotSource for Ledger {
    /// Those whose block is the chain's: of others none is left, unless the store was written by something else.
    fn list_snapshots(&self) -> Vec<Snapshot> {
        let made = self.0.stored.store.range(SNAPSHOTS, KeyRange::default());
        let made = made.unwrap_or_default().entries.into_iter();
        let is_here = |made: &Snapshot| {
            let head = self.0.stored.head(made.height).ok().flatten();
            head.is_some_and(|head| tree::root_hash(head.root)[..] == made.state_root[..])
        };
        made.filter_map(|(height, record)| Some(decode(&height, &record).ok()?.0))
            .filter(is_here)
            .collect()
    }

    fn load_snapshot_hashes(&self, snapshot: &Snapshot) -> Option<Bytes> {
        let height = snapshot.height.to_be_bytes();
        let record = self.0.stored.store.get(SNAPSHOTS, &height).ok()??;
        let (here, hashes) = decode(&height, &record).ok()?;
        (here == *snapshot).then_some(hashes)
    }

    fn load_snapshot_chunk(&self, snapshot: &Snapshot, index: u32) -> Option<Bytes> {
        let key = chunk_key(snapshot.height, index);
        self.0.stored.store.get(CHUNKS, &key).ok()?
    }

    /// The next certificate, and the headers from this one's to that.
    fn prove_snapshot(&self, snapshot: &Snapshot) -> Option<SnapshotProof> {
        let stored = &self.0.stored;
        let certificate = stored.certificate_from(snapshot.height).ok()??;
        let above = usize::try_from(certificate.height - snapshot.height).ok()?;
        if above > MAX_PROOF_HEADERS {
            return None;
        }
        let headers = stored.headers(snapshot.height, above + 1).ok()?;
        let (header, after) = headers.split_first().filter(|_| headers.len() > above)?;
        let decoded = Header::decode(header).ok()?;
        let is_its =
            decoded.height == snapshot.height && decoded.state_root[..] == snapshot.state_root[..];
        if !is_its {
            return None;
        }
        let mut proof = certificate.encode();
        proof.extend(after.iter().flatten());
        Some(SnapshotProof {
            header: header.clone(),
            proof: proof.into(),
        })
    }

    fn make_snapshot(&self, height: u64, chunk_bytes: u32) -> Result<Option<Snapshot>, String> {
        match Self::make_snapshot(self, Some(height), chunk_bytes) {
            // It will not be kept again.
            Err(LedgerError::NotKept { .. }) => Ok(None),
            made => made.map_err(|error| error.to_string()),
        }
    }

    fn forget_snapshot(&self, snapshot: &Snapshot) -> Result<(), String> {
        let mut batch = Batch::default();
        forget(snapshot.height, &mut batch);
        let forgotten = self.0.stored.store.commit(&batch);
        forgotten.map_err(|error| error.to_string())
    }
}

impl Ledger {
    /// The snapshot whose chunks are being taken, and its header, where it was told.
    fn offered(&self) -> Result<Option<(Snapshot, Bytes)>, StoreError> {
        let offer = self
            .0
            .stored
            .store
            .range(OFFER, KeyRange::last())?
            .entries
            .pop();
        let offer = offer.map(|(height, record)| decode(&height, &record));
        let offer = offer
            .transpose()
            .map_err(|wrong| damaged(&wrong.to_string()))?;
        Ok(offer)
    }

    fn take_offer(&self, snapshot: &Snapshot, header: Option<&Bytes>) -> Result<(), StoreError> {
        let before = self.offered()?.filter(|(offered, _)| offered == snapshot);
        if before
            .as_ref()
            .is_some_and(|(_, told)| header.is_none_or(|header| header == told))
        {
            return Ok(());
        }
        let mut record = encode(snapshot);
        record.extend_from_slice(header.map_or(&[], |header| &header[..]));
        // Its header is told later than its chunks have come, if it is the same one.
        let mut batch = match before {
            Some(_) => Batch::default(),
            None => without_incoming(),
        };
        batch.put(OFFER, snapshot.height.to_be_bytes().to_vec(), record);
        self.0.stored.store.commit(&batch)
    }

    /// Keeps chunks, with one flush for all: how many of them, and whether the next one is none.
    fn take_chunks(&self, chunks: &[SnapshotChunk]) -> Result<(usize, SyncVerdict), StoreError> {
        let offered = self.offered()?;
        let fits = |chunk: &&SnapshotChunk| {
            let length = offered
                .as_ref()
                .and_then(|(offered, _)| offered.chunk_length(chunk.index));
            length == Some(chunk.bytes.len())
        };
        let (mut batch, mut count) = (Batch::default(), 0);
        for chunk in chunks.iter().take_while(fits) {
            let index = chunk.index.to_be_bytes();
            batch.put(INCOMING, index.to_vec(), chunk.bytes.clone());
            batch.put(ARRIVED, index.to_vec(), Bytes::new());
            count += 1;
        }
        self.0.stored.store.commit(&batch)?;
        let verdict = if count == chunks.len() {
            SyncVerdict::Accept
        } else {
            SyncVerdict::Reject("a chunk of no snapshot that was accepted".to_owned())
        };
        Ok((count, verdict))
    }

    fn restore_incoming(&self, snapshot: &Snapshot) -> Result<(), Judgement> {
        let store = &self.0.stored.store;
        let mut chunks = (0..snapshot.chunks()).map(|index| {
            let chunk = store.get(INCOMING, &index.to_be_bytes())?;
            chunk.ok_or_else(|| Judgement::Trouble(format!("chunk {index} is not here")))
        });
        let first = chunks.next().transpose()?.unwrap_or_default();
        let mut reader = Reader::new(&first, "a snapshot begins with its header");
        let header = self.judge_signature(reader.take(Header::LENGTH)?)?;
        if header.height != snapshot.height || header.state_root[..] != snapshot.state_root[..] {
            return Err(Malformed("a snapshot with the header of another state").into());
        }
        let told = self
            .offered()?
            .map_or_else(Bytes::new, |(_, header)| header);
        if !told.is_empty() && told[..] != header.encode()[..] {
            return Err(Malformed("a snapshot with another header than the trusted one").into());
        }
        let mut restore = self.restore(header)?;
        // Chunks end where they end, be it in an account.
        let mut row = reader.rest().to_vec();
        loop {
            let rest = row.split_off(row.len() - row.len() % CHUNK_ACCOUNT);
            restore.add(&row)?;
            row = rest;
            match chunks.next().transpose()? {
                Some(chunk) => row.extend_from_slice(&chunk),
                None => break,
            }
        }
        if !row.is_empty() {
            return Err(Malformed("a snapshot that ends within an account").into());
        }
        restore.finish()?;
        Ok(())
    }
}

/// Forgets the snapshot that was being taken.
fn without_incoming() -> Batch {
    let mut batch = Batch::default();
    for table in [INCOMING, ARRIVED, OFFER] {
        batch.delete_range(table, Bytes::new(), None);
    }
    batch
}

impl From<RestoreError> for Judgement {
    fn from(error: RestoreError) -> Self {
        let reason = error.to_string();
        match error {
            RestoreError::Malformed(_) | RestoreError::Order | RestoreError::Root { .. } => {
                Self::Invalid(reason)
            }
            RestoreError::Old { .. } => Self::Useless(reason),
            RestoreError::Busy | RestoreError::Store(_) => Self::Trouble(reason),
        }
    }
}

impl SnapshotSink for Ledger {
    fn offer_snapshot(&self, snapshot: &Snapshot, header: Option<&Bytes>) -> SyncVerdict {
        let ignore = |reason: String| SyncVerdict::Ignore(reason);
        if snapshot.format != FORMAT {
            return ignore(format!("format {}, and {FORMAT} is taken", snapshot.format));
        }
        if snapshot.state_root.len() != 32 {
            return SyncVerdict::Reject("a ledger's state root has 32 bytes".to_owned());
        }
        if snapshot.size > MAX_SNAPSHOT {
            return ignore(format!(
                "{} bytes, and {MAX_SNAPSHOT} at most are taken",
                snapshot.size
            ));
        }
        let here = self.head().height;
        if snapshot.height <= here {
            return ignore(format!(
                "height {}, and the ledger is at {here}",
                snapshot.height
            ));
        }
        match self.take_offer(snapshot, header) {
            Ok(()) => SyncVerdict::Accept,
            Err(error) => SyncVerdict::Retry(error.to_string()),
        }
    }

    fn stored_snapshot_chunks(&self, snapshot: &Snapshot) -> Vec<u32> {
        if !matches!(self.offered(), Ok(Some((offered, _))) if offered == *snapshot) {
            return Vec::new();
        }
        // As many as a snapshot may have fit in a page.
        let arrived = self.0.stored.store.range(ARRIVED, KeyRange::default());
        let arrived = arrived.unwrap_or_default().entries.into_iter();
        arrived
            .filter_map(|(index, _)| Some(u32::from_be_bytes(index[..].try_into().ok()?)))
            .collect()
    }

    fn unfinished_snapshot(&self) -> Option<Snapshot> {
        let (offered, _) = self.offered().ok()??;
        (offered.height > self.head().height).then_some(offered)
    }

    fn abandon_snapshot(&self) -> Result<(), String> {
        let abandon = || match self.offered()? {
            Some(_) => self.0.stored.store.commit(&without_incoming()),
            None => Ok(()),
        };
        abandon().map_err(|error: StoreError| error.to_string())
    }

    fn apply_snapshot_chunk(&self, index: u32, bytes: &Bytes, sender: &PeerId) -> SyncVerdict {
        let chunk = SnapshotChunk {
            index,
            bytes: bytes.clone(),
            sender: *sender,
        };
        self.apply_snapshot_chunks(&[chunk]).1
    }

    fn apply_snapshot_chunks(&self, chunks: &[SnapshotChunk]) -> (usize, SyncVerdict) {
        let taken = self.take_chunks(chunks);
        taken.unwrap_or_else(|error| (0, Judgement::from(error).synced()))
    }

    fn finish_snapshot(&self, snapshot: &Snapshot) -> SyncVerdict {
        let outcome = self.restore_incoming(snapshot);
        if !matches!(outcome, Err(Judgement::Trouble(_)))
            && let Err(error) = self.0.stored.store.commit(&without_incoming())
        {
            tracing::warn!(%error, "what came of a snapshot is left in the store");
        }
        outcome.map_or_else(Judgement::synced, |()| SyncVerdict::Accept)
    }
}
