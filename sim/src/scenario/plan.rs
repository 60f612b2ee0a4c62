//! Paths and lines.

use std::time::Duration;

use selkie_sim_host::Random;
use serde::Deserialize;

use super::{nodes::portion, world};
use crate::{
    executor::Node,
    net::{Line, Path},
};

/// How bytes get from one place to another.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkPlan {
    /// One way between any two hosts, where there are no regions.
    #[serde(with = "humantime_serde")]
    pub latency: Duration,
    /// Up to so much more, at random.
    #[serde(with = "humantime_serde")]
    pub jitter: Duration,
    /// The part of packets that is lost.
    pub loss: f64,
    /// Where hosts are, and how far these places are from each other, instead of `latency`.
    pub regions: Option<RegionPlan>,
}

/// Where hosts are.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RegionPlan {
    /// Nine regions of the earth, with the latencies between them (`world.rs`).
    World {},
    /// One's own.
    Own {
        /// The part of hosts in each.
        shares: Vec<f64>,
        /// Round trips in milliseconds, from each to each; as long one way as the other.
        round_trip_ms: Vec<Vec<f64>>,
    },
}

/// Another path between two hosts than between others, both ways.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathPlan {
    /// Which two.
    pub between: [Node; 2],
    /// One way. **Default:** at once.
    #[serde(default, with = "humantime_serde")]
    pub latency: Duration,
    /// Up to so much more, at random. **Default:** nothing.
    #[serde(default, with = "humantime_serde")]
    pub jitter: Duration,
    /// The part of packets that is lost. **Default:** none.
    #[serde(default)]
    pub loss: f64,
}

impl PathPlan {
    pub(crate) fn path(&self) -> Path {
        Path {
            latency: self.latency,
            jitter: self.jitter,
            loss: self.loss,
        }
    }
}

/// A kind of line.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LineClass {
    /// The part of hosts that have it.
    pub share: f64,
    /// Megabits a second outwards; 0 is without limit.
    pub up_mbit: f64,
    /// The same inwards.
    pub down_mbit: f64,
}

impl LineClass {
    pub(crate) fn line(&self) -> Line {
        Line {
            up: bytes_a_second(self.up_mbit),
            down: bytes_a_second(self.down_mbit),
        }
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked not to be negative, and a line of 2^64 bytes a second is none"
)]
pub(crate) fn bytes_a_second(megabits: f64) -> u64 {
    (megabits * 125_000.0) as u64
}

impl NetworkPlan {
    /// From each region to each.
    pub(crate) fn paths(&self) -> Vec<Vec<Path>> {
        let path = |round_trip_ms: f64| Path {
            latency: Duration::from_secs_f64(round_trip_ms / 2_000.0),
            jitter: self.jitter,
            loss: self.loss,
        };
        let matrix = |rows: Vec<Vec<f64>>| {
            let rows = rows.into_iter();
            rows.map(|row| row.into_iter().map(path).collect())
                .collect()
        };
        match &self.regions {
            None => vec![vec![Path {
                latency: self.latency,
                jitter: self.jitter,
                loss: self.loss,
            }]],
            Some(RegionPlan::World {}) => matrix(world::round_trip_ms()),
            Some(RegionPlan::Own { round_trip_ms, .. }) => matrix(round_trip_ms.clone()),
        }
    }

    /// The region of each node.
    pub(crate) fn places(&self, nodes: usize, random: &mut Random) -> Vec<usize> {
        let shares = match &self.regions {
            None => vec![1.0],
            Some(RegionPlan::World {}) => world::SHARES.to_vec(),
            Some(RegionPlan::Own { shares, .. }) => shares.clone(),
        };
        allot(nodes, &shares, random)
    }
}

/// Gives each of so many nodes one of these, as often as its share says.
pub(crate) fn allot(nodes: usize, shares: &[f64], random: &mut Random) -> Vec<usize> {
    let mut places = Vec::with_capacity(nodes);
    let (mut sum, total) = (0.0, shares.iter().sum::<f64>());
    for (index, share) in shares.iter().enumerate() {
        sum += share;
        places.resize(portion(nodes, sum / total).max(places.len()), index);
    }
    places.resize(nodes, shares.len().saturating_sub(1));
    random.shuffle(&mut places);
    places
}
