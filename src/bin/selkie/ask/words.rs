//! A node's answers as tables and sentences. What peers say of themselves is shown without control characters.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use humantime_serde::re::humantime;
use serde_json::Value;

use crate::{control::Question, output::counted, table::table};

/// An answer for people.
pub(super) fn sentences(question: &Question, answer: &Value) -> String {
    let now = SystemTime::now();
    match question {
        Question::Status => status(answer),
        Question::Metrics => metrics(answer),
        Question::Sync => sync(answer).join("\n"),
        Question::State { .. } => state(answer),
        Question::Peers => peers(answer, now),
        Question::Score { .. } => score(answer, now),
        Question::Book => book(answer, now),
        Question::Bans => bans(answer, now),
        Question::Ban { peer, .. } => {
            let until = until(&answer["until"], now);
            format!("{peer} is banned {until}{}", forgotten(answer))
        }
        Question::Unban { peer } => {
            let still: Vec<_> = items(&answer["still"]).map(|ban| by(ban, now)).collect();
            if still.is_empty() {
                format!("{peer} may come in again{}", forgotten(answer))
            } else {
                let still = still.join(", ");
                format!(
                    "{peer} is banned no more itself, but kept out by the ban of {still}{}",
                    forgotten(answer)
                )
            }
        }
        Question::Protect { peer, .. } => format!("{peer} keeps its place until the node ends"),
        Question::Unprotect { peer, .. } if answer["protected"] == true => {
            format!("{peer} keeps its place still, by another tag")
        }
        Question::Unprotect { peer, .. } => format!("{peer} makes room like others"),
    }
}

/// Who a ban is of, and until when.
fn by(ban: &Value, now: SystemTime) -> String {
    let who = ban.get("network").unwrap_or(&ban["peerId"]);
    format!("{} {}", text(who), until(&ban["until"], now))
}

/// What is to be said where the node has not written down what it was told.
fn forgotten(answer: &Value) -> &'static str {
    match answer["kept"].as_bool() {
        Some(false) => {
            "; the node forgets this when it ends, since it keeps no address book (--address-book) or can't write it"
        }
        _ => "",
    }
}

fn status(answer: &Value) -> String {
    let (network, peers, book) = (&answer["network"], &answer["peers"], &answer["book"]);
    let up = Duration::from_secs(number(&answer["upSeconds"]));
    let mut lines = vec![format!(
        "{} on {} ({}), up for {}",
        text(&answer["peerId"]),
        text(&network["id"]),
        text(&network["application"]),
        humantime::format_duration(up)
    )];
    let listening = items(&answer["listening"]);
    lines.extend(listening.map(|address| format!("listens at {}", text(address))));
    lines.push(format!(
        "{} of at most {}, {} of them dialled",
        counted(number(&peers["connected"]), "peer"),
        number(&peers["most"]),
        number(&peers["outbound"]),
    ));
    lines.push(format!(
        "the address book has {} that were reached and {} that others told of; {}",
        number(&book["tried"]),
        number(&book["new"]),
        counted(number(&answer["bans"]), "ban"),
    ));
    let signs: Vec<_> = items(&answer["eclipseSigns"]).map(text).collect();
    if !signs.is_empty() {
        lines.push(format!(
            "it may be surrounded by an attacker: {}; dial peers that you know (network.bootstrap_peers)",
            signs.join(", ")
        ));
    }
    let messages = &answer["messages"];
    lines.push(format!(
        "sent {}, received {}",
        counted(number(&messages["bytesSent"]), "byte"),
        counted(number(&messages["bytesReceived"]), "byte"),
    ));
    let of_sync = &answer["sync"];
    if !of_sync.is_null() {
        lines.extend(sync(of_sync));
    }
    lines.join("\n")
}

/// What accounts have, a line each.
fn state(answer: &Value) -> String {
    let height = number(&answer["height"]);
    let account = |account: &Value| {
        format!(
            "{}: {} coins after {} transfers, at block {height}",
            text(&account["key"]),
            number(&account["balance"]),
            number(&account["nonce"]),
        )
    };
    let accounts: Vec<_> = items(&answer["accounts"]).map(account).collect();
    accounts.join("\n")
}

