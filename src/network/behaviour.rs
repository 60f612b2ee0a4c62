//! The one behaviour set, the same on both skins.

use std::time::Duration;

use libp2p::{
    StreamProtocol, connection_limits, gossipsub, identify,
    identity::Keypair,
    kad, ping, relay as circuits,
    request_response::{self, ProtocolSupport},
    swarm::NetworkBehaviour,
};
use sha2::{Digest, Sha256};

use super::{codec::FrameCodec, gate::Gate, protocol::Hello};
use crate::{config::Config, error::NetworkError, lanes::Lanes};
use crate::{
    peers::{Bans, Connected, Places},
    platform,
    transport::{LocalDiscovery, SharedPolicy},
};

/// The protocol of the first exchange, the same for all networks.
pub(crate) const HELLO: StreamProtocol = StreamProtocol::new("/selkie/hello/1");

/// Dials that may be under way at once. Who knocks has places of its own (`transport/door.rs`).
const MAX_DIALS: u32 = 256;
/// Other peers' queries that are answered on one connection at once, hello being one message.
const MAX_HELLO_STREAMS: usize = 2;

/// Gossipsub that keeps of each peer no more than so many subscriptions.
pub(crate) type Gossip = gossipsub::Behaviour<
    gossipsub::IdentityTransform,
    gossipsub::MaxCountSubscriptionFilter<gossipsub::AllowAllSubscriptionFilter>,
>;

/// The most topics of one peer that are remembered: our own three and twice what a node may join.
const MAX_SUBSCRIPTIONS: usize = 515;

/// How long an item may wait for a slow peer before it is dropped: a megabyte over a slow line takes seconds, and
/// what is dropped on the way to a mesh peer is not offered to it again. gossipsub's defaults are 5 s for what is
/// published here and 1 s for what is passed on.
const SEND_PATIENCE: Duration = Duration::from_secs(30);

/// All protocols that a node speaks.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    // First, so that whom it turns away reaches no other.
    pub(crate) gate: Gate,
    pub(crate) limits: connection_limits::Behaviour,
    pub(crate) ping: ping::Behaviour,
    pub(crate) identify: identify::Behaviour,
    pub(crate) hello: request_response::Behaviour<FrameCodec>,
    pub(crate) message: request_response::Behaviour<FrameCodec>,
    pub(crate) lanes: Lanes,
    pub(crate) gossip: Gossip,
    pub(crate) kad: kad::Behaviour<kad::store::MemoryStore>,
    pub(crate) local: LocalDiscovery,
    pub(crate) circuits: circuits::client::Behaviour,
}

impl Behaviour {
    /// The behaviours as the configuration wants them.
    pub(crate) fn new(
        config: &Config,
        keypair: &Keypair,
        circuits: circuits::client::Behaviour,
        local: LocalDiscovery,
        policy: SharedPolicy,
    ) -> Result<Self, NetworkError> {
        let peer_id = keypair.public().to_peer_id();
        let network = &config.network;
        let blacklist = &config.security.blacklist_config;
        let always = blacklist
            .peers
            .iter()
            .filter_map(|peer| peer.parse().ok())
            .collect();
        let limits = connection_limits::ConnectionLimits::default()
            .with_max_pending_outgoing(Some(MAX_DIALS));
        let ping = ping::Config::new()
            .with_interval(network.keepalive_interval)
            .with_timeout(network.connection_timeout);
        let told = &config.protocol.identify_config;
        let identify = identify::Config::new("/selkie/1".to_owned(), keypair.public())
            .with_agent_version(told.agent_version.clone())
            .with_interval(told.interval);
        let requests = &config.protocol.request_response_config;
        Ok(Self {
            gate: Gate {
                places: Places::new(network.max_peers),
                bans: Bans::new(always, blacklist.ban_duration, blacklist.max_bans),
                connected: Connected::new(
                    config.security.connection_limits.connections_per_address,
                ),
                policy,
            },
            limits: connection_limits::Behaviour::new(limits),
            ping: ping::Behaviour::new(ping),
            identify: identify::Behaviour::new(identify),
            hello: request_response::Behaviour::with_codec(
                FrameCodec::new(Hello::MAX),
                [(HELLO, ProtocolSupport::Full)],
                request_response::Config::default()
                    .with_request_timeout(network.connection_timeout)
                    .with_max_concurrent_streams(MAX_HELLO_STREAMS),
            ),
            message: request_response::Behaviour::with_codec(
                FrameCodec::new(requests.max_message_size),
                [(config.protocol_name("message/1")?, ProtocolSupport::Full)],
                request_response::Config::default()
                    .with_request_timeout(requests.request_timeout)
                    .with_max_concurrent_streams(requests.max_concurrent_streams),
            ),
            lanes: Lanes::new(config, seeds()?)?,
            gossip: gossip(config)?,
            kad: kad(config, peer_id)?,
            local,
            circuits,
        })
    }
}

