//! Sync in virtual time: what it brings, how fast, and what liars get.

mod contests;
mod liars;
mod network;
mod phases;
#[path = "../../../../tests/support/small_chain.rs"]
mod small_chain;
mod vectors;

use self::{
    network::Network,
    small_chain::{PANIC, SmallChain, block, header},
};
use std::{cell::Cell, rc::Rc};

use super::*;
use crate::{
    chain::{ChainStore, ItemId},
    platform::test,
};

const MAX_BLOCK: usize = 4 << 20;
const MEGABYTE: f64 = 1e6;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Whether a node has another chain's tip.
fn has(network: &Network, place: usize, chain: &SmallChain) -> bool {
    network.chain(place).tip() == chain.tip()
}

/// A network in which the first node, with nothing, is connected to these at so many bytes a second, 25 ms away.
fn sources(seed: u8, chain: &SmallChain, rates: &[f64]) -> Network {
    let mut network = Network::new(seed);
    let sink = network.node(SmallChain::default());
    for rate in rates {
        let source = network.node(chain.fork(chain.tip().height));
        network.link(sink, source, millis(25), *rate);
    }
    network
}

#[test]
fn a_new_node_gets_all_blocks_in_order() {
    let chain = SmallChain::of(5000, 300);
    let mut network = sources(1, &chain, &[10.0 * MEGABYTE]);
    let took = network.run_until(seconds(60), |network| has(network, 0, &chain));
    assert!(took.is_some(), "{:?}", network.chain(0).tip());
    assert_eq!(network.chain(0).appended(), 5000);
    assert!(network.nodes[0].misdeeds.is_empty());
    network.run_for(seconds(3));
    let last = network.nodes[0].statuses.last().expect("it is told");
    assert_eq!((last.tip.height, last.target), (5000, None));
    assert!(
        network.nodes[0]
            .statuses
            .iter()
            .any(|status| status.target == Some(5000))
    );
}

#[test]
fn small_blocks_over_a_long_line_do_not_wait_for_each_other() {
    let chain = SmallChain::of(20_000, 300);
    let mut network = Network::new(2);
    let sink = network.node(SmallChain::default());
    let source = network.node(chain.fork(20_000));
    network.link(sink, source, millis(100), 100.0 * MEGABYTE);
    let took = network.run_until(seconds(600), |network| has(network, 0, &chain));
    let took = took.expect("it is done").as_secs_f64();
    let times = 20_000.0 * 0.2 / took;
    assert!(times >= 500.0, "{times} times as fast as one at a time");
}

// Only natively: seconds there, many in a browser, which adds nothing.
#[core::prelude::v1::test]
fn three_sources_bring_almost_three_times_as_much_as_one() {
    let chain = SmallChain::of(1000, 100_000);
    let took = |rates: &[f64]| {
        let mut network = sources(3, &chain, rates);
        let took = network.run_until(seconds(600), |network| has(network, 0, &chain));
        let sent: Vec<_> = (1..=rates.len())
            .map(|source| network.sent(source, 0))
            .collect();
        // What is asked for twice is little.
        assert!(sent.iter().sum::<usize>() < 101 * 1_100_000, "{sent:?}");
        took.expect("it is done").as_secs_f64()
    };
    let five = 5.0 * MEGABYTE;
    let (one, three) = (took(&[five]), took(&[five; 3]));
    assert!(one / three >= 2.7, "{one} s, {three} s");
}

