//! A store in memory: for tests, for tabs, and for what need not outlast the process.

use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use bytes::Bytes;

use super::{Batch, KeyRange, Page, Schema, Store, StoreError, Table, Write};

/// What an entry takes besides its bytes: two handles and its part of a tree's node.
const ENTRY: usize = 96;
/// How errors call it.
const PLACE: &str = "the store in memory";

/// Tables in memory, up to a limit in bytes of keys, values and what holding them takes. What is over it is refused.
#[derive(Debug)]
pub struct MemoryStore {
    limit: usize,
    held: RwLock<Held>,
}

#[derive(Debug, Default)]
struct Held {
    tables: BTreeMap<Box<str>, BTreeMap<Bytes, Bytes>>,
    size: usize,
}

impl MemoryStore {
    /// An empty store for what this schema says.
    ///
    /// # Errors
    /// The limit is too low for anything.
    pub fn new(limit: usize, schema: &Schema) -> Result<Self, StoreError> {
        let store = Self::empty(limit);
        schema.apply(&store, PLACE, true)?;
        Ok(store)
    }

    /// One that is filled from elsewhere.
    pub(super) fn empty(limit: usize) -> Self {
        Self {
            limit,
            held: RwLock::default(),
        }
    }

    /// Puts in what lies elsewhere; whether there was room for it.
    #[cfg(target_arch = "wasm32")]
    pub(super) fn fill(&self, table: &str, key: Bytes, value: Bytes) -> bool {
        let mut held = self.write();
        held.put(table, key, value);
        held.size <= self.limit
    }

    /// Goes through all that is here, by its table.
    #[cfg(target_arch = "wasm32")]
    pub(super) fn try_for_each<E>(
        &self,
        mut visit: impl FnMut(&str, &Bytes, &Bytes) -> Result<(), E>,
    ) -> Result<(), E> {
        let held = self.read();
        let tables = held.tables.iter();
        let mut entries =
            tables.flat_map(|(table, entries)| entries.iter().map(move |it| (table, it)));
        entries.try_for_each(|(table, (key, value))| visit(table, key, value))
    }

    /// As [`Store::commit`], and keeps the batch's own bytes.
    pub(super) fn take(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut held = self.write();
        let mut undo = Vec::new();
        for write in batch.writes() {
            match write {
                Write::Put(table, key, value) => {
                    let before = held.put(table.name(), key.clone(), value.clone());
                    undo.push((*table, key.clone(), before));
                }
                Write::Delete(table, key) => {
                    undo.push((*table, key.clone(), held.delete(*table, key)));
                }
                Write::DeleteRange(table, from, to) => {
                    let keys = held.keys(*table, from, to.as_ref());
                    for key in keys {
                        let value = held.delete(*table, &key);
                        undo.push((*table, key, value));
                    }
                }
            }
        }
        if held.size <= self.limit {
            return Ok(());
        }
        let reason = format!("{} bytes of {} are wanted", held.size, self.limit);
        for (table, key, before) in undo.into_iter().rev() {
            match before {
                Some(value) => held.put(table.name(), key, value),
                None => held.delete(table, &key),
            };
        }
        Err(StoreError::Full {
            place: PLACE.to_owned(),
            reason,
        })
    }

    // No code of ours panics while it holds one of these.
    fn read(&self) -> RwLockReadGuard<'_, Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Held> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn is_lasting(&self) -> bool {
        false
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let held = self.read();
        let table = held.tables.get(table.name());
        Ok(table.and_then(|table| table.get(key)).cloned())
    }

    fn range(&self, table: Table, range: KeyRange<'_>) -> Result<Page, StoreError> {
        let held = self.read();
        let Some(table) = held.tables.get(table.name()).filter(|_| !range.is_empty()) else {
            return Ok(Page::default());
        };
        let entries = table.range::<[u8], _>((range.from, range.to));
        let entries = entries.map(|(key, value)| Ok((key.clone(), value.clone())));
        if range.backwards {
            Page::fill(entries.rev(), range.most)
        } else {
            Page::fill(entries, range.most)
        }
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        batch.check()?;
        self.take(&batch.owned())
    }
}

impl Held {
    /// Returns what was there.
    fn put(&mut self, table: &str, key: Bytes, value: Bytes) -> Option<Bytes> {
        if !self.tables.contains_key(table) {
            self.tables.insert(table.into(), BTreeMap::new());
        }
        let entries = self.tables.get_mut(table)?;
        let of_key = ENTRY + key.len();
        self.size += value.len();
        let before = entries.insert(key, value);
        match &before {
            Some(value) => self.size -= value.len(),
            None => self.size += of_key,
        }
        before
    }

    /// Returns what was there.
    fn delete(&mut self, table: Table, key: &Bytes) -> Option<Bytes> {
        let before = self.tables.get_mut(table.name())?.remove(key)?;
        self.size -= ENTRY + key.len() + before.len();
        Some(before)
    }

    fn keys(&self, table: Table, from: &Bytes, to: Option<&Bytes>) -> Vec<Bytes> {
        let Some(entries) = self.tables.get(table.name()) else {
            return Vec::new();
        };
        let keys = entries.range(from.clone()..).map(|(key, _)| key);
        keys.take_while(|key| to.is_none_or(|to| *key < to))
            .cloned()
            .collect()
    }
}
