//! The ledger as a chain that is synced: what it serves, and how it takes headers and blocks in their order.
//!
//! Headers ahead of the blocks are noted in memory, [`MAX_NOTED`] of them at most; of more, the lowest go, whose blocks are here or
//! lost the race. A branch that forks below the newest block and is longer takes its place when its blocks come, unless it forks
//! below a final block or more than [`HISTORY`] below the newest; the old branch is taken off in the batch that brings the first block of the
//! new one, once that was executed.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::codec::{Malformed, Reader};
use super::header::{self, Header};
use super::snapshot::MAX_PROOF_HEADERS;
use super::stored::Lasting;
use super::tree::Hash;
use super::vote::Certificate;
use super::{HISTORY, Judgement, Ledger};
use crate::{
    chain::{Block, BlockPlace, ChainStore, ItemId, SyncHeader, SyncVerdict, TrustVerifier},
    storage::{Store, StoreError},
};

/// How many headers are noted: 20 MB of them.
pub(super) const MAX_NOTED: usize = 65_536;

/// A crash while blocks are fetched loses fewer than this.
const DURABLE_EVERY: u64 = 64;

/// Why a branch is not taken that leaves what is final in this store. Nothing but a person can tell a network that began anew from one that lies.
pub(super) fn final_elsewhere(store: &dyn Store) -> Judgement {
    let remedy = match store.is_lasting() {
        true => {
            "clear what is kept of the old one: `selkie ledger reset`, or `clearStorage()` in JavaScript"
        }
        false => "start this node anew, which keeps nothing of the old one",
    };
    Judgement::Useless(format!(
        "it leaves what is final here; if the network has begun anew, {remedy}"
    ))
}

/// Headers that were checked and whose blocks are not here, by height and id.
#[derive(Debug, Default)]
pub(super) struct Noted(BTreeMap<(u64, Hash), Header>);

impl Noted {
    fn insert(&mut self, header: Header) {
        self.0.insert((header.height, header.id()), header);
        if self.0.len() > MAX_NOTED {
            self.0.pop_first();
        }
    }

    /// Blocks up to this height can't be forked from any more.
    pub(super) fn forget_up_to(&mut self, height: u64) {
        self.0 = match height.checked_add(1) {
            Some(next) => self.0.split_off(&(next, [0; 32])),
            None => BTreeMap::new(),
        };
    }
}

pub(super) fn name(id: &Hash) -> ItemId {
    // A hash is shorter than the longest id.
    ItemId::new(id).unwrap_or_else(|| ItemId::sha256(id))
}

fn hash(id: &ItemId) -> Option<Hash> {
    id.as_bytes().try_into().ok()
}

pub(super) fn place(header: &Header) -> SyncHeader {
    SyncHeader {
        height: header.height,
        id: name(&header.id()),
        parent: name(&header.parent),
    }
}

impl Ledger {
    /// Of what is before a header: whether it is a block of the chain, and not a noted header, and its time.
    fn parent_of(&self, header: &Header) -> Result<Option<(bool, u64)>, StoreError> {
        let Some(height) = header.height.checked_sub(1) else {
            return Ok(None);
        };
        let (newest, noted) = {
            let chain = self.0.chain();
            let noted = chain.noted.0.get(&(height, header.parent)).copied();
            (chain.head.height, noted)
        };
        let head = match height <= newest {
            true => self.0.stored.head(height)?,
            false => None,
        };
        let head = head.filter(|head| head.id == header.parent);
        let here = head.map(|head| (true, head.time));
        Ok(here.or(noted.map(|noted| (false, noted.time))))
    }

    fn take_header(&self, data: &Bytes) -> Result<(), Judgement> {
        let header = self.judge_signature(data)?;
        let Some((is_here, time)) = self.parent_of(&header)? else {
            return Err(Judgement::Trouble(
                "what is before it is not here".to_owned(),
            ));
        };
        if header.time <= time {
            return Err(Judgement::Invalid("it is not after its parent".to_owned()));
        }
        let mut chain = self.0.chain();
        if is_here && header.height > chain.final_height {
            within_history(&header, chain.head.height)?;
        }
        if header.height <= chain.final_height {
            return Err(final_elsewhere(&*self.0.stored.store));
        }
        chain.noted.insert(header);
        Ok(())
    }

    fn take(&self, block: &Block) -> Result<(), Judgement> {
        let (header, transfers) = self.judge_parts(block)?;
        let mut chain = self.0.chain();
        if chain.is_restoring {
            return Err(Judgement::Trouble(
                "a snapshot is being restored".to_owned(),
            ));
        }
        if self.0.stored.height_of(&header.id())?.is_some() {
            return Err(Judgement::Useless("it is here".to_owned()));
        }
        if header.parent == chain.head.id {
            // Who is killed while catching up has a little more to fetch.
            let lasting = if header.height % DURABLE_EVERY == 0 {
                Lasting::Now
            } else {
                Lasting::Later
            };
            chain.append(&self.0.stored, block, &header, &transfers, lasting)?;
        } else {
            let parent = match header.height.checked_sub(1) {
                Some(height) => self.0.stored.head(height)?,
                None => None,
            };
            let parent = parent.filter(|parent| parent.id == header.parent);
            let parent =
                parent.ok_or_else(|| Judgement::Trouble("its parent is not here".to_owned()))?;
            if parent.height < chain.final_height {
                return Err(final_elsewhere(&*self.0.stored.store));
            }
            within_history(&header, chain.head.height)?;
            chain.branch_off(&self.0.stored, parent, block, &header, &transfers)?;
        }
        chain.advance(&self.0.stored);
        Ok(())
    }
}

