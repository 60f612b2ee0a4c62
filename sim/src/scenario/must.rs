//! What must hold.

use std::time::Duration;

use serde::Deserialize;

use super::Kind;

/// What must hold at the end. Honest nodes are all that are no liars; what is due is said in [`crate::deliveries`].
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Must {
    /// The part of the deliveries due that happen in time.
    pub delivered: Option<f64>,
    /// What is in time. **Default:** 10 s.
    #[serde(with = "humantime_serde")]
    pub within: Duration,
    /// The longest time after which nine tenths of the deliveries due have happened.
    #[serde(with = "humantime_serde")]
    pub p90: Option<Duration>,
    /// The same of 99 of 100.
    #[serde(with = "humantime_serde")]
    pub p99: Option<Duration>,
    /// The same of all.
    #[serde(with = "humantime_serde")]
    pub last: Option<Duration>,
    /// The longest time after which nine tenths of the items have come to 95 of 100 nodes to which they are due.
    #[serde(with = "humantime_serde")]
    pub p90_to_most: Option<Duration>,
    /// The most hops of a delivery that is due; one that never happened went over more.
    pub max_hops: Option<usize>,
    /// The part of items that their own nodes take. **Default:** all.
    pub taken: f64,
    /// The part of the deliveries due of items that their nodes took, which happen in time: for scenarios in which some are not taken.
    pub kept: Option<f64>,
    /// What transactions must keep, beside what all must.
    pub transaction: Option<Limits>,
    /// The same of blocks.
    pub block: Option<Limits>,
    /// The same of votes.
    pub vote: Option<Limits>,
    /// The most bytes on all lines, for each byte of an item that came to an honest node.
    pub bytes_per_useful_byte: Option<f64>,
    /// The most bytes on all lines, for each item that came to an honest node.
    pub bytes_per_delivery: Option<f64>,
    /// The fewest peers that an honest running node has at the end.
    pub min_peers: Option<usize>,
    /// The fewest honest peers that such a node has then.
    pub min_honest_peers: Option<usize>,
    /// How soon each honest node has peers, at each start.
    pub peers: Option<PeersBy>,
    /// How soon after each fault's end the network is one again, at one end of which at least it must have been apart ([`crate::healing`]).
    #[serde(with = "humantime_serde")]
    pub whole: Option<Duration>,
    /// The part of liars that some honest node has banned.
    pub liars_banned: Option<f64>,
    /// The lowest score that an honest node may ever have with an honest one; 0 is neutral.
    pub min_honest_score: Option<f64>,
    /// The most memory that the process takes, in MiB. It is measured, and no part of the hash.
    pub max_memory_mib: Option<u64>,
    /// Whether honest nodes may be banned by honest ones. **Default:** no.
    pub honest_may_be_banned: bool,
}

/// What items of one kind must keep.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// As for all.
    pub delivered: Option<f64>,
    /// As for all.
    pub kept: Option<f64>,
    /// What is in time. **Default:** as for all.
    #[serde(with = "humantime_serde")]
    pub within: Option<Duration>,
    /// As for all.
    #[serde(with = "humantime_serde")]
    pub p90: Option<Duration>,
    /// As for all.
    #[serde(with = "humantime_serde")]
    pub p99: Option<Duration>,
    /// As for all.
    #[serde(with = "humantime_serde")]
    pub last: Option<Duration>,
    /// As for all.
    #[serde(with = "humantime_serde")]
    pub p90_to_most: Option<Duration>,
    /// As for all.
    pub max_hops: Option<usize>,
}

/// So many peers, so soon.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeersBy {
    /// How many.
    pub count: usize,
    /// How soon after a node's start.
    #[serde(with = "humantime_serde")]
    pub within: Duration,
}

impl Default for Must {
    fn default() -> Self {
        Self {
            delivered: None,
            within: Duration::from_secs(10),
            p90: None,
            p99: None,
            last: None,
            p90_to_most: None,
            max_hops: None,
            taken: 1.0,
            kept: None,
            transaction: None,
            block: None,
            vote: None,
            bytes_per_useful_byte: None,
            bytes_per_delivery: None,
            min_peers: None,
            min_honest_peers: None,
            peers: None,
            whole: None,
            liars_banned: None,
            min_honest_score: None,
            max_memory_mib: None,
            honest_may_be_banned: false,
        }
    }
}

impl Must {
    /// What items of all kinds together must keep.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            delivered: self.delivered,
            kept: self.kept,
            within: Some(self.within),
            p90: self.p90,
            p99: self.p99,
            last: self.last,
            p90_to_most: self.p90_to_most,
            max_hops: self.max_hops,
        }
    }

    /// What those of one kind must keep, where that is said.
    pub(crate) fn of(&self, kind: Kind) -> Option<&Limits> {
        match kind {
            Kind::Transaction => self.transaction.as_ref(),
            Kind::Block => self.block.as_ref(),
            Kind::Vote => self.vote.as_ref(),
        }
    }

    /// Whether something is asked of the deliveries of this kind.
    pub(crate) fn asks_of(&self, kind: Kind) -> bool {
        let of_kind = self.of(kind).is_some_and(|limits| !limits.is_empty());
        of_kind || !self.limits().is_empty()
    }

    /// What is in time for this kind.
    pub(crate) fn within(&self, kind: Kind) -> Duration {
        let own = self.of(kind).and_then(|limits| limits.within);
        own.unwrap_or(self.within)
    }
}

impl Limits {
    /// Whether nothing is asked; what is in time alone asks for nothing.
    pub(crate) fn is_empty(&self) -> bool {
        let asks = self.delivered.is_some() || self.kept.is_some() || self.max_hops.is_some();
        let times = [self.p90, self.p99, self.last, self.p90_to_most];
        !asks && times.iter().all(Option::is_none)
    }
}
