//! `selkie snapshot`: snapshots of a ledger's state, in the ledger's file. No node may run on it meanwhile; one that runs makes its own
//! (`protocol.sync.snapshots.make_every`).

use std::num::NonZeroUsize;

use anyhow::{Context, anyhow};
use clap::Subcommand;
use selkie::{
    chain::{Snapshot, SnapshotSource},
    sync::snapshots::{Loaded, SnapshotsConfig},
};
use serde_json::{Value, json};

use crate::{
    ledger::LedgerFile,
    output::{Tone, counted, once},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make one of a final block's state; the same on every node that makes one of it
    Create {
        #[command(flatten)]
        file: LedgerFile,
        /// The block's height [default: the newest final one's]
        #[arg(long)]
        height: Option<u64>,
        /// Keep so many of the newest, and delete the others; the default is that of a node (protocol.sync.snapshots.keep)
        #[arg(long, value_name = "COUNT", default_value_t = default_keep())]
        keep: NonZeroUsize,
        /// Delete none
        #[arg(long, conflicts_with = "keep")]
        keep_all: bool,
        /// Bytes of a chunk: a multiple of 16384, at most 4194304
        #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
        chunk_bytes: u32,
    },
    /// Print those that there are
    List(LedgerFile),
    /// Read one whole, and say whether all its bytes are right and what proves it
    Inspect {
        #[command(flatten)]
        file: LedgerFile,
        /// The height whose state it is [default: the newest]
        height: Option<u64>,
    },
}

/// As many as a node keeps.
fn default_keep() -> NonZeroUsize {
    NonZeroUsize::new(SnapshotsConfig::default().keep).unwrap_or(NonZeroUsize::MIN)
}

fn say(json: bool, snapshot: &Snapshot, more: &str, fields: Value) -> anyhow::Result<()> {
    let chunks = counted(snapshot.chunks().into(), "chunk");
    let root = hex::encode(&snapshot.state_root);
    let sentence = format!(
        "block {}: {} bytes in {chunks}, state root {root}{more}",
        snapshot.height, snapshot.size
    );
    let mut object = json!({
        "height": snapshot.height,
        "id": snapshot.id().to_string(),
        "format": snapshot.format,
        "stateRoot": root,
        "size": snapshot.size,
        "chunkBytes": snapshot.chunk_size,
        "chunks": snapshot.chunks(),
        "root": hex::encode(snapshot.root),
    });
    if let (Some(object), Value::Object(fields)) = (object.as_object_mut(), fields) {
        object.extend(fields);
    }
    once(json, Tone::Plain, sentence, object)?;
    Ok(())
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::Create {
            file,
            height,
            keep,
            keep_all,
            chunk_bytes,
        } => {
            let ledger = file.open()?;
            let made = ledger.make_snapshot(*height, *chunk_bytes)?;
            let made = made.with_context(|| match height {
                Some(height) => format!("block {height} is not final, or not here"),
                None => "the ledger has no block yet: there is nothing to make one of".to_owned(),
            })?;
            let mut others = ledger.list_snapshots();
            others.sort_by_key(|other| std::cmp::Reverse(other.height));
            let keep = if *keep_all { usize::MAX } else { keep.get() };
            let mut deleted = Vec::new();
            for other in others.iter().skip(keep).filter(|other| **other != made) {
                ledger
                    .forget_snapshot(other)
                    .map_err(|error| anyhow!(error))?;
                deleted.push(other.height);
            }
            let more = if deleted.is_empty() {
                String::new()
            } else {
                let heights: Vec<_> = deleted.iter().map(u64::to_string).collect();
                format!("; deleted: block {}", heights.join(", "))
            };
            say(file.json, &made, &more, json!({"deleted": deleted}))
        }
        Command::List(file) => {
            let made = file.open()?.list_snapshots();
            made.iter()
                .try_for_each(|made| say(file.json, made, "", json!({})))
        }
        Command::Inspect { file, height } => inspect(file, *height),
    }
}

fn inspect(file: &LedgerFile, height: Option<u64>) -> anyhow::Result<()> {
    let ledger = file.open()?;
    let mut made = ledger.list_snapshots();
    made.sort_by_key(|made| made.height);
    made.retain(|made| height.is_none_or(|height| made.height == height));
    let snapshot = made.pop().context(
        "there is no such snapshot; `selkie snapshot list` prints them, `selkie snapshot create` makes one",
    )?;
    let hashes = Loaded::of(ledger.load_snapshot_hashes(&snapshot), &snapshot.root);
    let hashes = hashes.map_err(|error| anyhow!("the hashes of its chunks: {error}"))?;
    let (hashes, _) = hashes.bytes().as_chunks::<32>();
    for (index, hash) in (0..snapshot.chunks()).zip(hashes) {
        Loaded::of(ledger.load_snapshot_chunk(&snapshot, index), hash)
            .map_err(|error| anyhow!("chunk {index}: {error}"))?;
    }
    let proof = ledger.prove_snapshot(&snapshot);
    let bytes = proof.map(|proof| proof.header.len() + proof.proof.len());
    let more = match bytes {
        Some(bytes) => format!("; all chunks are right, and {bytes} bytes prove it to others"),
        None => "; all chunks are right, and nothing proves it: others need it as a checkpoint"
            .to_owned(),
    };
    say(file.json, &snapshot, &more, json!({"proofBytes": bytes}))
}
