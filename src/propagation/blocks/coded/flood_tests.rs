//! What one node takes of too much, and who holds up whom.

use std::time::Duration;

use bytes::Bytes;

use super::{test_node::*, *};
use crate::{
    chain::{ItemId, Verdict},
    peers::Misdeed,
    platform::test,
};

#[test]
fn a_flood_of_announcements_is_refused_and_costs_no_checks() {
    let [flooder, honest] = peers();
    let mut node = node(&[flooder, honest]);
    let mut checks = 0;
    for number in 0..200u32 {
        let bytes = Bytes::copy_from_slice(&number.to_le_bytes());
        let block = Encoded::of(ItemId::sha256(&bytes), Bytes::new(), bytes).expect("a block");
        let actions = node.receive(flooder, announce(block.announcement(), all()));
        assert!(paid(&actions).is_empty(), "it may pass on what others make");
        let asks = |action: &&Action| matches!(action, Action::CheckHeader { .. });
        checks += actions.iter().filter(asks).count();
        // The chain takes no interest: places come free at once, but not the right to announce.
        node.core
            .header_checked(block.id(), Verdict::Ignore, node.now);
    }
    assert_eq!(checks, 16);
    let block = block(2000);
    assert_eq!(
        node.receive(honest, announce(block.announcement(), all()))
            .len(),
        1
    );
    assert!(node.sends(&flooder).len() <= 32);
}

#[test]
fn a_burst_of_our_own_ends_none_of_those_before_it() {
    let [silent, quick] = peers();
    let mut node = node(&[silent, quick]);
    let all: Vec<_> = (0..20).map(|number| block(2000 + number)).collect();
    let begun: Vec<_> = all
        .iter()
        .filter(|block| node.core.start((*block).clone(), node.now).is_ok())
        .collect();
    assert_eq!(begun.len(), 4, "as many as peers take");
    for block in &begun {
        let have = Status {
            broadcast: block.id(),
            have: all_of(block),
            want: ChunkSet::EMPTY,
            done: true,
        };
        node.receive(quick, Frame::Status(have));
    }
    let name = |block: &Encoded| block.announcement().block().clone();
    let has = begun.iter().map(|block| (quick, name(block), Fate::Has));
    assert_eq!(node.core.take_fates(), has.collect::<Vec<_>>());
    // Who says nothing is told of what ends in another way.
    node.wait(Duration::from_secs(31));
    let left = begun.iter().map(|block| (silent, name(block), Fate::Left));
    assert_eq!(node.core.take_fates(), left.collect::<Vec<_>>());
}

#[test]
fn who_takes_no_part_is_told_of_the_block_in_another_way_once() {
    let [peer, other] = peers();
    let mut node = node(&[peer, other]);
    let block = block(2000);
    node.core.start(block.clone(), node.now).expect("room");
    let name = block.announcement().block().clone();
    assert_eq!(node.core.fate(&peer, &name), None);
    for _ in 0..3 {
        let leaves = Status {
            broadcast: block.id(),
            have: ChunkSet::EMPTY,
            want: ChunkSet::EMPTY,
            done: true,
        };
        node.receive(peer, Frame::Status(leaves));
    }
    assert_eq!(node.core.take_fates(), [(peer, name.clone(), Fate::Left)]);
    assert_eq!(node.core.fate(&peer, &name), Some(Fate::Left));
}

#[test]
fn nobody_has_more_than_a_few_broadcasts_under_way() {
    let [flooder, honest] = peers();
    let mut node = node(&[flooder, honest]);
    let mut checks = 0;
    for number in 0..10u32 {
        let bytes = Bytes::copy_from_slice(&number.to_le_bytes());
        let block = Encoded::of(ItemId::sha256(&bytes), Bytes::new(), bytes).expect("a block");
        checks += node
            .receive(flooder, announce(block.announcement(), all()))
            .len();
    }
    assert_eq!(checks, 4);
    assert_eq!(
        node.receive(honest, announce(block(2000).announcement(), all()))
            .len(),
        1
    );
}

