//! Which snapshot: whose offers are believed, and what becomes of one that came to nothing.

use std::collections::BTreeSet;

use libp2p::PeerId;

use super::{Action, Candidate, Download, Guess, NoSnapshot, Outcome, Pending, Settled, Stage};
use crate::{
    chain::{Snapshot, SnapshotId, SyncVerdict},
    peers::Misdeed,
    platform::Instant,
};

/// So many sources are enough to believe an offer before others.
const ENOUGH: usize = 3;
/// Snapshots that are remembered as rejected or of no use; of more, the latest.
const MAX_SETTLED: usize = 256;

impl Download {
    /// Chooses the next snapshot to look at, or gives up.
    pub(super) fn search(&mut self, now: Instant) {
        if !matches!(self.stage, Stage::Searching) || now < self.since + self.config.settle {
            return;
        }
        while let Some(id) = self.best(now) {
            let Some(candidate) = self.candidates.get(&id) else {
                return;
            };
            let snapshot = candidate.snapshot.clone();
            if candidate.is_final {
                self.actions.push_back(Action::Offer(snapshot.clone()));
                self.stage = Stage::Offering(Pending::new(snapshot));
                return;
            }
            match self.checkpoint(&snapshot) {
                None => {
                    self.actions.push_back(Action::CheckTrust(snapshot));
                    self.stage = Stage::Trusting(id);
                    return;
                }
                Some(true) => self.trusted(&id),
                Some(false) => self.untrue(&id),
            }
        }
        let waits = self.candidates.values().any(|it| it.again_at.is_some());
        let patience = if waits {
            self.config.trust
        } else {
            self.config.search
        };
        if now >= self.since + patience {
            let why = match &self.rejected {
                (rejected @ 1.., reason) => NoSnapshot::Rejected {
                    rejected: *rejected,
                    reason: reason.clone(),
                },
                _ if waits || self.settled.iter().any(|it| it.fault == Guess::Untrue) => {
                    NoSnapshot::Untrusted
                }
                _ if self.settled.iter().any(|it| it.fault == Guess::Unsent) => NoSnapshot::Unsent,
                _ => NoSnapshot::Nobody,
            };
            self.end(Outcome::Blocks(why));
        }
    }

    /// The best of those that can be looked at: the one that was begun, then undoubted sources (three are enough), then the height.
    pub(super) fn best(&self, now: Instant) -> Option<SnapshotId> {
        let rejected = |it: &&Settled| matches!(it.fault, Guess::Rejected | Guess::Unsent);
        let doubted: BTreeSet<_> = self
            .settled
            .iter()
            .filter(rejected)
            .flat_map(|it| &it.offerers)
            .collect();
        let rank = |(id, it): (&SnapshotId, &Candidate)| {
            let sources = it
                .offerers
                .iter()
                .filter(|peer| !doubted.contains(peer))
                .count();
            (
                self.begun == Some(*id),
                sources.min(ENOUGH),
                it.snapshot.height,
                sources,
                it.snapshot.format,
                *id,
            )
        };
        let least = self.height.saturating_add(self.config.min_gain);
        let is_far = |id: &SnapshotId, height: u64| {
            height >= least || self.begun == Some(*id) && height > self.height
        };
        let usable = self.candidates.iter().filter(|(id, it)| {
            is_far(id, it.snapshot.height)
                && it.snapshot.size <= self.config.max_snapshot_bytes
                && it.again_at.is_none_or(|at| now >= at)
                && !self.settled.iter().any(|settled| settled.id == **id)
        });
        usable.map(rank).max().map(|(.., id)| id)
    }

    /// What the checkpoint says of a snapshot, if it says anything.
    pub(super) fn checkpoint(&self, snapshot: &Snapshot) -> Option<bool> {
        let checkpoint = self.config.checkpoint.as_ref();
        let checkpoint = checkpoint.filter(|it| it.height == snapshot.height)?;
        Some(checkpoint.state_root == snapshot.state_root)
    }

