//! The host: what differs between a native process, a browser and a simulation besides transports and storage.
//!
//! Sibling files with identical signatures: [`spawn`] starts a task, [`offload`] runs a slow function off
//! the network task, [`guarded`] and [`guard`] outlive a panic where the host can, an [`Executor`] runs
//! connections, [`sent_for`] is asked of each frame, [`digits`] writes a number. Time, timers and randomness are the same on all ([`now`], [`date`], [`Delay`], [`random`]).
//! In tests, `test` is the attribute of that skin: a unit test that imports it has one body and runs on both.

pub(crate) mod alarm;
mod clock;
pub(crate) mod lock;

#[cfg(target_arch = "wasm32")]
mod browser;
#[cfg(not(any(target_arch = "wasm32", selkie_sim)))]
mod native;
#[cfg(selkie_sim)]
pub mod simulated;

#[cfg(target_arch = "wasm32")]
pub use browser::{Executor, digits, guard, guarded, offload, sent_for, spawn, turn_is_over};
#[cfg(not(any(target_arch = "wasm32", selkie_sim)))]
pub use native::{Executor, digits, guard, guarded, offload, sent_for, spawn, turn_is_over};
#[cfg(selkie_sim)]
pub use simulated::{Executor, digits, guard, guarded, offload, sent_for, spawn, turn_is_over};

pub use clock::{Delay, Instant, SystemTime, date, now, random};

#[cfg(all(test, target_arch = "wasm32"))]
pub use browser::test;
#[cfg(all(test, not(any(target_arch = "wasm32", selkie_sim))))]
pub use native::test;
