//! What became of the deliveries that were due.
//!
//! Due is each item that an honest node's user handed in, whether the node took it or not, to each other honest node; as far as both ran from
//! then on for as long as a delivery may take (`must.within`), and the run lasted as long. A delivery that never happened counts as one that
//! takes for ever: a percentile is one of all that were due, not of those that came.

use std::{collections::BTreeSet, fmt, time::Duration};

use serde::Serialize;

use crate::{
    executor::Node,
    run::Span,
    scenario::{Kind, Must},
    spread::{Spread, seconds},
};

/// Who was there, and when: from that follows what is due.
pub(crate) struct Due<'a> {
    pub(crate) must: &'a Must,
    pub(crate) duration: Duration,
    /// When each node ran.
    pub(crate) ran: &'a [Vec<Span>],
    pub(crate) liars: &'a BTreeSet<Node>,
}

impl Due<'_> {
    /// Whether an item is judged: its publisher is honest, and ran as long as its deliveries may take.
    pub(crate) fn judges(&self, item: &Spread) -> bool {
        let until = item.at + self.must.within(item.kind);
        let lies = self.liars.contains(&item.by);
        until <= self.duration && !lies && self.ran_between(item.by, item.at, until)
    }

    /// To whom an item is due.
    pub(crate) fn nodes(&self, item: &Spread) -> Vec<Node> {
        if !self.judges(item) {
            return Vec::new();
        }
        let until = item.at + self.must.within(item.kind);
        let others = (0..self.ran.len()).filter(|node| *node != item.by);
        others
            .filter(|node| !self.liars.contains(node) && self.ran_between(*node, item.at, until))
            .collect()
    }

    /// Whether one life of a node lasted from here to there.
    pub(crate) fn ran_between(&self, node: Node, from: Duration, until: Duration) -> bool {
        let spans = self.ran.get(node).map(Vec::as_slice).unwrap_or_default();
        let covers = |(begin, end): &Span| *begin <= from && end.is_none_or(|end| end >= until);
        spans.iter().any(covers)
    }
}

/// What became of the items of one kind, or of all.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Deliveries {
    /// Items of honest nodes that have answered, or ran on for as long as a delivery may take and should have.
    pub items: u64,
    /// Those of them that their nodes took.
    pub taken: u64,
    /// Deliveries that should happen.
    pub due: u64,
    /// Those that did in time.
    pub in_time: u64,
    /// Those that never did.
    pub missing: u64,
    /// Deliveries due of items that their nodes took.
    pub promised: u64,
    /// Those of them that happened in time.
    pub kept: u64,
    /// How long all that happened took, in order.
    #[serde(skip)]
    latencies: Vec<Duration>,
    /// The most links that one of them went over.
    pub hops: usize,
    /// Deliveries to honest nodes, due or not.
    pub came: u64,
    /// Bytes of items that these brought.
    pub useful: u64,
    /// Half of those due were there, in seconds; nothing where they were not.
    #[serde(serialize_with = "seconds_or_none")]
    pub p50: Option<Duration>,
    /// The same of nine tenths.
    #[serde(serialize_with = "seconds_or_none")]
    pub p90: Option<Duration>,
    /// The same of ninety-nine hundredths.
    #[serde(serialize_with = "seconds_or_none")]
    pub p99: Option<Duration>,
    /// The same of all.
    #[serde(serialize_with = "seconds_or_none")]
    pub last: Option<Duration>,
    /// After how long each item had come to 95 of 100 to whom it is due, in order; the longest of all times where it never had.
    #[serde(skip)]
    to_most: Vec<Duration>,
    /// Nine tenths of the items had by then, in seconds; nothing where they had not.
    #[serde(serialize_with = "seconds_or_none")]
    pub p90_to_most: Option<Duration>,
}

/// Most of those to whom an item is due.
const MOST: f64 = 0.95;
const NEVER: Duration = Duration::MAX;

fn seconds_or_none<S: serde::Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => seconds(duration, serializer),
        None => serializer.serialize_none(),
    }
}

/// After how long a part of what was due was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantile {
    /// So long.
    After(Duration),
    /// Less than that part ever came.
    NotDelivered,
    /// Nothing was due.
    NothingDue,
}

impl fmt::Display for Quantile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After(duration) => write!(f, "{duration:?}"),
            Self::NotDelivered => f.write_str("not delivered"),
            Self::NothingDue => f.write_str("nothing was due"),
        }
    }
}

impl Deliveries {
    /// Of items whose deliveries are marked as due or missing: those of one kind, or all.
    pub(crate) fn of(items: &[Spread], kind: Option<Kind>, due: &Due<'_>) -> Self {
        let mut deliveries = Self::default();
        let wanted = items
            .iter()
            .filter(|item| kind.is_none_or(|kind| kind == item.kind));
        for item in wanted.filter(|item| !due.liars.contains(&item.by)) {
            deliveries.add(item, due);
        }
        deliveries.latencies.sort_unstable();
        deliveries.to_most.sort_unstable();
        let p90_to_most = deliveries.to_most.get(place(deliveries.to_most.len(), 0.9));
        let [p50, p90, p99, last] =
            [0.5, 0.9, 0.99, 1.0].map(|part| match deliveries.quantile(part) {
                Quantile::After(duration) => Some(duration),
                Quantile::NotDelivered | Quantile::NothingDue => None,
            });
        Self {
            p50,
            p90,
            p99,
            last,
            p90_to_most: p90_to_most.copied().filter(|took| *took != NEVER),
            ..deliveries
        }
    }

    fn add(&mut self, item: &Spread, due: &Due<'_>) {
        let promises = u64::from(item.taken == Some(true));
        if item.taken.is_some() || due.judges(item) {
            self.items += 1;
            self.taken += promises;
        }
        self.missing += count(item.missing.len());
        self.due += count(item.missing.len());
        self.promised += promises * count(item.missing.len());
        let mut all_took = vec![NEVER; item.missing.len()];
        for (node, arrival) in &item.came {
            if due.liars.contains(node) {
                continue;
            }
            self.came += 1;
            self.useful += count(item.bytes);
            if arrival.due {
                let took = arrival.at.saturating_sub(item.at);
                let in_time = u64::from(took <= due.must.within(item.kind));
                self.due += 1;
                self.in_time += in_time;
                self.promised += promises;
                self.kept += promises * in_time;
                self.hops = self.hops.max(arrival.hops);
                self.latencies.push(took);
                all_took.push(took);
            }
        }
        all_took.sort_unstable();
        self.to_most
            .extend(all_took.get(place(all_took.len(), MOST)));
    }

    /// After how long this part of those due was there.
    pub fn quantile(&self, part: f64) -> Quantile {
        if self.due == 0 {
            return Quantile::NothingDue;
        }
        let due = usize::try_from(self.due).unwrap_or(usize::MAX);
        let found = self.latencies.get(place(due, part)).copied();
        found.map_or(Quantile::NotDelivered, Quantile::After)
    }
}

/// The place of the last of this part of so many.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index"
)]
fn place(all: usize, part: f64) -> usize {
    ((all as f64 * part).ceil() as usize).saturating_sub(1)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
