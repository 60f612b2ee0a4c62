//! Giving snapshots to peers that ask for too much, read nothing, or ask for what is not there.

use std::{sync::Arc, time::Duration};

use libp2p::PeerId;
use proptest::prelude::*;

use super::{
    Bitmap, LoadError, Loaded, Message, Part, Reason, Refusal, Request, Serving, ServingAction,
    ServingConfig,
    simulation::{Content, offer},
};
use crate::{
    chain::{SNAPSHOT_GROUP, SnapshotId},
    peers::Misdeed,
    platform::{Instant, test},
};

const CHUNK: usize = 4 * SNAPSHOT_GROUP;

/// A node that serves one snapshot of forty chunks with four groups each.
struct Node {
    serving: Serving,
    content: Arc<Content>,
    now: Instant,
    /// What the application was asked for and has not given.
    loads: Vec<Part>,
    surcharges: Vec<(PeerId, usize)>,
    misdeeds: Vec<(PeerId, Misdeed)>,
    damaged: usize,
}

impl Node {
    fn new(config: ServingConfig) -> Self {
        let content = Content::new(9, CHUNK, 40 * CHUNK, 1);
        let mut serving = Serving::new(config);
        serving.offer([offer(&content, None)]);
        Self {
            serving,
            content,
            now: crate::platform::now(),
            loads: Vec::new(),
            surcharges: Vec::new(),
            misdeeds: Vec::new(),
            damaged: 0,
        }
    }

    /// One that has joined and read what is offered.
    fn peer(&mut self) -> PeerId {
        let peer = PeerId::random();
        self.serving.joined(peer);
        let offers = self.serving.next(&peer, 1 << 20, self.now);
        assert!(matches!(offers, Some(Message::Offers(_))));
        peer
    }

    fn id(&self) -> SnapshotId {
        self.content.snapshot.id()
    }

    fn asks(&mut self, peer: PeerId, number: u32, part: Part) {
        let request = Request {
            number,
            snapshot: self.id(),
            part,
            first: 0,
            end: if part == Part::Hashes { 1 } else { 4 },
            values: true,
        };
        self.serving.request(peer, request, self.now);
        self.act();
    }

    fn act(&mut self) {
        while let Some(action) = self.serving.action() {
            match action {
                ServingAction::Load { part, .. } => self.loads.push(part),
                ServingAction::Feed(_) => {}
                ServingAction::Surcharge(peer, bytes) => self.surcharges.push((peer, bytes)),
                ServingAction::Misdeed { peer, misdeed, .. } => self.misdeeds.push((peer, misdeed)),
                ServingAction::Damaged(_) => self.damaged += 1,
            }
        }
    }

    /// The application gives all that it was asked for.
    fn load(&mut self) {
        while let Some(part) = self.loads.pop() {
            let (bytes, hash) = match part {
                Part::Hashes => (self.content.hashes.clone(), self.content.snapshot.root),
                Part::Chunk(index) => {
                    let chunk = self.content.chunks[index as usize].clone();
                    let hash = *blake3::hash(&chunk).as_bytes();
                    (chunk, hash)
                }
            };
            let loaded = Loaded::of(Some(bytes), &hash);
            self.serving.loaded(self.id(), part, loaded, self.now);
            self.act();
        }
    }

    fn reads(&mut self, peer: &PeerId) -> Option<Message> {
        let message = self.serving.next(peer, 2 * SNAPSHOT_GROUP, self.now);
        self.act();
        message
    }

