//! What came of a run, as data and as a page.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{
    deliveries::Deliveries,
    executor::Node,
    net::Sent,
    scenario::Kind,
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
    /// Whether randomness that a crate took from the kernel itself would have ended the run ([`crate::Simulation::traps_entropy`]).
    pub traps_entropy: bool,
    /// What must hold, and whether it does.
    pub verdicts: Vec<Verdict>,
    /// How long it was, in virtual seconds.
    #[serde(serialize_with = "seconds")]
    pub duration: Duration,
    /// What it cost.
    pub cost: Cost,
    /// What went over all lines.
    pub bytes: Bytes,
    /// Who knew whom at the beginning; the first dials.
    pub edges: Vec<Edge>,
    /// The nodes.
    pub nodes: Vec<NodeReport>,
    /// What became of all deliveries.
    pub deliveries: Deliveries,
    /// The same of each kind of which something was due.
    pub kinds: BTreeMap<Kind, Deliveries>,
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
    /// The part of it for what is measured ([`crate::Scenario::measured`]), and how long that was in virtual time.
    pub measured: Part,
    /// The most memory that the process had, in bytes.
    pub memory: u64,
    /// Polls of tasks.
    pub polls: u64,
}

/// A part of a run.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Part {
    /// CPU time.
    #[serde(serialize_with = "seconds")]
    pub cpu: Duration,
    /// Virtual time.
    #[serde(serialize_with = "seconds")]
    pub time: Duration,
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
    /// Those of them that are honest.
    pub honest_peers: usize,
    /// Networks of several addresses that it keeps out.
    pub banned_networks: usize,
    /// Bytes that it put on its line.
    pub sent: Sent,
    /// Those of them that its protocols wrote, before Noise and Yamux.
    pub streams: u64,
    /// When it ran, in seconds.
    pub ran: Vec<(f64, f64)>,
}

/// What went over all lines, by what it was. The parts are together the whole, but for what was still under way at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bytes {
    /// All of it.
    pub lines: u64,
    /// Packets' headers.
    pub headers: u64,
    /// What was sent again.
    pub again: u64,
    /// What Noise and Yamux add.
    pub framing: u64,
    /// Items of each kind, for each honest node to which they came once.
    pub items: BTreeMap<Kind, u64>,
    /// What else the protocols wrote: announcements, requests, what came twice, what liars got, connections' beginnings.
    pub rest: u64,
}

impl Bytes {
    pub(crate) fn of(nodes: &[NodeReport], kinds: &[(Kind, Deliveries)]) -> Self {
        let sum = |part: fn(&NodeReport) -> u64| nodes.iter().map(part).sum::<u64>();
        let lines = sum(|node| node.sent.line);
        let headers = sum(|node| node.sent.headers);
        let again = sum(|node| node.sent.again);
        let streams = sum(|node| node.streams);
        let items: BTreeMap<Kind, u64> = kinds
            .iter()
            .filter(|(_, found)| found.came > 0)
            .map(|(kind, found)| (*kind, found.useful))
            .collect();
        Self {
            lines,
            headers,
            again,
            framing: lines.saturating_sub(headers + again + streams),
            rest: streams.saturating_sub(items.values().sum()),
            items,
        }
    }
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
