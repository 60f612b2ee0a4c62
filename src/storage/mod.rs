//! What a node keeps over a restart: its identity key, its address book with the bans, and what a chain stores.
//!
//! Natively key and book are files that only their owner may read. In JavaScript the npm package keeps both (IndexedDB in a
//! page or worker, files in Node), because one wasm serves hosts with different stores, and need not hold any; the address book goes as bytes in and out
//! ([`crate::P2PNetworkManager::save_address_book`]).
//!
//! A chain stores through [`Store`]: named tables of keys in order, read one key or one range at a time and written in batches
//! of which all or nothing is kept. [`MemoryStore`] is there on both skins, `RedbStore` natively, `IndexedDbStore` in a browser. What a store holds has a [`Schema`],
//! so that another program's file and a newer version's are refused and an older one's is brought up to date.
//!
//! ## Why reads do not wait
//!
//! Whoever asks here cannot wait: [`crate::Application`] answers at once, on either skin, and so do the state machines of sync. A
//! browser's own stores (IndexedDB) answer later. Therefore a store that lies on one reads it whole into memory when it is opened,
//! which may be awaited, answers reads from there, and writes behind: batches go out in their order, each as one transaction, so
//! that what a closed tab leaves is what it had after one of its batches. [`Store::flush`] is for whoever must know that all is
//! kept. A store in a file has nothing left to do there after [`Store::commit`], which returns when the batch is on the disk;
//! after [`Store::commit_soon`] it has.

mod error;
mod memory;
mod schema;
#[cfg(all(test, not(selkie_sim)))]
mod shared_tests;
mod store;

#[cfg(not(target_arch = "wasm32"))]
mod address_book;
#[cfg(not(target_arch = "wasm32"))]
mod file;
#[cfg(not(target_arch = "wasm32"))]
mod folder;
#[cfg(not(target_arch = "wasm32"))]
mod identity;
#[cfg(target_arch = "wasm32")]
mod indexed_db;
#[cfg(not(any(target_arch = "wasm32", selkie_sim)))]
mod redb;
#[cfg(all(test, not(any(target_arch = "wasm32", selkie_sim))))]
mod store_tests;

#[cfg(not(any(target_arch = "wasm32", selkie_sim)))]
pub use self::redb::RedbStore;
#[cfg(not(target_arch = "wasm32"))]
pub use address_book::{AddressBookWriter, KeptAddressBook, Opened, keep_address_book};
pub use error::StoreError;
#[cfg(not(target_arch = "wasm32"))]
pub use identity::{load_or_create_identity, load_shared_identity};
#[cfg(target_arch = "wasm32")]
pub use indexed_db::IndexedDbStore;
pub use memory::MemoryStore;
pub use schema::{Schema, Step};
pub use store::{
    Batch, KeyRange, MAX_BATCH, MAX_KEY, MAX_PAGE, MAX_VALUE, Page, Store, Table, Write,
};
