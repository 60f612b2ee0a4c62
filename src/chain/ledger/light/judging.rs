//! What headers are worth that follow on each other.

use std::time::Duration;

use super::super::{Judgement, header::Header, sync::final_elsewhere};
use super::{Inner, Tip};
use crate::platform::{self, SystemTime};

/// How far ahead of this node's clock the time of a header may be that is not decided, as with Bitcoin.
pub(super) const AHEAD: Duration = Duration::from_secs(2 * 3600);

/// Whether headers are worth having after one of this time, where this is decided.
pub(super) fn judge(
    inner: &Inner,
    headers: &[Header],
    mut time: u64,
    decided: Option<Tip>,
) -> Result<(), (usize, Judgement)> {
    let invalid = |at, what: &str| Err((at, Judgement::Invalid(what.to_owned())));
    let now = platform::date().duration_since(SystemTime::UNIX_EPOCH);
    let latest = now.unwrap_or_default().saturating_add(AHEAD).as_millis();
    let latest = u64::try_from(latest).unwrap_or(u64::MAX);
    // What nobody has signed says nothing, whatever it is about. The last one's signature is for all before it.
    let may_propose = |header: &Header| inner.genesis.proposers.contains(&header.proposer);
    let is_signed = |header: &Header| header.is_signed(&inner.genesis_hash);
    if let Some(at) = headers.iter().position(|header| !may_propose(header)) {
        return invalid(at, "the header is of nobody who may propose");
    }
    if !headers.last().is_none_or(is_signed) {
        let wrong = headers.iter().position(|header| !is_signed(header));
        return invalid(
            wrong.unwrap_or(0),
            "the header is not signed by its proposer",
        );
    }
    for (at, header) in headers.iter().enumerate() {
        if header.time <= time {
            return invalid(at, "it is not after its parent");
        }
        time = header.time;
        let useless = |what: &str| Err((at, Judgement::Useless(what.to_owned())));
        let is_open = decided.is_none_or(|decided| header.height > decided.height);
        if is_open && header.time > latest {
            return useless("its time is more than two hours ahead of this node's clock");
        }
        let is_other = |decided: Tip| header.height == decided.height && header.id() != decided.id;
        if decided.is_some_and(is_other) {
            return Err((at, final_elsewhere(&*inner.store)));
        }
    }
    Ok(())
}
