//! Duties with a clock of the test's own.

use proptest::prelude::*;

use super::*;
use crate::platform::{self, test};

fn address(port: usize) -> Multiaddr {
    format!("/ip4/192.0.2.1/tcp/{port}")
        .parse()
        .expect("an address")
}

fn due(peer: PeerId) -> Due {
    Due {
        peer,
        addresses: vec![address(1)],
    }
}

fn second(now: Instant, seconds: u64) -> Instant {
    now + Duration::from_secs(seconds)
}

const MINUTE: Duration = Duration::from_secs(60);

/// A duty of one peer that begins in five minutes and lasts one.
fn one() -> (Duties, PeerId, Instant) {
    let (peer, now) = (PeerId::random(), platform::now());
    let mut duties = Duties::new(PeerId::random(), 10);
    let expected = duties.expect([due(peer)], MINUTE * 5, MINUTE, now);
    assert_eq!(expected, Ok(()));
    (duties, peer, now)
}

fn relieved(peer: PeerId, dialled: bool, dialling: bool) -> Relieved {
    Relieved {
        peer,
        dialled,
        dialling,
    }
}

fn nobody(_: &PeerId) -> bool {
    false
}

#[test]
fn a_peer_is_dialled_ahead_of_its_duty_and_kept_until_that_is_over() {
    let (mut duties, peer, now) = one();
    let early = second(now, 269);
    assert!(duties.begin(early).is_empty() && duties.due(9, nobody, early).is_empty());
    assert!(!duties.is_on_duty(&peer));
    let ahead = second(now, 270);
    assert_eq!(duties.begin(ahead), [peer]);
    assert!(duties.is_on_duty(&peer));
    assert!(duties.begin(ahead).is_empty(), "it is told once");
    assert!(duties.due(9, |_| true, ahead).is_empty(), "it is here");
    assert_eq!(duties.due(9, nobody, ahead), [due(peer)]);
    assert!(
        duties.due(9, nobody, ahead).is_empty(),
        "it is being dialled"
    );
    duties.connected(&peer, true, ahead);
    duties.ready(&peer);
    assert!(duties.end(second(now, 359)).is_empty());
    assert_eq!(duties.end(second(now, 360)), [relieved(peer, true, false)]);
    assert!(!duties.is_on_duty(&peer));
    assert!(duties.end(second(now, 999)).is_empty());
}

#[test]
fn who_fails_or_goes_is_dialled_again_at_growing_pauses_and_who_says_when_is_left_alone() {
    let (mut duties, peer, now) = one();
    let mut now = second(now, 270);
    duties.begin(now);
    for pause in [1, 2, 4, 8, 8] {
        assert_eq!(duties.due(9, nobody, now).len(), 1);
        duties.failed(&peer, now);
        let soon = second(now, pause) - Duration::from_millis(1);
        assert!(duties.due(9, nobody, soon).is_empty(), "{pause}");
        now = second(now, pause);
    }
    assert_eq!(duties.due(9, nobody, now).len(), 1);
    duties.connected(&peer, true, now);
    duties.gone(&peer, now);
    assert!(
        duties.due(9, nobody, second(now, 7)).is_empty(),
        "it was not let in"
    );
    now = second(now, 8);
    assert_eq!(duties.due(9, nobody, now).len(), 1);
    duties.connected(&peer, true, now);
    duties.ready(&peer);
    duties.gone(&peer, now);
    duties.waits(&peer, Duration::from_secs(20), now);
    assert!(duties.due(9, nobody, second(now, 19)).is_empty());
    assert_eq!(duties.due(9, nobody, second(now, 20)).len(), 1);
    duties.failed(&peer, second(now, 20));
    assert_eq!(duties.end(now + MINUTE * 5), [relieved(peer, false, false)]);
}

#[test]
fn who_is_there_and_does_not_let_us_in_is_asked_once_a_minute_in_the_end() {
    let (peer, now) = (PeerId::random(), platform::now());
    let mut duties = Duties::new(PeerId::random(), 10);
    let expected = duties.expect([due(peer)], Duration::ZERO, LONGEST, now);
    assert_eq!(expected, Ok(()));
    duties.begin(now);
    let mut now = now;
    let turns_away = |duties: &mut Duties, now: &mut Instant, pause| {
        assert_eq!(duties.due(9, nobody, *now).len(), 1);
        duties.connected(&peer, true, *now);
        duties.gone(&peer, *now);
        let soon = second(*now, pause) - Duration::from_millis(1);
        assert!(duties.due(9, nobody, soon).is_empty(), "{pause}");
        *now = second(*now, pause);
    };
    // At first it may be full for a moment.
    for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
        turns_away(&mut duties, &mut now, pause);
    }
    // Nor does it come sooner for not answering once.
    assert_eq!(duties.due(9, nobody, now).len(), 1);
    duties.failed(&peer, now);
    now = second(now, 60);
    turns_away(&mut duties, &mut now, 60);
    assert_eq!(duties.due(9, nobody, now).len(), 1);
    duties.connected(&peer, true, now);
    duties.ready(&peer);
    duties.gone(&peer, now);
    assert_eq!(duties.due(9, nobody, second(now, 1)).len(), 1, "it is lost");
}