// Only natively: seconds there, many in a browser, which adds nothing.
#[core::prelude::v1::test]
fn a_source_that_stalls_at_the_end_holds_nobody_up() {
    let chain = SmallChain::of(1000, 100_000);
    let five = 5.0 * MEGABYTE;
    let mut network = sources(4, &chain, &[five; 4]);
    let most = network.run_until(seconds(600), |network| network.chain(0).tip().height >= 600);
    assert!(most.is_some());
    network.rate(1, 0, 1.0);
    let at_99 = network.run_until(seconds(600), |network| network.chain(0).tip().height >= 990);
    let end = network.run_until(seconds(600), |network| has(network, 0, &chain));
    let (at_99, end) = (at_99.expect("it comes"), end.expect("it comes"));
    let share = (end - at_99).as_secs_f64() / end.as_secs_f64();
    assert!(share <= 0.05, "the last 1% took {share} of {end:?}");
    assert!(end < seconds(12), "{end:?}");
}

#[test]
fn headers_that_are_lost_on_their_way_are_asked_for_again_and_nobody_pays() {
    let chain = SmallChain::of(100, 1000);
    let mut network = Network::new(9);
    let sink = network.node(SmallChain::default());
    let asked = Rc::new(Cell::new(0));
    let count = Rc::clone(&asked);
    let slow = network.other(Box::new(move |_, kind| {
        count.set(count.get() + u32::from(matches!(kind, Kind::GetHeaders(_))));
        Vec::new()
    }));
    network.link(sink, slow, millis(10), MEGABYTE);
    network.tell(slow, sink, Kind::Status(wire::Status::new(&chain.tip(), 0)));
    network.run_for(seconds(5));
    assert_eq!(asked.get(), 1);
    network.lose(slow, sink);
    network.run_for(seconds(1));
    assert_eq!(asked.get(), 2);
    // The first time is over.
    network.run_for(seconds(5));
    assert!(network.nodes[sink].misdeeds.is_empty());
}

// Only natively: seconds there, many in a browser, which adds nothing.
#[core::prelude::v1::test]
fn large_blocks_come_in_pieces_and_the_buffer_has_its_bound() {
    let chain = SmallChain::of(60, 1_500_000);
    let mut network = Network::new(5);
    let config = SyncConfig {
        max_buffer_bytes: 8 << 20,
        ..SyncConfig::default()
    };
    let sink = network.node_with(SmallChain::default(), config);
    for _ in 0..4 {
        let source = network.node(chain.fork(60));
        network.link(sink, source, millis(50), 20.0 * MEGABYTE);
    }
    let took = network.run_until(seconds(120), |network| has(network, 0, &chain));
    assert!(took.is_some(), "{:?}", network.chain(0).tip());
    let held = network.nodes[sink].held;
    // Each open answer may go over what was asked for by one block.
    assert!(held <= (8 << 20) + 8 * 1_500_000, "{held}");
    assert!(network.nodes[sink].misdeeds.is_empty());
}

#[test]
fn a_node_follows_the_tip_and_catches_up_after_a_pause() {
    let chain = SmallChain::of(100, 300);
    let mut network = sources(6, &chain, &[MEGABYTE; 2]);
    network.run_until(seconds(20), |network| has(network, 0, &chain));
    // It comes by propagation.
    let next = block(&chain.tip(), 0, b"the next");
    chain.put(&next);
    network.chain(1).put(&next);
    network.offer(0, &next, Some(1));
    network.run_for(millis(10));
    assert!(has(&network, 0, &chain));
    // Away while others go on.
    network.unlink(0, 1);
    network.unlink(0, 2);
    for _ in 0..5 {
        let next = block(&chain.tip(), 0, b"unseen");
        chain.put(&next);
        network.chain(1).put(&next);
        network.offer(1, &next, None);
    }
    network.run_for(seconds(10));
    network.link(0, 1, millis(25), MEGABYTE);
    let took = network.run_until(seconds(5), |network| has(network, 0, &chain));
    assert!(took.is_some(), "{:?}", network.chain(0).tip());
}

