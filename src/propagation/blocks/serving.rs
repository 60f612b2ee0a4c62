//! Parts of blocks that peers are sent, each as it reads.
//!
//! What waits for a peer are names ([`Part`]), and what goes out of the part whose turn it is has the size of the room in its stream. So who
//! asks for blocks and does not read has this node hold the kept blocks, which it does anyway, and nothing of its own: there is nothing
//! that peers would have to share, or could fill for others.
//!
//! A block may be kept no more while it is on its way. Who waits for its turn is told so; who is in the middle of it is sent the rest from a
//! block that is there for that alone. Of such there are [`MAX_LEFT`] bytes: of more, those that have read slowest since they began
//! are sent nothing any more, and since no frame can follow half a one their streams end when they read on.
//!
//! Bounds: the parts of the kept blocks, each once for a peer, and [`MAX_LEFT`]. To look who is slowest is linear in the peers that are
//! sent something, once for each block that goes.

use std::collections::{BTreeSet, HashMap, VecDeque};

use libp2p::PeerId;

use super::compact::{Part, Sending};
use crate::{chain::ItemId, lanes::Outgoing, platform::Instant, propagation::wire};

/// Bytes of blocks that are kept no more and that peers are being sent.
const MAX_LEFT: usize = 8 << 20;
/// However little room there is, a piece has so many bytes.
const LEAST_PIECE: usize = 16 << 10;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Serving {
    peers: HashMap<PeerId, Peer>,
}

#[derive(Debug, Default)]
struct Peer {
    now: Now,
    waiting: VecDeque<(ItemId, Part)>,
}

/// What a peer is being sent.
#[derive(Debug, Default)]
enum Now {
    #[default]
    Nothing,
    Part(UnderWay),
    /// Half of a frame, and no more.
    Half,
}

#[derive(Debug)]
struct UnderWay {
    sending: Sending,
    since: Instant,
    sent: usize,
}

/// What goes out next.
#[derive(Debug)]
pub(super) enum Next {
    /// Nothing waits.
    Nothing,
    /// A frame that can't go on: nothing may follow.
    Half,
    /// A block that was to be sent is not here any more.
    Gone(ItemId),
    /// Some of a frame.
    Piece(Outgoing),
}

impl Serving {
    /// A peer is sent this when all before it is.
    pub(super) fn push(&mut self, to: PeerId, block: ItemId, part: Part) {
        let peer = self.peers.entry(to).or_default();
        peer.waiting.push_back((block, part));
    }

    /// Whether a peer is being sent something.
    pub(super) fn serves(&self, peer: &PeerId) -> bool {
        self.peers.contains_key(peer)
    }

    /// The next bytes for a peer with so much room. `find` knows the blocks.
    pub(super) fn next(
        &mut self,
        to: &PeerId,
        room: usize,
        find: impl Fn(&ItemId, Part) -> Option<Sending>,
        now: Instant,
    ) -> Next {
        let Some(peer) = self.peers.get_mut(to) else {
            return Next::Nothing;
        };
        let mut head = Vec::new();
        let mut under_way = match std::mem::take(&mut peer.now) {
            Now::Half => {
                peer.now = Now::Half;
                return Next::Half;
            }
            Now::Part(under_way) => under_way,
            Now::Nothing => {
                let Some((block, part)) = peer.waiting.pop_front() else {
                    self.peers.remove(to);
                    return Next::Nothing;
                };
                let Some(sending) = find(&block, part) else {
                    return Next::Gone(block);
                };
                head = wire::head_of_block(sending.length());
                UnderWay {
                    sending,
                    since: now,
                    sent: 0,
                }
            }
        };
        let begins = !head.is_empty();
        let mut bytes = head;
        bytes.extend(under_way.sending.piece(room.max(LEAST_PIECE)));
        under_way.sent += bytes.len();
        let is_over = under_way.sending.is_over();
        if !is_over {
            peer.now = Now::Part(under_way);
        } else if peer.waiting.is_empty() {
            self.peers.remove(to);
        }
        Next::Piece(Outgoing {
            bytes: bytes.into(),
            frames: usize::from(is_over),
            items: usize::from(begins),
            payload: 0,
        })
    }

