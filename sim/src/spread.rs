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
    /// Whether that node took it: said so to its user.
    pub taken: bool,
    /// In which of that node's lives.
    #[serde(skip)]
    life: usize,
    /// To whom it came at first: from whom, when, and over how many hops.
    pub came: BTreeMap<Node, Arrival>,
    /// To whom it should have come, and never did.
    pub missing: Vec<Node>,
}

/// An item has come to a node.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Arrival {
    /// From whom.
    pub from: Node,
    /// When, in seconds.
    #[serde(serialize_with = "seconds")]
    pub at: Duration,
    /// Over how many links.
    pub hops: usize,
    /// Whether it counts for what must hold: its node is honest, and ran all the while.
    pub due: bool,
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
    pub(crate) fn published(
        &mut self,
        by: Node,
        kind: Kind,
        bytes: usize,
        id: &ItemId,
        at: Duration,
    ) {
        let item = Spread {
            id: id.to_string().chars().take(16).collect(),
            kind,
            bytes,
            by,
            at,
            taken: false,
            life: self.life(by),
            came: BTreeMap::new(),
            missing: Vec::new(),
        };
        self.index.insert(id.clone(), self.items.len());
        self.items.push(item);
    }

    /// Its node has said that it took it.
    pub(crate) fn taken(&mut self, id: &ItemId) {
        match self
            .index
            .get(id)
            .and_then(|index| self.items.get_mut(*index))
        {
            Some(item) => item.taken = true,
            None => self
                .odd
                .push(format!("{id} was taken, and nobody had handed it in")),
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
        // Who published it has it from nobody.
        let hops = item.came.get(&from).map_or(0, |arrival| arrival.hops) + 1;
        let arrival = Arrival {
            from,
            at,
            hops,
            due: false,
            life,
        };
        match item.came.entry(to) {
            Entry::Vacant(place) => {
                place.insert(arrival);
            }
            Entry::Occupied(mut first) => {
                if first.get().life == life {
                    self.odd.push(format!("{id} came to node {to} twice"));
                }
                first.get_mut().life = life;
            }
        }
    }

    /// All of them, with what is due: the nodes to which this one should come.
    pub(crate) fn judged(mut self, due: impl Fn(&Spread) -> Vec<Node>) -> Vec<Spread> {
        for item in &mut self.items {
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
