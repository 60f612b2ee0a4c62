//! The chain's headers alone, for who can't keep its state: a tab, a telephone.
//!
//! Headers come by sync, which sees that each follows the one before. A proposer signs a header with all before it, so of those that come
//! together the last one's signature is checked, and only where that is wrong the others', to find out whose fault it is. What
//! is final, the voters say: their votes come live, and answers about the newest final state bring a certificate. Nothing
//! goes behind a final header, and a branch of headers that leads elsewhere is dropped.
//!
//! One proposer alone can sign as many headers as it likes. So the longer branch wins only above what is decided; until the headers here
//! lead to that, another branch need not be longer; and of what nobody has voted for, at most [`MAX_UNDECIDED`] headers
//! are taken above what is decided, once anything is, and none that is [`AHEAD`] of this node's clock. A node that is further
//! behind hears the votes of now, or asks for the newest final state, and goes on.
//!
//! Questions about accounts go to peers, and their answers are checked before anybody sees them ([`Application::check_state`]): by
//! themselves where the latest was asked for, else against the header of that height, once it is known to be final.
//!
//! Of transfers only the signature and the fee are known here, so they are passed on to who knows more; blocks are not.
//! Bounds: headers are in the [`Store`], [`PAGE`] to an entry, and nothing else grows.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;

mod far;

use self::far::FarVotes;
use super::genesis::Genesis;
use super::header::Header;
use super::proven::{self, Question};
use super::stored::damaged;
use super::sync::{name, place};
use super::tally::{self, Tally, WINDOW};
use super::transfer::Transfer;
use super::tree::Hash;
use super::vote::HeaderVote;
use super::{Judgement, LedgerError, Refused};
use crate::{
    chain::{
        Application, Block, BlockPlace, ChainStore, Checked, Item, ItemId, StateRequest,
        StateResponse, SyncHeader, SyncVerdict, Transaction, TransactionKey, Vote,
    },
    platform::{
        self, SystemTime,
        lock::{Guard, lock},
    },
    storage::{Batch, KeyRange, Schema, Store, StoreError, Table},
};

/// What a store for a light ledger is opened for.
pub const LIGHT_SCHEMA: Schema = Schema {
    name: "selkie light ledger",
    steps: &[],
};

/// Headers in an entry of the store.
const PAGE: u64 = 64;
/// How far behind what is known to be final an answer about the newest final state may be.
const STALE: u64 = 16;
/// So many headers are taken above what is decided, once anything is: 3.5 MB of them.
const MAX_UNDECIDED: u64 = 16_384;
/// How far ahead of this node's clock the time of a header may be that is not decided, as with Bitcoin.
const AHEAD: Duration = Duration::from_secs(2 * 3600);

const META: Table = Table::new("meta");
const HEADERS: Table = Table::new("headers");
const GENESIS: &[u8] = b"genesis";
const FINAL: &[u8] = b"final";

/// See the module's documentation. Clones are the same.
#[derive(Clone)]
pub struct LightLedger(Arc<Inner>);

struct Inner {
    genesis: Arc<Genesis>,
    genesis_hash: Hash,
    store: Arc<dyn Store>,
    chain: Mutex<Chain>,
}

struct Chain {
    tip: Tip,
    /// The newest header that is known to be final, wherever the others are.
    newest_final: Option<Header>,
    /// The highest that is known to be decided: that one, or one whose header is not here yet.
    decided: Option<Tip>,
    /// Up to this height the headers here lead to what is decided.
    settled: u64,
    /// Votes for what is here or soon will be, and for what is far above.
    tally: Tally,
    far: FarVotes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tip {
    height: u64,
    id: Hash,
}

impl Tip {
    fn of(header: &Header) -> Self {
        Self {
            height: header.height,
            id: header.id(),
        }
    }
}

impl Chain {
    fn decided_height(&self) -> u64 {
        self.decided.map_or(0, |decided| decided.height)
    }

    fn is_decided(&mut self, decided: Tip) {
        if decided.height > self.decided_height() {
            self.decided = Some(decided);
            self.tally.is_final(decided.height);
            self.far.is_decided(decided.height);
        }
    }
}

impl std::fmt::Debug for LightLedger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LightLedger").field(&self.tip()).finish()
    }
}

