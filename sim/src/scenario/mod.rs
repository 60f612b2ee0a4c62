//! What is simulated, as data: a TOML file says who is there, what happens, and what must hold.
//!
//! Every field has a unit in its name or is a duration as people write it (`"1m 30s"`). What a file says too much, or what can't
//! be, is an error that names the field and the value (`check.rs`).

mod check;
mod fault;
mod must;
mod nodes;
mod plan;
mod world;

use std::{path::Path as File, time::Duration};

use selkie::Config;
use serde::{Deserialize, Serialize};

pub(crate) use self::plan::{allot, bytes_a_second};
pub use self::{
    fault::Fault,
    must::{Limits, Must, PeersBy},
    nodes::Nodes,
    plan::{LineClass, NetworkPlan, RegionPlan},
};
use crate::topology::Topology;

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
    /// What lines hosts have. **Default:** without limit.
    #[serde(default)]
    pub line: Vec<LineClass>,
    /// Whether tasks that can go on take turns in random order. **Default:** first come, first served.
    #[serde(default)]
    pub shuffle: bool,
    /// How long work takes that a node does off its task. **Default:** 100 us.
    #[serde(default = "work_takes", with = "humantime_serde")]
    pub work_takes: Duration,
    /// What is published, and when.
    #[serde(default)]
    pub publish: Vec<Publish>,
    /// What goes wrong, and when.
    #[serde(default)]
    pub fault: Vec<Fault>,
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

#[cfg(test)]
mod tests;
