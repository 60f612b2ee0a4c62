//! Long direct messages that don't arrive: who hears what, and who pays.

use std::{pin::pin, time::Duration};

use selkie::{Config, NetworkMessage, Transaction, Vote};
use tokio::sync::watch;

use crate::support::*;

/// Bytes that a line carries before it stands still: the handshakes, and so much of a long message that it has its room.
const STANDS: u64 = 256 << 10;

fn long() -> NetworkMessage {
    NetworkMessage::Transaction(Transaction::new(vec![7; 4 << 20]))
}

/// Connects them by such a line; it goes on when it is told to.
async fn connect_by_line(from: &mut Node, to: &mut Node) -> watch::Sender<u64> {
    let (line, allowed) = watch::channel(STANDS);
    let back = watch::channel(u64::MAX).1;
    let address = narrow(&to.address(), [allowed, back]).await;
    soon("the dial", from.dial(address))
        .await
        .expect("it leads there");
    from.connected(to.id()).await;
    to.connected(from.id()).await;
    line
}

#[tokio::test]
async fn whose_message_gives_way_hears_why_at_once() {
    let mut config = listening(TCP);
    let messages = &mut config.protocol.request_response_config;
    messages.max_bytes = messages.max_message_size;
    messages.max_connection_bytes = messages.max_message_size;
    let mut receiver = Node::start(config).await;
    let mut slow = Node::start(Config::default()).await;
    let mut other = Node::start(Config::default()).await;
    connect(&mut other, &mut receiver).await;
    let _line = connect_by_line(&mut slow, &mut receiver).await;
    let sender = slow.manager.clone();
    let mut told = pin!(sender.send_message(receiver.id(), long()));
    let told = loop {
        tokio::select! {
            told = &mut told => break told,
            sent = other.send_message(receiver.id(), long()) => sent.expect("it has its turn"),
        }
    };
    let told = told.expect_err("it stands still");
    assert_eq!((told.code(), told.is_fatal()), ("refused", false), "{told}");
    assert!(told.to_string().contains("try again later"), "{told}");
    for node in [&mut slow, &mut other, &mut receiver] {
        unblamed(node);
    }
}

#[tokio::test]
async fn whose_own_time_cuts_its_message_blames_nobody_and_pays_nothing() {
    let mut config = Config::default();
    config.protocol.request_response_config.request_timeout = Duration::from_secs(1);
    let mut hasty = Node::start(config).await;
    let mut receiver = Node::start(listening(TCP)).await;
    let line = connect_by_line(&mut hasty, &mut receiver).await;
    let told = hasty.send_message(receiver.id(), long()).await;
    let told = told.expect_err("it stands still");
    assert_eq!((told.code(), told.is_fatal()), ("timeout", false), "{told}");
    assert!(told.to_string().contains("could not be sent"), "{told}");
    unblamed(&mut hasty);
    line.send(u64::MAX).expect("it is carried");
    let vote = NetworkMessage::ConsensusVote(Vote::new("aye"));
    let sent = hasty.send_message(receiver.id(), vote).await;
    sent.expect("it comes after what was cut short");
    unblamed(&mut receiver);
}
