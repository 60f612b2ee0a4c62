//! Blocks: a header that a proposer signs, and the transfers that it commits to.
//!
//! A header has 213 bytes: a version (1), height (8), parent (32), state root after the block (32), root of the transfers (32), their
//! number (4), time in milliseconds since 1970 (8), proposer (32), signature (64). What is signed are the words
//! `selkie ledger header 1`, the genesis hash, and all before the signature. A header's id is the SHA-256 of all of it. A
//! block is its header and the transfers in a row.
//!
//! The root of the transfers is RFC 9162's Merkle tree hash over them.

use bytes::Bytes;
use libp2p::identity::ed25519::Keypair;
use sha2::{Digest as _, Sha256};

use super::address::{Address, SIGNATURE, Signature, sign, signed};
use super::codec::{Malformed, Reader};
use super::transfer::Transfer;
use super::tree::Hash;
use crate::chain::{Block, BlockParts};
use crate::merkle::{leaf, node};

/// The most transfers that a block may have: 1.5 MB of them.
pub const MAX_TRANSFERS: usize = 10_000;

const VERSION: u8 = 1;
const KIND: &str = "selkie ledger header 1";

/// What a proposer signs, in 213 bytes; docs/ledger.md has their encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// How many blocks there are up to it, with it; the genesis has 0 and no header.
    pub height: u64,
    /// The id of the header before, or the genesis hash.
    pub parent: Hash,
    /// The state's root after the block.
    pub state_root: Hash,
    /// The root over the transfers.
    pub transfers_root: Hash,
    /// How many they are.
    pub count: u32,
    /// In milliseconds since 1970, as the proposer's clock has it; after its parent's, else for showing only.
    pub time: u64,
    /// Who made the block.
    pub proposer: Address,
    pub(super) signature: Signature,
}

impl Header {
    /// Bytes of a header.
    pub const LENGTH: usize = Self::UNSIGNED + SIGNATURE;
    const UNSIGNED: usize = 1 + 8 + 3 * 32 + 4 + 8 + Address::LENGTH;

    pub(super) fn sign(self, genesis: &Hash, key: &Keypair) -> Self {
        let mut header = Self {
            proposer: Address::of(key),
            ..self
        };
        header.signature = sign(key, &signed(KIND, genesis, &header.unsigned()));
        header
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.unsigned();
        bytes.extend(self.signature);
        bytes
    }

    fn unsigned(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::LENGTH);
        bytes.push(VERSION);
        bytes.extend(self.height.to_be_bytes());
        bytes.extend(self.parent);
        bytes.extend(self.state_root);
        bytes.extend(self.transfers_root);
        bytes.extend(self.count.to_be_bytes());
        bytes.extend(self.time.to_be_bytes());
        bytes.extend(self.proposer.as_bytes());
        bytes
    }

    /// The header of these bytes, whoever signed it.
    ///
    /// # Errors
    /// They are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes, "a header has 213 bytes");
        let header = Self::read(&mut reader)?;
        reader.end()?;
        Ok(header)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        if reader.byte()? != VERSION {
            return Err(Malformed("a header of no known version"));
        }
        Ok(Self {
            height: reader.u64()?,
            parent: reader.array()?,
            state_root: reader.array()?,
            transfers_root: reader.array()?,
            count: reader.u32()?,
            time: reader.u64()?,
            proposer: Address::new(reader.array()?),
            signature: reader.array()?,
        })
    }

    /// The block's identity.
    pub fn id(&self) -> Hash {
        Sha256::digest(self.encode()).into()
    }

    /// Whether its proposer has signed it for this network. Whether that one may propose is another question.
    pub fn is_signed(&self, genesis: &Hash) -> bool {
        let message = signed(KIND, genesis, &self.unsigned());
        self.proposer.has_signed(&message, &self.signature)
    }

    /// Whether it commits to exactly these transfers.
    pub(super) fn commits_to(&self, transfers: &[Bytes]) -> bool {
        usize::try_from(self.count) == Ok(transfers.len())
            && transfers_root(transfers) == self.transfers_root
    }
}

/// The header and the transfers of a block, as slices of its memory, each of the length that it has to have. Whether the header
/// commits to them is not asked.
pub(super) fn split(block: &Block) -> Result<BlockParts, Malformed> {
    let mut reader = Reader::new(&block.data, "a block is a header and its transfers");
    let header = reader.take(Header::LENGTH)?;
    let count = usize::try_from(Header::decode(header)?.count).unwrap_or(usize::MAX);
    let transfers = reader.rest();
    if count > MAX_TRANSFERS || transfers.len() != count * Transfer::LENGTH {
        return Err(Malformed(
            "a block of another number of transfers than its header says",
        ));
    }
    let transfers = transfers.chunks(Transfer::LENGTH);
    Ok(BlockParts {
        header: block.data.slice_ref(header),
        transactions: transfers
            .map(|transfer| block.data.slice_ref(transfer))
            .collect(),
    })
}

/// The block of a header and the transfers that it commits to.
pub(super) fn join(header: &[u8], transfers: &[Bytes]) -> Result<Block, Malformed> {
    const OTHERS: Malformed = Malformed("a header that commits to other transfers");
    let decoded = Header::decode(header)?;
    let are_whole = transfers
        .iter()
        .all(|transfer| transfer.len() == Transfer::LENGTH);
    if transfers.len() > MAX_TRANSFERS || !are_whole || !decoded.commits_to(transfers) {
        return Err(OTHERS);
    }
    let mut data = Vec::with_capacity(Header::LENGTH + transfers.len() * Transfer::LENGTH);
    data.extend_from_slice(header);
    for transfer in transfers {
        data.extend_from_slice(transfer);
    }
    Ok(Block::new(data))
}

/// RFC 9162's Merkle tree hash: the left subtree is as large as a power of two can be.
pub(super) fn transfers_root(transfers: &[Bytes]) -> Hash {
    // The roots of full subtrees, larger ones first; the bits of how many leaves there were say of which size.
    let mut subtrees: Vec<Hash> = Vec::new();
    for (number, transfer) in transfers.iter().enumerate() {
        let mut subtree = leaf(transfer);
        for _ in 0..(number + 1).trailing_zeros() {
            if let Some(left) = subtrees.pop() {
                subtree = node(&left, &subtree);
            }
        }
        subtrees.push(subtree);
    }
    let root = subtrees
        .into_iter()
        .rev()
        .reduce(|right, left| node(&left, &right));
    root.unwrap_or_else(|| Sha256::digest([]).into())
}
