//! A native node's transports: TCP, QUIC, WebSocket, WebTransport, WebRTC-direct (feature `webrtc`), memory,
//! and circuits through relays; names are resolved by the system's DNS.

use std::sync::Arc;

use libp2p::{
    Multiaddr, PeerId, Transport,
    core::{
        transport::{Boxed as BoxedTransport, MemoryTransport, OrTransport, dummy::DummyTransport},
        upgrade::Version,
    },
    dns,
    identity::Keypair,
    relay,
    swarm::behaviour::toggle::Toggle,
};

use super::{
    Boxed, SharedPolicy, behind_door, finished, linked,
    links::{Linked, Links},
    mdns, meter, multiplex, noise, quic,
    tcp::Tcp,
    webtransport, wss,
};
#[cfg(feature = "webrtc")]
use super::{certificates, hosts, small_writes};
use crate::{
    config::{Config, TlsConfig},
    error::{ConfigError, NetworkError},
    peers::{Neighbour, transport_name},
    platform::{self, Executor, lock::lock},
};

/// Transports as one, whose connections are not given out yet.
type Linking = BoxedTransport<(PeerId, Linked)>;

/// mDNS, where the configuration wants it.
pub type LocalDiscovery = Toggle<mdns::Behaviour>;

/// The search for peers on the local network.
///
/// # Errors
/// [`NetworkError::Transport`] where the system does not tell its network interfaces.
pub fn local_discovery(config: &Config, peer: PeerId) -> Result<LocalDiscovery, NetworkError> {
    let behaviour = config
        .uses_mdns()
        .then(|| mdns::Behaviour::new(peer))
        .transpose()
        .map_err(|error| failed("mdns", error))?;
    Ok(Toggle::from(behaviour))
}

/// Asks the local network anew who is there.
pub fn ask_neighbours(local: &LocalDiscovery) {
    if let Some(search) = local.as_ref() {
        search.ask();
    }
}

/// What an event of the local search tells.
pub fn found(neighbour: Neighbour) -> Neighbour {
    neighbour
}

/// Whether one of the transports listens at addresses of this form, the host's ports and interfaces aside.
pub fn listens_on(address: &Multiaddr) -> bool {
    use libp2p::multiaddr::Protocol::{
        Dns4, Dns6, Ip4, Ip6, Memory, P2p, P2pCircuit, QuicV1, Tcp, Tls, Udp, WebRTCDirect,
        WebTransport, Ws, Wss,
    };
    let parts: Vec<_> = address.iter().collect();
    match parts.as_slice() {
        // A place at a relay, whose address and id say where.
        [_, .., P2p(_), P2pCircuit] => true,
        [Memory(_)] => true,
        [Ip4(_) | Ip6(_), Udp(_), WebRTCDirect] => cfg!(feature = "webrtc"),
        // The certificate names the host.
        [Dns4(_) | Dns6(_), rest @ ..] => matches!(rest, [Tcp(_), Tls, Ws(_)] | [Tcp(_), Wss(_)]),
        [Ip4(_) | Ip6(_), rest @ ..] => matches!(
            rest,
            [Tcp(_)]
                | [Tcp(_), P2p(_) | Ws(_) | Wss(_)]
                | [Tcp(_), Tls, Ws(_)]
                | [Udp(_), QuicV1]
                | [Udp(_), QuicV1, P2p(_) | WebTransport]
        ),
        _ => false,
    }
}

/// Whether who listens there needs a certificate of a CA.
pub fn needs_certificate(address: &Multiaddr) -> bool {
    wss::has_tls(address)
}

/// Looks at a certificate's files, where there is one.
///
/// # Errors
/// What is wrong with them.
pub fn check_certificate(config: &TlsConfig) -> Result<(), ConfigError> {
    wss::load(config, platform::date()).map(drop)
}

/// Whether one of the transports dials addresses of this form; a native node dials no WebTransport.
pub fn dials(address: &Multiaddr) -> bool {
    match transport_name(address) {
        "webrtc-direct" => cfg!(feature = "webrtc"),
        name => name != "webtransport" && name != "unknown",
    }
}

/// Whether peers may tell names: nodes tell each other IP addresses.
pub const TAKES_NAMES: bool = false;

/// All transports as one; every byte over them is counted in `meter`, `links` has their links, every dial is put to `policy`.
///
/// # Errors
/// [`NetworkError::Transport`] where one can't be set up.
pub fn build(
    keypair: &Keypair,
    config: &Config,
    relay: relay::client::Transport,
    meter: &meter::Meter,
    links: &Links,
    policy: SharedPolicy,
    executor: &Executor,
) -> Result<Boxed, NetworkError> {
    let noise = noise(keypair, &config.security.noise_config)?;
    let files = if config
        .network
        .listen_addresses
        .iter()
        .any(needs_certificate)
    {
        wss::Files::open(&config.security.tls_config)?
    } else {
        // Who needs none may be somebody else, who can't read it.
        None
    };
    let websocket = wss::WebSocket::new(named(Tcp::new())?, files);
    let streams = OrTransport::new(
        relay,
        OrTransport::new(
            websocket,
            OrTransport::new(MemoryTransport::new(), Tcp::new()),
        ),
    )
    .upgrade(Version::V1Lazy)
    .authenticate(noise)
    .multiplex(multiplex(config))
    .map(|connected, _| linked(connected))
    .boxed();
    let transports = if config.security.noise_config.is_closed() {
        streams
    } else {
        or(unbound(keypair, executor)?, streams)
    };
    let answered = Arc::clone(&policy);
    let located = transports.map(move |(peer, linked), point| {
        if point.is_dialer() {
            lock(&answered).led_to(peer, point.get_remote_address());
        }
        (peer, linked)
    });
    let resolved = named(located.boxed())?;
    let metered = resolved.map(finished(meter, links)).boxed();
    Ok(behind_door(metered, config, policy))
}

