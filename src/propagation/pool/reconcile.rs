//! Two nodes compare their transaction pools, and say only what differs.
//!
//! Transactions are announced as they come; what a node missed (it was not connected, a queue was full, a peer withheld
//! it) it learns here, on connecting and now and then after. The cost is about 23 bytes a difference, whatever the
//! pools' sizes and with no guess beforehand of how much differs: rateless invertible Bloom lookup tables
//! (Yang, Gilad, Alizadeh: "Practical Rateless Set Reconciliation", SIGCOMM 2024). A set becomes an endless series of
//! coded symbols, any first `1.35 d` of which suffice to find `d` differences from a set like it.
//!
//! ```text
//! initiator                                   responder
//!     | request: salt, pool size                  |
//!     | ----------------------------------------> |
//!     |    answer: salt, pool size, first symbols |
//!     | <---------------------------------------- |   subtracts its own symbols, peels; complete?
//!     | more: up to symbol n                      |   else the counts tell about how much differs
//!     | ----------------------------------------> |
//!     |                     symbols, symbols, ... |
//!     | <---------------------------------------- |
//!     | want: short ids that only you hold        |
//!     | ----------------------------------------> |   Serve: the keys wanted
//!   Lacking: the keys that only we hold           |
//! ```
//!
//! | file | what is there |
//! | --- | --- |
//! | `coding.rs` | short ids, which element is in which symbol, the encoder |
//! | `decoder.rs` | their symbols less ours, peeled |
//! | `wire.rs` | the messages |
//! | `awaited.rs` | what was wanted, to be known when it comes |
//! | `session.rs` | what both sides share: actions, outcomes, faults, grants of symbols |
//! | `initiator.rs`, `responder.rs` | the two state machines |
//!
//! `docs/reconcile.md` is the page for implementers.
//!
//! **Bounds.** A session looks at a [`Snapshot`] of at most [`MAX_POOL`] keys, shared with other sessions, and keeps 36
//! bytes a key of its own; it moves at most [`MAX_SYMBOLS`] symbols, 48 bytes each while it lasts, and ends after
//! [`MAX_DURATION`] at the latest. Pools that differ by more than about 24,000 are [`Outcome::TooDifferent`], which
//! is nobody's fault: what then follows (announce everything, or nothing) is the caller's choice. The caller also
//! holds each peer to one session a direction at a time, limits how often one may begin (a request of 20 bytes costs
//! the responder some 15 ms for 100,000 keys), and declines by [`Responder::decline`] what goes beyond the sessions
//! that it has memory for.
//!
//! **What a call costs**, for 100,000 keys: hashing and sorting them when a session begins is the most, then each
//! request for symbols walks over them once. Sessions own all that they need and are `Send`, so they may run apart from
//! the network's task.

mod awaited;
mod coding;
mod decoder;
mod initiator;
mod responder;
mod session;
mod wire;

#[cfg(test)]
mod attack_tests;
#[cfg(test)]
mod session_tests;
#[cfg(test)]
mod vector_tests;

pub use awaited::Awaited;
pub(crate) use coding::KEY_BYTES;
pub use initiator::Initiator;
pub use responder::Responder;
pub use session::{Action, Fault, Outcome, Snapshot, TooManyKeys};
pub use wire::{Answer, GiveUp, Message, More, Request, Run, Symbols, Want};

use std::time::Duration;

/// The most keys in a pool that takes part.
pub const MAX_POOL: u32 = 1 << 18;

/// The most symbols of a session: enough for about 24,000 differences, 430 kB.
pub const MAX_SYMBOLS: u32 = 1 << 15;

/// The most symbols that one request may ask for beyond those asked for before, so that no single one costs the responder
/// more than a walk over its pool and 55 kB.
pub const MAX_GRANT: u32 = 1 << 12;

/// The most symbols in one message.
pub const MAX_RUN: u32 = 256;

/// The longest message, in bytes: a [`Want`] with as many short ids as a session has symbols.
pub const MAX_MESSAGE: usize = 8 * (1 << 15) + 64;

/// The longest that a session lasts. Whoever is slower than that is let go.
pub const MAX_DURATION: Duration = Duration::from_secs(30);
