//! What can be wrong with a store, and what helps.

/// A store can't be opened, read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no room left. Nothing of the batch is kept.
    #[error(
        "{place} is full ({reason}): make room there, and it goes on; or name another place that has some, and start again"
    )]
    Full {
        /// The file, the browser's database, or what else it is.
        place: String,
        /// What the system says.
        reason: String,
    },
    /// Much was committed that is not written yet. Nothing of the batch is kept.
    #[error(
        "{place} has {waiting} bytes to write yet: wait for them (`Store::flush`), and it goes on"
    )]
    Busy {
        /// The file, the browser's database, or what else it is.
        place: String,
        /// How much waits, in bytes.
        waiting: usize,
    },
    /// What is there is not what was written. What can be repaired was tried.
    #[error(
        "{place} is damaged ({reason}): delete it or move it away, and what it held is fetched from peers again; or put a backup in its place"
    )]
    Damaged {
        /// The file, the browser's database, or what else it is.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Another version of this program wrote it.
    #[error(
        "{place} is of version {found}, and this program reads up to {known}: use a newer one; or delete it or move it away, to begin anew"
    )]
    Version {
        /// The file, the browser's database, or what else it is.
        place: String,
        /// Its version.
        found: u32,
        /// The newest that is understood here.
        known: u32,
    },
    /// Something else lies there.
    #[error(
        "{place} holds {found}, not what is kept here ({wanted}): name another place; or delete it or move it away"
    )]
    Foreign {
        /// The file, the browser's database, or what else it is.
        place: String,
        /// What it is, as far as it is known.
        found: String,
        /// What should be there.
        wanted: String,
    },
    /// Another process, tab or worker has it open.
    #[error(
        "{place} is open in another process or tab: stop that one, or name another place for this one"
    )]
    Locked {
        /// The file, the browser's database, or what else it is.
        place: String,
    },
    /// A key, a value or a batch is over its limit. Nothing of the batch is kept.
    #[error("{what} of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// Which of them.
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The system could not read or write.
    #[error(
        "{place} can't be read or written ({reason}): see to the room and the rights there, and it goes on; or start again"
    )]
    Failed {
        /// The file, the browser's database, or what else it is.
        place: String,
        /// What the system says.
        reason: String,
    },
}

impl StoreError {
    /// Whether somebody has to see to it: later calls fail too until then.
    pub fn is_fatal(&self) -> bool {
        !matches!(
            self,
            Self::TooLarge { .. } | Self::Full { .. } | Self::Busy { .. }
        )
    }

    /// A stable, short name for programs: what JavaScript sees as `code`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Full { .. } => "storage-full",
            Self::Busy { .. } => "storage-busy",
            Self::Damaged { .. } => "storage-damaged",
            Self::Version { .. } => "storage-version",
            Self::Foreign { .. } => "storage-foreign",
            Self::Locked { .. } => "storage-locked",
            Self::TooLarge { .. } => "too-large",
            Self::Failed { .. } => "storage",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn what_helps_is_said_for_any_kind_of_place() {
        let place = || "this browser's database \"chain\"".to_owned();
        let text = || "a reason".to_owned();
        let (reason, found, wanted) = (text(), text(), text());
        let all = [
            StoreError::Full {
                place: place(),
                reason: reason.clone(),
            },
            StoreError::Busy {
                place: place(),
                waiting: 7,
            },
            StoreError::Damaged {
                place: place(),
                reason: reason.clone(),
            },
            StoreError::Version {
                place: place(),
                found: 2,
                known: 1,
            },
            StoreError::Foreign {
                place: place(),
                found,
                wanted,
            },
            StoreError::Locked { place: place() },
            StoreError::Failed {
                place: place(),
                reason,
            },
        ];
        for error in all {
            let told = error.to_string();
            assert!(told.contains(&place()), "{told}");
            for word in ["file", "disk", "folder"] {
                assert!(!told.contains(word), "{told}");
            }
        }
    }
}
