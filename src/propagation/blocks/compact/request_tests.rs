//! How far requests have got: answers to what is not wanted any more, and peers that read nothing. In virtual time.

use std::time::Duration;

use super::actions::Action;
use super::choice::Form;
use super::config::CompactConfig;
use super::message::{BlockMessage, Transactions};
use super::test_chain::{
    Bench, announcement, answer, bench, block, compact, get, transactions, whole, words,
};
use crate::platform::test;

/// How often the lanes say what has come.
const STEP: Duration = Duration::from_millis(100);

/// Peers that are asked are not told so: they read nothing.
fn unread() -> Bench {
    let mut bench = bench();
    bench.keeps = |action| matches!(action, Action::Ask { .. });
    bench
}

#[test]
fn who_is_still_on_a_block_that_came_another_way_has_not_begun_with_the_next() {
    // 40 s for each.
    const LENGTH: usize = 4 << 20;
    const PACE: usize = LENGTH / 400;
    let mut bench = bench();
    let [slow, other] = [bench.peer(true), bench.peer(false)];
    let blocks = [1, 2].map(|seed| transactions(seed, 10));
    for all in &blocks {
        bench.receive(slow, announcement(all));
    }
    let mut happened = Vec::new();
    for (number, all) in blocks.iter().enumerate() {
        let length = LENGTH + number;
        for step in 1..400 {
            happened.extend(bench.wait(STEP));
            let actions = bench.core.comes(&slow, (PACE * step, length), bench.now);
            happened.extend(bench.settle(actions));
            if number == 0 && step == 100 {
                bench.receive(other, whole(all));
                assert!(bench.core.is_accepted(&block(all).0));
            }
        }
        happened.extend(bench.receive(slow, whole(all)));
        assert!(bench.core.is_accepted(&block(all).0));
    }
    let blamed = happened.extract_if(.., |it| matches!(it, Action::Misdeed { .. }));
    assert_eq!(blamed.count(), 0);
}

#[test]
fn a_late_answer_is_known_as_one_however_much_came_another_way_meanwhile() {
    let mut bench = bench();
    let [slow, other] = [bench.peer(true), bench.peer(false)];
    let first = transactions(0, 10);
    bench.receive(slow, announcement(&first));
    for seed in 1..=20 {
        let all = transactions(seed, 10);
        bench.receive(slow, announcement(&all));
        bench.receive(other, whole(&all));
        assert!(bench.core.is_accepted(&block(&all).0));
    }
    let after = bench.receive(slow, compact(&first));
    let missing = "0 request for missing transactions";
    assert_eq!(words(&[slow], &after), [missing], "it was asked for it");
}

#[test]
fn who_reads_nothing_is_asked_after_others_from_then_on_and_whom_this_node_keeps_back_is_not() {
    for is_kept_back in [false, true] {
        let mut bench = unread();
        let peers = [bench.peer(true), bench.peer(false)];
        let first = transactions(1, 10);
        for peer in &peers {
            bench.receive(*peer, announcement(&first));
        }
        let others = bench.wait(CompactConfig::default().patience);
        assert_eq!(words(&peers, &others), ["1 is to be asked"]);
        if is_kept_back {
            bench.core.kept_back(&peers[0], bench.now);
        }
        bench.core.next_request(&peers[1], bench.now);
        bench.receive(peers[1], whole(&first));
        assert!(bench.core.is_accepted(&block(&first).0));
        // Both tell of the next one before it is known whether its header is good.
        let second = transactions(2, 10);
        let mut checks = Vec::new();
        for peer in &peers {
            checks.extend(bench.core.receive(*peer, announcement(&second), bench.now));
        }
        assert_eq!(words(&peers, &checks), ["check header"]);
        let asked = bench.settle(checks);
        let first = if is_kept_back { "0" } else { "1" };
        assert_eq!(words(&peers, &asked), [format!("{first} is to be asked")]);
    }
}

#[test]
fn a_peer_that_we_dialled_takes_the_place_of_who_reads_nothing_or_says_nothing() {
    for reads in [false, true] {
        let mut bench = if reads { bench() } else { unread() };
        let config = CompactConfig::default();
        let all = transactions(1, 10);
        for _ in 0..config.max_sources {
            let inbound = bench.peer(false);
            bench.receive(inbound, announcement(&all));
        }
        for _ in 0..config.max_sources {
            bench.wait(config.patience);
        }
        let outbound = bench.peer(true);
        let asked = bench.receive(outbound, announcement(&all));
        let expected = if reads {
            "0 request for a block Compact"
        } else {
            "0 is to be asked"
        };
        assert_eq!(words(&[outbound], &asked), [expected]);
    }
}

