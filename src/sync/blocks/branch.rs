//! The chain that is being followed, from the last block that is here: its headers' places, and of each whether its block is here.

use std::collections::{BTreeSet, VecDeque};

use libp2p::PeerId;

use crate::{
    chain::{Block, BlockPlace, ItemId, SyncHeader},
    platform::Instant,
};

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Branch {
    /// Whose chain it is.
    pub(super) leader: PeerId,
    /// The last block of it that the store holds.
    pub(super) fork: BlockPlace,
    /// Its last header that is known.
    pub(super) head: BlockPlace,
    wanted: VecDeque<Wanted>,
    /// The heights whose blocks are nowhere yet.
    pub(super) missing: BTreeSet<u64>,
    /// Whether it is better than the store's chain: then its blocks are fetched.
    pub(super) is_better: bool,
    /// The leader has no more headers.
    pub(super) is_complete: bool,
    /// When something of it last came.
    pub(super) moved_at: Instant,
    /// Since when nobody is known who has its next block.
    pub(super) orphaned: Option<Instant>,
}

/// A block of it.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) id: ItemId,
    /// Who sent its header.
    pub(super) from: PeerId,
    pub(super) block: Option<Block>,
}

impl Branch {
    pub(super) fn new(leader: PeerId, fork: BlockPlace, now: Instant) -> Self {
        Self {
            leader,
            head: fork.clone(),
            fork,
            wanted: VecDeque::new(),
            missing: BTreeSet::new(),
            is_better: false,
            is_complete: false,
            moved_at: now,
            orphaned: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.wanted.len()
    }

    /// Headers that follow on its head.
    pub(super) fn extend(&mut self, headers: &[SyncHeader], from: PeerId) {
        for header in headers {
            self.missing.insert(header.height);
            self.head = header.place();
            self.wanted.push_back(Wanted {
                id: header.id.clone(),
                from,
                block: None,
            });
        }
    }

    /// The height of the next block to be appended.
    pub(super) fn next(&self) -> u64 {
        self.fork.height.saturating_add(1)
    }

    fn place(&self, height: u64) -> Option<usize> {
        usize::try_from(height.checked_sub(self.next())?).ok()
    }

    pub(super) fn get(&self, height: u64) -> Option<&Wanted> {
        self.wanted.get(self.place(height)?)
    }

    /// A block of this height and identity has come. False: it is of no use.
    pub(super) fn put(&mut self, height: u64, id: &ItemId, block: Block) -> bool {
        let Some(place) = self.place(height) else {
            return false;
        };
        let Some(wanted) = self.wanted.get_mut(place) else {
            return false;
        };
        if wanted.id != *id || wanted.block.is_some() {
            return false;
        }
        self.missing.remove(&height);
        wanted.block = Some(block);
        true
    }

    /// A block did not come from who was asked.
    pub(super) fn miss(&mut self, height: u64, id: &ItemId) {
        let is_open = |wanted: &Wanted| wanted.id == *id && wanted.block.is_none();
        if self.get(height).is_some_and(is_open) {
            self.missing.insert(height);
        }
    }

    /// The blocks that are next, at most so many and so many bytes.
    pub(super) fn ready(&self, most: usize, bytes: usize) -> Vec<Block> {
        let mut size = 0;
        let blocks = self.wanted.iter().map_while(|wanted| wanted.block.clone());
        let fits = |block: &Block| {
            let fits = size < bytes;
            size += block.data.len();
            fits
        };
        blocks.take(most).take_while(fits).collect()
    }

    /// So many blocks are in the store now: their bytes.
    pub(super) fn appended(&mut self, count: usize) -> usize {
        let mut bytes = 0;
        for _ in 0..count {
            let Some(wanted) = self.wanted.pop_front() else {
                break;
            };
            bytes += wanted.block.map_or(0, |block| block.data.len());
            let height = self.next();
            self.missing.remove(&height);
            self.fork = BlockPlace {
                height,
                id: wanted.id,
            };
        }
        bytes
    }

    /// The one that is next.
    pub(super) fn front(&self) -> Option<&Wanted> {
        self.wanted.front()
    }

    /// Bytes of the blocks that wait.
    pub(super) fn held(&self) -> usize {
        let blocks = self
            .wanted
            .iter()
            .filter_map(|wanted| wanted.block.as_ref());
        blocks.map(|block| block.data.len()).sum()
    }
}
