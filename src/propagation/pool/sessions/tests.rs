//! Who compares pools with whom, and when.

use super::{step::list, *};
use crate::{chain::TransactionKey, platform::test, propagation::pool::MempoolConfig};

fn pools() -> (Pools, Mempool) {
    let pools = Pools::new(ReconcileConfig::default(), [1; 16]);
    (pools, Mempool::new(MempoolConfig::default(), &[1; 16]))
}

fn request() -> Message {
    Message::Request(Request {
        salt: 1,
        pool_size: 0,
    })
}

fn works(outputs: Vec<Output>) -> Vec<Step> {
    let step = |output| match output {
        Output::Work(step) => Some(step),
        _ => None,
    };
    outputs.into_iter().filter_map(step).collect()
}

fn declined(outputs: &[Output]) -> bool {
    matches!(outputs, [Output::Compare(..)])
}

#[test]
fn who_comes_anew_neither_begins_sooner_nor_gets_an_older_answer() {
    let ((mut pools, pool), peer, now) = (pools(), PeerId::random(), crate::platform::now());
    pools.joined(peer, false, now);
    let first = works(pools.on_message(peer, request(), &pool, now)).remove(0);
    pools.gone(peer, now);
    pools.joined(peer, false, now);
    assert!(declined(&pools.on_message(peer, request(), &pool, now)));
    let later = now + LEAST_PAUSE;
    let second = pools.on_message(peer, request(), &pool, later);
    assert!(second.is_empty(), "the pool is being listed");
    let outputs = pools.stepped(first.run(), &pool, later);
    assert_eq!(outputs.len(), 1, "it is of the former session");
    let second = works(outputs).remove(0);
    assert!(!pools.stepped(second.run(), &pool, later).is_empty());
    pools.gone(peer, now);
    assert_eq!((pools.sessions, pools.at_work), ([0; 2], 0));
}

/// Has the pool listed, for somebody who goes.
fn listed(pools: &mut Pools, pool: &Mempool, now: Instant) {
    let peer = PeerId::random();
    pools.joined(peer, false, now);
    for step in works(pools.on_message(peer, request(), pool, now)) {
        pools.stepped(step.run(), pool, now);
    }
    pools.gone(peer, now);
}

/// Peers that begin comparisons, and say no more.
fn silent(pools: &mut Pools, pool: &Mempool, now: Instant) -> Vec<PeerId> {
    let peers: Vec<_> = (0..10).map(|_| PeerId::random()).collect();
    let mut steps = Vec::new();
    for peer in &peers {
        pools.joined(*peer, false, now);
        steps.extend(works(pools.on_message(*peer, request(), pool, now)));
    }
    while let Some(step) = steps.pop() {
        steps.extend(works(pools.stepped(step.run(), pool, now)));
    }
    assert_eq!(pools.sessions, [0, MAX_THEIRS]);
    peers
}

#[test]
fn who_keeps_us_waiting_gives_way_and_is_told() {
    let ((mut pools, mut pool), mut now) = (pools(), crate::platform::now());
    let data = Vec::from([7; 100]);
    pool.insert(TransactionKey::of(&data), data.into(), 1, now);
    now += Duration::from_secs(60);
    let peers = silent(&mut pools, &pool, now);
    let honest = PeerId::random();
    pools.joined(honest, false, now);
    assert!(declined(&pools.on_message(honest, request(), &pool, now)));
    now += PATIENCE;
    let outputs = pools.on_message(honest, request(), &pool, now);
    let (told, begun): (Vec<_>, Vec<_>) = outputs
        .into_iter()
        .partition(|output| matches!(output, Output::Compare(..)));
    assert_eq!((told.len(), works(begun).len()), (1, 1));
    assert!(
        matches!(&told[..], [Output::Compare(peer, Message::Answer(answer))]
        if peers.contains(peer) && answer.run.is_none())
    );
    assert_eq!(pools.sessions, [0, MAX_THEIRS]);
}

