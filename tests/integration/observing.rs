//! Subscribers and figures: a slow reader costs bounded memory and knows what it missed.

use selkie::{Config, Item, ItemKind, NetworkError, NetworkEvent};

use crate::support::*;

#[tokio::test]
async fn a_reader_that_never_reads_is_bounded_and_counted() {
    let mut config = listening(TCP);
    config.protocol.validation.max_unread_bytes = (4 << 20) + 1024;
    let mut node = Node::start(config.clone()).await;
    let mut sender = Node::start(config).await;
    connect(&mut sender, &mut node).await;
    let items = |event: &NetworkEvent| matches!(event, NetworkEvent::ItemAccepted { .. });
    let mut lazy = node.subscribe(items);
    let quarter = (1 << 20) + 256;
    for number in 0..12 {
        sender
            .submit(Item::new(ItemKind::Block, vec![number; quarter]))
            .await
            .expect("sent");
        // One that reads is not held up by one that doesn't.
        assert_eq!(node.item().await.0.data()[0], number);
    }
    let mut held = Vec::new();
    while let Some(NetworkEvent::ItemAccepted { item, .. }) = lazy.try_recv() {
        held.push(item.data()[0]);
    }
    // An event weighs more than its payload, so the fourth does not fit.
    assert_eq!(held, [9, 10, 11], "the newest of four quarters");
    assert_eq!((lazy.missed(), lazy.missed()), (9, 0));
    assert_eq!(node.events.missed(), 0);
}

#[tokio::test]
async fn figures_follow_what_happens() {
    let (mut a, mut b) = (
        Node::start(listening(TCP)).await,
        Node::start(Config::default()).await,
    );
    connect(&mut b, &mut a).await;
    b.submit(Item::new(ItemKind::Transaction, "pay"))
        .await
        .expect("sent");
    a.item().await;
    let (connections, sent, received) = (
        b.connection_metrics(),
        b.message_metrics(),
        a.message_metrics(),
    );
    assert_eq!(
        (
            connections.total_connections,
            connections.active_connections
        ),
        (1, 1)
    );
    assert_eq!(connections.connection_success_rate, 1.0);
    assert!(!connections.average_connection_time.is_zero());
    assert_eq!((sent.messages_sent, sent.message_success_rate), (1, 1.0));
    assert_eq!(received.messages_received, 1);
    assert!(sent.bytes_sent > 0 && received.bytes_received > 0);
    let peers = a.peer_metrics();
    assert_eq!(
        (peers.peer_count, peers.peer_reputation.get(&b.id())),
        (1, Some(&0.0))
    );
    b.shutdown().await;
    a.disconnected(b.id()).await;
    assert_eq!(a.peer_metrics().peer_count, 0);
    assert_eq!(a.connection_metrics().active_connections, 0);
}

/// What reached nobody counts by its items, as what went out does.
#[tokio::test]
async fn half_of_the_transactions_that_nobody_got_are_half_of_the_rate() {
    let (mut node, mut peer) = (
        Node::start(listening(TCP)).await,
        Node::start(Config::default()).await,
    );
    connect(&mut peer, &mut node).await;
    let mut sent = transactions(200);
    let unsent = sent.split_off(100);
    node.broadcast_transactions(sent).await.expect("sent");
    peer.shutdown().await;
    node.disconnected(peer.id()).await;
    let alone = node.broadcast_transactions(unsent).await;
    assert!(
        matches!(alone, Err(NetworkError::NoPeers { .. })),
        "{alone:?}"
    );
    let figures = node.message_metrics();
    assert_eq!(
        (figures.messages_sent, figures.message_success_rate),
        (100, 0.5)
    );
}
