//! What can't be, with the field and the value.

use std::time::Duration;

use super::{Attack, Attackers, Fault, Kind, Limits, Nodes, RegionPlan, Scenario, ScenarioError};
use crate::net::Path;

/// The most nodes.
const MAX_NODES: usize = 10_000;
/// The longest time, virtual.
const MAX_DURATION: Duration = Duration::from_secs(7 * 24 * 3600);
/// The most items a second, and of one publication: each is planned at the beginning.
const MAX_RATE: f64 = 100_000.0;
const MAX_ITEMS: f64 = 1_000_000.0;
/// The slowest line, in megabits a second. What is less would come to no bytes at all.
const MIN_MEGABITS: f64 = 0.001;
/// The longest that a step of a node's work may take.
const MAX_WORK: Duration = Duration::from_secs(60);

/// The longest that bytes may be on their way.
const LONGEST_PATH: Duration = Duration::from_secs(60);
/// How often somebody may start anew.
const SHORTEST: Duration = Duration::from_millis(100);

type Checked = Result<(), ScenarioError>;

impl Scenario {
    /// Whether all of it can be.
    ///
    /// # Errors
    /// [`ScenarioError::Value`]: the first field that can't.
    pub fn check(&self) -> Checked {
        hold("nodes", (2..=MAX_NODES).contains(&self.nodes), || {
            format!("{} is not from 2 to {MAX_NODES}", self.nodes)
        })?;
        hold(
            "duration",
            !self.duration.is_zero() && self.duration <= MAX_DURATION,
            || format!("{:?} is not from 1 ns to 7 days", self.duration),
        )?;
        hold("start", self.start < self.duration, || {
            format!(
                "{:?} is not within the duration ({:?})",
                self.start, self.duration
            )
        })?;
        hold("work_takes", self.work_takes <= MAX_WORK, || {
            format!("{:?} is over a minute", self.work_takes)
        })?;
        if let Some((field, why)) = self.topology.fault(self.nodes) {
            return Err(value(format!("topology.{field}"), why));
        }
        self.check_network()?;
        self.check_publications()?;
        for (index, fault) in self.fault.iter().enumerate() {
            self.check_fault(&format!("fault[{index}]"), fault)?;
        }
        for (index, attackers) in self.attacker.iter().enumerate() {
            self.check_attackers(&format!("attacker[{index}]"), attackers)?;
        }
        self.check_musts()?;
        let config = self.config.check();
        config.map_err(|error| value("config".to_owned(), error.to_string()))
    }

    fn check_network(&self) -> Checked {
        part("network.loss", self.network.loss)?;
        if let Some(RegionPlan::Own {
            shares,
            round_trip_ms,
        }) = &self.network.regions
        {
            let field = "network.regions.own";
            shares_of(&format!("{field}.shares"), shares.iter().copied())?;
            let is_square = round_trip_ms.len() == shares.len()
                && round_trip_ms.iter().all(|row| row.len() == shares.len());
            hold(&format!("{field}.round_trip_ms"), is_square, || {
                format!(
                    "it is not {0} rows of {0}, one for each share",
                    shares.len()
                )
            })?;
            for each in round_trip_ms.iter().flatten() {
                not_negative(&format!("{field}.round_trip_ms"), *each)?;
            }
        }
        if !self.line.is_empty() {
            shares_of("line.share", self.line.iter().map(|class| class.share))?;
        }
        for (index, class) in self.line.iter().enumerate() {
            bandwidth(&format!("line[{index}].up_mbit"), class.up_mbit)?;
            bandwidth(&format!("line[{index}].down_mbit"), class.down_mbit)?;
        }
        let field = match self.network.regions {
            None => "network.latency",
            Some(_) => "network.regions",
        };
        for path in self.network.paths().iter().flatten() {
            path_is_short(field, path)?;
        }
        for (index, plan) in self.path.iter().enumerate() {
            let field = |name: &str| format!("path[{index}].{name}");
            let [one, other] = plan.between;
            let between = Nodes::These(plan.between.into());
            if let Some(why) = between.fault(self.all_nodes()) {
                return Err(value(field("between"), why));
            }
            hold(&field("between"), one != other, || {
                format!("{one} and {other} are one")
            })?;
            part(&field("loss"), plan.loss)?;
            path_is_short(&field("latency"), &plan.path())?;
        }
        Ok(())
    }

