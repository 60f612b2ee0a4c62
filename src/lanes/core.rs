//! What speaks to peers over lanes: the one trait between the streams and whatever they are for.
//!
//! The lanes own streams, sessions, windows and limits, and know of frames only whose they are, of which [`Class`], and what they
//! cost. A [`Core`] knows what is in them, and nothing of streams. It is a state machine without I/O: inputs and `now` go in, and
//! what it wants done is taken out ([`Core::action`], [`Core::next`]). Several cores make one, by a struct that hands each what is
//! its own; so the lanes have one core, and the next one is added beside the others.

use std::{error::Error, fmt::Debug, time::Duration};

use bytes::Bytes;
use libp2p::PeerId;

use super::Taken;
use crate::{
    peers::Misdeed,
    platform::Instant,
    traffic::{Class, Cost, Lane},
};

/// See the module's documentation.
pub(crate) trait Core: 'static {
    /// How its frames are read.
    type Decoder: Decode;
    /// What its owner hears of it.
    type Event: Debug + Send + 'static;
    /// The classes in which [`Core::next`] may have something, highest priority first.
    const CLASSES: &'static [Class];
    /// Those of them of which peers are to have all before a node ends.
    const AWAITED: &'static [Class];

    /// One for a new connection.
    fn decoder(&self) -> Self::Decoder;

    /// A peer takes part from now on; what was said before is forgotten on both sides. `outbound`: we dialled it.
    fn joined(&mut self, peer: PeerId, outbound: bool, now: Instant);

    /// A peer's streams are others now. What was under way on the former ones may be lost, both ways: it is to be sent, or asked for,
    /// again.
    fn moved(&mut self, peer: PeerId, outbound: bool, now: Instant);

    /// A peer takes part no more, or anew in a moment.
    fn gone(&mut self, peer: PeerId, now: Instant);

    /// A frame of a peer. What it `took` is given back when the core is done with it: by [`Action::Done`], or by its owner
    /// ([`super::Lanes::done`]).
    fn frame(
        &mut self,
        from: PeerId,
        frame: <Self::Decoder as Decode>::Frame,
        took: Taken,
        now: Instant,
    );

    /// Some of a long frame of a peer is here that comes slowly; of frames that are here at once nothing is heard before.
    fn comes(&mut self, from: PeerId, lane: Lane, coming: Coming, now: Instant);

    /// A long frame of a peer, of so many bytes on the stream, came too slowly while others waited, and is lost, whatever it was. What the
    /// core waits for may have been in there: nobody pays for that, and who else has it is asked.
    fn skipped(&mut self, from: PeerId, lane: Lane, length: usize, now: Instant);

    /// What a peer sends was not read here for so long, until now: what it was asked for and has not sent has as much more time.
    fn unheard(&mut self, peer: PeerId, time: Duration, now: Instant);

    /// The next bytes of a class for a peer whose lane has so much room, as far as there are any; a whole frame may go over it, and is held
    /// back for that on the lane of blocks alone, where it is asked for again at each piece of room. Where a frame goes on
    /// ([`Outgoing::frames`]), the next bytes are its next ones, and to have none is to break it off: the streams end.
    fn next(&mut self, to: PeerId, class: Class, room: usize, now: Instant) -> Option<Outgoing>;

    /// What there may be of a class for a peer whose lane has room waits for this node's own limits until then: it is no fault of the peer.
    fn withheld(&mut self, to: PeerId, class: Class, until: Instant);

    /// What was sent to a peer by [`Action::Send`] found no room in its queue, and does not go out.
    fn dropped(&mut self, to: PeerId, class: Class, outgoing: Outgoing);

    /// When there is something of a class for a peer that no input will bring. `None`: not before [`Action::News`] or
    /// [`Action::Feed`].
    fn next_at(&self, to: &PeerId, class: Class, now: Instant) -> Option<Instant>;

    /// Whether peers, or this one, have all that they were told of, as far as they say so. Linear in what is kept.
    fn is_settled(&self, peer: Option<&PeerId>, now: Instant) -> bool;

    /// What is to be done next.
    fn action(&mut self) -> Option<Action<Self::Event>>;

    /// Moves on what has waited.
    fn on_time(&mut self, now: Instant);

    /// When [`Core::on_time`] has something to do.
    fn next_deadline(&mut self) -> Option<Instant>;
}

