//! Where there is no systemd: nobody is told.

use std::time::Duration;

pub(crate) fn ready() {}

pub(crate) fn reloading() {}

pub(crate) fn stopping() {}

pub(super) fn alive() {}

pub(super) fn watches() -> Option<Duration> {
    None
}
