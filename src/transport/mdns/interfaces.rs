//! Which interfaces this host has, as far as the system tells.
//!
//! A watcher that has failed once fails at every further look, at once: it is let go, and another is made after [`PAUSE`], which
//! tells of all interfaces anew.

use std::{
    io,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{StreamExt, stream::BoxStream};
use if_watch::{IfEvent, tokio::IfWatcher};

use crate::platform::{self, Instant, alarm::Alarm};

/// How long there is none after one has failed.
const PAUSE: Duration = Duration::from_secs(10);

/// What a watcher tells.
pub(super) type Told = io::Result<IfEvent>;

/// What there is to know of the interfaces.
#[derive(Debug)]
pub(super) enum Change {
    /// All that are there are told from now on, whatever was told before.
    Anew,
    /// This one has come or gone.
    One(IfEvent),
}

/// See the module's documentation.
pub(super) struct Watch {
    make: fn() -> io::Result<BoxStream<'static, Told>>,
    watcher: Option<BoxStream<'static, Told>>,
    /// When there is another one, where there is none.
    again_at: Instant,
    alarm: Alarm,
}

impl Watch {
    /// # Errors
    /// The system does not tell its interfaces.
    pub(super) fn new() -> io::Result<Self> {
        Self::of(|| Ok(IfWatcher::new()?.boxed()))
    }

    fn of(make: fn() -> io::Result<BoxStream<'static, Told>>) -> io::Result<Self> {
        Ok(Self {
            make,
            watcher: Some(make()?),
            again_at: platform::now(),
            alarm: Alarm::default(),
        })
    }

    /// What has changed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Change> {
        let Some(watcher) = &mut self.watcher else {
            ready!(self.alarm.poll_until(self.again_at, cx));
            return match (self.make)() {
                Ok(watcher) => {
                    self.watcher = Some(watcher);
                    Poll::Ready(Change::Anew)
                }
                Err(error) => self.rest(&error, cx),
            };
        };
        match ready!(watcher.poll_next_unpin(cx)) {
            Some(Ok(event)) => Poll::Ready(Change::One(event)),
            Some(Err(error)) => self.rest(&error, cx),
            None => self.rest(&io::ErrorKind::UnexpectedEof.into(), cx),
        }
    }

    /// Nothing is watched for a while.
    fn rest(&mut self, error: &io::Error, cx: &mut Context<'_>) -> Poll<Change> {
        tracing::warn!(%error, "the interfaces are not watched for a while");
        self.watcher = None;
        self.again_at = platform::now() + PAUSE;
        self.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use futures::stream;

    use super::*;

    /// As that of if-watch does once its socket is closed.
    fn fails() -> io::Result<BoxStream<'static, Told>> {
        let error = || Err(io::ErrorKind::BrokenPipe.into());
        Ok(stream::repeat_with(error).boxed())
    }

    #[test]
    fn a_watcher_that_fails_is_asked_no_more_and_another_is_made_later() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut watch = Watch::of(fails).expect("it begins");
        for _ in 0..3 {
            assert!(watch.poll(&mut cx).is_pending());
        }
        assert!(watch.watcher.is_none());
        watch.again_at = platform::now();
        watch.make = || Ok(stream::pending().boxed());
        assert!(matches!(watch.poll(&mut cx), Poll::Ready(Change::Anew)));
        assert!(watch.watcher.is_some() && watch.poll(&mut cx).is_pending());
    }
}
