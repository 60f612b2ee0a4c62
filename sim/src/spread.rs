//! How far each item has got, from what the nodes tell.

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    time::Duration,
};

use selkie::{ItemId, PeerId};
use serde::Serialize;

use crate::{executor::Node, scenario::Kind};

/// An item on its way.
#[derive(Clone, Debug, Serialize)]
pub struct Spread {
    /// Its identity, shortened.
    pub id: String,
    /// Of which kind.
    pub kind: Kind,
    /// Its size.
    pub bytes: usize,
    /// Who published it.
    pub by: Node,
    /// When its user handed it in, in seconds.
    #[serde(serialize_with = "seconds")]
    pub at: Duration,
    /// Which publication of the scenario made it; none a liar's lie.
    pub publication: Option<usize>,
    /// Whether that node took it, as it said to its user; nothing where it has not answered.
    pub taken: Option<bool>,
    /// In which of that node's lives.
    #[serde(skip)]
    life: usize,
    /// To whom it came at first: from whom, when, and over how many hops.
    pub came: BTreeMap<Node, Arrival>,
    /// To whom it should have come, and never did.
    pub missing: Vec<Node>,
}

impl Spread {
    fn links_to(&self, mut node: Node) -> usize {
        let mut links = 0;
        // Who started again may have it from whom it gave it to.
        while let Some(arrival) = self.came.get(&node)
            && links < self.came.len()
        {
            node = arrival.from;
            links += 1;
        }
        links
    }

    /// Counts the links from its maker on, along who brought it first to whom.
    fn count_hops(&mut self) {
        let nodes: Vec<Node> = self.came.keys().copied().collect();
        for node in nodes {
            let hops = self.links_to(node);
            if let Some(arrival) = self.came.get_mut(&node) {
                arrival.hops = hops;
            }
        }
    }
}

/// An item that a node's user hands in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HandedIn {
    pub(crate) by: Node,
    pub(crate) kind: Kind,
    pub(crate) bytes: usize,
    pub(crate) at: Duration,
    /// Which publication of the scenario made it; none a lie.
    pub(crate) publication: Option<usize>,
}

/// An item has come to a node.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Arrival {
    /// From whom.
    pub from: Node,
    /// When, in seconds.
    #[serde(serialize_with = "seconds")]
    pub at: Duration,
    /// Over how many links: one more than to whom it came from. Counted at the end, since who told of a block first may have had all of it
    /// later.
    pub hops: usize,
    /// Whether it counts for what must hold: its node is honest, and ran all the while.
    pub due: bool,
    /// Whether it was a block that brought it: a transaction that is confirmed comes no more by itself.
    pub in_block: bool,
    /// In which of its node's lives: a process that starts again has forgotten what it had.
    #[serde(skip)]
    life: usize,
}

pub(crate) fn seconds<S: serde::Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

/// All items of a run.
#[derive(Debug, Default)]
pub(crate) struct Spreads {
    nodes: HashMap<PeerId, Node>,
    items: Vec<Spread>,
    index: HashMap<ItemId, usize>,
    /// How often each node has started.
    lives: HashMap<Node, usize>,
    /// Deliveries of items that nobody had handed in, or that had come there before.
    pub(crate) odd: Vec<String>,
}

impl Spreads {
    /// A node has started, and this is its id.
    pub(crate) fn started(&mut self, node: Node, peer: PeerId) {
        self.nodes.insert(peer, node);
        *self.lives.entry(node).or_default() += 1;
    }

    fn life(&self, node: Node) -> usize {
        self.lives.get(&node).copied().unwrap_or(0)
    }

    pub(crate) fn node(&self, peer: &PeerId) -> Option<Node> {
        self.nodes.get(peer).copied()
    }

    /// A node's user hands in an item, whatever becomes of it.
    pub(crate) fn published(&mut self, item: HandedIn, id: &ItemId) {
        let HandedIn {
            by,
            kind,
            bytes,
            at,
            publication,
        } = item;
        let item = Spread {
            id: id.to_string().chars().take(16).collect(),
            kind,
            bytes,
            by,
            at,
            publication,
            taken: None,
            life: self.life(by),
            came: BTreeMap::new(),
            missing: Vec::new(),
        };
        self.index.insert(id.clone(), self.items.len());
        self.items.push(item);
    }

