//! The end of the chain as it is now: what was executed last, what waits for its parent, and what is decided.

use std::collections::BTreeMap;

use super::header::{self, Header};
use super::pool::Pool;
use super::stored::{Executed, Head, Lasting, Stored};
use super::sync::Noted;
use super::tally::{Tally, WINDOW};
use super::transfer::Transfer;
use super::tree::{self, Hash};
use super::vote::HeaderVote;
use super::{HISTORY, Judgement, LedgerError};
use crate::chain::Block;
use crate::storage::StoreError;

/// How many bytes of blocks wait for their parents at most; of more, the furthest ahead are dropped, and fetched again by sync.
pub const MAX_WAITING: usize = 16 * 1024 * 1024;

pub(super) struct Chain {
    pub(super) head: Head,
    pub(super) final_height: u64,
    pub(super) pool: Pool,
    pub(super) tally: Tally,
    /// The block that was executed when it was checked or made: it is not executed again.
    pub(super) executed: Option<Executed>,
    /// Blocks that were checked as far as they could be, by height.
    waiting: BTreeMap<u64, Block>,
    waiting_size: usize,
    /// Headers that sync knows ahead of their blocks.
    pub(super) noted: Noted,
    /// Whether another state is on its way here: no block is appended meanwhile.
    pub(super) is_restoring: bool,
    /// The state that is being read at length.
    pub(super) pinned: Option<Pinned>,
    pub(super) trouble: Option<StoreError>,
    /// Why a block that was delivered is not here, until one is written again.
    pub(super) lost: Option<StoreError>,
    /// What was to be written may be there although that failed: then all up to this height is as it was, and `head` has to be looked up.
    unsure: Option<u64>,
}

/// A state that is kept for somebody, however far the chain goes on.
pub(super) struct Pinned {
    pub(super) height: u64,
    /// False: the chain went back to before it.
    pub(super) is_here: bool,
}

impl Chain {
    pub(super) fn new(stored: &Stored) -> Result<Self, LedgerError> {
        Ok(Self {
            head: stored.newest()?,
            final_height: stored.final_height()?,
            pool: Pool::default(),
            tally: Tally::new(&stored.genesis),
            executed: None,
            waiting: BTreeMap::new(),
            waiting_size: 0,
            noted: Noted::default(),
            is_restoring: false,
            pinned: None,
            trouble: None,
            lost: None,
            unsure: None,
        })
    }

    /// Whether a block with this header would be put at the end, or wait for its turn.
    pub(super) fn has_use_for(&self, header: &Header) -> Result<(), Judgement> {
        let useless = |what: &str| Err(Judgement::Useless(what.to_owned()));
        if self.is_restoring {
            return useless("a snapshot is being restored");
        }
        let next = self.head.height.saturating_add(1);
        if header.height < next {
            return useless("the chain is longer already");
        }
        if header.height > next.saturating_add(WINDOW) {
            return useless("it is far ahead of this node, which fetches what is before it first");
        }
        if header.height > next {
            return Ok(());
        }
        if header.parent != self.head.id {
            return useless("it does not follow the newest block here");
        }
        if header.time <= self.head.time {
            return Err(Judgement::Invalid("it is not after its parent".to_owned()));
        }
        match self.tally.decided(header.height) {
            Some(id) if id != header.id() => useless("the votes are for another block"),
            _ => Ok(()),
        }
    }

    pub(super) fn has_executed(&self, id: &Hash) -> bool {
        let executed = self.executed.as_ref();
        executed.is_some_and(|executed| executed.head.id == *id && executed.parent == self.head.id)
    }

    /// A block that was checked, and whatever it opens the way for.
    pub(super) fn take_block(&mut self, stored: &Stored, block: &Block) {
        let Ok(parts) = header::split(block) else {
            return;
        };
        let Ok(header) = Header::decode(&parts.header) else {
            return;
        };
        if self.has_use_for(&header).is_err() {
            return;
        }
        self.wait(header.height, block.clone());
        self.advance(stored);
    }

