//! Fast sync: a snapshot of the chain's state, fetched from several peers at once.
//!
//! A node that begins takes the state at a recent height instead of all blocks before it. Peers offer snapshots
//! ([`crate::chain::Snapshot`]); one whose state root is a final header's, or the configured checkpoint's, is fetched chunk by chunk from all who
//! have it, and given to the application. Each chunk is named by its BLAKE3 hash, and the hashes make the snapshot's root, so no chunk reaches the
//! application that is not the snapshot's, whoever sent it. Chunks come in groups of 16 KiB: an answer begins with the chaining values of
//! the chunk's groups, which merge to its hash, and then each group is checked by itself. So a wrong byte is known at once, and who sent it.
//!
//! The ideas are BitTorrent's (rarest first, the last pieces asked of several), Bao's and iroh's (checking within BLAKE3's tree), and those of CometBFT's
//! state sync (offer, apply, verdict), whose weaknesses are avoided: chunks that are only known to be wrong when all are applied, a sender blamed
//! for a snapshot that others made, a source that stalls at 99%. `docs/sync-snapshots.md` is the page for implementers.
//!
//! | file | what is there |
//! | --- | --- |
//! | `tree.rs`, `bitmap.rs`, `wire.rs` | a chunk's groups, sets of chunks, what peers say |
//! | `download.rs`, `download/`, `config.rs` | the state machine that takes a snapshot: its input, its output, its limits |
//! | `fetch.rs`, `source.rs`, `pace.rs` | in it: one snapshot's chunks, one peer, how fast that sends |
//! | `serving.rs`, `loaded.rs` | the state machine that gives snapshots to others |
//! | `node.rs`, `job.rs` | both in a node: over the lanes, with the chain |
//! | `taking.rs`, `giving.rs` | when one is looked for and begun; which are made and kept |

mod bitmap;
mod config;
mod download;
mod fetch;
mod giving;
mod job;
mod loaded;
mod node;
mod pace;
mod serving;
mod source;
mod taking;
pub mod tree;
pub mod wire;

#[cfg(test)]
mod network_tests;
#[cfg(test)]
mod node_tests;
#[cfg(test)]
mod serving_tests;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod vector_tests;

pub use bitmap::Bitmap;
pub use config::{Checkpoint, DownloadConfig, ServingConfig, SnapshotsConfig};
pub use download::{Action, Download, Memory, NoSnapshot, Outcome, Progress, Trust};
pub use loaded::{LoadError, Loaded};
pub use serving::{Action as ServingAction, Serving};
pub use wire::{HashedPiece, Message, Offer, Part, Piece, Reason, Refusal, Request};

pub(crate) use self::{
    job::Done,
    node::{Event, Heard, Snapshots},
    wire::{KEY, VERSION},
};
