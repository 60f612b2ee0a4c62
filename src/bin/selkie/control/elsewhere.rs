//! Where there are no Unix domain sockets: nobody is asked, which is said.

use std::{io, path::Path};

use serde_json::Value;

use super::{Asked, Question};

/// Whether this system has control sockets.
pub(crate) const HERE: bool = false;

const PROBLEM: &str = "a running node is asked over a Unix domain socket, which this system lacks; \
    `selkie run --json` tells what happens, and the dashboard (--web) shows it";

/// # Errors
/// Always.
pub(crate) fn may_be_at(_: &Path) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, PROBLEM))
}

/// What there is none of.
pub(crate) enum Listener {}

impl Listener {
    /// # Errors
    /// Always.
    pub(crate) fn open(_: &Path) -> io::Result<Self> {
        Err(io::Error::new(io::ErrorKind::Unsupported, PROBLEM))
    }

    pub(crate) async fn serve(self, _: Asked) {
        match self {}
    }
}

/// What there is none of.
pub(crate) enum Control {}

impl Control {
    /// # Errors
    /// Always.
    pub(crate) fn connect(_: &Path) -> io::Result<Self> {
        Err(io::Error::new(io::ErrorKind::Unsupported, PROBLEM))
    }

    /// # Errors
    /// Never.
    pub(crate) fn ask(&mut self, _: &Question) -> io::Result<Value> {
        match *self {}
    }
}
