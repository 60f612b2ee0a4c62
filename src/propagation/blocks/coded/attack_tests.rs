//! What lies of bad peers do to one node, and what they cost whom.

use std::time::Duration;

use bytes::Bytes;

use super::{test_node::*, *};
use crate::{chain::Verdict, peers::Misdeed, platform::test};

#[test]
fn a_block_goes_all_the_way() {
    let [alice, bob] = peers();
    let mut node = node(&[alice, bob]);
    let block = block(2000);
    assert!(paid(&node.learn(alice, block.announcement(), all())).is_empty());
    assert!(matches!(node.sends(&bob)[..], [Frame::Announce(_), ..]));
    let mut actions = Vec::new();
    for _ in 0..32 {
        let wants = node.wants(&alice);
        for index in wants.iter().take(8) {
            actions.extend(node.receive(alice, chunk(&block, index)));
        }
    }
    let actions = node.decodes(actions);
    let [
        Action::CheckBlock {
            bytes, broadcast, ..
        },
    ] = &actions[..]
    else {
        panic!("{actions:?}");
    };
    assert_eq!(*bytes, block.block());
    assert!(
        node.core
            .block_checked(*broadcast, Verdict::Accept, node.now)
            .is_empty()
    );
    let done = node.sends(&alice).pop();
    assert!(matches!(done, Some(Frame::Status(status)) if status.done && status.have == all()));
}

#[test]
fn a_false_chunk_costs_its_sender_and_nothing_more_is_taken_from_it() {
    let [liar, honest] = peers();
    let mut node = node(&[liar, honest]);
    let block = block(2000);
    node.learn(liar, block.announcement(), all());
    let wanted = node.wants(&liar).iter().next().expect("a wish");
    let Frame::Chunk(mut forged) = chunk(&block, wanted) else {
        unreachable!()
    };
    forged.data = vec![9; forged.data.len()].into();
    let actions = node.receive(liar, Frame::Chunk(forged));
    assert_eq!(paid(&actions), [(liar, Misdeed::InvalidMessage)]);
    assert!(node.wants(&liar).is_empty());
    node.receive(honest, announce(block.announcement(), all()));
    assert!(!node.wants(&honest).is_empty());
    // Chunks of impossible lengths and indexes.
    for (index, data, proof) in [(255, 64, 192), (1, 0, 192), (2, 64, 0), (3, 65, 193)] {
        let actions = node.receive(
            honest,
            Frame::Chunk(Chunk {
                broadcast: block.id(),
                index,
                spread: true,
                proof: vec![0; proof].into(),
                data: vec![0; data].into(),
            }),
        );
        assert!(paid(&actions).len() <= 1);
        assert!(abandoned(&actions).is_none());
    }
}

#[test]
fn a_coding_that_is_inconsistent_costs_only_who_vouched_for_it() {
    let [liar, honest] = peers();
    let mut node = node(&[liar, honest]);
    let truth = block(2000);
    let (announcement, chunks) = false_coding(&truth, 0);
    node.learn(liar, &announcement, all());
    node.receive(honest, announce(&announcement, ChunkSet::first(20)));
    let mut actions = Vec::new();
    for chunk in &chunks[..32] {
        let from = if chunk.index < 20 { honest } else { liar };
        actions.extend(node.receive(from, Frame::Chunk(chunk.clone())));
    }
    let actions = node.decodes(actions);
    assert_eq!(paid(&actions), [(liar, Misdeed::InvalidItem)]);
    assert_eq!(abandoned(&actions), Some(Abandonment::Inconsistent));
    // The liar is doubted: it may tell of the block in another way. The true broadcast is taken from somebody else, or once somebody
    // else tells too.
    node.sends(&liar);
    let actions = node.receive(liar, announce(truth.announcement(), all()));
    assert!(actions.is_empty());
    assert!(refuses(&node.sends(&liar), truth.id()));
    let actions = node.receive(honest, announce(truth.announcement(), all()));
    assert!(matches!(actions[..], [Action::CheckHeader { .. }]));
}

