//! The built-in ledger's transfers and votes, judged as by one who has no state of it: by what they are made of, and who has signed them.

use selkie::{
    Application, Block, Checked, Config, ItemId, Keypair, P2PNetworkManager, Transaction, Vote,
    chain::ledger::{Genesis, Hash, HeaderVote, Transfer},
};

use crate::ledger;

/// See the module's documentation.
struct Form {
    genesis: Genesis,
    hash: Hash,
}

/// A node that judges so, not started.
pub(crate) async fn node(mut config: Config, key: Keypair) -> anyhow::Result<P2PNetworkManager> {
    let genesis = ledger::genesis(&mut config);
    let hash = genesis.hash();
    Ok(P2PNetworkManager::with(config, key, Form { genesis, hash }).await?)
}

impl Application for Form {
    fn check_transaction(&self, Transaction { data, .. }: &Transaction) -> Checked {
        match Transfer::decode(data) {
            Err(malformed) => Checked::reject(data, malformed.to_string()),
            Ok(transfer) if !transfer.is_signed(&self.hash) => {
                Checked::reject(data, "the transfer is not signed by who pays")
            }
            Ok(_) => Checked::accept(ItemId::sha256(data)),
        }
    }

    fn check_block(&self, block: &Block) -> Checked {
        Checked::ignore(
            &block.data,
            "a block of the ledger comes with all before it",
        )
    }

    fn check_vote(&self, Vote { data, .. }: &Vote) -> Checked {
        match HeaderVote::decode(data) {
            Err(malformed) => Checked::reject(data, malformed.to_string()),
            Ok(vote) if !self.genesis.voters.contains(&vote.voter) => {
                Checked::reject(data, "the vote is of nobody who votes here")
            }
            Ok(vote) if !vote.is_signed(&self.hash) => {
                Checked::reject(data, "the vote is not signed by its voter")
            }
            Ok(_) => Checked::accept(ItemId::sha256(data)),
        }
    }
}
