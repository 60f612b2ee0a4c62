//! The class that JavaScript holds: what it asks of a node.

use std::{pin::pin, rc::Rc, sync::Arc, time::Duration};

use futures::future::{Either, select};
use js_sys::{Array, Function, JSON, Object, Promise, Reflect, Uint8Array};
use libp2p::{Multiaddr, PeerId, identity::Keypair};
use tokio::sync::Mutex;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use super::{
    application::{Host, Scripted},
    chains, convert,
    options::Options,
    panic,
    streams::{Streams, was_reset},
    subscriptions::{StateEvents, Subscriptions, Wanted},
};
use crate::{
    P2PNetworkManager, Verdict,
    chain::{Item, ItemKind, StateRequest, Transaction, rules::Rules},
    config::Config,
    error::{NetworkError, ProtocolError},
    peers::{Banned, BannedError, MAX_BOOK_BYTES, PeerInfo, PeerInfoError},
    platform,
};

/// Peers that are asked about state one after the other, where the user names none.
const MAX_ASKED: usize = 4;

/// The field of the configuration object that holds the private key.
const IDENTITY: &str = "identity";
/// No encoded private key is longer, in bytes.
const MAX_IDENTITY: u32 = 4096;

#[wasm_bindgen]
extern "C" {
    /// One of the facade's own, so that nobody else has a handler on it.
    pub type AbortSignal;
    #[wasm_bindgen(method, setter)]
    fn set_onabort(this: &AbortSignal, handler: &Function);
}

/// A running node.
#[wasm_bindgen]
pub struct WasmNode {
    manager: P2PNetworkManager,
    rules: Arc<dyn Rules>,
    events: Rc<Mutex<StateEvents>>,
    subscriptions: Rc<Subscriptions>,
    streams: Rc<Streams>,
    /// Why the address book that was handed in is none.
    book_lost: Option<String>,
}

#[wasm_bindgen]
impl WasmNode {
    /// Starts a node; dials nothing yet but what `bootstrap_peers` names, in the background. An application of the user's
    /// takes the place of the one that the configuration names. `keeps`: what a built-in chain stores outlasts the node. `book`: what
    /// [`Self::save_book`] gave the last time; where that is no book, the node begins with an empty one.
    pub async fn start(
        config: JsValue,
        application: Option<Host>,
        keeps: bool,
        book: Option<Uint8Array>,
    ) -> Result<WasmNode, JsValue> {
        let options = options(&config)?;
        let keypair = identity(&config)?;
        let (mut config, name) = options.split();
        let rules: Arc<dyn Rules> = match (application, name.as_str()) {
            (Some(host), _) => Arc::new(Scripted::new(host, &config.protocol.validation)),
            (None, name) => chains::find(name, &mut config, keeps).await?,
        };
        let started = Self::run(config, keypair, Arc::clone(&rules), book).await;
        if started.is_err()
            && let Err(error) = rules.close().await
        {
            tracing::error!(%error, "what the chain has kept is not closed");
        }
        started
    }

    /// Calls a function with the words of each panic of this WebAssembly.
    #[wasm_bindgen(js_name = onPanic)]
    pub fn on_panic(listener: Function) {
        panic::listen(listener);
    }