    pub(super) fn trusted(&mut self, id: &SnapshotId) {
        if let Some(candidate) = self.candidates.get_mut(id) {
            candidate.is_final = true;
            candidate.again_at = None;
            let snapshot = candidate.snapshot.clone();
            self.convict(&snapshot, Guess::Untrue);
        }
    }

    /// A snapshot has not the state root that its height has: nothing more is taken from who offers it. They pay where another one has it,
    /// for then it is not our header or checkpoint that is wrong.
    pub(super) fn untrue(&mut self, id: &SnapshotId) {
        let Some(offerers) = self.settle(id, Guess::Untrue) else {
            return;
        };
        for peer in offerers {
            self.exclude(peer);
        }
        let height = self.settled.back().map(|it| it.height);
        let right = self
            .candidates
            .values()
            .find(|it| it.is_final && Some(it.snapshot.height) == height);
        if let Some(right) = right.map(|it| it.snapshot.clone()) {
            self.convict(&right, Guess::Untrue);
        }
    }

    /// The sink does not take the current snapshot.
    pub(super) fn turned_down(&mut self, verdict: SyncVerdict, now: Instant) {
        let Some(id) = self.current() else { return };
        self.abandon();
        match verdict {
            SyncVerdict::Reject(reason) => {
                self.settle(&id, Guess::Rejected);
                self.rejected = (self.rejected.0 + 1, reason);
                if self.rejected.0 >= self.config.max_rejected {
                    let (rejected, reason) = self.rejected.clone();
                    let why = NoSnapshot::Rejected { rejected, reason };
                    return self.end(Outcome::Blocks(why));
                }
            }
            _ => drop(self.settle(&id, Guess::OfNoUse)),
        }
        self.search(now);
    }

    /// The current snapshot is left for good.
    pub(super) fn abandon(&mut self) {
        self.drop_all_requests();
        self.stage = Stage::Searching;
        self.begun = None;
        self.actions.push_back(Action::Abandon);
    }

    /// The sink can't take something now, or can't take it at all.
    pub(super) fn unable(&mut self, is_over: bool, reason: String) {
        if is_over {
            self.end(Outcome::Blocks(NoSnapshot::Sink { reason }));
        }
    }

    /// A snapshot is not tried again: who offers it.
    pub(super) fn settle(&mut self, id: &SnapshotId, fault: Guess) -> Option<BTreeSet<PeerId>> {
        let candidate = self.candidates.get(id)?;
        let offerers = candidate.offerers.clone();
        self.settled.push_back(Settled {
            id: *id,
            height: candidate.snapshot.height,
            format: candidate.snapshot.format,
            fault,
            offerers: offerers.clone(),
        });
        if self.settled.len() > MAX_SETTLED {
            self.settled.pop_front();
        }
        Some(offerers)
    }

    /// This snapshot is right: who offered another one in its place, and not this one too, has lied.
    pub(super) fn convict(&mut self, right: &Snapshot, fault: Guess) {
        let id = right.id();
        let honest = self.candidates.get(&id).map(|it| it.offerers.clone());
        let honest = honest.unwrap_or_default();
        let mut liars = BTreeSet::new();
        for settled in &mut self.settled {
            let is_same = settled.height == right.height
                && (fault == Guess::Untrue || settled.format == right.format);
            if settled.fault == fault && is_same && settled.id != id {
                liars.append(&mut settled.offerers);
            }
        }
        for peer in liars.difference(&honest) {
            let why = "it offered a snapshot that is not the chain's state";
            self.misdeed(*peer, Misdeed::FalseSnapshot, why);
            self.exclude(*peer);
        }
    }

    pub(super) fn current(&self) -> Option<SnapshotId> {
        match &self.stage {
            Stage::Searching | Stage::Over => None,
            Stage::Trusting(id) => Some(*id),
            Stage::Fetching { fetch, .. } => Some(fetch.id),
            Stage::Offering(pending) | Stage::Finishing(pending) => Some(pending.snapshot.id()),
        }
    }

    pub(super) fn end(&mut self, outcome: Outcome) {
        self.drop_all_requests();
        self.stage = Stage::Over;
        self.actions.push_back(Action::End(outcome));
    }
}
