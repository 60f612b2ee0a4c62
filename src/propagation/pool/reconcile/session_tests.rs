//! Two honest sides: what they find, against plain sets and `negentropy`, and what it costs.

use std::collections::BTreeSet;

use negentropy::{Id, Negentropy, NegentropyStorageVector};
use proptest::prelude::*;

use super::*;
use crate::{chain::TransactionKey, platform::test};

type Keys = BTreeSet<TransactionKey>;

/// What came of a session.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// What the responder is to send, and what the initiator is to announce.
    pub(super) serve: Keys,
    pub(super) lacking: Keys,
    pub(super) outcomes: Vec<Outcome>,
    awaited: Option<Awaited>,
    pub(super) symbols: usize,
    pub(super) bytes: usize,
    /// From the request to the want.
    pub(super) round_trips: usize,
}

impl Report {
    fn take(&mut self, actions: Vec<Action>) -> Vec<Message> {
        let mut messages = Vec::new();
        for action in actions {
            match action {
                Action::Send(message) => {
                    let bytes = message.to_bytes();
                    assert!(bytes.len() <= MAX_MESSAGE);
                    self.bytes += bytes.len();
                    messages.push(Message::from_bytes(&bytes).expect("a message"));
                }
                Action::Await(awaited) => self.awaited = Some(awaited),
                Action::Lacking(keys) => self.lacking.extend(keys),
                Action::Serve(keys) => self.serve.extend(keys),
                Action::End(outcome) => self.outcomes.push(outcome),
            }
        }
        messages
    }
}

/// A session over a connection on which whatever one side says arrives at once.
pub(super) fn reconcile(ours: &Keys, theirs: &Keys, seed: u64) -> Report {
    let snapshot =
        |keys: &Keys| Snapshot::new(keys.iter().copied().collect(), Vec::new()).expect("few keys");
    let (now, mut report) = (crate::platform::now(), Report::default());
    let (mut initiator, request) = Initiator::new(snapshot(ours), seed, now);
    let Some(Message::Request(request)) = report.take(vec![Action::Send(request)]).pop() else {
        panic!("a session begins with a request");
    };
    let (mut responder, actions) = Responder::new(snapshot(theirs), seed ^ 0xff, request, now);
    let mut to_initiator = report.take(actions);
    while !to_initiator.is_empty() {
        report.round_trips += 1;
        for message in &to_initiator {
            if let Message::Answer(Answer { run: Some(run), .. })
            | Message::Symbols(Symbols { run: Some(run), .. }) = message
            {
                report.symbols += run.sums.len();
            }
        }
        let to_responder: Vec<_> = to_initiator
            .into_iter()
            .flat_map(|message| initiator.on_message(message))
            .collect();
        let to_responder = report.take(to_responder);
        let actions = to_responder
            .into_iter()
            .flat_map(|message| responder.on_message(message))
            .collect();
        to_initiator = report.take(actions);
    }
    assert_eq!(
        (initiator.next_deadline(), responder.next_deadline()),
        (None, None)
    );
    report
}

pub(super) fn keys(numbers: std::ops::Range<u32>) -> Keys {
    numbers
        .map(|n| TransactionKey::of(&n.to_le_bytes()))
        .collect()
}

fn by_negentropy(ours: &Keys, theirs: &Keys) -> (Keys, Keys) {
    let storage = |keys: &Keys| {
        let mut storage = NegentropyStorageVector::new();
        for key in keys {
            storage
                .insert(0, Id::from_byte_array(*key.as_bytes()))
                .expect("not sealed");
        }
        storage.seal().expect("not sealed");
        storage
    };
    let mut initiator = Negentropy::owned(storage(ours), 0).expect("a frame size");
    let mut responder = Negentropy::owned(storage(theirs), 0).expect("a frame size");
    let (mut have, mut need) = (Vec::new(), Vec::new());
    let mut query = Some(initiator.initiate().expect("a query"));
    while let Some(question) = query {
        let answer = responder.reconcile(&question).expect("an answer");
        query = initiator
            .reconcile_with_ids(&answer, &mut have, &mut need)
            .expect("a query");
    }
    let keys = |ids: Vec<Id>| {
        ids.iter()
            .map(|id| TransactionKey::new(*id.as_bytes()))
            .collect()
    };
    (keys(have), keys(need))
}

fn assert_reconciled(ours: &Keys, theirs: &Keys, report: &Report) {
    assert_eq!(report.outcomes, [Outcome::Reconciled, Outcome::Reconciled]);
    let mut awaited = report.awaited.clone().expect("what is wanted");
    assert!(report.serve.iter().all(|key| awaited.came(key)) && awaited.is_empty());
    let difference = |a: &Keys, b: &Keys| a.difference(b).copied().collect::<Keys>();
    assert_eq!(report.lacking, difference(ours, theirs));
    assert_eq!(report.serve, difference(theirs, ours));
}

proptest! {
    #[test]
    fn both_find_what_plain_sets_and_negentropy_find(
        held in proptest::collection::vec((any::<u32>(), 0u8..8), 0..300),
        seed: u64,
    ) {
        let of = |side: &dyn Fn(u8) -> bool| -> Keys {
            held.iter().filter(|(_, who)| side(*who)).map(|(n, _)| TransactionKey::of(&n.to_le_bytes())).collect()
        };
        // Most keys are in both pools.
        let (ours, theirs) = (of(&|who| who != 0), of(&|who| who != 1));
        let report = reconcile(&ours, &theirs, seed);
        assert_reconciled(&ours, &theirs, &report);
        prop_assert_eq!((report.lacking, report.serve), by_negentropy(&ours, &theirs));
    }
}

