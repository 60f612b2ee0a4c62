//! `selkie completions` and `selkie man`: what a shell and `man` are to know of this command, made from its arguments.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap_complete::Shell;

use crate::output::print;

#[derive(clap::Args)]
pub(crate) struct Completions {
    /// The shell; source what is printed, or keep it where the shell looks for completions
    shell: Shell,
}

#[derive(clap::Args)]
pub(crate) struct Man {
    /// A folder of manual pages, such as ~/.local/share/man/man1; one page for each command is written there
    folder: PathBuf,
}

pub(crate) fn completions(args: &Completions) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::command(), "selkie", &mut script);
    Ok(print(String::from_utf8(script)?)?)
}

pub(crate) fn man(args: &Man) -> anyhow::Result<()> {
    let folder: &Path = &args.folder;
    let shown = folder.display();
    std::fs::create_dir_all(folder).with_context(|| format!("can't make {shown}"))?;
    clap_mangen::generate_to(crate::command(), folder)
        .with_context(|| format!("can't write manual pages to {shown}"))?;
    Ok(print(format!(
        "manual pages are in {shown}: man -l {shown}/selkie.1"
    ))?)
}
