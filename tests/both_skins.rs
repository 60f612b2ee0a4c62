//! One body, two skins: nodes in one process that meet over memory addresses, as a native program and as WebAssembly
//! in a page, a worker or Node. What passes here holds above the transports, whatever the skin.

use std::time::Duration;

use bytes::Bytes;
use futures::{
    AsyncReadExt, AsyncWriteExt,
    future::{Either, select},
};
use selkie::{
    Application, Block, ChainConfig, Checked, Config, Item, ItemKind, Keypair, NetworkEvent,
    NetworkMessage, P2PNetworkManager, PeerId, ProtocolStream, StateRequest, StateResponse, Vote,
    chain::{bitcoin::Bitcoin, block_file::BlockFile},
    mpsc,
};

#[cfg(not(target_arch = "wasm32"))]
use tokio::test as skin_test;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as skin_test;

const BLOCK_413567: &[u8] = include_bytes!("../testdata/block-413567.raw");

/// Fails the test where something takes so long that it will never happen.
async fn soon<T>(what: &str, happens: impl Future<Output = T>) -> T {
    let patience = futures_timer::Delay::new(Duration::from_secs(60));
    match select(Box::pin(happens), patience).await {
        Either::Left((value, _)) => value,
        Either::Right(_) => panic!("waited in vain for {what}"),
    }
}

struct Node {
    manager: P2PNetworkManager,
    events: mpsc::Receiver<NetworkEvent>,
}

impl Node {
    async fn start(network_id: &str, application: impl Application) -> Self {
        Self::of_chain(network(network_id), application).await
    }

    async fn of_chain(chain: ChainConfig, application: impl Application) -> Self {
        let mut config = Config {
            chain,
            ..Config::default()
        };
        config.network.listen_addresses = vec!["/memory/0".parse().expect("an address")];
        let keypair = Keypair::generate_ed25519();
        let manager = P2PNetworkManager::with(config, keypair, application).await;
        let manager = manager.expect("the configuration is right");
        let events = manager.subscribe_events();
        soon("the start", manager.start())
            .await
            .expect("memory is there");
        Self { manager, events }
    }

    fn id(&self) -> PeerId {
        self.manager.local_peer_id
    }

    async fn dial(&self, other: &Self) -> Result<PeerId, selkie::NetworkError> {
        let [address] = &other.manager.listeners()[..] else {
            panic!("one listener");
        };
        soon("the dial", self.manager.dial(address.clone())).await
    }

    /// The first event from now on that `wanted` makes something of.
    async fn event<T>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(NetworkEvent) -> Option<T>,
    ) -> T {
        let next = async {
            while let Some(event) = self.events.recv().await {
                if let Some(value) = wanted(event) {
                    return value;
                }
            }
            panic!("the node ended before {what}");
        };
        soon(what, next).await
    }

    /// The next peer that is gone.
    async fn gone(&mut self) -> PeerId {
        self.event("a disconnect", |event| match event {
            NetworkEvent::PeerDisconnected { peer_id, .. } => Some(peer_id),
            _ => None,
        })
        .await
    }

    /// The next accepted item that a peer brought: its identity, itself, and the peer.
    async fn item(&mut self) -> (String, Item, PeerId) {
        self.event("an item", |event| match event {
            NetworkEvent::ItemAccepted {
                item,
                id,
                source: Some(source),
                ..
            } => Some((id.to_string(), item, source)),
            _ => None,
        })
        .await
    }
}

/// A network with a name; its first block does not matter.
fn network(id: &str) -> ChainConfig {
    ChainConfig {
        network_id: id.to_owned(),
        ..ChainConfig::default()
    }
}

/// Bitcoin, with votes and a state, so that every kind of message has a meaning.
struct Example;

impl Application for Example {
    fn check_block(&self, block: &Block) -> Checked {
        Bitcoin.check_block(block)
    }

    fn check_transaction(&self, transaction: &selkie::Transaction) -> Checked {
        Bitcoin.check_transaction(transaction)
    }

    fn query(&self, request: &StateRequest) -> Option<StateResponse> {
        Some(StateResponse {
            height: request.height?,
            value: request.key.clone(),
            proof: Bytes::new(),
        })
    }
}

