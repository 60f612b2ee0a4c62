//! The one door for items, whoever brings them: pushed or fetched over the lanes, gossiped, sent directly, handed over by the
//! caller, put together from parts, or our own.
//!
//! An item passes four steps, and the same ones by every way:
//!
//! 1. **Size.** One limit for each kind ([`ItemLimits`]), for what comes and for what goes. It is part of the hello, so that all
//!    nodes of a network have the same one, and no honest node pays for another's.
//! 2. **Known already.** What is here, is being checked, or was accepted, confirmed or rejected lately is not checked again, not
//!    delivered again and not spread again. What the pool had no room for is known for a short while only, and never to its maker.
//!    Votes and transactions are kept where they propagate from, which is asked ([`Inventory`]); blocks by their bytes are remembered here.
//! 3. **Room.** Each kind has its own, and each peer a share of it ([`Queue`]). A batch from a lane that has none waits, and that
//!    lane is read no further meanwhile. What came by gossip is held ([`HELD`]): gossipsub takes no second copy of it, so it could not
//!    come again. Anything else is refused, and that is told.
//! 4. **Verdict.** The chain checks off the network task, many items at once ([`Judged`]), and hands each accepted one to the application,
//!    once. Then whoever waits for the verdict hears of it, and whoever sent what is rejected pays. An item over which
//!    the application fails is ignored. Our own blocks and votes are kept before anybody hears of them ([`judge`]).
//!
//! Items from lanes have passed the first two steps when they come: the core that keeps them does them while it sorts a frame,
//! so that a batch costs the network task nothing per item here.
//!
//! Bounds: the queue's; [`HELD`]; [`MAX_COPIES`]; what is remembered of blocks (`protocol.propagation.blocks.max_seen` twice, for accepted and for rejected ones).

mod batch;
mod block;
mod delivered;
mod fair;
mod judge;
mod judged;
mod known;
mod limits;
mod question;
mod queue;

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use libp2p::{PeerId, gossipsub::MessageId};

pub(crate) use self::{
    batch::{Batch, Load, OVERHEAD, Outcomes, Own, Source, Ticket, Way},
    block::check_block,
    delivered::DeliveredBlocks,
    fair::{FairQueue, NoRoom},
    judge::judge,
    judged::{Judged, Refused, refusal},
    known::{Inventory, Standing},
    limits::ItemLimits,
    queue::{Asked, Queue, Work},
};
use crate::{
    chain::{ItemKind, ShortId, TransactionKey, Verdict},
    config::{Config, Share},
    error::ProtocolError,
    keyed::Keyed,
    remembered::Remembered,
};

/// Gossiped copies that wait for the verdict on the copy that is being checked; further ones are ignored.
const MAX_COPIES: usize = 1024;

/// Bytes of gossiped items of each kind, with their overhead, that wait for room in front of the checks.
const HELD: Share = Share {
    all: 16 << 20,
    per_peer: 8 << 20,
};

/// A gossiped item that waits for room.
type Held = (ItemKind, Source, Bytes);

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Intake {
    limits: ItemLimits,
    pub(crate) queue: Queue,
    /// Blocks that are being checked, by their bytes, and those that were.
    checking: HashSet<ShortId, Keyed>,
    accepted: Remembered<ShortId>,
    rejected: Remembered<ShortId>,
    copies: Copies,
    /// For each of [`ItemKind::ALL`]: no kind waits behind another.
    held: [FairQueue<Held>; ItemKind::ALL.len()],
}

/// Gossip's copies of what is being checked.
#[derive(Debug)]
struct Copies {
    waiting: HashMap<ShortId, Vec<GossipCopy>, Keyed>,
    count: usize,
}

/// Who sent a copy by gossip, and what gossip calls it.
pub(crate) type GossipCopy = (PeerId, MessageId);

