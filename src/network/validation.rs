//! The queue in front of the chain's checks.
//!
//! Items wait here until one of a bounded number of checks is free: votes first, then blocks, then transactions.
//! Bounds: the waiting items' bytes (`protocol.validation.max_queued_bytes`); what doesn't fit is ignored, so that
//! gossipsub may get it again from another peer once there is room.

use std::collections::VecDeque;

use libp2p::{PeerId, gossipsub::MessageId};
use tokio::sync::oneshot;
use web_time::SystemTime;

use super::ProtocolError;
use crate::chain::{Item, ItemKind};

/// An item on its way to a verdict, with everything that the verdict is for.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) item: Item,
    pub(crate) source: PeerId,
    pub(crate) received_at: SystemTime,
    pub(crate) origin: Origin,
}

/// How an item came, and so who waits for the verdict.
#[derive(Debug)]
pub(crate) enum Origin {
    /// By gossip, which holds it under this id.
    Gossip(MessageId),
    /// As a direct message.
    Direct,
    /// From the caller, who says that the peer sent it.
    Handed(oneshot::Sender<Result<(), ProtocolError>>),
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Queue {
    waiting: [VecDeque<Pending>; ItemKind::ALL.len()],
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

    /// Takes an item in, for which the caller has seen that there is room.
    pub(crate) fn push(&mut self, pending: Pending) {
        self.bytes += pending.item.data().len();
        let [votes, blocks, transactions] = &mut self.waiting;
        match pending.item.kind() {
            ItemKind::Vote => votes,
            ItemKind::Block => blocks,
            ItemKind::Transaction => transactions,
        }
        .push_back(pending);
    }

    /// The next item to check, if a check is free; the caller calls [`Queue::done`] after it.
    pub(crate) fn start(&mut self) -> Option<Pending> {
        if self.free == 0 {
            return None;
        }
        let next = self.waiting.iter_mut().find_map(VecDeque::pop_front)?;
        self.free -= 1;
        Some(next)
    }

    /// A check has ended; its item's bytes are no longer held here.
    pub(crate) fn done(&mut self, size: usize) {
        self.free += 1;
        self.bytes -= size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    fn pending(kind: ItemKind, size: usize) -> Pending {
        Pending {
            item: Item::new(kind, vec![0; size]),
            source: PeerId::random(),
            received_at: SystemTime::now(),
            origin: Origin::Direct,
        }
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
            .map(|p| p.item.kind())
            .collect();
        assert_eq!(kinds, [ItemKind::Vote, ItemKind::Block], "two at once");
        assert!(!queue.has_room(30), "bytes in checks count too");
        queue.done(30);
        assert!(queue.has_room(30));
        queue.push(pending(ItemKind::Vote, 30));
        assert_eq!(queue.start().map(|p| p.item.kind()), Some(ItemKind::Vote));
    }
}
