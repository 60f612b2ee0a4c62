//! A store in a browser: an image of it in memory, and IndexedDB, which is written behind.
//!
//! Opening reads all that is there into the image. Reads are answered from it. A batch changes the image at once and is then
//! written, with those that wait before it, in their order: each is whole in one transaction, and the next transaction begins when the one before
//! it is done. So whenever a tab is closed or crashes, IndexedDB holds what the store held after one of its batches, and what was lost are
//! the last ones. [`Store::flush`] waits until all are there.
//!
//! All tables lie in one object store, whose keys are a table's name, a zero byte and the key: IndexedDB orders binary keys as we do.
//! A Web Lock of the store's name keeps other tabs and workers away; the browser frees it when its holder is gone, however that ends.
//!
//! A write that fails (a full disk, a quota) is tried again, every [`REST`] at most, when somebody commits or flushes. Until it succeeds nothing
//! more is taken, and reads have what was committed before.
//!
//! Bounds: the image has the limit in bytes that it is opened with, and [`MAX_BEHIND`] bytes wait to be written.

mod database;
mod web_lock;

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use send_wrapper::SendWrapper;
use tokio::sync::Notify;
use wasm_bindgen::JsValue;

use self::{
    database::{Database, Durability},
    web_lock::WebLock,
};
use super::{Batch, KeyRange, MemoryStore, Page, Schema, Store, StoreError, Table};
use crate::platform::{self, Instant};

/// Bytes of batches that wait to be written, and what each of their writes takes besides.
const MAX_BEHIND: usize = 32 * 1024 * 1024;
const WRITE: usize = 128;
/// Batches that wait are written together, up to so many bytes.
const TRANSACTION: usize = 1024 * 1024;
/// How long nothing is tried after a write that failed.
const REST: Duration = Duration::from_secs(5);
/// How many entries are read at a time when a store is opened.
const READ: u32 = 4096;

/// See the module's documentation. Who has it open is alone with it, also in other tabs, until it is closed or dropped.
pub struct IndexedDbStore {
    image: MemoryStore,
    behind: SendWrapper<Rc<Behind>>,
}

/// What is written behind.
struct Behind {
    place: String,
    database: Database,
    lock: WebLock,
    queue: RefCell<Queue>,
    /// Something was written, or could not be.
    news: Notify,
    is_writing: Cell<bool>,
    is_closed: Cell<bool>,
}

#[derive(Default)]
struct Queue {
    /// Each with whether it has to outlast more than a crash of the tab.
    waiting: VecDeque<(Batch, Durability)>,
    size: usize,
    /// How many batches were committed, and how many are written.
    committed: u64,
    written: u64,
    /// Why the last write failed, and until when nothing is tried.
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
        let store = Self {
            image,
            behind: SendWrapper::new(Rc::new(Behind {
                place,
                database,
                lock,
                queue: RefCell::default(),
                news: Notify::new(),
                is_writing: Cell::new(false),
                is_closed: Cell::new(false),
            })),
        };
        schema.apply(&store, &store.behind.place, is_new)?;
        store.flush().await?;
        Ok(store)
    }

    /// Writes what waits, and lets go of the database: nothing can be committed any more.
    ///
    /// # Errors
    /// Of what waits something can't be written.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.behind.is_closed.set(true);
        let flushed = self.flush().await;
        self.behind.database.close();
        self.behind.lock.free().await;
        flushed
    }

    fn commit_with(&self, batch: &Batch, durability: Durability) -> Result<(), StoreError> {
        batch.check()?;
        let behind = &self.behind;
        if behind.is_closed.get() {
            return Err(StoreError::Failed {
                place: behind.place.clone(),
                reason: "it is closed".to_owned(),
            });
        }
        let size = batch.size() + batch.writes().len() * WRITE;
        {
            let queue = behind.queue.borrow();
            if let Some((error, until)) = &queue.trouble {
                let error = error.clone();
                let is_over = platform::now() >= *until;
                drop(queue);
                if is_over {
                    Rc::clone(behind).write();
                }
                return Err(error);
            }
            if queue.size > 0 && queue.size + size > MAX_BEHIND {
                let reason = format!("{} bytes wait for the disk already", queue.size);
                let place = behind.place.clone();
                return Err(StoreError::Full { place, reason });
            }
        }
        self.image.commit(batch).map_err(|error| match error {
            StoreError::Full { reason, .. } => StoreError::Full {
                place: behind.place.clone(),
                reason,
            },
            other => other,
        })?;
        let mut queue = behind.queue.borrow_mut();
        queue.waiting.push_back((batch.clone(), durability));
        queue.size += size;
        queue.committed += 1;
        drop(queue);
        Rc::clone(behind).write();
        Ok(())
    }
}