#[test]
fn two_that_are_silent_keep_nobody_to_an_old_listing() {
    let ((mut pools, mut pool), mut now) = (pools(), crate::platform::now());
    let mut data = (0_u32..).map(|number| number.to_le_bytes().to_vec());
    let mut grows = |pool: &mut Mempool, now| {
        for data in data.by_ref().take(1000) {
            pool.insert(TransactionKey::of(&data), data.into(), 1, now);
        }
    };
    let begins = |pools: &mut Pools, pool: &Mempool, now| {
        let peer = PeerId::random();
        pools.joined(peer, false, now);
        let outputs = pools.on_message(peer, request(), pool, now);
        let told = outputs.len()
            - outputs
                .iter()
                .filter(|one| matches!(one, Output::Work(_)))
                .count();
        let mut steps = works(outputs);
        while let Some(step) = steps.pop() {
            steps.extend(works(pools.stepped(step.run(), pool, now)));
        }
        told
    };
    grows(&mut pool, now);
    now += Duration::from_secs(60);
    assert_eq!(begins(&mut pools, &pool, now), 0);
    grows(&mut pool, now);
    assert_eq!(begins(&mut pools, &pool, now), 0);
    grows(&mut pool, now);
    now += Duration::from_secs(1);
    assert_eq!(begins(&mut pools, &pool, now), 0);
    let listed = |pools: &Pools| pools.listing.as_ref().map(|listing| listing.at);
    assert!(listed(&pools) < Some(now), "two are in use");
    now += Duration::from_secs(20);
    assert_eq!(
        begins(&mut pools, &pool, now),
        1,
        "who is silent on the eldest is told"
    );
    assert_eq!(listed(&pools), Some(now));
}

#[test]
fn nobody_gives_way_where_that_makes_no_room() {
    let ((mut pools, mut pool), mut now) = (pools(), crate::platform::now());
    let insert = |pool: &mut Mempool, number: u32, now| {
        let data = number.to_le_bytes().to_vec();
        pool.insert(TransactionKey::of(&data), data.into(), number.into(), now);
    };
    insert(&mut pool, 0, now);
    now += Duration::from_secs(60);
    silent(&mut pools, &pool, now);
    (1..120_000).for_each(|number| insert(&mut pool, number, now));
    assert!(Side::Theirs.most(pool.len()) < MAX_THEIRS);
    now += PATIENCE;
    for _ in 0..3 {
        let late = PeerId::random();
        pools.joined(late, false, now);
        assert!(declined(&pools.on_message(late, request(), &pool, now)));
    }
    assert_eq!(pools.sessions, [0, MAX_THEIRS]);
}

#[test]
fn ours_begin_whatever_others_began_and_soon_where_there_is_no_room() {
    let ((mut pools, pool), now) = (pools(), crate::platform::now());
    silent(&mut pools, &pool, now);
    let ours: Vec<_> = (0..2 * MAX_OURS).map(|_| PeerId::random()).collect();
    ours.iter()
        .for_each(|peer| drop(pools.joined(*peer, true, now)));
    let mut steps = works(pools.on_time(&pool, now));
    let mut begun = 0;
    while let Some(step) = steps.pop() {
        begun += 1;
        steps.extend(works(pools.stepped(step.run(), &pool, now)));
    }
    assert_eq!((begun, pools.sessions[0]), (MAX_OURS, MAX_OURS));
    let soon = |peer: &&PeerId| pools.peers[*peer].next_at == now + LEAST_PAUSE;
    assert_eq!(ours.iter().filter(soon).count(), MAX_OURS);
}

#[test]
fn a_session_of_who_has_moved_is_over_and_begins_anew() {
    let ((mut pools, pool), peer, now) = (pools(), PeerId::random(), crate::platform::now());
    pools.joined(peer, true, now);
    let step = works(pools.on_time(&pool, now)).remove(0);
    assert!(
        !pools.stepped(step.run(), &pool, now).is_empty(),
        "a request"
    );
    assert!(pools.moved(peer, true, now).is_empty());
    assert_eq!(pools.sessions, [0; 2]);
    let later = now + LEAST_PAUSE;
    assert_eq!(works(pools.on_time(&pool, later)).len(), 1);
}

