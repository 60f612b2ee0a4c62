//! A disk under a chain's store, for a node whose host may lose its power.
//!
//! What is committed is read at once, and is on the disk once it was flushed ([`Store::flush`]), which takes time. Where the power goes, what was
//! flushed is there afterwards, and of the batches after that so many of the first as chance has it: writes are lost, and the order of those that
//! are not is kept, as every store promises. A batch whose writing was torn is one that was lost; that a file makes it so, whatever sectors
//! of it were written, is tried where the file is (`src/storage/store_tests.rs`).
//!
//! All that was ever written to it is held in memory, as a row of batches, as long as the disk is.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use futures_timer::Delay;
use selkie::storage::{Batch, KeyRange, MemoryStore, Page, Schema, Store, StoreError, Table};
use selkie_sim_host::Random;

/// The most that a store on it holds, in bytes.
const ROOM: usize = 1 << 30;

/// See the module's documentation. Clones are the same disk.
#[derive(Clone)]
pub struct Disk {
    flush_takes: Duration,
    written: Arc<Mutex<Written>>,
}

#[derive(Default)]
struct Written {
    batches: Vec<Batch>,
    /// So many of them outlast anything.
    flushed: usize,
}

impl Disk {
    /// An empty one, on which all that was committed before is kept so long after it is asked for.
    pub fn new(flush_takes: Duration) -> Self {
        let written = Arc::default();
        Self {
            flush_takes,
            written,
        }
    }

    /// What is on it, as a process finds it that starts now. One process at a time has it open.
    ///
    /// # Errors
    /// As [`MemoryStore::new`] and [`Store::commit`].
    pub fn open(&self, schema: &Schema) -> Result<impl Store + use<>, StoreError> {
        let memory = MemoryStore::new(ROOM, schema)?;
        for batch in &self.lock().batches {
            memory.commit(batch)?;
        }
        let disk = self.clone();
        Ok(Opened { disk, memory })
    }

    /// The power goes, once the process that had it open has been ended. Returns how many batches are lost.
    pub fn lose_power(&self, random: &mut Random) -> usize {
        let mut written = self.lock();
        let before = written.batches.len();
        let kept = written.flushed + random.index(before - written.flushed + 1);
        written.batches.truncate(kept);
        written.flushed = kept;
        before - kept
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A disk that a process has open.
struct Opened {
    disk: Disk,
    memory: MemoryStore,
}

impl Store for Opened {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.memory.get(table, key)
    }

    fn range(&self, table: Table, range: KeyRange<'_>) -> Result<Page, StoreError> {
        self.memory.range(table, range)
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.memory.commit(batch)?;
        self.disk.lock().batches.push(batch.clone());
        Ok(())
    }

    fn flush(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        let (disk, wanted) = (self.disk.clone(), self.disk.lock().batches.len());
        let kept = Delay::new(disk.flush_takes);
        let flushed = async move {
            kept.await;
            let mut written = disk.lock();
            written.flushed = written.flushed.max(wanted.min(written.batches.len()));
            Ok(())
        };
        flushed.boxed()
    }
}
