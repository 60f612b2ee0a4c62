use futures::{FutureExt, future::BoxFuture};
use tokio::sync::oneshot;
use wasm_bindgen_test::wasm_bindgen_test;

use super::*;
use crate::{
    Application, NetworkEvent,
    chain::{
        Opaque, StateResponse,
        ledger::{self, Ledger},
        rules::Synchronous,
    },
    mpsc,
    platform::lock::lock,
    storage::{IndexedDbStore, Store, StoreError},
    web::subscriptions::MAX_SUBSCRIPTIONS,
};

fn field(object: &JsValue, name: &str) -> JsValue {
    Reflect::get(object, &name.into()).expect("an object")
}

fn text(object: &JsValue, name: &str) -> String {
    field(object, name).as_string().expect("a text")
}

/// A node without a network but the memory of this process.
async fn start() -> WasmNode {
    serving(Opaque).await
}

async fn serving(application: impl Application) -> WasmNode {
    run(application, None).await
}

/// One that begins with a book.
async fn run(application: impl Application, book: Option<Uint8Array>) -> WasmNode {
    let mut config = Config::default();
    config.network.listen_addresses = vec!["/memory/0".parse().expect("an address")];
    let rules = Arc::new(Synchronous::new(Arc::new(application)));
    let started = WasmNode::run(config, Keypair::generate_ed25519(), rules, book);
    started.await.expect("it starts")
}

struct Served;

impl Application for Served {
    fn query(&self, _: &StateRequest) -> Option<StateResponse> {
        Some(StateResponse::default())
    }
}

async fn connect(one: &WasmNode, other: &WasmNode) {
    let address = other.manager.listeners().remove(0);
    let dialled = one.dial(&address.to_string(), None).await;
    dialled.expect("it is there");
}

/// The bytes of the next message.
async fn message(node: &WasmNode, subscription: u32) -> (u8, String) {
    let items = Array::from(&node.next(subscription).await);
    assert_eq!(items.length(), 1);
    let data = Uint8Array::from(field(&items.get(0), "data"));
    let token = field(&items.get(0), "token").as_string();
    (data.get_index(0), token.unwrap_or_default())
}

#[wasm_bindgen_test]
fn a_reader_of_events_that_is_too_slow_is_told() {
    let (sender, queue) = mpsc::channel(3, 1 << 20);
    let mut events = StateEvents::new(queue);
    sender.send_all([NetworkEvent::PeerDisconnected {
        peer_id: PeerId::random(),
        reason: "it left".to_owned(),
    }]);
    sender.send_all(
        ["a", "b", "c", "d", "e"].map(|reason| NetworkEvent::PeerRefused {
            address: None,
            peer_id: PeerId::random(),
            reason: reason.to_owned(),
        }),
    );
    let mut next = || events.next().now_or_never().expect("one waits");
    let lagged = next();
    assert_eq!(text(&lagged, "type"), "lagged");
    assert_eq!(field(&lagged, "missed"), 3);
    assert_eq!(field(&field(&lagged, "kinds"), "peer:refused"), 3);
    // What there is little of is not pushed out.
    assert_eq!(text(&next(), "type"), "peer:disconnect");
    for reason in ["d", "e"] {
        assert_eq!(text(&next(), "reason"), reason);
    }
    drop(sender);
    assert!(
        events
            .next()
            .now_or_never()
            .expect("the end")
            .is_undefined()
    );
}

#[wasm_bindgen_test]
async fn a_topic_waits_for_verdicts_as_long_as_one_reader_gives_them() {
    let (first, middle, last) = (start().await, start().await, start().await);
    let topic = || "several readers".to_owned();
    let heard = last.subscribe_topic(topic(), false).await.expect("joined");
    let judged = middle.subscribe_topic(topic(), true).await.expect("joined");
    let shown = middle
        .subscribe_topic(topic(), false)
        .await
        .expect("joined");
    connect(&middle, &last).await;
    connect(&first, &middle).await;
    let connections = middle.connections();
    let told = |place, name: &str| text(&connections.get(place), name);
    assert_eq!(
        (told(0, "direction"), told(1, "direction")),
        ("outbound".into(), "inbound".into())
    );
    assert_eq!(
        (told(0, "peerId"), told(0, "transport")),
        (last.peer_id(), "memory".into())
    );
    let topics = middle.topics().await.expect("running");
    assert_eq!(text(&topics.get(0), "topic"), topic());
    assert_eq!(field(&topics.get(0), "validate"), true);
    for data in [1, 2] {
        first.publish(topic(), vec![data]).await.expect("sent");
        let (told, token) = message(&middle, judged).await;
        assert_eq!((told, message(&middle, shown).await.0), (data, data));
        // The first one never gets its verdict.
        if data == 2 {
            middle.report(&token, "accept").await.expect("told");
        }
    }
    assert_eq!(message(&last, heard).await.0, 2);
    middle.unsubscribe(judged);
    first.publish(topic(), vec![3]).await.expect("sent");
    assert_eq!(message(&middle, shown).await.0, 3);
    assert_eq!(message(&last, heard).await.0, 3);
}