#[test]
fn who_tells_of_broadcasts_faster_than_it_may_is_charged_for_each() {
    let [doubted, other] = peers();
    let mut node = node(&[doubted, other]);
    let (announcement, chunks) = false_coding(&block(2000), 0);
    let mut actions = node.learn(doubted, &announcement, all());
    for chunk in &chunks[..32] {
        actions.extend(node.receive(doubted, Frame::Chunk(chunk.clone())));
    }
    let actions = node.decodes(actions);
    assert_eq!(abandoned(&actions), Some(Abandonment::Inconsistent));
    let burst = CodedConfig::default().introduce_burst as usize;
    for number in 0..100 {
        let (announcement, _) = false_coding(&block(3000 + number), 1);
        let actions = node.receive(doubted, announce(&announcement, all()));
        // The first one has counted too.
        if number + 1 < burst {
            assert!(actions.is_empty());
        } else {
            assert!(matches!(actions[..], [Action::Needless { peer }] if peer == doubted));
        }
        assert!(refuses(&node.sends(&doubted), announcement.id()));
    }
    // Others are heard as before.
    let truth = block(2000);
    let actions = node.receive(other, announce(truth.announcement(), all()));
    assert!(matches!(actions[..], [Action::CheckHeader { .. }]));
}

#[test]
fn who_leaves_and_comes_back_is_doubted_and_has_told_as_much_as_before() {
    // It leaves when it is found out, or before.
    for is_early in [true, false] {
        let [liar] = peers();
        let mut node = node(&[liar]);
        let (announcement, chunks) = false_coding(&block(2000), 0);
        let mut actions = node.learn(liar, &announcement, all());
        for chunk in &chunks[..32] {
            actions.extend(node.receive(liar, Frame::Chunk(chunk.clone())));
        }
        if is_early {
            node.core.peer_gone(&liar, node.now);
        }
        let actions = node.decodes(actions);
        assert_eq!(abandoned(&actions), Some(Abandonment::Inconsistent));
        for number in 1..=CodedConfig::default().introduce_burst {
            node.core.peer_gone(&liar, node.now);
            node.core.peer_joined(liar, node.now);
            let truth = block(3000 + number as usize);
            let actions = node.receive(liar, announce(truth.announcement(), all()));
            assert!(refuses(&node.sends(&liar), truth.id()));
            let is_charged = matches!(actions[..], [Action::Needless { peer }] if peer == liar);
            assert!(is_charged == (number == CodedConfig::default().introduce_burst));
        }
    }
}

#[test]
fn no_node_vouches_for_what_it_has_not_checked() {
    let [liar, victim] = peers();
    let mut node = node(&[liar, victim]);
    let (announcement, chunks) = false_coding(&block(2000), 0);
    node.receive(liar, announce(&announcement, all()));
    for chunk in chunks {
        node.receive(liar, Frame::Chunk(chunk));
    }
    let actions = node
        .core
        .header_checked(announcement.id(), Verdict::Accept, node.now);
    assert!(matches!(actions[..], [Action::Reconstruct(_)]));
    for frame in node.sends(&victim) {
        if let Frame::Announce(it) = frame {
            assert_eq!(it.have.len(), 32);
        }
    }
}

#[test]
fn a_block_of_another_size_or_identity_is_the_announcers_affair() {
    let [liar, honest] = peers();
    let mut node = node(&[liar, honest]);
    let truth = block(2047);
    // The same chunks, said to be of a block that is a zero longer.
    let padded = [&truth.block()[..], &[0]].concat();
    let name = truth.announcement().block().clone();
    let false_size =
        Encoded::of(name, Bytes::from_static(b"header"), padded.into()).expect("a block");
    assert_eq!(
        false_size.announcement().root(),
        truth.announcement().root()
    );
    assert_ne!(false_size.id(), truth.id());
    node.learn(liar, false_size.announcement(), all());
    node.receive(
        honest,
        announce(false_size.announcement(), ChunkSet::first(3)),
    );
    let mut actions = Vec::new();
    for index in 0..32 {
        actions.extend(node.receive(liar, chunk(&false_size, index)));
    }
    let actions = node.decodes(actions);
    assert!(matches!(actions[..], [Action::CheckBlock { .. }]));
    let actions = node
        .core
        .block_checked(false_size.id(), Verdict::Reject, node.now);
    assert_eq!(paid(&actions), [(liar, Misdeed::InvalidItem)]);
    assert_eq!(abandoned(&actions), Some(Abandonment::Rejected));
    // Its true broadcast still has a place.
    let actions = node.receive(honest, announce(truth.announcement(), all()));
    assert!(matches!(actions[..], [Action::CheckHeader { .. }]));
}

