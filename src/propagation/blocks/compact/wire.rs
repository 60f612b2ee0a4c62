//! Block messages as protobuf, field for field as docs/blocks.md has them.
//!
//! The size of a frame is checked before it is decoded; lists are rows in one `bytes` field (`rows.rs`), so
//! decoding allocates no more than the limits of the parent module allow. Byte strings are slices of the frame, or copies where they are much
//! less than it ([`kept`]).

use bytes::Bytes;
use prost::{
    Message as _,
    encoding::{WireType, encode_key},
};

use super::choice::Form;
use super::message::{
    Announcement, BlockMessage, GetBlock, MissingTransactions, Transactions, WholeBlock,
};
use super::rows::{Row, put_bytes, put_number, skip};
use super::{CompactBlock, MAX_HEADER, MAX_TRANSACTIONS, max_message_bytes};
use crate::chain::ItemId;
use crate::{error::DecodeError, kept::kept};

impl BlockMessage {
    /// The message's bytes, without a length in front.
    pub fn encode(&self) -> Vec<u8> {
        proto::BlockMessage {
            kind: Some(self.into()),
        }
        .encode_to_vec()
    }

    /// Reads a message that [`BlockMessage::encode`] wrote, in a network whose blocks have at most `max_block_bytes`.
    ///
    /// # Errors
    /// [`DecodeError`] where the bytes are no protobuf, hold no known kind, or break a limit. Whoever sent them knew
    /// better.
    pub fn decode(frame: Bytes, max_block_bytes: usize) -> Result<Self, DecodeError> {
        let length = frame.len();
        at_most("message", length, max_message_bytes(max_block_bytes))?;
        let message = proto::BlockMessage::decode(frame)?;
        read(
            message.kind.ok_or(DecodeError::UnknownKind)?,
            length,
            max_block_bytes,
        )
    }
}

/// What stands before the block in the message of a whole one of so many bytes.
pub(super) fn head_of_whole(id: &ItemId, length: usize) -> Vec<u8> {
    head(6, id, length)
}

/// What stands before the row in the message of transactions that make one of so many bytes.
pub(super) fn head_of_transactions(id: &ItemId, length: usize) -> Vec<u8> {
    head(5, id, length)
}

/// What stands before the second field of a message's kind, which is its last.
fn head(kind: u32, id: &ItemId, length: usize) -> Vec<u8> {
    let mut inner = Vec::new();
    encode_key(1, WireType::LengthDelimited, &mut inner);
    put_bytes(&mut inner, id.as_bytes());
    encode_key(2, WireType::LengthDelimited, &mut inner);
    put_number(&mut inner, length);
    let mut head = Vec::new();
    encode_key(kind, WireType::LengthDelimited, &mut head);
    put_number(&mut head, inner.len() + length);
    head.extend(inner);
    head
}

/// Reads a message of so many bytes.
fn read(
    kind: proto::Kind,
    length: usize,
    max_block_bytes: usize,
) -> Result<BlockMessage, DecodeError> {
    let kept_one = |part| {
        let [part] = kept([part], length);
        part
    };
    Ok(match kind {
        proto::Kind::Announcement(it) => {
            at_most("announcement.header", it.header.len(), MAX_HEADER)?;
            BlockMessage::Announcement(Announcement {
                id: id(&it.block)?,
                header: kept_one(it.header),
            })
        }
        proto::Kind::Compact(it) => {
            // It outlives the rows.
            let header = kept_one(it.header);
            let [short_ids, prefilled] = kept([it.short_ids, it.prefilled], length);
            let block = id(&it.block)?;
            let compact = CompactBlock::from_rows(block, header, it.nonce, short_ids, prefilled)?;
            BlockMessage::Compact(compact)
        }
        proto::Kind::GetBlock(it) => BlockMessage::GetBlock(GetBlock {
            id: id(&it.block)?,
            form: if it.whole { Form::Whole } else { Form::Compact },
        }),
        proto::Kind::GetTransactions(it) => BlockMessage::GetTransactions(MissingTransactions {
            id: id(&it.block)?,
            indexes: indexes(it.indexes)?,
        }),
        proto::Kind::Transactions(it) => BlockMessage::Transactions(Transactions {
            id: id(&it.block)?,
            transactions: transactions(kept_one(it.transactions), max_block_bytes)?,
        }),
        proto::Kind::Whole(it) => {
            at_most("whole.data", it.data.len(), max_block_bytes)?;
            BlockMessage::Whole(WholeBlock {
                id: id(&it.block)?,
                data: kept_one(it.data),
            })
        }
        proto::Kind::NotFound(block) => BlockMessage::NotFound(id(&block)?),
        proto::Kind::HighBandwidth(on) => BlockMessage::HighBandwidth(on),
        proto::Kind::Settled(block) => BlockMessage::Settled(id(&block)?),
    })
}

