//! `selkie key`: the identity by which peers know a node.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Subcommand;
use selkie::storage::{load_or_create_identity, load_shared_identity};
use serde_json::json;

use crate::{
    output::{Tone, once},
    place::Flags,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a key (only its owner may read the file) and print its peer id
    New(Place),
    /// Print the peer id of a key
    Show(Place),
}

#[derive(clap::Args)]
struct Place {
    /// The key's file [default: the one of `selkie run`]
    file: Option<PathBuf>,
    /// The key that this configuration names
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    config: Option<PathBuf>,
    /// Read no configuration that is not named
    #[arg(long)]
    no_config: bool,
    /// Show a key that others may read too: a mounted secret
    #[arg(long)]
    shared_key: bool,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let (Command::New(place) | Command::Show(place)) = &args.command;
    let flags = Flags {
        key: place.file.clone(),
        config: place.config.clone(),
        control: None,
        no_config: place.no_config,
    };
    let names = flags.names()?;
    let path = names.key()?;
    let shown = path.display();
    let exists = path
        .try_exists()
        .with_context(|| format!("can't look for {shown}; may you read its folder?"))?;
    match args.command {
        Command::New(_) if exists => {
            bail!("{shown} exists already and is kept, since peers may know it; give another file")
        }
        Command::Show(_) if !exists => {
            bail!("there is no key at {shown}; `selkie key new {shown}` makes one")
        }
        _ => {}
    }
    let key = match args.command {
        Command::Show(_) if place.shared_key || names.shared_key => load_shared_identity(&path)?,
        _ => load_or_create_identity(&path)?,
    };
    let peer_id = key.public().to_peer_id();
    let object = json!({"peerId": peer_id.to_string(), "file": shown.to_string()});
    once(place.json, Tone::Plain, peer_id, object)?;
    Ok(())
}
