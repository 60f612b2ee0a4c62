//! What the lanes keep of a peer: its connections, what is on the way to it and what waits, and until when.

use std::time::Duration;

use libp2p::{PeerId, swarm::ConnectionId};

use super::{
    core::Outgoing,
    feed::{BLOCK_ROOM, MAX_URGENT},
    handler::{Handled, Size},
    session::Session,
    stand::{self, Stand},
};
use crate::network::room::Place;
use crate::peers::Misdeed;
use crate::platform::Instant;
use crate::traffic::{Admission, Class, Lane, Scheduler, SchedulerConfig, Shaper, Window};

/// After the streams began anew or moved, what belongs to the former ones may still be on its way or lost, and nobody pays for it.
/// So long, and not again for some time.
const EXCUSED: Duration = Duration::from_secs(5);
const EXCUSES_EVERY: Duration = Duration::from_secs(60);
/// How long the rest of a frame that gave way may take to come and holds up what stands behind it: then it is its sender that does.
const PASSES: Duration = Duration::from_secs(20);

/// What a frame took of a lane, and of which connection; and its place, if it is a long one.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(super) connection: ConnectionId,
    pub(super) lane: Lane,
    pub(super) size: Size,
    pub(super) _place: Option<Place>,
}

impl Taken {
    /// The lane on which it came.
    pub(crate) fn lane(&self) -> Lane {
        self.lane
    }
}

#[cfg(test)]
impl Taken {
    /// Of a frame that came over no lane.
    pub(crate) fn nothing() -> Self {
        Self {
            connection: ConnectionId::new_unchecked(0),
            lane: Lane::Bulk,
            size: Size::default(),
            _place: None,
        }
    }
}

/// A connection, and what it has not been told of what it read.
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) handled: [Handled; Lane::ALL.len()],
    /// Reports that are handled, and that it is told of when their lane is read on.
    kept_back: [usize; Lane::ALL.len()],
    /// Which lanes it does not read now, since what came is not done with, or waits for room or for a budget.
    held: [bool; Lane::ALL.len()],
    /// Whether all of it is read no further.
    stands: bool,
    /// Since when the rest of a long frame is passed over that gave way here.
    passes: [Option<Instant>; Lane::ALL.len()],
}

impl Connection {
    pub(super) fn new(id: ConnectionId) -> Self {
        Self {
            id,
            handled: Default::default(),
            kept_back: Default::default(),
            held: Default::default(),
            stands: false,
            passes: Default::default(),
        }
    }
}

/// A peer with a connection.
pub(super) struct Peer {
    pub(super) connections: Vec<Connection>,
    /// Whether we dialled it.
    pub(super) outbound: bool,
    /// Which connection carries our streams.
    pub(super) session: Session<ConnectionId>,
    /// Whether its lanes are read no further for now.
    paused: [bool; Lane::ALL.len()],
    /// Whether the connection by which it answers is not read at all.
    pub(super) stand: Stand,
    /// Since when something of it is not read, if anything is; and how long something was, of which the core has not heard.
    held_up_since: Option<Instant>,
    unheard: Duration,
    /// When it was last excused.
    pub(super) excused_at: Option<Instant>,
    /// Urgent bytes that the connection has not written yet, and bytes of blocks.
    pub(super) urgent: usize,
    pub(super) block: usize,
    /// What waits for its turn.
    pub(super) queue: Scheduler<Outgoing>,
    /// Of each lane the class of which a frame has begun that goes on.
    unfinished: [Option<Class>; Lane::ALL.len()],
    /// Bulk bytes of the peer that are read, and that are done with, of which it has not been told.
    pub(super) read: usize,
    pub(super) done: usize,
    pub(super) window: Window,
    /// Until when nothing more of a class goes out.
    pub(super) held: Held,
    /// When it is fed next if nothing happens.
    pub(super) wakes_at: Option<Instant>,
}

/// Until when what waits for a peer has to wait for the limits of its class.
#[derive(Default)]
pub(super) struct Held([Option<Instant>; Class::ALL.len()]);

impl Peer {
    /// When it was excused last, and for how long it may be again: it may have been here before.
    pub(super) fn new(outbound: bool, (excused_at, stand): (Option<Instant>, Stand)) -> Self {
        Self {
            connections: Vec::new(),
            outbound,
            session: Session::new(),
            paused: Default::default(),
            stand,
            held_up_since: None,
            unheard: Duration::ZERO,
            excused_at,
            urgent: 0,
            block: 0,
            queue: queue(),
            unfinished: Default::default(),
            read: 0,
            done: 0,
            window: Window::default(),
            held: Held::default(),
            wakes_at: None,
        }
    }

    /// Whether it has read all that it was sent, as far as it says so, or at least all is written.
    pub(super) fn is_idle(&self) -> bool {
        self.urgent == 0 && self.block == 0 && self.window.is_idle()
    }

