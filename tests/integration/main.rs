//! Native nodes with real swarms on loopback, and peers that are none of ours: everything that a node promises to
//! those outside, tried from outside. Nothing here sleeps but to let time itself pass: each step waits for the event that it needs.
#![cfg(not(target_arch = "wasm32"))]

mod addresses;
mod book;
mod calls;
mod certificates;
mod config;
mod duty;
mod gossip;
mod handshakes;
mod hostile;
mod intake;
mod items;
mod lifecycle;
mod limits;
// The attacks use the rest of it.
#[allow(dead_code)]
#[path = "../attacks/lab/link.rs"]
mod link;
mod local_network;
mod messages;
mod names;
mod observing;
mod own_words;
mod peers;
mod propagation;
#[allow(dead_code)]
#[path = "../attacks/lab/proto.rs"]
mod proto;
mod questions;
mod raw_peer;
mod records;
mod slow_chains;
// The tests of the core itself use the rest of it.
#[allow(dead_code)]
#[path = "../support/small_chain.rs"]
mod small_chain;
mod snapshots;
mod strangers;
mod streams;
mod support;
mod sync;
mod transports;
mod watching;
mod webtransport;
