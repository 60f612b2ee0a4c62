//! A node with many peers: what each of them costs it.
//!
//! | file | what is measured |
//! | --- | --- |
//! | `rest.rs` | CPU of a node at rest with 1,000 peers, and memory for each connection, beside bare libp2p |
//! | `transactions.rs` | CPU for each transaction that goes through, with 10, 100 and 1,000 peers |
//! | `block.rs` | a block of 1 MB from one node to all its peers |
//! | `hub.rs` | the node that is measured, in a process of its own |
//! | `onlookers.rs` | peers that are told of everything and want nothing |
//!
//! Everything is measured, or what is named: `cargo bench --bench crowd -- rest`.

mod block;
mod hub;
mod onlookers;
mod rest;
mod transactions;

#[path = "../support/child.rs"]
mod child;
#[path = "../../tests/attacks/lab/mod.rs"]
#[allow(dead_code, reason = "of the laboratory only the raw peer is needed")]
mod lab;
#[path = "../support/mod.rs"]
mod support;

use futures::{StreamExt, stream};
use selkie::{Application, Config, Keypair, Multiaddr, P2PNetworkManager};
use tokio::runtime::{Builder, Runtime};

/// As in the `selkie` command, and for the baseline too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Part = (&'static str, fn() -> Vec<support::Figure>);

const PARTS: [Part; 3] = [
    ("rest", rest::measure),
    ("transactions", transactions::measure),
    ("block", block::measure),
];

const LISTEN: &str = "/ip4/127.0.0.1/tcp/0";
/// Peers that join at once: a node that starts among a thousand meets no more.
const JOINING: usize = 16;

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--child", "selkie"] => return runtime().block_on(hub::selkie()),
        ["--child", "bare"] => return runtime().block_on(hub::bare()),
        _ => {}
    }
    let named = |part: &&Part| arguments.iter().any(|word| word == part.0);
    let some = PARTS.iter().any(|part| named(&part));
    let parts = PARTS.iter().filter(|part| !some || named(part));
    let figures: Vec<_> = parts.flat_map(|(_, measure)| measure()).collect();
    support::report("crowd", &figures);
}

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// A node for so many peers.
async fn node(
    listen: Option<&str>,
    max_peers: usize,
    application: impl Application,
) -> P2PNetworkManager {
    let mut config = Config::default();
    let listen = listen.map(|listen| listen.parse().expect("an address"));
    config.network.listen_addresses = listen.into_iter().collect();
    // What is measured is a crowd of known links.
    config.protocol.kademlia_config.wanted_peers = 0;
    config.network.max_peers = max_peers;
    config.protocol.kademlia_config.mdns = false;
    let node = P2PNetworkManager::with(config, Keypair::generate_ed25519(), application)
        .await
        .expect("a node");
    node.start().await.expect("it starts");
    node
}

/// So many nodes with one peer each.
async fn nodes<A: Application + Clone>(
    count: usize,
    hub: &Multiaddr,
    application: A,
) -> Vec<P2PNetworkManager> {
    let join = |_| {
        let (hub, application) = (hub.clone(), application.clone());
        async move {
            let node = node(None, 8, application).await;
            node.dial(hub).await.expect("there is a place");
            node
        }
    };
    let joining = stream::iter(0..count).map(join);
    joining.buffer_unordered(JOINING).collect().await
}