fn metrics(answer: &Value) -> String {
    let [connections, messages, peers] = ["connections", "messages", "peers"].map(|of| &answer[of]);
    let figure = |value: &Value| value.as_f64().unwrap_or_default();
    let share = |value: &Value| figure(value) * 100.0;
    let by = peers["distribution"].as_object().into_iter().flatten();
    let by = by.map(|(transport, count)| format!("{} {count}", plain(transport)));
    let by = by.collect::<Vec<_>>().join(", ");
    [
        format!(
            "{} open of {} since the start; {:.1}% of all attempts led to one, after {:.1} ms on average",
            counted(number(&connections["active"]), "connection"),
            number(&connections["total"]),
            share(&connections["successRate"]),
            figure(&connections["averageConnectMs"]),
        ),
        format!(
            "{:.2}% of the link's capacity in use",
            share(&connections["bandwidthUtilization"])
        ),
        format!(
            "sent {} ({}), of which {:.1}% went out; received {} ({}); turned {} away",
            counted(number(&messages["sent"]), "message"),
            counted(number(&messages["bytesSent"]), "byte"),
            share(&messages["successRate"]),
            counted(number(&messages["received"]), "message"),
            counted(number(&messages["bytesReceived"]), "byte"),
            counted(number(&messages["itemsTurnedAway"]), "item"),
        ),
        format!(
            "99% of round trips within {:.1} ms",
            figure(&messages["latencyP99Ms"])
        ),
        match counted(number(&peers["count"]), "peer") {
            peers if by.is_empty() => peers,
            peers => format!("{peers}: {by}"),
        },
    ]
    .join("\n")
}

/// How far a chain is.
fn sync(answer: &Value) -> Vec<String> {
    let height = number(&answer["height"]);
    let mut lines = vec![
        match (answer["phase"].as_str(), answer["target"].as_u64()) {
            (Some("synced"), _) => format!("at block {height}, as far as its peers"),
            (_, Some(target)) => format!(
                "it has {height} of {target} blocks, {:.0} a second{}",
                answer["rate"].as_f64().unwrap_or_default(),
                left(answer)
            ),
            (Some("syncing"), None) => {
                format!("at block {height}; peers have more, which is looked for")
            }
            _ => format!("at block {height}; nobody who is as far says that this is the tip"),
        },
    ];
    let (peers, sources) = (number(&answer["peers"]), number(&answer["sources"]));
    let peers = counted(peers, "peer");
    lines.push(format!(
        "{peers} say what they have, {sources} of them are asked for blocks"
    ));
    let snapshot = &answer["snapshot"];
    if !snapshot.is_null() {
        lines.push(format!(
            "the state at block {}: {} of {}, {} KB a second from {}{}",
            number(&snapshot["height"]),
            number(&snapshot["chunks"]),
            counted(number(&snapshot["totalChunks"]), "chunk"),
            number(&snapshot["rate"]) / 1000,
            counted(number(&snapshot["sources"]), "peer"),
            left(snapshot)
        ));
    }
    if let Some(trouble) = answer["trouble"].as_str() {
        lines.push(format!("sync waits: {}", plain(trouble)));
    }
    lines
}

/// How long that will take.
fn left(answer: &Value) -> String {
    let seconds = answer["etaSeconds"].as_f64();
    let left = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    left.map_or_else(String::new, |left| {
        format!(", {} to go", whole_seconds(left))
    })
}

fn peers(answer: &Value, now: SystemTime) -> String {
    let peers = items(&answer["peers"]).map(|peer| {
        let round_trip = peer["rttMs"].as_f64();
        [
            text(&peer["peerId"]),
            text(&peer["direction"]),
            text(&peer["transport"]),
            round_trip.map_or_else(|| "-".to_owned(), |took| format!("{took:.1} ms")),
            format!("{:.1}", peer["reputation"].as_f64().unwrap_or_default()),
            ago(&peer["connectedAt"], now),
            text(items(&peer["addresses"]).next().unwrap_or(&Value::Null)),
            text(&peer["agent"]),
        ]
    });
    let heads = [
        "PEER",
        "DIRECTION",
        "BY",
        "ROUND TRIP",
        "SCORE",
        "FOR",
        "ADDRESS",
        "AGENT",
    ];
    table(heads, peers, "nobody is connected")
}

