//! Sync between whole nodes: whoever comes late gets the blocks that it has missed, and follows.

use std::sync::Arc;

use selkie::{
    Application, Block, Config, Item, NetworkEvent, NetworkMessage, ProtocolError, StateRequest,
    StateResponse,
    chain::{
        BlockPlace, ChainStore, Checked,
        ledger::{
            self, Address, DEVELOPMENT_VOTERS, Genesis, Ledger, LightLedger, development_key,
        },
    },
    storage::MemoryStore,
};

use crate::{
    small_chain::{SmallChain, block},
    support::{Node, TCP, connect, listening},
};

fn config() -> Config {
    let mut config = listening(TCP);
    // Nobody else is looked for.
    config.protocol.kademlia_config.mdns = false;
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_node_gets_what_another_has_and_follows_it() {
    let chain = SmallChain::of(3000, 400);
    let source = Node::with(config(), chain.clone()).await;
    let mine = SmallChain::default();
    let mut sink = Node::with(config(), mine.clone()).await;
    sink.dial(source.address()).await.expect("it is there");
    sink.synced_to(chain.tip().height).await;
    assert_eq!(mine.tip(), chain.tip());
    assert_eq!(mine.appended(), 3000);
    // The last block is told before it is seen that the other's chain ends there, which is told too.
    let status = loop {
        let status = sink.sync_status().expect("it syncs");
        if status.target.is_none() {
            break status;
        }
        sink.event("the end of the other's chain", |event| {
            matches!(event, NetworkEvent::SyncProgress { .. }).then_some(())
        })
        .await;
    };
    assert_eq!(status.tip, chain.tip());
    assert_eq!(status.trouble, None);
    // A block that is made now comes by propagation, and goes into both stores.
    let next: Block = block(&chain.tip(), 0, b"the next");
    let message = NetworkMessage::Block(next);
    source.broadcast_message(message).await.expect("it goes");
    let place = BlockPlace {
        height: 3001,
        id: sink
            .event("the next", |event| match event {
                NetworkEvent::ItemAccepted { id, .. } => Some(id),
                _ => None,
            })
            .await,
    };
    sink.synced_to(place.height).await;
    assert_eq!((mine.tip(), chain.tip()), (place.clone(), place));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_blocks_come_from_three_nodes_and_from_who_has_just_synced() {
    let chain = SmallChain::of(120, 300_000);
    let mut sources = Vec::new();
    for _ in 0..3 {
        sources.push(Node::with(config(), chain.fork(120)).await);
    }
    let mut sink = Node::with(config(), SmallChain::default()).await;
    let mut last = Node::with(config(), SmallChain::default()).await;
    last.dial(sink.address()).await.expect("it is there");
    for source in &sources {
        sink.dial(source.address()).await.expect("it is there");
    }
    sink.synced_to(chain.tip().height).await;
    last.synced_to(chain.tip().height).await;
    for node in [&sink, &last] {
        let misdeeds = node.peer_metrics().peer_reputation;
        assert!(misdeeds.values().all(|score| *score == 0.0), "{misdeeds:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_gets_what_was_said_meanwhile() {
    let chain = SmallChain::of(10, 400);
    let source = Node::with(config(), chain.clone()).await;
    let mine = SmallChain::default();
    let mut sink = Node::with(config(), mine.clone()).await;
    sink.dial(source.address()).await.expect("it is there");
    sink.synced_to(chain.tip().height).await;
    sink.disconnect(source.id()).await.expect("it goes");
    for _ in 0..5 {
        chain.grow(1, 0, 400);
    }
    sink.dial(source.address()).await.expect("it is there");
    sink.synced_to(chain.tip().height).await;
    assert_eq!(mine.tip(), chain.tip());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_without_a_store_is_left_alone() {
    let chain = SmallChain::of(10, 400);
    let mut source = Node::with(config(), chain).await;
    let mut plain = Node::start(config()).await;
    connect(&mut plain, &mut source).await;
    assert_eq!(plain.sync_status(), None);
    let data = selkie::Transaction::new("it still gets what is sent");
    let message = NetworkMessage::Transaction(data);
    source.broadcast_message(message).await.expect("it goes");
    plain
        .event("the transaction", |event| match event {
            NetworkEvent::ItemAccepted { .. } => Some(()),
            _ => None,
        })
        .await;
    let misdeeds = plain.peer_metrics().peer_reputation;
    assert!(misdeeds.values().all(|score| *score == 0.0), "{misdeeds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_waited_for_and_who_has_pruned_is_no_hindrance() {
    let chain = SmallChain::of(500, 400);
    let pruned = chain.fork(500);
    pruned.prune(400);
    let sources = [
        Node::with(config(), pruned).await,
        Node::with(config(), chain.clone()).await,
    ];
    let mine = SmallChain::default();
    mine.fail(1);
    let mut sink = Node::with(config(), mine.clone()).await;
    for source in &sources {
        sink.dial(source.address()).await.expect("it is there");
    }
    sink.event("trouble", |event| match &event {
        NetworkEvent::SyncProgress {
            trouble: Some(trouble),
            ..
        } => (event.is_error() && trouble == "the disk is full").then_some(()),
        _ => None,
    })
    .await;
    sink.synced_to(chain.tip().height).await;
    assert_eq!(sink.sync_status().expect("it syncs").trouble, None);
}

/// A ledger of the development network, in memory.
fn ledger() -> Ledger {
    let store = MemoryStore::new(1 << 28, &ledger::SCHEMA).expect("memory");
    let genesis = Genesis::development("selkie-dev");
    Ledger::open(genesis, Arc::new(store)).expect("a genesis")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_syncs_from_another_and_follows_it() {
    let (maker, mine) = (ledger(), ledger());
    let key = development_key("selkie-dev", "proposer");
    for time in 1..=300 {
        let block = maker.propose(&key, time).expect("a block");
        maker.deliver(&Item::Block(block));
    }
    let source = Node::with(config(), maker.clone()).await;
    let mut sink = Node::with(config(), mine.clone()).await;
    sink.dial(source.address()).await.expect("it is there");
    let store = |ledger: &Ledger| ledger.chain_store().expect("it syncs");
    let tip = store(&maker).tip();
    assert_eq!(tip.height, 300);
    sink.synced_to(tip.height).await;
    assert_eq!(mine.tip(), maker.tip());
    let next = maker.propose(&key, 301).expect("a block");
    source.submit(Item::Block(next)).await.expect("it goes");
    sink.synced_to(301).await;
    assert_eq!(mine.tip(), maker.tip());
}

/// Makes the blocks up to a height, and all vote for the last.
fn make(ledger: &Ledger, height: u64) {
    let network = "selkie-dev";
    let key = development_key(network, "proposer");
    while ledger.tip().height < height {
        let time = ledger.tip().height + 1;
        let block = ledger.propose(&key, time).expect("a block");
        ledger.deliver(&Item::Block(block));
    }
    for voter in 0..DEVELOPMENT_VOTERS {
        let voter = development_key(network, &format!("voter {voter}"));
        // The last one comes too late to be counted.
        if let Some(vote) = ledger.vote(&voter).expect("written") {
            ledger.deliver(&Item::Vote(vote));
        }
    }
}

fn light() -> LightLedger {
    let store = MemoryStore::new(1 << 24, &ledger::LIGHT_SCHEMA).expect("memory");
    LightLedger::open(Genesis::development("selkie-dev"), Arc::new(store)).expect("a genesis")
}

fn account(height: Option<u64>) -> StateRequest {
    let address = Address::of(&development_key("selkie-dev", "account 0"));
    StateRequest {
        key: address.as_bytes().to_vec().into(),
        height,
    }
}

/// A ledger that adds a coin to whatever it is asked about.
struct Generous(Ledger);

impl Application for Generous {
    fn check_header(&self, header: &bytes::Bytes) -> Checked {
        self.0.check_header(header)
    }

    fn chain_store(&self) -> Option<Arc<dyn ChainStore>> {
        self.0.chain_store()
    }

    fn query(&self, request: &StateRequest) -> Option<StateResponse> {
        let mut state = self.0.query(request)?;
        let mut value = state.value.to_vec();
        *value.get_mut(7)? += 1;
        state.value = value.into();
        Some(state)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_light_node_keeps_headers_and_gives_out_only_what_is_proven() {
    let (maker, mine) = (ledger(), light());
    make(&maker, 3000);
    let source = Node::with(config(), maker.clone()).await;
    let mut sink = Node::with(config(), mine.clone()).await;
    sink.dial(source.address()).await.expect("it is there");
    let tip = ChainStore::tip(&maker);
    sink.synced_to(tip.height).await;
    assert_eq!(ChainStore::tip(&mine), tip);
    // Nothing says yet what of it is final.
    let early = sink.request_state(source.id(), account(Some(2900))).await;
    assert!(
        matches!(early, Err(ProtocolError::Unproven(_))),
        "{early:?}"
    );
    let latest = sink.request_state(source.id(), account(None)).await;
    let latest = latest.expect("it is proven");
    assert_eq!(latest.height, 3000);
    let before = sink.request_state(source.id(), account(Some(2900))).await;
    assert_eq!(before.expect("it is proven now").value, latest.value);
    // It follows, and votes reach it.
    make(&maker, 3100);
    sink.disconnect(source.id()).await.expect("it goes");
    sink.dial(source.address()).await.expect("it is there");
    sink.synced_to(ChainStore::tip(&maker).height).await;

    // Of a height alone it may have another block, and be right of it.
    let liar = Node::with(config(), Generous(maker.clone())).await;
    sink.dial(liar.address()).await.expect("it is there");
    let other = sink.request_state(liar.id(), account(Some(2950))).await;
    assert!(
        matches!(other, Err(ProtocolError::Unproven(_))),
        "{other:?}"
    );
    let forged = sink.request_state(liar.id(), account(None)).await;
    assert!(
        matches!(forged, Err(ProtocolError::Forged(_))),
        "{forged:?}"
    );
    let scored = sink.event("its price", |event| match event {
        NetworkEvent::PeerScored {
            peer_id, reason, ..
        } => Some((peer_id, reason)),
        _ => None,
    });
    let price = "it answered about the state with a false proof";
    assert_eq!(scored.await, (liar.id(), price));
}
