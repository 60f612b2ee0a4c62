//! # Selkie: one peer, two skins
//!
//! Selkie is the network layer of a blockchain on [libp2p](https://libp2p.io). Linked into a native
//! node it speaks TCP, QUIC, WebSocket, WebTransport and WebRTC-direct; compiled to WebAssembly and imported from
//! npm it makes a browser tab a peer of the same network, which gossips blocks, transactions and
//! votes and checks them itself. Conditional compilation chooses the transports and the clock;
//! nothing above them knows which skin it wears.
//!
//! ## The data's way
//!
//! A caller holds a [`P2PNetworkManager`], a cheap handle. It sends commands over a bounded channel to
//! one task that owns the libp2p swarm. What arrives from peers goes the other way: the swarm hands
//! a gossiped item to the validation queue, the chain's [`Application`] judges it off
//! the network task, and only what is accepted is forwarded to other peers and delivered
//! to the subscribers of [`P2PNetworkManager::subscribe_events`].
//!
//! ## Where to look
//!
//! | module | what is there |
//! | --- | --- |
//! | [`network`] | the handle, its task, the behaviour set, messages and their wire format, configuration |
//! | [`transport`] | how bytes reach a peer: one function per skin, and the transports that are our own |
//! | [`peers`] | who may stay: reputation, bans, places (state machines without I/O) |
//! | [`traffic`] | how much a peer may ask and what goes to it first (state machines without I/O) |
//! | [`chain`] | what a chain plugs in: [`Application`], Bitcoin as the example, block files |
//! | [`observe`] | figures about connections, messages and peers |
//! | [`platform`] | the only place that knows the host: spawning, worker threads, executors |
//!
//! ## Bounds
//!
//! Every queue and table here has a limit, named in [`Config`] or as a constant beside it, and its
//! documentation says what is dropped when it is full.

#![deny(missing_docs)]

pub mod chain;
pub mod network;
pub mod observe;
pub mod peers;
pub mod platform;
pub mod relay;
pub mod storage;
pub mod traffic;
pub mod transport;
#[cfg(target_arch = "wasm32")]
pub mod web;

pub use chain::{Application, Checked, Item, ItemId, ItemKind, Verdict};
pub use libp2p::{Multiaddr, PeerId, identity::Keypair};
pub use network::mpsc;
pub use network::{
    BlacklistConfig, Block, ChainConfig, Config, ConfigError, DiscoveryError, GossipsubConfig,
    IdentifyConfig, KademliaConfig, NetworkConfig, NetworkError, NetworkEvent, NetworkMessage,
    NoiseConfig, P2PNetworkManager, PeerInfo, PeerScoringConfig, ProtocolConfig, ProtocolError,
    RateLimitConfig, RequestResponseConfig, SecurityConfig, StateRequest, StateResponse,
    Transaction, Vote,
};
pub use observe::{ConnectionMetrics, MessageMetrics, PeerMetrics};

/// The README's Rust is run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
