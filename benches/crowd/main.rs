//! A node with many peers: what each of them costs it.
//!
//! | file | what is measured |
//! | --- | --- |
//! | `rest.rs` | CPU of a node at rest with 1,000 peers, and memory for each connection, beside bare libp2p |
//! | `transactions.rs` | CPU for each transaction that goes through, with 10, 100 and 1,000 peers |
//! | `block.rs` | a block of 1 MB from one node to all its peers |
//! | `onlookers.rs` | peers that are told of everything and want nothing |
//!
//! The node that is measured is in a process of its own: `benches/support/hub.rs`.
//! Everything is measured, or what is named: `cargo bench --bench crowd -- rest`.

mod block;
mod onlookers;
mod rest;
mod transactions;

#[path = "../support/child.rs"]
mod child;
#[path = "../support/hub.rs"]
mod hub;
#[path = "../../tests/attacks/lab/mod.rs"]
#[allow(dead_code, reason = "of the laboratory only the raw peer is needed")]
mod lab;
#[path = "../support/nodes.rs"]
mod nodes;
#[path = "../support/mod.rs"]
mod support;

use nodes::{JOINING, LISTEN, node, nodes, runtime};

/// As in the `selkie` command, and for the baseline too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Part = (&'static str, fn() -> Vec<support::Figure>);

const PARTS: [Part; 3] = [
    ("rest", rest::measure),
    ("transactions", transactions::measure),
    ("block", block::measure),
];

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--child", "selkie"] => return runtime().block_on(hub::selkie()),
        ["--child", "bare"] => return runtime().block_on(hub::bare(false)),
        _ => {}
    }
    let named = |part: &&Part| arguments.iter().any(|word| word == part.0);
    let some = PARTS.iter().any(|part| named(&part));
    let parts = PARTS.iter().filter(|part| !some || named(part));
    let figures: Vec<_> = parts.flat_map(|(_, measure)| measure()).collect();
    support::report("crowd", &figures);
}