impl LightLedger {
    /// The headers in a store that was opened for [`LIGHT_SCHEMA`]; where there are none it begins.
    ///
    /// # Errors
    /// The genesis is none, or the store's is another; the store can't be read or written.
    pub fn open(genesis: Genesis, store: Arc<dyn Store>) -> Result<Self, LedgerError> {
        genesis.check()?;
        let genesis_hash = genesis.hash();
        match store.get(META, GENESIS)? {
            Some(hash) if hash == genesis_hash[..] => {}
            Some(hash) => {
                return Err(LedgerError::OtherGenesis {
                    found: hex::encode(hash),
                    wanted: hex::encode(genesis_hash),
                });
            }
            None => {
                let mut batch = Batch::default();
                batch.put(META, GENESIS, genesis_hash.to_vec());
                store.commit(&batch)?;
            }
        }
        let newest_final = store.get(META, FINAL)?;
        let newest_final = newest_final.map(|header| decode(&header)).transpose()?;
        let genesis = Arc::new(genesis);
        let ledger = Self(Arc::new(Inner {
            chain: Mutex::new(Chain {
                tip: Tip {
                    height: 0,
                    id: genesis_hash,
                },
                newest_final,
                decided: newest_final.as_ref().map(Tip::of),
                settled: 0,
                tally: Tally::new(&genesis),
                far: FarVotes::new(&genesis),
            }),
            genesis,
            genesis_hash,
            store,
        }));
        let last = ledger.0.store.range(HEADERS, KeyRange::last())?.entries;
        if let Some((_, page)) = last.first() {
            let start = page.len().saturating_sub(Header::LENGTH);
            let mut chain = ledger.chain();
            chain.tip = Tip::of(&decode(&page[start..])?);
            ledger.settle(&mut chain)?;
        }
        Ok(ledger)
    }

    /// What stands for the network in every signature.
    pub fn genesis_hash(&self) -> &Hash {
        &self.0.genesis_hash
    }

    /// The height up to which its headers are known to be final.
    pub fn final_height(&self) -> u64 {
        self.chain().settled
    }

