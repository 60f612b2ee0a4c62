//! Finality: a header is final when more than two thirds of the configured keys have signed its id.
//!
//! A vote has 137 bytes: a version (1), height (8), header id (32), voter (32), signature (64). What is signed are the words
//! `selkie ledger vote 1`, the genesis hash, height and id. A certificate is a version (1), height (8), id (32), how many votes (2),
//! and of each the voter's index among the genesis' voters (2) and signature (64), in the order of the indexes.

use libp2p::identity::ed25519::Keypair;

use super::address::{Address, SIGNATURE, Signature, sign, signed};
use super::codec::{Malformed, Reader};
use super::genesis::Genesis;
use super::header::Header;
use super::tree::Hash;

const VERSION: u8 = 1;
const KIND: &str = "selkie ledger vote 1";

/// One key's word that a header is the one at its height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderVote {
    /// The header's height.
    pub height: u64,
    /// The header's id.
    pub id: Hash,
    /// Who says so.
    pub voter: Address,
    pub(super) signature: Signature,
}

fn message(genesis: &Hash, height: u64, id: &Hash) -> Vec<u8> {
    signed(KIND, genesis, &[&height.to_be_bytes()[..], id].concat())
}

impl HeaderVote {
    /// Bytes of a vote.
    pub const LENGTH: usize = 1 + 8 + 32 + Address::LENGTH + SIGNATURE;

    /// A signed vote, in the network of this genesis.
    pub fn new(genesis: &Hash, key: &Keypair, height: u64, id: Hash) -> Self {
        Self {
            height,
            id,
            voter: Address::of(key),
            signature: sign(key, &message(genesis, height, &id)),
        }
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::LENGTH);
        bytes.push(VERSION);
        bytes.extend(self.height.to_be_bytes());
        bytes.extend(self.id);
        bytes.extend(self.voter.as_bytes());
        bytes.extend(self.signature);
        bytes
    }

    /// The vote of these bytes, whoever signed it.
    ///
    /// # Errors
    /// They are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes, "a vote has 137 bytes");
        if reader.byte()? != VERSION {
            return Err(Malformed("a vote of no known version"));
        }
        let vote = Self {
            height: reader.u64()?,
            id: reader.array()?,
            voter: Address::new(reader.array()?),
            signature: reader.array()?,
        };
        reader.end()?;
        Ok(vote)
    }

    /// Whether the voter has signed it for this network.
    pub fn is_signed(&self, genesis: &Hash) -> bool {
        let message = message(genesis, self.height, &self.id);
        self.voter.has_signed(&message, &self.signature)
    }
}

/// Votes of more than two thirds of the voters: a header that no honest third contradicts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The header's height.
    pub height: u64,
    /// The header's id.
    pub id: Hash,
    /// The voters by their index in the genesis, ascending, and their signatures.
    pub(super) votes: Vec<(u16, Signature)>,
}

/// A certificate does not show that a header is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// It is of another header.
    #[error("the certificate is of another header")]
    Header,
    /// Too few of the voters have signed.
    #[error("{votes} of {voters} voters are not more than two thirds")]
    TooFew {
        /// How many have signed.
        votes: usize,
        /// How many there are.
        voters: usize,
    },
    /// A vote of nobody, twice of one, or not signed.
    #[error("vote {0} of the certificate is of no voter, or not signed by it")]
    Vote(usize),
}

impl Certificate {
    /// The most bytes that one has.
    pub const MAX_LENGTH: usize = 1 + 8 + 32 + 2 + Genesis::MAX_VOTERS * (2 + SIGNATURE);

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend(self.height.to_be_bytes());
        bytes.extend(self.id);
        let count = u16::try_from(self.votes.len()).unwrap_or(u16::MAX);
        bytes.extend(count.to_be_bytes());
        for (voter, signature) in &self.votes {
            bytes.extend(voter.to_be_bytes());
            bytes.extend(signature);
        }
        bytes
    }

    /// The certificate of these bytes, whatever it is worth.
    ///
    /// # Errors
    /// They are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes, "a certificate");
        let certificate = Self::read(&mut reader)?;
        reader.end()?;
        Ok(certificate)
    }

    /// The one that comes next.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        if reader.byte()? != VERSION {
            return Err(Malformed("a certificate of no known version"));
        }
        let (height, id, count) = (reader.u64()?, reader.array()?, reader.u16()?);
        let mut votes = Vec::new();
        if usize::from(count) > Genesis::MAX_VOTERS {
            return Err(Malformed(
                "a certificate of more votes than there are voters",
            ));
        }
        for _ in 0..count {
            votes.push((reader.u16()?, reader.array()?));
        }
        Ok(Self { height, id, votes })
    }

    /// Whether it makes a header final, by this genesis' voters.
    ///
    /// # Errors
    /// It does not.
    pub fn verify(&self, genesis: &Genesis, header: &Header) -> Result<(), CertificateError> {
        if self.height != header.height || self.id != header.id() {
            return Err(CertificateError::Header);
        }
        let (votes, voters) = (self.votes.len(), genesis.voters.len());
        if !genesis.is_enough(votes) {
            return Err(CertificateError::TooFew { votes, voters });
        }
        let message = message(&genesis.hash(), self.height, &self.id);
        let mut next = 0_usize;
        for (at, (voter, signature)) in self.votes.iter().enumerate() {
            let index = usize::from(*voter);
            let signed = genesis.voters.get(index);
            let signed = signed.is_some_and(|voter| voter.has_signed(&message, signature));
            if index < next || !signed {
                return Err(CertificateError::Vote(at));
            }
            next = index + 1;
        }
        Ok(())
    }
}
