//! The one behaviour set, the same on both skins.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId, StreamProtocol, connection_limits,
    core::{Endpoint, transport::PortUse},
    identify,
    identity::Keypair,
    ping, relay as circuits,
    request_response::{self, ProtocolSupport},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm,
    },
};

use super::{
    codec::FrameCodec,
    combined::combined,
    cores::Cores,
    gate::Gate,
    hello::Hello,
    messages::Messages,
    routing::Routing,
    shared::{SharedTable, seed},
    streams::Streams,
};
use crate::{
    config::Config,
    error::NetworkError,
    gossip::Gossip,
    lanes::Lanes,
    peers::{Connected, Grouping},
    propagation::Propagation,
    sync::core::Syncing,
    transport::{LocalDiscovery, SharedPolicy, links::Links},
};

/// The protocol of the first exchange, the same for all networks.
pub(crate) const HELLO: StreamProtocol = StreamProtocol::new("/selkie/hello/1");

/// Dials that may be under way at once. Who knocks has places of its own (`transport/door.rs`).
pub(crate) const MAX_DIALS: u32 = 256;
/// Pings in a `keepalive_interval`. js-libp2p and go-libp2p end a ping's stream that was idle for ten seconds or more, and
/// libp2p opens the next one with the ping after: one lost stream is no silence.
const PINGS: u32 = 4;
/// Other peers' queries that are answered on one connection at once, hello being one message.
const MAX_HELLO_STREAMS: usize = 2;

combined! {
    /// All protocols that a node speaks.
    pub(crate) struct Behaviour {
        // First, so that whom it turns away reaches no other.
        gate / Gate: Gate,
        ping / Ping: ping::Behaviour,
        identify / Identify: identify::Behaviour,
        hello / Hello: request_response::Behaviour<FrameCodec>,
        message / Message: Messages,
        lanes / Lanes: Lanes<Cores>,
        gossip / Gossip: Gossip,
        routing / Routing: Routing,
        local / Local: LocalDiscovery,
        circuits / Circuits: circuits::client::Behaviour,
        streams / Streams: Streams,
    }
}

impl Behaviour {
    /// The behaviours as the configuration wants them.
    pub(crate) fn new(
        config: &Config,
        keypair: &Keypair,
        circuits: circuits::client::Behaviour,
        local: LocalDiscovery,
        (policy, table, grouping): (SharedPolicy, SharedTable, Grouping),
        sync: Option<Box<dyn Syncing>>,
        links: Links,
    ) -> Result<Self, NetworkError> {
        let peer_id = keypair.public().to_peer_id();
        let network = &config.network;
        let dials = connection_limits::ConnectionLimits::default()
            .with_max_pending_outgoing(Some(MAX_DIALS));
        let ping = ping::Config::new()
            .with_interval(network.keepalive_interval / PINGS)
            .with_timeout(network.connection_timeout);
        let told = &config.protocol.identify_config;
        let identify = identify::Config::new("/selkie/1".to_owned(), keypair.public())
            .with_agent_version(told.agent_version.clone())
            .with_interval(told.interval)
            // Who is where is kept by `routing`.
            .with_cache_size(0);
        let requests = &config.protocol.request_response_config;
        Ok(Self {
            gate: Gate {
                table: Arc::clone(&table),
                connected: Connected::new(
                    config.security.connection_limits.connections_per_address,
                    grouping,
                ),
                policy,
                dials: connection_limits::Behaviour::new(dials),
            },
            ping: ping::Behaviour::new(ping),
            identify: identify::Behaviour::new(identify),
            hello: request_response::Behaviour::with_codec(
                FrameCodec::new(Hello::MAX),
                [(HELLO, ProtocolSupport::Full)],
                request_response::Config::default()
                    .with_request_timeout(network.connection_timeout)
                    .with_max_concurrent_streams(MAX_HELLO_STREAMS),
            ),
            message: Messages::new(
                requests,
                config.protocol_name("message/1")?,
                Arc::clone(&table),
            ),
            lanes: Lanes::new(config, cores(config, sync)?, links.clone())?,
            gossip: Gossip::new(config, peer_id)?,
            routing: Routing::new(config, peer_id)?,
            local,
            circuits,
            streams: Streams::new(table, links, network.connection_timeout),
        })
    }
}

/// What speaks over the lanes.
fn cores(config: &Config, sync: Option<Box<dyn Syncing>>) -> Result<Cores, NetworkError> {
    let seeds = [seed()?, seed()?, seed()?, seed()?];
    Ok(Cores {
        propagation: Propagation::new(&config.protocol.propagation, seeds),
        sync,
    })
}
