//! Votes for headers that are far above those that are here: what they decide is known before any header leads there.
//!
//! A node that was away hears what is voted for now long before its headers have come that far. Bounds: of each voter its
//! [`KEPT`] votes for the highest headers, of one height the first. So one that votes for whatever it likes pushes out its own alone.

use std::{collections::BTreeMap, sync::Arc};

use super::super::{address::Address, genesis::Genesis, tree::Hash, vote::HeaderVote};
use super::Tip;

/// Voters are not all at one height: so many of each are remembered.
const KEPT: usize = 8;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct FarVotes {
    genesis: Arc<Genesis>,
    of: BTreeMap<Address, BTreeMap<u64, Hash>>,
}

impl FarVotes {
    pub(super) fn new(genesis: &Arc<Genesis>) -> Self {
        Self {
            genesis: Arc::clone(genesis),
            of: BTreeMap::new(),
        }
    }

    /// Counts the vote of a known voter that was checked: what it decides, if anything.
    pub(super) fn insert(&mut self, vote: &HeaderVote) -> Option<Tip> {
        let votes = self.of.entry(vote.voter).or_default();
        votes.entry(vote.height).or_insert(vote.id);
        if votes.len() > KEPT {
            votes.pop_first();
        }
        let agree = |votes: &&BTreeMap<u64, Hash>| votes.get(&vote.height) == Some(&vote.id);
        let count = self.of.values().filter(agree).count();
        self.genesis.is_enough(count).then_some(Tip {
            height: vote.height,
            id: vote.id,
        })
    }

    /// Up to this height nothing is to be decided any more.
    pub(super) fn is_decided(&mut self, height: u64) {
        self.of.retain(|_, votes| {
            votes.retain(|voted, _| *voted > height);
            !votes.is_empty()
        });
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.of.values().map(BTreeMap::len).sum()
    }
}