    /// Appends what waits for nothing any more, and hears the votes.
    pub(super) fn advance(&mut self, stored: &Stored) {
        while let Some(next) = self.take_waiting(self.head.height.saturating_add(1)) {
            if let Err(judgement) = self.append_waiting(stored, &next) {
                let height = self.head.height.saturating_add(1);
                let reason = judgement.reason();
                tracing::warn!(height, reason, "a block is not appended");
                if let Judgement::Trouble(reason) = judgement {
                    self.lost.get_or_insert(StoreError::Failed {
                        place: "the ledger's store".to_owned(),
                        reason,
                    });
                }
                break;
            }
        }
        self.decide(stored);
    }

    fn wait(&mut self, height: u64, block: Block) {
        let size = block.data.len();
        if self.waiting.contains_key(&height) {
            return;
        }
        self.waiting.insert(height, block);
        self.waiting_size += size;
        while self.waiting_size > MAX_WAITING
            && let Some((_, furthest)) = self.waiting.pop_last()
        {
            self.waiting_size -= furthest.data.len();
        }
    }

    fn take_waiting(&mut self, height: u64) -> Option<Block> {
        let block = self.waiting.remove(&height)?;
        self.waiting_size -= block.data.len();
        Some(block)
    }

    fn append_waiting(&mut self, stored: &Stored, block: &Block) -> Result<(), Judgement> {
        let parts = header::split(block)?;
        let header = Header::decode(&parts.header)?;
        let transfers = parts.transactions.iter().map(|data| Transfer::decode(data));
        let transfers = transfers.collect::<Result<Vec<_>, _>>()?;
        self.append(stored, block, &header, &transfers, Lasting::Now)
    }

    /// Puts a block at the end. Its signatures and what its header commits to were checked, and its state if its parent was there.
    pub(super) fn append(
        &mut self,
        stored: &Stored,
        block: &Block,
        header: &Header,
        transfers: &[Transfer],
        lasting: Lasting,
    ) -> Result<(), Judgement> {
        let outcome = self.put(stored, block, header, transfers, lasting);
        self.look_again(stored);
        if outcome.is_err() && self.head.id == header.id() {
            // It was written all the same.
            self.has_grown(transfers);
            return Ok(());
        }
        outcome
    }

    fn put(
        &mut self,
        stored: &Stored,
        block: &Block,
        header: &Header,
        transfers: &[Transfer],
        lasting: Lasting,
    ) -> Result<(), Judgement> {
        self.has_use_for(header)?;
        let is_executed = self.has_executed(&header.id());
        let executed = match self.executed.take().filter(|_| is_executed) {
            Some(executed) => executed,
            None => stored.execute(&self.head, header, transfers)?,
        };
        let head = executed.head;
        if tree::root_hash(head.root) != header.state_root {
            return Err(Judgement::Invalid(
                "the state after it has another root".to_owned(),
            ));
        }
        let pinned = self.pinned.as_ref().filter(|pinned| pinned.is_here);
        let pinned = pinned.map(|pinned| pinned.height);
        let written = stored.commit(executed, header, block, pinned, lasting);
        self.note(&written);
        if let Err(error) = written {
            self.unsure = Some(self.head.height);
            self.lost = Some(error.clone());
            return Err(error.into());
        }
        self.head = head;
        self.has_grown(transfers);
        Ok(())
    }

    /// A block with these transfers was written.
    fn has_grown(&mut self, transfers: &[Transfer]) {
        (self.trouble, self.lost) = (None, None);
        for transfer in transfers {
            self.pool
                .sent(transfer.from, transfer.nonce.saturating_add(1));
        }
    }

    /// Puts a block on an older one, and takes off what is above that: in one batch, and only when the block was executed.
    pub(super) fn branch_off(
        &mut self,
        stored: &Stored,
        parent: Head,
        block: &Block,
        header: &Header,
        transfers: &[Transfer],
    ) -> Result<(), Judgement> {
        let left = std::mem::replace(&mut self.head, parent);
        let outcome = self.branch_off_from(stored, &left, block, header, transfers);
        if outcome.is_err() {
            self.executed = None;
            self.head = left;
            self.look_again(stored);
        }
        outcome
    }

