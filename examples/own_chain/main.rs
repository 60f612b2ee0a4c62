//! A chain of one's own (`guest_book.rs`), two nodes of it, and its tests (`tests.rs`), which `cargo test --example own_chain` runs.

mod guest_book;
#[cfg(test)]
mod tests;

use guest_book::{GuestBook, entry};
use selkie::{Item, Keypair, NetworkConfig, NetworkEvent, P2PNetworkManager, Transaction};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut config = NetworkConfig {
        listen_addresses: vec!["/ip4/127.0.0.1/tcp/0".parse()?],
        ..Default::default()
    };
    let (ours, theirs) = (GuestBook::default(), GuestBook::default());
    let key = Keypair::generate_ed25519;
    let ann = P2PNetworkManager::with(config.clone(), key(), theirs.clone()).await?;
    config.listen_addresses.clear();
    let bob = P2PNetworkManager::with(config, key(), ours.clone()).await?;
    let mut events = ann.subscribe_events();
    futures::try_join!(ann.start(), bob.start())?;
    bob.dial(ann.listeners().remove(0)).await?;

    let entries = [entry(3, "Ann was here"), entry(5, "so was Bob")];
    for data in &entries {
        let entry = Item::Transaction(Transaction::new(data.clone()));
        println!("Bob writes {}", bob.submit(entry).await?);
    }
    let page = Item::Block(ours.next_page(&entries));
    println!("and makes page {} of it", bob.submit(page).await?);
    while let Some(event) = events.recv().await {
        println!("Ann: {event}");
        if matches!(&event, NetworkEvent::ItemAccepted { item, .. } if matches!(item, Item::Block(_)))
        {
            break;
        }
    }
    println!("Ann has {} page", theirs.written().pages);
    futures::join!(ann.shutdown(), bob.shutdown());
    Ok(())
}
