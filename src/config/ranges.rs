//! What each field of a configuration may be: one table, a line a field.
//!
//! A time below its range would have the node wake up without an end, one above it would overflow a clock; a count of 0
//! would forbid what the field allows, and a size above it could not be sent. A test walks over every leaf of a
//! whole [`Config`], so that a field cannot be forgotten here. How fields must fit together is in `fit.rs`.

use std::{fmt, num::NonZeroU64, time::Duration};

use super::{Config, TlsConfig};
use crate::{
    chain::{MAX_SNAPSHOT_CHUNK, MAX_STATE_ROOT, SNAPSHOT_GROUP},
    error::ConfigError,
    platform,
    propagation::{blocks::compact::MAX_PREFILLED_BYTES, wire::MAX_ITEM},
    sync::snapshots::wire::{MAX_OFFERS, MAX_PIECE_GROUPS},
};

const MILLISECOND: Duration = Duration::from_millis(1);
/// What is waited for is not looked at more often.
const TICK: Duration = Duration::from_millis(10);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);
const WEEK: Duration = Duration::from_secs(7 * 86_400);
/// No limit on an item, a message or a memory is smaller, in bytes.
const KIBIBYTE: u64 = 1 << 10;
/// No memory is larger, in bytes: a 32-bit browser's could not be.
const GIBIBYTE: u64 = 1 << 30;
/// What is asked of one peer at once, in bytes: of the least items no more than it answers, whatever its own configuration says.
const REQUESTED: u64 = 8 << 20;
/// The largest item that a frame holds, in bytes.
const ITEM: u64 = MAX_ITEM as u64;
/// What a compact block may bring along, in bytes.
const PREFILL: u64 = MAX_PREFILLED_BYTES as u64;
/// The longest path of a file: Linux' limit.
const MAX_PATH: u64 = 4096;
/// The most items a second: more than any machine checks.
const PER_SECOND: u64 = 100_000_000;
/// With less than this, in bytes a second, peers would take the node for one that does not answer.
const LEAST_BUDGET: u64 = 200_000;

/// A field of a configuration: where it stands, what it is, and what it may be.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ConfigField {
    /// As in TOML: `network.max_peers`.
    pub path: &'static str,
    /// Its value.
    pub value: Quantity,
    /// The least that it may be, in the same unit.
    pub least: Quantity,
    /// The most that it may be, in the same unit.
    pub most: Quantity,
}

/// A value with its unit.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Quantity {
    /// A number of things.
    Count(u64),
    /// A size.
    Bytes(u64),
    /// A rate.
    BytesPerSecond(u64),
    /// A length of time.
    Time(Duration),
    /// A score.
    Score(f64),
    /// Of a list.
    Entries(u64),
    /// Of a text, as bytes of UTF-8.
    Characters(u64),
}

impl ConfigField {
    /// # Errors
    /// Where the value is out of its range; NaN always is.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.least <= self.value && self.value <= self.most {
            return Ok(());
        }
        let [least, most] = [self.least, self.most];
        let problem = match self.value {
            Quantity::Count(_) | Quantity::Score(_) => {
                format!("give a number from {least} to {most}")
            }
            Quantity::Bytes(_) => format!("give a number of bytes from {least} to {most}"),
            Quantity::BytesPerSecond(_) => {
                format!("give {least} to {most} bytes a second, or leave it out")
            }
            Quantity::Time(_) => {
                format!("give a time from {least} to {most}, such as \"10s\" or \"5m\"")
            }
            Quantity::Entries(_) => format!("give at most {most} entries"),
            Quantity::Characters(_) => {
                format!("give {least} to {most} characters; one beyond ASCII counts as 2 to 4")
            }
        };
        Err(ConfigError::new(self.path, self.value, problem))
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(number)
            | Self::Bytes(number)
            | Self::BytesPerSecond(number)
            | Self::Entries(number)
            | Self::Characters(number) => number.fmt(f),
            Self::Time(time) => write!(f, "{time:?}"),
            Self::Score(score) => f.write_str(&platform::digits(*score)),
        }
    }
}

/// A field's path as it stands in TOML, and its value.
macro_rules! at {
    ($config:ident.$first:ident$(.$rest:ident)*) => {
        (concat!(stringify!($first) $(, ".", stringify!($rest))*), &$config.$first$(.$rest)*)
    };
}

