//! `selkie config`: what is wrong with a configuration, and what one looks like.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use crate::{
    output::{Tone, once, print},
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
    },
    /// Print the default configuration, each field explained
    Show,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Check { file } => {
            let read = File::read(&file)?;
            read.clone().check()?;
            read.security.tls_config.check_files()?;
            let sentence = format!("{} is right", file.display());
            once(false, Tone::Good, sentence, json!({}))?;
        }
        Command::Show => print(DEFAULT.trim_end().to_owned())?,
    }
    Ok(())
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
            "web",
        ] {
            assert!(DEFAULT.contains(&format!("\n#{field} = ")), "{field}");
        }
    }
}
