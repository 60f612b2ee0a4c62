//! Time and randomness, the only way to either.
//!
//! The two skins differ below `web_time`, `futures_timer` and `getrandom`, so one file serves both. Nobody else names those
//! crates: where this file gives another clock and another source of randomness, a whole node runs in virtual time. Cores take
//! neither: `now` and seeds are handed to them.

use std::io;

pub use futures_timer::Delay;
pub use web_time::{Instant, SystemTime};

/// The moment: never goes back, says nothing of the date.
#[allow(clippy::disallowed_methods, reason = "the one place")]
pub fn now() -> Instant {
    Instant::now()
}

/// The date, as the host has it: it may jump both ways, so it is for showing and no measure of what went by.
#[allow(clippy::disallowed_methods, reason = "the one place")]
pub fn date() -> SystemTime {
    SystemTime::now()
}

/// Fills with random bytes that no peer can guess.
///
/// # Errors
/// The host has none to give.
pub fn random(bytes: &mut [u8]) -> io::Result<()> {
    getrandom::fill(bytes)
        .map_err(|error| io::Error::other(format!("the system gives no random numbers: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn random_bytes_differ_and_time_goes_on() {
        let (mut one, mut other, before) = ([0; 16], [0; 16], now());
        random(&mut one).expect("random bytes");
        random(&mut other).expect("random bytes");
        assert_ne!(one, other);
        assert!(now() >= before);
    }
}
