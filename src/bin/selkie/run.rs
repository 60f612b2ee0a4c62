//! `selkie run`: a node until Ctrl-C, its events as lines on stdout.

use std::{path::Path, pin::pin};

use futures::future::{Either, select};
use selkie::{
    NetworkEvent, P2PNetworkManager, mpsc,
    storage::{KeptAddressBook, Opened, keep_address_book},
};
use serde_json::json;

use crate::{
    as_map,
    bar::SyncBar,
    control::{self, Asked},
    identity::hold_identity,
    interrupt::{Interrupt, hangups},
    ledger::LedgerArgs,
    log,
    output::{Output, Tone, remark},
    place::{book_beside, one_file},
    reload::Reload,
    service,
    settings::{NodeArgs, RunFlags, loopback},
    web_server::{self, Folders, Site},
};

#[derive(clap::Args)]
#[command(
    after_help = "SELKIE_CONFIG, SELKIE_KEY and SELKIE_CONTROL stand for --config, --key and --control, here, in the questions to a node and in selkie key. \
                  SELKIE_LISTEN and SELKIE_BOOTSTRAP are lists, with commas in between. An empty variable is none.\n\
                  Paths, also those of a configuration, are relative to the folder in which the command is started."
)]
pub(crate) struct Args {
    // A group's heading stands over what comes behind it too.
    /// Print one JSON object per line; the last one of a node that ends in order has `type` `stopped`
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
    /// Read no configuration that is not named: neither ~/.config/selkie/node.toml nor /etc/selkie/node.toml
    #[arg(long)]
    no_config: bool,
    #[command(flatten)]
    place: RunFlags,
    #[command(flatten)]
    ledger: LedgerArgs,
    #[command(flatten)]
    folders: Folders,
}

/// What the environment says where no flag does. It is for the node that goes on: what else runs beside that is to have neither its key nor its addresses.
/// Which node it is others ask too (`place.rs`).
const ENVIRONMENT: [(&str, &str); 6] = [
    ("listen", "SELKIE_LISTEN"),
    ("bootstrap", "SELKIE_BOOTSTRAP"),
    ("network_id", "SELKIE_NETWORK_ID"),
    ("genesis", "SELKIE_GENESIS"),
    ("max_peers", "SELKIE_MAX_PEERS"),
    ("chain", "SELKIE_CHAIN"),
];
/// Of these, lists: with commas in between.
const LISTS: [&str; 2] = ["listen", "bootstrap"];

pub(crate) fn with_environment(command: clap::Command) -> clap::Command {
    ENVIRONMENT.iter().fold(command, |command, (id, variable)| {
        command.mut_arg(*id, |argument| {
            let argument = argument.env(*variable).hide_env_values(true);
            match LISTS.contains(id) {
                true => argument.value_delimiter(','),
                false => argument,
            }
        })
    })
}

pub(crate) async fn run(args: Args, interrupt: Interrupt) -> anyhow::Result<()> {
    let bar = SyncBar::new();
    let output = Output::beside(args.json, bar.bar());
    let outcome = node(args, &interrupt, (&output, &bar)).await;
    output.concluded(outcome, &interrupt).await
}

