//! A store in one file, by [redb](https://www.redb.org): a copy-on-write B-tree. A commit is on the disk when it returns, and a
//! crash at any moment leaves what was there after one of the commits.
//!
//! A new file is made beside its place and then put there, whole, so that a crash in its first moments leaves none. A file that a
//! crash left in need of it is repaired when it is opened; one that is damaged otherwise is read whole, its checksums are compared,
//! and it is repaired where that is possible. redb may panic over a damaged file: here that is an error like another.
//!
//! After an error of the system (a full disk, say) redb reads and writes nothing more. So the file is closed and opened anew, and batches that
//! were not to be on the disk at once, which closing it then loses, are written again: each call sees what was committed before it, also then.
//! Each batch has a number, so that it is seen whether one whose writing failed is there all the same. While the file can't be opened
//! again, calls fail. After a write that failed what the system holds of the file in memory may be what the disk never got, and the system takes it for
//! written (Rebello et al., "Can Applications Recover from fsync Failures?", 2020): so the system is made to forget that, and the file is read anew,
//! whole, and all its checksums are compared. Opening it may mean to read it whole: who reads tries that every five seconds at most, and so does who writes after two
//! failures in a row, or ten times as seldom as it takes.
//!
//! Bounds: [`CACHE`] bytes of the file in memory, and [`MAX_SOON`] of batches that are not on the disk yet; with more they are.

use std::{
    collections::BTreeMap,
    fs, io,
    ops::Bound,
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use ::redb::{
    Builder, CommitError, Database, DatabaseError, Durability, ReadOnlyTable, ReadableDatabase,
    StorageError, TableDefinition, TableError, TableHandle, TransactionError,
};
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};

use super::{
    Batch, KeyRange, Page, Schema, Store, StoreError, Table, Write, file, folder, schema::TABLE,
};
use crate::platform::{self, Instant, lock::lock};

/// How much of the file is held in memory, in bytes.
const CACHE: usize = 64 * 1024 * 1024;
/// Bytes of batches that a crash may lose, and what each of their writes takes besides.
const MAX_SOON: usize = 16 * 1024 * 1024;
const WRITE: usize = 128;
/// A file is opened anew no more often than this by who only reads, or where writing fails again and again: that may mean to read it whole.
const OPENED_EVERY: Duration = Duration::from_secs(5);
/// Where the number of the last batch is.
const NUMBER: &[u8] = b"batch";

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;
type Reader = ReadOnlyTable<&'static [u8], &'static [u8]>;
type Tables = BTreeMap<String, Reader>;
/// Says whether what was opened there is what it should be; the last: whether it is new.
type Look<'a> = dyn Fn(&RedbStore, &str, bool) -> Result<(), StoreError> + 'a;
/// Opens a file; where a write has failed, as the disk has it, and not as the system remembers it.
type Opener = Box<dyn Fn(bool) -> Result<Database, Wrong> + Send + Sync>;

/// Tables in a file that one process has open at a time.
pub struct RedbStore {
    place: String,
    /// Opens what is there anew.
    opener: Opener,
    /// What the last commit left, ready to be read; or why it can't be.
    tables: RwLock<Result<Arc<Tables>, StoreError>>,
    /// Held while a batch is written, so that commits become readable in their order.
    writing: Mutex<Writing>,
}

#[derive(Default)]
struct Writing {
    /// `None`: it could not be opened again.
    database: Option<Database>,
    /// The number of the last batch.
    number: u64,
    /// The last batches, that need not be on the disk, and their size.
    soon: Vec<Batch>,
    size: usize,
    opened_at: Option<Instant>,
    /// How long opening it anew took.
    took: Duration,
    /// A write has failed since the file was read: what the system remembers of it may not be on the disk.
    is_doubtful: bool,
    /// Whether the last write failed; and where the one before did too, with what others are answered until then.
    has_failed: bool,
    rests: Option<(Instant, StoreError)>,
}

/// A look that marks what is new and brings what is older up to date.
fn applied(schema: &Schema) -> impl Fn(&RedbStore, &str, bool) -> Result<(), StoreError> {
    |store, place, is_new| schema.apply(store, place, is_new)
}

