//! A chain for tests, in memory: the longest branch is the best. Used by the tests of sync in `src/` and by those of whole nodes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use selkie::{
    Application, Block, Checked, ItemId,
    chain::{BlockPlace, ChainStore, SyncHeader, SyncVerdict},
};

/// A header: height, parent, the body's SHA-256, and a number that tells branches apart.
const HEADER: usize = 8 + 32 + 32 + 4;
/// A body that begins like this is rejected, and a header with this number.
pub const BAD: &[u8] = b"bad";
/// Over a body that begins like this it panics when it is appended.
pub const PANIC: &[u8] = b"panic";
pub const BAD_NUMBER: u32 = u32::MAX;

/// A block after this one.
pub fn block(parent: &BlockPlace, number: u32, body: &[u8]) -> Block {
    let height = parent.height + 1;
    let mut data = height.to_le_bytes().to_vec();
    data.extend(parent.id.as_bytes());
    data.extend(ItemId::sha256(body).as_bytes());
    data.extend(number.to_le_bytes());
    data.extend(body);
    Block::new(data)
}

pub fn header(block: &Block) -> Bytes {
    block.data.slice(..HEADER)
}

pub fn read(header: &[u8]) -> Option<SyncHeader> {
    let (height, rest) = header.split_first_chunk::<8>()?;
    let parent = rest.get(..32)?;
    (header.len() == HEADER).then_some(SyncHeader {
        height: u64::from_le_bytes(*height),
        id: ItemId::sha256(header),
        parent: ItemId::new(parent)?,
    })
}

pub fn genesis() -> BlockPlace {
    BlockPlace {
        height: 0,
        id: ItemId::sha256(b"genesis"),
    }
}

#[derive(Debug, Default)]
struct State {
    blocks: HashMap<ItemId, (SyncHeader, Block)>,
    /// The best chain, from height 1 on.
    best: Vec<ItemId>,
    headers: HashMap<ItemId, u64>,
    base: u64,
    /// So many times the next block can't be appended.
    fails: usize,
    /// So many times reading the next block panics.
    panics: usize,
    /// So many times reading a block or an identity fails, and so many times headers.
    misses: usize,
    header_misses: usize,
    /// Nothing can be read.
    is_lost: bool,
    /// Branches that begin below this height are of no use.
    final_height: u64,
    appended: usize,
    /// Headers are the chain.
    is_light: bool,
}

/// The store, which is the application too.
#[derive(Clone, Debug, Default)]
pub struct SmallChain(Arc<Mutex<State>>);

impl SmallChain {
    /// A chain of so many blocks with bodies of so many bytes.
    pub fn of(length: u64, bytes: usize) -> Self {
        let chain = Self::default();
        chain.grow(length, 0, bytes);
        chain
    }

    /// Adds blocks to the tip.
    pub fn grow(&self, count: u64, number: u32, bytes: usize) {
        for _ in 0..count {
            let tip = self.tip();
            let mut body = (tip.height + 1).to_le_bytes().to_vec();
            body.resize(bytes.max(8), 7);
            self.put(&block(&tip, number, &body));
        }
    }

    /// Takes a block whatever it is.
    pub fn put(&self, block: &Block) {
        let header = self.read_block(block).expect("a block");
        self.state().put(header, block);
    }

    /// The same blocks up to a height, in a store of its own.
    pub fn fork(&self, height: u64) -> Self {
        let fork = Self::default();
        for at in 1..=height {
            let id = self.id_at(at).expect("it is here");
            fork.put(&self.block(&id).expect("it is here"));
        }
        fork
    }

    /// The same headers up to a height, and no blocks.
    pub fn light(&self, height: u64) -> Self {
        let light = self.fork(height);
        light.state().is_light = true;
        light
    }

    /// Headers and blocks below this height are not served.
    pub fn prune(&self, base: u64) {
        self.state().base = base;
    }

    /// The next appends fail as on a full disk.
    pub fn fail(&self, times: usize) {
        self.state().fails = times;
    }

    /// The next blocks that are read make it panic.
    pub fn panic(&self, times: usize) {
        self.state().panics = times;
    }

    /// The next block or identity can't be read, so many times.
    pub fn miss(&self, times: usize) {
        self.state().misses = times;
    }

    /// The next headers can't be read, so many times.
    pub fn miss_headers(&self, times: usize) {
        self.state().header_misses = times;
    }

    /// From now on blocks and identities can't be read.
    pub fn lose(&self) {
        self.state().is_lost = true;
    }

    /// The chain is final up to this height.
    pub fn finalize(&self, height: u64) {
        self.state().final_height = height;
    }

    /// Blocks that `append` was given and took.
    pub fn appended(&self) -> usize {
        self.state().appended
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody has panicked")
    }
}

impl State {
    /// Whether something can be read now.
    fn reads(&mut self) -> bool {
        let misses = self.misses;
        self.misses = misses.saturating_sub(1);
        misses == 0 && !self.is_lost
    }

    fn tip(&self) -> BlockPlace {
        let height = self.best.len() as u64;
        self.best.last().map_or_else(genesis, |id| BlockPlace {
            height,
            id: id.clone(),
        })
    }

