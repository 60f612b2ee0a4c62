//! The class that JavaScript holds.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
};

use js_sys::Uint8Array;
use libp2p::{Multiaddr, PeerId, identity::Keypair};
use tokio::sync::Mutex;
use wasm_bindgen::prelude::*;

use super::{convert, options::Options};
use crate::{
    Application, NetworkEvent, P2PNetworkManager, Verdict,
    chain::{Item, ItemKind, Opaque, StateRequest, bitcoin::Bitcoin},
    config::Config,
    error::{ConfigError, NetworkError},
    mpsc::{self, Weigh},
};

/// Subscriptions at once; more is a leak in the caller.
const MAX_SUBSCRIPTIONS: usize = 200;

/// What one pull moves to JavaScript at most: each costs a message to the page, where the node is in a worker.
const MAX_ITEMS: u32 = 64;
const MAX_BYTES: usize = 64 << 10;

/// The field of the configuration object that holds the private key.
const IDENTITY: &str = "identity";
/// No encoded private key is longer, in bytes.
const MAX_IDENTITY: u32 = 4096;

/// A running node.
#[wasm_bindgen]
pub struct WasmNode {
    manager: P2PNetworkManager,
    events: Rc<Mutex<mpsc::Receiver<NetworkEvent>>>,
    subscriptions: RefCell<HashMap<u32, Rc<Subscription>>>,
    last: Cell<u32>,
}

/// One reader of items. Ends when `over` closes.
struct Subscription {
    wanted: Wanted,
    events: Mutex<mpsc::Receiver<NetworkEvent>>,
    over: tokio::sync::Semaphore,
}

enum Wanted {
    Items(ItemKind),
    Topic(String),
}

#[wasm_bindgen]
impl WasmNode {
    /// Starts a node; dials nothing yet but what `bootstrap_peers` names, in the background.
    pub async fn start(config: JsValue) -> Result<WasmNode, JsValue> {
        console_error_panic_hook::set_once();
        let options = options(&config)?;
        let keypair = identity(&config)?;
        let (config, application) = options.split();
        match application.as_str() {
            "opaque" => Self::run(config, keypair, Opaque).await,
            "bitcoin" => Self::run(config, keypair, Bitcoin).await,
            other => Err(NetworkError::from(ConfigError {
                field: "chain.application".to_owned(),
                value: other.to_owned(),
                problem: "give \"opaque\" or \"bitcoin\"".to_owned(),
            })
            .into()),
        }
    }

    /// A new Ed25519 identity in libp2p's protobuf encoding.
    #[wasm_bindgen(js_name = generateIdentity)]
    pub fn generate_identity() -> Result<Uint8Array, JsValue> {
        let bytes = Keypair::generate_ed25519()
            .to_protobuf_encoding()
            .map_err(|error| convert::failure("identity", true, &error.to_string()))?;
        Ok(Uint8Array::from(bytes.as_slice()))
    }

    /// This node's identity.
    #[wasm_bindgen(js_name = peerId)]
    pub fn peer_id(&self) -> String {
        self.manager.local_peer_id.to_string()
    }

    /// Dials an address; resolves to the peer's identity when it is ready.
    pub async fn dial(&self, address: &str) -> Result<String, JsValue> {
        let parsed: Multiaddr = address.parse().map_err(|error| {
            let message = format!(
                "\"{address}\" is no multiaddr ({error}); write it as /ip4/127.0.0.1/tcp/30304/ws/p2p/12D3KooW…"
            );
            convert::failure("invalid-address", false, &message)
        })?;
        let manager = self.manager.clone();
        Ok(manager.dial(parsed).await?.to_string())
    }

    /// Closes all connections to a peer.
    pub async fn disconnect(&self, peer: &str) -> Result<(), JsValue> {
        let peer = parse_peer(peer)?;
        let manager = self.manager.clone();
        Ok(manager.disconnect(peer).await?)
    }

    /// The next state event; undefined after the end.
    #[wasm_bindgen(js_name = nextEvent)]
    pub async fn next_event(&self) -> JsValue {
        let events = Rc::clone(&self.events);
        let mut events = events.lock().await;
        while let Some(event) = events.recv().await {
            if let Some(event) = convert::state_event(&event) {
                return event;
            }
        }
        JsValue::UNDEFINED
    }

    /// Subscribes to items of a kind.
    pub fn subscribe(&self, kind: &str) -> Result<u32, JsValue> {
        self.add(Wanted::Items(parse_kind(kind)?))
    }

    /// Joins a plain topic and subscribes to it.
    #[wasm_bindgen(js_name = subscribeTopic)]
    pub async fn subscribe_topic(&self, topic: String, validate: bool) -> Result<u32, JsValue> {
        let manager = self.manager.clone();
        manager.subscribe_topic(topic.clone(), validate).await?;
        self.add(Wanted::Topic(topic))
    }

