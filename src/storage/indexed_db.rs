//! A store in a browser: an image of it in memory, and IndexedDB, which is written behind.
//!
//! Opening reads all that is there into the image. Reads are answered from it. A batch changes the image at once and is then
//! written, with those that wait before it, in their order: each is whole in one transaction, and the next transaction begins when the one before
//! it is done. So whenever a tab is closed or crashes, IndexedDB holds what the store held after one of its batches, and what was lost are
//! the last ones. [`Store::flush`] waits until all are there: who tells others of what a batch says does so after that.
//!
//! All tables lie in one object store, whose keys are a table's name, a zero byte and the key: IndexedDB orders binary keys as we do.
//! A Web Lock of the store's name keeps other tabs and workers away; the browser frees it when its holder is gone, however that ends.
//!
//! A write that fails (a full disk, a quota) is tried again, every [`REST`] at most, when somebody commits or flushes: all that waits in one
//! transaction, each key once. Until it succeeds nothing more is taken but batches that only take away, which are tried at once: what they take away of
//! what waits needs no room any more. Reads have what was committed before.
//!
//! A browser may close the connection by force (its own storage failed, the site's data were cleared). It is opened anew under the same lock
//! with the next write; a database that is gone is made again, of the image. Where another page deletes or upgrades the database this one
//! gives way, and writes nothing any more.
//!
//! Bounds: the image has the limit in bytes that it is opened with, and as much at most waits to be written, whose values are the image's own
//! as long as they are there. Opening reads [`READ`] bytes at a time or one entry, and never more than [`READ_ENTRIES`].

mod database;
mod web_lock;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeSet, VecDeque},
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use send_wrapper::SendWrapper;
use tokio::sync::Notify;
use wasm_bindgen::JsValue;

use self::{
    database::{Database, Durability, NO_BYTES},
    web_lock::WebLock,
};
use super::{Batch, KeyRange, MemoryStore, Page, Schema, Store, StoreError, Table, Write};
use crate::platform::{self, Instant};

/// What each write of a batch that waits takes besides its bytes.
const WRITE: usize = 128;
/// Batches that wait are written together, up to so many bytes.
const TRANSACTION: usize = 1024 * 1024;
/// How long nothing is tried after a write that failed.
const REST: Duration = Duration::from_secs(5);
/// How many bytes of values are read at a time when a store is opened, about, and how many entries at most.
const READ: usize = 1024 * 1024;
const READ_ENTRIES: usize = 256;

/// See the module's documentation. Who has it open is alone with it, also in other tabs, until it is closed or dropped.
pub struct IndexedDbStore(SendWrapper<Rc<Behind>>);

/// The image, and what is written behind.
struct Behind {
    image: MemoryStore,
    limit: usize,
    name: String,
    place: String,
    /// The last connection.
    database: RefCell<Rc<Database>>,
    lock: WebLock,
    queue: RefCell<Queue>,
    /// Something was written, or could not be.
    news: Notify,
    is_writing: Cell<bool>,
    is_closed: Cell<bool>,
    /// The database was made anew, and nothing of the image is there.
    is_gone: Cell<bool>,
}

#[derive(Default)]
struct Queue {
    /// Each with whether it has to outlast more than a crash of the tab.
    waiting: VecDeque<(Batch, Durability)>,
    size: usize,
    /// How many batches were committed, and how many are written.
    committed: u64,
    written: u64,
    /// The last write failed.
    has_failed: bool,
    /// Why, and until when nothing is tried.
    trouble: Option<(StoreError, Instant)>,
}

impl IndexedDbStore {
    /// Opens the database of this name, or makes it, for what the schema says. `limit`: the most that it may hold, in bytes of keys,
    /// values and what holding them in memory takes.
    ///
    /// # Errors
    /// Another tab or worker has it open; another program or a newer version wrote it; it holds more than the limit, or
    /// the browser has no room; this place has no IndexedDB or Web Locks, or they fail.
    pub async fn open(name: &str, limit: usize, schema: &Schema) -> Result<Self, StoreError> {
        let place = format!("this browser's database {name:?}");
        let opened = async {
            let Some(lock) = WebLock::take(name).await? else {
                return Ok(None);
            };
            let database = Database::open(name).await?;
            Ok::<_, JsValue>(Some((lock, database)))
        };
        let opened = opened.await.map_err(|error| failure(&place, &error))?;
        let Some((lock, database)) = opened else {
            return Err(StoreError::Locked { place });
        };
        let image = MemoryStore::empty(limit);
        let is_new = fill(&image, &database, &place).await?;
        let store = Self(SendWrapper::new(Rc::new(Behind {
            image,
            limit,
            name: name.to_owned(),
            place,
            database: RefCell::new(Rc::new(database)),
            lock,
            queue: RefCell::default(),
            news: Notify::new(),
            is_writing: Cell::new(false),
            is_closed: Cell::new(false),
            is_gone: Cell::new(false),
        })));
        schema.apply(&store, &store.0.place, is_new)?;
        store.flush().await?;
        Ok(store)
    }

