//! What a broadcast is of, and its name.

use std::fmt;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::merkle::Digest;
use super::shape::Shape;
use crate::chain::ItemId;
pub use crate::propagation::blocks::compact::MAX_HEADER;

/// The name of a broadcast: the hash of all that its announcement says. Whoever says something else, of the same block
/// even, announces another broadcast.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BroadcastId(pub(super) Digest);

impl BroadcastId {
    /// The name's bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for BroadcastId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for BroadcastId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BroadcastId({self})")
    }
}

/// What a broadcast is of. The header is for the chain to check; that the root fits it, nobody can know before the
/// block is decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    block: ItemId,
    header: Bytes,
    shape: Shape,
    root: Digest,
    id: BroadcastId,
}

impl Announcement {
    /// An announcement. `None`: the block has no identity or no possible size, or the header is over [`MAX_HEADER`].
    pub(super) fn new(block: ItemId, header: Bytes, size: usize, root: Digest) -> Option<Self> {
        let shape = Shape::of(size)?;
        let name = block.as_bytes();
        if name.is_empty() || header.len() > MAX_HEADER {
            return None;
        }
        let id = Sha256::new()
            .chain_update([2])
            .chain_update(u32::try_from(name.len()).ok()?.to_be_bytes())
            .chain_update(name)
            .chain_update(u32::try_from(header.len()).ok()?.to_be_bytes())
            .chain_update(&header)
            .chain_update(u32::try_from(size).ok()?.to_be_bytes())
            .chain_update(root)
            .finalize();
        Some(Self {
            block,
            header,
            shape,
            root,
            id: BroadcastId(id.into()),
        })
    }

    /// The broadcast's name.
    pub fn id(&self) -> BroadcastId {
        self.id
    }

    /// The block's identity, as the announcer says.
    pub fn block(&self) -> &ItemId {
        &self.block
    }

    /// The block's header, as the announcer says; empty where the chain's blocks are opaque.
    pub fn header(&self) -> &Bytes {
        &self.header
    }

    /// How the block is cut.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The root of the Merkle tree over all chunks.
    pub fn root(&self) -> &[u8; 32] {
        &self.root
    }
}
