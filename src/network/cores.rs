//! What speaks over the lanes: propagation, and sync of blocks and of snapshots, each with the frames that are its own.
//!
//! A frame is sync's by its first byte ([`wire::KEY`], [`snapshots::KEY`]), and travels in a class of its own, so no core knows of the others. Two
//! things pass from one to another here: how high peers say that they are, and, by the network task, that blocks have to wait.

use std::{error::Error, time::Duration};

use bytes::Bytes;
use libp2p::PeerId;

use crate::{
    lanes::{Action, Coming, Core, Decode, Decoded, Outgoing, Taken},
    platform::Instant,
    propagation::{self, Propagation},
    sync::{
        blocks::{self, Sync, wire},
        snapshots::{self, Heard, Snapshots},
    },
    traffic::{Class, Cost, Lane},
};

/// See the module's documentation.
pub(crate) struct Cores {
    pub(crate) propagation: Propagation,
    pub(crate) sync: Sync,
    pub(crate) snapshots: Snapshots,
}

/// What the network task hears of.
#[derive(Debug)]
pub(crate) enum Event {
    Propagation(Box<propagation::Event>),
    Sync(blocks::Event),
    Snapshots(snapshots::Event),
}

/// Reads the frames of all.
#[derive(Clone, Debug)]
pub(crate) struct Decoder(<Propagation as Core>::Decoder);

/// A frame of one of them.
#[derive(Debug)]
pub(crate) enum Frame {
    Propagation(<<Propagation as Core>::Decoder as Decode>::Frame),
    Sync(wire::Kind),
    Snapshots(Heard),
}

impl Cores {
    /// The version of sync that the hello says: 0 where this node does not.
    pub(crate) fn version(&self) -> u32 {
        if self.sync.is_on() {
            snapshots::VERSION
        } else {
            0
        }
    }

    /// A peer has said hello, with this version.
    pub(crate) fn greeted(&mut self, peer: PeerId, version: u32) {
        self.sync.greeted(peer, version);
        self.snapshots.greeted(peer, version);
    }

    /// A peer's last connection is gone.
    pub(crate) fn forget(&mut self, peer: &PeerId) {
        self.sync.forget(peer);
        self.snapshots.forget(peer);
    }
}

impl Decode for Decoder {
    type Frame = Frame;

    fn decode(
        &self,
        lane: Lane,
        frame: Bytes,
    ) -> Result<Decoded<Frame>, Box<dyn Error + Send + std::marker::Sync>> {
        let key = frame.first().copied();
        if key != Some(wire::KEY) && key != Some(snapshots::KEY) {
            let Decoded { frame, class, cost } = self.0.decode(lane, frame)?;
            let frame = Frame::Propagation(frame);
            return Ok(Decoded { frame, class, cost });
        }
        let class = Class::Sync;
        if class.lane() != lane {
            return Err("a frame of sync belongs to the bulk lane".into());
        }
        let cost = Cost {
            items: 1,
            bytes: frame.len() as u64,
        };
        let frame = if key == Some(wire::KEY) {
            Frame::Sync(wire::Kind::read(frame)?)
        } else {
            Frame::Snapshots(Heard::read(frame)?)
        };
        Ok(Decoded { frame, class, cost })
    }
}

impl Core for Cores {
    type Decoder = Decoder;
    type Event = Event;
    const CLASSES: &'static [Class] = &[Class::Vote, Class::Block, Class::Transaction, Class::Sync];
    /// What peers miss of the chain they get elsewhere.
    const AWAITED: &'static [Class] = Propagation::AWAITED;

    fn decoder(&self) -> Decoder {
        Decoder(self.propagation.decoder())
    }

    fn joined(&mut self, peer: PeerId, outbound: bool, now: Instant) {
        self.propagation.joined(peer, outbound, now);
        self.sync.joined(peer, now);
        self.snapshots.joined(peer);
    }

    fn moved(&mut self, peer: PeerId, outbound: bool, now: Instant) {
        self.propagation.moved(peer, outbound, now);
        self.sync.moved(peer, now);
        self.snapshots.moved(peer, now);
    }

    fn gone(&mut self, peer: PeerId, now: Instant) {
        self.propagation.gone(peer, now);
        self.sync.gone(peer, now);
        self.snapshots.gone(peer, now);
    }

    fn frame(&mut self, from: PeerId, frame: Frame, took: Taken, now: Instant) {
        match frame {
            Frame::Propagation(frame) => self.propagation.frame(from, frame, took, now),
            Frame::Sync(message) => {
                if let wire::Kind::Status(status) = &message {
                    self.snapshots.heard_of(status.height, now);
                }
                self.sync.frame(from, message, took, now);
            }
            Frame::Snapshots(heard) => self.snapshots.frame(from, heard, took, now),
        }
    }

    /// Sync looks at answers as they come, piece by piece.
    fn comes(&mut self, from: PeerId, lane: Lane, coming: Coming, now: Instant) {
        self.propagation.comes(from, lane, coming, now);
    }

