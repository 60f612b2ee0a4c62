//! The vectors that implementers in other languages are given, made without this code.

use serde_json::Value;

use super::tests::key;
use super::*;
use crate::platform::test;
use crate::storage::MemoryStore;

fn vectors(section: &str) -> Vec<Value> {
    let all: Value =
        serde_json::from_str(include_str!("../../../tests/vectors/ledger.json")).expect("JSON");
    all[section].as_array().expect("a list").clone()
}

fn bytes(value: &Value) -> Bytes {
    hex::decode(value.as_str().expect("text"))
        .expect("hex")
        .into()
}

fn address(value: &Value) -> Address {
    value.as_str().expect("text").parse().expect("an address")
}

fn hash(value: &Value) -> Hash {
    bytes(value)[..].try_into().expect("32 bytes")
}

fn number(value: &Value) -> u64 {
    value.as_str().expect("text").parse().expect("a number")
}

fn index(value: &Value) -> u8 {
    value
        .as_u64()
        .and_then(|number| number.try_into().ok())
        .expect("small")
}

fn addresses(value: &Value) -> Vec<Address> {
    value
        .as_array()
        .expect("a list")
        .iter()
        .map(address)
        .collect()
}

fn genesis() -> Genesis {
    let vector = &vectors("genesis")[0];
    let accounts = vector["accounts"].as_array().expect("a list").iter();
    Genesis {
        network: vector["network"].as_str().expect("text").to_owned(),
        accounts: accounts
            .map(|account| (address(&account["address"]), number(&account["balance"])))
            .collect(),
        proposers: addresses(&vector["proposers"]),
        voters: addresses(&vector["voters"]),
        minimum_fee: number(&vector["minimum_fee"]),
    }
}

fn ledger() -> Ledger {
    let store = MemoryStore::new(1 << 24, &SCHEMA).expect("made");
    Ledger::open(genesis(), Arc::new(store)).expect("opened")
}

#[test]
fn keys_and_the_genesis_are_those_of_the_vectors() {
    for vector in vectors("key") {
        assert_eq!(
            Address::of(&key(index(&vector["number"]))),
            address(&vector["address"])
        );
    }
    let vector = &vectors("genesis")[0];
    assert_eq!(genesis().hash(), hash(&vector["hash"]));
    assert_eq!(ledger().tip().state_root, hash(&vector["state_root"]));
}

#[test]
fn transfers_are_those_of_the_vectors() {
    for vector in vectors("transfer") {
        let transfer = Transfer::new(
            &genesis().hash(),
            &key(index(&vector["from"])),
            address(&vector["to"]),
            number(&vector["amount"]),
            number(&vector["fee"]),
            number(&vector["nonce"]),
        );
        assert_eq!(transfer.encode(), bytes(&vector["bytes"]));
        assert_eq!(Transfer::decode(&bytes(&vector["bytes"])), Ok(transfer));
    }
    for vector in vectors("transfers_root") {
        let transfers =
            (0..index(&vector["transfers"])).map(|byte| vec![byte; Transfer::LENGTH].into());
        let transfers: Vec<Bytes> = transfers.collect();
        assert_eq!(header::transfers_root(&transfers), hash(&vector["root"]));
    }
}

#[test]
fn the_block_the_votes_and_the_certificate_of_the_vectors_are_taken() {
    let ledger = ledger();
    let vector = &vectors("block")[0];
    let block = Block::new(bytes(&vector["bytes"]));
    let checked = ledger.check_block(&block);
    assert_eq!(checked.reason, "");
    assert_eq!(checked.id.as_bytes(), bytes(&vector["id"]));
    ledger.deliver(&Item::Block(block.clone()));
    assert_eq!(ledger.tip().state_root, hash(&vector["state_root"]));
    for account in vector["accounts"].as_array().expect("a list") {
        let held = ledger.account(&address(&account["address"])).expect("read");
        assert_eq!(
            held.encode().expect("something"),
            bytes(&account["value"])[..]
        );
    }
    let id = hash(&vector["id"]);
    for vector in vectors("vote") {
        let vote = HeaderVote::new(&genesis().hash(), &key(index(&vector["voter"])), 1, id);
        assert_eq!(vote.encode(), bytes(&vector["bytes"]));
        let vote = Vote::new(bytes(&vector["bytes"]));
        assert_eq!(ledger.check_vote(&vote).reason, "");
        ledger.deliver(&Item::Vote(vote));
    }
    let certificate = ledger.certificate(1).expect("read").expect("it is final");
    assert_eq!(
        certificate.encode(),
        bytes(&vectors("certificate")[0]["bytes"])
    );
    let header = Header::decode(&block.data[..Header::LENGTH]).expect("a header");
    assert_eq!(certificate.verify(&genesis(), &header), Ok(()));
}

#[test]
fn the_proofs_of_the_vectors_prove() {
    for state in vectors("proof") {
        for vector in state["proofs"].as_array().expect("a list") {
            let (address, value) = (address(&vector["address"]), bytes(&vector["value"]));
            let proof = bytes(&vector["proof"]);
            let account = verify(&hash(&state["state_root"]), &address, &value, &proof);
            assert_eq!(
                account
                    .expect("proven")
                    .encode()
                    .map_or(Bytes::new(), |bytes| Bytes::copy_from_slice(&bytes)),
                value
            );
            assert_eq!(Proof::decode(&proof).expect("a proof").encode(), proof);
        }
    }
}

#[test]
fn the_batches_of_the_vectors_prove() {
    for vector in vectors("batch") {
        let list = |name: &str| -> Vec<Bytes> {
            let list = vector[name].as_array().expect("a list").iter();
            list.map(bytes).collect()
        };
        let mut batch = StateBatch {
            at: StateRoot {
                height: 1,
                root: bytes(&vector["state_root"]),
            },
            keys: list("addresses"),
        };
        let mut answer = ProvenState {
            values: list("values"),
            proof: bytes(&vector["proof"]),
        };
        let ledger = ledger();
        assert_eq!(ledger.verify_state(&batch, &answer), SyncVerdict::Accept);
        if ledger.final_state() == Ok(Some(batch.at.clone())) {
            assert_eq!(ledger.prove_state(&batch), Some(answer.clone()));
        }
        // In another order they are no answer.
        batch.keys.reverse();
        let reversed = ledger.verify_state(&batch, &answer);
        assert!(matches!(reversed, SyncVerdict::Reject(_)), "{reversed:?}");
        batch.keys.reverse();
        answer.proof = answer.proof.slice(1..);
        let cut = ledger.verify_state(&batch, &answer);
        assert!(matches!(cut, SyncVerdict::Reject(_)), "{cut:?}");
    }
}

#[test]
fn what_the_vectors_call_invalid_is_refused() {
    for vector in vectors("invalid") {
        let bytes = bytes(&vector["bytes"]);
        let refused = match vector["kind"].as_str().expect("text") {
            "proof" => Proof::decode(&bytes).is_err(),
            "transfer" => Transfer::decode(&bytes).is_err(),
            "header" => Header::decode(&bytes).is_err(),
            "vote" => HeaderVote::decode(&bytes).is_err(),
            _ => Certificate::decode(&bytes).is_err(),
        };
        assert!(refused, "{}", vector["what"]);
    }
}
