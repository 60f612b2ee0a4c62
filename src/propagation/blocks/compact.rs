//! Compact blocks: a block travels as its header and six bytes for each transaction.
//!
//! When a block is found, its transactions have mostly travelled already. So a node sends what the receiver
//! cannot know (the header, the coinbase) and names the rest by short ids; the receiver looks them up among the
//! transactions it holds and asks for the few it lacks. A full block of 1 MB costs about 20 KB.
//!
//! The algorithm is BIP-152's, with ids of our own: a transaction is named by its [`TransactionKey`], so that
//! any chain whose [`Application`] can split a block fits; opaque blocks are announced and travel whole.
//! `docs/blocks.md` is the page for implementers.
//!
//! | file | what is there |
//! | --- | --- |
//! | `short_id.rs` | six bytes of keyed SipHash-2-4 |
//! | `message.rs`, `wire.rs`, `rows.rs` | what peers say, and its bytes |
//! | `compact_block.rs` | a block made compact: what is named, what is sent along |
//! | `reconstruction.rs` | a compact block and a pool made a block |
//! | `high_bandwidth.rs` | the three peers that are asked to send compact blocks unasked |
//! | `choice.rs` | in which form a block goes to a peer: what the caller's hook is asked and answers, and BIP-152's choice |
//! | `compact_blocks.rs`, `actions.rs` | the state machine of a node: its input and its output |
//! | `downloads.rs`, `downloads/places.rs`, `download.rs`, `pace.rs`, `peers.rs`, `waiting.rs` | blocks on their way to us, whom we ask, how they answer, and which begin |
//! | `recent.rs`, `part.rs` | blocks here, kept to be served, and what goes out of one, a piece at a time |
//!
//! Nothing here is trusted for a short id: a collision and a lie look the same, so neither is ever punished. What
//! follows is the whole block from the same peer, and only a wrong one of those costs it reputation.
//!
//! [`TransactionKey`]: crate::chain::TransactionKey
//! [`Application`]: crate::chain::Application

mod actions;
mod choice;
mod compact_block;
mod compact_blocks;
mod config;
mod download;
mod downloads;
mod high_bandwidth;
mod message;
mod pace;
mod part;
mod peers;
mod recent;
mod reconstruction;
mod rows;
mod short_id;
mod waiting;
mod wire;

#[cfg(test)]
mod attack_tests;
#[cfg(test)]
mod liar_tests;
#[cfg(test)]
mod network_tests;
#[cfg(test)]
mod node_tests;
#[cfg(test)]
mod request_tests;
#[cfg(test)]
mod serving_tests;
#[cfg(test)]
pub(in crate::propagation) mod test_chain;
#[cfg(test)]
mod vector_tests;

pub use actions::{Action, BlockCheck, HeaderCheck, Join, Matched, Matching};
pub use choice::{Choice, Form, Offer, choose};
pub use compact_block::{CompactBlock, Prefilled};
pub use compact_blocks::CompactBlocks;
pub use config::CompactConfig;
pub use high_bandwidth::{Change, HighBandwidth};
pub use message::{
    Announcement, BlockMessage, GetBlock, MissingTransactions, Transactions, WholeBlock,
};
pub use part::{Part, Places, Sending};
pub use reconstruction::{Reconstruction, SupplyError, TooLarge};
pub use short_id::{ShortId, ShortIdKey};

/// The most transactions in a compact block; a block with more travels whole. As in BIP-152, indexes have 16 bits.
pub const MAX_TRANSACTIONS: usize = 65_536;

/// The longest header, in bytes.
pub const MAX_HEADER: usize = 16 * 1024;

/// The most bytes of transactions that a compact block may bring along. Senders stay far below: see
/// [`CompactConfig::max_prefill_bytes`]; but a first transaction is sent along whatever its size up to this.
pub const MAX_PREFILLED_BYTES: usize = 256 * 1024;

/// The most bytes of a message between peers, where a block has at most `max_block_bytes`: room for the lengths or
/// short ids of [`MAX_TRANSACTIONS`], the prefilled transactions and a header.
pub fn max_message_bytes(max_block_bytes: usize) -> usize {
    max_block_bytes.saturating_add(1024 * 1024)
}
