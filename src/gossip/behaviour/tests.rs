use std::{task::Waker, time::Duration};

use libp2p::{
    core::ConnectedPoint,
    swarm::{ConnectionHandler, behaviour::ConnectionEstablished},
};
use proptest::prelude::*;

use super::{super::handler::heard, *};
use crate::platform::test;

fn gossip() -> (Gossip, IdentTopic) {
    let mut config = Config::default();
    config.protocol.gossipsub_config.heartbeat_interval = Duration::from_millis(10);
    let mut gossip = Gossip::new(&config, PeerId::random()).expect("right");
    let topic = IdentTopic::new("ours");
    gossip.subscribe(&topic).expect("allowed");
    (gossip, topic)
}

fn connect(gossip: &mut Gossip, number: usize) -> (PeerId, ConnectionId) {
    let peer = (PeerId::random(), ConnectionId::new_unchecked(number));
    meet(gossip, peer);
    peer
}

/// A connection's handler.
fn meet(gossip: &mut Gossip, (peer_id, connection_id): (PeerId, ConnectionId)) -> Handler {
    let address: Multiaddr = "/memory/1".parse().expect("an address");
    let handler = gossip
        .handle_established_inbound_connection(connection_id, peer_id, &address, &address)
        .expect("let in");
    gossip.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
        peer_id,
        connection_id,
        endpoint: &ConnectedPoint::Listener {
            local_addr: address.clone(),
            send_back_addr: address,
        },
        failed_addresses: &[],
        other_established: 0,
    }));
    handler
}

fn disconnect(gossip: &mut Gossip, (peer_id, connection_id): (PeerId, ConnectionId)) {
    let address: Multiaddr = "/memory/1".parse().expect("an address");
    gossip.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
        peer_id,
        connection_id,
        endpoint: &ConnectedPoint::Listener {
            local_addr: address.clone(),
            send_back_addr: address,
        },
        cause: None,
        remaining_established: 0,
    }));
}

fn hear(gossip: &mut Gossip, (peer, connection): (PeerId, ConnectionId), frame: &[u8]) {
    let decoder = gossip.decoder.clone().expect("a connection was there");
    if let Some(heard) = heard(&decoder, &gossip.reading, peer, frame) {
        gossip.on_connection_handler_event(peer, connection, heard);
    }
}

fn drain(gossip: &mut Gossip) -> usize {
    let mut cx = Context::from_waker(Waker::noop());
    std::iter::from_fn(|| gossip.poll(&mut cx).is_ready().then_some(())).count()
}

#[test]
fn plain_peers_have_places_and_ours_need_none() {
    let (mut gossip, _) = gossip();
    gossip.max_plain = 2;
    let peers: Vec<_> = (0..4)
        .map(|number| connect(&mut gossip, number).0)
        .collect();
    assert!(!gossip.hosts_plain());
    assert!(gossip.admit(peers[0], false) && gossip.admit(peers[1], false));
    assert!(!gossip.admit(peers[2], false) && gossip.admit(peers[3], true));
    assert!(gossip.hosts_plain());
    assert_eq!(gossip.inner.all_peers().count(), 3);
    // It stays denied, and what it says is not heard.
    assert!(!gossip.admit(peers[2], false));
    let connection = ConnectionId::new_unchecked(2);
    hear(&mut gossip, (peers[2], connection), &SUBSCRIPTION);
    drain(&mut gossip);
    assert!(gossip.awaits_newcomers(platform::now()));
    assert!(
        gossip
            .members
            .takers(&gossipsub::TopicHash::from_raw("hi"))
            .is_empty()
    );
}

/// Of a peer that takes part in a topic `hi`.
const SUBSCRIPTION: [u8; 8] = [0x0a, 6, 0x08, 1, 0x12, 2, b'h', b'i'];

#[test]
fn no_stream_is_opened_before_there_may_be_something_to_say() {
    type Begins = fn(&mut Gossip, (PeerId, ConnectionId));
    let begins: [Begins; 3] = [
        |gossip, (peer, _)| assert!(gossip.admit(peer, false), "a plain peer"),
        |gossip, _| _ = gossip.subscribe(&IdentTopic::new("ours")),
        |gossip, peer| hear(gossip, peer, &SUBSCRIPTION),
    ];
    let mut cx = Context::from_waker(Waker::noop());
    for begins in begins {
        let mut gossip = Gossip::new(&Config::default(), PeerId::random()).expect("right");
        let (id, other) = (PeerId::random(), ConnectionId::new_unchecked(2));
        let peer = (id, ConnectionId::new_unchecked(1));
        let mut handler = meet(&mut gossip, peer);
        let orders = |gossip: &mut Gossip, handler: &mut Handler| {
            while let Poll::Ready(action) = gossip.poll(&mut Context::from_waker(Waker::noop())) {
                if let ToSwarm::NotifyHandler { event, .. } = action {
                    handler.on_behaviour_event(event);
                }
            }
        };
        orders(&mut gossip, &mut handler);
        assert!(handler.poll(&mut cx).is_pending());
        begins(&mut gossip, peer);
        orders(&mut gossip, &mut handler);
        assert!(handler.poll(&mut cx).is_ready());
        assert!(meet(&mut gossip, (id, other)).poll(&mut cx).is_ready());
    }
}

