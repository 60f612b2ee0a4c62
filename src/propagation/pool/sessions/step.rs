//! Work on sessions, which walks over whole pools and is done off the network task.

use std::{cmp::Reverse, time::Duration};

use libp2p::PeerId;

use super::{Machine, Side};
use crate::{
    platform::{self, Instant},
    propagation::pool::{
        Pieces, Pooled,
        reconcile::{Action, Initiator, MAX_POOL, Message, Outcome, Request, Responder, Snapshot},
    },
};

/// Work on a session: slow, done off the network task.
#[derive(Debug)]
pub(crate) struct Step {
    pub(super) peer: PeerId,
    pub(super) side: Side,
    pub(super) session: u64,
    pub(super) input: Input,
}

#[derive(Debug)]
pub(super) enum Input {
    Begin(Pool, u64, Option<Request>, Instant),
    Message(Machine, Message),
}

/// The keys that are compared.
#[derive(Debug)]
pub(super) enum Pool {
    Taken(Snapshot),
    /// To be listed: those that have been here for so long at this moment, and those that have not.
    Listed(Pieces, Duration, Instant),
}

/// What came of a [`Step`].
#[derive(Debug)]
pub(crate) struct Stepped {
    pub(super) peer: PeerId,
    pub(super) side: Side,
    pub(super) session: u64,
    pub(super) machine: Option<Machine>,
    pub(super) actions: Vec<Action>,
    /// One that was made for it.
    pub(super) snapshot: Option<Snapshot>,
}

impl Step {
    /// Takes the session on. May take long. One that panics ends its session, and nobody is blamed.
    pub(crate) fn run(self) -> Stepped {
        let Self {
            peer,
            side,
            session,
            input,
        } = self;
        let work = platform::guard(|| input.run());
        let (machine, actions, snapshot) =
            work.unwrap_or_else(|_| (None, vec![Action::End(Outcome::Declined)], None));
        Stepped {
            peer,
            side,
            session,
            machine,
            actions,
            snapshot,
        }
    }
}

/// The session, what it wants done, and a snapshot that was made for it.
type Work = (Option<Machine>, Vec<Action>, Option<Snapshot>);

impl Input {
    fn run(self) -> Work {
        match self {
            Self::Begin(pool, salt, request, now) => begin(pool, salt, request, now),
            Self::Message(mut machine, message) => {
                let actions = match &mut machine {
                    Machine::Initiator(session) => session.on_message(message),
                    Machine::Responder(session) => session.on_message(message),
                };
                (Some(machine), actions, None)
            }
        }
    }
}

fn begin(pool: Pool, salt: u64, request: Option<Request>, now: Instant) -> Work {
    let (snapshot, made) = match pool {
        Pool::Taken(snapshot) => (snapshot, false),
        Pool::Listed(pieces, age, now) => (list(pieces, age, now), true),
    };
    let kept = made.then(|| snapshot.clone());
    match request {
        None => {
            let (session, request) = Initiator::new(snapshot, salt, now);
            let machine = Machine::Initiator(Box::new(session));
            (Some(machine), vec![Action::Send(request)], kept)
        }
        Some(request) => {
            let (session, actions) = Responder::new(snapshot, salt, request, now);
            (Some(Machine::Responder(Box::new(session))), actions, kept)
        }
    }
}

/// The keys in a pool, those that are too young to be compared apart; of more than can be compared those that pay best.
pub(super) fn list(pieces: Pieces, age: Duration, now: Instant) -> Snapshot {
    let is_old = |pooled: &Pooled| now.saturating_duration_since(pooled.at) >= age;
    let entry = |pooled: &Pooled| (Reverse(pooled.fee_rate), pooled.key);
    let (mut settled, mut young) = (Vec::new(), Vec::new());
    for pooled in pieces.iter() {
        let list = if is_old(pooled) {
            &mut settled
        } else {
            &mut young
        };
        list.push(entry(pooled));
    }
    drop(pieces);
    let [settled, young] = [settled, young].map(|mut list| {
        if list.len() > MAX_POOL as usize {
            list.select_nth_unstable(MAX_POOL as usize);
            list.truncate(MAX_POOL as usize);
        }
        list.into_iter().map(|(_, key)| key).collect::<Vec<_>>()
    });
    // Both lists are within the limit.
    Snapshot::new(settled, young).unwrap_or_default()
}
