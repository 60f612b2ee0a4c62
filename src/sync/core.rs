//! Sync of a chain, as the rest of a node sees it: blocks and snapshots as one.
//!
//! [`Syncing`] is the seam: the lanes and the network task drive whatever is behind it. A node whose chain gives no store has nothing
//! there. All of sync is reached by [`ChainSync::begin`] alone, which rules hand out that may have a store
//! ([`crate::chain::rules::Synchronous`]): a wasm for none but other chains does not hold it.
//!
//! Two things pass from one to the other here: how high the chain is and peers say that they are, and that blocks have to wait.

use std::{collections::VecDeque, error::Error, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use libp2p::PeerId;

use super::{
    SyncStatus,
    blocks::{self, Sync, wire},
    snapshots::{self, Heard, Outcome, Progress, Snapshots},
};
use crate::{
    chain::{Block, ChainStore, rules::Synced},
    config::ProtocolConfig,
    lanes::{Action, Outgoing, Taken},
    platform::Instant,
};

/// What the hello of a node says that syncs.
pub(crate) const VERSION: u32 = snapshots::VERSION;

/// Begins to sync a chain, with random and secret numbers; `None`: it gives no store.
pub(crate) type Begin =
    fn(Synced, &ProtocolConfig, ([u8; 16], u32), Instant) -> Option<Box<dyn Syncing>>;

/// Reads a frame of sync.
pub(crate) type Read = fn(Bytes) -> Result<Frame, Box<dyn Error + Send + std::marker::Sync>>;

/// See the module's documentation. What each call means is said at the one of [`crate::lanes::Core`] with its name.
pub(crate) trait Syncing: Send {
    fn reader(&self) -> Read;

    /// A peer has said hello, with this version.
    fn greeted(&mut self, peer: PeerId, version: u32);

    /// A peer's last connection is gone.
    fn forget(&mut self, peer: &PeerId);

    fn joined(&mut self, peer: PeerId, now: Instant);

    fn moved(&mut self, peer: PeerId, now: Instant);

    fn gone(&mut self, peer: PeerId, now: Instant);

    fn frame(&mut self, from: PeerId, frame: Frame, took: Taken, now: Instant);

    fn skipped(&mut self, from: PeerId, length: usize, now: Instant);

    fn unheard(&mut self, peer: PeerId, time: Duration, now: Instant);

    /// A block that the application has accepted and that did not come from here.
    fn offer(&mut self, block: &Block, from: Option<PeerId>, now: Instant);

    /// What came of work.
    fn done(&mut self, done: Done, now: Instant);

    fn next(&mut self, to: PeerId, room: usize, now: Instant) -> Option<Outgoing>;

    fn next_at(&self, to: &PeerId, now: Instant) -> Option<Instant>;

    fn is_settled(&self) -> bool;

    fn action(&mut self) -> Option<Action<Event>>;

    fn on_time(&mut self, now: Instant);

    fn next_deadline(&self) -> Option<Instant>;
}

/// A frame of a peer.
#[derive(Debug)]
pub(crate) enum Frame {
    Blocks(wire::Kind),
    Snapshots(Heard),
}

/// What the network task hears of.
#[derive(Debug)]
pub(crate) enum Event {
    /// Work for the chain, which may take long; [`Syncing::done`] is called with what came of it.
    Work(Work),
    /// How far blocks are.
    Status(SyncStatus),
    /// A peer brought blocks that the chain has taken.
    Brought(PeerId),
    /// How far a snapshot is.
    Progress(Progress),
    /// No snapshot is fetched any more.
    Ended(Outcome),
    /// The application has failed at this call.
    Failed(&'static str, String),
}

/// See [`Event::Work`].
pub(crate) struct Work(Box<dyn FnOnce() -> Done + Send>);

/// What came of it.
#[derive(Debug)]
pub(crate) enum Done {
    Blocks(Box<blocks::Done>),
    Snapshots(Box<snapshots::Done>),
}

impl Frame {
    /// Whether bytes are one, by the first.
    pub(crate) fn is_one(frame: &[u8]) -> bool {
        let key = frame.first().copied();
        key == Some(wire::KEY) || key == Some(snapshots::KEY)
    }

    /// Reads one, its length already taken off.
    ///
    /// # Errors
    /// It is none; the sender pays.
    pub(crate) fn read(frame: Bytes) -> Result<Self, Box<dyn Error + Send + std::marker::Sync>> {
        Ok(if frame.first() == Some(&wire::KEY) {
            Self::Blocks(wire::Kind::read(frame)?)
        } else {
            Self::Snapshots(Heard::read(frame)?)
        })
    }
}

impl Work {
    /// Does it.
    pub(crate) fn run(self) -> Done {
        (self.0)()
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Work")
    }
}

/// A chain's blocks and snapshots.
pub(crate) struct ChainSync {
    store: Arc<dyn ChainStore>,
    chain: Synced,
    blocks: Sync,
    snapshots: Snapshots,
    actions: VecDeque<Action<Event>>,
}

impl ChainSync {
    /// See [`Begin`].
    pub(crate) fn begin(
        chain: Synced,
        config: &ProtocolConfig,
        (seed, order): ([u8; 16], u32),
        now: Instant,
    ) -> Option<Box<dyn Syncing>> {
        let (sync, max_block) = (&config.sync, config.propagation.blocks.max_block_bytes);
        let mut begun = Self {
            store: chain.store.clone()?,
            blocks: Sync::new(sync.clone(), max_block, &seed),
            snapshots: Snapshots::new(sync.snapshots.clone(), &chain, order),
            chain,
            actions: VecDeque::new(),
        };
        begun.settle(now);
        Some(Box::new(begun))
    }

    /// Takes what both want, and tells each what it has to know of the other.
    fn settle(&mut self, now: Instant) {
        loop {
            let action = if let Some(action) = self.blocks.action() {
                action.filter_map(|event| Some(self.of_blocks(event, now)))
            } else if let Some(action) = self.snapshots.action() {
                action.filter_map(|event| self.of_snapshots(event, now))
            } else {
                break;
            };
            self.actions.extend(action);
        }
    }

    fn of_blocks(&mut self, event: blocks::Event, now: Instant) -> Event {
        match event {
            blocks::Event::Work(job) => {
                let store = Arc::clone(&self.store);
                Event::Work(Work(Box::new(move || {
                    Done::Blocks(Box::new(job.run(&*store)))
                })))
            }
            blocks::Event::Status(status) => {
                self.snapshots
                    .chain_is_at(status.tip.height, status.phase, now);
                Event::Status(status)
            }
            blocks::Event::Brought(peer) => Event::Brought(peer),
        }
    }

    fn of_snapshots(&mut self, event: snapshots::Event, now: Instant) -> Option<Event> {
        Some(match event {
            snapshots::Event::Work(job) => {
                let chain = self.chain.clone();
                Event::Work(Work(Box::new(move || {
                    Done::Snapshots(Box::new(job.run(&chain)))
                })))
            }
            snapshots::Event::Holds(holds) => {
                self.blocks.hold(holds, now);
                return None;
            }
            snapshots::Event::Progress(progress) => Event::Progress(progress),
            snapshots::Event::Ended(outcome) => Event::Ended(outcome),
            snapshots::Event::Failed(call, reason) => Event::Failed(call, reason),
        })
    }
}

impl Syncing for ChainSync {
    fn reader(&self) -> Read {
        Frame::read
    }

    fn greeted(&mut self, peer: PeerId, version: u32) {
        self.blocks.greeted(peer, version);
        self.snapshots.greeted(peer, version);
    }

    fn forget(&mut self, peer: &PeerId) {
        self.blocks.forget(peer);
        self.snapshots.forget(peer);
    }

    fn joined(&mut self, peer: PeerId, now: Instant) {
        self.blocks.joined(peer, now);
        self.snapshots.joined(peer);
        self.settle(now);
    }

    fn moved(&mut self, peer: PeerId, now: Instant) {
        self.blocks.moved(peer, now);
        self.snapshots.moved(peer, now);
        self.settle(now);
    }

    fn gone(&mut self, peer: PeerId, now: Instant) {
        self.blocks.gone(peer, now);
        self.snapshots.gone(peer, now);
        self.settle(now);
    }

    fn frame(&mut self, from: PeerId, frame: Frame, took: Taken, now: Instant) {
        match frame {
            Frame::Blocks(message) => {
                if let wire::Kind::Status(status) = &message {
                    self.snapshots.heard_of(status.height, now);
                }
                self.blocks.frame(from, message, took, now);
            }
            Frame::Snapshots(heard) => self.snapshots.frame(from, heard, took, now),
        }
        self.settle(now);
    }

    fn skipped(&mut self, from: PeerId, length: usize, now: Instant) {
        self.blocks.skipped(from, length, now);
        self.settle(now);
    }

    fn unheard(&mut self, peer: PeerId, time: Duration, now: Instant) {
        self.blocks.unheard(&peer, time);
        self.snapshots.unheard(&peer, time, now);
        self.settle(now);
    }

    fn offer(&mut self, block: &Block, from: Option<PeerId>, now: Instant) {
        self.blocks.offer(block, from, now);
        self.settle(now);
    }

    fn done(&mut self, done: Done, now: Instant) {
        match done {
            Done::Blocks(done) => self.blocks.done(*done, now),
            Done::Snapshots(done) => self.snapshots.done(*done, now),
        }
        self.settle(now);
    }

    fn next(&mut self, to: PeerId, room: usize, now: Instant) -> Option<Outgoing> {
        let next = self.blocks.next(to, now);
        let next = next.or_else(|| self.snapshots.next(to, room, now));
        self.settle(now);
        next
    }

    fn next_at(&self, to: &PeerId, now: Instant) -> Option<Instant> {
        let next = [
            self.blocks.next_at(to, now),
            self.snapshots.next_at(to, now),
        ];
        next.into_iter().flatten().min()
    }

    fn is_settled(&self) -> bool {
        self.actions.is_empty()
    }

    fn action(&mut self) -> Option<Action<Event>> {
        self.actions.pop_front()
    }

    fn on_time(&mut self, now: Instant) {
        self.blocks.on_time(now);
        self.snapshots.on_time(now);
        self.settle(now);
    }

    fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [self.blocks.next_deadline(), self.snapshots.next_deadline()];
        deadlines.into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        chain::{
            BlockPlace, ItemId,
            ledger::{self, Genesis, Ledger},
            rules::Synchronous,
        },
        platform::test,
        storage::MemoryStore,
        sync::snapshots::Message,
    };

    /// Does what work there is.
    fn work(sync: &mut dyn Syncing, now: Instant) {
        while let Some(action) = sync.action() {
            if let Action::Tell(Event::Work(work)) = action {
                sync.done(work.run(), now);
            }
        }
    }

    #[test]
    fn of_who_is_far_ahead_of_our_blocks_a_snapshot_is_wanted() {
        let store = MemoryStore::new(1 << 24, &ledger::SCHEMA).expect("memory");
        let ledger = Ledger::open(Genesis::development("cores"), Arc::new(store)).expect("one");
        let chain = Synchronous::new(Arc::new(ledger)).synced();
        let (peer, now) = (PeerId::random(), crate::platform::now());
        let begun = ChainSync::begin(chain, &ProtocolConfig::default(), ([1; 16], 1), now);
        let mut sync = begun.expect("it has a store");
        sync.greeted(peer, VERSION);
        sync.joined(peer, now);
        work(&mut *sync, now);
        let tip = BlockPlace {
            height: 1_000_000,
            id: ItemId::new(&[7; 32]).expect("short"),
        };
        let status = wire::Status::new(&tip, 0);
        let status = Frame::Blocks(wire::Kind::Status(status));
        sync.frame(peer, status, Taken::nothing(), now);
        work(&mut *sync, now);
        let mut sent = std::iter::from_fn(|| sync.next(peer, 1 << 20, now));
        let seek = Message::Seek.into_frame();
        assert!(sent.any(|outgoing| outgoing.bytes == seek));
    }

    #[test]
    fn a_chain_without_a_store_is_not_synced() {
        let now = crate::platform::now();
        let none = ChainSync::begin(
            Synced::default(),
            &ProtocolConfig::default(),
            ([1; 16], 1),
            now,
        );
        assert!(none.is_none());
    }
}
