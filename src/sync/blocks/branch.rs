//! The chain that is being followed, from the last block that is here: its headers' places, and of each whether its block is here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

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
    /// So many of the next blocks are here, one after the other.
    whole: usize,
    /// The heights whose blocks are nowhere yet.
    pub(super) missing: BTreeSet<u64>,
    /// The header with which it was better than the store's chain, when that was asked last: then its blocks are fetched.
    pub(super) best: Option<SyncHeader>,
    /// It was better at some time.
    pub(super) was_better: bool,
    /// It was better, until its blocks were here: its leader is asked for more, whatever it has said.
    pub(super) is_outgrown: bool,
    /// The leader has no more headers.
    pub(super) is_complete: bool,
    /// When something of it last came.
    pub(super) moved_at: Instant,
    /// Since when nobody is known who has its next block.
    pub(super) orphaned: Option<Instant>,
    /// How many times one after the other the chain could not take its next block.
    pub(super) failures: u32,
}

/// A block of it.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) id: ItemId,
    /// Who sent its header.
    pub(super) from: PeerId,
    /// With who brought it.
    pub(super) block: Option<(Block, PeerId)>,
}

impl Branch {
    pub(super) fn new(leader: PeerId, fork: BlockPlace, now: Instant) -> Self {
        Self {
            leader,
            head: fork.clone(),
            fork,
            wanted: VecDeque::new(),
            whole: 0,
            missing: BTreeSet::new(),
            best: None,
            was_better: false,
            is_outgrown: false,
            is_complete: false,
            moved_at: now,
            orphaned: None,
            failures: 0,
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

    /// Who has sent how many of its headers.
    pub(super) fn senders(&self) -> BTreeMap<PeerId, u64> {
        let mut senders = BTreeMap::new();
        for wanted in &self.wanted {
            *senders.entry(wanted.from).or_default() += 1;
        }
        senders
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
    pub(super) fn put(&mut self, height: u64, id: &ItemId, block: Block, from: PeerId) -> bool {
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
        wanted.block = Some((block, from));
        let is_here = |wanted: &Wanted| wanted.block.is_some();
        while self.wanted.get(self.whole).is_some_and(is_here) {
            self.whole += 1;
        }
        true
    }

    /// The first block that is not here, and its height.
    pub(super) fn first_missing(&self) -> Option<(u64, &Wanted)> {
        let height = self.next().saturating_add(self.whole as u64);
        Some((height, self.wanted.get(self.whole)?))
    }

    /// Whether it can take the place of a chain that ends at this height: it stands on that chain's last block, or its blocks are here as
    /// far as it is longer, or better.
    pub(super) fn takes_over_from(&self, tip: &BlockPlace) -> bool {
        let Some(best) = &self.best else {
            return false;
        };
        let here = self.fork.height.saturating_add(self.whole as u64);
        self.fork == *tip || here > tip.height || here >= best.height
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
        let blocks = self.wanted.iter().map_while(|wanted| {
            let (block, _) = wanted.block.as_ref()?;
            Some(block.clone())
        });
        let fits = |block: &Block| {
            let fits = size < bytes;
            size += block.data.len();
            fits
        };
        blocks.take(most).take_while(fits).collect()
    }

    /// So many blocks are in the store now: their bytes, and who brought them.
    pub(super) fn appended(&mut self, count: usize) -> (usize, BTreeSet<PeerId>) {
        let (mut bytes, mut brought) = (0, BTreeSet::new());
        for _ in 0..count {
            let Some(wanted) = self.wanted.pop_front() else {
                break;
            };
            if let Some((block, from)) = wanted.block {
                bytes += block.data.len();
                brought.insert(from);
            }
            self.whole = self.whole.saturating_sub(1);
            let height = self.next();
            self.missing.remove(&height);
            self.fork = BlockPlace {
                height,
                id: wanted.id,
            };
        }
        (bytes, brought)
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
        blocks.map(|(block, _)| block.data.len()).sum()
    }
}