#[wasm_bindgen_test]
async fn who_serves_no_state_hides_nobody_who_does() {
    let (node, serving) = (start().await, serving(Served).await);
    let others = [start().await, start().await, start().await];
    for other in &others {
        connect(&node, other).await;
    }
    let refused = node.request_state(None, Vec::new(), None).await;
    assert_eq!(text(&refused.expect_err("nobody does"), "code"), "refused");
    connect(&node, &serving).await;
    for _ in 0..8 {
        let state = node.request_state(None, Vec::new(), None).await;
        state.expect("one of the four does");
    }
}

type Kept = Result<(), StoreError>;

/// Keeps what it was given when it is told so, and as often at once after that; then it is full.
struct Slow(std::sync::Mutex<(Option<oneshot::Receiver<Kept>>, usize)>);

impl Application for Slow {
    fn flush(&self) -> BoxFuture<'static, Kept> {
        let mut state = lock(&self.0);
        let told = state.0.take();
        let is_kept = told.is_none() && state.1 > 0;
        state.1 -= usize::from(is_kept);
        let full = || StoreError::Full {
            place: "the shelf".to_owned(),
            reason: "books".to_owned(),
        };
        async move {
            if is_kept {
                return Ok(());
            }
            let told = told.ok_or_else(full)?;
            told.await.map_err(|_| full())?
        }
        .boxed()
    }
}

#[wasm_bindgen_test]
async fn nobody_is_told_of_a_word_of_ours_before_it_is_kept() {
    // A vote is kept twice: what it rests on, before the chain is given it, and then what the chain makes of it.
    for (kind, again) in [("vote", 1), ("block", 0)] {
        let (keep, kept) = oneshot::channel();
        let node = serving(Slow(std::sync::Mutex::new((Some(kept), again)))).await;
        let other = start().await;
        let heard = other.subscribe(kind).expect("room");
        let marks = other.subscribe("transaction").expect("room");
        connect(&node, &other).await;
        let mut said = pin!(node.submit(kind, vec![1]).fuse());
        assert!(futures::poll!(said.as_mut()).is_pending());
        node.submit("transaction", vec![2]).await.expect("sent");
        assert_eq!(message(&other, marks).await.0, 2);
        assert!(futures::poll!(said.as_mut()).is_pending(), "it is not kept");
        assert!(other.next(heard).now_or_never().is_none(), "{kind}");
        keep.send(Ok(())).expect("it is waited for");
        said.await.expect("kept and sent");
        assert_eq!(message(&other, heard).await.0, 1);
        let refused = node.submit(kind, vec![3]).await;
        let refused = refused.expect_err("the shelf is full");
        assert_eq!(text(&refused, "code"), "ignored");
        assert!(text(&refused, "message").contains("books"));
        assert!(other.next(heard).now_or_never().is_none());
        let lost = node.stop().await.expect_err("the shelf is full");
        assert_eq!(text(&lost, "code"), "storage-full");
    }
}

