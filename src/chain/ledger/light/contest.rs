//! A branch of headers that contests those that are here, and waits until it is better.
//!
//! One old header that differs costs nobody anything to send again, so it throws away nothing that is here. Nor does a whole branch that is not
//! longer, but by turns: whatever has taken the place of what may be longer keeps it for [`TURN`]. A proposer can make any number of branches, and the honest one is always the
//! same; so turns are counted for all of them together, not for each. What was here first, and had no time of its own, may come back once before that. Sync
//! follows one branch at a time, from one peer; so one waits at a time, the last that was begun.
//! Bounds: [`MAX_UNDECIDED`] headers and what one message brings.

use std::time::Duration;

use super::super::{header::Header, tree::Hash};
use super::{MAX_UNDECIDED, Tip};
use crate::platform::Instant;

/// A branch that has taken the place of what may be longer keeps it for as long, against what is not longer: time to come to what is decided.
const TURN: Duration = Duration::from_secs(600);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Contest {
    /// The last header that both have.
    fork: Tip,
    /// What is above it, one at least.
    headers: Vec<Header>,
}

impl Contest {
    pub(super) fn new(fork: Tip, headers: &[Header]) -> Self {
        let headers = headers.to_vec();
        Self { fork, headers }
    }

    /// Takes more, which follow on the last one.
    pub(super) fn extend(&mut self, headers: &[Header]) {
        self.headers.extend_from_slice(headers);
    }

    pub(super) fn fork(&self) -> Tip {
        self.fork
    }

    pub(super) fn headers(&self) -> &[Header] {
        &self.headers
    }

    /// What tells it from other branches.
    pub(super) fn first(&self) -> Hash {
        self.headers.first().map_or(self.fork.id, Header::id)
    }

    pub(super) fn tip(&self) -> Tip {
        self.headers.last().map_or(self.fork, Tip::of)
    }

    /// The last one's.
    pub(super) fn time(&self) -> u64 {
        self.headers.last().map_or(0, |last| last.time)
    }

    /// Whether no more may wait.
    pub(super) fn is_full(&self) -> bool {
        self.headers.len() as u64 >= MAX_UNDECIDED
    }

    /// Whether it has another header where one is decided.
    pub(super) fn contradicts(&self, decided: Tip) -> bool {
        let at = decided
            .height
            .checked_sub(self.fork.height.saturating_add(1));
        let at = at.and_then(|at| usize::try_from(at).ok());
        let header = at.and_then(|at| self.headers.get(at));
        header.is_some_and(|header| header.id() != decided.id)
    }
}

/// Whose turn it is, since something was settled.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// When a branch last took the place of what may be longer.
    since: Option<Instant>,
    /// How what had to go without a turn of its own begins: it may come back.
    claim: Option<Hash>,
}

impl Turns {
    /// Whether the branch that begins so may take the place of the one that begins `here` now; then it has.
    pub(super) fn take(&mut self, first: Hash, here: Option<Hash>, now: Instant) -> bool {
        let has_claim = self.claim == Some(first);
        let is_over = self.since.is_none_or(|since| now >= since + TURN);
        if !is_over && !has_claim {
            return false;
        }
        // What had a turn has had its time.
        self.claim = here.filter(|_| self.since.is_none());
        self.since = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::{self, test};

    #[test]
    fn what_had_to_go_comes_back_once_and_each_keeps_its_place_for_its_time() {
        let (mut turns, start) = (Turns::default(), platform::now());
        let [here, first, second] = [1, 2, 3].map(|number| [number; 32]);
        assert!(turns.take(first, Some(here), start));
        assert!(!turns.take(second, Some(first), start));
        let back = start + TURN / 2;
        assert!(turns.take(here, Some(first), back));
        for other in [first, second] {
            assert!(!turns.take(other, Some(here), start + TURN));
        }
        let next = back + TURN;
        assert!(turns.take(second, Some(here), next));
        for other in [here, first] {
            assert!(!turns.take(other, Some(second), next));
        }
        // Whoever was here first, none is kept out for ever.
        assert!(turns.take(here, Some(second), next + TURN));
        assert!(!turns.take(second, Some(here), next + TURN));
    }
}