    /// The next items of a subscription, as many as there are but [`MAX_ITEMS`] and about [`MAX_BYTES`] at most; undefined
    /// after its end.
    pub async fn next(&self, subscription: u32) -> JsValue {
        let Some(subscription) = self.subscriptions.borrow().get(&subscription).cloned() else {
            return JsValue::UNDEFINED;
        };
        subscription.next().await
    }

    /// Ends a subscription; the last one of a plain topic leaves it.
    pub fn unsubscribe(&self, subscription: u32) {
        let Some(ended) = self.subscriptions.borrow_mut().remove(&subscription) else {
            return;
        };
        ended.over.close();
        if let Wanted::Topic(topic) = &ended.wanted {
            let shared =
                |s: &Rc<Subscription>| matches!(&s.wanted, Wanted::Topic(other) if other == topic);
            if !self.subscriptions.borrow().values().any(shared) {
                let (manager, topic) = (self.manager.clone(), topic.clone());
                wasm_bindgen_futures::spawn_local(async move {
                    // An error says that the node has ended, and the subscription with it.
                    let _ = manager.unsubscribe_topic(topic).await;
                });
            }
        }
    }

    /// The verdict on a topic item that was subscribed with `validate`.
    pub async fn report(&self, token: &str, verdict: &str) -> Result<(), JsValue> {
        let wrong = || {
            convert::failure(
                "invalid-argument",
                false,
                "this token is of no item of this node",
            )
        };
        let (id, peer) = token.split_once('@').ok_or_else(wrong)?;
        let id = hex::decode(id).map_err(|_| wrong())?;
        let peer = parse_peer(peer)?;
        let verdict = match verdict {
            "accept" => Verdict::Accept,
            "ignore" => Verdict::Ignore,
            "reject" => Verdict::Reject,
            _ => {
                return Err(convert::failure(
                    "invalid-argument",
                    false,
                    "a verdict is accept, ignore or reject",
                ));
            }
        };
        let manager = self.manager.clone();
        Ok(manager.report(id, peer, verdict).await?)
    }

    /// Checks an item of our own and gossips it; resolves to its identity.
    pub async fn submit(&self, kind: &str, data: Vec<u8>) -> Result<String, JsValue> {
        let item = Item::new(parse_kind(kind)?, data);
        let manager = self.manager.clone();
        Ok(manager.submit(item).await?.to_string())
    }

    /// Publishes on a plain topic.
    pub async fn publish(&self, topic: String, data: Vec<u8>) -> Result<(), JsValue> {
        let manager = self.manager.clone();
        Ok(manager.publish_topic(topic, data).await?)
    }

    /// Asks a peer, or the first Selkie peer, about the chain's state: `{ key, height }`.
    #[wasm_bindgen(js_name = requestState)]
    pub async fn request_state(
        &self,
        peer: Option<String>,
        key: Vec<u8>,
        height: Option<u64>,
    ) -> Result<JsValue, JsValue> {
        let manager = self.manager.clone();
        let peer = match peer {
            Some(peer) => parse_peer(&peer)?,
            None => manager
                .get_connected_peers()
                .into_iter()
                .find(|peer| peer.selkie)
                .map(|peer| peer.peer_id)
                .ok_or(NetworkError::NoPeers {
                    topic: "state requests".to_owned(),
                })?,
        };
        let state = manager
            .request_state(
                peer,
                StateRequest {
                    key: key.into(),
                    height,
                },
            )
            .await?;
        Ok(convert::object([
            ("height", js_sys::BigInt::from(state.height).into()),
            ("value", Uint8Array::from(state.value.as_ref()).into()),
            ("proof", Uint8Array::from(state.proof.as_ref()).into()),
        ]))
    }

    /// The connected peers.
    pub fn peers(&self) -> js_sys::Array {
        self.manager
            .get_connected_peers()
            .iter()
            .map(convert::peer)
            .collect()
    }

    /// All figures.
    pub fn metrics(&self) -> JsValue {
        convert::metrics(&self.manager)
    }

    /// Ends the node in order.
    pub async fn stop(&self) {
        let manager = self.manager.clone();
        for (_, subscription) in self.subscriptions.borrow_mut().drain() {
            subscription.over.close();
        }
        manager.shutdown().await;
    }
}

