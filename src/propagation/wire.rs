//! Frames of the lanes, as protobuf.
//!
//! A stream carries frames, each behind its length as an unsigned varint; `docs/propagation.md` is the page for implementers.
//! Items are slices of the frame that they came in, or of what it was unpacked to, all of which they keep in memory: so a frame counts as
//! that ([`Items::held`]). What the chain is asked about is copied out of it.

use bytes::{Bytes, BytesMut};
use prost::{
    Message as _,
    encoding::{self, DecodeContext, WireType},
};

use super::announce::Announce;
use crate::chain::ShortId;

/// The largest item, in bytes: no limit of a configuration is higher.
pub const MAX_ITEM: usize = 4 << 20;
/// The longest batch that travels packed, unpacked, in bytes: one item that is longer than a batch ought to be. One that is longer
/// still, since others came before its last item, travels as it is.
const MAX_UNPACKED: usize = MAX_ITEM + 1024;
/// The most items in a batch.
pub const MAX_BATCH: usize = 4096;
/// The most ids in an announcement or a fetch.
pub const MAX_IDS: usize = 4096;
/// Batches below this many bytes are not worth compressing.
const WORTH_PACKING: usize = 512;
/// So many bytes tell whether the rest is worth it.
const SAMPLE: usize = 4096;
/// A batch unpacks to at most so many times its packed length: more would let a few bytes ask for megabytes of work.
const MAX_RATIO: usize = 64;
/// The longest announcement: each of its columns may take the most that a varint does.
const MAX_ANNOUNCE: usize = MAX_IDS * (ShortId::LENGTH + 5 + 10) + 32;

/// One frame.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Frame {
    // 5 is the lanes' own.
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 6, 7, 8")]
    pub(crate) kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Kind {
    #[prost(message, tag = "1")]
    Items(Items),
    #[prost(message, tag = "2")]
    Announce(Announce),
    #[prost(message, tag = "3")]
    Fetch(Fetch),
    #[prost(message, tag = "4")]
    Link(Link),
    /// A message of [`crate::propagation::blocks::compact`].
    #[prost(bytes = "bytes", tag = "6")]
    Block(Bytes),
    /// A frame of [`crate::propagation::blocks::coded`].
    #[prost(bytes = "bytes", tag = "7")]
    Coded(Bytes),
    /// A message of [`crate::propagation::pool::reconcile`].
    #[prost(bytes = "bytes", tag = "8")]
    Reconcile(Bytes),
}

/// Whole items: pushed, or the answer to a fetch.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Items {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(crate) items: Vec<Bytes>,
    /// Instead: an LZ4 block of an encoded `Items`, which is `size` bytes long and holds items alone.
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) packed: Bytes,
    /// As it was read: what it was unpacked to, or 0.
    #[prost(uint32, tag = "3")]
    pub(crate) size: u32,
    /// Ids that were asked for and are no longer here, 8 bytes each.
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) missing: Bytes,
    /// Ids of what would have been pushed now, had the receiver not announced it meanwhile, 8 bytes each: so it learns how late a push is.
    #[prost(bytes = "bytes", tag = "6")]
    pub(crate) spared: Bytes,
}

/// Asks for announced items, 8 bytes each.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Fetch {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) ids: Bytes,
}

/// What the sender wants of this link from now on: to be pushed whole items, or announcements.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Link {
    #[prost(bool, tag = "1")]
    pub(crate) push: bool,
}

/// What is wrong with a frame.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FrameError {
    /// It is no protobuf.
    #[error("a frame is no protobuf: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// It says nothing that this version knows.
    #[error("a frame of no known kind")]
    UnknownKind,
    /// A field breaks a limit.
    #[error("{0}")]
    Limit(&'static str),
}

