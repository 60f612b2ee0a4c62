//! What can go wrong, in sentences that say what to do next.

use libp2p::{Multiaddr, PeerId, TransportError};

use crate::{chain::ledger::LedgerError, storage::StoreError};

/// An operation of [`crate::P2PNetworkManager`] failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// The configuration is wrong; nothing was started.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A call got what it can't do anything with; the node goes on.
    #[error("{} = {}: {}", .0.field, .0.shown(), .0.problem)]
    Argument(ConfigError),
    /// `start` was called twice, or something that comes before it after it. The node goes on.
    #[error("the node is already running; for another one make a new P2PNetworkManager")]
    AlreadyStarted,
    /// Called before `start`, or after the node ended.
    #[error("the node is not running; call start() first, or make a new one after shutdown()")]
    NotRunning,
    /// An address can't be listened on, and the node has ended.
    #[error("can't listen on {address}: {reason}")]
    Listen {
        /// The address as configured.
        address: Multiaddr,
        /// What the system said.
        reason: String,
    },
    /// A peer could not be reached.
    #[error("can't reach {target}: {reason}")]
    Dial {
        /// The address or peer that was asked for.
        target: String,
        /// What happened, for a person.
        reason: String,
    },
    /// The peer is not connected.
    #[error("peer {0} is not connected; dial it first")]
    NotConnected(PeerId),
    /// There is nobody to send to.
    #[error("no connected peer takes part in {topic}; wait for a peer:connect event or dial one")]
    NoPeers {
        /// The gossip topic.
        topic: String,
    },
    /// Nobody could be sent it: those that take part left meanwhile, have no room for more, or have too bad a reputation; or gossip knows
    /// it from before it was accepted, and takes it no more. It was accepted here all the same, and delivered: to send it again is a duplicate.
    #[error(
        "it was accepted here, but sent to nobody: who takes part in {topic} left, has no room or a bad reputation, or sent it before; \
         dial a Selkie peer: it is offered transactions and blocks, but no vote, and a plain libp2p peer nothing"
    )]
    NotSent {
        /// The gossip topic.
        topic: String,
    },
    /// The queues are full: slow down and try again.
    #[error("the send queues are full; try again when peers have taken what is queued")]
    Busy,
    /// The chain does not offer what is to be watched ([`crate::Application::is_provable`]).
    #[error("this chain can prove {0}, so that can't be watched; ask for it by request_state")]
    NotOffered(String),
    /// As many watches of the state are open as may be.
    #[error("{0} watches of the state are open, which is the limit; end one, and try again")]
    TooManyWatches(usize),
    /// The message breaks a rule of the protocol or of the chain.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The identity key could not be read or written.
    #[error("identity key {path}: {reason}")]
    Identity {
        /// The file.
        path: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// What the chain keeps could not be opened, read or written.
    #[error(transparent)]
    Storage(#[from] StoreError),
    /// A transport could not be set up.
    #[error("transport {transport}: {reason}")]
    Transport {
        /// Its name.
        transport: &'static str,
        /// What happened.
        reason: String,
    },
}

impl NetworkError {
    /// Whether the node can't go on: later calls on the same handle will fail too, but for [`crate::P2PNetworkManager::start`] after a
    /// [`Self::NotRunning`] of a node that was not started yet.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Protocol(error) => error.is_fatal(),
            Self::Storage(error) => error.is_fatal(),
            Self::Config(_)
            | Self::NotRunning
            | Self::Listen { .. }
            | Self::Transport { .. }
            | Self::Identity { .. } => true,
            Self::Argument(_)
            | Self::AlreadyStarted
            | Self::Dial { .. }
            | Self::NotConnected(_)
            | Self::NoPeers { .. }
            | Self::NotSent { .. }
            | Self::NotOffered(_)
            | Self::TooManyWatches(_)
            | Self::Busy => false,
        }
    }

    /// A stable, short name for programs: what JavaScript sees as `code`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Config(_) => "config",
            Self::Argument(_) => "invalid-argument",
            Self::AlreadyStarted => "already-started",
            Self::NotRunning => "not-running",
            Self::Listen { .. } => "listen",
            Self::Dial { .. } => "dial",
            Self::NotConnected(_) => "not-connected",
            Self::NoPeers { .. } => "no-peers",
            Self::NotSent { .. } => "not-sent",
            Self::NotOffered(_) => "not-offered",
            Self::Busy | Self::TooManyWatches(_) => "busy",
            Self::Protocol(error) => error.code(),
            Self::Identity { .. } => "identity",
            Self::Storage(error) => error.code(),
            Self::Transport { .. } => "transport",
        }
    }

    pub(crate) fn argument(name: &str, value: impl ToString, problem: impl Into<String>) -> Self {
        Self::Argument(ConfigError::new(name, value, problem))
    }

    pub(crate) fn listen(address: Multiaddr, error: TransportError<std::io::Error>) -> Self {
        let reason = match error {
            TransportError::MultiaddrNotSupported(_) => {
                "no transport here listens on such an address".to_owned()
            }
            TransportError::Other(error) => listen_reason(&error),
        };
        Self::Listen { address, reason }
    }
}

