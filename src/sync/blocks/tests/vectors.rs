//! The vectors that implementers in other languages are given, made without this code.

use bytes::Bytes;
use serde_json::Value;

use super::*;
use crate::{
    platform::test,
    sync::blocks::wire::{Blocks, GetBlocks, GetHeaders, Headers, Refusal},
};

fn vectors(section: &str) -> Vec<Value> {
    let all = include_str!("../../../../tests/vectors/sync-blocks.json");
    let all: Value = serde_json::from_str(all).expect("JSON");
    all[section].as_array().expect("a list").clone()
}

fn bytes(value: &Value) -> Bytes {
    let hex = hex::decode(value.as_str().expect("a text"));
    hex.expect("hex").into()
}

fn list(value: &Value) -> Vec<Bytes> {
    value
        .as_array()
        .expect("a list")
        .iter()
        .map(bytes)
        .collect()
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

fn message(vector: &Value) -> Kind {
    let of = |name: &str| number(&vector[name]);
    let status = || Status {
        height: of("height"),
        id: bytes(&vector["id"]),
        base: of("base"),
    };
    match vector["kind"].as_str().expect("a text") {
        "status" => Kind::Status(status()),
        "get_headers" => Kind::GetHeaders(GetHeaders {
            number: of("number"),
            heights: vector["heights"]
                .as_array()
                .expect("a list")
                .iter()
                .map(number)
                .collect(),
            ids: list(&vector["ids"]),
        }),
        "headers" => Kind::Headers(Headers {
            number: of("number"),
            headers: list(&vector["headers"]),
            tip: Some(status()),
        }),
        "get_blocks" => Kind::GetBlocks(GetBlocks {
            number: of("number"),
            ids: list(&vector["ids"]),
            max_bytes: of("max_bytes"),
        }),
        "blocks" => Kind::Blocks(Blocks {
            number: of("number"),
            blocks: list(&vector["blocks"]),
            piece: bytes(&vector["piece"]),
            size: of("size"),
            ended: of("ended"),
        }),
        _ => Kind::Refusal(Refusal {
            number: of("number"),
            reason: i32::try_from(of("reason")).expect("small"),
        }),
    }
}

#[test]
fn messages_are_those_of_the_vectors() {
    for vector in vectors("message") {
        let message = message(&vector);
        let frame = bytes(&vector["bytes"]);
        let mut ours = message.clone().into_frame();
        prost::decode_length_delimiter(&mut ours).expect("its length");
        assert_eq!(ours, frame, "{}", vector["what"]);
        assert_eq!(Kind::read(frame), Ok(message), "{}", vector["what"]);
    }
}

#[test]
fn what_breaks_a_rule_is_refused() {
    for vector in vectors("invalid") {
        check_sync(bytes(&vector["bytes"])).expect_err(vector["what"].as_str().expect("a text"));
    }
}
