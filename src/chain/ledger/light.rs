//! The chain's headers alone, for who can't keep its state: a tab, a telephone.
//!
//! Headers come by sync, which sees that each follows the one before. A proposer signs a header with all before it, so of those that come together the
//! last one's signature is checked, and only where that is wrong the others', to find out whose fault it is. What is final, the voters say: their votes
//! come live, and answers about the newest final state bring a certificate. Nothing goes behind a final header, and a branch of headers that leads elsewhere is dropped.
//!
//! One proposer alone can sign as many headers as it likes. So a branch that contests what is here waits beside it (`contest.rs`), and takes
//! its place once it is longer, above what is final alone; where the headers here do not lead to what is decided, it need not be longer than
//! [`MAX_UNDECIDED`] either, by turns. Of what nobody has voted for at most so many headers are taken above what is decided (at first the
//! genesis), and none that is [`judging::AHEAD`] of this node's clock. A node that is further behind hears the votes of now, or asks for the newest
//! final state, and goes on.
//!
//! Questions about accounts go to peers, and their answers are checked before anybody sees them ([`Application::check_state`]): by
//! themselves where the latest was asked for, else against the header of that height, once it is known to be final.
//!
//! Of transfers only the signature and the fee are known here, so they are passed on to who knows more; blocks are not.
//! Bounds: headers are in the [`Store`]; one branch waits in memory, of [`MAX_UNDECIDED`] headers; nothing else grows.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::future::BoxFuture;

mod contest;
mod far;
mod judging;
mod pages;

use self::{
    contest::{Contest, Turns},
    far::FarVotes,
    pages::Pages,
};
use super::genesis::Genesis;
use super::header::Header;
use super::proven::{self, Question};
use super::sync::{final_elsewhere, name, place};
use super::tally::{self, Tally, WINDOW};
use super::transfer::Transfer;
use super::tree::Hash;
use super::vote::HeaderVote;
use super::{Judgement, LedgerError, Refused};
use crate::{
    chain::{
        Application, Block, BlockPlace, ChainStore, Checked, Item, ItemId, ProvenState, StateBatch,
        StateRequest, StateResponse, StateRoot, SyncHeader, SyncVerdict, Transaction,
        TransactionKey, Vote,
    },
    platform::{
        self,
        lock::{Guard, lock},
    },
    storage::{Batch, Schema, Store, StoreError, Table},
};

/// What a store for a light ledger is opened for.
pub const LIGHT_SCHEMA: Schema = Schema {
    name: "selkie light ledger",
    steps: &[],
};

/// How far behind what is known to be final an answer about the newest final state may be.
const STALE: u64 = 16;
/// So many headers are taken above what is decided, and so many of a branch wait: 3.5 MB of them.
const MAX_UNDECIDED: u64 = 16_384;

const META: Table = Table::new("meta");
const GENESIS: &[u8] = b"genesis";
const FINAL: &[u8] = b"final";

/// See the module's documentation. Clones are the same.
#[derive(Clone)]
pub struct LightLedger(Arc<Inner>);