fn id(bytes: &Bytes) -> Result<ItemId, DecodeError> {
    ItemId::new(bytes)
        .filter(|_| !bytes.is_empty())
        .ok_or_else(|| {
            let problem = format!("{} bytes are no identity; it has 1 to 64", bytes.len());
            DecodeError::field("block", problem)
        })
}

fn indexes(row: Bytes) -> Result<Vec<usize>, DecodeError> {
    let mut row = Row::new("get_transactions.indexes", row);
    let mut indexes = Vec::new();
    while !row.is_empty() {
        indexes.push(row.index_after(indexes.last().copied(), MAX_TRANSACTIONS)?);
    }
    if indexes.is_empty() {
        return Err(row.wrong("asks for nothing"));
    }
    Ok(indexes)
}

fn transactions(row: Bytes, max_block_bytes: usize) -> Result<Vec<Bytes>, DecodeError> {
    let mut row = Row::new("transactions.transactions", row);
    let mut transactions = Vec::new();
    let mut bytes = 0usize;
    while !row.is_empty() {
        let transaction = row.bytes()?;
        bytes = bytes.saturating_add(transaction.len());
        let full = transactions.len() >= MAX_TRANSACTIONS;
        if transaction.is_empty() || full || bytes > max_block_bytes {
            return Err(row.wrong("an empty transaction, or more of them than a block has"));
        }
        transactions.push(transaction);
    }
    Ok(transactions)
}

fn at_most(field: &'static str, length: usize, limit: usize) -> Result<(), DecodeError> {
    if length > limit {
        let problem = format!("{length} bytes are over the limit of {limit}");
        return Err(DecodeError::field(field, problem));
    }
    Ok(())
}

impl From<&BlockMessage> for proto::Kind {
    fn from(message: &BlockMessage) -> Self {
        let block = |id: &ItemId| Bytes::copy_from_slice(id.as_bytes());
        match message {
            BlockMessage::Announcement(it) => Self::Announcement(proto::Announcement {
                block: block(&it.id),
                header: it.header.clone(),
            }),
            BlockMessage::Compact(it) => Self::Compact(proto::CompactBlock {
                block: block(it.id()),
                header: it.header().clone(),
                nonce: it.nonce(),
                short_ids: it.short_ids_row().clone(),
                prefilled: it.prefilled_row(),
            }),
            BlockMessage::GetBlock(it) => Self::GetBlock(proto::GetBlock {
                block: block(&it.id),
                whole: it.form == Form::Whole,
            }),
            BlockMessage::GetTransactions(it) => {
                let mut row = Vec::new();
                let mut previous = None;
                for &index in &it.indexes {
                    put_number(&mut row, skip(previous, index));
                    previous = Some(index);
                }
                Self::GetTransactions(proto::MissingTransactions {
                    block: block(&it.id),
                    indexes: row.into(),
                })
            }
            BlockMessage::Transactions(it) => {
                let mut row = Vec::new();
                for transaction in &it.transactions {
                    put_bytes(&mut row, transaction);
                }
                Self::Transactions(proto::Transactions {
                    block: block(&it.id),
                    transactions: row.into(),
                })
            }
            BlockMessage::Whole(it) => Self::Whole(proto::WholeBlock {
                block: block(&it.id),
                data: it.data.clone(),
            }),
            BlockMessage::NotFound(id) => Self::NotFound(block(id)),
            BlockMessage::HighBandwidth(on) => Self::HighBandwidth(*on),
            BlockMessage::Settled(id) => Self::Settled(block(id)),
        }
    }
}

