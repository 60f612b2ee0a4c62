//! Work on sessions, which walks over whole pools and is done off the network task.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use libp2p::PeerId;

use super::{MOST_ANNOUNCED, Machine, Side};
use crate::{
    chain::TransactionKey,
    order,
    platform::{self, Instant},
    propagation::{
        announce::{Announce, Columns},
        pool::{
            Pieces, Pooled,
            reconcile::{
                Action, Initiator, MAX_POOL, Message, Outcome, Request, Responder, Snapshot,
            },
        },
        wire::MAX_IDS,
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
    /// To be listed: those that have been here for so long at this moment, and those that have not, with what is not to come for a while.
    Listed(Pieces, Vec<TransactionKey>, Duration, Instant),
}

/// What a walk over the pool finds; cloning is cheap.
#[derive(Clone, Debug, Default)]
pub(super) struct Listed {
    pub(super) snapshot: Snapshot,
    /// What pays best, as a peer is told of it whose pool is very different.
    pub(super) best: Arc<[Announce]>,
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
    pub(super) snapshot: Option<Listed>,
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
type Work = (Option<Machine>, Vec<Action>, Option<Listed>);

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
    let (snapshot, kept) = match pool {
        Pool::Taken(snapshot) => (snapshot, None),
        Pool::Listed(pieces, unwanted, age, now) => {
            let listed = list(pieces, unwanted, age, now);
            (listed.snapshot.clone(), Some(listed))
        }
    };
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

/// The keys in a pool, those that are too young to be compared apart, with those that are not to come; of more than can be compared those that pay best.
pub(super) fn list(
    pieces: Pieces,
    mut unwanted: Vec<TransactionKey>,
    age: Duration,
    now: Instant,
) -> Listed {
    let is_old = |pooled: &Pooled| now.saturating_duration_since(pooled.at) >= age;
    let key = |(_, pooled): (_, &Pooled)| pooled.key;
    let (mut settled, mut young, mut all) = (Vec::new(), Vec::new(), Vec::new());
    for pooled in pieces.iter() {
        let list = if is_old(pooled) {
            &mut settled
        } else {
            &mut young
        };
        let entry = (Reverse(pooled.fee_rate), pooled);
        list.push(entry);
        all.push(entry);
    }
    best_paying(&mut all, MOST_ANNOUNCED);
    order::sort_by_key(&mut all, |(fee_rate, pooled)| (*fee_rate, pooled.key));
    let best = all.chunks(MAX_IDS).map(|some| {
        let pooled = some.iter().map(|(_, pooled)| *pooled);
        Announce::from(pooled.collect::<Columns>())
    });
    let best = best.collect();
    let [settled, mut young] = [settled, young].map(|mut list| {
        best_paying(&mut list, MAX_POOL as usize);
        list.into_iter().map(key).collect::<Vec<_>>()
    });
    drop(pieces);
    unwanted.truncate((MAX_POOL as usize).saturating_sub(young.len()));
    young.append(&mut unwanted);
    Listed {
        // Both lists are within the limit.
        snapshot: Snapshot::new(settled, young).unwrap_or_default(),
        best,
    }
}

/// Leaves no more than these, those that pay best.
fn best_paying(list: &mut Vec<(Reverse<u64>, &Pooled)>, most: usize) {
    if list.len() > most {
        list.select_nth_unstable_by_key(most, |(fee_rate, pooled)| (*fee_rate, pooled.key));
        list.truncate(most);
    }
}