#[test]
fn a_single_peer_fills_half_of_the_room() {
    let [flooder, honest] = peers();
    let config = CodedConfig {
        max_bytes: 20_000,
        ..CodedConfig::default()
    };
    let mut node = node_with(config, &[flooder, honest]);
    // With all their chunks they have 4 KiB each.
    let mut taken = |peer, sizes: std::ops::Range<usize>| {
        let announced = sizes.map(|size| announce(block(size).announcement(), all()));
        let taken = announced.filter(|frame| !node.receive(peer, frame.clone()).is_empty());
        taken.count()
    };
    assert_eq!(
        (taken(flooder, 2000..2004), taken(honest, 2010..2014)),
        (2, 2)
    );
}

#[test]
fn many_roots_of_one_block_cost_their_announcer_and_leave_a_place_for_the_true_one() {
    let [liar, honest] = peers();
    let mut node = node(&[liar, honest]);
    let truth = block(2000);
    let mut fines = 0;
    for salt in 0..10 {
        fines += paid(&node.learn(liar, &false_coding(&truth, salt).0, all())).len();
    }
    assert_eq!(fines, 6, "three and one of its own are honest");
    let actions = node.receive(honest, announce(truth.announcement(), all()));
    assert!(matches!(actions[..], [Action::CheckHeader { .. }]));
}

#[test]
fn memory_is_bounded_and_what_is_served_stays_a_while() {
    let [flooder, reader] = peers();
    let config = CodedConfig {
        max_bytes: 10_000,
        ..CodedConfig::default()
    };
    let mut node = node_with(config, &[flooder, reader]);
    let mine = block(4000);
    node.core.start(mine.clone(), node.now).expect("room");
    let other = block(3000);
    assert!(
        node.receive(flooder, announce(other.announcement(), all()))
            .is_empty()
    );
    node.wait(Duration::from_secs(5));
    let another = block(3001);
    assert_eq!(
        node.receive(flooder, announce(another.announcement(), all()))
            .len(),
        1
    );
    assert_eq!(node.core.start(mine, node.now), Err(NoRoom));
}

#[test]
fn chunks_before_the_header_is_checked_are_bounded() {
    let [peer] = peers();
    let config = CodedConfig {
        max_early_bytes: 5 * 64,
        ..CodedConfig::default()
    };
    let mut node = node_with(config, &[peer]);
    let block = block(2048);
    node.receive(peer, announce(block.announcement(), all()));
    for index in 0..8 {
        assert!(node.receive(peer, chunk(&block, index)).is_empty());
    }
    assert!(node.sends(&peer).is_empty());
    node.core
        .header_checked(block.id(), Verdict::Accept, node.now);
    // What was dropped is not asked of a peer that sends nothing twice.
    assert!((node.wants(&peer) & ChunkSet::first(8)).is_empty());
}

#[test]
fn cancels_that_are_ignored_cost_a_block_and_then_reputation() {
    let [deaf, honest] = peers();
    let mut node = node(&[deaf, honest]);
    let block = block(2000);
    node.core.start(block.clone(), node.now).expect("room");
    node.receive(deaf, announce(block.announcement(), all()));
    let mut fines = Vec::new();
    for index in (0..64).chain(0..64) {
        fines.extend(paid(&node.receive(deaf, chunk(&block, index))));
    }
    let unasked = fines.iter().filter(|it| it.1 == Misdeed::TooManyMessages);
    assert_eq!((unasked.count(), fines.len()), (32, 96));
    // Long after the end, a peer has a block's worth of strays.
    node.wait(Duration::from_secs(60));
    let fines = (0..300).map(|i| paid(&node.receive(deaf, chunk(&block, (i % 64) as u8))).len());
    assert_eq!(fines.sum::<usize>(), 300 - 256);
}