impl Frame {
    /// Reads a frame, its length already taken off, and checks its limits; what is packed is unpacked. Lengths and counts are
    /// looked at before anything is allocated for them.
    ///
    /// # Errors
    /// [`FrameError`]; the sender pays.
    pub(crate) fn read(bytes: Bytes) -> Result<Kind, FrameError> {
        let (tag, body) = sole_field(bytes.clone())?;
        if tag == 1 {
            check_entries(&body)?;
        } else if tag == 2 && body.len() > MAX_ANNOUNCE {
            return Err(FrameError::Limit("an announcement is too long"));
        }
        let kind = Self::decode(bytes)?.kind.ok_or(FrameError::UnknownKind)?;
        Ok(match kind {
            Kind::Items(batch) => Kind::Items(batch.unpacked()?),
            Kind::Announce(announce) => {
                some_ids(&announce.ids)?;
                announce.check()?;
                Kind::Announce(announce)
            }
            Kind::Fetch(fetch) => {
                some_ids(&fetch.ids)?;
                Kind::Fetch(fetch)
            }
            other => other,
        })
    }
}

/// The one field that a frame is: its tag, and what is in it.
pub(crate) fn sole_field(mut frame: Bytes) -> Result<(u32, Bytes), FrameError> {
    let (tag, wire_type) = encoding::decode_key(&mut frame)?;
    if wire_type != WireType::LengthDelimited {
        return Err(FrameError::UnknownKind);
    }
    let length = encoding::decode_varint(&mut frame)?;
    if u64::try_from(frame.len()) != Ok(length) {
        return Err(FrameError::Limit("a frame is one field, to its end"));
    }
    Ok((tag, frame))
}

/// Counts the items of a batch before they are decoded.
fn check_entries(mut batch: &[u8]) -> Result<(), FrameError> {
    let mut items = 0;
    while !batch.is_empty() {
        let (tag, wire_type) = encoding::decode_key(&mut batch)?;
        encoding::skip_field(wire_type, tag, &mut batch, DecodeContext::default())?;
        items += usize::from(tag == 1);
        if items > MAX_BATCH {
            return Err(FrameError::Limit("a batch has over 4,096 items"));
        }
    }
    Ok(())
}

/// How many ids there are in a column that has to have some.
fn some_ids(column: &Bytes) -> Result<usize, FrameError> {
    match ids(column)?.len() {
        0 => Err(FrameError::Limit("a frame names nothing")),
        count => Ok(count),
    }
}

/// Reads a frame of the lanes as a node does; how many items and ids it holds. Acknowledgements are the lanes' own:
/// [`check_lane`](crate::check_lane) reads them. For tools: fuzzing, analysers.
///
/// # Errors
/// [`FrameError`] says what is wrong with it.
pub fn check_frame(bytes: Bytes) -> Result<usize, FrameError> {
    Ok(Frame::read(bytes)?.ids())
}

pub(crate) fn count(column: &Bytes) -> usize {
    column.len() / ShortId::LENGTH
}

/// What stands before a message about blocks of so many bytes, in a frame with its length in front.
pub(crate) fn head_of_block(length: usize) -> Vec<u8> {
    in_frame(Vec::new(), 6, length)
}

/// What stands before an item of so many bytes that is alone in a plain batch, in a frame with its length in front.
pub(crate) fn head_of_item(length: usize) -> Vec<u8> {
    in_frame(field(1, length), 1, length)
}

/// What stands before so many bytes that follow on a head, where they are this field of a frame.
fn in_frame(head: Vec<u8>, tag: u32, length: usize) -> Vec<u8> {
    let inner = [field(tag, head.len() + length), head].concat();
    let mut whole = Vec::new();
    encoding::encode_varint((inner.len() + length) as u64, &mut whole);
    whole.extend(inner);
    whole
}

fn field(tag: u32, length: usize) -> Vec<u8> {
    let mut field = Vec::new();
    encoding::encode_key(tag, WireType::LengthDelimited, &mut field);
    encoding::encode_varint(length as u64, &mut field);
    field
}

impl Kind {
    /// How many items it holds, announces or asks for.
    pub(crate) fn ids(&self) -> usize {
        match self {
            Self::Announce(announce) => count(&announce.ids),
            Self::Fetch(fetch) => count(&fetch.ids),
            Self::Items(batch) => batch.items.len() + count(&batch.missing) + count(&batch.spared),
            _ => 0,
        }
    }

    /// The frame with its length in front, ready to be sent.
    pub(crate) fn into_frame(self) -> Bytes {
        Bytes::from(Frame { kind: Some(self) }.encode_length_delimited_to_vec())
    }
}

