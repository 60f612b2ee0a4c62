//! How bytes reach a peer.
//!
//! `native.rs`, `browser.rs` and `simulated.rs` are siblings with the same signatures: [`build`] makes the transports of that skin as one,
//! [`local_discovery`] the search on the local network (`mdns.rs`; a browser has none). `door.rs` stands before all of them and limits
//! what is dialled and who may knock (`newcomers.rs`). [`meter`] counts every byte on either, `multiplex.rs` bounds what peers may have unread on the ones that are one stream of bytes, and says in `links.rs` which it reads no further for that; `quic.rs` on QUIC, which is ours since libp2p's leaves too much open, and on WebTransport, `closing.rs` lets no peer delay the end of its connection, `small_writes.rs` keeps WebRTC's messages short, `hosts.rs` lets a native node's WebRTC tasks end. `websocket.rs` and `webrtc.rs` are the browser's own
//! transports: the stock ones poll, and lose messages. `webtransport.rs` is the native node's, which rust-libp2p lacks; `wss.rs` is its WebSocket, whose
//! certificate may be renewed, and `tcp.rs` its TCP, which shares a port with nobody. `certificates.rs` derives from the identity those of which addresses have the hash.

#[cfg(not(any(target_arch = "wasm32", selkie_sim)))]
mod certificates;
mod closing;
mod door;
#[cfg(all(feature = "webrtc", not(any(target_arch = "wasm32", selkie_sim))))]
mod hosts;
pub mod links;
pub mod meter;
mod multiplex;
mod newcomers;
#[cfg(any(all(feature = "webrtc", not(selkie_sim)), target_arch = "wasm32"))]
mod small_writes;

#[cfg(target_arch = "wasm32")]
mod browser;
#[cfg(not(any(target_arch = "wasm32", selkie_sim)))]
mod mdns;
#[cfg(not(any(target_arch = "wasm32", selkie_sim)))]
mod native;
#[cfg(not(any(target_arch = "wasm32", selkie_sim)))]
mod quic;
#[cfg(selkie_sim)]
mod simulated;
#[cfg(not(any(target_arch = "wasm32", selkie_sim)))]
mod tcp;
#[cfg(target_arch = "wasm32")]
mod ungranted;
#[cfg(target_arch = "wasm32")]
pub mod webrtc;
#[cfg(target_arch = "wasm32")]
pub mod websocket;
#[cfg(not(any(target_arch = "wasm32", selkie_sim)))]
pub mod webtransport;
#[cfg(not(any(target_arch = "wasm32", selkie_sim)))]
mod wss;

#[cfg(target_arch = "wasm32")]
pub use browser::{
    LocalDiscovery, TAKES_NAMES, ask_neighbours, build, check_certificate, dials, found,
    listens_on, local_discovery, needs_certificate,
};
pub use door::{SharedPolicy, is_refused_here};
#[doc(hidden)]
#[cfg(not(any(target_arch = "wasm32", selkie_sim)))]
pub use mdns::check_mdns;
#[cfg(not(any(target_arch = "wasm32", selkie_sim)))]
pub use native::{
    LocalDiscovery, TAKES_NAMES, ask_neighbours, build, check_certificate, dials, found,
    listens_on, local_discovery, needs_certificate,
};
#[cfg(selkie_sim)]
pub use simulated::{
    LocalDiscovery, TAKES_NAMES, ask_neighbours, build, check_certificate, dials, found,
    listens_on, local_discovery, needs_certificate,
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::{
    PeerId, Transport as _,
    core::{ConnectedPoint, muxing::StreamMuxerBox, transport::Boxed as BoxedTransport},
    noise,
};

use links::{Linked, Links};

use crate::{
    config::{Config, NoiseConfig},
    error::NetworkError,
    peers::Handshakes,
};

/// Transports of one skin as one.
pub type Boxed = BoxedTransport<(PeerId, StreamMuxerBox)>;

/// Noise for the transports that don't encrypt by themselves.
fn noise(
    keypair: &libp2p::identity::Keypair,
    config: &NoiseConfig,
) -> Result<noise::Config, NetworkError> {
    let noise = noise::Config::new(keypair).map_err(|error| NetworkError::Transport {
        transport: "noise",
        reason: error.to_string(),
    })?;
    Ok(match &config.prologue {
        Some(prologue) => noise.with_prologue(prologue.clone().into_bytes()),
        None => noise,
    })
}

/// Streams for the transports that have none by themselves.
fn multiplex(config: &Config) -> multiplex::Multiplex {
    let messages = &config.protocol.request_response_config;
    multiplex::Multiplex::new(messages.max_concurrent_streams)
}

/// A connection that carries such streams, which says whether it is read.
fn linked<C>((peer, connection): (PeerId, multiplex::Connection<C>)) -> (PeerId, Linked)
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let link = connection.link();
    (peer, Linked::new(connection, link))
}

/// What a transport gives out at last: its bytes are counted, and who uses it finds its link.
fn finished(
    meter: &meter::Meter,
    links: &Links,
) -> impl FnOnce((PeerId, Linked), ConnectedPoint) -> (PeerId, StreamMuxerBox) + Clone + Send + 'static
{
    let (meter, links) = (meter.clone(), links.clone());
    move |(peer, linked), endpoint| {
        let muxer = linked.into_muxer(peer, &endpoint, &links);
        (peer, meter.muxer(muxer))
    }
}

/// The transports behind their door.
fn behind_door(inner: Boxed, config: &Config, policy: SharedPolicy) -> Boxed {
    let limits = &config.security.connection_limits;
    let places = Handshakes::new(limits.handshakes, limits.handshakes_per_address);
    let is_closed = config.security.noise_config.is_closed();
    let patience = config.network.connection_timeout;
    door::Door::new(inner, policy, places, patience, is_closed).boxed()
}
