//! A timer for an owner that is polled often and waits for a moment that seldom changes.
//!
//! `futures_timer::Delay::reset` is dear, and in a browser it wakes the very task that calls it, so that a task which sets
//! its timer anew in each poll never sleeps. This one is set only when it has to ring sooner than it would.

use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::FutureExt;

use crate::platform::{self, Delay, Instant};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Alarm {
    delay: Delay,
    /// When it rings; `None` until it is set.
    rings_at: Option<Instant>,
}

impl Default for Alarm {
    fn default() -> Self {
        Self {
            delay: Delay::new(Duration::ZERO),
            rings_at: None,
        }
    }
}

impl Alarm {
    /// Ready once this moment has come.
    pub(crate) fn poll_until(&mut self, moment: Instant, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let now = platform::now();
            if moment <= now {
                return Poll::Ready(());
            }
            if self.rings_at.is_none_or(|rings_at| rings_at > moment) {
                self.delay.reset(moment.duration_since(now));
                self.rings_at = Some(moment);
            }
            ready!(self.delay.poll_unpin(cx));
            self.rings_at = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::{Wake, Waker},
    };

    use super::*;
    use crate::platform::test;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn waiting_on_wakes_nobody() {
        let (counter, mut alarm) = (Arc::new(Counter::default()), Alarm::default());
        let waker = Waker::from(Arc::clone(&counter));
        let (mut cx, now) = (Context::from_waker(&waker), crate::platform::now());
        for seconds in [3600, 3600, 7200, 3600] {
            let moment = now + Duration::from_secs(seconds);
            assert!(alarm.poll_until(moment, &mut cx).is_pending());
        }
        assert_eq!(counter.0.load(Ordering::Relaxed), 0);
        assert!(alarm.poll_until(now, &mut cx).is_ready());
    }
}
