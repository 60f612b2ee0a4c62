//! A block made compact: BIP-152's `HeaderAndShortIDs`.

use bytes::Bytes;

use super::rows::{Row, put_bytes, put_number, skip};
use super::short_id::{ShortId, ShortIdKey};
use super::{MAX_HEADER, MAX_PREFILLED_BYTES, MAX_TRANSACTIONS};
use crate::chain::TransactionKey;
use crate::chain::{BlockParts, ItemId};
use crate::error::DecodeError;

/// A block's header, the short ids of most of its transactions, and the others.
///
/// However it came about, it keeps the limits: at most [`MAX_HEADER`] bytes of header, [`MAX_TRANSACTIONS`]
/// transactions, [`MAX_PREFILLED_BYTES`] of prefilled ones, whose indexes rise and are in range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactBlock {
    id: ItemId,
    header: Bytes,
    nonce: u64,
    /// Six bytes each, in a row.
    short_ids: Bytes,
    prefilled: Vec<Prefilled>,
}

/// A transaction that a compact block brings along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefilled {
    /// Its place among the block's transactions, from 0.
    pub index: usize,
    /// Its exact bytes.
    pub transaction: Bytes,
}

impl CompactBlock {
    /// Makes a block compact. The first transaction always travels along, since nobody can have it before (a coinbase);
    /// so do those of which `lacks(index, key)` says that the peer probably lacks them, first come first served, as long as
    /// all prefilled ones stay within `max_prefill_bytes` (BIP-152 advises 10,000). The nonce is a random number,
    /// a new one for each block.
    ///
    /// `None` where a limit is in the way; such a block travels whole.
    pub fn new(
        id: ItemId,
        parts: &BlockParts,
        nonce: u64,
        max_prefill_bytes: usize,
        lacks: impl Fn(usize, &TransactionKey) -> bool,
    ) -> Option<Self> {
        let BlockParts {
            header,
            transactions,
        } = parts;
        let has_empty = header.is_empty() || transactions.iter().any(Bytes::is_empty);
        if has_empty || header.len() > MAX_HEADER || transactions.len() > MAX_TRANSACTIONS {
            return None;
        }
        let key = ShortIdKey::new(header, nonce);
        let mut short_ids = Vec::with_capacity(transactions.len() * ShortId::LENGTH);
        let mut prefilled = Vec::new();
        let mut bytes = 0usize;
        for (index, transaction) in transactions.iter().enumerate() {
            let name = TransactionKey::of(transaction);
            let sum = bytes.saturating_add(transaction.len());
            let first = index == 0 && sum <= MAX_PREFILLED_BYTES;
            if first || (index > 0 && sum <= max_prefill_bytes && lacks(index, &name)) {
                bytes = sum;
                prefilled.push(Prefilled {
                    index,
                    // A copy: a slice would keep the memory of a whole block or message alive.
                    transaction: Bytes::copy_from_slice(transaction),
                });
            } else if index == 0 {
                return None;
            } else {
                short_ids.extend_from_slice(&key.short_id(&name).to_bytes());
            }
        }
        Some(Self {
            id,
            header: header.clone(),
            nonce,
            short_ids: short_ids.into(),
            prefilled,
        })
    }

    /// The block's identity, as the sender says.
    pub fn id(&self) -> &ItemId {
        &self.id
    }

    /// The block's header.
    pub fn header(&self) -> &Bytes {
        &self.header
    }

    /// The sender's nonce.
    pub fn nonce(&self) -> u64 {
        self.nonce
    }

    /// The transactions that travel along, by rising index.
    pub fn prefilled(&self) -> &[Prefilled] {
        &self.prefilled
    }

    /// The short ids of the others with their indexes, which rise.
    pub fn short_ids(&self) -> impl Iterator<Item = (usize, ShortId)> {
        let mut prefilled = self.prefilled.iter().map(|p| p.index).peekable();
        let mut index = 0;
        let (ids, _) = self.short_ids.as_chunks::<{ ShortId::LENGTH }>();
        ids.iter().map(move |id| {
            while prefilled.next_if_eq(&index).is_some() {
                index += 1;
            }
            let here = index;
            index += 1;
            (here, ShortId::from_bytes(*id))
        })
    }

    /// How many transactions the block has.
    pub fn transaction_count(&self) -> usize {
        self.short_ids.len() / ShortId::LENGTH + self.prefilled.len()
    }

