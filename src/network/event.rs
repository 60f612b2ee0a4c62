//! What happens in the network, as sentences and as data.

use std::{fmt, time::Duration};

use libp2p::{Multiaddr, PeerId};

use super::mpsc::Weigh;
use crate::chain::{Item, ItemId, ItemKind};
use crate::peers::{EclipseSign, PeerInfo};
use crate::platform::SystemTime;

/// Something happened. `Display` reads like a sentence.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum NetworkEvent {
    /// This node listens at a new address.
    Listening(Multiaddr),
    /// This node does not listen at an address at which it was to, or no longer: no interface has one of that kind yet, the
    /// interface lost it, the listener ended, a relay gave no place (it is asked again), or the system lets it accept nobody at the
    /// moment (told once a minute).
    NotListening {
        /// The address, as configured or as it was told.
        address: Multiaddr,
        /// Why, for a person.
        reason: String,
    },
    /// The files of `security.tls_config` are of no use any more, or their certificate has expired: listeners with TLS go on with the one that
    /// there was. Told once; a renewed certificate is taken up by itself.
    CertificateRefused {
        /// Which file, why, and what to do.
        reason: String,
    },
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
    /// A peer was not let in, or did not let us in; or it let us go so that others find a place, and [`Self::PeerDisconnected`] follows.
    PeerRefused {
        /// The peer.
        peer_id: PeerId,
        /// The address that was dialled, or that it came from.
        address: Option<Multiaddr>,
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
    /// A peer's item was not accepted by the chain, or found no room or was too large before it was asked; it went no further.
    ItemRefused {
        /// Its kind.
        kind: ItemKind,
        /// The neighbour that brought it.
        source: PeerId,
        /// Why, for a person: the chain's reason, or the limit's name.
        reason: String,
    },
    /// The application failed at a call: it panicked, or, where it is written in JavaScript, threw, answered too late or in a wrong shape.
    /// An item that it was asked about is ignored. At the node's end, the call `flush`: it can't keep what it was given last.
    ApplicationFailed {
        /// The call that failed first, by its name.
        call: &'static str,
        /// How it failed, for a person.
        reason: String,
        /// How many calls failed since this was told last.
        count: u64,
    },
    /// The handler of a protocol of one's own ([`crate::P2PNetworkManager::handle`]) failed, or panicked: its stream is reset.
    HandlerFailed {
        /// The protocol.
        protocol: String,
        /// The peer whose stream it was.
        peer_id: PeerId,
        /// How it failed, for a person.
        reason: String,
    },
    /// Gossip with a peer, or what propagates to it, does not work as it should; its connection stays.
    GossipImpaired {
        /// The peer.
        peer_id: PeerId,
        /// Why, for a person.
        reason: String,
    },
    /// A message on a plain gossip topic ([`crate::P2PNetworkManager::subscribe_topic`]).
    TopicMessage(TopicItem),
    /// Signs that all to whom this node speaks may be one attacker's: all that there are now, told when they change; none: they are over.
    EclipseSuspected {
        /// What it sees.
        signs: Vec<EclipseSign>,
    },
    /// The chain is as far as its peers' ([`crate::sync::SyncPhase::Synced`]): told once, and again after it was behind by more than a few blocks, or alone.
    Synced {
        /// Its height.
        height: u64,
    },
    /// Sync has come further, or can't go on for now; told some times a second at most while it runs.
    SyncProgress {
        /// The chain's height.
        done: u64,
        /// The height that it goes to, as far as is known; the same where nothing is fetched, which alone does not say that it is the tip.
        total: u64,
        /// Blocks a second, of late.
        rate: f64,
        /// How long the rest will take at that rate, where it can be said.
        eta: Option<Duration>,
        /// Why it does not go on, for a person.
        trouble: Option<String>,
    },
    /// The host, or this node's thread, stood still for so long: whether connections still live is looked at now.
    Woke {
        /// How long.
        slept: Duration,
    },
    /// A snapshot of the chain's state is being fetched; told some times a second at most. Blocks wait.
    SnapshotProgress {
        /// The height whose state it is.
        height: u64,
        /// The chunks that the chain has taken.
        done: u32,
        /// All of them.
        total: u32,
        /// Bytes a second that come now.
        rate: u64,
        /// How long the rest will take at that rate, where it can be said.
        eta: Option<Duration>,
    },
    /// The chain has the state of this height, and goes on with the blocks after it.
    SnapshotTaken {
        /// The height.
        height: u64,
    },
    /// There is no snapshot to begin with: the chain goes on with blocks from where it is.
    NoSnapshot {
        /// Why, for a person.
        reason: String,
    },
    /// For a while no peer has answered what watched keys have ([`crate::P2PNetworkManager::watch_state`]): what is told of them is of an older state. Told
    /// once for a watch, until one answers again.
    StateUnverified {
        /// The height of the state that is asked for; `None`: none is trusted yet.
        height: Option<u64>,
        /// Why, for a person.
        reason: String,
    },
    /// The node ended in order; no further event follows. Of one that never ran, for want of a `start` or of an address to listen on, subscriptions end without.
    Stopped,
    /// Something panicked, and no further event follows: the node's task, which is over, or the `wants` of this subscription
    /// ([`crate::P2PNetworkManager::subscribe`]), and then the node goes on. In a browser a panic is the end of the
    /// whole instance, and the npm package tells of it.
    Crashed {
        /// The panic's words.
        reason: String,
    },
}

