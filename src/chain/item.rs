//! What travels: blocks, transactions and votes, opaque to the network, and the names that a chain gives them.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Application, Checked};
use crate::chain::TransactionKey;

/// The three kinds of item that gossip carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ItemKind {
    /// A consensus vote.
    Vote,
    /// A block.
    Block,
    /// A transaction.
    Transaction,
}

impl ItemKind {
    /// All kinds, highest priority first.
    pub const ALL: [Self; 3] = [Self::Vote, Self::Block, Self::Transaction];

    /// The kind's name in topics and in JavaScript.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vote => "vote",
            Self::Block => "block",
            Self::Transaction => "transaction",
        }
    }
}

impl fmt::Display for ItemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An item with its kind: what gossip carries and subscribers receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A block.
    Block(Block),
    /// A transaction.
    Transaction(Transaction),
    /// A consensus vote.
    Vote(Vote),
}

impl Item {
    /// Bytes of a kind, as an item.
    pub fn new(kind: ItemKind, data: impl Into<Bytes>) -> Self {
        match kind {
            ItemKind::Block => Self::Block(Block::new(data)),
            ItemKind::Transaction => Self::Transaction(Transaction::new(data)),
            ItemKind::Vote => Self::Vote(Vote::new(data)),
        }
    }

    /// Which kind this is.
    pub fn kind(&self) -> ItemKind {
        match self {
            Self::Block(_) => ItemKind::Block,
            Self::Transaction(_) => ItemKind::Transaction,
            Self::Vote(_) => ItemKind::Vote,
        }
    }

    /// The item's bytes, as the chain serialises it.
    pub fn data(&self) -> &Bytes {
        match self {
            Self::Block(block) => &block.data,
            Self::Transaction(transaction) => &transaction.data,
            Self::Vote(vote) => &vote.data,
        }
    }

    /// Asks the application for the item's identity and verdict.
    pub fn check(&self, application: &dyn Application) -> Checked {
        match self {
            Self::Block(block) => application.check_block(block),
            Self::Transaction(transaction) => {
                let key = TransactionKey::of(&transaction.data);
                application.check_transaction_by_key(transaction, &key)
            }
            Self::Vote(vote) => application.check_vote(vote),
        }
    }
}

macro_rules! opaque_bytes {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
        pub struct $name {
            /// The chain's own serialisation; the network never looks inside.
            pub data: Bytes,
        }

        impl $name {
            /// Wraps bytes as the chain serialises them.
            pub fn new(data: impl Into<Bytes>) -> Self {
                Self { data: data.into() }
            }
        }
    };
}

opaque_bytes!(
    /// A block, opaque to the network.
    Block
);
opaque_bytes!(
    /// A transaction, opaque to the network.
    Transaction
);
opaque_bytes!(
    /// A consensus vote, opaque to the network.
    Vote
);

/// The identity that a chain gives an item: at most 64 bytes, shown in lower-case hex in
/// the order in which that chain's people write it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ItemId {
    bytes: [u8; Self::MAX],
    length: u8,
}

impl ItemId {
    /// The longest identity, in bytes.
    pub const MAX: usize = 64;

    /// An identity from bytes in display order; `None` when longer than [`ItemId::MAX`].
    pub fn new(id: &[u8]) -> Option<Self> {
        let length = u8::try_from(id.len()).ok()?;
        let mut bytes = [0; Self::MAX];
        bytes.get_mut(..id.len())?.copy_from_slice(id);
        Some(Self { bytes, length })
    }

    /// The SHA-256 of the bytes: the identity of items without structure.
    pub fn sha256(data: &[u8]) -> Self {
        Self::of_key(&TransactionKey::of(data))
    }

    /// The same of a transaction whose SHA-256 is known.
    pub fn of_key(key: &TransactionKey) -> Self {
        let mut bytes = [0; Self::MAX];
        for (to, from) in bytes.iter_mut().zip(key.as_bytes()) {
            *to = *from;
        }
        Self { bytes, length: 32 }
    }

    /// The identity's bytes, in display order.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.as_bytes()))
    }
}

impl fmt::Debug for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ItemId({self})")
    }
}
