//! When a network that fell apart is one again.
//!
//! It is looked at when a fault ends, and from then on at each step of the run until the network is one: each honest node that runs reaches each other over connections that
//! both ends have. An end at which it is one already shows nothing; so one end at least must find it apart.

use std::time::Duration;

/// The ends of faults, and when the network was one after each.
#[derive(Debug)]
pub(crate) struct Healing(Vec<End>);

#[derive(Debug)]
struct End {
    at: Duration,
    whole: Option<Duration>,
}

impl Healing {
    /// Faults end at these moments.
    pub(crate) fn new(ends: impl IntoIterator<Item = Duration>) -> Self {
        let whole = None;
        Self(ends.into_iter().map(|at| End { at, whole }).collect())
    }

    /// Whether it is to be looked at now.
    pub(crate) fn is_open(&self, now: Duration) -> bool {
        self.0
            .iter()
            .any(|end| end.at <= now && end.whole.is_none())
    }

    /// It is one network now.
    pub(crate) fn is_whole(&mut self, now: Duration) {
        for end in self.0.iter_mut().filter(|end| end.at <= now) {
            end.whole.get_or_insert(now);
        }
    }

    /// How long each took of those that found it apart; `None`: it is apart still.
    pub(crate) fn took(&self) -> Vec<Option<Duration>> {
        let apart = self.0.iter().filter(|end| end.whole != Some(end.at));
        apart.map(|end| Some(end.whole? - end.at)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_whole_again_once_after_each_end_that_finds_it_apart() {
        let second = Duration::from_secs(1);
        let mut healing = Healing::new([1, 5, 9].map(|at| at * second));
        assert!(!healing.is_open(Duration::ZERO));
        // The first end finds it whole.
        healing.is_whole(second);
        assert!(!healing.is_open(4 * second) && healing.is_open(5 * second));
        healing.is_whole(7 * second);
        healing.is_whole(8 * second);
        assert!(healing.is_open(9 * second));
        assert_eq!(healing.took(), [Some(2 * second), None]);
    }
}
