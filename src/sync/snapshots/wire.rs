//! What peers say to each other about snapshots, as protobuf; `docs/sync-snapshots.md` is the page for implementers.
//!
//! The size of a message is checked before it is decoded, every number in it before anything is made of it, and byte strings are slices of
//! it, so that decoding allocates next to nothing.

use bytes::Bytes;
use prost::Message as _;

use super::{bitmap::Bitmap, tree};
use crate::{
    chain::{
        MAX_SNAPSHOT_CHUNK, MAX_SNAPSHOT_CHUNKS, MAX_SNAPSHOT_PROOF, SNAPSHOT_GROUP, Snapshot,
        SnapshotHash, SnapshotId, SnapshotProof,
    },
    error::DecodeError,
    fields::Fields,
    propagation::{FrameError, wire::sole_field},
};

/// The field of a lanes' frame that is a message about snapshots.
const TAG: u32 = 10;
/// What such a frame begins with.
pub(crate) const KEY: u8 = (TAG as u8) << 3 | 2;
/// The version of sync in the hello of a node that speaks this.
pub(crate) const VERSION: u32 = 2;

/// The most snapshots that a peer offers at once.
pub const MAX_OFFERS: usize = 4;

/// The most groups in a piece.
pub const MAX_PIECE_GROUPS: usize = 16;

/// The most groups of a chunk.
pub const MAX_GROUPS: usize = MAX_SNAPSHOT_CHUNK / SNAPSHOT_GROUP;

/// The longest message, in bytes: the longest piece with the values of the largest chunk, and what stands around them.
pub const MAX_MESSAGE: usize = MAX_PIECE_GROUPS * SNAPSHOT_GROUP + MAX_GROUPS * HASH + 1024;

/// The bytes of a hash.
const HASH: usize = 32;

/// What peers say to each other about snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// All snapshots that the sender offers now: what it offered before and is not here is not served any more.
    Offers(Vec<Offer>),
    /// Send me this.
    Request(Request),
    /// What the request of this number asked for is not needed any more.
    Cancel(u32),
    /// Some of what was asked for.
    Piece(Piece),
    /// No more comes of what was asked for.
    Refusal(Refusal),
    /// I look for a snapshot: tell me what you have, and each change of it.
    Seek,
    /// What shows that an offered snapshot is the chain's state.
    Proof(SnapshotId, SnapshotProof),
}

/// A snapshot, and what the sender has of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Which, checked.
    pub snapshot: Snapshot,
    /// The chunks that the sender has. `None`: all.
    pub have: Option<Bitmap>,
}

/// What can be asked for of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The hashes of its chunks, one after the other: a chunk like any other, whose hash is the snapshot's root.
    Hashes,
    /// A chunk.
    Chunk(u32),
}

impl Part {
    /// Its bytes. `None`: the snapshot has no such chunk.
    pub fn length(self, snapshot: &Snapshot) -> Option<usize> {
        match self {
            Self::Hashes => usize::try_from(snapshot.chunks()).ok()?.checked_mul(HASH),
            Self::Chunk(index) => snapshot.chunk_length(index),
        }
    }
}

/// Send me these groups of a part, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The number under which it is answered: one of the asker's choice, which no request of its own under way has.
    pub number: u32,
    /// Of which snapshot.
    pub snapshot: SnapshotId,
    /// What of it.
    pub part: Part,
    /// The first group.
    pub first: u16,
    /// The group after the last.
    pub end: u16,
    /// Begin with the values of all the part's groups.
    pub values: bool,
}

/// Some groups of what was asked for. The pieces of an answer come in order and without a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The request's number.
    pub number: u32,
    /// The place of the first group in its part.
    pub first: u16,
    /// The values of all groups of the part, in the first piece of an answer, where they were asked for.
    pub values: Vec<SnapshotHash>,
    /// The groups, 1 to [`MAX_PIECE_GROUPS`] of them: all are whole but the part's last.
    pub data: Bytes,
}

/// A piece, with the values that its groups have indeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashedPiece {
    pub(super) piece: Piece,
    /// Those of groups of a chunk of several.
    pub(super) found: Vec<SnapshotHash>,
}

