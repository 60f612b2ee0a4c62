//! `selkie config`: what is wrong with a configuration, and what one looks like.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Subcommand;
use serde_json::json;

use crate::{
    output::{Told, Tone, once, print, with_causes},
    settings::File,
};

/// Every field with its default, as a person reads it.
pub(crate) const DEFAULT: &str = include_str!("default.toml");

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say whether a file is right; if not: which field, its value, and what would be right
    Check {
        /// The TOML file
        file: PathBuf,
        /// Print the outcome as one JSON object: `config`, `right`, and `problem` where it is wrong
        #[arg(long)]
        json: bool,
    },
    /// Print the default configuration, each field explained
    Show {
        /// Print it as one JSON object, without what is left out by default
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Check { file, json } => {
            let shown = file.display().to_string();
            let checked = check(&file);
            if let (true, Err(error)) = (json, &checked) {
                let object =
                    json!({"config": shown, "right": false, "problem": with_causes(error)});
                once(json, Tone::Bad, "", object)?;
                return Err(Told::of(error).into());
            }
            checked?;
            let object = json!({"config": shown, "right": true});
            once(json, Tone::Good, format!("{shown} is right"), object)?;
        }
        Command::Show { json: true } => print(json!(File::default()).to_string())?,
        Command::Show { json: false } => print(DEFAULT.trim_end().to_owned())?,
    }
    Ok(())
}

fn check(file: &Path) -> anyhow::Result<()> {
    let read = File::read(file)?;
    let in_file = || file.display().to_string();
    read.clone().check().with_context(in_file)?;
    let files = read.security.tls_config.check_files();
    files.with_context(in_file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_the_default() {
        let shown: File = DEFAULT.parse().expect("the default parses");
        assert_eq!(shown, File::default());
        assert!(shown.check().is_ok());
    }

    #[test]
    fn nothing_is_left_out() {
        let mut all = toml::Table::try_from(File::default()).expect("TOML");
        let identify = all["protocol"]["identify_config"].as_table_mut();
        identify.expect("a table").remove("agent_version");
        assert_eq!(all, DEFAULT.parse::<toml::Table>().expect("TOML"));
        for field in [
            "agent_version",
            "server",
            "global",
            "per_peer",
            "prologue",
            "certificate",
            "checkpoint",
            "application",
            "key",
            "as_map",
            "web",
            "log",
        ] {
            assert!(DEFAULT.contains(&format!("\n#{field} = ")), "{field}");
        }
    }
}
