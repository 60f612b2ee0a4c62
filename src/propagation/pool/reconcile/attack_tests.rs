//! Peers that lie: what it costs them, and that it costs us no more than the bounds say.

use proptest::prelude::*;

use super::{
    coding::{Encoder, SessionHash, Symbol, usize_from},
    session_tests::keys,
    *,
};
use crate::{chain::TransactionKey, peers::Misdeed, platform::test};

fn snapshot(numbers: std::ops::Range<u32>) -> Snapshot {
    Snapshot::new(keys(numbers).into_iter().collect(), Vec::new()).expect("few keys")
}

fn failed(fault: Fault) -> Vec<Action> {
    vec![Action::End(Outcome::Failed(fault))]
}

const SALTS: (u64, u64) = (7, 8);

fn initiator(numbers: std::ops::Range<u32>) -> Initiator {
    Initiator::new(snapshot(numbers), SALTS.0, crate::platform::now()).0
}

fn responder(numbers: std::ops::Range<u32>) -> Responder {
    let request = Request {
        salt: SALTS.0,
        pool_size: 100,
    };
    Responder::new(snapshot(numbers), SALTS.1, request, crate::platform::now()).0
}

fn answer(pool_size: u32, run: Option<Run>) -> Message {
    Message::Answer(Answer {
        request: SALTS.0,
        salt: SALTS.1,
        pool_size,
        run,
    })
}

fn more(until: u32) -> Message {
    Message::More(More { until })
}

fn honest_run(numbers: std::ops::Range<u32>, end: u32) -> (u32, Vec<Symbol>) {
    let snapshot = snapshot(numbers);
    let size = snapshot.len();
    let hash = SessionHash::new(SALTS.0, SALTS.1);
    (size, Encoder::new(snapshot, &hash).run(end))
}

/// Sends symbols of the liar's making for as long as the initiator asks; how it ended, and how many were taken.
fn lie_to(initiator: &mut Initiator, size: u32, symbol: impl Fn(u32) -> Symbol) -> (Outcome, u32) {
    let (mut sent, mut granted) = (0, 32);
    loop {
        assert!(sent < granted, "who is asked for nothing sends nothing");
        let end = granted.min(sent + MAX_RUN);
        let symbols: Vec<_> = (sent..end).map(&symbol).collect();
        let run = Some(Run::of(&symbols, sent, size));
        let message = match sent {
            0 => answer(size, run),
            first => Message::Symbols(Symbols { first, run }),
        };
        sent = end;
        for action in initiator.on_message(message) {
            match action {
                Action::Send(Message::More(More { until })) => granted = until,
                Action::End(outcome) => return (outcome, sent),
                _ => {}
            }
        }
    }
}

#[test]
fn symbols_without_end_end_with_the_liars_fault() {
    let mut victim = initiator(0..100);
    let garbage = |index: u32| Symbol {
        sum: u64::from(index).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        checksum: index,
        count: i32::try_from(200 / (u64::from(index) + 2)).expect("small"),
    };
    let (outcome, sent) = lie_to(&mut victim, 100, garbage);
    assert_eq!(outcome, Outcome::Failed(Fault::Undecodable));
    assert!(sent < 2000, "{sent}");
    assert_eq!(victim.next_deadline(), None);
}

#[test]
fn counts_that_claim_a_great_difference_end_soon() {
    let size = 20_000;
    let claim = |index: u32| Symbol {
        sum: 1,
        checksum: 1,
        count: if index.is_multiple_of(2) { 20_000 } else { 0 },
    };
    let (outcome, sent) = lie_to(&mut initiator(0..20_000), size, claim);
    assert_eq!(outcome, Outcome::TooDifferent);
    assert!(sent < 1000, "{sent}");
}

#[test]
fn no_lie_is_longer_than_a_session() {
    // As if of 20,000 differences, and not to be decoded.
    let claim = |index: u32| {
        let even = if index == 0 {
            20_000
        } else {
            40_000 / (index + 2)
        };
        let deviation = (f64::from(20_000u32 * 2) / f64::from(index + 2)).sqrt();
        let count = f64::from(even)
            + if index.is_multiple_of(2) {
                deviation
            } else {
                -deviation
            };
        Symbol {
            sum: 1,
            checksum: 1,
            count: if index == 0 {
                20_000
            } else {
                count.max(0.0) as i32
            },
        }
    };
    let (_, sent) = lie_to(&mut initiator(0..20_000), 20_000, claim);
    assert!(sent <= MAX_SYMBOLS, "{sent}");
}

