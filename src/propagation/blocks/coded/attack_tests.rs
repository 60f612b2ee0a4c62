//! What bad peers can do to one node, and what it costs whom.

use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;

use super::encoding::lie;
use super::*;
use crate::chain::{ItemId, Verdict};
use crate::peers::Misdeed;
use crate::platform::{Instant, test};

/// A node with some peers, of which the test plays each.
struct Node {
    core: Broadcasts,
    now: Instant,
}

fn node(peers: &[PeerId]) -> Node {
    node_with(CodedConfig::default(), peers)
}

fn node_with(config: CodedConfig, peers: &[PeerId]) -> Node {
    let now = crate::platform::now();
    let mut core = Broadcasts::new(config, [3; 16]);
    for peer in peers {
        core.peer_joined(*peer, now);
    }
    Node { core, now }
}

fn peers<const N: usize>() -> [PeerId; N] {
    [(); N].map(|()| PeerId::random())
}

fn block(size: usize) -> Encoded {
    let bytes: Vec<u8> = (0..size).map(|i| (i * 7 % 251) as u8).collect();
    Encoded::of(
        ItemId::sha256(&bytes),
        Bytes::from_static(b"header"),
        &bytes,
    )
    .expect("a block")
}

/// Another announcement of the same block, with chunks that are no encoding.
fn false_coding(block: &Encoded, salt: u8) -> (Announcement, Vec<Chunk>) {
    let chunks: Vec<_> = (0..64).map(|i| vec![i ^ salt; 64]).collect();
    lie(block.announcement().block().clone(), 2048, &chunks)
}

fn all() -> ChunkSet {
    ChunkSet::first(64)
}

fn all_of(block: &Encoded) -> ChunkSet {
    ChunkSet::first(block.announcement().shape().chunks())
}

fn announce(announcement: &Announcement, have: ChunkSet) -> Frame {
    Frame::Announce(Announce {
        announcement: announcement.clone(),
        have,
    })
}

fn chunk(block: &Encoded, index: u8) -> Frame {
    Frame::Chunk(block.chunk(index).expect("a chunk"))
}

/// Who pays for what.
fn paid(actions: &[Action]) -> Vec<(PeerId, Misdeed)> {
    let paid = actions.iter().filter_map(|action| match action {
        Action::Misdeed { peer, misdeed, .. } => Some((*peer, *misdeed)),
        _ => None,
    });
    paid.collect()
}

/// Whether a node says that it takes no part in a broadcast.
fn refuses(frames: &[Frame], id: BroadcastId) -> bool {
    frames.iter().any(|frame| {
        matches!(frame, Frame::Status(it) if it.broadcast == id && it.done && it.have.is_empty())
    })
}

fn abandoned(actions: &[Action]) -> Option<Abandonment> {
    actions.iter().find_map(|action| match action {
        Action::Abandoned { reason, .. } => Some(*reason),
        _ => None,
    })
}

impl Node {
    fn receive(&mut self, peer: PeerId, frame: Frame) -> Vec<Action> {
        self.core.receive(peer, frame, self.now)
    }

    /// A peer announces, and the chain takes the header.
    fn learn(&mut self, peer: PeerId, announcement: &Announcement, have: ChunkSet) -> Vec<Action> {
        let mut actions = self.receive(peer, announce(announcement, have));
        let id = announcement.id();
        actions.extend(self.core.header_checked(id, Verdict::Accept, self.now));
        actions
    }

    /// What the node has to say to a peer.
    fn sends(&mut self, peer: &PeerId) -> Vec<Frame> {
        std::iter::from_fn(|| self.core.next(peer, MAX_FRAME)).collect()
    }

    /// The chunks that the node wants of a peer, by the last it says to it.
    fn wants(&mut self, peer: &PeerId) -> ChunkSet {
        let frames = self.sends(peer).into_iter().rev();
        let mut wants = frames.filter_map(|frame| match frame {
            Frame::Status(status) => Some(status.want),
            _ => None,
        });
        wants.next().unwrap_or_default()
    }

    fn wait(&mut self, time: Duration) -> Vec<Action> {
        let end = self.now + time;
        let mut actions = Vec::new();
        while let Some(at) = self.core.next_time().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            actions.extend(self.core.on_time(self.now));
        }
        self.now = end;
        actions
    }

    /// Runs what is to be decoded.
    fn decodes(&mut self, actions: Vec<Action>) -> Vec<Action> {
        let mut all = Vec::new();
        for action in actions {
            match action {
                Action::Reconstruct(it) => {
                    all.extend(self.core.reconstructed(it.run(), self.now));
                }
                other => all.push(other),
            }
        }
        all
    }
}

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
            assert!(matches!(actions[..], [Action::TooSoon { peer }] if peer == doubted));
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
            let is_charged = matches!(actions[..], [Action::TooSoon { peer }] if peer == liar);
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
    let false_size = Encoded::of(name, Bytes::from_static(b"header"), &padded).expect("a block");
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

#[test]
fn a_flood_of_announcements_is_refused_and_costs_no_checks() {
    let [flooder, honest] = peers();
    let mut node = node(&[flooder, honest]);
    let mut checks = 0;
    for number in 0..200u32 {
        let bytes = number.to_le_bytes();
        let block = Encoded::of(ItemId::sha256(&bytes), Bytes::new(), &bytes).expect("a block");
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
        let bytes = number.to_le_bytes();
        let block = Encoded::of(ItemId::sha256(&bytes), Bytes::new(), &bytes).expect("a block");
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
    assert_eq!(node.core.next(&slow, 0), None);
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
fn strangers_and_surplus_peers_are_ignored() {
    let [one, two] = peers();
    let config = CodedConfig {
        max_peers: 1,
        ..CodedConfig::default()
    };
    let mut node = node_with(config, &[one, two]);
    let block = block(2000);
    assert!(
        node.receive(two, announce(block.announcement(), all()))
            .is_empty()
    );
    assert_eq!(node.core.next(&two, MAX_FRAME), None);
    assert_eq!(
        node.receive(one, announce(block.announcement(), all()))
            .len(),
        1
    );
    node.core.peer_gone(&one, node.now);
    assert!(node.receive(one, chunk(&block, 0)).is_empty());
}
