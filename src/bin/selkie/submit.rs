//! `selkie submit`: gives one item, whatever its chain, to peers, from a node of its own.
//!
//! The bytes go as they are. Whether they are a block, a transaction or a vote only the user knows; what they are worth, the peers say.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::{CommandFactory, ValueEnum, error::ErrorKind};
use indicatif::ProgressBar;
use selkie::{Config, Item, ItemId, ItemKind, Keypair, Multiaddr, P2PNetworkManager};
use serde_json::json;

use crate::{
    feed::{self, Step, Totals},
    interrupt::Interrupt,
    output::{Tone, once, remark},
    settings::{NodeArgs, address, hold_identity},
    takers::{PATIENCE, drain, reach, takers},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What holds the item's bytes, as its chain writes them; - for stdin
    file: PathBuf,
    /// What it is
    #[arg(long, value_enum)]
    kind: Kind,
    /// Dial this multiaddr and give it the item (repeatable)
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    to: Vec<Multiaddr>,
    /// Print the outcome as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Block,
    Transaction,
    Vote,
}

impl Kind {
    fn of_item(self) -> ItemKind {
        match self {
            Self::Block => ItemKind::Block,
            Self::Transaction => ItemKind::Transaction,
            Self::Vote => ItemKind::Vote,
        }
    }

    /// Bytes, at most.
    fn limit(self, config: &Config) -> usize {
        let propagation = &config.protocol.propagation;
        match self {
            Self::Block => propagation.blocks.max_block_bytes,
            Self::Transaction => propagation.transactions.max_item,
            Self::Vote => propagation.votes.max_item,
        }
    }
}

pub(crate) async fn run(args: Args, interrupt: Interrupt) -> anyhow::Result<()> {
    let settings = args.node.settings()?;
    let network = &settings.config.network;
    if args.to.is_empty() && network.bootstrap_peers.is_empty() {
        let text = "submit gives an item to peers: name at least one by --to or --bootstrap";
        crate::Cli::command()
            .error(ErrorKind::MissingRequiredArgument, text)
            .exit();
    }
    let data = read(&args.file, args.kind.limit(&settings.config))?;
    let bytes = data.len();
    let item = Item::new(args.kind.of_item(), data);
    let (key, _held) = match &settings.key {
        Some(path) => {
            let (key, file) = hold_identity(path, settings.shared_key)?;
            (key, Some(file))
        }
        None => (Keypair::generate_ed25519(), None),
    };
    let chain = settings.chain.unwrap_or_default();
    let node = chain.node(settings.config, key).await?;
    let bar = ProgressBar::new_spinner().with_message("giving it to the peers");
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    let outcome = interrupt.unless(give(&node, args.to, item, &bar)).await;
    node.shutdown().await;
    bar.finish_and_clear();
    let Some(outcome) = outcome else {
        return Ok(());
    };
    let id = outcome?;
    let kind = args.kind.of_item();
    let object =
        json!({"type": "sent", "kind": kind.to_string(), "id": id.to_string(), "bytes": bytes});
    let sentence = format!("{kind} {id} ({bytes} bytes) was sent");
    Ok(once(args.json, Tone::Good, sentence, object)?)
}

/// Connects, sends, and waits until a peer has it.
async fn give(
    node: &P2PNetworkManager,
    to: Vec<Multiaddr>,
    item: Item,
    bar: &ProgressBar,
) -> anyhow::Result<ItemId> {
    node.start().await?;
    let patience = Some(node.config.network.connection_timeout);
    reach(node, to).await?;
    let (mut sent, mut refused) = (None, None);
    feed::submit(
        node,
        item,
        patience,
        &mut Totals::default(),
        &mut |_, step| {
            match step {
                Step::Sent { id, .. } => sent = Some(id),
                Step::Waiting(error) => bar.suspend(|| remark(format_args!("waiting: {error}"))),
                Step::Refused(error) => refused = Some(error),
                Step::Passed | Step::Read(_) => {}
            }
            Ok(())
        },
    )
    .await?;
    if let Some(error) = refused {
        return Err(error).context("it can't be of this chain; --chain names another");
    }
    let Some(id) = sent else {
        bail!("the peer left before it had the item; try again");
    };
    if !drain(node, Some(&takers(node))).await? {
        bail!(
            "no peer says to have taken it: they left, or took longer than {} seconds; it may have arrived all the same",
            PATIENCE.as_secs()
        );
    }
    Ok(id)
}

/// The bytes, of which no item may have more than `limit`.
fn read(path: &Path, limit: usize) -> anyhow::Result<Vec<u8>> {
    let (shown, mut bytes) = (path.display(), Vec::new());
    // One byte more than there may be: the item is not to be cut in silence.
    let most = u64::try_from(limit)?.saturating_add(1);
    let read = match path.to_str() {
        Some("-") => io::stdin().lock().take(most).read_to_end(&mut bytes),
        _ => File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)),
    };
    read.with_context(|| format!("can't read {shown}"))?;
    if bytes.len() > limit {
        bail!("{shown} has more than {limit} bytes, the most that an item of this kind may have");
    }
    if bytes.is_empty() {
        bail!("{shown} is empty: there is nothing to send");
    }
    Ok(bytes)
}
