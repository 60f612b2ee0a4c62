//! Frames between peers, as protobuf; `docs/coded.md` is the page for implementers.
//!
//! The size of a frame is checked before it is decoded, and byte strings are slices of it, or copies where they are much less than it
//! ([`kept`]), so that decoding allocates next to nothing.

use bytes::Bytes;
use prost::Message as _;

use super::announcement::{Announcement, BroadcastId, MAX_HEADER};
use super::chunk::Chunk;
use super::chunk_set::ChunkSet;
use super::merkle::proof_length;
use super::shape::{MAX_CHUNK, MAX_CHUNKS};
use crate::chain::ItemId;
use crate::{error::DecodeError, kept::kept};

/// The longest frame, in bytes: the longest chunk or header, and what stands around it.
pub const MAX_FRAME: usize = MAX_CHUNK + MAX_HEADER + 1024;

/// What peers say to each other about a broadcast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// There is a broadcast, and I take part.
    Announce(Announce),
    /// What I hold and what I want from you.
    Status(Status),
    /// A chunk.
    Chunk(Chunk),
}

/// There is a broadcast: the first frame about it, unless the receiver has sent one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announce {
    /// What it is of.
    pub announcement: Announcement,
    /// The chunks that the sender holds.
    pub have: ChunkSet,
}

/// How a broadcast stands with the sender. A later status replaces an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Which broadcast.
    pub broadcast: BroadcastId,
    /// The chunks that the sender holds. All of them: its chain has accepted the block.
    pub have: ChunkSet,
    /// The chunks that it wants from the receiver, now or once the receiver has them. What was wanted before and is not
    /// here is cancelled.
    pub want: ChunkSet,
    /// The sender needs no chunk any more, from anybody.
    pub done: bool,
}

impl Frame {
    /// The frame's bytes, without a length in front.
    pub fn encode(&self) -> Vec<u8> {
        self.message().encode_to_vec()
    }

    /// How many bytes [`Frame::encode`] makes.
    pub fn encoded_len(&self) -> usize {
        self.message().encoded_len()
    }

    /// Reads a frame that [`Frame::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`] where the bytes are no protobuf, hold no known kind, or break a limit. Whoever sent them knew
    /// better.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let length = bytes.len();
        limit("frame", length, MAX_FRAME)?;
        match proto::Frame::decode(bytes)?.kind {
            Some(proto::Kind::Announce(it)) => announce(it, length).map(Self::Announce),
            Some(proto::Kind::Status(it)) => Ok(Self::Status(Status {
                broadcast: BroadcastId(DecodeError::array("status.broadcast", &it.broadcast)?),
                have: chunks("status.have", &it.have)?,
                want: chunks("status.want", &it.want)?,
                done: it.done,
            })),
            Some(proto::Kind::Chunk(it)) => {
                limit("chunk.data", it.data.len(), MAX_CHUNK)?;
                limit("chunk.proof", it.proof.len(), proof_length(MAX_CHUNKS))?;
                let [proof, data] = kept([it.proof, it.data], length);
                Ok(Self::Chunk(Chunk {
                    broadcast: BroadcastId(DecodeError::array("chunk.broadcast", &it.broadcast)?),
                    index: u8::try_from(it.index).map_err(|_| {
                        DecodeError::field("chunk.index", "no block has so many chunks")
                    })?,
                    spread: it.spread,
                    proof,
                    data,
                }))
            }
            None => Err(DecodeError::UnknownKind),
        }
    }

    fn message(&self) -> proto::Frame {
        proto::Frame {
            kind: Some(match self {
                Self::Announce(it) => proto::Kind::Announce(proto::Announce {
                    block: Bytes::copy_from_slice(it.announcement.block().as_bytes()),
                    header: it.announcement.header().clone(),
                    size: u32::try_from(it.announcement.shape().size()).unwrap_or(u32::MAX),
                    root: Bytes::copy_from_slice(it.announcement.root()),
                    have: it.have.to_bytes(),
                }),
                Self::Status(it) => proto::Kind::Status(proto::Status {
                    broadcast: Bytes::copy_from_slice(it.broadcast.as_bytes()),
                    have: it.have.to_bytes(),
                    want: it.want.to_bytes(),
                    done: it.done,
                }),
                Self::Chunk(it) => proto::Kind::Chunk(proto::Chunk {
                    broadcast: Bytes::copy_from_slice(it.broadcast.as_bytes()),
                    index: it.index.into(),
                    spread: it.spread,
                    proof: it.proof.clone(),
                    data: it.data.clone(),
                }),
            }),
        }
    }
}

