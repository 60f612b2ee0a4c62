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
//! that ([`Express::met`]), the connection's urgent lane is not read. Nor may that news, or that of the connection's end, overtake what was read before: what
//! still waits of that connection is dealt with first ([`Arrivals::all_of`]).
//!
//! Bounds: of each connection as many reports as a lane may have that are not handled ([`super::handler`]).

use std::{
    collections::{HashMap, VecDeque},
    task::{Context, Poll},
};

use futures::{
    StreamExt,
    channel::mpsc::{self, UnboundedReceiver, UnboundedSender},
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
    /// How all connections send here, and what they have sent.
    sender: UnboundedSender<Told<F>>,
    receiver: UnboundedReceiver<Told<F>>,
    /// What waits of each connection that has any, and whose turn it is.
    waiting: HashMap<ConnectionId, (PeerId, VecDeque<Report<F>>)>,
    turns: VecDeque<ConnectionId>,
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
        let (sender, receiver) = mpsc::unbounded();
        Self {
            sender,
            receiver,
            waiting: HashMap::new(),
            turns: VecDeque::new(),
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
        if self.taken >= MAX_FRAMES {
            return None;
        }
        while let Poll::Ready(Some(told)) = self.receiver.poll_next_unpin(cx) {
            self.comes(told);
        }
        let connection = self.turns.pop_front()?;
        let (peer, reports) = self.waiting.get_mut(&connection)?;
        let (peer, report) = (*peer, reports.pop_front()?);
        if reports.is_empty() {
            self.waiting.remove(&connection);
        } else {
            self.turns.push_back(connection);
        }
        if let Report::Frames(_, frames) = &report {
            self.taken += frames.len();
        }
        Some((peer, connection, report))
    }

    /// All that waits of a connection.
    pub(super) fn all_of(&mut self, connection: ConnectionId) -> VecDeque<Report<F>> {
        while let Ok(told) = self.receiver.try_recv() {
            self.comes(told);
        }
        let Some((_, reports)) = self.waiting.remove(&connection) else {
            return VecDeque::new();
        };
        self.turns.retain(|turn| *turn != connection);
        reports
    }

    fn comes(&mut self, (peer, connection, report): Told<F>) {
        let waiting = self.waiting.entry(connection);
        let (_, reports) = waiting.or_insert_with(|| {
            self.turns.push_back(connection);
            (peer, VecDeque::new())
        });
        reports.push_back(report);
    }

    /// Another report has a turn, if there is one.
    pub(super) fn give_way(&mut self, cx: &Context<'_>) {
        if self.taken >= MAX_FRAMES {
            cx.waker().wake_by_ref();
        }
        self.taken = self.taken.saturating_sub(MAX_FRAMES);
    }
}
