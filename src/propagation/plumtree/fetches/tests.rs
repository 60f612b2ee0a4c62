//! What is asked of whom, and when.

use super::*;
use crate::platform::test;
use proptest::prelude::*;

const LIMITS: Limits = Limits {
    patience: Duration::from_millis(50),
    timeout: Duration::from_secs(2),
    max_announced: 100,
    max_claims: 1000,
    max_requested_bytes: 1000,
};

fn id(number: u64) -> ShortId {
    ShortId::new(number.to_le_bytes())
}

/// So much that it limits nothing.
const MUCH: Limits = Limits {
    max_requested_bytes: 1 << 20,
    ..LIMITS
};

impl Fetches {
    /// It has answered so much that it may be asked for all.
    fn trusts(&mut self, peer: PeerId) {
        let announcer = self.peers.get_mut(&peer).expect("it told");
        announcer.window = self.limits.max_requested_bytes;
    }

    /// One announcement.
    fn told(&mut self, id: ShortId, peer: PeerId, claim: Claim, now: Instant) {
        let by = (peer, 0b10, false);
        self.announced(by, std::iter::once((id, claim)), now);
    }
}

fn claim(size: u32, fee_rate: u64) -> Claim {
    Claim { size, fee_rate }
}

#[test]
fn what_does_not_come_by_itself_is_asked_for_once_the_best_paying_first() {
    let (mut fetches, now) = (
        Fetches::new(LIMITS, Keyed::new(&[1; 16])),
        crate::platform::now(),
    );
    let (ann, bob) = (PeerId::random(), PeerId::random());
    for number in 0..10 {
        fetches.told(id(number), ann, claim(300, number), now);
        let bobs = std::iter::once((id(number), claim(300, number)));
        fetches.announced((bob, 0b100, false), bobs, now);
    }
    assert_eq!(
        fetches.arrived(id(9), &ann, now),
        Some(Arrived {
            claim: Some(claim(300, 9)),
            asked: false,
            since: now,
            known: 0b110,
            returned: false,
        })
    );
    assert!(fetches.take(ann, now).is_empty(), "not yet");
    assert_eq!(fetches.next_deadline(), Some(now + LIMITS.patience));
    let later = now + LIMITS.patience;
    assert!(fetches.on_time(later).is_empty());
    let (of_ann, of_bob) = (fetches.take(ann, later), fetches.take(bob, later));
    assert_eq!(
        (of_ann.len(), of_bob.len()),
        (4, 4),
        "as many bytes as may be asked for at once"
    );
    assert!(
        of_ann
            .windows(2)
            .all(|pair| pair[0].to_bytes() > pair[1].to_bytes()),
        "{of_ann:?}"
    );
    assert!(of_ann.iter().all(|id| !of_bob.contains(id)));
    assert_eq!(
        fetches
            .arrived(of_ann[0], &ann, now)
            .map(|arrived| arrived.asked),
        Some(true)
    );
    assert_eq!(
        fetches.arrived(of_ann[0], &ann, now),
        None,
        "it is here already"
    );
    assert!(fetches.is_ready(&ann) || fetches.peers[&ann].ready.is_empty());
}

#[test]
fn what_is_pushed_late_is_waited_for_as_long() {
    let (mut fetches, start) = (
        Fetches::new(LIMITS, Keyed::new(&[1; 16])),
        crate::platform::now(),
    );
    let ann = PeerId::random();
    let late = LIMITS.patience * 10;
    fetches.told(id(0), ann, claim(1, 1), start);
    fetches.told(id(1), ann, claim(1, 1), start);
    // The first one comes so late, by a link that pushes, as others have before.
    fetches.arrived(id(0), &PeerId::random(), start + late);
    (0..10).for_each(|_| fetches.pushed(late, start + late));
    fetches.on_time(start + late);
    assert!(fetches.take(ann, start + late).is_empty());
    let deadline = fetches.next_deadline().expect("it is not given up");
    let most = start + late + late / 4;
    assert!(start + late < deadline && deadline <= most);
    fetches.on_time(deadline);
    assert_eq!(fetches.take(ann, deadline), [id(1)]);
}

