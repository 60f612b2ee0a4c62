//! The newest blocks, kept to be served, and what was said about them with whom.
//!
//! Bounds: a number of blocks and of bytes, the oldest goes first; for each block a few flags per connected peer. Beyond
//! them a longer list of identities alone, so that a block that has gone is not fetched and passed on again.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use libp2p::PeerId;

use super::actions::{Action, Actions};
use super::choice::{Form, Offer};
use super::compact_block::CompactBlock;
use super::message::{Announcement, BlockMessage};
use super::part::{Part, Sending, Served};
use crate::chain::Block;
use crate::chain::{BlockParts, ItemId};
use crate::keyed::Keyed;
use crate::platform::Instant;
use crate::remembered::Remembered;

/// The newest blocks.
#[derive(Debug)]
pub(super) struct Recent {
    max_blocks: usize,
    max_bytes: usize,
    /// Oldest first.
    blocks: VecDeque<Kept>,
    /// Identities of accepted blocks; and how many there ever were.
    seen: Remembered<ItemId>,
    count: u64,
}

/// A block that can be served.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) id: ItemId,
    pub(super) served: Arc<Served>,
    /// Bytes of its transactions that were new here.
    pub(super) novel_bytes: usize,
    /// When the chain has accepted it. Before, nobody gets the whole block.
    pub(super) accepted: Option<Instant>,
    peers: BTreeMap<PeerId, Box<Dealings>>,
    /// How many of the peers have the block, or get it.
    having: usize,
}

/// What was said about a block with a peer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Dealings {
    /// The peer has the block, or knows that it is here.
    pub(super) knows: bool,
    /// The peer has told of it.
    pub(super) told: bool,
    /// It has announced it.
    pub(super) announced: bool,
    /// It has asked for the compact form; for missing transactions; for the whole block. Each once.
    pub(super) asked_compact: bool,
    pub(super) asked_missing: bool,
    pub(super) asked_whole: bool,
    /// It was sent the block unasked.
    pub(super) sent: bool,
    /// It was told of the block from here, or given it, and so says when it has it. Who brought the block owes no such word.
    pub(super) offered: bool,
    /// It has the block, by its word, or wants nothing more of it.
    pub(super) settled: bool,
    /// It was told that the chain has accepted the block here.
    pub(super) heard: bool,
    /// It waits for the whole block until that is accepted.
    pub(super) owed: bool,
    /// It said that it waits no more, or has the block.
    pub(super) gave_up: bool,
    /// What told it of the block did not go out.
    pub(super) missed: bool,
}

impl Dealings {
    /// Whether the peer has the block, or gets it.
    fn has(&self) -> bool {
        self.told || self.sent || self.settled || self.asked_compact || self.asked_whole
    }

    /// What was to tell the peer of the block did not go out: it is as if that was never made. Who has asked for the block knows of it.
    fn miss(&mut self) {
        if self.knows && !self.told && !self.settled && !self.has_asked() {
            (self.knows, self.sent, self.offered, self.heard) = (false, false, false, false);
            self.missed = true;
        }
    }

    fn has_asked(&self) -> bool {
        self.asked_compact || self.asked_missing || self.asked_whole
    }

    /// Whether nothing more is to be waited for from the peer.
    fn is_settled(&self) -> bool {
        self.settled || !self.offered
    }
}

impl Kept {
    /// A block that the chain has not accepted yet.
    pub(super) fn new(
        id: ItemId,
        block: Block,
        parts: Option<BlockParts>,
        compact: Option<CompactBlock>,
        novel_bytes: usize,
    ) -> Self {
        let compact = compact.map(|compact| BlockMessage::Compact(compact).encode().into());
        Self {
            id,
            served: Arc::new(Served {
                block,
                parts,
                are_slices: false,
                compact,
            }),
            novel_bytes,
            accepted: None,
            peers: BTreeMap::new(),
            having: 0,
        }
    }

    /// What was said about it with this peer so far.
    pub(super) fn dealings(&self, peer: &PeerId) -> Dealings {
        self.peers
            .get(peer)
            .map(|dealings| **dealings)
            .unwrap_or_default()
    }

    /// Something more was said with this peer. All that makes a peer have the block goes through here, so that nobody has to count them.
    pub(super) fn deal<R>(&mut self, peer: PeerId, change: impl FnOnce(&mut Dealings) -> R) -> R {
        let dealings = self.peers.entry(peer).or_default();
        self.having -= usize::from(dealings.has());
        let result = change(dealings);
        self.having += usize::from(dealings.has());
        result
    }

    fn gone(&mut self, peer: &PeerId) {
        let gone = self.peers.remove(peer);
        self.having -= usize::from(gone.is_some_and(|dealings| dealings.has()));
    }