#[test]
fn whom_this_node_could_not_ask_pays_nothing_and_whoever_read_nothing_does() {
    let config = CompactConfig::default();
    let mut bench = unread();
    let peers = [(); 3].map(|()| bench.peer(true));
    let [reads, read_once, _] = peers;
    let all = transactions(1, 10);
    let kept_back = |bench: &mut Bench, peer| bench.core.kept_back(peer, bench.now);
    for peer in &peers {
        bench.receive(*peer, announcement(&all));
    }
    // What there was room for says nothing of who reads.
    peers.iter().for_each(|peer| kept_back(&mut bench, peer));
    for _ in 0..2 {
        bench.wait(config.patience);
    }
    kept_back(&mut bench, &read_once);
    let mut late = Vec::new();
    for _ in 0..7 {
        kept_back(&mut bench, &reads);
        late.extend(bench.wait(config.give_up_after / 2));
    }
    let mut late = words(&peers, &late);
    late.sort();
    assert_eq!(late, ["1 NoAnswer", "2 NoAnswer"]);
    assert_eq!(bench.core.in_progress(), 0);
    for peer in &peers {
        assert!(!bench.core.has_request(peer), "it is not wanted any more");
        assert_eq!(bench.core.next_request(peer, bench.now), None);
    }
}

/// One that was asked and is silent gives its place to one that we dialled, and answers after that.
#[test]
fn an_answer_is_taken_though_its_source_has_given_its_place_to_another() {
    let config = CompactConfig::default();
    let all = transactions(1, 10);
    for answer in [whole(&all), compact(&all)] {
        let mut bench = bench();
        let inbound: Vec<_> = (0..config.max_sources).map(|_| bench.peer(false)).collect();
        for peer in &inbound {
            bench.receive(*peer, announcement(&all));
        }
        for _ in 0..config.max_sources {
            bench.wait(config.patience);
        }
        let outbound = bench.peer(true);
        bench.receive(outbound, announcement(&all));
        bench.pool = super::test_chain::pool(&all);
        let last = *inbound.last().expect("one of them");
        let actions = bench.receive(last, answer);
        let is_blamed = |action: &Action| matches!(action, Action::Misdeed { .. });
        assert!(!actions.iter().any(is_blamed), "{actions:?}");
        assert!(bench.core.is_accepted(&block(&all).0));
    }
}

#[test]
fn an_answer_is_taken_though_it_was_given_up() {
    let config = CompactConfig::default();
    let all = transactions(1, 10);
    let mut bench = bench();
    let peer = bench.peer(true);
    bench.receive(peer, announcement(&all));
    let late = bench.wait(config.give_up_after);
    assert_eq!(words(&[peer], &late), ["0 NoAnswer"]);
    bench.receive(peer, compact(&all));
    let late = bench.wait(config.give_up_after);
    assert_eq!(words(&[peer], &late), ["0 NoAnswer"]);
    // The compact form went with the source, so the transactions alone are no use; it can still be asked for the whole.
    let data = all[1..].to_vec();
    let id = block(&all).0;
    let answer = BlockMessage::Transactions(Transactions {
        id: id.clone(),
        transactions: data,
    });
    let asked = bench.receive(peer, answer);
    assert_eq!(words(&[peer], &asked), ["0 request for a block Whole"]);
    bench.wait(config.give_up_after);
    assert_eq!(bench.core.in_progress(), 0);
    bench.receive(peer, whole(&all));
    assert!(bench.core.is_accepted(&id));
}

#[test]
fn who_has_a_block_is_not_sent_what_it_waited_for_and_who_has_given_it_up_may_come_again() {
    for settles in [false, true] {
        let mut bench = bench();
        let peers = [bench.peer(true), bench.peer(false)];
        let [maker, waits] = peers;
        let all = transactions(1, 10);
        bench.pool = super::test_chain::pool(&all);
        bench.keeps = |action| matches!(action, Action::CheckBlock(_));
        let checks = bench.receive(maker, compact(&all));
        let id = block(&all).0;
        let ask = get(&id, Form::Whole);
        assert!(bench.receive(waits, ask.clone()).is_empty());
        if settles {
            bench.receive(waits, BlockMessage::Settled(id));
        }
        let mut after = Vec::new();
        for check in checks {
            let chain = &super::test_chain::TestChain;
            let actions = answer(chain, &mut bench.core, check, &bench.pool, bench.now);
            after.extend(bench.settle(actions));
        }
        // Nobody knows which of them it is.
        let expected = if settles {
            ["1 announcement", "1 whole block"]
        } else {
            ["1 whole block", "1 TooManyMessages"]
        };
        let mut after = words(&peers, &after);
        after.retain(|it| it.starts_with('1'));
        after.extend(words(&peers, &bench.receive(waits, ask)));
        assert_eq!(after, expected);
    }
}

#[test]
fn who_sent_a_compact_block_may_say_once_that_its_chain_has_accepted_it() {
    let mut bench = bench();
    let peer = bench.peer(true);
    let all = transactions(1, 10);
    bench.pool = super::test_chain::pool(&all);
    bench.receive(peer, compact(&all));
    assert!(bench.core.is_accepted(&block(&all).0));
    for expected in [&[][..], &["0 TooManyMessages"]] {
        let actions = bench.receive(peer, announcement(&all));
        assert_eq!(words(&[peer], &actions), expected);
    }
}
