//! SIGHUP: a running node reads its configuration again, and takes of it what it can.
//!
//! It takes the log's filter (`node.log`), the blacklist's peers (`security.blacklist_config.peers`) and new bootstrap peers (`network.bootstrap_peers`), which are
//! dialled while the node wants more peers; those that are no longer named are forgotten by a restart. All else is what the node is built of, or what its peers
//! were told of it, and waits for a restart, which is said. Flags and the environment go before the file as they did at the start. A file that is wrong changes nothing.

use std::collections::BTreeSet;

use anyhow::Context;
use selkie::{NetworkError, P2PNetworkManager, PeerId, PeerInfo};
use serde_json::json;
use toml::{Table, Value};

use crate::{
    interrupt::{Hangups, Interrupt},
    log,
    output::{Output, Tone, remark, with_causes},
    service,
    settings::{File, NodeArgs, Settings},
};

/// What a node was started with, and what it has taken since.
pub(crate) struct Reload {
    args: NodeArgs,
    /// The file's name, if there was one.
    name: Option<String>,
    runs: File,
}

/// What a file says that the node does not do yet.
struct New {
    /// Another filter of the log, or that there is none any more.
    log: Option<Option<log::Filter>>,
    peers: Vec<PeerInfo>,
    blacklist: Option<Vec<PeerId>>,
    /// What the node runs with once it has these.
    runs: File,
    /// What it takes a restart for.
    waits: BTreeSet<String>,
}

/// What came of a file, by the names of its fields.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    taken: Vec<&'static str>,
    /// What it takes a restart for.
    waits: BTreeSet<String>,
}

impl Reload {
    /// Of a node that is started with these settings, which come of these flags.
    pub(crate) fn new(args: NodeArgs, settings: &Settings) -> Self {
        let name = settings.file.as_ref();
        Self {
            args,
            name: name.map(|file| file.display().to_string()),
            runs: settings.as_file(),
        }
    }

    /// Reads the file again on each SIGHUP. A terminal that was closed sends one too, and then the node ends in order.
    pub(crate) async fn serve(
        mut self,
        mut hangups: Hangups,
        node: P2PNetworkManager,
        output: Output,
        interrupt: Interrupt,
    ) {
        while hangups.next().await {
            service::reloading();
            if self.told(&node, &output).await.is_err() {
                // The node has ended, and says so itself.
                return;
            }
            service::ready();
        }
        interrupt.end();
    }

    /// Reads the file again, and says what came of it.
    ///
    /// # Errors
    /// The node has ended.
    async fn told(
        &mut self,
        node: &P2PNetworkManager,
        output: &Output,
    ) -> Result<(), NetworkError> {
        let Some(name) = self.name.clone() else {
            remark(
                "SIGHUP: this node was started without a configuration, and there is none to read again",
            );
            return Ok(());
        };
        let new = match self.read() {
            Ok(new) => new,
            Err(error) => {
                let why = with_causes(&error);
                remark(format_args!(
                    "the node goes on with the configuration that it had: {why}"
                ));
                return Ok(());
            }
        };
        let outcome = self.take(new, node).await?;
        let object = json!({
            "type": "config:reload",
            "config": name,
            "taken": outcome.taken,
            "restart": outcome.waits,
        });
        // Asked for, and so no event. Nobody reads any more where it fails, which ends the node.
        let _ = output.result(Tone::Strong, outcome.sentence(&name), object);
        Ok(())
    }

    /// What the file says now, and what comes of it. Nothing is taken yet, so that of a file that is wrong nothing is.
    fn read(&self) -> anyhow::Result<New> {
        let settings = self.args.clone().settings()?;
        let shown = || self.name.clone().unwrap_or_default();
        settings.check().with_context(shown)?;
        let wanted = settings.as_file();
        let mut runs = self.runs.clone();
        let log = (wanted.node.log != runs.node.log).then(|| wanted.node.log.clone());
        // Where a flag says otherwise a restart takes no more of it.
        runs.node.log.clone_from(&wanted.node.log);
        let (known, named) = (
            &mut runs.network.bootstrap_peers,
            &wanted.network.bootstrap_peers,
        );
        let peers = new_peers(known, named);
        known.extend(peers.iter().cloned());
        // Their order is of no matter, and only those that are gone are left.
        if new_peers(named, known).is_empty() {
            known.clone_from(named);
        }
        let (banned, named) = (
            &mut runs.security.blacklist_config.peers,
            &wanted.security.blacklist_config.peers,
        );
        let blacklist = (banned != named).then(|| {
            // They were checked.
            named.iter().filter_map(|peer| peer.parse().ok()).collect()
        });
        banned.clone_from(named);
        let (runs_with, says) = (Table::try_from(&runs), Table::try_from(&wanted));
        let problem = "it can't be compared with what the node was started with; its paths should be text in UTF-8";
        let waits = differences(&runs_with.context(problem)?, &says.context(problem)?);
        Ok(New {
            log,
            peers,
            blacklist,
            runs,
            waits,
        })
    }

