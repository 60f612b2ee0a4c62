//! A ledger for development: its keys are made of the network's id, so everybody has them.

use libp2p::identity::ed25519::{Keypair, SecretKey};
use sha2::{Digest as _, Sha256};

use super::{Address, Genesis};

/// How many accounts have coins at first.
pub const DEVELOPMENT_ACCOUNTS: u8 = 10;
/// How many voters there are.
pub const DEVELOPMENT_VOTERS: u8 = 4;
/// What each of the accounts has.
const BALANCE: u64 = 1_000_000_000_000;

/// The key of this role in a development network: its secret is the SHA-256 of `selkie development key 1`, a zero byte, the network's id, a zero byte
/// and the role. Roles are `proposer`, `voter 0` and so on, `account 0` and so on; any other has a key without coins.
pub fn development_key(network: &str, role: &str) -> Keypair {
    let words = ["selkie development key 1", network, role].join("\0");
    let secret: [u8; 32] = Sha256::digest(words).into();
    // Any 32 bytes are a secret of Ed25519's.
    SecretKey::try_from_bytes(secret).map_or_else(|_| Keypair::generate(), Keypair::from)
}

impl Genesis {
    /// Ten accounts with 10^12 coins each, one proposer and four voters, whose keys everybody can make ([`development_key`]). The least
    /// fee is 1. Whatever such a network holds is anybody's.
    pub fn development(network: &str) -> Self {
        let address = |role: String| Address::of(&development_key(network, &role));
        Self {
            network: network.to_owned(),
            accounts: (0..DEVELOPMENT_ACCOUNTS)
                .map(|number| (address(format!("account {number}")), BALANCE))
                .collect(),
            proposers: vec![address("proposer".to_owned())],
            voters: (0..DEVELOPMENT_VOTERS)
                .map(|number| address(format!("voter {number}")))
                .collect(),
            minimum_fee: 1,
        }
    }
}