impl From<LedgerError> for NetworkError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Store(error) => error.into(),
            other => ConfigError::new("chain", "ledger", other.to_string()).into(),
        }
    }
}

/// Why the system lets nobody listen, and what helps.
fn listen_reason(error: &std::io::Error) -> String {
    let advice = match kind(error) {
        std::io::ErrorKind::AddrInUse => "; the port is taken: give another one, or 0 for any",
        std::io::ErrorKind::AddrNotAvailable => "; no interface here has this IP address",
        std::io::ErrorKind::PermissionDenied => {
            "; this port is not for you: give one from 1024 on, or more rights"
        }
        _ => "",
    };
    format!("{error}{advice}")
}

/// Transports wrap what the system said, which alone has a kind that says something.
fn kind(error: &std::io::Error) -> std::io::ErrorKind {
    let mut at: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = at {
        let system = error.downcast_ref::<std::io::Error>();
        if let Some(system) = system
            && system.kind() != std::io::ErrorKind::Other
        {
            return system.kind();
        }
        at = match system.and_then(std::io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    std::io::ErrorKind::Other
}

/// A value in the configuration, or an argument of a call, is wrong. Names the field, the value and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("config: {field} = {}: {problem}", self.shown())]
pub struct ConfigError {
    /// The field's path, as in TOML: `network.max_peers`; or the argument's name.
    pub field: String,
    /// The value found there.
    pub value: String,
    /// What would be right.
    pub problem: String,
}

impl ConfigError {
    pub(crate) fn new(field: &str, value: impl ToString, problem: impl Into<String>) -> Self {
        Self {
            field: field.to_owned(),
            value: value.to_string(),
            problem: problem.into(),
        }
    }

    /// The value for a person, who would not see an empty one.
    fn shown(&self) -> &str {
        match self.value.as_str() {
            "" => "\"\"",
            value => value,
        }
    }
}

/// Finding peers failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// The node does not run.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Discovery on the local network is off or impossible here.
    #[error("local discovery is off: {0}")]
    Unavailable(&'static str),
}

/// A message or an item breaks a rule.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The chain rejected the item.
    #[error("the chain rejects this {kind}: {reason}")]
    Rejected {
        /// The item's kind.
        kind: crate::chain::ItemKind,
        /// The chain's reason.
        reason: String,
    },
    /// The chain ignores the item: it is of no use now.
    #[error("the chain ignores this {kind}: {reason}")]
    Ignored {
        /// The item's kind.
        kind: crate::chain::ItemKind,
        /// The chain's reason.
        reason: String,
    },
    /// Over the size limit.
    #[error("{size} bytes are over the limit of {limit} ({field})")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
        /// The field of the configuration that says so, or the message's field.
        field: &'static str,
    },
    /// A field of the message says nothing, and no peer would take it.
    #[error("field {field}: {problem}")]
    Invalid {
        /// The message's field.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Nothing is no item.
    #[error("a {kind} has to have a byte at least")]
    Empty {
        /// The item's kind.
        kind: crate::chain::ItemKind,
    },
    /// Already published or received: nothing was sent.
    #[error("already known: this node has sent or received it before")]
    Duplicate,
    /// This kind can't be broadcast.
    #[error("a state request goes to one peer; use request_state")]
    NotBroadcastable,
    /// The peer refused the message, in its own words.
    #[error("the peer refused: {0}")]
    Refused(String),
    /// The peer's answer about state does not hold: it was dropped, and the peer has paid.
    #[error("the peer's answer is false: {0}; ask another")]
    Forged(String),
    /// The peer's answer about state can't be checked, at least now, so it was dropped.
    #[error(
        "the peer's answer can't be checked here: {0}; ask for another height, or when sync is further"
    )]
    Unproven(String),
    /// The peer did not answer in time (`protocol.request_response_config.request_timeout`).
    #[error(
        "the peer did not answer in time (over a slow line, a long message may not have reached it)"
    )]
    Timeout,
    /// The message could not be sent in that time: too many others waited for their turn, the line is slow, or the peer had no room for it.
    #[error(
        "the message could not be sent in time; send it again later, or allow more time for long ones \
         (protocol.request_response_config.request_timeout)"
    )]
    Unsent,
    /// The peer does not speak the protocol.
    #[error("the peer does not speak {0}; it may be a plain libp2p peer, or of another version")]
    Unsupported(String),
    /// The peer sent something that is no message.
    #[error("the peer sent an invalid message: {0}")]
    Decode(#[from] DecodeError),
    /// As [`NetworkError::NoPeers`], of one item among others.
    #[error("no connected peer takes part in {topic}; wait for a peer:connect event or dial one")]
    NoPeers {
        /// The gossip topic.
        topic: String,
    },
    /// As [`NetworkError::NotSent`], of one item among others.
    #[error(
        "it was accepted here, but sent to nobody: who takes part in {topic} left, has no room or a bad reputation, or sent it before; \
         dial a Selkie peer: it is offered it, and a plain libp2p peer is not"
    )]
    NotSent {
        /// The gossip topic.
        topic: String,
    },
    /// The queues are full: slow down and try again.
    #[error("the send queues are full; try again when peers have taken what is queued")]
    Busy,
    /// As many streams of one's own protocols are open to the peer as may be.
    #[error("{0} streams to this peer are open, which is the limit; end one, and try again")]
    TooManyStreams(usize),
    /// The connection, or the peer, broke off while the message or its answer was on its way.
    #[error("the exchange with the peer broke off: {0}")]
    Broken(String),
    /// As [`NetworkError::NotRunning`].
    #[error("the node is not running; call start() first, or make a new one after shutdown()")]
    NotRunning,
    /// As [`NetworkError::NotConnected`].
    #[error("peer {0} is not connected; dial it first")]
    NotConnected(PeerId),
    /// What else befell the network.
    #[error("{0}")]
    Network(String),
}