/// Runs a node until the command is to end.
async fn node(
    args: Args,
    interrupt: &Interrupt,
    (output, bar): (&Output, &SyncBar),
) -> anyhow::Result<()> {
    // From the first moment on, since it would end the process.
    let hangups = hangups()?;
    let has_control = !args.place.no_control;
    let node = args.node.of_a_node(args.place, !args.no_config)?;
    let mut settings = node.clone().settings()?;
    log::configure(settings.log.as_ref());
    let reload = Reload::new(node, &settings);
    if settings.config.network.listen_addresses.is_empty() {
        settings.config.network.listen_addresses = loopback(&settings.config);
    }
    let names = settings.names;
    let path = names.key()?;
    let beside = (!names.shared_key).then(|| book_beside(&path));
    let book = settings.address_book.or(beside);
    let map = settings.as_map;
    let control = match &names.control {
        _ if !has_control => None,
        None if names.shared_key || !control::HERE => None,
        _ => Some(names.socket()?),
    };
    let files = [
        ("key", Some(path.as_path())),
        ("configuration", settings.file.as_deref()),
        ("address book", book.as_deref()),
        ("control socket", control.as_deref()),
        ("ledger", args.ledger.data()),
        ("AS map", map.as_deref()),
    ];
    if let Some((one, other, path)) = one_file(&files) {
        anyhow::bail!(
            "{} is the {one} and the {other}, and one would be written over the other: give each a file of its own (--key, --address-book, --control, --data, --as-map)",
            path.display()
        );
    }
    let map = map.map(|path| {
        let read = as_map::read(&path);
        read.map_err(|error| anyhow::anyhow!("the AS map {} is of no use: {error}", path.display()))
    });
    let map = map.transpose()?;
    let (key, _held) = hold_identity(&path, names.shared_key)?;
    let public = settings.web_public;
    let web = match settings.web {
        Some(address) => Some(web_server::bind(address, public).await?),
        None => None,
    };
    let opened = control.as_deref().map(open_control).transpose();
    let control = match opened {
        // Where nobody wanted it it runs all the same.
        Err(error) if names.control.is_none() => {
            remark(error);
            None
        }
        opened => opened?,
    };
    let chain = settings.chain.unwrap_or_default();
    let ledger = args.ledger.open(chain, &mut settings.config)?;
    let node = match &ledger {
        Some(ledger) => P2PNetworkManager::with(settings.config, key, ledger.clone()).await?,
        None => chain.node(settings.config, key).await?,
    };
    if let Some(map) = map {
        node.use_as_map(map)?;
    }
    let kept = book.as_deref().map(|book| keep_address_book(&node, book));
    let kept = kept.transpose()?;
    if let Some(Opened::Lost { reason }) = kept.as_ref().map(|kept| &kept.opened) {
        remark(format_args!(
            "the address book can't be read, and a new one begins: {reason}"
        ));
    }
    let events = node.subscribe_events();
    let (peer_id, network) = (node.local_peer_id, &node.config.chain);
    let file = settings.file.map(|file| file.display().to_string());
    let by = file.as_ref().map(|file| format!(", set up by {file}"));
    let by = by.unwrap_or_default();
    output.say(
        Tone::Strong,
        format!("{peer_id} joins {}{by}", network.network_id),
        json!({
            "type": "start",
            "peerId": peer_id.to_string(),
            "network": chain.network(network),
            "config": file,
        }),
    )?;
    let Some(started) = interrupt.unless(node.start()).await else {
        return conclude(output, events, &node, interrupt).await;
    };
    started?;
    // Its file goes with the socket when this ends.
    let _control = control.map(|control| {
        let writer = kept.as_ref().map(KeptAddressBook::writer);
        let asked = Asked::new(node.clone(), chain, writer);
        Serving(tokio::spawn(control.serve(asked)))
    });
    if let Some(listener) = web {
        let site = Site::new(args.folders, chain, vec![node.clone()], public);
        let url = web_server::serve(listener, site)?;
        // Where the system chose the port nothing else says it.
        output.result(
            Tone::Strong,
            format!("the dashboard is at {url}"),
            json!({"type": "web", "url": url}),
        )?;
    }
    bootstrap(&node);
    if let Some(ledger) = &ledger {
        args.ledger.work(ledger, &node);
    }
    let reload = reload.serve(hangups, node.clone(), output.clone(), interrupt.clone());
    let _reload = Serving(tokio::spawn(reload));
    let _watched = Serving(tokio::spawn(service::watched(node.clone())));
    service::ready();
    let outcome = show((output, bar), events, &node, interrupt).await;
    bar.clear();
    node.shutdown().await;
    if let Some(kept) = kept {
        // Nobody waits long for a disk that hangs.
        let _ = interrupt.unless_late(kept.written()).await;
    }
    outcome
}

/// Opens the control socket.
fn open_control(path: &Path) -> anyhow::Result<control::Listener> {
    control::Listener::open(path).map_err(|error| {
        anyhow::anyhow!(
            "can't open the control socket {}: {error}; name another by --control, or none by --no-control",
            path.display()
        )
    })
}