#[test]
fn a_wrong_header_costs_all_who_announced_it() {
    let [liar, accomplice, honest] = peers();
    let mut node = node(&[liar, accomplice, honest]);
    let block = block(2000);
    node.receive(liar, announce(block.announcement(), all()));
    node.receive(accomplice, announce(block.announcement(), all()));
    let actions = node
        .core
        .header_checked(block.id(), Verdict::Reject, node.now);
    let mut paid = paid(&actions);
    paid.sort_by_key(|it| it.0);
    let mut both = [liar, accomplice].map(|peer| (peer, Misdeed::InvalidItem));
    both.sort_by_key(|it| it.0);
    assert_eq!(paid, both);
    assert!(node.sends(&honest).is_empty());
}

#[test]
fn an_announcement_that_is_never_served_costs_its_announcer() {
    let [miser, honest] = peers();
    let mut node = node(&[miser, honest]);
    let block = block(2000);
    node.learn(miser, block.announcement(), all());
    node.receive(honest, announce(block.announcement(), ChunkSet::EMPTY));
    let mut asked = ChunkSet::EMPTY;
    for _ in 0..30 {
        asked = asked | node.wants(&miser);
        assert!(paid(&node.wait(Duration::from_millis(100))).is_empty());
    }
    assert_eq!(asked.len(), 8, "it is asked for no more than a window");
    let actions = node.wait(Duration::from_secs(2));
    assert_eq!(paid(&actions), [(miser, Misdeed::NoAnswer)]);
    assert_eq!(abandoned(&actions), Some(Abandonment::Stuck));
    assert_eq!(node.core.next_time(), None, "nothing is left");
}

#[test]
fn whose_chunks_were_not_read_here_was_not_silent() {
    let time = Duration::from_millis(400);
    for (is_heard, blamed) in [(true, 1), (false, 0)] {
        let [peer] = peers();
        let mut node = node(&[peer]);
        node.learn(peer, block(2000).announcement(), all());
        node.sends(&peer);
        let mut paid_by = Vec::new();
        while node.core.next_time().is_some() {
            paid_by.extend(paid(&node.wait(time)));
            if !is_heard {
                node.core.unheard(&peer, time, node.now);
            }
        }
        assert_eq!(paid_by.len(), blamed);
    }
}

#[test]
fn a_broadcast_is_not_given_up_for_what_was_not_read_here_meanwhile() {
    let [peer] = peers();
    let mut node = node(&[peer]);
    let block = block(2000);
    node.learn(peer, block.announcement(), all());
    let time = Duration::from_secs(5);
    node.now += time;
    node.core.unheard(&peer, time, node.now);
    let actions = node.core.on_time(node.now);
    assert!(paid(&actions).is_empty() && abandoned(&actions).is_none());
    let mut actions = Vec::new();
    while actions.is_empty() {
        let wants = node.wants(&peer);
        assert!(!wants.is_empty(), "it is asked for all");
        for index in wants.iter() {
            actions.extend(node.receive(peer, chunk(&block, index)));
        }
    }
    assert!(matches!(actions[..], [Action::Reconstruct(_)]));
}

#[test]
fn what_a_silent_peer_does_not_send_is_asked_of_others() {
    let [miser, honest] = peers();
    let mut node = node(&[miser, honest]);
    let block = block(2000);
    node.learn(miser, block.announcement(), all());
    let wanted = node.wants(&miser);
    node.receive(honest, announce(block.announcement(), wanted));
    assert!((node.wants(&honest) & wanted).is_empty());
    node.wait(Duration::from_millis(501));
    assert_eq!(node.wants(&honest), wanted);
    assert!((node.wants(&miser) & wanted).is_empty());
    // It comes late: still good, and nobody pays.
    for index in wanted.iter() {
        assert!(paid(&node.receive(miser, chunk(&block, index))).is_empty());
    }
    assert!(node.wants(&honest).is_empty(), "cancelled");
}

#[test]
fn a_peer_that_leaves_a_broadcast_is_asked_no_more() {
    let [leaver, other] = peers();
    let mut node = node(&[leaver, other]);
    let block = block(2000);
    node.learn(leaver, block.announcement(), all());
    let wanted = node.wants(&leaver);
    node.receive(other, announce(block.announcement(), all()));
    assert!((node.wants(&other) & wanted).is_empty());
    let gone = Status {
        broadcast: block.id(),
        have: ChunkSet::EMPTY,
        want: ChunkSet::EMPTY,
        done: true,
    };
    node.receive(leaver, Frame::Status(gone));
    for index in 0..32 {
        node.receive(other, chunk(&block, index));
    }
    assert!(node.wants(&leaver).is_empty());
    assert!(paid(&node.wait(Duration::from_secs(40))).is_empty());
}