/// The fields of one [`crate::propagation::TreeConfig`].
macro_rules! tree {
    ($config:ident.$($path:ident).+) => {
        [
            count(at!($config.$($path).+.push_peers), 0, 1000),
            time(at!($config.$($path).+.push_interval), Duration::ZERO, SECOND),
            time(at!($config.$($path).+.announce_interval), MILLISECOND, SECOND),
            time(at!($config.$($path).+.fetch_patience), MILLISECOND, HOUR),
            time(at!($config.$($path).+.fetch_timeout), TICK, HOUR),
            count(at!($config.$($path).+.max_announced), 1, 1 << 20),
            bytes(at!($config.$($path).+.max_requested_bytes), KIBIBYTE, REQUESTED),
            bytes(at!($config.$($path).+.max_item), KIBIBYTE, ITEM),
            bytes(at!($config.$($path).+.max_log_bytes), KIBIBYTE, GIBIBYTE),
        ]
    };
}

/// The fields of one [`crate::traffic::BudgetConfig`].
macro_rules! budget {
    ($config:ident.$($path:ident).+) => {
        [
            rate(at!($config.$($path).+.global)),
            rate(at!($config.$($path).+.per_peer)),
            Some(count(at!($config.$($path).+.max_peers), 1, 100_000)),
        ]
        .into_iter()
        .flatten()
    };
}

/// All fields that are numbers or times, or are counted.
pub(super) fn fields(config: &Config) -> Vec<ConfigField> {
    let mut fields = network(config);
    fields.extend(protocol(config));
    fields.extend(propagation(config));
    fields.extend(sync(config));
    fields.extend(snapshots(config));
    fields.extend(security(config));
    fields
}

fn network(config: &Config) -> Vec<ConfigField> {
    vec![
        list(at!(config.network.listen_addresses), 64),
        list(at!(config.network.external_addresses), 16),
        list(at!(config.network.bootstrap_peers), 1024),
        count(at!(config.network.max_peers), 1, 100_000),
        time(at!(config.network.connection_timeout), TICK, HOUR),
        time(at!(config.network.keepalive_interval), TICK, WEEK),
        text(at!(config.chain.network_id), 1, 64),
        list(at!(config.chain.genesis), 64),
    ]
}

fn protocol(config: &Config) -> Vec<ConfigField> {
    vec![
        count(at!(config.protocol.gossipsub_config.mesh_n), 1, 1000),
        count(at!(config.protocol.gossipsub_config.mesh_n_low), 1, 1000),
        count(at!(config.protocol.gossipsub_config.mesh_n_high), 1, 1000),
        time(
            at!(config.protocol.gossipsub_config.heartbeat_interval),
            TICK,
            HOUR,
        ),
        bytes(
            at!(config.protocol.gossipsub_config.max_transmit_size),
            KIBIBYTE,
            ITEM,
        ),
        time(
            at!(config.protocol.gossipsub_config.duplicate_cache_time),
            TICK,
            WEEK,
        ),
        count(
            at!(config.protocol.gossipsub_config.queue_length),
            16,
            1_000_000,
        ),
        count(
            at!(config.protocol.gossipsub_config.max_plain_peers),
            0,
            100_000,
        ),
        count(
            at!(config.protocol.gossipsub_config.max_messages_per_second),
            1,
            PER_SECOND,
        ),
        bytes(
            at!(config.protocol.gossipsub_config.max_bytes_per_second),
            64 * KIBIBYTE,
            1 << 40,
        ),
        time(
            at!(config.protocol.kademlia_config.query_timeout),
            TICK,
            HOUR,
        ),
        count(at!(config.protocol.kademlia_config.wanted_peers), 0, 1000),
        text(at!(config.protocol.identify_config.agent_version), 1, 64),
        // Peers listen to one telling in so long.
        time(
            at!(config.protocol.identify_config.interval),
            SECOND * 10,
            WEEK,
        ),
        time(
            at!(config.protocol.request_response_config.request_timeout),
            TICK,
            HOUR,
        ),
        bytes(
            at!(config.protocol.request_response_config.max_message_size),
            KIBIBYTE,
            GIBIBYTE,
        ),
        bytes(
            at!(config.protocol.request_response_config.max_connection_bytes),
            KIBIBYTE,
            GIBIBYTE,
        ),
        bytes(
            at!(config.protocol.request_response_config.max_bytes),
            KIBIBYTE,
            GIBIBYTE,
        ),
        count(
            at!(config
                .protocol
                .request_response_config
                .max_concurrent_streams),
            2,
            10_000,
        ),
        count(at!(config.protocol.validation.max_in_flight), 1, 1024),
        count(at!(config.protocol.validation.reserved_for_votes), 0, 1023),
        bytes(
            at!(config.protocol.validation.votes.all),
            KIBIBYTE,
            GIBIBYTE,
        ),
        bytes(
            at!(config.protocol.validation.votes.per_peer),
            KIBIBYTE,
            GIBIBYTE,
        ),
        bytes(
            at!(config.protocol.validation.blocks.all),
            KIBIBYTE,
            GIBIBYTE,
        ),
        bytes(
            at!(config.protocol.validation.blocks.per_peer),
            KIBIBYTE,
            GIBIBYTE,
        ),
        bytes(
            at!(config.protocol.validation.transactions.all),
            KIBIBYTE,
            GIBIBYTE,
        ),
        bytes(
            at!(config.protocol.validation.transactions.per_peer),
            KIBIBYTE,
            GIBIBYTE,
        ),
        count(at!(config.protocol.validation.queries.all), 1, 1 << 20),
        count(at!(config.protocol.validation.queries.per_peer), 1, 1 << 20),
        count(
            at!(config.protocol.validation.max_queries_in_flight),
            1,
            1024,
        ),
        time(
            at!(config.protocol.validation.application_timeout),
            TICK,
            HOUR,
        ),
        bytes(
            at!(config.protocol.validation.max_unread_bytes),
            KIBIBYTE,
            GIBIBYTE,
        ),
    ]
}