fn score(answer: &Value, now: SystemTime) -> String {
    let value = |name: &str| answer[name].as_f64().unwrap_or_default();
    let half_life = Duration::from_secs(number(&answer["halfLifeSeconds"]));
    let banned: Vec<_> = items(&answer["bannedBy"]).map(|ban| by(ban, now)).collect();
    let banned = match banned.is_empty() {
        true => String::new(),
        false => format!(" and is kept out by the ban of {}", banned.join(", ")),
    };
    let deeds = items(&answer["deeds"]).map(|deed| {
        let price = deed["price"].as_f64().unwrap_or_default();
        [
            text(&deed["reason"]),
            number(&deed["count"]).to_string(),
            format!("-{price}"),
        ]
    });
    let heads = ["WHAT IT DID", "TIMES", "EACH"];
    format!(
        "{} has {:.1}{}; let go at {}, banned at {}, half of it forgotten after {}\n{}",
        text(&answer["peerId"]),
        value("score"),
        banned,
        value("disconnectAt"),
        value("banAt"),
        humantime::format_duration(half_life),
        table(heads, deeds, "it did nothing wrong that is remembered"),
    )
}

fn book(answer: &Value, now: SystemTime) -> String {
    let peers = items(&answer["peers"]).map(|peer| {
        let tried = peer["tried"].as_bool().unwrap_or_default();
        [
            text(&peer["peerId"]),
            if tried { "tried" } else { "new" }.to_owned(),
            text(&peer["network"]),
            ago(&peer["heardAt"], now),
            number(&peer["failures"]).to_string(),
            text(items(&peer["addresses"]).next().unwrap_or(&Value::Null)),
        ]
    });
    let heads = [
        "PEER", "TABLE", "NETWORK", "HEARD OF", "FAILURES", "ADDRESS",
    ];
    table(heads, peers, "it knows nobody")
}

fn bans(answer: &Value, now: SystemTime) -> String {
    let bans = items(&answer["bans"]).map(|ban| {
        let by_user = ban["byUser"].as_bool().unwrap_or_default();
        [
            text(ban.get("network").unwrap_or(&ban["peerId"])),
            until(&ban["until"], now),
            if by_user { "the user" } else { "misdeeds" }.to_owned(),
        ]
    });
    table(
        ["PEER OR NETWORK", "BANNED", "BECAUSE OF"],
        bans,
        "nobody is banned",
    )
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

fn text(value: &Value) -> String {
    plain(value.as_str().unwrap_or("-"))
}

/// What a peer said, without what a terminal would obey, or turn a line around for.
fn plain(text: &str) -> String {
    let turns = |letter| matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.replace(
        |letter: char| letter.is_control() || turns(letter),
        "\u{fffd}",
    )
}

/// A date in milliseconds since 1970.
fn date(milliseconds: &Value) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_millis(milliseconds.as_u64()?))
}

/// How long ago that was.
fn ago(milliseconds: &Value, now: SystemTime) -> String {
    date(milliseconds).map_or_else(
        || "-".to_owned(),
        |date| whole_seconds(now.duration_since(date).unwrap_or_default()),
    )
}

/// Until when a ban lasts.
fn until(milliseconds: &Value, now: SystemTime) -> String {
    date(milliseconds).map_or_else(
        || "for ever".to_owned(),
        |date| {
            let left = date.duration_since(now).unwrap_or_default();
            format!("for {}", whole_seconds(left))
        },
    )
}

