//! Figures about connections, messages and peers, kept in constant memory.
//!
//! Written out they have the names and units that JavaScript knows them by: times are milliseconds.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use libp2p::PeerId;
use serde::{Serialize, Serializer};

use crate::{order, peers::EclipseSign, platform::Instant};

/// Round trips from which the 99th percentile is taken.
const LATENCIES: usize = 1024;
/// Time over which the bandwidth is averaged.
const BANDWIDTH_WINDOW: Duration = Duration::from_secs(10);

/// Figures about connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ConnectionMetrics {
    /// Connections established since the start.
    #[serde(rename = "total")]
    pub total_connections: usize,
    /// Connections open now.
    #[serde(rename = "active")]
    pub active_connections: usize,
    /// Share of attempts, in either direction, that led to a connection, 0 to 1; 1 before the first.
    #[serde(rename = "successRate")]
    pub connection_success_rate: f64,
    /// Mean time from the dial, or from the incoming connection, to an authenticated connection.
    #[serde(rename = "averageConnectMs", serialize_with = "milliseconds")]
    pub average_connection_time: Duration,
    /// Bytes per second in and out over the last 10 s, as a share of `security.rate_limits.link_bytes_per_second`.
    #[serde(rename = "bandwidthUtilization")]
    pub bandwidth_utilization: f64,
}

/// Figures about messages. Items (blocks, transactions, votes), topic messages and direct messages count alike.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MessageMetrics {
    /// Messages that this node originated.
    #[serde(rename = "sent")]
    pub messages_sent: u64,
    /// Messages received, duplicates left out.
    #[serde(rename = "received")]
    pub messages_received: u64,
    /// Items of peers that were refused without a check: too large, or there was no room (`protocol.validation`). Each is told
    /// by an event too.
    #[serde(rename = "itemsTurnedAway")]
    pub items_turned_away: u64,
    /// Bytes written to peers, all protocols.
    #[serde(rename = "bytesSent")]
    pub bytes_sent: u64,
    /// Bytes read from peers, all protocols.
    #[serde(rename = "bytesReceived")]
    pub bytes_received: u64,
    /// 99th percentile of the last 1,024 round trips of pings and direct messages.
    #[serde(rename = "latencyP99Ms", serialize_with = "milliseconds")]
    pub message_latency_p99: Duration,
    /// Share of messages that went out, 0 to 1; 1 before the first. What was handed to no peer counts as lost, and so does what was
    /// dropped for a peer that does not read: each gossiped message, and on the lanes each frame or batch, whatever number of items is in it.
    #[serde(rename = "successRate")]
    pub message_success_rate: f64,
}

/// Figures about peers.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PeerMetrics {
    /// Peers connected now.
    #[serde(rename = "count")]
    pub peer_count: usize,
    /// Connected peers per transport: `tcp`, `quic`, `ws`, …
    #[serde(rename = "distribution")]
    pub peer_distribution: HashMap<String, usize>,
    /// How long each connected peer has been here.
    #[serde(rename = "uptimeMs", serialize_with = "each_in_milliseconds")]
    pub peer_uptime: HashMap<PeerId, Duration>,
    /// Each connected peer's reputation; 0 is neutral.
    #[serde(rename = "reputation")]
    pub peer_reputation: HashMap<PeerId, f64>,
    /// Signs of an eclipse that there are now ([`crate::NetworkEvent::EclipseSuspected`]).
    #[serde(rename = "eclipseSigns")]
    pub eclipse_signs: Vec<EclipseSign>,
}

fn milliseconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64() * 1e3)
}

fn each_in_milliseconds<S: Serializer>(
    times: &HashMap<PeerId, Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let each = times.iter();
    serializer.collect_map(each.map(|(peer, time)| (peer, time.as_secs_f64() * 1e3)))
}

/// What the network task notes.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    established: usize,
    failed: usize,
    connecting: Duration,
    sent: u64,
    unsent: u64,
    received: u64,
    turned_away: u64,
    latencies: VecDeque<Duration>,
    traffic: VecDeque<(Instant, u64)>,
}

impl Recorder {
    pub(crate) fn connected(&mut self, took: Duration) {
        self.established += 1;
        self.connecting += took;
    }

    pub(crate) fn connection_failed(&mut self) {
        self.failed += 1;
    }

    pub(crate) fn sent(&mut self, count: u64) {
        self.sent += count;
    }

    /// So many were dropped, or could not go out.
    pub(crate) fn unsent(&mut self, count: u64) {
        self.unsent += count;
    }

    pub(crate) fn received(&mut self) {
        self.received_many(1);
    }

    pub(crate) fn received_many(&mut self, count: usize) {
        self.received += count as u64;
    }

    pub(crate) fn turned_away(&mut self, count: usize) {
        self.turned_away += count as u64;
    }

