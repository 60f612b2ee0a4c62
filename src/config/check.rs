//! What is wrong with a configuration: the first thing that is, with its field, its value and what would be right.

use std::time::Duration;

use libp2p::{PeerId, multiaddr::Protocol};

use crate::config::Config;
use crate::error::ConfigError;

/// No time is set shorter or longer.
const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(7 * 86_400);
/// With less than this peers would take the node for one that does not answer.
const LEAST_BUDGET: u64 = 200_000;

impl Config {
    /// Finds the first thing that is wrong, with its field, its value and what would be right.
    ///
    /// # Errors
    /// [`ConfigError`]; nothing else has happened then.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_times()?;
        self.check_network()?;
        self.check_chain()?;
        self.check_protocol()?;
        self.check_security()
    }

    fn check_times(&self) -> Result<(), ConfigError> {
        let (network, protocol, security) = (&self.network, &self.protocol, &self.security);
        let gossip = &protocol.gossipsub_config;
        let times = [
            ("network.connection_timeout", network.connection_timeout),
            ("network.keepalive_interval", network.keepalive_interval),
            (
                "protocol.gossipsub_config.heartbeat_interval",
                gossip.heartbeat_interval,
            ),
            (
                "protocol.gossipsub_config.duplicate_cache_time",
                gossip.duplicate_cache_time,
            ),
            (
                "protocol.kademlia_config.query_timeout",
                protocol.kademlia_config.query_timeout,
            ),
            (
                "protocol.identify_config.interval",
                protocol.identify_config.interval,
            ),
            (
                "protocol.request_response_config.request_timeout",
                protocol.request_response_config.request_timeout,
            ),
            (
                "security.peer_scoring.half_life",
                security.peer_scoring.half_life,
            ),
            (
                "security.blacklist_config.ban_duration",
                security.blacklist_config.ban_duration,
            ),
        ];
        for (field, time) in times {
            if !(SHORTEST..=LONGEST).contains(&time) {
                return Err(ConfigError::new(
                    field,
                    format!("{time:?}"),
                    "give a time from 10ms to 7days, such as \"10s\" or \"5m\"",
                ));
            }
        }
        Ok(())
    }

    fn check_network(&self) -> Result<(), ConfigError> {
        let network = &self.network;
        if network.max_peers == 0 || network.max_peers > 100_000 {
            return Err(ConfigError::new(
                "network.max_peers",
                network.max_peers,
                "give a number from 1 to 100000",
            ));
        }
        for (index, peer) in network.bootstrap_peers.iter().enumerate() {
            if peer.addresses.is_empty() {
                return Err(ConfigError::new(
                    &format!("network.bootstrap_peers[{index}]"),
                    peer.peer_id,
                    "give at least one address: /ip4/…/tcp/…/p2p/ID",
                ));
            }
        }
        Ok(())
    }

    fn check_chain(&self) -> Result<(), ConfigError> {
        let chain = &self.chain;
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        let id = &chain.network_id;
        if id.is_empty() || id.len() > 64 || !id.chars().all(allowed) {
            return Err(ConfigError::new(
                "chain.network_id",
                id,
                "give 1 to 64 of the characters a-z 0-9 . _ -",
            ));
        }
        if chain.genesis.len() > 64 {
            return Err(ConfigError::new(
                "chain.genesis",
                hex::encode(&chain.genesis),
                "give at most 64 bytes in hex",
            ));
        }
        Ok(())
    }

    fn check_protocol(&self) -> Result<(), ConfigError> {
        let gossip = &self.protocol.gossipsub_config;
        if !(1 <= gossip.mesh_n_low
            && gossip.mesh_n_low <= gossip.mesh_n
            && gossip.mesh_n <= gossip.mesh_n_high)
        {
            let value = format!(
                "{}, {}, {}",
                gossip.mesh_n_low, gossip.mesh_n, gossip.mesh_n_high
            );
            return Err(ConfigError::new(
                "protocol.gossipsub_config.mesh_n_low, mesh_n, mesh_n_high",
                value,
                "give 1 <= mesh_n_low <= mesh_n <= mesh_n_high",
            ));
        }
        let sizes = [
            (
                "protocol.gossipsub_config.max_transmit_size",
                gossip.max_transmit_size,
                1024,
            ),
            (
                "protocol.request_response_config.max_message_size",
                self.protocol.request_response_config.max_message_size,
                1024,
            ),
            (
                "protocol.gossipsub_config.queue_length",
                gossip.queue_length,
                16,
            ),
            (
                "protocol.request_response_config.max_concurrent_streams",
                self.protocol.request_response_config.max_concurrent_streams,
                1,
            ),
            (
                "protocol.kademlia_config.max_records",
                self.protocol.kademlia_config.max_records,
                1,
            ),
            (
                "protocol.validation.max_in_flight",
                self.protocol.validation.max_in_flight,
                1,
            ),
            (
                "protocol.validation.max_queued_bytes",
                self.protocol.validation.max_queued_bytes,
                gossip.max_transmit_size,
            ),
            (
                "protocol.validation.max_unread_bytes",
                self.protocol.validation.max_unread_bytes,
                gossip.max_transmit_size,
            ),
        ];
        for (field, value, least) in sizes {
            if value < least || value > 1 << 30 {
                return Err(ConfigError::new(
                    field,
                    value,
                    format!("give a number from {least} to {}", 1 << 30),
                ));
            }
        }
        let propagation = &self.protocol.propagation;
        let budgets = [
            (
                "protocol.propagation.upload.global",
                propagation.upload.global,
            ),
            (
                "protocol.propagation.upload.per_peer",
                propagation.upload.per_peer,
            ),
            (
                "protocol.propagation.download.global",
                propagation.download.global,
            ),
            (
                "protocol.propagation.download.per_peer",
                propagation.download.per_peer,
            ),
        ];
        for (field, rate) in budgets {
            if let Some(rate) = rate.filter(|rate| rate.get() < LEAST_BUDGET) {
                let problem =
                    format!("give at least {LEAST_BUDGET} bytes a second, or leave it out");
                return Err(ConfigError::new(field, rate, problem));
            }
        }
        let agent = &self.protocol.identify_config.agent_version;
        if agent.is_empty() || agent.len() > 64 || agent.chars().any(char::is_control) {
            return Err(ConfigError::new(
                "protocol.identify_config.agent_version",
                agent,
                "give 1 to 64 printable characters",
            ));
        }
        Ok(())
    }

    fn check_security(&self) -> Result<(), ConfigError> {
        let security = &self.security;
        let scoring = &security.peer_scoring;
        // NaN fails these comparisons too, as it should.
        if !(scoring.ban_at <= scoring.disconnect_at && scoring.disconnect_at < 0.0) {
            let value = format!("{}, {}", scoring.ban_at, scoring.disconnect_at);
            return Err(ConfigError::new(
                "security.peer_scoring.ban_at, disconnect_at",
                value,
                "give ban_at <= disconnect_at < 0",
            ));
        }
        let positive = [
            ("security.peer_scoring.max_peers", scoring.max_peers as u64),
            (
                "security.rate_limits.messages_per_second",
                security.rate_limits.messages_per_second.into(),
            ),
            (
                "security.rate_limits.burst",
                security.rate_limits.burst.into(),
            ),
            (
                "security.rate_limits.votes_per_second",
                security.rate_limits.votes_per_second.into(),
            ),
            (
                "security.rate_limits.transactions_per_second",
                security.rate_limits.transactions_per_second.into(),
            ),
            (
                "security.rate_limits.link_bytes_per_second",
                security.rate_limits.link_bytes_per_second,
            ),
            (
                "security.blacklist_config.max_bans",
                security.blacklist_config.max_bans as u64,
            ),
            (
                "security.connection_limits.handshakes",
                security.connection_limits.handshakes as u64,
            ),
            (
                "security.connection_limits.handshakes_per_address",
                security.connection_limits.handshakes_per_address as u64,
            ),
            (
                "security.connection_limits.connections_per_address",
                security.connection_limits.connections_per_address as u64,
            ),
        ];
        for (field, value) in positive {
            if value == 0 {
                return Err(ConfigError::new(field, value, "give a number above 0"));
            }
        }
        for peer in &security.blacklist_config.peers {
            if peer.parse::<PeerId>().is_err() {
                return Err(ConfigError::new(
                    "security.blacklist_config.peers",
                    peer,
                    "give peer ids such as 12D3KooW…",
                ));
            }
        }
        self.check_prologue()
    }

    fn check_prologue(&self) -> Result<(), ConfigError> {
        if self.security.noise_config.prologue.is_none() {
            return Ok(());
        }
        let unbound = |p: Protocol<'_>| {
            matches!(
                p,
                Protocol::Quic | Protocol::QuicV1 | Protocol::WebRTCDirect | Protocol::WebTransport
            )
        };
        let mut addresses = self.network.listen_addresses.iter();
        match addresses.find(|address| address.iter().any(unbound)) {
            Some(address) => Err(ConfigError::new(
                "network.listen_addresses",
                address,
                "security.noise_config.prologue binds TCP and WebSocket only; remove this address or the prologue",
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn defaults_are_right() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn an_error_names_field_value_and_remedy() {
        let mut config = Config::default();
        config.network.max_peers = 0;
        let error = config.check().expect_err("no peers at all");
        assert_eq!(
            error.to_string(),
            "config: network.max_peers = 0: give a number from 1 to 100000"
        );
        let mut config = Config::default();
        config.chain.network_id = "My Net".into();
        assert_eq!(
            config.check().expect_err("capitals").field,
            "chain.network_id"
        );
        let mut config = Config::default();
        config.security.peer_scoring.ban_at = f64::NAN;
        assert!(config.check().is_err());
        let mut config = Config::default();
        config.protocol.propagation.download.per_peer = std::num::NonZeroU64::new(199_999);
        assert_eq!(
            config.check().expect_err("too little").field,
            "protocol.propagation.download.per_peer"
        );
        let mut config = Config::default();
        config.security.noise_config.prologue = Some("secret".into());
        config.network.listen_addresses =
            vec!["/ip4/127.0.0.1/udp/1/quic-v1".parse().expect("an address")];
        assert_eq!(
            config.check().expect_err("unbound").field,
            "network.listen_addresses"
        );
    }
}
