//! Our values as plain JavaScript objects, and errors as `Error` with `code` and `fatal`.

use std::time::Duration;

use bytes::Bytes;
use js_sys::{Array, Error, Object, Reflect, Uint8Array};
use wasm_bindgen::JsValue;

use crate::{
    NetworkEvent, P2PNetworkManager, StateChange, TopicInfo,
    chain::ItemId,
    error::{NetworkError, ProtocolError},
    network::TopicItem,
    observe::{ConnectionMetrics, MessageMetrics, PeerMetrics},
    peers::{Ban, ConnectionInfo, Deed, Direction, EclipseSign, KnownPeer, PeerInfo},
    platform::SystemTime,
    sync::SyncStatus,
};

/// A plain object from its fields.
pub(super) fn object<const N: usize>(fields: [(&str, JsValue); N]) -> JsValue {
    let object = Object::new();
    for (name, value) in fields {
        set(&object, name, &value);
    }
    object.into()
}

pub(super) fn set(object: &JsValue, name: &str, value: &JsValue) {
    // Fails on frozen objects and proxies only; these are our own.
    let _ = Reflect::set(object, &name.into(), value);
}

/// As text; `undefined` where there is none.
fn maybe(value: Option<&impl ToString>) -> JsValue {
    value.map_or(JsValue::UNDEFINED, |value| value.to_string().into())
}

/// In seconds; `undefined` where nobody can say.
fn seconds(time: Option<Duration>) -> JsValue {
    time.map_or(JsValue::UNDEFINED, |time| time.as_secs_f64().into())
}

/// A JavaScript error with the code and fatality that the package's error classes carry.
pub(super) fn failure(code: &str, fatal: bool, message: &str) -> JsValue {
    let error: JsValue = Error::new(message).into();
    set(&error, "code", &code.into());
    set(&error, "fatal", &fatal.into());
    error
}

impl From<NetworkError> for JsValue {
    fn from(error: NetworkError) -> Self {
        failure(error.code(), error.is_fatal(), &error.to_string())
    }
}

impl From<ProtocolError> for JsValue {
    fn from(error: ProtocolError) -> Self {
        failure(error.code(), error.is_fatal(), &error.to_string())
    }
}

