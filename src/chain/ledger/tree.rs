//! The authenticated state: a map from keys to values under one hash, the root, with proofs of what a key has or that it has nothing.
//!
//! A sparse Merkle tree over the 256 bits of a key's SHA-256, the first bit at the top, in which a subtree of one leaf is that leaf and
//! an empty one is a fixed hash (Dahlberg, Pulls and Peeters, "Efficient Sparse Merkle Trees", 2016). Its hashes are those of the
//! [Jellyfish Merkle tree](https://github.com/penumbra-zone/jmt) of Diem, Aptos and Penumbra. A root depends on what is in the map and on nothing
//! else: the tests compare it with that definition, written out without a store.
//!
//! Nodes are never changed: each update writes new ones under its own version, and notes which older ones it no longer needs. So
//! the state after each of the last versions can be read ([`Tree::get`], [`Tree::prove`], [`Tree::leaves`]) until
//! [`prune`] takes away what only older ones need, and [`revert`] goes back to an older one.
//!
//! Why not the crate `jmt` itself: its proofs carry both children of every sibling, twice the bytes; it panics over a damaged store;
//! and a tab would have to load what it brings. docs/ledger.md has the figures.
//!
//! Bounds: a walk reads at most 256 nodes, about log2 of the keys in fact: whoever would make a longer one has to find
//! keys whose hashes begin alike.

mod build;
mod node;
mod proof;

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::storage::{Batch, KeyRange, Store, StoreError, Table};

pub(super) use build::Builder;
use node::Node;
pub(super) use node::{Child, Leaf, path};
pub use proof::{MAX_PROOF, Proof, ProofError};

/// A SHA-256.
pub type Hash = [u8; 32];
/// What the map is over: in the ledger, public keys.
pub(super) type Key = [u8; 32];

/// Nodes, by version and number.
const NODES: Table = Table::new("nodes");
/// Nodes that are not needed from a version on, by that version.
const STALE: Table = Table::new("stale");

/// The hash of a subtree without leaves.
const EMPTY: Hash = *b"SPARSE_MERKLE_PLACEHOLDER_HASH__";

/// The hash of a map.
pub(super) fn root_hash(root: Option<Child>) -> Hash {
    root.map_or(EMPTY, |root| root.hash)
}

/// Reads and updates trees in a store.
pub(super) struct Tree<'a>(pub(super) &'a dyn Store);

/// What an update writes, and the root that there is then.
#[derive(Clone, Debug)]
pub(super) struct Update {
    pub(super) root: Option<Child>,
    pub(super) batch: Batch,
}

impl Tree<'_> {
    /// What a key has.
    pub(super) fn get(&self, root: Option<Child>, key: &Key) -> Result<Option<Bytes>, StoreError> {
        let (leaf, _) = self.walk(root, &node::path(key))?;
        Ok(leaf.filter(|leaf| leaf.key == *key).map(|leaf| leaf.value))
    }

    /// The same with its proof.
    pub(super) fn prove(
        &self,
        root: Option<Child>,
        key: &Key,
    ) -> Result<(Option<Bytes>, Proof), StoreError> {
        let (leaf, siblings) = self.walk(root, &node::path(key))?;
        Ok(match leaf {
            Some(leaf) if leaf.key == *key => (Some(leaf.value), Proof::of_value(siblings)),
            Some(other) => (None, Proof::of_another(siblings, &other)),
            None => (None, Proof::of_nothing(siblings)),
        })
    }

    /// The leaf where a path ends, and the hashes beside the way there, from the top.
    fn walk(
        &self,
        root: Option<Child>,
        path: &Hash,
    ) -> Result<(Option<Leaf>, Vec<Hash>), StoreError> {
        let (mut at, mut siblings) = (root, Vec::with_capacity(32));
        while let Some(child) = at {
            match self.node(child)? {
                Node::Leaf(leaf) => return Ok((Some(leaf), siblings)),
                Node::Inner(left, right) => {
                    let to_right = node::bit(path, siblings.len())?;
                    let (next, beside) = if to_right {
                        (right, left)
                    } else {
                        (left, right)
                    };
                    siblings.push(root_hash(beside));
                    at = next;
                }
            }
        }
        Ok((None, siblings))
    }

    /// The leaves in the order of their paths, from after one on: at most so many.
    pub(super) fn leaves(
        &self,
        root: Option<Child>,
        after: Option<&Hash>,
        most: usize,
    ) -> Result<Vec<Leaf>, StoreError> {
        let mut found = Vec::new();
        // What is to be visited, the first last; how deep it is, and whether all before it on the way there is `after`'s own.
        let mut open: Vec<_> = root.map(|root| (root, 0, after)).into_iter().collect();
        while let Some((child, depth, after)) = open.pop() {
            if found.len() >= most {
                break;
            }
            match self.node(child)? {
                Node::Leaf(leaf) => {
                    if after.is_none_or(|after| node::path(&leaf.key) > *after) {
                        found.push(leaf);
                    }
                }
                Node::Inner(left, right) => {
                    let to_right = after.map(|after| node::bit(after, depth)).transpose()?;
                    let (of_left, of_right) = match to_right {
                        Some(true) => (None, right.map(|right| (right, depth + 1, after))),
                        _ => (
                            left.map(|left| (left, depth + 1, after)),
                            right.map(|right| (right, depth + 1, None)),
                        ),
                    };
                    open.extend(of_right);
                    open.extend(of_left);
                }
            }
        }
        Ok(found)
    }

    /// The map with these changes (`None` takes a key away). `version` is above all that were written before.
    pub(super) fn update(
        &self,
        root: Option<Child>,
        version: u64,
        changes: &BTreeMap<Key, Option<Bytes>>,
    ) -> Result<Update, StoreError> {
        let changes = changes.iter().map(|(key, value)| Change {
            path: node::path(key),
            key: *key,
            value: value.clone(),
        });
        let mut changes: Vec<_> = changes.collect();
        changes.sort_unstable_by_key(|change| change.path);
        let mut writing = Writing {
            tree: self,
            writer: node::Writer::new(version),
        };
        let root = writing.update(root, 0, &changes)?;
        Ok(Update {
            root,
            batch: writing.writer.batch,
        })
    }

    fn node(&self, child: Child) -> Result<Node, StoreError> {
        let bytes = self.0.get(NODES, &child.id.to_bytes())?;
        let bytes = bytes.ok_or_else(|| damaged("a node of the state is missing"))?;
        Node::decode(&bytes).map_err(|wrong| damaged(&wrong.to_string()))
    }
}

