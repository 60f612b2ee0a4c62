//! What is printed: sentences for people, or one JSON object per line for programs.
//!
//! The objects have the names and fields of the events that the npm package gives to JavaScript,
//! and `time` in milliseconds since 1970.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    time::{SystemTime, UNIX_EPOCH},
};

use selkie::NetworkEvent;
use serde_json::{Value, json};

/// Writes lines to stdout.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
    colour: bool,
}

/// How a sentence looks where colours are on: ANSI's "select graphic rendition".
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tone {
    Plain,
    Good,
    Bad,
    Faint,
    Strong,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "\x1b[32m",
            Self::Bad => "\x1b[31m",
            Self::Faint => "\x1b[2m",
            Self::Strong => "\x1b[1m",
        }
    }
}

/// Whether the user left colours on (<https://no-color.org>).
pub(crate) fn colours_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Tells on stderr why the command failed.
pub(crate) fn complain(error: &anyhow::Error) {
    let colour = io::stderr().is_terminal() && colours_wanted();
    // There is nowhere left to say that stderr is closed.
    let _ = writeln!(
        io::stderr(),
        "{} {error}",
        painted(colour, Tone::Bad, "error:")
    );
}

/// Tells on stderr what the user should know while the command goes on.
pub(crate) fn remark(sentence: impl Display) {
    // As above.
    let _ = writeln!(io::stderr(), "{sentence}");
}

/// A number of things: `1 block`, `2 blocks`.
pub(crate) fn counted(count: u64, thing: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {thing}{plural}")
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self {
            json,
            colour: !json && io::stdout().is_terminal() && colours_wanted(),
        }
    }

    /// Prints an object, or the sentence that says the same.
    pub(crate) fn say(self, tone: Tone, sentence: impl Display, object: Value) -> io::Result<()> {
        if self.json {
            self.write(&stamped(object, SystemTime::now()).to_string())
        } else {
            self.write(&painted(self.colour, tone, &sentence.to_string()))
        }
    }

    /// Prints an event of the network.
    pub(crate) fn event(self, event: &NetworkEvent) -> io::Result<()> {
        self.say(tone(event), event, object(event))
    }

    fn write(self, line: &str) -> io::Result<()> {
        writeln!(io::stdout().lock(), "{line}")
    }
}

fn painted(colour: bool, tone: Tone, text: &str) -> String {
    if colour {
        format!("{}{text}\x1b[0m", tone.code())
    } else {
        text.to_owned()
    }
}

fn tone(event: &NetworkEvent) -> Tone {
    match event {
        event if event.is_error() => Tone::Bad,
        NetworkEvent::PeerConnected(_) | NetworkEvent::Listening(_) => Tone::Good,
        NetworkEvent::ItemAccepted { .. } => Tone::Plain,
        _ => Tone::Faint,
    }
}

/// The object with the time as its last field.
fn stamped(mut object: Value, now: SystemTime) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.insert("time".to_owned(), milliseconds(now).into());
    }
    object
}

fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn object(event: &NetworkEvent) -> Value {
    let text = |value: &dyn Display| value.to_string();
    let texts = |values: &[selkie::Multiaddr]| values.iter().map(|v| text(v)).collect::<Vec<_>>();
    match event {
        NetworkEvent::Listening(address) => json!({"type": "listening", "address": text(address)}),
        NetworkEvent::PeerConnected(peer) => json!({
            "type": "peer:connect",
            "peerId": text(&peer.peer_id),
            "address": peer.addresses.first().map(|address| text(address)),
            "agent": peer.agent,
            "transport": peer.transport(),
            "selkie": peer.selkie,
        }),
        NetworkEvent::PeerIdentified {
            peer_id,
            agent,
            protocols,
        } => json!({
            "type": "peer:identify",
            "peerId": text(peer_id),
            "agent": agent,
            "protocols": protocols,
        }),
        NetworkEvent::PeerDisconnected { peer_id, reason } => {
            json!({"type": "peer:disconnect", "peerId": text(peer_id), "reason": reason})
        }
        NetworkEvent::PeerRefused { peer_id, reason } => {
            json!({"type": "peer:refused", "peerId": text(peer_id), "reason": reason})
        }
        NetworkEvent::PeersDiscovered(peers) => {
            let peers: Vec<_> = peers
                .iter()
                .map(|p| json!({"peerId": text(&p.peer_id), "addresses": texts(&p.addresses)}))
                .collect();
            json!({"type": "peer:discovered", "peers": peers})
        }
        NetworkEvent::PeerScored {
            peer_id,
            reason,
            score,
        } => {
            json!({"type": "peer:score", "peerId": text(peer_id), "reason": reason, "score": score})
        }
        NetworkEvent::DialFailed {
            peer_id,
            address,
            reason,
        } => json!({
            "address": address.as_ref().map(|address| text(address)),
            "type": "dial:error",
            "peerId": peer_id.map(|peer| text(&peer)),
            "message": reason,
        }),
        NetworkEvent::ItemAccepted {
            item,
            id,
            source,
            received_at,
        } => json!({
            "type": "item:accepted",
            "kind": item.kind().name(),
            "id": text(id),
            "bytes": item.data().len(),
            "source": source.map(|peer| text(&peer)),
            "receivedAt": milliseconds(*received_at),
        }),
        NetworkEvent::ItemRefused {
            kind,
            source,
            reason,
        } => json!({
            "type": "item:rejected",
            "kind": kind.name(),
            "source": text(source),
            "reason": reason,
        }),
        NetworkEvent::Stopped => json!({"type": "stopped"}),
        other => json!({"type": "other", "message": text(other)}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selkie::{Item, ItemId, ItemKind, PeerId};

    #[test]
    fn events_are_objects_with_a_type() {
        let peer_id = PeerId::random();
        let reason = "it \"left\"\n".to_owned();
        let gone = object(&NetworkEvent::PeerDisconnected {
            peer_id,
            reason: reason.clone(),
        });
        assert_eq!(gone["type"], "peer:disconnect");
        assert_eq!(gone["reason"], reason);
        let block = object(&NetworkEvent::ItemAccepted {
            item: Item::new(ItemKind::Block, "abc"),
            id: ItemId::sha256(b"abc"),
            source: Some(peer_id),
            received_at: UNIX_EPOCH + std::time::Duration::from_millis(7),
        });
        assert_eq!(
            (&block["bytes"], &block["receivedAt"]),
            (&json!(3), &json!(7))
        );
        assert_eq!(block["source"], peer_id.to_string());
        assert!(!stamped(block, SystemTime::now()).to_string().contains('\n'));
    }

    #[test]
    fn one_is_singular() {
        let counts = [
            counted(0, "block"),
            counted(1, "block"),
            counted(2, "block"),
        ];
        assert_eq!(counts, ["0 blocks", "1 block", "2 blocks"]);
    }

    #[test]
    fn colours_are_only_where_wanted() {
        assert_eq!(painted(false, Tone::Bad, "no"), "no");
        assert_eq!(painted(true, Tone::Bad, "no"), "\x1b[31mno\x1b[0m");
    }
}
