//! The chain in its store: what each table holds, and how a block becomes part of it in one batch.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `meta` | `genesis` | the genesis hash |
//! | `meta` | `restoring` | there while a state is being restored, nodes of which lie above the newest block's |
//! | `meta` | `final` | the height of the newest final block (8) |
//! | `heads` | height (8) | the header's id (32), its time (8), the state's root node, the header (none of the genesis) |
//! | `blocks` | height (8) | the block |
//! | `heights` | a header's id | its height (8) |
//! | `certificates` | height (8) | the certificate |
//! | `voted` | a voter's key | the height up to which it has voted here (8), and for which header (32; not in older records) |
//! | `nodes`, `stale` | | the state: `tree.rs` |

use std::sync::Arc;

use bytes::Bytes;

use super::address::Address;
use super::codec::{Malformed, Reader};
use super::execution::{Execution, Fault, values};
use super::genesis::Genesis;
use super::header::Header;
use super::snapshot;
use super::transfer::Transfer;
use super::tree::{self, Child, Hash, Tree, Update};
use super::vote::Certificate;
use super::{Account, LedgerError};
use crate::chain::Block;
use crate::storage::{Batch, KeyRange, Schema, Store, StoreError, Table};

/// What a store for a ledger is opened for.
pub const SCHEMA: Schema = Schema {
    name: "selkie ledger",
    steps: &[],
};

/// Of how many heights before the newest the state is kept: these can be asked for, and gone back to.
pub const HISTORY: u64 = 256;

const META: Table = Table::new("meta");
const HEADS: Table = Table::new("heads");
const BLOCKS: Table = Table::new("blocks");
const HEIGHTS: Table = Table::new("heights");
const CERTIFICATES: Table = Table::new("certificates");
const VOTED: Table = Table::new("voted");

const GENESIS: &[u8] = b"genesis";
const FINAL: &[u8] = b"final";
const RESTORING: &[u8] = b"restoring";

/// A block as the next one needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) height: u64,
    pub(super) id: Hash,
    pub(super) time: u64,
    pub(super) root: Option<Child>,
}

/// A block that was executed and not written yet.
#[derive(Clone, Debug)]
pub(super) struct Executed {
    pub(super) parent: Hash,
    pub(super) head: Head,
    pub(super) update: Update,
}

/// Whether a block has to outlast a crash at once, or may be fetched again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lasting {
    Now,
    Later,
}

#[derive(Clone)]
pub(super) struct Stored {
    pub(super) store: Arc<dyn Store>,
    pub(super) genesis: Arc<Genesis>,
    pub(super) genesis_hash: Hash,
}

impl Stored {
    /// Finds the chain in a store, or begins it there.
    pub(super) fn open(genesis: Genesis, store: Arc<dyn Store>) -> Result<Self, LedgerError> {
        genesis.check()?;
        let stored = Self {
            genesis_hash: genesis.hash(),
            genesis: Arc::new(genesis),
            store,
        };
        match stored.store.get(META, GENESIS)? {
            Some(hash) if hash == stored.genesis_hash[..] => {}
            Some(hash) => {
                return Err(LedgerError::OtherGenesis {
                    found: hex::encode(hash),
                    wanted: hex::encode(stored.genesis_hash),
                });
            }
            None => stored.begin()?,
        }
        if stored.store.get(META, RESTORING)?.is_some() {
            stored.stop_restoring(stored.newest()?.height)?;
        }
        Ok(stored)
    }

    fn begin(&self) -> Result<(), StoreError> {
        let update = self.genesis_state()?;
        let head = Head {
            height: 0,
            id: self.genesis_hash,
            time: 0,
            root: update.root,
        };
        let mut batch = update.batch;
        batch.put(META, GENESIS, self.genesis_hash.to_vec());
        put_head(&head, &[], &mut batch);
        batch.put(
            HEIGHTS,
            head.id.to_vec(),
            head.height.to_be_bytes().to_vec(),
        );
        self.store.commit(&batch)
    }

    fn genesis_state(&self) -> Result<Update, StoreError> {
        let accounts = self.genesis.accounts.iter().map(|(address, balance)| {
            let account = Account {
                balance: *balance,
                nonce: 0,
            };
            (*address, account)
        });
        let accounts: Vec<_> = accounts.collect();
        let accounts = accounts.iter().map(|(address, account)| (address, account));
        self.tree().update(None, 0, &values(accounts))
    }

