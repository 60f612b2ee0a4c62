//! What holds a connection back from reading.
//!
//! The limits of what comes in are the same for all connections, because a budget is common to all peers and because each of
//! several connections to a peer may be read. So the connections share one [`Shaper`], and each waits for its own moment: what is
//! not read fills the stream's window, and the sender waits.

use std::{
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use libp2p::PeerId;

use crate::{
    platform,
    platform::{alarm::Alarm, lock::lock},
    traffic::{Admission, Class, Cost, Lane, Load, Shaper},
};

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Download {
    peer: PeerId,
    shaper: Arc<Mutex<Shaper>>,
    alarm: Alarm,
}

impl Download {
    pub(super) fn new(peer: PeerId, shaper: Arc<Mutex<Shaper>>) -> Self {
        Self {
            peer,
            shaper,
            alarm: Alarm::default(),
        }
    }

    /// Ready when a lane may be read on: whatever class the next frames are of, they conform. Asked once for what is read in one go,
    /// which may exceed the limits by as much, and then waits as much longer.
    pub(super) fn poll_ready(&mut self, lane: Lane, cx: &mut Context<'_>) -> Poll<()> {
        let admission = lock(&self.shaper).lane_ready(&self.peer, lane, platform::now());
        match admission {
            Admission::Now => Poll::Ready(()),
            Admission::At(at) => self.alarm.poll_until(at, cx),
        }
    }

    /// Whether it is this node's own budget for which a lane waits.
    pub(super) fn is_throttled(&self, lane: Lane) -> bool {
        lock(&self.shaper).is_throttled(lane, platform::now())
    }

    /// A long frame of a lane is passed over: whatever it was, it counts as one of the lane's first class.
    pub(super) fn charge_skipped(&self, lane: Lane, wire: usize) {
        let cost = Cost {
            items: 1,
            bytes: wire as u64,
        };
        let class = lane.classes().first();
        self.charge(class.map(|class| (*class, Load::of_one(cost, wire))));
    }

    /// Frames were read, of each of these classes.
    pub(super) fn charge(&self, loads: impl IntoIterator<Item = (Class, Load)>) {
        let mut shaper = lock(&self.shaper);
        for (class, load) in loads {
            shaper.charge(self.peer, class, load, platform::now());
        }
    }
}
