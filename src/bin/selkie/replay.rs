//! `selkie replay`: feeds the blocks of files to peers, from a node of its own.

use std::path::PathBuf;

use anyhow::bail;
use clap::error::ErrorKind;
use indicatif::{ProgressBar, ProgressStyle};
use selkie::{ItemKind, Multiaddr, P2PNetworkManager};
use serde_json::json;

use crate::{
    feed::{self, Feed, Step, Totals},
    interrupt::Interrupt,
    output::{Output, Tone, counted, progress_target, remark},
    settings::{Chain, NodeArgs, address},
    takers::{Partings, Takers, connected, drain, reach},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Block files: raw Bitcoin blocks, Bitcoin Core's blk*.dat, Ethereum's era1 or blocks in RLP
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Dial this multiaddr and feed it (repeatable); without one, and without --bootstrap, wait at --listen
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    to: Vec<Multiaddr>,
    /// Blocks per second at most; 0: as many as the network takes
    #[arg(long, default_value = "1", value_parser = feed::rate)]
    rate: f64,
    /// Transactions per second at most; 0: as many as the network takes
    #[arg(long, default_value = "1000", value_parser = feed::rate)]
    transaction_rate: f64,
    /// Begin again at the end. What the network still remembers (the last 4,096 blocks and, by default, 229,376 transactions) is skipped
    #[arg(long = "loop")]
    repeat: bool,
    /// Print one JSON object per line
    ///
    /// The last one has `type` `end` and says what came of it, also where it fails: how many `blocks`, `transactions` and `bytes` were sent, and `all_read`: whether
    /// one of the peers that were there from the first item on has read all of it. Whether their chains accept it, peers do not say.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

pub(crate) async fn run(args: Args, interrupt: Interrupt) -> anyhow::Result<()> {
    let settings = args.node.settings()?;
    let formats = feed::formats(&args.files)?;
    let network = &settings.config.network;
    let dials = !(args.to.is_empty() && network.bootstrap_peers.is_empty());
    if !dials && network.listen_addresses.is_empty() {
        let text = "replay feeds peers: give at least one --to, --bootstrap or --listen";
        crate::command()
            .error(ErrorKind::MissingRequiredArgument, text)
            .exit();
    }
    let chain = settings.chain.unwrap_or_else(|| Chain::of(&formats));
    let (key, _held) = settings.identity()?;
    let feed = Feed {
        files: args.files,
        blocks_per_second: args.rate,
        transactions_per_second: args.transaction_rate,
        repeat: args.repeat,
        patience: dials.then_some(network.connection_timeout),
    };
    let node = chain.node(settings.config, key).await?;
    let bar = progress_bar(&feed);
    let output = Output::beside(args.json, bar.clone());
    let work = async {
        node.start().await?;
        for address in node.listeners() {
            let sentence = format!("listening on {address}");
            output.say(
                Tone::Good,
                sentence,
                json!({"type": "listening", "address": address.to_string()}),
            )?;
        }
        if dials {
            for (_, error) in reach(&node, args.to).await? {
                remark(error);
            }
        }
        let mut partings = Partings::of(&node);
        let played = play(&feed, &node, &mut partings, (&output, &bar)).await;
        let drained = match (&played.failed, &played.takers) {
            (None, Some(takers)) => Some(drain(&node, takers, remark).await?),
            _ => None,
        };
        anyhow::Ok((played, drained, partings.why()))
    };
    let outcome = interrupt.unless(work).await;
    node.shutdown().await;
    let Some(outcome) = outcome else {
        // A loop has no other end.
        if feed.repeat {
            return Ok(());
        }
        bail!("it was interrupted before the peers had all of it");
    };
    let (Played { totals, failed, .. }, drained, why) = outcome?;
    // By one of them at least.
    let nobody = drained.filter(|drained| drained.have == 0);
    let last = async {
        output.room().await;
        conclude(&output, &totals, failed.is_none() && nobody.is_none())?;
        anyhow::Ok(output.finish().await?)
    };
    interrupt.unless_late(last).await.unwrap_or(Ok(()))?;
    if let Some(failed) = failed {
        return Err(failed);
    }
    if totals.refused > 0 {
        let items = counted(totals.refused, "item");
        bail!(
            "{items} were refused, the first for what is said above; what is of another chain wants its name (--chain)"
        );
    }
    if let Some(nobody) = nobody {
        let helps = match nobody.late {
            0 => "",
            _ => "; a lower --rate helps those that check slowly",
        };
        bail!(
            "nobody says to have read all of it: {}{why}{helps}",
            nobody.why_not()
        );
    }
    Ok(())
}

/// What a feed came to.
struct Played {
    totals: Totals,
    /// The peers that were there from the first item on; `None`: none was sent.
    takers: Option<Takers>,
    /// Why it ended before the files did.
    failed: Option<anyhow::Error>,
}

/// Feeds, with a progress bar on a terminal.
async fn play(
    feed: &Feed,
    node: &P2PNetworkManager,
    partings: &mut Partings,
    (output, bar): (&Output, &ProgressBar),
) -> Played {
    let mut refusals_shown = 0_u32;
    let mut takers = None;
    let mut so_far = Totals::default();
    let outcome = feed.run(node, partings, |totals, step| {
        so_far.clone_from(totals);
        if matches!(step, Step::Sent { .. }) {
            takers.get_or_insert_with(|| connected(node));
        }
        match step {
            Step::Waiting(why) => bar.suspend(|| remark(format_args!("waiting: {why}"))),
            Step::Sent {
                kind: ItemKind::Block,
                id,
                bytes,
            } => {
                let sentence = format!("block {id} ({bytes} bytes) was sent");
                let object = json!({"type": "block:sent", "id": id.to_string(), "bytes": bytes});
                output.say(Tone::Plain, sentence, object)?;
            }
            // The first say what is wrong; thousands would only hide it.
            Step::Refused(error) if refusals_shown < 5 => {
                refusals_shown += 1;
                bar.suspend(|| remark(error));
            }
            Step::Read(bytes) => {
                bar.set_position(bytes);
                let blocks = counted(totals.blocks, "block");
                bar.set_message(format!(
                    "{blocks}, {}",
                    counted(totals.transactions, "transaction")
                ));
            }
            Step::Sent { .. } | Step::Passed | Step::Refused(_) => {}
        }
        Ok(())
    });
    let outcome = outcome.await;
    bar.finish_and_clear();
    let (totals, failed) = match outcome {
        Ok(totals) => (totals, None),
        Err(error) => (so_far, Some(error)),
    };
    Played {
        totals,
        takers,
        failed,
    }
}

/// Shown on stderr, and only where that is a terminal.
fn progress_bar(feed: &Feed) -> ProgressBar {
    let size = |path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let total = feed.files.iter().map(size).fold(0, u64::saturating_add);
    let bar = ProgressBar::with_draw_target(Some(total), progress_target());
    match ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes}  {msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn conclude(output: &Output, totals: &Totals, all_read: bool) -> std::io::Result<()> {
    let (blocks, transactions) = (
        counted(totals.blocks, "block"),
        counted(totals.transactions, "transaction"),
    );
    let mut sentence = format!("sent {blocks} and {transactions}, {} bytes", totals.bytes);
    if !all_read {
        sentence.push_str("; no peer says to have read all of it");
    }
    for (count, what) in [
        (totals.known, "known already"),
        (
            totals.delayed,
            "sent late, as no peer read fast enough: a lower --rate helps",
        ),
        (totals.refused, "refused by the chain"),
    ] {
        if count > 0 {
            sentence.push_str(&format!("; {count} {what}"));
        }
    }
    if totals.skipped > 0 {
        let bytes = counted(totals.skipped, "byte");
        sentence.push_str(&format!("; {bytes} skipped that belong to no whole block"));
    }
    let object = json!({
        "type": "end",
        "blocks": totals.blocks,
        "transactions": totals.transactions,
        "bytes": totals.bytes,
        "known": totals.known,
        "delayed": totals.delayed,
        "refused": totals.refused,
        "skipped": totals.skipped,
        "all_read": all_read,
    });
    output.result(Tone::Strong, sentence, object)
}