/// One of the block's transactions, which travel by themselves too.
fn transaction() -> Item {
    let reader = std::io::Cursor::new(BLOCK_413567);
    let mut items = BlockFile::new("block 413567", reader).expect("a block");
    items
        .next()
        .expect("it is full of them")
        .expect("it is well-formed")
}

#[skin_test]
async fn real_items_travel_through_a_chain_of_nodes() {
    let mut first = Node::start("real", Example).await;
    let middle = Node::start("real", Example).await;
    let mut last = Node::start("real", Example).await;
    first.dial(&middle).await.expect("it is there");
    last.dial(&middle).await.expect("it is there");

    let block = Item::Block(Block::new(BLOCK_413567));
    let own = first
        .manager
        .submit(block.clone())
        .await
        .expect("it is valid");
    let (id, item, source) = last.item().await;
    assert_eq!(
        id,
        "0000000000000000025aff8be8a55df8f89c77296db6198f272d6577325d4069"
    );
    assert_eq!((id, source), (own.to_string(), middle.id()));
    assert!(item == block, "not a byte is different");

    let vote = NetworkMessage::ConsensusVote(Vote::new("aye"));
    for sent in [NetworkMessage::from(transaction()), vote] {
        last.manager
            .broadcast_message(sent.clone())
            .await
            .expect("it is valid");
        assert_eq!(NetworkMessage::from(first.item().await.1), sent);
    }
}

#[skin_test]
async fn what_is_forged_goes_no_further_and_costs_its_sender() {
    let forger = Node::start("honest", selkie::chain::Opaque).await;
    let mut honest = Node::start("honest", Example).await;
    forger.dial(&honest).await.expect("it is there");
    let mut forged = BLOCK_413567.to_vec();
    forged.pop();
    forger
        .manager
        .submit(Item::Block(Block::new(forged)))
        .await
        .expect("it takes anything");
    let (mut score, mut refused) = (None, None);
    while score.is_none() || refused.is_none() {
        let told = honest.event("a score and a refused item", |event| match event {
            NetworkEvent::PeerScored { peer_id, score, .. } => Some((Some((peer_id, score)), None)),
            NetworkEvent::ItemRefused { kind, source, .. } => Some((None, Some((kind, source)))),
            NetworkEvent::ItemAccepted { .. } => panic!("a forged block was accepted"),
            _ => None,
        });
        let (scored, turned_away) = told.await;
        (score, refused) = (score.or(scored), refused.or(turned_away));
    }
    assert_eq!(score, Some((forger.id(), -10.0)));
    assert_eq!(refused, Some((ItemKind::Block, forger.id())));
}

#[skin_test]
async fn a_message_to_one_peer_arrives_there() {
    let sender = Node::start("direct", Example).await;
    let mut receiver = Node::start("direct", Example).await;
    sender.dial(&receiver).await.expect("it is there");
    let send = |to| sender.manager.send_message(to, transaction().into());
    soon("its answer", send(receiver.id()))
        .await
        .expect("it is taken");
    let (_, item, source) = receiver.item().await;
    assert_eq!((item, source), (transaction(), sender.id()));
    let stranger = PeerId::random();
    let error = soon("its answer", send(stranger)).await;
    let error = error.expect_err("nobody is there").to_string();
    assert!(error.contains(&stranger.to_string()), "{error}");
}

#[skin_test]
async fn questions_are_answered() {
    let asker = Node::start("state", Example).await;
    let answerer = Node::start("state", Example).await;
    asker.dial(&answerer).await.expect("it is there");
    let ask = |height| {
        let key = Bytes::from_static(b"balance of ann");
        asker
            .manager
            .request_state(answerer.id(), StateRequest { key, height })
    };
    let answer = soon("an answer", ask(Some(7))).await.expect("it is known");
    assert_eq!(
        (answer.height, &answer.value[..]),
        (7, &b"balance of ann"[..])
    );
    let refused = soon("an answer", ask(None))
        .await
        .expect_err("it is not known");
    assert_eq!(refused.code(), "refused");
}