#[test]
fn nothing_is_asked_for_what_comes_by_itself() {
    let chain = SmallChain::of(10, 300);
    let mut network = sources(13, &chain, &[MEGABYTE; 3]);
    network.run_until(seconds(20), |network| has(network, 0, &chain));
    network.run_for(seconds(5));
    let asked = |network: &Network| match &network.nodes[0].actor {
        network::Actor::Node { sync, .. } => sync.next_number,
        network::Actor::Other(_) => 0,
    };
    let before = asked(&network);
    for _ in 0..20 {
        let next = block(&chain.tip(), 0, b"by itself");
        chain.put(&next);
        for source in 1..=3 {
            network.offer(source, &next, None);
        }
        // Some statuses come before the block, some after it.
        network.run_for(millis(40));
        network.offer(0, &next, Some(1));
        network.run_for(seconds(2));
    }
    assert!(has(&network, 0, &chain));
    assert_eq!(asked(&network), before);
}

#[test]
fn a_block_without_its_parent_brings_the_parent() {
    let chain = SmallChain::of(10, 300);
    let mut network = sources(7, &chain, &[MEGABYTE]);
    network.run_until(seconds(20), |network| has(network, 0, &chain));
    // The first one of these is lost on its way here.
    for number in 0..3 {
        let next = block(&chain.tip(), 0, b"one of three");
        chain.put(&next);
        network.chain(1).put(&next);
        network.offer(1, &next, None);
        if number > 0 {
            network.offer(0, &next, Some(1));
        }
    }
    let took = network.run_until(seconds(1), |network| has(network, 0, &chain));
    assert!(took.is_some(), "{:?}", network.chain(0).tip());
}

#[test]
fn a_longer_branch_takes_over() {
    let ours = SmallChain::of(150, 300);
    let theirs = ours.fork(100);
    theirs.grow(80, 1, 300);
    let mut network = Network::new(8);
    let sink = network.node(ours.clone());
    let source = network.node(theirs.clone());
    network.link(sink, source, millis(10), MEGABYTE);
    let took = network.run_until(seconds(10), |network| has(network, sink, &theirs));
    assert!(took.is_some(), "{:?}", network.chain(sink).tip());
    // The shorter one is looked at, and left.
    network.run_for(seconds(10));
    assert!(has(&network, source, &theirs));
    assert!(network.nodes.iter().all(|node| node.misdeeds.is_empty()));
}

#[test]
fn a_branch_that_is_better_no_more_when_its_blocks_are_here_is_left() {
    let ours = SmallChain::of(100, 3000);
    let theirs = ours.fork(90);
    theirs.grow(11, 1, 3000);
    let mut network = Network::new(15);
    let sink = network.node(ours.clone());
    let source = network.node(theirs);
    // The 11 blocks take three seconds, after one in which they may come by themselves.
    network.link(sink, source, millis(10), 0.01 * MEGABYTE);
    network.run_for(millis(1500));
    assert!(network.core(sink).branch.is_some(), "it is followed");
    for _ in 0..10 {
        let next = block(&ours.tip(), 0, b"by itself");
        network.offer(sink, &next, None);
        network.run_for(millis(10));
    }
    network.run_for(seconds(20));
    assert_eq!(network.chain(sink).appended(), 10, "and none of theirs");
    assert_eq!(ours.tip().height, 110);
    assert!(network.nodes[sink].misdeeds.is_empty());
}

#[test]
fn a_branch_that_stays_longer_while_both_chains_grow_is_taken() {
    let ours = SmallChain::of(100, 3000);
    let theirs = ours.fork(90);
    theirs.grow(14, 1, 3000);
    let mut network = Network::new(15);
    let sink = network.node(ours.clone());
    let source = network.node(theirs.clone());
    // These blocks take longer than its lead lasts.
    network.link(sink, source, millis(10), 0.008 * MEGABYTE);
    let is_taken = || ours.id_at(91) == theirs.id_at(91);
    for _ in 0..60 {
        if is_taken() {
            break;
        }
        for (node, chain, branch) in [(source, &theirs, 1), (sink, &ours, 0)] {
            let next = block(&chain.tip(), branch, &[0; 3000]);
            network.offer(node, &next, None);
            network.run_for(millis(10));
        }
        network.run_for(millis(980));
    }
    assert!(is_taken(), "{:?}", ours.tip());
    assert!(network.nodes[sink].misdeeds.is_empty());
}

