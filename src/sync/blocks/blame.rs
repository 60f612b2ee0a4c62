//! Who has rejected blocks in its chain, until it is clear whose error that is.
//!
//! What the chain rejects is wrong, or the chain is: a node whose application is out of date rejects what all others have. So nobody pays
//! before a better chain has gone past the rejected block; then those pay whose chains had it. Where that never happens it is told as our
//! own trouble. Bounds: [`MAX_REFUSED`] blocks, with [`MAX_SUPPORTERS`] peers each.

use std::collections::{BTreeSet, VecDeque};

use libp2p::PeerId;

use super::{MAX_REFUSED, Sync};
use crate::{
    chain::{BlockPlace, ItemId, SyncHeader},
    peers::Misdeed,
};

/// Peers that are remembered for one rejected block.
const MAX_SUPPORTERS: usize = 64;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Blame(VecDeque<Refused>);

#[derive(Debug)]
struct Refused {
    place: BlockPlace,
    reason: String,
    supporters: BTreeSet<PeerId>,
}

impl Blame {
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The chain has rejected a block, or its header, that this peer has in its chain: who has it.
    pub(super) fn refuse(
        &mut self,
        place: BlockPlace,
        peer: PeerId,
        reason: &str,
    ) -> BTreeSet<PeerId> {
        if let Some(refused) = self.support(&place.id, peer) {
            return refused.supporters.clone();
        }
        if self.0.len() >= MAX_REFUSED {
            self.0.pop_front();
        }
        let supporters = BTreeSet::from([peer]);
        self.0.push_back(Refused {
            place,
            reason: reason.to_owned(),
            supporters: supporters.clone(),
        });
        supporters
    }

    /// A block that was rejected, and that this peer has in its chain. `None`: it was not.
    fn support(&mut self, id: &ItemId, peer: PeerId) -> Option<&Refused> {
        let mut refused = self.0.iter_mut();
        let refused = refused.find(|refused| refused.place.id == *id)?;
        if refused.supporters.len() < MAX_SUPPORTERS {
            refused.supporters.insert(peer);
        }
        Some(refused)
    }

    /// The first of a peer's headers that is a rejected block's, and why it was.
    pub(super) fn find(
        &mut self,
        headers: &[SyncHeader],
        peer: PeerId,
    ) -> Option<(BlockPlace, String)> {
        if self.0.is_empty() {
            return None;
        }
        headers.iter().find_map(|header| {
            let refused = self.support(&header.id, peer)?;
            Some((refused.place.clone(), refused.reason.clone()))
        })
    }

    /// The chain is as high as this, without them: whose chains had them.
    fn passed(&mut self, height: u64) -> Vec<PeerId> {
        let mut passed = Vec::new();
        self.0.retain(|refused| {
            let is_passed = refused.place.height < height;
            if is_passed {
                passed.extend(&refused.supporters);
            }
            !is_passed
        });
        passed
    }
}

impl Sync {
    /// The chain has grown: who had in its place what it has rejected pays.
    pub(super) fn settle_blame(&mut self) {
        let Some(height) = self.tip().map(|tip| tip.height) else {
            return;
        };
        for peer in self.blame.passed(height) {
            self.misdeed(peer, Misdeed::InvalidItem);
        }
    }
}
