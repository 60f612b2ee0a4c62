//! What the relay is worth: Selkie beside raw gossipsub, in the same run.
//!
//! | file | what is measured |
//! | --- | --- |
//! | `two_nodes.rs` | transactions a second from one process to another |
//! | `gossip.rs` | the baseline: a bare gossipsub node |

mod gossip;
mod two_nodes;

#[path = "../support/mod.rs"]
mod support;

fn main() {
    // Everything on one thread, as the network of both sides runs best: waking another core costs more than it brings.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let arguments: Vec<_> = std::env::args().collect();
    let receive = arguments.iter().position(|word| word == "--receive");
    if let Some([side, listen]) = receive.and_then(|place| arguments.get(place + 1..place + 3)) {
        return runtime.block_on(two_nodes::receive(side, listen));
    }
    let figures = runtime.block_on(two_nodes::measure());
    support::report("relay", &figures);
}
