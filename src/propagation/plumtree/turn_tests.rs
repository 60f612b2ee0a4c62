//! Whose items go out next, and when our own may be made, while others flood.

use bytes::Buf;

use super::*;
use crate::{platform::test, propagation::wire::Frame};

fn item(number: u64) -> Accepted {
    let mut data = number.to_le_bytes().to_vec();
    data.resize(250, 0);
    Accepted {
        key: TransactionKey::of(&data),
        data: data.into(),
        fee: 0,
    }
}

/// The items in what goes out.
fn items(mut out: Outgoing) -> Vec<Bytes> {
    let mut items = Vec::new();
    while out.bytes.has_remaining() {
        let length = prost::decode_length_delimiter(&mut out.bytes).expect("a length");
        if let Kind::Items(batch) = Frame::read(out.bytes.split_to(length)).expect("right") {
            items.extend(batch.items);
        }
    }
    items
}

/// All items that go out to a peer now.
fn pushed(tree: &mut Plumtree, to: PeerId, now: Instant) -> Vec<Bytes> {
    let all = std::iter::from_fn(|| tree.next(to, None, now));
    all.flat_map(items).collect()
}

#[test]
fn what_comes_to_a_batch_of_which_a_peer_was_sent_some_is_sent_to_it_too() {
    let ([source, peer], now) = ([(); 2].map(|()| PeerId::random()), crate::platform::now());
    let mut tree = Plumtree::new(TreeConfig::default(), &[1; 16]);
    tree.connected(source, now);
    tree.connected(peer, now);
    tree.accepted(Some(source), [item(0), item(1)], now);
    // The peer has one of the two already.
    let copy = vec![(item(0).key, item(0).data)];
    tree.on_items(peer, copy, [].into_iter(), |_, _| true, now);
    assert_eq!(pushed(&mut tree, peer, now), [item(1).data]);
    // And the next one comes at once.
    tree.accepted(Some(source), [item(2)], now);
    let later = now + TreeConfig::default().push_interval;
    assert_eq!(pushed(&mut tree, peer, later), [item(2).data]);
}

#[test]
fn a_vote_waits_for_few_of_a_flood_of_others() {
    let ([flooder, peer], now) = ([(); 2].map(|()| PeerId::random()), crate::platform::now());
    let mut tree = Plumtree::new(TreeConfig::votes(), &[1; 16]);
    tree.connected(flooder, now);
    tree.connected(peer, now);
    tree.accepted(Some(flooder), (0..10_000).map(item), now);
    let first = tree.next(peer, None, now).expect("some of the flood");
    assert!(first.items <= 20, "{}", first.items);
    tree.accepted(None, [item(20_000)], now);
    let next = tree.next(peer, None, now).expect("our own");
    assert_eq!(items(next)[0], item(20_000).data);
}

#[test]
fn a_flood_of_a_peers_keeps_nobody_from_making_its_own() {
    let ([flooder, peer], now) = ([(); 2].map(|()| PeerId::random()), crate::platform::now());
    let config = TreeConfig {
        max_log_bytes: 256 << 10,
        ..TreeConfig::default()
    };
    let mut tree = Plumtree::new(config, &[1; 16]);
    tree.connected(flooder, now);
    tree.connected(peer, now);
    tree.accepted(Some(flooder), (0..10_000).map(item), now);
    assert!(tree.has_room(0), "nobody has read any of the flood");
    let mut own = 0;
    while tree.has_room(0) {
        tree.accepted(None, [item(20_000 + own)], now);
        own += 1;
    }
    assert!((100..400).contains(&own), "{own}");
    let came = pushed(&mut tree, peer, now + Duration::from_millis(5));
    let came: HashSet<_> = came.into_iter().collect();
    assert!((0..own).all(|number| came.contains(&item(20_000 + number).data)));
    assert!(tree.has_room(0));
}
