//! Which blocks on their way to us begin, and which wait for a place (`waiting.rs`).
//!
//! A quarter of the places is for blocks of which a peer tells that we dialled; of the others a peer that dialled us leaves as many as it
//! holds, so that no two hold all. Who waits has its turn when one is free.

use libp2p::PeerId;

use super::{Actions, Counts, Download, Downloads, Source, State};
use crate::{
    chain::ItemId, peers::Misdeed, platform::Instant, propagation::blocks::compact::waiting::Told,
};

impl Downloads {
    /// Begins with blocks that waited, after anything that may have made a place.
    pub(in crate::propagation::blocks::compact) fn take_up(
        &mut self,
        now: Instant,
        out: &mut Actions,
    ) {
        while let Some(id) = self.begun.pop() {
            for peer in self.waiting.tellers(&id) {
                if self.blocks.contains_key(&id)
                    && self.has_place(&peer, &id)
                    && let Some(told) = self.waiting.remove(&peer, &id)
                {
                    self.take_up_one(told, now, out);
                }
            }
        }
        while let Some((peer, id)) = self.next_waiting() {
            if let Some(told) = self.waiting.take(&peer, &id) {
                self.take_up_one(told, now, out);
            }
        }
    }

    /// What waits and has a place: of the peer whose turn it is.
    fn next_waiting(&self) -> Option<(PeerId, ItemId)> {
        if self.waiting.is_empty() {
            return None;
        }
        let mut sides = [true, false].into_iter();
        sides.find_map(|outbound| {
            let places = self.places(outbound);
            let may = |peer: &PeerId| self.may_begin(self.claims(peer), outbound, places);
            self.waiting.next(outbound, places, may)
        })
    }

    fn take_up_one(&mut self, told: Told, now: Instant, out: &mut Actions) {
        let Told {
            peer,
            id,
            header,
            announced,
        } = told;
        let state = header.map_or(State::Idle, |header| State::Header {
            header,
            compact: None,
        });
        if self.admit(peer, &id, announced, state, now, out) {
            self.check_header(peer, id.clone(), now, out);
            self.advance(&id, now, out);
        }
    }

    /// Downloads that may begin, of blocks of which peers tell that we dialled, or that dialled us.
    fn places(&self, outbound: bool) -> usize {
        let reserved = if outbound {
            0
        } else {
            self.config.max_in_progress / 4
        };
        let taken = self.blocks.len() + reserved;
        self.config.max_in_progress.saturating_sub(taken)
    }

    /// Blocks in progress of which a peer has told.
    fn claims(&self, peer: &PeerId) -> usize {
        let downloads = self.blocks.values();
        downloads.filter(|download| download.has(peer)).count()
    }

    /// Whether a peer with so many blocks in progress may have one more, with so many places left. Who dialled us always leaves
    /// as many as it has, so that no two hold all.
    fn may_begin(&self, claims: usize, outbound: bool, places: usize) -> bool {
        let left = if outbound { 0 } else { claims };
        claims < self.config.max_in_progress_per_peer && places > left
    }

    /// Whether there is a place for a block of which a peer tells.
    fn has_place(&self, peer: &PeerId, id: &ItemId) -> bool {
        let Some(outbound) = self.peers.is_outbound(peer) else {
            return false;
        };
        let claims = self.claims(peer);
        if self.blocks.contains_key(id) {
            return claims < self.config.max_in_progress_per_peer;
        }
        self.may_begin(claims, outbound, self.places(outbound))
    }

    /// Makes a peer a source, if there is room. False if not: then the block waits for a place, or has sources enough.
    pub(super) fn admit(
        &mut self,
        peer: PeerId,
        id: &ItemId,
        announced: Option<Counts>,
        state: State,
        now: Instant,
        out: &mut Actions,
    ) -> bool {
        let Some(outbound) = self.peers.is_outbound(&peer) else {
            return false;
        };
        if self.blocks.get(id).is_some_and(|it| it.has(&peer)) {
            out.blame(peer, Misdeed::TooManyMessages, "it told of a block twice");
            return false;
        }
        if !self.has_place(&peer, id) {
            let header = match state {
                State::Header { header, .. } => Some(header),
                _ => None,
            };
            let told = Told {
                peer,
                id: id.clone(),
                header,
                announced,
            };
            self.waiting.insert(told, outbound);
            return false;
        }
        let source = Source::new(peer, outbound, announced, state, now);
        self.place(id, source, outbound, now)
    }

    /// Makes a peer a source again that answers when it is none any more. It replaces one that brings nothing; without a place it does not wait
    /// for one, since its answer is not kept so long, and it gives nothing twice. False: there is no room.
    pub(super) fn readmit(
        &mut self,
        peer: PeerId,
        id: &ItemId,
        state: State,
        now: Instant,
    ) -> bool {
        let outbound = self.peers.is_outbound(&peer);
        let Some(outbound) = outbound.filter(|_| self.has_place(&peer, id)) else {
            return false;
        };
        let mut source = Source::new(peer, outbound, None, state, now);
        source.compact_is_spent = true;
        self.place(id, source, true, now)
    }

    /// Gives a source its place, that of another where it `replaces` one. False: there are enough.
    fn place(&mut self, id: &ItemId, source: Source, replaces: bool, now: Instant) -> bool {
        self.waiting.remove(&source.peer, id);
        if !self.blocks.contains_key(id) && !self.waiting.is_empty() {
            self.begun.push(id.clone());
        }
        let download = self.blocks.entry(id.clone());
        let download = download.or_insert_with(|| Download::new(now));
        download.add(source, self.config.max_sources, replaces)
    }
}