    /// The header at a height, if it is here.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn header(&self, height: u64) -> Result<Option<Header>, StoreError> {
        let Some(index) = height.checked_sub(1) else {
            return Ok(None);
        };
        let page = self.page(index / PAGE)?;
        let start = usize::try_from(index % PAGE).unwrap_or(usize::MAX) * Header::LENGTH;
        let header = page
            .get(start..)
            .and_then(|rest| rest.get(..Header::LENGTH));
        header.map(decode).transpose()
    }

    fn chain(&self) -> Guard<'_, Chain> {
        lock(&self.0.chain)
    }

    fn page(&self, number: u64) -> Result<Bytes, StoreError> {
        let page = self.0.store.get(HEADERS, &number.to_be_bytes())?;
        Ok(page.unwrap_or_default())
    }

    /// The id at a height, of the genesis too.
    fn id(&self, height: u64) -> Result<Option<Hash>, StoreError> {
        if height == 0 {
            return Ok(Some(self.0.genesis_hash));
        }
        Ok(self.header(height)?.map(|header| header.id()))
    }

    /// Takes headers of which each is the child of the one before. Where it does not: which one is wrong.
    fn take(&self, data: &[Bytes]) -> Result<(), (usize, Judgement)> {
        let at_first = |error: StoreError| -> (usize, Judgement) { (0, error.into()) };
        let mut headers = Vec::with_capacity(data.len());
        for (at, bytes) in data.iter().enumerate() {
            headers.push(Header::decode(bytes).map_err(|wrong| (at, Judgement::from(wrong)))?);
        }
        let (Some(first), Some(last)) = (headers.first(), headers.last()) else {
            return Ok(());
        };
        let useless = |what: &str| Err((0, Judgement::Useless(what.to_owned())));
        let mut chain = self.chain();
        let below = first.height.checked_sub(1);
        let none = || {
            (
                0,
                Judgement::Invalid("the genesis has no header".to_owned()),
            )
        };
        let below = below.ok_or_else(none)?;
        if self.id(below).map_err(at_first)? != Some(first.parent) {
            let what = "what is before it is not here";
            return Err((0, Judgement::Trouble(what.to_owned())));
        }
        let before = self.header(below).map_err(at_first)?;
        self.judge(&headers, before.map_or(0, |before| before.time), &chain)?;
        let settled = headers.iter().rev();
        let mut settled = settled.skip_while(|header| header.height > chain.settled);
        if let Some(header) = settled.next()
            && self.id(header.height).map_err(at_first)? != Some(header.id())
        {
            return useless("what is final there is another");
        }
        if chain.decided.is_some()
            && last.height > chain.decided_height().saturating_add(MAX_UNDECIDED)
        {
            return useless(
                "it is far above what is known to be final: more votes have to come first, or an answer about the newest final state",
            );
        }
        if last.height <= chain.tip.height {
            // Until ours leads to what is decided another may.
            let may_change = chain.decided_height() > chain.tip.height;
            if !may_change || self.id(last.height).map_err(at_first)? == Some(last.id()) {
                return useless("the chain is longer already");
            }
        }
        let (mut batch, mut page) = self.cut(first.height).map_err(at_first)?;
        for (header, bytes) in headers.iter().zip(data) {
            page.extend_from_slice(bytes);
            if header.height.is_multiple_of(PAGE) || header.height == last.height {
                let number = header.height.saturating_sub(1) / PAGE;
                batch.put(
                    HEADERS,
                    number.to_be_bytes().to_vec(),
                    std::mem::take(&mut page),
                );
            }
        }
        // What a crash loses is fetched again.
        self.0.store.commit_soon(&batch).map_err(at_first)?;
        chain.tip = Tip::of(last);
        self.decide(&mut chain).map_err(at_first)
    }

    /// Whether headers are worth having after one of this time.
    fn judge(
        &self,
        headers: &[Header],
        mut time: u64,
        chain: &Chain,
    ) -> Result<(), (usize, Judgement)> {
        let invalid = |at, what: &str| Err((at, Judgement::Invalid(what.to_owned())));
        let now = platform::date().duration_since(SystemTime::UNIX_EPOCH);
        let latest = now.unwrap_or_default().saturating_add(AHEAD).as_millis();
        let latest = u64::try_from(latest).unwrap_or(u64::MAX);
        for (at, header) in headers.iter().enumerate() {
            if !self.0.genesis.proposers.contains(&header.proposer) {
                return invalid(at, "the header is of nobody who may propose");
            }
            if header.time <= time {
                return invalid(at, "it is not after its parent");
            }
            time = header.time;
            let useless = |what: &str| Err((at, Judgement::Useless(what.to_owned())));
            if header.height > chain.decided_height() && header.time > latest {
                return useless("its time is more than two hours ahead of this node's clock");
            }
            if chain
                .decided
                .is_some_and(|decided| header.height == decided.height && header.id() != decided.id)
            {
                return useless("what is final there is another");
            }
        }
        let is_signed = |header: &Header| header.is_signed(&self.0.genesis_hash);
        if headers.last().is_none_or(is_signed) {
            return Ok(());
        }
        let wrong = headers.iter().position(|header| !is_signed(header));
        invalid(
            wrong.unwrap_or(0),
            "the header is not signed by its proposer",
        )
    }

    /// Takes away the page that a height is in, and all after it; what stands before it there.
    fn cut(&self, height: u64) -> Result<(Batch, Vec<u8>), StoreError> {
        let mut batch = Batch::default();
        let index = height.saturating_sub(1);
        let number = index / PAGE;
        batch.delete_range(HEADERS, number.to_be_bytes().to_vec(), None);
        let mut page = self.page(number)?.to_vec();
        page.truncate(usize::try_from(index % PAGE).unwrap_or(0) * Header::LENGTH);
        Ok((batch, page))
    }

    /// A header is final, by its certificate.
    fn is_final(&self, header: &Header, chain: &mut Chain) -> Result<(), StoreError> {
        chain.is_decided(Tip::of(header));
        if chain.decided == Some(Tip::of(header)) {
            self.note(header, chain)?;
        }
        self.settle(chain)
    }

    /// What the votes make final.
    fn decide(&self, chain: &mut Chain) -> Result<(), StoreError> {
        if let Some((height, id)) = chain.tally.newest_decided(u64::MAX) {
            chain.is_decided(Tip { height, id });
        }
        self.settle(chain)
    }

    /// Looks at what is decided: where another header is here, that and all after it goes.
    fn settle(&self, chain: &mut Chain) -> Result<(), StoreError> {
        let is_new = |at: &Tip| at.height > chain.settled && at.height <= chain.tip.height;
        let Some(decided) = chain.decided.filter(is_new) else {
            return Ok(());
        };
        match self.header(decided.height)? {
            Some(header) if header.id() == decided.id => {
                self.note(&header, chain)?;
                chain.settled = header.height;
                Ok(())
            }
            _ => self.cut_before(decided.height, chain),
        }
    }

    fn note(&self, header: &Header, chain: &mut Chain) -> Result<(), StoreError> {
        if chain
            .newest_final
            .is_none_or(|newest| newest.height < header.height)
        {
            let mut batch = Batch::default();
            batch.put(META, FINAL, header.encode());
            self.0.store.commit_soon(&batch)?;
            chain.newest_final = Some(*header);
        }
        Ok(())
    }

    fn cut_before(&self, height: u64, chain: &mut Chain) -> Result<(), StoreError> {
        tracing::warn!(height, "what is final is another header: back before it");
        let below = height.saturating_sub(1);
        let (mut batch, page) = self.cut(height)?;
        if !page.is_empty() {
            batch.put(HEADERS, (below / PAGE).to_be_bytes().to_vec(), page);
        }
        let header = self.header(below)?;
        self.0.store.commit_soon(&batch)?;
        chain.tip = header.as_ref().map_or(
            Tip {
                height: 0,
                id: self.0.genesis_hash,
            },
            Tip::of,
        );
        Ok(())
    }

    fn judge_transfer(&self, data: &[u8]) -> Result<Transfer, Judgement> {
        let transfer = Transfer::decode(data)?;
        let (fee, least) = (transfer.fee, self.0.genesis.minimum_fee);
        if fee < least {
            return Err(Judgement::of_state(Refused::Fee { fee, least }));
        }
        if !transfer.is_signed(&self.0.genesis_hash) {
            return Err(Judgement::Invalid(
                "the transfer is not signed by who pays".to_owned(),
            ));
        }
        Ok(transfer)
    }

    /// Votes for what is far above the headers here are counted, and not passed on: as many as a voter likes to make.
    fn judge_vote(&self, data: &[u8]) -> Result<HeaderVote, Judgement> {
        let vote = tally::judge(data, &self.0.genesis_hash, |vote| {
            let chain = self.chain();
            let standing = chain.tally.standing(vote);
            (chain.decided_height(), u64::MAX, standing)
        })?;
        let mut chain = self.chain();
        if vote.height <= chain.tip.height.saturating_add(WINDOW) {
            return Ok(vote);
        }
        if let Some(decided) = chain.far.insert(&vote) {
            chain.is_decided(decided);
        }
        Err(Judgement::Useless(
            "it votes for what is far ahead, and is counted".to_owned(),
        ))
    }

    fn check(&self, request: &StateRequest, answer: &StateResponse) -> Result<(), Judgement> {
        match Question::read(&request.key) {
            Some(Question::Final(address)) => {
                let header = proven::check_final(&self.0.genesis, &address, answer)?;
                let mut chain = self.chain();
                if header.height.saturating_add(STALE) < chain.decided_height() {
                    return Err(Judgement::Useless(
                        "the answer is older than what is known to be final".to_owned(),
                    ));
                }
                Ok(self.is_final(&header, &mut chain)?)
            }
            Some(Question::Account(address)) => {
                let Some(root) = self.root(answer.height)? else {
                    return Err(Judgement::Trouble(format!(
                        "block {} is not known to be final here",
                        answer.height
                    )));
                };
                if request.height.is_some_and(|height| height != answer.height) {
                    return Err(Judgement::Invalid("it is of another height".to_owned()));
                }
                proven::check_known(&root, &address, answer)
            }
            None => Err(Judgement::Useless("it is about no account".to_owned())),
        }
    }

    /// The root of the state at a height that is known to be final.
    fn root(&self, height: u64) -> Result<Option<Hash>, StoreError> {
        let chain = self.chain();
        let Some(newest) = chain.newest_final else {
            return Ok(None);
        };
        if height == newest.height {
            return Ok(Some(newest.state_root));
        }
        // Until they reach what is decided nothing says that they lead there.
        if height > chain.settled {
            return Ok(None);
        }
        Ok(self.header(height)?.map(|header| header.state_root))
    }
}