fn sync(config: &Config) -> Vec<ConfigField> {
    vec![
        count(at!(config.protocol.sync.max_headers), 16, 1 << 24),
        bytes(
            at!(config.protocol.sync.max_buffer_bytes),
            KIBIBYTE,
            GIBIBYTE,
        ),
        bytes(
            at!(config.protocol.sync.max_serving_bytes),
            KIBIBYTE,
            GIBIBYTE,
        ),
        time(at!(config.protocol.sync.request_timeout), TICK, HOUR),
        time(at!(config.protocol.sync.patience), Duration::ZERO, HOUR),
        count(at!(config.protocol.sync.snapshots.make_every), 0, 1 << 40),
        count(
            at!(config.protocol.sync.snapshots.keep),
            1,
            MAX_OFFERS as u64,
        ),
        bytes(
            at!(config.protocol.sync.snapshots.chunk_bytes),
            SNAPSHOT_GROUP as u64,
            MAX_SNAPSHOT_CHUNK as u64,
        ),
    ]
}

fn snapshots(config: &Config) -> Vec<ConfigField> {
    let mut fields = vec![
        count(
            at!(config.protocol.sync.snapshots.download.max_peers),
            1,
            100_000,
        ),
        bytes(
            at!(config.protocol.sync.snapshots.download.max_snapshot_bytes),
            KIBIBYTE,
            1 << 50,
        ),
        bytes(
            at!(config.protocol.sync.snapshots.download.max_bytes_in_flight),
            KIBIBYTE,
            GIBIBYTE,
        ),
        bytes(
            at!(config.protocol.sync.snapshots.download.max_window),
            KIBIBYTE,
            GIBIBYTE,
        ),
        count(
            at!(config.protocol.sync.snapshots.download.min_gain),
            1,
            1 << 40,
        ),
        time(
            at!(config.protocol.sync.snapshots.download.settle),
            Duration::ZERO,
            HOUR,
        ),
        time(
            at!(config.protocol.sync.snapshots.download.search),
            TICK,
            HOUR,
        ),
        time(
            at!(config.protocol.sync.snapshots.download.trust),
            TICK,
            HOUR,
        ),
        time(
            at!(config.protocol.sync.snapshots.download.patience),
            TICK,
            HOUR,
        ),
        count(
            at!(config.protocol.sync.snapshots.download.max_retries),
            0,
            1000,
        ),
        count(
            at!(config.protocol.sync.snapshots.download.max_rejected),
            1,
            1000,
        ),
        count(
            at!(config.protocol.sync.snapshots.serving.max_peers),
            0,
            100_000,
        ),
        count(
            at!(config.protocol.sync.snapshots.serving.max_requests),
            1,
            1000,
        ),
        count(
            at!(config.protocol.sync.snapshots.serving.max_loads_per_peer),
            1,
            1000,
        ),
        bytes(
            at!(config.protocol.sync.snapshots.serving.max_bytes),
            KIBIBYTE,
            GIBIBYTE,
        ),
        count(
            at!(config.protocol.sync.snapshots.serving.piece_groups),
            1,
            MAX_PIECE_GROUPS as u64,
        ),
        time(
            at!(config.protocol.sync.snapshots.serving.patience),
            TICK,
            HOUR,
        ),
        time(
            at!(config.protocol.sync.snapshots.serving.in_use),
            Duration::ZERO,
            WEEK,
        ),
    ];
    if let Some(checkpoint) = &config.protocol.sync.snapshots.download.checkpoint {
        let path = "protocol.sync.snapshots.download.checkpoint.height";
        // TOML knows no larger number.
        fields.push(count((path, &checkpoint.height), 0, i64::MAX as u64));
        let path = "protocol.sync.snapshots.download.checkpoint.state_root";
        fields.push(list((path, &checkpoint.state_root), MAX_STATE_ROOT as u64));
    }
    fields
}

