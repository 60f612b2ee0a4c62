//! What goes out to each peer, and when.
//!
//! Votes go as far as a connection takes them, blocks little at a time, bulk as far as the window goes; each waits for its limits
//! ([`super::peer::Held`]). Nothing here is linear in peers: a peer is fed when something has happened to it, when its moment has come,
//! or when there is something new and it has read the rest ([`Turns`]).

use std::collections::{BTreeSet, HashSet};

use libp2p::{
    PeerId,
    swarm::{NotifyHandler, ToSwarm},
};

use super::{
    Lanes,
    handler::{Handled, Order},
    peer::Peer,
};
use crate::propagation::blocks::CHUNK_ROOM;
use crate::{
    chain::ItemKind,
    platform::Instant,
    propagation::{
        plumtree::Outgoing,
        wire::{Acknowledge, Kind},
    },
    traffic::{Cost, Lane, Shaper},
};

/// Urgent bytes that may wait in a connection.
pub(super) const MAX_URGENT: usize = 1 << 20;

/// The peers that are to be fed, so that nothing is walked in search of them.
#[derive(Default)]
pub(super) struct Turns {
    /// Something has happened to these.
    now: HashSet<PeerId>,
    /// These wait for their moment, which stands in [`Peer::wakes_at`] too.
    later: BTreeSet<(Instant, PeerId)>,
    /// These have read all there is of the votes, and of the transactions.
    idle: [HashSet<PeerId>; 2],
}

impl Turns {
    /// A peer may have something to get.
    pub(super) fn now(&mut self, id: PeerId) {
        self.now.insert(id);
    }

    /// Something new is to be read by all who have read the rest.
    pub(super) fn news(&mut self, kind: ItemKind) {
        if let Some(idle) = self
            .idle
            .get_mut(usize::from(kind == ItemKind::Transaction))
        {
            self.now.extend(idle.drain());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.now.is_empty()
    }

    /// When the next one's moment comes.
    pub(super) fn next(&self) -> Option<Instant> {
        self.later.first().map(|(at, _)| *at)
    }

    /// The peers whose moment has come.
    pub(super) fn due(&mut self, now: Instant) -> Vec<PeerId> {
        let mut due = Vec::new();
        while let Some((at, id)) = self.later.first().copied()
            && at <= now
        {
            self.later.pop_first();
            due.push(id);
        }
        due
    }

    fn set(&mut self, id: PeerId, peer: &mut Peer, at: Option<Instant>) {
        if peer.wakes_at != at {
            if let Some(before) = peer.wakes_at {
                self.later.remove(&(before, id));
            }
            self.later.extend(at.map(|at| (at, id)));
            peer.wakes_at = at;
        }
    }

    /// A peer is gone.
    pub(super) fn forget(&mut self, id: PeerId, peer: &Peer) {
        self.now.remove(&id);
        for idle in &mut self.idle {
            idle.remove(&id);
        }
        if let Some(at) = peer.wakes_at {
            self.later.remove(&(at, id));
        }
    }
}

impl Lanes {
    /// Gives the peers whose turn it is what they have room for.
    pub(super) fn feed(&mut self, now: Instant) {
        for id in std::mem::take(&mut self.turns.now) {
            self.feed_one(id, now);
        }
    }

    fn feed_one(&mut self, id: PeerId, now: Instant) {
        let Self {
            peers,
            votes,
            transactions,
            blocks,
            mempool,
            upload,
            events,
            turns,
            ..
        } = self;
        let Some(peer) = peers.get_mut(&id) else {
            return;
        };
        for connection in &mut peer.connections {
            let handled = std::mem::take(&mut connection.handled);
            if handled != [Handled::default(); Lane::ALL.len()] {
                events.push_back(ToSwarm::NotifyHandler {
                    peer_id: id,
                    handler: NotifyHandler::One(connection.id),
                    event: Order::Handled(handled),
                });
            }
        }
        let Some((connection, _)) = peer.session.open() else {
            let at = peer.session.deadline();
            turns.set(id, peer, at);
            return;
        };
        let held = &mut peer.held;
        let mut send = |upload: &mut Shaper, lane: Lane, outgoing: Outgoing| {
            let Outgoing {
                bytes,
                items,
                payload,
                ..
            } = outgoing;
            let wire = bytes.len();
            let cost = Cost {
                items: items as u64,
                bytes: wire.max(payload) as u64,
            };
            upload.charge(id, lane.class(), cost, wire, now);
            events.push_back(ToSwarm::NotifyHandler {
                peer_id: id,
                handler: NotifyHandler::One(connection),
                event: Order::Send(lane, bytes),
            });
        };
        // A peer that does not read them gets one when it does.
        if peer.done + peer.read > 0 && peer.urgent < MAX_URGENT {
            let acknowledge = Acknowledge {
                done: std::mem::take(&mut peer.done) as u64,
                read: std::mem::take(&mut peer.read) as u64,
            };
            let outgoing = Outgoing::from(Kind::Acknowledge(acknowledge));
            peer.urgent += outgoing.bytes.len();
            send(upload, Lane::Urgent, outgoing);
        }
        while peer.urgent < MAX_URGENT
            && held.is_free(Lane::Urgent, upload, &id, now)
            && let Some(outgoing) = votes.next(id, None, now)
        {
            peer.urgent += outgoing.bytes.len();
            peer.window.on_vote(now);
            send(upload, Lane::Urgent, outgoing);
        }
        while peer.block < CHUNK_ROOM && held.is_free(Lane::Block, upload, &id, now) {
            let next = peer.queue.pop(Lane::Block).map(|(_, _, bytes)| bytes);
            let room = CHUNK_ROOM - peer.block;
            let Some(bytes) = next.or_else(|| blocks.next_coded(&id, room)) else {
                break;
            };
            peer.block += bytes.len();
            send(upload, Lane::Block, Outgoing::one(bytes));
        }
        while peer.window.room() > 0 && held.is_free(Lane::Bulk, upload, &id, now) {
            let next = peer.queue.pop(Lane::Bulk);
            let next = next.map(|(_, _, bytes)| Outgoing::one(bytes));
            let next = next.or_else(|| transactions.next(id, Some(mempool), now));
            let Some(outgoing) = next else {
                break;
            };
            peer.window
                .on_sent(outgoing.bytes.len(), outgoing.frames, now);
            send(upload, Lane::Bulk, outgoing);
        }
        for (tree, idle) in [&*votes, &*transactions].into_iter().zip(&mut turns.idle) {
            if tree.has_read_all(&id) {
                idle.insert(id);
            }
        }
        // Who has no room is fed when there is some again.
        let votes = (peer.urgent < MAX_URGENT).then(|| votes.sends_at(&id, now));
        let transactions = (peer.window.room() > 0).then(|| transactions.sends_at(&id, now));
        let at = |lane, time: Option<Instant>| Some(peer.held.at(lane, time?));
        let sends = [
            at(Lane::Urgent, votes.flatten()),
            at(Lane::Bulk, transactions.flatten()),
            peer.session.deadline(),
        ];
        let held = peer.held.all().into_iter().flatten();
        let held = held.filter(|at| *at > now);
        let at = sends.into_iter().flatten().chain(held).min();
        turns.set(id, peer, at);
    }
}