/// Reads a core's frames, on the connection's own task: slow work, such as hashing, has its place here.
pub(crate) trait Decode: Clone + Debug + Send + 'static {
    /// A frame, as far as it can be understood alone.
    type Frame: Debug + Send + 'static;

    /// Reads a frame, its length already taken off.
    ///
    /// # Errors
    /// Why it is none, or none of this lane; the sender pays.
    fn decode(
        &self,
        lane: Lane,
        frame: Bytes,
    ) -> Result<Decoded<Self::Frame>, Box<dyn Error + Send + Sync>>;
}

/// How much of a frame is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Coming {
    pub(crate) bytes: usize,
    /// How long it is.
    pub(crate) length: usize,
}

/// A frame that was read.
#[derive(Debug)]
pub(crate) struct Decoded<F> {
    pub(crate) frame: F,
    /// Under which class it is limited: one of its lane.
    pub(crate) class: Class,
    /// Items that it holds or speaks of, and their bytes, unpacked.
    pub(crate) cost: Cost,
}

/// What a core wants done.
#[derive(Debug)]
pub(crate) enum Action<E> {
    /// Send this; what does not fit in the peer's queue comes back by [`Core::dropped`].
    Send(PeerId, Class, Outgoing),
    /// The core has dropped what it was to send to a peer.
    Dropped(PeerId, Class),
    /// [`Core::next`] may have something for a peer.
    Feed(PeerId),
    /// It may have something of this class for all who have got the rest.
    News(Class),
    /// A frame of a peer is done with.
    Done(PeerId, Taken),
    /// A peer's frame costs it more of its limits than it seemed to.
    Surcharge(PeerId, Class, Cost),
    /// A peer has done what it pays for.
    Misdeed(PeerId, Misdeed),
    /// For the core's owner.
    Tell(E),
}

impl<E> Action<E> {
    /// The same, where what is for the owner is part of something larger, or nothing of its business.
    pub(crate) fn filter_map<F>(self, tell: impl FnOnce(E) -> Option<F>) -> Option<Action<F>> {
        Some(match self {
            Self::Send(to, class, outgoing) => Action::Send(to, class, outgoing),
            Self::Dropped(to, class) => Action::Dropped(to, class),
            Self::Feed(to) => Action::Feed(to),
            Self::News(class) => Action::News(class),
            Self::Done(from, took) => Action::Done(from, took),
            Self::Surcharge(from, class, cost) => Action::Surcharge(from, class, cost),
            Self::Misdeed(from, misdeed) => Action::Misdeed(from, misdeed),
            Self::Tell(event) => Action::Tell(tell(event)?),
        })
    }
}

/// What goes out.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// Whole frames, or a part of one.
    pub(crate) bytes: Bytes,
    /// How many end in here: each is dealt with, and so acknowledged, by itself. None: the frame goes on in what is next of its class,
    /// before anything else on its lane; but not on the urgent one, where acknowledgements go in between.
    pub(crate) frames: usize,
    /// Items in there, announced ones and those asked for.
    pub(crate) items: usize,
    /// Bytes of whole items in there, unpacked.
    pub(crate) payload: usize,
}

impl Outgoing {
    /// A frame that counts as one item.
    pub(crate) fn one(bytes: Bytes) -> Self {
        Self {
            bytes,
            frames: 1,
            items: 1,
            payload: 0,
        }
    }

    /// What it costs its sender in its limits, and its receiver.
    pub(super) fn cost(&self) -> Cost {
        Cost {
            items: self.items as u64,
            bytes: self.bytes.len().max(self.payload) as u64,
        }
    }
}
