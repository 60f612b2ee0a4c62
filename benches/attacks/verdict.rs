//! What an attack may do, and whether it did more.

use serde_json::{Value, json};

use crate::lab::{
    measure::{Newcomers, Row},
    victim::{Account, Fate},
};

/// The most that an attack may add to the victim's memory, in MiB.
const MEMORY: f64 = 64.0;
/// The most that honest votes may slow down by.
const SLOWER: f64 = 3.0;
/// Votes that take no longer, in milliseconds, are as good as at rest: less is this host's scheduler, not the victim.
const QUICK: f64 = 5.0;

/// What broke a limit, in words.
pub fn broken(row: &Row) -> Vec<String> {
    let mut broken = Vec::new();
    let ([rest, most], added) = (row.p99, row.added());
    if let Some(reason) = &row.stopped {
        broken.push(reason.clone());
    }
    if added > MEMORY {
        broken.push(format!("memory {added:.0} MiB above rest"));
    }
    if most > (SLOWER * rest).max(QUICK) {
        broken.push(format!("votes {:.1} times as slow", most / rest));
    }
    for (what, (_, lost)) in [("votes", row.votes), ("transactions", row.transactions)] {
        if lost > 0 {
            broken.push(format!("{lost} honest {what} lost"));
        }
    }
    if !row.suffered.is_empty() {
        broken.push(format!("honest peers paid {} times", row.suffered.len()));
    }
    if let Some(Newcomers { of, came, .. }) = row.newcomers {
        let whence = ["the attacker's address", "another address"];
        for (came, whence) in came.into_iter().zip(whence) {
            if came < of {
                broken.push(format!("{came} of {of} newcomers from {whence} got in"));
            }
        }
    }
    broken
}

/// What became of the attacker, and when.
pub fn fate(account: &Account) -> String {
    let Account {
        scored,
        gone,
        refused,
        ..
    } = account;
    let first = account.strangers.first();
    let first = first.map(|Fate { what, seconds, .. }| format!("{what} ({seconds:.2} s)"));
    let first = first.unwrap_or_else(|| "nothing".to_owned());
    format!("{first}; scored {scored}, let go {gone}, refused {refused}")
}

pub fn json(row: &Row) -> Value {
    let newcomers = |Newcomers {
                         via,
                         of,
                         came: [came, elsewhere],
                     }: Newcomers| json!({ "via": format!("{via:?}"), "of": of, "came": came, "came_from_elsewhere": elsewhere });
    json!({
        "name": row.attack.name,
        "about": row.attack.about,
        "identities": row.attack.identities,
        "memory_rest_mib": row.memory[0],
        "memory_most_mib": row.memory[1],
        "memory_after_mib": row.memory[2],
        "cpu_cores": row.cpu[0],
        "cpu_rest_cores": row.cpu[1],
        "vote_p99_rest_ms": row.p99[0],
        "vote_p99_attack_ms": row.p99[1],
        "votes": row.votes.0,
        "votes_lost": row.votes.1,
        "transactions": row.transactions.0,
        "transactions_lost": row.transactions.1,
        "suffered": row.suffered,
        "newcomers": row.newcomers.map(newcomers),
        "attacker": fate(&row.account),
        "fates": row.account.strangers.iter().take(8).collect::<Vec<_>>(),
        "written_mib": row.deeds.written as f64 / f64::from(1 << 20),
        "dials": row.deeds.dials,
        "dials_refused": row.deeds.refusals,
        "links_ended": row.deeds.ends,
        "load": row.load,
        "events_missed": row.account.missed,
        "peers_after": row.account.peers,
        "broken": broken(row),
    })
}
