//! A connected peer: how far it is, and which place it takes.

use std::{net::IpAddr, time::Duration};

use libp2p::swarm::ConnectionId;

use super::Stage;
use crate::{
    chain::ItemKind,
    peers::{AddressGroup, Direction, NetworkGroup, PeerInfo},
    platform::Instant,
};

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    /// Where its other end is, as far as is known.
    pub(super) ip: Option<IpAddr>,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) age: u64,
    /// Where its first connection came from, or went to.
    pub(super) group: AddressGroup,
    /// Of which network that is.
    pub(super) network: NetworkGroup,
    /// By a clock that nobody sets, which `connected_at` has not.
    pub(super) since: Instant,
    pub(super) stage: Stage,
    /// The eldest first.
    pub(super) connections: Vec<Connection>,
    pub(super) deadline: Option<Instant>,
    /// Whether it has our items from its lanes.
    pub(super) propagates: bool,
    /// The kinds of items in whose gossip it takes part.
    pub(super) gossips: Vec<ItemKind>,
    /// Whether it speaks the ping protocol, as far as is known.
    pub(super) pings: bool,
    /// Whether it said nothing of itself that could be understood.
    pub(super) unidentified: bool,
    /// The shortest round trip of all.
    pub(super) nearest: Option<Duration>,
    /// When it last brought an item of each kind that was new and right.
    pub(super) brought: [Option<Instant>; ItemKind::ALL.len()],
    /// What the chain says that stands behind it.
    pub(super) stake: u64,
    pub(super) info: PeerInfo,
    pub(super) shown: bool,
    /// Why it is about to be gone, in our words.
    pub(super) farewell: Option<String>,
}

/// Which places a peer takes.
#[derive(PartialEq)]
pub(super) enum Place {
    Newcomer,
    Ours,
    Plain,
    None,
}

impl Peer {
    /// Where it is, by each of its connections, the newest last.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.connections.iter().filter_map(|open| open.ip)
    }

    pub(super) fn place(&self) -> Place {
        match self.stage {
            // Whom we dialled we have made room for.
            Stage::Greeting if self.info.direction == Some(Direction::Outbound) => Place::Ours,
            Stage::Greeting | Stage::Leaving => Place::Newcomer,
            Stage::Greeted | Stage::Ready => Place::Ours,
            Stage::Plain => Place::Plain,
            Stage::Ending => Place::None,
        }
    }

    /// Whether it is one of ours or may become one, and we dialled it.
    pub(super) fn is_outbound(&self) -> bool {
        let ours = matches!(self.stage, Stage::Greeting | Stage::Greeted | Stage::Ready);
        ours && self.info.direction == Some(Direction::Outbound)
    }

    /// Whether it has items of a kind from nowhere but gossip.
    pub(super) fn needs_gossip(&self, kind: ItemKind) -> bool {
        matches!(self.stage, Stage::Ready | Stage::Plain)
            && !self.propagates
            && self.gossips.contains(&kind)
    }
}
