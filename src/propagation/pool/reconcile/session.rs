//! What both sides of a session share.

use std::sync::Arc;

use super::{
    Awaited, MAX_DURATION, MAX_GRANT, MAX_MESSAGE, MAX_POOL, MAX_SYMBOLS, Message,
    coding::usize_from,
};
use crate::{chain::TransactionKey, peers::Misdeed};

/// The keys that take part in a session, as they are at one moment; cloning is cheap, so many sessions share one.
///
/// What is too young is not compared: a transaction that came a few seconds ago is still being announced, so the peer has
/// it in a moment anyway, and which peers have it by now says where it came from. What is too young for us may be old
/// enough for the peer, who then counts it and finds that we lack it; so the session knows the young ones, and
/// does not ask for them; nor for what is not taken here for a while, which stands among these.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    settled: Arc<[TransactionKey]>,
    young: Arc<[TransactionKey]>,
}

/// There are more keys than [`MAX_POOL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} keys are over the limit of {MAX_POOL}; reconcile those with the highest fees")]
pub struct TooManyKeys(pub usize);

impl Snapshot {
    /// The keys that are compared, and those that are too young for it or not to come; both in any order. A key that stands twice
    /// among the first counts once.
    ///
    /// # Errors
    /// [`TooManyKeys`] where there are more than [`MAX_POOL`] of either.
    pub fn new(
        mut settled: Vec<TransactionKey>,
        young: Vec<TransactionKey>,
    ) -> Result<Self, TooManyKeys> {
        settled.sort_unstable();
        settled.dedup();
        let most = usize_from(MAX_POOL);
        if let Some(too_many) = [settled.len(), young.len()].into_iter().find(|n| *n > most) {
            return Err(TooManyKeys(too_many));
        }
        Ok(Self {
            settled: settled.into(),
            young: young.into(),
        })
    }

    pub(super) fn keys(&self) -> &[TransactionKey] {
        &self.settled
    }

    pub(super) fn young(&self) -> &[TransactionKey] {
        &self.young
    }

    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.settled.len()).unwrap_or(u32::MAX)
    }
}

/// What a session asks of its caller.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send this to the peer.
    Send(Message),
    /// These are wanted of the peer, and come as if they had been fetched. The initiator's.
    Await(Awaited),
    /// The peer lacks these keys, which we hold: announce them; it fetches what it still lacks. The initiator's.
    Lacking(Vec<TransactionKey>),
    /// The peer lacks these keys, which we hold, and asks for their transactions: push them, the best paying first,
    /// as far as its share of bandwidth goes. What is left out, the next session brings. The responder's.
    Serve(Vec<TransactionKey>),
    /// The session is over; always the last action. Messages of it may still be on their way to us: the next
    /// session of the same direction ignores them, and so does a caller that has none.
    End(Outcome),
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The difference was found.
    Reconciled,
    /// The pools differ by more than a session can find. Nobody's fault.
    TooDifferent,
    /// The peer doesn't take part now. Nobody's fault; the initiator's.
    Declined,
    /// The peer broke the protocol.
    Failed(Fault),
}

/// What a peer did wrong. A session with an honest one comes to none of these but [`Self::Silent`] and, by bad luck, once in
/// some 100,000 sessions, [`Self::Undecodable`].
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A message of too many bytes.
    #[error("a message of {0} bytes is over the limit of {MAX_MESSAGE}")]
    TooLong(usize),
    /// Not protobuf, or cut short.
    #[error("not a protobuf message: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// A kind that this version does not know.
    #[error("a message of no known kind; the peer may run a newer version")]
    UnknownKind,
    /// A message that was not due.
    #[error("message {0} was not due")]
    OutOfTurn(&'static str),
    /// A claimed pool size over [`MAX_POOL`].
    #[error("a pool of {0} keys is over the limit of {MAX_POOL}")]
    PoolTooLarge(u32),
    /// A run of symbols of another place or length than was due.
    #[error("a run of symbols of another place or length than was due")]
    WrongRun,
    /// A count that the symbol with this index can't have.
    #[error("symbol {0} has a count that it can't have")]
    WrongCount(u32),
    /// Symbols asked for beyond [`MAX_SYMBOLS`], or in steps too small.
    #[error("symbols asked for up to {0}, which is too many or too few")]
    WrongGrant(u32),
    /// Short ids that are unknown, out of order, or more than can have been found.
    #[error("short ids wanted that are unknown, out of order, or more than can have been found")]
    WrongWant,
    /// Symbols that don't decode where an honest peer's would have long ago.
    #[error("symbols that don't decode")]
    Undecodable,
    /// No end within [`MAX_DURATION`].
    #[error("the session was not over within {} s", MAX_DURATION.as_secs())]
    Silent,
}

impl Fault {
    /// What it costs the peer's reputation. Nobody can tell bad luck from a lie, so symbols that don't decode cost no more
    /// than none.
    pub fn misdeed(&self) -> Misdeed {
        match self {
            Self::Silent | Self::Undecodable => Misdeed::NoAnswer,
            _ => Misdeed::InvalidMessage,
        }
    }
}

/// How many symbols find this many differences: measured, the mean and one standard deviation. The paper's 1.35 a
/// difference is what remains of it for many.
pub(super) fn symbols_for(differences: u32) -> u32 {
    let differences = u64::from(differences);
    let symbols = differences * 27 / 20 + 2 * differences.isqrt();
    u32::try_from(symbols).unwrap_or(u32::MAX)
}

/// How many symbols a request asks for by itself; `None` where the sizes alone tell that the pools differ too much.
pub(super) fn first_grant(one_size: u32, other_size: u32) -> Option<u32> {
    let symbols = symbols_for(one_size.abs_diff(other_size));
    (symbols <= MAX_SYMBOLS).then_some(symbols.clamp(32, MAX_GRANT))
}

/// The least that a [`More`](super::More) may ask for where `granted` were asked for before, so that nobody makes a
/// responder walk over its pool for each symbol.
pub(super) fn least_grant(granted: u32) -> u32 {
    granted
        .saturating_add((granted / 16).max(16))
        .min(MAX_SYMBOLS)
}
