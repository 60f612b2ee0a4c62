//! What goes out to each peer, and when.
//!
//! Everything passes the peer's [`Scheduler`](crate::traffic::Scheduler): what a core has sent waits there, and what a core makes when there is room for it
//! and its limits let it go ([`Core::next`]) enters it a frame at a time: as late as that, so that the core says then what is next. A part of a
//! frame goes out at once, and its rest before anything else on its lane: so what is long is made as it is read. Votes go as far as a connection takes them, blocks little at a time, bulk as far as the
//! window goes; each class waits for its limits ([`super::peer::Held`]). Nothing here is linear in peers: a peer is fed when something
//! has happened to it, when its moment has come, or when there is something new and it has got the rest ([`Turns`]).

use std::collections::{BTreeSet, HashSet, VecDeque};

use libp2p::{
    PeerId,
    swarm::{NotifyHandler, ToSwarm},
};

use super::{
    Lanes,
    acknowledge::Acknowledge,
    core::{Core, Outgoing},
    handler::Order,
    peer::{Held, Peer},
};
use crate::{
    platform::{self, Instant},
    traffic::{Class, Cost, Lane, Load},
};

/// Urgent bytes that may wait in a connection, where nothing overtakes them.
pub(super) const MAX_URGENT: usize = 128 << 10;
/// Bytes of blocks that may be under way to a peer before it gets more, which cannot be taken back.
pub(crate) const BLOCK_ROOM: usize = 160 << 10;

/// Bytes, unpacked, that are made for peers before others than they have a turn: to make them is work, and what came meanwhile waits.
pub(super) const MAX_WORK: usize = 1 << 20;

/// The peers that are to be fed, so that nothing is walked in search of them.
#[derive(Default)]
pub(super) struct Turns {
    /// Something has happened to these.
    now: HashSet<PeerId>,
    /// The order in which it has, those included that are forgotten since.
    order: VecDeque<PeerId>,
    /// These wait for their moment, which stands in [`Peer::wakes_at`] too.
    later: BTreeSet<(Instant, PeerId)>,
    /// These have got all there is, of each class.
    idle: [HashSet<PeerId>; Class::ALL.len()],
}

impl Turns {
    /// A peer may have something to get.
    pub(super) fn now(&mut self, id: PeerId) {
        if self.now.insert(id) {
            self.order.push_back(id);
        }
    }

    /// Whose turn it is.
    fn pop(&mut self) -> Option<PeerId> {
        while let Some(id) = self.order.pop_front() {
            if self.now.remove(&id) {
                return Some(id);
            }
        }
        None
    }

    /// There is something new for all who have got the rest.
    pub(super) fn news(&mut self, class: Class) {
        let Self {
            now, order, idle, ..
        } = self;
        if let Some(idle) = idle.get_mut(class.place()) {
            order.extend(idle.drain().filter(|id| now.insert(*id)));
        }
    }

