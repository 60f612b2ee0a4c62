//! systemd, and what understands its datagrams.

use std::time::Duration;

use sd_notify::NotifyState;

/// The node listens, with the configuration that it has read.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// It reads its configuration again; [`ready`] follows.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => complain(&error),
    }
}

/// It ends.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// It is alive.
pub(super) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// Within which time the manager wants to hear that, each time; `None`: it does not.
pub(super) fn watches() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|within| !within.is_zero())
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        complain(&error);
    }
}

fn complain(error: &std::io::Error) {
    tracing::error!(%error, "the service manager can't be told how the node is (NOTIFY_SOCKET)");
}
