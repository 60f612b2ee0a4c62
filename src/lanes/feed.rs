//! What goes out to each peer, and when.
//!
//! Votes go as far as a connection takes them, blocks little at a time, bulk as far as the window goes; each waits for its limits
//! ([`super::peer::Held`]).

use bytes::Bytes;
use libp2p::swarm::{NotifyHandler, ToSwarm};

use super::{Lanes, handler::Order};
use crate::propagation::blocks::CHUNK_ROOM;
use crate::{
    platform::Instant,
    propagation::{
        plumtree::Outgoing,
        wire::{Acknowledge, Kind},
    },
    traffic::{Cost, Lane, Shaper},
};

/// Urgent bytes that may wait in a connection.
const MAX_URGENT: usize = 4 << 20;

impl Lanes {
    /// Gives every peer what it has room for.
    pub(super) fn feed(&mut self, now: Instant) {
        let Self {
            peers,
            votes,
            transactions,
            blocks,
            mempool,
            upload,
            events,
            ..
        } = self;
        for (id, peer) in peers {
            let Some((connection, true)) = peer.active else {
                continue;
            };
            let held = &mut peer.held;
            let mut send = |upload: &mut Shaper, lane: Lane, bytes: Bytes, items: usize| {
                let cost = Cost {
                    items: items as u64,
                    bytes: bytes.len() as u64,
                };
                upload.charge(*id, lane.class(), cost, now);
                events.push_back(ToSwarm::NotifyHandler {
                    peer_id: *id,
                    handler: NotifyHandler::One(connection),
                    event: Order::Send(lane, bytes),
                });
            };
            if peer.done + peer.read > 0 {
                let acknowledge = Acknowledge {
                    done: std::mem::take(&mut peer.done) as u64,
                    read: std::mem::take(&mut peer.read) as u64,
                };
                let bytes = Kind::Acknowledge(acknowledge).into_frame();
                peer.urgent += bytes.len();
                send(upload, Lane::Urgent, bytes, 0);
            }
            while peer.urgent < MAX_URGENT
                && held.is_free(Lane::Urgent, upload, id, now)
                && let Some(Outgoing { bytes, items }) = votes.next(*id, None, now)
            {
                peer.urgent += bytes.len();
                peer.window.on_vote(now);
                send(upload, Lane::Urgent, bytes, items);
            }
            while peer.block < CHUNK_ROOM && held.is_free(Lane::Block, upload, id, now) {
                let next = peer.queue.pop(Lane::Block).map(|(_, _, bytes)| bytes);
                let room = CHUNK_ROOM - peer.block;
                let Some(bytes) = next.or_else(|| blocks.next_coded(id, room)) else {
                    break;
                };
                peer.block += bytes.len();
                send(upload, Lane::Block, bytes, 1);
            }
            while peer.window.room() > 0 && held.is_free(Lane::Bulk, upload, id, now) {
                let next = peer.queue.pop(Lane::Bulk);
                let next = next.map(|(_, _, bytes)| Outgoing { bytes, items: 1 });
                let next = next.or_else(|| transactions.next(*id, Some(mempool), now));
                let Some(Outgoing { bytes, items }) = next else {
                    break;
                };
                peer.window.on_sent(bytes.len(), now);
                send(upload, Lane::Bulk, bytes, items);
            }
        }
    }

    /// When there is something to send that no input will bring.
    pub(super) fn sends_at(&self) -> Option<Instant> {
        let open = self
            .peers
            .iter()
            .filter(|(_, peer)| matches!(peer.active, Some((_, true))));
        let sends = open.flat_map(|(id, peer)| {
            let votes = (peer.urgent < MAX_URGENT).then(|| self.votes.sends_at(id));
            let transactions = (peer.window.room() > 0).then(|| self.transactions.sends_at(id));
            let at = |lane, time: Option<Instant>| Some(peer.held.at(lane, time?));
            let waiting = [
                at(Lane::Urgent, votes.flatten()),
                at(Lane::Bulk, transactions.flatten()),
            ];
            waiting.into_iter().chain(peer.held.all())
        });
        sends.flatten().min()
    }
}