#[test]
fn who_is_slow_but_answers_has_more_time_and_not_for_ever() {
    let (mut fetches, begin) = (
        Fetches::new(MUCH, Keyed::new(&[1; 16])),
        crate::platform::now(),
    );
    let ann = PeerId::random();
    let mut now = begin;
    for number in 0..100 {
        fetches.told(id(number), ann, claim(10, number), now);
    }
    now += LIMITS.patience;
    fetches.on_time(now);
    fetches.trusts(ann);
    let mut asked = fetches.take(ann, now);
    assert_eq!(asked.len(), 100);
    let first = now;
    // One a second.
    let blamed = loop {
        now += Duration::from_secs(1);
        let arrived = asked.pop().expect("it is blamed before that");
        assert!(
            fetches
                .arrived(arrived, &ann, now)
                .is_some_and(|arrived| arrived.asked)
        );
        if fetches.on_time(now) == [ann] {
            break now - first;
        }
    };
    assert_eq!(blamed, LIMITS.timeout * MOST_TIMES);
    assert!(fetches.wanted.is_empty(), "nobody else has them");
}

#[test]
fn who_says_no_or_nothing_is_followed_by_the_next() {
    let (mut fetches, now) = (
        Fetches::new(LIMITS, Keyed::new(&[1; 16])),
        crate::platform::now(),
    );
    let peers: Vec<_> = (0..4).map(|_| PeerId::random()).collect();
    for peer in &peers {
        fetches.told(id(1), *peer, claim(10, 1), now);
    }
    let mut at = now + LIMITS.patience;
    fetches.on_time(at);
    let asked = |fetches: &mut Fetches, at| {
        let mut asked = peers
            .iter()
            .filter(|peer| !fetches.take(**peer, at).is_empty());
        let one = asked.next().copied();
        assert_eq!(asked.next(), None, "one at a time");
        one
    };
    let first = asked(&mut fetches, at).expect("somebody");
    assert!(fetches.missing(id(1), first));
    let second = asked(&mut fetches, at).expect("somebody else");
    at += LIMITS.timeout;
    assert_eq!(fetches.on_time(at), [second]);
    let third = asked(&mut fetches, at).expect("somebody else");
    fetches.gone(third, at);
    let fourth = asked(&mut fetches, at).expect("the last");
    assert!(
        [first, second, third, fourth]
            .windows(2)
            .all(|pair| pair[0] != pair[1])
    );
    assert!(fetches.missing(id(1), fourth));
    assert_eq!(asked(&mut fetches, at), None);
    assert!(fetches.wanted.is_empty());
}

#[test]
fn silence_is_paid_for_once_a_round_and_not_where_questions_are_lost() {
    let (mut fetches, start) = (
        Fetches::new(LIMITS, Keyed::new(&[1; 16])),
        crate::platform::now(),
    );
    let peer = PeerId::random();
    let mut blamed = 0;
    // One question each 10 ms, none of which is answered.
    let mut ask = |fetches: &mut Fetches, number, now| {
        fetches.told(id(number), peer, claim(1, 1), now);
        blamed += fetches.on_time(now).len();
        fetches.take(peer, now);
        blamed
    };
    let at =
        |number: u64| start + Duration::from_millis(10) * u32::try_from(number).expect("small");
    for number in 0..1000 {
        ask(&mut fetches, number, at(number));
    }
    let before = ask(&mut fetches, 1000, at(1000));
    let rounds = usize::try_from((at(1000) - start).as_millis() / LIMITS.timeout.as_millis())
        .expect("small");
    assert!(before > 0 && before <= rounds, "{before} of {rounds}");
    fetches.excuse(&peer, at(1000));
    let later = at(1000) + LIMITS.timeout * 2;
    assert_eq!(ask(&mut fetches, 1001, later), before);
}

