//! What a chain plugs in: the meaning of blocks, transactions and votes.
//!
//! The network moves bytes; the chain decides. [`Application`] is the border between them, in the terms of
//! CometBFT's ABCI where it has one. [`Opaque`] is the default, which takes any bytes;
//! [`bitcoin::Bitcoin`] shows that a chain whose identities are its own fits without a wrapper.
//! [`block_file`] reads blocks that other software wrote, to replay them.

mod application;
pub mod bitcoin;
pub mod block_file;
mod opaque;

pub use application::{Application, BlockParts, Checked, Item, ItemId, ItemKind, Verdict};
pub use opaque::Opaque;