#[test]
fn who_lacks_the_blocks_keeps_nobody_from_being_asked() {
    let chain = SmallChain::of(300, 300);
    let mut network = Network::new(26);
    let sink = network.node(SmallChain::default());
    let idle = || -> network::Answers {
        Box::new(|_, kind| {
            let answer = match kind {
                Kind::GetHeaders(request) => Kind::Refusal(wire::Refusal {
                    number: request.number,
                    reason: wire::Reason::NotHere as i32,
                }),
                Kind::GetBlocks(request) => Kind::Blocks(wire::Blocks {
                    number: request.number,
                    ended: request.ids.len() as u64 + 1,
                    ..wire::Blocks::default()
                }),
                _ => return Vec::new(),
            };
            vec![(Duration::ZERO, answer)]
        })
    };
    let idlers: Vec<_> = (0..100).map(|_| network.other(idle())).collect();
    let source = network.node(chain.fork(300));
    let id = network.nodes[source].id;
    let before = idlers.iter().filter(|idler| network.nodes[**idler].id < id);
    assert!(before.count() >= MAX_SOURCES);
    for node in idlers.iter().chain([&source]) {
        network.link(sink, *node, millis(10), MEGABYTE);
    }
    for second in 0..60 {
        for idler in &idlers {
            let mut tip = chain.tip();
            tip.height += second;
            network.tell(*idler, sink, Kind::Status(wire::Status::new(&tip, 0)));
        }
        network.run_for(seconds(1));
    }
    assert!(
        has(&network, sink, &chain),
        "{:?}",
        network.chain(sink).tip()
    );
    assert_eq!(network.nodes[sink].brought, BTreeSet::from([id]));
    assert!(network.nodes[sink].misdeeds.is_empty());
}

#[test]
fn what_forks_right_below_the_lowest_block_is_followed() {
    let ours = SmallChain::of(30, 300);
    let theirs = ours.fork(20);
    theirs.grow(20, 1, 300);
    ours.prune(21);
    let mut network = Network::new(27);
    let sink = network.node(ours);
    let source = network.node(theirs.clone());
    network.link(sink, source, millis(10), MEGABYTE);
    let took = network.run_until(seconds(20), |network| has(network, sink, &theirs));
    assert!(took.is_some(), "{:?}", network.chain(sink).tip());
}

#[test]
fn a_long_branch_that_does_not_fit_in_the_buffer_is_taken_all_the_same() {
    let ours = SmallChain::of(60, 200_000);
    let theirs = ours.fork(0);
    theirs.grow(70, 1, 200_000);
    let mut network = Network::new(16);
    let config = SyncConfig {
        max_buffer_bytes: 4 << 20,
        ..SyncConfig::default()
    };
    let sink = network.node_with(ours, config);
    let source = network.node(theirs.clone());
    network.link(sink, source, millis(10), 10.0 * MEGABYTE);
    let took = network.run_until(seconds(20), |network| has(network, sink, &theirs));
    assert!(took.is_some(), "{:?}", network.chain(sink).tip());
}

#[test]
fn a_branch_that_is_of_no_use_is_left_and_keeps_no_other_out() {
    let ours = SmallChain::of(150, 300);
    ours.finalize(140);
    let theirs = ours.fork(100);
    theirs.grow(300, 1, 300);
    let right = ours.fork(150);
    right.grow(50, 0, 300);
    let mut network = Network::new(14);
    let sink = network.node(ours);
    let other = network.node(theirs);
    let source = network.node(right.clone());
    network.link(sink, other, millis(1), MEGABYTE);
    network.run_for(seconds(1));
    network.link(sink, source, millis(25), MEGABYTE);
    let took = network.run_until(seconds(2), |network| has(network, sink, &right));
    assert!(took.is_some(), "{:?}", network.chain(sink).tip());
    assert!(network.nodes[sink].misdeeds.is_empty());
}