impl Writing {
    /// A write fails, which means to open the file anew each time: after the second one in a row others are not tried for a while.
    fn fails(&mut self, error: StoreError) -> StoreError {
        let until = platform::now() + self.rest();
        self.rests = self.has_failed.then(|| (until, error.clone()));
        self.has_failed = true;
        error
    }

    /// How long the file is not opened anew again.
    fn rest(&self) -> Duration {
        OPENED_EVERY.max(self.took.saturating_mul(10))
    }
}

impl RedbStore {
    /// Opens a file, or makes a new one where there is none, for what this schema says. An empty file is a new one.
    ///
    /// # Errors
    /// Another process has it open; it is damaged beyond repair; another program or a newer version wrote it; the disk is full, or
    /// the file can't be read or written.
    pub fn open(path: &Path, schema: &Schema) -> Result<Self, StoreError> {
        let place = path.display().to_string();
        if fs::exists(path).map_err(|error| system(&place, &error))? {
            Self::open_at(path, path, &applied(schema))
        } else {
            Self::open_new(path, schema)
        }
    }

    /// Deletes the file of a store of this name, of whatever version, held meanwhile: no other process has it, nor opens it before it is gone.
    ///
    /// # Errors
    /// As [`Self::open`], but for the version; there is no such file, or it can't be deleted.
    pub fn delete(path: &Path, schema: &Schema) -> Result<(), StoreError> {
        let place = path.display().to_string();
        // Opening makes one where none is.
        fs::metadata(path).map_err(|error| system(&place, &error))?;
        let held = Self::open_at(path, path, &|store, place, is_new| match is_new {
            true => Ok(()),
            false => schema.recognize(store, place),
        })?;
        fs::remove_file(path).map_err(|error| system(&place, &error))?;
        drop(held);
        if let Err(error) = folder::sync(folder::of(path)) {
            tracing::error!(file = place, %error, "it is deleted, but may be there again after a crash");
        }
        Ok(())
    }

