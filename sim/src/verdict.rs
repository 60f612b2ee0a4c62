//! What must hold, and whether it does.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    deliveries::{Deliveries, Due, Quantile},
    executor::Node,
    healing::Healing,
    peering::Life,
    report::NodeReport,
    scenario::{Kind, Limits, Must, Publish},
    spread::Spread,
};

/// One thing that must hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// Its name in the scenario.
    pub what: String,
    /// What must be.
    pub wanted: String,
    /// What is.
    pub found: String,
    /// Whether that is enough.
    pub holds: bool,
}

/// What a run has shown.
pub(crate) struct Seen<'a> {
    /// What should be published.
    pub(crate) publish: &'a [Publish],
    pub(crate) nodes: &'a [NodeReport],
    pub(crate) items: &'a [Spread],
    /// Of all items together.
    pub(crate) deliveries: &'a Deliveries,
    pub(crate) lives: &'a [Life],
    pub(crate) healing: Option<&'a Healing>,
    pub(crate) bans: &'a BTreeSet<(Node, Node)>,
    /// The lowest score that one has had with another.
    pub(crate) scores: &'a BTreeMap<(Node, Node), f64>,
    pub(crate) odd: &'a [String],
    pub(crate) memory: u64,
}

/// All that the scenario asks for, and what every run must keep.
pub(crate) fn of(due: &Due<'_>, seen: &Seen<'_>) -> Vec<Verdict> {
    let must = due.must;
    let mut verdicts = Verdicts::default();
    verdicts.publications(must, due, seen);
    verdicts.items(must, due, seen);
    verdicts.bytes(must, seen);
    verdicts.peers(must, due, seen);
    verdicts.whole(must, seen);
    verdicts.reputations(must, due, seen);
    if let Some(most) = must.max_memory_mib {
        verdicts.at_most("max_memory_mib", most, seen.memory >> 20);
    }
    verdicts.judge(
        "once_and_known",
        "no oddity",
        first_of(seen.odd),
        seen.odd.is_empty(),
    );
    verdicts.0
}

#[derive(Default)]
struct Verdicts(Vec<Verdict>);

impl Verdicts {
    fn judge(
        &mut self,
        what: impl Into<String>,
        wanted: impl Into<String>,
        found: impl Display,
        holds: bool,
    ) {
        self.0.push(Verdict {
            what: what.into(),
            wanted: wanted.into(),
            found: found.to_string(),
            holds,
        });
    }

    fn at_most<T: PartialOrd + Display>(&mut self, what: impl Into<String>, most: T, found: T) {
        let holds = found <= most;
        self.judge(what, format!("at most {most}"), found, holds);
    }

    /// What makes nothing that is judged shows nothing.
    fn publications(&mut self, must: &Must, due: &Due<'_>, seen: &Seen<'_>) {
        for (index, publish) in seen.publish.iter().enumerate() {
            let asks = must.asks_of(publish.kind);
            let (mut made, mut judged) = (0, 0);
            for item in seen.items {
                if item.publication == Some(index) {
                    let is_judged = due.judges(item) || !asks && item.taken.is_some();
                    made += 1;
                    judged += u64::from(is_judged);
                }
            }
            let found = format!("{judged} of {made} items");
            let wanted = "at least one item judged";
            self.judge(format!("publish[{index}]"), wanted, found, judged > 0);
        }
    }

    fn items(&mut self, must: &Must, due: &Due<'_>, seen: &Seen<'_>) {
        let all = seen.deliveries;
        if all.items > 0 {
            let found = format!("{} of {}", all.taken, all.items);
            let holds = ratio(all.taken, all.items) >= must.taken;
            self.judge("taken", percent(must.taken), found, holds);
        } else if !seen.publish.is_empty() {
            self.judge("answered", "at least one item", "none", false);
        }
        self.limits("", &must.limits(), &in_time(must), all);
        for kind in Kind::ALL {
            let Some(limits) = must.of(kind) else {
                continue;
            };
            let of_kind = Deliveries::of(seen.items, Some(kind), due);
            let prefix = format!("{}.", kind.name());
            let within = format!("within {:?}", must.within(kind));
            self.limits(&prefix, limits, &within, &of_kind);
        }
    }

