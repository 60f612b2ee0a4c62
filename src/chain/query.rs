//! Questions about the chain's state, and their answers (ABCI's Query).
//!
//! A [`StateRequest`] asks for what a peer has, and what its answer is worth is for the chain to say. A [`StateBatch`] asks for many keys in one state that is
//! trusted here, which it names by its root. So a peer can't answer with another state, and one that does not have this one says so: whatever else it answers is
//! false. That is what watching the state rests on ([`crate::P2PNetworkManager::watch_state`]).

use bytes::Bytes;

/// The longest key in a [`StateRequest`], in bytes.
pub const MAX_STATE_KEY: usize = 1024;

/// The most keys in one [`StateBatch`].
pub const MAX_STATE_KEYS: usize = 64;

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

/// A root of the chain's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateRoot {
    /// The height of the block after which the state has it.
    pub height: u64,
    /// The root, in the chain's own form: 1 to [`MAX_STATE_ROOT`](super::MAX_STATE_ROOT) bytes.
    pub root: Bytes,
}

/// Keys whose values in one state are wanted, with a proof.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateBatch {
    /// The state.
    pub at: StateRoot,
    /// The keys: 1 to [`MAX_STATE_KEYS`], each of at most [`MAX_STATE_KEY`] bytes.
    pub keys: Vec<Bytes>,
}

/// The answer to a [`StateBatch`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProvenState {
    /// The keys' values in their order; empty where a key has none.
    pub values: Vec<Bytes>,
    /// What shows all of them to be so in the state that was named, in the chain's own form.
    pub proof: Bytes,
}

impl StateBatch {
    /// As how many messages it counts in a peer's limits: one for each eight keys, or part of them. Each key is a walk through a tree.
    pub(crate) fn costs(&self) -> u64 {
        self.keys.len().div_ceil(8).max(1) as u64
    }

    /// Whether an answer is one to this, before its proof is looked at.
    ///
    /// # Errors
    /// What is wrong with it; whoever gave it lies.
    pub(crate) fn is_answered_by(
        &self,
        at: &StateRoot,
        answer: &ProvenState,
    ) -> Result<(), &'static str> {
        if *at != self.at {
            Err("it is of another state than the one that was named")
        } else if answer.values.len() != self.keys.len() {
            Err("it has not a value for each key")
        } else {
            Ok(())
        }
    }
}
