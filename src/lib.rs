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
//! one task that owns the libp2p swarm. Every item, from a peer or our own, passes one door, the `intake`: its size, whether it
//! is known, and its sender's share of the room are looked at, the chain's [`Application`] judges it off
//! the network task, and only what is accepted is forwarded to other peers and delivered, once,
//! to the application and the subscribers of [`P2PNetworkManager::subscribe_events`].
//!
//! ## Where to look
//!
//! | module | what is there |
//! | --- | --- |
//! | [`config`], [`error`] | what a node is told, and what can be wrong with it |
//! | [`network`] | the handle, its task, the behaviour set, messages and their wire format |
//! | [`chain`] | what a chain plugs in: [`Application`], items and keys; Bitcoin as an example, a ledger with accounts and proofs, block files |
//! | `gossip` | plain topics, and the bridge to peers that speak only gossipsub |
//! | `intake` | the one door for items: size, known already, room, verdict, delivery |
//! | `lanes` | a peer's long-lived streams, which carry what propagates |
//! | [`propagation`] | transactions, blocks and votes on their way (state machines without I/O) |
//! | [`sync`] | how a node gets what it has missed: headers and blocks, the chain's state by snapshots, what changes of it; and serves them (state machines without I/O) |
//! | [`peers`] | who peers are and who may stay: reputation, bans, places, the address book (state machines without I/O) |
//! | [`traffic`] | how much a peer may ask and what goes to it first (state machines without I/O) |
//! | [`transport`] | how bytes reach a peer: one function per skin, and the transports that are our own |
//! | [`storage`] | the identity key, the address book's file; a small key-value store for chains |
//! | [`observe`] | figures about connections, messages and peers |
//! | `test_utils` | with the feature `test-utils`: nodes on a network in memory, for the tests of a chain |
//! | [`platform`] | the only place that knows the host: spawning, worker threads, timers |
//! | `web` | the browser's surface, compiled for wasm32 only |
//! | `debts`, `fields`, `frames`, `kept`, `keyed`, `merkle`, `order`, `remembered` | small pieces that several rooms share: what those who are gone owe, a walk over protobuf, length-framed messages and the room of the long ones, what outlives its frame, a hash of this node's own, those of a Merkle tree, sorting, the last so many names |
//! | `bin/selkie` | the command line: a program of its own beside the library |
//!
//! ## Bounds
//!
//! Every queue and table here has a limit, named in [`Config`] or as a constant beside it, and its
//! documentation says what is dropped when it is full.

// docs.rs says which feature and which target an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(clippy::disallowed_methods)]

#[cfg(test)]
extern crate self as selkie;

pub mod chain;
pub mod config;
mod debts;
pub mod error;
mod fields;
mod frames;
mod gossip;
mod intake;
mod kept;
mod keyed;
mod lanes;
mod merkle;
pub mod network;
pub mod observe;
mod order;
pub mod peers;
pub mod platform;
pub mod propagation;
mod remembered;
pub mod storage;
pub mod sync;
#[cfg(feature = "test-utils")]
pub mod test_utils;
pub mod traffic;
pub mod transport;
#[cfg(target_arch = "wasm32")]
pub mod web;

pub use chain::{
    Application, Block, Checked, Item, ItemId, ItemKind, StateRequest, StateResponse, Transaction,
    Verdict, Vote,
};
pub use config::{
    BlacklistConfig, ChainConfig, Config, ConfigField, ConnectionLimitsConfig, GossipsubConfig,
    IdentifyConfig, KademliaConfig, NetworkConfig, NoiseConfig, PeerScoringConfig, ProtocolConfig,
    Quantity, RateLimitConfig, RequestResponseConfig, SecurityConfig, TlsConfig,
};
pub use error::{ConfigError, DiscoveryError, NetworkError, ProtocolError};
#[doc(hidden)]
pub use gossip::check_gossip;
#[doc(hidden)]
pub use lanes::check_lane;
pub use libp2p::{Multiaddr, PeerId, identity::Keypair};
pub use network::mpsc;
pub use network::{
    NetworkEvent, NetworkMessage, P2PNetworkManager, ProtocolStream, StateWatch, TopicInfo,
};
pub use observe::{ConnectionMetrics, MessageMetrics, PeerMetrics};
pub use peers::{ConnectionInfo, PeerInfo};
pub use sync::StateChange;
#[doc(hidden)]
pub use sync::check_sync;

/// The README's Rust is run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