/// Random numbers that no peer knows.
fn seeds() -> Result<[[u8; 16]; 4], NetworkError> {
    let mut seeds = [[0; 16]; 4];
    for seed in &mut seeds {
        platform::random(seed).map_err(|error| NetworkError::Transport {
            transport: "random numbers",
            reason: error.to_string(),
        })?;
    }
    Ok(seeds)
}

/// Unsigned, since items carry their own proof; identified by topic and content, so that a
/// copy is a copy whoever sent it; passed on only after the verdict.
fn gossip(config: &Config) -> Result<Gossip, NetworkError> {
    let wrong = |reason: String| NetworkError::Transport {
        transport: "gossipsub",
        reason,
    };
    let gossip = &config.protocol.gossipsub_config;
    let built = gossipsub::ConfigBuilder::default()
        .validation_mode(gossipsub::ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(|message| {
            gossipsub::MessageId::from(message_id(message.topic.as_str(), &message.data))
        })
        .mesh_n(gossip.mesh_n)
        .mesh_n_low(gossip.mesh_n_low)
        .mesh_n_high(gossip.mesh_n_high)
        .mesh_outbound_min(
            (gossip.mesh_n / 2)
                .min(gossip.mesh_n_low.saturating_sub(1))
                .min(2),
        )
        .heartbeat_interval(gossip.heartbeat_interval)
        .max_transmit_size(gossip.max_transmit_size)
        .duplicate_cache_time(gossip.duplicate_cache_time)
        .connection_handler_queue_len(gossip.queue_length)
        .publish_queue_duration(SEND_PATIENCE)
        .forward_queue_duration(SEND_PATIENCE)
        .build()
        .map_err(|error| wrong(error.to_string()))?;
    let subscriptions = gossipsub::MaxCountSubscriptionFilter {
        filter: gossipsub::AllowAllSubscriptionFilter::default(),
        max_subscribed_topics: MAX_SUBSCRIPTIONS,
        max_subscriptions_per_request: MAX_SUBSCRIPTIONS,
    };
    Gossip::new_with_subscription_filter(
        gossipsub::MessageAuthenticity::Anonymous,
        built,
        subscriptions,
    )
    .map_err(|error| wrong(error.to_owned()))
}

/// `sha256(topic || data)[..20]`: docs/wire.md tells implementers to use the same.
pub(crate) fn message_id(topic: &str, data: &[u8]) -> Vec<u8> {
    let digest = Sha256::new()
        .chain_update(topic)
        .chain_update(data)
        .finalize();
    digest.into_iter().take(20).collect()
}

fn kad(
    config: &Config,
    peer_id: libp2p::PeerId,
) -> Result<kad::Behaviour<kad::store::MemoryStore>, NetworkError> {
    let settings = &config.protocol.kademlia_config;
    let store = kad::store::MemoryStore::with_config(
        peer_id,
        kad::store::MemoryStoreConfig {
            max_records: settings.max_records,
            ..Default::default()
        },
    );
    let mut kad_config = kad::Config::new(config.protocol_name("kad/1")?);
    kad_config.set_query_timeout(settings.query_timeout);
    let mut kad = kad::Behaviour::with_config(peer_id, store, kad_config);
    kad.set_mode(Some(if config.serves_dht() {
        kad::Mode::Server
    } else {
        kad::Mode::Client
    }));
    Ok(kad)
}
