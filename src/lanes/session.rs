//! Which connection of a peer carries our streams, and when they are opened: a state machine without I/O.
//!
//! A peer that has said hello has one session. Its streams are on the connection that was established last: who comes by a new one
//! has left the one before, or will soon, whatever that says of itself. So a peer that roams, or whose process was
//! started anew behind a connection that is not yet known to be dead, is reached as soon as the new streams are open; until then
//! the former ones carry on. One attempt to open streams is under way at a time, and each has an epoch, a number of its own: what
//! a connection says of another one is of the past, and ignored. After streams broke, or did not open, the next attempt waits, twice as
//! long each time ([`BACK_OFF`]); a new connection is tried at once.
//!
//! Bounds: what the gate allows of connections; one timer.

use std::time::Duration;

use crate::platform::Instant;

/// How long after streams broke the next ones are opened; twice as long each further time, up to the most.
const BACK_OFF: Duration = Duration::from_millis(250);
const MOST_BACK_OFF: Duration = Duration::from_secs(60);

/// See the module's documentation. `C` names a connection.
#[derive(Debug)]
pub(super) struct Session<C> {
    /// In the order in which they were established.
    connections: Vec<C>,
    /// Whether the peer has said hello.
    greeted: bool,
    /// The number of the last attempt.
    epoch: u64,
    /// Whose streams carry what is sent, and since when.
    open: Option<(C, u64, Instant)>,
    /// Where streams are being opened.
    opening: Option<(C, u64)>,
    /// When the next attempt is due.
    opens_at: Option<Instant>,
    failures: u32,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step<C> {
    /// Open streams on this connection, under this epoch.
    Open(C, u64),
    /// The peer may be sent something from now on.
    Joined,
    /// The streams that carry are others now; nothing else has changed.
    Moved,
    /// There are no streams any more.
    Left,
}

impl<C: Copy + PartialEq> Session<C> {
    pub(super) fn new() -> Self {
        Self {
            connections: Vec::new(),
            greeted: false,
            epoch: 0,
            open: None,
            opening: None,
            opens_at: None,
            failures: 0,
        }
    }

    /// The connection whose streams are open, and their epoch.
    pub(super) fn open(&self) -> Option<(C, u64)> {
        self.open.map(|(connection, epoch, _)| (connection, epoch))
    }

    /// Whether this epoch's streams on this connection are the ones that carry.
    pub(super) fn is_current(&self, connection: C, epoch: u64) -> bool {
        self.open() == Some((connection, epoch))
    }

    /// When [`Self::on_time`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.opens_at
    }

    /// The peer has said hello.
    pub(super) fn greeted(&mut self) -> Option<Step<C>> {
        if std::mem::replace(&mut self.greeted, true) {
            return None;
        }
        self.begin()
    }

    /// A connection is there.
    pub(super) fn connected(&mut self, connection: C) -> Option<Step<C>> {
        self.connections.push(connection);
        self.opening = None;
        self.begin()
    }

    /// A connection is gone.
    pub(super) fn disconnected(&mut self, connection: C) -> Vec<Step<C>> {
        self.connections.retain(|other| *other != connection);
        let mut steps = Vec::new();
        if self.open.is_some_and(|(open, ..)| open == connection) {
            self.open = None;
            steps.push(Step::Left);
        }
        if self
            .opening
            .is_some_and(|(opening, _)| opening == connection)
        {
            self.opening = None;
        }
        if self.open.is_none() && self.opening.is_none() {
            steps.extend(self.begin());
        }
        steps
    }

    /// All streams of an attempt are open.
    pub(super) fn opened(&mut self, connection: C, epoch: u64, now: Instant) -> Option<Step<C>> {
        if self.opening != Some((connection, epoch)) {
            return None;
        }
        self.opening = None;
        let former = self.open.replace((connection, epoch, now));
        Some(former.map_or(Step::Joined, |_| Step::Moved))
    }

    /// Streams broke, or did not open.
    pub(super) fn broken(&mut self, connection: C, epoch: u64, now: Instant) -> Option<Step<C>> {
        if self.opening == Some((connection, epoch)) {
            self.opening = None;
            self.back_off(now);
            return None;
        }
        let (_, _, since) = self.open.filter(|_| self.is_current(connection, epoch))?;
        self.open = None;
        if now.saturating_duration_since(since) > MOST_BACK_OFF {
            self.failures = 0;
        }
        if self.opening.is_none() {
            self.back_off(now);
        }
        Some(Step::Left)
    }

    /// Opens streams where that is due.
    pub(super) fn on_time(&mut self, now: Instant) -> Option<Step<C>> {
        self.opens_at.take_if(|at| *at <= now)?;
        self.begin()
    }

    fn back_off(&mut self, now: Instant) {
        let pause = BACK_OFF.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        self.opens_at = Some(now + pause.min(MOST_BACK_OFF));
    }

