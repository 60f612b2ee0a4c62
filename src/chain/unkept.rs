//! What this node says itself, blocks and votes of its own, from when the chain is given it until the chain has kept it.
//!
//! Peers hear nothing of it before ([`super::Application::flush`]): a node that has said something and lost it in a crash may say something else
//! afterwards. So propagation waits, and what serves peers from the chain's store has a [`Shown`] store, in which such blocks are not, whether they wait to be
//! kept or that has failed; nor is the state after them told ([`super::rules`]). Whoever was told that it failed may give the same again: it is in the chain then, and only kept once more,
//! also where the chain has kept it meanwhile with something else, since no peer was told of it.
//!
//! Bounds: [`MOST`]; of more the eldest are forgotten.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use bytes::Bytes;

use super::{Block, BlockPlace, ChainStore, ItemId, SyncHeader, SyncVerdict, TransactionKey};
use crate::platform::lock::lock;

/// More than a chain that keeps nothing takes.
const MOST: usize = 1024;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Unkept(Mutex<Words>);

#[derive(Debug, Default)]
struct Words {
    words: VecDeque<Word>,
    /// The last one's number.
    last: u64,
}

#[derive(Debug)]
struct Word {
    number: u64,
    key: TransactionKey,
    id: ItemId,
    /// By whatever the chain was asked to keep; peers are told once whoever asked for this one hears of it.
    is_kept: bool,
}

/// More than any word's number: the chain does not have it yet, so nothing that it keeps meanwhile is this.
const BEING_SAID: u64 = u64::MAX;

impl Unkept {
    /// The chain is about to be given this.
    pub(crate) fn begin(&self, key: TransactionKey, id: ItemId) -> Saying<'_> {
        lock(&self.0).put(BEING_SAID, key, id);
        Saying {
            unkept: self,
            key: Some(key),
        }
    }

    /// The chain has been given this.
    pub(crate) fn say(&self, key: TransactionKey, id: ItemId) {
        let mut words = lock(&self.0);
        let number = words.next();
        words.put(number, key, id);
    }

    /// The last that was said.
    pub(crate) fn last(&self) -> u64 {
        lock(&self.0).last
    }

    /// All up to this one is kept.
    pub(crate) fn keep(&self, last: u64) {
        let mut words = lock(&self.0);
        let kept = words.words.iter_mut().filter(|word| word.number <= last);
        kept.for_each(|word| word.is_kept = true);
    }

    /// Peers are told of this.
    pub(crate) fn tell(&self, key: &TransactionKey) {
        lock(&self.0).words.retain(|word| word.key != *key);
    }

    /// Peers have a block all the same: it came from them.
    fn heard(&self, id: &ItemId) {
        lock(&self.0).words.retain(|word| word.id != *id);
    }

    /// What the chain calls the item of these bytes, which it was given and of which no peer was told.
    pub(crate) fn given(&self, key: &TransactionKey) -> Option<ItemId> {
        let words = lock(&self.0);
        let given = words.words.iter().find(|word| word.key == *key);
        given.map(|word| word.id.clone())
    }

    /// Whether all that was said is kept.
    pub(super) fn is_empty(&self) -> bool {
        lock(&self.0).words.iter().all(|word| word.is_kept)
    }

    fn holds_back(&self, id: &ItemId) -> bool {
        let words = lock(&self.0);
        let mut held = words.words.iter().filter(|word| !word.is_kept);
        held.any(|word| word.id == *id)
    }
}

impl Words {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// The newest word, in place of the same that was said before.
    fn put(&mut self, number: u64, key: TransactionKey, id: ItemId) {
        self.words.retain(|word| word.key != key);
        self.words.push_back(Word {
            number,
            key,
            id,
            is_kept: false,
        });
        if self.words.len() > MOST {
            self.words.pop_front();
        }
    }
}

/// A word that the chain is being given: where this is dropped and not [`Self::said`], the chain does not have it.
#[derive(Debug)]
pub(crate) struct Saying<'a> {
    unkept: &'a Unkept,
    key: Option<TransactionKey>,
}

impl Saying<'_> {
    /// The chain has it, and may keep it from now on.
    pub(crate) fn said(mut self) {
        let Some(key) = self.key.take() else { return };
        let mut words = lock(&self.unkept.0);
        let number = words.next();
        let said = words.words.iter_mut().filter(|word| word.key == key);
        said.for_each(|word| word.number = number);
    }
}

