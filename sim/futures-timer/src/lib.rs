//! Stands for the crate `futures-timer` in a simulation: the same `Delay`, on the virtual clock.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use selkie_sim_host::clock::{self, Key};

/// Ready once its time has come.
pub struct Delay {
    moment: Duration,
    /// Who is woken then, and where the clock has it.
    waits: Option<(Waker, Key)>,
}

impl Delay {
    /// Ready so long from now.
    pub fn new(duration: Duration) -> Self {
        Self {
            moment: after(duration),
            waits: None,
        }
    }

    /// Ready so long from now instead; who waits already waits on.
    pub fn reset(&mut self, duration: Duration) {
        self.moment = after(duration);
        if let Some((waker, key)) = self.waits.take() {
            clock::cancel(key);
            self.wait(waker);
        }
    }

    fn wait(&mut self, waker: Waker) {
        let key = clock::wake_at(self.moment, waker.clone());
        self.waits = Some((waker, key));
    }
}

impl Future for Delay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.moment <= clock::now() {
            return Poll::Ready(());
        }
        match &self.waits {
            Some((waker, _)) if waker.will_wake(cx.waker()) => {}
            waits => {
                if let Some((_, key)) = waits {
                    clock::cancel(*key);
                }
                self.wait(cx.waker().clone());
            }
        }
        Poll::Pending
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        if let Some((_, key)) = self.waits.take() {
            clock::cancel(key);
        }
    }
}

impl fmt::Debug for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delay")
            .field("moment", &self.moment)
            .finish()
    }
}

/// One that is never reached, where so much time can't be counted.
fn after(duration: Duration) -> Duration {
    clock::now().saturating_add(duration)
}
