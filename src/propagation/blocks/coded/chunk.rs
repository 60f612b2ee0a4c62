//! A piece of a block, and whether it is one.

use bytes::Bytes;

use super::announcement::{Announcement, BroadcastId};
use super::merkle::proves;

/// A chunk with its proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Of which broadcast.
    pub broadcast: BroadcastId,
    /// Its place among all chunks, data first.
    pub index: u8,
    /// The receiver is the first to get it, and passes it on unasked to all its peers.
    pub spread: bool,
    /// The digests beside its way up the Merkle tree.
    pub proof: Bytes,
    /// The chunk.
    pub data: Bytes,
}

impl Chunk {
    /// Whether it is what was announced at its index: one hash over the chunk where its lengths are right.
    pub(super) fn is_of(&self, announcement: &Announcement) -> bool {
        let shape = announcement.shape();
        self.data.len() == shape.chunk_length()
            && proves(
                announcement.root(),
                shape.chunks(),
                self.index,
                &self.data,
                &self.proof,
            )
    }
}
