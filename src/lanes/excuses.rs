//! The one account of why a peer's silence is excused: it may have answered, and this node has not read it.
//!
//! A peer is not heard while the connection by which it answers stands ([`crate::transport::links`]), while one of that connection's lanes is
//! held up or passes over the rest of a frame that gave way, and while this node is behind with all it has to do. Meanwhile it pays for no
//! silence, and afterwards it has as much more time for what it was asked. However many of these there are at once, time counts once. A node that was behind
//! knows so at the moment when it looks at what is due, and has read nothing yet of what came meanwhile: so for that all have as much again, in which it can be read.
//!
//! What keeps a peer from being heard may be its own doing ([`Whose::Peers`]): it can send what is not read here, fill its own lane, send a frame too
//! slowly, or say that it can't send. So that is excused for [`OWN`] at once, and for as much in [`EVERY`]. Of what is this node's doing ([`Whose::Ours`]:
//! other work, its own budget, what others have brought) far more is, as honest peers of a slow node shall not pay for it; and not all ([`ALL`]), since
//! many peers together can bring that about too, and none of them would ever pay. What is over that counts as heard.
//!
//! After a peer's streams moved or began anew, what belongs to the former ones may come late, come twice, look wrong, or be lost, for [`MOVES`], once in [`EVERY`].
//!
//! A state machine without I/O. Bounds: the above. Who leaves and comes back has the account that it had.

use std::time::Duration;

use crate::{peers::Misdeed, platform::Instant};

/// For how long a peer is excused at once for what may be its own doing, and in each [`EVERY`].
const OWN: Duration = Duration::from_secs(20);
/// The same of all together. The rest, a tenth of the time, counts whatever this node is busy with.
const ALL: Duration = Duration::from_secs(54);
/// In how much time that comes again.
const EVERY: Duration = Duration::from_secs(60);
/// How long what belongs to former streams is excused.
const MOVES: Duration = Duration::from_secs(5);

/// Whose doing it is that a peer is not heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Whose {
    /// It may be the peer's own.
    Peers,
    /// It is this node's, or others'.
    Ours,
}

/// What of a peer is not heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deaf {
    pub(super) whose: Whose,
    /// All of its connection, and not only lanes.
    pub(super) all: bool,
}

/// For so long a peer was not heard, which is over and excused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unheard {
    pub(super) time: Duration,
    /// As [`Deaf::all`].
    pub(super) all: bool,
}

/// See the module's documentation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Excuses {
    own: Budget,
    all: Budget,
    /// What is not heard, since when, and until when that is excused.
    deaf: Option<(Deaf, Instant, Instant)>,
    /// Up to here time was counted.
    counted: Option<Instant>,
    moved_at: Option<Instant>,
}

/// Time that may be excused.
#[derive(Clone, Copy, Debug)]
struct Budget {
    most: Duration,
    left: Duration,
    /// When what had come again was last added.
    at: Option<Instant>,
}

impl Default for Excuses {
    fn default() -> Self {
        Self {
            own: Budget::new(OWN),
            all: Budget::new(ALL),
            deaf: None,
            counted: None,
            moved_at: None,
        }
    }
}

impl Excuses {
    /// What of the peer is not heard from now on, if anything is. Returns what was not before, where that has changed.
    pub(super) fn hear(&mut self, deaf: Option<Deaf>, now: Instant) -> Option<Unheard> {
        if self.deaf.map(|(deaf, ..)| deaf) == deaf {
            return None;
        }
        let unheard = self.end(now);
        self.deaf = deaf.map(|deaf| {
            self.own.refill(now);
            self.all.refill(now);
            (deaf, now, now + self.left(deaf.whose))
        });
        unheard
    }

    /// This node came so late to what it had to do, and has heard nobody meanwhile. Returns how much longer the peer has for that, as far as it was not
    /// counted yet: as long, and as long again, since what came is still to be read.
    pub(super) fn behind(&mut self, late: Duration, now: Instant) -> Option<Unheard> {
        let since = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        let uncounted = since(self.counted).unwrap_or(late).min(late);
        // What the peer was deaf for already counts when that is over.
        let counts = since(self.deaf.map(|(_, since, _)| since)).unwrap_or_default();
        let time = uncounted.saturating_sub(counts);
        match self.deaf {
            Some((_, since, _)) => self.counted = Some(since),
            None => {
                self.all.refill(now);
                self.counted = Some(now);
            }
        }
        let time = self.all.take(2 * time);
        (!time.is_zero()).then_some(Unheard { time, all: true })
    }

    /// The peer's streams are others now, or begin anew.
    pub(super) fn move_on(&mut self, now: Instant) {
        if self.moved_at.is_none_or(|at| now >= at + EVERY) {
            self.moved_at = Some(now);
        }
    }