#[test]
fn few_steps_are_at_work_at_once_and_those_of_who_is_gone_count() {
    let ((mut pools, pool), now) = (pools(), crate::platform::now());
    listed(&mut pools, &pool, now);
    let mut steps = Vec::new();
    for _ in 0..100 {
        let peer = PeerId::random();
        pools.joined(peer, false, now);
        steps.extend(works(pools.on_message(peer, request(), &pool, now)));
        pools.gone(peer, now);
    }
    assert_eq!((steps.len(), pools.sessions), (MAX_STEPS, [0, MAX_THEIRS]));
    while let Some(step) = steps.pop() {
        steps.extend(works(pools.stepped(step.run(), &pool, now)));
        assert!(steps.len() <= MAX_STEPS);
    }
    assert_eq!((pools.sessions, pools.at_work), ([0; 2], 0));
}

#[test]
fn a_step_that_panics_leaves_nothing_occupied() {
    let ((mut pools, pool), peer, now) = (pools(), PeerId::random(), crate::platform::now());
    pools.joined(peer, false, now);
    let step = works(pools.on_message(peer, request(), &pool, now)).remove(0);
    // What a panic is turned into.
    let stepped = Stepped {
        peer,
        side: step.side,
        session: step.session,
        machine: None,
        actions: vec![Action::End(Outcome::Declined)],
        snapshot: None,
    };
    assert!(pools.stepped(stepped, &pool, now).is_empty());
    assert_eq!((pools.sessions, pools.at_work), ([0; 2], 0));
    let later = now + LEAST_PAUSE;
    assert_eq!(
        works(pools.on_message(peer, request(), &pool, later)).len(),
        1
    );
}

#[test]
fn the_pool_is_listed_as_it_was_however_it_changes_meanwhile() {
    let ((_, mut pool), now) = (pools(), crate::platform::now());
    let insert = |pool: &mut Mempool, number: u32, at| {
        let data = number.to_le_bytes().to_vec();
        pool.insert(TransactionKey::of(&data), data.into(), number.into(), at);
    };
    (0..10_000).for_each(|number| insert(&mut pool, number, now));
    let pieces = pool.pieces();
    (10_000..20_000).for_each(|number| insert(&mut pool, number, now));
    let keys: Vec<_> = pool.iter().map(|pooled| pooled.key).take(5000).collect();
    keys.iter().for_each(|key| drop(pool.remove(key)));
    assert_eq!(pieces.iter().count(), 10_000);
    assert_eq!(pool.iter().count(), 15_000);
    let age = Duration::from_secs(5);
    assert_eq!(
        format!("{:?}", list(pieces.clone(), Vec::new(), age, now))
            .matches("TransactionKey")
            .count(),
        10_000
    );
    drop(list(pieces, Vec::new(), Duration::ZERO, now + age));
}

#[test]
fn who_says_that_its_pool_is_empty_is_told_what_was_listed_and_pays_for_it() {
    let ((mut pools, mut pool), peer, now) = (pools(), PeerId::random(), crate::platform::now());
    for number in 0..40_000_u32 {
        let data = number.to_le_bytes().to_vec();
        pool.insert(TransactionKey::of(&data), data.into(), number.into(), now);
    }
    let now = now + Duration::from_secs(60);
    pools.joined(peer, false, now);
    let step = works(pools.on_message(peer, request(), &pool, now)).remove(0);
    let listed = step.run();
    let nothing = Mempool::new(MempoolConfig::default(), &[1; 16]);
    // It is no walk over the pool that finds these.
    let outputs = pools.stepped(listed, &nothing, now);
    let (mut told, mut paid) = (0, 0);
    for output in outputs {
        match output {
            Output::Announce(_, some) => {
                assert!(some.check().is_ok());
                let rates = some.claims().map(|(_, fee_rate)| fee_rate);
                assert!(rates.min() >= Some(23_616 * 250) && some.ids.len() <= 8 * MAX_IDS);
                told += some.ids.len() / 8;
            }
            Output::Surcharge(_, Class::Transaction, cost) => paid += cost.items,
            _ => {}
        }
    }
    assert_eq!((told, paid), (MOST_ANNOUNCED, MOST_ANNOUNCED as u64));
}