    /// Its node has said to its user whether it took it.
    pub(crate) fn answered(&mut self, id: &ItemId, taken: bool) {
        match self
            .index
            .get(id)
            .and_then(|index| self.items.get_mut(*index))
        {
            Some(item) => item.taken = Some(taken),
            None => self
                .odd
                .push(format!("{id} was answered, and nobody had handed it in")),
        }
    }

    /// A node has accepted an item that a peer brought.
    pub(crate) fn came(&mut self, to: Node, from: PeerId, id: &ItemId, at: Duration) {
        let life = self.life(to);
        let index = self.index.get(id);
        let item = index.and_then(|index| self.items.get_mut(*index));
        let (Some(item), Some(from)) = (item, self.nodes.get(&from).copied()) else {
            let words = format!("{id} came to node {to}, and nobody had handed it in");
            return self.odd.push(words);
        };
        if item.by == to {
            if item.life == life {
                let words = format!("{id} came back to node {to}, which had published it");
                self.odd.push(words);
            }
            return;
        }
        let arrival = Arrival {
            from,
            at,
            hops: 0,
            due: false,
            in_block: false,
            life,
        };
        match item.came.entry(to) {
            Entry::Vacant(place) => {
                place.insert(arrival);
            }
            Entry::Occupied(mut entry) => {
                let first = entry.get_mut();
                // It may have been under way when a block brought it too.
                let was_in_block = std::mem::take(&mut first.in_block);
                if first.life == life && !was_in_block {
                    self.odd.push(format!("{id} came to node {to} twice"));
                }
                first.life = life;
            }
        }
    }

    /// A block that a peer brought has these transactions in it: what had not come to the node by itself has come now.
    pub(crate) fn confirmed(&mut self, to: Node, from: PeerId, ids: &[ItemId], at: Duration) {
        let life = self.life(to);
        let Some(from) = self.nodes.get(&from).copied() else {
            return;
        };
        for id in ids {
            let index = self.index.get(id);
            let item = index.and_then(|index| self.items.get_mut(*index));
            if let Some(item) = item.filter(|item| item.by != to) {
                item.came.entry(to).or_insert(Arrival {
                    from,
                    at,
                    hops: 0,
                    due: false,
                    in_block: true,
                    life,
                });
            }
        }
    }

    /// All of them, with what is due, the nodes to which this one should come, and with the links that each went over.
    pub(crate) fn judged(mut self, due: impl Fn(&Spread) -> Vec<Node>) -> Vec<Spread> {
        for item in &mut self.items {
            item.count_hops();
            for node in due(item) {
                match item.came.get_mut(&node) {
                    Some(arrival) => arrival.due = true,
                    None => item.missing.push(node),
                }
            }
        }
        self.items
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_counted_though_who_told_of_an_item_first_has_all_of_it_later() {
        let mut spreads = Spreads::default();
        let keys = (0..4).map(|_| selkie::Keypair::generate_ed25519());
        let peers: Vec<PeerId> = keys.map(|key| key.public().to_peer_id()).collect();
        for (node, peer) in peers.iter().enumerate() {
            spreads.started(node, *peer);
        }
        let id = ItemId::sha256(b"a block");
        let at = Duration::from_millis;
        let item = |kind| HandedIn {
            by: 0,
            kind,
            bytes: 7,
            at: at(0),
            publication: Some(0),
        };
        spreads.published(item(Kind::Block), &id);
        spreads.came(2, peers[1], &id, at(10));
        spreads.came(1, peers[0], &id, at(20));
        spreads.came(3, peers[2], &id, at(30));
        let paid = ItemId::sha256(b"a transaction");
        spreads.published(item(Kind::Transaction), &paid);
        spreads.came(1, peers[0], &paid, at(5));
        for node in [1, 2] {
            spreads.confirmed(node, peers[0], std::slice::from_ref(&paid), at(20));
        }
        spreads.came(2, peers[1], &paid, at(21));
        assert!(spreads.odd.is_empty(), "{:?}", spreads.odd);
        spreads.came(2, peers[1], &paid, at(22));
        assert_eq!(spreads.odd.len(), 1, "once more is once too often");
        let items = spreads.judged(|_| Vec::new());
        let hops = |node| items[0].came[&node].hops;
        assert_eq!([hops(1), hops(2), hops(3)], [1, 2, 3]);
        let came = |node| items[1].came[&node].at;
        assert_eq!([came(1), came(2)], [at(5), at(20)], "whichever was first");
    }
}
