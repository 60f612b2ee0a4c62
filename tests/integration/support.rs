//! Nodes for tests, and how to wait for what they say.

use std::{net::Ipv4Addr, ops::Deref, path::Path, sync::Mutex, time::Duration};

use bytes::Bytes;
use libp2p::multiaddr::Protocol;
use selkie::{
    Application, Block, Checked, Config, Item, ItemId, Keypair, Multiaddr, NetworkEvent,
    P2PNetworkManager, PeerId, StateRequest, StateResponse, Transaction, Vote,
    chain::block_file::BlockFile, mpsc,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Block 413567's identity, as every block explorer shows it.
pub const BLOCK_413567: &str = "0000000000000000025aff8be8a55df8f89c77296db6198f272d6577325d4069";
/// Loopback, a port of the system's choice.
pub const TCP: &str = "/ip4/127.0.0.1/tcp/0";

/// Fails the test where something takes so long that it will never happen.
pub async fn soon<T>(what: &str, happens: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(30), happens).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// A running node and its events since the start.
pub struct Node {
    pub manager: P2PNetworkManager,
    pub events: mpsc::Receiver<NetworkEvent>,
    /// Events that came before the one that was waited for; the next waits look here first.
    passed: Vec<NetworkEvent>,
}

impl Deref for Node {
    type Target = P2PNetworkManager;

    fn deref(&self) -> &P2PNetworkManager {
        &self.manager
    }
}

/// A configuration that listens at one address.
pub fn listening(address: &str) -> Config {
    let mut config = Config::default();
    config.network.listen_addresses = vec![address.parse().expect("an address")];
    config
}

/// Transactions of 250 bytes, all different.
pub fn transactions(count: u32) -> Vec<Transaction> {
    let transaction = |number: u32| {
        let mut data = number.to_le_bytes().to_vec();
        data.resize(250, 7);
        Transaction::new(data)
    };
    (0..count).map(transaction).collect()
}

impl Node {
    /// A node for the default application.
    pub async fn start(config: Config) -> Self {
        Self::with(config, selkie::chain::Opaque).await
    }

    /// A node for an application.
    pub async fn with(config: Config, application: impl Application) -> Self {
        let manager =
            P2PNetworkManager::with(config, Keypair::generate_ed25519(), application).await;
        Self::started(manager.expect("the configuration is right")).await
    }

    /// Starts a node.
    pub async fn started(manager: P2PNetworkManager) -> Self {
        let events = manager.subscribe_events();
        soon("the start", manager.start())
            .await
            .expect("it listens");
        Self {
            manager,
            events,
            passed: Vec::new(),
        }
    }

    pub fn id(&self) -> PeerId {
        self.manager.local_peer_id
    }

    /// Where it listens, with its identity at the end.
    pub fn address(&self) -> Multiaddr {
        self.manager
            .listeners()
            .into_iter()
            .next()
            .expect("it listens")
    }

    /// The first event since the start, and not seen here before, that `wanted` makes something of.
    pub async fn event<T>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(NetworkEvent) -> Option<T>,
    ) -> T {
        for index in 0..self.passed.len() {
            if let Some(value) = wanted(self.passed[index].clone()) {
                self.passed.remove(index);
                return value;
            }
        }
        let next = async {
            while let Some(event) = self.events.recv().await {
                if let Some(value) = wanted(event.clone()) {
                    return value;
                }
                self.passed.push(event);
            }
            panic!("the node ended before {what}");
        };
        soon(what, next).await
    }

    /// The next accepted item: what, its identity, and who brought it.
    pub async fn item(&mut self) -> (Item, ItemId, Option<PeerId>) {
        self.event("an item", |event| match event {
            NetworkEvent::ItemAccepted {
                item, id, source, ..
            } => Some((item, id, source)),
            _ => None,
        })
        .await
    }

    /// Has a connection, whoever has the other end: that one may know it before.
    pub async fn has_connection(&self) {
        let has = async {
            while self.connections().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        soon("a connection", has).await;
    }

    pub async fn connected(&mut self, peer: PeerId) {
        self.event("a connection", |event| match event {
            NetworkEvent::PeerConnected(info) if info.peer_id == peer => Some(()),
            _ => None,
        })
        .await;
    }

    /// Why a peer is gone.
    pub async fn disconnected(&mut self, peer: PeerId) -> String {
        self.event("a disconnect", |event| match event {
            NetworkEvent::PeerDisconnected { peer_id, reason } if peer_id == peer => Some(reason),
            _ => None,
        })
        .await
    }

    /// Why a peer was refused.
    pub async fn refused(&mut self, peer: PeerId) -> String {
        self.event("a refusal", |event| match event {
            NetworkEvent::PeerRefused {
                peer_id, reason, ..
            } if peer_id == peer => Some(reason),
            _ => None,
        })
        .await
    }

    /// What a peer did wrong, and its score now.
    pub async fn scored(&mut self, peer: PeerId) -> (&'static str, f64) {
        self.event("a score", |event| match event {
            NetworkEvent::PeerScored {
                peer_id,
                reason,
                score,
            } if peer_id == peer => Some((reason, score)),
            _ => None,
        })
        .await
    }
}

/// Connects `a` to `b`; both have seen it.
pub async fn connect(a: &mut Node, b: &mut Node) {
    let peer = soon("the dial", a.dial(b.address()))
        .await
        .expect("it is there");
    assert_eq!(peer, b.id());
    a.connected(b.id()).await;
    b.connected(a.id()).await;
}

/// The real block of a megabyte.
pub fn block() -> Bytes {
    std::fs::read(testdata("block-413567.raw"))
        .expect("testdata is in the repository")
        .into()
}

/// A real transaction of block 413567.
pub fn transaction() -> Item {
    let mut items =
        BlockFile::open(testdata("block-413567.raw")).expect("testdata is in the repository");
    items
        .next()
        .expect("it is full of them")
        .expect("it is well-formed")
}

fn testdata(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(name)
}

/// A chain for tests: items that begin with `bad` are rejected, with `old` ignored; state is the key, echoed.
#[derive(Default)]
pub struct TestChain {
    /// What was delivered, in order.
    pub delivered: std::sync::Arc<Mutex<Vec<Item>>>,
}

fn check(data: &Bytes) -> Checked {
    if data.starts_with(b"bad") {
        Checked::reject(data, "it begins with bad")
    } else if data.starts_with(b"old") {
        Checked::ignore(data, "it begins with old")
    } else {
        Checked::opaque(data)
    }
}

impl Application for TestChain {
    fn check_transaction(&self, transaction: &Transaction) -> Checked {
        check(&transaction.data)
    }

    fn check_block(&self, block: &Block) -> Checked {
        check(&block.data)
    }

    fn check_vote(&self, vote: &Vote) -> Checked {
        check(&vote.data)
    }

    fn deliver(&self, item: &Item) {
        self.delivered
            .lock()
            .expect("no test panics in here")
            .push(item.clone());
    }

    fn query(&self, request: &StateRequest) -> Option<StateResponse> {
        (request.key != "secret").then(|| StateResponse {
            height: request.height.unwrap_or(7),
            value: request.key.clone(),
            proof: Bytes::from_static(b"because"),
        })
    }
}

/// Nobody was found to have done wrong so far.
pub fn unblamed(node: &mut Node) {
    let more = std::iter::from_fn(|| node.events.try_recv());
    for event in node.passed.drain(..).chain(more) {
        assert!(
            !matches!(event, NetworkEvent::PeerScored { .. }),
            "{event:?}"
        );
    }
}

/// An address that leads one connection to a TCP address. So many bytes pass there, and so many back, until more are allowed.
pub async fn narrow(to: &Multiaddr, [there, back]: [watch::Receiver<u64>; 2]) -> Multiaddr {
    let port = |part| match part {
        Protocol::Tcp(port) => Some(port),
        _ => None,
    };
    let target = (
        Ipv4Addr::LOCALHOST,
        to.iter().find_map(port).expect("a port"),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.expect("a client");
        let server = TcpStream::connect(target).await.expect("the target");
        let (client, server) = (client.into_split(), server.into_split());
        let there = carry(client.0, server.1, there);
        let back = carry(server.0, client.1, back);
        futures::join!(there, back);
    });
    let address = format!("/ip4/127.0.0.1/tcp/{port}");
    address.parse().expect("an address")
}

/// An end passes too, where all that came before it may.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut allowed: watch::Receiver<u64>,
) {
    let (mut buffer, mut passed) = (vec![0; 16 << 10], 0);
    loop {
        let count = from.read(&mut buffer).await.unwrap_or(0);
        passed += count as u64;
        if allowed.wait_for(|most| passed <= *most).await.is_err() {
            std::future::pending::<()>().await;
        }
        if count == 0 || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