#[test]
fn who_is_announced_again_is_dialled_no_sooner_for_that() {
    let (mut duties, peer, now) = one();
    let again = |duties: &mut Duties, now| {
        let expected = duties.expect([due(peer)], Duration::ZERO, MINUTE, now);
        assert_eq!(expected, Ok(()));
        duties.begin(now);
        duties.due(9, nobody, now).len()
    };
    // Before its duty began it said that it is full.
    duties.waits(&peer, Duration::from_secs(20), now);
    assert_eq!(again(&mut duties, second(now, 19)), 0);
    let mut now = second(now, 20);
    for pause in [1, 2, 4, 8, 8] {
        assert_eq!(again(&mut duties, now), 1);
        duties.failed(&peer, now);
        let soon = second(now, pause) - Duration::from_millis(1);
        assert_eq!(again(&mut duties, soon), 0, "{pause}");
        now = second(now, pause);
    }
    assert_eq!(again(&mut duties, now), 1);
    duties.connected(&peer, true, now);
    duties.waits(&peer, MINUTE * 60, now);
    duties.gone(&peer, now);
    assert_eq!(again(&mut duties, now + MINUTE * 59), 0);
    assert_eq!(again(&mut duties, now + MINUTE * 60), 1);
}

#[test]
fn only_who_came_by_a_dial_for_its_duty_was_dialled_for_it() {
    for (outbound, comes_first, is_ours) in [
        (true, false, true),
        (false, false, false),
        (true, true, false),
    ] {
        let (mut duties, peer, now) = one();
        let now = now + MINUTE * 5;
        duties.begin(now);
        assert_eq!(duties.due(9, nobody, now).len(), 1);
        if comes_first {
            duties.connected(&peer, false, now);
        }
        duties.connected(&peer, outbound, now);
        // Another connection of it changes nothing.
        duties.connected(&peer, false, now);
        let is_over = duties.end(now + MINUTE);
        assert_eq!(is_over, [relieved(peer, is_ours, false)]);
    }
    let (mut duties, peer, now) = one();
    duties.begin(now + MINUTE * 5);
    assert_eq!(duties.due(9, nobody, now + MINUTE * 5).len(), 1);
    let is_over = duties.end(now + MINUTE * 6);
    assert_eq!(is_over, [relieved(peer, false, true)]);
}

#[test]
fn whose_duty_is_over_takes_no_place_and_may_have_another() {
    let (first, second, now) = (PeerId::random(), PeerId::random(), platform::now());
    let mut duties = Duties::new(PeerId::random(), 1);
    let expect = |duties: &mut Duties, peer, begins_in, now| {
        let expected = duties.expect([due(peer)], begins_in, MINUTE, now);
        assert_eq!(expected, Ok(()));
    };
    expect(&mut duties, first, Duration::ZERO, now);
    assert_eq!(duties.begin(now), [first]);
    // Nobody has noted yet that it is over. One that goes on without a gap is relieved at its very end only.
    let now = now + MINUTE;
    expect(&mut duties, first, Duration::ZERO, now);
    assert!(duties.end(now).is_empty() && duties.is_on_duty(&first));
    let now = now + MINUTE;
    expect(&mut duties, first, MINUTE * 5, now);
    assert_eq!(duties.end(now), [relieved(first, false, false)]);
    assert!(duties.begin(now).is_empty() && !duties.is_on_duty(&first));
    let now = now + MINUTE * 6;
    expect(&mut duties, second, Duration::ZERO, now);
    assert_eq!(duties.end(now), [relieved(first, false, false)]);
    assert_eq!(duties.begin(now), [second]);
}

#[test]
fn only_as_many_are_dialled_at_once_as_there_is_room_for() {
    let (peers, now) = ([(); 3].map(|()| PeerId::random()), platform::now());
    let mut duties = Duties::new(PeerId::random(), 9);
    let expected = duties.expect(peers.map(due), Duration::ZERO, MINUTE, now);
    assert_eq!(expected, Ok(()));
    duties.begin(now);
    let first = duties.due(2, nobody, now);
    assert_eq!(first.len(), 2);
    assert!(duties.due(2, nobody, now).is_empty());
    duties.connected(&first[0].peer, true, now);
    let is_here = |peer: &PeerId| *peer == first[0].peer;
    assert!(duties.due(1, is_here, now).is_empty());
    assert_eq!(duties.due(2, is_here, now).len(), 1);
}