    /// What a connection is to be told of a lane.
    pub(super) fn handled(&mut self, id: ConnectionId, lane: Lane) -> Option<&mut Handled> {
        let connection = self.connections.iter_mut().find(|one| one.id == id)?;
        connection.handled.get_mut(lane.place())
    }

    /// A report of a lane is handled.
    pub(super) fn on_handled(&mut self, id: ConnectionId, lane: Lane) {
        let is_paused = self.is_paused(lane);
        let Some(connection) = self.connections.iter_mut().find(|one| one.id == id) else {
            return;
        };
        let place = lane.place();
        if is_paused {
            if let Some(kept_back) = connection.kept_back.get_mut(place) {
                *kept_back += 1;
            }
        } else if let Some(handled) = connection.handled.get_mut(place) {
            handled.reports += 1;
        }
    }

    fn is_paused(&self, lane: Lane) -> bool {
        self.paused.get(lane.place()).copied().unwrap_or_default()
    }

    /// Whether a lane is not read now, on any connection.
    fn is_held_up(&self, lane: Lane) -> bool {
        let held = |one: &Connection| one.held.get(lane.place()).copied().unwrap_or_default();
        self.is_paused(lane) || self.connections.iter().any(held)
    }

    /// A connection reads a lane no further for now, or reads it on.
    pub(super) fn hold(&mut self, id: ConnectionId, lane: Lane, holds: bool, now: Instant) {
        let connection = self.connections.iter_mut().find(|one| one.id == id);
        if let Some(held) = connection.and_then(|one| one.held.get_mut(lane.place())) {
            *held = holds;
        }
        if !holds {
            self.read_on(lane);
        }
        self.look_what_is_held_up(now);
    }

    /// A long frame gives way on a connection: what stands behind it comes when the rest of it has passed.
    pub(super) fn gives_way(&mut self, id: ConnectionId, lane: Lane, now: Instant) {
        if let Some(passes) = self.passes(id, lane) {
            *passes = Some(now);
        }
    }

    /// All of such a frame has passed.
    pub(super) fn has_passed(&mut self, id: ConnectionId, lane: Lane, now: Instant) {
        if let Some(since) = self.passes(id, lane).and_then(Option::take) {
            self.unheard += now.saturating_duration_since(since).min(PASSES);
        }
    }

    /// Whether a connection is read no further.
    pub(super) fn set_stands(&mut self, id: ConnectionId, stands: bool) {
        if let Some(connection) = self.connections.iter_mut().find(|one| one.id == id) {
            connection.stands = stands;
        }
    }

    /// For how long the connection by which it answers has stood, when that is over: the one that carries the session, or will.
    pub(super) fn stood(&mut self, now: Instant) -> Option<Duration> {
        let open = self.session.open().map(|(connection, _)| connection);
        let carrier = match open {
            Some(open) => self.connections.iter().find(|one| one.id == open),
            None => self.connections.last(),
        };
        let time = self.stand.set(carrier.is_some_and(|one| one.stands), now)?;
        // Otherwise it is part of what is held up yet.
        if self.held_up_since.is_none() {
            self.unheard += time;
        }
        Some(time)
    }

    /// When what it was excused counts no more, if it was.
    pub(super) fn rests_at(&self) -> Option<Instant> {
        let excused = self.excused_at.map(|at| at + EXCUSES_EVERY);
        let stood = self.stand.used_at().map(|at| at + stand::EVERY);
        excused.max(stood)
    }

    /// How long something of it was held up that is over, since this was last asked.
    pub(super) fn take_unheard(&mut self) -> Option<Duration> {
        let time = std::mem::take(&mut self.unheard);
        (!time.is_zero()).then_some(time)
    }

    fn passes(&mut self, id: ConnectionId, lane: Lane) -> Option<&mut Option<Instant>> {
        let connection = self.connections.iter_mut().find(|one| one.id == id)?;
        connection.passes.get_mut(lane.place())
    }

    /// A connection is gone, and what it held up with it.
    pub(super) fn disconnected(&mut self, id: ConnectionId, now: Instant) {
        self.connections.retain(|other| other.id != id);
        self.look_what_is_held_up(now);
    }

    fn read_on(&mut self, lane: Lane) {
        if lane == Lane::Urgent {
            self.window.hears_again();
        }
    }

    /// Notes since when something is held up, or how long it was.
    fn look_what_is_held_up(&mut self, now: Instant) {
        let is_held_up = Lane::ALL.iter().any(|lane| self.is_held_up(*lane));
        if is_held_up {
            self.held_up_since.get_or_insert(now);
        } else if let Some(since) = self.held_up_since.take() {
            self.unheard += now.saturating_duration_since(since);
        }
    }