    fn check_publications(&self) -> Checked {
        for (index, publish) in self.publish.iter().enumerate() {
            let field = |name: &str| format!("publish[{index}].{name}");
            hold(
                &field("end"),
                publish.start < publish.end && publish.end <= self.duration,
                || {
                    format!(
                        "{:?} is not after the start ({:?}) and within the duration ({:?})",
                        publish.end, publish.start, self.duration
                    )
                },
            )?;
            let lasts = publish.end - publish.start;
            rate(&field("per_second"), publish.per_second, lasts)?;
            self.size(&field("bytes"), publish.bytes)?;
            if let Some(why) = publish.from.fault(self.nodes) {
                return Err(value(field("from"), why));
            }
            if let Some(known) = publish.known {
                part(&field("known"), known)?;
                hold(&field("known"), publish.kind == Kind::Block, || {
                    format!("{known} of an item that has no parts: blocks have some")
                })?;
            }
            let transaction = publish.transaction_bytes;
            self.size(&field("transaction_bytes"), transaction)?;
        }
        Ok(())
    }

    fn check_fault(&self, at: &str, fault: &Fault) -> Checked {
        let field = |name: &str| format!("{at}.{name}");
        let (begin, end) = fault.times();
        hold(&field("at"), begin < self.duration, || {
            format!("{begin:?} is not within the duration ({:?})", self.duration)
        })?;
        if let Some(end) = end {
            hold(&field("until"), begin < end, || {
                format!("{end:?} is not after its beginning ({begin:?})")
            })?;
        }
        for (name, nodes) in fault.named() {
            if let Some(why) = nodes.fault(self.nodes) {
                return Err(value(field(name), why));
            }
        }
        match fault {
            Fault::Partition { groups, .. } => {
                hold(&field("groups"), (2..=self.nodes).contains(groups), || {
                    format!("{groups} is not from 2 to {}", self.nodes)
                })
            }
            Fault::SlowCpu { poll, .. } => {
                hold(&field("poll"), *poll <= Duration::from_secs(1), || {
                    format!("{poll:?} is over a second")
                })
            }
            Fault::SlowApplication { check, .. } => {
                hold(&field("check"), *check <= MAX_WORK, || {
                    format!("{check:?} is over a minute")
                })
            }
            Fault::Line {
                up_mbit, down_mbit, ..
            } => {
                bandwidth(&field("up_mbit"), *up_mbit)?;
                bandwidth(&field("down_mbit"), *down_mbit)
            }
            Fault::Skew { seconds, .. } => hold(&field("seconds"), seconds.abs() < 1e9, || {
                format!("{seconds} is no jump of a date")
            }),
            Fault::Liars {
                at,
                until,
                per_second,
                bytes,
                ..
            } => {
                let lasts = until.min(&self.duration).saturating_sub(*at);
                rate(&field("per_second"), *per_second, lasts)?;
                self.size(&field("bytes"), *bytes)
            }
            _ => Ok(()),
        }
    }