    pub(super) fn tree(&self) -> Tree<'_> {
        Tree(&*self.store)
    }

    /// The newest block's.
    pub(super) fn newest(&self) -> Result<Head, StoreError> {
        let last = self.store.range(HEADS, KeyRange::last())?.entries.pop();
        let (height, record) = last.ok_or_else(|| damaged("it has no newest block"))?;
        read_head(&height, &record).map_err(|wrong| damaged(&wrong.to_string()))
    }

    /// The one at a height, if it is here.
    pub(super) fn head(&self, height: u64) -> Result<Option<Head>, StoreError> {
        let height = height.to_be_bytes();
        let record = self.store.get(HEADS, &height)?;
        let head = record.map(|record| read_head(&height, &record)).transpose();
        head.map_err(|wrong| damaged(&wrong.to_string()))
    }

    /// The headers from a height on, as long as there are any.
    pub(super) fn headers(&self, from: u64, most: usize) -> Result<Vec<Bytes>, StoreError> {
        let from = from.max(1).to_be_bytes();
        let range = KeyRange::default().from(&from).most(most);
        let heads = self.store.range(HEADS, range)?.entries.into_iter();
        // The header is what comes last.
        let header = |record: Bytes| {
            let start = record.len().saturating_sub(Header::LENGTH);
            record.slice(start..)
        };
        Ok(heads.map(|(_, record)| header(record)).collect())
    }

    /// The lowest height from which on blocks are here: above 0 where a snapshot was the beginning, whose own block did not come with it.
    pub(super) fn base(&self) -> Result<u64, StoreError> {
        let first = self.store.range(HEADS, KeyRange::default().most(1))?;
        let first = first
            .entries
            .first()
            .map(|(height, _)| Reader::new(height, "a height").u64());
        let first = first
            .transpose()
            .map_err(|wrong| damaged(&wrong.to_string()))?;
        Ok(match first {
            None | Some(0) => 0,
            Some(snapshot) => snapshot.saturating_add(1),
        })
    }

    pub(super) fn block(&self, height: u64) -> Result<Option<Block>, StoreError> {
        let data = self.store.get(BLOCKS, &height.to_be_bytes())?;
        Ok(data.map(Block::new))
    }

    pub(super) fn height_of(&self, id: &Hash) -> Result<Option<u64>, StoreError> {
        self.number(HEIGHTS, id)
    }

    pub(super) fn final_height(&self) -> Result<u64, StoreError> {
        Ok(self.number(META, FINAL)?.unwrap_or(0))
    }

    pub(super) fn certificate(&self, height: u64) -> Result<Option<Certificate>, StoreError> {
        let bytes = self.store.get(CERTIFICATES, &height.to_be_bytes())?;
        let certificate = bytes.map(|bytes| Certificate::decode(&bytes)).transpose();
        certificate.map_err(|wrong| damaged(&wrong.to_string()))
    }

    /// The first at a height or above.
    pub(super) fn certificate_from(&self, height: u64) -> Result<Option<Certificate>, StoreError> {
        let height = height.to_be_bytes();
        let range = KeyRange::default().from(&height).most(1);
        let first = self.store.range(CERTIFICATES, range)?.entries.pop();
        let first = first
            .map(|(_, bytes)| Certificate::decode(&bytes))
            .transpose();
        first.map_err(|wrong| damaged(&wrong.to_string()))
    }

    fn number(&self, table: Table, key: &[u8]) -> Result<Option<u64>, StoreError> {
        let bytes = self.store.get(table, key)?;
        let number = bytes
            .map(|bytes| <[u8; 8]>::try_from(&bytes[..]))
            .transpose();
        let number = number.map_err(|_| damaged("a number is none"))?;
        Ok(number.map(u64::from_be_bytes))
    }

    /// What a block whose transfers are signed makes of its parent's state.
    pub(super) fn execute(
        &self,
        parent: &Head,
        header: &Header,
        transfers: &[Transfer],
    ) -> Result<Executed, Fault> {
        let mut execution = Execution::new(self.tree(), parent.root, self.genesis.minimum_fee);
        for transfer in transfers {
            execution.transfer(transfer)?;
        }
        let changes = execution.finish(&header.proposer)?;
        let update = self.tree().update(parent.root, header.height, &changes)?;
        Ok(Executed {
            parent: parent.id,
            head: Head {
                height: header.height,
                id: header.id(),
                time: header.time,
                root: update.root,
            },
            update,
        })
    }

    /// Writes a block that was executed: all that belongs to it, at once.
    pub(super) fn commit(
        &self,
        executed: Executed,
        header: &Header,
        block: &Block,
        pinned: Option<u64>,
        lasting: Lasting,
    ) -> Result<(), StoreError> {
        let Executed { head, update, .. } = executed;
        let height = Bytes::copy_from_slice(&head.height.to_be_bytes());
        let mut batch = update.batch;
        put_head(&head, &header.encode(), &mut batch);
        batch.put(BLOCKS, height.clone(), block.data.clone());
        batch.put(HEIGHTS, head.id.to_vec(), height);
        if let Some(oldest) = head.height.checked_sub(HISTORY) {
            let oldest = pinned.map_or(oldest, |pinned| oldest.min(pinned));
            tree::prune(&*self.store, oldest, &mut batch)?;
        }
        match lasting {
            Lasting::Now => self.store.commit(&batch),
            Lasting::Later => self.store.commit_soon(&batch),
        }
    }

    /// Goes back to an older block, which is still kept with its state.
    pub(super) fn revert(&self, newest: u64, height: u64) -> Result<(), StoreError> {
        self.store.commit(&self.reverted(newest, height)?)
    }

    /// What that takes.
    pub(super) fn reverted(&self, newest: u64, height: u64) -> Result<Batch, StoreError> {
        let mut batch = Batch::default();
        tree::revert(height, &mut batch);
        let next = height.saturating_add(1);
        for gone in next..=newest {
            if let Some(head) = self.head(gone)? {
                batch.delete(HEIGHTS, head.id.to_vec());
            }
        }
        for table in [HEADS, BLOCKS, CERTIFICATES] {
            batch.delete_range(table, next.to_be_bytes().to_vec(), None);
        }
        snapshot::forget_above(height, &mut batch);
        Ok(batch)
    }

    /// From now on there may be nodes of a state that is not the chain's yet.
    pub(super) fn begin_restoring(&self) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        batch.put(META, RESTORING, Bytes::new());
        self.store.commit(&batch)
    }

    /// Takes them away.
    pub(super) fn stop_restoring(&self, newest: u64) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        tree::revert(newest, &mut batch);
        batch.delete(META, RESTORING);
        self.store.commit(&batch)
    }

    /// They are the chain's: it begins anew at this block, which is final, and with the last of its nodes in `batch`.
    pub(super) fn restored(
        &self,
        head: &Head,
        header: &Header,
        mut batch: Batch,
    ) -> Result<(), StoreError> {
        let height = Bytes::copy_from_slice(&head.height.to_be_bytes());
        tree::forget_before(head.height, &mut batch);
        for table in [HEADS, BLOCKS, HEIGHTS, CERTIFICATES] {
            batch.delete_range(table, Bytes::new(), None);
        }
        snapshot::forget_all(&mut batch);
        put_head(head, &header.encode(), &mut batch);
        batch.put(HEIGHTS, head.id.to_vec(), height.clone());
        batch.put(META, FINAL, height);
        batch.delete(META, RESTORING);
        self.store.commit(&batch)
    }

    /// A header is final from now on.
    pub(super) fn finalize(&self, certificate: &Certificate) -> Result<(), StoreError> {
        let height = Bytes::copy_from_slice(&certificate.height.to_be_bytes());
        let mut batch = Batch::default();
        batch.put(CERTIFICATES, height.clone(), certificate.encode());
        batch.put(META, FINAL, height);
        self.store.commit(&batch)
    }

    /// Notes that a voter votes for a header, before anybody hears of it; false where it has voted for another at its height, or above.
    pub(super) fn votes(
        &self,
        voter: &Address,
        height: u64,
        id: &Hash,
    ) -> Result<bool, StoreError> {
        let before = self.store.get(VOTED, voter.as_bytes())?;
        let before = before.map(|record| read_voted(&record)).transpose();
        let before = before.map_err(|wrong| damaged(&wrong.to_string()))?;
        if let Some((at, of)) = before
            && at >= height
        {
            return Ok(at == height && of.is_some_and(|of| of == *id));
        }
        let record = [&height.to_be_bytes()[..], &id[..]].concat();
        let mut batch = Batch::default();
        batch.put(VOTED, voter.as_bytes().to_vec(), record);
        self.store.commit(&batch)?;
        Ok(true)
    }
}

fn read_voted(record: &[u8]) -> Result<(u64, Option<Hash>), Malformed> {
    let mut reader = Reader::new(record, "what a voter has voted for");
    let height = reader.u64()?;
    let id = (!reader.is_empty()).then(|| reader.array()).transpose()?;
    Ok((height, id))
}

fn put_head(head: &Head, header: &[u8], batch: &mut Batch) {
    let mut record = head.id.to_vec();
    record.extend(head.time.to_be_bytes());
    Child::write(head.root, &mut record);
    record.extend(header);
    batch.put(HEADS, head.height.to_be_bytes().to_vec(), record);
}

fn read_head(height: &[u8], record: &[u8]) -> Result<Head, Malformed> {
    let mut height = Reader::new(height, "a height");
    let mut reader = Reader::new(record, "a block's record");
    Ok(Head {
        height: height.u64()?,
        id: reader.array()?,
        time: reader.u64()?,
        root: Child::read(&mut reader)?,
    })
}

pub(super) fn damaged(reason: &str) -> StoreError {
    StoreError::Damaged {
        place: "the ledger's store".to_owned(),
        reason: reason.to_owned(),
    }
}
