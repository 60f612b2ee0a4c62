//! What speaks over the lanes: propagation, and sync where the chain has a store, each with the frames that are its own.
//!
//! A frame is sync's by its first byte ([`sync::Frame::is_one`]), and travels in a class of its own, so neither knows of the other.

use std::{error::Error, time::Duration};

use bytes::Bytes;
use libp2p::PeerId;

use crate::{
    lanes::{Action, Coming, Core, Decode, Decoded, Outgoing, Taken},
    platform::Instant,
    propagation::{self, Propagation},
    sync::core::{self as sync, Syncing},
    traffic::{Class, Cost, Lane},
};

/// See the module's documentation.
pub(crate) struct Cores {
    pub(crate) propagation: Propagation,
    /// `None`: the chain has no store.
    pub(crate) sync: Option<Box<dyn Syncing>>,
}

/// What the network task hears of.
#[derive(Debug)]
pub(crate) enum Event {
    Propagation(Box<propagation::Event>),
    Sync(Box<sync::Event>),
}

/// Reads the frames of both.
#[derive(Clone, Debug)]
pub(crate) struct Decoder(<Propagation as Core>::Decoder, Option<sync::Read>);

/// A frame of one of them.
#[derive(Debug)]
pub(crate) enum Frame {
    Propagation(<<Propagation as Core>::Decoder as Decode>::Frame),
    Sync(sync::Frame),
}

impl Cores {
    /// The version of sync that the hello says: 0 where this node does not.
    pub(crate) fn version(&self) -> u32 {
        self.sync.as_ref().map_or(0, |_| sync::VERSION)
    }

    /// A peer has said hello, with this version.
    pub(crate) fn greeted(&mut self, peer: PeerId, version: u32) {
        if let Some(sync) = &mut self.sync {
            sync.greeted(peer, version);
        }
    }

    /// A peer's last connection is gone.
    pub(crate) fn forget(&mut self, peer: &PeerId) {
        if let Some(sync) = &mut self.sync {
            sync.forget(peer);
        }
    }
}

impl Decode for Decoder {
    type Frame = Frame;

    fn decode(
        &self,
        lane: Lane,
        frame: Bytes,
    ) -> Result<Decoded<Frame>, Box<dyn Error + Send + Sync>> {
        if !sync::Frame::is_one(&frame) {
            let Decoded { frame, class, cost } = self.0.decode(lane, frame)?;
            let frame = Frame::Propagation(frame);
            return Ok(Decoded { frame, class, cost });
        }
        let class = Class::Sync;
        if class.lane() != lane {
            return Err("a frame of sync belongs to the bulk lane".into());
        }
        let read = self.1.ok_or("this node has said that it does not sync")?;
        let cost = Cost {
            items: 1,
            bytes: frame.len() as u64,
        };
        let frame = Frame::Sync(read(frame)?);
        Ok(Decoded { frame, class, cost })
    }
}

