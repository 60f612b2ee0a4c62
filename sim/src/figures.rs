//! What a run came to in a few figures, to set beside those of another.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{deliveries::Deliveries, report::Report, scenario::Kind};

/// What a run came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figures {
    /// Of each kind that was published.
    pub kinds: BTreeMap<Kind, KindFigures>,
    /// Bytes on all lines for each byte of an item that came to an honest node.
    pub bytes_per_useful_byte: f64,
    /// Virtual seconds a second of CPU, in the part of the run that is measured ([`crate::Scenario::measured`]).
    pub speed: f64,
    /// The most memory, in MiB.
    pub memory_mib: u64,
}

/// Items of one kind on their way to whom they are due.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KindFigures {
    /// The part of the deliveries due that happened.
    pub delivered: f64,
    /// After how many milliseconds half of those due had happened, 99 of 100, and all; nothing where they never did.
    pub milliseconds: [Option<f64>; 3],
    /// After how many milliseconds nine tenths of the items had come to 95 of 100 nodes.
    pub milliseconds_to_most: Option<f64>,
    /// The most links that one went over.
    pub hops: usize,
}

impl Figures {
    /// Those of a run.
    pub fn of(report: &Report) -> Self {
        let kinds = report.kinds.iter();
        Self {
            kinds: kinds
                .map(|(kind, found)| (*kind, KindFigures::of(found)))
                .collect(),
            bytes_per_useful_byte: ratio(report.bytes.lines, report.deliveries.useful),
            speed: {
                let part = report.cost.measured;
                part.time.as_secs_f64() / part.cpu.as_secs_f64().max(0.001)
            },
            memory_mib: report.cost.memory >> 20,
        }
    }

    /// Two runs side by side.
    pub fn beside(&self, name: &str, other: &Self, other_name: &str) -> String {
        let mut text = format!("{:<36}{name:>14}{other_name:>14}\n", "");
        let mut say = |what: &str, one: String, other: String| {
            let _ = writeln!(text, "{what:<36}{one:>14}{other:>14}");
        };
        for (kind, figures) in &self.kinds {
            let same = other.kinds.get(kind);
            let mut row = |what: &str, figure: &dyn Fn(&KindFigures) -> String| {
                let other = same.map_or("-".to_owned(), figure);
                say(&format!("{}s: {what}", kind.name()), figure(figures), other);
            };
            row("came", &|kind| format!("{:.2}%", kind.delivered * 100.0));
            for (place, what) in ["p50", "p99", "the last"].into_iter().enumerate() {
                row(what, &|kind| milliseconds(kind.milliseconds[place]));
            }
            row("links at most", &|kind| kind.hops.to_string());
        }
        let mut both = |what, figure: &dyn Fn(&Self) -> String| {
            say(what, figure(self), figure(other));
        };
        if !self.kinds.is_empty() {
            both("bytes a useful byte", &|run| {
                format!("{:.2}", run.bytes_per_useful_byte)
            });
        }
        both("virtual seconds a CPU second", &|run| {
            format!("{:.2}", run.speed)
        });
        both("MiB", &|run| run.memory_mib.to_string());
        text
    }
}

impl KindFigures {
    fn of(found: &Deliveries) -> Self {
        let milliseconds = |took: Option<Duration>| took.map(|took| took.as_secs_f64() * 1e3);
        Self {
            delivered: ratio(found.due - found.missing, found.due),
            milliseconds: [found.p50, found.p99, found.last].map(milliseconds),
            milliseconds_to_most: milliseconds(found.p90_to_most),
            hops: found.hops,
        }
    }
}

fn milliseconds(took: Option<f64>) -> String {
    took.map_or("never".to_owned(), |took| format!("{took:.0} ms"))
}

#[allow(clippy::cast_precision_loss, reason = "a ratio for people")]
fn ratio(part: u64, all: u64) -> f64 {
    part as f64 / all.max(1) as f64
}
