//! `selkie submit`: gives one item to peers, from a node of its own.
//!
//! A chain that is named judges the item, as far as it can without a state: what is wrong in form costs no peer's good will, and the item has the name that its
//! chain gives it. Where none is named, transactions and votes go by their bytes: what they are worth, the peers say. A block is told of by the identity that its
//! chain gives it, so its chain must be one that this command has, and be named; a block of the built-in ledger comes from whoever makes it, with all before it.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use clap::{ValueEnum, error::ErrorKind};
use indicatif::{ProgressBar, ProgressStyle};
use selkie::{
    Config, Item, ItemId, ItemKind, Multiaddr, NetworkError, P2PNetworkManager, ProtocolError,
};
use serde_json::json;

use crate::{
    feed::{self, Outcome},
    form,
    interrupt::Interrupt,
    output::{Tone, counted, once, progress_target, remark},
    settings::{Chain, NodeArgs, address},
    takers::{Drained, Takers, joined, reach},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What holds the item's bytes, as its chain writes them; - for stdin
    file: PathBuf,
    /// What it is
    #[arg(long, value_enum)]
    kind: Kind,
    /// Dial this multiaddr and give it the item (repeatable; one that takes it is enough)
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    to: Vec<Multiaddr>,
    /// Print the outcome as one JSON object
    ///
    /// It has `type` (`sent`, or `known` where the network has it already), `kind`, `bytes`, and `unreached`, a list of `address` and
    /// `problem`. What was sent has `read`, how many of the `peers` say that they have read it (a block: or want nothing more of it); `handed`, how many more
    /// were handed it and acknowledge nothing (plain libp2p peers; a vote nobody acknowledges); and its `id`, or its `sha256` where no chain was named. Whether
    /// their chains accept it, peers do not say.
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
        wrong_usage("submit gives an item to peers: name at least one by --to or --bootstrap");
    }
    let chain = settings.chain;
    match (args.kind, chain) {
        (Kind::Block, None) => wrong_usage(
            "peers know a block by the id that its chain gives it: name the chain by --chain (opaque, where the peers' nodes run that)",
        ),
        (Kind::Block, Some(Chain::Ledger)) => wrong_usage(
            "a block of the ledger comes with all before it, from the node that makes it: selkie run --propose",
        ),
        _ => {}
    }
    let (key, _held) = settings.identity()?;
    let (kind, limit) = (args.kind.of_item(), args.kind.limit(&settings.config));
    // On a thread of its own, since a person may take long to type.
    let read = tokio::task::spawn_blocking(move || read(&args.file, limit));
    let data = match interrupt.unless(read).await {
        Some(data) => data??,
        None => bail!("it was interrupted before there was anything to send"),
    };
    let bytes = data.len();
    let node = match chain {
        Some(Chain::Ledger) => form::node(settings.config, key).await?,
        chain => chain.unwrap_or_default().node(settings.config, key).await?,
    };
    let bar = ProgressBar::with_draw_target(None, progress_target());
    let bar = bar
        .with_style(ProgressStyle::default_spinner())
        .with_message("giving it to the peers");
    bar.enable_steady_tick(Duration::from_millis(200));
    let work = give(&node, args.to, Item::new(kind, data), &bar);
    let outcome = interrupt.unless(work).await;
    node.shutdown().await;
    bar.finish_and_clear();
    let Some(outcome) = outcome else {
        bail!("it was interrupted before a peer had the {kind}, as far as is known");
    };
    let Given { sent, unreached } = outcome?;
    let mut object = json!({"kind": kind.to_string(), "bytes": bytes});
    let sentence = match sent {
        Some(Sent { id, drained, of }) => {
            object["type"] = "sent".into();
            // Where no chain was named, its peers may know it by another name than that of its bytes.
            let name = if chain.is_some() { "id" } else { "sha256" };
            object[name] = id.to_string().into();
            object["read"] = drained.read.into();
            object["handed"] = drained.handed.into();
            object["peers"] = of.into();
            let peers = counted(u64::try_from(of)?, "peer");
            let read = match kind {
                ItemKind::Block => "has it, or wants nothing more of it",
                ItemKind::Transaction | ItemKind::Vote => "has read it",
            };
            let handed = "was handed it, which is not acknowledged";
            let told = [(drained.read, read), (drained.handed, handed)];
            let told = told.into_iter().filter(|(by, _)| *by > 0);
            let told: Vec<_> = told
                .map(|(by, what)| format!("{by} of {peers} {what}"))
                .collect();
            format!(
                "{kind} {id} ({bytes} bytes) was sent; {}; whether it is accepted, peers do not say",
                told.join(", ")
            )
        }
        None => {
            object["type"] = "known".into();
            format!("the network has this {kind} already")
        }
    };
    let mut problems = Vec::new();
    for (address, error) in unreached {
        remark(&error);
        problems.push(json!({"address": address.to_string(), "problem": error.to_string()}));
    }
    object["unreached"] = problems.into();
    Ok(once(args.json, Tone::Good, sentence, object)?)
}

/// What came of it.
struct Given {
    /// `None`: the network has it already.
    sent: Option<Sent>,
    /// Where nobody was reached, and why.
    unreached: Vec<(Multiaddr, NetworkError)>,
}

/// How many of the peers that were there have it.
struct Sent {
    id: ItemId,
    drained: Drained,
    of: usize,
}

fn wrong_usage(text: &str) -> ! {
    crate::command()
        .error(ErrorKind::MissingRequiredArgument, text)
        .exit()
}

/// Connects, sends, and waits until the peers have it.
///
/// # Errors
/// Not even one has, as far as is known.
async fn give(
    node: &P2PNetworkManager,
    to: Vec<Multiaddr>,
    item: Item,
    bar: &ProgressBar,
) -> anyhow::Result<Given> {
    node.start().await?;
    let patience = Some(node.config.network.connection_timeout);
    let mut takers = Takers::of(node);
    let unreached = reach(node, to).await?;
    let waiting = |why| {
        bar.suspend(|| remark(format_args!("waiting: {why}")));
        Ok(())
    };
    let kind = item.kind();
    joined(node, &[kind]).await?;
    let (outcome, _) = feed::submit(node, item, patience, &mut takers, waiting).await?;
    let id = match outcome {
        Outcome::Sent(id) => id,
        Outcome::Known => {
            let sent = None;
            return Ok(Given { sent, unreached });
        }
        Outcome::NotSent => {
            bail!("the item was sent to nobody: the peer left, or has no room for it; try again")
        }
        Outcome::Refused(error @ ProtocolError::Rejected { .. }) => {
            return Err(error).context("it is nothing of this chain; --chain names another");
        }
        Outcome::Refused(error) => return Err(error.into()),
    };
    let says = |sentence| bar.suspend(|| remark(sentence));
    let drained = takers.drain(node, says).await?;
    if drained.is_nobodys() {
        bail!(
            "no peer says to have read it, or was handed it: {}{}; it may have arrived all the same",
            drained.why_not(),
            takers.why_these_are_gone()
        );
    }
    let of = takers.count();
    let sent = Some(Sent { id, drained, of });
    Ok(Given { sent, unreached })
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
