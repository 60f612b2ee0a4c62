//! A tree's nodes, and how they are written down.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::super::codec::{Malformed, Reader};
use super::{EMPTY, Hash, Key, NODES, STALE, damaged};
use crate::storage::{Batch, StoreError};

/// Bits of a path.
pub(super) const DEPTH: usize = 256;

/// Where in the tree a key is: its SHA-256.
pub(in super::super) fn path(key: &Key) -> Hash {
    Sha256::digest(key).into()
}

/// A path's bit at a depth: whether it goes right there.
pub(super) fn bit(path: &Hash, depth: usize) -> Result<bool, StoreError> {
    let byte = path.get(depth / 8);
    let byte = byte.ok_or_else(|| damaged("a tree that is deeper than its keys are long"))?;
    Ok(byte & (0x80 >> (depth % 8)) != 0)
}

pub(super) fn value_hash(value: &[u8]) -> Hash {
    Sha256::digest(value).into()
}

pub(super) fn leaf_hash(path: &Hash, value_hash: &Hash) -> Hash {
    let hash = Sha256::new().chain_update(b"JMT::LeafNode");
    hash.chain_update(path)
        .chain_update(value_hash)
        .finalize()
        .into()
}

/// The word is jmt's own spelling.
pub(super) fn inner_hash(left: &Hash, right: &Hash) -> Hash {
    let hash = Sha256::new().chain_update(b"JMT::IntrnalNode");
    hash.chain_update(left)
        .chain_update(right)
        .finalize()
        .into()
}

/// A node's place in the store: unique for ever, and in the order of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeId {
    version: u64,
    number: u32,
}

impl NodeId {
    const LENGTH: usize = 12;

    pub(super) fn to_bytes(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        let (version, number) = bytes.split_at_mut(8);
        version.copy_from_slice(&self.version.to_be_bytes());
        number.copy_from_slice(&self.number.to_be_bytes());
        bytes
    }
}

/// What a parent knows of a node, or the world of a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Child {
    pub(super) id: NodeId,
    pub(in super::super) hash: Hash,
    is_leaf: bool,
}

impl Child {
    /// Bytes of one in a record.
    pub(in super::super) const LENGTH: usize = 1 + NodeId::LENGTH + 32;

    /// One or none, as records hold it.
    pub(in super::super) fn write(child: Option<Self>, record: &mut Vec<u8>) {
        let Some(child) = child else {
            record.push(0);
            return;
        };
        record.push(if child.is_leaf { 1 } else { 2 });
        record.extend(child.id.to_bytes());
        record.extend(child.hash);
    }

    pub(in super::super) fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        let is_leaf = match reader.byte()? {
            0 => return Ok(None),
            1 => true,
            2 => false,
            _ => return Err(Malformed("a node of no known kind")),
        };
        let id = NodeId {
            version: reader.u64()?,
            number: reader.u32()?,
        };
        let hash = reader.array()?;
        Ok(Some(Self { id, hash, is_leaf }))
    }
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Leaf {
    pub(in super::super) key: Key,
    pub(in super::super) value: Bytes,
}

impl Leaf {
    /// Where in the order of leaves it is.
    pub(in super::super) fn path(&self) -> Hash {
        path(&self.key)
    }
}

/// A node as the store holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Leaf(Leaf),
    Inner(Option<Child>, Option<Child>),
}

impl Node {
    const LEAF: u8 = 1;
    const INNER: u8 = 2;

    pub(super) fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes, "a node of the state");
        match reader.byte()? {
            Self::LEAF => {
                let key = reader.array()?;
                let value = bytes.slice_ref(reader.rest());
                Ok(Self::Leaf(Leaf { key, value }))
            }
            Self::INNER => {
                let left = Child::read(&mut reader)?;
                let right = Child::read(&mut reader)?;
                reader.end()?;
                Ok(Self::Inner(left, right))
            }
            _ => Err(Malformed("a node of no known kind")),
        }
    }
}

/// Collects the nodes of one version.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) batch: Batch,
    version: u64,
    next: u32,
}

impl Writer {
    pub(super) fn new(version: u64) -> Self {
        Self {
            batch: Batch::default(),
            version,
            next: 0,
        }
    }

    pub(super) fn leaf(&mut self, path: &Hash, key: Key, value: Bytes) -> Child {
        let hash = leaf_hash(path, &value_hash(&value));
        let record = [&[Node::LEAF][..], &key, &value].concat();
        self.write(hash, true, record)
    }

    /// The node over two subtrees. One leaf alone is not put under another node.
    pub(super) fn join(&mut self, left: Option<Child>, right: Option<Child>) -> Option<Child> {
        match (left, right) {
            (None, None) => None,
            (Some(leaf), None) | (None, Some(leaf)) if leaf.is_leaf => Some(leaf),
            _ => {
                let hash = |child: Option<Child>| child.map_or(EMPTY, |child| child.hash);
                let mut record = Vec::with_capacity(1 + 2 * Child::LENGTH);
                record.push(Node::INNER);
                Child::write(left, &mut record);
                Child::write(right, &mut record);
                Some(self.write(inner_hash(&hash(left), &hash(right)), false, record))
            }
        }
    }

    /// Notes that this version does not need a node of an older one.
    pub(super) fn drop_node(&mut self, child: Child) {
        let note = [&self.version.to_be_bytes()[..], &child.id.to_bytes()].concat();
        self.batch.put(STALE, note, Bytes::new());
    }

    fn write(&mut self, hash: Hash, is_leaf: bool, record: Vec<u8>) -> Child {
        let id = NodeId {
            version: self.version,
            number: self.next,
        };
        // A version of 2^32 nodes would be a batch of 400 GB.
        self.next = self.next.saturating_add(1);
        self.batch.put(NODES, id.to_bytes().to_vec(), record);
        Child { id, hash, is_leaf }
    }
}