impl ProtocolError {
    /// As [`NetworkError::is_fatal`].
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::NotRunning)
    }

    /// What holds for a batch, of one item of it; what befell the node, of a message.
    pub(crate) fn of(error: &NetworkError) -> Self {
        match error {
            NetworkError::NoPeers { topic } => Self::NoPeers {
                topic: topic.clone(),
            },
            NetworkError::NotSent { topic } => Self::NotSent {
                topic: topic.clone(),
            },
            NetworkError::Busy => Self::Busy,
            NetworkError::NotRunning => Self::NotRunning,
            NetworkError::NotConnected(peer) => Self::NotConnected(*peer),
            other => Self::Network(other.to_string()),
        }
    }

    /// A stable, short name for programs: what JavaScript sees as `code`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Rejected { .. } => "rejected",
            Self::Ignored { .. } => "ignored",
            Self::TooLarge { .. } => "too-large",
            Self::Empty { .. } => "empty",
            Self::Duplicate => "duplicate",
            Self::NotBroadcastable => "not-broadcastable",
            Self::Refused(_) => "refused",
            Self::Forged(_) => "forged",
            Self::Unproven(_) => "unproven",
            Self::Timeout | Self::Unsent => "timeout",
            Self::Unsupported(_) => "unsupported",
            Self::Invalid { .. } | Self::Decode(_) => "invalid-message",
            Self::NoPeers { .. } => "no-peers",
            Self::NotSent { .. } => "not-sent",
            Self::Busy | Self::TooManyStreams(_) => "busy",
            Self::Broken(_) => "broken",
            Self::NotRunning => "not-running",
            Self::NotConnected(_) => "not-connected",
            Self::Network(_) => "network",
        }
    }
}

/// Why bytes from a peer are not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Not protobuf, or cut short.
    #[error("not a protobuf message: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// A kind that this version does not know.
    #[error("a message of no known kind; the peer may run a newer version")]
    UnknownKind,
    /// A field over its limit or in the wrong form.
    #[error("field {field}: {problem}")]
    Field {
        /// The field's name in docs/wire.md.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

impl DecodeError {
    /// [`Self::Field`], with what is wrong for a person.
    pub(crate) fn field(field: &'static str, problem: impl Into<String>) -> Self {
        let problem = problem.into();
        Self::Field { field, problem }
    }

    /// The bytes of a field whose length is fixed.
    pub(crate) fn array<const N: usize>(
        field: &'static str,
        bytes: &[u8],
    ) -> Result<[u8; N], Self> {
        let array = bytes.try_into();
        array.map_err(|_| Self::field(field, format!("{} bytes, not {N}", bytes.len())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn an_empty_value_is_seen() {
        let error = ConfigError::new("tag", "", "give a tag");
        assert_eq!(error.to_string(), "config: tag = \"\": give a tag");
        let argument = NetworkError::Argument(error);
        assert_eq!(argument.to_string(), "tag = \"\": give a tag");
    }

    #[test]
    fn an_item_among_others_keeps_what_befell_its_batch() {
        let topic = "a topic".to_owned();
        let errors = [
            NetworkError::NotRunning,
            NetworkError::NotConnected(PeerId::random()),
            NetworkError::Busy,
            NetworkError::NotSent {
                topic: topic.clone(),
            },
            NetworkError::NoPeers { topic },
        ];
        for error in errors {
            let of_one = ProtocolError::of(&error);
            assert_eq!(
                (of_one.code(), of_one.is_fatal()),
                (error.code(), error.is_fatal())
            );
        }
    }
}
