//! The `selkie` command: a node, a replay of real blocks, a small network to look at, keys and
//! configurations.
//!
//! One file per subcommand: [`run`], [`replay`], [`submit`], [`devnet`], [`key`], [`config`], [`snapshot`], [`state`], [`completions`] for what is made from the arguments, and [`ask`] for those that ask a running node, as [`state`] does too. What they share:
//! [`control`] is how one is asked, [`place`] says which node is meant, [`settings`] makes a node's settings from a file and flags, [`ledger`] keeps the built-in chain and makes its blocks, [`feed`] publishes the blocks of files, [`takers`] knows who has got them,
//! [`reload`] reads a running node's configuration again, [`service`] tells systemd how it is, [`web_server`] serves the dashboard, [`output`] prints, [`bar`] shows how far sync is, [`log`] logs, [`interrupt`] ends in order.
//!
//! Results go to stdout, everything else to stderr. A reader that closes stdout (`selkie run | head`) ends
//! the command in order, and that is no failure.

mod as_map;
mod ask;
mod bar;
mod completions;
mod config;
mod control;
mod devnet;
mod feed;
mod form;
mod identity;
mod interrupt;
mod key;
mod ledger;
mod log;
mod output;
mod place;
mod reload;
mod replay;
mod run;
mod service;
mod settings;
mod snapshot;
mod state;
mod submit;
mod table;
mod takers;
mod web_server;

use std::{process::ExitCode, time::Duration};

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand, builder::Resettable};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long work on other threads may go on once the command has ended.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Parser)]
#[command(
    name = "selkie",
    version,
    about = "A node of a blockchain's network, and what helps to run one",
    after_help = "Exit codes: 0 done, or ended by Ctrl-C where nothing else ends it; 1 failure; 2 wrong usage; 130 ended at once by a second Ctrl-C, a second later or more.\n\
                  With --json the last object on stdout of a command that failed says why, in problem; its type is error, or end for replay, and for config check it is the answer.\n\
                  Without --config, selkie run and the questions to it read ~/.config/selkie/node.toml, or /etc/selkie/node.toml, if it is there. Flags go \
                  before the environment (SELKIE_CONFIG, SELKIE_KEY, SELKIE_CONTROL; selkie run --help has more), and that before the file; a flag that names a node, by \
                  its key, its socket or a configuration with either, shuts out what names another.\n\
                  NO_COLOR turns colours off; they are off too where the output is no terminal."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// What is logged to stderr: a level or filters such as `info,libp2p_gossipsub=debug` [default: error, and of each place in the code one a minute]
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        env = "SELKIE_LOG",
        hide_env_values = true
    )]
    log: Option<log::Filter>,
    /// How it is logged: text for people, json for programs, one object a line
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        value_enum,
        default_value_t,
        env = "SELKIE_LOG_FORMAT",
        hide_env_values = true
    )]
    log_format: log::Format,
    /// Print no events and no progress: only results, warnings and errors, and what is wrong with the node itself
    #[arg(long, short, global = true)]
    quiet: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Run a node until Ctrl-C
    Run(run::Args),
    /// Feed the blocks of files to a network: of each block the transactions, then the block
    Replay(replay::Args),
    /// Give one item to peers: a transaction or a vote of any chain, or a block
    Submit(submit::Args),
    /// Run a small network in this process, with real blocks travelling through it
    Devnet(devnet::Args),
    /// Make or show an identity key
    Key(key::Args),
    /// Check a configuration file, or show the default one
    Config(config::Args),
    /// Make, list or look at snapshots of a ledger's state
    Snapshot(snapshot::Args),
    /// Read a ledger's state from its file, with proofs, or watch that of a running node
    State(state::Args),
    /// Delete what is kept of a ledger
    Ledger(ledger::Args),
    #[command(flatten)]
    Ask(ask::Ask),
    /// Print completions of this command for a shell
    Completions(completions::Completions),
    /// Write manual pages of all commands
    Man(completions::Man),
}

/// The arguments, and what the environment says in their place.
fn command() -> clap::Command {
    let command = Cli::command().mut_subcommand("run", run::with_environment);
    without_empty(command)
}

/// A variable that is empty is none, as where a composed file has `${CHAIN:-}`.
fn without_empty(command: clap::Command) -> clap::Command {
    let is_empty = |argument: &clap::Arg| {
        let value = argument.get_env().and_then(std::env::var_os);
        value.is_some_and(|value| value.is_empty())
    };
    command
        .mut_args(|argument| match is_empty(&argument) {
            true => argument.env(Resettable::Reset),
            false => argument,
        })
        .mut_subcommands(without_empty)
}

fn main() -> ExitCode {
    let arguments = command().get_matches();
    let parsed = Cli::from_arg_matches(&arguments);
    let cli = parsed.unwrap_or_else(|error| error.exit());
    log::start(cli.log.as_ref(), cli.log_format);
    if cli.quiet {
        output::be_quiet();
    }
    match execute(cli.command, wants_json(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command, json: bool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        let outcome = match command {
            Command::Run(args) => run::run(args, interrupt::watch()?).await,
            Command::Replay(args) => replay::run(args, interrupt::watch()?).await,
            Command::Submit(args) => submit::run(args, interrupt::watch()?).await,
            Command::Devnet(args) => devnet::run(args, interrupt::watch()?).await,
            Command::Key(args) => key::run(args),
            Command::Config(args) => config::run(args),
            Command::Snapshot(args) => snapshot::run(&args),
            Command::State(args) => state::run(args).await,
            Command::Completions(args) => completions::completions(&args),
            Command::Man(args) => completions::man(&args),
            Command::Ledger(args) => ledger::run(&args),
            Command::Ask(ask) => ask::run(ask, interrupt::watch()?).await,
        };
        // Here, where a second Ctrl-C still ends a write that nobody reads.
        outcome.inspect_err(|error| {
            if json {
                output::tell_failure(error);
            }
        })
    });
    runtime.shutdown_timeout(PATIENCE);
    outcome
}

/// Whether its results are for programs.
fn wants_json(arguments: &ArgMatches) -> bool {
    match arguments.subcommand() {
        Some((_, of_it)) => wants_json(of_it),
        None => matches!(arguments.try_get_one("json"), Ok(Some(true))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn flags_stand_under_what_they_are_about() {
        let mut command = command();
        command.build();
        for of in command.get_subcommands() {
            let mut flags = of.get_arguments();
            let json = flags.find(|flag| flag.get_id() == "json");
            let heading = json.and_then(clap::Arg::get_help_heading);
            assert_eq!(heading, None, "{}", of.get_name());
        }
        let run = command.find_subcommand("run").expect("it is one");
        let under = |heading| {
            let arguments = run.get_arguments();
            let flags = arguments.filter(move |flag| flag.get_help_heading() == Some(heading));
            flags.map(|flag| flag.get_id().as_str()).collect::<Vec<_>>()
        };
        assert_eq!(under("Ledger (--chain ledger)"), ["data", "propose"]);
        assert_eq!(under("Dashboard"), ["web", "web_public", "www", "js"]);
        let node = under("Node");
        for flag in [
            "key",
            "address_book",
            "as_map",
            "control",
            "no_control",
            "no_config",
        ] {
            assert!(node.contains(&flag), "{flag}: {node:?}");
        }
    }
}
