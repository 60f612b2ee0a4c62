//! What peers may do, and what misbehaviour costs them.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    error::ConfigError,
    traffic::{Limits, Rate},
    transport,
};

/// What peers may do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecurityConfig {
    /// The encryption of TCP and WebSocket connections.
    pub noise_config: NoiseConfig,
    /// The certificate that browsers want of a WebSocket listener with TLS.
    pub tls_config: TlsConfig,
    /// The price of misbehaviour.
    pub peer_scoring: PeerScoringConfig,
    /// How much a peer may ask.
    pub rate_limits: RateLimitConfig,
    /// Who is kept out, and for how long.
    pub blacklist_config: BlacklistConfig,
    /// How many connections an address may have.
    pub connection_limits: ConnectionLimitsConfig,
}

/// Noise XX (libp2p/specs noise).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NoiseConfig {
    /// A secret that both sides must know for the handshake to succeed: a closed network. It binds TCP, WebSocket and circuits
    /// only, so the node listens and dials on no other transport beside it. **Default:** none.
    pub prologue: Option<String>,
}

impl NoiseConfig {
    /// Whether only transports may be used that this handshake protects.
    pub(crate) fn is_closed(&self) -> bool {
        self.prologue.is_some()
    }
}

/// A certificate of a CA, and its key, for listeners at `/tls/ws` or `/wss`: a page that was loaded over https opens no WebSocket without.
/// Natively only. The files are looked at every 2 s, and what is new and right in them is shown to whoever comes from then on; no connection
/// ends for that. Paths are relative to the working directory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate's file in PEM, the host's own first and then those that vouch for it; at most 1 MiB. **Default:** none.
    pub certificate: Option<PathBuf>,
    /// Its private key's file in PEM, without a passphrase. **Default:** none.
    pub key: Option<PathBuf>,
}

impl TlsConfig {
    /// Reads both files, if they are named, as a node does at its start that listens with TLS.
    ///
    /// # Errors
    /// Which file is of no use, why, and what to do. In a browser none, since nobody listens there.
    pub fn check_files(&self) -> Result<(), ConfigError> {
        transport::check_certificate(self)
    }
}

/// A peer's score: typed events, halved over time (after Lighthouse's peer manager).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PeerScoringConfig {
    /// The time in which a score moves half way back to zero. **Default:** 600 s.
    #[serde(with = "humantime_serde")]
    pub half_life: Duration,
    /// At or below it a peer is disconnected. **Default:** -20.
    pub disconnect_at: f64,
    /// At or below it a peer is banned. **Default:** -50.
    pub ban_at: f64,
    /// Peers whose score is remembered; the one nearest to zero is forgotten first. **Default:** 10,000.
    pub max_peers: usize,
}

impl Default for PeerScoringConfig {
    fn default() -> Self {
        Self {
            half_life: Duration::from_secs(600),
            disconnect_at: -20.0,
            ban_at: -50.0,
            max_peers: 10_000,
        }
    }
}

/// How much one peer may ask of this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimitConfig {
    /// Direct messages per second and peer, on average. **Default:** 100.
    pub messages_per_second: u32,
    /// Direct messages at once above the average. **Default:** 200.
    pub burst: u32,
    /// Votes per second that are taken from one peer, and passed on to it, on average; a quarter of them at once, so that nobody's have to
    /// wait for long behind what came in one go. A peer that sends more is read more slowly. **Default:** 20,000.
    pub votes_per_second: u32,
    /// The same for transactions, and for announcements of such; twice as many at once. **Default:** 1,000,000.
    pub transactions_per_second: u32,
    /// The link's capacity in bytes per second, to which `bandwidth_utilization` relates. **Default:** 125,000,000 (1 Gbit/s).
    pub link_bytes_per_second: u64,
}

impl RateLimitConfig {
    /// These limits, and the defaults of the others.
    pub(super) fn limits(&self) -> Limits {
        let items = |per_second: u32, burst: u64| {
            let per_second = per_second.into();
            Some(Rate { per_second, burst })
        };
        let mut limits = Limits::default();
        // The burst comes on top of the one that is due.
        limits.message.items = items(self.messages_per_second, u64::from(self.burst) + 1);
        limits.vote.items = items(
            self.votes_per_second,
            u64::from(self.votes_per_second.div_ceil(4)),
        );
        limits.transaction.items = items(
            self.transactions_per_second,
            u64::from(self.transactions_per_second) * 2,
        );
        limits
    }
}

impl Default for RateLimitConfig {
    fn default() -> Self {
        Self {
            messages_per_second: 100,
            burst: 200,
            votes_per_second: 20_000,
            transactions_per_second: 1_000_000,
            link_bytes_per_second: 125_000_000,
        }
    }
}

/// Who is kept out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BlacklistConfig {
    /// Peers that are never let in. **Default:** none.
    pub peers: Vec<String>,
    /// How long a ban lasts. **Default:** 1 h.
    #[serde(with = "humantime_serde")]
    pub ban_duration: Duration,
    /// Bans kept at once. Of more the one that ends first of those for misdeeds is dropped; where all are the user's, none for a misdeed is kept.
    /// **Default:** 10,000.
    pub max_bans: usize,
}

impl Default for BlacklistConfig {
    fn default() -> Self {
        Self {
            peers: Vec::new(),
            ban_duration: Duration::from_secs(3600),
            max_bans: 10_000,
        }
    }
}

/// How many connections others may open, by their address: an IPv4 address, or the first 64 bits of one of IPv6. When all
/// places for handshakes are taken, the longest silent of the most crowded address gives way (see [`crate::peers::Handshakes`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionLimitsConfig {
    /// Connections at once that have not proved who they are yet. **Default:** 512.
    pub handshakes: usize,
    /// Of these, the most from one address: enough for a test network of some hundred nodes on one host, all starting at
    /// once. **Default:** 256.
    pub handshakes_per_address: usize,
    /// Connections that one public address may have opened. Loopback and private addresses have no limit but
    /// `network.max_peers`, since a test network, a reverse proxy or an office may stand behind one. Where there are as many, one whose
    /// peer has not said hello gives way to a newcomer from there; it counts until it is gone, so for moments there may be twice as many.
    /// How fast an address may open them has no limit. **Default:** 32.
    pub connections_per_address: usize,
    /// Where `network.max_peers` have a place and one more wants one, the least useful of those that came by themselves are let go until so many are left, as far as there are
    /// such. 0: one goes for one that comes. **Default:** 0.
    pub low_watermark: usize,
}

impl Default for ConnectionLimitsConfig {
    fn default() -> Self {
        Self {
            handshakes: 512,
            handshakes_per_address: 256,
            connections_per_address: 32,
            low_watermark: 0,
        }
    }
}