    /// The key of its short ids.
    pub fn short_id_key(&self) -> ShortIdKey {
        ShortIdKey::new(&self.header, self.nonce)
    }

    /// The bytes of memory that it holds, about as many as it has on the wire.
    pub fn weight(&self) -> usize {
        let prefilled = self.prefilled.iter();
        let prefilled: usize = prefilled
            .map(|prefilled| prefilled.transaction.len() + size_of::<Prefilled>())
            .sum();
        self.header.len() + self.short_ids.len() + prefilled
    }

    /// The row of prefilled transactions: of each the skip from the previous index, the length, the bytes.
    pub(super) fn prefilled_row(&self) -> Bytes {
        let mut row = Vec::new();
        let mut previous = None;
        for Prefilled { index, transaction } in &self.prefilled {
            put_number(&mut row, skip(previous, *index));
            put_bytes(&mut row, transaction);
            previous = Some(*index);
        }
        row.into()
    }

    /// The short ids in a row.
    pub(super) fn short_ids_row(&self) -> &Bytes {
        &self.short_ids
    }

    /// A compact block from the fields of its message, checked.
    pub(super) fn from_rows(
        id: ItemId,
        header: Bytes,
        nonce: u64,
        short_ids: Bytes,
        prefilled: Bytes,
    ) -> Result<Self, DecodeError> {
        let wrong = DecodeError::field;
        if header.is_empty() || header.len() > MAX_HEADER {
            return Err(wrong("compact.header", "empty, or too long"));
        }
        if !short_ids.len().is_multiple_of(ShortId::LENGTH) {
            return Err(wrong("compact.short_ids", "not a multiple of six bytes"));
        }
        let mut row = Row::new("compact.prefilled", prefilled);
        let mut prefilled = Vec::new();
        let mut bytes = 0usize;
        let mut previous = None;
        while !row.is_empty() {
            let index = row.index_after(previous, MAX_TRANSACTIONS)?;
            let transaction = row.bytes()?;
            bytes = bytes.saturating_add(transaction.len());
            if transaction.is_empty() || bytes > MAX_PREFILLED_BYTES {
                return Err(row.wrong("an empty transaction, or too many bytes of them"));
            }
            prefilled.push(Prefilled { index, transaction });
            previous = Some(index);
        }
        let compact = Self {
            id,
            header,
            nonce,
            short_ids,
            prefilled,
        };
        let count = compact.transaction_count();
        if count > MAX_TRANSACTIONS {
            return Err(wrong("compact.short_ids", "too many transactions"));
        }
        if previous.is_some_and(|last| last >= count) {
            return Err(row.wrong("an index past the last transaction"));
        }
        Ok(compact)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::platform::test;

    fn parts(sizes: &[usize]) -> BlockParts {
        let transaction = |(index, &size): (usize, &usize)| {
            let mut bytes = index.to_le_bytes().to_vec();
            bytes.resize(size, 0);
            Bytes::from(bytes)
        };
        BlockParts {
            header: Bytes::from_static(b"header"),
            transactions: sizes.iter().enumerate().map(transaction).collect(),
        }
    }

    fn compact(parts: &BlockParts, lacked: &[usize]) -> Option<CompactBlock> {
        CompactBlock::new(ItemId::sha256(b"id"), parts, 7, 1000, |index, _| {
            lacked.contains(&index)
        })
    }

    #[test]
    fn the_first_transaction_travels_along_and_so_do_lacked_ones_that_fit() {
        let parts = parts(&[2000, 100, 100, 100]);
        let indexes = |lacked: &[usize]| {
            let compact = compact(&parts, lacked).unwrap();
            let indexes = compact.prefilled().iter().map(|p| p.index);
            indexes.collect::<Vec<_>>()
        };
        assert_eq!(indexes(&[]), [0]);
        assert_eq!(indexes(&[1]), [0], "the first one took all the room");
        let parts = self::parts(&[100, 500, 500, 400]);
        let compact = compact(&parts, &[1, 2, 3]).unwrap();
        let indexes: Vec<_> = compact.prefilled().iter().map(|p| p.index).collect();
        assert_eq!(indexes, [0, 1, 3], "the third did not fit, the fourth did");
        let key = ShortIdKey::new(b"header", 7);
        let id = key.short_id(&TransactionKey::of(&parts.transactions[2]));
        assert_eq!(compact.short_ids().collect::<Vec<_>>(), [(2, id)]);
        assert_eq!(compact.transaction_count(), 4);
    }

    #[test]
    fn a_block_over_a_limit_has_no_compact_form() {
        assert!(compact(&parts(&[MAX_PREFILLED_BYTES]), &[]).is_some());
        assert!(compact(&parts(&[MAX_PREFILLED_BYTES + 1]), &[]).is_none());
        assert!(compact(&parts(&vec![8; MAX_TRANSACTIONS]), &[]).is_some());
        assert!(compact(&parts(&vec![8; MAX_TRANSACTIONS + 1]), &[]).is_none());
        for length in [0, MAX_HEADER + 1] {
            let header = vec![0; length].into();
            let transactions = Vec::new();
            assert!(
                compact(
                    &BlockParts {
                        header,
                        transactions
                    },
                    &[]
                )
                .is_none()
            );
        }
    }

    #[test]
    fn a_block_without_transactions_is_compact() {
        let compact = compact(&parts(&[]), &[]).unwrap();
        assert_eq!(compact.transaction_count(), 0);
        assert_eq!(compact.short_ids().count(), 0);
    }

    #[test]
    fn rows_that_break_a_rule_are_refused() {
        let read = |short_ids: &[u8], prefilled: &[u8]| {
            CompactBlock::from_rows(
                ItemId::sha256(b"id"),
                Bytes::from_static(b"header"),
                7,
                Bytes::copy_from_slice(short_ids),
                Bytes::copy_from_slice(prefilled),
            )
        };
        assert!(read(&[0; 6], &[1, 1, 9]).is_ok());
        assert!(read(&[0; 5], &[]).is_err(), "half a short id");
        assert!(read(&[0; 6], &[2, 1, 9]).is_err(), "index 2 of 2");
        assert!(read(&[], &[1, 1, 9]).is_err(), "index 1 of 1");
        assert!(read(&[], &[0, 0]).is_err(), "an empty transaction");
        assert!(read(&[], &[0, 2, 9]).is_err(), "cut short");
        assert!(read(&[], &[0]).is_err(), "an index and nothing");
        assert!(read(&vec![0; 6 * MAX_TRANSACTIONS], &[]).is_ok());
        assert!(read(&vec![0; 6 * MAX_TRANSACTIONS], &[0, 1, 9]).is_err());
        assert!(read(&vec![0; 6 * MAX_TRANSACTIONS + 6], &[]).is_err());
        let mut large = Vec::new();
        put_number(&mut large, 0);
        put_bytes(&mut large, &vec![9; MAX_PREFILLED_BYTES]);
        assert!(read(&[], &large).is_ok());
        put_number(&mut large, 0);
        put_bytes(&mut large, &[9]);
        assert!(read(&[], &large).is_err());
    }

    proptest! {
        #[test]
        fn rows_are_read_as_they_were_written(
            sizes in prop::collection::vec(8usize..300, 0..60),
            lacked in prop::collection::vec(0usize..60, 0..20),
            nonce: u64,
        ) {
            let parts = parts(&sizes);
            let lacks = |index: usize, _: &TransactionKey| lacked.contains(&index);
            let compact = CompactBlock::new(ItemId::sha256(b"id"), &parts, nonce, 2000, lacks).unwrap();
            let read = CompactBlock::from_rows(
                compact.id.clone(),
                compact.header.clone(),
                nonce,
                compact.short_ids.clone(),
                compact.prefilled_row(),
            );
            prop_assert_eq!(read.unwrap(), compact.clone());
            // Each transaction is there once, named or sent along.
            let key = compact.short_id_key();
            let named = compact.short_ids().map(|(index, id)| (index, Err(id)));
            let sent = compact.prefilled().iter().map(|p| (p.index, Ok(p.transaction.clone())));
            let mut all: Vec<_> = named.chain(sent).collect();
            all.sort_by_key(|(index, _)| *index);
            prop_assert_eq!(all.len(), sizes.len());
            for ((index, it), (place, transaction)) in all.into_iter().zip(parts.transactions.iter().enumerate()) {
                prop_assert_eq!(index, place);
                match it {
                    Ok(sent) => prop_assert_eq!(&sent, transaction),
                    Err(id) => prop_assert_eq!(id, key.short_id(&TransactionKey::of(transaction))),
                }
            }
        }
    }
}