#[test]
fn who_is_silent_in_ours_gives_way_too() {
    let ((mut pools, pool), start) = (pools(), crate::platform::now());
    (0..2 * MAX_OURS).for_each(|_| drop(pools.joined(PeerId::random(), true, start)));
    let (honest, mut now) = (PeerId::random(), start + Duration::from_millis(1));
    pools.joined(honest, true, now);
    let mut asked = false;
    while now < start + Duration::from_secs(20) {
        let mut outputs = pools.on_time(&pool, now);
        while let Some(output) = outputs.pop() {
            match output {
                Output::Work(step) => outputs.extend(pools.stepped(step.run(), &pool, now)),
                Output::Compare(peer, Message::Request(request)) if peer == honest => {
                    asked = true;
                    let answer = Responder::decline(request);
                    outputs.extend(pools.on_message(honest, answer, &pool, now));
                }
                Output::Compare(_, Message::Request(_)) => {}
                // Who gives way is told, and need not wait for us.
                Output::Compare(peer, Message::Want(want)) => {
                    assert!(peer != honest && want.short_ids.is_empty());
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(pools.sessions[0] <= MAX_OURS);
        now += Duration::from_millis(500);
    }
    assert!(asked);
}

#[test]
fn nobody_gives_way_to_who_has_a_session_of_ours_yet() {
    let config = ReconcileConfig {
        interval: PATIENCE,
        ..ReconcileConfig::default()
    };
    let ((_, pool), now) = (pools(), crate::platform::now());
    let mut pools = Pools::new(config, [1; 16]);
    (0..MAX_OURS).for_each(|_| drop(pools.joined(PeerId::random(), true, now)));
    let mut steps = works(pools.on_time(&pool, now));
    while let Some(step) = steps.pop() {
        steps.extend(works(pools.stepped(step.run(), &pool, now)));
    }
    assert_eq!(pools.sessions[0], MAX_OURS);
    assert!(pools.on_time(&pool, now + PATIENCE).is_empty());
    assert_eq!(pools.sessions[0], MAX_OURS);
}

#[test]
fn what_waits_is_bounded_in_bytes() {
    let ((mut pools, pool), peer, now) = (pools(), PeerId::random(), crate::platform::now());
    pools.joined(peer, false, now);
    // It stays at work.
    assert_eq!(
        works(pools.on_message(peer, request(), &pool, now)).len(),
        1
    );
    let want = || {
        let short_ids = (0..1 << 15).collect();
        Message::Want(Want { short_ids })
    };
    let mut tell = |message| pools.on_message(peer, message, &pool, now);
    for _ in 0..3 {
        let more = crate::propagation::pool::reconcile::More { until: 1 };
        assert!(tell(Message::More(more)).is_empty());
    }
    assert!(tell(want()).is_empty(), "an honest peer's last word");
    assert!(matches!(
        tell(want())[..],
        [Output::Misdeed(_, Misdeed::TooManyMessages)]
    ));
}

#[test]
fn who_was_not_heard_has_as_much_more_time_for_its_session() {
    let ((mut pools, mut pool), peer, now) = (pools(), PeerId::random(), crate::platform::now());
    let data = Vec::from([7; 100]);
    pool.insert(TransactionKey::of(&data), data.into(), 1, now);
    let now = now + Duration::from_secs(60);
    pools.joined(peer, false, now);
    let step = works(pools.on_message(peer, request(), &pool, now)).remove(0);
    pools.stepped(step.run(), &pool, now);
    let (deadline, unheard) = (
        pools.deadline(&peer, Side::Theirs).expect("it has one"),
        Duration::from_secs(7),
    );
    pools.unheard(&peer, unheard, now);
    let blamed = |pools: &mut Pools, at| {
        let outputs = pools.on_time(&pool, at);
        let is_blame = |output: &&Output| matches!(output, Output::Misdeed(..));
        outputs.iter().filter(is_blame).count()
    };
    assert_eq!(blamed(&mut pools, deadline), 0);
    assert_eq!(blamed(&mut pools, deadline + unheard), 1);
}

#[test]
fn a_session_of_which_the_last_word_is_lost_is_over_and_nobody_pays() {
    let ((mut pools, mut pool), peer, now) = (pools(), PeerId::random(), crate::platform::now());
    let data = Vec::from([7; 100]);
    pool.insert(TransactionKey::of(&data), data.into(), 1, now);
    let now = now + Duration::from_secs(60);
    pools.joined(peer, false, now);
    let step = works(pools.on_message(peer, request(), &pool, now)).remove(0);
    pools.stepped(step.run(), &pool, now);
    assert!(
        pools.skipped(peer, MAX_FRAME + 1, now).is_empty(),
        "no message is so long"
    );
    assert_eq!(pools.sessions, [0, 1]);
    assert!(declined(&pools.skipped(peer, 200 << 10, now)), "it is told");
    assert_eq!(pools.sessions, [0, 0]);
    assert!(
        pools
            .on_time(&pool, now + Duration::from_secs(50))
            .iter()
            .all(|output| { !matches!(output, Output::Misdeed(..)) })
    );
}

/// A pool of so many transactions, which are old enough at this time.
fn pool_of(count: u64) -> (Mempool, Instant) {
    let config = MempoolConfig {
        max_bytes: 1 << 30,
        ..MempoolConfig::default()
    };
    let (mut pool, now) = (Mempool::new(config, &[1; 16]), crate::platform::now());
    for number in 0..count {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_le_bytes());
        pool.insert(TransactionKey::new(key), vec![7; 8].into(), 1, now);
    }
    (pool, now + Duration::from_secs(60))
}

#[test]
fn who_begins_while_the_pool_is_listed_waits_for_that() {
    let (mut pools, _) = pools();
    let (pool, now) = pool_of(100);
    let mut steps = Vec::new();
    for _ in 0..MAX_THEIRS {
        let peer = PeerId::random();
        pools.joined(peer, false, now);
        steps.extend(works(pools.on_message(peer, request(), &pool, now)));
    }
    let (mut begun, mut lists) = (0, 0);
    while let Some(step) = steps.pop() {
        begun += 1;
        lists += usize::from(matches!(step.input, Input::Begin(Pool::Listed(..), ..)));
        steps.extend(works(pools.stepped(step.run(), &pool, now)));
    }
    assert_eq!((begun, lists), (MAX_THEIRS, 1));
}

#[test]
fn two_listings_are_in_use_however_long_sessions_last() {
    let (mut pools, _) = pools();
    let (mut pool, mut now) = pool_of(100);
    let mut lists = 0;
    for number in 0..MAX_THEIRS as u64 {
        // It changes much between any two.
        for more in 0..10 {
            let data = (number * 10 + more).to_le_bytes().to_vec();
            pool.insert(TransactionKey::of(&data), data.into(), 1, now);
        }
        let peer = PeerId::random();
        pools.joined(peer, false, now);
        let salt = Request {
            salt: 1,
            pool_size: 100,
        };
        let mut steps = works(pools.on_message(peer, Message::Request(salt), &pool, now));
        while let Some(step) = steps.pop() {
            lists += usize::from(matches!(step.input, Input::Begin(Pool::Listed(..), ..)));
            steps.extend(works(pools.stepped(step.run(), &pool, now)));
        }
        // The latest is young enough until the end.
        now += FRESH / 2;
    }
    assert_eq!((pools.sessions, lists), ([0, MAX_THEIRS], 2));
}

#[test]
fn of_a_large_pool_there_are_fewer_sessions_at_once() {
    let (mut pools, _) = pools();
    let (pool, now) = pool_of(120_000);
    let mut steps = Vec::new();
    for _ in 0..10 {
        let peer = PeerId::random();
        pools.joined(peer, false, now);
        let outputs = pools.on_message(peer, request(), &pool, now);
        steps.extend(works(outputs));
    }
    assert_eq!(pools.sessions, [0, 3]);
    for size in [0, 1, 10_000, 100_000, MAX_POOL as usize, usize::MAX] {
        for (side, most) in [(Side::Ours, MAX_OURS), (Side::Theirs, MAX_THEIRS)] {
            let count = side.most(size);
            assert!((1..=most).contains(&count), "{size}: {count}");
            let keys = size.min(MAX_POOL as usize);
            assert!(count * keys * KEY_BYTES <= MAX_BYTES);
        }
    }
    assert_eq!(
        [Side::Ours, Side::Theirs].map(|side| side.most(1000)),
        [MAX_OURS, MAX_THEIRS]
    );
}

#[test]
fn who_answers_at_the_last_moment_time_and_again_gives_way_too() {
    let (mut pools, _) = pools();
    let (pool, start) = pool_of(100);
    let peers: Vec<_> = (0..MAX_THEIRS).map(|_| PeerId::random()).collect();
    let same = || {
        Message::Request(Request {
            salt: 1,
            pool_size: 100,
        })
    };
    let run = |pools: &mut Pools, mut steps: Vec<Step>, now| {
        while let Some(step) = steps.pop() {
            steps.extend(works(pools.stepped(step.run(), &pool, now)));
        }
    };
    for peer in &peers {
        pools.joined(*peer, false, start);
        let steps = works(pools.on_message(*peer, same(), &pool, start));
        run(&mut pools, steps, start);
    }
    let honest = PeerId::random();
    pools.joined(honest, false, start);
    let (mut until, mut begins_after) = (32_u32, None);
    for tenth in 0..100_u32 {
        let now = start + Duration::from_millis(100) * tenth;
        if tenth % 19 == 18 {
            until += (until / 16).max(16);
            for peer in &peers {
                let more = crate::propagation::pool::reconcile::More { until };
                let steps = works(pools.on_message(*peer, Message::More(more), &pool, now));
                run(&mut pools, steps, now);
            }
        }
        // As often as it may.
        let steps = works(pools.on_message(honest, same(), &pool, now));
        if !steps.is_empty() {
            begins_after = Some(tenth);
            break;
        }
    }
    assert!(
        begins_after.is_some_and(|tenths| tenths <= 50),
        "{begins_after:?}"
    );
}

#[test]
fn nobody_begins_another_one_right_after_a_long_one() {
    let ((mut pools, pool), peer, start) = (pools(), PeerId::random(), crate::platform::now());
    pools.joined(peer, false, start);
    let begin = |pools: &mut Pools, message, now| {
        let mut steps = works(pools.on_message(peer, message, &pool, now));
        let has_begun = !steps.is_empty();
        while let Some(step) = steps.pop() {
            steps.extend(works(pools.stepped(step.run(), &pool, now)));
        }
        has_begun
    };
    assert!(begin(&mut pools, request(), start));
    let end = start + Duration::from_secs(29);
    begin(&mut pools, Message::Want(Want::default()), end);
    assert_eq!(pools.sessions, [0; 2]);
    let soon = end + LEAST_PAUSE / 2;
    assert!(!begin(&mut pools, request(), soon));
    assert!(begin(&mut pools, request(), end + LEAST_PAUSE));
}
