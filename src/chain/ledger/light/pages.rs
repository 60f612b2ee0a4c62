//! Headers in a store, in the order of their heights from 1 on: [`PAGE`] to an entry, since one alone is short.

use std::sync::Arc;

use bytes::Bytes;

use super::super::{header::Header, stored::damaged};
use crate::storage::{Batch, KeyRange, Store, StoreError, Table};

/// Headers in an entry of the store.
const PAGE: u64 = 64;

const HEADERS: Table = Table::new("headers");

/// See the module's documentation.
pub(super) struct Pages(Arc<dyn Store>);

impl Pages {
    pub(super) fn new(store: &Arc<dyn Store>) -> Self {
        Self(Arc::clone(store))
    }

    /// The highest.
    pub(super) fn last(&self) -> Result<Option<Header>, StoreError> {
        let last = self.0.range(HEADERS, KeyRange::last())?.entries.pop();
        let header = last.map(|(_, page)| {
            let start = page.len().saturating_sub(Header::LENGTH);
            decode(&page[start..])
        });
        header.transpose()
    }

    /// The one of a height, if it is here.
    pub(super) fn get(&self, height: u64) -> Result<Option<Header>, StoreError> {
        let Some(index) = height.checked_sub(1) else {
            return Ok(None);
        };
        let page = self.page(height)?;
        let start = usize::try_from(index % PAGE).unwrap_or(usize::MAX) * Header::LENGTH;
        let header = page
            .get(start..)
            .and_then(|rest| rest.get(..Header::LENGTH));
        header.map(decode).transpose()
    }

    /// Puts headers above a height, in place of those that are there; where there are none, those go. What a crash loses is fetched again.
    pub(super) fn put_above(&self, height: u64, headers: &[Header]) -> Result<(), StoreError> {
        let next = height.saturating_add(1);
        let mut page = self.page(next)?.to_vec();
        page.truncate(usize::try_from(height % PAGE).unwrap_or(0) * Header::LENGTH);
        let mut batch = Batch::default();
        batch.delete_range(HEADERS, key(next), None);
        let mut last = height;
        for header in headers {
            page.extend(header.encode());
            last = header.height;
            if last.is_multiple_of(PAGE) {
                batch.put(HEADERS, key(last), std::mem::take(&mut page));
            }
        }
        if !page.is_empty() {
            batch.put(HEADERS, key(last), page);
        }
        self.0.commit_soon(&batch)
    }

    /// The page that a height is in.
    fn page(&self, height: u64) -> Result<Bytes, StoreError> {
        Ok(self.0.get(HEADERS, &key(height))?.unwrap_or_default())
    }
}

/// Its key.
fn key(height: u64) -> Vec<u8> {
    (height.saturating_sub(1) / PAGE).to_be_bytes().to_vec()
}

pub(super) fn decode(bytes: &[u8]) -> Result<Header, StoreError> {
    Header::decode(bytes).map_err(|wrong| damaged(&wrong.to_string()))
}
