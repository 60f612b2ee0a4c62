//! Questions about the chain's state, and their answers (ABCI's Query).

use bytes::Bytes;

/// The longest key in a [`StateRequest`], in bytes.
pub const MAX_STATE_KEY: usize = 1024;

/// A question about the chain's state (ABCI's Query).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateRequest {
    /// The key, at most [`MAX_STATE_KEY`] bytes.
    pub key: Bytes,
    /// The height at which to look; `None` for the latest.
    pub height: Option<u64>,
}

/// The answer to a [`StateRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateResponse {
    /// The height that the answer is about.
    pub height: u64,
    /// The value; empty where the key has none.
    pub value: Bytes,
    /// The proof, in the chain's own form; empty where it has none.
    pub proof: Bytes,
}