#[test]
fn who_is_not_heard_pays_once_it_was_heard_for_all_of_its_time() {
    let begin = || {
        let (mut fetches, peer) = (Fetches::new(LIMITS, Keyed::new(&[1; 16])), PeerId::random());
        let start = crate::platform::now();
        fetches.told(id(1), peer, claim(1, 1), start);
        let start = start + LIMITS.patience;
        fetches.on_time(start);
        assert_eq!(fetches.take(peer, start), [id(1)]);
        (fetches, peer, start)
    };
    let half = LIMITS.timeout / 2;
    let (mut fetches, peer, start) = begin();
    fetches.unheard(&peer, half);
    assert!(fetches.on_time(start + LIMITS.timeout).is_empty());
    assert_eq!(
        fetches.on_time(start + LIMITS.timeout * 2),
        [peer],
        "later by as much, and a round at most"
    );
    // Its answer is taken until then.
    let (mut fetches, peer, start) = begin();
    fetches.unheard(&peer, half);
    let late = start + LIMITS.timeout + half - Duration::from_millis(1);
    assert!(fetches.on_time(late).is_empty());
    assert!(fetches.arrived(id(1), &peer, late).is_some());
    // And nobody waits for who is never heard, nor is it to blame.
    let (mut fetches, peer, start) = begin();
    for round in 1..=MOST_TIMES {
        assert!(fetches.next_deadline().is_some());
        fetches.unheard(&peer, LIMITS.timeout);
        assert!(fetches.on_time(start + LIMITS.timeout * round).is_empty());
    }
    assert!(fetches.next_deadline().is_none() && fetches.wanted.is_empty());
}

#[test]
fn who_announces_without_end_is_stopped() {
    let (mut fetches, now, peer) = (
        Fetches::new(LIMITS, Keyed::new(&[1; 16])),
        crate::platform::now(),
        PeerId::random(),
    );
    for number in 0..200 {
        fetches.told(id(number), peer, claim(1, 1), now);
    }
    assert_eq!(fetches.wanted.len(), LIMITS.max_announced);
    fetches.gone(peer, now);
    assert!(fetches.wanted.is_empty() && fetches.peers.is_empty());
}

#[test]
fn what_is_lost_on_its_way_is_asked_again_and_nobody_pays() {
    let (mut fetches, mut now) = (
        Fetches::new(LIMITS, Keyed::new(&[1; 16])),
        crate::platform::now(),
    );
    let (ann, bob) = (PeerId::random(), PeerId::random());
    fetches.told(id(1), ann, claim(300_000, 1), now);
    fetches.told(id(1), bob, claim(300_000, 1), now);
    now += LIMITS.patience;
    fetches.on_time(now);
    assert_eq!(fetches.take(ann, now), [id(1)]);
    fetches.lost(&ann, 400_000);
    assert!(fetches.take(bob, now).is_empty(), "another one was lost");
    fetches.lost(&ann, 300_016);
    assert_eq!(fetches.take(bob, now), [id(1)], "who else has it");
    for _ in 0..3 {
        fetches.lost(&bob, 300_016);
        assert_eq!(fetches.take(bob, now), [id(1)], "nobody else has it");
    }
    assert_eq!(fetches.on_time(now + LIMITS.timeout), [bob]);
    assert_eq!((fetches.claims, fetches.wanted.len()), (0, 0));
    let asked = |peer: &PeerId| fetches.peers[peer].requested_bytes;
    assert_eq!((asked(&ann), asked(&bob)), (0, 0));
}

#[test]
fn one_frame_that_is_lost_has_one_item_asked_again() {
    let mut fetches = Fetches::new(MUCH, Keyed::new(&[1; 16]));
    let (ann, mut now) = (PeerId::random(), crate::platform::now());
    for (number, size) in [(1, 300_000), (2, 250_000), (3, 400_000)] {
        fetches.told(id(number), ann, claim(size, 1), now);
    }
    fetches.trusts(ann);
    now += LIMITS.patience;
    fetches.on_time(now);
    let all = fetches.take(ann, now);
    assert_eq!(all.len(), 3, "{all:?}");
    fetches.lost(&ann, 300_016);
    assert_eq!(
        fetches.take(ann, now),
        [id(1)],
        "the others are on their way"
    );
}

