//! The vectors that implementers in other languages are given, made without this code.

use bytes::Bytes;
use serde_json::Value;

use super::choice::Form;
use super::compact_block::CompactBlock;
use super::message::{
    Announcement, BlockMessage, GetBlock, MissingTransactions, Transactions, WholeBlock,
};
use super::short_id::ShortIdKey;
use crate::chain::TransactionKey;
use crate::chain::{BlockParts, ItemId};
use crate::platform::test;

fn vectors(section: &str) -> Vec<Value> {
    let all: Value =
        serde_json::from_str(include_str!("../../../../tests/vectors/compact.json")).unwrap();
    all[section].as_array().unwrap().clone()
}

fn bytes(value: &Value) -> Bytes {
    hex::decode(value.as_str().unwrap()).unwrap().into()
}

fn list(value: &Value) -> Vec<Bytes> {
    value.as_array().unwrap().iter().map(bytes).collect()
}

fn numbers(value: &Value) -> Vec<usize> {
    let numbers = value.as_array().unwrap().iter();
    numbers
        .map(|number| usize::try_from(number.as_u64().unwrap()).unwrap())
        .collect()
}

fn nonce(vector: &Value) -> u64 {
    vector["nonce"].as_str().unwrap().parse().unwrap()
}

#[test]
fn short_ids_are_those_of_the_vectors() {
    for vector in vectors("short_id") {
        let key = TransactionKey::of(&bytes(&vector["transaction"]));
        assert_eq!(key.as_bytes()[..], bytes(&vector["transaction_key"]));
        let id = ShortIdKey::new(&bytes(&vector["header"]), nonce(&vector)).short_id(&key);
        assert_eq!(
            id.to_bytes()[..],
            bytes(&vector["short_id"]),
            "{}",
            vector["what"]
        );
    }
}

#[test]
fn messages_are_those_of_the_vectors() {
    for vector in vectors("message") {
        let id = || ItemId::new(&bytes(&vector["block"])).unwrap();
        let message = match vector["kind"].as_str().unwrap() {
            "announcement" => BlockMessage::Announcement(Announcement {
                id: id(),
                header: bytes(&vector["header"]),
            }),
            "compact" => {
                let parts = BlockParts {
                    header: bytes(&vector["header"]),
                    transactions: list(&vector["transactions"]),
                };
                let prefilled = numbers(&vector["prefilled"]);
                let lacks = |index: usize, _: &TransactionKey| prefilled.contains(&index);
                let compact = CompactBlock::new(id(), &parts, nonce(&vector), 10_000, lacks);
                BlockMessage::Compact(compact.unwrap())
            }
            "get_block" => BlockMessage::GetBlock(GetBlock {
                id: id(),
                form: if vector["whole"] == true {
                    Form::Whole
                } else {
                    Form::Compact
                },
            }),
            "get_transactions" => BlockMessage::GetTransactions(MissingTransactions {
                id: id(),
                indexes: numbers(&vector["indexes"]),
            }),
            "transactions" => BlockMessage::Transactions(Transactions {
                id: id(),
                transactions: list(&vector["transactions"]),
            }),
            "whole" => BlockMessage::Whole(WholeBlock {
                id: id(),
                data: bytes(&vector["data"]),
            }),
            "not_found" => BlockMessage::NotFound(id()),
            "settled" => BlockMessage::Settled(id()),
            _ => BlockMessage::HighBandwidth(vector["on"] == true),
        };
        let bytes = bytes(&vector["bytes"]);
        assert_eq!(message.encode(), bytes, "{}", vector["what"]);
        assert_eq!(BlockMessage::decode(bytes, 1 << 20), Ok(message));
    }
}

#[test]
fn what_the_vectors_call_invalid_is_refused() {
    for vector in vectors("invalid") {
        let message = BlockMessage::decode(bytes(&vector["bytes"]), 1 << 20);
        assert!(message.is_err(), "{}: {message:?}", vector["what"]);
    }
}
