//! Snapshots: the chain's state at a height, as bytes that a new node takes in place of all blocks before it.
//!
//! The terms are those of CometBFT's ABCI. A [`SnapshotSource`] says which snapshots there are and reads their chunks, a
//! [`SnapshotSink`] is offered one and given its chunks. What a snapshot's bytes mean is between the two; the network cuts them into
//! chunks of one size, knows each by its BLAKE3 hash, and all of them by the hash over those ([`SnapshotHasher`]). Other than in ABCI a chunk
//! is thus what the [`Snapshot`] says before the application sees it, whoever sent it. That the snapshot itself is the chain's is
//! another matter: its state root is that of a final header or of a configured checkpoint, or it is never offered to a sink; and the sink has
//! the last word, since only it knows how bytes and state root belong together.

use std::{fmt, mem};

use bytes::Bytes;
use libp2p::PeerId;

use super::SyncVerdict;

/// Chunks are checked in groups of so many bytes as they come; a chunk's size is a multiple of it.
pub const SNAPSHOT_GROUP: usize = 16 << 10;

/// The largest chunk, in bytes.
pub const MAX_SNAPSHOT_CHUNK: usize = 4 << 20;

/// The most chunks of a snapshot: their hashes together are one of the largest chunks. With those a snapshot has at most 512 GiB.
pub const MAX_SNAPSHOT_CHUNKS: u32 = 1 << 17;

/// The longest state root, in bytes.
pub const MAX_STATE_ROOT: usize = 64;

/// The most bytes of a header and what proves it final, together.
pub const MAX_SNAPSHOT_PROOF: usize = 64 << 10;

/// A BLAKE3 hash.
pub type SnapshotHash = [u8; 32];

/// What is offered as the chain's state at a height. The sizes are of no use before [`Snapshot::check`] has found them possible.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Snapshot {
    /// The height whose state it is.
    pub height: u64,
    /// The form of its bytes; what that means is the application's.
    pub format: u32,
    /// The state's root, as the chain's headers have it: 1 to [`MAX_STATE_ROOT`] bytes.
    pub state_root: Bytes,
    /// Bytes of each chunk but the last, which has the rest: a multiple of [`SNAPSHOT_GROUP`], at most [`MAX_SNAPSHOT_CHUNK`].
    pub chunk_size: u32,
    /// Bytes of all chunks; not 0.
    pub size: u64,
    /// The BLAKE3 hash of the chunks' BLAKE3 hashes, one after the other.
    pub root: SnapshotHash,
}

/// The name of a [`Snapshot`]: BLAKE3 over all that it says, so that whoever tells another size or height of the same bytes tells of
/// another snapshot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId(pub SnapshotHash);

/// Why bytes or numbers make no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// Not a size that chunks may have.
    #[error(
        "chunks of {0} bytes: a snapshot's have a multiple of {SNAPSHOT_GROUP}, at most {MAX_SNAPSHOT_CHUNK}"
    )]
    ChunkSize(u32),
    /// Empty, or more chunks than a snapshot may have.
    #[error(
        "{size} bytes in chunks of {chunk_size}: a snapshot has 1 to {MAX_SNAPSHOT_CHUNKS} chunks; larger chunks hold more"
    )]
    Size {
        /// Bytes in all.
        size: u64,
        /// Bytes of a chunk.
        chunk_size: u32,
    },
    /// Empty, or too long.
    #[error("a state root of {0} bytes: it has 1 to {MAX_STATE_ROOT}")]
    StateRoot(usize),
}

impl Snapshot {
    /// What the name is made with, in BLAKE3's mode of deriving keys.
    const CONTEXT: &str = "selkie 2026-11-26 snapshot id 1";

    /// Whether there can be such a snapshot.
    ///
    /// # Errors
    /// [`SnapshotError`], the first that is wrong.
    pub fn check(&self) -> Result<(), SnapshotError> {
        let chunk_size = self.chunk_size;
        check_chunk_size(chunk_size)?;
        let chunks = self.size.div_ceil(u64::from(chunk_size));
        if !(1..=u64::from(MAX_SNAPSHOT_CHUNKS)).contains(&chunks) {
            let size = self.size;
            return Err(SnapshotError::Size { size, chunk_size });
        }
        if !(1..=MAX_STATE_ROOT).contains(&self.state_root.len()) {
            return Err(SnapshotError::StateRoot(self.state_root.len()));
        }
        Ok(())
    }