#[test]
fn what_the_disk_does_not_take_is_offered_again() {
    let chain = SmallChain::of(300, 300);
    let mut network = sources(9, &chain, &[MEGABYTE]);
    network.chain(0).fail(3);
    let took = network.run_until(seconds(60), |network| has(network, 0, &chain));
    assert!(took.is_some());
    let statuses = &network.nodes[0].statuses;
    let troubled = |status: &SyncStatus| status.trouble.as_deref() == Some("the disk is full");
    assert!(statuses.iter().any(troubled));
    assert_eq!(statuses.last().expect("some").trouble, None);
    assert!(network.nodes[0].misdeeds.is_empty());
}

#[test]
fn trouble_ends_with_the_next_block_whoever_brings_it() {
    let chain = SmallChain::of(10, 300);
    let mut network = sources(17, &chain, &[MEGABYTE]);
    network.run_until(seconds(20), |network| has(network, 0, &chain));
    network.chain(0).fail(1);
    let next = block(&chain.tip(), 0, b"the next");
    network.offer(0, &next, None);
    network.run_for(millis(10));
    let trouble = |network: &Network| {
        let last = network.nodes[0].statuses.last();
        last.expect("it is told").trouble.clone()
    };
    assert_eq!(trouble(&network).as_deref(), Some("the disk is full"));
    network.run_for(seconds(2));
    network.offer(0, &next, None);
    network.run_for(seconds(2));
    assert_eq!(network.chain(0).tip().height, 11);
    assert_eq!(trouble(&network), None);
    assert_eq!(network.core(0).rested, Duration::ZERO);
}

// Natively alone, as those below: wasm ends with its first panic.
#[core::prelude::v1::test]
fn what_a_panic_leaves_unread_is_asked_for_again_and_nobody_pays() {
    let chain = SmallChain::of(2000, 1000);
    let mut network = sources(18, &chain, &[MEGABYTE]);
    network.run_for(millis(200));
    network.chain(0).panic(1);
    let took = network.run_until(seconds(30), |network| has(network, 0, &chain));
    assert!(took.is_some(), "{:?}", network.chain(0).tip());
    assert!(
        network.nodes[0].misdeeds.is_empty(),
        "{:?}",
        network.nodes[0].misdeeds
    );
}

#[core::prelude::v1::test]
fn a_branch_over_which_the_chain_panics_each_time_is_left() {
    let right = SmallChain::of(50, 300);
    let wrong = right.fork(20);
    wrong.put(&block(&wrong.tip(), 1, PANIC));
    wrong.grow(60, 1, 300);
    let mut network = Network::new(19);
    let sink = network.node(SmallChain::default());
    let first = network.node(wrong);
    let second = network.node(right.clone());
    network.link(sink, first, millis(1), MEGABYTE);
    network.run_for(millis(100));
    network.link(sink, second, millis(25), MEGABYTE);
    let took = network.run_until(seconds(200), |network| has(network, sink, &right));
    assert!(took.is_some(), "{:?}", network.chain(sink).tip());
    assert!(network.nodes[sink].misdeeds.is_empty());
}

