//! The nodes' chain: what its items are, and what a node of it keeps.
//!
//! Items are random bytes, the first of which says what they are. A block is one piece, as of a chain whose blocks are opaque, or a header and
//! transactions: the header holds a hash over their keys, as a Merkle root would, and is checked alone. Whoever makes such a block fills it with what
//! its own pool has had longest, and with new transactions. So it travels as in life: compact where peers have its transactions, in coded
//! chunks where it is large and they have not.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::{BufMut, Bytes};
use selkie::{
    Application, Block, Checked, Item, ItemId, ItemKind, Transaction, Vote,
    chain::{BlockParts, TransactionKey},
};
use selkie_sim_host::{Random, clock};
use sha2::{Digest, Sha256};

use crate::{executor::Node, scenario::Kind};

/// An item in one piece.
const PLAIN: u8 = 0;
/// A block's header and transactions.
const PARTS: u8 = 1;
/// What only liars accept.
const LIE: u8 = 0xff;

/// After the first byte comes who made the item; after that, in a header, what makes it another one, and the hash.
const MAKER: std::ops::Range<usize> = 1..5;
const ROOT: usize = 13;
const HEADER: usize = ROOT + 32;
/// Before each transaction of a block stands its length.
const LENGTH: usize = 4;

/// An item to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Made {
    pub(super) kind: Kind,
    pub(super) bytes: usize,
    /// Of a block of parts.
    pub(super) parts: Option<Parts>,
    pub(super) seed: u64,
    /// Which publication of the scenario makes it; none a lie.
    pub(super) publication: Option<usize>,
}

/// What a block is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    /// The part of its bytes that its maker's pool gives.
    pub(super) known: f64,
    /// The size of the others.
    pub(super) transaction_bytes: usize,
}

impl Made {
    fn lies(self) -> bool {
        self.publication.is_none()
    }

    /// The item, made by this node, and what is to be told of it.
    pub(super) fn item(self, by: Node, pool: Option<&Pool>) -> (Item, Option<String>) {
        let mut random = Random::new(self.seed);
        let kind = match self.kind {
            Kind::Transaction => ItemKind::Transaction,
            Kind::Block => ItemKind::Block,
            Kind::Vote => ItemKind::Vote,
        };
        match (self.parts, pool) {
            (Some(parts), Some(pool)) => {
                let (block, words) = self.block(by, parts, pool, &mut random);
                (Item::Block(block), Some(words))
            }
            _ => {
                let first = if self.lies() { LIE } else { PLAIN };
                let data = piece(first, by, self.bytes, &mut random);
                (Item::new(kind, data), None)
            }
        }
    }

    fn block(self, by: Node, parts: Parts, pool: &Pool, random: &mut Random) -> (Block, String) {
        let room = self.bytes.saturating_sub(HEADER);
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a part of some megabytes"
        )]
        let known = (room as f64 * parts.known) as usize;
        let mut transactions = pool.eldest(known);
        let pooled = transactions.len();
        let sum = transactions.iter().map(|one| LENGTH + one.len()).sum();
        let mut rest = room.saturating_sub(sum);
        while rest > LENGTH + MAKER.end {
            let bytes = parts.transaction_bytes.min(rest - LENGTH);
            transactions.push(piece(PLAIN, by, bytes, random).into());
            rest -= LENGTH + bytes;
        }
        let mut header = piece(if self.lies() { LIE } else { PARTS }, by, ROOT, random);
        header.extend(root(&transactions));
        let words = format!(
            "makes a block of {} transactions, {pooled} of which its pool has",
            transactions.len()
        );
        (joined(&header, &transactions), words)
    }
}

/// So many random bytes, for what repeats is compressed on its way: after what they are, and whose.
fn piece(first: u8, by: Node, bytes: usize, random: &mut Random) -> Vec<u8> {
    let mut data = vec![0; bytes];
    random.fill(&mut data);
    data[0] = first;
    data[MAKER].copy_from_slice(&u32::try_from(by).unwrap_or(u32::MAX).to_le_bytes());
    data
}

/// Who made an item.
fn maker(data: &[u8]) -> Option<Node> {
    let by = data.get(MAKER)?.first_chunk()?;
    usize::try_from(u32::from_le_bytes(*by)).ok()
}

fn root(transactions: &[Bytes]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for transaction in transactions {
        hash.update(TransactionKey::of(transaction).as_bytes());
    }
    hash.finalize().into()
}

fn joined(header: &[u8], transactions: &[Bytes]) -> Block {
    let bytes: usize = transactions.iter().map(|one| LENGTH + one.len()).sum();
    let mut data = Vec::with_capacity(header.len() + bytes);
    data.extend_from_slice(header);
    for transaction in transactions {
        data.put_u32_le(u32::try_from(transaction.len()).unwrap_or(u32::MAX));
        data.extend_from_slice(transaction);
    }
    Block::new(data)
}

