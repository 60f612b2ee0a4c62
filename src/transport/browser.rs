//! A tab's transports: WebSocket, WebTransport, WebRTC-direct, memory, and circuits through relays.
//! The browser resolves names. Where the host lacks one (a worker has no `RTCPeerConnection`, Node no `WebTransport`),
//! that transport takes no address, and a dial says so.

use std::convert::Infallible;

use libp2p::{
    Multiaddr, PeerId, Transport,
    core::{
        muxing::StreamMuxerBox,
        transport::{MemoryTransport, OptionalTransport, OrTransport},
        upgrade::Version,
    },
    identity::Keypair,
    relay,
    swarm::dummy,
};
use wasm_bindgen::JsValue;

use super::{
    Boxed, SharedPolicy, behind_door, finished, linked,
    links::{Linked, Links},
    meter, multiplex, noise, small_writes, ungranted, webrtc, websocket,
};
use crate::{
    config::{Config, TlsConfig},
    error::{ConfigError, NetworkError},
    peers::{Neighbour, transport_name},
    platform::Executor,
};

/// A tab can't search its local network.
pub type LocalDiscovery = dummy::Behaviour;

/// Nothing to set up.
///
/// # Errors
/// None in a browser.
pub fn local_discovery(_: &Config, _: PeerId) -> Result<LocalDiscovery, NetworkError> {
    Ok(dummy::Behaviour)
}

/// There is nobody to ask.
pub fn ask_neighbours(_: &LocalDiscovery) {}

/// There are no such events.
pub fn found(event: Infallible) -> Neighbour {
    match event {}
}

/// Whether peers may tell names: most nodes have nothing else for a tab.
pub const TAKES_NAMES: bool = true;

/// Whether one of the transports dials addresses of this form, where the host has them all.
pub fn dials(address: &Multiaddr) -> bool {
    use libp2p::multiaddr::Protocol::P2pCircuit;
    match transport_name(address) {
        "circuit" => {
            let relay = address.iter().take_while(|part| *part != P2pCircuit);
            dials(&relay.collect())
        }
        name => matches!(
            name,
            "ws" | "wss" | "webtransport" | "webrtc-direct" | "memory"
        ),
    }
}

/// A tab listens at nothing but memory, and at relays.
pub fn listens_on(address: &Multiaddr) -> bool {
    use libp2p::multiaddr::Protocol::{Memory, P2p, P2pCircuit};
    let parts: Vec<_> = address.iter().collect();
    // A place at a relay, whose address and id say where.
    matches!(parts.as_slice(), [Memory(_)] | [_, .., P2p(_), P2pCircuit])
}

/// Whether who listens there needs a certificate of a CA: nobody listens here.
pub fn needs_certificate(_: &Multiaddr) -> bool {
    false
}

/// Looks at a certificate's files: there are none here.
///
/// # Errors
/// None.
pub fn check_certificate(_: &TlsConfig) -> Result<(), ConfigError> {
    Ok(())
}

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
    _: &Executor,
) -> Result<Boxed, NetworkError> {
    let noise = noise(keypair, &config.security.noise_config)?;
    let streams = OrTransport::new(
        relay,
        OrTransport::new(websocket::Transport::new(), MemoryTransport::new()),
    )
    .upgrade(Version::V1Lazy)
    .authenticate(noise)
    .multiplex(multiplex(config))
    .map(|connected, _| linked(connected));
    // A prologue binds none of these two.
    let open = !config.security.noise_config.is_closed();
    let webtransport = (open && present("WebTransport")).then(|| {
        let config = libp2p_webtransport_websys::Config::new(keypair);
        libp2p_webtransport_websys::Transport::new(config)
            .map(|(peer, muxer), _| (peer, ungranted::muxer(StreamMuxerBox::new(muxer))))
    });
    let webrtc = (open && present("RTCPeerConnection")).then(|| {
        webrtc::Transport::new(keypair.clone()).map(|(peer, connection), _| {
            (peer, small_writes::muxer(StreamMuxerBox::new(connection)))
        })
    });
    let transports = OrTransport::new(optional(webtransport), optional(webrtc)).map(|either, _| {
        let (peer, muxer) = either.into_inner();
        (peer, Linked::unknown(muxer))
    });
    let metered = OrTransport::new(streams, transports)
        .map(|either, _| either.into_inner())
        .map(finished(meter, links))
        .boxed();
    Ok(behind_door(metered, config, policy))
}

fn optional<T: Transport>(transport: Option<T>) -> OptionalTransport<T> {
    transport.map_or_else(OptionalTransport::none, OptionalTransport::some)
}

fn present(global: &str) -> bool {
    js_sys::Reflect::has(&js_sys::global(), &JsValue::from_str(global)).unwrap_or(false)
}