/// What becomes of an item at the door.
#[derive(Debug)]
pub(crate) enum Offered {
    /// It waits for its check.
    Admitted,
    /// It came by gossip, and waits for room ([`Intake::next_held`]).
    Held,
    /// A copy of it is being checked; this one, from gossip, waits for the verdict on that.
    Copied,
    /// It is here, or it was lately.
    Known(Source),
    /// Its size is none that an item may have; no check would change that.
    Unfit(Source, ProtocolError),
    /// It may be offered again later. Why, for a person.
    NoRoom(Source, String),
}

/// The items of a caller, and who waits to hear of them.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) kind: ItemKind,
    pub(crate) items: Vec<(TransactionKey, Bytes)>,
    /// Whether there is somebody to send them to.
    pub(crate) reaches: bool,
}

impl Intake {
    /// `seed` keys the tables: 16 random bytes that no peer knows.
    pub(crate) fn new(config: &Config, seed: &[u8; 16]) -> Self {
        let most = config.protocol.propagation.blocks.max_seen;
        let remembered = || Remembered::new(most, Keyed::new(seed));
        Self {
            limits: ItemLimits::new(&config.protocol.propagation),
            queue: Queue::new(&config.protocol.validation),
            checking: HashSet::with_hasher(Keyed::new(seed)),
            accepted: remembered(),
            rejected: remembered(),
            copies: Copies {
                waiting: HashMap::with_hasher(Keyed::new(seed)),
                count: 0,
            },
            held: ItemKind::ALL.map(|_| FairQueue::new(HELD)),
        }
    }

    /// A peer's item, which came by itself.
    pub(crate) fn offer(
        &mut self,
        kind: ItemKind,
        source: Source,
        data: Bytes,
        inventory: &mut impl Inventory,
    ) -> Offered {
        if let Err(error) = self.limits.check(kind, data.len()) {
            return Offered::Unfit(source, error);
        }
        let batch = Batch::one(kind, source, data);
        let Some(key) = batch.items.first().map(|fresh| fresh.key) else {
            return Offered::Known(batch.source);
        };
        match (self.standing(kind, &key, inventory), batch.source) {
            (Standing::New, source) => {
                let batch = Batch { source, ..batch };
                match self.queue.push(batch) {
                    Ok(()) => {
                        self.claim(kind, &key, inventory);
                        Offered::Admitted
                    }
                    Err((batch, reason)) => self
                        .hold(batch)
                        .map_or(Offered::Held, |source| Offered::NoRoom(source, reason)),
                }
            }
            (Standing::Checking, Source::Gossip(peer, id)) => self
                .copies
                .wait(key.short(), (peer, id))
                .map_or(Offered::Copied, |(peer, id)| {
                    Offered::Known(Source::Gossip(peer, id))
                }),
            (_, source) => Offered::Known(source),
        }
    }

    /// Holds what came by gossip, as far as there is room for that; gives back whose it is where it is not held.
    fn hold(&mut self, mut batch: Batch) -> Option<Source> {
        let cost = batch.cost();
        let Some(fresh) = batch.items.pop() else {
            return Some(batch.source);
        };
        if !matches!(batch.source, Source::Gossip(..)) {
            return Some(batch.source);
        }
        let from = batch.source.peer();
        let kind = batch.kind;
        let mut queues = ItemKind::ALL.into_iter().zip(&mut self.held);
        let Some((_, queue)) = queues.find(|(of, _)| *of == kind) else {
            return Some(batch.source);
        };
        let pushed = queue.push(from, cost, (kind, batch.source, fresh.data));
        pushed.err().map(|((_, source, _), _)| source)
    }

    /// An item that was held and finds room now, to be offered again.
    pub(crate) fn next_held(&mut self) -> Option<Held> {
        let checks = &mut self.queue;
        let mut fits = |(kind, source, data): &Held| checks.fits(*kind, source.peer(), data.len());
        self.held.iter_mut().find_map(|queue| {
            let held = queue.pop_if(&mut fits)?;
            let (_, source, data) = &held;
            queue.done(source.peer(), data.len() + OVERHEAD);
            Some(held)
        })
    }

