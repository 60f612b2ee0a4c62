//! A node with some peers, of which a test plays each.

use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;

use super::{encoding::lie, *};
use crate::{
    chain::{ItemId, Verdict},
    peers::Misdeed,
    platform::Instant,
};

/// See the module's documentation.
pub(super) struct Node {
    pub(super) core: Broadcasts,
    pub(super) now: Instant,
}

pub(super) fn node(peers: &[PeerId]) -> Node {
    node_with(CodedConfig::default(), peers)
}

pub(super) fn node_with(config: CodedConfig, peers: &[PeerId]) -> Node {
    let now = crate::platform::now();
    let mut core = Broadcasts::new(config, [3; 16]);
    for peer in peers {
        core.peer_joined(*peer, now);
    }
    Node { core, now }
}

pub(super) fn peers<const N: usize>() -> [PeerId; N] {
    [(); N].map(|()| PeerId::random())
}

pub(super) fn block(size: usize) -> Encoded {
    let bytes: Vec<u8> = (0..size).map(|i| (i * 7 % 251) as u8).collect();
    Encoded::of(
        ItemId::sha256(&bytes),
        Bytes::from_static(b"header"),
        bytes.into(),
    )
    .expect("a block")
}

/// Another announcement of the same block, with chunks that are no encoding.
pub(super) fn false_coding(block: &Encoded, salt: u8) -> (Announcement, Vec<Chunk>) {
    let chunks: Vec<_> = (0..64).map(|i| vec![i ^ salt; 64]).collect();
    lie(block.announcement().block().clone(), 2048, &chunks)
}

pub(super) fn all() -> ChunkSet {
    ChunkSet::first(64)
}

pub(super) fn all_of(block: &Encoded) -> ChunkSet {
    ChunkSet::first(block.announcement().shape().chunks())
}

pub(super) fn announce(announcement: &Announcement, have: ChunkSet) -> Frame {
    Frame::Announce(Announce {
        announcement: announcement.clone(),
        have,
    })
}

pub(super) fn chunk(block: &Encoded, index: u8) -> Frame {
    Frame::Chunk(block.chunk(index).expect("a chunk"))
}

/// Who pays for what.
pub(super) fn paid(actions: &[Action]) -> Vec<(PeerId, Misdeed)> {
    let paid = actions.iter().filter_map(|action| match action {
        Action::Misdeed { peer, misdeed, .. } => Some((*peer, *misdeed)),
        _ => None,
    });
    paid.collect()
}

/// Whether a node says that it takes no part in a broadcast.
pub(super) fn refuses(frames: &[Frame], id: BroadcastId) -> bool {
    frames.iter().any(|frame| {
        matches!(frame, Frame::Status(it) if it.broadcast == id && it.done && it.have.is_empty())
    })
}

pub(super) fn abandoned(actions: &[Action]) -> Option<Abandonment> {
    actions.iter().find_map(|action| match action {
        Action::Abandoned { reason, .. } => Some(*reason),
        _ => None,
    })
}

impl Node {
    pub(super) fn receive(&mut self, peer: PeerId, frame: Frame) -> Vec<Action> {
        self.core.receive(peer, frame, self.now)
    }

    /// A peer announces, and the chain takes the header.
    pub(super) fn learn(
        &mut self,
        peer: PeerId,
        announcement: &Announcement,
        have: ChunkSet,
    ) -> Vec<Action> {
        let mut actions = self.receive(peer, announce(announcement, have));
        let id = announcement.id();
        actions.extend(self.core.header_checked(id, Verdict::Accept, self.now));
        actions
    }

    /// What the node has to say to a peer.
    pub(super) fn sends(&mut self, peer: &PeerId) -> Vec<Frame> {
        std::iter::from_fn(|| self.core.next(peer, MAX_FRAME, self.now)).collect()
    }

    /// The chunks that the node wants of a peer, by the last it says to it.
    pub(super) fn wants(&mut self, peer: &PeerId) -> ChunkSet {
        let frames = self.sends(peer).into_iter().rev();
        let mut wants = frames.filter_map(|frame| match frame {
            Frame::Status(status) => Some(status.want),
            _ => None,
        });
        wants.next().unwrap_or_default()
    }

    pub(super) fn wait(&mut self, time: Duration) -> Vec<Action> {
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
    pub(super) fn decodes(&mut self, actions: Vec<Action>) -> Vec<Action> {
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