/// Of a frame of so many bytes.
fn announce(it: proto::Announce, length: usize) -> Result<Announce, DecodeError> {
    let size = usize::try_from(it.size).unwrap_or(usize::MAX);
    let block = ItemId::new(&it.block)
        .ok_or_else(|| DecodeError::field("announce.block", "over 64 bytes long"))?;
    let root = DecodeError::array("announce.root", &it.root)?;
    let [header] = kept([it.header], length);
    let announcement = Announcement::new(block, header, size, root).ok_or_else(|| {
        DecodeError::field(
            "announce",
            "a block without identity or of no possible size, or too long a header",
        )
    })?;
    Ok(Announce {
        announcement,
        have: chunks("announce.have", &it.have)?,
    })
}

fn chunks(field: &'static str, bytes: &[u8]) -> Result<ChunkSet, DecodeError> {
    ChunkSet::from_bytes(bytes)
        .ok_or_else(|| DecodeError::field(field, "no block has so many chunks"))
}

fn limit(field: &'static str, length: usize, most: usize) -> Result<(), DecodeError> {
    if length > most {
        return Err(DecodeError::field(
            field,
            format!("{length} bytes, at most {most}"),
        ));
    }
    Ok(())
}

/// The protobuf messages, field for field as docs/coded.md has them.
mod proto {
    use super::Bytes;

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Frame {
        #[prost(oneof = "Kind", tags = "1, 2, 3")]
        pub kind: Option<Kind>,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Kind {
        #[prost(message, tag = "1")]
        Announce(Announce),
        #[prost(message, tag = "2")]
        Status(Status),
        #[prost(message, tag = "3")]
        Chunk(Chunk),
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Announce {
        #[prost(bytes = "bytes", tag = "1")]
        pub block: Bytes,
        #[prost(bytes = "bytes", tag = "2")]
        pub header: Bytes,
        #[prost(uint32, tag = "3")]
        pub size: u32,
        #[prost(bytes = "bytes", tag = "4")]
        pub root: Bytes,
        #[prost(bytes = "bytes", tag = "5")]
        pub have: Bytes,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Status {
        #[prost(bytes = "bytes", tag = "1")]
        pub broadcast: Bytes,
        #[prost(bytes = "bytes", tag = "2")]
        pub have: Bytes,
        #[prost(bytes = "bytes", tag = "3")]
        pub want: Bytes,
        #[prost(bool, tag = "4")]
        pub done: bool,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Chunk {
        #[prost(bytes = "bytes", tag = "1")]
        pub broadcast: Bytes,
        #[prost(uint32, tag = "2")]
        pub index: u32,
        #[prost(bool, tag = "3")]
        pub spread: bool,
        #[prost(bytes = "bytes", tag = "4")]
        pub proof: Bytes,
        #[prost(bytes = "bytes", tag = "5")]
        pub data: Bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::super::merkle::DIGEST;
    use super::*;
    use crate::platform::test;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_a_frame_or_an_error(
            mut bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0u8..4, edit: Option<(u8, u8)>,
        ) {
            let _ = Frame::decode(bytes.clone().into());
            // Most random bytes are not even protobuf: frames that are nearly right go deeper.
            let frame = Frame::Status(Status {
                broadcast: BroadcastId([kind; DIGEST]),
                have: bytes.iter().copied().collect(),
                want: ChunkSet::EMPTY,
                done: kind == 1,
            });
            prop_assert_eq!(Frame::decode(frame.encode().into()), Ok(frame.clone()));
            bytes = frame.encode();
            if let Some((place, byte)) = edit {
                let place = usize::from(place) % bytes.len();
                bytes[place] = byte;
            }
            if let Ok(frame) = Frame::decode(bytes.into()) {
                prop_assert_eq!(Frame::decode(frame.encode().into()), Ok(frame));
            }
        }
    }
    #[test]
    fn what_is_read_keeps_no_padding_in_memory() {
        let mut padded = Frame::Chunk(Chunk {
            broadcast: BroadcastId([7; DIGEST]),
            index: 1,
            spread: false,
            proof: vec![7; DIGEST].into(),
            data: vec![7; 64].into(),
        })
        .encode();
        // Of a field that nobody knows.
        for _ in 0..4 {
            padded.extend([15 << 3 | 2, 127]);
            padded.extend([0; 127]);
        }
        let frame = Bytes::from(padded);
        let Ok(Frame::Chunk(chunk)) = Frame::decode(frame.clone()) else {
            panic!("it is a chunk");
        };
        for part in [chunk.data, chunk.proof] {
            assert!(!frame.as_ptr_range().contains(&part.as_ptr()));
        }
    }
}
