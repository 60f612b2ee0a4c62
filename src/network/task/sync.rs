//! Sync's work for the chain, and what it tells. It bounds itself how much of that is under way.

use super::*;
use crate::sync::{
    SyncPhase,
    blocks::{Event, Job},
    snapshots::{Event as SnapshotEvent, Outcome, Progress},
};

impl Task {
    pub(super) fn on_sync(&mut self, event: Event) {
        match event {
            Event::Work(job) => self.start_job(job),
            Event::Status(mut status) => {
                let (height, phase) = (status.tip.height, status.phase);
                // Who hears of it may ask at once.
                let mut state = self.shared.state();
                let before = state.sync.take();
                let is_new = before
                    .as_ref()
                    .is_none_or(|before| before.tip != status.tip);
                let was = before.as_ref().map(|before| before.phase);
                status.snapshot = before.and_then(|before| before.snapshot);
                state.sync = Some(status.clone());
                drop(state);
                if is_new {
                    self.alarm.block(platform::now());
                }
                self.shared.emit(NetworkEvent::SyncProgress {
                    done: height,
                    total: height.max(status.target.unwrap_or_default()),
                    rate: status.rate,
                    eta: status.eta(),
                    trouble: status.trouble,
                });
                if phase == SyncPhase::Synced && was != Some(phase) {
                    self.shared.emit(NetworkEvent::Synced { height });
                }
                let snapshots = &mut self.swarm.behaviour_mut().lanes.core.snapshots;
                snapshots.chain_is_at(height, phase, platform::now());
            }
        }
    }

    fn start_job(&mut self, job: Job) {
        let Some(store) = self.chain.store.clone() else {
            return;
        };
        let done = platform::offload(move || job.run(&*store));
        // None: the host is ending.
        let done = done.map(|done| Done::Synced(done.map(Box::new)));
        self.work.push(done.boxed());
    }

    pub(super) fn on_synced(&mut self, done: Option<Box<blocks::Done>>) {
        if let Some(done) = done {
            let sync = &mut self.swarm.behaviour_mut().lanes.core.sync;
            sync.done(*done, platform::now());
        }
    }

    pub(super) fn on_snapshots(&mut self, event: SnapshotEvent) {
        let now = platform::now();
        match event {
            SnapshotEvent::Work(job) => {
                let chain = self.chain.clone();
                let done = platform::offload(move || job.run(&chain));
                let done = done.map(|done| Done::Snapshots(done.map(Box::new)));
                self.work.push(done.boxed());
            }
            SnapshotEvent::Holds(holds) => {
                self.swarm.behaviour_mut().lanes.core.sync.hold(holds, now);
            }
            SnapshotEvent::Progress(progress) => {
                let told = NetworkEvent::SnapshotProgress {
                    height: progress.snapshot.height,
                    done: progress.chunks,
                    total: progress.snapshot.chunks(),
                    rate: progress.rate,
                    eta: progress.eta(),
                };
                self.snapshot_is(Some(progress));
                self.shared.emit(told);
            }
            SnapshotEvent::Ended(outcome) => {
                self.snapshot_is(None);
                self.shared.emit(match outcome {
                    Outcome::Synced(snapshot) => NetworkEvent::SnapshotTaken {
                        height: snapshot.height,
                    },
                    Outcome::Blocks(why) => NetworkEvent::NoSnapshot {
                        reason: why.to_string(),
                    },
                });
            }
            SnapshotEvent::Failed(call, reason) => {
                self.shared.emit(NetworkEvent::ApplicationFailed {
                    call,
                    reason,
                    count: 1,
                });
            }
        }
    }

    fn snapshot_is(&self, progress: Option<Progress>) {
        if let Some(sync) = &mut self.shared.state().sync {
            sync.snapshot = progress;
        }
    }

    pub(super) fn on_snapshots_done(&mut self, done: Option<Box<snapshots::Done>>) {
        if let Some(done) = done {
            let snapshots = &mut self.swarm.behaviour_mut().lanes.core.snapshots;
            snapshots.done(*done, platform::now());
        }
    }
}