    /// How many chunks it has.
    pub fn chunks(&self) -> u32 {
        let chunks = self.size.div_ceil(u64::from(self.chunk_size.max(1)));
        u32::try_from(chunks).unwrap_or(u32::MAX)
    }

    /// Bytes of a chunk. `None`: it has no such chunk.
    pub fn chunk_length(&self, index: u32) -> Option<usize> {
        let before = u64::from(index) * u64::from(self.chunk_size);
        let rest = self.size.checked_sub(before).filter(|rest| *rest > 0)?;
        usize::try_from(rest.min(u64::from(self.chunk_size))).ok()
    }

    /// Its name.
    pub fn id(&self) -> SnapshotId {
        let mut hasher = blake3::Hasher::new_derive_key(Self::CONTEXT);
        hasher.update(&self.height.to_be_bytes());
        hasher.update(&self.format.to_be_bytes());
        hasher.update(&self.chunk_size.to_be_bytes());
        hasher.update(&self.size.to_be_bytes());
        hasher.update(&self.root);
        hasher.update(&self.state_root);
        SnapshotId(hasher.finalize().into())
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SnapshotId({self})")
    }
}

/// Makes the [`Snapshot`] of bytes that pass by once, in pieces of any length: nothing of them is kept.
#[derive(Clone, Debug)]
pub struct SnapshotHasher {
    chunk_size: u32,
    chunk: blake3::Hasher,
    /// Bytes until the chunk ends.
    left: usize,
    size: u64,
    hashes: Vec<u8>,
}

impl SnapshotHasher {
    /// For chunks of so many bytes; about 1 MiB is a good size.
    ///
    /// # Errors
    /// [`SnapshotError::ChunkSize`].
    pub fn new(chunk_size: u32) -> Result<Self, SnapshotError> {
        check_chunk_size(chunk_size)?;
        Ok(Self {
            chunk_size,
            chunk: blake3::Hasher::new(),
            left: usize::try_from(chunk_size).unwrap_or(MAX_SNAPSHOT_CHUNK),
            size: 0,
            hashes: Vec::new(),
        })
    }

    /// The next bytes of the snapshot.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(self.left.min(bytes.len()));
            self.chunk.update(now);
            self.size += now.len() as u64;
            self.left -= now.len();
            bytes = later;
            if self.left == 0 {
                self.end_chunk();
            }
        }
    }

    /// The snapshot of all these bytes, and the hashes of its chunks, one after the other ([`SnapshotSource::load_snapshot_hashes`]).
    ///
    /// # Errors
    /// [`SnapshotError`]: no bytes or too many, or a state root of no possible length.
    pub fn finish(
        mut self,
        height: u64,
        format: u32,
        state_root: Bytes,
    ) -> Result<(Snapshot, Bytes), SnapshotError> {
        if self.chunk.count() > 0 {
            self.end_chunk();
        }
        let snapshot = Snapshot {
            height,
            format,
            state_root,
            chunk_size: self.chunk_size,
            size: self.size,
            root: blake3::hash(&self.hashes).into(),
        };
        snapshot.check()?;
        Ok((snapshot, self.hashes.into()))
    }

    fn end_chunk(&mut self) {
        let chunk = mem::take(&mut self.chunk);
        self.hashes.extend(chunk.finalize().as_bytes());
        self.left = usize::try_from(self.chunk_size).unwrap_or(MAX_SNAPSHOT_CHUNK);
    }
}

fn check_chunk_size(chunk_size: u32) -> Result<(), SnapshotError> {
    let size = usize::try_from(chunk_size).unwrap_or(usize::MAX);
    let fits = (SNAPSHOT_GROUP..=MAX_SNAPSHOT_CHUNK).contains(&size);
    if !fits || !size.is_multiple_of(SNAPSHOT_GROUP) {
        return Err(SnapshotError::ChunkSize(chunk_size));
    }
    Ok(())
}

