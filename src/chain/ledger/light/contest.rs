//! A branch of headers that contests those that are here, and waits until it is better.
//!
//! One old header that differs costs nobody anything to send again, so it throws away nothing that is here. Nor does a whole branch, more than once
//! in [`TURN`], where it is not longer. Sync follows one branch at a time, from one peer; so one waits at a time, the last that was begun.
//! Bounds: [`MAX_UNDECIDED`] headers and what one message brings; [`TURNS`].

use std::{collections::VecDeque, time::Duration};

use super::super::{header::Header, tree::Hash};
use super::{MAX_UNDECIDED, Tip};
use crate::platform::Instant;

/// A branch that has taken the place of what may be longer does so no more for as long: time to bring that back, and to come to what is decided.
const TURN: Duration = Duration::from_secs(600);
/// So many such branches are remembered.
const TURNS: usize = 16;

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

/// Which branches have lately taken the place of what may be longer.
#[derive(Debug, Default)]
pub(super) struct Turns(VecDeque<(Hash, Instant)>);

impl Turns {
    /// Whether the branch that begins so may do it now; then it has.
    pub(super) fn take(&mut self, first: Hash, now: Instant) -> bool {
        self.0.retain(|(_, at)| now < *at + TURN);
        if self.0.iter().any(|(other, _)| *other == first) {
            return false;
        }
        self.0.push_back((first, now));
        if self.0.len() > TURNS {
            self.0.pop_front();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::{self, test};

    #[test]
    fn a_branch_has_its_turn_again_after_a_while() {
        let (mut turns, start) = (Turns::default(), platform::now());
        assert!(turns.take([1; 32], start));
        assert!(turns.take([2; 32], start));
        assert!(!turns.take([1; 32], start + TURN / 2));
        assert!(turns.take([1; 32], start + TURN));
        for number in 3..100 {
            assert!(turns.take([number; 32], start + TURN));
        }
        assert_eq!(turns.0.len(), TURNS);
    }
}