/// The protobuf messages.
mod proto {
    use bytes::Bytes;

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct BlockMessage {
        #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9")]
        pub kind: Option<Kind>,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Kind {
        #[prost(message, tag = "1")]
        Announcement(Announcement),
        #[prost(message, tag = "2")]
        Compact(CompactBlock),
        #[prost(message, tag = "3")]
        GetBlock(GetBlock),
        #[prost(message, tag = "4")]
        GetTransactions(MissingTransactions),
        #[prost(message, tag = "5")]
        Transactions(Transactions),
        #[prost(message, tag = "6")]
        Whole(WholeBlock),
        #[prost(bytes = "bytes", tag = "7")]
        NotFound(Bytes),
        #[prost(bool, tag = "8")]
        HighBandwidth(bool),
        #[prost(bytes = "bytes", tag = "9")]
        Settled(Bytes),
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Announcement {
        #[prost(bytes = "bytes", tag = "1")]
        pub block: Bytes,
        #[prost(bytes = "bytes", tag = "2")]
        pub header: Bytes,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct CompactBlock {
        #[prost(bytes = "bytes", tag = "1")]
        pub block: Bytes,
        #[prost(bytes = "bytes", tag = "2")]
        pub header: Bytes,
        #[prost(fixed64, tag = "3")]
        pub nonce: u64,
        #[prost(bytes = "bytes", tag = "4")]
        pub short_ids: Bytes,
        #[prost(bytes = "bytes", tag = "5")]
        pub prefilled: Bytes,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct GetBlock {
        #[prost(bytes = "bytes", tag = "1")]
        pub block: Bytes,
        #[prost(bool, tag = "2")]
        pub whole: bool,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct MissingTransactions {
        #[prost(bytes = "bytes", tag = "1")]
        pub block: Bytes,
        #[prost(bytes = "bytes", tag = "2")]
        pub indexes: Bytes,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Transactions {
        #[prost(bytes = "bytes", tag = "1")]
        pub block: Bytes,
        #[prost(bytes = "bytes", tag = "2")]
        pub transactions: Bytes,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct WholeBlock {
        #[prost(bytes = "bytes", tag = "1")]
        pub block: Bytes,
        #[prost(bytes = "bytes", tag = "2")]
        pub data: Bytes,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chain::BlockParts;
    use crate::platform::test;

    const MAX_BLOCK: usize = 10_000;

    fn messages() -> impl Strategy<Value = BlockMessage> {
        let id = || {
            let bytes = prop::collection::vec(any::<u8>(), 1..=64);
            bytes.prop_map(|bytes| ItemId::new(&bytes).unwrap())
        };
        let bytes = |most| prop::collection::vec(any::<u8>(), 1..most).prop_map(Bytes::from);
        let transactions = move || prop::collection::vec(bytes(100), 0..50);
        let indexes = prop::collection::btree_set(0..MAX_TRANSACTIONS, 1..50);
        prop_oneof![
            (id(), bytes(200))
                .prop_map(|(id, header)| BlockMessage::Announcement(Announcement { id, header })),
            (id(), bytes(200), transactions(), any::<u64>()).prop_map(
                |(id, header, transactions, nonce)| {
                    let parts = BlockParts {
                        header,
                        transactions,
                    };
                    let compact =
                        CompactBlock::new(id, &parts, nonce, 500, |index, _| index % 7 == 1);
                    BlockMessage::Compact(compact.unwrap())
                }
            ),
            (id(), any::<bool>()).prop_map(|(id, whole)| BlockMessage::GetBlock(GetBlock {
                id,
                form: if whole { Form::Whole } else { Form::Compact },
            })),
            (id(), indexes).prop_map(|(id, indexes)| {
                let indexes = indexes.into_iter().collect();
                BlockMessage::GetTransactions(MissingTransactions { id, indexes })
            }),
            (id(), transactions()).prop_map(|(id, transactions)| {
                BlockMessage::Transactions(Transactions { id, transactions })
            }),
            (id(), bytes(MAX_BLOCK))
                .prop_map(|(id, data)| BlockMessage::Whole(WholeBlock { id, data })),
            id().prop_map(BlockMessage::NotFound),
            any::<bool>().prop_map(BlockMessage::HighBandwidth),
            id().prop_map(BlockMessage::Settled),
        ]
    }

    fn decode(bytes: Vec<u8>) -> Result<BlockMessage, DecodeError> {
        BlockMessage::decode(bytes.into(), MAX_BLOCK)
    }

    proptest! {
        #[test]
        fn messages_are_read_as_they_were_written(message in messages()) {
            prop_assert_eq!(decode(message.encode()), Ok(message));
        }

        #[test]
        fn garbage_is_refused_or_read_without_harm(data in prop::collection::vec(any::<u8>(), 0..500)) {
            let _ = decode(data);
        }

        #[test]
        fn damaged_messages_are_refused_or_read_without_harm(
            message in messages(), place: prop::sample::Index, flip in 1u8.., cut: prop::sample::Index,
        ) {
            let mut bytes = message.encode();
            let place = place.index(bytes.len());
            bytes[place] ^= flip;
            let _ = decode(bytes.clone());
            bytes.truncate(cut.index(bytes.len()));
            let _ = decode(bytes);
        }
    }

    #[test]
    fn what_is_read_keeps_no_padding_in_memory() {
        let (id, data) = (ItemId::sha256(b"id"), Bytes::from(vec![7; 100]));
        for message in [
            BlockMessage::Announcement(Announcement {
                id: id.clone(),
                header: data.clone(),
            }),
            BlockMessage::Whole(WholeBlock {
                id: id.clone(),
                data: data.clone(),
            }),
            BlockMessage::Transactions(Transactions {
                id,
                transactions: vec![data],
            }),
        ] {
            // A field that nobody knows is as long as its sender likes.
            let mut padded = message.encode();
            padded.extend([15 << 3 | 2, 127]);
            padded.extend([0; 127]);
            let frame = Bytes::from(padded);
            let read = BlockMessage::decode(frame.clone(), MAX_BLOCK).expect("it is one");
            assert_eq!(read, message);
            let [part] = match read {
                BlockMessage::Announcement(it) => [it.header],
                BlockMessage::Whole(it) => [it.data],
                BlockMessage::Transactions(it) => it.transactions.try_into().expect("one"),
                other => panic!("{other:?}"),
            };
            assert!(!frame.as_ptr_range().contains(&part.as_ptr()));
        }
    }

    #[test]
    fn each_limit_is_kept() {
        let id = ItemId::sha256(b"id");
        let whole = |length| {
            BlockMessage::Whole(WholeBlock {
                id: id.clone(),
                data: vec![0; length].into(),
            })
        };
        assert!(decode(whole(MAX_BLOCK).encode()).is_ok());
        assert!(decode(whole(MAX_BLOCK + 1).encode()).is_err());
        let announcement = |length| {
            let header = vec![0; length].into();
            BlockMessage::Announcement(Announcement {
                id: id.clone(),
                header,
            })
        };
        assert!(decode(announcement(MAX_HEADER).encode()).is_ok());
        assert!(decode(announcement(MAX_HEADER + 1).encode()).is_err());
        let transactions = |sizes: &[usize]| {
            let transactions = sizes.iter().map(|&size| vec![0; size].into()).collect();
            BlockMessage::Transactions(Transactions {
                id: id.clone(),
                transactions,
            })
        };
        assert!(decode(transactions(&[1, MAX_BLOCK - 1]).encode()).is_ok());
        assert!(decode(transactions(&[1, MAX_BLOCK]).encode()).is_err());
        assert!(decode(transactions(&[1, 0, 1]).encode()).is_err());
        let many =
            |count| BlockMessage::decode(transactions(&vec![1; count]).encode().into(), 1 << 20);
        assert!(many(MAX_TRANSACTIONS).is_ok());
        assert!(many(MAX_TRANSACTIONS + 1).is_err());
        let missing = |indexes| {
            BlockMessage::GetTransactions(MissingTransactions {
                id: id.clone(),
                indexes,
            })
        };
        assert!(decode(missing((0..MAX_TRANSACTIONS).collect()).encode()).is_ok());
        assert!(decode(missing(vec![MAX_TRANSACTIONS]).encode()).is_err());
        assert!(decode(missing(vec![]).encode()).is_err());
        let frame = vec![0; max_message_bytes(MAX_BLOCK) + 1];
        let Err(DecodeError::Field { field, .. }) = decode(frame) else {
            panic!("a frame over the limit");
        };
        assert_eq!(field, "message");
        // No identity, and one of 65 bytes.
        assert!(decode(vec![0x3a, 0]).is_err());
        assert!(decode([&[0x3a, 65][..], &[1; 65]].concat()).is_err());
        assert_eq!(decode(vec![]), Err(DecodeError::UnknownKind));
    }

    #[test]
    fn what_is_decoded_shares_the_memory_of_its_frame() {
        let data = Bytes::from(vec![7; 5000]);
        let id = ItemId::sha256(b"id");
        let frame = Bytes::from(BlockMessage::Whole(WholeBlock { id, data }).encode());
        let places = frame.as_ptr_range();
        let Ok(BlockMessage::Whole(whole)) = BlockMessage::decode(frame.clone(), MAX_BLOCK) else {
            panic!("a whole block");
        };
        assert!(places.contains(&whole.data.as_ptr()));
    }
}