    /// When it was last excused for that.
    #[cfg(test)]
    pub(super) fn moved_at(&self) -> Option<Instant> {
        self.moved_at
    }

    /// Whether the peer pays for nothing of this kind now.
    pub(super) fn covers(&self, misdeed: Misdeed, now: Instant) -> bool {
        let moves = self.moved_at.is_some_and(|at| now < at + MOVES);
        match misdeed {
            Misdeed::NoAnswer => moves || self.is_deaf(now),
            Misdeed::InvalidMessage | Misdeed::TooManyMessages => moves,
            _ => false,
        }
    }

    /// Whether that nothing of its connection is heard is excused.
    pub(super) fn covers_all(&self, now: Instant) -> bool {
        self.is_deaf(now) && self.deaf.is_some_and(|(deaf, ..)| deaf.all)
    }

    /// When nothing of it matters any more, if anything does.
    pub(super) fn rests_at(&self) -> Option<Instant> {
        let used = [self.own.at, self.all.at, self.moved_at];
        used.into_iter().flatten().max().map(|at| at + EVERY)
    }

    fn is_deaf(&self, now: Instant) -> bool {
        self.deaf.is_some_and(|(_, _, until)| now < until)
    }

    /// What is not heard is over.
    fn end(&mut self, now: Instant) -> Option<Unheard> {
        let (deaf, since, until) = self.deaf.take()?;
        self.counted = Some(now);
        let excused = until.min(now).saturating_duration_since(since);
        let excused = excused.min(self.left(deaf.whose));
        let time = self.all.take(excused);
        if deaf.whose == Whose::Peers {
            self.own.take(time);
        }
        let all = deaf.all;
        (!time.is_zero()).then_some(Unheard { time, all })
    }

    fn left(&self, whose: Whose) -> Duration {
        match whose {
            Whose::Peers => self.own.left.min(self.all.left),
            Whose::Ours => self.all.left,
        }
    }
}

impl Budget {
    const fn new(most: Duration) -> Self {
        Self {
            most,
            left: most,
            at: None,
        }
    }

    fn refill(&mut self, now: Instant) {
        let rested = self.at.map(|at| now.saturating_duration_since(at));
        let come = rested
            .unwrap_or_default()
            .mul_f64(self.most.div_duration_f64(EVERY));
        self.left = self.most.min(self.left + come);
        self.at = Some(now);
    }