impl HashedPiece {
    /// Hashes a piece's groups: slow (about 50 us for 64 KiB), so this is done where the connection is read.
    pub fn of(piece: Piece) -> Self {
        let found = tree::values_from(piece.first.into(), &piece.data);
        Self { piece, found }
    }
}

/// No more comes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The request's number.
    pub number: u32,
    /// Why.
    pub reason: Reason,
}

/// Why no more comes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Too much to do: ask again in a while, or somebody else.
    Busy,
    /// The snapshot is not served any more.
    Gone,
    /// The part is not here.
    Missing,
    /// As the asker wished.
    Cancelled,
}

impl Message {
    /// The message's bytes, without a length in front.
    pub fn encode(&self) -> Vec<u8> {
        self.to_proto().encode_to_vec()
    }

    /// Reads a message that [`Message::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`] where the bytes are no protobuf, hold no known kind, or break a limit. Whoever sent them knew better.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        limit("message", bytes.len(), MAX_MESSAGE)?;
        // Each offer makes an object: they are counted before.
        let offers = Fields::of(&bytes).tagged(1);
        let count = offers.map(|it| Fields::of(it).take(MAX_OFFERS + 1).count());
        limit("offers", count.sum(), MAX_OFFERS)?;
        proto::SnapshotMessage::decode(bytes)?.try_into()
    }

    /// The frame with its length in front, ready to be sent.
    pub(crate) fn into_frame(self) -> Bytes {
        let frame = proto::Frame {
            message: Some(self.to_proto()),
        };
        frame.encode_length_delimited_to_vec().into()
    }

    /// Reads a frame, its length already taken off.
    ///
    /// # Errors
    /// [`FrameError`] or [`DecodeError`]; the sender pays.
    pub(crate) fn read(frame: Bytes) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let (tag, message) = sole_field(frame)?;
        if tag != TAG {
            return Err(FrameError::UnknownKind.into());
        }
        Ok(Self::decode(message)?)
    }

    fn to_proto(&self) -> proto::SnapshotMessage {
        use proto::Kind;
        let kind = match self {
            Self::Offers(offers) => Kind::Offers(proto::Offers {
                offers: offers.iter().map(offer_to_proto).collect(),
            }),
            Self::Request(it) => Kind::Request(proto::Request {
                number: it.number,
                snapshot: Bytes::copy_from_slice(&it.snapshot.0),
                chunk: match it.part {
                    Part::Hashes => 0,
                    Part::Chunk(index) => index.saturating_add(1),
                },
                first: it.first.into(),
                end: it.end.into(),
                values: it.values,
            }),
            Self::Cancel(number) => Kind::Cancel(proto::Cancel { number: *number }),
            Self::Piece(it) => Kind::Piece(proto::Piece {
                number: it.number,
                first: it.first.into(),
                values: it.values.concat().into(),
                data: it.data.clone(),
            }),
            Self::Refusal(it) => Kind::Refusal(proto::Refusal {
                number: it.number,
                reason: match it.reason {
                    Reason::Busy => 0,
                    Reason::Gone => 1,
                    Reason::Missing => 2,
                    Reason::Cancelled => 3,
                },
            }),
            Self::Seek => Kind::Seek(proto::Seek {}),
            Self::Proof(id, it) => Kind::Proof(proto::Proof {
                snapshot: Bytes::copy_from_slice(&id.0),
                header: it.header.clone(),
                proof: it.proof.clone(),
            }),
        };
        proto::SnapshotMessage { kind: Some(kind) }
    }
}

impl TryFrom<proto::SnapshotMessage> for Message {
    type Error = DecodeError;

