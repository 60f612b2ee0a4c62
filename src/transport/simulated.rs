//! A simulated node's transports: the simulator's connections, below the same Noise and Yamux as over TCP, and circuits.

use std::convert::Infallible;

use libp2p::{
    Multiaddr, PeerId, Transport,
    core::{transport::OrTransport, upgrade::Version},
    identity::Keypair,
    relay,
    swarm::dummy,
};

use super::{
    Boxed, SharedPolicy, behind_door, finished, linked, links::Links, meter, multiplex, noise,
};
use crate::{
    config::{Config, TlsConfig},
    error::{ConfigError, NetworkError},
    peers::{Neighbour, transport_name},
    platform::{Executor, simulated::host},
};

/// There is no local network.
pub type LocalDiscovery = dummy::Behaviour;

/// Nothing to set up.
///
/// # Errors
/// None in a simulation.
pub fn local_discovery(_: &Config, _: PeerId) -> Result<LocalDiscovery, NetworkError> {
    Ok(dummy::Behaviour)
}

/// There is nobody to ask.
pub fn ask_neighbours(_: &LocalDiscovery) {}

/// There are no such events.
pub fn found(event: Infallible) -> Neighbour {
    match event {}
}

/// Whether peers may tell names: nodes tell each other IP addresses.
pub const TAKES_NAMES: bool = false;

/// All that a transport can have.
pub fn dials(address: &Multiaddr) -> bool {
    transport_name(address) != "unknown"
}

/// The simulator's addresses have the form of TCP's.
pub fn listens_on(address: &Multiaddr) -> bool {
    use libp2p::multiaddr::Protocol::{Ip4, P2p, P2pCircuit, Tcp};
    let parts: Vec<_> = address.iter().collect();
    matches!(
        parts.as_slice(),
        [Ip4(_), Tcp(_)] | [Ip4(_), Tcp(_), P2p(_)] | [_, .., P2p(_), P2pCircuit]
    )
}

/// Whether who listens there needs a certificate of a CA: there is no TLS here.
pub fn needs_certificate(_: &Multiaddr) -> bool {
    false
}

/// Looks at a certificate's files: nobody needs one here.
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
    let metered = OrTransport::new(relay, host().transport())
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(multiplex(config))
        .map(|connected, _| linked(connected))
        .map(finished(meter, links))
        .boxed();
    Ok(behind_door(metered, config, policy))
}
