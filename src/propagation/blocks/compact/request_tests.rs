//! How far requests have got: answers to what is not wanted any more, and peers that read nothing. In virtual time.

use std::time::Duration;

use libp2p::PeerId;

use super::actions::Action;
use super::choice::Form;
use super::config::CompactConfig;
use super::message::BlockMessage;
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
fn who_reads_nothing_is_asked_after_others_from_then_on() {
    let mut bench = unread();
    let peers = [bench.peer(true), bench.peer(false)];
    let first = transactions(1, 10);
    for peer in &peers {
        bench.receive(*peer, announcement(&first));
    }
    let others = bench.wait(CompactConfig::default().patience);
    assert_eq!(words(&peers, &others), ["1 is to be asked"]);
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
    assert_eq!(words(&peers, &asked), ["1 is to be asked"]);
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
    let mut bench = unread();
    let peers = [bench.peer(true), bench.peer(false)];
    let all = transactions(1, 10);
    let kept_back = |bench: &mut Bench| peers.iter().for_each(|peer| bench.core.kept_back(peer));
    for peer in &peers {
        bench.receive(*peer, announcement(&all));
    }
    // What there was room for says nothing of who reads.
    kept_back(&mut bench);
    let patience = CompactConfig::default().patience;
    bench.wait(patience);
    bench.core.kept_back(&peers[0]);
    let late = bench.wait(CompactConfig::default().give_up_after * 3);
    assert_eq!(words(&peers, &late), ["1 NoAnswer"]);
    assert_eq!(bench.core.in_progress(), 0);
    for peer in &peers {
        assert!(!bench.core.has_request(peer), "it is not wanted any more");
        assert_eq!(bench.core.next_request(peer, bench.now), None);
    }
}

#[test]
fn who_has_a_block_is_not_sent_what_it_waited_for() {
    for settles in [false, true] {
        let mut bench = bench();
        let [maker, waits] = [bench.peer(true), bench.peer(false)];
        let all = transactions(1, 10);
        bench.pool = super::test_chain::pool(&all);
        bench.keeps = |action| matches!(action, Action::CheckBlock(_));
        let checks = bench.receive(maker, compact(&all));
        let id = block(&all).0;
        assert!(bench.receive(waits, get(&id, Form::Whole)).is_empty());
        if settles {
            bench.receive(waits, BlockMessage::Settled(id));
        }
        let served = |action: &Action, to: PeerId| matches!(action, Action::Send { peer, message: BlockMessage::Whole(_), .. } if *peer == to);
        let mut after = Vec::new();
        for check in checks {
            let chain = &super::test_chain::TestChain;
            let actions = answer(chain, &mut bench.core, check, &bench.pool, bench.now);
            after.extend(bench.settle(actions));
        }
        let is_sent = after.iter().any(|action| served(action, waits));
        assert_eq!(is_sent, !settles);
    }
}
