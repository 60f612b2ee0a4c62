//! What is limited by itself, and how: the table that both ends of a connection may hold.

use super::{class::Class, rate_limit::Rate};

/// What is limited by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Direct messages, `/selkie/<network-id>/message/1`.
    Message,
    /// What a peer tells of itself by identify: each telling counts 10.
    Identify,
    /// What a peer says by gossipsub that is of no use: of topics that nobody joined here, or more control messages than a frame may hold.
    /// What is of use has paces of its own ([`GossipsubConfig`](crate::GossipsubConfig)).
    Gossip,
    /// What peers tell and ask of other peers, by direct messages, identify and Kademlia.
    Discovery,
    /// What travels on the lanes, by its class.
    Lane(Class),
    /// Frames on the lanes, whatever is in them.
    Frame,
}

/// Useless things that a peer may say by gossip without paying: what it sent while a topic was left here is no fault of its own.
pub(crate) const USELESS: Rate = Rate {
    per_second: 10,
    burst: 100,
};

/// The limits of one protocol. `None`: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Votes, announced transactions, blocks asked for: whatever the messages of the protocol hold.
    pub items: Option<Rate>,
    /// Bytes.
    pub bytes: Option<Rate>,
}

/// The limits of every protocol, the same for every peer.
///
/// | protocol | items a second | at once | bytes a second | at once |
/// | --- | --- | --- | --- | --- |
/// | `message` | 100 | 200 | 8 MiB | 16 MiB |
/// | `identify` | 1 | 50 | | |
/// | `gossip` | 10 | 100 | | |
/// | `vote` | 20,000 | 5,000 | 8 MiB | 16 MiB |
/// | `block` | 10,000 | 20,000 | 64 MiB | 128 MiB |
/// | `block_request` | 1,000 | 2,000 | 1 MiB | 4 MiB |
/// | `transaction` | 1,000,000 | 2,000,000 | 512 MiB | 512 MiB |
/// | `sync` | 1,000 | 2,000 | 64 MiB | 64 MiB |
/// | `discovery` | 10 | 64 | 64 KiB | 512 KiB |
/// | `frame` | 10,000 | 5,000 | | |
///
/// Bytes are unpacked ones. A frame counts as one of `frame` beside what is in it, so that one without items is not free.
///
/// These are the defaults: far above what a network of half a million transactions a second asks of one peer, and below what hurts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Limit of [`Protocol::Message`].
    pub message: Limit,
    /// Limit of [`Protocol::Identify`].
    pub identify: Limit,
    /// Limit of [`Protocol::Gossip`].
    pub gossip: Limit,
    /// Limit of [`Class::Vote`].
    pub vote: Limit,
    /// Limit of [`Class::Block`].
    pub block: Limit,
    /// Limit of [`Class::BlockRequest`].
    pub block_request: Limit,
    /// Limit of [`Class::Transaction`].
    pub transaction: Limit,
    /// Limit of [`Class::Sync`].
    pub sync: Limit,
    /// Limit of [`Protocol::Discovery`].
    pub discovery: Limit,
    /// Limit of [`Protocol::Frame`].
    pub frame: Limit,
}

impl Default for Limits {
    fn default() -> Self {
        let rate = |per_second, burst| Some(Rate { per_second, burst });
        let limit = |items, bytes| Limit { items, bytes };
        Self {
            message: limit(rate(100, 200), rate(8 << 20, 16 << 20)),
            identify: limit(rate(1, 50), None),
            gossip: limit(Some(USELESS), None),
            vote: limit(rate(20_000, 5000), rate(8 << 20, 16 << 20)),
            block: limit(rate(10_000, 20_000), rate(64 << 20, 128 << 20)),
            block_request: limit(rate(1000, 2000), rate(1 << 20, 4 << 20)),
            transaction: limit(rate(1_000_000, 2_000_000), rate(512 << 20, 512 << 20)),
            sync: limit(rate(1000, 2000), rate(64 << 20, 64 << 20)),
            discovery: limit(rate(10, 64), rate(64 << 10, 512 << 10)),
            frame: limit(rate(10_000, 5000), None),
        }
    }
}

impl Limits {
    pub(super) fn of(&self, protocol: Protocol) -> Limit {
        match protocol {
            Protocol::Message => self.message,
            Protocol::Identify => self.identify,
            Protocol::Gossip => self.gossip,
            Protocol::Lane(Class::Vote) => self.vote,
            Protocol::Lane(Class::Block) => self.block,
            Protocol::Lane(Class::BlockRequest) => self.block_request,
            Protocol::Lane(Class::Transaction) => self.transaction,
            Protocol::Lane(Class::Sync) => self.sync,
            Protocol::Discovery => self.discovery,
            Protocol::Frame => self.frame,
        }
    }
}