    /// What is handled of a lane is told later.
    pub(super) fn pause(&mut self, lane: Lane, now: Instant) {
        let place = lane.place();
        if let Some(paused) = self.paused.get_mut(place) {
            *paused = true;
        }
        for connection in &mut self.connections {
            if let Some(handled) = connection.handled.get_mut(place)
                && let Some(kept_back) = connection.kept_back.get_mut(place)
            {
                *kept_back += std::mem::take(&mut handled.reports);
            }
        }
        self.look_what_is_held_up(now);
    }

    /// What is handled of a lane is told at once again.
    pub(super) fn resume(&mut self, lane: Lane, now: Instant) {
        let place = lane.place();
        self.read_on(lane);
        if let Some(paused) = self.paused.get_mut(place) {
            *paused = false;
        }
        for connection in &mut self.connections {
            if let Some(handled) = connection.handled.get_mut(place)
                && let Some(kept_back) = connection.kept_back.get_mut(place)
            {
                handled.reports += std::mem::take(kept_back);
            }
        }
        self.look_what_is_held_up(now);
    }

    /// Bytes that may be handed to its streams now; the last frame may go over it.
    pub(super) fn room(&self, lane: Lane) -> usize {
        match lane {
            Lane::Urgent => MAX_URGENT.saturating_sub(self.urgent),
            Lane::Block => BLOCK_ROOM.saturating_sub(self.block),
            Lane::Bulk if self.goes_on(lane).is_some() => self.window.rest_room(),
            // What it acknowledges stands among the votes that we do not read: it may wait for what we have to send.
            Lane::Bulk if self.is_held_up(Lane::Urgent) => self.window.unheard_room(),
            Lane::Bulk => self.window.room(),
        }
    }

    /// The class of which a frame has begun on a lane and goes on.
    pub(super) fn goes_on(&self, lane: Lane) -> Option<Class> {
        self.unfinished.get(lane.place()).copied().flatten()
    }

    /// Whether a frame has begun and goes on.
    pub(super) fn is_half_way(&self) -> bool {
        self.unfinished.iter().any(Option::is_some)
    }

    /// Something of a class goes out, in which so many frames end.
    pub(super) fn goes(&mut self, class: Class, frames: usize) {
        if let Some(unfinished) = self.unfinished.get_mut(class.lane().place()) {
            *unfinished = (frames == 0).then_some(class);
        }
    }

    /// Its streams are others now.
    pub(super) fn moved(&mut self) {
        (self.urgent, self.block) = (0, 0);
        self.unfinished = Default::default();
        self.window.move_on();
    }

    /// It takes part anew: nothing that waits is left. What is on our streams already stays there, and goes on counting, unless those
    /// are new too ([`Self::moved`]).
    pub(super) fn begin_anew(&mut self) {
        (self.queue, self.held) = (queue(), Held::default());
    }

    /// What belongs to its former streams may come for some time.
    pub(super) fn excuse(&mut self, now: Instant) {
        let was_lately = |at: Instant| now < at + EXCUSES_EVERY;
        if !self.excused_at.is_some_and(was_lately) {
            self.excused_at = Some(now);
        }
    }

    /// Whether it pays for nothing of this kind now: what belongs to former streams, or is lost with them, may look like that; and answers
    /// may stand in a lane or a connection that is not read here, or behind a frame that is passed over.
    pub(super) fn is_excused(&self, misdeed: Misdeed, now: Instant) -> bool {
        let is_lately = |at: Option<Instant>| at.is_some_and(|at| now < at + EXCUSED);
        match misdeed {
            Misdeed::NoAnswer => {
                // Who sends no more of such a frame can't hold itself up for ever.
                let passes = self.connections.iter().flat_map(|one| one.passes);
                let something_passes = passes.flatten().any(|since| now < since + PASSES);
                let waits = self.held_up_since.is_some() || something_passes;
                waits || self.stand.is_excused(now) || is_lately(self.excused_at)
            }
            Misdeed::InvalidMessage | Misdeed::TooManyMessages => is_lately(self.excused_at),
            _ => false,
        }
    }
}

impl Held {
    /// Whether the next frame of this class may go out.
    pub(super) fn is_free(
        &mut self,
        class: Class,
        upload: &mut Shaper,
        peer: &PeerId,
        now: Instant,
    ) -> bool {
        let held = match upload.ready(peer, class, now) {
            Admission::Now => None,
            Admission::At(at) => Some(at),
        };
        if let Some(place) = self.0.get_mut(class.place()) {
            *place = held;
        }
        held.is_none()
    }

    /// When what waits goes on.
    pub(super) fn all(&self) -> impl Iterator<Item = Instant> + '_ {
        self.0.iter().copied().flatten()
    }

    /// When what is to go out at this time goes.
    pub(super) fn at(&self, class: Class, time: Instant) -> Instant {
        let held = self.0.get(class.place()).copied().flatten();
        held.map_or(time, |held| held.max(time))
    }
}

fn queue() -> Scheduler<Outgoing> {
    Scheduler::new(&SchedulerConfig::default())
}