#[test]
fn pools_that_are_empty_or_equal_take_one_round_trip() {
    for (ours, theirs) in [
        (keys(0..0), keys(0..0)),
        (keys(0..500), keys(0..500)),
        (keys(0..0), keys(0..1)),
        (keys(0..5), keys(0..0)),
    ] {
        let report = reconcile(&ours, &theirs, 1);
        assert_reconciled(&ours, &theirs, &report);
        assert_eq!((report.round_trips, report.symbols), (1, 32));
        assert!(report.bytes < 600, "{}", report.bytes);
    }
}

/// What is sent, not what was needed: the last grant is never used up exactly.
#[test]
fn a_thousand_differences_cost_less_than_one_and_a_half_symbols_each() {
    let mut all = Vec::new();
    for (only_ours, only_theirs, sessions) in [
        (500, 500, 20),
        (1000, 0, 10),
        (0, 1000, 10),
        (900, 100, 10),
        (200, 800, 10),
    ] {
        let mut symbols = Vec::new();
        for seed in 0..sessions {
            let (ours, theirs) = (
                keys(0..2000 + only_ours),
                keys(only_ours..2000 + only_ours + only_theirs),
            );
            let report = reconcile(&ours, &theirs, seed);
            assert_eq!(report.lacking.len() + report.serve.len(), 1000);
            assert!(report.round_trips <= 7, "{}", report.round_trips);
            symbols.push(report.symbols as f64 / 1000.0);
        }
        let average = symbols.iter().sum::<f64>() / symbols.len() as f64;
        println!("{only_ours} and {only_theirs} differences: {average:.3} symbols each");
        assert!((1.3..1.6).contains(&average), "{average}");
        all.append(&mut symbols);
    }
    let average = all.iter().sum::<f64>() / all.len() as f64;
    println!("all: {average:.3} symbols a difference");
    assert!(average < 1.5, "{average}");
}

#[test]
fn pools_of_a_hundred_thousand_are_no_dearer() {
    let (ours, theirs) = (keys(0..100_000), keys(500..100_500));
    let report = reconcile(&ours, &theirs, 42);
    assert_reconciled(&ours, &theirs, &report);
    println!(
        "100,000 keys, 1,000 differences: {} symbols, {} bytes, {} round trips",
        report.symbols, report.bytes, report.round_trips
    );
    assert!(report.symbols < 1900 && report.bytes < 30_000);
}

#[test]
fn pools_that_differ_too_much_are_told_apart_soon() {
    let sizes = reconcile(&keys(0..1), &keys(0..30_000), 1);
    assert_eq!(
        sizes.outcomes,
        [Outcome::TooDifferent, Outcome::TooDifferent]
    );
    assert!(sizes.symbols == 0 && sizes.bytes < 100);
    let contents = reconcile(&keys(0..20_000), &keys(20_000..40_000), 1);
    assert_eq!(
        contents.outcomes,
        [Outcome::TooDifferent, Outcome::TooDifferent]
    );
    assert!(contents.symbols < 5000, "{}", contents.symbols);
    let barely = reconcile(&keys(0..11_000), &keys(11_000..22_000), 1);
    assert_eq!(barely.outcomes, [Outcome::Reconciled, Outcome::Reconciled]);
    assert_eq!(barely.lacking.len() + barely.serve.len(), 22_000);
}

#[test]
fn a_key_that_stands_twice_in_a_snapshot_counts_once() {
    let key = |n: u32| TransactionKey::of(&n.to_le_bytes());
    let snapshot = Snapshot::new(vec![key(1), key(2), key(1)], Vec::new()).expect("few keys");
    let (_, request) = Initiator::new(snapshot, 1, crate::platform::now());
    assert!(matches!(
        request,
        Message::Request(Request { pool_size: 2, .. })
    ));
}

#[test]
fn a_snapshot_is_bounded() {
    let too_many = vec![TransactionKey::new([0; 32]); usize::try_from(MAX_POOL).expect("fits") + 1];
    assert!(
        Snapshot::new(too_many, Vec::new()).is_ok(),
        "it is one key, many times over"
    );
    let too_many = (0..=MAX_POOL)
        .map(|n| {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&n.to_le_bytes());
            TransactionKey::new(bytes)
        })
        .collect();
    let error = Snapshot::new(too_many, Vec::new()).expect_err("one too many");
    assert_eq!(
        error.to_string(),
        "262145 keys are over the limit of 262144; reconcile those with the highest fees"
    );
}

#[test]
fn what_is_too_young_to_be_compared_is_not_wanted() {
    let settled = keys(0..100).into_iter().collect();
    let young = keys(100..150).into_iter().collect();
    let ours = Snapshot::new(settled, young).expect("few keys");
    let (mut initiator, request) = Initiator::new(ours, 1, crate::platform::now());
    let theirs = Snapshot::new(keys(50..160).into_iter().collect(), Vec::new());
    let Message::Request(request) = request else {
        panic!("a session begins with a request");
    };
    let (mut responder, actions) = Responder::new(
        theirs.expect("few keys"),
        2,
        request,
        crate::platform::now(),
    );
    let (mut to_responder, mut to_initiator) = (Report::default(), Report::default());
    let mut messages = to_initiator.take(actions);
    while !messages.is_empty() {
        let actions = messages.into_iter().flat_map(|m| initiator.on_message(m));
        let actions = to_responder.take(actions.collect());
        let actions = actions.into_iter().flat_map(|m| responder.on_message(m));
        messages = to_initiator.take(actions.collect());
    }
    assert_eq!(to_initiator.serve, keys(150..160));
    assert_eq!(to_responder.lacking, keys(0..50));
}