/// A plain gossip topic that this node takes part in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub topic: String,
    /// Whether its messages wait for a verdict.
    pub validate: bool,
    /// The connected peers that take part too, in the order of their ids.
    pub peers: Vec<PeerId>,
    /// Those of them to which whole messages are sent, and not only announced: gossipsub's mesh.
    pub mesh: Vec<PeerId>,
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
    /// What happened, as a stable, short name for programs: of a state event what JavaScript calls it, of an item its kind.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Listening(_) | Self::NotListening { .. } => "log",
            Self::CertificateRefused { .. } => "certificate:refused",
            Self::PeerConnected(_) => "peer:connect",
            Self::PeerIdentified { .. } => "peer:identify",
            Self::PeerDisconnected { .. } => "peer:disconnect",
            Self::PeerRefused { .. } => "peer:refused",
            Self::PeersDiscovered(_) => "peer:discovered",
            Self::PeerScored { .. } => "peer:score",
            Self::DialFailed { .. } => "dial:error",
            Self::ItemAccepted { item, .. } => item.kind().name(),
            Self::ItemRefused { .. } => "item:refused",
            Self::ApplicationFailed { .. } => "application:error",
            Self::HandlerFailed { .. } => "protocol:error",
            Self::GossipImpaired { .. } => "gossip:impaired",
            Self::TopicMessage(_) => "message",
            Self::EclipseSuspected { .. } => "eclipse:suspected",
            Self::SyncProgress { .. } => "sync:progress",
            Self::Synced { .. } => "sync:done",
            Self::Woke { .. } => "node:wake",
            Self::SnapshotProgress { .. } => "snapshot:progress",
            Self::SnapshotTaken { .. } => "snapshot:taken",
            Self::NoSnapshot { .. } => "snapshot:none",
            Self::StateUnverified { .. } => "state:unverified",
            Self::Stopped | Self::Crashed { .. } => "node:stop",
        }
    }

    /// Whether something went wrong.
    pub fn is_error(&self) -> bool {
        matches!(
            self,
            Self::NotListening { .. }
                | Self::CertificateRefused { .. }
                | Self::PeerRefused { .. }
                | Self::DialFailed { .. }
                | Self::ItemRefused { .. }
                | Self::ApplicationFailed { .. }
                | Self::HandlerFailed { .. }
                | Self::Crashed { .. }
                | Self::GossipImpaired { .. }
                | Self::StateUnverified { .. }
                | Self::SyncProgress {
                    trouble: Some(_),
                    ..
                }
        ) || matches!(self, Self::EclipseSuspected { signs } if !signs.is_empty())
    }
}

/// What an event holds beside its own size, in bytes: whatever a peer or a chain can make longer counts.
impl Weigh for NetworkEvent {
    fn weight(&self) -> usize {
        let content = match self {
            Self::Listening(address) => address.len(),
            Self::NotListening { address, reason } => address.len() + reason.len(),
            Self::PeerConnected(peer) => weight_of_peer(peer),
            Self::PeerIdentified {
                agent, protocols, ..
            } => {
                agent.len()
                    + protocols
                        .iter()
                        .map(|name| weight_of_text(name))
                        .sum::<usize>()
            }
            Self::PeersDiscovered(peers) => peers.iter().map(weight_of_peer).sum(),
            Self::PeerDisconnected { reason, .. }
            | Self::ItemRefused { reason, .. }
            | Self::GossipImpaired { reason, .. }
            | Self::ApplicationFailed { reason, .. }
            | Self::NoSnapshot { reason }
            | Self::CertificateRefused { reason }
            | Self::StateUnverified { reason, .. }
            | Self::Crashed { reason } => reason.len(),
            Self::HandlerFailed {
                protocol, reason, ..
            } => protocol.len() + reason.len(),
            Self::PeerRefused {
                address, reason, ..
            }
            | Self::DialFailed {
                address, reason, ..
            } => reason.len() + address.as_ref().map_or(0, Multiaddr::len),
            Self::ItemAccepted { item, id, .. } => item.data().len() + id.as_bytes().len(),
            Self::TopicMessage(message) => {
                message.topic.len() + message.data.len() + message.message_id.len()
            }
            Self::SyncProgress { trouble, .. } => trouble.as_ref().map_or(0, String::len),
            Self::PeerScored { .. }
            | Self::EclipseSuspected { .. }
            | Self::Woke { .. }
            | Self::Synced { .. }
            | Self::SnapshotProgress { .. }
            | Self::SnapshotTaken { .. }
            | Self::Stopped => 0,
        };
        size_of::<Self>() + content
    }

