//! What happens in the network, as sentences and as data.

use std::fmt;

use libp2p::{Multiaddr, PeerId};

use super::{mpsc::Weigh, protocol::NetworkMessage};
use crate::chain::{Item, ItemId, ItemKind};
use crate::peers::PeerInfo;
use crate::platform::SystemTime;

/// Something happened. `Display` reads like a sentence.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum NetworkEvent {
    /// This node listens at a new address.
    Listening(Multiaddr),
    /// A peer is connected and of our network (or a plain libp2p peer, which has no network of its own).
    PeerConnected(PeerInfo),
    /// A peer has told what it is and speaks.
    PeerIdentified {
        /// The peer.
        peer_id: PeerId,
        /// Its software, in its own words.
        agent: String,
        /// The protocols it speaks.
        protocols: Vec<String>,
    },
    /// The last connection to a peer ended.
    PeerDisconnected {
        /// The peer.
        peer_id: PeerId,
        /// Why, for a person.
        reason: String,
    },
    /// A peer was not let in, or did not let us in.
    PeerRefused {
        /// The peer.
        peer_id: PeerId,
        /// Why, for a person.
        reason: String,
    },
    /// Peers were found on the local network or told by another peer.
    PeersDiscovered(Vec<PeerInfo>),
    /// A peer's reputation changed.
    PeerScored {
        /// The peer.
        peer_id: PeerId,
        /// What for.
        reason: &'static str,
        /// The score now; 0 is neutral.
        score: f64,
    },
    /// A peer could not be reached.
    DialFailed {
        /// The peer, where known.
        peer_id: Option<PeerId>,
        /// The address that was tried last, where any was.
        address: Option<Multiaddr>,
        /// Why, for a person.
        reason: String,
    },
    /// An item was accepted by the chain.
    ItemAccepted {
        /// The item.
        item: Item,
        /// The chain's own identity of it.
        id: ItemId,
        /// The neighbour that brought it; `None` for an item of our own.
        source: Option<PeerId>,
        /// When it arrived.
        received_at: SystemTime,
    },
    /// An item was not accepted by the chain; it went no further.
    ItemRefused {
        /// Its kind.
        kind: ItemKind,
        /// The neighbour that brought it.
        source: PeerId,
        /// The chain's reason.
        reason: String,
    },
    /// A message on a plain gossip topic ([`crate::P2PNetworkManager::subscribe_topic`]).
    TopicMessage(TopicItem),
    /// A peer sent a direct message that is no item (items arrive as `ItemAccepted`).
    MessageReceived {
        /// The peer.
        peer_id: PeerId,
        /// What it said.
        message: NetworkMessage,
    },
    /// The node ended; no further event follows.
    Stopped,
}

/// A message on a plain gossip topic.
#[derive(Clone, Debug)]
pub struct TopicItem {
    /// The topic.
    pub topic: String,
    /// The message's bytes.
    pub data: bytes::Bytes,
    /// The neighbour that brought it.
    pub source: PeerId,
    /// `sha256(topic || data)[..20]`; for [`crate::P2PNetworkManager::report`].
    pub message_id: Vec<u8>,
}

impl NetworkEvent {
    /// Whether something went wrong.
    pub fn is_error(&self) -> bool {
        matches!(
            self,
            Self::PeerRefused { .. } | Self::DialFailed { .. } | Self::ItemRefused { .. }
        )
    }
}

impl Weigh for NetworkEvent {
    fn weight(&self) -> usize {
        match self {
            Self::ItemAccepted { item, .. } => item.data().len(),
            Self::TopicMessage(message) => message.data.len(),
            _ => 0,
        }
    }
}

impl fmt::Display for NetworkEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listening(address) => write!(f, "listening on {address}"),
            Self::PeerConnected(peer) => write!(f, "{peer} is connected"),
            Self::PeerIdentified { peer_id, agent, .. } => write!(f, "{peer_id} is {agent}"),
            Self::PeerDisconnected { peer_id, reason } => write!(f, "{peer_id} is gone: {reason}"),
            Self::PeerRefused { peer_id, reason } => write!(f, "{peer_id} was refused: {reason}"),
            Self::PeersDiscovered(peers) => write!(f, "{} peers were discovered", peers.len()),
            Self::PeerScored {
                peer_id,
                reason,
                score,
            } => {
                write!(f, "{peer_id} stands at {score:.1} now: {reason}")
            }
            Self::DialFailed {
                peer_id,
                address,
                reason,
            } => match (address, peer_id) {
                (Some(address), _) => write!(f, "can't reach {address}: {reason}"),
                (None, Some(peer)) => write!(f, "can't reach {peer}: {reason}"),
                (None, None) => write!(f, "a dial failed: {reason}"),
            },
            Self::ItemAccepted { item, id, .. } => {
                write!(
                    f,
                    "{} {id} ({} bytes) was accepted",
                    item.kind(),
                    item.data().len()
                )
            }
            Self::ItemRefused {
                kind,
                source,
                reason,
            } => {
                write!(f, "a {kind} from {source} was refused: {reason}")
            }
            Self::TopicMessage(message) => {
                write!(
                    f,
                    "{} bytes arrived on {}",
                    message.data.len(),
                    message.topic
                )
            }
            Self::MessageReceived { peer_id, .. } => write!(f, "{peer_id} sent a message"),
            Self::Stopped => f.write_str("the node has stopped"),
        }
    }
}