/// A store that does not hold what was written there.
fn damaged(reason: &str) -> StoreError {
    StoreError::Damaged {
        place: "the ledger's store".to_owned(),
        reason: reason.to_owned(),
    }
}

#[derive(Clone, Debug)]
struct Change {
    path: Hash,
    key: Key,
    value: Option<Bytes>,
}

struct Writing<'a> {
    tree: &'a Tree<'a>,
    writer: node::Writer,
}

impl Writing<'_> {
    fn update(
        &mut self,
        at: Option<Child>,
        depth: usize,
        changes: &[Change],
    ) -> Result<Option<Child>, StoreError> {
        let Some(child) = at.filter(|_| !changes.is_empty()) else {
            return if changes.is_empty() {
                Ok(at)
            } else {
                self.build(depth, changes)
            };
        };
        match self.tree.node(child)? {
            Node::Leaf(leaf) => {
                let path = node::path(&leaf.key);
                let place = changes.binary_search_by(|change| change.path.cmp(&path));
                self.writer.drop_node(child);
                let Err(place) = place else {
                    return self.build(depth, changes);
                };
                let mut all = changes.to_vec();
                let kept = Change {
                    path,
                    key: leaf.key,
                    value: Some(leaf.value),
                };
                all.insert(place, kept);
                self.build(depth, &all)
            }
            Node::Inner(left, right) => {
                let (to_left, to_right) = split(changes, depth)?;
                let new_left = self.update(left, depth + 1, to_left)?;
                let new_right = self.update(right, depth + 1, to_right)?;
                if (new_left, new_right) == (left, right) {
                    return Ok(at);
                }
                self.writer.drop_node(child);
                Ok(self.writer.join(new_left, new_right))
            }
        }
    }

    /// A subtree of nothing but these.
    fn build(&mut self, depth: usize, changes: &[Change]) -> Result<Option<Child>, StoreError> {
        match changes {
            [] => Ok(None),
            [change] => Ok(change
                .value
                .as_ref()
                .map(|value| self.writer.leaf(&change.path, change.key, value.clone()))),
            many => {
                let (to_left, to_right) = split(many, depth)?;
                let left = self.build(depth + 1, to_left)?;
                let right = self.build(depth + 1, to_right)?;
                Ok(self.writer.join(left, right))
            }
        }
    }
}

/// Those whose path goes left at this depth, and the others.
fn split(changes: &[Change], depth: usize) -> Result<(&[Change], &[Change]), StoreError> {
    if depth >= node::DEPTH {
        return Err(damaged("a tree that is deeper than its keys are long"));
    }
    let to_left = |change: &Change| node::bit(&change.path, depth).is_ok_and(|right| !right);
    Ok(changes.split_at(changes.partition_point(to_left)))
}

/// Takes away nodes that no version from `version` on needs: as many as a page of a store names, the longest needless first.
pub(super) fn prune(store: &dyn Store, version: u64, batch: &mut Batch) -> Result<(), StoreError> {
    let end = version.saturating_add(1).to_be_bytes();
    let stale = store.range(STALE, KeyRange::default().before(&end))?;
    for (key, _) in stale.entries {
        let node = key.get(size_of::<u64>()..);
        let node = node.ok_or_else(|| damaged("a note of a needless node is none"))?;
        batch.delete(NODES, key.slice_ref(node));
        batch.delete(STALE, key);
    }
    Ok(())
}

/// Takes away all that was written before a version, whose tree needs none of it.
pub(super) fn forget_before(version: u64, batch: &mut Batch) {
    let end = Bytes::copy_from_slice(&version.to_be_bytes());
    batch.delete_range(NODES, Bytes::new(), Some(end));
    batch.delete_range(STALE, Bytes::new(), None);
}

/// Takes away all that was written after a version: that one's tree is the newest again.
pub(super) fn revert(version: u64, batch: &mut Batch) {
    let from = version.saturating_add(1).to_be_bytes();
    batch.delete_range(NODES, from.to_vec(), None);
    batch.delete_range(STALE, from.to_vec(), None);
}

#[cfg(test)]
mod tests;