fn decode(bytes: &[u8]) -> Result<Header, StoreError> {
    Header::decode(bytes).map_err(|wrong| damaged(&wrong.to_string()))
}

impl Application for LightLedger {
    fn check_transaction(&self, transaction: &Transaction) -> Checked {
        self.check_transaction_by_key(transaction, &TransactionKey::of(&transaction.data))
    }

    fn check_transaction_by_key(&self, transaction: &Transaction, key: &TransactionKey) -> Checked {
        match self.judge_transfer(&transaction.data) {
            Ok(transfer) => Checked {
                fee: Some(transfer.fee),
                ..Checked::accept(ItemId::of_key(key))
            },
            Err(judgement) => judgement.checked(&transaction.data),
        }
    }

    fn check_block(&self, block: &Block) -> Checked {
        Checked::ignore(&block.data, "this node keeps headers alone")
    }

    fn check_vote(&self, vote: &Vote) -> Checked {
        match self.judge_vote(&vote.data) {
            Ok(_) => Checked::accept(ItemId::sha256(&vote.data)),
            Err(judgement) => judgement.checked(&vote.data),
        }
    }

    fn deliver(&self, item: &Item) {
        let Item::Vote(vote) = item else {
            return;
        };
        if let Ok(vote) = HeaderVote::decode(&vote.data) {
            let mut chain = self.chain();
            chain.tally.insert(&vote);
            if let Err(error) = self.decide(&mut chain) {
                tracing::error!(%error, "what is final is not kept");
            }
        }
    }

