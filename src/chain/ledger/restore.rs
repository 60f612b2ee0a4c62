//! The whole state in pieces: read from one ledger at some height, and restored in another.
//!
//! A chunk is accounts in a row, 48 bytes each: address (32), balance (8), nonce (8). They are in the order of the SHA-256 of their
//! addresses, over all chunks, each account once. So a state has one row of bytes, however it is cut, and whoever restores it needs to hold
//! one way down the tree besides the chunk.
//!
//! What is restored is written beside the state that is there, and takes its place in one batch when its root is the header's.
//! Until then, and when it is not, the ledger is what it was; what a crash left of a restoration is cleared away when the ledger is
//! opened again. Meanwhile no block is appended.

use super::address::{Account, Address};
use super::codec::{Malformed, Reader};
use super::header::Header;
use super::tree::{self, Builder};
use super::{Hash, Ledger, Tip, stored};
use crate::storage::{MAX_BATCH, StoreError};

/// Bytes of an account in a chunk.
pub const CHUNK_ACCOUNT: usize = Address::LENGTH + Account::LENGTH;
/// The longest chunk, in bytes: with what its nodes take it fits in a batch.
pub const MAX_CHUNK: usize = MAX_BATCH / 16;

/// A state can't be restored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// A chunk that is none.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Accounts are not in their order, or one is there twice.
    #[error("the accounts of the snapshot are not in their order")]
    Order,
    /// All chunks were good, and together they are another state.
    #[error("the snapshot is of another state: its root is {found}, the header has {wanted}")]
    Root {
        /// The root that there is.
        found: String,
        /// The one that there should be.
        wanted: String,
    },
    /// The ledger is at that height or above it already.
    #[error("the ledger is at height {here}: a snapshot of height {offered} brings nothing")]
    Old {
        /// The height here.
        here: u64,
        /// The snapshot's.
        offered: u64,
    },
    /// Another one is being restored.
    #[error("another snapshot is being restored")]
    Busy,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Ledger {
    /// The next accounts of the state at a height, at most so many and at most [`MAX_CHUNK`] bytes, after one of them. `None`: that height's
    /// state is not kept here. An empty chunk: there are no more.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn state_chunk(
        &self,
        height: u64,
        after: Option<&Address>,
        most: usize,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(head) = self.head_at(height)? else {
            return Ok(None);
        };
        let chunk = self.accounts(&head, after, most);
        // The chain may have gone past it meanwhile, or back.
        if chunk.is_err() && self.head_at(height)? != Some(head) {
            return Ok(None);
        }
        chunk.map(Some)
    }

    /// The same of the state after a block that is kept.
    pub(super) fn accounts(
        &self,
        head: &stored::Head,
        after: Option<&Address>,
        most: usize,
    ) -> Result<Vec<u8>, StoreError> {
        let after = after.map(|address| tree::path(address.as_bytes()));
        let most = most.min(MAX_CHUNK / CHUNK_ACCOUNT);
        let tree = self.0.stored.tree();
        let leaves = tree.leaves(head.root, after.as_ref(), most)?;
        let mut chunk = Vec::with_capacity(leaves.len() * CHUNK_ACCOUNT);
        for leaf in leaves {
            chunk.extend(leaf.key);
            chunk.extend_from_slice(&leaf.value);
        }
        Ok(chunk)
    }

    /// Begins to restore the state after a header that is trusted to be final: that is the caller's to know.
    ///
    /// # Errors
    /// The ledger is as far already, or restores another; the store can't be written.
    pub fn restore(&self, header: Header) -> Result<Restore, RestoreError> {
        let mut chain = self.0.chain();
        let here = chain.head.height;
        if header.height <= here {
            let offered = header.height;
            return Err(RestoreError::Old { here, offered });
        }
        if chain.is_restoring {
            return Err(RestoreError::Busy);
        }
        self.0.stored.begin_restoring()?;
        chain.is_restoring = true;
        Ok(Restore {
            ledger: self.clone(),
            builder: Some(Builder::new(header.height)),
            header,
        })
    }
}

/// A state on its way into a ledger. Dropped before [`Restore::finish`] it leaves the ledger as it was.
#[derive(Debug)]
pub struct Restore {
    ledger: Ledger,
    header: Header,
    /// `None` once it is done.
    builder: Option<Builder>,
}

impl Restore {
    /// Adds the next chunk. After an error the restoration can't go on.
    ///
    /// # Errors
    /// It is no chunk, or not the next; the store can't be written.
    pub fn add(&mut self, chunk: &[u8]) -> Result<(), RestoreError> {
        let builder = self.builder.as_mut().ok_or(RestoreError::Order)?;
        if chunk.len() > MAX_CHUNK {
            return Err(Malformed("a chunk that is too long").into());
        }
        let mut reader = Reader::new(chunk, "a chunk is a row of accounts");
        while !reader.is_empty() {
            let (key, value) = (reader.array()?, reader.take(Account::LENGTH)?);
            Account::decode(value)?;
            if !builder.add(key, value.to_vec().into())? {
                return Err(RestoreError::Order);
            }
        }
        let batch = builder.take_batch();
        Ok(self.ledger.0.stored.store.commit(&batch)?)
    }

    /// All chunks were added: the state is the ledger's if its root is the header's.
    ///
    /// # Errors
    /// It is another; the store can't be written.
    pub fn finish(mut self) -> Result<Tip, RestoreError> {
        let builder = self.builder.take().ok_or(RestoreError::Order)?;
        let outcome = self.finish_with(builder);
        if outcome.is_err() {
            self.give_up();
        }
        outcome
    }

    fn finish_with(&self, builder: Builder) -> Result<Tip, RestoreError> {
        let (root, batch) = builder.finish()?;
        let found: Hash = tree::root_hash(root);
        if found != self.header.state_root {
            return Err(RestoreError::Root {
                found: hex::encode(found),
                wanted: hex::encode(self.header.state_root),
            });
        }
        let head = stored::Head {
            height: self.header.height,
            id: self.header.id(),
            time: self.header.time,
            root,
        };
        let (mut chain, stored) = (self.ledger.0.chain(), &self.ledger.0.stored);
        let restored = stored.restored(&head, &self.header, batch);
        // It may be there although writing it failed.
        if restored.is_err() && stored.newest() != Ok(head) {
            restored?;
        }
        chain.restored(head);
        drop(chain);
        Ok(self.ledger.tip())
    }

    fn give_up(&self) {
        let (mut chain, stored) = (self.ledger.0.chain(), &self.ledger.0.stored);
        // What is above the newest block that the store has, whatever is thought to be there.
        let newest = stored.newest();
        let cleared = newest.and_then(|newest| stored.stop_restoring(newest.height));
        chain.is_restoring = false;
        chain.note(&cleared);
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        if self.builder.take().is_some() {
            self.give_up();
        }
    }
}