    /// Takes what can be taken.
    ///
    /// # Errors
    /// The node has ended.
    async fn take(&mut self, new: New, node: &P2PNetworkManager) -> Result<Outcome, NetworkError> {
        // It is asked in any case: one that has ended takes nothing.
        node.topics().await?;
        let mut taken = Vec::new();
        if let Some(log) = &new.log
            && log::configure(log.as_ref())
        {
            taken.push("node.log");
        }
        if !new.peers.is_empty() {
            for peer in new.peers {
                node.add_peer(peer).await?;
            }
            taken.push("network.bootstrap_peers");
        }
        if let Some(blacklist) = new.blacklist {
            node.blacklist(blacklist).await?;
            taken.push("security.blacklist_config.peers");
        }
        self.runs = new.runs;
        let waits = new.waits;
        Ok(Outcome { taken, waits })
    }
}

impl Outcome {
    fn sentence(&self, name: &str) -> String {
        let waits: Vec<_> = self.waits.iter().map(String::as_str).collect();
        let told = [("taken", &self.taken), ("a restart takes", &waits)]
            .into_iter()
            .filter(|(_, fields)| !fields.is_empty())
            .map(|(what, fields)| format!("{what}: {}", fields.join(", ")));
        match told.collect::<Vec<_>>().join("; ") {
            nothing if nothing.is_empty() => format!("{name} was read again: nothing has changed"),
            told => format!("{name} was read again; {told}"),
        }
    }
}

/// Those of `peers` that are not known, or not at an address that they have.
fn new_peers(known: &[PeerInfo], peers: &[PeerInfo]) -> Vec<PeerInfo> {
    let places = |peer: &PeerInfo| {
        let id = peer.peer_id;
        let addresses = peer.addresses.clone().into_iter();
        addresses.map(move |address| (id, address))
    };
    let known: BTreeSet<_> = known.iter().flat_map(places).collect();
    let is_new = |peer: &&PeerInfo| places(peer).any(|place| !known.contains(&place));
    peers.iter().filter(is_new).cloned().collect()
}

/// The fields in which two tables differ, by their whole names.
fn differences(one: &Table, other: &Table) -> BTreeSet<String> {
    let (one, other) = (fields(one), fields(other));
    let differing = one.symmetric_difference(&other);
    differing.map(|(name, _)| name.clone()).collect()
}

/// Each field of a table with its value as text.
fn fields(table: &Table) -> BTreeSet<(String, String)> {
    let mut fields = BTreeSet::new();
    for (name, value) in table {
        match value {
            Value::Table(inner) => {
                let inner = self::fields(inner).into_iter();
                fields.extend(inner.map(|(rest, value)| (format!("{name}.{rest}"), value)));
            }
            value => drop(fields.insert((name.clone(), value.to_string()))),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_has_its_whole_name() {
        let table = |text: &str| text.parse::<Table>().expect("TOML");
        let one = table("[a]\nb = 1\nc = [1]\n[a.d]\ne = \"x\"");
        let other = table("[a]\nb = 1\nc = [1, 2]\n[f]\ng = true");
        let names = ["a.c", "a.d.e", "f.g"].map(str::to_owned);
        assert_eq!(differences(&one, &other), names.into());
        assert_eq!(differences(&one, &one), BTreeSet::new());
    }

    #[test]
    fn one_line_says_what_was_taken_and_what_waits() {
        let nothing = Outcome::default();
        assert_eq!(
            nothing.sentence("a"),
            "a was read again: nothing has changed"
        );
        let some = Outcome {
            taken: vec!["node.log"],
            waits: ["b.c".to_owned(), "d".to_owned()].into(),
        };
        assert_eq!(
            some.sentence("a"),
            "a was read again; taken: node.log; a restart takes: b.c, d"
        );
    }
}