    fn provable(&self, request: StateRequest) -> StateRequest {
        proven::of_final(request)
    }

    fn check_state(&self, request: &StateRequest, answer: &StateResponse) -> Option<SyncVerdict> {
        let checked = self.check(request, answer);
        Some(checked.map_or_else(Judgement::synced, |()| SyncVerdict::Accept))
    }

    fn flush(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        self.0.store.flush()
    }

    fn close(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        self.0.store.close()
    }

    fn chain_store(&self) -> Option<Arc<dyn ChainStore>> {
        Some(Arc::new(self.clone()))
    }
}

impl ChainStore for LightLedger {
    fn read_header(&self, header: &Bytes) -> Option<SyncHeader> {
        Some(place(&Header::decode(header).ok()?))
    }

    /// None is ever asked for.
    fn read_block(&self, _: &Block) -> Option<SyncHeader> {
        None
    }

    fn keeps_blocks(&self) -> bool {
        false
    }

    fn tip(&self) -> BlockPlace {
        let tip = self.chain().tip;
        BlockPlace {
            height: tip.height,
            id: name(&tip.id),
        }
    }

    /// Nothing is served.
    fn base(&self) -> u64 {
        self.chain().tip.height.saturating_add(1)
    }

    fn id_at(&self, height: u64) -> Option<ItemId> {
        self.id(height).ok()?.as_ref().map(name)
    }

    fn headers(&self, _: u64, _: usize, _: usize) -> Vec<Bytes> {
        Vec::new()
    }

    fn block(&self, _: &ItemId) -> Option<Block> {
        None
    }

    fn append_headers(&self, headers: &[Bytes]) -> (usize, SyncVerdict) {
        match self.take(headers) {
            Ok(()) => (headers.len(), SyncVerdict::Accept),
            Err((at, judgement)) => (at, judgement.synced()),
        }
    }

    fn append(&self, _: &Block) -> SyncVerdict {
        SyncVerdict::Ignore("this node keeps headers alone".to_owned())
    }
}

#[cfg(test)]
mod tests;
