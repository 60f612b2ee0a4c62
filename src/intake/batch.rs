//! Items of one kind that came together, and who waits for what becomes of them.

use bytes::Bytes;
use libp2p::{PeerId, gossipsub::MessageId};
use tokio::sync::oneshot;

use crate::{
    chain::{Item, ItemId, ItemKind, TransactionKey, rules::Candidate},
    error::{NetworkError, ProtocolError},
    lanes::Taken,
    propagation::plumtree::Fresh,
};

/// Beside its bytes, what an item costs while it waits, about.
pub(crate) const OVERHEAD: usize = 128;

/// Items of one kind that came together.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) kind: ItemKind,
    pub(crate) source: Source,
    pub(crate) items: Vec<Fresh>,
}

/// How items came, and so who waits for the verdict.
#[derive(Debug)]
pub(crate) enum Source {
    /// Over a peer's lanes. What the batch took of its lane is given back when it is done with.
    Lanes(PeerId, Taken),
    /// By gossip, which holds it under this id.
    Gossip(PeerId, MessageId),
    /// As a direct message.
    Direct(PeerId),
    /// From the caller, who says that the peer sent it.
    Handed(PeerId, oneshot::Sender<Result<(), ProtocolError>>),
    /// From the caller: our own.
    Own(Own),
}

/// By what an item came, as far as it matters to how it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Gossip,
    Other,
}

/// What became of our own items, in order.
pub(crate) type Outcomes = Vec<Result<ItemId, ProtocolError>>;

/// Items of our own, and who waits to hear of them.
#[derive(Debug)]
pub(crate) struct Own {
    /// Whether there is somebody to send them to; if not, they are checked and no more.
    pub(crate) reaches: bool,
    /// For each, in order: what it was refused for at the door; `None`: it is being checked.
    pub(crate) refused: Vec<Option<ProtocolError>>,
    pub(crate) reply: oneshot::Sender<Result<Outcomes, NetworkError>>,
}

/// What stays on the network task while a batch is checked.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) kind: ItemKind,
    pub(crate) source: Source,
    pub(crate) cost: usize,
}

/// What goes to where a batch is checked.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) kind: ItemKind,
    pub(crate) from: Option<PeerId>,
    /// Whether the items are slices of a frame, which must not live as long as they do.
    pub(super) framed: bool,
    /// Whether accepted ones go to the application.
    pub(super) delivers: bool,
    pub(super) items: Vec<Fresh>,
}

impl Load {
    /// Whether this node says something by it that it has to stand by after a crash.
    pub(crate) fn is_our_word(&self) -> bool {
        self.from.is_none() && self.delivers && self.kind != ItemKind::Transaction
    }
}

impl Source {
    /// The peer that brought it; `None`: it is our own.
    pub(crate) fn peer(&self) -> Option<PeerId> {
        match self {
            Self::Lanes(peer, _)
            | Self::Gossip(peer, _)
            | Self::Direct(peer)
            | Self::Handed(peer, _) => Some(*peer),
            Self::Own(_) => None,
        }
    }

    /// By what it came.
    pub(crate) fn way(&self) -> Way {
        match self {
            Self::Gossip(..) => Way::Gossip,
            _ => Way::Other,
        }
    }
}

impl Batch {
    /// One item that came by itself.
    pub(crate) fn one(kind: ItemKind, source: Source, data: Bytes) -> Self {
        Self::of(kind, source, vec![(TransactionKey::of(&data), data)])
    }

    /// Items that were not announced.
    pub(crate) fn of(kind: ItemKind, source: Source, items: Vec<(TransactionKey, Bytes)>) -> Self {
        let fresh = |(key, data)| Fresh {
            key,
            data,
            promised: None,
        };
        Self {
            kind,
            source,
            items: items.into_iter().map(fresh).collect(),
        }
    }

    /// Bytes of payload.
    pub(crate) fn size(&self) -> usize {
        self.items.iter().map(|fresh| fresh.data.len()).sum()
    }

    /// What it takes up while it waits: the whole frame that it came in, of which its items are slices.
    pub(crate) fn cost(&self) -> usize {
        let cost = self.size() + self.items.len() * OVERHEAD;
        match &self.source {
            Source::Lanes(_, taken) => cost.max(taken.held()),
            _ => cost,
        }
    }

    /// What stays here, and what goes to where it is checked.
    pub(crate) fn apart(self) -> (Ticket, Load) {
        let cost = self.cost();
        let Self {
            kind,
            source,
            items,
        } = self;
        let load = Load {
            kind,
            from: source.peer(),
            framed: matches!(source, Source::Lanes(..)),
            delivers: !matches!(&source, Source::Own(own) if !own.reaches),
            items,
        };
        (Ticket { kind, source, cost }, load)
    }
}

impl Load {
    /// Its items, as the chain is asked about them.
    pub(super) fn candidates(&self) -> impl Iterator<Item = Candidate> {
        self.items.iter().map(|Fresh { key, data, .. }| {
            let data = if self.framed {
                // A slice would keep the whole frame that it came in.
                Bytes::copy_from_slice(data)
            } else {
                data.clone()
            };
            Candidate {
                item: Item::new(self.kind, data),
                key: *key,
                delivers: self.delivers,
            }
        })
    }
}