#[test]
fn a_node_that_comes_late_reads_before_it_asks() {
    let mut fetches = Fetches::new(LIMITS, Keyed::new(&[1; 16]));
    let (ann, start) = (PeerId::random(), crate::platform::now());
    fetches.told(id(1), ann, claim(300, 1), start);
    let mut now = start + LIMITS.patience * 3;
    fetches.on_time(now);
    assert!(fetches.is_late(now) && fetches.take(ann, now).is_empty());
    let until = fetches.next_deadline().expect("it is asked for then");
    assert_eq!(until, now + LIMITS.patience * 2);
    let mut after_long = Fetches::new(LIMITS, Keyed::new(&[1; 16]));
    after_long.told(id(1), ann, claim(300, 1), start);
    let late = start + LIMITS.patience * 100;
    after_long.on_time(late);
    let most = late + LIMITS.patience * MOST_GRACE;
    assert_eq!(after_long.next_deadline(), Some(most));
    fetches.on_time(until);
    assert_eq!(fetches.take(ann, until), [id(1)]);
    // However often it comes late.
    fetches.told(id(2), ann, claim(300, 1), until);
    let most = until + LIMITS.patience * (MOST_GRACE + 4);
    now = until;
    while now < most {
        now += LIMITS.patience * 3;
        fetches.on_time(now);
    }
    assert_eq!(fetches.take(ann, now), [id(2)]);
}

#[test]
fn what_is_announced_over_a_link_that_pushes_is_no_probe() {
    let mut fetches = Fetches::new(LIMITS, Keyed::new(&[1; 16]));
    let ([ann, bob], start) = ([(); 2].map(|()| PeerId::random()), crate::platform::now());
    (0..10).for_each(|_| fetches.pushed(LIMITS.patience * 10, start));
    fetches.probe();
    for (number, peer, pushes) in [(0, ann, true), (1, bob, false), (2, bob, false)] {
        let told = std::iter::once((id(number), claim(300, 1)));
        fetches.announced((peer, 0b10, pushes), told, start);
    }
    let due = start + LIMITS.patience;
    fetches.on_time(due);
    assert!(fetches.take(ann, due).is_empty());
    assert_eq!(fetches.take(bob, due), [id(1)]);
}

#[test]
fn a_patience_that_grows_makes_no_node_late_and_what_waits_holds_up_nothing() {
    let limits = Limits {
        patience: Duration::from_millis(100),
        ..MUCH
    };
    let (ann, start) = (PeerId::random(), crate::platform::now());
    let mut fetches = Fetches::new(limits, Keyed::new(&[1; 16]));
    (0..10).for_each(|_| fetches.pushed(limits.patience * 60, start));
    let mut due = Vec::new();
    for step in 0..800_u32 {
        let now = start + Duration::from_millis(10) * step;
        if step < 600 {
            fetches.told(id(step.into()), ann, claim(1, 1), now);
            let most = now + fetches.patience(now) + GRAIN;
            due.push((id(step.into()), most));
        }
        // When it is about a third of what it was, somewhat more than that.
        if step == 310 {
            let more = fetches.patience(now);
            (0..100).for_each(|_| fetches.pushed(more, now));
            let more = fetches.patience(now);
            due.iter_mut()
                .for_each(|(_, most)| *most = (*most).max(now + more));
        }
        fetches.on_time(now);
        assert!(!fetches.is_late(now), "{step}");
        for id in fetches.take(ann, now) {
            let (_, most) = due.iter().find(|(other, _)| *other == id).expect("told");
            assert!(now <= *most, "{step}");
            fetches.arrived(id, &ann, now);
        }
    }
    assert!(fetches.wanted.len() < 100);
}