    fn try_from(message: proto::SnapshotMessage) -> Result<Self, DecodeError> {
        use proto::Kind;
        Ok(match message.kind.ok_or(DecodeError::UnknownKind)? {
            Kind::Offers(it) => {
                limit("offers", it.offers.len(), MAX_OFFERS)?;
                let offers: Result<_, _> = it.offers.into_iter().map(offer_from_proto).collect();
                Self::Offers(offers?)
            }
            Kind::Request(it) => {
                if it.chunk > MAX_SNAPSHOT_CHUNKS {
                    return Err(DecodeError::field(
                        "request.chunk",
                        "no snapshot has so many chunks",
                    ));
                }
                let (first, end) = (
                    place("request.first", it.first)?,
                    place("request.end", it.end)?,
                );
                if first >= end {
                    return Err(DecodeError::field("request.end", "it asks for no group"));
                }
                let part = it.chunk.checked_sub(1).map_or(Part::Hashes, Part::Chunk);
                Self::Request(Request {
                    number: it.number,
                    snapshot: SnapshotId(DecodeError::array("request.snapshot", &it.snapshot)?),
                    part,
                    first,
                    end,
                    values: it.values,
                })
            }
            Kind::Cancel(it) => Self::Cancel(it.number),
            Kind::Piece(it) => Self::Piece(piece_from_proto(it)?),
            Kind::Refusal(it) => Self::Refusal(Refusal {
                number: it.number,
                reason: match it.reason {
                    0 => Reason::Busy,
                    1 => Reason::Gone,
                    2 => Reason::Missing,
                    3 => Reason::Cancelled,
                    _ => return Err(DecodeError::field("refusal.reason", "no such reason")),
                },
            }),
            Kind::Seek(_) => Self::Seek,
            Kind::Proof(it) => {
                let length = it.header.len() + it.proof.len();
                limit("proof", length, MAX_SNAPSHOT_PROOF)?;
                let id = SnapshotId(DecodeError::array("proof.snapshot", &it.snapshot)?);
                // What is kept is not the frame that it came in.
                let proof = SnapshotProof {
                    header: Bytes::copy_from_slice(&it.header),
                    proof: Bytes::copy_from_slice(&it.proof),
                };
                Self::Proof(id, proof)
            }
        })
    }
}

fn offer_to_proto(offer: &Offer) -> proto::Offer {
    let it = &offer.snapshot;
    proto::Offer {
        height: it.height,
        format: it.format,
        state_root: it.state_root.clone(),
        chunk_size: it.chunk_size,
        size: it.size,
        root: Bytes::copy_from_slice(&it.root),
        have: offer.have.as_ref().map(Bitmap::to_bytes),
    }
}

fn offer_from_proto(it: proto::Offer) -> Result<Offer, DecodeError> {
    let snapshot = Snapshot {
        height: it.height,
        format: it.format,
        state_root: it.state_root,
        chunk_size: it.chunk_size,
        size: it.size,
        root: DecodeError::array("offer.root", &it.root)?,
    };
    let checked = snapshot.check();
    checked.map_err(|error| DecodeError::field("offer", error.to_string()))?;
    let have = it.have.map(|bytes| {
        let have = Bitmap::from_bytes(&bytes, snapshot.chunks());
        have.ok_or_else(|| DecodeError::field("offer.have", "more than the snapshot's chunks"))
    });
    // What is kept of an offer is not the frame that it came in.
    let state_root = Bytes::copy_from_slice(&snapshot.state_root);
    Ok(Offer {
        have: have.transpose()?,
        snapshot: Snapshot {
            state_root,
            ..snapshot
        },
    })
}

fn piece_from_proto(it: proto::Piece) -> Result<Piece, DecodeError> {
    limit("piece.values", it.values.len(), MAX_GROUPS * HASH)?;
    limit(
        "piece.data",
        it.data.len(),
        MAX_PIECE_GROUPS * SNAPSHOT_GROUP,
    )?;
    let (values, rest) = it.values.as_chunks::<HASH>();
    if !rest.is_empty() {
        return Err(DecodeError::field(
            "piece.values",
            "not a multiple of 32 bytes",
        ));
    }
    if it.data.is_empty() {
        return Err(DecodeError::field("piece.data", "empty"));
    }
    let first = place("piece.first", it.first)?;
    if usize::from(first) + tree::groups(it.data.len()) > MAX_GROUPS {
        return Err(DecodeError::field(
            "piece.first",
            "no chunk has so many groups",
        ));
    }
    Ok(Piece {
        number: it.number,
        first,
        values: values.to_vec(),
        data: it.data,
    })
}

/// The place of a group in a chunk, or the one after the last.
fn place(field: &'static str, place: u32) -> Result<u16, DecodeError> {
    let place = u16::try_from(place).ok();
    let place = place.filter(|place| usize::from(*place) <= MAX_GROUPS);
    place.ok_or_else(|| DecodeError::field(field, "no chunk has so many groups"))
}

fn limit(field: &'static str, length: usize, most: usize) -> Result<(), DecodeError> {
    if length > most {
        return Err(DecodeError::field(
            field,
            format!("{length}, at most {most}"),
        ));
    }
    Ok(())
}

