//! Libp2p's errors as sentences for a person, and what they say of a peer.

use libp2p::{
    Multiaddr, TransportError, request_response as rr,
    swarm::{ConnectionDenied, ConnectionError, DialError},
};

use crate::{network::gate::TurnedAway, peers::Misdeed};

/// Why a dial failed, for a person.
pub(super) fn dial_reason(error: &DialError) -> String {
    match error {
        DialError::LocalPeerId { .. } => "this is the node's own address".to_owned(),
        DialError::NoAddresses => {
            "no address of it is known; give one, or wait for discovery".to_owned()
        }
        DialError::DialPeerConditionFalse(_) => "it is being dialled already".to_owned(),
        DialError::Aborted => "the dial was cancelled".to_owned(),
        DialError::WrongPeerId { obtained, .. } => {
            format!(
                "another peer answers there: {obtained}; the address may be old, or somebody poses as that peer"
            )
        }
        DialError::Denied { cause } => denied_reason(cause),
        DialError::Transport(attempts) => {
            let mut reasons: Vec<_> = attempts
                .iter()
                .map(|(address, error)| transport_reason(address, error))
                .collect();
            reasons.dedup();
            reasons.join("; ")
        }
    }
}

/// Why a connection was not let in, for a person.
pub(super) fn denied_reason(cause: &ConnectionDenied) -> String {
    cause.downcast_ref::<TurnedAway>().map_or_else(
        || "this node has enough connections".to_owned(),
        ToString::to_string,
    )
}

/// Whether a stream failed by what the peer wrote, not by the network.
pub(super) fn is_garbage(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof
    )
}

pub(super) fn hello_misdeed(error: &rr::OutboundFailure) -> Misdeed {
    match error {
        rr::OutboundFailure::Io(error) if is_garbage(error) => Misdeed::InvalidMessage,
        _ => Misdeed::NoAnswer,
    }
}

fn transport_reason(address: &Multiaddr, error: &TransportError<std::io::Error>) -> String {
    match error {
        TransportError::MultiaddrNotSupported(_) => {
            format!("no transport here can dial {address}")
        }
        TransportError::Other(error) => {
            let text = innermost(error);
            if text.contains("refused") {
                format!("nobody listens at {address} (connection refused)")
            } else if text.to_lowercase().contains("timeout") || text.contains("timed out") {
                format!("{address} did not answer in time")
            } else {
                format!("{address}: {text}")
            }
        }
    }
}

/// The error at the bottom of the chain: the ones above only repeat it.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string()
}

pub(super) fn close_reason(cause: Option<&ConnectionError>) -> String {
    match cause {
        None => "the connection was closed here".to_owned(),
        Some(ConnectionError::KeepAliveTimeout) => "nobody needed the connection".to_owned(),
        Some(ConnectionError::IO(error)) => format!("the connection ended: {}", innermost(error)),
    }
}