    fn id_at(&self, height: u64) -> Option<ItemId> {
        match height {
            0 => Some(genesis().id),
            height => self.best.get(usize::try_from(height - 1).ok()?).cloned(),
        }
    }

    fn put(&mut self, header: SyncHeader, block: &Block) {
        let id = header.id.clone();
        self.blocks
            .insert(id.clone(), (header.clone(), block.clone()));
        if header.height <= self.best.len() as u64 {
            return;
        }
        // The branch from where it leaves the best chain.
        let mut branch = vec![id];
        let mut parent = header.parent;
        let mut height = header.height - 1;
        while self.id_at(height).as_ref() != Some(&parent) {
            branch.push(parent.clone());
            parent = self.blocks[&parent].0.parent.clone();
            height -= 1;
        }
        self.best.truncate(usize::try_from(height).expect("small"));
        self.best.extend(branch.into_iter().rev());
    }
}

impl ChainStore for SmallChain {
    fn read_header(&self, header: &Bytes) -> Option<SyncHeader> {
        read(header)
    }

    fn read_block(&self, block: &Block) -> Option<SyncHeader> {
        let (header, body) = block.data.split_at_checked(HEADER)?;
        let panics = {
            let mut state = self.state();
            let before = state.panics;
            state.panics = before.saturating_sub(1);
            before > 0
        };
        assert!(!panics, "reading a block");
        let is_whole = header.get(40..72)? == ItemId::sha256(body).as_bytes();
        is_whole.then(|| read(header))?
    }

    fn keeps_blocks(&self) -> bool {
        !self.state().is_light
    }

    fn tip(&self) -> BlockPlace {
        self.state().tip()
    }

    fn base(&self) -> u64 {
        let state = self.state();
        match state.is_light {
            true => state.tip().height + 1,
            false => state.base,
        }
    }

    fn is_readable(&self) -> bool {
        !self.state().is_lost
    }

    fn id_at(&self, height: u64) -> Option<ItemId> {
        let mut state = self.state();
        let is_read = state.reads();
        state.id_at(height).filter(|_| is_read)
    }

    fn headers(&self, from: u64, max_count: usize, max_bytes: usize) -> Vec<Bytes> {
        let mut state = self.state();
        if state.header_misses > 0 {
            state.header_misses -= 1;
            return Vec::new();
        }
        let most = max_count.min(max_bytes.div_ceil(HEADER).max(1));
        let from = usize::try_from(from.max(1) - 1).expect("small");
        let ids = state.best.iter().skip(from).take(most);
        ids.map(|id| header(&state.blocks[id].1)).collect()
    }

    fn block(&self, id: &ItemId) -> Option<Block> {
        let mut state = self.state();
        let is_read = state.reads();
        let (header, block) = state.blocks.get(id)?;
        (header.height >= state.base && is_read).then(|| block.clone())
    }

    fn append_headers(&self, headers: &[Bytes]) -> (usize, SyncVerdict) {
        let mut state = self.state();
        for (count, bytes) in headers.iter().enumerate() {
            let header = read(bytes).expect("the network reads them first");
            let known = |id: &ItemId| {
                *id == genesis().id
                    || state.blocks.contains_key(id)
                    || state.headers.contains_key(id)
            };
            if !known(&header.parent) {
                return (count, SyncVerdict::Retry("no parent".to_owned()));
            }
            if header.height <= state.final_height {
                return (
                    count,
                    SyncVerdict::Ignore("the chain is final there".to_owned()),
                );
            }
            if bytes.ends_with(&BAD_NUMBER.to_le_bytes()) {
                return (count, SyncVerdict::Reject("a bad header".to_owned()));
            }
            if state.is_light {
                // The tip goes with them where their branch is the longest.
                state.put(header, &Block::new(bytes.clone()));
            } else {
                state.headers.insert(header.id, header.height);
            }
        }
        (headers.len(), SyncVerdict::Accept)
    }

    fn append(&self, block: &Block) -> SyncVerdict {
        let Some(header) = self.read_block(block) else {
            return SyncVerdict::Reject("no block".to_owned());
        };
        assert!(!block.data[HEADER..].starts_with(PANIC), "a block");
        let mut state = self.state();
        if state.fails > 0 {
            state.fails -= 1;
            return SyncVerdict::Retry("the disk is full".to_owned());
        }
        if state.blocks.contains_key(&header.id) {
            return SyncVerdict::Ignore("it is here".to_owned());
        }
        if header.parent != genesis().id && !state.blocks.contains_key(&header.parent) {
            return SyncVerdict::Retry("no parent".to_owned());
        }
        if block.data[HEADER..].starts_with(BAD) {
            return SyncVerdict::Reject("a bad body".to_owned());
        }
        state.put(header, block);
        state.appended += 1;
        SyncVerdict::Accept
    }
}

impl Application for SmallChain {
    fn check_block(&self, block: &Block) -> Checked {
        match self.read_block(block) {
            Some(header) => Checked::accept(header.id),
            None => Checked::reject(&block.data, "no block"),
        }
    }

    fn chain_store(&self) -> Option<Arc<dyn ChainStore>> {
        Some(Arc::new(self.clone()))
    }
}
