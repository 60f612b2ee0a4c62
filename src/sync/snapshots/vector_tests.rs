//! The vectors that implementers in other languages are given, made without this code.

use bytes::Bytes;
use serde_json::Value;

use super::*;
use crate::{
    chain::{Snapshot, SnapshotHash, SnapshotHasher, SnapshotId, SnapshotProof},
    platform::test,
};

fn vectors(section: &str) -> Vec<Value> {
    let all: Value =
        serde_json::from_str(include_str!("../../../tests/vectors/snapshots.json")).unwrap();
    all[section].as_array().unwrap().clone()
}

fn bytes(value: &Value) -> Bytes {
    hex::decode(value.as_str().unwrap()).unwrap().into()
}

fn hash(value: &Value) -> SnapshotHash {
    bytes(value)[..].try_into().unwrap()
}

fn hashes(value: &Value) -> Vec<SnapshotHash> {
    value.as_array().unwrap().iter().map(hash).collect()
}

fn number<T: TryFrom<u64>>(value: &Value) -> T {
    T::try_from(value.as_u64().unwrap()).ok().unwrap()
}

fn snapshot(vector: &Value) -> Snapshot {
    Snapshot {
        height: number(&vector["height"]),
        format: number(&vector["format"]),
        state_root: bytes(&vector["state_root"]),
        chunk_size: number(&vector["chunk_size"]),
        size: number(&vector["size"]),
        root: hash(&vector["root"]),
    }
}

fn offer(vector: &Value) -> Offer {
    let snapshot = snapshot(vector);
    let have = vector["have"].as_array().map(|places| {
        let mut have = Bitmap::new(snapshot.chunks());
        for place in places {
            have.insert(number(place));
        }
        have
    });
    Offer { snapshot, have }
}

#[test]
fn snapshots_are_those_of_the_vectors() {
    for vector in vectors("snapshot") {
        let right = snapshot(&vector);
        let all: Vec<_> = (0..right.size).map(|place| (place % 251) as u8).collect();
        let mut hasher = SnapshotHasher::new(right.chunk_size).unwrap();
        hasher.update(&all);
        let state_root = right.state_root.clone();
        let (made, list) = hasher
            .finish(right.height, right.format, state_root)
            .unwrap();
        assert_eq!(made, right, "{}", vector["what"]);
        assert_eq!(list, bytes(&vector["hashes"]));
        assert_eq!(made.id(), SnapshotId(hash(&vector["id"])));
        let chunks: Vec<_> = all.chunks(right.chunk_size as usize).collect();
        let (first, last) = (chunks[0], chunks[chunks.len() - 1]);
        assert_eq!(tree::values(first), hashes(&vector["values_of_first"]));
        assert_eq!(tree::values(last), hashes(&vector["values_of_last"]));
    }
}

#[test]
fn messages_are_those_of_the_vectors() {
    for vector in vectors("message") {
        let message = match vector["kind"].as_str().unwrap() {
            "offers" => {
                let offers = vector["offers"].as_array().unwrap();
                Message::Offers(offers.iter().map(offer).collect())
            }
            "request" => Message::Request(Request {
                number: number(&vector["number"]),
                snapshot: SnapshotId(hash(&vector["snapshot"])),
                part: match &vector["chunk"] {
                    Value::Null => Part::Hashes,
                    index => Part::Chunk(number(index)),
                },
                first: number(&vector["first"]),
                end: number(&vector["end"]),
                values: vector["values"] == true,
            }),
            "cancel" => Message::Cancel(number(&vector["number"])),
            "seek" => Message::Seek,
            "proof" => {
                let id = SnapshotId(hash(&vector["snapshot"]));
                let (header, proof) = (bytes(&vector["header"]), bytes(&vector["proof"]));
                Message::Proof(id, SnapshotProof { header, proof })
            }
            "piece" => Message::Piece(Piece {
                number: number(&vector["number"]),
                first: number(&vector["first"]),
                values: hashes(&vector["values"]),
                data: bytes(&vector["data"]),
            }),
            _ => Message::Refusal(Refusal {
                number: number(&vector["number"]),
                reason: match vector["reason"].as_str().unwrap() {
                    "busy" => Reason::Busy,
                    "gone" => Reason::Gone,
                    "missing" => Reason::Missing,
                    _ => Reason::Cancelled,
                },
            }),
        };
        let bytes = bytes(&vector["bytes"]);
        assert_eq!(message.encode(), bytes, "{}", vector["what"]);
        assert_eq!(Message::decode(bytes), Ok(message));
    }
}

#[test]
fn what_the_vectors_call_invalid_is_refused() {
    for vector in vectors("invalid") {
        let message = Message::decode(bytes(&vector["bytes"]));
        assert!(message.is_err(), "{}: {message:?}", vector["what"]);
    }
}