#[test]
fn of_who_comes_and_goes_nothing_stays_but_what_is_held_against_it() {
    let (mut gossip, _) = gossip();
    let disconnect_at = gossip.disconnect_at;
    for (reputation, stays) in [
        (None, false),
        (Some(-1.0), false),
        (Some(disconnect_at), true),
    ] {
        let peer = connect(&mut gossip, 1);
        if let Some(reputation) = reputation {
            gossip.set_score(&peer.0, reputation);
        }
        disconnect(&mut gossip, peer);
        let score = gossip.inner.peer_score(&peer.0).unwrap_or_default();
        assert_eq!(score < 0.0, stays);
        // It says whether it knows the peer.
        let is_known = gossip.inner.set_application_score(&peer.0, score);
        assert_eq!(is_known, stays, "{reputation:?}");
    }
}

/// A control message of gossipsub's for topic `ours`, or nearly one.
fn control() -> impl Strategy<Value = Vec<u8>> {
    let backoff = prop_oneof![
        Just(u64::MAX),
        Just(i64::MAX as u64),
        any::<u64>(),
        0..90_u64
    ];
    let prune = backoff.prop_map(|backoff| {
        let mut prune = vec![0x0a, 4, b'o', b'u', b'r', b's', 0x18];
        prost::encoding::encode_varint(backoff, &mut prune);
        [&[0x22, prune.len() as u8][..], &prune].concat()
    });
    let graft = Just([&[0x1a, 6, 0x0a, 4][..], b"ours"].concat());
    let have = proptest::collection::vec(any::<u8>(), 0..20).prop_map(|id| {
        let entry = [&[0x0a, 4][..], b"ours", &[0x12, id.len() as u8], &id].concat();
        [&[0x0a, entry.len() as u8][..], &entry].concat()
    });
    let want = proptest::collection::vec(any::<u8>(), 0..20)
        .prop_map(|id| [&[0x12, id.len() as u8 + 2, 0x0a, id.len() as u8][..], &id].concat());
    let any = proptest::collection::vec(any::<u8>(), 0..40);
    let control = prop_oneof![prune, graft, have, want, any];
    control.prop_map(|control| [&[0x1a, control.len() as u8][..], &control].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn no_order_of_control_messages_ends_the_node(
        steps in proptest::collection::vec((0..3_usize, control(), any::<bool>(), 0..8_u8), 1..200),
    ) {
        let (mut gossip, topic) = gossip();
        let mut peers: Vec<_> = (0..3).map(|number| connect(&mut gossip, number)).collect();
        for peer in &peers {
            hear(&mut gossip, *peer, &[0x0a, 8, 0x08, 1, 0x12, 4, b'o', b'u', b'r', b's']);
        }
        let mut ids = Vec::new();
        for (number, (peer, frame, leaves, other)) in steps.into_iter().enumerate() {
            hear(&mut gossip, peers[peer], &frame);
            match other {
                // It asks for, or does not want, all there is.
                0 | 1 => {
                    let ids: Vec<u8> = ids.iter().rev().take(20).flat_map(|id: &MessageId| {
                        [&[0x0a, id.0.len() as u8][..], &id.0].concat()
                    }).collect();
                    let tag = [0x12, 0x2a][usize::from(other)];
                    let mut control = vec![tag];
                    prost::encoding::encode_varint(ids.len() as u64, &mut control);
                    control.extend(ids);
                    let mut frame = vec![0x1a];
                    prost::encoding::encode_varint(control.len() as u64, &mut frame);
                    frame.extend(control);
                    hear(&mut gossip, peers[peer], &frame);
                }
                // It goes, and another one comes.
                2 => {
                    disconnect(&mut gossip, peers[peer]);
                    peers[peer] = connect(&mut gossip, 3 + number);
                }
                3 => drop(gossip.is_flushed(None)),
                _ => {}
            }
            if leaves {
                gossip.unsubscribe(&topic);
                gossip.subscribe(&topic).expect("allowed");
            }
            ids.extend(gossip.publish(topic.clone(), number.to_be_bytes().to_vec().into()));
            drain(&mut gossip);
        }
    }
}

// A browser's tests can't wait.
#[core::prelude::v1::test]
fn a_message_whose_verdict_comes_after_many_heartbeats_is_passed_on() {
    let (mut gossip, topic) = gossip();
    let peers: Vec<_> = (0..2).map(|number| connect(&mut gossip, number)).collect();
    for peer in &peers {
        hear(
            &mut gossip,
            *peer,
            &[0x0a, 8, 0x08, 1, 0x12, 4, b'o', b'u', b'r', b's'],
        );
    }
    let message = [0x12, 1, b'x', 0x22, 4, b'o', b'u', b'r', b's'];
    hear(
        &mut gossip,
        peers[0],
        &[&[0x12, message.len() as u8][..], &message].concat(),
    );
    let (mut came, mut cx) = (None, Context::from_waker(Waker::noop()));
    // gossipsub begins to beat after five seconds, and beats when it is polled: twenty times.
    for wait in std::iter::once(5050).chain([10; 20]) {
        while let Poll::Ready(action) = gossip.poll(&mut cx) {
            if let ToSwarm::GenerateEvent(GossipEvent::Plain(gossipsub::Event::Message {
                message_id,
                ..
            })) = action
            {
                came = Some(message_id);
            }
        }
        futures::executor::block_on(platform::Delay::new(Duration::from_millis(wait)));
    }
    let id = came.expect("it came");
    assert_eq!(id, inner::message_id(topic.hash().as_str(), b"x"));
    assert!(gossip.report_message_validation_result(&id, &peers[0].0, MessageAcceptance::Accept));
}

#[test]
fn two_of_the_largest_find_room_beside_a_little_and_one_beside_who_reads_nothing() {
    let (mut gossip, _) = gossip();
    let config = Config::default();
    let largest = config.protocol.gossipsub_config.max_transmit_size;
    let [reader, other, deaf] = [(); 3].map(|()| PeerId::random());
    let (unread, now) = (&mut gossip.unread, platform::now());
    assert!(unread.count(other, 1 << 10, now));
    assert!(unread.count(reader, largest, now) && unread.count(reader, largest, now));
    unread.clear(&reader);
    assert!(unread.count(deaf, largest, now) && unread.count(deaf, largest, now));
    assert!(unread.count(reader, 1 << 10, now) && unread.count(reader, largest, now));
}

#[test]
fn who_is_not_known_yet_leaves_little_unread() {
    let (mut gossip, topic) = gossip();
    let [stranger, known] = [0, 1].map(|number| connect(&mut gossip, number));
    for peer in [stranger, known] {
        let takes_part = [0x0a, 8, 0x08, 1, 0x12, 4, b'o', b'u', b'r', b's'];
        hear(&mut gossip, peer, &takes_part);
    }
    assert!(gossip.admit(known.0, false));
    drain(&mut gossip);
    for number in 0..5 {
        let message = vec![number; UNREAD_BY_STRANGER / 2];
        gossip
            .publish(topic.clone(), message.into())
            .expect("published");
    }
    let unread = [stranger.0, known.0].map(|peer| gossip.unread.bytes(&peer));
    assert_eq!(unread, [UNREAD_BY_STRANGER, UNREAD_BY_STRANGER / 2 * 5]);
    let lost = gossip.unread.lost(platform::now() + Duration::from_secs(2));
    assert_eq!(lost.get(&stranger.0), Some(&3));
    disconnect(&mut gossip, known);
    let message = vec![7; UNREAD_BY_STRANGER + 1];
    let published = gossip.publish(topic.clone(), message.into());
    let full = gossipsub::PublishError::AllQueuesFull(1);
    assert_eq!(
        published.expect_err("nobody may have it").to_string(),
        full.to_string()
    );
}

/// Somebody that takes part in the topic, and reads nothing.
fn deaf(gossip: &mut Gossip, number: usize) -> (PeerId, ConnectionId) {
    let peer = connect(gossip, number);
    let takes_part = [0x0a, 8, 0x08, 1, 0x12, 4, b'o', b'u', b'r', b's'];
    hear(gossip, peer, &takes_part);
    assert!(gossip.admit(peer.0, false));
    drain(gossip);
    peer
}

/// Publishes until all queues are full, and returns what was not sent.
fn fill(gossip: &mut Gossip, topic: &IdentTopic) -> Bytes {
    for number in 0..10_000_u32 {
        let message = Bytes::from(number.to_be_bytes().to_vec());
        match gossip.publish(topic.clone(), message.clone()) {
            Ok(_) => {}
            Err(gossipsub::PublishError::AllQueuesFull(_)) => return message,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("a queue has an end")
}

#[test]
fn what_nobody_had_room_for_may_be_published_again() {
    let (mut gossip, topic) = gossip();
    let first = deaf(&mut gossip, 0);
    let message = fill(&mut gossip, &topic);
    disconnect(&mut gossip, first);
    deaf(&mut gossip, 1);
    gossip
        .publish(topic.clone(), message.clone())
        .expect("there is room");
    let again = gossip.publish(topic, message);
    assert!(
        matches!(again, Err(gossipsub::PublishError::Duplicate)),
        "{again:?}"
    );
}

#[test]
fn what_libp2p_had_no_room_for_is_called_no_copy() {
    let (mut gossip, topic) = gossip();
    // As where hints wait beside messages.
    gossip.unread = Unread::new(1 << 30, 1 << 20, 1 << 30);
    deaf(&mut gossip, 0);
    let message = fill(&mut gossip, &topic);
    for _ in 0..3 {
        let again = gossip.publish(topic.clone(), message.clone());
        let is_full = matches!(again, Err(gossipsub::PublishError::AllQueuesFull(_)));
        assert!(is_full, "{again:?}");
    }
    for number in 0..2 * MAX_UNSENT {
        let other = Bytes::from(format!("another {number}"));
        assert!(gossip.publish(topic.clone(), other).is_err());
    }
    assert!(gossip.unsent.len() <= MAX_UNSENT);
}

#[test]
fn scores_that_count_are_known_until_they_fade_or_their_peer_goes() {
    let (mut gossip, _) = gossip();
    let disconnect_at = gossip.disconnect_at;
    let [one, other] = [1, 2].map(|number| connect(&mut gossip, number));
    gossip.set_score(&PeerId::random(), disconnect_at);
    for peer in [one, other] {
        gossip.set_score(&peer.0, disconnect_at * 0.8);
    }
    assert_eq!(gossip.scored().len(), 2);
    gossip.set_score(&one.0, disconnect_at * 0.4);
    assert_eq!(gossip.scored(), [other.0]);
    assert!(gossip.inner.peer_score(&one.0) >= Some(0.0));
    disconnect(&mut gossip, other);
    assert!(gossip.scored().is_empty());
}

/// A peer sends a message of one byte on the topic.
fn sends(gossip: &mut Gossip, peer: (PeerId, ConnectionId), data: u8) -> MessageId {
    let message = [0x12, 1, data, 0x22, 4, b'o', b'u', b'r', b's'];
    let frame = [&[0x12, message.len() as u8][..], &message].concat();
    hear(gossip, peer, &frame);
    drain(gossip);
    let id = inner::message_id("ours", &[data]);
    assert!(gossip.awaits_verdict(&id));
    id
}

#[test]
fn what_is_accepted_by_another_way_is_passed_on_unless_it_was_not_when_it_came() {
    use MessageAcceptance::{Accept, Ignore, Reject};
    let (mut gossip, topic) = gossip();
    let [source, _other] = [0, 1].map(|number| deaf(&mut gossip, number));
    for (data, verdict, passes) in [
        (b'a', None, true),
        (b'b', Some(Accept), true),
        (b'c', Some(Ignore), false),
        (b'd', Some(Reject), false),
    ] {
        let id = sends(&mut gossip, source, data);
        if let Some(verdict) = verdict {
            assert!(gossip.report_message_validation_result(&id, &source.0, verdict));
        }
        for _ in 0..2 {
            assert_eq!(gossip.pass_on(&topic, &[data]), passes);
        }
    }
    // Nor where nobody has room for it.
    gossip.unread = Unread::new(1 << 30, 4, 1 << 30);
    sends(&mut gossip, source, b'e');
    fill(&mut gossip, &topic);
    assert!(!gossip.pass_on(&topic, b"e"));
    assert!(!gossip.pass_on(&topic, b"f"), "it never came");
}

#[test]
fn who_is_published_nothing_to_makes_no_room() {
    let (mut gossip, topic) = gossip();
    gossip.unread = Unread::new(1 << 30, 4, 1 << 30);
    deaf(&mut gossip, 0);
    let message = fill(&mut gossip, &topic);
    let bad = deaf(&mut gossip, 1);
    gossip.set_score(&bad.0, gossip.disconnect_at * 0.9);
    let published = gossip.publish(topic.clone(), message.clone());
    let is_full = matches!(published, Err(gossipsub::PublishError::AllQueuesFull(1)));
    assert!(is_full, "{published:?}");
    gossip.set_score(&bad.0, 0.0);
    gossip.publish(topic, message).expect("it may have it now");
}
