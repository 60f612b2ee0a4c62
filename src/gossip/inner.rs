//! libp2p's gossipsub: how it is set up here, and what it does not tell by itself.

use std::{
    collections::{HashMap, HashSet},
    task::{Context, Waker},
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId,
    core::ConnectedPoint,
    gossipsub,
    multiaddr::Protocol,
    swarm::{ConnectionClosed, ConnectionHandler, ConnectionId, FromSwarm, NetworkBehaviour},
};
use sha2::{Digest, Sha256};

use super::sieve::MAX_TOPICS;
use crate::{
    config::{Config, GossipsubConfig},
    error::NetworkError,
};

/// libp2p's own, which keeps of each peer no more than so many subscriptions.
pub(super) type Inner = gossipsub::Behaviour<
    gossipsub::IdentityTransform,
    gossipsub::MaxCountSubscriptionFilter<gossipsub::AllowAllSubscriptionFilter>,
>;

/// How long an item may wait for a slow peer before it is dropped: a megabyte over a slow line takes seconds, and
/// what is dropped on the way to a mesh peer is not offered to it again. gossipsub's defaults are 5 s for what is
/// published here and 1 s for what is passed on.
const SEND_PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of messages that gossipsub keeps to hand on, at the pace at which all are read. A message is handed on only if its verdict is
/// in while it is kept, so that this is how long a check may take.
const MAX_KEPT: u64 = 14 << 20;
/// The longest that it keeps them, however few there may be.
const MAX_WINDOW: Duration = Duration::from_secs(30);
/// gossipsub's own default, which is the least.
const LEAST_HISTORY: usize = 5;

/// For how many heartbeats gossipsub keeps messages.
fn history(config: &GossipsubConfig) -> usize {
    let millis = MAX_KEPT.saturating_mul(1000) / config.max_bytes_per_second.max(1);
    let window = Duration::from_millis(millis).min(MAX_WINDOW);
    let beats = window.as_nanos() / config.heartbeat_interval.as_nanos().max(1);
    usize::try_from(beats)
        .unwrap_or(usize::MAX)
        .max(LEAST_HISTORY)
}

/// How long gossipsub keeps a message, and so waits for its verdict.
pub(super) fn kept_for(config: &GossipsubConfig) -> Duration {
    let beats = u32::try_from(history(config)).unwrap_or(u32::MAX);
    config.heartbeat_interval.saturating_mul(beats)
}

/// Unsigned, since items carry their own proof; identified by topic and content, so that a copy is a copy whoever
/// sent it; passed on only after the verdict. Frames have at most `longest` bytes.
///
/// # Errors
/// [`NetworkError::Transport`]: what libp2p says against the configuration.
pub(super) fn build(config: &Config, longest: usize) -> Result<Inner, NetworkError> {
    let wrong = |reason: String| NetworkError::Transport {
        transport: "gossipsub",
        reason,
    };
    let gossip = &config.protocol.gossipsub_config;
    let built = gossipsub::ConfigBuilder::default()
        .validation_mode(gossipsub::ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(|message| message_id(message.topic.as_str(), &message.data))
        .mesh_n(gossip.mesh_n)
        .mesh_n_low(gossip.mesh_n_low)
        .mesh_n_high(gossip.mesh_n_high)
        .mesh_outbound_min(
            (gossip.mesh_n / 2)
                .min(gossip.mesh_n_low.saturating_sub(1))
                .min(2),
        )
        .heartbeat_interval(gossip.heartbeat_interval)
        .history_length(history(gossip))
        .max_transmit_size(longest)
        .duplicate_cache_time(gossip.duplicate_cache_time)
        .connection_handler_queue_len(gossip.queue_length)
        .publish_queue_duration(SEND_PATIENCE)
        .forward_queue_duration(SEND_PATIENCE)
        .build()
        .map_err(|error| wrong(error.to_string()))?;
    let subscriptions = gossipsub::MaxCountSubscriptionFilter {
        filter: gossipsub::AllowAllSubscriptionFilter::default(),
        max_subscribed_topics: MAX_TOPICS,
        max_subscriptions_per_request: MAX_TOPICS,
    };
    let mut inner = Inner::new_with_subscription_filter(
        gossipsub::MessageAuthenticity::Anonymous,
        built,
        subscriptions,
    )
    .map_err(|error| wrong(error.to_owned()))?;
    let (params, thresholds) = scores(config.security.peer_scoring.disconnect_at);
    inner.with_peer_score(params, thresholds).map_err(wrong)?;
    Ok(inner)
}

/// Whether nothing waits in the queue to a connected peer.
///
/// libp2p lets nobody look into it. But all connections of a peer share it, and a handler that has no stream asks for one
/// exactly if there is something to send. So one more handler is made, asked, and thrown away; of a
/// connection without an IP address, so that no score changes.
pub(super) fn has_read(inner: &mut Inner, peer_id: PeerId) -> bool {
    let connection_id = ConnectionId::new_unchecked(usize::MAX);
    let nowhere = Multiaddr::empty().with(Protocol::Memory(0));
    let handler =
        inner.handle_established_inbound_connection(connection_id, peer_id, &nowhere, &nowhere);
    let asks = handler.map(|mut handler| {
        let mut cx = Context::from_waker(Waker::noop());
        handler.poll(&mut cx).is_ready()
    });
    inner.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
        peer_id,
        connection_id,
        endpoint: &ConnectedPoint::Listener {
            local_addr: nowhere.clone(),
            send_back_addr: nowhere,
        },
        cause: None,
        // The real ones are still there.
        remaining_established: 1,
    }));
    matches!(asks, Ok(false))
}