    /// A block is kept no more: who waited for some of it, to be told so.
    pub(super) fn gone(&mut self, block: &ItemId) -> Vec<PeerId> {
        let mut disappointed = Vec::new();
        for (id, peer) in &mut self.peers {
            let before = peer.waiting.len();
            peer.waiting.retain(|(waits, _)| waits != block);
            if peer.waiting.len() < before {
                disappointed.push(*id);
            }
        }
        disappointed
    }

    /// A peer has a block, or wants nothing more of it: it is sent no part of it that has not begun.
    pub(super) fn settled(&mut self, peer: &PeerId, block: &ItemId) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.waiting.retain(|(waits, _)| waits != block);
        }
    }

    /// Whether a frame has begun for a peer and goes on.
    pub(super) fn is_half_way(&self, peer: &PeerId) -> bool {
        let peer = self.peers.get(peer);
        peer.is_some_and(|peer| !matches!(peer.now, Now::Nothing))
    }

    /// A peer is gone, or is met anew.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.peers.remove(peer);
    }

    /// The slowest lose what is kept for them alone, as far as that is too much, and what waits for them: once for each part, who it is.
    pub(super) fn let_go(&mut self, now: Instant) -> Vec<PeerId> {
        let mut lost = Vec::new();
        let mut holders: HashMap<usize, usize> = HashMap::new();
        for (_, under_way) in self.under_way() {
            *holders.entry(under_way.sending.holds().0).or_default() += 1;
        }
        let mut left = HashMap::new();
        let mut slowest = BTreeSet::new();
        for (peer, under_way) in self.under_way() {
            let (served, weight) = under_way.sending.holds();
            let count = holders.get(&served).copied().unwrap_or_default();
            if under_way.sending.is_held_by(count) {
                left.insert(served, (count, weight));
                slowest.insert((under_way.pace(now), *peer, served));
            }
        }
        let mut bytes: usize = left.values().map(|(_, weight)| weight).sum();
        for (_, id, served) in slowest {
            if bytes <= MAX_LEFT {
                break;
            }
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.now = Now::Half;
                lost.extend(std::iter::repeat_n(id, 1 + peer.waiting.len()));
                peer.waiting.clear();
            }
            if let Some((count, weight)) = left.get_mut(&served) {
                *count -= 1;
                bytes -= if *count == 0 { *weight } else { 0 };
            }
        }
        lost
    }

    fn under_way(&self) -> impl Iterator<Item = (&PeerId, &UnderWay)> {
        self.peers.iter().filter_map(|(id, peer)| match &peer.now {
            Now::Part(under_way) => Some((id, under_way)),
            _ => None,
        })
    }
}

impl UnderWay {
    /// Bytes in a second that its peer has read, about.
    fn pace(&self, now: Instant) -> u128 {
        let micros = now.saturating_duration_since(self.since).as_micros();
        self.sent as u128 * 1_000_000 / micros.max(1)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{HashMap, HashSet},
        time::Duration,
    };

    use proptest::prelude::*;

    use super::*;
    use crate::{
        chain::Block,
        platform::test,
        propagation::blocks::compact::{Action, CompactBlocks, CompactConfig, choose},
    };

    const SIZE: usize = 4 << 20;
    const ROOM: usize = crate::lanes::BLOCK_ROOM;
    const SECOND: Duration = Duration::from_secs(1);

    /// Blocks that are kept, and who is sent some of them.
    struct Node {
        blocks: CompactBlocks,
        serving: Serving,
        now: Instant,
        made: u8,
        /// Who was told that a block is not here any more.
        disappointed: Vec<PeerId>,
        /// Who lost a part, once for each.
        lost: Vec<PeerId>,
    }

