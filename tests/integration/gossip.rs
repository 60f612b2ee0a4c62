//! Gossip with peers that are none of ours, and what outsiders can make of it, of identify and of peer exchange.

use std::{collections::HashSet, sync::Mutex, time::Duration};

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use libp2p::{identify, swarm::SwarmEvent};
use selkie::{
    Application, Checked, Config, Item, ItemKind, NetworkError, NetworkEvent, Transaction, Verdict,
};

use crate::{
    raw_peer::{RawEvent, RawPeer, framed, good_hello},
    support::*,
};

const TRANSACTIONS: &str = "/selkie/selkie-dev/transaction/1";

/// Why gossip with a peer does not work.
async fn impaired(node: &mut Node, peer: selkie::PeerId) -> String {
    node.event("trouble with gossip", |event| match event {
        NetworkEvent::GossipImpaired { peer_id, reason } if peer_id == peer => Some(reason),
        _ => None,
    })
    .await
}

/// A field of a protobuf message.
fn field(tag: u8, value: &[u8]) -> Vec<u8> {
    [&[tag << 3 | 2][..], &framed(value)].concat()
}

/// A gossipsub frame with one message.
fn publish(topic: &str, data: &[u8]) -> Vec<u8> {
    let message = [field(2, data), field(4, topic.as_bytes())].concat();
    framed(&field(2, &message))
}

#[tokio::test]
async fn who_publishes_without_taking_part_is_heard() {
    let mut node = Node::start(listening(TCP)).await;
    let mut plain = RawPeer::plain().await;
    plain.dial(node.address());
    plain.subscribed(TRANSACTIONS).await;
    plain.publish(TRANSACTIONS, "fan-out");
    let (item, _, source) = node.item().await;
    let right = Item::new(ItemKind::Transaction, "fan-out");
    assert_eq!((item, source), (right, Some(plain.id)));
}

#[tokio::test]
async fn signed_messages_are_dropped_and_told_once() {
    let mut node = Node::start(listening(TCP)).await;
    let mut signing = RawPeer::signing().await;
    signing.dial(node.address());
    signing.subscribed(TRANSACTIONS).await;
    signing.publish(TRANSACTIONS, "signed");
    let reason = impaired(&mut node, signing.id).await;
    assert!(reason.contains("StrictSign"), "{reason}");
    assert_eq!(node.get_connected_peers()[0].reputation, 0.0);
}

#[tokio::test]
async fn what_is_published_right_after_the_dial_arrives() {
    let node = Node::start(listening(TCP)).await;
    for round in 0..5 {
        let mut plain = RawPeer::plain().await;
        plain.subscribe(format!("chat{round}"));
        let address = plain.address.clone();
        soon("the dial", node.dial(address)).await.expect("plain");
        node.publish_topic(&format!("chat{round}"), "hello")
            .await
            .expect("it takes part");
        assert_eq!(plain.gossip().await.1, b"hello");
    }
}

#[tokio::test]
async fn who_reads_gets_all_that_is_published_and_who_does_not_loses_alone() {
    let mut node = Node::start(listening(TCP)).await;
    let (mut reader, mut sleeper) = (RawPeer::plain().await, RawPeer::plain().await);
    node.subscribe_topic("news", false).await.expect("joined");
    for peer in [&mut reader, &mut sleeper] {
        peer.subscribe("news");
        peer.dial(node.address());
        peer.subscribed("news").await;
        node.connected(peer.id).await;
    }
    node.publish_topic("news", "first").await.expect("sent");
    assert_eq!(sleeper.gossip().await.1, b"first");
    sleeper.fall_asleep();
    // Ten times what may wait for one peer.
    for number in 0..400_u32 {
        let mut data = vec![7; 100 << 10];
        data[..4].copy_from_slice(&number.to_be_bytes());
        node.publish_topic("news", data).await.expect("sent");
    }
    assert_eq!(reader.gossip().await.1, b"first");
    let mut read = std::collections::HashSet::new();
    while read.len() < 400 {
        read.insert(reader.gossip().await.1[..4].to_vec());
    }
    let reason = impaired(&mut node, sleeper.id).await;
    assert!(reason.contains("messages to it were dropped"), "{reason}");
    assert!(node.message_metrics().message_success_rate < 1.0);
}