#[test]
fn who_answers_is_asked_for_twice_as_much_and_whose_answers_come_later_than_pushes_for_less() {
    let limits = Limits {
        max_announced: 4096,
        max_claims: 1 << 14,
        ..MUCH
    };
    let mut fetches = Fetches::new(limits, Keyed::new(&[1; 16]));
    let [ann, bob, pushes] = [(); 3].map(|()| PeerId::random());
    let mut now = crate::platform::now();
    // Whatever it says of the size.
    for number in 0..4000 {
        fetches.told(id(number), ann, claim(1, 1), now);
    }
    now += LIMITS.patience;
    fetches.on_time(now);
    let mut asked = fetches.take(ann, now);
    assert_eq!(asked.len(), LEAST_WINDOW / LEAST_SIZE);
    for doubled in 1..5 {
        for id in asked {
            fetches.arrived(id, &ann, now);
        }
        asked = fetches.take(ann, now);
        assert_eq!(asked.len(), (LEAST_WINDOW / LEAST_SIZE) << doubled);
    }
    for id in &asked[..3] {
        fetches.arrived(*id, &pushes, now);
    }
    assert_eq!(fetches.peers[&ann].window, LEAST_WINDOW << 1);
    // What one may not be asked for, another one is.
    for number in 0..4000 {
        fetches.told(id(number), bob, claim(1, 1), now);
    }
    assert!(fetches.take(ann, now).is_empty());
    assert_eq!(fetches.take(bob, now).len(), LEAST_WINDOW / LEAST_SIZE);
    // Who does not answer begins anew.
    assert_eq!(fetches.on_time(now + 10 * LIMITS.timeout), [ann, bob]);
    assert_eq!(fetches.peers[&ann].window, LEAST_WINDOW);
}

proptest! {
    #[test]
    fn counts_are_right_whatever_happens(steps in proptest::collection::vec((0u8..6, 0u64..20, 0usize..4), 0..400)) {
        let (mut fetches, mut now) = (Fetches::new(LIMITS, Keyed::new(&[1; 16])), crate::platform::now());
        let peers: Vec<_> = (0..4).map(|_| PeerId::random()).collect();
        for (step, number, peer) in steps {
            let peer = peers[peer];
            match step {
                0 | 1 => { fetches.told(id(number), peer, claim(300, number), now); }
                2 => { fetches.arrived(id(number), &peer, now); }
                3 => { fetches.missing(id(number), peer); }
                4 => { now += Duration::from_millis(number * 20); fetches.on_time(now); fetches.take(peer, now); }
                _ => fetches.gone(peer, now),
            }
            for (peer, announcer) in &fetches.peers {
                let claims = fetches.wanted.values().filter(|w| w.claims.iter().any(|(p, _)| p == peer));
                prop_assert_eq!(announcer.claims.len(), claims.count());
                let is_ready = |id: &&ShortId| fetches.wanted[*id].state == State::Ready;
                let ready: HashSet<_> = announcer.ready.iter().map(|(_, id)| *id).collect();
                prop_assert!(announcer.claims.iter().filter(is_ready).all(|id| ready.contains(id)));
                let requested = fetches.wanted.values().filter(|w| w.state.asks(peer));
                prop_assert_eq!(announcer.requested_bytes, requested.count() * 300);
            }
        }
    }
}

/// Announces as many as it may.
fn fills(fetches: &mut Fetches, from: u64, now: Instant) -> PeerId {
    let peer = PeerId::random();
    let most = LIMITS.max_announced as u64;
    for number in from * most..(from + 1) * most {
        fetches.told(id(number), peer, claim(1, 1), now);
    }
    peer
}

