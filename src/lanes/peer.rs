//! What the lanes keep of a peer: its connections, what is on the way to it and what waits, and until when.

use bytes::Bytes;
use libp2p::{PeerId, swarm::ConnectionId};

use crate::platform::Instant;
use crate::traffic::{Admission, Lane, Scheduler, SchedulerConfig, Shaper, Window};

/// A peer with a connection.
pub(super) struct Peer {
    pub(super) connections: Vec<ConnectionId>,
    /// Whether we dialled it.
    pub(super) outbound: bool,
    /// Whether it has said hello.
    pub(super) greeted: bool,
    /// The connection whose streams are used, and whether they are open.
    pub(super) active: Option<(ConnectionId, bool)>,
    /// Urgent bytes that the connection has not written yet, and bytes of blocks.
    pub(super) urgent: usize,
    pub(super) block: usize,
    /// What waits for its turn.
    pub(super) queue: Scheduler<Bytes>,
    /// Bulk bytes of the peer that are read, and that are done with, of which it has not been told.
    pub(super) read: usize,
    pub(super) done: usize,
    pub(super) window: Window,
    /// Until when nothing more goes out on a lane.
    pub(super) held: Held,
}

/// Until when the lanes of a peer wait for their limits.
#[derive(Default)]
pub(super) struct Held([Option<Instant>; Lane::ALL.len()]);

impl Peer {
    pub(super) fn new(outbound: bool) -> Self {
        Self {
            connections: Vec::new(),
            outbound,
            greeted: false,
            active: None,
            urgent: 0,
            block: 0,
            queue: queue(),
            read: 0,
            done: 0,
            window: Window::default(),
            held: Held::default(),
        }
    }

    /// Its streams are new: nothing of the former ones' is left.
    pub(super) fn begin_anew(&mut self) {
        (self.urgent, self.block, self.window) = (0, 0, Window::default());
        (self.queue, self.held) = (queue(), Held::default());
    }
}

impl Held {
    /// Whether the next frame may go out on this lane.
    pub(super) fn is_free(
        &mut self,
        lane: Lane,
        upload: &mut Shaper,
        peer: &PeerId,
        now: Instant,
    ) -> bool {
        let held = match upload.ready(peer, lane.class(), now) {
            Admission::Now => None,
            Admission::At(at) => Some(at),
        };
        if let Some(place) = self.0.get_mut(lane.place()) {
            *place = held;
        }
        held.is_none()
    }

    /// When each lane goes on.
    pub(super) fn all(&self) -> [Option<Instant>; Lane::ALL.len()] {
        self.0
    }

    /// When what is to go out at this time goes.
    pub(super) fn at(&self, lane: Lane, time: Instant) -> Instant {
        let held = self.0.get(lane.place()).copied().flatten();
        held.map_or(time, |held| held.max(time))
    }
}

fn queue() -> Scheduler<Bytes> {
    Scheduler::new(&SchedulerConfig::default())
}