impl Drop for Saying<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.unkept.tell(&key);
        }
    }
}

/// A chain's store as peers may see it.
pub(crate) struct Shown {
    store: Arc<dyn ChainStore>,
    unkept: Arc<Unkept>,
}

impl Shown {
    pub(crate) fn new(store: Arc<dyn ChainStore>, unkept: Arc<Unkept>) -> Self {
        Self { store, unkept }
    }
}

impl ChainStore for Shown {
    fn read_header(&self, header: &Bytes) -> Option<SyncHeader> {
        self.store.read_header(header)
    }

    fn read_block(&self, block: &Block) -> Option<SyncHeader> {
        self.store.read_block(block)
    }

    fn keeps_blocks(&self) -> bool {
        self.store.keeps_blocks()
    }

    /// The highest block under which nothing is held back.
    fn tip(&self) -> BlockPlace {
        let mut tip = self.store.tip();
        while self.unkept.holds_back(&tip.id)
            && let Some(height) = tip.height.checked_sub(1)
            && let Some(id) = self.store.id_at(height)
        {
            tip = BlockPlace { height, id };
        }
        tip
    }

    fn base(&self) -> u64 {
        self.store.base()
    }

    fn is_readable(&self) -> bool {
        self.store.is_readable()
    }

    fn id_at(&self, height: u64) -> Option<ItemId> {
        let id = self.store.id_at(height)?;
        (!self.unkept.holds_back(&id)).then_some(id)
    }

    fn headers(&self, from: u64, max_count: usize, max_bytes: usize) -> Vec<Bytes> {
        let mut headers = self.store.headers(from, max_count, max_bytes);
        if !self.unkept.is_empty() {
            let is_shown = |header: &Bytes| {
                let read = self.store.read_header(header);
                read.is_none_or(|read| !self.unkept.holds_back(&read.id))
            };
            let shown = headers.iter().take_while(|header| is_shown(header));
            let count = shown.count();
            headers.truncate(count);
        }
        headers
    }

    fn block(&self, id: &ItemId) -> Option<Block> {
        if self.unkept.holds_back(id) {
            return None;
        }
        self.store.block(id)
    }

    fn append_headers(&self, headers: &[Bytes]) -> (usize, SyncVerdict) {
        self.store.append_headers(headers)
    }

    fn is_better(&self, head: &SyncHeader) -> bool {
        self.store.is_better(head)
    }

