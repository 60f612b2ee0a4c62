//! What the propagation of blocks wants to know is asked of the chain: slow work, done off the network task.

#[cfg(test)]
use std::sync::Arc;

use super::{DeliveredBlocks, block::named_so, check_block};
#[cfg(test)]
use crate::chain::{
    Application,
    rules::{Synchronous, at_once},
};
use crate::{
    chain::{Block, Checked, ItemId, TransactionKey, rules::Rules},
    propagation::{
        blocks::{AcceptedBlock, Answer, Question, coded::Encoded},
        pool::Pieces,
    },
};

impl Question {
    /// Asks the chain, and hands it the blocks that it accepts and that were `delivered` by no other way. `pool` is what
    /// [`crate::propagation::Propagation::pieces`] says. May take long.
    pub(crate) async fn ask(
        self,
        rules: &dyn Rules,
        delivered: &DeliveredBlocks,
        pool: &Pieces,
    ) -> Answer {
        match self {
            Self::Match(matching) => {
                let pooled = pool.iter().map(|pooled| (pooled.key, &pooled.data));
                Answer::Matched(matching.run(pooled))
            }
            Self::Header(check) => {
                let checked = rules.check_header(&check.header).await;
                Answer::Header(check, checked)
            }
            Self::Join(join) => {
                let block = rules.join_block(&join.header, &join.transactions).await;
                Answer::Joined(join, block)
            }
            Self::Block(check) => {
                let (block, id) = (&check.block, Some(&check.id));
                let (checked, accepted) =
                    check_block(block, id, rules, Some(delivered), None).await;
                Answer::Checked(check, checked, accepted)
            }
            Self::CodedHeader {
                broadcast,
                block,
                header,
                peer,
            } => Answer::CodedHeader {
                broadcast,
                checked: named_so(&block, rules.check_header(&header).await),
                peer,
            },
            Self::Reconstruct(reconstruction) => Answer::Reconstructed(reconstruction.run()),
            Self::CodedBlock {
                broadcast,
                block,
                peer,
                bytes,
                is_here,
            } => {
                let (checked, accepted) = if is_here {
                    (Checked::accept(block.clone()), None)
                } else {
                    let (bytes, id) = (Block::new(bytes), Some(&block));
                    check_block(&bytes, id, rules, Some(delivered), None).await
                };
                Answer::CodedBlock {
                    broadcast,
                    checked,
                    peer,
                    accepted,
                }
            }
            Self::Encode(id, header, bytes) => {
                let encoded = Encoded::of(id.clone(), header, bytes).ok();
                Answer::Encoded(id, encoded)
            }
        }
    }

    /// As [`Question::ask`], in tests.
    #[cfg(test)]
    pub(crate) fn ask_now(
        self,
        application: impl Application,
        delivered: &DeliveredBlocks,
        pool: &Pieces,
    ) -> Answer {
        let rules = Synchronous::new(Arc::new(application));
        at_once(self.ask(&rules, delivered, pool))
    }
}

impl AcceptedBlock {
    /// Takes a block apart that the chain has accepted under this identity.
    pub(crate) async fn of(id: ItemId, block: Block, rules: &dyn Rules) -> Self {
        let parts = rules.split_block(&block).await;
        let transactions = parts.iter().flat_map(|parts| &parts.transactions);
        let keys = transactions.map(|one| TransactionKey::of(one)).collect();
        Self {
            key: TransactionKey::of(&block.data),
            id,
            block,
            parts,
            keys,
            is_first: true,
        }
    }

    /// As [`AcceptedBlock::of`], in tests.
    #[cfg(test)]
    pub(crate) fn new(id: ItemId, block: Block, application: impl Application) -> Self {
        at_once(Self::of(
            id,
            block,
            &Synchronous::new(Arc::new(application)),
        ))
    }
}
