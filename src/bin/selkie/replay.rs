//! `selkie replay`: feeds the blocks of files to peers, from a node of its own.

use std::path::PathBuf;

use anyhow::bail;
use clap::error::ErrorKind;
use indicatif::{ProgressBar, ProgressStyle};
use selkie::{ItemKind, Multiaddr, P2PNetworkManager};
use serde_json::{Value, json};

use crate::{
    feed::{self, Feed, Step, Totals},
    interrupt::Interrupt,
    output::{Output, Told, Tone, counted, progress_target, remark, with_causes},
    settings::{Chain, NodeArgs, address},
    takers::{Drained, Takers, joined, reach},
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
    /// The last one has `type` `end` and says what came of it, also where it fails or is interrupted: how many `blocks`, `transactions` and `bytes` were sent;
    /// `all_read`: whether one of the peers that were there from the first item on says that it has read all of it; `all_handed`: whether one was handed all of it that
    /// acknowledges nothing, as plain libp2p peers; and `problem`, why it failed, or null. Where nothing was sent nobody has read it. Whether their chains accept it,
    /// peers do not say.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

pub(crate) async fn run(args: Args, interrupt: Interrupt) -> anyhow::Result<()> {
    let bar = progress_bar(&args.files);
    let output = Output::beside(args.json, bar.clone());
    let mut so_far = Played::default();
    let outcome = replay(args, &interrupt, (&output, &bar), &mut so_far).await;
    bar.finish_and_clear();
    let last = async {
        output.room().await;
        let (sentence, object) = so_far.end(outcome.as_ref().err());
        output.result(Tone::Strong, sentence, object)?;
        anyhow::Ok(output.finish().await?)
    };
    interrupt.unless_late(last).await.unwrap_or(Ok(()))?;
    outcome.map_err(|error| Told::of(&error).into())
}

/// Feeds the files to peers; `so_far` is what has come of it, however this ends.
async fn replay(
    args: Args,
    interrupt: &Interrupt,
    shown: (&Output, &ProgressBar),
    so_far: &mut Played,
) -> anyhow::Result<()> {
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
    let work = async {
        node.start().await?;
        for address in node.listeners() {
            let sentence = format!("listening on {address}");
            let object = json!({"type": "listening", "address": address.to_string()});
            shown.0.say(Tone::Good, sentence, object)?;
        }
        let mut takers = Takers::of(&node);
        if dials {
            for (_, error) in reach(&node, args.to).await? {
                remark(error);
            }
            joined(&node, &[ItemKind::Block, ItemKind::Transaction]).await?;
        }
        so_far.play(&feed, &node, &mut takers, shown).await?;
        so_far.drain(&node, &mut takers).await
    };
    let outcome = interrupt.unless(work).await;
    node.shutdown().await;
    match outcome {
        Some(outcome) => outcome,
        // A loop has no other end.
        None if feed.repeat => Ok(()),
        None => bail!("it was interrupted before the peers had all of it"),
    }
}

/// What a feed has come to.
#[derive(Default)]
struct Played {
    totals: Totals,
    /// What the peers that were there from the first item on have of it, once that was asked; `None` also where none was sent.
    drained: Option<Drained>,
}

impl Played {
    /// Feeds, with a progress bar on a terminal.
    ///
    /// # Errors
    /// Why it ended before the files did.
    async fn play(
        &mut self,
        feed: &Feed,
        node: &P2PNetworkManager,
        takers: &mut Takers,
        (output, bar): (&Output, &ProgressBar),
    ) -> anyhow::Result<()> {
        let mut refusals_shown = 0_u32;
        let so_far = &mut self.totals;
        let fed = feed.run(node, takers, |totals, step| {
            so_far.clone_from(totals);
            match step {
                Step::Waiting(why) => bar.suspend(|| remark(format_args!("waiting: {why}"))),
                Step::Sent {
                    kind: ItemKind::Block,
                    id,
                    bytes,
                } => {
                    let sentence = format!("block {id} ({bytes} bytes) was sent");
                    let object =
                        json!({"type": "block:sent", "id": id.to_string(), "bytes": bytes});
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
        self.totals = fed.await?;
        bar.finish_and_clear();
        Ok(())
    }

    /// Waits until the peers have all of it.
    ///
    /// # Errors
    /// Not even one has, as far as is known; or the chain refuses items.
    async fn drain(&mut self, node: &P2PNetworkManager, takers: &mut Takers) -> anyhow::Result<()> {
        if self.has_sent() {
            self.drained = Some(takers.drain(node, remark).await?);
        }
        if self.totals.refused > 0 {
            let items = counted(self.totals.refused, "item");
            bail!(
                "{items} were refused, the first for what is said above; what is of another chain wants its name (--chain)"
            );
        }
        if let Some(drained) = self.drained.as_ref().filter(|drained| drained.is_nobodys()) {
            let helps = match drained.late {
                0 => "",
                _ => "; a lower --rate helps those that check slowly",
            };
            bail!(
                "nobody says to have read all of it, or was handed it: {}{}{helps}",
                drained.why_not(),
                takers.why_these_are_gone()
            );
        }
        Ok(())
    }

    fn has_sent(&self) -> bool {
        self.totals.blocks > 0 || self.totals.transactions > 0
    }

    /// The last line: what came of it, and `failed`, why it ended before all was done.
    fn end(&self, failed: Option<&anyhow::Error>) -> (String, Value) {
        let totals = &self.totals;
        let (blocks, transactions) = (
            counted(totals.blocks, "block"),
            counted(totals.transactions, "transaction"),
        );
        let mut sentence = format!("sent {blocks} and {transactions}, {} bytes", totals.bytes);
        let (read, handed) = self
            .drained
            .as_ref()
            .map_or((0, 0), |drained| (drained.read, drained.handed));
        sentence.push_str(match (read, handed, self.has_sent()) {
            (0, 0, false) => "",
            (0, 0, true) => "; no peer says to have read all of it",
            (0, ..) => "; peers were handed all of it, which they do not acknowledge",
            _ => "",
        });
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
            "all_read": read > 0,
            "all_handed": handed > 0,
            "problem": failed.map(with_causes),
        });
        (sentence, object)
    }
}

/// Shown on stderr, and only where that is a terminal.
fn progress_bar(files: &[PathBuf]) -> ProgressBar {
    let size = |path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let total = files.iter().map(size).fold(0, u64::saturating_add);
    let bar = ProgressBar::with_draw_target(Some(total), progress_target());
    match ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes}  {msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_sent_nobody_has_read() {
        let played = Played::default();
        let (sentence, object) = played.end(None);
        assert_eq!(
            (&object["all_read"], &object["all_handed"]),
            (&false.into(), &false.into())
        );
        assert_eq!(object["problem"], Value::Null);
        assert!(!sentence.contains("read"), "{sentence}");
    }

    #[test]
    fn who_acknowledges_nothing_has_not_read() {
        let mut drained = Drained::default();
        drained.handed = 1;
        let played = Played {
            drained: Some(drained),
            ..Played::default()
        };
        let (sentence, object) = played.end(None);
        assert_eq!(
            (&object["all_read"], &object["all_handed"]),
            (&false.into(), &true.into())
        );
        assert!(sentence.contains("were handed all of it"), "{sentence}");
    }
}
