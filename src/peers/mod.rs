//! Who may stay: reputation, bans and places.
//!
//! State machines without I/O: what happened and `now` go in, decisions come out. The thin
//! `NetworkBehaviour` that acts on them is `network/gate.rs`.

mod bans;
mod info;
mod places;
mod reputation;

pub use bans::Bans;
pub use info::{Direction, PeerInfo, PeerInfoError};
pub use places::Places;
pub use reputation::{Judgement, Misdeed, Reputation};
