//! A bar on a terminal while the chain is synced: the chunks of a snapshot, then blocks.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use selkie::NetworkEvent;

use crate::output::progress_target;

/// See the module's documentation. Where stderr is no terminal there is none.
pub(crate) struct SyncBar(ProgressBar);

impl SyncBar {
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), progress_target());
        // Nothing is drawn before there is something to show.
        bar.finish_and_clear();
        Self(match ProgressStyle::with_template("{wide_bar} {msg}") {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        })
    }

    pub(crate) fn bar(&self) -> ProgressBar {
        self.0.clone()
    }

    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }

    /// Whether an event is shown here, and needs no line.
    pub(crate) fn shows(&self, event: &NetworkEvent) -> bool {
        match event {
            NetworkEvent::SnapshotProgress {
                done, total, eta, ..
            } => self.is_at((*done).into(), (*total).into(), event, *eta),
            NetworkEvent::SyncProgress {
                done,
                total,
                eta,
                trouble: None,
                ..
            } if done < total => self.is_at(*done, *total, event, *eta),
            NetworkEvent::SyncProgress { .. }
            | NetworkEvent::Synced { .. }
            | NetworkEvent::SnapshotTaken { .. }
            | NetworkEvent::NoSnapshot { .. } => {
                self.clear();
                false
            }
            _ => false,
        }
    }

    fn is_at(&self, done: u64, total: u64, event: &NetworkEvent, eta: Option<Duration>) -> bool {
        if self.0.is_hidden() {
            return false;
        }
        if self.0.is_finished() {
            self.0.reset();
        }
        self.0.set_length(total);
        self.0.set_position(done);
        let seconds = eta.map(|eta| format!(", {} s to go", eta.as_secs()));
        self.0
            .set_message(format!("{event}{}", seconds.unwrap_or_default()));
        true
    }
}
