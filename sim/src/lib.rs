//! # Real Selkie nodes by the hundred, in virtual time
//!
//! A [`Simulation`] runs nodes of the crate `selkie`, whole and unchanged above their sockets: the same swarm, Noise, Yamux,
//! lanes, propagation and checks as in a process of their own. All of them run on one thread, over a network that is made of
//! figures, by a clock that goes on when nobody has anything left to do. All randomness follows from a seed, so a run can be repeated
//! bit by bit, and proves it by a hash over every byte that was carried and every event that was told.
//!
//! ## How it holds together
//!
//! | where | what |
//! | --- | --- |
//! | `host/` | clock and randomness below the standard library's, which Linux programs ask the C library for |
//! | `futures-timer/` | stands for that crate, by which libp2p and Selkie set timers |
//! | [`executor`] | whose turn it is |
//! | [`net`] | hosts, lines, paths, and what goes wrong on them |
//! | [`simulation`] | nodes in it: start, crash, restart |
//! | [`disk`] | what a chain writes, and loses with the power |
//! | [`scenario`] | what is simulated, as a TOML file: who is there, what happens, what must hold |
//! | [`baseline`] | nodes of plain gossipsub in the same network, and [`figures`] of both side by side |
//! | [`shrink`] | a smaller scenario that fails as a larger one does |
//! | [`run`] | a scenario, run; [`spread`] follows its items, [`deliveries`] counts those due, [`verdict`] says what held, [`report`] shows it |
//!
//! `cfg(selkie_sim)` gives the crate `selkie` its third skin, beside the native one and the browser's: two files, which ask this
//! crate for tasks and connections. One simulation a process: libp2p and others count things globally, so a second one
//! would differ from the first of its own process.

#[cfg(not(selkie_sim))]
compile_error!(
    "build with `--cfg selkie_sim`: docs/simulation.md, \"As a library\", has the .cargo/config.toml that does"
);

pub mod baseline;
pub mod deliveries;
pub mod disk;
pub mod executor;
pub mod figures;
mod healing;
pub mod net;
mod peering;
mod record;
pub mod report;
pub mod run;
pub mod scenario;
pub mod script;
pub mod shrink;
pub mod simulation;
pub mod spread;
pub mod topology;
pub mod verdict;

pub use scenario::{Scenario, ScenarioError};
pub use simulation::{Failure, Simulation, panicked_at, simulate, simulate_within};