fn whole_seconds(time: Duration) -> String {
    humantime::format_duration(Duration::from_secs(time.as_secs())).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_peer_says_of_itself_moves_no_cursor() {
        let answer =
            json!({"peers": [{"peerId": "a", "agent": "x\x1b[2J\r\ny\u{9b}1m\u{202e}\u{2067}"}]});
        let shown = peers(&answer, SystemTime::now());
        assert!(!shown.contains('\x1b') && !shown.contains('\u{9b}') && !shown.contains('\r'));
        assert!(!shown.contains('\u{202e}') && !shown.contains('\u{2067}'));
        assert_eq!(shown.lines().count(), 2, "{shown}");
    }

    #[test]
    fn answers_that_lack_something_are_shown_all_the_same() {
        let now = SystemTime::now();
        for answer in [
            json!({}),
            json!(null),
            json!({"peers": [{}], "bans": [{}], "sync": {}}),
        ] {
            assert!(!status(&answer).is_empty() && !metrics(&answer).is_empty());
            assert!(!peers(&answer, now).is_empty() && !book(&answer, now).is_empty());
            assert!(!bans(&answer, now).is_empty() && !score(&answer, now).is_empty());
        }
        assert_eq!(peers(&json!({"peers": []}), now), "nobody is connected");
    }

    #[test]
    fn how_far_a_chain_is_is_said_in_words() {
        let fetching = json!({
            "phase": "syncing", "height": 7, "target": 50, "rate": 10.0, "etaSeconds": 4.3, "peers": 2, "sources": 1,
            "snapshot": {"height": 40, "chunks": 3, "totalChunks": 9, "rate": 5000, "sources": 2, "etaSeconds": 61.0},
            "trouble": "the disk\x1b is full",
        });
        let told = sync(&fetching);
        assert_eq!(
            told,
            [
                "it has 7 of 50 blocks, 10 a second, 4s to go",
                "2 peers say what they have, 1 of them are asked for blocks",
                "the state at block 40: 3 of 9 chunks, 5 KB a second from 2 peers, 1m 1s to go",
                "sync waits: the disk\u{fffd} is full",
            ]
        );
        for (phase, says) in [
            ("synced", "as far as its peers"),
            ("waiting", "nobody who is as far"),
            ("syncing", "peers have more"),
        ] {
            let told = sync(&json!({"phase": phase, "height": 7})).remove(0);
            assert!(told.contains(says), "{told}");
        }
        assert!(!sync(&json!(null)).is_empty());
    }

    #[test]
    fn a_score_says_what_led_to_it() {
        let deed = json!({"reason": "it sent an invalid message", "price": 10.0, "count": 2});
        let answer = json!({
            "peerId": "a", "score": -14.2, "deeds": [deed], "disconnectAt": -20.0, "banAt": -50.0,
            "halfLifeSeconds": 600, "banned": false, "bannedBy": [],
        });
        let shown = score(&answer, UNIX_EPOCH);
        let right = "a has -14.2; let go at -20, banned at -50, half of it forgotten after 10m\n\
            WHAT IT DID                 TIMES  EACH\n\
            it sent an invalid message  2      -10";
        assert_eq!(shown, right);
    }

    #[test]
    fn what_keeps_a_peer_out_is_said() {
        let ban = json!({"network": "203.0.113.0/24", "until": 60_000, "byUser": false});
        let answer =
            json!({"peerId": "a", "score": 0, "deeds": [], "banned": true, "bannedBy": [ban]});
        let shown = score(&answer, UNIX_EPOCH);
        assert!(
            shown.contains("is kept out by the ban of 203.0.113.0/24 for 1m;"),
            "{shown}"
        );
        let question = Question::Unban {
            peer: libp2p::PeerId::random().into(),
        };
        let ban = json!({"network": "203.0.113.0/24", "until": null, "byUser": true});
        let answer = json!({"still": [ban], "kept": true});
        let shown = sentences(&question, &answer);
        assert!(
            shown.ends_with("kept out by the ban of 203.0.113.0/24 for ever"),
            "{shown}"
        );
        let shown = sentences(&question, &json!({"still": [], "kept": true}));
        assert!(shown.ends_with("may come in again"), "{shown}");
    }

    #[test]
    fn a_ban_ends_or_does_not() {
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        assert_eq!(until(&json!(4_600_000), now), "for 1h");
        assert_eq!(until(&Value::Null, now), "for ever");
        assert_eq!(ago(&json!(940_000), now), "1m");
    }
}