    /// Finds the newest block after a write that failed, as soon as the store can be read.
    pub(super) fn look_again(&mut self, stored: &Stored) {
        if let Some(kept) = self.unsure
            && let Ok(newest) = stored.newest()
        {
            self.unsure = None;
            if newest != self.head {
                if newest.height > kept {
                    // It was written all the same.
                    (self.trouble, self.lost) = (None, None);
                }
                self.went_back(kept);
                self.head = newest;
            }
        }
    }

    fn branch_off_from(
        &mut self,
        stored: &Stored,
        left: &Head,
        block: &Block,
        header: &Header,
        transfers: &[Transfer],
    ) -> Result<(), Judgement> {
        let parent = self.head;
        self.has_use_for(header)?;
        let mut executed = stored.execute(&parent, header, transfers)?;
        let mut batch = stored.reverted(left.height, parent.height)?;
        batch.append(executed.update.batch);
        executed.update.batch = batch;
        self.executed = Some(executed);
        self.put(stored, block, header, transfers, Lasting::Now)?;
        tracing::warn!(
            from = left.height,
            to = parent.height,
            "another branch has taken the place of this one"
        );
        self.went_back(parent.height);
        Ok(())
    }

    /// What is above this height is not the chain's any more.
    fn went_back(&mut self, height: u64) {
        if let Some(pinned) = &mut self.pinned {
            pinned.is_here &= pinned.height <= height;
        }
    }

    /// A vote that was checked.
    pub(super) fn take_vote(&mut self, stored: &Stored, vote: &HeaderVote) {
        let near = self.head.height.saturating_add(WINDOW);
        if vote.height > self.final_height && vote.height <= near {
            self.tally.insert(vote);
            self.decide(stored);
        }
    }

    /// What the votes make final, or undo.
    fn decide(&mut self, stored: &Stored) {
        let decided = self.decide_with(stored);
        self.note(&decided);
    }

    fn decide_with(&mut self, stored: &Stored) -> Result<(), StoreError> {
        let decided = self.tally.newest_decided(self.head.height);
        let Some((height, id)) = decided.filter(|_| !self.is_restoring) else {
            return Ok(());
        };
        let here = if height == self.head.height {
            Some(self.head)
        } else {
            stored.head(height)?
        };
        if here.is_some_and(|here| here.id == id) {
            if let Some(certificate) = self.tally.certificate(height, id) {
                stored.finalize(&certificate)?;
                self.final_height = height;
                self.tally.is_final(height);
                self.noted.forget_up_to(height);
            }
        } else if self.head.height - height < HISTORY {
            tracing::warn!(
                height,
                "the votes are for another block than the one here: back before it"
            );
            let parent = height.saturating_sub(1);
            let reverted = stored.revert(self.head.height, parent);
            self.executed = None;
            self.unsure = Some(parent);
            self.look_again(stored);
            reverted?;
        }
        Ok(())
    }

    /// The chain goes on from here, which is final.
    pub(super) fn restored(&mut self, head: Head) {
        // Of what was before nothing is kept.
        if let Some(pinned) = &mut self.pinned {
            pinned.is_here = false;
        }
        self.head = head;
        self.final_height = head.height;
        self.is_restoring = false;
        self.unsure = None;
        self.lost = None;
        self.executed = None;
        self.pool = Pool::default();
        self.tally.is_final(head.height);
        self.noted.forget_up_to(head.height);
        self.waiting.clear();
        self.waiting_size = 0;
    }

    pub(super) fn note(&mut self, outcome: &Result<(), StoreError>) {
        if let Err(error) = outcome {
            tracing::error!(%error, "the ledger can't write");
            self.trouble = Some(error.clone());
        }
    }
}
