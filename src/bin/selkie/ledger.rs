//! The built-in account chain in a node of the command: with the development keys of its network, which everybody has.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail};
use clap::{CommandFactory, Subcommand, error::ErrorKind};
use selkie::{
    Config, Item, NetworkError, P2PNetworkManager,
    chain::ledger::{self, DEVELOPMENT_VOTERS, Genesis, Keypair, Ledger, development_key},
    storage::{MemoryStore, RedbStore, Store},
};

use serde_json::json;

use crate::{
    output::{Tone, once, remark},
    settings::Chain,
};

/// The most that a ledger in memory takes, in bytes.
const MEMORY: usize = 1 << 30;

#[derive(clap::Args)]
#[command(next_help_heading = "Ledger (--chain ledger)")]
pub(crate) struct LedgerArgs {
    /// Keep the ledger in this file; left out: in memory, until the command ends
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Make a block so often, and vote for it, with the development keys that everybody has
    #[arg(long, value_name = "MILLISECONDS", value_parser = clap::value_parser!(u64).range(10..=3_600_000))]
    propose: Option<u64>,
}

impl LedgerArgs {
    /// The ledger, if that is the chain. What its blocks begin with is what peers are told, unless something else was.
    pub(crate) fn open(&self, chain: Chain, config: &mut Config) -> anyhow::Result<Option<Ledger>> {
        if chain == Chain::Ledger {
            return Ok(Some(open(config, self.data.as_ref())?));
        }
        if self.data.is_some() || self.propose.is_some() {
            let text = "--data and --propose are for the ledger: add --chain ledger";
            crate::Cli::command()
                .error(ErrorKind::ArgumentConflict, text)
                .exit();
        }
        Ok(None)
    }

    /// The file that it is kept in.
    pub(crate) fn data(&self) -> Option<&Path> {
        self.data.as_deref()
    }

    /// Makes blocks and votes as long as the node runs, if that was asked for.
    pub(crate) fn work(&self, ledger: &Ledger, node: &P2PNetworkManager) {
        if let Some(pause) = self.propose {
            let pause = Duration::from_millis(pause);
            tokio::spawn(propose(ledger.clone(), node.clone(), pause));
        }
    }
}

/// A ledger's file, for what is done without a node.
#[derive(clap::Args)]
pub(crate) struct LedgerFile {
    /// The ledger's file, as in `selkie run --chain ledger --data`; no node may run on it meanwhile
    #[arg(long, value_name = "FILE")]
    pub(crate) data: PathBuf,
    /// The network's name
    #[arg(long, value_name = "NAME")]
    network_id: Option<String>,
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

impl LedgerFile {
    pub(crate) fn open(&self) -> anyhow::Result<Ledger> {
        is_there(&self.data)?;
        let mut config = Config::default();
        if let Some(network) = &self.network_id {
            config.chain.network_id.clone_from(network);
        }
        open(&mut config, Some(&self.data))
    }
}

/// `selkie ledger`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Delete a ledger's file: for a network that has begun anew, whose blocks leave what was final in the old one. The next run fetches all from its peers
    ///
    /// Nothing is asked, and nothing is left: what no peer has is lost, such as the blocks of the only node that made some. Nor does a node that votes know
    /// any more what it has voted for: reset one only where that network is over.
    Reset {
        /// The ledger's file, as in `selkie run --chain ledger --data`; no node may run on it meanwhile
        #[arg(long, value_name = "FILE")]
        data: PathBuf,
        /// Print one JSON object per line
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let Command::Reset { data, json } = &args.command;
    is_there(data)?;
    let shown = data.display();
    // Of a link it is what it leads to that goes.
    let file = fs::canonicalize(data).with_context(|| format!("can't look for {shown}"))?;
    // Of whatever network and version; but a ledger, which cannot be seen of what is damaged, and of no node that runs.
    RedbStore::delete(&file, &ledger::SCHEMA)?;
    let sentence =
        format!("{shown} is deleted; `selkie run --chain ledger --data {shown}` begins anew");
    let object = json!({"data": shown.to_string(), "deleted": true});
    once(*json, Tone::Plain, sentence, object)?;
    Ok(())
}

fn is_there(data: &Path) -> anyhow::Result<()> {
    let shown = data.display();
    let exists = data.try_exists();
    if !exists.with_context(|| format!("can't look for {shown}; may you read its folder?"))? {
        bail!(
            "there is no ledger at {shown}; `selkie run --chain ledger --data {shown}` begins one"
        );
    }
    Ok(())
}

/// The ledger of this network, in this file or in memory.
pub(crate) fn open(config: &mut Config, data: Option<&PathBuf>) -> anyhow::Result<Ledger> {
    let store: Arc<dyn Store> = match data {
        Some(path) => Arc::new(RedbStore::open(path, &ledger::SCHEMA)?),
        None => Arc::new(MemoryStore::new(MEMORY, &ledger::SCHEMA)?),
    };
    Ok(Ledger::open(genesis(config), store)?)
}

/// What the ledger of this network begins with. Its hash is what peers are told, unless something else was.
pub(crate) fn genesis(config: &mut Config) -> Genesis {
    let genesis = Genesis::development(&config.chain.network_id);
    if config.chain.genesis.is_empty() {
        config.chain.genesis = genesis.hash().to_vec();
    }
    genesis
}

async fn propose(ledger: Ledger, node: P2PNetworkManager, pause: Duration) {
    let network = ledger.genesis().network.clone();
    let proposer = development_key(&network, "proposer");
    let voters: Vec<_> = (0..DEVELOPMENT_VOTERS)
        .map(|number| development_key(&network, &format!("voter {number}")))
        .collect();
    let mut complaint = String::new();
    loop {
        tokio::time::sleep(pause).await;
        match step(&ledger, &node, &proposer, &voters).await {
            Ok(()) => complaint.clear(),
            Err(error) => {
                let stopped = error.downcast_ref::<NetworkError>();
                if stopped.is_some_and(NetworkError::is_fatal) {
                    return;
                }
                // Said once, and not with each block that is not made.
                if complaint != error.to_string() {
                    complaint = error.to_string();
                    remark(format_args!("no block: {error}"));
                }
            }
        }
    }
}

/// One block and the votes for it.
async fn step(
    ledger: &Ledger,
    node: &P2PNetworkManager,
    proposer: &Keypair,
    voters: &[Keypair],
) -> anyhow::Result<()> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let (maker, key) = (ledger.clone(), proposer.clone());
    let time = u64::try_from(now.as_millis())?;
    let block = tokio::task::spawn_blocking(move || maker.propose(&key, time)).await??;
    node.submit(Item::Block(block)).await?;
    for voter in voters {
        if let Some(vote) = ledger.vote(voter)? {
            node.submit(Item::Vote(vote)).await?;
        }
    }
    Ok(())
}
