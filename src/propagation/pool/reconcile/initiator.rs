//! The side that begins a session and finds the difference.

use std::collections::{HashSet, VecDeque};

use super::{
    Action, Answer, Awaited, Fault, GiveUp, MAX_DURATION, MAX_GRANT, MAX_POOL, MAX_RUN,
    MAX_SYMBOLS, Message, More, Outcome, Request, Run, Snapshot, Want,
    coding::{Encoder, SessionHash},
    decoder::Decoder,
    session::{first_grant, least_grant, symbols_for},
};

use crate::platform::Instant;

/// An honest peer's symbols decode before this and four times the estimate, but for the bad luck that `decoder.rs` counts.
const PATIENCE: u32 = 512;

/// A session that we began.
#[derive(Debug)]
pub struct Initiator {
    salt: u64,
    deadline: Instant,
    state: State,
}

#[derive(Debug)]
enum State {
    Asked(Snapshot),
    Decoding(Box<Decoding>),
    Ended,
}

#[derive(Debug)]
struct Decoding {
    salts: [u64; 2],
    decoder: Decoder,
    /// Short ids of what we hold and left out: it is not wanted, though the peer counts it.
    young: HashSet<u64>,
    their_size: u32,
    /// Up to which symbol each request for symbols asks, of those that are not answered. No run goes beyond one.
    grants: VecDeque<u32>,
    granted: u32,
}

impl Initiator {
    /// Begins a session about these keys; the message is its request. The salt is drawn at random for each session.
    pub fn new(snapshot: Snapshot, salt: u64, now: Instant) -> (Self, Message) {
        let pool_size = snapshot.len();
        let session = Self {
            salt,
            deadline: now + MAX_DURATION,
            state: State::Asked(snapshot),
        };
        (session, Message::Request(Request { salt, pool_size }))
    }

    /// A message of the responder's.
    pub fn on_message(&mut self, message: Message) -> Vec<Action> {
        match self.advance(message) {
            Ok(actions) => actions,
            Err(fault) => vec![Action::End(Outcome::Failed(fault))],
        }
    }

    /// When [`Self::on_time`] is due; `None` once the session is over.
    pub fn next_deadline(&self) -> Option<Instant> {
        (!matches!(self.state, State::Ended)).then_some(self.deadline)
    }

    /// Ends the session if its time is up.
    pub fn on_time(&mut self, now: Instant) -> Vec<Action> {
        if self.next_deadline().is_none_or(|deadline| now < deadline) {
            return Vec::new();
        }
        self.state = State::Ended;
        vec![Action::End(Outcome::Failed(Fault::Silent))]
    }

    /// The session ends here unless it is put back.
    fn advance(&mut self, message: Message) -> Result<Vec<Action>, Fault> {
        let state = std::mem::replace(&mut self.state, State::Ended);
        let (mut decoding, run) = match (state, message) {
            (State::Ended, _) => return Ok(Vec::new()),
            (State::Asked(snapshot), Message::Answer(answer)) if answer.request == self.salt => {
                match self.begin(snapshot, answer)? {
                    Ok(begun) => begun,
                    Err(outcome) => return Ok(vec![Action::End(outcome)]),
                }
            }
            // Of a session before this one.
            (State::Asked(snapshot), Message::Answer(_) | Message::Symbols(_)) => {
                self.state = State::Asked(snapshot);
                return Ok(Vec::new());
            }
            // The responder needs the place for somebody who is faster.
            (State::Decoding(_), Message::Answer(answer))
                if answer.request == self.salt && answer.run.is_none() =>
            {
                return Ok(vec![Action::End(Outcome::Declined)]);
            }
            (State::Decoding(decoding), Message::Symbols(symbols)) => {
                if symbols.first != decoding.decoder.received() {
                    return Err(Fault::WrongRun);
                }
                (decoding, symbols.run.unwrap_or_default())
            }
            (_, other) => return Err(Fault::OutOfTurn(other.name())),
        };
        decoding.receive(&run)?;
        if let Some(end) = decoding.end()? {
            return Ok(end);
        }
        let more = decoding.more().map(|until| Message::More(More { until }));
        self.state = State::Decoding(decoding);
        Ok(more.map(Action::Send).into_iter().collect())
    }