/// Who has snapshots for others. The calls may be slow: they run off the network task, a bounded number at a time.
pub trait SnapshotSource: Send + Sync + 'static {
    /// The snapshots that can be read now, in any order; of each height and format at most one. Asked now and then, so that making and
    /// dropping them needs no call into the network. One that is no longer listed is no longer served.
    fn list_snapshots(&self) -> Vec<Snapshot>;

    /// The BLAKE3 hashes of a snapshot's chunks, one after the other. `None`: it is not here any more.
    fn load_snapshot_hashes(&self, snapshot: &Snapshot) -> Option<Bytes>;

    /// A chunk's bytes. `None`: it is not here any more. What its hash contradicts is not sent, and told as this node's error.
    fn load_snapshot_chunk(&self, snapshot: &Snapshot, index: u32) -> Option<Bytes>;

    /// What shows others that a snapshot is the chain's state. Default: nothing does; it is taken only by who has it as a checkpoint, or
    /// is shown it by another peer.
    fn prove_snapshot(&self, _snapshot: &Snapshot) -> Option<SnapshotProof> {
        None
    }

    /// Makes a snapshot of the state after the final block of this height, in chunks of so many bytes. All nodes are asked for the same heights, the
    /// multiples of `protocol.sync.snapshots.make_every`, so that who takes one has many sources: what it is has to follow from the block alone. One at a
    /// time; it may take minutes, in which the chain is to go on. `None`: that block is not final yet, or its state is not kept any more; this is asked
    /// again as the chain grows, so let it cost little. Default: the chain makes them when it likes.
    ///
    /// # Errors
    /// Why it can't, for a person. It is asked again after a minute, and then later and later, up to an hour.
    fn make_snapshot(&self, _height: u64, _chunk_bytes: u32) -> Result<Option<Snapshot>, String> {
        Ok(None)
    }

    /// Forgets a snapshot: of those that are listed, one beyond the newest `protocol.sync.snapshots.keep` that nobody is fetching. Default: the
    /// chain forgets them when it likes.
    ///
    /// # Errors
    /// Why it can't, for a person. It is asked again.
    fn forget_snapshot(&self, _snapshot: &Snapshot) -> Result<(), String> {
        Ok(())
    }
}

/// What shows that a snapshot is the chain's state: judged by the taker's [`super::TrustVerifier`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotProof {
    /// The header of the snapshot's height.
    pub header: Bytes,
    /// What makes it final beside itself; may be empty. Both have at most [`MAX_SNAPSHOT_PROOF`] bytes.
    pub proof: Bytes,
}

/// A chunk for a [`SnapshotSink`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotChunk {
    /// Which; the first is 0.
    pub index: u32,
    /// Its bytes: those of the snapshot that was offered.
    pub bytes: Bytes,
    /// Who sent the most of it, for a log.
    pub sender: PeerId,
}

/// The order in which a [`SnapshotSink`] takes chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChunkOrder {
    /// As they come: the rarest are fetched first.
    #[default]
    Any,
    /// From the first to the last: they are fetched so, and those that come too soon wait, within the limit of what is in flight.
    Rising,
}

