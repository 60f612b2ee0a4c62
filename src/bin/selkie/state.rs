//! `selkie state`: what an account of a ledger holds, read from the ledger's file, and what proves it; or told by a node that runs, each time that it changes.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Subcommand;
use selkie::{
    Application, StateRequest,
    chain::{
        ChainStore,
        ledger::{self, Address, Hash, Header, Ledger},
    },
};
use serde_json::json;

use crate::{
    ask::{Whom, asked},
    control::Question,
    interrupt::watch,
    ledger::LedgerFile,
    output::{Tone, once},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print what an account holds
    Get {
        #[command(flatten)]
        file: LedgerFile,
        /// The account's address
        key: Address,
        /// After the block of this height [default: the newest]
        #[arg(long)]
        height: Option<u64>,
        /// Print the proof too, in hex: what shows it to whoever trusts the state root
        #[arg(long)]
        proof: bool,
    },
    /// Ask a running node what accounts hold, and again each time that it changes, until Ctrl-C
    ///
    /// Where the node has verified no state yet, that is said once on stderr; with --json by an object whose `height` is null.
    Watch {
        #[command(flatten)]
        whom: Whom,
        /// The accounts' addresses, 32 at most
        #[arg(value_name = "KEY", required = true, num_args = 1..=32)]
        keys: Vec<Address>,
    },
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Get {
            file,
            key,
            height,
            proof,
        } => get(&file, &key, height, proof),
        Command::Watch { whom, keys } => {
            let question = Question::State { keys };
            // The answer comes with the change.
            asked(whom, question, Some(Duration::ZERO), watch()?).await
        }
    }
}

fn get(
    file: &LedgerFile,
    key: &Address,
    height: Option<u64>,
    with_proof: bool,
) -> anyhow::Result<()> {
    let ledger = file.open()?;
    let request = StateRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        height,
    };
    let state = ledger.query(&request);
    let shown = file.data.display();
    let state =
        state.with_context(|| format!("the state of that height is not in {shown} (any more)"))?;
    let root = state_root(&ledger, state.height).with_context(|| shown.to_string())?;
    let Ok(account) = ledger::verify(&root, key, &state.value, &state.proof) else {
        bail!("{shown} is damaged: what it holds has not the state root of its header");
    };
    let (height, root) = (state.height, hex::encode(root));
    let proof = with_proof.then(|| hex::encode(&state.proof));
    let shown = proof
        .iter()
        .map(|proof| format!("\nstate root {root}\nproof {proof}"));
    let sentence = format!(
        "{key}: {} coins after {} transfers, at block {height}{}",
        account.balance,
        account.nonce,
        shown.collect::<String>()
    );
    let mut object = json!({
        "key": key.to_string(),
        "height": height,
        "balance": account.balance,
        "nonce": account.nonce,
        "stateRoot": root,
    });
    if let (Some(object), Some(proof)) = (object.as_object_mut(), proof) {
        object.insert("proof".to_owned(), proof.into());
    }
    once(file.json, Tone::Plain, sentence, object)?;
    Ok(())
}

fn state_root(ledger: &Ledger, height: u64) -> anyhow::Result<Hash> {
    let tip = ledger.tip();
    if height == tip.height {
        return Ok(tip.state_root);
    }
    let header = ledger.headers(height, 1, Header::LENGTH).pop();
    let header = header.context("the header of that height is not in the ledger (any more)")?;
    Ok(Header::decode(&header)?.state_root)
}