fn propagation(config: &Config) -> Vec<ConfigField> {
    let mut fields = vec![
        // Blocks in compact form.
        bytes(
            at!(config.protocol.propagation.blocks.max_block_bytes),
            KIBIBYTE,
            ITEM,
        ),
        count(
            at!(config.protocol.propagation.blocks.max_in_progress),
            1,
            1024,
        ),
        count(
            at!(config.protocol.propagation.blocks.max_in_progress_per_peer),
            1,
            1024,
        ),
        count(at!(config.protocol.propagation.blocks.max_sources), 1, 1024),
        count(at!(config.protocol.propagation.blocks.max_parallel), 1, 64),
        bytes(
            at!(config.protocol.propagation.blocks.max_held_bytes),
            KIBIBYTE,
            GIBIBYTE,
        ),
        time(at!(config.protocol.propagation.blocks.patience), TICK, HOUR),
        time(
            at!(config.protocol.propagation.blocks.give_up_after),
            TICK,
            HOUR,
        ),
        count(
            at!(config.protocol.propagation.blocks.max_recent_blocks),
            1,
            10_000,
        ),
        bytes(
            at!(config.protocol.propagation.blocks.max_recent_bytes),
            KIBIBYTE,
            GIBIBYTE,
        ),
        count(
            at!(config.protocol.propagation.blocks.max_seen),
            1,
            1_000_000,
        ),
        bytes(
            at!(config.protocol.propagation.blocks.max_prefill_bytes),
            0,
            PREFILL,
        ),
        // Large blocks in coded chunks.
        count(at!(config.protocol.propagation.coded.max_peers), 1, 10_000),
        bytes(
            at!(config.protocol.propagation.coded.max_block_bytes),
            KIBIBYTE,
            ITEM,
        ),
        count(
            at!(config.protocol.propagation.coded.max_broadcasts),
            1,
            1024,
        ),
        bytes(
            at!(config.protocol.propagation.coded.max_bytes),
            KIBIBYTE,
            GIBIBYTE,
        ),
        bytes(
            at!(config.protocol.propagation.coded.max_early_bytes),
            KIBIBYTE,
            GIBIBYTE,
        ),
        count(
            at!(config.protocol.propagation.coded.max_introduced),
            1,
            1024,
        ),
        time(
            at!(config.protocol.propagation.coded.introduce_every),
            MILLISECOND,
            HOUR,
        ),
        count(
            at!(config.protocol.propagation.coded.introduce_burst),
            1,
            10_000,
        ),
        time(at!(config.protocol.propagation.coded.patience), TICK, HOUR),
        time(
            at!(config.protocol.propagation.coded.give_up_after),
            TICK,
            HOUR,
        ),
        time(at!(config.protocol.propagation.coded.lifetime), TICK, HOUR),
        time(
            at!(config.protocol.propagation.coded.doubt),
            MILLISECOND,
            WEEK,
        ),
        // The pool.
        bytes(
            at!(config.protocol.propagation.mempool.max_bytes),
            KIBIBYTE,
            GIBIBYTE,
        ),
        time(
            at!(config.protocol.propagation.mempool.max_age),
            SECOND,
            WEEK,
        ),
        time(
            at!(config.protocol.propagation.mempool.old_after),
            SECOND,
            WEEK,
        ),
        count(
            at!(config.protocol.propagation.mempool.max_seen),
            1,
            1 << 24,
        ),
        time(
            at!(config.protocol.propagation.reconcile.interval),
            TICK,
            WEEK,
        ),
        time(
            at!(config.protocol.propagation.reconcile.min_age),
            Duration::ZERO,
            HOUR,
        ),
    ];
    fields.extend(tree!(config.protocol.propagation.transactions));
    fields.extend(tree!(config.protocol.propagation.votes));
    fields.extend(budget!(config.protocol.propagation.upload));
    fields.extend(budget!(config.protocol.propagation.download));
    fields
}

