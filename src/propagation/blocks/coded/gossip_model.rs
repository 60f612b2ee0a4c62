//! Gossipsub in the simulation: the baseline that coded broadcast is measured against.
//!
//! A mesh of degree 6 among a node's neighbours; a node that has a block pushes it whole to all its mesh but those that
//! sent it. Blocks on a node's streams share its uplink, as they do in rust-libp2p, so all arrive late. Checking takes
//! no time here, and announcements (IHAVE) are left out: both are kind to gossipsub. `IDONTWANT` (gossipsub 1.2) may be
//! on.

use std::collections::BTreeSet;

use super::simulation::{Graph, Machine, Random};

use crate::platform::Instant;

const DEGREE: usize = 6;
const MOST: usize = 12;

/// What gossipsub sends.
pub(super) enum Message {
    Block,
    DontWant,
}

/// A node of gossipsub.
pub(super) struct Gossip {
    pub(super) done: Option<Instant>,
    size: usize,
    dont_want: bool,
    mesh: BTreeSet<usize>,
    /// To whom the block is to be pushed.
    owed: BTreeSet<usize>,
    /// Who is to be told not to push it.
    told: BTreeSet<usize>,
    /// Who needs it no more.
    have: BTreeSet<usize>,
}

impl Gossip {
    /// The nodes of a graph; node 0 has the block.
    pub(super) fn nodes(
        graph: &Graph,
        size: usize,
        dont_want: bool,
        now: Instant,
        random: &mut Random,
    ) -> Vec<Self> {
        let count = graph.neighbours.len();
        let mut meshes = vec![BTreeSet::new(); count];
        let mut order: Vec<_> = (0..count).collect();
        random.shuffle(&mut order);
        for node in order {
            let mut neighbours = graph.neighbours[node].clone();
            random.shuffle(&mut neighbours);
            for (peer, _) in neighbours {
                if meshes[node].len() < DEGREE && meshes[peer].len() < MOST {
                    meshes[node].insert(peer);
                    meshes[peer].insert(node);
                }
            }
        }
        let nodes = meshes.into_iter().map(|mesh| Self {
            done: None,
            size,
            dont_want,
            mesh,
            owed: BTreeSet::new(),
            told: BTreeSet::new(),
            have: BTreeSet::new(),
        });
        let mut nodes: Vec<_> = nodes.collect();
        nodes[0].has(now);
        nodes
    }

    fn has(&mut self, now: Instant) {
        self.done = Some(now);
        self.owed = &self.mesh - &self.have;
        if self.dont_want {
            self.told = self.owed.clone();
        }
    }
}

impl Machine for Gossip {
    type Frame = Message;

    fn receive(&mut self, from: usize, message: Message, now: Instant) {
        self.have.insert(from);
        self.owed.remove(&from);
        if matches!(message, Message::Block) && self.done.is_none() {
            self.has(now);
        }
    }

    fn next(&mut self, to: usize, _room: usize, _now: Instant) -> Option<(Message, usize)> {
        if self.told.remove(&to) {
            return Some((Message::DontWant, 0));
        }
        // Its queue takes a block, however long.
        let owed = self.owed.remove(&to);
        owed.then_some((Message::Block, self.size))
    }

    fn next_time(&self) -> Option<Instant> {
        None
    }

    fn on_time(&mut self, _now: Instant) {}
}
