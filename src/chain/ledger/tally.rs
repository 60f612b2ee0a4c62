//! Votes until they are enough.
//!
//! Bounds: votes of known voters for heights that are not final yet, up to [`WINDOW`] above the newest block; of each voter one at a height,
//! the first.

use std::{collections::BTreeMap, sync::Arc};

use super::Judgement;
use super::address::{Address, Signature};
use super::genesis::Genesis;
use super::tree::Hash;
use super::vote::{Certificate, HeaderVote};

/// How far above the newest block something may be that is held here until its turn.
pub(super) const WINDOW: u64 = 64;

/// At a height, by the voters' indexes: what each voted for.
type Votes = BTreeMap<u16, (Hash, Signature)>;

#[derive(Debug)]
pub(super) struct Tally {
    genesis: Arc<Genesis>,
    voters: BTreeMap<Address, u16>,
    heights: BTreeMap<u64, Votes>,
}

/// What a vote adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is the voter's first at its height.
    New,
    /// It is known.
    Known,
    /// The voter has voted for another header.
    Contradicts,
    /// Nobody's who votes here.
    Stranger,
}

/// What a vote's bytes are worth, given the final and the newest height and how the vote stands there.
pub(super) fn judge(
    data: &[u8],
    genesis: &Hash,
    stands: impl FnOnce(&HeaderVote) -> (u64, u64, Standing),
) -> Result<HeaderVote, Judgement> {
    let useless = |what: &str| Err(Judgement::Useless(what.to_owned()));
    let invalid = |what: &str| Err(Judgement::Invalid(what.to_owned()));
    let vote = HeaderVote::decode(data)?;
    let (decided, newest, standing) = stands(&vote);
    if vote.height <= decided {
        return useless("what it votes for is decided");
    }
    if vote.height > newest.saturating_add(WINDOW) {
        return useless("it votes for what is far ahead");
    }
    if standing == Standing::Stranger {
        return invalid("the vote is of nobody who votes here");
    }
    if !vote.is_signed(genesis) {
        return invalid("the vote is not signed by its voter");
    }
    match standing {
        Standing::Contradicts => useless("its voter has voted for another block of this height"),
        Standing::Known => useless("it is known"),
        Standing::New | Standing::Stranger => Ok(vote),
    }
}

impl Tally {
    pub(super) fn new(genesis: &Arc<Genesis>) -> Self {
        let voters = genesis.voters.iter().copied().zip(0..).collect();
        Self {
            genesis: Arc::clone(genesis),
            voters,
            heights: BTreeMap::new(),
        }
    }

    pub(super) fn standing(&self, vote: &HeaderVote) -> Standing {
        let Some(voter) = self.voters.get(&vote.voter) else {
            return Standing::Stranger;
        };
        let votes = self.heights.get(&vote.height);
        match votes.and_then(|votes| votes.get(voter)) {
            None => Standing::New,
            Some((id, _)) if *id == vote.id => Standing::Known,
            Some(_) => Standing::Contradicts,
        }
    }

    /// Counts a vote that was checked.
    pub(super) fn insert(&mut self, vote: &HeaderVote) {
        if self.standing(vote) == Standing::New
            && let Some(voter) = self.voters.get(&vote.voter)
        {
            let votes = self.heights.entry(vote.height).or_default();
            votes.insert(*voter, (vote.id, vote.signature));
        }
    }

    /// Whether a voter has voted at a height.
    pub(super) fn has_voted(&self, voter: &Address, height: u64) -> bool {
        let votes = self.heights.get(&height);
        let voter = self.voters.get(voter);
        votes
            .zip(voter)
            .is_some_and(|(votes, voter)| votes.contains_key(voter))
    }

    /// Whether this one votes.
    pub(super) fn is_voter(&self, voter: &Address) -> bool {
        self.voters.contains_key(voter)
    }

    /// For which header at a height more than two thirds have voted, if for any.
    pub(super) fn decided(&self, height: u64) -> Option<Hash> {
        let votes = self.heights.get(&height)?;
        let candidates = votes.values().map(|(id, _)| *id);
        let mut counts = BTreeMap::new();
        candidates.for_each(|id| *counts.entry(id).or_insert(0_usize) += 1);
        let decided = counts
            .into_iter()
            .find(|(_, votes)| self.genesis.is_enough(*votes));
        decided.map(|(id, _)| id)
    }

    /// The highest of the decided heights up to this one, and its header.
    pub(super) fn newest_decided(&self, up_to: u64) -> Option<(u64, Hash)> {
        let heights = self.heights.range(..=up_to).rev();
        let mut decided = heights.filter_map(|(height, _)| Some((*height, self.decided(*height)?)));
        decided.next()
    }

    /// The certificate of a header, once its votes are enough.
    pub(super) fn certificate(&self, height: u64, id: Hash) -> Option<Certificate> {
        let votes = self.heights.get(&height)?.iter();
        let votes = votes.filter(|(_, (of, _))| *of == id);
        let votes: Vec<_> = votes
            .map(|(voter, (_, signature))| (*voter, *signature))
            .collect();
        let is_enough = self.genesis.is_enough(votes.len());
        is_enough.then_some(Certificate { height, id, votes })
    }

    /// What is final needs no votes.
    pub(super) fn is_final(&mut self, height: u64) {
        self.heights = match height.checked_add(1) {
            Some(next) => self.heights.split_off(&next),
            None => BTreeMap::new(),
        };
    }
}
