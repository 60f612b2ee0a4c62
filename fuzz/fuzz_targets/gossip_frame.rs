//! A plain peer's bytes as a frame of gossipsub: what passes the sieve is no longer than what came, and passes again as it is.

#![no_main]

use libfuzzer_sys::fuzz_target;
use selkie::check_gossip;

fuzz_target!(|data: &[u8]| {
    if let Ok(passed) = check_gossip(data) {
        // Lengths may be written longer than they need be, and a pause shorter than it was.
        assert!(passed <= data.len() + 32);
    }
});