impl Store for IndexedDbStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.image.get(table, key)
    }

    fn range(&self, table: Table, range: KeyRange<'_>) -> Result<Page, StoreError> {
        self.image.range(table, range)
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.commit_with(batch, Durability::Strict)
    }

    fn commit_soon(&self, batch: &Batch) -> Result<(), StoreError> {
        self.commit_with(batch, Durability::Relaxed)
    }

    fn flush(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        let behind = Rc::clone(&self.behind);
        let until = behind.queue.borrow().committed;
        SendWrapper::new(async move {
            behind.queue.borrow_mut().trouble = None;
            loop {
                // From here on nothing is missed.
                let news = behind.news.notified();
                Rc::clone(&behind).write();
                {
                    let queue = behind.queue.borrow();
                    if queue.written >= until {
                        return Ok(());
                    }
                    if let Some((error, _)) = &queue.trouble {
                        return Err(error.clone());
                    }
                }
                news.await;
            }
        })
        .boxed()
    }
}

impl std::fmt::Debug for IndexedDbStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IndexedDbStore")
            .field("place", &self.behind.place)
            .finish_non_exhaustive()
    }
}

impl Behind {
    /// Writes what waits, unless that is under way.
    fn write(self: Rc<Self>) {
        if !self.queue.borrow().waiting.is_empty() && !self.is_writing.replace(true) {
            platform::spawn(async move {
                while self.write_next().await {}
                self.is_writing.set(false);
                self.news.notify_waiters();
            });
        }
    }

    /// The next transaction; whether there may be another.
    async fn write_next(&self) -> bool {
        let (mut size, mut durability) = (0, Durability::Relaxed);
        let mut next = Vec::new();
        for (batch, wanted) in &self.queue.borrow().waiting {
            size += batch.size() + batch.writes().len() * WRITE;
            if !next.is_empty() && size > TRANSACTION {
                break;
            }
            durability = durability.max(*wanted);
            next.push(batch.clone());
        }
        if next.is_empty() {
            return false;
        }
        let written = self.database.write(&next, durability).await;
        let mut queue = self.queue.borrow_mut();
        if let Err(error) = written {
            let error = failure(&self.place, &error);
            tracing::error!(%error, "a batch is not written");
            queue.trouble = Some((error, platform::now() + REST));
            return false;
        }
        queue.trouble = None;
        queue.written += next.len() as u64;
        for batch in &next {
            queue.waiting.pop_front();
            queue.size -= batch.size() + batch.writes().len() * WRITE;
        }
        drop(queue);
        self.news.notify_waiters();
        true
    }
}

/// Reads all that is there into the image; whether that is nothing.
async fn fill(image: &MemoryStore, database: &Database, place: &str) -> Result<bool, StoreError> {
    let mut last: Option<Bytes> = None;
    loop {
        let page = database.read(last.as_deref(), READ).await;
        let page = page.map_err(|error| failure(place, &error))?;
        let Some((end, _)) = page.last() else {
            return Ok(last.is_none());
        };
        last = Some(end.clone());
        for (key, value) in page {
            let end = key.iter().position(|byte| *byte == 0);
            let table = end.and_then(|end| std::str::from_utf8(&key[..end]).ok());
            let (Some(end), Some(table)) = (end, table) else {
                return Err(StoreError::Damaged {
                    place: place.to_owned(),
                    reason: "a key of no table".to_owned(),
                });
            };
            if !image.fill(table, &key.slice(end + 1..), &value) {
                return Err(StoreError::Full {
                    place: place.to_owned(),
                    reason: "it holds more than fits into memory here".to_owned(),
                });
            }
        }
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
    let reason = format!("{name}: {}", said.unwrap_or_default());
    let place = place.to_owned();
    match name.as_str() {
        "QuotaExceededError" => StoreError::Full { place, reason },
        // What lies there is of a later version of this layout, or no bytes.
        "VersionError" | "DataError" | "NotReadableError" | "NotFoundError" => {
            StoreError::Damaged { place, reason }
        }
        _ => StoreError::Failed { place, reason },
    }
}

#[cfg(test)]
mod tests;