/// The numbers in an event's sentence, summed.
fn numbers(event: &NetworkEvent) -> u64 {
    let text = event.to_string();
    let numbers = text.split(' ').filter_map(|word| word.parse::<u64>().ok());
    numbers.sum()
}

/// More in small messages than may wait unread, for somebody who looks at none of them meanwhile.
#[tokio::test]
async fn of_a_burst_nothing_is_lost_in_silence() {
    for address in [TCP, "/ip4/127.0.0.1/tcp/0/ws"] {
        let mut config = listening(address);
        config.protocol.validation.max_unread_bytes = (4 << 20) + 1024;
        // It reads at a quarter of this, and what lies on the way by then is a lot.
        config.protocol.gossipsub_config.max_messages_per_second = 8_000;
        let mut reader = Node::start(config).await;
        let joined = reader.subscribe_topic("news", false).await;
        joined.expect("joined");
        let mut writer = Node::start(Config::default()).await;
        connect(&mut writer, &mut reader).await;
        let mut news = reader.subscribe(|event| matches!(event, NetworkEvent::TopicMessage(_)));
        let mut end = reader.subscribe(
            |event| matches!(event, NetworkEvent::TopicMessage(message) if message.data.len() < 1024),
        );
        let mut trouble =
            writer.subscribe(|event| matches!(event, NetworkEvent::GossipImpaired { .. }));
        let (mut sent, mut told) = (0_u64, 0);
        while sent < 5_000 || end.next().now_or_never().is_none() {
            // From then on short ones: the first that comes says that those before have come, or will not.
            let mut data = vec![7; if sent < 5_000 { 1024 } else { 8 }];
            data[..8].copy_from_slice(&sent.to_be_bytes());
            told += u64::from(writer.publish_topic("news", data).await.is_err());
            sent += 1;
        }
        // What was dropped on its way is told at the next heartbeat; what gossip found again then is told twice.
        let mut missed = 0;
        while told < sent {
            let next = async {
                tokio::select! {
                    event = news.recv() => event.map(|_| 1),
                    event = trouble.recv() => event.map(|event| numbers(&event)),
                }
            };
            told += soon(&format!("{} messages", sent - told), next)
                .await
                .expect("both run");
            let gap = news.missed();
            (missed, told) = (missed + gap, told + gap);
        }
        assert!(missed > 0, "the bound holds");
    }
}

/// A node whose rules a plain peer, the only one there, has just broken once: so far that nothing is published to it.
async fn beside_one_that_did_wrong(half_life: Duration) -> (Node, RawPeer) {
    let mut config = listening(TCP);
    config.security.peer_scoring.disconnect_at = -12.0;
    config.security.peer_scoring.half_life = half_life;
    let mut node = Node::with(config, TestChain::default()).await;
    let mut plain = RawPeer::plain().await;
    plain.subscribe("news");
    plain.subscribe(TRANSACTIONS);
    plain.dial(node.address());
    plain.subscribed(TRANSACTIONS).await;
    node.connected(plain.id).await;
    plain.publish(TRANSACTIONS, "bad money");
    node.scored(plain.id).await;
    (node, plain)
}

#[tokio::test]
async fn what_gossip_sends_to_nobody_is_not_sent() {
    let (node, _plain) = beside_one_that_did_wrong(Duration::from_secs(600)).await;
    let sent = node.submit(Item::new(ItemKind::Transaction, "good money"));
    let error = sent.await.expect_err("nobody has it");
    assert!(matches!(error, NetworkError::NotSent { .. }), "{error}");
    assert!(node.message_metrics().message_success_rate < 1.0);
}

/// A chain that ignores what it sees for the first time, as one does what comes too early.
#[derive(Default)]
struct Hesitant(Mutex<HashSet<Bytes>>);

impl Application for Hesitant {
    fn check_transaction(&self, transaction: &Transaction) -> Checked {
        let mut seen = self.0.lock().expect("no test panics in here");
        if seen.insert(transaction.data.clone()) {
            Checked::ignore(&transaction.data, "too early")
        } else {
            Checked::opaque(&transaction.data)
        }
    }
}