    /// As much of this as is left.
    fn take(&mut self, time: Duration) -> Duration {
        let time = time.min(self.left);
        self.left -= time;
        time
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::platform::{self, test};

    const STANDS: Option<Deaf> = deaf(Whose::Peers, true);
    const HELD: Option<Deaf> = deaf(Whose::Peers, false);
    const BUSY: Option<Deaf> = deaf(Whose::Ours, false);

    const fn deaf(whose: Whose, all: bool) -> Option<Deaf> {
        Some(Deaf { whose, all })
    }

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn time(unheard: Option<Unheard>) -> Duration {
        unheard.map_or(Duration::ZERO, |unheard| unheard.time)
    }

    fn excuses() -> (Excuses, impl Fn(u64) -> Instant) {
        let start = platform::now();
        (Excuses::default(), move |after| start + seconds(after))
    }

    #[test]
    fn what_may_be_a_peers_own_doing_is_excused_for_a_while_and_as_long_in_a_minute() {
        for deaf in [STANDS, HELD] {
            let (mut excuses, at) = excuses();
            let covers = |excuses: &Excuses, after| excuses.covers(Misdeed::NoAnswer, at(after));
            assert!(!covers(&excuses, 0));
            assert_eq!(excuses.hear(deaf, at(0)), None);
            assert_eq!(excuses.hear(deaf, at(3)), None, "that is no news");
            assert_eq!(time(excuses.hear(None, at(5))), seconds(5));
            assert!(!covers(&excuses, 5));
            // As often as it likes, and as long.
            excuses.hear(deaf, at(5));
            assert!(covers(&excuses, 21) && !covers(&excuses, 22));
            excuses.hear(None, at(35));
            excuses.hear(deaf, at(35));
            assert!(covers(&excuses, 44) && !covers(&excuses, 46));
            excuses.hear(None, at(50));
            excuses.hear(deaf, at(1000));
            assert!(covers(&excuses, 1019) && !covers(&excuses, 1020));
        }
    }

    #[test]
    fn what_is_this_nodes_own_doing_is_excused_for_longer_and_not_for_ever() {
        let (mut excuses, at) = excuses();
        excuses.hear(BUSY, at(0));
        assert!(excuses.covers(Misdeed::NoAnswer, at(53)));
        assert!(!excuses.covers(Misdeed::NoAnswer, at(54)));
        assert_eq!(time(excuses.hear(None, at(300))), ALL);
    }

    #[test]
    fn time_in_which_much_is_not_heard_counts_once() {
        let (mut excuses, at) = excuses();
        excuses.hear(HELD, at(0));
        // It is the same time in which this node was late.
        assert_eq!(time(excuses.behind(seconds(4), at(5))), seconds(0));
        assert_eq!(time(excuses.hear(None, at(6))), seconds(6));
        assert_eq!(time(excuses.behind(seconds(4), at(8))), 2 * seconds(2));
        assert_eq!(time(excuses.behind(seconds(4), at(9))), 2 * seconds(1));
        // A lane was held up in the midst of that.
        excuses.hear(BUSY, at(20));
        assert_eq!(time(excuses.behind(seconds(4), at(22))), 2 * seconds(2));
        assert_eq!(time(excuses.hear(None, at(22))), seconds(2));
    }

    #[test]
    fn that_lanes_are_held_up_says_nothing_of_the_rest_of_a_connection() {
        let (mut excuses, at) = excuses();
        excuses.hear(HELD, at(0));
        assert!(!excuses.covers_all(at(1)) && excuses.covers(Misdeed::NoAnswer, at(1)));
        let held = excuses.hear(STANDS, at(2));
        assert_eq!(
            held,
            Some(Unheard {
                time: seconds(2),
                all: false
            })
        );
        assert!(excuses.covers_all(at(3)));
        let stood = excuses.hear(None, at(3));
        assert_eq!(
            stood,
            Some(Unheard {
                time: seconds(1),
                all: true
            })
        );
    }

    #[test]
    fn who_moves_is_excused_for_what_belongs_to_former_streams_now_and_then() {
        let (mut excuses, at) = excuses();
        let covers = |excuses: &Excuses, misdeed, after| excuses.covers(misdeed, at(after));
        excuses.move_on(at(0));
        for misdeed in [
            Misdeed::NoAnswer,
            Misdeed::InvalidMessage,
            Misdeed::TooManyMessages,
        ] {
            assert!(covers(&excuses, misdeed, 4) && !covers(&excuses, misdeed, 5));
        }
        assert!(!covers(&excuses, Misdeed::InvalidItem, 0));
        excuses.move_on(at(59));
        assert!(!covers(&excuses, Misdeed::InvalidMessage, 59));
        excuses.move_on(at(60));
        assert!(covers(&excuses, Misdeed::InvalidMessage, 60));
    }

    proptest! {
        // Whatever happens: nothing is excused twice but for what this node was behind, what may be a peer's own doing has its budget, and so has all.
        #[test]
        fn no_more_is_excused_than_there_was_nor_than_the_budgets_have(
            steps in proptest::collection::vec((0u64..30_000, 0u8..6, 0u64..20_000), 0..200),
        ) {
            let (mut excuses, start) = (Excuses::default(), platform::now());
            let (mut now, mut own, mut all, mut deaf) = (start, 0.0, 0.0, None::<Deaf>);
            let mut behind = 0.0;
            for (after, step, late) in steps {
                now += Duration::from_millis(after);
                let excused = excuses.covers(Misdeed::NoAnswer, now);
                prop_assert!(deaf.is_some() || !excused);
                let next = match step {
                    0 | 1 => None,
                    2 => STANDS,
                    3 => HELD,
                    4 => BUSY,
                    _ => {
                        let late = Duration::from_millis(late).min(now - start);
                        let time = time(excuses.behind(late, now)).as_secs_f64();
                        (all, behind) = (all + time, behind + time);
                        continue;
                    }
                };
                let unheard = time(excuses.hear(next, now)).as_secs_f64();
                let of_peer = deaf.is_some_and(|deaf| deaf.whose == Whose::Peers);
                (own, all) = (own + if of_peer { unheard } else { 0.0 }, all + unheard);
                deaf = next;
                let passed = (now - start).as_secs_f64();
                let within = |sum: f64, most: Duration| {
                    let most = most.as_secs_f64();
                    sum <= most + passed * most / EVERY.as_secs_f64() + 1e-3
                };
                prop_assert!(all - behind / 2.0 <= passed + 1e-3, "{all} of {passed}");
                prop_assert!(within(own, OWN) && within(all, ALL), "{own} {all} of {passed}");
            }
        }

        // Who is honest pays nothing: what is short and seldom enough is excused to the last.
        #[test]
        fn all_that_the_budget_has_is_excused(
            holds in proptest::collection::vec((0u64..6_000, 18_000u64..60_000), 0..50),
        ) {
            let (mut excuses, mut now) = (Excuses::default(), platform::now());
            for (held, rest) in holds {
                let held = Duration::from_millis(held);
                excuses.hear(HELD, now);
                prop_assert!(held.is_zero() || excuses.covers(Misdeed::NoAnswer, now + held / 2));
                now += held;
                prop_assert_eq!(time(excuses.hear(None, now)), held);
                now += Duration::from_millis(rest);
            }
        }
    }
}
