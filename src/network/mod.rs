//! The network: a handle, the task behind it, and what they say to peers.
//!
//! [`P2PNetworkManager`] is the handle; its task (`task.rs`) owns the swarm, whose behaviour
//! set (`behaviour.rs`) is the same on both skins.

mod answers;
mod behaviour;
mod circuits;
pub mod codec;
mod combined;
mod cores;
mod discovery;
mod event;
mod exchange;
mod gate;
mod guarded;
mod hello;
mod messages;
pub mod mpsc;
mod p2p;
pub mod protocol;
mod questions;
mod reasons;
mod requests;
mod routing;
mod shared;
mod starting;
mod state_watch;
pub(crate) mod streams;
mod task;
pub(crate) mod watching;

pub use event::{NetworkEvent, TopicInfo, TopicItem};
pub use p2p::P2PNetworkManager;
pub use protocol::NetworkMessage;
pub use state_watch::StateWatch;
pub use streams::ProtocolStream;
