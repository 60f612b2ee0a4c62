//! What a store holds and in which form, written down in the store itself.

use bytes::Bytes;

use super::{Batch, Store, StoreError, Table};

/// Where it is written down; no table of a chain has this name.
pub(super) const TABLE: Table = Table::new("selkie");
const NAME: &[u8] = b"schema";
const VERSION: &[u8] = b"version";

/// One step from a version to the next: reads the store as it is and says what to write. It is committed together with the new
/// version, so that a crash leaves the one or the other.
pub type Step = fn(&dyn Store) -> Result<Batch, StoreError>;

/// What a program keeps in a store.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// Whose it is: a store of another name is left alone.
    pub name: &'static str,
    /// The way from each older version, the first of which is 0. A new store has the version that their number is.
    pub steps: &'static [Step],
}

impl Schema {
    /// Marks a new store, brings an older one up to date, and refuses what this program does not understand. `is_new`: nothing
    /// was ever written there.
    pub(super) fn apply(
        &self,
        store: &dyn Store,
        place: &str,
        is_new: bool,
    ) -> Result<(), StoreError> {
        let known = u32::try_from(self.steps.len()).unwrap_or(u32::MAX);
        if is_new {
            let mut batch = Batch::default();
            batch.put(TABLE, NAME, self.name);
            batch.put(TABLE, VERSION, version(known));
            return store.commit(&batch);
        }
        self.recognize(store, place)?;
        let found = store.get(TABLE, VERSION)?;
        let found = found
            .and_then(|bytes| bytes.as_ref().try_into().ok())
            .map(u32::from_be_bytes);
        let found = found.ok_or_else(|| StoreError::Damaged {
            place: place.to_owned(),
            reason: "it does not say of which version it is".to_owned(),
        })?;
        if found > known {
            return Err(StoreError::Version {
                place: place.to_owned(),
                found,
                known,
            });
        }
        let first = usize::try_from(found).unwrap_or(usize::MAX);
        for (step, next) in self.steps.iter().skip(first).zip(found.saturating_add(1)..) {
            let mut batch = step(store)?;
            batch.put(TABLE, VERSION, version(next));
            store.commit(&batch)?;
        }
        Ok(())
    }

    /// Refuses what has another name, or none.
    pub(super) fn recognize(&self, store: &dyn Store, place: &str) -> Result<(), StoreError> {
        let found = match store.get(TABLE, NAME)? {
            Some(name) if name == self.name => return Ok(()),
            Some(name) => format!("{:?}", String::from_utf8_lossy(&name)),
            None => "a store of another program".to_owned(),
        };
        Err(self.foreign(place, found))
    }

    fn foreign(&self, place: &str, found: String) -> StoreError {
        StoreError::Foreign {
            place: place.to_owned(),
            found,
            wanted: self.name.to_owned(),
        }
    }
}

fn version(number: u32) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}