    fn limits(&mut self, prefix: &str, limits: &Limits, within: &str, found: &Deliveries) {
        if limits.is_empty() {
            return;
        }
        // Where nothing was due nothing was shown, and that is no fault of deliveries.
        let mut nothing = |what: &str| {
            let what = format!("{prefix}{what}");
            self.judge(what, "at least one delivery", Quantile::NothingDue, false);
        };
        if found.due == 0 {
            return nothing("due");
        }
        if limits.kept.is_some() && found.promised == 0 {
            nothing("promised");
        }
        if let Some(part) = limits.delivered {
            let delivered = ratio(found.in_time, found.due);
            self.judge(
                format!("{prefix}delivered"),
                format!("{} {within}", percent(part)),
                format!(
                    "{:.3}%: {} of {}, {} never",
                    delivered * 100.0,
                    found.in_time,
                    found.due,
                    found.missing
                ),
                delivered >= part,
            );
        }
        if let Some(part) = limits.kept.filter(|_| found.promised > 0) {
            let (kept, promised) = (found.kept, found.promised);
            let found = ratio(kept, promised);
            self.judge(
                format!("{prefix}kept"),
                format!("{} {within}", percent(part)),
                format!("{:.3}%: {kept} of {promised}", found * 100.0),
                found >= part,
            );
        }
        let to_most = found.p90_to_most;
        for (name, quantile, most) in [
            ("p90", found.quantile(0.9), limits.p90),
            ("p99", found.quantile(0.99), limits.p99),
            ("last", found.quantile(1.0), limits.last),
            (
                "p90_to_most",
                to_most.map_or(Quantile::NotDelivered, Quantile::After),
                limits.p90_to_most,
            ),
        ] {
            let Some(most) = most else { continue };
            let holds = matches!(quantile, Quantile::After(took) if took <= most);
            let wanted = format!("at most {most:?}");
            self.judge(format!("{prefix}{name}"), wanted, quantile, holds);
        }
        if let Some(most) = limits.max_hops {
            let what = format!("{prefix}max_hops");
            if found.missing == 0 {
                self.at_most(what, most, found.hops);
            } else {
                let wanted = format!("at most {most}");
                self.judge(what, wanted, Quantile::NotDelivered, false);
            }
        }
    }

    fn bytes(&mut self, must: &Must, seen: &Seen<'_>) {
        let sent: u64 = seen.nodes.iter().map(|node| node.sent.line).sum();
        let mut limit = |what: &str, most: Option<f64>, of: u64| {
            let Some(most) = most else { return };
            let found = ratio(sent, of);
            let holds = of > 0 && found <= most;
            self.judge(
                what,
                format!("at most {most}"),
                format!("{found:.2}"),
                holds,
            );
        };
        let found = seen.deliveries;
        limit(
            "bytes_per_useful_byte",
            must.bytes_per_useful_byte,
            found.useful,
        );
        limit("bytes_per_delivery", must.bytes_per_delivery, found.came);
    }