    /// Our own items: those that are too large or known are refused at once, the rest is checked.
    pub(crate) fn offer_own(
        &mut self,
        Offer {
            kind,
            items,
            reaches,
        }: Offer,
        inventory: &mut impl Inventory,
        reply: tokio::sync::oneshot::Sender<Result<Outcomes, crate::error::NetworkError>>,
    ) {
        let mut refused = Vec::with_capacity(items.len());
        let mut admitted = Vec::with_capacity(items.len());
        for (key, data) in items {
            let size = self.limits.check(kind, data.len());
            let refusal = size.err().or_else(|| {
                let standing = self.standing(kind, &key, inventory);
                let is_new = matches!(standing, Standing::New | Standing::Crowded);
                (!is_new).then_some(ProtocolError::Duplicate)
            });
            if refusal.is_none() {
                self.claim(kind, &key, inventory);
                admitted.push((key, data));
            }
            refused.push(refusal);
        }
        let own = Own {
            reaches,
            refused,
            reply,
        };
        // What is our own has no limit here; its maker has waited for room.
        let pushed = self.queue.push(Batch::of(kind, Source::Own(own), admitted));
        debug_assert!(pushed.is_ok());
    }

    /// The gossiped copies of what was in a batch, which hear of the verdict now; and blocks are remembered by their bytes.
    pub(crate) fn conclude(
        &mut self,
        kind: ItemKind,
        judged: &Judged,
    ) -> Vec<(GossipCopy, Verdict)> {
        if let Some(block) = &judged.block {
            self.note_block(&block.key);
        }
        if kind == ItemKind::Block {
            for Refused { key, verdict, .. } in &judged.refused {
                self.checking.remove(&key.short());
                if *verdict == Verdict::Reject {
                    self.rejected.insert(key.short());
                }
            }
        }
        if self.copies.count == 0 {
            return Vec::new();
        }
        let accepted = judged.accepted.iter().map(|accepted| accepted.key);
        let block = judged.block.iter().map(|block| block.key);
        let accepted = accepted.chain(block).map(|key| (key, Verdict::Accept));
        let refused = judged.refused.iter();
        let refused = refused.map(|refused| (refused.key, refused.verdict));
        let mut told = Vec::new();
        for (key, verdict) in accepted.chain(refused) {
            let copies = self.copies.take(key.short());
            told.extend(copies.into_iter().map(|copy| (copy, verdict)));
        }
        told
    }

    /// The chain has accepted a block, by whichever way it came.
    pub(crate) fn note_block(&mut self, key: &TransactionKey) {
        self.checking.remove(&key.short());
        self.accepted.insert(key.short());
    }

    fn standing(
        &self,
        kind: ItemKind,
        key: &TransactionKey,
        inventory: &impl Inventory,
    ) -> Standing {
        if kind != ItemKind::Block {
            inventory.standing(kind, key)
        } else if self.checking.contains(&key.short()) {
            Standing::Checking
        } else if self.accepted.contains(&key.short()) || self.rejected.contains(&key.short()) {
            Standing::Known
        } else {
            Standing::New
        }
    }

    fn claim(&mut self, kind: ItemKind, key: &TransactionKey, inventory: &mut impl Inventory) {
        if kind == ItemKind::Block {
            self.checking.insert(key.short());
        } else {
            inventory.claim(kind, key);
        }
    }
}

impl Copies {
    /// Notes a copy; gives it back where there is no room for it.
    fn wait(&mut self, id: ShortId, copy: GossipCopy) -> Option<GossipCopy> {
        if self.count >= MAX_COPIES {
            return Some(copy);
        }
        self.count += 1;
        self.waiting.entry(id).or_default().push(copy);
        None
    }

    fn take(&mut self, id: ShortId) -> Vec<GossipCopy> {
        let copies = self.waiting.remove(&id).unwrap_or_default();
        self.count = self.count.saturating_sub(copies.len());
        copies
    }
}

#[cfg(test)]
mod tests;
