//! systemd, and what understands its datagrams.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use sd_notify::NotifyState;

/// Whether it was said that the node ends: after that nothing else is said of its state, which systemd would take for the new one.
static ENDS: Mutex<bool> = Mutex::new(false);

/// The node listens, with the configuration that it has read.
pub(crate) fn ready() {
    unless_it_ends(&[NotifyState::Ready]);
}

/// It reads its configuration again; [`ready`] follows.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => unless_it_ends(&[NotifyState::Reloading, now]),
        Err(error) => complain(&error),
    }
}

/// It ends.
pub(crate) fn stopping() {
    let mut ends = ENDS.lock().unwrap_or_else(PoisonError::into_inner);
    *ends = true;
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

fn unless_it_ends(state: &[NotifyState<'_>]) {
    let ends = ENDS.lock().unwrap_or_else(PoisonError::into_inner);
    if !*ends {
        tell(state);
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        complain(&error);
    }
}

fn complain(error: &std::io::Error) {
    tracing::error!(%error, "the service manager can't be told how the node is (NOTIFY_SOCKET)");
}
