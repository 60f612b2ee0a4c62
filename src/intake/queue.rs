//! The queue in front of the chain's checks.
//!
//! Items wait here until one of a bounded number of checks is free: votes first, then blocks, then transactions.
//! Bounds: the waiting items' bytes (`protocol.validation.max_queued_bytes`); what doesn't fit is ignored, so that
//! gossipsub may get it again from another peer once there is room.

use std::collections::VecDeque;

use libp2p::{PeerId, gossipsub::MessageId};
use tokio::sync::oneshot;

use super::Batch;
use crate::{
    chain::{Item, ItemKind},
    error::ProtocolError,
    platform::SystemTime,
    propagation::blocks::Question,
};

/// Bytes of waiting batches that are checked with another: so long may a vote wait for the end of a check.
const MERGED: usize = 64 << 10;

/// An item on its way to a verdict, with everything that the verdict is for.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) item: Item,
    pub(crate) source: PeerId,
    pub(crate) received_at: SystemTime,
    pub(crate) origin: Source,
}

/// How an item came, and so who waits for the verdict.
#[derive(Debug)]
pub(crate) enum Source {
    /// By gossip, which holds it under this id.
    Gossip(MessageId),
    /// As a direct message.
    Direct,
    /// From the caller, who says that the peer sent it.
    Handed(oneshot::Sender<Result<(), ProtocolError>>),
}

/// What is checked at once.
#[derive(Debug)]
pub(crate) enum Work {
    /// One item.
    Item(Pending),
    /// Items that came in one batch over the lanes.
    Batch(Batch),
    /// A question of the propagation of blocks.
    Question(Question),
}

impl Work {
    fn kind(&self) -> ItemKind {
        match self {
            Self::Item(pending) => pending.item.kind(),
            Self::Batch(batch) => batch.kind,
            Self::Question(_) => ItemKind::Block,
        }
    }

    /// Bytes of payload.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Item(pending) => pending.item.data().len(),
            Self::Batch(batch) => batch.size(),
            Self::Question(question) => question.size(),
        }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Queue {
    waiting: [VecDeque<Work>; ItemKind::ALL.len()],
    bytes: usize,
    max_bytes: usize,
    free: usize,
}

impl Queue {
    pub(crate) fn new(max_in_flight: usize, max_bytes: usize) -> Self {
        Self {
            waiting: Default::default(),
            bytes: 0,
            max_bytes,
            free: max_in_flight,
        }
    }

    /// Whether an item of this size fits in.
    pub(crate) fn has_room(&self, size: usize) -> bool {
        self.bytes + size <= self.max_bytes
    }

    /// Takes work in, for which the caller has seen that there is room.
    pub(crate) fn push(&mut self, work: Work) {
        self.bytes += work.size();
        let [votes, blocks, transactions] = &mut self.waiting;
        match work.kind() {
            ItemKind::Vote => votes,
            ItemKind::Block => blocks,
            ItemKind::Transaction => transactions,
        }
        .push_back(work);
    }

    /// The next work, if a check is free; the caller calls [`Queue::done`] after it.
    pub(crate) fn start(&mut self) -> Option<Work> {
        if self.free == 0 {
            return None;
        }
        let next = self.waiting.iter_mut().find_map(VecDeque::pop_front)?;
        self.free -= 1;
        Some(next)
    }

    /// More batches that may go with a transactions' one which is about to be checked: to hand over many little ones costs
    /// more than most checks. They need no check of their own.
    pub(crate) fn more(&mut self) -> Vec<Batch> {
        let [.., transactions] = &mut self.waiting;
        let (mut batches, mut bytes) = (Vec::new(), 0);
        while bytes < MERGED
            && let Some(Work::Batch(_)) = transactions.front()
            && let Some(Work::Batch(batch)) = transactions.pop_front()
        {
            bytes += batch.size();
            batches.push(batch);
        }
        batches
    }

    /// A check has ended; its bytes are no longer held here.
    pub(crate) fn done(&mut self, size: usize) {
        self.free += 1;
        self.bytes -= size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    fn pending(kind: ItemKind, size: usize) -> Work {
        Work::Item(Pending {
            item: Item::new(kind, vec![0; size]),
            source: PeerId::random(),
            received_at: SystemTime::now(),
            origin: Source::Direct,
        })
    }

    #[test]
    fn votes_first_and_never_over_the_limits() {
        let mut queue = Queue::new(2, 100);
        for kind in [ItemKind::Transaction, ItemKind::Block, ItemKind::Vote] {
            assert!(queue.has_room(30));
            queue.push(pending(kind, 30));
        }
        assert!(!queue.has_room(30), "over the bytes");
        let kinds: Vec<_> = std::iter::from_fn(|| queue.start())
            .map(|work| work.kind())
            .collect();
        assert_eq!(kinds, [ItemKind::Vote, ItemKind::Block], "two at once");
        assert!(!queue.has_room(30), "bytes in checks count too");
        queue.done(30);
        assert!(queue.has_room(30));
        queue.push(pending(ItemKind::Vote, 30));
        assert_eq!(queue.start().map(|work| work.kind()), Some(ItemKind::Vote));
    }
}