    fn kind(&self) -> &'static str {
        self.name()
    }
}

fn weight_of_text(text: &str) -> usize {
    size_of::<String>() + text.len()
}

fn weight_of_peer(peer: &PeerInfo) -> usize {
    let addresses = peer.addresses.iter();
    let addresses = addresses.map(|address| size_of::<Multiaddr>() + address.len());
    size_of::<PeerInfo>() + peer.agent.len() + addresses.sum::<usize>()
}

impl fmt::Display for NetworkEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listening(address) => write!(f, "listening on {address}"),
            Self::NotListening { address, reason } => {
                write!(f, "not listening on {address}: {reason}")
            }
            Self::CertificateRefused { reason } => {
                write!(f, "the certificate is not renewed: {reason}")
            }
            Self::PeerConnected(peer) => write!(f, "{peer} is connected"),
            Self::PeerIdentified { peer_id, agent, .. } => write!(f, "{peer_id} is {agent}"),
            Self::PeerDisconnected { peer_id, reason } => write!(f, "{peer_id} is gone: {reason}"),
            Self::PeerRefused {
                peer_id, reason, ..
            } => write!(f, "{peer_id} was refused: {reason}"),
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
            Self::ApplicationFailed {
                call,
                reason,
                count,
            } => {
                write!(f, "the application failed in {call}: {reason}")?;
                if *count > 1 {
                    write!(f, " ({count} calls failed)")?;
                }
                Ok(())
            }
            Self::HandlerFailed {
                protocol,
                peer_id,
                reason,
            } => {
                write!(
                    f,
                    "the handler of {protocol} failed over a stream of {peer_id}: {reason}"
                )
            }
            Self::GossipImpaired { peer_id, reason } => {
                write!(f, "gossip with {peer_id} does not work: {reason}")
            }
            Self::TopicMessage(message) => {
                write!(
                    f,
                    "{} bytes arrived on {}",
                    message.data.len(),
                    message.topic
                )
            }
            Self::EclipseSuspected { signs } if signs.is_empty() => {
                f.write_str("nothing suggests any more that this node is surrounded")
            }
            Self::EclipseSuspected { signs } => {
                f.write_str("this node may be surrounded by an attacker")?;
                let before = std::iter::once(": ").chain(std::iter::repeat("; "));
                let mut signs = signs.iter().zip(before);
                signs.try_for_each(|(sign, before)| write!(f, "{before}{sign}"))
            }
            Self::SyncProgress {
                done,
                trouble: Some(trouble),
                ..
            } => write!(f, "sync waits at block {done}: {trouble}"),
            Self::SyncProgress {
                done, total, rate, ..
            } if done < total => {
                write!(f, "it has {done} of {total} blocks, {rate:.0} a second")
            }
            Self::SyncProgress { done, .. } => write!(f, "the chain is at block {done}"),
            Self::Synced { height } => {
                write!(
                    f,
                    "synced: the chain is as far as its peers', at block {height}"
                )
            }
            Self::Woke { slept } => write!(
                f,
                "this host was asleep for {slept:.0?}: connections are looked at"
            ),
            Self::SnapshotProgress {
                height,
                done,
                total,
                rate,
                ..
            } => write!(
                f,
                "{done} of {total} chunks of the state at block {height}, {} KB a second",
                rate / 1000
            ),
            Self::SnapshotTaken { height } => {
                write!(
                    f,
                    "the state at block {height} is here: blocks after it follow"
                )
            }
            Self::NoSnapshot { reason } => f.write_str(reason),
            Self::StateUnverified {
                height: Some(height),
                reason,
            } => write!(
                f,
                "what is watched of state {height} is not verified: {reason}"
            ),
            Self::StateUnverified { reason, .. } => {
                write!(f, "what is watched of the state is not verified: {reason}")
            }
            Self::Stopped => f.write_str("the node has stopped"),
            Self::Crashed { reason } => write!(f, "a panic ended this: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::fit::EVENT_OVERHEAD, gossip::MAX_TOPIC_NAME, platform::test};

    /// Each kind of event, with so many bytes in all that a peer or a chain can make longer.
    fn events(size: usize) -> Vec<NetworkEvent> {
        let (peer_id, text) = (PeerId::random(), "x".repeat(size));
        let data = bytes::Bytes::from(vec![0; size]);
        let name = libp2p::multiaddr::Protocol::Dns(text.clone().into());
        let address = Multiaddr::empty().with(name);
        let mut peer = PeerInfo::new(peer_id);
        peer.addresses = vec![address.clone()];
        vec![
            NetworkEvent::Listening(address.clone()),
            NetworkEvent::NotListening {
                address: address.clone(),
                reason: String::new(),
            },
            NetworkEvent::PeerConnected(peer.clone()),
            NetworkEvent::PeerIdentified {
                peer_id,
                agent: String::new(),
                protocols: vec![text.clone()],
            },
            NetworkEvent::PeerDisconnected {
                peer_id,
                reason: text.clone(),
            },
            NetworkEvent::PeerRefused {
                peer_id,
                address: Some(address.clone()),
                reason: text.clone(),
            },
            NetworkEvent::PeersDiscovered(vec![peer]),
            NetworkEvent::DialFailed {
                peer_id: None,
                address: Some(address),
                reason: String::new(),
            },
            NetworkEvent::ItemAccepted {
                item: Item::new(ItemKind::Block, data.clone()),
                id: ItemId::sha256(b""),
                source: None,
                received_at: SystemTime::UNIX_EPOCH,
            },
            NetworkEvent::ItemRefused {
                kind: ItemKind::Vote,
                source: peer_id,
                reason: text.clone(),
            },
            NetworkEvent::TopicMessage(TopicItem {
                topic: String::new(),
                data,
                source: peer_id,
                message_id: Vec::new(),
            }),
            NetworkEvent::ApplicationFailed {
                call: "check_vote",
                reason: text.clone(),
                count: 1,
            },
            NetworkEvent::HandlerFailed {
                protocol: String::new(),
                peer_id,
                reason: text.clone(),
            },
            NetworkEvent::Crashed {
                reason: text.clone(),
            },
            NetworkEvent::SyncProgress {
                done: 1,
                total: 2,
                rate: 3.0,
                eta: None,
                trouble: Some(text.clone()),
            },
            NetworkEvent::NoSnapshot { reason: text },
        ]
    }

    #[test]
    fn signs_of_an_eclipse_are_an_error_until_they_are_over() {
        let [few, stale, _] = EclipseSign::ALL;
        let event = NetworkEvent::EclipseSuspected {
            signs: vec![few, stale],
        };
        let told = event.to_string();
        assert!(
            event.is_error() && told.ends_with(&format!(": {few}; {stale}")),
            "{told}"
        );
        let over = NetworkEvent::EclipseSuspected { signs: Vec::new() };
        assert!(!over.is_error() && !over.to_string().contains(':'));
    }

    #[test]
    fn an_event_weighs_what_it_holds() {
        for (empty, full) in events(0).iter().zip(events(10_000)) {
            assert!(empty.weight() >= size_of::<NetworkEvent>());
            assert!(full.weight() >= empty.weight() + 10_000, "{full}");
        }
        let many = NetworkEvent::PeersDiscovered(vec![PeerInfo::new(PeerId::random()); 64]);
        assert!(many.weight() > 64 * size_of::<PeerInfo>());
    }

    #[test]
    fn an_event_weighs_little_beside_what_it_carries() {
        let item = NetworkEvent::ItemAccepted {
            item: Item::new(ItemKind::Block, vec![0; 10_000]),
            id: ItemId::new(&[0; ItemId::MAX]).expect("no longer than it may be"),
            source: None,
            received_at: SystemTime::UNIX_EPOCH,
        };
        let message = NetworkEvent::TopicMessage(TopicItem {
            topic: "x".repeat(MAX_TOPIC_NAME),
            data: vec![0; 10_000].into(),
            source: PeerId::random(),
            message_id: vec![0; 64],
        });
        for event in [item, message] {
            assert!(event.weight() <= 10_000 + EVENT_OVERHEAD, "{event}");
        }
    }
}