impl Ledger {
    /// Whether this shows a header to be final, and what is wrong with it if not.
    fn verify_final(&self, header: Header, proof: &[u8]) -> Result<(), String> {
        let told = |wrong: Malformed| wrong.to_string();
        let mut reader = Reader::new(proof, "a proof that a header is final");
        let certificate = Certificate::read(&mut reader).map_err(told)?;
        let mut last = header;
        for _ in 0..=MAX_PROOF_HEADERS {
            if reader.is_empty() {
                let verified = certificate.verify(self.genesis(), &last);
                return verified.map_err(|wrong| wrong.to_string());
            }
            let next = reader.take(Header::LENGTH).and_then(Header::decode);
            let next = next.map_err(told)?;
            if next.parent != last.id() || next.height != last.height.saturating_add(1) {
                return Err("its headers do not follow each other".to_owned());
            }
            last = next;
        }
        Err(format!("it has more than {MAX_PROOF_HEADERS} headers"))
    }
}

/// Whether the parent's state is kept, where it is a block of a chain of this height.
fn within_history(header: &Header, newest: u64) -> Result<(), Judgement> {
    let below = newest.saturating_sub(header.height.saturating_sub(1));
    if below > HISTORY {
        return Err(Judgement::Useless(format!(
            "its branch leaves the chain {below} blocks below the newest, and {HISTORY} can be gone back: to follow it begin with an empty store"
        )));
    }
    Ok(())
}

impl Judgement {
    pub(super) fn synced(self) -> SyncVerdict {
        match self {
            Self::Invalid(reason) => SyncVerdict::Reject(reason),
            Self::Useless(reason) => SyncVerdict::Ignore(reason),
            Self::Trouble(reason) => SyncVerdict::Retry(reason),
        }
    }
}

impl ChainStore for Ledger {
    fn read_header(&self, header: &Bytes) -> Option<SyncHeader> {
        Some(place(&Header::decode(header).ok()?))
    }

    fn read_block(&self, block: &Block) -> Option<SyncHeader> {
        let parts = header::split(block).ok()?;
        let header = Header::decode(&parts.header).ok()?;
        header
            .commits_to(&parts.transactions)
            .then(|| place(&header))
    }

    fn tip(&self) -> BlockPlace {
        let head = self.head();
        BlockPlace {
            height: head.height,
            id: name(&head.id),
        }
    }

    fn base(&self) -> u64 {
        // Of what can't be read nothing is served.
        let base = self.0.stored.base();
        base.unwrap_or_else(|_| self.head().height.saturating_add(1))
    }

    fn is_readable(&self) -> bool {
        self.0.stored.newest().is_ok()
    }

    fn id_at(&self, height: u64) -> Option<ItemId> {
        let head = self.0.stored.head(height).ok()??;
        Some(name(&head.id))
    }

    fn headers(&self, from: u64, max_count: usize, max_bytes: usize) -> Vec<Bytes> {
        let most = max_count.min((max_bytes / Header::LENGTH).max(1));
        self.0.stored.headers(from, most).unwrap_or_default()
    }

    fn block(&self, id: &ItemId) -> Option<Block> {
        let height = self.0.stored.height_of(&hash(id)?).ok()??;
        self.0.stored.block(height).ok()?
    }

    fn append_headers(&self, headers: &[Bytes]) -> (usize, SyncVerdict) {
        for (accepted, header) in headers.iter().enumerate() {
            if let Err(judgement) = self.take_header(header) {
                return (accepted, judgement.synced());
            }
        }
        (headers.len(), SyncVerdict::Accept)
    }

    fn append(&self, block: &Block) -> SyncVerdict {
        match self.take(block) {
            Ok(()) => SyncVerdict::Accept,
            Err(judgement) => judgement.synced(),
        }
    }
}

/// The proof is a [`Certificate`], and the headers after this one up to the certificate's, where that is of a later block; without one a header is final that this ledger has at a final height.
impl TrustVerifier for Ledger {
    fn is_final(&self, header: &Bytes, proof: &Bytes) -> SyncVerdict {
        let decoded = match self.judge_signature(header) {
            Ok(decoded) => decoded,
            Err(judgement) => return judgement.synced(),
        };
        if !proof.is_empty() {
            let verified = self.verify_final(decoded, proof);
            return verified.map_or_else(SyncVerdict::Reject, |()| SyncVerdict::Accept);
        }
        let is_final = decoded.height <= self.tip().final_height;
        match self.0.stored.height_of(&decoded.id()) {
            Ok(Some(_)) if is_final => SyncVerdict::Accept,
            Ok(None) if is_final => SyncVerdict::Ignore(
                "what is final there is another, or was before a snapshot".to_owned(),
            ),
            Ok(_) => SyncVerdict::Retry("too few have voted for it yet".to_owned()),
            Err(error) => SyncVerdict::Retry(error.to_string()),
        }
    }

    fn state_root(&self, header: &Bytes) -> Option<Bytes> {
        let header = Header::decode(header).ok()?;
        Some(Bytes::copy_from_slice(&header.state_root))
    }
}
