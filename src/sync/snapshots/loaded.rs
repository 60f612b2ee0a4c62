//! A part of a snapshot that was read to be sent.

use bytes::Bytes;

use super::tree;
use crate::chain::{SNAPSHOT_GROUP, SnapshotHash};

/// A part's bytes, and the values of its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    bytes: Bytes,
    values: Vec<SnapshotHash>,
}

/// Why there is nothing to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The application has it no more.
    #[error("it is not here any more")]
    Missing,
    /// The application gave other bytes than those that the snapshot was made of.
    #[error(
        "its bytes are not those that the snapshot was made of: the application's store is damaged, make the snapshot anew"
    )]
    Damaged,
}

impl Loaded {
    /// Checks what was read: with wrong bytes this node would be taken for a liar. Slow (about 1 ms for 1 MiB): done where it was read.
    ///
    /// # Errors
    /// [`LoadError`]: it is not sent.
    pub fn of(bytes: Option<Bytes>, hash: &SnapshotHash) -> Result<Self, LoadError> {
        let bytes = bytes.ok_or(LoadError::Missing)?;
        let values = tree::values(&bytes);
        if tree::root(&values) != Some(*hash) {
            return Err(LoadError::Damaged);
        }
        Ok(Self { bytes, values })
    }

    /// A part that was checked by these values before.
    pub(super) fn checked(bytes: Bytes, values: Vec<SnapshotHash>) -> Self {
        Self { bytes, values }
    }

    /// Its bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub(super) fn values(&self) -> &[SnapshotHash] {
        &self.values
    }

    /// The groups from one on, at most so many.
    pub(super) fn groups(&self, first: usize, count: usize) -> Bytes {
        let length = self.bytes.len();
        let begin = (first * SNAPSHOT_GROUP).min(length);
        let end = ((first + count) * SNAPSHOT_GROUP).min(length);
        self.bytes.slice(begin..end)
    }
}
