//! Frames as the cores here get them: read on the connection's own task, where keys are computed too.

use std::error::Error;

use bytes::Bytes;

use crate::{
    chain::{ItemKind, TransactionKey},
    lanes::{Decode, Decoded},
    propagation::{
        announce::Announce,
        blocks::{self, coded, compact::BlockMessage},
        pool::reconcile,
        wire::{Fetch, Frame, Kind, Link},
    },
    traffic::{Class, Cost, Lane},
};

/// Reads frames. Blocks have at most so many bytes here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decoder {
    pub(super) max_block_bytes: usize,
}

/// A frame, as far as it can be understood alone.
#[derive(Debug)]
pub(crate) enum Input {
    /// Of the tree of votes or of transactions.
    Tree(ItemKind, TreeInput),
    /// Of compact blocks.
    Block(BlockMessage),
    /// Of coded blocks.
    Coded(coded::Frame),
    /// Of the reconciliation of pools.
    Reconcile(reconcile::Message),
}

/// A frame of a tree.
#[derive(Debug)]
pub(crate) enum TreeInput {
    /// A batch, with the keys computed.
    Items {
        batch: Vec<(TransactionKey, Bytes)>,
        missing: Bytes,
        spared: Bytes,
    },
    Announce(Announce),
    Fetch(Fetch),
    Link(Link),
}

impl Decode for Decoder {
    type Frame = Input;

    fn decode(
        &self,
        lane: Lane,
        frame: Bytes,
    ) -> Result<Decoded<Input>, Box<dyn Error + Send + Sync>> {
        let kind = Frame::read(frame)?;
        let ids = kind.ids() as u64;
        let mut bytes = 0;
        let tree = match kind {
            Kind::Block(message) => {
                let message = BlockMessage::decode(message, self.max_block_bytes)?;
                return one(lane, blocks::class(&message), Input::Block(message));
            }
            Kind::Coded(frame) => {
                let frame = coded::Frame::decode(frame)?;
                return one(lane, Class::Block, Input::Coded(frame));
            }
            Kind::Reconcile(message) => {
                let message = reconcile::Message::from_bytes(&message)?;
                return one(lane, Class::Transaction, Input::Reconcile(message));
            }
            Kind::Items(batch) => {
                bytes = batch.held();
                let keyed = |data: Bytes| (TransactionKey::of(&data), data);
                TreeInput::Items {
                    batch: batch.items.into_iter().map(keyed).collect(),
                    missing: batch.missing,
                    spared: batch.spared,
                }
            }
            Kind::Announce(announce) => TreeInput::Announce(announce),
            Kind::Fetch(fetch) => TreeInput::Fetch(fetch),
            Kind::Link(link) => TreeInput::Link(link),
        };
        let (kind, class) = match lane {
            Lane::Urgent => (ItemKind::Vote, Class::Vote),
            Lane::Bulk => (ItemKind::Transaction, Class::Transaction),
            Lane::Block => return Err(ELSEWHERE.into()),
        };
        Ok(Decoded {
            frame: Input::Tree(kind, tree),
            class,
            cost: Cost { items: ids, bytes },
        })
    }
}

const ELSEWHERE: &str = "a frame that belongs to another lane";

/// A frame that counts as one item.
fn one(
    lane: Lane,
    class: Class,
    frame: Input,
) -> Result<Decoded<Input>, Box<dyn Error + Send + Sync>> {
    if class.lane() != lane {
        return Err(ELSEWHERE.into());
    }
    let cost = Cost { items: 1, bytes: 0 };
    Ok(Decoded { frame, class, cost })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        chain::ItemId,
        platform::test,
        propagation::{blocks::compact::Announcement, wire::Items},
    };

    fn decode(lane: Lane, kind: Kind) -> Result<Decoded<Input>, Box<dyn Error + Send + Sync>> {
        let decoder = Decoder {
            max_block_bytes: 1 << 20,
        };
        let mut frame = kind.into_frame();
        prost::decode_length_delimiter(&mut frame).expect("its length");
        decoder.decode(lane, frame)
    }

    #[test]
    fn a_frame_is_of_one_class_and_of_its_lane() {
        let id = ItemId::sha256(b"a block");
        let request = BlockMessage::HighBandwidth(true).encode();
        let header = Bytes::from_static(b"a header");
        let told = BlockMessage::Announcement(Announcement { id, header }).encode();
        let link = Kind::Link(Link { push: true });
        for (kind, class) in [
            (Kind::Block(request.into()), Class::BlockRequest),
            (Kind::Block(told.into()), Class::Block),
            (link.clone(), Class::Vote),
            (link, Class::Transaction),
        ] {
            let decoded = decode(class.lane(), kind.clone()).expect("right");
            assert_eq!(decoded.class, class);
            if class.lane() == Lane::Block {
                decode(Lane::Bulk, kind.clone()).expect_err("another lane's");
                decode(Lane::Urgent, kind).expect_err("another lane's");
            } else {
                decode(Lane::Block, kind).expect_err("another lane's");
            }
        }
    }

    #[test]
    fn a_packed_batch_counts_as_what_it_was_unpacked_to() {
        let noise = |number: u32| TransactionKey::of(&number.to_le_bytes()).short().to_bytes();
        let filling: Vec<u8> = (0..8192).flat_map(noise).chain(vec![0; 1 << 19]).collect();
        let item = [0x0a, 8, 1, 2, 3, 4, 5, 6, 7, 8];
        let field = |tag: u32| {
            let mut field = item.to_vec();
            prost::encoding::bytes::encode(tag, &filling, &mut field);
            field
        };
        let read = |inner: Vec<u8>| {
            let batch = Items {
                packed: lz4_flex::compress(&inner).into(),
                size: inner.len() as u32,
                ..Items::default()
            };
            decode(Lane::Bulk, Kind::Items(batch))
        };
        // Of a field that nobody knows.
        let decoded = read(field(15)).expect("one item");
        assert_eq!(decoded.cost.items, 1);
        assert_eq!(decoded.cost.bytes, field(15).len() as u64);
        // Ids that are missing stand beside what is packed.
        let error = read(field(4)).expect_err("more than items");
        assert!(error.to_string().contains("items alone"), "{error}");
        // What was not unpacked says nothing of a size.
        let plain = Items {
            items: vec![vec![7; 8].into()],
            size: u32::MAX,
            ..Items::default()
        };
        let decoded = decode(Lane::Bulk, Kind::Items(plain)).expect("one item");
        assert_eq!(decoded.cost.bytes, 8);
    }
}