/// A task that ends with this.
struct Serving(tokio::task::JoinHandle<()>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Looks for the first peers; the node itself goes on looking.
fn bootstrap(node: &P2PNetworkManager) {
    if node.config.network.bootstrap_peers.is_empty() {
        return;
    }
    let node = node.clone();
    tokio::spawn(async move {
        if let Err(error) = node.connect_bootstrap_peers().await {
            remark(format_args!("no bootstrap peer yet, trying on: {error}"));
        }
    });
}

/// Prints events until the command is to end; then the node's last ones. Events wait for room to be written; the loop does not.
async fn show(
    (output, bar): (&Output, &SyncBar),
    mut events: mpsc::Receiver<NetworkEvent>,
    node: &P2PNetworkManager,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let (interrupted, closed) = (pin!(interrupt.wait()), pin!(output.closed()));
    let mut ended = select(interrupted, closed);
    loop {
        let next = async {
            output.room().await;
            events.recv().await
        };
        match select(pin!(next), &mut ended).await {
            Either::Left((Some(event), _)) if bar.shows(&event) => {}
            Either::Left((Some(event), _)) => output.event(&complete(event, node))?,
            Either::Left((None, _)) => {
                service::stopping();
                anyhow::bail!("the node ended by itself; --log warn may tell why")
            }
            Either::Right(_) => break,
        }
        let missed = events.missed();
        if missed > 0 {
            output.missed(missed)?;
        }
    }
    conclude(output, events, node, interrupt).await
}

/// Ends the node, and prints its last events.
async fn conclude(
    output: &Output,
    mut events: mpsc::Receiver<NetworkEvent>,
    node: &P2PNetworkManager,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    service::stopping();
    node.shutdown().await;
    let last = async {
        while let Some(event) = events.recv().await {
            output.room().await;
            output.event(&event)?;
        }
        // What could not be written is said on stderr already.
        drop(output.finish().await);
        Ok::<_, std::io::Error>(())
    };
    // Who does not read misses the last ones.
    Ok(interrupt.unless_late(last).await.unwrap_or(Ok(()))?)
}

/// An address at which the node listens ends in its peer id, so that it can be copied to where it is dialled.
fn complete(event: NetworkEvent, node: &P2PNetworkManager) -> NetworkEvent {
    match event {
        NetworkEvent::Listening(address) => {
            let whole = address.with_p2p(node.local_peer_id);
            NetworkEvent::Listening(whole.unwrap_or_else(|address| address))
        }
        event => event,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::{Args as _, CommandFactory, Parser};

    use super::*;
    use crate::settings::File;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: Args,
    }

    /// What a node runs with that this file and these flags set up.
    fn settings(file: &str, flags: &[&str]) -> File {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("node.toml");
        fs::write(&path, file).expect("written");
        let path = path.to_str().expect("a path");
        let line = ["run", "--config", path].into_iter();
        let line = Line::try_parse_from(line.chain(flags.iter().copied()));
        let run = line.unwrap_or_else(|error| panic!("{error}")).run;
        let node = run.node.of_a_node(run.place, false).expect("it is named");
        node.settings().expect("right").as_file()
    }

    #[test]
    fn what_a_flag_says_no_file_changes() {
        let table: [(&[&str], &str); 12] = [
            (
                &["--listen", "/ip4/127.0.0.1/tcp/1"],
                "[network]\nlisten_addresses = [\"/ip4/127.0.0.1/tcp/2\"]",
            ),
            (&["--network-id", "a"], "[chain]\nnetwork_id = \"b\""),
            (&["--genesis", "00"], "[chain]\ngenesis = \"01\""),
            (&["--max-peers", "9"], "[network]\nmax_peers = 8"),
            (&["--chain", "bitcoin"], "[chain]\napplication = \"ledger\""),
            (&["--key", "a"], "[node]\nkey = \"b\""),
            (&["--shared-key"], "[node]\nshared_key = true"),
            (&["--address-book", "a"], "[node]\naddress_book = \"b\""),
            (&["--as-map", "a"], "[node]\nas_map = \"b\""),
            (&["--control", "a"], "[node]\ncontrol = \"b\""),
            (&["--no-control"], "[node]\ncontrol = \"b\""),
            (
                &["--web", "127.0.0.1:1", "--web-public"],
                "[node]\nweb = \"127.0.0.1:2\"\nweb_public = true",
            ),
        ];
        for (flags, file) in &table {
            assert_eq!(settings(file, flags), settings("", flags), "{flags:?}");
            assert_ne!(settings(file, &[]), settings("", &[]), "{file}");
        }
        // Every flag but those of which a file knows nothing, and that which adds to what a file says.
        let others = |id: &str| {
            let ledger = LedgerArgs::augment_args(clap::Command::new("ledger"));
            let folders = Folders::augment_args(clap::Command::new("folders"));
            let known = [ledger, folders].map(|of| of.get_arguments().any(|it| it.get_id() == id));
            known.contains(&true) || ["config", "no_config", "json", "bootstrap"].contains(&id)
        };
        let named: Vec<_> = table.iter().flat_map(|(flags, _)| *flags).collect();
        for argument in Line::command().get_arguments() {
            let flag = argument.get_long().map(|long| format!("--{long}"));
            let is_here = flag.is_some_and(|flag| named.contains(&&flag.as_str()));
            let id = argument.get_id().as_str();
            assert!(is_here || others(id), "{id}");
        }
    }
}