    impl Node {
        fn new() -> Self {
            let config = CompactConfig::default();
            Self {
                blocks: CompactBlocks::new(config, [7; 16], choose),
                serving: Serving::default(),
                now: crate::platform::now(),
                made: 0,
                disappointed: Vec::new(),
                lost: Vec::new(),
            }
        }

        /// A new block of so many bytes, for which old ones may have to go.
        fn make(&mut self, size: usize) -> ItemId {
            self.made += 1;
            let data = vec![self.made; size];
            let (id, block) = (ItemId::sha256(&data), Block::new(data));
            let (now, made) = (self.now, id.clone());
            for action in self.blocks.accepted(made, block, None, 0, None, now) {
                if let Action::Gone(block) = action {
                    self.disappointed.extend(self.serving.gone(&block));
                    self.lost.extend(self.serving.let_go(now));
                }
            }
            id
        }

        fn next(&mut self, to: &PeerId, room: usize) -> Next {
            let find = |id: &ItemId, part| self.blocks.serve(id, part);
            self.serving.next(to, room, find, self.now)
        }

        fn asks(&mut self, peer: PeerId, block: &ItemId) {
            self.serving.push(peer, block.clone(), Part::Whole);
        }

        /// Bytes that a peer is sent in so much room, and whether a frame ends with them.
        fn reads(&mut self, peer: &PeerId, room: usize) -> (usize, bool) {
            match self.next(peer, room) {
                Next::Piece(outgoing) => (outgoing.bytes.len(), outgoing.frames > 0),
                other => panic!("{other:?}"),
            }
        }

        /// Bytes of blocks that are kept for who is sent them alone.
        fn left(&self) -> usize {
            let mut holders: HashMap<_, Vec<_>> = HashMap::new();
            for (_, under_way) in self.serving.under_way() {
                let (served, _) = under_way.sending.holds();
                holders.entry(served).or_default().push(&under_way.sending);
            }
            let alone = holders.values().filter(|all| all[0].is_held_by(all.len()));
            alone.map(|all| all[0].holds().1).sum()
        }
    }

    #[test]
    fn forty_that_read_nothing_hold_little_and_who_reads_slowly_gets_its_block() {
        let mut node = Node::new();
        let slow = PeerId::random();
        let block = node.make(SIZE);
        node.asks(slow, &block);
        let mut came = node.reads(&slow, ROOM).0;
        for _ in 0..40 {
            // Each holds a block that none of the others does.
            let block = node.make(SIZE);
            let unread = PeerId::random();
            node.asks(unread, &block);
            let (sent, is_over) = node.reads(&unread, ROOM);
            assert!(!is_over && sent <= ROOM + 100, "{sent}");
            for _ in 0..3 {
                node.now += SECOND / 2;
                came += node.reads(&slow, 32 << 10).0;
            }
            assert!(node.left() <= MAX_LEFT);
        }
        assert!(node.left() > MAX_LEFT / 2, "there are some that left");
        let mut is_over = false;
        while !is_over {
            let (sent, ends) = node.reads(&slow, 32 << 10);
            (came, is_over) = (came + sent, ends);
        }
        assert!((SIZE..SIZE + 100).contains(&came), "{came}");
        assert!(!node.serving.serves(&slow));
    }

    #[test]
    fn who_lost_the_rest_of_a_frame_is_sent_nothing_until_it_is_met_anew() {
        let mut node = Node::new();
        let mut peers = Vec::new();
        for _ in 0..30 {
            let block = node.make(SIZE);
            let peer = PeerId::random();
            node.asks(peer, &block);
            node.reads(&peer, ROOM);
            peers.push(peer);
            node.now += SECOND;
        }
        let halves = peers.iter().filter(|peer| {
            let peer = node.serving.peers.get(peer);
            peer.is_some_and(|peer| matches!(peer.now, Now::Half))
        });
        let halves: HashSet<_> = halves.copied().collect();
        assert_eq!(halves.len(), node.lost.len(), "each is counted");
        assert!(node.lost.iter().all(|lost| halves.contains(lost)));
        let block = node.make(SIZE);
        node.asks(peers[0], &block);
        for _ in 0..2 {
            assert!(matches!(node.next(&peers[0], ROOM), Next::Half));
        }
        node.serving.forget(&peers[0]);
        assert!(!node.serving.serves(&peers[0]));
        node.asks(peers[0], &block);
        assert!(node.reads(&peers[0], SIZE + 100).1);
    }