#[wasm_bindgen_test]
async fn a_node_that_has_ended_leaves_its_store_to_the_next() {
    let mut word = [0; 8];
    platform::random(&mut word).expect("random");
    let name = format!("test-{}", hex::encode(word));
    let open = async || {
        let store = IndexedDbStore::open(&name, 1 << 24, &ledger::SCHEMA).await?;
        let store: Arc<dyn Store> = Arc::new(store);
        let opened = Ledger::open(ledger::Genesis::development(&name), store);
        Ok::<_, NetworkError>(opened?)
    };
    let key = ledger::development_key(&name, "proposer");
    let voter = ledger::development_key(&name, "voter 0");
    let (ledger, other) = (open().await.expect("opened"), start().await);
    let node = serving(ledger.clone()).await;
    connect(&node, &other).await;
    let block = ledger.propose(&key, 1).expect("a block");
    node.submit("block", block.data.to_vec())
        .await
        .expect("sent");
    let vote = ledger.vote(&voter).expect("written").expect("a vote");
    node.submit("vote", vote.data.to_vec()).await.expect("sent");
    assert_eq!(
        open().await.expect_err("it is open").code(),
        "storage-locked"
    );
    node.stop().await.expect("written");
    let again = open().await.expect("opened again");
    assert_eq!(again.tip(), ledger.tip());
    assert_eq!(again.vote(&voter).expect("read"), Some(vote));
}

/// The next peer that is connected.
async fn connected(node: &WasmNode) -> String {
    loop {
        let event = node.next_event().await;
        if text(&event, "type") == "peer:connect" {
            return text(&event, "peerId");
        }
    }
}

#[wasm_bindgen_test]
async fn a_node_that_comes_again_dials_its_anchors_first() {
    let (first, other) = (start().await, start().await);
    connect(&first, &other).await;
    let book = first.save_book();
    first.stop().await.expect("it keeps nothing else");
    // Nobody tells it of anybody.
    let again = run(Opaque, Some(book)).await;
    assert_eq!(again.book_lost(), None);
    assert_eq!(connected(&again).await, other.peer_id());
}

#[wasm_bindgen_test]
async fn what_is_no_book_costs_the_book_and_not_the_start() {
    let book = start().await.save_book();
    let torn = book.subarray(0, book.length() - 1);
    let large = Uint8Array::new_with_length(64 << 20);
    let damaged = Uint8Array::from(book.to_vec().as_slice());
    damaged.set_index(book.length() - 1, damaged.get_index(book.length() - 1) ^ 1);
    for (bytes, why) in [
        (Uint8Array::new_with_length(0), "empty"),
        (torn, "a part of one"),
        (damaged, "damaged"),
        (large, "larger than"),
    ] {
        let node = run(Opaque, Some(bytes)).await;
        let lost = node.book_lost().expect("it is none");
        assert!(lost.contains(why), "{lost}");
        assert_eq!(node.book().length(), 0);
    }
}

#[wasm_bindgen_test]
async fn who_is_needed_for_a_duty_is_dialled_and_no_nonsense_is_taken() {
    let (node, other, friend) = (start().await, start().await, start().await);
    // What an application says of a peer leads to no place of this host while it has met nobody here.
    connect(&node, &friend).await;
    assert_eq!(connected(&node).await, friend.peer_id());
    let address = other.manager.listeners().remove(0).to_string();
    let expected = node.expect_duty(vec![address], 0.0, 6e4).await;
    expected.expect("it is near");
    assert_eq!(connected(&node).await, other.peer_id());
    let somebody = || vec![PeerId::random().to_string()];
    for (peers, begins_in, lasts, code) in [
        (vec!["nobody".to_owned()], 0.0, 1.0, "invalid-peer-id"),
        (vec!["/memory/1".to_owned()], 0.0, 1.0, "invalid-address"),
        (somebody(), f64::INFINITY, 1.0, "invalid-argument"),
        (somebody(), 0.0, f64::NAN, "invalid-argument"),
        (somebody(), 0.0, -1.0, "invalid-argument"),
    ] {
        let refused = node.expect_duty(peers, begins_in, lasts).await;
        assert_eq!(text(&refused.expect_err(code), "code"), code);
    }
}

#[wasm_bindgen_test]
async fn a_subscription_that_fails_leaves_no_topic_joined() {
    let (node, other) = (start().await, start().await);
    let full = || node.subscribe("block");
    let open: Vec<u32> = std::iter::from_fn(|| full().ok()).collect();
    assert_eq!(open.len(), MAX_SUBSCRIPTIONS);
    let failed = node.subscribe_topic("none".to_owned(), false).await;
    assert_eq!(
        text(&failed.expect_err("no room"), "code"),
        "too-many-subscriptions"
    );
    connect(&other, &node).await;
    let published = other.publish("none".to_owned(), vec![1]).await;
    assert_eq!(
        text(&published.expect_err("nobody listens"), "code"),
        "no-peers"
    );
}