#[tokio::test]
async fn what_gossip_brought_before_it_was_accepted_is_not_sent() {
    let mut node = Node::with(listening(TCP), Hesitant::default()).await;
    let (mut source, mut other) = (RawPeer::plain().await, RawPeer::plain().await);
    for peer in [&mut source, &mut other] {
        peer.subscribe(TRANSACTIONS);
        peer.dial(node.address());
        peer.subscribed(TRANSACTIONS).await;
        node.connected(peer.id).await;
    }
    source.publish(TRANSACTIONS, "early money");
    node.event("the refusal", |event| {
        matches!(event, NetworkEvent::ItemRefused { .. }).then_some(())
    })
    .await;
    // libp2p takes it for a copy for two minutes.
    let sent = node.submit(Item::new(ItemKind::Transaction, "early money"));
    let error = sent.await.expect_err("nobody has it");
    assert!(matches!(error, NetworkError::NotSent { .. }), "{error}");
}

#[tokio::test]
async fn a_misdeed_fades_in_gossip_too() {
    let (node, mut plain) = beside_one_that_did_wrong(Duration::from_secs(1)).await;
    let sends = async { while node.publish_topic("news", "good news").await.is_err() {} };
    soon("the end of it", sends).await;
    assert_eq!(plain.gossip().await.1, b"good news");
}

#[tokio::test]
async fn the_topics_of_items_take_no_plain_messages() {
    let node = Node::start(listening(TCP)).await;
    let refused = node.publish_topic(TRANSACTIONS, "by the back door").await;
    let refused = refused.expect_err("not sent");
    assert_eq!(refused.code(), "invalid-argument");
    assert!(refused.to_string().contains("submit"), "{refused}");
}

#[tokio::test]
async fn a_plain_peer_without_a_place_stays_without_gossip() {
    let mut config = listening(TCP);
    config.protocol.gossipsub_config.max_plain_peers = 1;
    let mut node = Node::start(config).await;
    let (first, second) = (RawPeer::plain().await, RawPeer::plain().await);
    first.dial(node.address());
    node.connected(first.id).await;
    second.dial(node.address());
    let reason = impaired(&mut node, second.id).await;
    assert!(reason.contains("max_plain_peers"), "{reason}");
    node.connected(second.id).await;
    // Selkie's own nodes need no place.
    let mut friend = Node::start(listening(TCP)).await;
    connect(&mut friend, &mut node).await;
    assert_eq!(node.get_connected_peers().len(), 3);
}

#[tokio::test]
async fn messages_that_nobody_wants_cost_their_sender() {
    let mut node = Node::start(listening(TCP)).await;
    let mut raw = RawPeer::plain().await;
    raw.dial(node.address());
    raw.connected().await;
    let flood = (0..3000_u32).flat_map(|n| publish("elsewhere", &n.to_be_bytes()));
    raw.script(node.id(), flood.collect());
    let (reason, score) = node.scored(raw.id).await;
    assert_eq!((reason, score), ("it sends more often than it may", -1.0));
    raw.disconnected().await;
}

#[tokio::test]
async fn a_gossip_frame_over_the_limit_costs_its_sender() {
    let mut node = Node::start(listening(TCP)).await;
    for bytes in [vec![0xff, 0xff, 0xff, 0x7f], framed(&[0x12, 0xff])] {
        let mut raw = RawPeer::plain().await;
        raw.dial(node.address());
        raw.connected().await;
        raw.script(node.id(), bytes);
        assert_eq!(node.scored(raw.id).await.1, -10.0);
    }
}