/// Who takes a snapshot. The calls may be slow: they run off the network task, one at a time.
///
/// `Ignore` says that the snapshot is of no use here: it is left alone, another one is tried, and nobody pays. `Retry` (no room on the
/// disk, say) has the same asked again in a while, a limited number of times; then it is this node's error, which is told. `Reject`
/// gives the snapshot up: who offered it pays once another one of the same height and format was taken; until then nobody can say whether
/// they lie or this application errs.
pub trait SnapshotSink: Send + Sync + 'static {
    /// Whether to take this snapshot. Its state root is that of this final header, or of the checkpoint where there is none. What was taken of
    /// another one before is of no use any more, unless [`SnapshotSink::stored_snapshot_chunks`] says so.
    fn offer_snapshot(&self, snapshot: &Snapshot, header: Option<&Bytes>) -> SyncVerdict;

    /// The order in which it takes chunks. Default: any.
    fn chunk_order(&self) -> ChunkOrder {
        ChunkOrder::Any
    }

    /// Which of its chunks were applied before, by an earlier run too: those are not fetched again. Asked after each
    /// [`SyncVerdict::Accept`] of an offer. Default: none.
    fn stored_snapshot_chunks(&self, _snapshot: &Snapshot) -> Vec<u32> {
        Vec::new()
    }

    /// The snapshot of which an earlier run has taken chunks, and that was not finished and not given up: it goes before others. Asked when the
    /// node starts. Default: none.
    fn unfinished_snapshot(&self) -> Option<Snapshot> {
        None
    }

    /// What was taken of a snapshot is of no use any more, and is to go: it was rejected or given up, the chain has come further by blocks, or the node starts
    /// and does not go on with it. Also called where there is nothing; again a minute after it failed. Default: it is kept.
    ///
    /// # Errors
    /// Why it can't, for a person.
    fn abandon_snapshot(&self) -> Result<(), String> {
        Ok(())
    }

    /// Takes a chunk, in its order; its bytes are those of the snapshot that was offered. `sender`: who sent the most of it, for a log. After
    /// `Accept` it counts as stored: what a crash could lose is not accepted yet.
    fn apply_snapshot_chunk(&self, index: u32, bytes: &Bytes, sender: &PeerId) -> SyncVerdict;

    /// Takes chunks that are here together, in their order: about 16 MiB at most. Says how many of them, from the first on, were accepted, and what it says
    /// of the next one (`Accept` if there is none); those after that are given again. For a sink that writes to a disk, for which one flush for all
    /// of them is much cheaper than one each. Default: one by one, as [`SnapshotSink::apply_snapshot_chunk`] takes them.
    fn apply_snapshot_chunks(&self, chunks: &[SnapshotChunk]) -> (usize, SyncVerdict) {
        for (count, chunk) in chunks.iter().enumerate() {
            let verdict = self.apply_snapshot_chunk(chunk.index, &chunk.bytes, &chunk.sender);
            if verdict != SyncVerdict::Accept {
                return (count, verdict);
            }
        }
        (chunks.len(), SyncVerdict::Accept)
    }

    /// All chunks are applied: whether this is the state with the snapshot's state root.
    fn finish_snapshot(&self, snapshot: &Snapshot) -> SyncVerdict;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;
    use proptest::prelude::*;

    fn snapshot() -> Snapshot {
        Snapshot {
            height: 7,
            format: 1,
            state_root: Bytes::from_static(&[1; 32]),
            chunk_size: 16 << 10,
            size: 40_000,
            root: [2; 32],
        }
    }

    #[test]
    fn a_snapshot_knows_its_chunks() {
        let snapshot = snapshot();
        assert_eq!(snapshot.check(), Ok(()));
        assert_eq!(snapshot.chunks(), 3);
        let lengths = [0, 1, 2, 3, u32::MAX].map(|index| snapshot.chunk_length(index));
        let last = 40_000 - (32 << 10);
        assert_eq!(
            lengths,
            [Some(16 << 10), Some(16 << 10), Some(last), None, None]
        );
    }

    #[test]
    fn impossible_snapshots_are_refused() {
        let sizes = [0, 1, 16_383, 16_385, u32::MAX, (4 << 20) + (16 << 10)];
        for chunk_size in sizes {
            let snapshot = Snapshot {
                chunk_size,
                ..snapshot()
            };
            assert_eq!(snapshot.check(), Err(SnapshotError::ChunkSize(chunk_size)));
            assert!(SnapshotHasher::new(chunk_size).is_err());
        }
        for size in [0, (16 << 10) * u64::from(MAX_SNAPSHOT_CHUNKS) + 1, u64::MAX] {
            let snapshot = Snapshot { size, ..snapshot() };
            assert!(matches!(snapshot.check(), Err(SnapshotError::Size { .. })));
        }
        for length in [0, 65] {
            let snapshot = Snapshot {
                state_root: vec![0; length].into(),
                ..snapshot()
            };
            assert_eq!(snapshot.check(), Err(SnapshotError::StateRoot(length)));
        }
    }

    #[test]
    fn whatever_a_snapshot_says_is_in_its_name() {
        let others = [
            Snapshot {
                height: 8,
                ..snapshot()
            },
            Snapshot {
                format: 2,
                ..snapshot()
            },
            Snapshot {
                state_root: Bytes::from_static(&[1; 31]),
                ..snapshot()
            },
            Snapshot {
                chunk_size: 32 << 10,
                ..snapshot()
            },
            Snapshot {
                size: 40_001,
                ..snapshot()
            },
            Snapshot {
                root: [3; 32],
                ..snapshot()
            },
        ];
        for other in others {
            assert_ne!(other.id(), snapshot().id(), "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn however_bytes_come_the_snapshot_is_the_same(
            length in 1usize..100_000, cuts in prop::collection::vec(1usize..40_000, 0..20),
        ) {
            let bytes: Vec<u8> = (0..length).map(|place| place as u8).collect();
            let mut hasher = SnapshotHasher::new(32 << 10).unwrap();
            let mut rest = &bytes[..];
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                hasher.update(now);
                rest = later;
            }
            hasher.update(rest);
            let (snapshot, hashes) = hasher.finish(1, 2, Bytes::from_static(b"root")).unwrap();
            let right: Vec<u8> = bytes.chunks(32 << 10).flat_map(|chunk| *blake3::hash(chunk).as_bytes()).collect();
            prop_assert_eq!(&hashes[..], &right[..]);
            prop_assert_eq!(snapshot.size, length as u64);
            prop_assert_eq!(snapshot.root, *blake3::hash(&right).as_bytes());
        }
    }
}