impl Items {
    /// A batch as it is.
    pub(crate) fn plain(items: Vec<Bytes>) -> Self {
        Self {
            items,
            ..Self::default()
        }
    }

    /// A batch as it goes out: packed where that saves a tenth at least, and where [`Frame::read`] takes it so.
    pub(crate) fn packed(items: Vec<Bytes>) -> Self {
        let plain = Self::plain(items);
        let size = plain.encoded_len();
        if !(WORTH_PACKING..=MAX_UNPACKED).contains(&size) || !plain.seems_packable() {
            return plain;
        }
        let packed = lz4_flex::compress(&plain.encode_to_vec());
        if packed.len() > size - size / 10 || packed.len() * MAX_RATIO < size {
            return plain;
        }
        Self {
            packed: packed.into(),
            size: u32::try_from(size).unwrap_or(u32::MAX),
            ..Self::default()
        }
    }

    /// Whether the first items get smaller; signatures and hashes do not, and what they fill is not worth the rest.
    fn seems_packable(&self) -> bool {
        let mut sample = Vec::with_capacity(SAMPLE);
        for item in &self.items {
            let room = SAMPLE - sample.len();
            sample.extend(item.iter().take(room));
        }
        lz4_flex::compress(&sample).len() <= sample.len() - sample.len() / 20
    }

    /// Bytes that its items keep in memory.
    pub(crate) fn held(&self) -> u64 {
        let items: u64 = self.items.iter().map(|item| item.len() as u64).sum();
        items.max(self.size.into())
    }

    fn unpacked(self) -> Result<Self, FrameError> {
        let batch = if self.packed.is_empty() {
            Self { size: 0, ..self }
        } else {
            let size = usize::try_from(self.size).unwrap_or(usize::MAX);
            if size > MAX_UNPACKED {
                return Err(FrameError::Limit("a packed batch is over 4 MiB"));
            }
            if size > self.packed.len().saturating_mul(MAX_RATIO) {
                return Err(FrameError::Limit("a batch is packed over 64 times"));
            }
            let mut room = BytesMut::zeroed(size);
            match lz4_flex::decompress_into(&self.packed, &mut room) {
                Ok(length) if length == size => {}
                _ => return Err(FrameError::Limit("a packed batch is not what it says")),
            }
            let room = room.freeze();
            check_entries(&room)?;
            let inner = Self::decode(room)?;
            if !inner.packed.is_empty() {
                return Err(FrameError::Limit("a packed batch is packed twice"));
            }
            if !inner.missing.is_empty() || !inner.spared.is_empty() {
                return Err(FrameError::Limit("a packed batch holds items alone"));
            }
            Self {
                missing: self.missing,
                size: self.size,
                spared: self.spared,
                ..inner
            }
        };
        if batch.items.iter().any(Bytes::is_empty) {
            return Err(FrameError::Limit("an item is empty"));
        }
        if ids(&batch.missing)?.len() + ids(&batch.spared)?.len() + batch.items.len() == 0 {
            return Err(FrameError::Limit("a batch of nothing"));
        }
        Ok(batch)
    }
}

/// The ids in a column.
pub(crate) fn ids(
    column: &Bytes,
) -> Result<impl ExactSizeIterator<Item = ShortId> + '_, FrameError> {
    let (ids, rest) = column.as_chunks::<{ ShortId::LENGTH }>();
    if !rest.is_empty() {
        return Err(FrameError::Limit("ids are 8 bytes long"));
    }
    if ids.len() > MAX_IDS {
        return Err(FrameError::Limit("a frame has over 4,096 ids"));
    }
    Ok(ids.iter().map(|id| ShortId::new(*id)))
}

