//! How fast a node gets what it has missed: whole nodes over TCP and QUIC on loopback.
//!
//! | file | what is measured |
//! | --- | --- |
//! | `line.rs` | small blocks over a line of 200 ms round trip, beside one a round trip; all in one process |
//! | `ledger.rs` | a ledger of 100,000 blocks from another process into a file: all blocks, and its state 100 blocks before the tip |
//! | `laggard.rs` | a node that is far behind a chain which grows meanwhile |
//! | `snapshot.rs` | 2 GB of snapshot from one process to another, beside one raw stream of libp2p's: rate, memory, CPU |
//! | `sources.rs` | a snapshot from three sources of 5 MB/s beside one, and from four of which one stalls; all in one process |
//! | `proof.rs` | a proof of one account among 1,000,000 |
//!
//! `state.rs` is a chain whose state is any bytes, `raw.rs` libp2p's stream, and `lines.rs` the slow lines.
//!
//! Everything is measured, or what is named: `cargo bench --bench sync -- ledger`.

mod laggard;
mod ledger;
mod line;
mod lines;
mod proof;
mod raw;
mod snapshot;
mod sources;
mod state;

#[path = "../support/child.rs"]
mod child;
#[path = "../support/nodes.rs"]
#[allow(dead_code, reason = "here are no crowds")]
mod nodes;
#[path = "../../tests/support/small_chain.rs"]
#[allow(dead_code, reason = "the tests do more with it")]
mod small_chain;
#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use nodes::runtime;
use selkie::{Multiaddr, NetworkEvent, P2PNetworkManager};

/// As in the `selkie` command, and for the baseline too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is not here after so long does not come.
const PATIENCE: Duration = Duration::from_secs(1800);

type Part = (&'static str, fn() -> Vec<support::Figure>);

const PARTS: [Part; 6] = [
    ("line", line::measure),
    ("ledger", ledger::measure),
    ("laggard", laggard::measure),
    ("snapshot", snapshot::measure),
    ("sources", sources::measure),
    ("proof", proof::measure),
];

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--child", "ledger", count] => return runtime().block_on(ledger::serve(count)),
        ["--child", "source", listen, bytes] => {
            return runtime().block_on(snapshot::serve(listen, bytes));
        }
        ["--child", "sink", keeps, source] => {
            return runtime().block_on(snapshot::take(keeps, source));
        }
        ["--child", "raw-source", listen, bytes] => {
            return runtime().block_on(raw::serve(listen, bytes));
        }
        ["--child", "raw-sink", source, bytes] => {
            return runtime().block_on(raw::take(source, bytes));
        }
        _ => {}
    }
    let named = |part: &&Part| arguments.iter().any(|word| word == part.0);
    let some = PARTS.iter().any(|part| named(&part));
    let parts = PARTS.iter().filter(|part| !some || named(part));
    let figures: Vec<_> = parts.flat_map(|(_, measure)| measure()).collect();
    support::report("sync", &figures);
}

/// How long it takes from the connection to a block, the last one there is.
async fn synced(sink: &P2PNetworkManager, source: Multiaddr, height: u64) -> Duration {
    let mut events = sink.subscribe_events();
    let begin = Instant::now();
    sink.dial(source).await.expect("it is there");
    let is_last = |event: &NetworkEvent| matches!(event, NetworkEvent::SyncProgress { done, total, .. } if *done == height && total == done);
    let comes = async { while !is_last(&events.recv().await.expect("the node runs")) {} };
    let comes = tokio::time::timeout(PATIENCE, comes).await;
    comes.expect("the last block comes");
    begin.elapsed()
}