    fn append(&self, block: &Block) -> SyncVerdict {
        if !self.unkept.is_empty()
            && let Some(header) = self.store.read_block(block)
        {
            self.unkept.heard(&header.id);
        }
        self.store.append(block)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{OnceLock, Weak};

    use super::*;
    use crate::{
        chain::{
            Application, Item, StateRequest,
            ledger::{self, Address, Genesis, Ledger, development_key},
            rules::{Rules, Synchronous, at_once},
        },
        intake::{DeliveredBlocks, check_block},
        platform::test,
        storage::MemoryStore,
    };

    fn ledger() -> Ledger {
        let store = MemoryStore::new(1 << 24, &ledger::SCHEMA).expect("memory");
        Ledger::open(Genesis::development("unkept"), Arc::new(store)).expect("opened")
    }

    /// The next block, which the ledger takes.
    fn grow(ledger: &Ledger) -> Block {
        let key = development_key("unkept", "proposer");
        let block = ledger
            .propose(&key, ledger.tip().height + 1)
            .expect("a block");
        ledger.deliver(&Item::Block(block.clone()));
        block
    }

    #[test]
    fn what_is_not_kept_is_shown_to_nobody_until_it_is() {
        let (ledger, unkept) = (ledger(), Arc::<Unkept>::default());
        let shown = Shown::new(Arc::new(ledger.clone()), Arc::clone(&unkept));
        let kept = grow(&ledger);
        let blocks = [(); 2].map(|()| {
            let block = grow(&ledger);
            let header = shown.read_block(&block).expect("a block");
            unkept.say(TransactionKey::of(&block.data), header.id);
            block
        });
        let ids = blocks.each_ref().map(|block| {
            let header = shown.read_block(block).expect("a block");
            header.id
        });
        let seen = |shown: &Shown| {
            let blocks = ids.iter().filter_map(|id| shown.block(id)).count();
            let places = (1..4).filter_map(|height| shown.id_at(height)).count();
            let headers = shown.headers(1, 10, 10_000).len();
            (shown.tip().height, headers, places, blocks)
        };
        assert_eq!(seen(&shown), (1, 1, 1, 0));
        let id = shown.read_block(&kept).expect("a block").id;
        assert!(shown.tip().id == id && shown.block(&id).is_some());
        // The first of them is kept, and what was said while that was under way is not.
        unkept.keep(1);
        assert_eq!(seen(&shown), (2, 2, 2, 1));
        // Whoever sends it has it.
        assert!(matches!(shown.append(&blocks[1]), SyncVerdict::Ignore(_)));
        assert_eq!(seen(&shown), (3, 3, 3, 2));
    }

    #[test]
    fn the_state_after_what_is_not_kept_is_told_to_nobody_either() {
        let ledger = ledger();
        let rules = Synchronous::new(Arc::new(ledger.clone()));
        let shown = rules.synced().store.expect("it syncs");
        let height_of = |height| {
            let address = Address::of(&development_key("unkept", "account 0"));
            let request = StateRequest {
                key: address.as_bytes().to_vec().into(),
                height,
            };
            let state = at_once(rules.query(&request));
            state.map(|state| state.height)
        };
        grow(&ledger);
        let block = grow(&ledger);
        let told = |heights: [Option<u64>; 3]| heights.map(height_of);
        let asked = [None, Some(1), Some(2)];
        assert_eq!(told(asked), [Some(2), Some(1), Some(2)]);
        let id = shown.read_block(&block).expect("a block").id;
        rules.unkept().say(TransactionKey::of(&block.data), id);
        assert_eq!(told(asked), [Some(1), Some(1), None]);
        rules.unkept().keep(rules.unkept().last());
        assert_eq!(told(asked), [Some(2), Some(1), Some(2)]);
    }

    #[test]
    fn the_last_that_were_said_may_be_given_again_until_they_are_kept() {
        let unkept = Unkept::default();
        let key = |number: usize| TransactionKey::of(&number.to_be_bytes());
        let id = |number: usize| ItemId::sha256(&number.to_be_bytes());
        for number in 0..=MOST {
            unkept.say(key(number), id(number));
            unkept.say(key(number), id(number));
        }
        assert_eq!(lock(&unkept.0).words.len(), MOST);
        assert_eq!(unkept.given(&key(0)), None, "the eldest is forgotten");
        assert_eq!(unkept.given(&key(MOST)), Some(id(MOST)));
        let last = unkept.last();
        unkept.say(key(7), id(7));
        unkept.keep(last);
        assert!(unkept.holds_back(&id(7)), "it was said again");
        // This is kept with something else, but nobody was told.
        assert!(!unkept.holds_back(&id(MOST)));
        assert_eq!(unkept.given(&key(MOST)), Some(id(MOST)));
        unkept.tell(&key(MOST));
        assert_eq!(unkept.given(&key(MOST)), None);
    }

    /// A chain that keeps what it has while it is given a block.
    #[derive(Default)]
    struct KeepsMeanwhile {
        rules: OnceLock<Weak<Synchronous>>,
        fails: bool,
    }

    impl Application for KeepsMeanwhile {
        fn deliver(&self, _: &Item) {
            let rules = self.rules.get().and_then(Weak::upgrade);
            let rules = rules.expect("it is asked by them");
            rules.unkept().keep(rules.unkept().last());
            assert!(!self.fails, "on purpose");
        }
    }

    #[core::prelude::v1::test]
    fn what_the_chain_is_being_given_is_not_kept_with_what_it_has() {
        for fails in [false, true] {
            let chain = Arc::new(KeepsMeanwhile {
                fails,
                ..KeepsMeanwhile::default()
            });
            let rules = Arc::new(Synchronous::new(chain.clone()));
            chain.rules.set(Arc::downgrade(&rules)).expect("once");
            let (block, blocks) = (Block::new("a block"), DeliveredBlocks::new(8, &[1; 16]));
            let key = TransactionKey::of(&block.data);
            let (checked, _) = at_once(check_block(
                &block,
                None,
                &*rules,
                Some(&blocks),
                Some(&key),
            ));
            let unkept = rules.unkept();
            assert_eq!(unkept.holds_back(&checked.id), !fails);
            assert_eq!(unkept.given(&key).is_some(), !fails);
            unkept.keep(unkept.last());
            assert!(!unkept.holds_back(&checked.id));
        }
    }
}