#[test]
fn several_duties_of_a_peer_are_one_and_it_is_dialled_where_it_was_last_said_to_be() {
    let (mut duties, peer, now) = one();
    let at = |ports: std::ops::Range<usize>| Due {
        peer,
        addresses: ports.map(address).collect(),
    };
    let sooner = duties.expect([at(0..20), at(1..2)], Duration::ZERO, MINUTE, now);
    assert_eq!(sooner, Ok(()));
    assert_eq!(duties.begin(now), [peer]);
    let [dialled] = &duties.due(9, nobody, now)[..] else {
        panic!("it is due at once");
    };
    let expected: Vec<_> = (5..20).chain([1]).map(address).collect();
    assert_eq!(dialled.addresses, expected);
    assert!(duties.end(second(now, 359)).is_empty());
    assert_eq!(duties.end(second(now, 360)).len(), 1);
}

#[test]
fn what_is_too_much_is_refused_and_leaves_no_trace() {
    let (own, now) = (PeerId::random(), platform::now());
    let mut duties = Duties::new(own, 2);
    let [first, second, third] = [(); 3].map(|()| PeerId::random());
    let zero = Duration::ZERO;
    for far in [HORIZON + Duration::from_millis(1), Duration::MAX] {
        let refused = duties.expect([due(first)], far, MINUTE, now);
        assert_eq!(refused, Err(DutyError::TooFar));
    }
    for lasts in [zero, LONGEST + Duration::from_millis(1), Duration::MAX] {
        let refused = duties.expect([due(first)], zero, lasts, now);
        assert_eq!(refused, Err(DutyError::Length));
    }
    assert_eq!(duties.expect([due(first)], zero, MINUTE, now), Ok(()));
    let refused = duties.expect([due(second), due(third)], zero, MINUTE, now);
    assert_eq!(refused, Err(DutyError::Peers(2)));
    assert_eq!(duties.peers.len(), 1);
    // Those that are there already, named twice, and this node itself take no place.
    let named = [due(first), due(second), due(second), due(own)];
    assert_eq!(duties.expect(named, zero, MINUTE, now), Ok(()));
    assert_eq!(duties.peers.len(), 2);
    assert_eq!(Duties::new(own, usize::MAX).most, MAX_ON_DUTY);
    // At the furthest moment, for the longest time, but of nobody.
    assert_eq!(duties.expect([], HORIZON, LONGEST, now), Ok(()));
}

#[derive(Clone, Debug)]
enum Step {
    Expect(usize, u64, u64),
    Failed(usize),
    Connected(usize, bool),
    Gone(usize),
    Waits(usize, u64),
    Later(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let peer = 0..4_usize;
    prop_oneof![
        (peer.clone(), 0..4000_u64, 0..4000_u64)
            .prop_map(|(peer, begins, lasts)| Step::Expect(peer, begins, lasts)),
        peer.clone().prop_map(Step::Failed),
        (peer.clone(), any::<bool>()).prop_map(|(peer, outbound)| Step::Connected(peer, outbound)),
        peer.clone().prop_map(Step::Gone),
        (peer, 0..100_u64).prop_map(|(peer, time)| Step::Waits(peer, time)),
        (0..2000_u64).prop_map(Step::Later),
    ]
}

proptest! {
    /// Whatever happens: there are never too many, who is dialled is on duty, and in the end nobody is left.
    #[test]
    fn duties_end(steps in proptest::collection::vec(step(), 0..60)) {
        let peers = [(); 4].map(|()| PeerId::random());
        let mut now = platform::now();
        let mut duties = Duties::new(PeerId::random(), 3);
        let mut on_duty = std::collections::BTreeSet::new();
        for step in steps {
            match step {
                Step::Expect(peer, begins, lasts) => {
                    let [begins_in, lasts] = [begins, lasts].map(Duration::from_secs);
                    let _ = duties.expect([due(peers[peer])], begins_in, lasts, now);
                }
                Step::Failed(peer) => duties.failed(&peers[peer], now),
                Step::Connected(peer, outbound) => duties.connected(&peers[peer], outbound, now),
                Step::Gone(peer) => duties.gone(&peers[peer], now),
                Step::Waits(peer, time) => duties.waits(&peers[peer], Duration::from_secs(time), now),
                Step::Later(time) => now = second(now, time),
            }
            for peer in duties.begin(now) {
                prop_assert!(on_duty.insert(peer));
            }
            for due in duties.due(9, nobody, now) {
                prop_assert!(duties.is_on_duty(&due.peer));
            }
            for relieved in duties.end(now) {
                on_duty.remove(&relieved.peer);
                prop_assert!(!duties.is_on_duty(&relieved.peer));
            }
            prop_assert!(duties.peers.len() <= 3);
            prop_assert!(on_duty.iter().all(|peer| duties.is_on_duty(peer)));
        }
        now = now + HORIZON + LONGEST;
        duties.end(now);
        prop_assert!(duties.peers.is_empty());
    }
}