#[test]
fn runs_of_another_length_place_or_count_are_faults() {
    let (size, symbols) = honest_run(1000..1100, 33);
    let of = |length: usize| Some(Run::of(&symbols[..length], 0, size));
    for length in [0, 31, 33] {
        let actions = initiator(0..100).on_message(answer(size, of(length)));
        assert_eq!(actions, failed(Fault::WrongRun));
    }
    let mut other_count = of(32).expect("a run");
    other_count.counts[5] = i64::MAX;
    let actions = initiator(0..100).on_message(answer(size, Some(other_count)));
    assert_eq!(actions, failed(Fault::WrongCount(5)));
    let mut session = initiator(0..100);
    assert!(matches!(
        session.on_message(answer(size, of(32)))[..],
        [Action::Send(Message::More(_))]
    ));
    let run = of(32);
    let replayed = session.on_message(Message::Symbols(Symbols { first: 0, run }));
    assert_eq!(replayed, failed(Fault::WrongRun));
    let run = of(32);
    let after = session.on_message(Message::Symbols(Symbols { first: 32, run }));
    assert_eq!(after, [], "it is over");
}

#[test]
fn pools_over_the_limit_are_faults() {
    let actions = initiator(0..1).on_message(answer(MAX_POOL + 1, None));
    assert_eq!(actions, failed(Fault::PoolTooLarge(MAX_POOL + 1)));
    let request = Request {
        salt: 1,
        pool_size: u32::MAX,
    };
    let (session, actions) = Responder::new(snapshot(0..1), 2, request, crate::platform::now());
    assert_eq!(actions, failed(Fault::PoolTooLarge(u32::MAX)));
    assert_eq!(session.next_deadline(), None);
}

#[test]
fn replayed_answers_do_not_count() {
    let (size, symbols) = honest_run(0..10, 32);
    let Message::Answer(mut old) = answer(size, Some(Run::of(&symbols, 0, size))) else {
        panic!("an answer");
    };
    old.request ^= 1;
    let mut session = initiator(0..10);
    assert_eq!(session.on_message(Message::Answer(old.clone())), []);
    let late = Message::Symbols(Symbols {
        first: 32,
        run: old.run.clone(),
    });
    assert_eq!(session.on_message(late), [], "of the session before");
    assert!(session.next_deadline().is_some());
    // The right salt with symbols that were made under another one: nothing decodes, nothing is reported.
    old.request = SALTS.0;
    old.salt ^= 1;
    let actions = session.on_message(Message::Answer(old));
    assert!(matches!(actions[..], [Action::Send(Message::More(_))]));
}

#[test]
fn symbols_are_granted_in_steps_that_are_worth_a_walk_over_the_pool() {
    for until in [0, 31, 32, 47, 32 + MAX_GRANT + 1, MAX_SYMBOLS, u32::MAX] {
        let actions = responder(0..100).on_message(more(until));
        assert_eq!(actions, failed(Fault::WrongGrant(until)));
    }
    let (mut session, mut granted, mut requests) = (responder(0..100), 32u32, 0);
    while granted < MAX_SYMBOLS {
        granted = session::least_grant(granted);
        assert!(!session.on_message(more(granted)).is_empty());
        requests += 1;
    }
    assert!(requests < 100, "{requests} walks at the most");
    assert_eq!(
        session.on_message(more(MAX_SYMBOLS)),
        failed(Fault::WrongGrant(MAX_SYMBOLS))
    );
}

#[test]
fn one_request_brings_no_more_than_its_grant() {
    let mut session = responder(0..100);
    let actions = session.on_message(more(32 + MAX_GRANT));
    let runs = actions.iter().map(|action| match action {
        Action::Send(Message::Symbols(symbols)) => symbols.run.as_ref().expect("a run").sums.len(),
        _ => panic!("symbols"),
    });
    assert_eq!(runs.sum::<usize>(), usize_from(MAX_GRANT));
    let request = Request {
        salt: 1,
        pool_size: 0,
    };
    let (_, actions) = Responder::new(snapshot(0..20_000), 2, request, crate::platform::now());
    assert_eq!(
        actions.len(),
        usize_from(MAX_GRANT / MAX_RUN),
        "nor the first"
    );
}

#[test]
fn wants_are_held_against_the_pool() {
    let hash = SessionHash::new(SALTS.0, SALTS.1);
    let mut ids: Vec<_> = keys(0..100).iter().map(|key| hash.short_id(key)).collect();
    ids.sort_unstable();
    let want = |short_ids: &[u64]| {
        let short_ids = short_ids.to_vec();
        responder(0..100).on_message(Message::Want(Want { short_ids }))
    };
    let good = want(&ids[..32]);
    assert!(
        matches!(&good[..], [Action::Serve(keys), Action::End(Outcome::Reconciled)] if keys.len() == 32)
    );
    for bad in [
        &ids[..33],            // more than there were symbols
        &[ids[0], ids[0]][..], // the same twice
        &[ids[1], ids[0]],     // out of order
        &[1],                  // not of the pool
    ] {
        assert_eq!(want(bad), failed(Fault::WrongWant));
    }
}

