//! A node at rest among 1,000 peers: what each connection holds of its memory, and what all of them take of its CPU time.
//!
//! The node is alone in its process, all behaviours on; its peers, each with this one connection, are in another. Memory is
//! what the process has grown by, for each peer. The baseline is a node of bare libp2p (TCP, identify, ping) among as many of its kind.

use std::time::Duration;

use futures::StreamExt;
use selkie::chain::Opaque;

use crate::{
    JOINING,
    hub::{Hub, State, bare_node, beside},
    nodes, runtime,
    support::{Figure, full_or},
};

const PEERS: usize = 1000;
/// How long nothing is measured after the last one has joined, and for how long then.
const SETTLING: Duration = Duration::from_secs(20);
const TIME: Duration = Duration::from_secs(20);
/// Of a core.
const MOST_CPU: f64 = 0.05;
/// For each connection, kB.
const MOST_MEMORY: f64 = 60.0;

pub fn measure() -> Vec<Figure> {
    let peers = full_or(PEERS, 20);
    eprintln!("a node at rest among {peers} peers");
    let (memory, cpu) = runtime().block_on(selkie(peers));
    eprintln!("   {memory:.1} kB a connection, {cpu:.4} of a core");
    let (bare_memory, bare_cpu) = runtime().block_on(bare(peers));
    eprintln!("   bare libp2p: {bare_memory:.1} kB a connection, {bare_cpu:.4} of a core");
    let figure = |name: &str, unit, value: f64, target: f64| Figure {
        name: format!("at rest among {PEERS} peers, {name}"),
        value: value.into(),
        unit,
        baseline: None,
        baseline_name: "",
        target: Some(0.0..=target),
    };
    let memory = |target| figure("memory a connection", "kB", memory, target);
    let cpu = |target| figure("CPU", "of a core", cpu, target);
    vec![
        memory(MOST_MEMORY),
        beside(memory(MOST_MEMORY), bare_memory),
        cpu(MOST_CPU),
        beside(cpu(MOST_CPU), bare_cpu),
    ]
}

/// Kilobytes of memory for each connection, and cores.
async fn selkie(peers: usize) -> (f64, f64) {
    let mut hub = Hub::start("selkie");
    let before = hub.state();
    let address = hub.address.clone();
    let crowd = nodes(peers, &address, Opaque).await;
    let measured = rest(hub, before, peers).await;
    drop(crowd);
    measured
}

async fn bare(peers: usize) -> (f64, f64) {
    let mut hub = Hub::start("bare");
    let before = hub.state();
    let mut crowd = tokio::task::JoinSet::new();
    for number in 1..=peers {
        let mut swarm = bare_node(false);
        swarm.dial(hub.address.clone()).expect("it dials");
        crowd.spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        hub.peers((number + 1).saturating_sub(JOINING)).await;
    }
    rest(hub, before, peers).await
}

async fn rest(mut hub: Hub, before: State, peers: usize) -> (f64, f64) {
    hub.peers(peers).await;
    tokio::time::sleep(full_or(SETTLING, SETTLING / 20)).await;
    let begin = hub.state();
    let time = full_or(TIME, TIME / 20);
    tokio::time::sleep(time).await;
    let end = hub.state();
    assert_eq!(end.peers, peers, "some have left");
    hub.end();
    (
        (end.memory - before.memory) / peers as f64 / 1e3,
        (end.cpu - begin.cpu) / time.as_secs_f64(),
    )
}