struct Inner {
    genesis: Arc<Genesis>,
    genesis_hash: Hash,
    store: Arc<dyn Store>,
    pages: Pages,
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
    /// A branch that may take the place of the headers here.
    contest: Option<Contest>,
    turns: Turns,
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
        let newest_final = newest_final
            .map(|header| pages::decode(&header))
            .transpose()?;
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
                contest: None,
                turns: Turns::default(),
                tally: Tally::new(&genesis),
                far: FarVotes::new(&genesis),
            }),
            genesis,
            genesis_hash,
            pages: Pages::new(&store),
            store,
        }));
        if let Some(last) = ledger.0.pages.last()? {
            let mut chain = ledger.chain();
            chain.tip = Tip::of(&last);
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
        self.0.pages.get(height)
    }

    fn chain(&self) -> Guard<'_, Chain> {
        lock(&self.0.chain)
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
        let mut headers = Vec::with_capacity(data.len());
        for (at, bytes) in data.iter().enumerate() {
            headers.push(Header::decode(bytes).map_err(|wrong| (at, Judgement::from(wrong)))?);
        }
        if headers.first().is_some_and(|first| first.height == 0) {
            let what = "the genesis has no header";
            return Err((0, Judgement::Invalid(what.to_owned())));
        }
        let mut chain = self.chain();
        let known = self.known(&headers).map_err(|error| (0, error.into()))?;
        if known == headers.len() {
            return Err((0, Judgement::Useless("it is here".to_owned())));
        }
        let taken = self.take_new(&headers[known..], &mut chain);
        taken.map_err(|(at, judgement)| (known + at, judgement))
    }

    /// How many of the first headers are here.
    fn known(&self, headers: &[Header]) -> Result<usize, StoreError> {
        for (at, header) in headers.iter().enumerate() {
            if self.id(header.height)? != Some(header.id()) {
                return Ok(at);
            }
        }
        Ok(headers.len())
    }

    /// The same, of headers that are not here.
    fn take_new(&self, headers: &[Header], chain: &mut Chain) -> Result<(), (usize, Judgement)> {
        let at_first = |error: StoreError| -> (usize, Judgement) { (0, error.into()) };
        let useless = |what: &str| Err((0, Judgement::Useless(what.to_owned())));
        let Some(first) = headers.first() else {
            return Ok(());
        };
        let parent = Tip {
            height: first.height.saturating_sub(1),
            id: first.parent,
        };
        let goes_on = |contest: &&Contest| contest.tip() == parent;
        let contest = chain.contest.as_ref().filter(goes_on);
        let is_here = self.id(parent.height).map_err(at_first)? == Some(parent.id);
        let time = match contest {
            Some(contest) => contest.time(),
            None if is_here => {
                let before = self.header(parent.height).map_err(at_first)?;
                before.map_or(0, |before| before.time)
            }
            None => {
                let what = "what is before it is not here";
                return Err((0, Judgement::Trouble(what.to_owned())));
            }
        };
        // Of a branch that waits no more are taken than may wait.
        let most = chain.decided_height().saturating_add(MAX_UNDECIDED);
        let room = usize::try_from(most.saturating_sub(parent.height)).unwrap_or(usize::MAX);
        let taken = &headers[..headers.len().min(room)];
        judging::judge(&self.0, taken, time, chain.decided)?;
        if first.height <= chain.settled {
            return Err((0, final_elsewhere(&*self.0.store)));
        }
        let goes_on = parent == chain.tip;
        let outcome = match &mut chain.contest {
            _ if taken.is_empty() => Ok(()),
            _ if goes_on => self.put(parent, taken, chain),
            Some(contest) if contest.tip() == parent => {
                contest.extend(taken);
                self.settle(chain)
            }
            other => {
                *other = Some(Contest::new(parent, taken));
                self.settle(chain)
            }
        };
        outcome.map_err(at_first)?;
        let is_ours = goes_on || taken.last().is_some_and(|last| chain.tip == Tip::of(last));
        if !is_ours && !taken.is_empty() && chain.contest.is_none() {
            return useless(
                "it leads elsewhere, or another branch took the place of one that may be longer not long ago",
            );
        }
        if taken.len() == headers.len() {
            return Ok(());
        }
        let what = "it is far above what is known to be final: more votes have to come first, or an answer about the newest final state";
        let judgement = match is_ours {
            true => Judgement::Trouble(what.to_owned()),
            false => Judgement::Useless(what.to_owned()),
        };
        Err((taken.len(), judgement))
    }

    /// Puts headers on one that is here, in place of what is above it.
    fn put(&self, parent: Tip, headers: &[Header], chain: &mut Chain) -> Result<(), StoreError> {
        self.0.pages.put_above(parent.height, headers)?;
        chain.tip = headers.last().map_or(parent, Tip::of);
        self.decide(chain)
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

    /// Looks at what is decided: where another header is here, that and all after it goes. Then whether what waits is better.
    fn settle(&self, chain: &mut Chain) -> Result<(), StoreError> {
        let is_new = |at: &Tip| at.height > chain.settled && at.height <= chain.tip.height;
        if let Some(decided) = chain.decided.filter(is_new) {
            match self.header(decided.height)? {
                Some(header) if header.id() == decided.id => {
                    self.note(&header, chain)?;
                    chain.settled = header.height;
                    chain.turns = Turns::default();
                }
                _ => self.cut_before(decided.height, chain)?,
            }
        }
        self.compare(chain)
    }

    /// The branch that waits takes the place of what is here as soon as it is better, and is dropped where it can't be any more.
    fn compare(&self, chain: &mut Chain) -> Result<(), StoreError> {
        let Some(contest) = chain.contest.take() else {
            return Ok(());
        };
        let above = contest.fork();
        let is_out = |decided: Tip| contest.contradicts(decided);
        if !(chain.settled..=chain.tip.height).contains(&above.height)
            || chain.decided.is_some_and(is_out)
        {
            return Ok(());
        }
        // What is here may lead astray, as far as nobody has voted for it.
        let is_sure = chain.decided_height() <= chain.tip.height;
        let is_longer = contest.tip().height > chain.tip.height;
        let has_waited = !is_longer && !is_sure && contest.is_full();
        let here = self.id(above.height.saturating_add(1))?;
        if has_waited && !chain.turns.take(contest.first(), here, platform::now()) {
            return Ok(());
        }
        if is_longer || has_waited {
            tracing::info!(
                fork = above.height,
                height = contest.tip().height,
                "another branch of headers has taken the place of this one"
            );
            return self.put(above, contest.headers(), chain);
        }
        chain.contest = Some(contest);
        Ok(())
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
        let header = self.header(below)?;
        self.0.pages.put_above(below, &[])?;
        let genesis = Tip {
            height: 0,
            id: self.0.genesis_hash,
        };
        chain.tip = header.as_ref().map_or(genesis, Tip::of);
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

    fn is_provable(&self, key: &Bytes) -> bool {
        proven::address(key).is_some()
    }

    fn trusted_state(&self) -> Option<StateRoot> {
        let newest = self.chain().newest_final?;
        Some(proven::state_root(newest.height, &newest.state_root))
    }

    fn verify_state(&self, batch: &StateBatch, answer: &ProvenState) -> SyncVerdict {
        let verified = proven::verify_batch(batch, answer);
        verified.map_or_else(Judgement::synced, |()| SyncVerdict::Accept)
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