    /// The version of this crate, which is the npm package's.
    pub fn version() -> String {
        env!("CARGO_PKG_VERSION").to_owned()
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

    /// Dials an address; resolves to the peer's identity when it is ready. An abort takes it back.
    pub async fn dial(&self, address: &str, abort: Option<AbortSignal>) -> Result<String, JsValue> {
        let parsed: Multiaddr = address.parse().map_err(|error| {
            let message = format!(
                "\"{address}\" is no multiaddr ({error}); write it as /ip4/127.0.0.1/tcp/30304/ws/p2p/12D3KooW…"
            );
            convert::failure("invalid-address", false, &message)
        })?;
        let manager = self.manager.clone();
        // The node sees that nobody waits for it any more.
        let dialled = unless_aborted(abort, manager.dial(parsed)).await;
        let given_up = || convert::failure("dial", false, "the dial was given up");
        Ok(dialled.ok_or_else(given_up)??.to_string())
    }

    /// Closes all connections to a peer.
    pub async fn disconnect(&self, peer: &str) -> Result<(), JsValue> {
        let peer = parse_peer(peer)?;
        let manager = self.manager.clone();
        Ok(manager.disconnect(peer).await?)
    }

    /// The next state event, or that some were dropped before it; undefined after the end.
    #[wasm_bindgen(js_name = nextEvent)]
    pub async fn next_event(&self) -> JsValue {
        let events = Rc::clone(&self.events);
        let mut events = events.lock().await;
        events.next().await
    }

    /// Subscribes to items of a kind.
    pub fn subscribe(&self, kind: &str) -> Result<u32, JsValue> {
        self.subscriptions
            .open(&self.manager, Wanted::Items(parse_kind(kind)?))
    }

    /// Joins a plain topic and subscribes to it. With several readers, messages wait for a verdict as long as one of them
    /// validates.
    #[wasm_bindgen(js_name = subscribeTopic)]
    pub async fn subscribe_topic(&self, topic: String, validate: bool) -> Result<u32, JsValue> {
        let subscriptions = Rc::clone(&self.subscriptions);
        // Before it is joined: whoever leaves meanwhile sees that somebody stays.
        let name = topic.clone();
        let id = subscriptions.open(&self.manager, Wanted::Topic { name, validate })?;
        let settled = Rc::clone(&subscriptions).settle(self.manager.clone(), topic);
        if let Err(error) = settled.await {
            subscriptions.end(id);
            return Err(error.into());
        }
        Ok(id)
    }

    /// The next items of a subscription, as many as there are within the limits of a pull; undefined after its end.
    pub async fn next(&self, subscription: u32) -> JsValue {
        match self.subscriptions.get(subscription) {
            Some(subscription) => subscription.next().await,
            None => JsValue::UNDEFINED,
        }
    }

    /// Ends a subscription. The last one of a plain topic leaves it, the last one that validates ends the waiting for verdicts.
    pub fn unsubscribe(&self, subscription: u32) {
        if let Some(topic) = self.subscriptions.end(subscription) {
            let settled = Rc::clone(&self.subscriptions).settle(self.manager.clone(), topic);
            wasm_bindgen_futures::spawn_local(async move {
                // An error says that the node has ended, and the subscription with it.
                let _ = settled.await;
            });
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

    /// Checks transactions of our own and sends them, for many much cheaper than one by one; what became of each, in order.
    #[wasm_bindgen(js_name = submitAll)]
    pub async fn submit_all(&self, transactions: Vec<Uint8Array>) -> Result<Array, JsValue> {
        let transactions = transactions.iter();
        let transactions = transactions.map(|bytes| Transaction::new(bytes.to_vec()));
        let (manager, transactions) = (self.manager.clone(), transactions.collect());
        let outcomes = manager.broadcast_transactions(transactions).await?;
        Ok(outcomes.iter().map(convert::outcome).collect())
    }

    /// Publishes on a plain topic.
    pub async fn publish(&self, topic: String, data: Vec<u8>) -> Result<(), JsValue> {
        let manager = self.manager.clone();
        Ok(manager.publish_topic(topic, data).await?)
    }

    /// Asks a peer, or some Selkie peers one after the other until one answers, about the chain's state.
    #[wasm_bindgen(js_name = requestState)]
    pub async fn request_state(
        &self,
        peer: Option<String>,
        key: Vec<u8>,
        height: Option<u64>,
    ) -> Result<JsValue, JsValue> {
        let manager = self.manager.clone();
        let peers = match peer {
            Some(peer) => vec![parse_peer(&peer)?],
            None => somebody(&manager),
        };
        let request = StateRequest {
            key: key.into(),
            height,
        };
        let topic = "state requests".to_owned();
        let mut outcome = Err(ProtocolError::NoPeers { topic });
        for peer in peers {
            outcome = manager.request_state(peer, request.clone()).await;
            if !outcome.as_ref().is_err_and(may_others) {
                break;
            }
        }
        let state = outcome?;
        Ok(convert::object([
            ("height", js_sys::BigInt::from(state.height).into()),
            ("value", Uint8Array::from(state.value.as_ref()).into()),
            ("proof", Uint8Array::from(state.proof.as_ref()).into()),
        ]))
    }

    /// Watches keys of the chain's state; resolves to the subscription's number.
    #[wasm_bindgen(js_name = watchState)]
    pub async fn watch_state(&self, keys: Vec<Uint8Array>) -> Result<u32, JsValue> {
        let (manager, subscriptions) = (self.manager.clone(), Rc::clone(&self.subscriptions));
        let watch = manager.watch_state(keys.iter().map(Uint8Array::to_vec));
        subscriptions.watch(watch.await?)
    }

    /// Handles a protocol of the user's: its streams arrive at `nextStream`.
    pub async fn handle(&self, protocol: String) -> Result<(), JsValue> {
        let (manager, streams) = (self.manager.clone(), Rc::clone(&self.streams));
        Ok(streams.handle(&manager, protocol).await?)
    }

    /// Handles it no more; its streams go on.
    pub async fn unhandle(&self, protocol: String) -> Result<(), JsValue> {
        let manager = self.manager.clone();
        Ok(manager.unhandle(protocol).await?)
    }

    /// The next stream that a peer has opened, with its number; undefined after the end.
    #[wasm_bindgen(js_name = nextStream)]
    pub async fn next_stream(&self) -> JsValue {
        let streams = Rc::clone(&self.streams);
        streams.next().await
    }

    /// Opens a stream to a peer; resolves to its number. An abort gives it up.
    pub async fn open(
        &self,
        peer: &str,
        protocol: String,
        abort: Option<AbortSignal>,
    ) -> Result<u32, JsValue> {
        let peer = parse_peer(peer)?;
        let (manager, streams) = (self.manager.clone(), Rc::clone(&self.streams));
        let opened = unless_aborted(abort, manager.open(peer, protocol)).await;
        Ok(streams.keep(opened.ok_or_else(was_reset)??))
    }

    /// The next bytes of a stream, 64 KiB at most; undefined after its end.
    pub async fn read(&self, stream: u32) -> Result<JsValue, JsValue> {
        let streams = Rc::clone(&self.streams);
        streams.read(stream).await
    }

    /// Writes to a stream; resolves when there was room for it.
    pub async fn write(&self, stream: u32, data: Vec<u8>) -> Result<(), JsValue> {
        let streams = Rc::clone(&self.streams);
        streams.write(stream, &data).await
    }

    /// Ends the writing.
    #[wasm_bindgen(js_name = closeWrite)]
    pub async fn close_write(&self, stream: u32) -> Result<(), JsValue> {
        let streams = Rc::clone(&self.streams);
        streams.close(stream).await
    }

    /// Resolves when the connection of a stream has ended, and rejects where the stream is over.
    #[wasm_bindgen(js_name = connectionEnd)]
    pub async fn connection_end(&self, stream: u32) -> Result<(), JsValue> {
        let streams = Rc::clone(&self.streams);
        streams.connection_end(stream).await
    }

    /// Forgets a stream. One that has not ended both ways is reset.
    pub fn reset(&self, stream: u32) {
        self.streams.reset(stream);
    }

    /// The connected peers.
    pub fn peers(&self) -> Array {
        self.manager
            .get_connected_peers()
            .iter()
            .map(convert::peer)
            .collect()
    }

    /// What a peer's score is, and what led to it.
    pub fn score(&self, peer: &str) -> Result<JsValue, JsValue> {
        let peer = parse_peer(peer)?;
        let is_banned = !self.manager.kept_out_by(&peer).is_empty();
        Ok(convert::score(self.manager.score(&peer), is_banned))
    }

    /// Whom the node knows.
    pub fn book(&self) -> Array {
        let (peers, now) = (self.manager.known_peers(), platform::date());
        peers.iter().map(|peer| convert::known(peer, now)).collect()
    }

    /// The address book and the bans as bytes, for the next start.
    #[wasm_bindgen(js_name = saveBook)]
    pub fn save_book(&self) -> Uint8Array {
        Uint8Array::from(self.manager.save_address_book().as_slice())
    }

    /// Why the book that this node was started with was none, if it was not.
    #[wasm_bindgen(js_name = bookLost)]
    pub fn book_lost(&self) -> Option<String> {
        self.book_lost.clone()
    }

    /// Whom it keeps out.
    pub fn bans(&self) -> Array {
        self.manager.bans().iter().map(convert::ban).collect()
    }

    /// Keeps a peer or a network out, for so many milliseconds or as long as is usual.
    pub async fn ban(&self, who: &str, time: Option<f64>) -> Result<(), JsValue> {
        let who = parse_banned(who)?;
        let time = time.map(milliseconds);
        let manager = self.manager.clone();
        Ok(manager.ban(who, time).await?)
    }

    /// Keeps a peer's place when a full node lets the least useful go.
    pub fn protect(&self, peer: &str, tag: &str) -> Result<(), JsValue> {
        Ok(self.manager.protect(parse_peer(peer)?, tag)?)
    }

    /// Peers, each by its id or by an address that ends in it, will be needed after so many milliseconds for so many.
    #[wasm_bindgen(js_name = expectDuty)]
    pub async fn expect_duty(
        &self,
        peers: Vec<String>,
        begins_in: f64,
        lasts: f64,
    ) -> Result<(), JsValue> {
        let peers = peers.iter().map(|peer| parse_known(peer));
        let peers = peers.collect::<Result<Vec<_>, JsValue>>()?;
        let [begins_in, lasts] = [begins_in, lasts].map(milliseconds);
        let manager = self.manager.clone();
        Ok(manager.expect_duty(peers, begins_in, lasts).await?)
    }

    /// Takes a tag away; whether the peer is still protected by another.
    pub fn unprotect(&self, peer: &str, tag: &str) -> Result<bool, JsValue> {
        Ok(self.manager.unprotect(&parse_peer(peer)?, tag))
    }

    /// Lets it in again; whether it was kept out for a while.
    pub fn unban(&self, who: &str) -> Result<bool, JsValue> {
        Ok(self.manager.unban(parse_banned(who)?))
    }

    /// All connections.
    pub fn connections(&self) -> Array {
        let connections = self.manager.connections();
        connections.iter().map(convert::connection).collect()
    }

    /// The plain topics that it takes part in, and who else does.
    pub async fn topics(&self) -> Result<Array, JsValue> {
        let manager = self.manager.clone();
        Ok(manager.topics().await?.iter().map(convert::topic).collect())
    }

    /// How far its chain is; `undefined` where the chain keeps no blocks.
    #[wasm_bindgen(js_name = syncStatus)]
    pub fn sync_status(&self) -> JsValue {
        let status = self.manager.sync_status();
        status.as_ref().map_or(JsValue::UNDEFINED, convert::sync)
    }

    /// All figures.
    pub fn metrics(&self) -> JsValue {
        convert::metrics(&self.manager)
    }

    /// Looks at once whether connections live, and dials again whom it waits to dial.
    pub async fn wake(&self) -> Result<(), JsValue> {
        let manager = self.manager.clone();
        Ok(manager.wake().await?)
    }

    /// Ends the node in order. What its chain was given is kept then, or the error says why it is not.
    pub async fn stop(&self) -> Result<(), JsValue> {
        let (manager, rules) = (self.manager.clone(), Arc::clone(&self.rules));
        self.subscriptions.end_all();
        self.streams.end_all();
        manager.shutdown().await;
        Ok(rules.close().await.map_err(NetworkError::from)?)
    }
}

impl WasmNode {
    async fn run(
        config: Config,
        keypair: Keypair,
        rules: Arc<dyn Rules>,
        book: Option<Uint8Array>,
    ) -> Result<Self, JsValue> {
        let manager = P2PNetworkManager::under(config, keypair, Arc::clone(&rules)).await?;
        let book_lost = book.and_then(|book| load_book(&manager, &book).err());
        // What is no event of a page's is none that it misses.
        let queue = manager.subscribe(|event| convert::state_event(event).is_some());
        let events = Rc::new(Mutex::new(StateEvents::new(queue)));
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
            rules,
            events,
            subscriptions: Rc::default(),
            streams: Rc::default(),
            book_lost,
        })
    }
}

/// Begins with a book that was kept; else why it is none. Of one that is too large only as much is copied as shows that.
fn load_book(manager: &P2PNetworkManager, book: &Uint8Array) -> Result<(), String> {
    let end = u32::try_from(MAX_BOOK_BYTES + 1).unwrap_or(u32::MAX);
    let loaded = manager.load_address_book(&book.subarray(0, end).to_vec());
    loaded.map_err(|error| match error {
        NetworkError::Argument(error) => error.problem,
        error => error.to_string(),
    })
}

/// A time from JavaScript; what is none is no time at all, or longer than any.
fn milliseconds(time: f64) -> Duration {
    let longest = if time > 0.0 {
        Duration::MAX
    } else {
        Duration::ZERO
    };
    Duration::try_from_secs_f64(time / 1e3).unwrap_or(longest)
}

/// A peer by its id, or by an address that ends in it.
fn parse_known(peer: &str) -> Result<PeerInfo, JsValue> {
    if !peer.starts_with('/') {
        return Ok(PeerInfo::new(parse_peer(peer)?));
    }
    let wrong =
        |error: PeerInfoError| convert::failure("invalid-address", false, &error.to_string());
    peer.parse().map_err(wrong)
}

/// What it comes to; `None` where an abort was first, and it is given up.
async fn unless_aborted<T>(abort: Option<AbortSignal>, work: impl Future<Output = T>) -> Option<T> {
    let Some(abort) = abort else {
        return Some(work.await);
    };
    let aborted = Promise::new(&mut |resolve, _| abort.set_onabort(&resolve));
    match select(pin!(work), JsFuture::from(aborted)).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(_) => None,
    }
}

