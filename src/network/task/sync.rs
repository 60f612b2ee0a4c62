//! Sync's work on the chain's store, and what it tells. It bounds itself how much of that is under way.

use super::*;
use crate::sync::blocks::{Done as Synced, Event, Job};

impl Task {
    pub(super) fn on_sync(&mut self, event: Event) {
        match event {
            Event::Work(job) => self.start_job(job),
            Event::Status(status) => {
                // Who hears of it may ask at once.
                let before = self.shared.state().sync.replace(status.clone());
                if before.is_none_or(|before| before.tip != status.tip) {
                    self.alarm.block(platform::now());
                }
                self.shared.emit(NetworkEvent::SyncProgress {
                    done: status.tip.height,
                    total: status.tip.height.max(status.target.unwrap_or_default()),
                    rate: status.rate,
                    eta: status.eta(),
                    trouble: status.trouble,
                });
            }
        }
    }

    fn start_job(&mut self, job: Job) {
        let Some(store) = self.store.clone() else {
            return;
        };
        let done = platform::offload(move || job.run(&*store));
        // None: the host is ending.
        let done = done.map(|done| Done::Synced(done.map(Box::new)));
        self.work.push(done.boxed());
    }

    pub(super) fn on_synced(&mut self, done: Option<Box<Synced>>) {
        if let Some(done) = done {
            let sync = &mut self.swarm.behaviour_mut().lanes.core.sync;
            sync.done(*done, platform::now());
        }
    }
}
