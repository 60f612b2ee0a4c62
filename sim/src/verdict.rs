//! What must hold, and whether it does.

use std::{collections::BTreeSet, time::Duration};

use serde::Serialize;

use crate::{executor::Node, report::NodeReport, run::Span, scenario::Scenario, spread::Spread};

/// One thing that must hold.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Its name in the scenario.
    pub what: &'static str,
    /// What must be.
    pub wanted: String,
    /// What is.
    pub found: String,
    /// Whether that is enough.
    pub holds: bool,
}

/// What a run has shown.
pub(crate) struct Seen<'a> {
    pub(crate) nodes: &'a [NodeReport],
    pub(crate) items: &'a [Spread],
    pub(crate) bans: &'a BTreeSet<(Node, Node)>,
    pub(crate) odd: &'a [String],
    pub(crate) memory: u64,
}

/// All that the scenario asks for, and what every run must keep.
pub(crate) fn of(scenario: &Scenario, ran: &[Vec<Span>], seen: &Seen<'_>) -> Vec<Verdict> {
    let must = &scenario.must;
    let spreading = Spreading::of(scenario, ran, seen);
    let mut verdicts = Vec::new();
    let mut judge = |what, wanted: String, found: String, holds| {
        verdicts.push(Verdict {
            what,
            wanted,
            found,
            holds,
        });
    };
    if let Some(part) = must.delivered {
        let found = ratio(spreading.in_time, spreading.due);
        judge(
            "delivered",
            format!("{:.2}% within {:?}", part * 100.0, must.within),
            format!(
                "{:.3}%: {} of {}",
                found * 100.0,
                spreading.in_time,
                spreading.due
            ),
            spreading.due > 0 && found >= part,
        );
    }
    if let Some(most) = must.p99 {
        let found = spreading.quantile(0.99);
        let holds = found.is_some_and(|found| found <= most);
        judge(
            "p99",
            format!("at most {most:?}"),
            format!("{:?}", found.unwrap_or_default()),
            holds,
        );
    }
    if let Some(most) = must.max_hops {
        let found = spreading.hops;
        judge(
            "max_hops",
            format!("at most {most}"),
            found.to_string(),
            found <= most,
        );
    }
    if let Some(most) = must.bytes_per_useful_byte {
        let sent: u64 = seen.nodes.iter().map(|node| node.sent).sum();
        let found = ratio(sent, spreading.useful);
        let holds = spreading.useful > 0 && found <= most;
        judge(
            "bytes_per_useful_byte",
            format!("at most {most}"),
            format!("{found:.2}"),
            holds,
        );
    }
    if let Some(fewest) = must.min_peers {
        let honest = seen.nodes.iter().filter(|node| node.runs && !node.lies);
        let found = honest.map(|node| node.peers).min().unwrap_or(0);
        judge(
            "min_peers",
            format!("at least {fewest}"),
            found.to_string(),
            found >= fewest,
        );
    }
    let lies = |node: &Node| seen.nodes.get(*node).is_some_and(|node| node.lies);
    let honest_bans = || seen.bans.iter().filter(|(by, _)| !lies(by));
    if let Some(part) = must.liars_banned {
        let liars = seen.nodes.iter().filter(|node| node.lies).count();
        let banned: BTreeSet<_> = honest_bans()
            .map(|(_, whom)| whom)
            .filter(|whom| lies(whom))
            .collect();
        let (banned, liars) = (count(banned.len()), count(liars));
        let holds = ratio(banned, liars) >= part;
        judge(
            "liars_banned",
            format!("{:.0}%", part * 100.0),
            format!("{banned} of {liars}"),
            holds,
        );
    }
    if let Some(most) = must.max_memory_mib {
        let found = seen.memory >> 20;
        judge(
            "max_memory_mib",
            format!("at most {most}"),
            found.to_string(),
            found <= most,
        );
    }
    if !must.honest_may_be_banned {
        let banned: Vec<_> = honest_bans().filter(|(_, whom)| !lies(whom)).collect();
        judge(
            "honest_may_be_banned",
            "none".to_owned(),
            format!("{} {banned:?}", banned.len()),
            banned.is_empty(),
        );
    }
    judge(
        "once_and_known",
        "no oddity".to_owned(),
        first_of(seen.odd),
        seen.odd.is_empty(),
    );
    verdicts
}

fn first_of(odd: &[String]) -> String {
    odd.first().map_or("none".to_owned(), |first| {
        format!("{}, first: {first}", odd.len())
    })
}

/// The honest items' way to honest nodes.
#[derive(Debug, Default)]
pub struct Spreading {
    /// Deliveries that should happen in time.
    pub due: u64,
    /// Those that did.
    pub in_time: u64,
    /// How long all took, in order.
    pub latencies: Vec<Duration>,
    /// The most links that one went over.
    pub hops: usize,
    /// Bytes of items that came to nodes.
    pub useful: u64,
}

impl Spreading {
    fn of(scenario: &Scenario, ran: &[Vec<Span>], seen: &Seen<'_>) -> Self {
        let mut spreading = Self::default();
        let within = scenario.must.within;
        let ran_between = |node: Node, from: Duration, until: Duration| {
            let spans = ran.get(node).map(Vec::as_slice).unwrap_or_default();
            let covers = |(begin, end): &Span| *begin <= from && end.is_none_or(|end| end >= until);
            spans.iter().any(covers)
        };
        let honest = |node: Node| seen.nodes.get(node).is_some_and(|node| !node.lies);
        for item in seen.items.iter().filter(|item| honest(item.by)) {
            spreading.add(item, &honest);
            let until = item.at + within;
            if until > scenario.duration || !ran_between(item.by, item.at, until) {
                continue;
            }
            for node in (0..scenario.nodes).filter(|node| *node != item.by && honest(*node)) {
                if !ran_between(node, item.at, until) {
                    continue;
                }
                spreading.due += 1;
                let came = item.came.get(&node);
                spreading.in_time += u64::from(came.is_some_and(|came| came.at <= until));
            }
        }
        spreading.latencies.sort_unstable();
        spreading
    }

    fn add(&mut self, item: &Spread, honest: &impl Fn(Node) -> bool) {
        for (_, came) in item.came.iter().filter(|(node, _)| honest(**node)) {
            self.latencies.push(came.at.saturating_sub(item.at));
            self.hops = self.hops.max(came.hops);
            self.useful += count(item.bytes);
        }
    }

    /// So long took this part of the deliveries, at most.
    fn quantile(&self, part: f64) -> Option<Duration> {
        quantile(&self.latencies, part)
    }
}

/// Of durations in order, the one below which this part of them is.
pub fn quantile(ordered: &[Duration], part: f64) -> Option<Duration> {
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index"
    )]
    let index = (ordered.len() as f64 * part).ceil() as usize;
    ordered.get(index.saturating_sub(1)).copied()
}

#[allow(clippy::cast_precision_loss, reason = "a ratio for people")]
fn ratio(part: u64, all: u64) -> f64 {
    if all == 0 {
        0.0
    } else {
        part as f64 / all as f64
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