/// The configuration in the object, whose field `identity` is not part of it. What JSON would not take along is none either.
fn options(config: &JsValue) -> Result<Options, JsValue> {
    let wrong = |problem: &str| convert::failure("config", true, &format!("config: {problem}"));
    let text = JSON::stringify(config).ok().and_then(|it| it.as_string());
    let json = text.and_then(|text| JSON::parse(&text).ok());
    let json = json.ok_or_else(|| wrong("give an object of plain values"))?;
    if let Some(fields) = json.dyn_ref::<Object>() {
        // Fails where it can't be configured; this is our own copy.
        let _ = Reflect::delete_property(fields, &IDENTITY.into());
    }
    Options::read(&json).map_err(|problem| wrong(&problem))
}

/// The identity in the object, or a new one.
fn identity(config: &JsValue) -> Result<Keypair, JsValue> {
    let wrong = |problem: &str| {
        let message = format!("the identity is no libp2p private key: {problem}");
        convert::failure("identity", true, &message)
    };
    let given = Reflect::get(config, &IDENTITY.into()).unwrap_or_default();
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

/// Up to [`MAX_ASKED`] Selkie peers, from another one on each time.
fn somebody(manager: &P2PNetworkManager) -> Vec<PeerId> {
    let peers = manager.get_connected_peers().into_iter();
    let mut peers: Vec<_> = peers
        .filter(|peer| peer.selkie)
        .map(|peer| peer.peer_id)
        .collect();
    let mut random = [0];
    // Without it the first is always the same, which does.
    let _ = platform::random(&mut random);
    let first = usize::from(random[0]) % peers.len().max(1);
    peers.rotate_left(first);
    peers.truncate(MAX_ASKED);
    peers
}

/// Whether another peer may answer where one failed so: not every node serves state, nor each of any height, and some have
/// just left or have much to do.
fn may_others(error: &ProtocolError) -> bool {
    matches!(
        error,
        ProtocolError::Refused(_)
            | ProtocolError::Forged(_)
            | ProtocolError::Unproven(_)
            | ProtocolError::NotConnected(_)
            | ProtocolError::Broken(_)
            | ProtocolError::Unsupported(_)
            | ProtocolError::Busy
    )
}

fn parse_peer(peer: &str) -> Result<PeerId, JsValue> {
    peer.parse().map_err(|error| {
        let message = format!("\"{peer}\" is no peer id ({error}); they look like 12D3KooW…");
        convert::failure("invalid-peer-id", false, &message)
    })
}

fn parse_banned(who: &str) -> Result<Banned, JsValue> {
    let parsed = who.parse();
    parsed.map_err(|error: BannedError| {
        convert::failure("invalid-argument", false, &error.to_string())
    })
}

#[cfg(test)]
mod tests;