/// A state event; `None` for data, which goes by subscriptions.
pub(super) fn state_event(event: &NetworkEvent) -> Option<JsValue> {
    let text = |value: &dyn ToString| JsValue::from(value.to_string());
    let state = match event {
        NetworkEvent::PeerConnected(info) => {
            let event = peer(info);
            set(
                &event,
                "address",
                &info
                    .addresses
                    .first()
                    .map(ToString::to_string)
                    .unwrap_or_default()
                    .into(),
            );
            event
        }
        NetworkEvent::PeerDisconnected { peer_id, reason } => {
            object([("peerId", text(peer_id)), ("reason", reason.into())])
        }
        NetworkEvent::PeerRefused {
            peer_id,
            address,
            reason,
        } => object([
            ("peerId", text(peer_id)),
            ("address", maybe(address.as_ref())),
            ("reason", reason.into()),
        ]),
        NetworkEvent::PeerIdentified {
            peer_id,
            agent,
            protocols,
        } => object([
            ("peerId", text(peer_id)),
            ("agent", agent.into()),
            ("protocols", strings(protocols)),
        ]),
        // One event for all that were found together: the facade makes one of each.
        NetworkEvent::PeersDiscovered(peers) => {
            object([("peers", peers.iter().map(found).collect::<Array>().into())])
        }
        NetworkEvent::PeerScored {
            peer_id,
            reason,
            score,
        } => object([
            ("peerId", text(peer_id)),
            ("reason", (*reason).into()),
            ("score", (*score).into()),
        ]),
        NetworkEvent::DialFailed {
            peer_id,
            address,
            reason,
        } => object([
            ("address", maybe(address.as_ref())),
            ("peerId", maybe(peer_id.as_ref())),
            ("message", reason.into()),
        ]),
        NetworkEvent::ItemRefused {
            kind,
            source,
            reason,
        } => object([
            ("kind", kind.name().into()),
            ("source", text(source)),
            ("reason", reason.into()),
        ]),
        // In words of their own: all events' sentences would be in the package for these two.
        NetworkEvent::Listening(address) => object([
            ("level", "info".into()),
            ("message", format!("listening on {address}").into()),
        ]),
        NetworkEvent::NotListening { address, reason } => object([
            ("level", "warn".into()),
            (
                "message",
                format!("not listening on {address}: {reason}").into(),
            ),
        ]),
        NetworkEvent::GossipImpaired { peer_id, reason } => {
            object([("peerId", text(peer_id)), ("reason", reason.into())])
        }
        NetworkEvent::ApplicationFailed {
            call,
            reason,
            count,
        } => object([
            ("call", (*call).into()),
            ("reason", reason.into()),
            ("count", number(*count)),
        ]),
        NetworkEvent::HandlerFailed {
            protocol,
            peer_id,
            reason,
        } => object([
            ("protocol", protocol.into()),
            ("peerId", text(peer_id)),
            ("reason", reason.into()),
        ]),
        NetworkEvent::EclipseSuspected { signs } => object([("signs", names(signs))]),
        NetworkEvent::Woke { slept } => object([("sleptMs", duration(*slept))]),
        NetworkEvent::SyncProgress {
            done,
            total,
            rate,
            eta,
            trouble,
        } => object([
            ("done", (*done).into()),
            ("total", (*total).into()),
            ("rate", (*rate).into()),
            ("etaSeconds", seconds(*eta)),
            ("trouble", maybe(trouble.as_ref())),
        ]),
        NetworkEvent::Synced { height } => object([("height", (*height).into())]),
        NetworkEvent::SnapshotProgress {
            height,
            done,
            total,
            rate,
            eta,
        } => object([
            ("height", (*height).into()),
            ("done", (*done).into()),
            ("total", (*total).into()),
            ("rate", number(*rate)),
            ("etaSeconds", seconds(*eta)),
        ]),
        NetworkEvent::SnapshotTaken { height } => object([("height", (*height).into())]),
        NetworkEvent::NoSnapshot { reason } => object([("reason", reason.into())]),
        NetworkEvent::StateUnverified { height, reason } => object([
            ("height", height.map_or(JsValue::UNDEFINED, Into::into)),
            ("reason", reason.into()),
        ]),
        // A browser shows nobody a certificate from a file.
        NetworkEvent::CertificateRefused { .. }
        | NetworkEvent::ItemAccepted { .. }
        | NetworkEvent::TopicMessage(_)
        | NetworkEvent::Stopped
        | NetworkEvent::Crashed { .. } => return None,
    };
    set(&state, "type", &event.name().into());
    Some(state)
}