    /// Makes a new file, unless another process has put one there by now.
    pub(super) fn open_new(path: &Path, schema: &Schema) -> Result<Self, StoreError> {
        let place = path.display().to_string();
        let fails = |error: io::Error| system(&place, &error);
        let at = file::with_suffix(path, ".new");
        let store = match Self::open_at(&at, path, &applied(schema)) {
            // What a crash left of one that nobody has used yet.
            Err(StoreError::Damaged { .. } | StoreError::Foreign { .. }) => {
                fs::remove_file(&at).map_err(fails)?;
                Self::open_at(&at, path, &applied(schema))?
            }
            opened => opened?,
        };
        // Nobody else can put one there now: who has the new file open is alone with it.
        if fs::exists(path).map_err(fails)? {
            // Or it is the one that was put there.
            match fs::remove_file(&at) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fails(error)),
                _ => drop(store),
            }
            return Self::open_at(path, path, &applied(schema));
        }
        let placed = fs::rename(&at, path).and_then(|()| folder::sync(folder::of(path)));
        placed.map_err(fails)?;
        Ok(store)
    }

    /// Opens a file that is, or is going to be, at this path, and takes the first look at it.
    fn open_at(at: &Path, path: &Path, look: &Look<'_>) -> Result<Self, StoreError> {
        let place = &path.display().to_string();
        let open = |check: bool| {
            let database = guard(place, || {
                // An earlier run may have ended because writing failed.
                if fs::exists(at).map_err(StorageError::Io)? {
                    file::forget_cached(at).map_err(StorageError::Io)?;
                }
                Ok(builder(check).create(at)?)
            })?;
            let path = path.to_owned();
            let opener: Opener = Box::new(move |from_disk| {
                file::forget_cached(&path).map_err(StorageError::Io)?;
                Ok(builder(from_disk).open(&path)?)
            });
            Self::with(database, opener, place, look)
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
    pub(super) fn open_on<B: ::redb::StorageBackend + Clone>(
        backend: B,
        forget_cached: fn(&B),
        schema: &Schema,
    ) -> Result<Self, StoreError> {
        let place = "the disk";
        let opener: Opener = Box::new(move |from_disk| {
            if from_disk {
                forget_cached(&backend);
            }
            Ok(builder(from_disk).create_with_backend(backend.clone())?)
        });
        let database = guard(place, || opener(false))?;
        Self::with(database, opener, place, &applied(schema))
    }

    fn with(
        database: Database,
        opener: Opener,
        place: &str,
        look: &Look<'_>,
    ) -> Result<Self, StoreError> {
        let (tables, number) = guard(place, || readable(&database))?;
        let is_new = tables.is_empty();
        let store = Self {
            place: place.to_owned(),
            opener,
            tables: RwLock::new(Ok(Arc::new(tables))),
            writing: Mutex::new(Writing {
                database: Some(database),
                number,
                ..Writing::default()
            }),
        };
        look(&store, place, is_new)?;
        Ok(store)
    }

    /// What the last commit left.
    fn tables(&self) -> Result<Arc<Tables>, StoreError> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        tables.clone()
    }

    fn show(&self, tables: Result<Tables, StoreError>) {
        let mut shown = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        *shown = tables.map(Arc::new);
    }

    /// Reads, from a file that is opened anew where it has to be.
    fn read<T>(&self, call: impl Fn(&Tables) -> Result<T, Wrong>) -> Result<T, StoreError> {
        let tables = self.tables();
        let read = |tables: &Arc<Tables>| guard(&self.place, || call(tables));
        match tables.as_ref().map_err(Clone::clone).and_then(read) {
            Err(
                error @ (StoreError::Failed { .. }
                | StoreError::Full { .. }
                | StoreError::Locked { .. }),
            ) => {
                self.open_again_to_read(tables.ok().as_ref(), error)?;
                read(&self.tables()?)
            }
            read => read,
        }
    }

    /// After this error with these tables.
    fn open_again_to_read(
        &self,
        tables: Option<&Arc<Tables>>,
        error: StoreError,
    ) -> Result<(), StoreError> {
        let mut writing = lock(&self.writing);
        let is_other = |now: Arc<Tables>| tables.is_none_or(|then| !Arc::ptr_eq(then, &now));
        if self.tables().is_ok_and(is_other) {
            return Ok(());
        }
        let is_soon = |at: Instant| platform::now() < at + writing.rest();
        if writing.opened_at.is_some_and(is_soon) {
            return Err(error);
        }
        self.open_again(&mut writing, error)
    }

    /// Closes the file because of an error, opens it, and brings back what that has lost.
    fn open_again(&self, writing: &mut Writing, error: StoreError) -> Result<(), StoreError> {
        tracing::warn!(file = self.place, %error, "it is opened anew");
        let begun = platform::now();
        writing.opened_at = Some(begun);
        self.show(Err(error));
        let opened = guard(&self.place, || {
            writing.database = None;
            let database = (self.opener)(writing.is_doubtful)?;
            let (_, kept) = readable(&database)?;
            let first = writing.number + 1 - writing.soon.len() as u64;
            if kept + 1 < first || kept > writing.number + 1 {
                let what = "another file was put in its place, or an older state of it";
                return Err(Wrong::Damaged(what.to_owned()));
            }
            // None, if the batch that failed is there: it came after all of them.
            for (batch, number) in writing.soon.iter().zip(first..) {
                if number > kept {
                    write(&database, batch, number, Durability::None)?;
                }
            }
            let (tables, number) = readable(&database)?;
            Ok((database, tables, number))
        });
        writing.took = platform::now().saturating_duration_since(begun);
        match opened {
            Ok((database, tables, number)) => {
                if number > writing.number {
                    writing.soon.clear();
                    writing.size = 0;
                }
                writing.number = number;
                writing.database = Some(database);
                writing.is_doubtful = false;
                self.show(Ok(tables));
                Ok(())
            }
            Err(error) => {
                self.show(Err(error.clone()));
                Err(error)
            }
        }
    }

    fn commit_with(&self, batch: &Batch, is_soon: bool) -> Result<(), StoreError> {
        batch.check()?;
        let mut writing = lock(&self.writing);
        let is_soon_again = |(until, _): &&(Instant, _)| platform::now() < *until;
        if let Some((_, error)) = writing.rests.as_ref().filter(is_soon_again) {
            return Err(error.clone());
        }
        if writing.database.is_none() {
            let error = self.tables().err();
            let error = error.unwrap_or_else(|| self.failed("it is closed"));
            let opened = self.open_again(&mut writing, error);
            opened.map_err(|error| writing.fails(error))?;
        }
        let size = writing.size + batch.size() + batch.writes().len() * WRITE;
        let is_soon = is_soon && size <= MAX_SOON;
        let durability = if is_soon {
            Durability::None
        } else {
            Durability::Immediate
        };
        let number = writing.number + 1;
        let written = guard(&self.place, || {
            let Some(database) = &writing.database else {
                return Err(Wrong::Failed("it is closed".to_owned()));
            };
            write(database, batch, number, durability)?;
            readable(database)
        });
        match written {
            Ok((tables, number)) => {
                self.show(Ok(tables));
                writing.number = number;
                writing.has_failed = false;
                writing.rests = None;
                if is_soon {
                    writing.soon.push(batch.clone());
                    writing.size = size;
                } else {
                    writing.soon.clear();
                    writing.size = 0;
                }
                Ok(())
            }
            Err(error) => {
                writing.is_doubtful = true;
                // If it can't be now, then at the next call.
                let _ = self.open_again(&mut writing, error.clone());
                Err(writing.fails(error))
            }
        }
    }

    /// As after the time in which nothing is written.
    #[cfg(test)]
    pub(super) fn has_rested(&self) {
        lock(&self.writing).rests = None;
    }

    /// Whether all that was committed is on the disk, as far as is known.
    fn is_kept(&self) -> bool {
        let writing = lock(&self.writing);
        writing.database.is_some() && writing.soon.is_empty() && !writing.has_failed
    }

    fn failed(&self, reason: &str) -> StoreError {
        StoreError::Failed {
            place: self.place.clone(),
            reason: reason.to_owned(),
        }
    }
}

