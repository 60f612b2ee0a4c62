//! The chain: a guest book. What an item is, how it is named, and what is valid; the network never looks inside.
//!
//! An entry (a transaction) is a fee of 8 bytes and a text; a page (a block) is a header of 56 bytes
//! (height, the page before, a hash over the entries' names) and the entries, each behind its length in 2 bytes. Both are
//! named by 16 bytes of a hash of their own, under which every event and every log shows them.
//!
//! Since pages can be split into header and entries, one whose entries are known already travels in compact form.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use selkie::{Application, Block, Checked, Item, ItemId, Transaction, chain::BlockParts};
use sha2::{Digest, Sha256};

/// Bytes of a fee, a name, a hash and a header.
const FEE: usize = 8;
const NAME: usize = 16;
const HASH: usize = 32;
const HEADER: usize = 8 + NAME + HASH;

type Name = [u8; NAME];

/// The guest book as far as it is written; clones are the same book.
#[derive(Clone, Default)]
pub struct GuestBook(Arc<Mutex<Written>>);

#[derive(Clone, Copy, Default)]
pub struct Written {
    pub pages: u64,
    last: Name,
}

impl GuestBook {
    /// The next page, out of these entries.
    pub fn next_page(&self, entries: &[Bytes]) -> Block {
        let Written { pages, last } = self.written();
        let header = [&(pages + 1).to_be_bytes()[..], &last, &root(entries)].concat();
        page(&header, entries)
    }

    pub fn written(&self) -> Written {
        *self.0.lock().expect("nobody panics here")
    }

    /// What is wrong with a header, if anything is: an old or an early page is of no use, and nobody's fault.
    fn judge(&self, header: &Bytes) -> Checked {
        let Some((height, parent)) = read(header) else {
            return Checked::reject(header, "a header has 56 bytes");
        };
        let Written { pages, last } = self.written();
        if height != pages + 1 {
            return Checked::ignore(header, format!("page {height}, but {pages} are written"));
        }
        if parent != last {
            return Checked::reject(header, "it does not follow the last page");
        }
        Checked::accept(id(&name(header)))
    }
}

impl Application for GuestBook {
    fn check_transaction(&self, entry: &Transaction) -> Checked {
        match entry.data.split_first_chunk::<FEE>() {
            Some((fee, text)) if !text.is_empty() && std::str::from_utf8(text).is_ok() => Checked {
                fee: Some(u64::from_be_bytes(*fee)),
                ..Checked::accept(id(&name(&entry.data)))
            },
            _ => Checked::reject(&entry.data, "an entry is a fee and a text in UTF-8"),
        }
    }

    fn check_block(&self, page: &Block) -> Checked {
        let Some(parts) = self.split_block(page) else {
            return Checked::reject(&page.data, "the page is torn");
        };
        if !parts.header.ends_with(&root(&parts.transactions)) {
            return Checked::reject(&page.data, "the header is of other entries");
        }
        let entries = parts.transactions.into_iter().map(Transaction::new);
        let wrong = entries
            .map(|entry| self.check_transaction(&entry))
            .find(|checked| !checked.reason.is_empty());
        wrong.unwrap_or_else(|| self.judge(&parts.header))
    }

    fn check_header(&self, header: &Bytes) -> Checked {
        self.judge(header)
    }

    fn split_block(&self, page: &Block) -> Option<BlockParts> {
        let mut rest = page.data.clone();
        let header = take(&mut rest, HEADER)?;
        let mut transactions = Vec::new();
        while !rest.is_empty() {
            let length = take(&mut rest, 2)?;
            let length = u16::from_be_bytes(length.as_ref().try_into().ok()?);
            transactions.push(take(&mut rest, length.into())?);
        }
        Some(BlockParts {
            header,
            transactions,
        })
    }

    fn join_block(&self, header: &Bytes, entries: &[Bytes]) -> Option<Block> {
        (header.len() == HEADER && header.ends_with(&root(entries))).then(|| page(header, entries))
    }

    fn deliver(&self, item: &Item) {
        let Item::Block(page) = item else { return };
        if let Some(parts) = self.split_block(page) {
            let mut written = self.0.lock().expect("nobody panics here");
            *written = Written {
                pages: written.pages + 1,
                last: name(&parts.header),
            };
        }
    }
}

/// A header's height, and the page before.
fn read(header: &Bytes) -> Option<(u64, Name)> {
    let (height, rest) = header.split_first_chunk()?;
    let (parent, root) = rest.split_first_chunk()?;
    (root.len() == HASH).then_some((u64::from_be_bytes(*height), *parent))
}

fn page(header: &[u8], entries: &[Bytes]) -> Block {
    let mut data = header.to_vec();
    for entry in entries {
        let length = u16::try_from(entry.len()).unwrap_or(u16::MAX);
        data.extend(length.to_be_bytes());
        data.extend(entry);
    }
    Block::new(data)
}

/// The first bytes of these, taken off; no copy.
fn take(bytes: &mut Bytes, count: usize) -> Option<Bytes> {
    (bytes.len() >= count).then(|| bytes.split_to(count))
}

/// The hash over the entries' names.
fn root(entries: &[Bytes]) -> [u8; HASH] {
    let names = entries.iter().map(|entry| name(entry.as_ref()));
    let all = names.fold(Sha256::new(), Sha256::chain_update);
    all.finalize().into()
}

fn name(data: &[u8]) -> Name {
    let hash = Sha256::new().chain_update("guest book").chain_update(data);
    let mut name = Name::default();
    name.copy_from_slice(&hash.finalize()[..NAME]);
    name
}

fn id(name: &Name) -> ItemId {
    ItemId::new(name).expect("16 bytes are few")
}

/// An entry that offers a fee.
pub fn entry(fee: u64, text: &str) -> Bytes {
    [&fee.to_be_bytes()[..], text.as_bytes()].concat().into()
}
