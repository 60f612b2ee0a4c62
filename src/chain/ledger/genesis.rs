//! Where a ledger begins: its network, who has which coins, who may propose, and whose votes make a block final.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::address::Address;
use super::tree::Hash;

/// All nodes of a network have the same one; its hash stands for it in every signature.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Genesis {
    /// The network's id.
    pub network: String,
    /// Who has coins at first; each once. All of them together are at most 2^64 - 1.
    pub accounts: Vec<(Address, u64)>,
    /// Who may make blocks; at most [`Genesis::MAX_PROPOSERS`].
    pub proposers: Vec<Address>,
    /// More than two thirds of them make a block final; each once, at most [`Genesis::MAX_VOTERS`]. None: no block ever is.
    pub voters: Vec<Address>,
    /// A transfer's least fee.
    pub minimum_fee: u64,
}

/// A genesis that no ledger can begin with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("genesis: {0}")]
pub struct GenesisError(pub(super) String);

impl Genesis {
    /// The most voters: a certificate of all has 17 kB.
    pub const MAX_VOTERS: usize = 256;
    /// The most proposers.
    pub const MAX_PROPOSERS: usize = 256;
    /// The most accounts.
    pub const MAX_ACCOUNTS: usize = 100_000;
    /// The longest id of a network, in bytes.
    pub const MAX_NETWORK: usize = 256;

    /// The SHA-256 of the words `selkie ledger genesis 1` and all fields: the network's id behind its length (2 bytes), each list
    /// behind its length (4), keys (32), numbers (8).
    pub fn hash(&self) -> Hash {
        let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        let mut hash = Sha256::new().chain_update("selkie ledger genesis 1");
        let network = u16::try_from(self.network.len()).unwrap_or(u16::MAX);
        hash.update(network.to_be_bytes());
        hash.update(&self.network);
        hash.update(length(self.accounts.len()));
        for (address, balance) in &self.accounts {
            hash.update(address.as_bytes());
            hash.update(balance.to_be_bytes());
        }
        for keys in [&self.proposers, &self.voters] {
            hash.update(length(keys.len()));
            keys.iter().for_each(|key| hash.update(key.as_bytes()));
        }
        hash.update(self.minimum_fee.to_be_bytes());
        hash.finalize().into()
    }

    /// Whether so many votes are more than two thirds.
    pub fn is_enough(&self, votes: usize) -> bool {
        votes.saturating_mul(3) > self.voters.len().saturating_mul(2)
    }

    /// # Errors
    /// Somebody is there twice, too many are, or more coins than can be counted.
    pub(super) fn check(&self) -> Result<(), GenesisError> {
        let wrong = |what: &str| Err(GenesisError(what.to_owned()));
        if self.network.is_empty() || self.network.len() > Self::MAX_NETWORK {
            return wrong("give the network an id of 1 to 256 bytes");
        }
        let balances = self.accounts.iter().map(|(_, balance)| *balance);
        let mut sums = balances.scan(0_u64, |sum, balance| {
            *sum = sum.checked_add(balance)?;
            Some(())
        });
        if self.accounts.len() > Self::MAX_ACCOUNTS || sums.by_ref().count() < self.accounts.len() {
            return wrong("give at most 100,000 accounts, and them together less than 2^64 coins");
        }
        if self.proposers.is_empty() || self.proposers.len() > Self::MAX_PROPOSERS {
            return wrong("give 1 to 256 keys that may propose");
        }
        if self.voters.len() > Self::MAX_VOTERS {
            return wrong("give at most 256 keys that vote");
        }
        let accounts = self.accounts.iter().map(|(address, _)| *address).collect();
        for keys in [accounts, self.proposers.clone(), self.voters.clone()] {
            let mut sorted: Vec<Address> = keys;
            sorted.sort_unstable();
            if sorted
                .windows(2)
                .any(|pair| matches!(pair, [one, next] if one == next))
            {
                return wrong("a key is there twice");
            }
        }
        Ok(())
    }
}
