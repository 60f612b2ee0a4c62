//! Items as the trees take them in and hand them on, and what came of a frame.

use bytes::Bytes;

use crate::{chain::TransactionKey, peers::Misdeed, traffic::Cost};

/// An item from a peer that is new here: to be checked by the chain, and to be concluded.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fresh {
    pub(crate) key: TransactionKey,
    pub(crate) data: Bytes,
    /// The fee rate that its announcer promised, if it was fetched.
    pub(crate) promised: Option<u64>,
}

/// An item that the chain has accepted.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    pub(crate) key: TransactionKey,
    pub(crate) data: Bytes,
    pub(crate) fee: u64,
}

/// What came of a frame.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Received {
    /// To be checked.
    pub(crate) fresh: Vec<Fresh>,
    /// What the sender pays for.
    pub(crate) misdeed: Option<Misdeed>,
    /// What it costs the sender in its limits that it sends what is here, and what it was asked not to.
    pub(crate) needless: Cost,
}

impl Received {
    /// Nothing but a misdeed.
    pub(crate) fn misdeed(misdeed: Misdeed) -> Self {
        Self::from(Some(misdeed))
    }
}

impl From<Option<Misdeed>> for Received {
    fn from(misdeed: Option<Misdeed>) -> Self {
        Self {
            misdeed,
            ..Self::default()
        }
    }
}

impl From<Cost> for Received {
    fn from(needless: Cost) -> Self {
        Self {
            needless,
            ..Self::default()
        }
    }
}

/// The fee per 1,000 bytes.
pub(crate) fn fee_rate(fee: u64, size: usize) -> u64 {
    let size = u128::try_from(size).unwrap_or(u128::MAX).max(1);
    u64::try_from(u128::from(fee) * 1000 / size).unwrap_or(u64::MAX)
}
