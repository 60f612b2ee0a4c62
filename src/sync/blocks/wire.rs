//! Messages of sync, as protobuf: field 9 of a frame on the bulk lane.
//!
//! `docs/sync-blocks.md` is the page for implementers. What a message claims to hold is looked at before it is decoded; headers and blocks
//! are slices of the frame that they came in.

use bytes::Bytes;
use prost::Message as _;

use crate::{
    chain::{BlockPlace, ItemId},
    fields::Fields,
    kept::kept,
    propagation::{FrameError, wire::sole_field},
};

/// The field of a lanes' frame that is a message of sync.
pub(crate) const TAG: u32 = 9;
/// What a frame of sync begins with.
pub(crate) const KEY: u8 = (TAG as u8) << 3 | 2;

/// The version in the hello of a node that speaks this.
pub(crate) const VERSION: u32 = 1;

/// Headers in one answer, and their bytes; the last one may go over them.
pub(crate) const MAX_HEADERS: usize = 2048;
pub(crate) const MAX_HEADERS_BYTES: usize = 256 << 10;
/// Blocks in one request.
pub(crate) const MAX_BLOCKS: usize = 512;
/// Places in one locator.
pub(crate) const MAX_LOCATOR: usize = 64;
/// Requests of one peer that are not answered.
pub(crate) const MAX_REQUESTS: usize = 8;
/// Bytes of blocks in one answer; the last one may go over them.
pub(crate) const MAX_ANSWER_BYTES: usize = 1 << 20;
/// Bytes of blocks in one frame.
pub(crate) const MAX_PIECE: usize = 64 << 10;

/// The longest message: an answer with headers of which the last is as long as all others together.
pub(crate) const MAX_MESSAGE: usize = 2 * MAX_HEADERS_BYTES + 8 * MAX_HEADERS;

/// One message.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Message {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6")]
    pub(crate) kind: Option<Kind>,
}

/// A frame.
#[derive(Clone, PartialEq, prost::Message)]
struct Frame {
    #[prost(message, optional, tag = "9")]
    message: Option<Message>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Kind {
    #[prost(message, tag = "1")]
    Status(Status),
    #[prost(message, tag = "2")]
    GetHeaders(GetHeaders),
    #[prost(message, tag = "3")]
    Headers(Headers),
    #[prost(message, tag = "4")]
    GetBlocks(GetBlocks),
    #[prost(message, tag = "5")]
    Blocks(Blocks),
    #[prost(message, tag = "6")]
    Refusal(Refusal),
}

/// What a node has: its best chain's tip, and from which height on it serves blocks.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Status {
    #[prost(uint64, tag = "1")]
    pub(crate) height: u64,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) id: Bytes,
    #[prost(uint64, tag = "3")]
    pub(crate) base: u64,
}

/// Asks for the headers after the first of these places that is on the answerer's best chain.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct GetHeaders {
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    /// A locator: the asker's places, the highest first.
    #[prost(uint64, repeated, tag = "2")]
    pub(crate) heights: Vec<u64>,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub(crate) ids: Vec<Bytes>,
}

/// Headers in order. They are all there are, or as many as one answer holds.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Headers {
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(crate) headers: Vec<Bytes>,
    /// The answerer's tip: the last of these headers, or there are more.
    #[prost(message, optional, tag = "3")]
    pub(crate) tip: Option<Status>,
}

/// Asks for blocks.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct GetBlocks {
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(crate) ids: Vec<Bytes>,
    /// After so many bytes the answer ends with the block that it is at.
    #[prost(uint64, tag = "3")]
    pub(crate) max_bytes: u64,
}

/// Some of the blocks that were asked for, in the order of the request: whole ones, or a piece of one.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Blocks {
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(crate) blocks: Vec<Bytes>,
    /// Instead: the next piece of a block of `size` bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) piece: Bytes,
    #[prost(uint64, tag = "4")]
    pub(crate) size: u64,
    /// In the last frame of an answer: how many of the request's blocks it has dealt with, and one more. Those among them that did not come
    /// are not here.
    #[prost(uint64, tag = "5")]
    pub(crate) ended: u64,
}

/// There is no answer to a request.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Refusal {
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    #[prost(enumeration = "Reason", tag = "2")]
    pub(crate) reason: i32,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Reason {
    /// Ask later, or somebody else.
    Busy = 0,
    /// Nothing of it is here.
    NotHere = 1,
}