    /// These peers have told of the block.
    pub(super) fn told_by(&mut self, peers: impl IntoIterator<Item = PeerId>) {
        for peer in peers {
            self.deal(peer, |dealings| {
                dealings.told = true;
                dealings.knows = true;
            });
        }
    }

    /// What the hook wants to know.
    pub(super) fn as_offer<'a>(
        &'a self,
        peer: &'a PeerId,
        high_bandwidth: bool,
        asked: bool,
    ) -> Offer<'a> {
        Offer {
            peer,
            block: &self.id,
            whole_bytes: self.served.block.data.len(),
            compact_bytes: self.served.compact.as_ref().map(Bytes::len),
            novel_bytes: self.novel_bytes,
            high_bandwidth,
            asked,
        }
    }

    /// Sends the block in a form that it has.
    pub(super) fn send(&self, peer: PeerId, form: Form, why: &'static str, out: &mut Actions) {
        let block = self.id.clone();
        let part = match form {
            Form::Coded => return out.push(Action::SendCoded { peer, block, why }),
            Form::Announcement => {
                let header = self.served.parts.as_ref().map(|parts| parts.header.clone());
                let told = Announcement {
                    id: block,
                    header: header.unwrap_or_default(),
                };
                return out.send(peer, BlockMessage::Announcement(told), why);
            }
            Form::Compact if self.served.compact.is_some() => Part::Compact,
            Form::Compact | Form::Whole => Part::Whole,
        };
        self.serve(peer, part, why, out);
    }

    /// Sends a part of the block.
    pub(super) fn serve(&self, peer: PeerId, part: Part, why: &'static str, out: &mut Actions) {
        let block = self.id.clone();
        out.push(Action::Serve {
            peer,
            block,
            part,
            why,
        });
    }

    /// Tells a peer of the block, which the chain has accepted.
    pub(super) fn announce(&mut self, peer: PeerId, why: &'static str, out: &mut Actions) {
        self.deal(peer, |dealings| {
            dealings.knows = true;
            dealings.heard = true;
            dealings.offered = true;
        });
        self.send(peer, Form::Announcement, why, out);
    }

    /// Tells those who have told of the block that the chain has accepted it.
    pub(super) fn settle(&mut self, out: &mut Actions) {
        for (peer, dealings) in &mut self.peers {
            if dealings.told && !std::mem::replace(&mut dealings.heard, true) {
                out.settled(*peer, &self.id, "the block is here");
            }
        }
    }

    /// Sends the whole block to the peers that wait for it, and tells those of it that waited: they may ask anew.
    pub(super) fn pay_debts(&mut self, out: &mut Actions) {
        for peer in self.take_owed() {
            self.send(
                peer,
                Form::Whole,
                "it asked before the block was accepted",
                out,
            );
        }
        let waited = self.peers.iter();
        let waited = waited.filter(|(_, dealings)| dealings.gave_up && !dealings.told);
        let waited: Vec<_> = waited.map(|(peer, _)| *peer).collect();
        for peer in waited {
            self.deal(peer, |dealings| {
                dealings.asked_compact = false;
                dealings.asked_missing = false;
                dealings.asked_whole = false;
            });
            self.announce(peer, "it may have given it up before", out);
        }
    }

    /// Tells the peers that wait for the block that it does not come.
    pub(super) fn disappoint(mut self, out: &mut Actions) {
        for peer in self.take_owed() {
            let message = BlockMessage::NotFound(self.id.clone());
            out.send(peer, message, "the block is not here any more");
        }
        out.push(Action::Gone(self.id));
    }

    fn take_owed(&mut self) -> Vec<PeerId> {
        let owed = self.peers.iter_mut();
        let owed =
            owed.filter_map(|(peer, dealings)| std::mem::take(&mut dealings.owed).then_some(*peer));
        owed.collect()
    }

    fn weight(&self) -> usize {
        self.served.weight()
    }
}

impl Recent {
    /// Nothing is kept yet. `keyed` is of this node alone.
    pub(super) fn new(max_blocks: usize, max_bytes: usize, max_seen: usize, keyed: Keyed) -> Self {
        Self {
            max_blocks,
            max_bytes,
            blocks: VecDeque::new(),
            seen: Remembered::new(max_seen, keyed),
            count: 0,
        }
    }

