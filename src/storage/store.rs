//! The one trait for a small key-value store.

use std::ops::Bound;

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};

use super::StoreError;

/// The longest key, in bytes.
pub const MAX_KEY: usize = 256;
/// The longest value, in bytes: a block and what belongs to it.
pub const MAX_VALUE: usize = 16 * 1024 * 1024;
/// The largest batch, in bytes of keys and values.
pub const MAX_BATCH: usize = 128 * 1024 * 1024;
/// A page of a range ends after so many bytes of keys and values.
pub const MAX_PAGE: usize = 4 * 1024 * 1024;

/// A table's name: few, short, known when the program is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Table(&'static str);

impl Table {
    /// The table of this name.
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

/// Tables of keys in the order of their bytes. A table that nobody wrote to is empty.
///
/// Calls may block for as long as a disk takes, so they are made off the network task. Each sees what all batches committed
/// before it made; nothing is promised across calls, so whoever reads several keys that belong together keeps writers away meanwhile.
pub trait Store: Send + Sync + 'static {
    /// A key's value.
    ///
    /// # Errors
    /// The store can't be read, or is damaged.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// The entries of a range in order, up to [`MAX_PAGE`] bytes (one at least, where there is one) and the number asked for.
    ///
    /// # Errors
    /// The store can't be read, or is damaged.
    fn range(&self, table: Table, range: KeyRange<'_>) -> Result<Page, StoreError>;

    /// Writes all of a batch or nothing of it, in the batch's order. What is read afterwards has it. A store in a file has it on the disk
    /// by then; of another see [`Store::flush`].
    ///
    /// # Errors
    /// Something is over its limit, the store is full, or can't be written. Nothing of the batch is kept then, or in the last two
    /// cases all of it may be: what is read afterwards shows which.
    fn commit(&self, batch: &Batch) -> Result<(), StoreError>;

    /// The same where it is enough that a crash leaves what was there after one of the batches: this one may be lost with what came
    /// after it, until the next [`Store::commit`] or [`Store::flush`] is done. Faster by far in a file.
    ///
    /// # Errors
    /// As of [`Store::commit`].
    fn commit_soon(&self, batch: &Batch) -> Result<(), StoreError> {
        self.commit(batch)
    }

    /// Whether anything of it outlasts the process. Default: yes.
    fn is_lasting(&self) -> bool {
        true
    }

    /// Ready when all that was committed before is kept over a crash, as far as this store keeps anything.
    ///
    /// # Errors
    /// Something of it can't be written. It is still what is read, and tried again.
    fn flush(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        std::future::ready(Ok(())).boxed()
    }

    /// The same, and then lets go of what others wait for: nothing can be committed any more. Default: there is nothing to let go of.
    ///
    /// # Errors
    /// Something can't be written; it is lost.
    fn close(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        self.flush()
    }
}

/// Which entries [`Store::range`] is to give. All of them, from the first on, unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRange<'a> {
    /// Where it begins.
    pub from: Bound<&'a [u8]>,
    /// Where it ends.
    pub to: Bound<&'a [u8]>,
    /// From the last to the first.
    pub backwards: bool,
    /// At most so many entries.
    pub most: usize,
}

impl Default for KeyRange<'_> {
    fn default() -> Self {
        Self {
            from: Bound::Unbounded,
            to: Bound::Unbounded,
            backwards: false,
            most: usize::MAX,
        }
    }
}

impl<'a> KeyRange<'a> {
    /// The last entry of all.
    pub fn last() -> Self {
        Self {
            backwards: true,
            most: 1,
            ..Self::default()
        }
    }

    /// From this key on, with it.
    pub fn from(self, key: &'a [u8]) -> Self {
        Self {
            from: Bound::Included(key),
            ..self
        }
    }

    /// What comes after this key.
    pub fn after(self, key: &'a [u8]) -> Self {
        Self {
            from: Bound::Excluded(key),
            ..self
        }
    }

    /// What comes before this key.
    pub fn before(self, key: &'a [u8]) -> Self {
        Self {
            to: Bound::Excluded(key),
            ..self
        }
    }

    /// At most so many entries.
    pub fn most(self, most: usize) -> Self {
        Self { most, ..self }
    }

