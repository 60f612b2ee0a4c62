//! What goes wrong.

use std::time::Duration;

use serde::Deserialize;

use super::Nodes;

/// Something goes wrong.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// Processes end where they stand, and their hosts end their connections; they come again with what is on their disks: their keys.
    Crash {
        /// When.
        #[serde(with = "humantime_serde")]
        at: Duration,
        /// When they come again. **Default:** never.
        #[serde(default, with = "humantime_serde")]
        until: Option<Duration>,
        /// Which.
        nodes: Nodes,
        /// Whether the disks are lost too: they come again as somebody else, at the same address. **Default:** no.
        #[serde(default)]
        loses_disk: bool,
    },
    /// Hosts lose their power: nobody is told that a connection has ended, and nothing answers. Once they have power again, they
    /// know of none of their old connections and reset them as soon as something comes over them.
    PowerOff {
        /// When.
        #[serde(with = "humantime_serde")]
        at: Duration,
        /// When they have power and their processes start again. **Default:** never.
        #[serde(default, with = "humantime_serde")]
        until: Option<Duration>,
        /// Which.
        nodes: Nodes,
        /// As with a crash. **Default:** no.
        #[serde(default)]
        loses_disk: bool,
    },
    /// All that is sent to some nodes or by them is lost, and nobody is told; their processes run on.
    Blackhole {
        /// When.
        #[serde(with = "humantime_serde")]
        at: Duration,
        /// When it arrives again.
        #[serde(with = "humantime_serde")]
        until: Duration,
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
    /// The chain's code takes time: each check of a batch of items, and whatever else a node does off its task.
    SlowApplication {
        /// When.
        #[serde(with = "humantime_serde")]
        at: Duration,
        /// When it is as fast as everybody's again.
        #[serde(with = "humantime_serde")]
        until: Duration,
        /// Of which.
        nodes: Nodes,
        /// How long, instead of the scenario's `work_takes`.
        #[serde(with = "humantime_serde")]
        check: Duration,
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
    /// The date of hosts jumps; the clock by which time is measured does not.
    Skew {
        /// When.
        #[serde(with = "humantime_serde")]
        at: Duration,
        /// When it jumps back. **Default:** never.
        #[serde(default, with = "humantime_serde")]
        until: Option<Duration>,
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
            Self::Crash { at, until, .. }
            | Self::PowerOff { at, until, .. }
            | Self::NoInbound { at, until, .. }
            | Self::Skew { at, until, .. } => (*at, *until),
            Self::Partition { at, until, .. }
            | Self::Blackhole { at, until, .. }
            | Self::Cut { at, until, .. }
            | Self::SlowCpu { at, until, .. }
            | Self::SlowApplication { at, until, .. }
            | Self::Line { at, until, .. }
            | Self::Liars { at, until, .. } => (*at, Some(*until)),
            Self::Reset { at, .. } => (*at, None),
        }
    }

    /// Whom it names, with the field.
    pub(super) fn named(&self) -> Vec<(&'static str, &Nodes)> {
        match self {
            Self::Crash { nodes, .. }
            | Self::PowerOff { nodes, .. }
            | Self::Blackhole { nodes, .. }
            | Self::Reset { nodes, .. }
            | Self::SlowApplication { nodes, .. }
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
