//! The ledger's one transaction: coins go from who signs to somebody.
//!
//! 153 bytes: a version (1), from (32), to (32), amount (8), fee (8), nonce (8), signature (64). What is signed are the words
//! `selkie ledger transfer 1`, the genesis hash, which has the network's id in it, and all before the signature: so a transfer is
//! good in one network only, and once only, as its nonce is used up.

use libp2p::identity::ed25519::Keypair;

use super::address::{Address, SIGNATURE, Signature, sign, signed};
use super::codec::{Malformed, Reader};
use super::tree::Hash;

const VERSION: u8 = 1;
const KIND: &str = "selkie ledger transfer 1";

/// Coins on their way, in 153 bytes; docs/ledger.md has their encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Who pays, and signs.
    pub from: Address,
    /// Who is paid.
    pub to: Address,
    /// How much.
    pub amount: u64,
    /// What the proposer of the block gets besides.
    pub fee: u64,
    /// How many transfers `from` has sent before.
    pub nonce: u64,
    pub(super) signature: Signature,
}

impl Transfer {
    /// Bytes of a transfer.
    pub const LENGTH: usize = Self::UNSIGNED + SIGNATURE;
    const UNSIGNED: usize = 1 + 2 * Address::LENGTH + 3 * 8;

    /// A signed transfer, in the network of this genesis.
    pub fn new(
        genesis: &Hash,
        key: &Keypair,
        to: Address,
        amount: u64,
        fee: u64,
        nonce: u64,
    ) -> Self {
        let mut transfer = Self {
            from: Address::of(key),
            to,
            amount,
            fee,
            nonce,
            signature: [0; SIGNATURE],
        };
        transfer.signature = sign(key, &signed(KIND, genesis, &transfer.unsigned()));
        transfer
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
        bytes.extend(self.from.as_bytes());
        bytes.extend(self.to.as_bytes());
        for number in [self.amount, self.fee, self.nonce] {
            bytes.extend(number.to_be_bytes());
        }
        bytes
    }

    /// The transfer of these bytes, whoever signed it.
    ///
    /// # Errors
    /// They are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes, "a transfer has 153 bytes");
        if reader.byte()? != VERSION {
            return Err(Malformed("a transfer of no known version"));
        }
        let transfer = Self {
            from: Address::new(reader.array()?),
            to: Address::new(reader.array()?),
            amount: reader.u64()?,
            fee: reader.u64()?,
            nonce: reader.u64()?,
            signature: reader.array()?,
        };
        reader.end()?;
        Ok(transfer)
    }

    /// Whether who pays has signed it for this network.
    pub fn is_signed(&self, genesis: &Hash) -> bool {
        let message = signed(KIND, genesis, &self.unsigned());
        self.from.has_signed(&message, &self.signature)
    }
}