#[test]
fn a_few_who_announce_as_much_as_they_may_keep_nobody_out() {
    let (mut fetches, now) = (
        Fetches::new(MUCH, Keyed::new(&[1; 16])),
        crate::platform::now(),
    );
    let liars: Vec<_> = (0..12).map(|from| fills(&mut fetches, from, now)).collect();
    assert!(fetches.claims <= LIMITS.max_claims);
    let (honest, begin) = (PeerId::random(), 1 << 32);
    for number in begin..begin + 50 {
        fetches.told(id(number), honest, claim(1, 9), now);
    }
    let later = now + LIMITS.patience;
    fetches.on_time(later);
    assert_eq!(fetches.take(honest, later).len(), 50);
    for liar in liars {
        assert!(fetches.peers[&liar].claims.len() > LIMITS.max_announced / 4);
    }
}

#[test]
fn liars_who_come_first_do_not_hide_who_has_it() {
    let (mut fetches, now) = (
        Fetches::new(LIMITS, Keyed::new(&[1; 16])),
        crate::platform::now(),
    );
    let liars: Vec<_> = (0..20).map(|_| PeerId::random()).collect();
    let honest = PeerId::random();
    for peer in liars.iter().chain([&honest]) {
        fetches.told(id(1), *peer, claim(10, 1), now);
    }
    let at = now + LIMITS.patience;
    fetches.on_time(at);
    let asks_honest = (0..=liars.len()).any(|_| {
        for liar in &liars {
            if !fetches.take(*liar, at).is_empty() {
                fetches.missing(id(1), *liar);
            }
        }
        !fetches.take(honest, at).is_empty()
    });
    assert!(asks_honest);
}

#[test]
fn what_is_asked_again_has_its_whole_time() {
    let (mut fetches, now) = (
        Fetches::new(LIMITS, Keyed::new(&[1; 16])),
        crate::platform::now(),
    );
    let peer = PeerId::random();
    fetches.told(id(1), peer, claim(10, 1), now);
    let first = now + LIMITS.patience;
    fetches.on_time(first);
    assert_eq!(fetches.take(peer, first).len(), 1);
    let again = first + LIMITS.timeout / 2;
    fetches.ask_again(&peer);
    assert_eq!(fetches.take(peer, again).len(), 1);
    assert!(fetches.on_time(first + LIMITS.timeout).is_empty());
    assert_eq!(fetches.on_time(again + LIMITS.timeout), [peer]);
}

#[test]
fn who_loses_its_claims_and_announces_them_again_fills_no_heap() {
    let limits = Limits {
        max_claims: LIMITS.max_announced,
        ..LIMITS
    };
    let (mut fetches, mut now) = (
        Fetches::new(limits, Keyed::new(&[1; 16])),
        crate::platform::now(),
    );
    let (full, most) = (PeerId::random(), LIMITS.max_announced as u64);
    for round in 0..40 {
        for number in 0..most {
            fetches.told(id(number), full, claim(1, 1), now);
        }
        now += LIMITS.patience;
        fetches.on_time(now);
        let ready = fetches.peers[&full].ready.len();
        assert!(ready <= 2 * LIMITS.max_announced + 1, "{ready}");
        let newcomer = PeerId::random();
        fetches.told(id(most + round), newcomer, claim(1, 1), now);
        assert!(fetches.peers[&full].claims.len() < LIMITS.max_announced);
        fetches.gone(newcomer, now);
    }
}

#[test]
fn who_comes_anew_has_what_was_held_against_it() {
    let (mut fetches, now) = (
        Fetches::new(LIMITS, Keyed::new(&[1; 16])),
        crate::platform::now(),
    );
    let peer = PeerId::random();
    let silences = |fetches: &mut Fetches, at: Instant, number| {
        fetches.told(id(number), peer, claim(1, 1), at);
        fetches.on_time(at + LIMITS.patience);
        fetches.take(peer, at + LIMITS.patience);
        fetches.on_time(at + LIMITS.patience + LIMITS.timeout).len()
    };
    let at = now + LIMITS.timeout * 100;
    assert_eq!(silences(&mut fetches, at, 1 << 32), 1);
    let since = at + LIMITS.patience + LIMITS.timeout;
    fetches.gone(peer, since);
    fetches.told(id(1 << 33), peer, claim(1, 1), since);
    assert_eq!(fetches.peers[&peer].blamed, Some(since));
}
