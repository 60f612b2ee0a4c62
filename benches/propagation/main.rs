//! What propagation is worth: Selkie beside raw gossipsub, in the same run.
//!
//! | file | what is measured |
//! | --- | --- |
//! | `two_nodes.rs` | transactions a second from one process to another |
//! | `mesh.rs` | ten nodes: the highest rate, the bytes, the latency |
//! | `votes.rs` | votes under a flood of transactions |
//! | `pools.rs` | comparing two pools |
//! | `blocks.rs` | a block of known transactions |
//! | `budgets.rs` | bytes on the wire beside the budget |
//! | `flood.rs` | a source of transactions for the browser's measurements |
//! | `gossip.rs` | the baseline: a bare gossipsub node |
//!
//! Everything is measured, or what is named: `cargo bench --bench propagation -- votes pools`.

mod blocks;
mod budgets;
mod flood;
mod gossip;
mod mesh;
mod pools;
mod two_nodes;
mod votes;

#[path = "../support/child.rs"]
mod child;
#[path = "../support/mod.rs"]
mod support;

use selkie::{Application, Config, Keypair, P2PNetworkManager};
use tokio::runtime::{Builder, Runtime};

/// As in the `selkie` command, and for the baselines too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Part = (&'static str, fn() -> Vec<support::Figure>);

const PARTS: [Part; 6] = [
    ("two_nodes", two_nodes::measure),
    ("mesh", mesh::measure),
    ("votes", votes::measure),
    ("pools", pools::measure),
    ("blocks", blocks::measure),
    ("budgets", budgets::measure),
];

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--child", "votes", side] => return one_thread().block_on(votes::receive(side)),
        ["--child", "flood", listen, rate] => {
            return one_thread().block_on(flood::send(listen, rate));
        }
        ["--child", side, listen] => {
            return one_thread().block_on(two_nodes::receive(side, listen));
        }
        _ => {}
    }
    let named = |part: &&Part| arguments.iter().any(|word| word == part.0);
    let some = PARTS.iter().any(|part| named(&part));
    let parts = PARTS.iter().filter(|part| !some || named(part));
    let figures: Vec<_> = parts.flat_map(|(_, measure)| measure()).collect();
    support::report("propagation", &figures);
}

/// Everything on one thread, as the network of both sides runs best: waking another core costs more than it brings.
fn one_thread() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

async fn node(listen: Option<&str>, application: impl Application) -> P2PNetworkManager {
    let mut config = Config::default();
    let listen = listen.map(|listen| listen.parse().expect("an address"));
    config.network.listen_addresses = listen.into_iter().collect();
    // What is measured is a network of known links.
    config.protocol.kademlia_config.wanted_peers = 0;
    let node = P2PNetworkManager::with(config, Keypair::generate_ed25519(), application)
        .await
        .expect("a node");
    node.start().await.expect("it starts");
    node
}
