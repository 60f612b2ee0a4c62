//! What came of a run, as data and as a page.

use std::time::Duration;

use serde::Serialize;

use crate::{
    executor::Node,
    spread::{Spread, seconds},
    topology::Edge,
    verdict::Verdict,
};

/// What came of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What the scenario is for.
    pub about: String,
    /// The seed.
    pub seed: u64,
    /// Of all that happened: the same in each run of the seed.
    pub hash: String,
    /// What must hold, and whether it does.
    pub verdicts: Vec<Verdict>,
    /// How long it was, in virtual seconds.
    #[serde(serialize_with = "seconds")]
    pub duration: Duration,
    /// What it cost.
    pub cost: Cost,
    /// Who knew whom at the beginning; the first dials.
    pub edges: Vec<Edge>,
    /// The nodes.
    pub nodes: Vec<NodeReport>,
    /// All items.
    pub items: Vec<Spread>,
    /// What nodes told, the items aside, and what was done to them.
    pub events: Vec<Event>,
    /// Events beyond those.
    pub events_left_out: u64,
    /// Items that a node did not take of its own user: the reasons.
    pub not_taken: Vec<String>,
    /// Deliveries that should not be.
    pub odd: Vec<String>,
}

/// What a run cost, which differs from run to run.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// CPU time.
    #[serde(serialize_with = "seconds")]
    pub cpu: Duration,
    /// The most memory that the process had, in bytes.
    pub memory: u64,
    /// Polls of tasks.
    pub polls: u64,
}

/// A node at the end.
#[derive(Clone, Debug, Serialize)]
pub struct NodeReport {
    /// Its id.
    pub peer: String,
    /// Whether it runs.
    pub runs: bool,
    /// Whether it is a liar.
    pub lies: bool,
    /// Its peers.
    pub peers: usize,
    /// Bytes that it put on its line.
    pub sent: u64,
    /// When it ran, in seconds.
    pub ran: Vec<(f64, f64)>,
}

/// Something happened at a node.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// When, in seconds.
    #[serde(serialize_with = "seconds")]
    pub at: Duration,
    /// Where.
    pub node: Node,
    /// What, in words.
    pub what: String,
}

/// A page around a report's JSON.
const PAGE: &str = include_str!("report.html");

impl Report {
    /// A page that shows it, and needs nothing else.
    ///
    /// # Errors
    /// As `serde_json`.
    pub fn html(&self) -> serde_json::Result<String> {
        // Nothing in it ends the script that holds it.
        let data = serde_json::to_string(self)?.replace("</", "<\\/");
        Ok(PAGE.replacen("\"DATA\"", &data, 1))
    }

    /// Whether all holds that must.
    pub fn holds(&self) -> bool {
        self.verdicts.iter().all(|verdict| verdict.holds)
    }
}