/// A node in between pushes them before it has heard of the peer.
#[test]
fn chunks_that_are_pushed_anew_over_other_streams_are_no_crime() {
    let [source, between, end] = peers();
    let block = block(2000);
    for both_move in [true, false] {
        let (mut middle, mut last) = (node(&[source, end]), node(&[between]));
        middle.learn(source, block.announcement(), all());
        for index in 0..8 {
            let mut chunk = block.chunk(index).expect("a chunk");
            chunk.spread = true;
            middle.receive(source, Frame::Chunk(chunk));
        }
        let pushed = middle.sends(&end);
        assert!(matches!(pushed[..], [Frame::Announce(_), ..]));
        assert_eq!(pushed.len(), 9);
        for frame in pushed.clone() {
            assert!(paid(&last.receive(between, frame)).is_empty());
        }
        let id = block.id();
        last.core.header_checked(id, Verdict::Accept, last.now);
        // What is under way is lost.
        last.sends(&between);
        middle.core.peer_gone(&end, middle.now);
        middle.core.peer_joined(end, middle.now);
        if both_move {
            last.core.peer_gone(&between, last.now);
            last.core.peer_joined(between, last.now);
        }
        let mut actions = Vec::new();
        let anew = middle.sends(&end);
        assert_eq!(anew, pushed);
        for frame in anew {
            actions.extend(last.receive(between, frame));
        }
        let time = Duration::from_millis(100);
        for _ in 0..30 {
            for index in middle.wants(&source).iter() {
                middle.receive(source, chunk(&block, index));
            }
            for frame in middle.sends(&end) {
                actions.extend(last.receive(between, frame));
            }
            for frame in last.sends(&between) {
                middle.receive(end, frame);
            }
            middle.wait(time);
            actions.extend(last.wait(time));
        }
        // Of who has not moved yet it looks like one: such a one is excused where streams are moved, in the lanes.
        let paid = paid(&actions);
        assert_eq!(paid.len(), if both_move { 0 } else { 8 });
        assert!(paid.iter().all(|it| it.1 == Misdeed::InvalidMessage));
        let is_whole = |action: &Action| matches!(action, Action::Reconstruct(_));
        assert!(actions.iter().any(is_whole), "it has all the same");
    }
}

#[test]
fn whose_chunk_gave_way_to_others_pays_nothing_and_others_are_asked() {
    let [slow, honest] = peers();
    let block = block(2000);
    let mut node = node(&[slow, honest]);
    node.learn(slow, block.announcement(), all());
    assert!(
        !node.core.skipped(&honest, node.now),
        "it was asked for none"
    );
    node.receive(honest, announce(block.announcement(), all()));
    assert!(node.core.skipped(&slow, node.now));
    let mut actions = Vec::new();
    while actions.is_empty() {
        let wants = node.wants(&honest);
        assert!(!wants.is_empty(), "it is asked for all");
        for index in wants.iter() {
            actions.extend(node.receive(honest, chunk(&block, index)));
        }
    }
    assert!(matches!(actions[..], [Action::Reconstruct(_)]));
    // Where nobody else has any.
    for (is_lost, blamed) in [(false, 1), (true, 0)] {
        let mut node = self::node(&[slow]);
        node.learn(slow, block.announcement(), all());
        node.sends(&slow);
        if is_lost {
            node.core.skipped(&slow, node.now);
        }
        let actions = node.wait(Duration::from_secs(60));
        assert_eq!(abandoned(&actions), Some(Abandonment::Stuck));
        assert_eq!(paid(&actions).len(), blamed);
    }
}

#[test]
fn nobody_is_late_with_chunks_that_it_was_not_asked_for_yet() {
    let [alice] = peers();
    let mut node = node(&[alice]);
    let block = block(2000);
    let config = CodedConfig::default();
    node.learn(alice, block.announcement(), all());
    // What it is told stands behind a block that it reads.
    let actions = node.wait(config.give_up_after * 2);
    assert!(actions.is_empty(), "{actions:?}");
    assert!(!node.wants(&alice).is_empty());
    let actions = node.wait(config.give_up_after);
    assert_eq!(paid(&actions), [(alice, Misdeed::NoAnswer)]);
    assert_eq!(abandoned(&actions), Some(Abandonment::Stuck));
}

