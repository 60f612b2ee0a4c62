//! How what comes on the urgent lane overtakes what comes on the others.
//!
//! All that connections tell comes to the network task in turns, a report at a time. A vote would wait there for a report of each connection that sends
//! without end, and for all of its own that came before. So reports of the urgent lane have a queue of their own, which the behaviour looks at
//! before anything else: [`MOST`] times in a row, so that who floods it holds up the rest little.
//!
//! Nothing may overtake the news that the peer has opened its streams anew, since all before is of another session: until the behaviour has dealt with
//! that ([`Express::met`]), the connection's reports go one way, in order.
//!
//! Bounds: of each connection as many reports as a lane may have that are not handled ([`super::handler`]).

use std::task::{Context, Poll};

use futures::{
    StreamExt,
    channel::mpsc::{self, UnboundedReceiver, UnboundedSender},
};
use libp2p::{PeerId, swarm::ConnectionId};

use super::handler::Report;

/// Reports that go before others in a row.
const MOST: usize = 64;

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
    sender: UnboundedSender<Told<F>>,
    receiver: UnboundedReceiver<Told<F>>,
    /// Reports that went before others.
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

    /// Sends a report ahead; it comes back where it has to go the other way.
    pub(super) fn send(&self, report: Report<F>) -> Option<Report<F>> {
        if self.unmet > 0 {
            return Some(report);
        }
        let (peer, connection) = self.who;
        // Where the behaviour is gone, nobody misses it.
        let _ = self.sender.unbounded_send((peer, connection, report));
        None
    }
}

impl<F> Arrivals<F> {
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::unbounded();
        Self {
            sender,
            receiver,
            taken: 0,
        }
    }

    /// The end of one more connection.
    pub(super) fn of(&self, peer: PeerId, connection: ConnectionId) -> Express<F> {
        Express {
            sender: self.sender.clone(),
            who: (peer, connection),
            unmet: 0,
        }
    }

    /// The next report that goes before others.
    pub(super) fn next(&mut self, cx: &mut Context<'_>) -> Option<Told<F>> {
        if self.taken >= MOST {
            return None;
        }
        match self.receiver.poll_next_unpin(cx) {
            Poll::Ready(told) => {
                self.taken += 1;
                told
            }
            Poll::Pending => None,
        }
    }

    /// Others have a turn.
    pub(super) fn give_way(&mut self, cx: &Context<'_>) {
        if std::mem::take(&mut self.taken) >= MOST {
            cx.waker().wake_by_ref();
        }
    }
}