    /// The session with its first run, or how it ended before it began.
    fn begin(
        &self,
        snapshot: Snapshot,
        answer: Answer,
    ) -> Result<Result<(Box<Decoding>, Run), Outcome>, Fault> {
        let their_size = answer.pool_size;
        if their_size > MAX_POOL {
            return Err(Fault::PoolTooLarge(their_size));
        }
        let Some(granted) = first_grant(snapshot.len(), their_size) else {
            return Ok(Err(Outcome::TooDifferent));
        };
        let Some(run) = answer.run else {
            return Ok(Err(Outcome::Declined));
        };
        let hash = SessionHash::new(self.salt, answer.salt);
        let young = snapshot.young().iter().map(|key| hash.short_id(key));
        let decoding = Decoding {
            salts: [self.salt, answer.salt],
            young: young.collect(),
            decoder: Decoder::new(hash.clone(), Encoder::new(snapshot, &hash), their_size),
            their_size,
            grants: VecDeque::from([granted]),
            granted,
        };
        Ok(Ok((Box::new(decoding), run)))
    }
}

impl Decoding {
    /// Takes the next run in: as long as a run may be, or up to the end of what was asked for.
    fn receive(&mut self, run: &Run) -> Result<(), Fault> {
        let first = self.decoder.received();
        let end = *self.grants.front().ok_or(Fault::WrongRun)?;
        let length = end.saturating_sub(first).min(MAX_RUN);
        let symbols = run.symbols(first, length, self.their_size)?;
        self.decoder.receive(&symbols);
        if self.decoder.received() >= end {
            self.grants.pop_front();
        }
        Ok(())
    }

    /// The session's last actions, if it is over.
    fn end(&self) -> Result<Option<Vec<Action>>, Fault> {
        if self.decoder.is_complete() {
            let mut short_ids = self.decoder.only_theirs();
            short_ids.retain(|short_id| !self.young.contains(short_id));
            let awaited = Awaited::new(self.salts, short_ids.clone());
            return Ok(Some(vec![
                Action::Await(awaited),
                Action::Send(Message::Want(Want { short_ids })),
                Action::Lacking(self.decoder.only_ours()),
                Action::End(Outcome::Reconciled),
            ]));
        }
        let (received, estimate) = (self.decoder.received(), self.decoder.estimate());
        if received >= estimate.saturating_mul(4).saturating_add(PATIENCE) {
            return Err(Fault::Undecodable);
        }
        // At the first run the estimate may be double the truth.
        let hopeless = if received < MAX_RUN {
            2 * MAX_SYMBOLS
        } else {
            MAX_SYMBOLS
        };
        if received < MAX_SYMBOLS && symbols_for(estimate) <= hopeless {
            return Ok(None);
        }
        Ok(Some(vec![
            Action::Send(Message::GiveUp(GiveUp {})),
            Action::End(Outcome::TooDifferent),
        ]))
    }

    /// Up to which symbol to ask now. While symbols come the estimate gets better, so what it asks for, less its likely
    /// error, is on its way before they are all there: no round trip is lost, and little is sent in vain.
    fn more(&mut self) -> Option<u32> {
        let received = self.decoder.received();
        let under_way = self.granted.saturating_sub(received);
        let least = least_grant(self.granted);
        let needed = symbols_for(self.decoder.estimate());
        let likely = needed - needed / received.isqrt().max(1);
        let room = if likely >= least { MAX_GRANT / 2 } else { 0 };
        if under_way > room || self.granted >= MAX_SYMBOLS {
            return None;
        }
        let until = likely.min(received + MAX_GRANT).max(least).min(MAX_SYMBOLS);
        self.granted = until;
        self.grants.push_back(until);
        Some(until)
    }
}
