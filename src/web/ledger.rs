//! The built-in ledger in a tab: the chain of the network's development genesis, or its headers, in memory or in IndexedDB.

use std::sync::Arc;

use crate::{
    chain::{
        Application,
        ledger::{self, Genesis, Ledger, LightLedger},
        rules::{Rules, Synchronous},
    },
    config::Config,
    error::NetworkError,
    storage::{IndexedDbStore, MemoryStore, Store},
};

/// The most that a ledger takes in a tab, in bytes.
const MEMORY: usize = 256 << 20;

/// The ledger of the configured network, whole or its headers alone, whose genesis hash is the network's unless that has another. `keeps`: over a reload.
pub(super) fn open(
    config: &mut Config,
    is_light: bool,
    keeps: bool,
) -> impl Future<Output = Result<Arc<dyn Rules>, NetworkError>> + use<> {
    let network = config.chain.network_id.clone();
    let genesis = Genesis::development(&network);
    if config.chain.genesis.is_empty() {
        config.chain.genesis = genesis.hash().to_vec();
    }
    // What tells networks apart, so that none meets what was final in another.
    let begun = hex::encode(&config.chain.genesis);
    async move {
        let (kind, schema) = match is_light {
            true => ("light", &ledger::LIGHT_SCHEMA),
            false => ("ledger", &ledger::SCHEMA),
        };
        let store: Arc<dyn Store> = if keeps {
            let name = format!("selkie/{kind}/{network}/{begun}");
            Arc::new(IndexedDbStore::open(&name, MEMORY, schema).await?)
        } else {
            Arc::new(MemoryStore::new(MEMORY, schema)?)
        };
        let application: Arc<dyn Application> = match is_light {
            true => Arc::new(LightLedger::open(genesis, store)?),
            false => Arc::new(Ledger::open(genesis, store)?),
        };
        Ok(Arc::new(Synchronous::new(application)) as Arc<dyn Rules>)
    }
}