/// The protobuf messages, field for field as docs/sync-snapshots.md has them.
mod proto {
    use bytes::Bytes;

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Frame {
        #[prost(message, optional, tag = "10")]
        pub message: Option<SnapshotMessage>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct SnapshotMessage {
        #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7")]
        pub kind: Option<Kind>,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Kind {
        #[prost(message, tag = "1")]
        Offers(Offers),
        #[prost(message, tag = "2")]
        Request(Request),
        #[prost(message, tag = "3")]
        Cancel(Cancel),
        #[prost(message, tag = "4")]
        Piece(Piece),
        #[prost(message, tag = "5")]
        Refusal(Refusal),
        #[prost(message, tag = "6")]
        Seek(Seek),
        #[prost(message, tag = "7")]
        Proof(Proof),
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Seek {}

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Proof {
        #[prost(bytes = "bytes", tag = "1")]
        pub snapshot: Bytes,
        #[prost(bytes = "bytes", tag = "2")]
        pub header: Bytes,
        #[prost(bytes = "bytes", tag = "3")]
        pub proof: Bytes,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Offers {
        #[prost(message, repeated, tag = "1")]
        pub offers: Vec<Offer>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Offer {
        #[prost(uint64, tag = "1")]
        pub height: u64,
        #[prost(uint32, tag = "2")]
        pub format: u32,
        #[prost(bytes = "bytes", tag = "3")]
        pub state_root: Bytes,
        #[prost(uint32, tag = "4")]
        pub chunk_size: u32,
        #[prost(uint64, tag = "5")]
        pub size: u64,
        #[prost(bytes = "bytes", tag = "6")]
        pub root: Bytes,
        #[prost(bytes = "bytes", optional, tag = "7")]
        pub have: Option<Bytes>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Request {
        #[prost(uint32, tag = "1")]
        pub number: u32,
        #[prost(bytes = "bytes", tag = "2")]
        pub snapshot: Bytes,
        #[prost(uint32, tag = "3")]
        pub chunk: u32,
        #[prost(uint32, tag = "4")]
        pub first: u32,
        #[prost(uint32, tag = "5")]
        pub end: u32,
        #[prost(bool, tag = "6")]
        pub values: bool,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Cancel {
        #[prost(uint32, tag = "1")]
        pub number: u32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Piece {
        #[prost(uint32, tag = "1")]
        pub number: u32,
        #[prost(uint32, tag = "2")]
        pub first: u32,
        #[prost(bytes = "bytes", tag = "3")]
        pub values: Bytes,
        #[prost(bytes = "bytes", tag = "4")]
        pub data: Bytes,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Refusal {
        #[prost(uint32, tag = "1")]
        pub number: u32,
        #[prost(uint32, tag = "2")]
        pub reason: u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;
    use proptest::prelude::*;

    fn offer(length: u64, have: Option<Vec<u32>>) -> Offer {
        let snapshot = Snapshot {
            height: 9,
            format: 1,
            state_root: Bytes::from_static(&[1; 32]),
            chunk_size: 16 << 10,
            size: length,
            root: [2; 32],
        };
        let have = have.map(|places| {
            let mut have = Bitmap::new(snapshot.chunks());
            for place in places {
                have.insert(place);
            }
            have
        });
        Offer { snapshot, have }
    }

    fn message() -> impl Strategy<Value = Message> {
        let have = prop::option::of(prop::collection::vec(0u32..40, 0..20));
        let offer = (1u64..600_000, have).prop_map(|(length, have)| offer(length, have));
        let request = (
            any::<u32>(),
            any::<[u8; 32]>(),
            0u32..100,
            0u16..9,
            1u16..9,
            any::<bool>(),
        );
        let request = request.prop_map(|(number, snapshot, chunk, first, more, values)| Request {
            number,
            snapshot: SnapshotId(snapshot),
            part: chunk.checked_sub(1).map_or(Part::Hashes, Part::Chunk),
            first,
            end: first + more,
            values,
        });
        let values = prop::collection::vec(any::<[u8; 32]>(), 0..5);
        let data = prop::collection::vec(any::<u8>(), 1..40_000);
        let piece = (any::<u32>(), 0u16..200, values, data);
        let piece = piece.prop_map(|(number, first, values, data)| Piece {
            number,
            first,
            values,
            data: data.into(),
        });
        let reasons = [
            Reason::Busy,
            Reason::Gone,
            Reason::Missing,
            Reason::Cancelled,
        ];
        let refusal = (any::<u32>(), prop::sample::select(reasons.to_vec()));
        let bytes = || prop::collection::vec(any::<u8>(), 0..300);
        let proof = (any::<[u8; 32]>(), bytes(), bytes());
        let proof = proof.prop_map(|(id, header, proof)| {
            let (header, proof) = (header.into(), proof.into());
            Message::Proof(SnapshotId(id), SnapshotProof { header, proof })
        });
        prop_oneof![
            prop::collection::vec(offer, 0..=MAX_OFFERS).prop_map(Message::Offers),
            request.prop_map(Message::Request),
            any::<u32>().prop_map(Message::Cancel),
            piece.prop_map(Message::Piece),
            refusal.prop_map(|(number, reason)| Message::Refusal(Refusal { number, reason })),
            Just(Message::Seek),
            proof,
        ]
    }

    proptest! {
        #[test]
        fn messages_survive_the_wire_and_nearly_right_ones_are_one_or_an_error(
            message in message(), edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let mut bytes = message.encode();
            prop_assert!(bytes.len() <= MAX_MESSAGE);
            prop_assert_eq!(Message::decode(bytes.clone().into()), Ok(message.clone()));
            let mut frame = message.clone().into_frame();
            let length = prost::decode_length_delimiter(&mut frame).unwrap();
            prop_assert_eq!((length, frame.first()), (frame.len(), Some(&KEY)));
            prop_assert_eq!(Message::read(frame).unwrap(), message);
            for (place, byte) in edits {
                // Those near the beginning are numbers and lengths.
                let place = place.index(bytes.len().min(64));
                bytes[place] = byte;
            }
            if let Ok(message) = Message::decode(bytes.into()) {
                prop_assert_eq!(Message::decode(message.encode().into()), Ok(message));
            }
        }

        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Message::decode(bytes.into());
        }
    }

    #[test]
    fn what_breaks_a_limit_is_refused() {
        let offers = vec![offer(1, None); MAX_OFFERS + 1];
        let longest = Piece {
            number: 1,
            first: 0,
            values: vec![[1; 32]; MAX_GROUPS],
            data: vec![0; MAX_PIECE_GROUPS * SNAPSHOT_GROUP].into(),
        };
        let decode = |message: Message| Message::decode(message.encode().into());
        assert!(decode(Message::Piece(longest.clone())).is_ok());
        assert!(decode(Message::Offers(offers)).is_err());
        let first = u16::try_from(MAX_GROUPS).expect("few") - 3;
        let wrong = [
            Piece {
                data: vec![0; MAX_PIECE_GROUPS * SNAPSHOT_GROUP + 1].into(),
                ..longest.clone()
            },
            Piece {
                values: vec![[1; 32]; MAX_GROUPS + 1],
                ..longest.clone()
            },
            Piece {
                data: Bytes::new(),
                ..longest.clone()
            },
            Piece { first, ..longest },
        ];
        for piece in wrong {
            assert!(decode(Message::Piece(piece)).is_err());
        }
        let mut have = offer(16 << 10, Some(vec![0]));
        have.have = Some(Bitmap::all(2));
        assert!(decode(Message::Offers(vec![have])).is_err());
        let request = Request {
            number: 1,
            snapshot: SnapshotId([1; 32]),
            part: Part::Hashes,
            first: 3,
            end: 3,
            values: true,
        };
        assert!(decode(Message::Request(request)).is_err());
        let proof = |length| SnapshotProof {
            header: Bytes::from_static(&[1; 100]),
            proof: vec![2; length].into(),
        };
        let decoded = |length| decode(Message::Proof(SnapshotId([1; 32]), proof(length)));
        assert!(decoded(MAX_SNAPSHOT_PROOF - 100).is_ok());
        assert!(decoded(MAX_SNAPSHOT_PROOF - 99).is_err());
        assert!(Message::decode(vec![0; MAX_MESSAGE + 1].into()).is_err());
        assert_eq!(Message::decode(Bytes::new()), Err(DecodeError::UnknownKind));
    }
}
