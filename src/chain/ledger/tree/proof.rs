//! What shows, to whoever knows a root, that a key has a value or has none.
//!
//! A proof is what stands at the end of the way to the key, and the hashes beside that way. Encoded: a byte for the end (0 the key's own
//! leaf, 1 nothing, 2 another key's leaf, whose path and value's hash follow), a byte for how many levels the way has, a bit for
//! each of them from the top whether there is a hash (an empty subtree has none), and these hashes, 32 bytes each.
//!
//! One of 1,000,000 keys has some 700 bytes. A proof has one encoding; others are refused.

use super::super::codec::{Malformed, Reader};
use super::node::{inner_hash, leaf_hash, path, value_hash};
use super::{EMPTY, Hash, Key, Leaf};

/// The longest proof, in bytes: 255 levels.
pub const MAX_PROOF: usize = 2 + 64 + 32 + 255 * 32;

/// A proof does not show what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// No proof at all, or not in its one encoding.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It shows that the key has a value, or that it has none, and the answer says otherwise.
    #[error("the proof shows something else than the answer says")]
    Contradicts,
    /// It leads to another root: of another state, or forged.
    #[error("the proof does not lead to the trusted root")]
    Root,
}

/// The end of the way to a key, and the hashes beside that way; docs/ledger.md has its encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    end: End,
    /// The hashes beside the way, from the top.
    siblings: Vec<Hash>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The key's own leaf.
    Value,
    Nothing,
    /// The leaf of another key whose path begins as this one's.
    Another {
        path: Hash,
        value: Hash,
    },
}

impl Proof {
    pub(super) fn of_value(siblings: Vec<Hash>) -> Self {
        let end = End::Value;
        Self { end, siblings }
    }

    pub(super) fn of_nothing(siblings: Vec<Hash>) -> Self {
        let end = End::Nothing;
        Self { end, siblings }
    }

    pub(super) fn of_another(siblings: Vec<Hash>, leaf: &Leaf) -> Self {
        let end = End::Another {
            path: leaf.path(),
            value: value_hash(&leaf.value),
        };
        Self { end, siblings }
    }

    /// Whether a key has this value, or none, in the map with this root.
    ///
    /// # Errors
    /// The proof does not show that.
    pub fn verify(
        &self,
        root: &Hash,
        key: &[u8; 32],
        value: Option<&[u8]>,
    ) -> Result<(), ProofError> {
        let path = path(key);
        let end = match (self.end, value) {
            (End::Value, Some(value)) => leaf_hash(&path, &value_hash(value)),
            (End::Nothing, None) => EMPTY,
            (End::Another { path: other, value }, None) => {
                if other == path || !begin_alike(&other, &path, self.siblings.len()) {
                    return Err(ProofError::Contradicts);
                }
                leaf_hash(&other, &value)
            }
            _ => return Err(ProofError::Contradicts),
        };
        let levels = self.siblings.iter().zip(bits(&path)).collect::<Vec<_>>();
        let top = levels.iter().rev().fold(end, |hash, (sibling, to_right)| {
            if *to_right {
                inner_hash(sibling, &hash)
            } else {
                inner_hash(&hash, sibling)
            }
        });
        if top == *root {
            Ok(())
        } else {
            Err(ProofError::Root)
        }
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let levels = u8::try_from(self.siblings.len()).unwrap_or(u8::MAX);
        let kind = match self.end {
            End::Value => 0,
            End::Nothing => 1,
            End::Another { .. } => 2,
        };
        let mut bytes = vec![kind, levels];
        if let End::Another { path, value } = self.end {
            bytes.extend(path);
            bytes.extend(value);
        }
        for eight in self.siblings.chunks(8) {
            let bits = eight.iter().enumerate();
            let bits = bits.filter(|(_, hash)| **hash != EMPTY);
            bytes.push(bits.fold(0, |byte, (at, _)| byte | 0x80 >> at));
        }
        let hashes = self.siblings.iter().filter(|hash| **hash != EMPTY);
        bytes.extend(hashes.flatten());
        bytes
    }

    /// The proof of these bytes.
    ///
    /// # Errors
    /// They are none, or not in the one encoding.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes, "a proof");
        let kind = reader.byte()?;
        let levels = usize::from(reader.byte()?);
        let end = match kind {
            0 => End::Value,
            1 => End::Nothing,
            2 => End::Another {
                path: reader.array()?,
                value: reader.array()?,
            },
            _ => return Err(Malformed("a proof of no known kind")),
        };
        let bitmap = reader.take(levels.div_ceil(8))?;
        let mut present = bitmap
            .iter()
            .flat_map(|byte| (0..8).map(move |at| byte & (0x80 >> at) != 0));
        let mut siblings = Vec::with_capacity(levels);
        for is_there in present.by_ref().take(levels) {
            let sibling = if is_there { reader.array()? } else { EMPTY };
            if is_there && sibling == EMPTY {
                return Err(Malformed("a proof with an empty subtree written out"));
            }
            siblings.push(sibling);
        }
        if present.any(|is_there| is_there) {
            return Err(Malformed("a proof with hashes below its last level"));
        }
        reader.end()?;
        Ok(Self { end, siblings })
    }
}

/// A path's bits from the top.
fn bits(path: &Key) -> impl Iterator<Item = bool> {
    path.iter()
        .flat_map(|byte| (0..8).map(move |at| byte & (0x80 >> at) != 0))
}

fn begin_alike(one: &Hash, other: &Hash, count: usize) -> bool {
    bits(one).take(count).eq(bits(other).take(count))
}
