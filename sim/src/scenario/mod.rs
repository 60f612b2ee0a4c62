//! What is simulated, as data: a TOML file says who is there, what happens, and what must hold.
//!
//! Every field has a unit in its name or is a duration as people write it (`"1m 30s"`). What a file says too much, or what can't
//! be, is an error that names the field and the value (`check.rs`).

mod attacker;
mod check;
mod fault;
mod must;
mod nodes;
mod plan;
mod world;

use std::{
    ops::Range,
    path::{Path as File, PathBuf},
    time::Duration,
};

use selkie::Config;
use serde::{Deserialize, Serialize};

pub(crate) use self::plan::{allot, bytes_a_second};
pub use self::{
    attacker::{Attack, Attackers, Speaks},
    fault::Fault,
    must::{Limits, Must, PeersBy},
    nodes::Nodes,
    plan::{LineClass, NetworkPlan, PathPlan, RegionPlan},
};
use crate::{executor::Node, topology::Topology};

/// What is simulated.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is for, in a sentence.
    pub about: String,
    /// How many nodes there are, 2 to 10,000.
    pub nodes: usize,
    /// How long it lasts.
    #[serde(with = "humantime_serde")]
    pub duration: Duration,
    /// Who knows whom at the beginning.
    pub topology: Topology,
    /// How bytes get from one place to another. **Default:** at once.
    #[serde(default)]
    pub network: NetworkPlan,
    /// Single paths that are other ones.
    #[serde(default)]
    pub path: Vec<PathPlan>,
    /// What lines hosts have. **Default:** without limit.
    #[serde(default)]
    pub line: Vec<LineClass>,
    /// Whether tasks that can go on take turns in random order. **Default:** first come, first served.
    #[serde(default)]
    pub shuffle: bool,
    /// How long work takes that a node does off its task. **Default:** 100 us.
    #[serde(default = "work_takes", with = "humantime_serde")]
    pub work_takes: Duration,
    /// What the nodes speak. **Default:** Selkie.
    #[serde(default)]
    pub speaks: Speaks,
    /// When the nodes start; those that mean harm say so themselves. **Default:** at the beginning.
    #[serde(default, with = "humantime_serde")]
    pub start: Duration,
    /// What is published, and when.
    #[serde(default)]
    pub publish: Vec<Publish>,
    /// What goes wrong, and when.
    #[serde(default)]
    pub fault: Vec<Fault>,
    /// Who means harm, beside the nodes.
    #[serde(default)]
    pub attacker: Vec<Attackers>,
    /// What must hold.
    #[serde(default)]
    pub must: Must,
    /// The nodes' own configuration; addresses and peers are the simulation's. **Default:** the node's.
    #[serde(default)]
    pub config: Config,
}

fn work_takes() -> Duration {
    Duration::from_micros(100)
}

/// A kind of item, and its name in scenarios.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A transaction.
    Transaction,
    /// A block.
    Block,
    /// A vote.
    Vote,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Transaction, Self::Block, Self::Vote];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Transaction => "transaction",
            Self::Block => "block",
            Self::Vote => "vote",
        }
    }
}

/// Items that are published.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// Of which kind.
    pub kind: Kind,
    /// By whom; each item by one of them at random. **Default:** all.
    #[serde(default)]
    pub from: Nodes,
    /// From when on.
    #[serde(with = "humantime_serde")]
    pub start: Duration,
    /// Until when.
    #[serde(with = "humantime_serde")]
    pub end: Duration,
    /// How many a second on average, at random moments.
    pub per_second: f64,
    /// Their size; the bytes are random.
    pub bytes: usize,
    /// Of blocks: the part of their bytes that their maker takes from its pool, the transactions that it has had longest; the rest are new
    /// ones, and so is what the pool has too little of. **Default:** none of either: a block is one piece, and travels whole.
    pub known: Option<f64>,
    /// Of such blocks: the size of the new transactions. **Default:** 400.
    #[serde(default = "transaction_bytes")]
    pub transaction_bytes: usize,
}

pub(crate) fn transaction_bytes() -> usize {
    400
}

/// What is wrong with a scenario.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// The file can't be read.
    #[error("{file}: {reason}")]
    File {
        /// Which.
        file: String,
        /// Why not.
        reason: std::io::Error,
    },
    /// It is no scenario.
    #[error("{0}")]
    Form(#[from] Box<toml::de::Error>),
    /// A value can't be.
    #[error("{field}: {why}")]
    Value {
        /// Where.
        field: String,
        /// The value, and what is wrong with it.
        why: String,
    },
}

impl Scenario {
    /// Reads a file.
    ///
    /// # Errors
    /// See [`ScenarioError`].
    pub fn load(file: &File) -> Result<Self, ScenarioError> {
        let text = std::fs::read_to_string(file).map_err(|reason| ScenarioError::File {
            file: file.display().to_string(),
            reason,
        })?;
        Self::parse(&text)
    }

    /// All nodes, those included that mean harm.
    pub fn all_nodes(&self) -> usize {
        let attackers = self.attacker.iter().map(|attackers| attackers.count);
        attackers.fold(self.nodes, usize::saturating_add)
    }

    /// The one whose network (IPv4 /16) a node's host is in; `None` where it is in one of its own.
    pub(crate) fn neighbour(&self, node: Node) -> Option<Node> {
        let mut first = self.nodes;
        for attackers in &self.attacker {
            let place = node.checked_sub(first)?;
            if place < attackers.count {
                let networks = attackers.networks?.get();
                return (place >= networks).then_some(first + place % networks);
            }
            first += attackers.count;
        }
        None
    }

    /// For which of its time it is said what the run costs: from the first publication's start to the last one's end, so that starting counts for
    /// nothing; where nothing is published, its second half.
    pub fn measured(&self) -> Range<Duration> {
        let starts = self.publish.iter().map(|publish| publish.start);
        let ends = self.publish.iter().map(|publish| publish.end);
        let rest = (self.duration / 2, self.duration);
        let (from, until) = starts.min().zip(ends.max()).unwrap_or(rest);
        from..until
    }

    /// When faults end, as far as they do within its time.
    pub(crate) fn ends(&self) -> impl Iterator<Item = Duration> {
        let ends = self.fault.iter().filter_map(|fault| fault.times().1);
        ends.filter(|end| *end < self.duration)
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// See [`ScenarioError`].
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text).map_err(Box::new)?;
        scenario.check()?;
        Ok(scenario)
    }
}

/// The scenarios in a folder, and in those within it, in order.
///
/// # Errors
/// As the system has them.
pub fn files(folder: &File) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(self::files(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests;