impl WasmNode {
    async fn run(
        config: Config,
        keypair: Keypair,
        application: impl Application,
    ) -> Result<Self, JsValue> {
        let manager = P2PNetworkManager::with(config, keypair, application).await?;
        let data = |event: &NetworkEvent| {
            matches!(
                event,
                NetworkEvent::ItemAccepted { .. } | NetworkEvent::TopicMessage(_)
            )
        };
        let events = Rc::new(Mutex::new(manager.subscribe(move |event| !data(event))));
        manager.start().await?;
        if !manager.config.network.bootstrap_peers.is_empty() {
            let manager = manager.clone();
            wasm_bindgen_futures::spawn_local(async move {
                // Failures arrive as events, and redialling goes on.
                let _ = manager.connect_bootstrap_peers().await;
            });
        }
        Ok(Self {
            manager,
            events,
            subscriptions: RefCell::default(),
            last: Cell::new(0),
        })
    }

    fn add(&self, wanted: Wanted) -> Result<u32, JsValue> {
        let mut subscriptions = self.subscriptions.borrow_mut();
        if subscriptions.len() >= MAX_SUBSCRIPTIONS {
            let message = "200 subscriptions are open; end some (return() or an AbortSignal)";
            return Err(convert::failure("too-many-subscriptions", false, message));
        }
        let id = self.last.get().wrapping_add(1);
        self.last.set(id);
        let events = match &wanted {
            Wanted::Items(kind) => {
                let kind = *kind;
                self.manager.subscribe(move |event| {
                    matches!(event, NetworkEvent::ItemAccepted { item, .. } if item.kind() == kind)
                })
            }
            Wanted::Topic(topic) => {
                let topic = topic.clone();
                self.manager.subscribe(move |event| {
                    matches!(event, NetworkEvent::TopicMessage(message) if message.topic == topic)
                })
            }
        };
        let over = tokio::sync::Semaphore::new(0);
        let subscription = Subscription {
            wanted,
            events: Mutex::new(events),
            over,
        };
        subscriptions.insert(id, Rc::new(subscription));
        Ok(id)
    }
}

impl Subscription {
    async fn next(&self) -> JsValue {
        let read = async {
            let mut events = self.events.lock().await;
            let (items, mut bytes) = (js_sys::Array::new(), 0);
            let mut next = events.recv().await;
            while let Some(event) = next {
                let missed = events.missed();
                let item = match &event {
                    NetworkEvent::TopicMessage(message) => convert::topic_item(message, missed),
                    event => convert::item(event, missed).unwrap_or(JsValue::UNDEFINED),
                };
                items.push(&item);
                bytes += event.weight();
                let room = items.length() < MAX_ITEMS && bytes < MAX_BYTES;
                next = if room { events.try_recv() } else { None };
            }
            if items.length() == 0 {
                return JsValue::UNDEFINED;
            }
            items.into()
        };
        // The semaphore has no permits: its future ends only when the subscription does.
        let over = async {
            let _ = self.over.acquire().await;
            JsValue::UNDEFINED
        };
        futures::future::select(Box::pin(read), Box::pin(over))
            .await
            .factor_first()
            .0
    }
}

/// The configuration in the object, whose field `identity` is not part of it.
fn options(config: &JsValue) -> Result<Options, JsValue> {
    let wrong = |problem: String| convert::failure("config", true, &format!("config: {problem}"));
    let text = js_sys::JSON::stringify(config)
        .ok()
        .and_then(|text| text.as_string())
        .ok_or_else(|| wrong("give an object of plain values".to_owned()))?;
    let mut json: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if let Some(fields) = json.as_object_mut() {
        fields.remove(IDENTITY);
    }
    Options::read(&json).map_err(wrong)
}

/// The identity in the object, or a new one.
fn identity(config: &JsValue) -> Result<Keypair, JsValue> {
    let wrong = |problem: &str| {
        let message = format!("the identity is no libp2p private key: {problem}");
        convert::failure("identity", true, &message)
    };
    let given = js_sys::Reflect::get(config, &IDENTITY.into()).unwrap_or_default();
    if given.is_undefined() || given.is_null() {
        return Ok(Keypair::generate_ed25519());
    }
    let bytes: Uint8Array = given
        .dyn_into()
        .map_err(|_| wrong("give it as Uint8Array"))?;
    if bytes.length() > MAX_IDENTITY {
        return Err(wrong("it is too long"));
    }
    Keypair::from_protobuf_encoding(&bytes.to_vec()).map_err(|error| wrong(&error.to_string()))
}

fn parse_kind(kind: &str) -> Result<ItemKind, JsValue> {
    ItemKind::ALL
        .into_iter()
        .find(|known| known.name() == kind)
        .ok_or_else(|| {
            convert::failure(
                "invalid-argument",
                false,
                "a kind is block, transaction or vote",
            )
        })
}

fn parse_peer(peer: &str) -> Result<PeerId, JsValue> {
    peer.parse().map_err(|error| {
        let message = format!("\"{peer}\" is no peer id ({error}); they look like 12D3KooW…");
        convert::failure("invalid-peer-id", false, &message)
    })
}