#[test]
fn a_silent_peer_is_let_go_and_nothing_else_moves_the_deadline() {
    let begun = crate::platform::now();
    let (mut first, request) = Initiator::new(snapshot(0..10), 1, begun);
    let Message::Request(request) = request else {
        panic!("a request");
    };
    let (mut second, _) = Responder::new(snapshot(0..20), 2, request, begun);
    let end = begun + MAX_DURATION;
    assert!(!second.on_message(more(48)).is_empty());
    assert_eq!(first.next_deadline(), Some(end));
    assert_eq!(second.next_deadline(), Some(end));
    let soon = end - std::time::Duration::from_millis(1);
    assert_eq!(
        (first.on_time(soon), second.on_time(soon)),
        (vec![], vec![])
    );
    assert_eq!(first.on_time(end), failed(Fault::Silent));
    assert_eq!(second.on_time(end), failed(Fault::Silent));
    assert_eq!((first.on_time(end), second.on_time(end)), (vec![], vec![]));
    assert_eq!(Fault::Silent.misdeed(), Misdeed::NoAnswer);
    assert_eq!(Fault::WrongRun.misdeed(), Misdeed::InvalidMessage);
}

#[test]
fn who_is_busy_declines_and_tells_nothing() {
    let (mut session, request) = Initiator::new(snapshot(0..50), 1, crate::platform::now());
    let Message::Request(request) = request else {
        panic!("a request");
    };
    let actions = session.on_message(Responder::decline(request));
    assert_eq!(actions, [Action::End(Outcome::Declined)]);
}

/// Two keys of one short id need 2^32 tries, so this takes the symbols apart instead: both of a pair add to all of the
/// same symbols, and their sums cancel out.
#[test]
fn a_pair_with_one_short_id_spoils_its_session_and_no_other() {
    let (size, mut symbols) = honest_run(50..150, 1000);
    let pair = coding::Element::new(99, &SessionHash::new(SALTS.0, SALTS.1));
    let mut indices = pair.indices.clone();
    while let Some(index) = indices.next_below(1000) {
        symbols[usize_from(index)].add(&pair, 1);
        symbols[usize_from(index)].add(&pair, 1);
    }
    let mut victim = initiator(0..100);
    let (outcome, _) = lie_to(&mut victim, size + 2, |index| symbols[usize_from(index)]);
    assert_eq!(outcome, Outcome::Failed(Fault::Undecodable));
    assert_eq!(
        Fault::Undecodable.misdeed(),
        Misdeed::NoAnswer,
        "bad luck is no lie"
    );
    // Under other salts the same two keys are two elements like any others.
    let report = session_tests::reconcile(&keys(0..100), &keys(50..152), 3);
    assert_eq!((report.serve.len(), report.lacking.len()), (52, 50));
}

#[test]
fn keys_ground_for_one_session_are_nothing_in_the_next() {
    // The 1,000 of 100,000 keys that crowd the same symbol under salts that an attacker hoped for.
    let hoped = SessionHash::new(1, 2);
    let crowd = |key: &TransactionKey| {
        let mut indices = coding::Indices::of(hoped.short_id(key));
        std::iter::from_fn(|| indices.next_below(100)).last() == Some(99)
    };
    let theirs: std::collections::BTreeSet<_> = keys(0..60_000)
        .into_iter()
        .filter(crowd)
        .take(1000)
        .collect();
    assert_eq!(theirs.len(), 1000);
    let report = session_tests::reconcile(&keys(0..0), &theirs, 77);
    assert_eq!(report.serve, theirs);
    assert!(report.symbols < 1600, "{}", report.symbols);
}

fn any_message() -> impl Strategy<Value = Message> {
    let run = (0usize..300, any::<u64>(), any::<i64>()).prop_map(|(length, sum, count)| Run {
        sums: vec![sum; length],
        checksums: vec![0; length],
        counts: vec![count % 300; length],
    });
    let run = proptest::option::of(run);
    prop_oneof![
        (any::<u64>(), any::<u32>())
            .prop_map(|(salt, pool_size)| Message::Request(Request { salt, pool_size })),
        (any::<bool>(), 0u32..300, run.clone()).prop_map(|(mine, pool_size, run)| {
            Message::Answer(Answer {
                request: if mine { SALTS.0 } else { 0 },
                salt: 0,
                pool_size,
                run,
            })
        }),
        (0u32..600, run).prop_map(|(first, run)| Message::Symbols(Symbols { first, run })),
        (0u32..40_000).prop_map(more),
        proptest::collection::vec(any::<u64>(), 0..50)
            .prop_map(|short_ids| Message::Want(Want { short_ids })),
        Just(Message::GiveUp(GiveUp {})),
    ]
}

proptest! {
    #[test]
    fn no_order_of_messages_keeps_a_session_that_is_over(messages in proptest::collection::vec(any_message(), 1..12)) {
        let (mut first, mut second) = (initiator(0..30), responder(0..30));
        for message in messages {
            for (actions, over) in [
                { let actions = first.on_message(message.clone()); (actions, first.next_deadline().is_none()) },
                { let actions = second.on_message(message); (actions, second.next_deadline().is_none()) },
            ] {
                let ends = actions.iter().filter(|action| matches!(action, Action::End(_))).count();
                prop_assert!(ends <= 1);
                if ends == 1 {
                    prop_assert!(over && matches!(actions.last(), Some(Action::End(_))));
                }
            }
        }
    }
}
