//! Libp2p's errors as sentences for a person, and what they say of a peer.

use libp2p::{
    Multiaddr, TransportError, request_response as rr,
    swarm::{ConnectionDenied, ConnectionError, DialError},
};

use crate::{
    error::ConfigError,
    network::{codec::is_garbage, gate::TurnedAway},
    peers::Misdeed,
};

/// Why a node does not dial itself.
pub(crate) const OWN_ADDRESS: &str = "this is the node's own address";

/// Why a dial failed, for a person.
pub(crate) fn dial_reason(error: &DialError) -> String {
    match error {
        DialError::LocalPeerId { .. } => OWN_ADDRESS.to_owned(),
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
        DialError::Transport(attempts) => match attempts.as_slice() {
            // The caller names the address.
            [(_, error)] => transport_reason(error),
            attempts => {
                let reason = |(address, error): &(Multiaddr, _)| {
                    format!("{address}: {}", transport_reason(error))
                };
                attempts.iter().map(reason).collect::<Vec<_>>().join("; ")
            }
        },
    }
}

/// Why a connection was not let in, for a person.
pub(crate) fn denied_reason(cause: &ConnectionDenied) -> String {
    cause.downcast_ref::<TurnedAway>().map_or_else(
        || "this node has enough connections".to_owned(),
        ToString::to_string,
    )
}

pub(crate) fn hello_misdeed(error: &rr::OutboundFailure) -> Misdeed {
    match error {
        // It is so short that no time of its sender's cuts it.
        rr::OutboundFailure::Io(error)
            if is_garbage(error) || error.kind() == std::io::ErrorKind::UnexpectedEof =>
        {
            Misdeed::InvalidMessage
        }
        _ => Misdeed::NoAnswer,
    }
}

fn transport_reason(error: &TransportError<std::io::Error>) -> String {
    match error {
        TransportError::MultiaddrNotSupported(_) => {
            "no transport here can dial such an address".to_owned()
        }
        TransportError::Other(error) => error_reason(error),
    }
}

fn error_reason(error: &(dyn std::error::Error + 'static)) -> String {
    let text = innermost(error);
    // The DNS transport hides the others' plain answer in a sentence of its own.
    if text.contains("Unsupported resolved address") {
        "no transport here can dial such an address".to_owned()
    } else if text.contains("refused to accept") {
        // QUIC's way to turn a newcomer away.
        "it takes no more newcomers at the moment; try again later".to_owned()
    } else if text.contains("refused") {
        "nobody listens there (connection refused)".to_owned()
    } else if text.to_ascii_lowercase().contains("timeout") || text.contains("timed out") {
        "it did not answer in time".to_owned()
    } else if text.contains("decrypt error") {
        "the encryption's handshake failed; is security.noise_config.prologue the same there?"
            .to_owned()
    } else if text.contains("no connections available") {
        "no nameserver answers for this name; see /etc/resolv.conf, or give an IP address"
            .to_owned()
    } else if text.contains("dial without a previous listen") {
        // libp2p-webrtc dials from a listening socket.
        "this node listens on no /udp/…/webrtc-direct address, and only who does can dial one; \
                 add /ip4/0.0.0.0/udp/0/webrtc-direct to network.listen_addresses"
            .to_owned()
    } else {
        text
    }
}

/// Why a listener can't let anybody in at the moment, for a person.
pub(crate) fn accept_reason(error: &std::io::Error) -> String {
    let reason = innermost(error);
    if reason.contains("Too many open files") {
        format!(
            "it can't accept more connections: {reason}; raise the limit of open files (ulimit -n), or lower network.max_peers"
        )
    } else {
        format!("it could not accept a connection, and goes on: {reason}")
    }
}

/// What is wrong with the files of a listener's certificate, if that is why it could not go on as it should.
pub(crate) fn certificate_reason(error: &std::io::Error) -> Option<String> {
    let mut at: &(dyn std::error::Error + 'static) = error.get_ref()?;
    loop {
        if let Some(wrong) = at.downcast_ref::<ConfigError>() {
            return Some(wrong.to_string());
        }
        at = at.source()?;
    }
}

/// Why a listener ended, for a person.
pub(crate) fn closed_reason(reason: &std::io::Result<()>) -> String {
    match reason {
        Ok(()) => "the listener was closed".to_owned(),
        Err(error) => format!("the listener ended: {}", innermost(error)),
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

pub(crate) fn close_reason(cause: Option<&ConnectionError>) -> String {
    match cause {
        None => "the connection was closed here".to_owned(),
        Some(ConnectionError::KeepAliveTimeout) => "nobody needed the connection".to_owned(),
        Some(ConnectionError::IO(error)) => format!("the connection ended: {}", innermost(error)),
    }
}