    fn check_attackers(&self, at: &str, attackers: &Attackers) -> Checked {
        let field = |name: &str| format!("{at}.{name}");
        let (count, all) = (attackers.count, self.all_nodes());
        hold(&field("count"), count > 0 && all <= MAX_NODES, || {
            format!("{count} is not above 0, or makes {all} nodes of {MAX_NODES}")
        })?;
        if let Some(why) = attackers.dials.fault(self.nodes) {
            return Err(value(field("dials"), why));
        }
        hold(&field("links"), attackers.links > 0, || {
            "0: it reaches nobody".to_owned()
        })?;
        for (name, moment) in [("start", attackers.start), ("from", attackers.from)] {
            hold(&field(name), moment < self.duration, || {
                format!(
                    "{moment:?} is not within the duration ({:?})",
                    self.duration
                )
            })?;
        }
        match &attackers.does {
            Attack::Censor { whom } => {
                let fault = Nodes::These(whom.clone()).fault(self.nodes);
                fault.map_or(Ok(()), |why| Err(value(field("does.whom"), why)))
            }
            Attack::ReadSlowly { bytes_per_second } => {
                let fits = *bytes_per_second >= 1.0 && *bytes_per_second < 1e9;
                hold(&field("does.bytes_per_second"), fits, || {
                    format!("{bytes_per_second} is not from 1 to a thousand million")
                })
            }
            other => other.restarts_every().map_or(Ok(()), |every| {
                let fits = every >= SHORTEST && every <= self.duration;
                let name = match other {
                    Attack::SpoilChunks { .. } => "does.renames",
                    _ => "does.every",
                };
                hold(&field(name), fits, || {
                    format!(
                        "{every:?} is not from {SHORTEST:?} to the duration ({:?})",
                        self.duration
                    )
                })
            }),
        }
    }

    fn check_musts(&self) -> Checked {
        let must = &self.must;
        part("must.taken", must.taken)?;
        let limits = must.limits();
        parts("must", &limits)?;
        let is_shown = limits.is_empty() || !self.publish.is_empty();
        hold("must", is_shown, || {
            "nothing is published, of which that could hold".to_owned()
        })?;
        for kind in Kind::ALL {
            self.check_kind(kind)?;
        }
        if let Some(banned) = must.liars_banned {
            part("must.liars_banned", banned)?;
            let has_liars = self
                .fault
                .iter()
                .any(|fault| matches!(fault, Fault::Liars { .. }))
                || self
                    .attacker
                    .iter()
                    .any(|attackers| matches!(attackers.does, Attack::SpoilChunks { .. }));
            hold("must.liars_banned", has_liars, || {
                format!("{banned} of none: there are no liars")
            })?;
        }
        for (field, factor) in [
            ("must.bytes_per_useful_byte", must.bytes_per_useful_byte),
            ("must.bytes_per_delivery", must.bytes_per_delivery),
        ] {
            let factor = factor.unwrap_or(1.0);
            hold(field, factor >= 1.0, || format!("{factor} is below 1"))?;
        }
        for (field, peers, of) in [
            ("must.min_peers", must.min_peers, self.all_nodes()),
            ("must.min_honest_peers", must.min_honest_peers, self.nodes),
        ] {
            let others = of - 1;
            hold(field, peers.is_none_or(|peers| peers <= others), || {
                let peers = peers.unwrap_or_default();
                format!("{peers} is more than the {others} others")
            })?;
        }
        hold(
            "must.max_memory_mib",
            must.max_memory_mib != Some(0),
            || "0 MiB hold no run".to_owned(),
        )?;
        if let Some(peers) = &must.peers {
            let fits = (1..self.nodes).contains(&peers.count);
            hold("must.peers.count", fits, || {
                format!(
                    "{} is not from 1 to {}, the others",
                    peers.count,
                    self.nodes - 1
                )
            })?;
            within("must.peers.within", peers.within, self.duration)?;
        }
        if let Some(whole) = must.whole {
            let last = self.ends().max();
            hold("must.whole", last.is_some(), || {
                "no fault ends, after which it could be".to_owned()
            })?;
            let left = self.duration.saturating_sub(last.unwrap_or_default());
            within("must.whole", whole, left)?;
        }
        if let Some(score) = must.min_honest_score {
            hold("must.min_honest_score", score.is_finite(), || {
                format!("{score} is no score")
            })?;
        }
        Ok(())
    }

