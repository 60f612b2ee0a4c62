//! Figures about a node: its connections, messages and peers, as they are at the moment.

use super::P2PNetworkManager;
use crate::observe::{ConnectionMetrics, MessageMetrics, PeerMetrics};
use crate::platform;
use crate::sync::SyncStatus;

impl P2PNetworkManager {
    /// Figures about connections.
    pub fn connection_metrics(&self) -> ConnectionMetrics {
        let state = self.shared.state();
        state.recorder.connections(
            state.connections.len(),
            self.config.security.rate_limits.link_bytes_per_second,
        )
    }

    /// How far the chain is, and to where it is being synced. `None` where the chain does not sync
    /// ([`crate::Application::chain_store`]), and in the first moments.
    pub fn sync_status(&self) -> Option<SyncStatus> {
        self.shared.state().sync.clone()
    }

    /// Figures about messages.
    pub fn message_metrics(&self) -> MessageMetrics {
        let meter = &self.shared.meter;
        self.shared
            .state()
            .recorder
            .messages(meter.sent(), meter.received())
    }

    /// Figures about peers.
    pub fn peer_metrics(&self) -> PeerMetrics {
        let mut metrics = PeerMetrics {
            eclipse_signs: self.shared.state().eclipse_signs.clone(),
            ..PeerMetrics::default()
        };
        let (now, peers) = (platform::now(), self.shared.peers());
        for (peer, since) in peers.shown_since() {
            metrics.peer_count += 1;
            *metrics
                .peer_distribution
                .entry(peer.transport().to_owned())
                .or_default() += 1;
            metrics
                .peer_uptime
                .insert(peer.peer_id, now.saturating_duration_since(since));
            metrics
                .peer_reputation
                .insert(peer.peer_id, peers.reputation().score(&peer.peer_id, now));
        }
        metrics
    }
}