#[skin_test]
async fn a_protocol_of_ones_own_carries_bytes_both_ways_and_tells_an_end_from_a_reset() {
    let answers = Node::start("own-protocol", Example).await;
    let asks = Node::start("own-protocol", Example).await;
    asks.dial(&answers).await.expect("it is there");
    let handler = |_, mut stream: ProtocolStream| async move {
        let mut question = Vec::new();
        stream.read_to_end(&mut question).await?;
        stream.write_all(&question).await?;
        stream.close().await
    };
    let name = "/own/1";
    let handled = answers.manager.handle(name, handler).await;
    handled.expect("it runs");
    let fails = |_, _stream: ProtocolStream| async { Err(std::io::Error::other("as it was told")) };
    let handled = answers.manager.handle("/fails/1", fails).await;
    handled.expect("it runs");
    let long = vec![7; 1 << 20];
    for question in [&long[..], b""] {
        let opened = soon("a stream", asks.manager.open(answers.id(), name)).await;
        let mut stream = opened.expect("it is handled");
        let mut answer = Vec::new();
        let exchange = async {
            stream.write_all(question).await.expect("it is there");
            stream.close().await.expect("it is there");
            stream.read_to_end(&mut answer).await
        };
        soon("the answer", exchange).await.expect("it ends");
        assert!(answer == question, "{} bytes", answer.len());
    }
    let opened = soon("a stream", asks.manager.open(answers.id(), "/fails/1")).await;
    let mut stream = opened.expect("it is handled");
    let mut answer = Vec::new();
    let ended = soon("the reset", stream.read_to_end(&mut answer)).await;
    assert!(ended.is_err(), "{ended:?}");
    let refused = asks.manager.open(answers.id(), "/other/1").await;
    assert_eq!(refused.expect_err("nobody has it").code(), "unsupported");
}

/// A stranger dials: both sides hear why it is not let in.
async fn refused(ours: ChainConfig, theirs: ChainConfig, why: &str) {
    let mut ours = Node::of_chain(ours, Example).await;
    let stranger = Node::of_chain(theirs, Example).await;
    let error = stranger.dial(&ours).await.expect_err("a stranger");
    assert!(error.to_string().contains(why), "{error}");
    let refusal = ours.event("a refusal", |event| match event {
        NetworkEvent::PeerRefused {
            peer_id, reason, ..
        } => Some((peer_id, reason)),
        _ => None,
    });
    let (peer, reason) = refusal.await;
    assert_eq!(peer, stranger.id());
    assert!(reason.contains(why), "{reason}");
    assert!(ours.manager.get_connected_peers().is_empty());
}

#[skin_test]
async fn another_network_is_refused() {
    let why = "this is network \"ours\", not \"theirs\"";
    refused(network("ours"), network("theirs"), why).await;
}

#[skin_test]
async fn another_first_block_is_refused() {
    let begins_with = |genesis: u8| ChainConfig {
        genesis: vec![genesis; 2],
        ..network("same-name")
    };
    refused(
        begins_with(0xaa),
        begins_with(0xbb),
        "begins with block aaaa, not bbbb",
    )
    .await;
}

#[skin_test]
async fn an_end_is_seen_on_both_sides() {
    let mut stays = Node::start("end", Example).await;
    let mut leaves = Node::start("end", Example).await;
    leaves.dial(&stays).await.expect("it is there");
    soon("the end", leaves.manager.shutdown()).await;
    assert_eq!(stays.gone().await, leaves.id());
    let stopped = |event| matches!(event, NetworkEvent::Stopped).then_some(());
    leaves.event("its end", stopped).await;
    assert!(leaves.events.recv().await.is_none());
    let late = Item::new(ItemKind::Vote, "aye");
    let late = leaves.manager.submit(late).await.expect_err("it is over");
    assert_eq!(late.code(), "not-running");
}

#[skin_test]
async fn the_last_handles_end_is_the_nodes() {
    let mut stays = Node::start("drop", Example).await;
    let leaves = Node::start("drop", Example).await;
    stays.dial(&leaves).await.expect("it is there");
    let id = leaves.id();
    drop(leaves);
    assert_eq!(stays.gone().await, id);
}