#[test]
fn chunks_of_what_nobody_announced_cost_at_once() {
    let [peer] = peers();
    let mut node = node(&[peer]);
    let actions = node.receive(peer, chunk(&block(2000), 0));
    assert_eq!(paid(&actions), [(peer, Misdeed::InvalidMessage)]);
}

#[test]
fn an_endless_fetch_gets_each_chunk_once() {
    let [hoarder, other] = peers();
    let mut node = node(&[hoarder, other]);
    let block = block(2000);
    node.core.start(block.clone(), node.now).expect("room");
    let mut sent = 0;
    for _ in 0..100 {
        let want = Status {
            broadcast: block.id(),
            have: ChunkSet::EMPTY,
            want: all(),
            done: false,
        };
        node.receive(hoarder, Frame::Status(want));
        let frames = node.sends(&hoarder).into_iter();
        sent += frames
            .filter(|frame| matches!(frame, Frame::Chunk(_)))
            .count();
    }
    assert_eq!(sent, 64);
}

#[test]
fn a_slow_reader_holds_up_nobody_and_gathers_nothing() {
    let [slow, quick] = peers();
    let mut node = node(&[slow, quick]);
    let block = block(2000);
    node.core.start(block.clone(), node.now).expect("room");
    assert_eq!(node.core.next(&slow, 0, node.now), None);
    node.receive(quick, announce(block.announcement(), ChunkSet::EMPTY));
    let chunks = node.sends(&quick).into_iter();
    let chunks = chunks.filter(|frame| matches!(frame, Frame::Chunk(_)));
    assert_eq!(chunks.count(), 32, "all that it needs");
}

#[test]
fn a_block_that_comes_again_is_not_sent_again() {
    let [peer, late] = peers();
    let mut node = node(&[peer]);
    let block = block(2000);
    node.core.start(block.clone(), node.now).expect("room");
    assert!(node.sends(&peer).len() > 1);
    node.wait(Duration::from_secs(31));
    node.core.start(block, node.now).expect("room");
    assert!(matches!(
        node.sends(&peer)[..],
        [Frame::Announce(_), Frame::Status(_)]
    ));
    // Nor is it pushed to who connects later.
    node.core.peer_joined(late, node.now);
    assert!(matches!(
        node.sends(&late)[..],
        [Frame::Announce(_), Frame::Status(_)]
    ));
}

#[test]
fn who_has_no_place_is_told_so_and_strangers_are_ignored() {
    let [one, two, stranger] = peers();
    let config = CodedConfig {
        max_peers: 1,
        ..CodedConfig::default()
    };
    let mut node = node_with(config, &[one, two]);
    let block = block(2000);
    for peer in [two, stranger] {
        let actions = node.receive(peer, announce(block.announcement(), all()));
        assert!(actions.is_empty());
        // It may push some before it is told.
        assert!(node.receive(peer, chunk(&block, 0)).is_empty());
    }
    assert!(refuses(&node.sends(&two), block.id()));
    assert!(node.sends(&stranger).is_empty());
    // What the peer goes on with it is told of again, but not what it has done with; and of so many at a time.
    for (done, times) in [(false, 1), (true, 0)] {
        let status = Status {
            broadcast: block.id(),
            have: all(),
            want: ChunkSet::EMPTY,
            done,
        };
        for _ in 0..3 {
            node.receive(two, Frame::Status(status.clone()));
        }
        assert_eq!(node.sends(&two).len(), times);
    }
    for number in 0..100 {
        let block = self::block(3000 + number);
        node.receive(two, announce(block.announcement(), all()));
    }
    assert_eq!(node.sends(&two).len(), 32);
    node.receive(two, announce(block.announcement(), all()));
    node.core.peer_gone(&two, node.now);
    assert!(node.sends(&two).is_empty());
    assert_eq!(
        node.receive(one, announce(block.announcement(), all()))
            .len(),
        1
    );
    node.core.peer_gone(&one, node.now);
    assert!(node.receive(one, chunk(&block, 0)).is_empty());
}
