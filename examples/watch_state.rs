//! A light node watches what an account has, without polling: `cargo run --example watch_state`.
//!
//! One node keeps the ledger and makes blocks; the other keeps headers alone, hears which blocks are final, and is told what changes, each time with a proof.

use std::{error::Error, sync::Arc};

use selkie::{
    Config, Item, Keypair, P2PNetworkManager, Transaction,
    chain::ledger::{
        self, Account, Address, DEVELOPMENT_VOTERS, Genesis, Ledger, LightLedger, Transfer,
        development_key,
    },
    storage::MemoryStore,
};

const NETWORK: &str = "selkie-dev";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let genesis = Genesis::development(NETWORK);
    let store = Arc::new(MemoryStore::new(1 << 24, &ledger::SCHEMA)?);
    let chain = Ledger::open(genesis.clone(), store)?;
    let store = Arc::new(MemoryStore::new(1 << 24, &ledger::LIGHT_SCHEMA)?);
    let light = LightLedger::open(genesis, store)?;

    let mut config = Config::default();
    config.network.listen_addresses = vec!["/ip4/127.0.0.1/tcp/0".parse()?];
    let full = P2PNetworkManager::with(config.clone(), Keypair::generate_ed25519(), chain.clone());
    let tab = P2PNetworkManager::with(config, Keypair::generate_ed25519(), light);
    let (full, tab) = (full.await?, tab.await?);
    full.start().await?;
    tab.start().await?;
    tab.dial(full.listeners().remove(0)).await?;

    let bob = Address::of(&development_key(NETWORK, "Bob"));
    let mut watch = tab.watch_state([bob.as_bytes().to_vec()]).await?;
    for amount in [5, 7] {
        pay(&full, &chain, bob, amount).await?;
        let change = watch.recv().await.ok_or("the node has ended")?;
        let value = change.values.values().next().ok_or("it has changed")?;
        let account = Account::decode(value)?;
        println!("block {}: Bob has {}", change.at.height, account.balance);
    }
    Ok(())
}

/// A block in which somebody pays, which all vote for.
async fn pay(
    node: &P2PNetworkManager,
    chain: &Ledger,
    to: Address,
    amount: u64,
) -> Result<(), Box<dyn Error>> {
    let ann = development_key(NETWORK, "account 0");
    let nonce = chain.account(&Address::of(&ann))?.nonce;
    let transfer = Transfer::new(chain.genesis_hash(), &ann, to, amount, 1, nonce);
    let transfer = Transaction::new(transfer.encode());
    node.submit(Item::Transaction(transfer)).await?;
    let time = chain.tip().height + 1;
    let block = chain.propose(&development_key(NETWORK, "proposer"), time)?;
    node.submit(Item::Block(block)).await?;
    for voter in 0..DEVELOPMENT_VOTERS {
        let voter = development_key(NETWORK, &format!("voter {voter}"));
        if let Some(vote) = chain.vote(&voter)? {
            node.submit(Item::Vote(vote)).await?;
        }
    }
    Ok(())
}
