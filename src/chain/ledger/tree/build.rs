//! A tree out of leaves that come in the order of their paths: each node is written once, and what is held meanwhile is one way down.

use bytes::Bytes;

use super::node::{self, Writer};
use super::{Child, Hash, Key};
use crate::storage::{Batch, StoreError};

/// The leaf that was added last is where the way down ends. Beside the way, to its left, are finished subtrees.
#[derive(Debug)]
pub(in super::super) struct Builder {
    writer: Writer,
    /// The depth of each subtree beside the way, from the top.
    beside: Vec<(usize, Option<Child>)>,
    last: Option<(Hash, Child)>,
}

impl Builder {
    /// Writes nodes of this version, which has none yet.
    pub(in super::super) fn new(version: u64) -> Self {
        Self {
            writer: Writer::new(version),
            beside: Vec::new(),
            last: None,
        }
    }

    /// Adds a leaf; false where its path is not after that of the last.
    pub(in super::super) fn add(&mut self, key: Key, value: Bytes) -> Result<bool, StoreError> {
        let path = node::path(&key);
        if let Some((last, child)) = self.last {
            if path <= last {
                return Ok(false);
            }
            let parting = common_bits(&last, &path);
            let subtree = self.finish_below(parting + 1, &last, child)?;
            self.beside.push((parting, subtree));
        }
        let child = self.writer.leaf(&path, key, value);
        self.last = Some((path, child));
        Ok(true)
    }

    /// What is to be written so far, which is then forgotten here.
    pub(in super::super) fn take_batch(&mut self) -> Batch {
        std::mem::take(&mut self.writer.batch)
    }

    /// The root over all leaves, and the rest of what is to be written.
    pub(in super::super) fn finish(mut self) -> Result<(Option<Child>, Batch), StoreError> {
        let root = match self.last {
            Some((path, child)) => self.finish_below(0, &path, child)?,
            None => None,
        };
        Ok((root, self.writer.batch))
    }

    /// The subtree at this depth on the way to a leaf.
    fn finish_below(
        &mut self,
        top: usize,
        path: &Hash,
        leaf: Child,
    ) -> Result<Option<Child>, StoreError> {
        let mut subtree = Some(leaf);
        let deepest = self.beside.last().map(|(depth, _)| *depth);
        let Some(deepest) = deepest.filter(|deepest| *deepest >= top) else {
            return Ok(subtree);
        };
        for depth in (top..=deepest).rev() {
            let beside = self.beside.pop_if(|(at, _)| *at == depth);
            let beside = beside.and_then(|(_, subtree)| subtree);
            subtree = if node::bit(path, depth)? {
                self.writer.join(beside, subtree)
            } else {
                self.writer.join(subtree, None)
            };
        }
        Ok(subtree)
    }
}

/// How many bits two paths have in common from the top.
fn common_bits(one: &Hash, other: &Hash) -> usize {
    let mut bits = 0;
    for (one, other) in one.iter().zip(other) {
        let differs = (one ^ other).leading_zeros();
        bits += usize::try_from(differs).unwrap_or(0);
        if differs < 8 {
            break;
        }
    }
    bits
}
