//! Two nodes in one process: one listens, the other dials it and sends a transaction to all.

use selkie::{NetworkConfig, NetworkEvent, NetworkMessage, P2PNetworkManager, Transaction};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listen_addresses = vec!["/ip4/127.0.0.1/tcp/0".parse()?];
    let ann = P2PNetworkManager::new(NetworkConfig {
        listen_addresses,
        ..Default::default()
    })
    .await?;
    let bob = P2PNetworkManager::new(NetworkConfig::default()).await?;
    let mut events = ann.subscribe_events();
    futures::try_join!(ann.start(), bob.start())?;
    bob.dial(ann.listeners().remove(0)).await?;
    bob.broadcast_message(NetworkMessage::Transaction(Transaction::new("pay Ann 5")))
        .await?;
    while let Some(event) = events.recv().await {
        println!("{event}");
        if matches!(event, NetworkEvent::ItemAccepted { .. }) {
            break;
        }
    }
    futures::join!(ann.shutdown(), bob.shutdown());
    Ok(())
}
