//! Sync's work for the chain, and what it tells. It bounds itself how much of that is under way.

use super::*;
use crate::sync::{
    SyncPhase, SyncStatus,
    core::{self, Event},
    snapshots::{Outcome, Progress},
};

impl Task {
    pub(super) fn on_sync(&mut self, event: Event) {
        match event {
            Event::Work(work) => {
                let done = platform::offload(move || work.run());
                // None: the host is ending.
                let done = done.map(Done::Synced);
                self.work.push(done.boxed());
            }
            Event::Status(status) => self.chain_is(status),
            Event::Brought(peer) => {
                let mut peers = self.shared.peers();
                peers.brought(&peer, ItemKind::Block, platform::now());
            }
            Event::Progress(progress) => {
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
            Event::Ended(outcome) => {
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
            Event::Failed(call, reason) => {
                self.shared.emit(NetworkEvent::ApplicationFailed {
                    call,
                    reason,
                    count: 1,
                });
            }
        }
    }

    fn chain_is(&mut self, mut status: SyncStatus) {
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
        let height = status.tip.height;
        self.shared.emit(NetworkEvent::SyncProgress {
            done: height,
            total: height.max(status.target.unwrap_or_default()),
            rate: status.rate,
            eta: status.eta(),
            trouble: status.trouble,
        });
        if status.phase == SyncPhase::Synced && was != Some(status.phase) {
            self.shared.emit(NetworkEvent::Synced { height });
        }
    }

    fn snapshot_is(&self, progress: Option<Progress>) {
        if let Some(sync) = &mut self.shared.state().sync {
            sync.snapshot = progress;
        }
    }

    pub(super) fn on_synced(&mut self, done: Option<core::Done>) {
        if let Some(done) = done
            && let Some(sync) = &mut self.swarm.behaviour_mut().lanes.core.sync
        {
            sync.done(done, platform::now());
        }
    }
}