/// The identities of a block's transactions.
pub(super) fn transactions(block: &Block) -> Vec<ItemId> {
    let parts = split(block).map(|parts| parts.transactions);
    let parts = parts.into_iter().flatten();
    parts.map(|data| ItemId::sha256(&data)).collect()
}

fn split(block: &Block) -> Option<BlockParts> {
    let mut rest = block.data.clone();
    if rest.first() != Some(&PARTS) || rest.len() < HEADER {
        return None;
    }
    let header = rest.split_to(HEADER);
    let mut transactions = Vec::new();
    while let Some(length) = rest.first_chunk::<LENGTH>() {
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let _ = rest.split_to(LENGTH);
        (length <= rest.len()).then(|| transactions.push(rest.split_to(length)))?;
    }
    rest.is_empty().then_some(BlockParts {
        header,
        transactions,
    })
}

/// A node's transactions that no block had, for those that make blocks.
#[derive(Clone, Default)]
pub(super) struct Pool(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    /// In the order in which they came.
    waiting: BTreeMap<u64, Bytes>,
    places: HashMap<TransactionKey, u64>,
    came: u64,
    /// Those that a block had. Who hears of one later, does not take it.
    confirmed: HashSet<TransactionKey>,
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that came first, of at most so many bytes together.
    fn eldest(&self, bytes: usize) -> Vec<Bytes> {
        let mut sum = 0;
        let this = self.lock();
        let fits = |data: &&Bytes| {
            sum += LENGTH + data.len();
            sum <= bytes
        };
        this.waiting.values().take_while(fits).cloned().collect()
    }

    fn add(&self, data: &Bytes) {
        let mut this = self.lock();
        let key = TransactionKey::of(data);
        if !this.confirmed.contains(&key) {
            let place = this.came;
            this.came += 1;
            this.waiting.insert(place, data.clone());
            this.places.insert(key, place);
        }
    }

    fn confirm(&self, transactions: &[Bytes]) {
        let mut this = self.lock();
        for transaction in transactions {
            let key = TransactionKey::of(transaction);
            if let Some(place) = this.places.remove(&key) {
                this.waiting.remove(&place);
            }
            this.confirmed.insert(key);
        }
    }
}

/// What a node holds of items.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Mind {
    /// Lies are worth nothing.
    #[default]
    Honest,
    /// Everything is accepted.
    Liar,
    /// From a moment on nothing is of use, or nothing that some nodes made: so it is not passed on.
    Withholds {
        from: Duration,
        of: Option<Vec<Node>>,
    },
}

impl Mind {
    fn withholds(&self, data: &[u8]) -> bool {
        let Self::Withholds { from, of } = self else {
            return false;
        };
        let is_theirs = |of: &Vec<Node>| maker(data).is_some_and(|maker| of.contains(&maker));
        clock::now() >= *from && of.as_ref().is_none_or(is_theirs)
    }
}

/// A node's chain.
pub(super) struct Chain {
    pub(super) mind: Mind,
    /// What it keeps, where somebody makes blocks of it.
    pub(super) pool: Option<Pool>,
}

impl Chain {
    /// An item's identity, whatever it is worth.
    pub(super) fn id(&self, item: &Item) -> ItemId {
        item.check(self).id
    }

    fn check(&self, data: &Bytes, id: impl FnOnce() -> ItemId) -> Checked {
        match (&self.mind, data.first()) {
            (_, None) => Checked::reject(data, "it is empty"),
            (Mind::Honest, Some(&LIE)) => Checked::reject(data, "it is a lie"),
            (mind, _) if mind.withholds(data) => Checked::ignore(data, "it is withheld"),
            _ => Checked::accept(id()),
        }
    }

    /// Whether an item's first bytes are those of a header.
    fn has_header(data: &[u8]) -> bool {
        matches!(data.first(), Some(&(PARTS | LIE))) && data.len() >= HEADER
    }
}

impl Application for Chain {
    fn check_transaction(&self, transaction: &Transaction) -> Checked {
        let data = &transaction.data;
        self.check(data, || ItemId::sha256(data))
    }

    fn check_transaction_by_key(&self, transaction: &Transaction, key: &TransactionKey) -> Checked {
        self.check(&transaction.data, || ItemId::of_key(key))
    }

    fn check_vote(&self, vote: &Vote) -> Checked {
        self.check(&vote.data, || ItemId::sha256(&vote.data))
    }

    fn check_header(&self, header: &Bytes) -> Checked {
        if header.is_empty() {
            // That of a block in one piece.
            return Checked::ignore(header, "it has no header");
        }
        if !Self::has_header(header) || header.len() > HEADER {
            return Checked::reject(header, "it is no header");
        }
        self.check(header, || ItemId::sha256(header))
    }

    fn check_block(&self, block: &Block) -> Checked {
        let data = &block.data;
        if data.first() != Some(&PARTS) {
            return self.check(data, || ItemId::sha256(data));
        }
        let parts = self.split_block(block);
        match parts.filter(|parts| parts.header[ROOT..] == root(&parts.transactions)) {
            Some(parts) => self.check_header(&parts.header),
            None => Checked::reject(data, "its header is not that of its transactions"),
        }
    }

