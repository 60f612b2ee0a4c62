//! The side that is asked for a session: it sends symbols, and learns what is wanted.

use super::{
    Action, Answer, Fault, MAX_DURATION, MAX_GRANT, MAX_POOL, MAX_RUN, MAX_SYMBOLS, Message,
    Outcome, Request, Run, Snapshot, Symbols,
    coding::{Encoder, SessionHash, usize_from},
    session::{first_grant, least_grant},
};
use crate::chain::TransactionKey;
use crate::platform::Instant;

/// A session that a peer began.
#[derive(Debug)]
pub struct Responder {
    deadline: Instant,
    /// `None` once the session is over.
    encoding: Option<Encoding>,
}

#[derive(Debug)]
struct Encoding {
    encoder: Encoder,
    granted: u32,
}

impl Responder {
    /// Answers a request from these keys. The salt is drawn at random for each session.
    pub fn new(
        snapshot: Snapshot,
        salt: u64,
        request: Request,
        now: Instant,
    ) -> (Self, Vec<Action>) {
        let (encoding, actions) = begin(snapshot, salt, request);
        let deadline = now + MAX_DURATION;
        (Self { deadline, encoding }, actions)
    }

    /// What to send to a peer whose request is not taken up: we hold as many sessions as we have memory for, or it
    /// asked too soon. It tells nothing of our pool.
    pub fn decline(request: Request) -> Message {
        without_symbols(request.salt, request.pool_size)
    }

    /// A message of the initiator's.
    pub fn on_message(&mut self, message: Message) -> Vec<Action> {
        // The session ends here unless it is put back.
        let Some(mut encoding) = self.encoding.take() else {
            return Vec::new();
        };
        let result = match message {
            Message::More(more) => encoding.more(more.until).inspect(|_| {
                self.encoding = Some(encoding);
            }),
            Message::Want(want) => encoding
                .wanted(&want.short_ids)
                .map(|keys| vec![Action::Serve(keys), Action::End(Outcome::Reconciled)]),
            Message::GiveUp(_) => Ok(vec![Action::End(Outcome::TooDifferent)]),
            other => Err(Fault::OutOfTurn(other.name())),
        };
        result.unwrap_or_else(|fault| vec![Action::End(Outcome::Failed(fault))])
    }

    /// When [`Self::on_time`] is due; `None` once the session is over.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.encoding.is_some().then_some(self.deadline)
    }

    /// Ends the session if its time is up.
    pub fn on_time(&mut self, now: Instant) -> Vec<Action> {
        if self.next_deadline().is_none_or(|deadline| now < deadline) {
            return Vec::new();
        }
        self.encoding = None;
        vec![Action::End(Outcome::Failed(Fault::Silent))]
    }
}

fn without_symbols(request: u64, pool_size: u32) -> Message {
    Message::Answer(Answer {
        request,
        salt: 0,
        pool_size,
        run: None,
    })
}

fn begin(snapshot: Snapshot, salt: u64, request: Request) -> (Option<Encoding>, Vec<Action>) {
    let Request {
        salt: request,
        pool_size: their_size,
    } = request;
    if their_size > MAX_POOL {
        let fault = Fault::PoolTooLarge(their_size);
        return (None, vec![Action::End(Outcome::Failed(fault))]);
    }
    let pool_size = snapshot.len();
    let Some(grant) = first_grant(their_size, pool_size) else {
        let send = Action::Send(without_symbols(request, pool_size));
        return (None, vec![send, Action::End(Outcome::TooDifferent)]);
    };
    let encoder = Encoder::new(snapshot, &SessionHash::new(request, salt));
    let mut encoding = Encoding {
        encoder,
        granted: 0,
    };
    let mut runs = encoding.runs(grant).into_iter();
    let answer = Answer {
        request,
        salt,
        pool_size,
        run: runs.next().map(|(_, run)| run),
    };
    let mut actions = vec![Action::Send(Message::Answer(answer))];
    actions.extend(runs.map(send));
    (Some(encoding), actions)
}

impl Encoding {
    /// The symbols up to this index that were not sent yet.
    fn more(&mut self, until: u32) -> Result<Vec<Action>, Fault> {
        let least = least_grant(self.granted);
        let most = MAX_SYMBOLS.min(self.granted + MAX_GRANT);
        if self.granted >= MAX_SYMBOLS || !(least..=most).contains(&until) {
            return Err(Fault::WrongGrant(until));
        }
        Ok(self.runs(until).into_iter().map(send).collect())
    }

    fn runs(&mut self, until: u32) -> Vec<(u32, Run)> {
        let pool_size = self.encoder.len();
        let symbols = self.encoder.run(until);
        let runs = symbols.chunks(usize_from(MAX_RUN));
        let firsts = (self.granted..until).step_by(usize_from(MAX_RUN));
        self.granted = until;
        let run = |(first, run)| (first, Run::of(run, first, pool_size));
        firsts.zip(runs).map(run).collect()
    }

    /// The keys with these short ids. Nobody finds more elements than there were symbols.
    fn wanted(&self, short_ids: &[u64]) -> Result<Vec<TransactionKey>, Fault> {
        if short_ids.len() > usize_from(self.granted) || !short_ids.is_sorted_by(|a, b| a < b) {
            return Err(Fault::WrongWant);
        }
        let keys = short_ids.iter().map(|short_id| self.encoder.key(*short_id));
        keys.collect::<Option<_>>().ok_or(Fault::WrongWant)
    }
}

fn send((first, run): (u32, Run)) -> Action {
    let run = Some(run);
    Action::Send(Message::Symbols(Symbols { first, run }))
}