    /// A peer has got all there is of a class.
    fn idle(&mut self, id: PeerId, class: Class) {
        if let Some(idle) = self.idle.get_mut(class.place()) {
            idle.insert(id);
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

impl<C: Core> Lanes<C> {
    /// Gives the peers whose turn it is what they have room for, until that is [`MAX_WORK`].
    pub(super) fn feed(&mut self, now: Instant) {
        while self.work < MAX_WORK
            && let Some(id) = self.turns.pop()
        {
            self.acknowledge(id, now);
            self.feed_one(id, now);
        }
    }

    /// Tells a peer's connections what has become of what they read, and the peer itself.
    fn acknowledge(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        for connection in &mut peer.connections {
            if let Some(handled) = connection.take_handled() {
                self.events.push_back(ToSwarm::NotifyHandler {
                    peer_id: id,
                    handler: NotifyHandler::One(connection.id),
                    event: Order::Handled(handled),
                });
            }
        }
        let Some((connection, _)) = peer.session.open() else {
            return;
        };
        // A peer that does not read them gets one when it does.
        if peer.done + peer.read > 0 && peer.room(Lane::Urgent) > 0 {
            let acknowledge = Acknowledge {
                done: std::mem::take(&mut peer.done) as u64,
                read: std::mem::take(&mut peer.read) as u64,
            };
            let bytes = acknowledge.into_frame();
            let wire = bytes.len();
            peer.urgent += wire;
            let cost = Cost {
                items: 0,
                bytes: wire as u64,
            };
            self.upload
                .charge(id, Class::Vote, Load::of_one(cost, wire), now);
            self.events.push_back(ToSwarm::NotifyHandler {
                peer_id: id,
                handler: NotifyHandler::One(connection),
                event: Order::Send(Lane::Urgent, bytes),
            });
        }
    }

    fn feed_one(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let Some((connection, _)) = peer.session.open() else {
            let at = peer.session.deadline();
            self.turns.set(id, peer, at);
            return;
        };
        peer.held = Held::default();
        for lane in Lane::ALL {
            loop {
                if lane == Lane::Bulk && self.work >= MAX_WORK {
                    self.turns.now(id);
                    break;
                }
                let Some((class, mut outgoing)) = self.next(id, lane, now) else {
                    break;
                };
                let Some(bytes) = platform::sent_for(outgoing.bytes) else {
                    continue;
                };
                outgoing.bytes = bytes;
                let Some(peer) = self.peers.get_mut(&id) else {
                    return;
                };
                peer.goes(class, outgoing.frames);
                self.work += outgoing.bytes.len().max(outgoing.payload);
                let wire = outgoing.bytes.len();
                match lane {
                    Lane::Urgent => {
                        peer.urgent += wire;
                        peer.window.on_vote(now);
                    }
                    Lane::Block => peer.block += wire,
                    Lane::Bulk => peer.window.on_sent(wire, outgoing.frames, now),
                }
                let load = Load::of_one(outgoing.cost(), wire);
                self.upload.charge(id, class, load, now);
                self.events.push_back(ToSwarm::NotifyHandler {
                    peer_id: id,
                    handler: NotifyHandler::One(connection),
                    event: Order::Send(lane, outgoing.bytes),
                });
            }
        }
        self.rest(id, now);
    }

    /// What goes out next on a peer's lane, if there is room and its class may.
    fn next(&mut self, id: PeerId, lane: Lane, now: Instant) -> Option<(Class, Outgoing)> {
        let peer = self.peers.get_mut(&id)?;
        peer.session.open()?;
        let room = peer.room(lane);
        if room == 0 {
            return None;
        }
        if let Some(class) = peer.goes_on(lane) {
            let next = self.core.next(id, class, room, now);
            if next.is_none() {
                tracing::debug!(%id, ?class, "a frame is broken off: its stream ends");
                self.end(id, now);
            }
            return next.map(|outgoing| (class, outgoing));
        }
        let (held, upload) = (&mut peer.held, &mut self.upload);
        for class in C::CLASSES.iter().filter(|class| class.lane() == lane) {
            if !held.is_free(*class, upload, &id, now) {
                self.core.withheld(id, *class, held.at(*class, now));
                continue;
            }
            if peer.queue.is_empty(*class)
                && let Some(outgoing) = self.core.next(id, *class, room, now)
            {
                if outgoing.frames == 0 {
                    // It may not wait, since its rest may be gone when its turn comes.
                    return Some((*class, outgoing));
                }
                let size = outgoing.bytes.len();
                let pushed = peer.queue.push(*class, size, outgoing);
                debug_assert!(pushed.is_ok(), "an empty queue takes any frame");
            }
            // What goes before all else of its lane: nothing long begins while it waits. Shares are reckoned with all that waits.
            if lane != Lane::Bulk && !peer.queue.is_empty(*class) {
                break;
            }
        }
        let next = peer
            .queue
            .pop(lane, |class| held.is_free(class, upload, &id, now));
        next.map(|(class, _, outgoing)| (class, outgoing))
    }

    /// Notes when a peer is fed again, if nothing happens to it before.
    fn rest(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let mut at = peer.session.deadline();
        let mut wake = |time: Instant| at = Some(at.map_or(time, |at| at.min(time)));
        peer.held.all().filter(|at| *at > now).for_each(&mut wake);
        peer.wants_room = Lane::ALL.iter().any(|lane| peer.is_short_of_room(*lane));
        for class in C::CLASSES {
            match self.core.next_at(&id, *class, now) {
                // Who has no room is fed when there is some again.
                Some(time) if peer.room(class.lane()) > 0 => wake(peer.held.at(*class, time)),
                Some(_) => {}
                None => self.turns.idle(id, *class),
            }
        }
        self.turns.set(id, peer, at);
    }
}
