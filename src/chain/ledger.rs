//! A small account chain: what is there when no other chain is at hand, and the first that sync serves.
//!
//! Accounts are Ed25519 public keys with a balance and a count of transfers sent. A transfer ([`Transfer`]) is signed by who
//! pays, for one network ([`Genesis`]) and for one place in the account's row, so it is executed once. A block is a [`Header`], which
//! a configured proposer signs, and the transfers in a row; the header has the root of the state after them. The state is an authenticated map, so
//! that whoever trusts a header can check what a stranger says an account holds: [`verify`]. A header is final
//! when more than two thirds of the configured voters have signed it ([`Certificate`]); nothing goes behind a final one.
//!
//! This is a chain for development and for demonstrations: proposers are believed to take turns, and there is no stake and no punishment.
//! Where two blocks of one height are about, a node keeps the first that it sees until the votes decide for the other.
//!
//! Bounds: blocks that come before their parent wait, those up to 64 heights ahead and [`MAX_WAITING`] bytes of them; the nearest stay.
//! Votes, transfers and the history have theirs in `tally.rs`, `pool.rs` and `stored.rs`. Nothing that was executed is held in memory:
//! all is in the [`Store`].
//!
//! docs/ledger.md has the encodings for implementers in another language, with vectors.

mod address;
mod chain;
mod codec;
mod development;
mod execution;
mod genesis;
mod header;
mod light;
mod pool;
mod proven;
mod restore;
mod snapshot;
mod stored;
mod sync;
mod tally;
mod transfer;
mod tree;
mod vote;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
/// The secret and the public key of an account, a proposer or a voter.
pub use libp2p::identity::ed25519::Keypair;

pub use address::{Account, Address};
pub use chain::MAX_WAITING;
pub use codec::Malformed;
pub use development::{DEVELOPMENT_ACCOUNTS, DEVELOPMENT_VOTERS, development_key};
pub use execution::Refused;
pub use genesis::{Genesis, GenesisError};
pub use header::{Header, MAX_TRANSFERS};
pub use light::{LIGHT_SCHEMA, LightLedger};
pub use restore::{CHUNK_ACCOUNT, MAX_CHUNK, Restore, RestoreError};
pub use snapshot::MAX_SNAPSHOT;
pub use stored::{HISTORY, SCHEMA};
pub use transfer::Transfer;
pub use tree::{Hash, MAX_PROOF, Proof, ProofError};
pub use vote::{Certificate, CertificateError, HeaderVote};

use self::chain::Chain;
use self::execution::{Execution, Fault};
use self::proven::Question;
use self::stored::{Executed, Head, Stored};
use super::{
    Application, Block, BlockParts, ChainStore, Checked, Item, ItemId, ProvenState, SnapshotError,
    SnapshotSink, SnapshotSource, StateBatch, StateRequest, StateResponse, StateRoot, SyncVerdict,
    Transaction, TransactionKey, TrustVerifier, Vote,
};
use crate::{
    keyed::Keyed,
    platform::{
        self,
        lock::{Guard, lock},
    },
    remembered::Remembered,
    storage::{Store, StoreError},
};

/// How far a transfer's nonce may be ahead of its account.
pub const NONCE_WINDOW: u64 = 64;

/// Transfers whose signatures were checked and that are not checked again in a block: 6 MB of keys.
const CHECKED: usize = 65_536;

/// A ledger can't be opened, or can't do what it is asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// Its store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its genesis.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// The store is of another network.
    #[error(
        "the store is of the network with genesis {found}, not {wanted}: name another place; or delete it or move it away, to begin anew"
    )]
    OtherGenesis {
        /// The genesis hash in the store.
        found: String,
        /// The one asked for.
        wanted: String,
    },
    /// The size of a snapshot's chunks.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A key that is none of the genesis' proposers.
    #[error("{0} is no proposer of this network")]
    NoProposer(Address),
    /// A snapshot is being made already.
    #[error("another snapshot is being made: wait for it")]
    Making,
    /// The state of which a snapshot was to be made.
    #[error(
        "the state after block {height} is not kept any more, or its block not part of the chain: make a snapshot when a newer block is final"
    )]
    NotKept {
        /// Its height.
        height: u64,
    },
}