impl Core for Cores {
    type Decoder = Decoder;
    type Event = Event;
    const CLASSES: &'static [Class] = &[
        Class::Vote,
        Class::BlockRequest,
        Class::Block,
        Class::Transaction,
        Class::Sync,
    ];
    /// What peers miss of the chain they get elsewhere.
    const AWAITED: &'static [Class] = Propagation::AWAITED;

    fn decoder(&self) -> Decoder {
        let sync = self.sync.as_ref().map(|sync| sync.reader());
        Decoder(self.propagation.decoder(), sync)
    }

    fn joined(&mut self, peer: PeerId, outbound: bool, now: Instant) {
        self.propagation.joined(peer, outbound, now);
        if let Some(sync) = &mut self.sync {
            sync.joined(peer, now);
        }
    }

    fn moved(&mut self, peer: PeerId, outbound: bool, now: Instant) {
        self.propagation.moved(peer, outbound, now);
        if let Some(sync) = &mut self.sync {
            sync.moved(peer, now);
        }
    }

    fn gone(&mut self, peer: PeerId, now: Instant) {
        self.propagation.gone(peer, now);
        if let Some(sync) = &mut self.sync {
            sync.gone(peer, now);
        }
    }

    fn frame(&mut self, from: PeerId, frame: Frame, took: Taken, now: Instant) {
        match frame {
            Frame::Propagation(frame) => self.propagation.frame(from, frame, took, now),
            Frame::Sync(frame) => {
                if let Some(sync) = &mut self.sync {
                    sync.frame(from, frame, took, now);
                }
            }
        }
    }

    /// Sync looks at answers as they come, piece by piece.
    fn comes(&mut self, from: PeerId, lane: Lane, coming: Coming, now: Instant) {
        self.propagation.comes(from, lane, coming, now);
    }

    fn skipped(&mut self, from: PeerId, lane: Lane, length: usize, now: Instant) {
        self.propagation.skipped(from, lane, length, now);
        if let Some(sync) = &mut self.sync
            && lane == Class::Sync.lane()
        {
            sync.skipped(from, length, now);
        }
    }

    fn unheard(&mut self, peer: PeerId, time: Duration, now: Instant) {
        self.propagation.unheard(peer, time, now);
        if let Some(sync) = &mut self.sync {
            sync.unheard(peer, time, now);
        }
    }

    fn next(&mut self, to: PeerId, class: Class, room: usize, now: Instant) -> Option<Outgoing> {
        match class {
            Class::Sync => self.sync.as_mut()?.next(to, room, now),
            class => self.propagation.next(to, class, room, now),
        }
    }

    /// Sync blames nobody for what it could not send.
    fn withheld(&mut self, to: PeerId, class: Class, until: Instant) {
        self.propagation.withheld(to, class, until);
    }

    /// Sync sends nothing but what is asked for by [`Core::next`].
    fn dropped(&mut self, to: PeerId, class: Class, outgoing: Outgoing) {
        self.propagation.dropped(to, class, outgoing);
    }

    fn next_at(&self, to: &PeerId, class: Class, now: Instant) -> Option<Instant> {
        match class {
            Class::Sync => self.sync.as_ref()?.next_at(to, now),
            class => self.propagation.next_at(to, class, now),
        }
    }

    fn is_settled(&self, peer: Option<&PeerId>, now: Instant) -> bool {
        let sync = self.sync.as_ref();
        self.propagation.is_settled(peer, now) && sync.is_none_or(|sync| sync.is_settled())
    }

    fn action(&mut self) -> Option<Action<Event>> {
        if let Some(action) = self.propagation.action() {
            return action.filter_map(|event| Some(Event::Propagation(Box::new(event))));
        }
        let action = self.sync.as_mut()?.action()?;
        action.filter_map(|event| Some(Event::Sync(Box::new(event))))
    }

    fn on_time(&mut self, now: Instant) {
        self.propagation.on_time(now);
        if let Some(sync) = &mut self.sync {
            sync.on_time(now);
        }
    }

    fn next_deadline(&mut self) -> Option<Instant> {
        let sync = self.sync.as_ref().and_then(|sync| sync.next_deadline());
        let deadlines = [self.propagation.next_deadline(), sync];
        deadlines.into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Config,
        platform::test,
        sync::{
            blocks::wire::{self, Kind},
            snapshots::{Heard, Message},
        },
    };

    fn cores() -> Cores {
        let propagation = &Config::default().protocol.propagation;
        Cores {
            propagation: Propagation::new(propagation, [[1; 16]; 4]),
            sync: None,
        }
    }

    fn refusal() -> wire::Refusal {
        wire::Refusal {
            number: 7,
            reason: 1,
        }
    }

    /// A frame, its length taken off.
    fn body(mut frame: Bytes) -> Bytes {
        prost::decode_length_delimiter(&mut frame).expect("its length");
        frame
    }

    #[test]
    fn each_frame_is_its_cores_and_of_its_lane() {
        let decoder = Decoder(cores().propagation.decoder(), Some(sync::Frame::read));
        let refused = body(Kind::Refusal(refusal()).into_frame());
        let seek = body(Message::Seek.into_frame());
        for frame in [&refused, &seek] {
            for lane in [Lane::Block, Lane::Urgent] {
                let wrong = decoder.decode(lane, frame.clone());
                wrong.expect_err("another lane's");
            }
        }
        let read = |frame| decoder.decode(Lane::Bulk, frame).expect("right");
        let decoded = read(refused);
        assert_eq!(decoded.class, Class::Sync);
        assert!(
            matches!(decoded.frame, Frame::Sync(sync::Frame::Blocks(Kind::Refusal(read))) if read == refusal())
        );
        assert!(matches!(
            read(seek).frame,
            Frame::Sync(sync::Frame::Snapshots(Heard::Message(Message::Seek)))
        ));
        // A link's, of propagation.
        let link = read(Bytes::from_static(&[0x22, 2, 8, 1]));
        assert!(matches!(link.frame, Frame::Propagation(_)));
    }

    #[test]
    fn a_node_that_does_not_sync_leaves_others_alone_and_takes_nothing_of_it() {
        let mut cores = cores();
        let (peer, now) = (PeerId::random(), crate::platform::now());
        assert_eq!(cores.version(), 0);
        cores.greeted(peer, sync::VERSION);
        cores.joined(peer, true, now);
        assert_eq!(cores.next_at(&peer, Class::Sync, now), None);
        assert!(cores.next(peer, Class::Sync, 1 << 20, now).is_none());
        let frame = body(Kind::Refusal(refusal()).into_frame());
        let read = cores.decoder().decode(Lane::Bulk, frame);
        read.expect_err("its sender pays");
    }
}