/// A transport that looks names up. A host without a nameserver has none to ask, and needs none for IP addresses: a dial of a
/// name fails there, and says so.
fn named<T: Transport + Unpin + Send>(inner: T) -> Result<dns::tokio::Transport<T>, NetworkError> {
    // Once before, since a failure keeps what it was given.
    match dns::tokio::Transport::system(DummyTransport::<()>::new()) {
        Ok(_) => dns::tokio::Transport::system(inner).map_err(|error| failed("dns", error)),
        Err(error) => {
            tracing::warn!(%error, "no names can be looked up");
            Ok(nameless(inner))
        }
    }
}

/// As [`named`] where there is no nameserver.
fn nameless<T: Transport + Unpin + Send>(inner: T) -> dns::tokio::Transport<T> {
    let (config, options) = (dns::ResolverConfig::default(), dns::ResolverOpts::default());
    dns::tokio::Transport::custom(inner, config, options)
}

/// The transports that bring an encryption of their own, which no prologue binds.
fn unbound(keypair: &Keypair, executor: &Executor) -> Result<Linking, NetworkError> {
    let windows = quic::Windows::default();
    let quic = quic::Transport::new(keypair, windows.clone(), executor)
        .map_err(|error| failed("quic", error))?
        .map(|(peer, quic), _| {
            let link = quic.link();
            (peer, Linked::new(quic, link))
        })
        .boxed();
    let webtransport = webtransport::Transport::new(keypair.clone(), windows, executor)
        .map(|(peer, session), _| {
            let link = session.link();
            (peer, Linked::new(session, link))
        })
        .boxed();
    Ok(or(webrtc(keypair)?, or(webtransport, quic)))
}

/// Two transports with the same output as one.
fn or(a: Linking, b: Linking) -> Linking {
    OrTransport::new(a, b)
        .map(|either, _| either.into_inner())
        .boxed()
}

/// WebRTC-direct. Its certificate is the identity's, so its address is the same after a new start.
#[cfg(feature = "webrtc")]
fn webrtc(keypair: &Keypair) -> Result<Linking, NetworkError> {
    use libp2p::core::muxing::StreamMuxerBox;
    use libp2p_webrtc::tokio::Transport as WebRtc;
    // quic and webrtc each bring a crypto provider, and rustls then refuses to choose. An
    // error says that the process has chosen already, which serves as well.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let webrtc = WebRtc::new(keypair.clone(), webrtc_certificate(keypair)?);
    let webrtc = webrtc
        .map(|(peer, connection), _| (peer, small_writes::muxer(StreamMuxerBox::new(connection))))
        .boxed();
    let mut seed = [0; 16];
    platform::random(&mut seed).map_err(|error| failed("webrtc", error))?;
    let hosted = hosts::Hosted::new(webrtc, &seed);
    Ok(hosted
        .map(|(peer, muxer), _| (peer, Linked::unknown(muxer)))
        .boxed())
}

/// The identity's certificate for WebRTC. Its peers compare the hash and no times, so it has no end.
#[cfg(feature = "webrtc")]
fn webrtc_certificate(
    keypair: &Keypair,
) -> Result<libp2p_webrtc::tokio::Certificate, NetworkError> {
    use pem::{EncodeConfig, LineEnding, Pem};
    /// No well-defined end (RFC 5280, 4.1.2.5): the last second of the year 9999.
    const NEVER: u64 = 253_402_300_799;
    let root = certificates::root(keypair);
    let made = certificates::derive(&root, "webrtc", [0, NEVER]);
    let certificates::Certificate { der, key } = made.map_err(|error| failed("webrtc", error))?;
    // `webrtc`'s own form of a certificate: when it ends, its key, and itself.
    let blocks = [
        Pem::new("EXPIRES", NEVER.to_le_bytes()),
        Pem::new("PRIVATE_KEY", key),
        Pem::new("CERTIFICATE", der),
    ];
    let lines = EncodeConfig::new().set_line_ending(LineEnding::LF);
    let text = pem::encode_many_config(&blocks, lines);
    libp2p_webrtc::tokio::Certificate::from_pem(&text).map_err(|error| failed("webrtc", error))
}

/// Without the feature `webrtc`: a transport that takes no address.
#[cfg(not(feature = "webrtc"))]
fn webrtc(_: &Keypair) -> Result<Linking, NetworkError> {
    Ok(DummyTransport::<(PeerId, Linked)>::new().boxed())
}

fn failed(transport: &'static str, error: impl ToString) -> NetworkError {
    NetworkError::Transport {
        transport,
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use libp2p::core::{Endpoint, transport::DialOpts, transport::PortUse};

    use super::*;

    #[tokio::test]
    async fn without_a_nameserver_a_name_is_not_found_and_the_dial_says_so() {
        let mut transport = nameless(Tcp::new());
        let options = DialOpts {
            role: Endpoint::Dialer,
            port_use: PortUse::New,
        };
        let name = "/dns4/node.example/tcp/1".parse().expect("an address");
        let dialled = transport.dial(name, options).expect("such an address");
        let error = dialled.await.expect_err("nobody to ask");
        // `network/reasons.rs` makes a sentence of it.
        let mut reason: &dyn std::error::Error = &error;
        while let Some(source) = reason.source() {
            reason = source;
        }
        assert_eq!(reason.to_string(), "no connections available");
    }
}
