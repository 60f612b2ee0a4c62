//! What holds a connection back from reading.
//!
//! The limits of what comes in are the same for all connections, because a budget is common to all peers and because each of
//! several connections to a peer may be read. So the connections share one [`Shaper`], and each waits for its own moment: what is
//! not read fills the stream's window, and the sender waits. A lane that may be read and has nothing may be read when something comes, and need not ask again: so each
//! may be ahead of the limits by one go, and a connection that is idle costs the others no look at what they share.

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
    /// The lanes that may be read.
    may: [bool; Lane::ALL.len()],
}

impl Download {
    pub(super) fn new(peer: PeerId, shaper: Arc<Mutex<Shaper>>) -> Self {
        Self {
            peer,
            shaper,
            alarm: Alarm::default(),
            may: Default::default(),
        }
    }

    /// Ready when a lane may be read on: whatever class the next frames are of, they conform. Asked once for what is read in one go,
    /// which may exceed the limits by as much, and then waits as much longer.
    pub(super) fn poll_ready(&mut self, lane: Lane, cx: &mut Context<'_>) -> Poll<()> {
        if self.may.get(lane.place()).is_some_and(|may| *may) {
            return Poll::Ready(());
        }
        let admission = lock(&self.shaper).lane_ready(&self.peer, lane, platform::now());
        if let Admission::At(at) = admission {
            return self.alarm.poll_until(at, cx);
        }
        if let Some(may) = self.may.get_mut(lane.place()) {
            *may = true;
        }
        Poll::Ready(())
    }

    /// Whether it is this node's own budget for which a lane waits.
    pub(super) fn is_throttled(&self, lane: Lane) -> bool {
        lock(&self.shaper).is_throttled(lane, platform::now())
    }

    /// A long frame of a lane is passed over: whatever it was, it counts as a vote, a block or transactions.
    pub(super) fn charge_skipped(&mut self, lane: Lane, wire: usize) {
        let cost = Cost {
            items: 1,
            bytes: wire as u64,
        };
        let class = match lane {
            Lane::Urgent => Class::Vote,
            Lane::Block => Class::Block,
            Lane::Bulk => Class::Transaction,
        };
        self.charge([(class, Load::of_one(cost, wire))]);
    }

    /// Frames were read, of each of these classes. What lanes have in common they are asked for again.
    pub(super) fn charge(&mut self, loads: impl IntoIterator<Item = (Class, Load)>) {
        self.may = Default::default();
        let mut shaper = lock(&self.shaper);
        for (class, load) in loads {
            shaper.charge(self.peer, class, load, platform::now());
        }
    }
}
