//! How late a link is, and who is ahead of it: of those, one is to push instead.
//!
//! A push counts as in time, or else for as many as it comes times [`late_after`](super::late_after) after the item was announced first, [`MOST_TIMES`] at most. The link is outrun where that has
//! come to more than those in time, without end, for [`OUTRUN_FOR`]: so neither few pushes in time wash it clean, nor does half of them, that is very late, hide behind the other half. Both sums
//! are halved every [`HALF_LIFE`], so that a storm is soon forgotten.
//!
//! What is announced shows nobody ahead, since anybody can announce what it does not send. Who has sent an item that was fetched, before it was pushed here, is: it would have
//! pushed it sooner by the time that the question took; unless it is the late peer itself, or gone. Where pushes are waited for as long as they take, nothing is fetched: then, once the link has been late for half of the time, some is asked for all
//! the same ([`PROBES`]), of what is announced over links that do not push.
//!
//! Bounds: three numbers, and [`ANSWERS`] peers where it is late.

use std::{collections::VecDeque, time::Duration};

use libp2p::PeerId;

use crate::{platform::Instant, traffic::Rate};

/// So many times as late at most counts one push.
const MOST_TIMES: u32 = 8;
/// For so long a link is late before it is outrun, longer than a storm lasts most often; and so much it has to have come to.
const OUTRUN_FOR: Duration = Duration::from_secs(10);
const LEAST: u32 = 16;
/// In so long what was counted counts for half.
const HALF_LIFE: Duration = Duration::from_secs(10);
/// Of so many answers it is known whose they were, and so many show who is ahead.
const ANSWERS: usize = 16;
const ENOUGH: usize = 4;
/// How often something is asked for, beside a late link, before its push has had its time.
pub(super) const PROBES: Rate = Rate {
    per_second: 1,
    burst: 8,
};

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Lateness {
    late: u32,
    in_time: u32,
    halved_at: Option<Instant>,
    /// Since when it has been late.
    since: Option<Instant>,
    /// Who sent what was fetched before it was pushed here, the latest last.
    ahead: VecDeque<PeerId>,
}

/// What is to be done about a link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    Good,
    /// It has been late for some time, and it is not known yet who is ahead of it.
    Doubted,
    /// This one is to push instead, or does so already.
    Outrun(PeerId),
}

impl Lateness {
    /// What another peer had sent for the asking is pushed.
    pub(super) fn is_behind(&mut self, other: PeerId) {
        if self.since.is_some() {
            if self.ahead.len() >= ANSWERS {
                self.ahead.pop_front();
            }
            self.ahead.push_back(other);
        }
    }

    /// Something was pushed so long after it had been announced first, or before that (0). Who is not here any more is ahead of nobody.
    pub(super) fn pushed(
        &mut self,
        took: Duration,
        late_after: Duration,
        is_here: impl Fn(&PeerId) -> bool,
        now: Instant,
    ) -> Verdict {
        self.halve(now);
        let times = took.as_micros() / late_after.as_micros().max(1);
        if times == 0 {
            self.in_time = self.in_time.saturating_add(1);
        } else {
            let times = u32::try_from(times).unwrap_or(u32::MAX).min(MOST_TIMES);
            self.late = self.late.saturating_add(times);
        }
        self.forgive();
        if times == 0 || self.late <= self.in_time {
            return Verdict::Good;
        }
        let since = now.saturating_duration_since(*self.since.get_or_insert(now));
        if self.late < LEAST || since < OUTRUN_FOR / 2 {
            return Verdict::Good;
        }
        self.ahead.retain(is_here);
        if self.ahead.len() < ENOUGH {
            Verdict::Doubted
        } else if since < OUTRUN_FOR {
            Verdict::Good
        } else {
            self.most_ahead().map_or(Verdict::Good, Verdict::Outrun)
        }
    }

    /// Who was ahead most often.
    fn most_ahead(&self) -> Option<PeerId> {
        let often = |peer: &&PeerId| self.ahead.iter().filter(|other| other == peer).count();
        self.ahead.iter().max_by_key(often).copied()
    }

    /// Whether it has been, of late.
    pub(super) fn is_late(&self) -> bool {
        self.since.is_some()
    }

    /// Nothing is held against it any more, if no more was late than in time.
    fn forgive(&mut self) {
        if self.late <= self.in_time {
            (self.since, self.ahead) = (None, VecDeque::new());
        }
    }

    fn halve(&mut self, now: Instant) {
        let at = *self.halved_at.get_or_insert(now);
        let times = now.saturating_duration_since(at).as_secs() / HALF_LIFE.as_secs();
        if times > 0 {
            let times = u32::try_from(times).unwrap_or(u32::MAX);
            let half = |count: u32| count.checked_shr(times).unwrap_or(0);
            (self.late, self.in_time) = (half(self.late), half(self.in_time));
            self.halved_at = Some(now);
            self.forgive();
        }
    }
}