impl Kind {
    /// Reads a frame, its length already taken off, and checks its limits.
    ///
    /// # Errors
    /// [`FrameError`]; the sender pays.
    pub(crate) fn read(frame: Bytes) -> Result<Self, FrameError> {
        let (tag, body) = sole_field(frame)?;
        if tag != TAG {
            return Err(FrameError::UnknownKind);
        }
        let (tag, inner) = sole_field(body.clone())?;
        let (length, entries) = match tag {
            1 => (128, 3),
            2 => (MAX_LOCATOR * 80 + 64, 2 * MAX_LOCATOR + 1),
            3 => (MAX_MESSAGE, MAX_HEADERS + 2),
            4 => (MAX_BLOCKS * 68 + 64, MAX_BLOCKS + 2),
            5 => (MAX_PIECE + 8 * MAX_BLOCKS + 64, MAX_BLOCKS + 4),
            6 => (32, 2),
            _ => return Err(FrameError::UnknownKind),
        };
        if inner.len() > length {
            return Err(FrameError::Limit("a message of sync is too long"));
        }
        if Fields::of(&inner).take(entries + 1).count() > entries {
            return Err(FrameError::Limit("a message of sync has too many entries"));
        }
        let whole = body.len();
        let mut kind = Message::decode(body)?.kind.ok_or(FrameError::UnknownKind)?;
        kind.check()?;
        if let Self::Blocks(answer) = &mut kind {
            // A block may wait for long, and alone.
            for block in &mut answer.blocks {
                [*block] = kept([std::mem::take(block)], whole);
            }
        }
        Ok(kind)
    }

    fn check(&self) -> Result<(), FrameError> {
        let wrong = match self {
            Self::Status(status) => status.place().is_none().then_some(ID),
            Self::GetHeaders(request) => {
                let is_whole = request.heights.len() == request.ids.len();
                let fits = is_whole && (1..=MAX_LOCATOR).contains(&request.ids.len());
                (!fits || request.locator().is_none())
                    .then_some("a locator is 1 to 64 heights with their ids")
            }
            Self::Headers(answer) => {
                let tip = answer.tip.as_ref().and_then(Status::place);
                let is_empty = answer.headers.iter().any(Bytes::is_empty);
                (tip.is_none() || is_empty).then_some("headers come with a tip, and none is empty")
            }
            Self::GetBlocks(request) => {
                let ids = request.ids.iter().all(|id| ItemId::new(id).is_some());
                let fits = (1..=MAX_BLOCKS).contains(&request.ids.len());
                (!ids || !fits).then_some("a request names 1 to 512 blocks, by their ids")
            }
            Self::Blocks(answer) => {
                let is_piece = !answer.piece.is_empty();
                let is_fit = is_piece == (answer.size > 0)
                    && (!is_piece || answer.blocks.is_empty())
                    && !answer.blocks.iter().any(Bytes::is_empty);
                (!is_fit).then_some("an answer holds whole blocks or a piece of one")
            }
            Self::Refusal(_) => None,
        };
        wrong.map_or(Ok(()), |wrong| Err(FrameError::Limit(wrong)))
    }

    /// The frame with its length in front, ready to be sent.
    pub(crate) fn into_frame(self) -> Bytes {
        let message = Message { kind: Some(self) };
        let frame = Frame {
            message: Some(message),
        };
        frame.encode_length_delimited_to_vec().into()
    }
}

const ID: &str = "an id has at most 64 bytes";

impl Status {
    pub(crate) fn new(tip: &BlockPlace, base: u64) -> Self {
        Self {
            height: tip.height,
            id: Bytes::copy_from_slice(tip.id.as_bytes()),
            base,
        }
    }

    /// The tip's place; `None`: its id is too long.
    pub(crate) fn place(&self) -> Option<BlockPlace> {
        let id = ItemId::new(&self.id)?;
        let height = self.height;
        Some(BlockPlace { height, id })
    }
}

impl GetHeaders {
    pub(crate) fn new(number: u64, locator: &[BlockPlace]) -> Self {
        let ids = locator.iter();
        Self {
            number,
            heights: locator.iter().map(|place| place.height).collect(),
            ids: ids
                .map(|place| Bytes::copy_from_slice(place.id.as_bytes()))
                .collect(),
        }
    }

    /// The places; `None`: an id is too long.
    pub(crate) fn locator(&self) -> Option<Vec<BlockPlace>> {
        let places = self.heights.iter().zip(&self.ids);
        places
            .map(|(height, id)| {
                let (id, height) = (ItemId::new(id)?, *height);
                Some(BlockPlace { height, id })
            })
            .collect()
    }
}

impl GetBlocks {
    pub(crate) fn new(number: u64, ids: &[ItemId], max_bytes: usize) -> Self {
        let ids = ids.iter();
        Self {
            number,
            ids: ids
                .map(|id| Bytes::copy_from_slice(id.as_bytes()))
                .collect(),
            max_bytes: max_bytes as u64,
        }
    }
}

/// Reads a frame of sync as a node does. For tools: fuzzing, analysers.
///
/// # Errors
/// [`FrameError`] says what is wrong with it.
pub fn check_sync(frame: Bytes) -> Result<(), FrameError> {
    Kind::read(frame).map(drop)
}
