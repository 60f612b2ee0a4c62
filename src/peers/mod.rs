//! Who may come, who may stay, and where to look for them: reputation, bans, places, and the policy on addresses.
//!
//! State machines without I/O: what happened and `now` go in, decisions come out. The thin
//! `NetworkBehaviour` that acts on them is `network/gate.rs`.

mod address_policy;
mod bans;
mod connected;
mod handshakes;
mod info;
mod places;
mod reputation;
mod scope;

pub use address_policy::{AddressPolicy, RefusedAddress};
pub use bans::Bans;
pub use connected::Connected;
pub use handshakes::{Crowded, Handshakes, Ticket};
pub use info::{Direction, PeerInfo, PeerInfoError};
pub use places::Places;
pub use reputation::{Judgement, Misdeed, Reputation};
pub use scope::{AddressGroup, Scope};