    fn split_block(&self, block: &Block) -> Option<BlockParts> {
        split(block)
    }

    fn join_block(&self, header: &Bytes, transactions: &[Bytes]) -> Option<Block> {
        let is_of_these = header.get(ROOT..)? == root(transactions);
        is_of_these.then(|| joined(header, transactions))
    }

    fn deliver(&self, item: &Item) {
        let Some(pool) = &self.pool else {
            return;
        };
        match item {
            Item::Transaction(transaction) => pool.add(&transaction.data),
            Item::Block(block) => {
                let parts = self.split_block(block);
                pool.confirm(&parts.map(|parts| parts.transactions).unwrap_or_default());
            }
            Item::Vote(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use selkie::Verdict;

    use super::*;

    fn chain(mind: Mind) -> (Chain, Pool) {
        let pool = Pool::default();
        let kept = Some(pool.clone());
        (Chain { mind, pool: kept }, pool)
    }

    fn made(kind: Kind, seed: u64, known: f64) -> Made {
        Made {
            kind,
            bytes: 10_000,
            parts: (kind == Kind::Block).then_some(Parts {
                known,
                transaction_bytes: 300,
            }),
            seed,
            publication: Some(0),
        }
    }

    fn block(seed: u64, known: f64, pool: &Pool) -> Block {
        match made(Kind::Block, seed, known).item(7, Some(pool)) {
            (Item::Block(block), Some(_)) => block,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_block_is_of_its_header_and_comes_together_again() {
        let (chain, pool) = chain(Mind::Honest);
        let block = block(1, 0.0, &pool);
        assert_eq!(block.data.len(), 10_000);
        let checked = chain.check_block(&block);
        assert_eq!(checked.verdict, Verdict::Accept, "{}", checked.reason);
        let parts = chain.split_block(&block).expect("it has parts");
        assert_eq!(chain.check_header(&parts.header).id, checked.id);
        assert_eq!(
            chain.join_block(&parts.header, &parts.transactions),
            Some(block.clone())
        );
        assert_eq!(
            chain.join_block(&parts.header, &parts.transactions[1..]),
            None
        );
        assert_eq!(maker(&parts.transactions[3]), Some(7));
        let mut forged = block.data.to_vec();
        forged[HEADER + LENGTH + 40] ^= 1;
        assert_eq!(
            chain.check_block(&Block::new(forged)).verdict,
            Verdict::Reject
        );
        for length in [0, 1, HEADER - 1, HEADER, HEADER + 3, 9_999] {
            let cut = Block::new(block.data.slice(..length));
            assert_eq!(chain.check_block(&cut).verdict, Verdict::Reject, "{length}");
        }
    }

    #[test]
    fn a_block_takes_from_its_makers_pool_what_came_first_and_confirms_it() {
        let (chain, pool) = chain(Mind::Honest);
        let transactions: Vec<_> = (0..10)
            .map(|seed| Made {
                bytes: 996,
                ..made(Kind::Transaction, seed, 0.0)
            })
            .map(|made| made.item(2, None).0)
            .collect();
        transactions.iter().for_each(|item| chain.deliver(item));
        let half = block(20, 0.5, &pool);
        let parts = chain.split_block(&half).expect("it has parts");
        let pooled = parts.transactions.iter().take(4);
        assert!(pooled.eq(transactions.iter().take(4).map(Item::data)));
        assert_eq!(maker(&parts.transactions[4]), Some(7), "the rest is new");
        chain.deliver(&Item::Block(half));
        chain.deliver(&transactions[0]);
        assert_eq!(
            pool.eldest(usize::MAX).len(),
            6,
            "what comes late is in no other block"
        );
    }

    #[test]
    fn who_withholds_or_censors_ignores_and_accuses_nobody() {
        let item = |by| made(Kind::Vote, 1, 0.0).item(by, None).0;
        let withholds = |from, of| {
            let chain = chain(Mind::Withholds { from, of }).0;
            move |by| item(by).check(&chain).verdict
        };
        let all = withholds(Duration::ZERO, None);
        assert_eq!(all(3), Verdict::Ignore);
        let some = withholds(Duration::ZERO, Some(vec![3]));
        assert_eq!([some(3), some(4)], [Verdict::Ignore, Verdict::Accept]);
        let later = withholds(Duration::from_secs(1), None);
        assert_eq!(later(3), Verdict::Accept);
    }

    #[test]
    fn a_lie_is_worth_something_to_liars_only() {
        let (honest, liar) = (chain(Mind::Honest).0, chain(Mind::Liar).0);
        let lie = Made {
            publication: None,
            ..made(Kind::Transaction, 1, 0.0)
        };
        let (item, _) = lie.item(3, None);
        assert_eq!(item.check(&honest).verdict, Verdict::Reject);
        assert_eq!(item.check(&liar).verdict, Verdict::Accept);
    }
}
