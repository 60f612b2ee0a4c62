//! Where there are no Unix domain sockets: the npm package's lock is not known.

use std::{io, path::PathBuf};

/// What there is none of.
pub(crate) enum Lock {}

impl Lock {
    /// # Errors
    /// Always.
    pub(crate) fn take(_: PathBuf) -> io::Result<Option<Self>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