/// The least score of whom is published to.
pub(super) fn publish_threshold(disconnect_at: f64) -> f64 {
    disconnect_at * 0.75
}

/// gossipsub's peer score, of which only our own reputation and what gossipsub sees for itself (broken promises,
/// grafts while it was told to wait) count. Many peers at one address are none of its business.
fn scores(disconnect_at: f64) -> (gossipsub::PeerScoreParams, gossipsub::PeerScoreThresholds) {
    let params = gossipsub::PeerScoreParams {
        topics: HashMap::new(),
        app_specific_weight: 1.0,
        ip_colocation_factor_weight: 0.0,
        ip_colocation_factor_whitelist: HashSet::new(),
        behaviour_penalty_weight: -1.0,
        behaviour_penalty_threshold: 6.0,
        behaviour_penalty_decay: 0.9,
        slow_peer_weight: 0.0,
        // Identities that come and go leave nothing behind for long; what they did is remembered by the reputation.
        retain_score: Duration::from_secs(60),
        ..Default::default()
    };
    let thresholds = gossipsub::PeerScoreThresholds {
        gossip_threshold: disconnect_at / 2.0,
        publish_threshold: publish_threshold(disconnect_at),
        graylist_threshold: disconnect_at,
        ..Default::default()
    };
    (params, thresholds)
}

/// `sha256(topic || data)[..20]`: docs/wire.md tells implementers to use the same.
pub(super) fn message_id(topic: &str, data: &[u8]) -> gossipsub::MessageId {
    let digest = Sha256::new()
        .chain_update(topic)
        .chain_update(data)
        .finalize();
    digest.into_iter().take(20).collect::<Vec<u8>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn messages_are_kept_for_as_long_as_their_bytes_allow() {
        let config = |heartbeat_interval, max_bytes_per_second| GossipsubConfig {
            heartbeat_interval,
            max_bytes_per_second,
            ..GossipsubConfig::default()
        };
        let usual = GossipsubConfig::default();
        assert_eq!((history(&usual), kept_for(&usual).as_millis()), (5, 3500));
        let second = Duration::from_secs(1);
        assert_eq!(history(&config(second, 64 << 20)), LEAST_HISTORY);
        assert_eq!(history(&config(second, 1)), 30);
        assert_eq!(history(&config(Duration::from_millis(100), 8 << 20)), 17);
        assert!(history(&config(Duration::ZERO, 0)) > LEAST_HISTORY);
        assert_eq!(history(&config(Duration::MAX, u64::MAX)), LEAST_HISTORY);
        assert_eq!(kept_for(&config(Duration::MAX, 1)), Duration::MAX);
    }
}
