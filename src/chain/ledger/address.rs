//! Who has an account: an Ed25519 public key, by which it is addressed, and what the account holds.

use std::{fmt, str::FromStr};

use libp2p::identity::ed25519::{Keypair, PublicKey};
use serde::{Deserialize, Serialize};

use super::codec::{Malformed, Reader};

/// An Ed25519 public key, in the 32 bytes of RFC 8032; shown in hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address([u8; Self::LENGTH]);

/// Bytes of a signature.
pub(super) const SIGNATURE: usize = 64;

/// An Ed25519 signature.
pub(super) type Signature = [u8; SIGNATURE];

impl Address {
    /// Bytes of an address.
    pub const LENGTH: usize = 32;

    /// The address of these bytes; whether they are a point of the curve shows when a signature is checked.
    pub const fn new(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }

    /// Who holds this key.
    pub fn of(key: &Keypair) -> Self {
        Self(key.public().to_bytes())
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }

    pub(super) fn has_signed(&self, message: &[u8], signature: &Signature) -> bool {
        PublicKey::try_from_bytes(&self.0).is_ok_and(|key| key.verify(message, signature))
    }
}

/// What is signed: a word for its kind, so that no signature is good for another; the network; and the record.
pub(super) fn signed(kind: &str, genesis: &[u8; 32], record: &[u8]) -> Vec<u8> {
    [kind.as_bytes(), genesis, record].concat()
}

pub(super) fn sign(key: &Keypair, message: &[u8]) -> Signature {
    let signature = key.sign(message);
    // Ed25519's have no other length.
    signature.try_into().unwrap_or([0; SIGNATURE])
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut bytes = [0; Self::LENGTH];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|error| format!("an address is a public key of 64 hex digits ({error})"))?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

/// What an account holds. Who has none holds nothing, and has sent nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// In the smallest unit of the chain's coin.
    pub balance: u64,
    /// How many transfers it has sent: the next one's number.
    pub nonce: u64,
}

impl Account {
    /// Bytes of an account.
    pub const LENGTH: usize = 16;

    /// The state's value for it; none for an account that is as if it had never been.
    pub fn encode(&self) -> Option<[u8; Self::LENGTH]> {
        if *self == Self::default() {
            return None;
        }
        let mut bytes = [0; Self::LENGTH];
        let (balance, nonce) = bytes.split_at_mut(8);
        balance.copy_from_slice(&self.balance.to_be_bytes());
        nonce.copy_from_slice(&self.nonce.to_be_bytes());
        Some(bytes)
    }

    /// The account of a value.
    ///
    /// # Errors
    /// It is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes, "an account");
        let account = Self {
            balance: reader.u64()?,
            nonce: reader.u64()?,
        };
        reader.end()?;
        if account == Self::default() {
            return Err(Malformed("an account of nothing"));
        }
        Ok(account)
    }
}
