//! What a chain plugs in to be synced: where its blocks are, and what may be trusted.
//!
//! The network brings headers and blocks in their order, from whoever has them; what they mean is the chain's. [`ChainStore`]
//! reads from a header where it stands in the chain, judges headers before their blocks are fetched, takes blocks, and gives out both.
//! [`TrustVerifier`] says of a header that there will be no other in its place, for those who do not begin at the genesis block.
//! An [`super::Application`] offers them by [`super::Application::chain_store`] and [`super::Application::trust_verifier`].
//!
//! All methods are called off the network task, a few at once at most, and may do I/O. As with [`super::Application`], none may wait
//! for the node that calls it.

use bytes::Bytes;

use super::{Block, ItemId};

/// Where a header says that it stands. Nothing is checked by reading it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SyncHeader {
    /// Its block's height; the genesis block's is 0.
    pub height: u64,
    /// Its block's identity: the same that [`super::Application::check_block`] and
    /// [`super::Application::check_header`] name.
    pub id: ItemId,
    /// The identity of the block before.
    pub parent: ItemId,
}

impl SyncHeader {
    /// The block's place.
    pub fn place(&self) -> BlockPlace {
        BlockPlace {
            height: self.height,
            id: self.id.clone(),
        }
    }
}

/// A block by its height and identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BlockPlace {
    /// The block's height; the genesis block's is 0.
    pub height: u64,
    /// The block's identity.
    pub id: ItemId,
}

/// What a chain says to headers and blocks that are to be taken, with a reason for a person where it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncVerdict {
    /// Valid, and taken.
    Accept,
    /// Of no use: it is here already, or it does not lead to a better chain. Nobody pays.
    Ignore(String),
    /// Invalid: whoever brought it pays, and what builds on it is dropped.
    Reject(String),
    /// It could not be judged or kept now, by no fault of who brought it: a full disk, a parent that is not here. It is offered again
    /// after a while, and the reason is told.
    Retry(String),
}

/// A chain's blocks: read to serve peers, and added to by sync.
///
/// The store has one best chain, from [`ChainStore::base`] to [`ChainStore::tip`]. Which one that is, it decides by itself when it takes
/// a block: [`ChainStore::append`] may be given blocks of a branch that forks below the tip, in order, and the tip may be another one
/// afterwards (a reorganisation). It is given such a branch only when [`ChainStore::is_better`] says that it is worth it.
///
/// Blocks reach a store by two ways: from sync, and from propagation when the chain has accepted one ([`super::Application::deliver`]).
/// A node appends the latter too, so a chain does nothing in `deliver` for that; if it does, `append` ignores what is there.
pub trait ChainStore: Send + Sync + 'static {
    /// Reads a header's place from its bytes. `None`: these bytes are no header. Costs nothing but reading, and does no I/O: it is asked
    /// before anything is checked.
    fn read_header(&self, header: &Bytes) -> Option<SyncHeader>;

    /// Reads a block's place, and checks that its body is the one that its header commits to: exactly these bytes are the
    /// block of that identity, valid or not. `None`: they are no block's. Who answers with other bytes than the asked block's
    /// is found out by it, so it must not depend on what is in the store.
    fn read_block(&self, block: &Block) -> Option<SyncHeader>;

    /// Whether blocks are kept. Where they are not, headers are the chain: [`ChainStore::append_headers`] takes them for good, the tip moves with
    /// them once they lead to a better chain, and no block is fetched. Default: they are.
    fn keeps_blocks(&self) -> bool {
        true
    }

    /// The best chain's last block. A store that has nothing yet holds the genesis block, or counts as if it did.
    fn tip(&self) -> BlockPlace;

    /// The lowest height of the best chain from which on headers and blocks are here to be served: above 0 after pruning, or
    /// where a snapshot was the beginning. Default: 0.
    fn base(&self) -> u64 {
        0
    }

    /// Whether what is asked for can be read now. While it can't, peers are told that this node is busy, and not that it lacks what it says
    /// it has: they would take that for a lie. Asked after something was not found. Default: it can.
    fn is_readable(&self) -> bool {
        true
    }

    /// The identity of the best chain's block at a height. `None` above the tip and where it is not known.
    fn id_at(&self, height: u64) -> Option<ItemId>;

    /// Headers of the best chain from a height on, in order: at most so many, and at most so many bytes of them, but
    /// one at least where there is one.
    fn headers(&self, from: u64, max_count: usize, max_bytes: usize) -> Vec<Bytes>;

    /// A block, of the best chain or of another. `None`: it is not here.
    fn block(&self, id: &ItemId) -> Option<Block>;

    /// Judges headers whose blocks are not here yet, and notes them as far as it needs them to judge the next. Each is
    /// the child of the one before; the first one's parent is a block of the store, or a header that was accepted before. Says how many were
    /// accepted, and what it says of the next one (`Accept` if there is none).
    ///
    /// They are checked as far as headers can be: work, signatures, times. It should cost a forger more than it costs us. The network
    /// offers a bounded number ahead of the tip (`protocol.sync.max_headers`), of one branch at a time; a store that notes headers in memory bounds
    /// them too, and forgets those of branches that lost. Headers that lead to no better chain yet are accepted, and take nothing away.
    fn append_headers(&self, headers: &[Bytes]) -> (usize, SyncVerdict);

    /// Whether the chain that ends with this header would be better than the best one here. Its headers were all accepted.
    /// Default: it is longer.
    fn is_better(&self, head: &SyncHeader) -> bool {
        head.height > self.tip().height
    }

    /// Judges a block whole and takes it. Its parent is a block of the store. Blocks of one chain come in order, one at a
    /// time. `Ignore` where it is here already, or where its branch is of no use.
    ///
    /// The first block of another branch comes when [`ChainStore::is_better`] has just said that the branch is, and when its blocks are there
    /// as far as it is longer, if there is room for them.
    fn append(&self, block: &Block) -> SyncVerdict;
}

/// What may be trusted without having followed the chain from its beginning.
pub trait TrustVerifier: Send + Sync + 'static {
    /// Whether there will be no other block in this header's place. `proof` is what the chain has for it beside the header: signatures
    /// of enough validators, say; empty where the header proves it alone, or where a configured checkpoint names it. `Retry` where it is
    /// valid but not final yet; `Ignore` where it is too old to be told.
    fn is_final(&self, header: &Bytes, proof: &Bytes) -> SyncVerdict;

    /// The root of the state after this header's block, which proofs of state and snapshots are checked against. `None`: these bytes are
    /// no header, or the chain commits to no state.
    fn state_root(&self, header: &Bytes) -> Option<Bytes>;
}