/// What is known of the newest block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// Its height; 0 for the genesis.
    pub height: u64,
    /// Its header's id, or the genesis hash.
    pub id: Hash,
    /// The root of the state after it.
    pub state_root: Hash,
    /// The height of the newest final block; 0 for the genesis.
    pub final_height: u64,
}

/// Checks what a peer says that an account holds, against a state root that is trusted: `value` is empty for an account of nothing.
/// This is all that a light client needs of the ledger besides headers and certificates.
///
/// # Errors
/// The proof does not show it.
pub fn verify(
    state_root: &Hash,
    address: &Address,
    value: &[u8],
    proof: &[u8],
) -> Result<Account, ProofError> {
    let proof = Proof::decode(proof)?;
    let held = (!value.is_empty()).then_some(value);
    proof.verify(state_root, address.as_bytes(), held)?;
    Ok(held.map(Account::decode).transpose()?.unwrap_or_default())
}

/// See the module's documentation. Clones are the same ledger.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

struct Inner {
    stored: Stored,
    chain: Mutex<Chain>,
    /// Transfers whose signatures are good.
    checked: Mutex<Remembered<TransactionKey>>,
}

impl Inner {
    /// The chain as its store has it.
    fn chain(&self) -> Guard<'_, Chain> {
        let mut chain = lock(&self.chain);
        chain.look_again(&self.stored);
        chain
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Ledger").field(&self.tip()).finish()
    }
}

impl Ledger {
    /// The ledger in a store that was opened for [`SCHEMA`]; where there is none it begins.
    ///
    /// # Errors
    /// The genesis is none, or the store's is another; the store can't be read or written.
    pub fn open(genesis: Genesis, store: Arc<dyn Store>) -> Result<Self, LedgerError> {
        let stored = Stored::open(genesis, store)?;
        let chain = Chain::new(&stored)?;
        let mut seed = [0; 16];
        platform::random(&mut seed).map_err(|error| StoreError::Failed {
            place: "the source of random numbers".to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self(Arc::new(Inner {
            stored,
            chain: Mutex::new(chain),
            checked: Mutex::new(Remembered::new(CHECKED, Keyed::new(&seed))),
        })))
    }

    /// Where it began.
    pub fn genesis(&self) -> &Genesis {
        &self.0.stored.genesis
    }

    /// What stands for the network in every signature.
    pub fn genesis_hash(&self) -> &Hash {
        &self.0.stored.genesis_hash
    }

    /// The newest block.
    pub fn tip(&self) -> Tip {
        let chain = self.0.chain();
        Tip {
            height: chain.head.height,
            id: chain.head.id,
            state_root: tree::root_hash(chain.head.root),
            final_height: chain.final_height,
        }
    }

    /// What an account holds after the newest block.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn account(&self, address: &Address) -> Result<Account, StoreError> {
        let root = self.head().root;
        execution::read(&self.0.stored.tree(), root, address)
    }

