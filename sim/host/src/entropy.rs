//! Randomness from a seed, in the place of the kernel's.

use std::cell::RefCell;

use libc::{c_uint, c_void, size_t, ssize_t};

use crate::{Random, is_virtual};

struct Entropy {
    random: Random,
    taken: u64,
}

thread_local! {
    static ENTROPY: RefCell<Option<Entropy>> = const { RefCell::new(None) };
}

pub(crate) fn seed(seed: u64) {
    let random = Random::new(seed);
    ENTROPY.set(Some(Entropy { random, taken: 0 }));
}

/// How often randomness was asked for.
pub(crate) fn taken() -> u64 {
    ENTROPY.with_borrow(|entropy| entropy.as_ref().map_or(0, |entropy| entropy.taken))
}

/// The C library's function, for whoever is linked with this crate.
///
/// # Safety
/// As for that one: `buffer` has room for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, length: size_t, flags: c_uint) -> ssize_t {
    if !is_virtual() {
        // SAFETY: the arguments are the caller's.
        let taken = unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) };
        return ssize_t::try_from(taken).unwrap_or(-1);
    }
    if length > 0 {
        // SAFETY: the caller's buffer has room for so many bytes.
        let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
        ENTROPY.with_borrow_mut(|entropy| {
            let entropy = entropy.as_mut().expect("seeded before time is virtual");
            entropy.taken += 1;
            entropy.random.fill(bytes);
        });
    }
    ssize_t::try_from(length).unwrap_or(-1)
}