fn security(config: &Config) -> Vec<ConfigField> {
    let mut fields = vec![
        time(at!(config.security.peer_scoring.half_life), SECOND, WEEK),
        score(at!(config.security.peer_scoring.disconnect_at), -1e6, -0.1),
        score(at!(config.security.peer_scoring.ban_at), -1e6, -0.1),
        count(at!(config.security.peer_scoring.max_peers), 1, 1_000_000),
        count(
            at!(config.security.rate_limits.messages_per_second),
            1,
            PER_SECOND,
        ),
        count(at!(config.security.rate_limits.burst), 1, PER_SECOND),
        count(
            at!(config.security.rate_limits.votes_per_second),
            1,
            PER_SECOND,
        ),
        count(
            at!(config.security.rate_limits.transactions_per_second),
            1,
            PER_SECOND,
        ),
        bytes(
            at!(config.security.rate_limits.link_bytes_per_second),
            1,
            1 << 40,
        ),
        count(
            at!(config.security.connection_limits.handshakes),
            1,
            100_000,
        ),
        count(
            at!(config.security.connection_limits.handshakes_per_address),
            1,
            100_000,
        ),
        count(
            at!(config.security.connection_limits.connections_per_address),
            1,
            100_000,
        ),
        count(
            at!(config.security.connection_limits.low_watermark),
            0,
            100_000,
        ),
        list(at!(config.security.blacklist_config.peers), 100_000),
        time(
            at!(config.security.blacklist_config.ban_duration),
            TICK,
            WEEK,
        ),
        count(at!(config.security.blacklist_config.max_bans), 1, 10_000),
    ];
    if let Some(prologue) = &config.security.noise_config.prologue {
        fields.push(text(("security.noise_config.prologue", prologue), 1, 1024));
    }
    let TlsConfig { certificate, key } = &config.security.tls_config;
    for (path, file) in [
        ("security.tls_config.certificate", certificate),
        ("security.tls_config.key", key),
    ] {
        if let Some(file) = file {
            let name = file.to_string_lossy().into_owned();
            fields.push(text((path, &name), 1, MAX_PATH));
        }
    }
    fields
}

fn count((path, value): (&'static str, &impl Whole), least: u64, most: u64) -> ConfigField {
    let [value, least, most] = [value.whole(), least, most].map(Quantity::Count);
    ConfigField {
        path,
        value,
        least,
        most,
    }
}

fn bytes((path, value): (&'static str, &impl Whole), least: u64, most: u64) -> ConfigField {
    let [value, least, most] = [value.whole(), least, most].map(Quantity::Bytes);
    ConfigField {
        path,
        value,
        least,
        most,
    }
}

/// Without a value nothing is limited, and so nothing is wrong.
fn rate((path, value): (&'static str, &Option<NonZeroU64>)) -> Option<ConfigField> {
    let range = [value.as_ref()?.get(), LEAST_BUDGET, 1 << 40];
    let [value, least, most] = range.map(Quantity::BytesPerSecond);
    Some(ConfigField {
        path,
        value,
        least,
        most,
    })
}

fn time((path, value): (&'static str, &Duration), least: Duration, most: Duration) -> ConfigField {
    let [value, least, most] = [*value, least, most].map(Quantity::Time);
    ConfigField {
        path,
        value,
        least,
        most,
    }
}

fn score((path, value): (&'static str, &f64), least: f64, most: f64) -> ConfigField {
    let [value, least, most] = [*value, least, most].map(Quantity::Score);
    ConfigField {
        path,
        value,
        least,
        most,
    }
}

fn text((path, value): (&'static str, &String), least: u64, most: u64) -> ConfigField {
    let [value, least, most] = [value.len().whole(), least, most].map(Quantity::Characters);
    ConfigField {
        path,
        value,
        least,
        most,
    }
}

fn list<T>((path, value): (&'static str, &Vec<T>), most: u64) -> ConfigField {
    let [value, least, most] = [value.len().whole(), 0, most].map(Quantity::Entries);
    ConfigField {
        path,
        value,
        least,
        most,
    }
}

/// A number without fractions or sign.
trait Whole {
    fn whole(&self) -> u64;
}

impl Whole for usize {
    fn whole(&self) -> u64 {
        u64::try_from(*self).unwrap_or(u64::MAX)
    }
}

impl Whole for u32 {
    fn whole(&self) -> u64 {
        (*self).into()
    }
}

impl Whole for u64 {
    fn whole(&self) -> u64 {
        *self
    }
}
