//! What the lanes keep of a peer: its connections, what is on the way to it and what waits, and until when.

use libp2p::{PeerId, swarm::ConnectionId};

use super::{
    core::Outgoing,
    excuses::{Deaf, Excuses, Unheard, Whose},
    feed::{BLOCK_ROOM, MAX_URGENT},
    handler::{Handled, MAX_UNHANDLED, Size},
    session::Session,
};
use crate::frames::Place;
use crate::platform::Instant;
use crate::traffic::{Admission, Class, Lane, Scheduler, SchedulerConfig, Shaper, Window};

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

    /// Bytes that it holds until it is done with.
    pub(crate) fn held(&self) -> usize {
        self.size.held
    }
}

#[cfg(test)]
impl Taken {
    /// Of a frame that came over no lane.
    pub(crate) fn nothing() -> Self {
        Self::holding(0)
    }

    /// The same of one that holds so many bytes.
    pub(crate) fn holding(held: usize) -> Self {
        Self {
            connection: ConnectionId::new_unchecked(0),
            lane: Lane::Bulk,
            size: Size { wire: 0, held },
            _place: None,
        }
    }
}

/// A connection, and what it has not been told of what it read.
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    handled: [Handled; Lane::ALL.len()],
    /// Whether it is to be told so now.
    tells: bool,
    /// Reports that are handled, and that it is told of when their lane is read on.
    kept_back: [usize; Lane::ALL.len()],
    /// Which lanes it does not read now, since what came is not done with, or waits for room or for a budget; and whose doing that is.
    held: [Option<Whose>; Lane::ALL.len()],
    /// Whether all of it is read no further.
    stands: bool,
    /// Where the rest of a long frame is passed over that gave way here.
    passes: [bool; Lane::ALL.len()],
}

impl Connection {
    pub(super) fn new(id: ConnectionId) -> Self {
        Self {
            id,
            handled: Default::default(),
            tells: false,
            kept_back: Default::default(),
            held: Default::default(),
            stands: false,
            passes: Default::default(),
        }
    }

    /// It is to be told of what is handled of a lane. Of acknowledgements several at once, since it is woken for that each time, unless it waits for room.
    fn tell(&mut self, lane: Lane, is_light: bool) {
        let place = lane.place();
        let waits = self.held.get(place).is_some_and(Option::is_some);
        let handled = self.handled.get(place);
        let are_many = handled.is_some_and(|handled| handled.reports >= MAX_UNHANDLED / 2);
        self.tells |= !is_light || waits || are_many;
    }

    /// What it is to be told now.
    pub(super) fn take_handled(&mut self) -> Option<[Handled; Lane::ALL.len()]> {
        let tells = std::mem::take(&mut self.tells)
            && self.handled != [Handled::default(); Lane::ALL.len()];
        tells.then(|| std::mem::take(&mut self.handled))
    }
}

/// A peer with a connection.
pub(super) struct Peer {
    pub(super) connections: Vec<Connection>,
    /// Whether we dialled it.
    pub(super) outbound: bool,
    /// Which connection carries our streams.
    pub(super) session: Session<ConnectionId>,
    /// Which one carries its streams, if any does: both ends choose the newest, which may be another one where they dialled each other at the same moment.
    speaks: Option<ConnectionId>,
    /// Whether its lanes are read no further for now, and whose doing that is.
    paused: [Option<Whose>; Lane::ALL.len()],
    /// Why its silence is excused, and for how long it may be.
    pub(super) excuses: Excuses,
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
    /// Whether one of its lanes was short of room when it was fed last.
    pub(super) wants_room: bool,
}

/// Until when what waits for a peer has to wait for the limits of its class.
#[derive(Default)]
pub(super) struct Held([Option<Instant>; Class::ALL.len()]);

impl Peer {
    /// One with this account of its excuses: it may have been here before.
    pub(super) fn new(outbound: bool, excuses: Excuses) -> Self {
        Self {
            connections: Vec::new(),
            outbound,
            session: Session::new(),
            speaks: None,
            paused: Default::default(),
            excuses,
            urgent: 0,
            block: 0,
            queue: queue(),
            unfinished: Default::default(),
            read: 0,
            done: 0,
            window: Window::default(),
            held: Held::default(),
            wakes_at: None,
            wants_room: false,
        }
    }

    /// Whether it has read all that it was sent, as far as it says so, or at least all is written.
    pub(super) fn is_idle(&self) -> bool {
        self.urgent == 0 && self.block == 0 && self.window.is_idle()
    }

    /// So many bytes that a connection read of a lane are done with. `is_light`: they were acknowledgements'.
    pub(super) fn on_done(&mut self, id: ConnectionId, lane: Lane, bytes: usize, is_light: bool) {
        if let Some(connection) = self.connection(id)
            && let Some(handled) = connection.handled.get_mut(lane.place())
        {
            handled.bytes += bytes;
            connection.tell(lane, is_light);
        }
    }

    /// A report of a lane is handled. `is_light`: it held acknowledgements alone.
    pub(super) fn on_handled(&mut self, id: ConnectionId, lane: Lane, is_light: bool) {
        let is_paused = self.paused(lane).is_some();
        let Some(connection) = self.connection(id) else {
            return;
        };
        let place = lane.place();
        if is_paused {
            if let Some(kept_back) = connection.kept_back.get_mut(place) {
                *kept_back += 1;
            }
        } else if let Some(handled) = connection.handled.get_mut(place) {
            handled.reports += 1;
            connection.tell(lane, is_light);
        }
    }