/// So many state events were dropped since the last one that was delivered, of these kinds.
pub(super) fn lagged(kinds: &[(&'static str, u64)]) -> JsValue {
    let by_kind = Object::new();
    for (name, count) in kinds {
        set(&by_kind, name, &number(*count));
    }
    let missed = kinds.iter().map(|(_, count)| count).sum();
    object([
        ("type", "lagged".into()),
        ("missed", number(missed)),
        ("kinds", by_kind.into()),
    ])
}

/// An accepted item of a kind, for a subscription.
pub(super) fn item(event: &NetworkEvent, missed: u64) -> Option<JsValue> {
    let NetworkEvent::ItemAccepted {
        item,
        id,
        source,
        received_at,
    } = event
    else {
        return None;
    };
    Some(object([
        ("kind", item.kind().name().into()),
        ("id", id.to_string().into()),
        ("data", Uint8Array::from(item.data().as_ref()).into()),
        (
            "source",
            source
                .map(|peer| peer.to_string())
                .unwrap_or_default()
                .into(),
        ),
        ("receivedAt", milliseconds(*received_at)),
        ("missed", number(missed)),
    ]))
}

/// What became of an item of our own: its identity, or an error as plain data, which goes to a page unchanged.
pub(super) fn outcome(outcome: &Result<ItemId, ProtocolError>) -> JsValue {
    match outcome {
        Ok(id) => object([("id", id.to_string().into())]),
        Err(error) => object([
            ("code", error.code().into()),
            ("fatal", error.is_fatal().into()),
            ("message", error.to_string().into()),
        ]),
    }
}

/// A message of a plain topic, for a subscription.
pub(super) fn topic_item(message: &TopicItem, missed: u64) -> JsValue {
    let source = message.source.to_string();
    object([
        ("topic", message.topic.as_str().into()),
        ("data", Uint8Array::from(message.data.as_ref()).into()),
        (
            "token",
            format!("{}@{source}", hex::encode(&message.message_id)).into(),
        ),
        ("source", source.into()),
        ("missed", number(missed)),
    ])
}

/// What has changed of the state, for a subscription.
pub(super) fn state_change(change: &StateChange) -> JsValue {
    let bytes = |bytes: &Bytes| JsValue::from(Uint8Array::from(bytes.as_ref()));
    let values = change.values.iter();
    let values = values.map(|(key, value)| object([("key", bytes(key)), ("value", bytes(value))]));
    object([
        ("height", change.at.height.into()),
        ("root", bytes(&change.at.root)),
        ("values", values.collect::<Array>().into()),
    ])
}

/// A peer that was heard of.
fn found(peer: &PeerInfo) -> JsValue {
    object([
        ("peerId", peer.peer_id.to_string().into()),
        ("addresses", strings(&peer.addresses)),
    ])
}

/// A connected peer.
pub(super) fn peer(peer: &PeerInfo) -> JsValue {
    object([
        ("peerId", peer.peer_id.to_string().into()),
        ("addresses", strings(&peer.addresses)),
        ("agent", peer.agent.as_str().into()),
        ("transport", peer.transport().into()),
        ("rttMs", peer.round_trip.map_or(JsValue::NULL, duration)),
        ("selkie", peer.selkie.into()),
        ("direction", peer.direction.map_or("", dialler).into()),
        (
            "connectedAt",
            peer.connected_at.map_or(JsValue::NULL, milliseconds),
        ),
        ("reputation", peer.reputation.into()),
    ])
}

/// A peer's score and what led to it.
pub(super) fn score((score, deeds): (f64, Vec<Deed>), is_banned: bool) -> JsValue {
    let deeds = deeds.iter().map(|deed| {
        object([
            ("reason", deed.misdeed.reason().into()),
            ("price", deed.misdeed.price().into()),
            ("count", deed.count.into()),
        ])
    });
    object([
        ("score", score.into()),
        ("deeds", deeds.collect::<Array>().into()),
        ("banned", is_banned.into()),
    ])
}

/// A peer in the address book.
pub(super) fn known(peer: &KnownPeer, now: SystemTime) -> JsValue {
    let heard = now.checked_sub(peer.heard);
    object([
        ("peerId", peer.peer_id.to_string().into()),
        ("addresses", strings(&peer.addresses)),
        ("network", peer.network.to_string().into()),
        ("tried", peer.reached.into()),
        ("heardAt", heard.map_or(JsValue::NULL, milliseconds)),
        ("failures", peer.failures.into()),
        ("signed", peer.signed.into()),
    ])
}

/// A ban.
pub(super) fn ban(ban: &Ban) -> JsValue {
    object([
        ("who", ban.who.to_string().into()),
        ("until", ban.until.map_or(JsValue::NULL, milliseconds)),
        ("byUser", ban.by_user.into()),
    ])
}

fn dialler(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "inbound",
        Direction::Outbound => "outbound",
    }
}

/// A connection.
pub(super) fn connection(connection: &ConnectionInfo) -> JsValue {
    object([
        ("peerId", connection.peer_id.to_string().into()),
        ("address", connection.address.to_string().into()),
        ("transport", connection.transport().into()),
        ("direction", dialler(connection.direction).into()),
        ("connectedAt", milliseconds(connection.connected_at)),
        ("connectMs", duration(connection.connected_in)),
    ])
}

/// A plain topic, and who takes part.
pub(super) fn topic(topic: &TopicInfo) -> JsValue {
    object([
        ("topic", topic.topic.as_str().into()),
        ("validate", topic.validate.into()),
        ("peers", strings(&topic.peers)),
        ("mesh", strings(&topic.mesh)),
    ])
}

/// How far a chain is.
pub(super) fn sync(status: &SyncStatus) -> JsValue {
    let snapshot = status.snapshot.as_ref().map(|progress| {
        object([
            ("height", progress.snapshot.height.into()),
            ("chunks", progress.chunks.into()),
            ("totalChunks", progress.snapshot.chunks().into()),
            ("bytes", number(progress.bytes)),
            ("totalBytes", number(progress.snapshot.size)),
            ("rate", number(progress.rate)),
            ("etaSeconds", seconds(progress.eta())),
            ("sources", number(progress.sources as u64)),
        ])
    });
    object([
        ("phase", status.phase.name().into()),
        ("height", status.tip.height.into()),
        ("base", status.base.into()),
        (
            "target",
            status.target.map_or(JsValue::UNDEFINED, JsValue::from),
        ),
        ("rate", status.rate.into()),
        ("etaSeconds", seconds(status.eta())),
        ("peers", number(status.peers as u64)),
        ("sources", number(status.sources as u64)),
        ("snapshot", snapshot.unwrap_or(JsValue::UNDEFINED)),
        ("trouble", maybe(status.trouble.as_ref())),
    ])
}

/// All figures of a node, by the names with which they are written out (`observe/metrics.rs`).
pub(super) fn metrics(node: &P2PNetworkManager) -> JsValue {
    let ConnectionMetrics {
        total_connections,
        active_connections,
        connection_success_rate,
        average_connection_time,
        bandwidth_utilization,
    } = node.connection_metrics();
    let connections = object([
        ("total", total_connections.into()),
        ("active", active_connections.into()),
        ("successRate", connection_success_rate.into()),
        ("averageConnectMs", duration(average_connection_time)),
        ("bandwidthUtilization", bandwidth_utilization.into()),
    ]);
    let MessageMetrics {
        messages_sent,
        messages_received,
        items_turned_away,
        bytes_sent,
        bytes_received,
        message_latency_p99,
        message_success_rate,
    } = node.message_metrics();
    let messages = object([
        ("sent", number(messages_sent)),
        ("received", number(messages_received)),
        ("itemsTurnedAway", number(items_turned_away)),
        ("bytesSent", number(bytes_sent)),
        ("bytesReceived", number(bytes_received)),
        ("latencyP99Ms", duration(message_latency_p99)),
        ("successRate", message_success_rate.into()),
    ]);
    let PeerMetrics {
        peer_count,
        peer_distribution,
        peer_uptime,
        peer_reputation,
        eclipse_signs,
    } = node.peer_metrics();
    let peers = object([
        ("count", peer_count.into()),
        (
            "distribution",
            entries(peer_distribution.into_iter().map(|(k, v)| (k, v.into()))),
        ),
        (
            "uptimeMs",
            entries(
                peer_uptime
                    .into_iter()
                    .map(|(k, v)| (k.to_string(), duration(v))),
            ),
        ),
        (
            "reputation",
            entries(
                peer_reputation
                    .into_iter()
                    .map(|(k, v)| (k.to_string(), v.into())),
            ),
        ),
        ("eclipseSigns", names(&eclipse_signs)),
    ]);
    object([
        ("connections", connections),
        ("messages", messages),
        ("peers", peers),
    ])
}

fn entries(entries: impl Iterator<Item = (String, JsValue)>) -> JsValue {
    let object = Object::new();
    entries.for_each(|(name, value)| set(&object, &name, &value));
    object.into()
}

fn names(signs: &[EclipseSign]) -> JsValue {
    let names = signs.iter().map(|sign| JsValue::from(sign.name()));
    names.collect::<Array>().into()
}

fn strings<T: ToString>(values: &[T]) -> JsValue {
    values
        .iter()
        .map(|value| JsValue::from(value.to_string()))
        .collect::<Array>()
        .into()
}

/// Counters as JavaScript numbers: exact up to 2^53.
fn number(count: u64) -> JsValue {
    (count as f64).into()
}

fn milliseconds(at: SystemTime) -> JsValue {
    at.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(JsValue::NULL, duration)
}

/// A duration in milliseconds.
fn duration(duration: Duration) -> JsValue {
    (duration.as_secs_f64() * 1e3).into()
}
