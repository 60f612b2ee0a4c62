//! A node's figures once a second, as a dashboard or an exporter would read them: connections, messages, peers.
//!
//! A second node in the same process makes some traffic. `cargo run --example metrics -- 10` goes on for ten seconds; without a number
//! it is three.

use std::time::Duration;

use selkie::{NetworkConfig, NetworkMessage, P2PNetworkManager, Transaction};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seconds = match std::env::args().nth(1) {
        Some(seconds) => seconds.parse()?,
        None => 3,
    };
    let listen_addresses = vec!["/ip4/127.0.0.1/tcp/0".parse()?];
    let ann = P2PNetworkManager::new(NetworkConfig {
        listen_addresses,
        ..Default::default()
    })
    .await?;
    let bob = P2PNetworkManager::new(NetworkConfig::default()).await?;
    futures::try_join!(ann.start(), bob.start())?;
    bob.dial(ann.listeners().remove(0)).await?;
    for second in 1..=seconds {
        let transaction = Transaction::new(format!("number {second}"));
        bob.broadcast_message(NetworkMessage::Transaction(transaction))
            .await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        show(second, &ann);
    }
    futures::join!(ann.shutdown(), bob.shutdown());
    Ok(())
}

/// Reading costs the node a lock for a moment; ask as often as you like.
fn show(second: u64, node: &P2PNetworkManager) {
    let connections = node.connection_metrics();
    let messages = node.message_metrics();
    let peers = node.peer_metrics();
    println!(
        "{second} s: {} of {} connections open, {:.0}% of attempts succeeded, {:?} each",
        connections.active_connections,
        connections.total_connections,
        connections.connection_success_rate * 100.0,
        connections.average_connection_time,
    );
    println!(
        "     {} messages received, {} sent; {} bytes read, {} written; round trips p99 {:?}",
        messages.messages_received,
        messages.messages_sent,
        messages.bytes_received,
        messages.bytes_sent,
        messages.message_latency_p99,
    );
    for (peer, reputation) in &peers.peer_reputation {
        let here = peers.peer_uptime.get(peer).copied().unwrap_or_default();
        println!("     {peer}: here for {here:?}, reputation {reputation}");
    }
}