    fn skipped(&mut self, from: PeerId, lane: Lane, length: usize, now: Instant) {
        self.propagation.skipped(from, lane, length, now);
        if lane == Class::Sync.lane() {
            self.sync.skipped(from, length, now);
        }
    }

    fn unheard(&mut self, peer: PeerId, time: Duration, now: Instant) {
        self.propagation.unheard(peer, time, now);
        self.sync.unheard(&peer, time);
        self.snapshots.unheard(&peer, time, now);
    }

    fn next(&mut self, to: PeerId, class: Class, room: usize, now: Instant) -> Option<Outgoing> {
        match class {
            Class::Sync => {
                let next = self.sync.next(to, now);
                next.or_else(|| self.snapshots.next(to, room, now))
            }
            class => self.propagation.next(to, class, room, now),
        }
    }

    /// Sync sends nothing but what is asked for by [`Core::next`].
    fn dropped(&mut self, to: PeerId, class: Class, outgoing: Outgoing) {
        self.propagation.dropped(to, class, outgoing);
    }

    fn next_at(&self, to: &PeerId, class: Class, now: Instant) -> Option<Instant> {
        match class {
            Class::Sync => {
                let next = [self.sync.next_at(to, now), self.snapshots.next_at(to, now)];
                next.into_iter().flatten().min()
            }
            class => self.propagation.next_at(to, class, now),
        }
    }

    fn is_settled(&self, now: Instant) -> bool {
        self.propagation.is_settled(now) && self.sync.is_settled() && self.snapshots.is_settled()
    }

    fn action(&mut self) -> Option<Action<Event>> {
        let action = self.propagation.action();
        let action = action.map(|action| action.map(|event| Event::Propagation(Box::new(event))));
        let action = action.or_else(|| Some(self.sync.action()?.map(Event::Sync)));
        action.or_else(|| Some(self.snapshots.action()?.map(Event::Snapshots)))
    }

    fn on_time(&mut self, now: Instant) {
        self.propagation.on_time(now);
        self.sync.on_time(now);
        self.snapshots.on_time(now);
    }

    fn next_deadline(&mut self) -> Option<Instant> {
        let deadlines = [
            self.propagation.next_deadline(),
            self.sync.next_deadline(),
            self.snapshots.next_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        chain::rules::Synced,
        config::Config,
        peers::Misdeed,
        platform::test,
        sync::{
            SyncConfig,
            snapshots::{Message, SnapshotsConfig},
        },
    };

    fn decoder() -> Decoder {
        let propagation = &Config::default().protocol.propagation;
        let cores = Cores {
            propagation: Propagation::new(propagation, [[1; 16]; 4]),
            sync: Sync::new(SyncConfig::default(), 1 << 20, false, &[1; 16]),
            snapshots: Snapshots::new(SnapshotsConfig::default(), &Synced::default(), 1),
        };
        cores.decoder()
    }

    #[test]
    fn each_frame_is_its_cores_and_of_its_lane() {
        let refusal = wire::Refusal {
            number: 7,
            reason: 1,
        };
        let mut frame = wire::Kind::Refusal(refusal.clone()).into_frame();
        prost::decode_length_delimiter(&mut frame).expect("its length");
        let decoded = decoder().decode(Lane::Bulk, frame.clone()).expect("right");
        assert_eq!(decoded.class, Class::Sync);
        assert!(matches!(decoded.frame, Frame::Sync(wire::Kind::Refusal(read)) if read == refusal));
        decoder()
            .decode(Lane::Block, frame.clone())
            .expect_err("another lane's");
        decoder()
            .decode(Lane::Urgent, frame)
            .expect_err("another lane's");
        let mut seek = Message::Seek.into_frame();
        prost::decode_length_delimiter(&mut seek).expect("its length");
        let decoded = decoder().decode(Lane::Bulk, seek.clone()).expect("right");
        let read = decoded.frame;
        assert!(matches!(
            read,
            Frame::Snapshots(Heard::Message(Message::Seek))
        ));
        decoder()
            .decode(Lane::Block, seek)
            .expect_err("another lane's");
        // A link's, of propagation.
        let link = Bytes::from_static(&[0x22, 2, 8, 1]);
        let decoded = decoder().decode(Lane::Bulk, link).expect("right");
        assert!(matches!(decoded.frame, Frame::Propagation(_)));
    }

    #[test]
    fn a_node_that_does_not_sync_leaves_others_alone_and_blames_who_does_not() {
        let mut sync = Sync::new(SyncConfig::default(), 1 << 20, false, &[1; 16]);
        let (peer, now) = (PeerId::random(), crate::platform::now());
        sync.greeted(peer, wire::VERSION);
        sync.joined(peer, now);
        assert!(!sync.is_on() && sync.next_at(&peer, now).is_none());
        assert!(sync.next(peer, now).is_none() && sync.action().is_none());
        let message = wire::Kind::Refusal(wire::Refusal::default());
        sync.frame(peer, message, Taken::nothing(), now);
        let misdeed = Misdeed::InvalidMessage;
        assert!(
            matches!(sync.action(), Some(Action::Misdeed(id, of)) if id == peer && of == misdeed)
        );
    }
}