#[tokio::test]
async fn slow_senders_hold_up_nobody_and_pay_nothing() {
    let mut node = Node::start(listening(TCP)).await;
    node.subscribe_topic("news", false).await.expect("joined");
    let mut slow = Vec::new();
    for _ in 0..4 {
        let raw = RawPeer::plain().await;
        raw.dial(node.address());
        node.connected(raw.id).await;
        // Four megabytes, of which no more will come.
        raw.begin_script(node.id(), vec![0x80, 0x80, 0x80, 0x02, 0x0a]);
        slow.push(raw);
    }
    let mut honest = RawPeer::plain().await;
    honest.dial(node.address());
    honest.subscribed("news").await;
    node.connected(honest.id).await;
    let large = "7".repeat(100 << 10).leak();
    honest.publish("news", large);
    let source = node.event("a topic message", |event| match event {
        NetworkEvent::TopicMessage(item) => Some(item.source),
        _ => None,
    });
    assert_eq!(source.await, honest.id);
    let reason = node
        .event("a slow sender", |event| match event {
            NetworkEvent::GossipImpaired { reason, .. } => Some(reason),
            _ => None,
        })
        .await;
    assert!(reason.contains("slowly"), "{reason}");
    let peers = node.get_connected_peers();
    assert!(peers.len() == 5 && peers.iter().all(|peer| peer.reputation == 0.0));
}

#[tokio::test]
async fn messages_between_signed_and_unwanted_ones_arrive() {
    let mut node = Node::start(listening(TCP)).await;
    node.subscribe_topic("weather", false)
        .await
        .expect("joined");
    let mut raw = RawPeer::plain().await;
    raw.dial(node.address());
    raw.subscribed("weather").await;
    let signed = [field(2, b"x"), field(4, b"weather"), field(5, b"sig")].concat();
    let script = [
        publish("elsewhere", b"unwanted"),
        framed(&field(2, &signed)),
        publish("weather", b"rain"),
    ];
    raw.script(node.id(), script.concat());
    let data = node.event("a topic message", |event| match event {
        NetworkEvent::TopicMessage(item) => Some(item.data),
        _ => None,
    });
    assert_eq!(data.await, "rain");
}

#[tokio::test]
async fn endless_identify_pushes_cost_their_sender() {
    let mut node = Node::start(listening(TCP)).await;
    let mut raw = RawPeer::plain().await;
    raw.dial(node.address());
    node.connected(raw.id).await;
    let to = node.id();
    let pushed = |event| match event {
        SwarmEvent::Behaviour(RawEvent::Identify(identify::Event::Pushed { .. })) => Some(true),
        SwarmEvent::ConnectionClosed { .. } => Some(false),
        _ => None,
    };
    // One that is let go has been told why.
    for _ in 0..300 {
        raw.act(move |swarm| swarm.behaviour_mut().identify.push([to]));
        if !raw.event("a push", pushed).await {
            break;
        }
    }
    let (reason, score) = node.scored(raw.id).await;
    assert_eq!((reason, score), ("it sends more often than it may", -1.0));
}

#[tokio::test]
async fn a_peer_exchange_over_its_limits_is_refused_before_it_is_decoded() {
    let mut node = Node::start(listening(TCP)).await;
    let mut raw = RawPeer::hostile().await;
    raw.join(&node).await;
    let million = field(5, &[0x0a, 0].repeat(1 << 20));
    raw.message(node.id(), framed(&million));
    let answer = raw.answer().await.expect("an answer");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.contains("over the limit of 65536"), "{answer}");
    assert_eq!(node.scored(raw.id).await.1, -10.0);
}

#[tokio::test]
async fn who_names_peers_without_end_pays() {
    let mut node = Node::start(listening(TCP)).await;
    let mut raw = RawPeer::hostile().await;
    raw.join(&node).await;
    // Many at once, which is more often than it may on the slowest machine too.
    'let_go: for _ in 0..10 {
        for _ in 0..16 {
            raw.message(node.id(), framed(&field(5, b"")));
        }
        for _ in 0..16 {
            // In the end there is none: the peer is let go.
            if raw.answer().await.is_none() {
                break 'let_go;
            }
        }
    }
    let (reason, score) = node.scored(raw.id).await;
    assert_eq!((reason, score), ("it sends more often than it may", -1.0));
}