#[test]
fn who_could_not_be_told_is_asked_for_no_less_when_it_can_be_and_others_meanwhile() {
    let patience = CodedConfig::default().patience;
    let block = block(4000);
    let [alone, unread, other] = peers();
    let mut node = node(&[alone]);
    node.learn(alone, block.announcement(), all_of(&block));
    node.wait(patience);
    assert!(node.wants(&alone).len() > 1);
    let mut node = self::node(&[unread, other]);
    node.learn(unread, block.announcement(), all_of(&block));
    node.receive(other, announce(block.announcement(), all_of(&block)));
    let wanted = node.wants(&other);
    node.wait(patience / 2);
    for index in wanted.iter() {
        node.receive(other, chunk(&block, index));
    }
    assert!(!node.wants(&other).is_empty());
    node.wait(patience / 2);
    assert!(node.wants(&unread).is_empty(), "it has shown nothing");
}

#[test]
fn who_sent_all_that_it_was_told_of_is_not_late_with_what_it_was_not_told_yet() {
    let config = CodedConfig::default();
    let block = block(4000);
    // As long as is waited for a chunk, and for a broadcast.
    for time in [config.patience, config.give_up_after * 2] {
        let [alone] = peers();
        let mut node = node(&[alone]);
        node.learn(alone, block.announcement(), all_of(&block));
        let told = node.wants(&alone);
        assert!(!told.is_empty());
        for index in told.iter() {
            node.receive(alone, chunk(&block, index));
        }
        // What else it is wanted stands behind a block that it reads.
        let actions = node.wait(time);
        assert!(actions.is_empty(), "{actions:?}");
        assert!(node.wants(&alone).len() > 1, "it has let nobody wait");
    }
}

#[test]
fn who_is_silent_gains_no_time_by_reading_no_more() {
    let [miser, other] = peers();
    let mut node = node(&[miser, other]);
    let block = block(2000);
    let config = CodedConfig::default();
    node.learn(miser, block.announcement(), all());
    let told = node.wants(&miser);
    node.wait(config.patience);
    // What it was told of comes from elsewhere, and of what it is asked for now it can't be told.
    node.receive(other, announce(block.announcement(), ChunkSet::EMPTY));
    for index in told.iter() {
        node.receive(other, chunk(&block, index));
    }
    let actions = node.wait(config.give_up_after);
    assert_eq!(paid(&actions), [(miser, Misdeed::NoAnswer)]);
    assert_eq!(abandoned(&actions), Some(Abandonment::Stuck));
}

#[test]
fn whose_chunk_was_lost_here_is_asked_for_no_less_from_then_on() {
    let [peer] = peers();
    let mut node = node(&[peer]);
    node.learn(peer, block(4000).announcement(), all());
    node.sends(&peer);
    assert!(node.core.skipped(&peer, node.now));
    node.sends(&peer);
    // It does not come again.
    node.wait(CodedConfig::default().patience);
    let next = block(4001);
    node.learn(peer, next.announcement(), all_of(&next));
    assert!(node.wants(&peer).len() > 1);
}

#[test]
fn who_reads_nothing_holds_a_broadcast_no_longer_than_one_may_last() {
    let [alice] = peers();
    let mut node = node(&[alice]);
    node.learn(alice, block(2000).announcement(), all());
    let actions = node.wait(CodedConfig::default().lifetime);
    assert_eq!(abandoned(&actions), Some(Abandonment::Stuck));
    assert!(paid(&actions).is_empty(), "it was not asked");
}

#[test]
fn who_has_moved_may_send_a_chunk_twice_and_it_costs_no_reputation() {
    let [alice] = peers();
    let mut node = node(&[alice]);
    let block = block(2000);
    node.learn(alice, block.announcement(), all());
    for has_moved in [true, false] {
        node.core.peer_gone(&alice, node.now);
        node.core.peer_joined(alice, node.now);
        if has_moved {
            node.core.peer_moved(&alice);
        }
        node.receive(alice, chunk(&block, 1));
        let again = node.receive(alice, chunk(&block, 1));
        if has_moved {
            assert!(matches!(again[..], [Action::Needless { peer }] if peer == alice));
        } else {
            assert_eq!(paid(&again), [(alice, Misdeed::InvalidMessage)]);
        }
        node.receive(alice, announce(block.announcement(), all()));
    }
}