/// Writes a batch of this number.
fn write(
    database: &Database,
    batch: &Batch,
    number: u64,
    durability: Durability,
) -> Result<(), Wrong> {
    let mut transaction = database.begin_write()?;
    transaction
        .set_durability(durability)
        .map_err(|error| Wrong::Failed(error.to_string()))?;
    let number = number.to_be_bytes().to_vec().into();
    let number = Write::Put(TABLE, Bytes::from_static(NUMBER), number);
    let mut tables = BTreeMap::new();
    for write in batch.writes().iter().chain([&number]) {
        let (Write::Put(name, ..) | Write::Delete(name, _) | Write::DeleteRange(name, ..)) = write;
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

impl Store for RedbStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.read(|tables| {
            let Some(table) = tables.get(table.name()) else {
                return Ok(None);
            };
            let found = table.get(key)?;
            Ok(found.map(|value| Bytes::copy_from_slice(value.value())))
        })
    }

    fn range(&self, table: Table, range: KeyRange<'_>) -> Result<Page, StoreError> {
        self.read(|tables| {
            let Some(table) = tables.get(table.name()).filter(|_| !range.is_empty()) else {
                return Ok(Page::default());
            };
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
        self.commit_with(batch, false)
    }

    fn commit_soon(&self, batch: &Batch) -> Result<(), StoreError> {
        self.commit_with(batch, true)
    }

    /// Writes nothing, durably, where something before it is not yet: so all is kept. Blocks until it is.
    fn flush(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        let kept = if self.is_kept() {
            Ok(())
        } else {
            self.commit(&Batch::default())
        };
        std::future::ready(kept).boxed()
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

/// All tables, as the last commit left them, and its number.
fn readable(database: &Database) -> Result<(Tables, u64), Wrong> {
    let transaction = database.begin_read()?;
    let names = transaction.list_tables()?;
    let table = |name: String| {
        let table: Reader = transaction.open_table(TableDefinition::new(&name))?;
        Ok((name, table))
    };
    let tables = names.map(|handle| table(handle.name().to_owned()));
    let tables = tables.collect::<Result<Tables, Wrong>>()?;
    let number = match tables.get(TABLE.name()) {
        Some(table) => table.get(NUMBER)?,
        None => None,
    };
    let number = number.and_then(|number| number.value().try_into().ok());
    Ok((tables, number.map_or(0, u64::from_be_bytes)))
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
