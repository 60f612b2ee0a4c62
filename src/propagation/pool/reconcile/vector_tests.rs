//! The vectors that implementers in other languages are given, made without this code.

use serde_json::Value;

use super::{
    coding::{Encoder, Indices, SessionHash},
    decoder::Decoder,
    session_tests::keys,
    *,
};
use crate::{chain::TransactionKey, platform::test};

fn vectors(section: &str) -> Vec<Value> {
    let all: Value =
        serde_json::from_str(include_str!("../../../../tests/vectors/reconcile.json")).unwrap();
    all[section].as_array().unwrap().clone()
}

fn long(value: &Value) -> u64 {
    value.as_str().unwrap().parse().unwrap()
}

fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn message(vector: &Value) -> Message {
    Message::from_bytes(&bytes(&vector["bytes"])).unwrap()
}

fn snapshot(range: &Value) -> Snapshot {
    let keys = keys(number(&range[0])..number(&range[1]));
    Snapshot::new(keys.into_iter().collect(), Vec::new()).unwrap()
}

fn hash(vector: &Value) -> SessionHash {
    SessionHash::new(
        long(&vector["initiator_salt"]),
        long(&vector["responder_salt"]),
    )
}

/// The session of the vectors: both salts, both pools, all messages.
fn session() -> Value {
    vectors("session").remove(0)
}

fn responder(session: &Value) -> (Responder, Vec<Action>) {
    let Message::Request(request) = message(&session["messages"][0]) else {
        panic!("a session begins with a request");
    };
    let salt = long(&session["responder_salt"]);
    Responder::new(
        snapshot(&session["responder_keys"]),
        salt,
        request,
        crate::platform::now(),
    )
}

#[test]
fn short_ids_are_those_of_the_vectors() {
    for vector in vectors("short_id") {
        let key = TransactionKey::new(bytes(&vector["key"]).try_into().unwrap());
        let short_id = hash(&vector).short_id(&key);
        assert_eq!(short_id, long(&vector["short_id"]));
        assert_eq!(
            hash(&vector).checksum(short_id),
            number(&vector["checksum"])
        );
    }
}

#[test]
fn indices_are_those_of_the_vectors() {
    for vector in vectors("indices") {
        let mut indices = Indices::of(long(&vector["short_id"]));
        let below = number(&vector["below"]);
        let all: Vec<_> = std::iter::from_fn(|| indices.next_below(below)).collect();
        let theirs = vector["indices"].as_array().unwrap().iter();
        assert_eq!(all, theirs.map(number).collect::<Vec<_>>());
    }
}

#[test]
fn symbols_are_those_of_the_vectors() {
    for vector in vectors("symbols") {
        let theirs = vector["symbols"].as_array().unwrap();
        let end = u32::try_from(theirs.len()).unwrap();
        let ours = Encoder::new(snapshot(&vector["keys"]), &hash(&vector)).run(end);
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert_eq!(ours.sum, long(&theirs["sum"]), "{}", vector["what"]);
            assert_eq!(ours.checksum, number(&theirs["checksum"]));
            assert_eq!(i64::from(ours.count), theirs["count"].as_i64().unwrap());
        }
    }
}

#[test]
fn a_session_goes_as_in_the_vectors() {
    let session = session();
    let messages = session["messages"].as_array().unwrap();
    let salt = long(&session["initiator_salt"]);
    let (_, request) = Initiator::new(
        snapshot(&session["initiator_keys"]),
        salt,
        crate::platform::now(),
    );
    assert_eq!(request.to_bytes(), bytes(&messages[0]["bytes"]));

    let (mut responder, mut actions) = responder(&session);
    for vector in &messages[1..] {
        if vector["from"] == "initiator" {
            actions = responder.on_message(message(vector));
        } else {
            assert_eq!(actions, [Action::Send(message(vector))]);
            assert_eq!(message(vector).to_bytes(), bytes(&vector["bytes"]));
        }
    }
    let served = snapshot(&session["serve"]);
    let [Action::Serve(serve), Action::End(Outcome::Reconciled)] = &actions[..] else {
        panic!("{actions:?}");
    };
    let serve = Snapshot::new(serve.clone(), Vec::new()).unwrap();
    assert_eq!(serve.keys(), served.keys());
}

#[test]
fn the_symbols_of_the_vectors_decode_as_they_say() {
    let session = session();
    let size = snapshot(&session["responder_keys"]).len();
    let ours = Encoder::new(snapshot(&session["initiator_keys"]), &hash(&session));
    let mut decoder = Decoder::new(hash(&session), ours, size);
    for vector in session["messages"].as_array().unwrap() {
        match message(vector) {
            Message::Answer(Answer { run: Some(run), .. })
            | Message::Symbols(Symbols { run: Some(run), .. }) => {
                let length = u32::try_from(run.sums.len()).unwrap();
                for symbol in run.symbols(decoder.received(), length, size).unwrap() {
                    assert!(!decoder.is_complete());
                    decoder.receive(&[symbol]);
                }
            }
            Message::Want(want) => assert_eq!(want.short_ids, decoder.only_theirs()),
            _ => {}
        }
    }
    assert!(decoder.is_complete());
    assert_eq!(decoder.received(), number(&session["complete_after"]));
    let lacking = Snapshot::new(decoder.only_ours(), Vec::new()).unwrap();
    assert_eq!(lacking.keys(), snapshot(&session["lacking"]).keys());
}

#[test]
fn messages_are_those_of_the_vectors() {
    for vector in vectors("message") {
        let request = || Request {
            salt: long(&vector["salt"]),
            pool_size: number(&vector["pool_size"]),
        };
        let ours = match vector["kind"].as_str().unwrap() {
            "request" => Message::Request(request()),
            "decline" => Responder::decline(request()),
            "want" => Message::Want(Want::default()),
            _ => Message::GiveUp(GiveUp {}),
        };
        assert_eq!(
            ours.clone().to_bytes(),
            bytes(&vector["bytes"]),
            "{}",
            vector["what"]
        );
        assert_eq!(ours, message(&vector));
    }
}

#[test]
fn what_the_vectors_call_invalid_is_refused() {
    for vector in vectors("invalid") {
        let message = Message::from_bytes(&bytes(&vector["bytes"]));
        assert!(message.is_err(), "{}: {message:?}", vector["what"]);
    }
    let session = session();
    for vector in vectors("refused_by_initiator") {
        let keys = snapshot(&session["initiator_keys"]);
        let salt = long(&session["initiator_salt"]);
        let (mut initiator, _) = Initiator::new(keys, salt, crate::platform::now());
        assert_refused(&initiator.on_message(message(&vector)), &vector);
    }
    for vector in vectors("refused_by_responder") {
        let (mut responder, _) = responder(&session);
        assert_refused(&responder.on_message(message(&vector)), &vector);
    }
}

fn assert_refused(actions: &[Action], vector: &Value) {
    assert!(
        matches!(actions, [Action::End(Outcome::Failed(_))]),
        "{}: {actions:?}",
        vector["what"]
    );
}
