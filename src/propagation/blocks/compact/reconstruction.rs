//! From a compact block and the transactions at hand to the block's transactions in order.
//!
//! One pass over the pool: each transaction's short id is looked up among the block's, which are sorted (in a hash table
//! a peer could choose ids that fall into one bucket, as a browser's standard library has no secret key for it). Two
//! transactions of the pool for one short id, or a short id that the block lists twice, count as missing: one asks for them. What is then wrong in
//! the joined block is a collision nobody saw (another transaction of the pool had the block's short id) or a lie,
//! and nobody can tell which: see [`Reconstruction::into_transactions`].
//!
//! Memory: 32 bytes for each transaction of the block beside the payload, which is shared with the pool and counted by
//! [`Reconstruction::weight`]; never more than the largest block.

use bytes::Bytes;

use super::compact_block::CompactBlock;
use super::message::{MissingTransactions, Transactions};
use super::short_id::{ShortId, ShortIdKey};
use crate::chain::ItemId;
use crate::chain::TransactionKey;
use crate::order;

/// A compact block on its way to being a block.
#[derive(Clone, Debug)]
pub struct Reconstruction {
    id: ItemId,
    header: Bytes,
    key: ShortIdKey,
    slots: Vec<Option<Bytes>>,
    /// What is missing, by rising index.
    missing: Vec<(usize, ShortId)>,
    /// Indexes of the transactions that the pool did not yield, rising.
    lacked: Vec<usize>,
    /// Bytes of transactions that came from the peer.
    theirs: usize,
    /// Bytes of transactions that came from the pool.
    ours: usize,
    max_block_bytes: usize,
}

/// The transactions that match are together larger than a block may be: a collision or a lie. Fetch the whole block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the transactions have {bytes} bytes; a block has at most {limit}")]
pub struct TooLarge {
    /// Bytes of all transactions so far.
    pub bytes: usize,
    /// The largest block, in bytes.
    pub limit: usize,
}

/// Why transactions do not complete a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SupplyError {
    /// They belong to another block, or nothing is missing: an answer that comes late, or was not asked for.
    #[error("nothing of this block was asked for")]
    Unasked,
    /// Not as many as were asked for.
    #[error("{got} transactions instead of the {asked} that were asked for")]
    WrongCount {
        /// How many were asked for.
        asked: usize,
        /// How many came.
        got: usize,
    },
    /// A transaction that does not have the short id which the same peer gave for its place.
    #[error("transaction {index} is not the one that the compact block names")]
    WrongTransaction {
        /// Its place in the block.
        index: usize,
    },
    /// The peer's transactions alone are larger than a block may be.
    #[error("{bytes} bytes of transactions; a block has at most {limit}")]
    Oversized {
        /// Bytes of what this peer sent for the block.
        bytes: usize,
        /// The largest block, in bytes.
        limit: usize,
    },
    /// With ours they are.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

impl SupplyError {
    /// Whether the peer did wrong for sure. Where it did not, the whole block is to be fetched from it.
    pub fn is_peers_fault(&self) -> bool {
        match self {
            Self::WrongCount { .. } | Self::WrongTransaction { .. } | Self::Oversized { .. } => {
                true
            }
            Self::Unasked | Self::TooLarge(_) => false,
        }
    }
}

/// What the pool has for a short id.
enum Found {
    Nothing,
    One(TransactionKey, Bytes),
    /// Two for one id, in the pool or in the block.
    Clash,
}