    /// What must hold of one kind, and that its deliveries have the time that they may take: else none is ever judged.
    fn check_kind(&self, kind: Kind) -> Checked {
        let (name, must) = (kind.name(), &self.must);
        let of_kind = || self.publish.iter().filter(|each| each.kind == kind);
        let own = must.of(kind);
        if let Some(limits) = own {
            let field = format!("must.{name}");
            parts(&field, limits)?;
            hold(&field, of_kind().next().is_some(), || {
                format!("no {name} is published, of which that could hold")
            })?;
        }
        let has_own = own.is_some_and(|limits| limits.within.is_some());
        if !has_own && !must.asks_of(kind) {
            return Ok(());
        }
        let field = if has_own {
            format!("must.{name}.within")
        } else {
            "must.within".to_owned()
        };
        for publish in of_kind() {
            let left = self.duration.saturating_sub(publish.start);
            within(&field, must.within(kind), left)?;
        }
        Ok(())
    }

    fn size(&self, field: &str, bytes: usize) -> Checked {
        let most = self.config.protocol.gossipsub_config.max_transmit_size;
        // Eight of them make each item another.
        hold(field, (16..=most).contains(&bytes), || {
            format!("{bytes} is not from 16 to {most}")
        })
    }
}

fn path_is_short(field: &str, path: &Path) -> Checked {
    let (latency, jitter) = (path.latency, path.jitter);
    hold(
        field,
        latency.saturating_add(jitter) <= LONGEST_PATH,
        || format!("{latency:?} one way, and up to {jitter:?} more, is over a minute"),
    )
}

fn value(field: String, why: String) -> ScenarioError {
    ScenarioError::Value { field, why }
}

fn hold(field: &str, holds: bool, why: impl FnOnce() -> String) -> Checked {
    if holds {
        Ok(())
    } else {
        Err(value(field.to_owned(), why()))
    }
}

fn part(field: &str, part: f64) -> Checked {
    hold(field, (0.0..=1.0).contains(&part), || {
        format!("{part} is not from 0 to 1")
    })
}

fn parts(field: &str, limits: &Limits) -> Checked {
    part(
        &format!("{field}.delivered"),
        limits.delivered.unwrap_or_default(),
    )?;
    part(&format!("{field}.kept"), limits.kept.unwrap_or_default())
}

/// What may take longer than the run still lasts is never judged.
fn within(field: &str, within: Duration, left: Duration) -> Checked {
    hold(field, !within.is_zero() && within <= left, || {
        format!("{within:?} is not from 1 ns to what is left of the run then ({left:?})")
    })
}

fn not_negative(field: &str, number: f64) -> Checked {
    let fits = (0.0..1e9).contains(&number);
    hold(field, fits, || {
        format!("{number} is not from 0 to a thousand million")
    })
}

/// Of a line; 0 is without limit.
fn bandwidth(field: &str, megabits: f64) -> Checked {
    not_negative(field, megabits)?;
    let fits = megabits == 0.0 || megabits >= MIN_MEGABITS;
    hold(field, fits, || {
        format!("{megabits} is neither 0, which is without limit, nor at least {MIN_MEGABITS}")
    })
}

fn rate(field: &str, per_second: f64, lasts: Duration) -> Checked {
    let fits = per_second > 0.0 && per_second <= MAX_RATE;
    hold(field, fits, || {
        format!("{per_second} is not above 0, and at most {MAX_RATE}")
    })?;
    let items = per_second * lasts.as_secs_f64();
    hold(field, items <= MAX_ITEMS, || {
        format!("{per_second} for {lasts:?} is more than {MAX_ITEMS} items")
    })
}

fn shares_of(field: &str, shares: impl Iterator<Item = f64>) -> Checked {
    let shares: Vec<f64> = shares.collect();
    for share in &shares {
        part(field, *share)?;
    }
    let sum: f64 = shares.iter().sum();
    hold(field, (sum - 1.0).abs() < 0.001, || {
        format!("{shares:?} are together {sum}, not 1")
    })
}