    fn commit_with(&self, batch: &Batch, durability: Durability) -> Result<(), StoreError> {
        batch.check()?;
        let behind = &self.0;
        behind.takes(batch)?;
        // The image and what waits share their bytes.
        let batch = batch.owned();
        behind.image.take(&batch).map_err(|error| match error {
            StoreError::Full { reason, .. } => StoreError::Full {
                place: behind.place.clone(),
                reason,
            },
            other => other,
        })?;
        let mut queue = behind.queue.borrow_mut();
        queue.size += size(&batch);
        queue.waiting.push_back((batch, durability));
        queue.committed += 1;
        drop(queue);
        Rc::clone(behind).write();
        Ok(())
    }
}

impl Store for IndexedDbStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.0.image.get(table, key)
    }

    fn range(&self, table: Table, range: KeyRange<'_>) -> Result<Page, StoreError> {
        self.0.image.range(table, range)
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.commit_with(batch, Durability::Strict)
    }

    fn commit_soon(&self, batch: &Batch) -> Result<(), StoreError> {
        self.commit_with(batch, Durability::Relaxed)
    }

    fn flush(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        SendWrapper::new(Rc::clone(&self.0).flush()).boxed()
    }

    fn close(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        let behind = Rc::clone(&self.0);
        behind.is_closed.set(true);
        SendWrapper::new(async move {
            let flushed = Rc::clone(&behind).flush().await;
            behind.database.borrow().close();
            behind.lock.free().await;
            flushed
        })
        .boxed()
    }
}

impl std::fmt::Debug for IndexedDbStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IndexedDbStore")
            .field("place", &self.0.place)
            .finish_non_exhaustive()
    }
}

impl Behind {
    /// Whether there is a way for a batch to the disk, as far as that is known.
    fn takes(self: &Rc<Self>, batch: &Batch) -> Result<(), StoreError> {
        if self.is_closed.get() || self.database.borrow().is_over() {
            return Err(StoreError::Failed {
                place: self.place.clone(),
                reason: self.why_over().to_owned(),
            });
        }
        let queue = self.queue.borrow();
        if queue.size > 0 && queue.size + size(batch) > self.limit {
            return Err(StoreError::Busy {
                place: self.place.clone(),
                waiting: queue.size,
            });
        }
        let Some((error, until)) = queue.trouble.clone().filter(|_| !only_deletes(batch)) else {
            return Ok(());
        };
        drop(queue);
        if platform::now() >= until {
            Rc::clone(self).write();
        }
        Err(error)
    }

    async fn flush(self: Rc<Self>) -> Result<(), StoreError> {
        let until = {
            let mut queue = self.queue.borrow_mut();
            queue.trouble = None;
            queue.committed
        };
        loop {
            // From here on nothing is missed.
            let news = self.news.notified();
            Rc::clone(&self).write();
            {
                let queue = self.queue.borrow();
                if queue.written >= until {
                    return Ok(());
                }
                if let Some((error, _)) = &queue.trouble {
                    return Err(error.clone());
                }
            }
            news.await;
        }
    }

    /// Writes what waits, unless that is under way.
    fn write(self: Rc<Self>) {
        if !self.queue.borrow().waiting.is_empty() && !self.is_writing.replace(true) {
            platform::spawn(async move {
                while !self.queue.borrow().waiting.is_empty() {
                    if let Err(error) = self.write_next().await {
                        let error = failure(&self.place, &error);
                        tracing::error!(%error, "a batch is not written");
                        let mut queue = self.queue.borrow_mut();
                        queue.has_failed = true;
                        queue.trouble = Some((error, platform::now() + REST));
                        break;
                    }
                    self.news.notify_waiters();
                }
                self.is_writing.set(false);
                self.news.notify_waiters();
            });
        }
    }

    /// The next transaction.
    async fn write_next(&self) -> Result<(), JsValue> {
        let mut database = self.connected().await?;
        let mut written = self.write_to(&database).await;
        // Only who uses a connection may find that it is closed.
        if written.is_err() && database.is_lost() {
            database = self.connected().await?;
            written = self.write_to(&database).await;
        }
        let count = written?;
        let mut queue = self.queue.borrow_mut();
        queue.trouble = None;
        queue.has_failed = false;
        queue.written += count as u64;
        let done: usize = queue
            .waiting
            .drain(..count)
            .map(|(batch, _)| size(&batch))
            .sum();
        queue.size -= done;
        self.is_gone.set(false);
        Ok(())
    }

    /// The connection; a new one where the browser has closed the last.
    async fn connected(&self) -> Result<Rc<Database>, JsValue> {
        let database = Rc::clone(&self.database.borrow());
        if database.is_over() {
            return Err(self.why_over().into());
        }
        if !database.is_lost() {
            return Ok(database);
        }
        tracing::warn!(
            place = self.place,
            "the browser has closed it: it is opened again"
        );
        let database = Rc::new(Database::open(&self.name).await?);
        if database.is_new() {
            self.is_gone.set(true);
        }
        self.database.replace(Rc::clone(&database));
        Ok(database)
    }

