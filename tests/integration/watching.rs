//! Watching the state between real nodes: a light ledger hears what its keys have as blocks become final.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use selkie::{
    Application, Checked, Item, NetworkError, NetworkEvent, NetworkMessage, StateChange,
    StateRequest, StateResponse, StateWatch, Transaction, Vote,
    chain::{
        ChainStore, Opaque, ProvenState, StateBatch,
        ledger::{
            self, Address, DEVELOPMENT_VOTERS, Genesis, Ledger, LightLedger, Transfer,
            development_key,
        },
    },
    storage::MemoryStore,
};

use crate::{
    proto::Proto,
    raw_peer::RawPeer,
    support::{Node, TCP, listening, soon, unblamed},
};

const NETWORK: &str = "selkie-dev";

fn ledger() -> Ledger {
    let store = MemoryStore::new(1 << 28, &ledger::SCHEMA).expect("memory");
    Ledger::open(Genesis::development(NETWORK), Arc::new(store)).expect("a genesis")
}

fn light() -> LightLedger {
    let store = MemoryStore::new(1 << 24, &ledger::LIGHT_SCHEMA).expect("memory");
    LightLedger::open(Genesis::development(NETWORK), Arc::new(store)).expect("a genesis")
}

fn address(role: &str) -> Address {
    Address::of(&development_key(NETWORK, role))
}

fn key(role: &str) -> Bytes {
    Bytes::copy_from_slice(address(role).as_bytes())
}

/// Puts an item into a node's ledger, and has it told where there is somebody to tell.
async fn give(node: &Node, ledger: &Ledger, item: Item) {
    if node.get_connected_peers().is_empty() {
        ledger.deliver(&item);
    } else {
        node.submit(item).await.expect("it goes");
    }
}

/// A node makes a block in which account 0 pays somebody a coin, and all vote for it.
async fn pay(node: &Node, ledger: &Ledger, to: &str) {
    let from = development_key(NETWORK, "account 0");
    let sender = ledger.account(&Address::of(&from)).expect("read");
    let genesis = *ledger.genesis_hash();
    let transfer = Transfer::new(&genesis, &from, address(to), 1, 1, sender.nonce);
    let transfer = Transaction::new(transfer.encode());
    give(node, ledger, Item::Transaction(transfer)).await;
    let time = ledger.tip().height + 1;
    let block = ledger.propose(&development_key(NETWORK, "proposer"), time);
    give(node, ledger, Item::Block(block.expect("a block"))).await;
    for voter in 0..DEVELOPMENT_VOTERS {
        let voter = development_key(NETWORK, &format!("voter {voter}"));
        if let Some(vote) = ledger.vote(&voter).expect("written") {
            give(node, ledger, Item::Vote(vote)).await;
        }
    }
    assert_eq!(ledger.tip().final_height, time);
}

/// What changes next, which has to be what the ledger has.
async fn change(watch: &mut StateWatch, ledger: &Ledger) -> StateChange {
    let change = soon("a change", watch.recv()).await.expect("the node runs");
    for (key, value) in &change.values {
        let request = StateRequest {
            key: key.clone(),
            height: Some(change.at.height),
        };
        let state = ledger.query(&request).expect("it is kept");
        assert_eq!(&state.value, value);
    }
    change
}

/// Changes until a height.
async fn change_at(watch: &mut StateWatch, ledger: &Ledger, height: u64) -> StateChange {
    loop {
        let change = change(watch, ledger).await;
        if change.at.height >= height {
            return change;
        }
    }
}

/// A ledger that counts who asks, and may answer with a coin more.
struct Serving {
    ledger: Ledger,
    lies: bool,
    asked: Arc<AtomicUsize>,
}

impl Application for Serving {
    fn check_transaction(&self, transaction: &Transaction) -> Checked {
        self.ledger.check_transaction(transaction)
    }

    fn check_block(&self, block: &selkie::Block) -> Checked {
        self.ledger.check_block(block)
    }

    fn check_vote(&self, vote: &Vote) -> Checked {
        self.ledger.check_vote(vote)
    }