impl Reconstruction {
    /// Matches a compact block with the pool: the transactions at hand, under their keys. The same key may come more
    /// than once (a mempool, then a pool of recent or orphan transactions).
    ///
    /// # Errors
    /// [`TooLarge`] where the block would have more than `max_block_bytes`. It is nobody's fault for sure.
    pub fn new<'a>(
        compact: &CompactBlock,
        pool: impl IntoIterator<Item = (TransactionKey, &'a Bytes)>,
        max_block_bytes: usize,
    ) -> Result<Self, TooLarge> {
        let key = compact.short_id_key();
        let mut wanted: Vec<_> = compact.short_ids().collect();
        wanted.sort_unstable_by_key(|(_, id)| *id);
        let runs = wanted.chunk_by(|(_, one), (_, other)| one == other);
        let mut found: Vec<_> = runs
            .flat_map(|same| {
                same.iter().map(|_| match same {
                    [_] => Found::Nothing,
                    _ => Found::Clash,
                })
            })
            .collect();
        for (name, transaction) in pool {
            let id = key.short_id(&name);
            let place = wanted.binary_search_by_key(&id, |(_, id)| *id);
            let Some(found) = place.ok().and_then(|place| found.get_mut(place)) else {
                continue;
            };
            match found {
                Found::Nothing => *found = Found::One(name, transaction.clone()),
                Found::One(known, _) if *known == name => {}
                Found::One(..) | Found::Clash => *found = Found::Clash,
            }
        }

        let mut slots = vec![None; compact.transaction_count()];
        let (mut theirs, mut ours) = (0usize, 0usize);
        let mut lacked = Vec::new();
        for prefilled in compact.prefilled() {
            theirs = theirs.saturating_add(prefilled.transaction.len());
            lacked.push(prefilled.index);
            put(&mut slots, prefilled.index, prefilled.transaction.clone());
        }
        for ((index, _), found) in wanted.into_iter().zip(found) {
            if let Found::One(_, transaction) = found {
                ours = ours.saturating_add(transaction.len());
                put(&mut slots, index, transaction);
            }
        }
        let bytes = theirs.saturating_add(ours);
        if bytes > max_block_bytes {
            let limit = max_block_bytes;
            return Err(TooLarge { bytes, limit });
        }
        let open = |index: usize| slots.get(index).is_some_and(Option::is_none);
        let missing: Vec<_> = compact
            .short_ids()
            .filter(|(index, _)| open(*index))
            .collect();
        lacked.extend(missing.iter().map(|(index, _)| index));
        order::sort(&mut lacked);
        Ok(Self {
            id: compact.id().clone(),
            header: compact.header().clone(),
            key,
            slots,
            missing,
            lacked,
            theirs,
            ours,
            max_block_bytes,
        })
    }

    /// What to ask the peer for that sent the compact block; `None` when nothing is missing.
    pub fn missing(&self) -> Option<MissingTransactions> {
        (!self.missing.is_empty()).then(|| MissingTransactions {
            id: self.id.clone(),
            indexes: self.missing.iter().map(|(index, _)| *index).collect(),
        })
    }

    /// Takes the peer's answer. Afterwards nothing is missing, or nothing has changed.
    ///
    /// # Errors
    /// [`SupplyError`], which knows whether the peer is to blame.
    pub fn supply(&mut self, answer: Transactions) -> Result<(), SupplyError> {
        if answer.id != self.id || self.missing.is_empty() {
            return Err(SupplyError::Unasked);
        }
        let (asked, got) = (self.missing.len(), answer.transactions.len());
        if asked != got {
            return Err(SupplyError::WrongCount { asked, got });
        }
        let limit = self.max_block_bytes;
        let theirs = answer.transactions.iter().map(Bytes::len);
        let theirs = theirs.fold(self.theirs, usize::saturating_add);
        if theirs > limit {
            let bytes = theirs;
            return Err(SupplyError::Oversized { bytes, limit });
        }
        let bytes = theirs.saturating_add(self.ours);
        if bytes > limit {
            return Err(TooLarge { bytes, limit }.into());
        }
        for ((index, id), transaction) in self.missing.iter().zip(&answer.transactions) {
            if self.key.short_id(&TransactionKey::of(transaction)) != *id {
                let index = *index;
                return Err(SupplyError::WrongTransaction { index });
            }
        }
        for ((index, _), transaction) in self.missing.drain(..).zip(answer.transactions) {
            put(&mut self.slots, index, transaction);
        }
        self.theirs = theirs;
        Ok(())
    }

