//! How what comes on the urgent lane overtakes what comes on the others.
//!
//! All that connections tell comes to the network task in turns, a report at a time. A vote would wait there for a report of each connection that sends
//! without end, and for all of its own that came before. So reports of the urgent lane have queues of their own, one for each connection, which the behaviour looks at
//! in turns, before anything else.
//!
//! They hold up the others by as much again at most: when as many frames have gone ahead as are in the fullest report, the swarm takes what the next
//! connection tells otherwise, in turns among all. So where all send without end, each connection's other lanes have their turn, half as often as they would
//! without a flood here, and a vote waits for one report of each connection that floods the urgent lane.
//!
//! Nothing may overtake the news that the peer has opened its streams anew, since all before is of another session: until the behaviour has dealt with
//! that ([`Express::met`]), the connection's urgent lane is not read.
//!
//! Bounds: of each connection as many reports as a lane may have that are not handled ([`super::handler`]).

use std::task::{Context, Poll};

use futures::{
    StreamExt,
    channel::mpsc::{self, UnboundedReceiver, UnboundedSender},
    stream::SelectAll,
};
use libp2p::{PeerId, swarm::ConnectionId};

use super::handler::{MAX_FRAMES, Report};

/// Whose a report is, and the report.
type Told<F> = (PeerId, ConnectionId, Report<F>);

/// A connection's end of it.
#[derive(Debug)]
pub(super) struct Express<F> {
    sender: UnboundedSender<Told<F>>,
    who: (PeerId, ConnectionId),
    /// How often the peer has opened streams anew, beyond what the behaviour has dealt with.
    unmet: usize,
}

/// The behaviour's end.
#[derive(Debug)]
pub(super) struct Arrivals<F> {
    connections: SelectAll<UnboundedReceiver<Told<F>>>,
    /// Frames that went before others, beyond what was made up for.
    taken: usize,
}

impl<F> Express<F> {
    /// The peer has opened its streams, once more or at first: nothing overtakes that.
    pub(super) fn began(&mut self) {
        self.unmet += 1;
    }

    /// The behaviour has dealt with one of those.
    pub(super) fn met(&mut self) {
        self.unmet = self.unmet.saturating_sub(1);
    }

    /// Whether there is nothing on its way that must not be overtaken.
    pub(super) fn is_free(&self) -> bool {
        self.unmet == 0
    }

    /// Sends a report ahead.
    pub(super) fn send(&self, report: Report<F>) {
        let (peer, connection) = self.who;
        // Where the behaviour is gone, nobody misses it.
        let _ = self.sender.unbounded_send((peer, connection, report));
    }
}

impl<F> Arrivals<F> {
    pub(super) fn new() -> Self {
        Self {
            connections: SelectAll::new(),
            taken: 0,
        }
    }

    /// The end of one more connection. The behaviour is to be polled.
    pub(super) fn of(&mut self, peer: PeerId, connection: ConnectionId) -> Express<F> {
        let (sender, receiver) = mpsc::unbounded();
        self.connections.push(receiver);
        Express {
            sender,
            who: (peer, connection),
            unmet: 0,
        }
    }

    /// The next report that goes before others.
    pub(super) fn next(&mut self, cx: &mut Context<'_>) -> Option<Told<F>> {
        if self.taken >= MAX_FRAMES {
            return None;
        }
        let Poll::Ready(told) = self.connections.poll_next_unpin(cx) else {
            return None;
        };
        if let Some((_, _, Report::Frames(_, frames))) = &told {
            self.taken += frames.len();
        }
        told
    }

    /// Another report has a turn, if there is one.
    pub(super) fn give_way(&mut self, cx: &Context<'_>) {
        if self.taken >= MAX_FRAMES {
            cx.waker().wake_by_ref();
        }
        self.taken = self.taken.saturating_sub(MAX_FRAMES);
    }
}
