//! The vectors that implementers in other languages are given, made without this code.

use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::chain::ItemId;
use crate::platform::test;

fn vectors(section: &str) -> Vec<Value> {
    let all: Value =
        serde_json::from_str(include_str!("../../../../tests/vectors/coded.json")).unwrap();
    all[section].as_array().unwrap().clone()
}

fn bytes(value: &Value) -> Bytes {
    hex::decode(value.as_str().unwrap()).unwrap().into()
}

fn id(value: &Value) -> ItemId {
    ItemId::new(&bytes(value)).unwrap()
}

fn name(vector: &Value) -> BroadcastId {
    BroadcastId(bytes(&vector["broadcast"])[..].try_into().unwrap())
}

fn number<T: TryFrom<u64>>(value: &Value) -> T {
    T::try_from(value.as_u64().unwrap()).ok().unwrap()
}

fn set(value: &Value) -> ChunkSet {
    value.as_array().unwrap().iter().map(number::<u8>).collect()
}

#[test]
fn encodings_are_those_of_the_vectors() {
    for vector in vectors("encoding") {
        let header = bytes(&vector["header"]);
        let encoded = Encoded::of(id(&vector["block"]), header, bytes(&vector["data"])).unwrap();
        let announcement = encoded.announcement();
        let shape = announcement.shape();
        assert_eq!(shape.chunks(), number::<usize>(&vector["chunks"]));
        assert_eq!(
            shape.chunk_length(),
            number::<usize>(&vector["chunk_length"])
        );
        let chunks = ChunkSet::first(shape.chunks()).iter();
        let chunks: Vec<_> = chunks.map(|index| encoded.chunk(index).unwrap()).collect();
        let parity = &chunks[shape.data_chunks()..];
        assert_eq!(
            parity[0].data,
            bytes(&vector["first_parity"]),
            "{}",
            vector["what"]
        );
        assert_eq!(parity[parity.len() - 1].data, bytes(&vector["last_parity"]));
        let all: Vec<_> = chunks.iter().flat_map(|chunk| chunk.data.clone()).collect();
        assert_eq!(Sha256::digest(all)[..], bytes(&vector["chunks_sha256"]));
        assert_eq!(announcement.root()[..], bytes(&vector["root"]));
        assert_eq!(encoded.id(), name(&vector));
        assert_eq!(chunks[5].proof, bytes(&vector["proof_of_chunk_5"]));
    }
}

#[test]
fn frames_are_those_of_the_vectors() {
    for vector in vectors("frame") {
        let frame = match vector["kind"].as_str().unwrap() {
            "announce" => {
                let root = bytes(&vector["root"])[..].try_into().unwrap();
                let header = bytes(&vector["header"]);
                let size = number(&vector["size"]);
                let announcement = Announcement::new(id(&vector["block"]), header, size, root);
                Frame::Announce(Announce {
                    announcement: announcement.unwrap(),
                    have: set(&vector["have"]),
                })
            }
            "status" => Frame::Status(Status {
                broadcast: name(&vector),
                have: set(&vector["have"]),
                want: set(&vector["want"]),
                done: vector["done"] == true,
            }),
            _ => Frame::Chunk(Chunk {
                broadcast: name(&vector),
                index: number(&vector["index"]),
                spread: vector["spread"] == true,
                proof: bytes(&vector["proof"]),
                data: bytes(&vector["data"]),
            }),
        };
        let bytes = bytes(&vector["bytes"]);
        assert_eq!(frame.encode(), bytes, "{}", vector["what"]);
        assert_eq!(frame.encoded_len(), bytes.len());
        assert_eq!(Frame::decode(bytes), Ok(frame));
    }
}

#[test]
fn what_the_vectors_call_invalid_is_refused() {
    for vector in vectors("invalid") {
        let frame = Frame::decode(bytes(&vector["bytes"]));
        assert!(frame.is_err(), "{}: {frame:?}", vector["what"]);
    }
    assert!(Frame::decode(vec![0; MAX_FRAME + 1].into()).is_err());
}