    #[test]
    fn who_waits_for_a_block_that_goes_is_told_so_once() {
        let mut node = Node::new();
        let peer = PeerId::random();
        let [first, second] = [(); 2].map(|()| node.make(SIZE));
        node.asks(peer, &second);
        node.asks(peer, &first);
        node.asks(peer, &first);
        node.reads(&peer, ROOM);
        while node.disappointed.is_empty() {
            node.make(SIZE);
        }
        assert_eq!(node.disappointed, [peer]);
        let mut came = 0;
        while node.serving.serves(&peer) {
            came += node.reads(&peer, ROOM).0;
        }
        assert!(came > SIZE - ROOM, "what has begun goes on: {came}");
        // One whose block is gone when its turn comes.
        node.asks(peer, &first);
        assert!(matches!(node.next(&peer, ROOM), Next::Gone(id) if id == first));
        assert!(matches!(node.next(&peer, ROOM), Next::Nothing));
    }

    #[test]
    fn who_has_a_block_is_sent_no_more_of_it_but_the_rest_of_a_frame() {
        let mut node = Node::new();
        let peer = PeerId::random();
        let [first, second, third] = [(); 3].map(|()| node.make(SIZE));
        for block in [&first, &second, &third] {
            node.asks(peer, block);
        }
        node.reads(&peer, ROOM);
        assert!(node.serving.is_half_way(&peer));
        for block in [&first, &second] {
            node.serving.settled(&peer, block);
        }
        let mut sent = Vec::new();
        while let Next::Piece(outgoing) = node.next(&peer, SIZE + 100) {
            sent.push(outgoing.bytes.len());
        }
        assert_eq!(sent.len(), 2, "{sent:?}");
        assert!(sent[0] < SIZE && sent[1] > SIZE, "{sent:?}");
        node.asks(peer, &first);
        node.serving.settled(&peer, &first);
        assert!(matches!(node.next(&peer, ROOM), Next::Nothing));
        assert!(!node.serving.serves(&peer));
    }

    proptest! {
        // Each makes and reads hundreds of megabytes.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn whatever_peers_read_little_is_held_and_frames_come_whole(
            steps in proptest::collection::vec((0..6_usize, 0..4_u8, 1..9_usize), 1..150),
        ) {
            let (mut node, peers) = (Node::new(), [(); 6].map(|()| PeerId::random()));
            let mut blocks = vec![node.make(1000)];
            let mut halves: HashMap<PeerId, usize> = HashMap::new();
            for (peer, step, number) in steps {
                let peer = peers[peer];
                match step {
                    0 => blocks.push(node.make(number << 19)),
                    1 => {
                        let block = blocks[blocks.len().saturating_sub(number)].clone();
                        node.asks(peer, &block);
                    }
                    2 => node.now += SECOND * u32::try_from(number).expect("small"),
                    _ => match node.next(&peer, number << 18) {
                        Next::Piece(outgoing) => {
                            let has_begun = halves.remove(&peer);
                            prop_assert_eq!(has_begun.is_none(), outgoing.items == 1);
                            let mut came = has_begun.unwrap_or_default();
                            came += outgoing.bytes.len();
                            if outgoing.frames == 0 {
                                halves.insert(peer, came);
                            } else {
                                prop_assert!(came < (4 << 20) + (1 << 19) + 100);
                            }
                        }
                        Next::Half => {
                            prop_assert!(halves.remove(&peer).is_some());
                            node.serving.forget(&peer);
                        }
                        Next::Gone(_) | Next::Nothing => prop_assert!(!halves.contains_key(&peer)),
                    },
                }
                prop_assert!(node.left() <= MAX_LEFT);
            }
        }
    }
}
