//! What goes wrong.

use std::time::Duration;

use serde::Deserialize;

use super::Nodes;

/// Something goes wrong.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// Processes end where they stand; they come again with the same key, and nothing else.
    Crash {
        /// When.
        #[serde(with = "humantime_serde")]
        at: Duration,
        /// When they come again. **Default:** never.
        #[serde(default, with = "humantime_serde")]
        until: Option<Duration>,
        /// Which.
        nodes: Nodes,
    },
    /// The network falls apart into groups of nodes with consecutive numbers.
    Partition {
        /// When.
        #[serde(with = "humantime_serde")]
        at: Duration,
        /// When it is whole again.
        #[serde(with = "humantime_serde")]
        until: Duration,
        /// How many groups.
        groups: usize,
    },
    /// From some nodes nothing comes to others; the other way it does.
    Cut {
        /// When.
        #[serde(with = "humantime_serde")]
        at: Duration,
        /// When it does again.
        #[serde(with = "humantime_serde")]
        until: Duration,
        /// From which.
        from: Nodes,
        /// To which.
        to: Nodes,
    },
    /// All connections of some nodes are reset.
    Reset {
        /// When.
        #[serde(with = "humantime_serde")]
        at: Duration,
        /// Of which.
        nodes: Nodes,
    },
    /// Every step of a node takes time.
    SlowCpu {
        /// When.
        #[serde(with = "humantime_serde")]
        at: Duration,
        /// When its steps take none again.
        #[serde(with = "humantime_serde")]
        until: Duration,
        /// Which.
        nodes: Nodes,
        /// How long one poll of one task takes.
        #[serde(with = "humantime_serde")]
        poll: Duration,
    },
    /// Hosts get another line.
    Line {
        /// When.
        #[serde(with = "humantime_serde")]
        at: Duration,
        /// When they get their own again.
        #[serde(with = "humantime_serde")]
        until: Duration,
        /// Which.
        nodes: Nodes,
        /// Megabits a second outwards; 0 is without limit.
        up_mbit: f64,
        /// The same inwards.
        down_mbit: f64,
    },
    /// Hosts take no connections from outside, as behind a NAT.
    NoInbound {
        /// When.
        #[serde(with = "humantime_serde")]
        at: Duration,
        /// When they do again. **Default:** never.
        #[serde(default, with = "humantime_serde")]
        until: Option<Duration>,
        /// Which.
        nodes: Nodes,
    },
    /// The date of hosts jumps.
    Skew {
        /// When.
        #[serde(with = "humantime_serde")]
        at: Duration,
        /// Which.
        nodes: Nodes,
        /// Forwards, or backwards where negative.
        seconds: f64,
    },
    /// Nodes whose own chain accepts everything publish transactions that no other accepts.
    Liars {
        /// From when on; they are liars from the beginning.
        #[serde(with = "humantime_serde")]
        at: Duration,
        /// Until when.
        #[serde(with = "humantime_serde")]
        until: Duration,
        /// Which.
        nodes: Nodes,
        /// How many each of them a second.
        per_second: f64,
        /// Their size.
        bytes: usize,
    },
}

impl Fault {
    /// From when until when.
    pub fn times(&self) -> (Duration, Option<Duration>) {
        match self {
            Self::Crash { at, until, .. } | Self::NoInbound { at, until, .. } => (*at, *until),
            Self::Partition { at, until, .. }
            | Self::Cut { at, until, .. }
            | Self::SlowCpu { at, until, .. }
            | Self::Line { at, until, .. }
            | Self::Liars { at, until, .. } => (*at, Some(*until)),
            Self::Reset { at, .. } | Self::Skew { at, .. } => (*at, None),
        }
    }

    /// Whom it names, with the field.
    pub(super) fn named(&self) -> Vec<(&'static str, &Nodes)> {
        match self {
            Self::Crash { nodes, .. }
            | Self::Reset { nodes, .. }
            | Self::SlowCpu { nodes, .. }
            | Self::Line { nodes, .. }
            | Self::NoInbound { nodes, .. }
            | Self::Skew { nodes, .. }
            | Self::Liars { nodes, .. } => vec![("nodes", nodes)],
            Self::Cut { from, to, .. } => vec![("from", from), ("to", to)],
            Self::Partition { .. } => Vec::new(),
        }
    }
}