    /// Whether no key can be in it: its end is before its beginning. Some maps take that ill.
    pub(super) fn is_empty(&self) -> bool {
        match (self.from, self.to) {
            (Bound::Excluded(from), Bound::Excluded(to)) => from >= to,
            (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to))
            | (Bound::Included(from), Bound::Excluded(to)) => from > to,
            _ => false,
        }
    }
}

/// Entries in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Keys and values.
    pub entries: Vec<(Bytes, Bytes)>,
    /// Whether the range holds more than these.
    pub more: bool,
}

impl Page {
    /// The page that begins with these entries.
    pub(super) fn fill<E>(
        entries: impl Iterator<Item = Result<(Bytes, Bytes), E>>,
        most: usize,
    ) -> Result<Self, E> {
        let mut page = Self::default();
        let mut size = 0_usize;
        for entry in entries {
            let (key, value) = entry?;
            let length = key.len() + value.len();
            let is_full = page.entries.len() >= most
                || (!page.entries.is_empty() && size.saturating_add(length) > MAX_PAGE);
            if is_full {
                page.more = true;
                break;
            }
            size = size.saturating_add(length);
            page.entries.push((key, value));
        }
        Ok(page)
    }
}

/// Writes that belong together, in order: of two to one key the later holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    writes: Vec<Write>,
    size: usize,
}

/// One of a batch's writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Gives a key a value, whether it had one or not.
    Put(Table, Bytes, Bytes),
    /// Takes a key away, if it is there.
    Delete(Table, Bytes),
    /// Takes away the keys from the first on and before the other, or to the end where there is none.
    DeleteRange(Table, Bytes, Option<Bytes>),
}

impl Batch {
    /// Gives a key a value, whether it had one or not.
    pub fn put(&mut self, table: Table, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        let (key, value) = (key.into(), value.into());
        self.push(
            key.len().saturating_add(value.len()),
            Write::Put(table, key, value),
        );
    }

    /// Takes a key away, if it is there.
    pub fn delete(&mut self, table: Table, key: impl Into<Bytes>) {
        let key = key.into();
        self.push(key.len(), Write::Delete(table, key));
    }

    /// Takes away the keys from one on and before another, or to the end where there is none.
    pub fn delete_range(&mut self, table: Table, from: impl Into<Bytes>, to: Option<Bytes>) {
        let from = from.into();
        self.push(from.len(), Write::DeleteRange(table, from, to));
    }

    /// Adds another's writes behind these.
    pub fn append(&mut self, other: Self) {
        self.size = self.size.saturating_add(other.size);
        self.writes.extend(other.writes);
    }

    /// The same in memory of its own: a slice would hold on to all of the message or the block of which it is a part.
    pub(super) fn owned(&self) -> Self {
        let owned = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
        let writes = self.writes.iter().map(|write| match write {
            Write::Put(table, key, value) => Write::Put(*table, owned(key), owned(value)),
            Write::Delete(table, key) => Write::Delete(*table, owned(key)),
            Write::DeleteRange(table, from, to) => {
                Write::DeleteRange(*table, owned(from), to.as_ref().map(owned))
            }
        });
        Self {
            writes: writes.collect(),
            size: self.size,
        }
    }

    /// The writes in order.
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// Bytes of keys and values.
    pub fn size(&self) -> usize {
        self.size
    }

    fn push(&mut self, size: usize, write: Write) {
        self.size = self.size.saturating_add(size);
        self.writes.push(write);
    }

    /// Whether all is within the limits; every store looks before it writes.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        within("a batch", self.size, MAX_BATCH)?;
        for write in &self.writes {
            match write {
                Write::Put(_, key, value) => {
                    within("a key", key.len(), MAX_KEY)?;
                    within("a value", value.len(), MAX_VALUE)?;
                }
                Write::Delete(_, key) | Write::DeleteRange(_, key, _) => {
                    within("a key", key.len(), MAX_KEY)?;
                }
            }
        }
        Ok(())
    }
}

fn within(what: &'static str, size: usize, limit: usize) -> Result<(), StoreError> {
    if size > limit {
        return Err(StoreError::TooLarge { what, size, limit });
    }
    Ok(())
}