    fn peers(&mut self, must: &Must, due: &Due<'_>, seen: &Seen<'_>) {
        type Peers = fn(&NodeReport) -> usize;
        let (all, honest): (Peers, Peers) = (|node| node.peers, |node| node.honest_peers);
        for (what, fewest, peers) in [
            ("min_peers", must.min_peers, all),
            ("min_honest_peers", must.min_honest_peers, honest),
        ] {
            let Some(fewest) = fewest else { continue };
            let honest = seen.nodes.iter().filter(|node| node.runs && !node.lies);
            let found = honest.map(peers).min().unwrap_or(0);
            let wanted = format!("at least {fewest}");
            self.judge(what, wanted, found, found >= fewest);
        }
        if let Some(peers) = &must.peers {
            let wanted = format!("{} within {:?}", peers.count, peers.within);
            let judged = seen.lives.iter().filter(|life| {
                let until = life.from + peers.within;
                !due.liars.contains(&life.node)
                    && until <= due.duration
                    && due.ran_between(life.node, life.from, until)
            });
            let took: Vec<Option<Duration>> = judged
                .map(|life| Some(life.reached?.saturating_sub(life.from)))
                .collect();
            let in_time = |took: &&Option<Duration>| took.is_some_and(|took| took <= peers.within);
            let good = took.iter().filter(in_time).count();
            // `None` is the least of all.
            let slowest = if took.contains(&None) {
                None
            } else {
                took.iter().flatten().max()
            };
            let slowest = slowest.map_or("never".to_owned(), |slowest| format!("{slowest:?}"));
            let found = format!("{good} of {} starts, the slowest {slowest}", took.len());
            self.judge(
                "peers",
                wanted,
                found,
                !took.is_empty() && good == took.len(),
            );
        }
    }

    fn whole(&mut self, must: &Must, seen: &Seen<'_>) {
        let (Some(most), Some(healing)) = (must.whole, seen.healing) else {
            return;
        };
        let took = healing.took();
        let found = match took.iter().copied().collect::<Option<Vec<_>>>() {
            None => "it is apart still".to_owned(),
            Some(took) => took.into_iter().max().map_or_else(
                || "it was never apart".to_owned(),
                |slowest| format!("{slowest:?}"),
            ),
        };
        let is_soon = |took: &Option<Duration>| took.is_some_and(|took| took <= most);
        let holds = !took.is_empty() && took.iter().all(is_soon);
        self.judge("whole", format!("at most {most:?}"), found, holds);
    }

    fn reputations(&mut self, must: &Must, due: &Due<'_>, seen: &Seen<'_>) {
        let lies = |node: &Node| due.liars.contains(node);
        let honest_bans = || seen.bans.iter().filter(|(by, _)| !lies(by));
        if let Some(part) = must.liars_banned {
            let banned: BTreeSet<_> = honest_bans()
                .map(|(_, whom)| whom)
                .filter(|whom| lies(whom))
                .collect();
            let (banned, liars) = (count(banned.len()), count(due.liars.len()));
            let found = format!("{banned} of {liars}");
            let holds = ratio(banned, liars) >= part;
            self.judge("liars_banned", percent(part), found, holds);
        }
        if !must.honest_may_be_banned {
            let banned: Vec<_> = honest_bans().filter(|(_, whom)| !lies(whom)).collect();
            let found = format!("{} {banned:?}", banned.len());
            self.judge("honest_may_be_banned", "none", found, banned.is_empty());
        }
        if let Some(fewest) = must.min_honest_score {
            let honest = seen
                .scores
                .iter()
                .filter(|((by, whom), _)| !lies(by) && !lies(whom));
            let lowest = honest.min_by(|(_, one), (_, other)| one.total_cmp(other));
            let found = lowest.map_or("none was scored".to_owned(), |((by, whom), score)| {
                format!("{score:.1}, of node {whom} with node {by}")
            });
            let holds = lowest.is_none_or(|(_, score)| *score >= fewest);
            self.judge(
                "min_honest_score",
                format!("at least {fewest}"),
                found,
                holds,
            );
        }
    }
}

/// What is in time, in words: for each kind that has a time of its own too.
fn in_time(must: &Must) -> String {
    let mut words = format!("within {:?}", must.within);
    for kind in Kind::ALL {
        let within = must.within(kind);
        if within != must.within {
            words.push_str(&format!(", {}s {within:?}", kind.name()));
        }
    }
    words
}

fn percent(part: f64) -> String {
    format!("{:.2}%", part * 100.0)
}

fn first_of(odd: &[String]) -> String {
    odd.first().map_or("none".to_owned(), |first| {
        format!("{}, first: {first}", odd.len())
    })
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

#[cfg(test)]
mod tests;