    /// The block at a height, if it is here.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn block(&self, height: u64) -> Result<Option<Block>, StoreError> {
        self.0.stored.block(height)
    }

    /// The height of a header, if its block is here.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn height_of(&self, id: &Hash) -> Result<Option<u64>, StoreError> {
        self.0.stored.height_of(id)
    }

    /// What makes the block at a height final, where that was seen for just this height.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn certificate(&self, height: u64) -> Result<Option<Certificate>, StoreError> {
        self.0.stored.certificate(height)
    }

    /// What keeps the ledger from writing blocks, if anything does: until it writes again.
    pub fn trouble(&self) -> Option<StoreError> {
        self.0.chain().trouble.clone()
    }

    /// A block out of the transfers that wait, on top of the newest block. It is not part of the chain yet: submit it.
    /// `time`: milliseconds since 1970.
    ///
    /// # Errors
    /// The key may not propose, or the store can't be read.
    pub fn propose(&self, key: &Keypair, time: u64) -> Result<Block, LedgerError> {
        let proposer = Address::of(key);
        if !self.genesis().proposers.contains(&proposer) {
            return Err(LedgerError::NoProposer(proposer));
        }
        let (parent, pool) = {
            let chain = self.0.chain();
            (chain.head, chain.pool.clone())
        };
        let stored = &self.0.stored;
        let least = self.genesis().minimum_fee;
        let mut execution = Execution::new(stored.tree(), parent.root, least);
        let transfers = pool.choose(MAX_TRANSFERS, |transfer| {
            match execution.transfer(transfer) {
                Ok(()) => Ok(true),
                Err(Fault::Refused(_)) => Ok(false),
                Err(Fault::Store(error)) => Err(error),
            }
        })?;
        let bytes = transfers.iter().map(|transfer| transfer.encode().into());
        let bytes: Vec<Bytes> = bytes.collect();
        let height = parent.height.saturating_add(1);
        let changes = execution.finish(&proposer)?;
        let update = stored.tree().update(parent.root, height, &changes)?;
        let header = Header {
            height,
            parent: parent.id,
            state_root: tree::root_hash(update.root),
            transfers_root: header::transfers_root(&bytes),
            count: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            time: time.max(parent.time.saturating_add(1)),
            proposer,
            signature: [0; address::SIGNATURE],
        };
        let header = header.sign(self.genesis_hash(), key);
        let head = Head {
            height,
            id: header.id(),
            time: header.time,
            root: update.root,
        };
        self.0.chain().executed = Some(Executed {
            parent: parent.id,
            head,
            update,
        });
        Ok(Block::new([header.encode(), bytes.concat()].concat()))
    }

    /// This key's vote for the newest block, unless it has none here, or its vote at that height is counted here or was for another block: one that was not
    /// submitted, or could not be kept, is given again. Submit it: peers are told when it is
    /// kept that this key has voted ([`Application::flush`]). Who tells them by other means waits for that first.
    ///
    /// # Errors
    /// The store can't be written.
    pub fn vote(&self, key: &Keypair) -> Result<Option<Vote>, StoreError> {
        let voter = Address::of(key);
        let head = {
            let chain = self.0.chain();
            let votes = chain.tally.is_voter(&voter) && chain.head.height > chain.final_height;
            if !votes || chain.tally.has_voted(&voter, chain.head.height) {
                return Ok(None);
            }
            chain.head
        };
        if !self.0.stored.votes(&voter, head.height, &head.id)? {
            return Ok(None);
        }
        let vote = HeaderVote::new(self.genesis_hash(), key, head.height, head.id);
        Ok(Some(Vote::new(vote.encode())))
    }

    /// What comes of keeping what was written, and of writing what was delivered.
    fn noted(
        &self,
        kept: BoxFuture<'static, Result<(), StoreError>>,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        let ledger = self.clone();
        let noted = move |kept| {
            let mut chain = ledger.0.chain();
            chain.note(&kept);
            kept.and_then(|()| chain.lost.clone().map_or(Ok(()), Err))
        };
        kept.map(noted).boxed()
    }

    fn head(&self) -> Head {
        self.0.chain().head
    }

    /// The block at a height whose state is kept.
    fn head_at(&self, height: u64) -> Result<Option<Head>, StoreError> {
        let newest = self.head();
        let age = newest.height.checked_sub(height);
        match age {
            Some(0) => Ok(Some(newest)),
            Some(age) if age <= HISTORY => self.0.stored.head(height),
            _ => Ok(None),
        }
    }

    /// Whether a transfer is signed, by its bytes' key if that is known.
    fn is_signed(&self, transfer: &Transfer, key: &TransactionKey) -> bool {
        if lock(&self.0.checked).contains(key) {
            return true;
        }
        let signed = transfer.is_signed(self.genesis_hash());
        if signed {
            lock(&self.0.checked).insert(*key);
        }
        signed
    }

    fn judge_transfer(&self, data: &[u8], key: &TransactionKey) -> Result<Transfer, Judgement> {
        let transfer = Transfer::decode(data)?;
        let from = self.account(&transfer.from)?;
        // What a state says of it changes, so nobody pays for that.
        let least = self.genesis().minimum_fee;
        execution::check(&transfer, &from, least).map_err(Judgement::of_state)?;
        if transfer.nonce - from.nonce >= NONCE_WINDOW {
            let (nonce, sent) = (transfer.nonce, from.nonce);
            return Err(Judgement::of_state(Refused::Early { nonce, sent }));
        }
        if !self.is_signed(&transfer, key) {
            return Err(Judgement::Invalid(
                "the transfer is not signed by who pays".to_owned(),
            ));
        }
        Ok(transfer)
    }

    fn judge_header(&self, data: &[u8]) -> Result<Header, Judgement> {
        let header = self.judge_signature(data)?;
        self.0.chain().has_use_for(&header)?;
        Ok(header)
    }

    /// What a header is worth wherever it stands.
    fn judge_signature(&self, data: &[u8]) -> Result<Header, Judgement> {
        let header = Header::decode(data)?;
        let invalid = |what: &str| Err(Judgement::Invalid(what.to_owned()));
        if !self.genesis().proposers.contains(&header.proposer) {
            return invalid("the header is of nobody who may propose");
        }
        if !header.is_signed(self.genesis_hash()) {
            return invalid("the header is not signed by its proposer");
        }
        Ok(header)
    }

    /// What a block is worth wherever it stands: what its transfers do is another question.
    fn judge_parts(&self, block: &Block) -> Result<(Header, Vec<Transfer>), Judgement> {
        let invalid = |what: &str| Err(Judgement::Invalid(what.to_owned()));
        let parts = header::split(block)?;
        let header = self.judge_signature(&parts.header)?;
        if !header.commits_to(&parts.transactions) {
            return invalid("the header is of other transfers");
        }
        let mut transfers = Vec::with_capacity(parts.transactions.len());
        for data in &parts.transactions {
            let transfer = Transfer::decode(data)?;
            if !self.is_signed(&transfer, &TransactionKey::of(data)) {
                return invalid("a transfer of the block is not signed by who pays");
            }
            transfers.push(transfer);
        }
        Ok((header, transfers))
    }

    fn judge_block(&self, block: &Block) -> Result<Header, Judgement> {
        // Old blocks, and those far ahead, cost no more than this.
        let parts = header::split(block)?;
        self.judge_header(&parts.header)?;
        let (header, transfers) = self.judge_parts(block)?;
        let (head, id) = (self.head(), header.id());
        let is_executed = self.0.chain().has_executed(&id);
        if header.parent == head.id && !is_executed {
            let executed = self.0.stored.execute(&head, &header, &transfers)?;
            if tree::root_hash(executed.update.root) != header.state_root {
                return Err(Judgement::Invalid(
                    "the state after it has another root".to_owned(),
                ));
            }
            self.0.chain().executed = Some(executed);
        }
        Ok(header)
    }

    fn judge_vote(&self, data: &[u8]) -> Result<HeaderVote, Judgement> {
        tally::judge(data, self.genesis_hash(), |vote| {
            let chain = self.0.chain();
            let standing = chain.tally.standing(vote);
            (chain.final_height, chain.head.height, standing)
        })
    }
}

