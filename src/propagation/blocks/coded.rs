//! Coded broadcast: a large block travels in chunks, of which any half is enough.
//!
//! A block that comes as a surprise (a cold mempool, a chain with opaque blocks) cannot travel in compact form.
//! Gossip would have every node receive it whole before it sends it on to six others, while most uplinks are idle. Here
//! the source cuts the block into k chunks and adds as many of parity (Reed-Solomon), announces the Merkle root over
//! all of them, and sends each to one peer only; every node passes a chunk on as soon as it has checked it, long before
//! it has the block. So all uplinks work at once, and the last node has the block little after the source has uploaded
//! it once.
//!
//! The ideas are those of ethp2p (Ethereum Foundation, 2026): chunks passed on before reconstruction, bitmaps of
//! what is held, the least-sent chunk first, an end to sending as soon as a node can decode. Different is that past the
//! first hop chunks are asked for instead of pushed, which halves the bytes and costs no time but in small blocks.
//! `docs/coded.md` is the page for implementers.
//!
//! | file | what is there |
//! | --- | --- |
//! | `shape.rs`, `merkle.rs`, `encoding.rs` | a block made chunks, and chunks a block |
//! | `announcement.rs`, `chunk.rs`, `chunk_set.rs`, `wire.rs` | what peers say, and its bytes |
//! | `broadcasts.rs`, `config.rs`, `actions.rs` | the state machine of a node: its limits, its input and its output |
//! | `broadcast.rs`, `sending.rs`, `asking.rs` | one broadcast in it: what is here, what goes to a peer, what is asked of whom |
//! | `link.rs`, `peers.rs` | a peer's part in a broadcast, and in all |

mod actions;
mod announcement;
mod asking;
mod broadcast;
mod broadcasts;
mod chunk;
mod chunk_set;
mod config;
mod encoding;
mod link;
mod merkle;
mod peers;
mod sending;
mod shape;
mod wire;

#[cfg(test)]
mod attack_tests;
#[cfg(test)]
mod chaos_tests;
#[cfg(test)]
mod flood_tests;
#[cfg(test)]
mod gossip_model;
#[cfg(test)]
mod network_tests;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod test_node;
#[cfg(test)]
mod vector_tests;

pub use actions::{Abandonment, Action, Fate};
pub use announcement::{Announcement, BroadcastId, MAX_HEADER};
pub use broadcasts::{Broadcasts, NoRoom};
pub use chunk::Chunk;
pub use chunk_set::ChunkSet;
pub use config::CodedConfig;
pub use encoding::{EncodeError, Encoded, InconsistentCoding, Reconstruction};
pub use shape::{MAX_BLOCK, MAX_CHUNKS, Shape};
pub use wire::{Announce, Frame, MAX_FRAME, Status};
