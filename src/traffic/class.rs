//! What kind of traffic a message is, and so who goes first.

/// The kinds of traffic between two peers, highest priority first.
///
/// What becomes of a message for which a peer's queue ([`super::Scheduler`]) has no room is its sender's decision, and
/// this is the policy: nobody waits for a slow peer, except who serves it with bulk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Consensus votes. A vote is refused only when this class is full by votes alone: the peer is too slow for
    /// consensus, and the vote reaches it by others.
    Vote,
    /// Requests for blocks and for missing transactions of a block, and that one has arrived: a few bytes each, so that they go between two frames of
    /// blocks and hold up none. Requests are made when there is room; what else is refused is dropped.
    BlockRequest,
    /// Blocks, whole, compact or as chunks, and what chunks are wanted. What is refused is dropped; of a block that it would have told
    /// the peer is told when there is room, and for the rest the peer asks again.
    Block,
    /// Announcements of transactions, requests for them and their bytes. What is refused is dropped; reconciliation
    /// finds it later.
    Transaction,
    /// Ranges of blocks, snapshots, proofs. The server holds its answer back until there is room.
    Sync,
}

/// The ways of one peer: a driver gives each a stream of its own, so that no block stands before a vote and no bulk
/// before either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Votes.
    Urgent,
    /// Requests for blocks, and blocks: strict priority in this order.
    Block,
    /// The rest: deficit round robin.
    Bulk,
}

impl Lane {
    /// All lanes, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Urgent, Self::Block, Self::Bulk];

    /// The classes that travel here, highest priority first.
    pub fn classes(self) -> &'static [Class] {
        match self {
            Self::Urgent => &[Class::Vote],
            Self::Block => &[Class::BlockRequest, Class::Block],
            Self::Bulk => &[Class::Transaction, Class::Sync],
        }
    }

    /// Its place in [`Lane::ALL`].
    pub fn place(self) -> usize {
        match self {
            Self::Urgent => 0,
            Self::Block => 1,
            Self::Bulk => 2,
        }
    }
}

impl Class {
    /// All classes, highest priority first.
    pub const ALL: [Self; 5] = [
        Self::Vote,
        Self::BlockRequest,
        Self::Block,
        Self::Transaction,
        Self::Sync,
    ];

    /// Its place in [`Class::ALL`].
    pub fn place(self) -> usize {
        match self {
            Self::Vote => 0,
            Self::BlockRequest => 1,
            Self::Block => 2,
            Self::Transaction => 3,
            Self::Sync => 4,
        }
    }

    /// The lane on which the class travels.
    pub fn lane(self) -> Lane {
        match self {
            Self::Vote => Lane::Urgent,
            Self::BlockRequest | Self::Block => Lane::Block,
            Self::Transaction | Self::Sync => Lane::Bulk,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn each_class_has_its_place_and_one_lane() {
        for (place, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(class.place(), place);
            assert!(class.lane().classes().contains(&class));
        }
        let classes: Vec<_> = Lane::ALL.iter().flat_map(|lane| lane.classes()).collect();
        assert_eq!(classes, Class::ALL.iter().collect::<Vec<_>>());
    }
}