    /// The block's identity, as its sender says.
    pub fn id(&self) -> &ItemId {
        &self.id
    }

    /// The block's header.
    pub fn header(&self) -> &Bytes {
        &self.header
    }

    /// Indexes of the transactions that came from the peer or are still missing, rising: what others probably
    /// lack as well.
    pub fn lacked(&self) -> &[usize] {
        &self.lacked
    }

    /// The block's transactions in order, for [`crate::Application::join_block`]; `None` while some are missing.
    ///
    /// Where the chain refuses what it joins, a short id collided or the peer lied. **Punish nobody: fetch the whole
    /// block from the same peer.** If that one is wrong too, the peer is to blame.
    pub fn into_transactions(self) -> Option<Vec<Bytes>> {
        self.slots.into_iter().collect()
    }

    /// The bytes of memory that it holds or keeps alive.
    pub fn weight(&self) -> usize {
        let slots = self.slots.len() * size_of::<Option<Bytes>>();
        let missing = self.missing.len() * size_of::<(usize, ShortId)>();
        let lacked = self.lacked.len() * size_of::<usize>();
        self.header.len() + slots + missing + lacked + self.theirs + self.ours
    }
}

fn put(slots: &mut [Option<Bytes>], index: usize, transaction: Bytes) {
    if let Some(slot) = slots.get_mut(index) {
        *slot = Some(transaction);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::slice;

    use proptest::prelude::*;

    use super::*;
    use crate::chain::BlockParts;
    use crate::platform::test;

    /// Two transactions with the same short id under this header and nonce; found by Brent's algorithm in 80 million steps.
    const COLLISION: (&[u8], u64, [&str; 2]) = (
        b"a header under which two transactions collide",
        152,
        ["b7bb22be4b5d0000", "d1204735b2bf0000"],
    );

    type Pool = BTreeMap<TransactionKey, Bytes>;

    fn pool(transactions: &[Bytes]) -> Pool {
        let named = transactions
            .iter()
            .map(|it| (TransactionKey::of(it), it.clone()));
        named.collect()
    }

    fn compact(
        header: &[u8],
        nonce: u64,
        transactions: &[Bytes],
        lacked: &[usize],
    ) -> CompactBlock {
        let parts = BlockParts {
            header: Bytes::copy_from_slice(header),
            transactions: transactions.to_vec(),
        };
        let lacks = |index: usize, _: &TransactionKey| lacked.contains(&index);
        CompactBlock::new(ItemId::sha256(header), &parts, nonce, 10_000, lacks).unwrap()
    }

    fn reconstruction(compact: &CompactBlock, pool: &Pool) -> Reconstruction {
        let pool = pool.iter().map(|(key, transaction)| (*key, transaction));
        Reconstruction::new(compact, pool, 100_000).unwrap()
    }

    fn transactions(count: u8) -> Vec<Bytes> {
        (0..count).map(|number| vec![number; 100].into()).collect()
    }

    fn answer(request: &MissingTransactions, transactions: &[Bytes]) -> Transactions {
        Transactions {
            id: request.id.clone(),
            transactions: request
                .indexes
                .iter()
                .map(|index| transactions[*index].clone())
                .collect(),
        }
    }

    #[test]
    fn a_full_pool_completes_a_block_at_once() {
        let all = transactions(20);
        let reconstruction = reconstruction(&compact(b"h", 1, &all, &[]), &pool(&all));
        assert_eq!(reconstruction.missing(), None);
        assert_eq!(reconstruction.lacked(), [0]);
        assert_eq!(reconstruction.into_transactions(), Some(all));
    }

    #[test]
    fn what_the_pool_lacks_is_asked_for_by_index() {
        let all = transactions(20);
        let compact = compact(b"h", 1, &all, &[5]);
        let mut reconstruction = reconstruction(
            &compact,
            &pool(&[&all[..3], &all[4..9], &all[10..]].concat()),
        );
        let request = reconstruction.missing().unwrap();
        assert_eq!(request.indexes, [3, 9]);
        assert_eq!(reconstruction.lacked(), [0, 3, 5, 9]);
        assert_eq!(reconstruction.clone().into_transactions(), None);
        reconstruction.supply(answer(&request, &all)).unwrap();
        assert_eq!(reconstruction.into_transactions(), Some(all));
    }

    #[test]
    fn a_wrong_answer_changes_nothing_and_is_the_peers_fault() {
        let all = transactions(5);
        let mut reconstruction = reconstruction(&compact(b"h", 1, &all, &[]), &pool(&all[..3]));
        let request = reconstruction.missing().unwrap();
        let mut refused = |answer: Transactions| {
            let error = reconstruction.supply(answer).unwrap_err();
            (error, error.is_peers_fault())
        };
        let id = request.id.clone();
        let with = |transactions: &[Bytes]| Transactions {
            id: id.clone(),
            transactions: transactions.to_vec(),
        };
        let wrong_count = |got| (SupplyError::WrongCount { asked: 2, got }, true);
        assert_eq!(refused(with(&[])), wrong_count(0));
        assert_eq!(refused(with(&all[3..4])), wrong_count(1));
        assert_eq!(refused(with(&all[2..5])), wrong_count(3));
        let swapped = [all[4].clone(), all[3].clone()];
        assert_eq!(
            refused(with(&swapped)),
            (SupplyError::WrongTransaction { index: 3 }, true)
        );
        let large = [all[3].clone(), vec![0; 100_000].into()];
        let error = SupplyError::Oversized {
            bytes: 100_200,
            limit: 100_000,
        };
        assert_eq!(refused(with(&large)), (error, true));
        let other = Transactions {
            id: ItemId::sha256(b"other"),
            transactions: all[3..5].to_vec(),
        };
        assert_eq!(refused(other), (SupplyError::Unasked, false));
        reconstruction.supply(answer(&request, &all)).unwrap();
        assert_eq!(
            reconstruction.supply(answer(&request, &all)),
            Err(SupplyError::Unasked)
        );
        assert_eq!(reconstruction.into_transactions(), Some(all));
    }

    #[test]
    fn two_of_the_pool_for_one_short_id_count_as_missing() {
        let (header, nonce, colliding) = COLLISION;
        let [one, two] = colliding.map(|it| Bytes::from(hex::decode(it).unwrap()));
        let key = ShortIdKey::new(header, nonce);
        assert_eq!(
            key.short_id(&TransactionKey::of(&one)),
            key.short_id(&TransactionKey::of(&two))
        );
        let all = vec![
            Bytes::from_static(b"coinbase"),
            one.clone(),
            Bytes::from_static(b"another"),
        ];
        let compact = compact(header, nonce, &all, &[]);
        let both = pool(&[&all[..], slice::from_ref(&two)].concat());
        let mut clash = reconstruction(&compact, &both);
        let request = clash.missing().unwrap();
        assert_eq!(request.indexes, [1]);
        clash.supply(answer(&request, &all)).unwrap();
        assert_eq!(clash.into_transactions(), Some(all.clone()));
        // The same one twice is no collision.
        let pool = [&all[1], &all[2], &all[1]].map(|it| (TransactionKey::of(it), it));
        assert_eq!(
            Reconstruction::new(&compact, pool, 100_000)
                .unwrap()
                .missing(),
            None
        );
        // Only the wrong one at hand: nobody can tell, so the chain has to.
        let wrong = self::pool(&[two.clone(), all[2].clone()]);
        let wrong = reconstruction(&compact, &wrong)
            .into_transactions()
            .unwrap();
        assert_eq!(wrong, [all[0].clone(), two, all[2].clone()]);
    }

    #[test]
    fn two_of_the_block_for_one_short_id_count_as_missing() {
        let (header, nonce, colliding) = COLLISION;
        let [one, two] = colliding.map(|it| Bytes::from(hex::decode(it).unwrap()));
        let all = vec![
            Bytes::from_static(b"coinbase"),
            one,
            Bytes::from_static(b"another"),
            two,
        ];
        let mut reconstruction = reconstruction(&compact(header, nonce, &all, &[]), &pool(&all));
        let request = reconstruction.missing().unwrap();
        assert_eq!(request.indexes, [1, 3]);
        reconstruction.supply(answer(&request, &all)).unwrap();
        assert_eq!(reconstruction.into_transactions(), Some(all));
    }

    #[test]
    fn a_block_over_the_limit_is_nobodys_fault_unless_one_peer_sent_it_all() {
        let all = transactions(20);
        let compact = compact(b"h", 1, &all, &[]);
        let pool = pool(&all[..15]);
        let pool = || pool.iter().map(|(key, transaction)| (*key, transaction));
        let error = TooLarge {
            bytes: 1500,
            limit: 1499,
        };
        assert_eq!(
            Reconstruction::new(&compact, pool(), 1499).unwrap_err(),
            error
        );
        let mut reconstruction = Reconstruction::new(&compact, pool(), 1999).unwrap();
        let request = reconstruction.missing().unwrap();
        let error = reconstruction.supply(answer(&request, &all)).unwrap_err();
        assert_eq!(
            error,
            SupplyError::TooLarge(TooLarge {
                bytes: 2000,
                limit: 1999
            })
        );
        assert!(!error.is_peers_fault());
    }

    proptest! {
        #[test]
        fn any_pool_and_the_missing_ones_make_the_block(
            sizes in prop::collection::vec((1usize..300, any::<bool>(), any::<bool>()), 0..80),
            strangers in 0usize..80,
            nonce: u64,
        ) {
            let transaction = |(index, size): (usize, usize)| {
                Bytes::from([&index.to_le_bytes()[..], &vec![7; size]].concat())
            };
            let all: Vec<_> = sizes.iter().map(|(size, ..)| *size).enumerate().map(transaction).collect();
            let having = |test: fn(&(usize, bool, bool)) -> bool| {
                let indexes = sizes.iter().enumerate().filter(move |(_, it)| test(it));
                indexes.map(|(index, _)| index).collect::<Vec<_>>()
            };
            let pooled = having(|(_, pooled, _)| *pooled);
            let prefilled = having(|(.., prefilled)| *prefilled);
            let mut pool = pool(&pooled.iter().map(|index| all[*index].clone()).collect::<Vec<_>>());
            pool.extend(self::pool(&(1000..1000 + strangers).map(|index| transaction((index, 9))).collect::<Vec<_>>()));
            let compact = compact(b"header", nonce, &all, &prefilled);
            let mut reconstruction = reconstruction(&compact, &pool);
            if let Some(request) = reconstruction.missing() {
                let sent: Vec<_> = compact.prefilled().iter().map(|it| it.index).collect();
                for index in &request.indexes {
                    prop_assert!(!pooled.contains(index) && !sent.contains(index));
                }
                reconstruction.supply(answer(&request, &all)).unwrap();
            }
            prop_assert!(reconstruction.weight() >= all.iter().map(Bytes::len).sum());
            prop_assert_eq!(reconstruction.into_transactions(), Some(all));
        }

        #[test]
        fn any_compact_block_and_any_pool_do_no_harm(
            short_ids in prop::collection::vec(any::<[u8; 6]>(), 0..50),
            prefilled in prop::collection::vec(any::<u8>(), 0..50),
            repeat: bool,
        ) {
            let mut short_ids = short_ids.concat();
            if repeat { short_ids = short_ids.repeat(2); }
            let id = ItemId::sha256(b"id");
            let header = Bytes::from_static(b"h");
            let Ok(compact) = CompactBlock::from_rows(id, header, 1, short_ids.into(), prefilled.into()) else {
                return Ok(());
            };
            let reconstruction = reconstruction(&compact, &pool(&transactions(50)));
            let missing = reconstruction.missing().map_or(0, |missing| missing.indexes.len());
            prop_assert!(missing + compact.prefilled().len() <= compact.transaction_count());
        }
    }
}
