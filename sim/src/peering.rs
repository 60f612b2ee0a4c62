//! How soon nodes have peers, from what they tell.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use selkie::PeerId;

use crate::executor::Node;

/// All nodes' lives, and their peers in each.
#[derive(Debug)]
pub(crate) struct Peering {
    wanted: usize,
    lives: Vec<Life>,
    /// The last life of each node.
    last: HashMap<Node, usize>,
}

/// From a node's start to its end.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) node: Node,
    pub(crate) from: Duration,
    peers: BTreeSet<PeerId>,
    /// When it had as many as are wanted.
    pub(crate) reached: Option<Duration>,
}

impl Peering {
    /// It is looked when a node has so many.
    pub(crate) fn new(wanted: usize) -> Self {
        Self {
            wanted,
            lives: Vec::new(),
            last: HashMap::new(),
        }
    }

    pub(crate) fn started(&mut self, node: Node, from: Duration) {
        self.last.insert(node, self.lives.len());
        self.lives.push(Life {
            node,
            from,
            peers: BTreeSet::new(),
            reached: (self.wanted == 0).then_some(from),
        });
    }

    pub(crate) fn connected(&mut self, node: Node, peer: PeerId, now: Duration) {
        let wanted = self.wanted;
        if let Some(life) = self.life(node) {
            life.peers.insert(peer);
            if life.peers.len() >= wanted {
                life.reached.get_or_insert(now);
            }
        }
    }

    pub(crate) fn disconnected(&mut self, node: Node, peer: &PeerId) {
        if let Some(life) = self.life(node) {
            life.peers.remove(peer);
        }
    }

    fn life(&mut self, node: Node) -> Option<&mut Life> {
        self.lives.get_mut(*self.last.get(&node)?)
    }

    pub(crate) fn lives(&self) -> &[Life] {
        &self.lives
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_reaches_its_peers_once_and_the_next_begins_anew() {
        let second = Duration::from_secs(1);
        let peers: Vec<_> = (0..3).map(|_| PeerId::random()).collect();
        let mut peering = Peering::new(2);
        peering.started(4, second);
        peering.connected(4, peers[0], 2 * second);
        // The same again is no second peer, and one that is gone counts no more.
        peering.connected(4, peers[0], 3 * second);
        peering.disconnected(4, &peers[0]);
        peering.connected(4, peers[1], 4 * second);
        assert_eq!(peering.lives()[0].reached, None);
        peering.connected(4, peers[2], 5 * second);
        peering.connected(4, peers[0], 6 * second);
        assert_eq!(peering.lives()[0].reached, Some(5 * second));
        peering.started(4, 9 * second);
        peering.connected(4, peers[0], 10 * second);
        let found: Vec<_> = peering.lives().iter().map(|life| life.reached).collect();
        assert_eq!(found, [Some(5 * second), None]);
        peering.connected(7, peers[0], second);
        assert_eq!(peering.lives().len(), 2, "node 7 has never started");
    }
}