    /// How many blocks the chain has accepted here.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn get(&mut self, id: &ItemId) -> Option<&mut Kept> {
        self.blocks.iter_mut().find(|kept| kept.id == *id)
    }

    /// A block that is kept and accepted.
    pub(super) fn accepted(&self, id: &ItemId) -> Option<&Kept> {
        let mut accepted = self.blocks.iter().filter(|kept| kept.accepted.is_some());
        accepted.find(|kept| kept.id == *id)
    }

    /// A part of a block that is kept, for who is sent it.
    pub(super) fn serve(&self, id: &ItemId, part: Part) -> Option<Sending> {
        let kept = self.blocks.iter().find(|kept| kept.id == *id)?;
        Sending::new(id, Arc::clone(&kept.served), part)
    }

    /// Whether the chain has accepted this block, as far back as `max_seen` reaches.
    pub(super) fn is_accepted(&self, id: &ItemId) -> bool {
        self.seen.contains(id)
    }

    /// Keeps a block as the newest. Those that had to go for it; it goes itself if it is over the limit alone.
    pub(super) fn insert(&mut self, kept: Kept) -> Vec<Kept> {
        if kept.weight() > self.max_bytes {
            return vec![kept];
        }
        self.blocks.push_back(kept);
        let mut gone = Vec::new();
        while self.blocks.len() > self.max_blocks
            || self.blocks.iter().map(Kept::weight).sum::<usize>() > self.max_bytes
        {
            gone.extend(self.blocks.pop_front());
        }
        gone
    }

    /// The chain has accepted a block, whose parts are slices of it. `None` if it is not kept.
    pub(super) fn accept(
        &mut self,
        id: &ItemId,
        block: Block,
        parts: Option<BlockParts>,
        now: Instant,
    ) -> Option<&mut Kept> {
        self.seen.insert(id.clone());
        self.count += 1;
        let kept = self.get(id)?;
        let compact = kept.served.compact.clone();
        kept.served = Arc::new(Served {
            block,
            parts,
            are_slices: true,
            compact,
        });
        kept.accepted = Some(now);
        Some(kept)
    }

    /// Whether every peer that was told from here of a block that is accepted, or this one, has said that it has it, or wants nothing more
    /// of it.
    pub(super) fn is_settled(&self, peer: Option<&PeerId>) -> bool {
        let accepted = self.blocks.iter().filter(|kept| kept.accepted.is_some());
        let dealings = accepted.flat_map(|kept| &kept.peers);
        let mut meant = dealings.filter(|(id, _)| peer.is_none_or(|peer| peer == *id));
        meant.all(|(_, dealings)| dealings.is_settled())
    }

    /// Takes a block out that the chain has not accepted yet.
    pub(super) fn take_unaccepted(&mut self, id: &ItemId) -> Option<Kept> {
        let place = self
            .blocks
            .iter()
            .position(|kept| kept.id == *id && kept.accepted.is_none())?;
        self.blocks.remove(place)
    }

    /// What was to tell a peer of a block did not go out; whether it is to be told again.
    pub(super) fn missed(&mut self, peer: PeerId, id: &ItemId) -> bool {
        self.get(id).is_some_and(|kept| {
            kept.deal(peer, |dealings| {
                dealings.miss();
                dealings.missed
            })
        })
    }

    /// Tells a peer of the eldest block that it missed and that is accepted now.
    pub(super) fn tell_missed(&mut self, peer: PeerId, out: &mut Actions) {
        for kept in &mut self.blocks {
            let dealings = kept.dealings(&peer);
            if kept.accepted.is_some() && dealings.missed && !dealings.knows {
                return kept.announce(peer, "what told it of the block did not go out", out);
            }
        }
    }

    /// Tells a peer of those of the newest accepted blocks that it `wants`, the eldest of them first.
    pub(super) fn tell_newest(
        &mut self,
        peer: PeerId,
        count: usize,
        wants: impl Fn(&ItemId) -> bool,
        out: &mut Actions,
    ) {
        let accepted = self
            .blocks
            .iter_mut()
            .filter(|kept| kept.accepted.is_some());
        let mut newest: Vec<_> = accepted.rev().take(count).collect();
        newest.reverse();
        for kept in newest.into_iter().filter(|kept| wants(&kept.id)) {
            kept.announce(peer, "it may not have heard of it", out);
        }
    }

    /// Blocks, and their bytes, that were accepted less than `patience` ago, and that peers were told of and none has got from here or told of.
    pub(super) fn unfetched(&self, patience: Duration, now: Instant) -> (usize, usize) {
        let blocks = self.blocks.iter().filter(|kept| {
            let is_fresh = kept.accepted.is_some_and(|at| at + patience > now);
            is_fresh && !kept.peers.is_empty() && kept.having == 0
        });
        blocks.fold((0, 0), |(count, bytes), kept| {
            (count + 1, bytes + kept.weight())
        })
    }

    pub(super) fn gone(&mut self, peer: &PeerId) {
        for kept in &mut self.blocks {
            kept.gone(peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use proptest::prelude::*;

    use super::*;
    use crate::platform::test;

    fn kept(number: usize, bytes: usize) -> Kept {
        let id = ItemId::sha256(&number.to_le_bytes());
        Kept::new(id, Block::new(vec![0; bytes]), None, None, 0)
    }

    fn insert(recent: &mut Recent, number: usize, bytes: usize, accepted: bool) -> Vec<ItemId> {
        let Kept { id, served, .. } = kept(number, bytes);
        let gone = recent.insert(kept(number, bytes));
        if accepted {
            let block = served.block.clone();
            recent.accept(&id, block, None, crate::platform::now());
        }
        gone.into_iter().map(|kept| kept.id).collect()
    }

    proptest! {
        #[test]
        fn the_newest_blocks_within_the_limits_are_kept(
            sizes in prop::collection::vec((0usize..400, any::<bool>()), 0..60),
        ) {
            let mut recent = Recent::new(5, 1000, 8, Keyed::new(&[1; 16]));
            for (number, (bytes, accepted)) in sizes.into_iter().enumerate() {
                insert(&mut recent, number, bytes, accepted);
                let id = kept(number, 0).id;
                prop_assert!(recent.get(&id).is_some());
                prop_assert_eq!(recent.is_accepted(&id), accepted);
                prop_assert!(recent.blocks.len() <= 5);
                prop_assert!(recent.blocks.iter().map(Kept::weight).sum::<usize>() <= 1000);
                prop_assert!(recent.seen.len() <= 8);
            }
        }
    }

    proptest! {
        #[test]
        fn whether_anybody_has_a_block_is_known_without_asking_all(
            said in prop::collection::vec((0u8..4, 0u8..9), 0..60),
        ) {
            let mut recent = Recent::new(5, 1000, 8, Keyed::new(&[1; 16]));
            insert(&mut recent, 1, 10, true);
            let peers = [(); 4].map(|()| PeerId::random());
            let id = kept(1, 0).id;
            for (peer, what) in said {
                let peer = peers[usize::from(peer)];
                match what {
                    0 => recent.gone(&peer),
                    1 => {
                        recent.missed(peer, &id);
                    }
                    _ => recent.get(&id).expect("kept").deal(peer, |dealings| match what {
                        2 => dealings.told = true,
                        3 => dealings.asked_compact = true,
                        4 => dealings.asked_whole = true,
                        5 => dealings.settled = true,
                        6 => dealings.knows = true,
                        7 => (dealings.knows, dealings.sent) = (true, true),
                        _ => dealings.offered = true,
                    }),
                }
                let kept = recent.get(&id).expect("kept");
                let counted = kept.peers.values().filter(|dealings| dealings.has()).count();
                prop_assert_eq!(kept.having, counted);
            }
        }
    }

    #[test]
    fn a_block_over_the_limit_is_remembered_but_not_kept() {
        let mut recent = Recent::new(5, 1000, 8, Keyed::new(&[1; 16]));
        insert(&mut recent, 1, 400, true);
        let id = kept(2, 0).id;
        assert_eq!(insert(&mut recent, 2, 1001, true), slice::from_ref(&id));
        assert!(recent.is_accepted(&id) && recent.get(&id).is_none());
        assert!(
            recent.get(&kept(1, 0).id).is_some(),
            "nothing had to go for it"
        );
    }

    #[test]
    fn only_unaccepted_blocks_are_taken_out() {
        let mut recent = Recent::new(5, 1000, 8, Keyed::new(&[1; 16]));
        insert(&mut recent, 1, 10, true);
        insert(&mut recent, 2, 10, false);
        assert!(recent.take_unaccepted(&kept(1, 0).id).is_none());
        assert!(recent.take_unaccepted(&kept(2, 0).id).is_some());
        assert!(recent.get(&kept(2, 0).id).is_none());
    }

    #[test]
    fn who_waits_for_a_block_gets_it_or_is_told() {
        let peer = PeerId::random();
        let mut accepted = kept(1, 10);
        accepted.deal(peer, |dealings| dealings.owed = true);
        let mut out = Actions::default();
        accepted.pay_debts(&mut out);
        accepted.disappoint(&mut out);
        let mut refused = kept(2, 10);
        refused.deal(peer, |dealings| dealings.owed = true);
        refused.disappoint(&mut out);
        let names: Vec<_> = out
            .into_vec()
            .into_iter()
            .map(|action| match action {
                Action::Send { message, .. } => message.name(),
                Action::Serve { part, .. } => part.name(),
                Action::Gone(_) => "gone",
                _ => "something else",
            })
            .collect();
        assert_eq!(names, ["whole block", "gone", "not found", "gone"]);
    }
}
