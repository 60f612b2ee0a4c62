//! What a node tells of items that may be fetched: three columns of the same length.
//!
//! Sizes and fee rates are packed fields of varints, and stay as they travel. So what a batch of the log has is encoded once, and
//! put together for each peer that is told of it by copying bytes.

use bytes::Bytes;
use prost::encoding::{decode_varint, encode_varint};

use super::wire::{self, FrameError};
use crate::{chain::ShortId, propagation::pool::Pooled};

/// Items that may be fetched.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Announce {
    /// 8 bytes each.
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) ids: Bytes,
    /// In bytes, 32 bits each at most.
    #[prost(bytes = "bytes", tag = "2")]
    sizes: Bytes,
    /// The fee per 1,000 bytes, in the chain's smallest unit.
    #[prost(bytes = "bytes", tag = "3")]
    fee_rates: Bytes,
}

impl Announce {
    /// Whether the columns are of one length.
    ///
    /// # Errors
    /// They are not, or are no columns.
    pub(crate) fn check(&self) -> Result<(), FrameError> {
        let count = wire::ids(&self.ids)?.len();
        let is_right = is_column(&self.sizes, count, u32::MAX.into())
            && is_column(&self.fee_rates, count, u64::MAX);
        if is_right {
            Ok(())
        } else {
            Err(FrameError::Limit(
                "an announcement's columns differ in length",
            ))
        }
    }

    /// Each item's size in bytes, and its fee rate.
    pub(crate) fn claims(&self) -> impl Iterator<Item = (u32, u64)> {
        let sizes = varints(&self.sizes).map(|size| u32::try_from(size).unwrap_or(u32::MAX));
        sizes.zip(varints(&self.fee_rates))
    }
}

/// Columns that grow.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns {
    ids: Vec<u8>,
    sizes: Vec<u8>,
    fee_rates: Vec<u8>,
}

impl Columns {
    /// One more item.
    pub(crate) fn push(&mut self, id: ShortId, size: usize, fee_rate: u64) {
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        self.ids.extend_from_slice(&id.to_bytes());
        encode_varint(size.into(), &mut self.sizes);
        encode_varint(fee_rate, &mut self.fee_rates);
    }

    /// All of another's.
    pub(crate) fn extend(&mut self, other: &Self) {
        self.ids.extend_from_slice(&other.ids);
        self.sizes.extend_from_slice(&other.sizes);
        self.fee_rates.extend_from_slice(&other.fee_rates);
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len() / ShortId::LENGTH
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

impl From<Columns> for Announce {
    fn from(columns: Columns) -> Self {
        Self {
            ids: columns.ids.into(),
            sizes: columns.sizes.into(),
            fee_rates: columns.fee_rates.into(),
        }
    }
}

/// Of transactions in the pool.
impl<'a> FromIterator<&'a Pooled> for Columns {
    fn from_iter<T: IntoIterator<Item = &'a Pooled>>(pooled: T) -> Self {
        let mut columns = Self::default();
        for one in pooled {
            columns.push(one.key.short(), one.data.len(), one.fee_rate);
        }
        columns
    }
}

/// The numbers in a packed field, up to the first thing that is none.
fn varints(mut field: &[u8]) -> impl Iterator<Item = u64> {
    std::iter::from_fn(move || {
        (!field.is_empty())
            .then(|| decode_varint(&mut field).ok())
            .flatten()
    })
}

/// Whether a packed field has so many numbers, none of them larger, and nothing else.
fn is_column(mut field: &[u8], count: usize, largest: u64) -> bool {
    let mut numbers = 0;
    while !field.is_empty() {
        match decode_varint(&mut field) {
            Ok(number) if number <= largest => numbers += 1,
            _ => return false,
        }
    }
    numbers == count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{chain::TransactionKey, platform::test};
    use proptest::prelude::*;
    use prost::Message;

    /// As a protobuf of packed fields has it.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Plain {
        #[prost(bytes = "bytes", tag = "1")]
        ids: Bytes,
        #[prost(uint32, repeated, tag = "2")]
        sizes: Vec<u32>,
        #[prost(uint64, repeated, tag = "3")]
        fee_rates: Vec<u64>,
    }

    fn id(number: usize) -> ShortId {
        TransactionKey::of(&number.to_le_bytes()).short()
    }

    proptest! {
        #[test]
        fn it_is_protobuf_however_it_is_put_together(claims in proptest::collection::vec((any::<u32>(), any::<u64>()), 1..100), at in 0usize..100) {
            let columns = |claims: &[(u32, u64)], first: usize| {
                let mut columns = Columns::default();
                for (number, (size, fee_rate)) in claims.iter().enumerate() {
                    columns.push(id(first + number), *size as usize, *fee_rate);
                }
                columns
            };
            let (front, back) = claims.split_at(at.min(claims.len()));
            let mut both = columns(front, 0);
            both.extend(&columns(back, front.len()));
            prop_assert_eq!(both.len(), claims.len());
            let announce = Announce::from(both);
            prop_assert_eq!(announce.check(), Ok(()));
            prop_assert_eq!(announce.claims().collect::<Vec<_>>(), claims.clone());
            let plain = Plain {
                ids: wire::column((0..claims.len()).map(id)),
                sizes: claims.iter().map(|(size, _)| *size).collect(),
                fee_rates: claims.iter().map(|(_, fee_rate)| *fee_rate).collect(),
            };
            prop_assert_eq!(announce.encode_to_vec(), plain.encode_to_vec());
        }

        #[test]
        fn no_bytes_make_it_panic(ids in proptest::collection::vec(any::<u8>(), 0..40), sizes in proptest::collection::vec(any::<u8>(), 0..20), fee_rates in proptest::collection::vec(any::<u8>(), 0..20)) {
            let announce = Announce { ids: ids.into(), sizes: sizes.into(), fee_rates: fee_rates.into() };
            if announce.check().is_ok() {
                prop_assert_eq!(announce.claims().count() * ShortId::LENGTH, announce.ids.len());
            }
        }
    }

    #[test]
    fn columns_that_differ_are_refused() {
        let (one, two, cut, large) = (
            [1_u8],
            [1_u8, 2],
            [1_u8, 0x80],
            [0xff, 0xff, 0xff, 0xff, 0x1f],
        );
        let announce = |sizes: &[u8], fee_rates: &[u8]| Announce {
            ids: wire::column([id(1)].into_iter()),
            sizes: Bytes::copy_from_slice(sizes),
            fee_rates: Bytes::copy_from_slice(fee_rates),
        };
        assert!(announce(&one, &one).check().is_ok());
        for (sizes, fee_rates) in [
            (&two[..], &one[..]),
            (&one, &two),
            (&[], &one),
            (&cut, &one),
            (&one, &cut),
            (&large, &one),
        ] {
            assert!(
                announce(sizes, fee_rates).check().is_err(),
                "{sizes:?} {fee_rates:?}"
            );
        }
    }
}
