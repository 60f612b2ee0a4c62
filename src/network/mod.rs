//! The network: a handle, the task behind it, and what they say to peers.
//!
//! [`P2PNetworkManager`] is the handle; its task (`task.rs`) owns the swarm, whose behaviour
//! set (`behaviour.rs`) is the same on both skins.

mod alarm;
mod behaviour;
pub mod codec;
mod config;
mod discovery;
mod error;
mod event;
mod gate;
mod judged;
mod lock;
pub mod mpsc;
mod p2p;
pub mod protocol;
pub(crate) mod relay;
mod requests;
mod task;
mod validation;

pub use config::{
    BlacklistConfig, ChainConfig, Config, GossipsubConfig, IdentifyConfig, KademliaConfig,
    NetworkConfig, NoiseConfig, PeerScoringConfig, ProtocolConfig, RateLimitConfig,
    RequestResponseConfig, SecurityConfig, ValidationConfig,
};
pub use discovery::{Direction, PeerInfo, PeerInfoError};
pub use error::{ConfigError, DiscoveryError, NetworkError, ProtocolError};
pub use event::{NetworkEvent, TopicItem};
pub use p2p::P2PNetworkManager;
pub use protocol::{Block, NetworkMessage, StateRequest, StateResponse, Transaction, Vote};
