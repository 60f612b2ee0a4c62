//! A peer's first words, and its answers: an error or words that may be printed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use selkie::network::protocol::{check_answer, check_hello};

fuzz_target!(|data: &[u8]| {
    for said in [check_hello(data), check_answer(data)].into_iter().flatten() {
        assert!(said.chars().count() <= 1024 && !said.contains(char::is_control));
    }
});