/// Why an item is not accepted.
#[derive(Debug)]
enum Judgement {
    /// Whoever sent it pays.
    Invalid(String),
    /// Nobody pays.
    Useless(String),
    /// This node could not judge it now. Nobody pays.
    Trouble(String),
}

impl Judgement {
    fn of_state(refused: Refused) -> Self {
        Self::Useless(refused.to_string())
    }

    fn checked(self, data: &[u8]) -> Checked {
        match self {
            Self::Invalid(reason) => Checked::reject(data, reason),
            Self::Useless(reason) | Self::Trouble(reason) => Checked::ignore(data, reason),
        }
    }

    fn reason(&self) -> &str {
        let (Self::Invalid(reason) | Self::Useless(reason) | Self::Trouble(reason)) = self;
        reason
    }
}

impl From<Malformed> for Judgement {
    fn from(wrong: Malformed) -> Self {
        Self::Invalid(wrong.to_string())
    }
}

impl From<StoreError> for Judgement {
    fn from(error: StoreError) -> Self {
        Self::Trouble(error.to_string())
    }
}

impl From<Fault> for Judgement {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused(refused) => Self::Invalid(format!("a transfer of the block: {refused}")),
            Fault::Store(error) => error.into(),
        }
    }
}

impl Application for Ledger {
    fn check_transaction(&self, transaction: &Transaction) -> Checked {
        self.check_transaction_by_key(transaction, &TransactionKey::of(&transaction.data))
    }

    fn check_transaction_by_key(&self, transaction: &Transaction, key: &TransactionKey) -> Checked {
        match self.judge_transfer(&transaction.data, key) {
            Ok(transfer) => Checked {
                fee: Some(transfer.fee),
                ..Checked::accept(ItemId::of_key(key))
            },
            Err(judgement) => judgement.checked(&transaction.data),
        }
    }

    fn check_block(&self, block: &Block) -> Checked {
        match self.judge_block(block) {
            Ok(header) => accept(&header),
            Err(judgement) => judgement.checked(&block.data),
        }
    }

