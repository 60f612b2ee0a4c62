//! How soon a node has peers, what its address book costs it, and 10,000 that come by themselves.
//!
//! | file | what is measured |
//! | --- | --- |
//! | `join.rs` | from one bootstrap address in a network of 200 to 20 peers, and after a restart with a book |
//! | `late.rs` | a node whose only bootstrap peer comes up later |
//! | `book.rs` | 100,000 insertions into an address book, and as many choices |
//! | `inbound.rs` | a node that holds 10,000 connections: memory, CPU, and how soon it answers meanwhile |
//!
//! Everything is measured, or what is named: `cargo bench --bench peers -- join`.

mod book;
mod inbound;
mod join;
mod late;

#[path = "../support/child.rs"]
mod child;
#[path = "../support/hub.rs"]
#[allow(dead_code, reason = "nobody sends this one transactions")]
mod hub;
#[path = "../support/nodes.rs"]
mod nodes;
#[path = "../support/mod.rs"]
mod support;

use nodes::{JOINING, LISTEN, node, nodes, runtime, started};

/// As in the `selkie` command, and for the baseline too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Part = (&'static str, fn() -> Vec<support::Figure>);

const PARTS: [Part; 4] = [
    ("join", join::measure),
    ("late", late::measure),
    ("book", book::measure),
    ("inbound", inbound::measure),
];

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--child", "selkie"] => return runtime().block_on(hub::selkie()),
        ["--child", "bare-gossip"] => return runtime().block_on(hub::bare(true)),
        ["--child", "network", count] => return runtime().block_on(join::network(count)),
        ["--child", "crowd", kind, count, hub] => {
            return runtime().block_on(inbound::crowd(kind, count, hub));
        }
        _ => {}
    }
    let named = |part: &&Part| arguments.iter().any(|word| word == part.0);
    let some = PARTS.iter().any(|part| named(&part));
    let parts = PARTS.iter().filter(|part| !some || named(part));
    let figures: Vec<_> = parts.flat_map(|(_, measure)| measure()).collect();
    support::report("peers", &figures);
}
