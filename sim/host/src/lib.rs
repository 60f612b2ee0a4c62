//! A clock and a source of randomness below everything that runs on one thread.
//!
//! Rust's standard library asks the C library for the time (`clock_gettime`) and for randomness (`getrandom`), and so do the
//! crates. This crate defines both symbols anew, and the older ones for the date (`gettimeofday`, `time`), and the linker takes these: on a thread
//! that has called [`begin`] the clock stands still until [`clock::advance`] moves it, and all randomness follows from a seed. All other threads
//! get the system's.
//!
//! Only a program that passes by the C library passes by this. For the system call `getrandom` a filter of the kernel stands there ([`trap::set`]),
//! and ends the process. The time can be had without any (the kernel's shared page, a counter of the processor), and nothing ends whoever
//! reads it so: that shows in the hash only.
//!
//! A third symbol is that which starts threads (`pthread_create`): on a thread in virtual time it ends the process.
//!
//! Linux only.

pub mod clock;
mod cost;
mod entropy;
mod random;
mod thread;
pub mod trap;

pub use cost::{cpu_time, peak_memory};
pub use random::Random;

use std::cell::Cell;

thread_local! {
    /// Whether this thread lives in virtual time.
    static VIRTUAL: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread lives in virtual time.
pub fn is_virtual() -> bool {
    VIRTUAL.get()
}

/// From now on this thread lives in virtual time, and its randomness follows from the seed.
///
/// # Errors
/// The standard library's clock or randomness is not this crate's: it was linked in another way, or this thread has
/// made a hash table before.
pub fn begin(seed: u64) -> Result<(), &'static str> {
    entropy::seed(seed);
    VIRTUAL.set(true);
    let before = entropy::taken();
    // The standard library asks once a thread.
    let _ = std::hash::RandomState::new();
    if entropy::taken() == before {
        return Err(
            "the standard library's randomness is not the seed's: a simulation needs a fresh thread",
        );
    }
    if !clock::is_below_std() {
        return Err("the standard library's clock is not the virtual one");
    }
    Ok(())
}
