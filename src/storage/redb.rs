//! A store in one file, by [redb](https://www.redb.org): a copy-on-write B-tree. A commit is on the disk when it returns, and a
//! crash at any moment leaves what was there after one of the commits.
//!
//! A new file is made beside its place and then put there, whole, so that a crash in its first moments leaves none. A file that a
//! crash left in need of it is repaired when it is opened; one that is damaged otherwise is read whole, its checksums are compared,
//! and it is repaired where that is possible. redb may panic over a damaged file: here that is an error like another.
//!
//! Bounds: [`CACHE`] bytes of the file in memory.

use std::{
    collections::BTreeMap,
    fs, io,
    ops::Bound,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use ::redb::{
    Builder, CommitError, Database, DatabaseError, Durability, ReadOnlyTable, ReadableDatabase,
    StorageError, TableDefinition, TableError, TableHandle, TransactionError,
};
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};

use super::{Batch, KeyRange, Page, Schema, Store, StoreError, Table, Write, file, folder};
use crate::platform::{self, lock::lock};

/// How much of the file is held in memory, in bytes.
const CACHE: usize = 64 * 1024 * 1024;

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;
type Reader = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// Tables in a file that one process has open at a time.
pub struct RedbStore {
    place: String,
    database: Database,
    /// What the last commit left, ready to be read.
    tables: RwLock<Arc<BTreeMap<String, Reader>>>,
    /// Held while a batch is written, so that commits become readable in their order.
    writing: Mutex<()>,
}

impl RedbStore {
    /// Opens a file, or makes a new one where there is none, for what this schema says. An empty file is a new one.
    ///
    /// # Errors
    /// Another process has it open; it is damaged beyond repair; another program or a newer version wrote it; the disk is full, or
    /// the file can't be read or written.
    pub fn open(path: &Path, schema: &Schema) -> Result<Self, StoreError> {
        let place = path.display().to_string();
        let is_new = !fs::exists(path).map_err(|error| system(&place, &error))?;
        let at = if is_new {
            file::with_suffix(path, ".new")
        } else {
            path.to_owned()
        };
        let opened = Self::open_at(&at, &place, schema);
        let store = match opened {
            // What a crash left of one that nobody has used yet.
            Err(StoreError::Damaged { .. } | StoreError::Foreign { .. }) if is_new => {
                fs::remove_file(&at).map_err(|error| system(&place, &error))?;
                Self::open_at(&at, &place, schema)?
            }
            opened => opened?,
        };
        if is_new {
            let placed = fs::rename(&at, path).and_then(|()| folder::sync(folder::of(path)));
            placed.map_err(|error| system(&place, &error))?;
        }
        Ok(store)
    }

    fn open_at(at: &PathBuf, place: &str, schema: &Schema) -> Result<Self, StoreError> {
        let open = |check: bool| {
            let database = guard(place, || builder(check).create(at).map_err(Wrong::from))?;
            Self::with(database, place, schema)
        };
        match open(false) {
            Err(StoreError::Damaged { reason, .. }) => {
                tracing::warn!(
                    file = place,
                    reason,
                    "damaged: it is read whole, and repaired if it can be"
                );
                open(true)
            }
            opened => opened,
        }
    }

    /// The same on what a test gives for a disk.
    #[cfg(test)]
    pub(super) fn open_on(
        backend: impl ::redb::StorageBackend,
        schema: &Schema,
    ) -> Result<Self, StoreError> {
        let place = "the disk";
        let database = guard(place, || {
            builder(false)
                .create_with_backend(backend)
                .map_err(Wrong::from)
        })?;
        Self::with(database, place, schema)
    }

    fn with(database: Database, place: &str, schema: &Schema) -> Result<Self, StoreError> {
        let tables = guard(place, || readable(&database))?;
        let is_new = tables.is_empty();
        let store = Self {
            place: place.to_owned(),
            database,
            tables: RwLock::new(Arc::new(tables)),
            writing: Mutex::default(),
        };
        schema.apply(&store, place, is_new)?;
        Ok(store)
    }

    /// What the last commit left.
    fn tables(&self) -> Arc<BTreeMap<String, Reader>> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&tables)
    }

    fn commit_with(&self, batch: &Batch, durability: Durability) -> Result<(), StoreError> {
        batch.check()?;
        let _writing = lock(&self.writing);
        guard(&self.place, || {
            self.write(batch, durability)?;
            let tables = Arc::new(readable(&self.database)?);
            let mut current = self.tables.write().unwrap_or_else(PoisonError::into_inner);
            *current = tables;
            Ok(())
        })
    }

    fn write(&self, batch: &Batch, durability: Durability) -> Result<(), Wrong> {
        let mut transaction = self.database.begin_write()?;
        transaction
            .set_durability(durability)
            .map_err(|error| Wrong::Failed(error.to_string()))?;
        let mut tables = BTreeMap::new();
        for write in batch.writes() {
            let (Write::Put(name, ..) | Write::Delete(name, _) | Write::DeleteRange(name, ..)) =
                write;
            let table = match tables.entry(*name) {
                std::collections::btree_map::Entry::Occupied(open) => open.into_mut(),
                std::collections::btree_map::Entry::Vacant(place) => {
                    place.insert(transaction.open_table(Definition::new(name.name()))?)
                }
            };
            match write {
                Write::Put(_, key, value) => drop(table.insert(&key[..], &value[..])?),
                Write::Delete(_, key) => drop(table.remove(&key[..])?),
                Write::DeleteRange(_, from, to) => {
                    let to = to
                        .as_ref()
                        .map_or(Bound::Unbounded, |to| Bound::Excluded(&to[..]));
                    let range = (Bound::Included(&from[..]), to);
                    if !(KeyRange {
                        from: range.0,
                        to,
                        ..KeyRange::default()
                    })
                    .is_empty()
                    {
                        table.retain_in::<&[u8], _>(range, |_, _| false)?;
                    }
                }
            }
        }
        drop(tables);
        transaction.commit()?;
        Ok(())
    }
}

