//! What speaks over the lanes: propagation and sync, each with the frames that are its own.
//!
//! A frame is sync's by its first byte ([`wire::KEY`]), and travels in a class of its own, so neither core knows of the other.

use std::error::Error;

use bytes::Bytes;
use libp2p::PeerId;

use crate::{
    lanes::{Action, Coming, Core, Decode, Decoded, Outgoing, Taken},
    platform::Instant,
    propagation::{self, Propagation},
    sync::blocks::{self, Sync, wire},
    traffic::{Class, Cost, Lane},
};

/// See the module's documentation.
pub(crate) struct Cores {
    pub(crate) propagation: Propagation,
    pub(crate) sync: Sync,
}

/// What the network task hears of.
#[derive(Debug)]
pub(crate) enum Event {
    Propagation(Box<propagation::Event>),
    Sync(blocks::Event),
}

/// Reads the frames of both.
#[derive(Clone, Debug)]
pub(crate) struct Decoder(<Propagation as Core>::Decoder);

/// A frame of one of them.
#[derive(Debug)]
pub(crate) enum Frame {
    Propagation(<<Propagation as Core>::Decoder as Decode>::Frame),
    Sync(wire::Kind),
}

impl Decode for Decoder {
    type Frame = Frame;

    fn decode(
        &self,
        lane: Lane,
        frame: Bytes,
    ) -> Result<Decoded<Frame>, Box<dyn Error + Send + std::marker::Sync>> {
        if frame.first() != Some(&wire::KEY) {
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
        let frame = Frame::Sync(wire::Kind::read(frame)?);
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
    }

    fn moved(&mut self, peer: PeerId, outbound: bool, now: Instant) {
        self.propagation.moved(peer, outbound, now);
        self.sync.moved(peer, now);
    }

    fn gone(&mut self, peer: PeerId, now: Instant) {
        self.propagation.gone(peer, now);
        self.sync.gone(peer, now);
    }

    fn frame(&mut self, from: PeerId, frame: Frame, took: Taken, now: Instant) {
        match frame {
            Frame::Propagation(frame) => self.propagation.frame(from, frame, took, now),
            Frame::Sync(message) => self.sync.frame(from, message, took, now),
        }
    }

    /// Sync looks at answers as they come, piece by piece.
    fn comes(&mut self, from: PeerId, lane: Lane, coming: Coming, now: Instant) {
        self.propagation.comes(from, lane, coming, now);
    }

    fn skipped(&mut self, from: PeerId, lane: Lane, length: usize, now: Instant) {
        self.propagation.skipped(from, lane, length, now);
        if lane == Class::Sync.lane() {
            self.sync.skipped(from, now);
        }
    }

    fn next(&mut self, to: PeerId, class: Class, room: usize, now: Instant) -> Option<Outgoing> {
        match class {
            Class::Sync => self.sync.next(to, now),
            class => self.propagation.next(to, class, room, now),
        }
    }

    /// Sync sends nothing but what is asked for by [`Core::next`].
    fn dropped(&mut self, to: PeerId, class: Class, outgoing: Outgoing) {
        self.propagation.dropped(to, class, outgoing);
    }

    fn next_at(&self, to: &PeerId, class: Class, now: Instant) -> Option<Instant> {
        match class {
            Class::Sync => self.sync.next_at(to, now),
            class => self.propagation.next_at(to, class, now),
        }
    }

    fn is_settled(&self, now: Instant) -> bool {
        self.propagation.is_settled(now) && self.sync.is_settled()
    }

    fn action(&mut self) -> Option<Action<Event>> {
        let action = self.propagation.action();
        let action = action.map(|action| action.map(|event| Event::Propagation(Box::new(event))));
        action.or_else(|| Some(self.sync.action()?.map(Event::Sync)))
    }

    fn on_time(&mut self, now: Instant) {
        self.propagation.on_time(now);
        self.sync.on_time(now);
    }

    fn next_deadline(&mut self) -> Option<Instant> {
        let deadlines = [self.propagation.next_deadline(), self.sync.next_deadline()];
        deadlines.into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Config, peers::Misdeed, platform::test, sync::SyncConfig};

    fn decoder() -> Decoder {
        let propagation = &Config::default().protocol.propagation;
        let cores = Cores {
            propagation: Propagation::new(propagation, [[1; 16]; 4]),
            sync: Sync::new(SyncConfig::default(), 1 << 20, false, &[1; 16]),
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
        assert_eq!((sync.version(), sync.next_at(&peer, now)), (0, None));
        assert!(sync.next(peer, now).is_none() && sync.action().is_none());
        let message = wire::Kind::Refusal(wire::Refusal::default());
        sync.frame(peer, message, Taken::nothing(), now);
        let misdeed = Misdeed::InvalidMessage;
        assert!(
            matches!(sync.action(), Some(Action::Misdeed(id, of)) if id == peer && of == misdeed)
        );
    }
}
