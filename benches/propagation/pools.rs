//! Two pools of 100,000 transactions that differ by 1,000, compared in memory: Selkie beside negentropy.

use std::time::Instant;

use negentropy::{Id, Negentropy, NegentropyStorageVector};
use selkie::{
    chain::TransactionKey,
    propagation::pool::reconcile::{
        Action, Answer, Initiator, Message, Outcome, Responder, Snapshot, Symbols,
    },
};

use crate::support::{Figure, Measured, full_or};

const ROUNDS: u64 = 5;
const POOL: u32 = 100_000;
/// Of each side alone.
const ALONE: u32 = 500;

/// What one comparison cost.
#[derive(Default)]
struct Cost {
    symbols: f64,
    bytes: f64,
    round_trips: f64,
    seconds: f64,
}

pub fn measure() -> Vec<Figure> {
    let (count, pool) = (full_or(ROUNDS, 1), full_or(POOL, POOL / 10));
    eprintln!("comparing pools: {count} rounds");
    let rounds: Vec<_> = (0..count)
        .map(|round| {
            let first = u32::try_from(round).expect("few") * 2 * pool;
            let keys = |from: u32| -> Vec<_> {
                let numbers = first + from..first + from + pool;
                numbers
                    .map(|number| TransactionKey::of(&number.to_le_bytes()))
                    .collect()
            };
            let (ours, theirs) = (keys(0), keys(ALONE));
            (selkie(&ours, &theirs, round), negentropy(&ours, &theirs))
        })
        .collect();
    let median = |of: &dyn Fn(&(Cost, Cost)) -> f64| Measured::of(rounds.iter().map(of));
    let figure = |name: &str, unit, of: fn(&Cost) -> f64| Figure {
        name: format!("comparing pools, {name}"),
        value: median(&|round| of(&round.0)),
        unit,
        baseline: Some(median(&|round| of(&round.1))),
        baseline_name: "negentropy",
        target: None,
    };
    let differences = f64::from(2 * ALONE);
    vec![
        Figure {
            name: "comparing pools, symbols".to_owned(),
            value: median(&|round| round.0.symbols / differences),
            unit: "per difference",
            baseline: None,
            baseline_name: "",
            target: Some(0.0..=1.5),
        },
        figure("bytes", "bytes", |cost| cost.bytes),
        figure("round trips", "", |cost| cost.round_trips),
        figure("both sides' time", "ms", |cost| cost.seconds * 1e3),
    ]
}

fn selkie(ours: &[TransactionKey], theirs: &[TransactionKey], seed: u64) -> Cost {
    let (begin, now) = (Instant::now(), web_time::Instant::now());
    let mut cost = Cost::default();
    let snapshot =
        |keys: &[TransactionKey]| Snapshot::new(keys.to_vec(), Vec::new()).expect("few keys");
    let (mut initiator, request) = Initiator::new(snapshot(ours), seed, now);
    cost.bytes += request.clone().to_bytes().len() as f64;
    let Message::Request(request) = request else {
        panic!("a session begins with a request");
    };
    let (mut responder, mut actions) = Responder::new(snapshot(theirs), !seed, request, now);
    let (mut found, mut ends) = (0, 0);
    let mut ours_next = true;
    while !actions.is_empty() {
        let mut next = Vec::new();
        for action in actions {
            match action {
                Action::Send(message) => {
                    cost.bytes += message.clone().to_bytes().len() as f64;
                    if let Message::Answer(Answer { run: Some(run), .. })
                    | Message::Symbols(Symbols { run: Some(run), .. }) = &message
                    {
                        cost.symbols += run.sums.len() as f64;
                    }
                    next.extend(if ours_next {
                        initiator.on_message(message)
                    } else {
                        responder.on_message(message)
                    });
                }
                Action::Lacking(keys) | Action::Serve(keys) => found += keys.len(),
                Action::Await(_) => {}
                Action::End(outcome) => {
                    assert_eq!(outcome, Outcome::Reconciled);
                    ends += 1;
                }
            }
        }
        cost.round_trips += f64::from(u8::from(ours_next));
        ours_next = !ours_next;
        actions = next;
    }
    assert_eq!((found, ends), (2 * ALONE as usize, 2));
    cost.seconds = begin.elapsed().as_secs_f64();
    cost
}

fn negentropy(ours: &[TransactionKey], theirs: &[TransactionKey]) -> Cost {
    let begin = Instant::now();
    let mut cost = Cost::default();
    let storage = |keys: &[TransactionKey]| {
        let mut storage = NegentropyStorageVector::new();
        for key in keys {
            let id = Id::from_byte_array(*key.as_bytes());
            storage.insert(0, id).expect("not sealed");
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
        cost.bytes += (question.len() + answer.len()) as f64;
        cost.round_trips += 1.0;
        let next = initiator.reconcile_with_ids(&answer, &mut have, &mut need);
        query = next.expect("a query");
    }
    assert_eq!((have.len(), need.len()), (ALONE as usize, ALONE as usize));
    cost.seconds = begin.elapsed().as_secs_f64();
    cost
}