#[core::prelude::v1::test]
fn a_branch_over_which_the_chain_panics_is_left_though_the_chain_grows() {
    let right = SmallChain::of(60, 300);
    let wrong = SmallChain::default();
    wrong.put(&block(&wrong.tip(), 1, PANIC));
    wrong.grow(300, 1, 300);
    let mut network = Network::new(28);
    let ours = right.fork(10);
    let sink = network.node(ours.clone());
    let first = network.node(wrong);
    let second = network.node(right.clone());
    network.link(sink, first, millis(1), MEGABYTE);
    network.run_for(millis(500));
    network.link(sink, second, millis(25), MEGABYTE);
    let mut offered = ours.fork(10);
    for _ in 0..30 {
        if has(&network, sink, &right) {
            break;
        }
        let next = right.id_at(ours.tip().height + 1).expect("it is there");
        network.offer(sink, &right.block(&next).expect("it is there"), None);
        network.run_for(seconds(5));
        offered = ours.fork(ours.tip().height);
    }
    assert_eq!(offered.tip(), right.tip());
    assert!(network.nodes[sink].misdeeds.is_empty());
}

#[test]
fn streams_that_are_opened_anew_cost_nobody_anything() {
    let chain = SmallChain::of(3000, 1000);
    let mut network = sources(20, &chain, &[MEGABYTE]);
    for _ in 0..5 {
        network.run_for(millis(300));
        // The connection stays, and what is under way comes.
        network.unlink(0, 1);
        network.link(0, 1, millis(25), MEGABYTE);
    }
    let took = network.run_until(seconds(60), |network| has(network, 0, &chain));
    assert!(took.is_some(), "{:?}", network.chain(0).tip());
    for node in &network.nodes {
        assert!(node.misdeeds.is_empty(), "{:?}", node.misdeeds);
    }
}

#[test]
fn what_is_said_between_two_sessions_costs_nobody_anything() {
    let mut sync = Sync::new(SyncConfig::default(), MAX_BLOCK, &[1; 16]);
    let (peer, now) = (PeerId::random(), crate::platform::now());
    let message = || Kind::Refusal(wire::Refusal::default());
    let pays = |sync: &mut Sync| {
        let actions = std::iter::from_fn(|| sync.action());
        actions
            .filter(|action| matches!(action, Action::Misdeed(..)))
            .count()
    };
    sync.message(peer, message(), now);
    assert_eq!(pays(&mut sync), 1, "nobody has greeted it");
    sync.greeted(peer, wire::VERSION);
    sync.joined(peer, now);
    sync.message(peer, message(), now);
    assert_eq!(pays(&mut sync), 1, "nothing was asked of it");
    sync.gone(peer, now);
    sync.message(peer, message(), now);
    sync.joined(peer, now);
    sync.message(peer, message(), now);
    assert_eq!(pays(&mut sync), 0);
}

#[test]
fn a_store_that_cannot_be_read_is_busy_and_lacks_nothing() {
    let chain = SmallChain::of(10, 300);
    let ids = [chain.id_at(1).expect("it is here")];
    let locator = [small_chain::genesis()];
    chain.lose();
    let peer = PeerId::random();
    let jobs = [
        Job::ServeBlocks(peer, 1, wire::GetBlocks::new(7, &ids, 1000)),
        Job::ServeHeaders(peer, 2, wire::GetHeaders::new(7, &locator)),
    ];
    for job in jobs {
        let Done::Served {
            frames, missing, ..
        } = job.run(&chain)
        else {
            panic!("it serves");
        };
        assert_eq!(frames, [serving::refusal(7, wire::Reason::Busy)]);
        assert_eq!(missing, 0);
    }
}

#[test]
fn what_could_not_be_read_once_is_not_said_to_be_away() {
    let chain = SmallChain::of(10, 300);
    let ids: Vec<_> = [1, 2]
        .map(|height| chain.id_at(height).expect("here"))
        .into();
    let locator = [BlockPlace {
        height: 2,
        id: ids[1].clone(),
    }];
    let peer = PeerId::random();
    let serve = |job: Job| {
        let Done::Served {
            frames, missing, ..
        } = job.run(&chain)
        else {
            panic!("it serves");
        };
        assert_eq!(missing, 0);
        frames
    };
    let whole = || {
        [
            serve(Job::ServeBlocks(
                peer,
                1,
                wire::GetBlocks::new(7, &ids, 1000),
            )),
            serve(Job::ServeHeaders(
                peer,
                2,
                wire::GetHeaders::new(7, &locator),
            )),
        ]
    };
    let [blocks, headers] = whole();
    chain.miss(1);
    assert_eq!(whole(), [blocks.clone(), headers.clone()]);
    let [_, busy] = {
        chain.miss_headers(1);
        whole()
    };
    assert_eq!(busy, [serving::refusal(7, wire::Reason::Busy)]);
    chain.miss(1);
    let job = Job::ServeHeaders(peer, 2, wire::GetHeaders::new(7, &locator));
    assert_eq!(serve(job), headers);
}