    /// Whether more room on its lanes, or what its connections are to be told, is a reason to feed it.
    pub(super) fn waits(&self) -> bool {
        self.wants_room || self.connections.iter().any(|one| one.tells)
    }

    fn paused(&self, lane: Lane) -> Option<Whose> {
        self.paused.get(lane.place()).copied().flatten()
    }

    /// The connection by which it answers: the one that carries its streams, or else ours, or will.
    fn carrier(&self) -> Option<&Connection> {
        let open = || self.session.open().map(|(open, _)| open);
        match self.speaks.or_else(open) {
            Some(carrier) => self.connections.iter().find(|one| one.id == carrier),
            None => self.connections.last(),
        }
    }

    /// It has opened its streams on this connection.
    pub(super) fn speaks(&mut self, id: ConnectionId) {
        self.speaks = Some(id);
    }

    /// A connection is gone.
    pub(super) fn disconnected(&mut self, id: ConnectionId) {
        self.connections.retain(|one| one.id != id);
        self.speaks.take_if(|speaks| *speaks == id);
    }

    /// Whether a lane on which it answers is not read now, and whose doing that is. Who can't be heard for what this node does could not be heard
    /// either for what it does itself.
    fn held_up(&self, lane: Lane) -> Option<Whose> {
        let held = |one: &Connection| one.held.get(lane.place()).copied().flatten();
        self.paused(lane).max(self.carrier().and_then(held))
    }

    /// What of it is not heard now.
    fn deaf(&self) -> Option<Deaf> {
        let carrier = self.carrier()?;
        let held = Lane::ALL.into_iter().filter_map(|lane| self.held_up(lane));
        let own = carrier.stands || carrier.passes.contains(&true);
        let whose = held.max().max(own.then_some(Whose::Peers))?;
        let all = carrier.stands;
        Some(Deaf { whose, all })
    }

    /// Notes what of it is not heard from now on. Returns what was not, where that has changed.
    pub(super) fn hear(&mut self, now: Instant) -> Option<Unheard> {
        self.excuses.hear(self.deaf(), now)
    }

    /// A connection reads a lane no further for now, or reads it on.
    pub(super) fn hold(&mut self, id: ConnectionId, lane: Lane, held: Option<Whose>) {
        if let Some(connection) = self.connection(id)
            && let Some(place) = connection.held.get_mut(lane.place())
        {
            *place = held;
            connection.tells |= held.is_some();
        }
        if held.is_none() {
            self.read_on(lane);
        }
    }

    /// A long frame gives way on a connection, and what stands behind it comes when the rest of it has passed; or it has.
    pub(super) fn passes(&mut self, id: ConnectionId, lane: Lane, passes: bool) {
        if let Some(connection) = self.connection(id)
            && let Some(place) = connection.passes.get_mut(lane.place())
        {
            *place = passes;
        }
    }

    /// Whether a connection is read no further.
    pub(super) fn stands(&mut self, id: ConnectionId, stands: bool) {
        if let Some(connection) = self.connection(id) {
            connection.stands = stands;
        }
    }

    fn connection(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|one| one.id == id)
    }

    fn read_on(&mut self, lane: Lane) {
        if lane == Lane::Urgent {
            self.window.hears_again();
        }
    }

    /// What is handled of a lane is told later.
    pub(super) fn pause(&mut self, lane: Lane, whose: Whose) {
        let place = lane.place();
        if let Some(paused) = self.paused.get_mut(place) {
            *paused = Some(whose);
        }
        for connection in &mut self.connections {
            if let Some(handled) = connection.handled.get_mut(place)
                && let Some(kept_back) = connection.kept_back.get_mut(place)
            {
                *kept_back += std::mem::take(&mut handled.reports);
            }
        }
    }

    /// What is handled of a lane is told at once again.
    pub(super) fn resume(&mut self, lane: Lane) {
        let place = lane.place();
        self.read_on(lane);
        if let Some(paused) = self.paused.get_mut(place) {
            *paused = None;
        }
        for connection in &mut self.connections {
            if let Some(handled) = connection.handled.get_mut(place)
                && let Some(kept_back) = connection.kept_back.get_mut(place)
            {
                handled.reports += std::mem::take(kept_back);
                connection.tells = true;
            }
        }
    }

    /// Bytes that may be handed to its streams now; the last frame may go over it.
    pub(super) fn room(&self, lane: Lane) -> usize {
        match lane {
            Lane::Urgent => MAX_URGENT.saturating_sub(self.urgent),
            Lane::Block => BLOCK_ROOM.saturating_sub(self.block),
            Lane::Bulk if self.goes_on(lane).is_some() => self.window.rest_room(),
            // What it acknowledges stands among the votes that we do not read: it may wait for what we have to send.
            Lane::Bulk if self.held_up(Lane::Urgent).is_some() => self.window.unheard_room(),
            Lane::Bulk => self.window.room(),
        }
    }

    /// Whether more room on a lane may bring something out: there is none, or on the lane of blocks not all of it, since a core holds back a
    /// frame there that is longer than the room.
    pub(super) fn is_short_of_room(&self, lane: Lane) -> bool {
        let room = self.room(lane);
        match lane {
            Lane::Block => room < BLOCK_ROOM,
            Lane::Urgent | Lane::Bulk => room == 0,
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