    pub(crate) fn round_trip(&mut self, took: Duration) {
        if self.latencies.len() == LATENCIES {
            self.latencies.pop_front();
        }
        self.latencies.push_back(took);
    }

    /// Notes all bytes so far; called about once a second.
    pub(crate) fn traffic(&mut self, bytes: u64, now: Instant) {
        self.traffic.push_back((now, bytes));
        while self
            .traffic
            .front()
            .is_some_and(|(at, _)| now.duration_since(*at) > BANDWIDTH_WINDOW)
        {
            self.traffic.pop_front();
        }
    }

    pub(crate) fn connections(
        &self,
        active: usize,
        link_bytes_per_second: u64,
    ) -> ConnectionMetrics {
        let mean = u32::try_from(self.established)
            .ok()
            .and_then(|count| self.connecting.checked_div(count));
        let rate = match (self.traffic.front(), self.traffic.back()) {
            (Some((from, first)), Some((to, last))) if to > from => {
                (last - first) as f64 / to.duration_since(*from).as_secs_f64()
            }
            _ => 0.0,
        };
        ConnectionMetrics {
            total_connections: self.established,
            active_connections: active,
            connection_success_rate: share(self.established as u64, self.failed as u64),
            average_connection_time: mean.unwrap_or_default(),
            bandwidth_utilization: rate / link_bytes_per_second as f64,
        }
    }

    pub(crate) fn messages(&self, bytes_sent: u64, bytes_received: u64) -> MessageMetrics {
        let mut sorted: Vec<_> = self.latencies.iter().copied().collect();
        order::sort(&mut sorted);
        let rank = (sorted.len() * 99).div_ceil(100).saturating_sub(1);
        MessageMetrics {
            messages_sent: self.sent,
            messages_received: self.received,
            items_turned_away: self.turned_away,
            bytes_sent,
            bytes_received,
            message_latency_p99: sorted.get(rank).copied().unwrap_or_default(),
            message_success_rate: share(self.sent, self.unsent),
        }
    }
}

fn share(good: u64, bad: u64) -> f64 {
    if good + bad == 0 {
        1.0
    } else {
        good as f64 / (good + bad) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn figures_are_what_they_say() {
        let (mut recorder, start) = (Recorder::default(), crate::platform::now());
        assert_eq!(recorder.connections(0, 1000).connection_success_rate, 1.0);
        for milliseconds in 1..=200 {
            recorder.round_trip(Duration::from_millis(milliseconds));
        }
        recorder.sent(150);
        recorder.unsent(50);
        let messages = recorder.messages(1, 2);
        assert_eq!(messages.message_latency_p99, Duration::from_millis(198));
        assert_eq!(
            (messages.messages_sent, messages.message_success_rate),
            (150, 0.75)
        );
        for seconds in 0..20 {
            recorder.traffic(seconds * 500, start + Duration::from_secs(seconds));
        }
        recorder.connected(Duration::from_millis(10));
        recorder.connected(Duration::from_millis(30));
        recorder.connection_failed();
        let connections = recorder.connections(2, 1000);
        assert_eq!(
            connections.average_connection_time,
            Duration::from_millis(20)
        );
        assert_eq!(connections.bandwidth_utilization, 0.5);
        assert!((connections.connection_success_rate - 2.0 / 3.0).abs() < 1e-9);
        assert!(recorder.traffic.len() <= 11);
    }

    #[test]
    fn figures_are_written_out_as_javascript_knows_them() {
        let peer = PeerId::random();
        let peers = PeerMetrics {
            peer_count: 1,
            peer_distribution: HashMap::from([("ws".to_owned(), 1)]),
            peer_uptime: HashMap::from([(peer, Duration::from_millis(1500))]),
            peer_reputation: HashMap::from([(peer, -1.5)]),
            eclipse_signs: vec![EclipseSign::StaleTip],
        };
        let connections = ConnectionMetrics {
            average_connection_time: Duration::from_micros(2500),
            ..ConnectionMetrics::default()
        };
        let written = serde_json::json!({
            "connections": connections,
            "messages": MessageMetrics::default(),
            "peers": peers,
        });
        let peer = peer.to_string();
        let expected = serde_json::json!({
            "connections": {
                "total": 0,
                "active": 0,
                "successRate": 0.0,
                "averageConnectMs": 2.5,
                "bandwidthUtilization": 0.0,
            },
            "messages": {
                "sent": 0,
                "received": 0,
                "itemsTurnedAway": 0,
                "bytesSent": 0,
                "bytesReceived": 0,
                "latencyP99Ms": 0.0,
                "successRate": 0.0,
            },
            "peers": {
                "count": 1,
                "distribution": { "ws": 1 },
                "uptimeMs": { peer.as_str(): 1500.0 },
                "reputation": { peer.as_str(): -1.5 },
                "eclipseSigns": ["stale-tip"],
            },
        });
        assert_eq!(written, expected);
    }
}
