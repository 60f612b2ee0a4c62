//! Our values as plain JavaScript objects, and errors as `Error` with `code` and `fatal`.

use js_sys::{Array, Error, Object, Reflect, Uint8Array};
use wasm_bindgen::JsValue;

use crate::{
    NetworkEvent, P2PNetworkManager,
    error::{NetworkError, ProtocolError},
    network::TopicItem,
    peers::{Direction, PeerInfo},
    platform::SystemTime,
};

/// A plain object from its fields.
pub(super) fn object<const N: usize>(fields: [(&str, JsValue); N]) -> JsValue {
    let object = Object::new();
    for (name, value) in fields {
        set(&object, name, &value);
    }
    object.into()
}

fn set(object: &JsValue, name: &str, value: &JsValue) {
    // Fails on frozen objects and proxies only; these are our own.
    let _ = Reflect::set(object, &name.into(), value);
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
        failure(error.code(), false, &error.to_string())
    }
}

/// A state event; `None` for data, which goes by subscriptions.
pub(super) fn state_event(event: &NetworkEvent) -> Option<JsValue> {
    let text = |value: &dyn ToString| JsValue::from(value.to_string());
    Some(match event {
        NetworkEvent::PeerConnected(info) => {
            let event = peer(info);
            set(&event, "type", &"peer:connect".into());
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
        NetworkEvent::PeerDisconnected { peer_id, reason } => object([
            ("type", "peer:disconnect".into()),
            ("peerId", text(peer_id)),
            ("reason", reason.into()),
        ]),
        NetworkEvent::PeerRefused { peer_id, reason } => object([
            ("type", "peer:refused".into()),
            ("peerId", text(peer_id)),
            ("reason", reason.into()),
        ]),
        NetworkEvent::PeerIdentified {
            peer_id,
            agent,
            protocols,
        } => object([
            ("type", "peer:identify".into()),
            ("peerId", text(peer_id)),
            ("agent", agent.into()),
            ("protocols", strings(protocols)),
        ]),
        // One event for all that were found together: the facade makes one of each.
        NetworkEvent::PeersDiscovered(peers) => object([
            ("type", "peer:discovered".into()),
            ("peers", peers.iter().map(peer).collect::<Array>().into()),
        ]),
        NetworkEvent::PeerScored {
            peer_id,
            reason,
            score,
        } => object([
            ("type", "peer:score".into()),
            ("peerId", text(peer_id)),
            ("reason", (*reason).into()),
            ("score", (*score).into()),
        ]),
        NetworkEvent::DialFailed {
            peer_id,
            address,
            reason,
        } => object([
            (
                "address",
                address
                    .as_ref()
                    .map_or(JsValue::UNDEFINED, |address| text(address)),
            ),
            ("type", "dial:error".into()),
            (
                "peerId",
                peer_id.map_or(JsValue::UNDEFINED, |peer| text(&peer)),
            ),
            ("message", reason.into()),
        ]),
        NetworkEvent::ItemRefused {
            kind,
            source,
            reason,
        } => object([
            ("type", "item:rejected".into()),
            ("kind", kind.name().into()),
            ("source", text(source)),
            ("reason", reason.into()),
        ]),
        NetworkEvent::Listening(_) => object([
            ("type", "log".into()),
            ("level", "info".into()),
            ("message", text(event)),
        ]),
        NetworkEvent::GossipImpaired { .. } => object([
            ("type", "log".into()),
            ("level", "warn".into()),
            ("message", text(event)),
        ]),
        NetworkEvent::ItemAccepted { .. }
        | NetworkEvent::TopicMessage(_)
        | NetworkEvent::Stopped
        | NetworkEvent::Crashed { .. } => return None,
    })
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

/// A connected peer.
pub(super) fn peer(peer: &PeerInfo) -> JsValue {
    let direction = match peer.direction {
        Some(Direction::Inbound) => "inbound",
        Some(Direction::Outbound) => "outbound",
        None => "",
    };
    object([
        ("peerId", peer.peer_id.to_string().into()),
        ("addresses", strings(&peer.addresses)),
        ("agent", peer.agent.as_str().into()),
        ("transport", peer.transport().into()),
        (
            "rttMs",
            peer.round_trip
                .map_or(JsValue::NULL, |took| (took.as_secs_f64() * 1e3).into()),
        ),
        ("selkie", peer.selkie.into()),
        ("direction", direction.into()),
        (
            "connectedAt",
            peer.connected_at.map_or(JsValue::NULL, milliseconds),
        ),
        ("reputation", peer.reputation.into()),
    ])
}

/// All figures of a node.
pub(super) fn metrics(node: &P2PNetworkManager) -> JsValue {
    let connections = node.connection_metrics();
    let messages = node.message_metrics();
    let peers = node.peer_metrics();
    let distribution = Object::new();
    for (transport, count) in &peers.peer_distribution {
        set(&distribution, transport, &number(*count as u64));
    }
    object([
        (
            "connections",
            object([
                ("total", number(connections.total_connections as u64)),
                ("active", number(connections.active_connections as u64)),
                ("successRate", connections.connection_success_rate.into()),
                (
                    "averageConnectMs",
                    (connections.average_connection_time.as_secs_f64() * 1e3).into(),
                ),
                (
                    "bandwidthUtilization",
                    connections.bandwidth_utilization.into(),
                ),
            ]),
        ),
        (
            "messages",
            object([
                ("sent", number(messages.messages_sent)),
                ("received", number(messages.messages_received)),
                ("bytesSent", number(messages.bytes_sent)),
                ("bytesReceived", number(messages.bytes_received)),
                (
                    "latencyP99Ms",
                    (messages.message_latency_p99.as_secs_f64() * 1e3).into(),
                ),
                ("successRate", messages.message_success_rate.into()),
            ]),
        ),
        (
            "peers",
            object([
                ("count", number(peers.peer_count as u64)),
                ("distribution", distribution.into()),
            ]),
        ),
        (
            "transport",
            object([
                ("bytesIn", number(messages.bytes_received)),
                ("bytesOut", number(messages.bytes_sent)),
            ]),
        ),
    ])
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
        .map_or(JsValue::NULL, |since| (since.as_secs_f64() * 1e3).into())
}