#[test]
fn who_has_pruned_is_asked_for_what_it_has() {
    let chain = SmallChain::of(500, 3000);
    let mut network = sources(10, &chain, &[MEGABYTE, 10.0 * MEGABYTE]);
    network.chain(2).prune(400);
    let took = network.run_until(seconds(60), |network| has(network, 0, &chain));
    assert!(took.is_some(), "{:?}", network.chain(0).tip());
    assert!(
        network.nodes[0].misdeeds.is_empty(),
        "{:?}",
        network.nodes[0].misdeeds
    );
}

#[test]
fn nodes_in_a_row_bring_the_chain_to_the_last_one() {
    let chain = SmallChain::of(2000, 1000);
    let mut network = Network::new(11);
    let first = network.node(chain.fork(2000));
    let (second, third) = (
        network.node(SmallChain::default()),
        network.node(SmallChain::default()),
    );
    network.link(first, second, millis(25), 10.0 * MEGABYTE);
    network.link(second, third, millis(25), 10.0 * MEGABYTE);
    let took = network.run_until(seconds(30), |network| has(network, third, &chain));
    assert!(took.is_some(), "{:?}", network.chain(third).tip());
}

#[test]
fn headers_of_the_chain_are_those_of_its_blocks() {
    let chain = SmallChain::of(3, 10);
    let id = chain.id_at(2).expect("it is here");
    let block = chain.block(&id).expect("it is here");
    assert_eq!(chain.headers(2, 1, 1), [header(&block)]);
}

#[test]
fn a_chain_of_headers_may_go_back_and_what_looked_before_headers_came_says_nothing() {
    let (peer, now) = (PeerId::random(), crate::platform::now());
    let place = |height: u64| BlockPlace {
        height,
        id: ItemId::sha256(&height.to_be_bytes()),
    };
    let looked = |height: u64| Chain {
        tip: place(height),
        base: height + 1,
        locator: vec![place(height)],
        keeps_blocks: false,
    };
    let mut sync = Sync::new(SyncConfig::default(), MAX_BLOCK, &[7; 16]);
    let height = |sync: &Sync| sync.tip().map(|tip| tip.height);
    // Headers come while somebody looks.
    sync.judging = Some(peer);
    let judged = job::Judged {
        anchor: None,
        accepted: Vec::new(),
        fault: None,
        is_better: false,
        chain: Some(looked(1000)),
    };
    sync.done(Done::Headers(judged), now);
    let early = Done::Looked {
        chain: looked(0),
        held: Vec::new(),
    };
    sync.done(early, now);
    assert_eq!(height(&sync), Some(1000));
    // The votes have it go back; the next look, for whatever reason, finds that out.
    sync.greeted(peer, wire::VERSION);
    sync.joined(peer, now);
    let status = wire::Status {
        height: 12,
        id: Bytes::copy_from_slice(place(12).id.as_bytes()),
        base: 1,
    };
    sync.frame(peer, Kind::Status(status), Taken::nothing(), now);
    let later = Done::Looked {
        chain: looked(10),
        held: Vec::new(),
    };
    sync.done(later, now);
    assert_eq!(height(&sync), Some(10));
    assert!(sync.asked.contains(&peer), "it leads on");
}