    fn refusal(&mut self, peer: &PeerId) -> Option<(u32, Reason)> {
        match self.reads(peer) {
            Some(Message::Refusal(Refusal { number, reason })) => Some((number, reason)),
            None => None,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_chunk_comes_in_pieces_after_the_hashes_were_read_once() {
    let mut node = Node::new(ServingConfig::default());
    let [one, other] = [node.peer(), node.peer()];
    node.asks(one, 1, Part::Chunk(3));
    node.asks(other, 8, Part::Chunk(3));
    assert_eq!(node.loads, [Part::Hashes]);
    node.load();
    assert_eq!(node.loads, []);
    for (peer, number) in [(one, 1), (other, 8)] {
        let mut bytes = Vec::new();
        for place in 0..2 {
            let Some(Message::Piece(piece)) = node.reads(&peer) else {
                panic!("no piece");
            };
            assert_eq!((piece.number, piece.first), (number, place * 2));
            assert_eq!(piece.values.len(), if place == 0 { 4 } else { 0 });
            bytes.extend_from_slice(&piece.data);
        }
        assert_eq!(bytes, node.content.chunks[3]);
        assert_eq!(node.reads(&peer), None);
    }
    assert_eq!(node.serving.bytes_held(), 0);
    assert_eq!((node.surcharges.len(), node.misdeeds.len()), (0, 0));
    // The hashes are here now.
    node.asks(one, 2, Part::Hashes);
    assert_eq!(node.loads, []);
    assert!(
        matches!(node.reads(&one), Some(Message::Piece(piece)) if piece.data == node.content.hashes)
    );
    assert!(node.serving.in_use(&node.id(), node.now));
    assert!(
        !node
            .serving
            .in_use(&node.id(), node.now + Duration::from_secs(60))
    );
}

#[test]
fn who_asks_for_much_is_refused_and_holds_up_nobody() {
    let config = ServingConfig {
        max_requests: 10,
        max_bytes: 8 * CHUNK,
        ..ServingConfig::default()
    };
    let mut node = Node::new(config);
    let greedy = node.peer();
    for number in 0..30 {
        node.asks(greedy, number, Part::Chunk(number));
    }
    node.load();
    let modest = node.peer();
    node.asks(modest, 1, Part::Chunk(39));
    node.load();
    assert!(matches!(node.reads(&modest), Some(Message::Piece(_))));
    for number in 10..30 {
        assert_eq!(node.refusal(&greedy), Some((number, Reason::Busy)));
    }
    assert!(node.serving.bytes_held() <= 3 * CHUNK);
    assert_eq!(node.misdeeds, []);
    // Refusals that nobody reads have an end too.
    for number in 100..130 {
        node.asks(greedy, number, Part::Chunk(1));
    }
    assert_eq!(node.misdeeds.len(), 10);
}

#[test]
fn who_reads_nothing_loses_what_was_loaded_for_it() {
    let config = ServingConfig {
        max_bytes: 4 * CHUNK,
        ..ServingConfig::default()
    };
    let mut node = Node::new(config.clone());
    for number in 0..2 {
        let silent = node.peer();
        node.asks(silent, 1, Part::Chunk(number * 2));
        node.asks(silent, 2, Part::Chunk(number * 2 + 1));
        node.load();
    }
    assert_eq!(
        node.serving.next_deadline(),
        Some(node.now + config.patience)
    );
    let peer = node.peer();
    node.asks(peer, 1, Part::Chunk(9));
    node.load();
    assert_eq!(node.reads(&peer), None, "there is no room");
    // It is told so before it takes that for silence.
    let second = Duration::from_secs(1);
    assert_eq!(node.serving.next_deadline(), Some(node.now + second));
    node.now += second;
    node.serving.on_time(node.now);
    assert_eq!(node.refusal(&peer), Some((1, Reason::Busy)));
    node.now += config.patience - second;
    node.serving.on_time(node.now);
    node.act();
    node.asks(peer, 2, Part::Chunk(9));
    node.load();
    assert!(matches!(node.reads(&peer), Some(Message::Piece(_))));
    assert_eq!(node.surcharges.len(), 4, "{:?}", node.surcharges);
}

#[test]
fn who_reads_a_group_now_and_then_loses_what_was_loaded_for_it() {
    let mut node = Node::new(ServingConfig::default());
    let slow = node.peer();
    node.asks(slow, 1, Part::Chunk(0));
    node.load();
    for _ in 0..2 {
        node.now += Duration::from_secs(19);
        node.serving.on_time(node.now);
        let message = node.serving.next(&slow, SNAPSHOT_GROUP, node.now);
        node.act();
        if node.serving.bytes_held() == 0 {
            let refusal = Refusal {
                number: 1,
                reason: Reason::Busy,
            };
            return assert_eq!(message, Some(Message::Refusal(refusal)));
        }
    }
    panic!("it holds the room");
}

#[test]
fn who_reads_slowly_gives_its_room_to_who_waits_for_it() {
    let config = ServingConfig {
        max_bytes: 3 * CHUNK,
        ..ServingConfig::default()
    };
    let mut node = Node::new(config);
    // The hashes are read once, and held by nobody then.
    let peers = [(); 4].map(|()| node.peer());
    let [silent, slow, steady, eager] = peers;
    for (number, peer) in [silent, slow, steady].into_iter().enumerate() {
        node.asks(peer, 1, Part::Chunk(number as u32));
        node.load();
    }
    let second = Duration::from_secs(1);
    for step in 0..5 {
        node.now += second;
        node.serving.on_time(node.now);
        node.act();
        // 16 KiB in two seconds, and a whole chunk in each.
        if step % 2 == 0 {
            node.serving.next(&slow, SNAPSHOT_GROUP, node.now);
        }
        while node.reads(&steady).is_some() {}
        node.asks(steady, 2 + step, Part::Chunk(10 + step));
        node.load();
    }
    // As long as nobody wants their room they stay.
    assert_eq!(
        (node.serving.bytes_held(), &node.surcharges[..]),
        (3 * CHUNK, &[][..])
    );
    node.asks(eager, 1, Part::Chunk(20));
    node.asks(eager, 2, Part::Chunk(21));
    node.load();
    let now = node.now;
    assert!(node.serving.next_deadline() <= Some(now), "at once");
    node.serving.on_time(now);
    node.act();
    node.load();
    for slow in [silent, slow] {
        assert_eq!(node.refusal(&slow), Some((1, Reason::Busy)));
    }
    assert!(matches!(node.reads(&eager), Some(Message::Piece(_))));
    assert!(matches!(node.reads(&steady), Some(Message::Piece(_))));
}

#[test]
fn what_was_asked_for_before_streams_moved_is_not_refused_on_others() {
    let mut node = Node::new(ServingConfig::default());
    let peer = node.peer();
    node.asks(peer, 1, Part::Chunk(0));
    node.load();
    node.serving.moved(&peer);
    assert!(matches!(node.reads(&peer), Some(Message::Offers(_))));
    assert_eq!(node.reads(&peer), None);
    assert_eq!(node.serving.bytes_held(), 0);
}

#[test]
fn a_request_costs_a_whole_chunk_whatever_is_read_of_it() {
    let mut node = Node::new(ServingConfig::default());
    let peer = node.peer();
    node.asks(peer, 1, Part::Chunk(0));
    node.load();
    assert!(node.reads(&peer).is_some());
    node.serving.cancel(peer, 1);
    node.act();
    assert_eq!(node.surcharges, [(peer, CHUNK / 2)]);
    assert_eq!(node.refusal(&peer), Some((1, Reason::Cancelled)));
    assert_eq!(node.serving.bytes_held(), 0);
    node.serving.cancel(peer, 1);
    assert_eq!(node.reads(&peer), None, "of what is over nothing is said");
    // Cancelled while it is being read.
    node.asks(peer, 2, Part::Chunk(1));
    node.serving.cancel(peer, 2);
    node.load();
    assert_eq!(node.serving.bytes_held(), 0);
}

#[test]
fn impossible_requests_cost_and_what_is_not_here_does_not() {
    let mut node = Node::new(ServingConfig::default());
    let mut have = Bitmap::all(40);
    have.remove(7);
    let content = node.content.clone();
    node.serving.offer([offer(&content, Some(have))]);
    let peer = node.peer();
    node.asks(peer, 1, Part::Chunk(7));
    assert_eq!(node.refusal(&peer), Some((1, Reason::Missing)));
    node.asks(peer, 2, Part::Chunk(40));
    node.asks(peer, 3, Part::Chunk(3));
    node.asks(peer, 3, Part::Chunk(4));
    assert_eq!(node.misdeeds, [(peer, Misdeed::InvalidMessage); 2]);
    node.serving.offer([]);
    node.asks(peer, 4, Part::Chunk(0));
    assert_eq!(node.reads(&peer), Some(Message::Offers(Vec::new())));
    assert_eq!(node.refusal(&peer), Some((4, Reason::Gone)));
}

#[test]
fn what_peers_would_take_for_a_lie_is_not_offered() {
    let mut node = Node::new(ServingConfig::default());
    let content = node.content.clone();
    let same = Content::new(9, CHUNK, CHUNK, 2);
    let mut impossible = offer(&content, None);
    impossible.0.snapshot.size = 0;
    let all = [impossible, offer(&content, None), offer(&same, None)];
    node.serving.offer(all);
    let peer = PeerId::random();
    node.serving.joined(peer);
    let right = offer(&content, None).0;
    assert_eq!(node.reads(&peer), Some(Message::Offers(vec![right])));
    node.act();
    node.serving.offer([offer(&content, None)]);
    assert_eq!(node.reads(&peer), None, "nothing has changed");
}

#[test]
fn a_damaged_snapshot_is_told_as_our_error_and_not_sent() {
    let mut node = Node::new(ServingConfig::default());
    let peer = node.peer();
    node.asks(peer, 1, Part::Chunk(0));
    let hashes = Loaded::of(
        Some(node.content.hashes.clone()),
        &node.content.snapshot.root,
    );
    node.serving
        .loaded(node.id(), Part::Hashes, hashes, node.now);
    node.act();
    let wrong = Loaded::of(Some(vec![0; CHUNK].into()), &[1; 32]);
    assert_eq!(wrong, Err(LoadError::Damaged));
    node.serving
        .loaded(node.id(), Part::Chunk(0), wrong, node.now);
    node.act();
    assert_eq!((node.damaged, node.serving.bytes_held()), (1, 0));
    assert_eq!(node.reads(&peer), Some(Message::Offers(Vec::new())));
    assert_eq!(node.refusal(&peer), Some((1, Reason::Gone)));
    assert_eq!(node.misdeeds, []);
}

proptest! {
    #[test]
    fn whatever_peers_do_every_request_ends_and_nothing_is_held_then(
        steps in prop::collection::vec((0..4usize, 0..6u8, 0..45u32), 1..200),
    ) {
        let config = ServingConfig { max_requests: 6, max_bytes: 5 * CHUNK, max_peers: 3, ..ServingConfig::default() };
        let mut node = Node::new(config.clone());
        let peers = [(); 4].map(|()| PeerId::random());
        let mut number = 0u32;
        for (peer, step, chunk) in steps {
            let peer = peers[peer];
            match step {
                0 => node.serving.joined(peer),
                1 => node.serving.gone(&peer),
                2 => node.serving.cancel(peer, number.saturating_sub(chunk)),
                3 => drop(node.reads(&peer)),
                4 => {
                    node.now += Duration::from_secs(chunk.into());
                    node.serving.on_time(node.now);
                    node.act();
                    node.load();
                }
                _ => {
                    number += 1;
                    node.asks(peer, number, chunk.checked_sub(1).map_or(Part::Hashes, Part::Chunk));
                }
            }
            prop_assert!(node.serving.bytes_held() <= config.max_bytes);
        }
        node.act();
        node.load();
        for peer in &peers {
            while node.reads(peer).is_some() {
                node.load();
            }
            prop_assert_eq!(node.reads(peer), None);
        }
        prop_assert_eq!(node.serving.bytes_held(), 0);
    }
}