    /// An attempt on the newest connection.
    fn begin(&mut self) -> Option<Step<C>> {
        let newest = self.connections.last().copied().filter(|_| self.greeted)?;
        if self.opening.is_some() || self.open.is_some_and(|(open, ..)| open == newest) {
            return None;
        }
        self.opens_at = None;
        self.epoch += 1;
        self.opening = Some((newest, self.epoch));
        Some(Step::Open(newest, self.epoch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;
    use proptest::prelude::*;

    fn opened() -> (Session<u8>, Instant) {
        let (mut session, now) = (Session::new(), crate::platform::now());
        assert_eq!(session.connected(1), None, "not before the hello");
        assert_eq!(session.greeted(), Some(Step::Open(1, 1)));
        assert_eq!(session.opened(1, 1, now), Some(Step::Joined));
        (session, now)
    }

    #[test]
    fn a_new_connection_takes_over_once_its_streams_are_open() {
        let (mut session, now) = opened();
        assert_eq!(session.connected(2), Some(Step::Open(2, 2)));
        assert!(session.is_current(1, 1), "the former one carries on");
        assert_eq!(session.opened(2, 2, now), Some(Step::Moved));
        assert!(session.is_current(2, 2));
        assert_eq!(session.broken(1, 1, now), None, "that is of the past");
        assert_eq!(session.disconnected(1), []);
        assert_eq!(session.disconnected(2), [Step::Left]);
    }

    #[test]
    fn when_the_newest_ends_the_one_before_is_used() {
        let (mut session, now) = opened();
        session.connected(2);
        session.opened(2, 2, now);
        assert_eq!(session.disconnected(2), [Step::Left, Step::Open(1, 3)]);
        assert_eq!(session.opened(1, 1, now), None, "an older attempt's");
        assert_eq!(session.opened(1, 3, now), Some(Step::Joined));
    }

    #[test]
    fn attempts_come_one_at_a_time_and_ever_more_slowly() {
        let (mut session, mut now) = opened();
        assert_eq!(session.broken(1, 1, now), Some(Step::Left));
        assert_eq!(session.broken(1, 1, now), None);
        let mut pauses = Vec::new();
        for epoch in 2..14 {
            let at = session.deadline().expect("there is a next one");
            assert_eq!(session.on_time(at - Duration::from_millis(1)), None);
            assert_eq!(session.on_time(at), Some(Step::Open(1, epoch)));
            assert_eq!(session.on_time(at), None);
            pauses.push(at - now);
            now = at;
            assert_eq!(session.broken(1, epoch, now), None, "nobody had joined");
        }
        assert!(pauses.windows(2).all(|two| two[0] <= two[1]));
        assert_eq!((pauses[0], pauses[11]), (BACK_OFF, MOST_BACK_OFF));
        assert!(
            matches!(session.connected(2), Some(Step::Open(2, _))),
            "at once"
        );
    }

    proptest! {
        #[test]
        fn who_has_joined_has_left_before_and_one_attempt_is_under_way(steps in proptest::collection::vec((0u8..7, 0u8..4, 0u64..20), 0..200)) {
            let (mut session, mut now) = (Session::new(), crate::platform::now());
            let mut joined = false;
            for (step, connection, epoch) in steps {
                let done = match step {
                    0 => session.greeted().into_iter().collect(),
                    1 if session.connections.contains(&connection) => Vec::new(),
                    1 => session.connected(connection).into_iter().collect(),
                    2 => session.disconnected(connection),
                    3 => session.opened(connection, epoch, now).into_iter().collect(),
                    4 => match session.opening {
                        Some((connection, epoch)) => session.opened(connection, epoch, now).into_iter().collect(),
                        None => Vec::new(),
                    },
                    5 => session.broken(connection, epoch, now).into_iter().collect(),
                    _ => {
                        now += Duration::from_secs(epoch);
                        session.on_time(now).into_iter().collect()
                    }
                };
                for step in done {
                    match step {
                        Step::Joined => prop_assert!(!std::mem::replace(&mut joined, true)),
                        Step::Left => prop_assert!(std::mem::replace(&mut joined, false)),
                        Step::Moved => prop_assert!(joined),
                        Step::Open(connection, epoch) => prop_assert_eq!(session.opening, Some((connection, epoch))),
                    }
                }
                prop_assert_eq!(session.open().is_some(), joined);
                let used = session.open().into_iter().chain(session.opening);
                for (connection, _) in used {
                    prop_assert!(session.connections.contains(&connection));
                }
                let waits = session.greeted && !session.connections.is_empty();
                let is_idle = !joined && session.opening.is_none() && session.opens_at.is_none();
                prop_assert!(!(waits && is_idle), "a peer that is here is never given up");
            }
        }
    }
}