    /// Writes the first that wait, in one transaction; how many they are.
    async fn write_to(&self, database: &Database) -> Result<usize, JsValue> {
        let (count, durability, batches) = self.next();
        if self.is_gone.get() {
            let image = |put: &mut dyn FnMut(&str, &Bytes, &Bytes) -> Result<(), JsValue>| {
                self.image.try_for_each(put)
            };
            database.write_all(image).await?;
        } else {
            database.write(&batches, durability).await?;
        }
        Ok(count)
    }

    /// How many of the batches that wait are to be written now, and what that comes to.
    fn next(&self) -> (usize, Durability, Vec<Batch>) {
        let queue = self.queue.borrow();
        let is_all = queue.has_failed || self.is_gone.get();
        let (mut bytes, mut durability) = (0, Durability::Relaxed);
        let mut next = Vec::new();
        for (batch, wanted) in &queue.waiting {
            bytes += size(batch);
            if !is_all && !next.is_empty() && bytes > TRANSACTION {
                break;
            }
            durability = durability.max(*wanted);
            next.push(batch.clone());
        }
        let count = next.len();
        if queue.has_failed {
            next = vec![self.folded(&next)];
        }
        (count, durability, next)
    }

    /// All that waits as one batch, in which each key is put or taken away once.
    fn folded(&self, waiting: &[Batch]) -> Batch {
        let (mut folded, mut keys) = (Batch::default(), BTreeSet::new());
        for write in waiting.iter().flat_map(Batch::writes) {
            match write {
                Write::Put(table, key, _) | Write::Delete(table, key) => {
                    keys.insert((*table, key.clone()));
                }
                Write::DeleteRange(table, from, to) => {
                    folded.delete_range(*table, from.clone(), to.clone());
                }
            }
        }
        for (table, key) in keys {
            // The image can always be read.
            match self.image.get(table, &key).ok().flatten() {
                Some(value) => folded.put(table, key, value),
                None => folded.delete(table, key),
            }
        }
        folded
    }

    fn why_over(&self) -> &'static str {
        match self.is_closed.get() {
            true => "it is closed",
            false => "another page has deleted or upgraded it; reload this one",
        }
    }
}

/// What a batch takes while it waits.
fn size(batch: &Batch) -> usize {
    batch.size() + batch.writes().len() * WRITE
}

fn only_deletes(batch: &Batch) -> bool {
    let puts = |write: &Write| matches!(write, Write::Put(..));
    !batch.writes().iter().any(puts)
}

/// Reads all that is there into the image; whether that is nothing.
async fn fill(image: &MemoryStore, database: &Database, place: &str) -> Result<bool, StoreError> {
    let (mut last, mut most): (Option<Bytes>, usize) = (None, 1);
    loop {
        let page = database.read(last.as_deref(), most).await;
        let page = page.map_err(|error| failure(place, &error))?;
        let Some((end, _)) = page.last() else {
            return Ok(last.is_none());
        };
        last = Some(end.clone());
        let (count, mut read) = (page.len(), 0);
        for (key, value) in page {
            read += value.len();
            let end = key.iter().position(|byte| *byte == 0);
            let table = end.and_then(|end| std::str::from_utf8(&key[..end]).ok());
            let (Some(end), Some(table)) = (end, table) else {
                return Err(StoreError::Damaged {
                    place: place.to_owned(),
                    reason: "a key of no table".to_owned(),
                });
            };
            if !image.fill(table, Bytes::copy_from_slice(&key[end + 1..]), value) {
                return Err(StoreError::Full {
                    place: place.to_owned(),
                    reason: "it holds more than fits into memory here".to_owned(),
                });
            }
        }
        // As many of this size as are to be read at once, or twice as many as were.
        let fit = READ.saturating_mul(count) / read.max(1);
        most = fit.clamp(1, (2 * count).min(READ_ENTRIES));
    }
}

/// What the browser says, in our words.
fn failure(place: &str, error: &JsValue) -> StoreError {
    let text = |field: &str| {
        let found = js_sys::Reflect::get(error, &field.into()).ok();
        found.and_then(|found| found.as_string())
    };
    let name = text("name").unwrap_or_default();
    let said = text("message").or_else(|| error.as_string());
    let said = said.unwrap_or_default();
    let reason = match name.is_empty() {
        true => said,
        false => format!("{name}: {said}"),
    };
    let place = place.to_owned();
    match name.as_str() {
        "QuotaExceededError" => StoreError::Full { place, reason },
        // What lies there is of a later version of this layout, or no bytes.
        "VersionError" | "DataError" | "NotReadableError" | "NotFoundError" | NO_BYTES => {
            StoreError::Damaged { place, reason }
        }
        _ => StoreError::Failed { place, reason },
    }
}

#[cfg(test)]
mod tests;
