//! `selkie snapshot`: snapshots of a ledger's state, in the ledger's file. No node may run on it meanwhile; one that runs makes its own
//! (`protocol.sync.snapshots.make_every`).

use std::{cmp::Reverse, num::NonZeroUsize, path::PathBuf};

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
    place::found_config,
    settings::File,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make one of a final block's state; the same on every node that makes one of it
    Create(Create),
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

#[derive(clap::Args)]
struct Create {
    #[command(flatten)]
    file: LedgerFile,
    /// The block's height [default: the newest final one's]
    #[arg(long)]
    height: Option<u64>,
    /// Keep so many of the newest, and delete the others [default: as the node does, protocol.sync.snapshots.keep]
    #[arg(long, value_name = "COUNT")]
    keep: Option<NonZeroUsize>,
    /// Delete none
    #[arg(long, conflicts_with = "keep")]
    keep_all: bool,
    /// The node's configuration, which says how many it keeps [default: the one that selkie run reads]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Bytes of a chunk: a multiple of 16384, at most 4194304
    #[arg(long, value_name = "BYTES", default_value_t = SnapshotsConfig::default().chunk_bytes)]
    chunk_bytes: u32,
}

impl Create {
    /// How many are kept.
    fn keep(&self) -> anyhow::Result<usize> {
        match self.keep {
            Some(keep) => Ok(keep.get()),
            None if self.keep_all => Ok(usize::MAX),
            None => {
                let configured = self.configured();
                configured.context("say how many are kept (--keep, --keep-all)")
            }
        }
    }

    /// As many as the node keeps.
    fn configured(&self) -> anyhow::Result<usize> {
        let path = match &self.config {
            Some(path) => Some(path.clone()),
            None => found_config()?,
        };
        let Some(path) = path else {
            return Ok(SnapshotsConfig::default().keep);
        };
        let file = File::read(&path)?;
        file.clone().check()?;
        Ok(file.protocol.sync.snapshots.keep)
    }
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
        Command::Create(args) => create(args),
        Command::List(file) => {
            let made = file.open()?.list_snapshots();
            made.iter()
                .try_for_each(|made| say(file.json, made, "", json!({})))
        }
        Command::Inspect { file, height } => inspect(file, *height),
    }
}

fn create(args: &Create) -> anyhow::Result<()> {
    let keep = args.keep()?;
    let ledger = args.file.open()?;
    let made = ledger.make_snapshot(args.height, args.chunk_bytes)?;
    let made = made.with_context(|| match args.height {
        Some(height) => format!("block {height} is not final, or not here"),
        None => "the ledger has no block yet: there is nothing to make one of".to_owned(),
    })?;
    let (deleted, problem) = prune(&ledger, &made, keep);
    let more = if deleted.is_empty() {
        String::new()
    } else {
        let heights: Vec<_> = deleted.iter().map(u64::to_string).collect();
        format!("; deleted: block {}", heights.join(", "))
    };
    let told = say(args.file.json, &made, &more, json!({"deleted": deleted}));
    problem.map_or(told, Err)
}

/// Deletes all but this one and the newest `keep`. Returns the heights of those that are gone, and what kept the next one from it.
fn prune(
    source: &impl SnapshotSource,
    made: &Snapshot,
    keep: usize,
) -> (Vec<u64>, Option<anyhow::Error>) {
    let mut all = source.list_snapshots();
    all.sort_by_key(|one| Reverse(one.height));
    let mut deleted = Vec::new();
    for other in all.iter().skip(keep).filter(|other| *other != made) {
        let height = other.height;
        if let Err(reason) = source.forget_snapshot(other) {
            let problem = anyhow!("the snapshot of block {height} can't be deleted: {reason}");
            return (deleted, Some(problem));
        }
        deleted.push(height);
    }
    (deleted, None)
}

fn inspect(file: &LedgerFile, height: Option<u64>) -> anyhow::Result<()> {
    let ledger = file.open()?;
    let mut made = ledger.list_snapshots();
    made.sort_by_key(|made| made.height);
    made.retain(|made| height.is_none_or(|height| made.height == height));
    let shown = file.data.display();
    let snapshot = made.pop().with_context(|| {
        format!(
            "there is no such snapshot in {shown}; `selkie snapshot list` prints them, `selkie snapshot create` makes one"
        )
    })?;
    let hashes = Loaded::of(ledger.load_snapshot_hashes(&snapshot), &snapshot.root);
    let hashes =
        hashes.map_err(|error| anyhow!("{shown}: the hashes of the snapshot's chunks: {error}"))?;
    let (hashes, _) = hashes.bytes().as_chunks::<32>();
    for (index, hash) in (0..snapshot.chunks()).zip(hashes) {
        Loaded::of(ledger.load_snapshot_chunk(&snapshot, index), hash)
            .map_err(|error| anyhow!("{shown}: chunk {index} of the snapshot: {error}"))?;
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Has snapshots of these heights, and can't delete that of block 2.
    struct Stubborn(Mutex<Vec<u64>>);

    fn of(height: u64) -> Snapshot {
        Snapshot {
            height,
            format: 1,
            state_root: vec![1].into(),
            chunk_size: 1 << 20,
            size: 1,
            root: [1; 32],
        }
    }

    impl SnapshotSource for Stubborn {
        fn list_snapshots(&self) -> Vec<Snapshot> {
            let heights = self.0.lock().expect("whole");
            heights.iter().copied().map(of).collect()
        }

        fn load_snapshot_hashes(&self, _: &Snapshot) -> Option<bytes::Bytes> {
            None
        }

        fn load_snapshot_chunk(&self, _: &Snapshot, _: u32) -> Option<bytes::Bytes> {
            None
        }

        fn forget_snapshot(&self, snapshot: &Snapshot) -> Result<(), String> {
            if snapshot.height == 2 {
                return Err("the disk is full".to_owned());
            }
            let mut heights = self.0.lock().expect("whole");
            heights.retain(|height| *height != snapshot.height);
            Ok(())
        }
    }

    #[test]
    fn what_was_deleted_is_known_where_the_next_one_stays() {
        let source = Stubborn(Mutex::new(vec![3, 1, 5, 4, 2]));
        let (deleted, problem) = prune(&source, &of(1), 2);
        assert_eq!(deleted, [3]);
        let problem = problem.expect("one stays").to_string();
        assert!(
            problem.contains("block 2") && problem.contains("full"),
            "{problem}"
        );
        let (deleted, problem) = prune(&source, &of(2), 1);
        assert_eq!((deleted, problem.is_none()), (vec![4, 1], true));
    }
}