    fn check_header(&self, header: &Bytes) -> Checked {
        self.ledger.check_header(header)
    }

    fn deliver(&self, item: &Item) {
        self.ledger.deliver(item);
    }

    fn chain_store(&self) -> Option<Arc<dyn ChainStore>> {
        self.ledger.chain_store()
    }

    fn query(&self, request: &StateRequest) -> Option<StateResponse> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.ledger.query(request)
    }

    fn prove_state(&self, batch: &StateBatch) -> Option<ProvenState> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut answer = self.ledger.prove_state(batch)?;
        if self.lies {
            let mut value = answer.values[0].to_vec();
            *value.get_mut(7)? += 1;
            answer.values[0] = value.into();
        }
        Some(answer)
    }
}

async fn serving(ledger: &Ledger, lies: bool) -> (Node, Arc<AtomicUsize>) {
    let asked = Arc::<AtomicUsize>::default();
    let application = Serving {
        ledger: ledger.clone(),
        lies,
        asked: Arc::clone(&asked),
    };
    (Node::with(listening(TCP), application).await, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_light_node_hears_what_changes_and_asks_once_for_each_state() {
    let maker = ledger();
    let (source, asked) = serving(&maker, false).await;
    pay(&source, &maker, "a stranger").await;
    let sink = Node::with(listening(TCP), light()).await;
    // Nobody is there yet.
    let mut watch = sink
        .watch_state([key("account 1"), key("a friend")])
        .await
        .expect("offered");
    sink.dial(source.address()).await.expect("it is there");
    // No vote reaches it any more: what is final it has to ask for.
    let first = change(&mut watch, &maker).await;
    assert_eq!((first.at.height, first.values.len()), (1, 2));
    assert!(first.values[&key("a friend")].is_empty());
    // For what is final, and then for both keys.
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    pay(&source, &maker, "a friend").await;
    let second = change(&mut watch, &maker).await;
    assert_eq!(second.at.height, 2);
    assert_eq!(second.values.keys().collect::<Vec<_>>(), [&key("a friend")]);
    // Two watches that are asked for together.
    let mut other = sink
        .watch_state([key("a stranger")])
        .await
        .expect("offered");
    assert_eq!(change(&mut other, &maker).await.values.len(), 1);
    let before = asked.load(Ordering::Relaxed);
    pay(&source, &maker, "a stranger").await;
    let third = change(&mut other, &maker).await;
    assert_eq!(third.at.height, 3);
    assert_eq!(asked.load(Ordering::Relaxed), before + 1);
    assert_eq!(watch.verified().expect("as well").height, 3);
    drop(other);
    pay(&source, &maker, "account 1").await;
    assert_eq!(change(&mut watch, &maker).await.at.height, 4);
    sink.shutdown().await;
    assert_eq!(soon("the end", watch.recv()).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_light_node_that_is_opened_again_hears_that_the_chain_went_on() {
    let maker = ledger();
    let (source, asked) = serving(&maker, false).await;
    pay(&source, &maker, "a friend").await;
    let kept = light();
    let tab = Node::with(listening(TCP), kept.clone()).await;
    tab.dial(source.address()).await.expect("it is there");
    let mut watch = tab.watch_state([key("a friend")]).await.expect("offered");
    assert_eq!(change(&mut watch, &maker).await.at.height, 1);
    tab.shutdown().await;
    // Meanwhile the chain goes on, and then it rests.
    let aside = Node::with(listening(TCP), Opaque).await;
    for _ in 0..3 {
        pay(&aside, &maker, "a friend").await;
    }
    let before = asked.load(Ordering::Relaxed);
    let tab = Node::with(listening(TCP), kept).await;
    let mut watch = tab.watch_state([key("a friend")]).await.expect("offered");
    tab.dial(source.address()).await.expect("it is there");
    assert_eq!(change_at(&mut watch, &maker, 4).await.at.height, 4);
    assert!(asked.load(Ordering::Relaxed) - before <= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_outlasts_the_runtime_that_it_was_opened_in() {
    let maker = ledger();
    let node = Node::with(listening(TCP), maker.clone()).await;
    let taker = Node::with(listening(TCP), ledger()).await;
    node.dial(taker.address()).await.expect("it is there");
    let (short, alone) = (node.manager.clone(), node.manager.clone());
    let watches = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.expect("a runtime");
        let first = runtime.block_on(short.watch_state([key("a friend")]));
        drop(runtime);
        // And here is none.
        let second = futures::executor::block_on(alone.watch_state([key("a friend")]));
        [first, second].map(|watch| watch.expect("offered"))
    });
    let watches = tokio::task::spawn_blocking(move || watches.join());
    let watches = soon("both", watches).await.expect("no panic");
    for mut watch in watches.expect("no panic on the thread") {
        let height = maker.tip().height;
        change_at(&mut watch, &maker, height).await;
        pay(&node, &maker, "a friend").await;
        change_at(&mut watch, &maker, height + 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_is_learnt_by_a_question_of_ones_own_is_looked_at() {
    let maker = ledger();
    let (source, _) = serving(&maker, false).await;
    let aside = Node::with(listening(TCP), Opaque).await;
    pay(&aside, &maker, "a friend").await;
    let sink = Node::with(listening(TCP), light()).await;
    sink.dial(source.address()).await.expect("it is there");
    let mut watch = sink.watch_state([key("a friend")]).await.expect("offered");
    assert_eq!(change(&mut watch, &maker).await.at.height, 1);
    // Nobody is told of these votes.
    pay(&aside, &maker, "a friend").await;
    let request = StateRequest {
        key: key("account 1"),
        height: None,
    };
    let answer = sink.request_state(source.id(), request).await;
    assert_eq!(answer.expect("it holds").height, 2);
    assert_eq!(change(&mut watch, &maker).await.at.height, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lies_of_a_watched_key_pays_and_others_answer() {
    let maker = ledger();
    let (honest, _) = serving(&maker, false).await;
    let (liar, asked) = serving(&maker, true).await;
    let mut sink = Node::with(listening(TCP), light()).await;
    sink.dial(liar.address()).await.expect("it is there");
    pay(&honest, &maker, "a friend").await;
    let mut watch = sink.watch_state([key("a friend")]).await.expect("offered");
    let scored = sink.event("its price", |event| match event {
        NetworkEvent::PeerScored {
            peer_id, reason, ..
        } => Some((peer_id, reason)),
        _ => None,
    });
    let price = "it answered about the state with a false proof";
    assert_eq!(scored.await, (liar.id(), price));
    assert_eq!(watch.verified(), None, "nothing of it was told");
    sink.dial(honest.address()).await.expect("it is there");
    assert_eq!(change(&mut watch, &maker).await.at.height, 1);
    // For what is final, of which it told the truth.
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_the_state_itself_watches_without_peers() {
    let maker = ledger();
    let alone = Node::with(listening(TCP), maker.clone()).await;
    let (other, asked) = serving(&ledger(), false).await;
    alone.dial(other.address()).await.expect("it is there");
    let mut watch = alone.watch_state([key("a friend")]).await.expect("offered");
    assert_eq!(change(&mut watch, &maker).await.at.height, 0);
    pay(&alone, &maker, "a friend").await;
    assert_eq!(change_at(&mut watch, &maker, 1).await.values.len(), 1);
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_has_the_state_that_is_told_until_somebody_has() {
    let maker = ledger();
    let mut sink = Node::with(listening(TCP), light()).await;
    // Another tab, which has none either.
    let tab = Node::with(listening(TCP), light()).await;
    sink.dial(tab.address()).await.expect("it is there");
    let mut watch = sink.watch_state([key("a friend")]).await.expect("offered");
    let told = sink.event("that it is not verified", |event| match event {
        NetworkEvent::StateUnverified { height, reason } => Some((height, reason)),
        _ => None,
    });
    let (height, reason) = told.await;
    assert_eq!(height, None);
    assert!(reason.contains("serves no such state"), "{reason}");
    let (source, _) = serving(&maker, false).await;
    sink.dial(source.address()).await.expect("it is there");
    source.dial(tab.address()).await.expect("it is there");
    pay(&source, &maker, "a friend").await;
    assert_eq!(change(&mut watch, &maker).await.at.height, 1);
}

/// An answer about state as nodes gave it that knew of one key alone.
fn older_answer(state: &StateResponse) -> Vec<u8> {
    let state = Proto::new()
        .uint(1, state.height)
        .bytes(2, &state.value)
        .bytes(3, &state.proof);
    Proto::new().bytes(2, state).framed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_knows_one_key_alone_is_no_liar_and_of_no_use() {
    let maker = ledger();
    let (source, _) = serving(&maker, false).await;
    pay(&source, &maker, "a friend").await;
    let mut sink = Node::with(listening(TCP), light()).await;
    let mut older = RawPeer::hostile().await;
    older.join(&sink).await;
    sink.connected(older.id).await;
    let mut watch = sink
        .watch_state([key("a friend"), key("account 1")])
        .await
        .expect("offered");
    // First it is asked for the newest state, and then for two keys in that one.
    for wanted in [None, Some(1)] {
        let (frame, channel) = older.request().await;
        let message = NetworkMessage::decode(&frame[prost_length(&frame)..]).expect("a message");
        let request = match message {
            NetworkMessage::StateRequest(request) => request,
            NetworkMessage::StateBatch(batch) => StateRequest {
                key: batch.keys[0].clone(),
                height: Some(batch.at.height),
            },
            other => panic!("{other:?}"),
        };
        assert_eq!(request.height, wanted);
        let state = maker.query(&request).expect("it is kept");
        older.respond(channel, older_answer(&state));
    }
    sink.dial(source.address()).await.expect("it is there");
    let first = change(&mut watch, &maker).await;
    assert_eq!((first.at.height, first.values.len()), (1, 2));
    unblamed(&mut sink);
}

/// How long the length in front of a frame is.
fn prost_length(frame: &[u8]) -> usize {
    1 + frame.iter().take_while(|byte| **byte & 0x80 != 0).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_watched_is_refused() {
    let node = Node::with(listening(TCP), light()).await;
    let no_address = node.watch_state([&b"no address"[..]]).await;
    let error = no_address.expect_err("it proves nothing of it");
    assert!(matches!(error, NetworkError::NotOffered(_)), "{error}");
    assert_eq!((error.code(), error.is_fatal()), ("not-offered", false));
    let none = node.watch_state(Vec::<Bytes>::new()).await;
    assert!(matches!(none, Err(NetworkError::Argument(_))), "{none:?}");
    let mut watches = Vec::new();
    for _ in 0..64 {
        watches.push(node.watch_state([key("a friend")]).await.expect("room"));
    }
    let full = node.watch_state([key("a friend")]).await;
    assert!(
        matches!(full, Err(NetworkError::TooManyWatches(64))),
        "{full:?}"
    );
    // Who ends one has its place at once.
    watches.pop();
    watches.push(node.watch_state([key("a friend")]).await.expect("room"));
    node.shutdown().await;
    let over = node.watch_state([key("a friend")]).await;
    assert!(matches!(over, Err(NetworkError::NotRunning)), "{over:?}");
    // A chain that proves nothing.
    let opaque = Node::with(listening(TCP), Opaque).await;
    let refused = opaque.watch_state([key("a friend")]).await;
    assert!(
        matches!(refused, Err(NetworkError::NotOffered(_))),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_keeps_no_node_running() {
    let maker = ledger();
    let (source, _) = serving(&maker, false).await;
    pay(&source, &maker, "a friend").await;
    let sink = Node::with(listening(TCP), light()).await;
    sink.dial(source.address()).await.expect("it is there");
    let mut watch = sink.watch_state([key("a friend")]).await.expect("offered");
    change(&mut watch, &maker).await;
    drop(sink);
    soon("its end", async { while watch.recv().await.is_some() {} }).await;
}