    fn check_vote(&self, vote: &Vote) -> Checked {
        match self.judge_vote(&vote.data) {
            Ok(_) => Checked::accept(ItemId::sha256(&vote.data)),
            Err(judgement) => judgement.checked(&vote.data),
        }
    }

    fn check_header(&self, header: &Bytes) -> Checked {
        match self.judge_header(header) {
            Ok(header) => accept(&header),
            Err(judgement) => judgement.checked(header),
        }
    }

    fn split_block(&self, block: &Block) -> Option<BlockParts> {
        header::split(block).ok()
    }

    fn join_block(&self, header: &Bytes, transactions: &[Bytes]) -> Option<Block> {
        header::join(header, transactions).ok()
    }

    fn deliver(&self, item: &Item) {
        let mut chain = self.0.chain();
        match item {
            Item::Transaction(transaction) => {
                if let Ok(transfer) = Transfer::decode(&transaction.data) {
                    chain.pool.insert(transfer);
                }
            }
            Item::Block(block) => chain.take_block(&self.0.stored, block),
            Item::Vote(vote) => {
                if let Ok(vote) = HeaderVote::decode(&vote.data) {
                    chain.take_vote(&self.0.stored, &vote);
                }
            }
        }
    }

    fn flush(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        self.noted(self.0.stored.store.flush())
    }

    fn close(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        self.noted(self.0.stored.store.close())
    }

    fn chain_store(&self) -> Option<Arc<dyn ChainStore>> {
        Some(Arc::new(self.clone()))
    }

    fn trust_verifier(&self) -> Option<Arc<dyn TrustVerifier>> {
        Some(Arc::new(self.clone()))
    }

    fn snapshot_source(&self) -> Option<Arc<dyn SnapshotSource>> {
        Some(Arc::new(self.clone()))
    }

    fn snapshot_sink(&self) -> Option<Arc<dyn SnapshotSink>> {
        Some(Arc::new(self.clone()))
    }

    /// The key is an address; the value is the account's 16 bytes, or empty; the proof is for [`verify`]. Of heights that are
    /// too old no state is served. With the word `final` before the address it is of the newest final block, and the proof stands alone (docs/ledger.md).
    fn query(&self, request: &StateRequest) -> Option<StateResponse> {
        match (Question::read(&request.key)?, request.height) {
            (Question::Account(address), height) => {
                let head = match height {
                    Some(height) => self.head_at(height).ok()??,
                    None => self.head(),
                };
                let (value, proof) = self.prove(&head, &address).ok()?;
                Some(StateResponse {
                    height: head.height,
                    value,
                    proof: proof.into(),
                })
            }
            (Question::Final(address), None) => self.prove_final(&address).ok()?,
            (Question::Final(_), Some(_)) => None,
        }
    }

    /// What is asked about is known here too, unless it is newer.
    fn provable(&self, request: StateRequest) -> StateRequest {
        let height = request.height.or_else(|| {
            let chain = self.0.chain();
            let is_decided = chain.final_height > 0;
            Some(if is_decided {
                chain.final_height
            } else {
                chain.head.height
            })
        });
        StateRequest { height, ..request }
    }

    fn check_state(&self, request: &StateRequest, answer: &StateResponse) -> Option<SyncVerdict> {
        let checked = self.check_answer(request, answer);
        Some(checked.map_or_else(Judgement::synced, |()| SyncVerdict::Accept))
    }

    /// Addresses are.
    fn is_provable(&self, key: &Bytes) -> bool {
        proven::address(key).is_some()
    }

    fn trusted_state(&self) -> Option<StateRoot> {
        self.final_state().ok()?
    }

    fn prove_state(&self, batch: &StateBatch) -> Option<ProvenState> {
        self.prove_batch(batch).ok()?
    }

    fn verify_state(&self, batch: &StateBatch, answer: &ProvenState) -> SyncVerdict {
        let verified = proven::verify_batch(batch, answer);
        verified.map_or_else(Judgement::synced, |()| SyncVerdict::Accept)
    }
}

fn accept(header: &Header) -> Checked {
    let id = ItemId::new(&header.id());
    // A hash is shorter than the longest id.
    id.map_or_else(|| Checked::ignore(&[], "no id"), Checked::accept)
}

#[cfg(test)]
mod snapshot_tests;
#[cfg(test)]
mod sync_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vector_tests;
