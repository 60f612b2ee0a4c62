//! Long direct messages that don't arrive: who hears what, and who pays.

use std::{pin::pin, time::Duration};

use futures::future::join_all;
use libp2p::{Multiaddr, multiaddr::Protocol};
use selkie::{Config, NetworkMessage, Transaction, Vote};
use tokio::{
    net::UdpSocket,
    sync::{mpsc, watch},
    time::Instant,
};

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

/// An address that leads to a UDP address over a line that carries so many bytes a second there, and back as many as there are.
async fn slow_line(to: &Multiaddr, per_second: u32) -> Multiaddr {
    let port = to.iter().find_map(|part| match part {
        Protocol::Udp(port) => Some(port),
        _ => None,
    });
    let bind = || UdpSocket::bind("127.0.0.1:0");
    let (near, far) = (bind().await.expect("a port"), bind().await.expect("a port"));
    far.connect(("127.0.0.1", port.expect("a UDP port")))
        .await
        .expect("loopback");
    let begins = near.local_addr().expect("it is bound").port();
    let (on_the_line, mut arriving) = mpsc::unbounded_channel::<Vec<u8>>();
    tokio::spawn(async move {
        let (mut there, mut back, mut client) = (vec![0; 65_536], vec![0; 65_536], None);
        let mut free = Instant::now();
        let mut first: Option<Vec<u8>> = None;
        loop {
            tokio::select! {
                Ok((length, from)) = near.recv_from(&mut there) => {
                    client = Some(from);
                    let _ = on_the_line.send(there[..length].to_vec());
                }
                Ok(length) = far.recv(&mut back) => {
                    if let Some(client) = client {
                        let _ = near.send_to(&back[..length], client).await;
                    }
                }
                Some(packet) = arriving.recv(), if first.is_none() => {
                    let takes = Duration::from_secs(1) * u32::try_from(packet.len()).expect("short");
                    free = free.max(Instant::now()) + takes / per_second;
                    first = Some(packet);
                }
                () = tokio::time::sleep_until(free), if first.is_some() => {
                    let _ = far.send(&first.take().unwrap_or_default()).await;
                }
            }
        }
    });
    let address: Multiaddr = format!("/ip4/127.0.0.1/udp/{begins}/quic-v1")
        .parse()
        .expect("an address");
    let names_it = to.iter().filter(|part| matches!(part, Protocol::P2p(_)));
    names_it.fold(address, Multiaddr::with)
}

/// Over QUIC all of it is written at once, long before it is there.
#[tokio::test]
async fn a_peer_on_a_slow_line_is_not_blamed_for_what_is_still_on_its_way() {
    let mut config = Config::default();
    config.protocol.request_response_config.request_timeout = Duration::from_secs(1);
    let mut sender = Node::start(config).await;
    let mut receiver = Node::start(listening("/ip4/127.0.0.1/udp/0/quic-v1")).await;
    let address = slow_line(&receiver.address(), 512 << 10).await;
    soon("the dial", sender.dial(address))
        .await
        .expect("it leads there");
    sender.connected(receiver.id()).await;
    receiver.connected(sender.id()).await;
    let message = |_| {
        let long = NetworkMessage::Transaction(Transaction::new(vec![7; 240 << 10]));
        sender.send_message(receiver.id(), long)
    };
    for told in join_all((0..8).map(message)).await {
        let told = told.expect_err("the line is slow");
        assert_eq!(told.code(), "timeout", "{told}");
    }
    unblamed(&mut sender);
}
