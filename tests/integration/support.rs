//! What the tests have beside `selkie::test_utils`: real items, a chain that says what it was given, and narrow links.

use std::{net::Ipv4Addr, path::Path, sync::Mutex};

use bytes::Bytes;
use libp2p::multiaddr::Protocol;
pub use selkie::test_utils::{Node, connect, listening, soon};
use selkie::{
    Application, Block, Checked, Item, Multiaddr, NetworkEvent, StateRequest, StateResponse,
    Transaction, Vote, chain::block_file::BlockFile,
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

/// Transactions of 250 bytes, all different.
pub fn transactions(count: u32) -> Vec<Transaction> {
    let transaction = |number: u32| {
        let mut data = number.to_le_bytes().to_vec();
        data.resize(250, 7);
        Transaction::new(data)
    };
    (0..count).map(transaction).collect()
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
    for event in node.rest() {
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
