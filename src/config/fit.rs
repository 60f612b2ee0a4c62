//! Which fields must fit together: what one lets in, the other has to hold.
//!
//! A limit on sending that is above the one on carrying would take items, give them an id, and lose them; a store that is
//! smaller than what it stores would stay empty; a patience longer than the time after which all is given up would
//! never end. Each rule is a line: the field that has to be smaller, and the one that has to be larger.

use std::fmt::Debug;

use super::Config;
use crate::{
    chain::{SnapshotError, SnapshotHasher},
    error::ConfigError,
    platform,
    propagation::pool::OVERHEAD,
};

/// An event of an item or a message weighs at most so many bytes more than what it carries.
pub(crate) const EVENT_OVERHEAD: usize = 1024;

/// # Errors
/// The first field that does not fit another one.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    check_sizes(config)?;
    check_chunks(config)?;
    check_counts(config)?;
    check_times(config)?;
    check_scores(config)
}

/// A field's path as it stands in TOML, and its value.
type At<T> = (&'static str, T);

/// A field, from the root of the configuration.
macro_rules! at {
    ($config:ident.$first:ident$(.$rest:ident)*) => {
        (concat!(stringify!($first) $(, ".", stringify!($rest))*), $config.$first$(.$rest)*)
    };
}

/// The second field must be as large as the first, which it has to hold.
fn holds<T: PartialOrd + Debug>(small: At<T>, large: At<T>) -> Result<(), ConfigError> {
    if small.1 <= large.1 {
        return Ok(());
    }
    let problem = format!("give at least {:?}, as {} has it", small.1, small.0);
    Err(ConfigError::new(large.0, format!("{:?}", large.1), problem))
}

/// Chunks are checked in groups, of which they have whole ones.
fn check_chunks(config: &Config) -> Result<(), ConfigError> {
    let (path, size) = at!(config.protocol.sync.snapshots.chunk_bytes);
    let wrong = |error: SnapshotError| ConfigError::new(path, size, error.to_string());
    SnapshotHasher::new(size).map(drop).map_err(wrong)
}

fn check_sizes(config: &Config) -> Result<(), ConfigError> {
    let sent = at!(config.protocol.gossipsub_config.max_transmit_size);
    let block = at!(config.protocol.propagation.blocks.max_block_bytes);
    let coded = at!(config.protocol.propagation.coded.max_block_bytes);
    let transaction = at!(config.protocol.propagation.transactions.max_item);
    let vote = at!(config.protocol.propagation.votes.max_item);
    let rules = [
        // What propagates goes to plain peers by gossip too.
        (vote, sent),
        (block, sent),
        (transaction, sent),
        (
            block,
            at!(config.protocol.propagation.blocks.max_held_bytes),
        ),
        (
            at!(config.protocol.propagation.coded.max_early_bytes),
            at!(config.protocol.propagation.coded.max_bytes),
        ),
    ];
    for (small, large) in rules {
        holds(small, large)?;
    }
    let message = at!(config.protocol.request_response_config.max_message_size);
    let connection = at!(config.protocol.request_response_config.max_connection_bytes);
    holds(message, connection)?;
    holds(
        connection,
        at!(config.protocol.request_response_config.max_bytes),
    )?;
    for (one, all) in [
        (
            at!(config.protocol.validation.votes.per_peer),
            at!(config.protocol.validation.votes.all),
        ),
        (
            at!(config.protocol.validation.blocks.per_peer),
            at!(config.protocol.validation.blocks.all),
        ),
        (
            at!(config.protocol.validation.transactions.per_peer),
            at!(config.protocol.validation.transactions.all),
        ),
        (
            at!(config.protocol.validation.queries.per_peer),
            at!(config.protocol.validation.queries.all),
        ),
    ] {
        holds(one, all)?;
    }
    let unread = at!(config.protocol.validation.max_unread_bytes);
    // What counts with more than itself.
    let more = [
        // A subscriber's queue admits nothing that is larger than itself.
        (sent, 1, EVENT_OVERHEAD, unread),
        (block, 1, EVENT_OVERHEAD, unread),
        (transaction, 1, EVENT_OVERHEAD, unread),
        (vote, 1, EVENT_OVERHEAD, unread),
        // A batch from an honest peer: its largest item, and the overhead of the most that it may hold.
        (
            vote,
            1,
            1 << 20,
            at!(config.protocol.validation.votes.per_peer),
        ),
        (
            block,
            1,
            1 << 20,
            at!(config.protocol.validation.blocks.per_peer),
        ),
        (
            transaction,
            1,
            1 << 20,
            at!(config.protocol.validation.transactions.per_peer),
        ),
        (vote, 1, 1024, message),
        (block, 1, 1024, message),
        (transaction, 1, 1024, message),
        // A quarter may be unread when the largest one comes.
        (
            vote,
            2,
            0,
            at!(config.protocol.propagation.votes.max_log_bytes),
        ),
        (
            block,
            2,
            0,
            at!(config.protocol.propagation.blocks.max_recent_bytes),
        ),
        (
            coded,
            2,
            0,
            at!(config.protocol.propagation.coded.max_bytes),
        ),
        (
            transaction,
            1,
            OVERHEAD,
            at!(config.protocol.propagation.mempool.max_bytes),
        ),
    ];
    for ((path, item), times, over, (large, room)) in more {
        let least = item.saturating_mul(times).saturating_add(over);
        if room < least {
            let problem =
                format!("give at least {least}, for an item of {path} and what is kept with it");
            return Err(ConfigError::new(large, room, problem));
        }
    }
    Ok(())
}

fn check_counts(config: &Config) -> Result<(), ConfigError> {
    holds(
        at!(config.protocol.gossipsub_config.mesh_n_low),
        at!(config.protocol.gossipsub_config.mesh_n),
    )?;
    holds(
        at!(config.protocol.gossipsub_config.mesh_n),
        at!(config.protocol.gossipsub_config.mesh_n_high),
    )?;
    let validation = &config.protocol.validation;
    let (reserved, checks) = (validation.reserved_for_votes, validation.max_in_flight);
    if reserved >= checks {
        let field = "protocol.validation.reserved_for_votes";
        let problem = "give a number below protocol.validation.max_in_flight";
        return Err(ConfigError::new(field, reserved, problem));
    }
    holds(
        at!(config.protocol.propagation.blocks.max_in_progress_per_peer),
        at!(config.protocol.propagation.blocks.max_in_progress),
    )?;
    holds(
        at!(config.protocol.propagation.coded.max_introduced),
        at!(config.protocol.propagation.coded.max_broadcasts),
    )?;
    holds(
        at!(config.security.connection_limits.handshakes_per_address),
        at!(config.security.connection_limits.handshakes),
    )?;
    holds(
        at!(config.security.connection_limits.low_watermark),
        at!(config.network.max_peers),
    )?;
    let budgets = [
        (
            at!(config.protocol.propagation.upload.per_peer),
            at!(config.protocol.propagation.upload.global),
        ),
        (
            at!(config.protocol.propagation.download.per_peer),
            at!(config.protocol.propagation.download.global),
        ),
    ];
    for ((small, one), (large, all)) in budgets {
        if let (Some(one), Some(all)) = (one, all) {
            holds((small, one), (large, all))?;
        }
    }
    Ok(())
}

fn check_times(config: &Config) -> Result<(), ConfigError> {
    let rules = [
        (
            at!(config.protocol.propagation.blocks.patience),
            at!(config.protocol.propagation.blocks.give_up_after),
        ),
        (
            at!(config.protocol.propagation.coded.patience),
            at!(config.protocol.propagation.coded.give_up_after),
        ),
        (
            at!(config.protocol.propagation.coded.give_up_after),
            at!(config.protocol.propagation.coded.lifetime),
        ),
        (
            at!(config.protocol.propagation.reconcile.min_age),
            at!(config.protocol.propagation.mempool.max_age),
        ),
    ];
    rules
        .into_iter()
        .try_for_each(|(small, large)| holds(small, large))
}

fn check_scores(config: &Config) -> Result<(), ConfigError> {
    let (small, ban) = at!(config.security.peer_scoring.ban_at);
    let (large, disconnect) = at!(config.security.peer_scoring.disconnect_at);
    if ban <= disconnect {
        return Ok(());
    }
    let [ban, disconnect] = [ban, disconnect].map(platform::digits);
    let problem = format!("give at least {ban}, as {small} has it");
    Err(ConfigError::new(large, disconnect, problem))
}
