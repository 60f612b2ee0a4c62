//! How far sync is, for people.

use std::{collections::VecDeque, time::Duration};

use super::SyncPhase;
use crate::{chain::BlockPlace, platform::Instant, sync::snapshots};

/// How often it is told.
const EVERY: Duration = Duration::from_millis(250);
/// Over how many tellings the rate is taken.
const SAMPLES: usize = 20;

/// How far a node's chain is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SyncStatus {
    /// Whether it is as far as its peers'.
    pub phase: SyncPhase,
    /// The chain's last block.
    pub tip: BlockPlace,
    /// The lowest height from which on blocks are served.
    pub base: u64,
    /// The height that is being synced to, as a peer says; `None` while no chain of peers is being followed.
    pub target: Option<u64>,
    /// Blocks a second, of late.
    pub rate: f64,
    /// Peers that say which blocks they have.
    pub peers: usize,
    /// Those of them that are asked for blocks now.
    pub sources: usize,
    /// The snapshot that is being fetched, and how far it is.
    pub snapshot: Option<snapshots::Progress>,
    /// Why it does not go on, if it does not, for a person.
    pub trouble: Option<String>,
}

impl SyncStatus {
    /// Blocks that are missing, as far as peers say so.
    pub fn remaining(&self) -> u64 {
        let target = self.target.unwrap_or(self.tip.height);
        target.saturating_sub(self.tip.height)
    }

    /// When the rest will be here, if it goes on like that. `None`: nobody can say.
    pub fn eta(&self) -> Option<Duration> {
        let left = self.remaining() as f64 / self.rate;
        (self.rate > 0.0)
            .then(|| Duration::try_from_secs_f64(left).ok())
            .flatten()
    }
}

/// The rate, and when it is told.
#[derive(Debug, Default)]
pub(super) struct Progress {
    samples: VecDeque<(Instant, u64)>,
    told_at: Option<Instant>,
}

impl Progress {
    /// Nothing is being synced.
    pub(super) fn rest(&mut self) {
        *self = Self::default();
    }

    /// The chain is at this height. Whether it is time to tell.
    pub(super) fn at(&mut self, height: u64, now: Instant) -> bool {
        if self.told_at.is_some_and(|at| now < at + EVERY) {
            return false;
        }
        self.told_at = Some(now);
        self.samples.push_back((now, height));
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
        true
    }

    /// Blocks a second.
    pub(super) fn rate(&self) -> f64 {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else {
            return 0.0;
        };
        let took = last.0.saturating_duration_since(first.0).as_secs_f64();
        if took > 0.0 {
            last.1.saturating_sub(first.1) as f64 / took
        } else {
            0.0
        }
    }
}