/// Ids as a column.
pub(crate) fn column(ids: impl Iterator<Item = ShortId>) -> Bytes {
    let mut column = BytesMut::new();
    ids.for_each(|id| column.extend_from_slice(&id.to_bytes()));
    column.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{chain::TransactionKey, platform::test, propagation::announce::Columns};

    fn limit(frame: Vec<u8>) -> &'static str {
        match Frame::read(frame.into()) {
            Err(FrameError::Limit(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    fn frame(kind: Kind) -> Vec<u8> {
        Frame { kind: Some(kind) }.encode_to_vec()
    }

    fn packed(packed: Vec<u8>, size: usize) -> Vec<u8> {
        frame(Kind::Items(Items {
            packed: packed.into(),
            size: u32::try_from(size).expect("small"),
            ..Items::default()
        }))
    }

    #[test]
    fn a_head_is_what_stands_before_the_rest_of_its_frame() {
        for length in [1, 120, 127, 128, 70_000] {
            let rest = Bytes::from(vec![7; length]);
            let item = Kind::Items(Items::plain(vec![rest.clone()]));
            for (kind, head) in [
                (Kind::Block(rest.clone()), head_of_block(length)),
                (item, head_of_item(length)),
            ] {
                assert_eq!(kind.into_frame(), [&head[..], &rest].concat());
            }
        }
    }

    #[test]
    fn what_is_in_a_frame_is_counted_before_it_is_decoded() {
        // Two bytes an item; decoded they would be 32 each.
        let many = Items {
            items: vec![Bytes::new(); MAX_BATCH + 1],
            ..Items::default()
        };
        assert_eq!(
            limit(frame(Kind::Items(many.clone()))),
            "a batch has over 4,096 items"
        );
        // The same within a packed one: noise in front keeps it below the ratio.
        let noise: Vec<u8> = (0..4096_u32)
            .flat_map(|n| TransactionKey::of(&n.to_le_bytes()).short().to_bytes())
            .collect();
        let mut inner = Items {
            items: vec![noise.into()],
            ..Items::default()
        }
        .encode_to_vec();
        inner.extend(many.encode_to_vec());
        assert_eq!(
            limit(packed(lz4_flex::compress(&inner), inner.len())),
            "a batch has over 4,096 items"
        );
        let mut many = Columns::default();
        (0..MAX_ANNOUNCE / 3).for_each(|_| many.push(ShortId::new([1; 8]), 1, 1));
        assert_eq!(
            limit(frame(Kind::Announce(many.into()))),
            "an announcement is too long"
        );
        let twice = [
            frame(Kind::Link(Link { push: true })),
            frame(Kind::Link(Link { push: true })),
        ]
        .concat();
        assert_eq!(limit(twice), "a frame is one field, to its end");
    }

    #[test]
    fn nothing_is_no_frame() {
        for kind in [
            Kind::Items(Items::default()),
            Kind::Announce(Announce::default()),
            Kind::Fetch(Fetch::default()),
            Kind::Items(Items {
                items: vec![Bytes::new()],
                ..Items::default()
            }),
        ] {
            limit(frame(kind));
        }
    }

    #[test]
    fn few_bytes_do_not_become_megabytes() {
        let plain = Items {
            items: vec![vec![0; 1 << 20].into()],
            ..Items::default()
        };
        let bytes = plain.encode_to_vec();
        assert_eq!(
            limit(packed(lz4_flex::compress(&bytes), bytes.len())),
            "a batch is packed over 64 times"
        );
        assert_eq!(
            Items::packed(plain.items.clone()),
            plain,
            "we do not send such either"
        );
    }

    #[test]
    fn what_is_worth_it_is_packed_as_far_as_a_peer_unpacks_it() {
        let text: Bytes = (0..300_000_u32)
            .flat_map(|n| format!("{n:08} pays, ").into_bytes())
            .collect();
        // The last one is what a batch may have that was not full before its longest item came.
        for (sizes, is_packed) in [
            (vec![60_000], true),
            (vec![MAX_ITEM], true),
            (vec![2048, MAX_ITEM], false),
            (vec![32 << 10, MAX_ITEM], false),
        ] {
            let items: Vec<_> = sizes.iter().map(|size| text.slice(..*size)).collect();
            let sent = Items::packed(items.clone());
            assert_eq!(sent.items.is_empty(), is_packed, "{sizes:?}");
            let held = sent.size;
            let Ok(Kind::Items(read)) = Frame::read(frame(Kind::Items(sent)).into()) else {
                panic!("a batch");
            };
            assert!(read.items == items && read.size == held, "{sizes:?}");
        }
    }
}
