//! What connections report, and what becomes of the frames in there.

use libp2p::{PeerId, swarm::ConnectionId};

use super::{
    Core, Decode, Event, Lanes, Taken, Whose,
    acknowledge::Acknowledge,
    handler::{Frame, Order, Report},
    peer::Peer,
};
use crate::{
    peers::Misdeed,
    platform::{self, Instant},
    traffic::Lane,
};

/// What is in a core's frames.
pub(super) type Content<C> = <<C as Core>::Decoder as Decode>::Frame;

impl<C: Core> Lanes<C> {
    /// A frame of a peer is done with: its connection may read on, and the peer send more.
    pub(crate) fn done(&mut self, id: PeerId, taken: Taken) {
        // With it goes its place, whether or not the peer is here still.
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if taken.lane == Lane::Bulk {
            peer.done += taken.size.wire;
        }
        peer.on_done(taken.connection, taken.lane, taken.size.held, false);
        self.turns.now(id);
    }

    /// A peer's lane is read no further than what is on its way here, and that is `whose` doing: its connections are not told that their reports are handled, and
    /// they make few that are not.
    pub(crate) fn pause(&mut self, id: PeerId, lane: Lane, whose: Whose) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.pause(lane, whose);
            self.hear(id, platform::now());
        }
    }

    /// A peer's lane is read on.
    pub(crate) fn resume(&mut self, id: PeerId, lane: Lane) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.resume(lane);
            self.hear(id, platform::now());
            self.turns.now(id);
        }
    }

    /// Deals with what a connection has told of its urgent lane before what is told now.
    pub(super) fn take_before(&mut self, id: PeerId, connection: ConnectionId, now: Instant) {
        for report in self.arrivals.all_of(connection) {
            self.on_report(id, connection, report, now);
        }
    }

    /// A connection has told something: its peer is fed where that may have changed what it gets.
    pub(super) fn on_told(
        &mut self,
        id: PeerId,
        connection: ConnectionId,
        report: Report<Content<C>>,
        now: Instant,
    ) {
        let makes_room_alone = report.makes_room_alone();
        self.on_report(id, connection, report, now);
        if !makes_room_alone || self.peers.get(&id).is_some_and(Peer::waits) {
            self.turns.now(id);
        }
    }

    pub(super) fn on_report(
        &mut self,
        id: PeerId,
        connection: ConnectionId,
        report: Report<Content<C>>,
        now: Instant,
    ) {
        let is_light = report.makes_room_alone();
        if matches!(report, Report::Renewed) {
            // That is of the former session.
            self.take_before(id, connection, now);
        }
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        match report {
            // The other side's streams carry what it sends, whichever connection it has chosen.
            Report::Frames(lane, frames) => {
                if lane == Lane::Bulk {
                    peer.read += frames.iter().map(|(_, size)| size.wire).sum::<usize>();
                }
                self.came += frames.len();
                for (frame, size) in frames {
                    let taken = |place| Taken {
                        connection,
                        lane,
                        size,
                        _place: place,
                    };
                    match frame {
                        Frame::Core(frame, place) => {
                            self.core.frame(id, frame, taken(place), now);
                        }
                        Frame::Acknowledge(acknowledge) => {
                            self.on_acknowledge(id, &acknowledge, now);
                            if let Some(peer) = self.peers.get_mut(&id) {
                                peer.on_done(connection, lane, size.held, is_light);
                            }
                        }
                    }
                }
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.on_handled(connection, lane, is_light);
                }
            }
            Report::Comes(lane, coming) => self.core.comes(id, lane, coming, now),
            Report::GaveWay(lane, length) => {
                tracing::debug!(%id, ?lane, length, "a long frame came too slowly while others waited");
                peer.passes(connection, lane, true);
                self.hear(id, now);
                self.core.skipped(id, lane, length, now);
                self.tell(Event::Skipped(id, lane));
            }
            Report::Skipped(lane, wire) => {
                peer.passes(connection, lane, false);
                if lane == Lane::Bulk {
                    (peer.read, peer.done) = (peer.read + wire, peer.done + wire);
                }
                self.hear(id, now);
            }
            Report::Held(lane, held) => {
                peer.hold(connection, lane, held);
                self.hear(id, now);
            }
            Report::Stands(stands) => {
                peer.stands(connection, stands);
                self.hear(id, now);
            }
            Report::Garbage(reason) => {
                tracing::debug!(%id, reason, "a broken frame");
                self.tell(Event::Misdeed(id, Misdeed::InvalidMessage));
            }
            Report::Unsupported => self.tell(Event::Unsupported(id)),
            Report::Open(epoch) => {
                let step = peer.session.opened(connection, epoch, now);
                self.go_on(id, step, now);
            }
            Report::Broken(epoch) => {
                let step = peer.session.broken(connection, epoch, now);
                self.go_on(id, step, now);
            }
            Report::Begun => {
                peer.speaks(connection);
                self.order(id, connection, Order::Met);
                self.hear(id, now);
            }
            Report::Renewed => {
                peer.speaks(connection);
                // It knows nothing of us any more: it is to be told all again, and not in the middle of a frame.
                if peer.is_half_way() {
                    self.end(id, now);
                } else if peer.session.open().is_some() {
                    self.leave(id, now);
                    self.join(id, now);
                }
                self.order(id, connection, Order::Met);
                self.hear(id, now);
            }
            Report::Written(epoch, ..) if !peer.session.is_current(connection, epoch) => {}
            Report::Written(_, Lane::Urgent, bytes) => {
                peer.urgent = peer.urgent.saturating_sub(bytes);
            }
            Report::Written(_, Lane::Block, bytes) => {
                peer.block = peer.block.saturating_sub(bytes);
            }
            Report::Written(_, Lane::Bulk, bytes) => peer.window.on_written(bytes, now),
        }
    }

    fn on_acknowledge(
        &mut self,
        from: PeerId,
        Acknowledge { read, done }: &Acknowledge,
        now: Instant,
    ) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        if !peer.window.on_acknowledged(*read, *done, now) {
            self.tell(Event::Misdeed(from, Misdeed::TooManyMessages));
        }
    }
}