impl Store for RedbStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let tables = self.tables();
        let Some(table) = tables.get(table.name()) else {
            return Ok(None);
        };
        guard(&self.place, || {
            let found = table.get(key)?;
            Ok(found.map(|value| Bytes::copy_from_slice(value.value())))
        })
    }

    fn range(&self, table: Table, range: KeyRange<'_>) -> Result<Page, StoreError> {
        let tables = self.tables();
        let Some(table) = tables.get(table.name()).filter(|_| !range.is_empty()) else {
            return Ok(Page::default());
        };
        guard(&self.place, || {
            let entries = table.range::<&[u8]>((range.from, range.to))?;
            let entries = entries.map(|entry| {
                let (key, value) = entry?;
                let copied = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
                Ok::<_, Wrong>((copied(key.value()), copied(value.value())))
            });
            if range.backwards {
                Page::fill(entries.rev(), range.most)
            } else {
                Page::fill(entries, range.most)
            }
        })
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.commit_with(batch, Durability::Immediate)
    }

    fn commit_soon(&self, batch: &Batch) -> Result<(), StoreError> {
        self.commit_with(batch, Durability::None)
    }

    /// Writes nothing, durably: so all before it is kept. Blocks until it is.
    fn flush(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        std::future::ready(self.commit(&Batch::default())).boxed()
    }
}

impl std::fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedbStore")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

/// `check`: reads the whole file, compares all checksums, and repairs what can be repaired.
fn builder(check: bool) -> Builder {
    let mut builder = Builder::new();
    builder
        .set_cache_size(CACHE)
        .set_check_integrity_on_open(check);
    builder
}

/// All tables, as the last commit left them.
fn readable(database: &Database) -> Result<BTreeMap<String, Reader>, Wrong> {
    let transaction = database.begin_read()?;
    let names = transaction.list_tables()?;
    let table = |name: String| {
        let table = transaction.open_table(TableDefinition::new(&name))?;
        Ok((name, table))
    };
    names
        .map(|handle| table(handle.name().to_owned()))
        .collect()
}

/// What redb complains of, in our words.
enum Wrong {
    Locked,
    Storage(StorageError),
    Damaged(String),
    Older(u8),
    Failed(String),
}

fn guard<T>(place: &str, call: impl FnOnce() -> Result<T, Wrong>) -> Result<T, StoreError> {
    let outcome = platform::guard(call).unwrap_or_else(|panic| Err(Wrong::Damaged(panic)));
    outcome.map_err(|wrong| {
        let place = place.to_owned();
        match wrong {
            Wrong::Locked => StoreError::Locked { place },
            Wrong::Storage(StorageError::Io(error)) => system(&place, &error),
            Wrong::Storage(StorageError::Corrupted(reason)) | Wrong::Damaged(reason) => {
                StoreError::Damaged { place, reason }
            }
            // A panic in there, in another call.
            Wrong::Storage(error @ StorageError::LockPoisoned(_)) => StoreError::Damaged {
                place,
                reason: error.to_string(),
            },
            Wrong::Storage(error) => StoreError::Failed {
                place,
                reason: error.to_string(),
            },
            Wrong::Older(form) => StoreError::Foreign {
                place,
                found: format!("a file of redb's older form {form}"),
                wanted: "one of the form of today".to_owned(),
            },
            Wrong::Failed(reason) => StoreError::Failed { place, reason },
        }
    })
}

fn system(place: &str, error: &io::Error) -> StoreError {
    let (place, reason) = (place.to_owned(), error.to_string());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            StoreError::Full { place, reason }
        }
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            StoreError::Damaged { place, reason }
        }
        _ => StoreError::Failed { place, reason },
    }
}

impl From<StorageError> for Wrong {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl From<DatabaseError> for Wrong {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseAlreadyOpen => Self::Locked,
            DatabaseError::UpgradeRequired(version) => Self::Older(version),
            DatabaseError::Storage(error) => error.into(),
            DatabaseError::RepairAborted => Self::Damaged(error.to_string()),
            other => Self::Failed(other.to_string()),
        }
    }
}

impl From<TransactionError> for Wrong {
    fn from(error: TransactionError) -> Self {
        match error {
            TransactionError::Storage(error) => error.into(),
            other => Self::Failed(other.to_string()),
        }
    }
}

impl From<CommitError> for Wrong {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Storage(error) => error.into(),
            other => Self::Failed(other.to_string()),
        }
    }
}

impl From<TableError> for Wrong {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Storage(error) => error.into(),
            // A file of redb's, but of no tables that we would make.
            other => Self::Damaged(other.to_string()),
        }
    }
}