#[tokio::test]
async fn a_verdict_that_comes_too_late_is_told() {
    let mut config = listening(TCP);
    let gossip = &mut config.protocol.gossipsub_config;
    // So fast that messages are kept for five heartbeats only.
    gossip.heartbeat_interval = Duration::from_millis(100);
    gossip.max_bytes_per_second = 1 << 30;
    let mut node = Node::start(config).await;
    node.subscribe_topic("weather", true).await.expect("joined");
    let mut plain = RawPeer::plain().await;
    plain.subscribe("weather");
    plain.dial(node.address());
    plain.subscribed("weather").await;
    node.connected(plain.id).await;
    plain.publish("weather", "rain");
    let item = node
        .event("a topic message", |event| match event {
            NetworkEvent::TopicMessage(item) => Some(item),
            _ => None,
        })
        .await;
    // gossipsub begins to beat after five seconds, and beats where something happens.
    for _ in 0..65 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let never_came = node.report(b"never came".to_vec(), plain.id, Verdict::Ignore);
        never_came.await.expect("running");
    }
    node.report(item.message_id, item.source, Verdict::Accept)
        .await
        .expect("running");
    let reason = impaired(&mut node, plain.id).await;
    assert!(reason.contains("later than 500ms"), "{reason}");
}

#[tokio::test]
async fn who_takes_part_in_a_topic_is_told_and_by_which_connection_it_is_here() {
    let mut node = Node::start(listening(TCP)).await;
    assert!(node.topics().await.expect("running").is_empty() && node.connections().is_empty());
    for (topic, validate) in [("weather", true), ("news", false)] {
        let joined = node.subscribe_topic(topic, validate).await;
        joined.expect("joined");
    }
    let mut plain = RawPeer::plain().await;
    plain.subscribe("weather");
    plain.dial(node.address());
    plain.subscribed("weather").await;
    node.connected(plain.id).await;
    // What it says on the topic comes after its word that it takes part.
    plain.publish("weather", "rain");
    node.event("a topic message", |event| {
        matches!(event, NetworkEvent::TopicMessage(_)).then_some(())
    })
    .await;
    let topics = node.topics().await.expect("running");
    let told: Vec<_> = topics
        .iter()
        .map(|topic| (topic.topic.as_str(), topic.validate, topic.peers.as_slice()))
        .collect();
    let takers: [selkie::PeerId; 1] = [plain.id];
    assert_eq!(
        told,
        [("news", false, &[][..]), ("weather", true, &takers[..])]
    );
    assert!(
        topics
            .iter()
            .all(|topic| topic.mesh.iter().all(|peer| topic.peers.contains(peer)))
    );
    let connections = node.connections();
    assert_eq!(connections.len(), 1);
    let connection = &connections[0];
    assert_eq!(
        (connection.peer_id, connection.transport()),
        (plain.id, "tcp")
    );
    assert_eq!(connection.direction, selkie::peers::Direction::Inbound);
    drop(plain);
    node.event("its end", |event| {
        matches!(event, NetworkEvent::PeerDisconnected { .. }).then_some(())
    })
    .await;
    assert!(node.connections().is_empty());
    let topics = node.topics().await.expect("running");
    assert!(topics.iter().all(|topic| topic.peers.is_empty()));
}

#[tokio::test]
async fn a_long_message_waits_until_its_only_taker_is_known() {
    let node = Node::start(listening(TCP)).await;
    let mut raw = RawPeer::hostile().await;
    raw.subscribe("news");
    raw.dial(node.address());
    raw.connected().await;
    node.has_connection().await;
    let long = "7".repeat(200 << 10);
    let comes = async {
        raw.hello(node.id(), framed(&good_hello()));
        raw.gossip().await.1
    };
    let publishes = node.publish_topic("news", long.clone());
    let (published, came) = futures::join!(publishes, comes);
    published.expect("it waited for the hello");
    assert_eq!(came, long.into_bytes());
}

#[tokio::test]
async fn who_has_not_said_hello_and_reads_gets_everything() {
    let node = Node::start(listening(TCP)).await;
    let mut raw = RawPeer::hostile().await;
    raw.subscribe("news");
    raw.dial(node.address());
    raw.connected().await;
    node.has_connection().await;
    for number in 0..10 {
        let message = number.to_string().repeat(50 << 10);
        let published = node.publish_topic("news", message.clone()).await;
        published.expect("it takes part");
        assert_eq!(raw.gossip().await.1, message.into_bytes());
    }
}
