//! The numbers of our channels, which are scarce: many a Chromium has 512 for the side that dials.
//!
//! A channel holds its number until it has closed, which is when the peer has reset its side of it too. So those that linger
//! and those that close count, and at [`MAX_OURS`] a stream waits until one has closed. A number that the peer does not give
//! back is lost for as long as the connection lasts: some peers never answer a reset that overtakes its stream's data. When most are lost the connection
//! breaks, and libp2p dials again.
//!
//! A peer may open channels under our numbers, so the browser can have none left before that. Then it throws, and that breaks the
//! connection too.

use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use web_sys::{RtcDataChannel, RtcDataChannelState};

use super::Error;
use crate::platform::{self, Instant, alarm::Alarm};

/// How many channels of ours a connection may have, open or not yet closed.
pub const MAX_OURS: usize = 400;

/// How long a peer may take to reset its side of a channel until its number counts as lost.
pub const RESET_TIME: Duration = Duration::from_secs(10);

/// How often it is looked for channels that have closed, while a stream waits for one.
const LOOK: Duration = Duration::from_secs(1);

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Numbers {
    taken: Vec<Taken>,
    looked: Option<Instant>,
    alarm: Alarm,
}

struct Taken {
    channel: RtcDataChannel,
    /// When it was first seen to close.
    closing: Option<Instant>,
}

impl Numbers {
    /// Ready when there may be one more channel.
    pub(super) fn poll_free(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while self.taken.len() >= MAX_OURS {
            if let Some(looked) = self.looked {
                ready!(self.alarm.poll_until(looked + LOOK, cx));
            }
            let now = platform::now();
            self.looked = Some(now);
            self.look(now)?;
        }
        Poll::Ready(Ok(()))
    }

    /// A channel of ours has come to be.
    pub(super) fn take(&mut self, channel: RtcDataChannel) {
        let closing = None;
        self.taken.push(Taken { channel, closing });
    }

    /// Forgets the channels that have closed; an error when most will not.
    fn look(&mut self, now: Instant) -> Result<(), Error> {
        self.taken
            .retain_mut(|taken| match taken.channel.ready_state() {
                RtcDataChannelState::Closed => false,
                RtcDataChannelState::Closing => {
                    taken.closing.get_or_insert(now);
                    true
                }
                _ => true,
            });
        let lost = |taken: &&Taken| {
            let closing = taken.closing;
            closing.is_some_and(|since| now.duration_since(since) >= RESET_TIME)
        };
        if self.taken.iter().filter(lost).count() > MAX_OURS / 2 {
            return Err(Error::Broken);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use js_sys::{Object, Reflect};
    use wasm_bindgen::JsCast;

    use super::*;
    use crate::platform::test;

    fn set(channel: &RtcDataChannel, state: &str) {
        Reflect::set(channel, &"readyState".into(), &state.into()).expect("a plain object");
    }

    /// As many as may be, in this state.
    fn full(state: &str) -> (Numbers, Vec<RtcDataChannel>) {
        let mut numbers = Numbers::default();
        let channels = (0..MAX_OURS).map(|_| {
            let channel = Object::new().unchecked_into();
            set(&channel, state);
            numbers.take(channel.clone());
            channel
        });
        let channels = channels.collect();
        (numbers, channels)
    }

    fn polled(numbers: &mut Numbers) -> Poll<Result<(), Error>> {
        // As if the last look were long ago.
        numbers.looked = None;
        numbers.poll_free(&mut Context::from_waker(futures::task::noop_waker_ref()))
    }

    #[test]
    fn direct_messages_find_numbers_as_fast_as_they_may_go() {
        let rate = crate::traffic::Limits::default().message.items;
        let rate = rate.expect("there is a limit");
        let linger = super::super::channel::LINGER.as_secs();
        let taken = rate.burst + rate.per_second * linger;
        assert!(
            usize::try_from(taken).is_ok_and(|taken| taken <= MAX_OURS),
            "{taken}"
        );
    }

    #[test]
    fn a_channel_that_has_closed_makes_room_and_one_that_closes_does_not() {
        let (mut numbers, channels) = full("open");
        assert!(polled(&mut numbers).is_pending());
        let [first, second, ..] = channels.as_slice() else {
            unreachable!()
        };
        set(first, "closing");
        assert!(polled(&mut numbers).is_pending());
        set(second, "closed");
        assert!(matches!(polled(&mut numbers), Poll::Ready(Ok(()))));
    }

    #[test]
    fn a_peer_that_keeps_most_numbers_loses_the_connection_and_one_that_is_slow_does_not() {
        let (mut numbers, channels) = full("closing");
        let now = platform::now();
        assert!(numbers.look(now).is_ok());
        let just_before = now + RESET_TIME - Duration::from_millis(1);
        assert!(numbers.look(just_before).is_ok());
        for channel in channels.iter().skip(MAX_OURS / 2) {
            set(channel, "closed");
        }
        assert!(numbers.look(now + RESET_TIME).is_ok(), "half is not most");
        let (mut numbers, _) = full("closing");
        assert!(numbers.look(now).is_ok());
        assert!(matches!(numbers.look(now + RESET_TIME), Err(Error::Broken)));
    }
}
