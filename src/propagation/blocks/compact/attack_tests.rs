//! How would you attack this? Each answer is a test.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use proptest::prelude::*;

use super::actions::Action;
use super::choice::Form;
use super::config::CompactConfig;
use super::message::{
    Announcement, BlockMessage, GetBlock, MissingTransactions, Transactions, WholeBlock,
};
use super::test_chain::{
    Bench, TestChain, announcement, answer as answer_check, bench, block, compact, get, is_check,
    pool, transactions, whole, words,
};
use crate::chain::ItemId;
use crate::chain::TransactionKey;
use crate::platform::test;

fn id(transactions: &[Bytes]) -> ItemId {
    block(transactions).0
}

fn answer(id: ItemId, transactions: &[Bytes]) -> BlockMessage {
    let transactions = transactions.to_vec();
    BlockMessage::Transactions(Transactions { id, transactions })
}

#[test]
fn an_announcement_that_does_not_match_costs_the_liar_and_does_not_hide_the_block() {
    let mut bench = bench();
    let peers = [bench.peer(true), bench.peer(true), bench.peer(true)];
    let (one, other) = (transactions(1, 10), transactions(2, 10));
    let header = block(&other).2.header;
    let lie = BlockMessage::Announcement(Announcement {
        id: id(&one),
        header,
    });
    assert_eq!(
        words(&peers, &bench.receive(peers[0], lie)),
        ["0 InvalidItem"]
    );
    let forged = Announcement {
        id: id(&one),
        header: Bytes::from_static(b"forged"),
    };
    // While the forged header is checked, the true one comes.
    bench.keeps = |action| matches!(action, Action::CheckHeader(_));
    let mut checks = bench.receive(peers[1], BlockMessage::Announcement(forged));
    checks.extend(bench.receive(peers[2], announcement(&one)));
    bench.keeps = |_| false;
    let settled = bench.settle(checks);
    assert_eq!(
        words(&peers, &settled),
        ["1 InvalidItem", "2 request for a block Compact"]
    );
}

#[test]
fn a_liar_about_a_header_pays_even_if_the_block_came_from_elsewhere_meanwhile() {
    let mut bench = bench();
    let peers = [bench.peer(true)];
    let all = transactions(1, 10);
    bench.keeps = |action| matches!(action, Action::CheckHeader(_));
    let forged = Announcement {
        id: id(&all),
        header: Bytes::from_static(b"forged"),
    };
    let check = bench.receive(peers[0], BlockMessage::Announcement(forged));
    bench.make(&all);
    bench.keeps = |_| false;
    assert_eq!(words(&peers, &bench.settle(check)), ["0 InvalidItem"]);
}

#[test]
fn wrong_answers_cost_their_sender_and_the_next_peer_is_asked() {
    let all = transactions(1, 10);
    let wrong: [&[Bytes]; 4] = [&[], &all[8..9], &all[7..9], &transactions(2, 2)];
    for wrong in wrong {
        let mut bench = bench();
        let peers = [bench.peer(true), bench.peer(true)];
        bench.pool = pool(&all[..8]);
        bench.receive(peers[0], compact(&all));
        bench.receive(peers[1], announcement(&all));
        let after = bench.receive(peers[0], answer(id(&all), wrong));
        assert_eq!(
            words(&peers, &after),
            ["0 InvalidMessage", "1 request for a block Compact"]
        );
    }
}

#[test]
fn transactions_and_blocks_that_nobody_asked_for_cost_their_sender() {
    let mut bench = bench();
    let peers = [bench.peer(true)];
    let all = transactions(1, 10);
    let sent = bench.receive(peers[0], answer(id(&all), &all));
    assert_eq!(words(&peers, &sent), ["0 InvalidMessage"]);
    bench.receive(peers[0], announcement(&all));
    let sent = bench.receive(peers[0], answer(id(&all), &all));
    assert_eq!(
        words(&peers, &sent),
        ["0 InvalidMessage"],
        "the block was asked for"
    );
    let garbage = WholeBlock {
        id: ItemId::sha256(b"x"),
        data: Bytes::from_static(b"garbage"),
    };
    let sent = bench.receive(peers[0], BlockMessage::Whole(garbage));
    assert_eq!(words(&peers, &sent), ["0 InvalidItem"]);
    let data = block(&all).1.data;
    let renamed = WholeBlock {
        id: ItemId::sha256(b"x"),
        data,
    };
    let sent = bench.receive(peers[0], BlockMessage::Whole(renamed));
    assert_eq!(
        words(&peers, &sent),
        ["0 InvalidItem"],
        "a valid block under a wrong name"
    );
}

/// A pool in which a transaction's key leads to other bytes: what a collision of short ids looks like.
fn colliding_pool(all: &[Bytes]) -> super::test_chain::Pool {
    let mut pool = pool(all);
    pool.insert(
        TransactionKey::of(&all[5]),
        Bytes::from_static(b"another transaction"),
    );
    pool
}

#[test]
fn a_collision_costs_nobody_anything_and_the_whole_block_comes_from_the_same_peer() {
    let mut bench = bench();
    let peers = [bench.peer(true), bench.peer(true)];
    let all = transactions(1, 10);
    bench.pool = colliding_pool(&all);
    let after = bench.receive(peers[0], compact(&all));
    assert_eq!(words(&peers, &after), ["0 request for a block Whole"]);
    let after = bench.receive(peers[0], whole(&all));
    assert_eq!(
        words(&peers, &after),
        ["1 announcement", "0 high-bandwidth mode true"]
    );
}

#[test]
fn only_a_wrong_whole_block_is_punished() {
    let mut bench = bench();
    let peers = [bench.peer(true), bench.peer(true)];
    let all = transactions(1, 10);
    bench.pool = colliding_pool(&all);
    bench.receive(peers[0], compact(&all));
    bench.receive(peers[1], announcement(&all));
    let data = block(&transactions(2, 10)).1.data;
    let wrong = BlockMessage::Whole(WholeBlock { id: id(&all), data });
    let after = bench.receive(peers[0], wrong);
    assert_eq!(
        words(&peers, &after),
        ["0 InvalidItem", "1 request for a block Compact"]
    );
    // The verdict over a whole block finds the right one even after the block came from elsewhere.
    let mut bench = self::bench();
    let peers = [bench.peer(true)];
    bench.keeps = |action| matches!(action, Action::CheckBlock(_));
    let data = Bytes::from_static(b"wrong");
    let check = bench.receive(
        peers[0],
        BlockMessage::Whole(WholeBlock { id: id(&all), data }),
    );
    bench.make(&all);
    bench.keeps = |_| false;
    assert_eq!(words(&peers, &bench.settle(check)), ["0 InvalidItem"]);
}

#[test]
fn a_block_whose_transactions_are_invalid_costs_those_who_passed_it_on_early_nothing() {
    let mut bench = bench();
    let peers = [bench.peer(true)];
    let mut all = transactions(1, 10);
    all[4] = Bytes::from_static(b"invalid");
    bench.pool = pool(&all);
    let after = bench.receive(peers[0], compact(&all));
    assert_eq!(words(&peers, &after), ["0 request for a block Whole"]);
    let after = bench.receive(peers[0], BlockMessage::NotFound(id(&all)));
    assert!(after.is_empty() && bench.core.next_deadline().is_none());
}

#[test]
fn telling_of_a_block_twice_is_too_much() {
    let mut bench = bench();
    let peers = [bench.peer(true)];
    let all = transactions(1, 10);
    bench.receive(peers[0], announcement(&all));
    for again in [announcement(&all), whole(&all)] {
        assert_eq!(
            words(&peers, &bench.receive(peers[0], again))[..1],
            ["0 TooManyMessages"][..]
        );
        bench = self::bench();
        bench.core.peer_connected(peers[0], true);
        bench.make(&all);
        assert!(
            bench.receive(peers[0], compact(&all)).is_empty(),
            "we told it, and it told us"
        );
    }
    let after = bench.receive(peers[0], compact(&all));
    assert_eq!(words(&peers, &after), ["0 TooManyMessages"]);
}

#[test]
fn each_form_of_a_block_is_served_once_to_a_peer() {
    let mut bench = bench();
    let peers = [bench.peer(true)];
    let (id, _) = bench.make(&transactions(1, 10));
    let requests = [
        (get(&id, Form::Compact), "0 compact block"),
        (get(&id, Form::Whole), "0 whole block"),
        (
            BlockMessage::GetTransactions(MissingTransactions {
                id: id.clone(),
                indexes: vec![0, 9],
            }),
            "0 missing transactions",
        ),
    ];
    for (request, served) in &requests {
        assert_eq!(
            words(&peers, &bench.receive(peers[0], request.clone())),
            [*served]
        );
    }
    for (request, _) in requests {
        assert_eq!(
            words(&peers, &bench.receive(peers[0], request)),
            ["0 TooManyMessages"]
        );
    }
    let unknown = bench.receive(peers[0], get(&ItemId::sha256(b"unknown"), Form::Whole));
    assert_eq!(words(&peers, &unknown), ["0 not found"]);
}

#[test]
fn indexes_that_a_block_does_not_have_are_refused() {
    let mut bench = bench();
    let peers = [bench.peer(true), bench.peer(true)];
    let (id, _) = bench.make(&transactions(1, 10));
    let missing = |id, indexes| BlockMessage::GetTransactions(MissingTransactions { id, indexes });
    let refused = bench.receive(peers[0], missing(id, vec![0, 10]));
    assert_eq!(words(&peers, &refused), ["0 InvalidMessage"]);
    let opaque = ItemId::sha256(b"opaque");
    bench.core.accepted(
        opaque.clone(),
        crate::chain::Block::new("opaque"),
        None,
        0,
        None,
        bench.now,
    );
    let refused = bench.receive(peers[1], missing(opaque, vec![0]));
    assert_eq!(words(&peers, &refused), ["1 InvalidMessage"]);
}

#[test]
fn an_announcement_that_is_not_served_costs_a_little() {
    let mut bench = bench();
    let peers = [bench.peer(true), bench.peer(true)];
    let all = transactions(1, 10);
    bench.receive(peers[0], announcement(&all));
    bench.receive(peers[1], announcement(&all));
    let after = bench.receive(peers[0], BlockMessage::NotFound(id(&all)));
    assert_eq!(
        words(&peers, &after),
        ["0 NoAnswer", "1 request for a block Compact"]
    );
    assert!(
        bench
            .receive(peers[0], BlockMessage::NotFound(id(&all)))
            .is_empty(),
        "unasked"
    );
}

#[test]
fn one_peer_fills_its_own_places_and_inbound_peers_leave_some_to_outbound_ones() {
    let mut bench = bench();
    let inbound: Vec<_> = (0..3).map(|_| bench.peer(false)).collect();
    let outbound = bench.peer(true);
    let mut asked = 0;
    for seed in 0..30 {
        for peer in &inbound {
            asked += bench
                .receive(*peer, announcement(&transactions(seed, 3)))
                .len();
        }
    }
    assert_eq!(asked, 3, "all three told of the same three first");
    let told = |bench: &mut Bench, peer, seed| {
        bench
            .receive(peer, announcement(&transactions(seed, 3)))
            .len()
    };
    let late = bench.peer(false);
    assert_eq!(
        (told(&mut bench, late, 40), told(&mut bench, late, 41)),
        (1, 1)
    );
    assert_eq!(told(&mut bench, late, 42), 0, "one is left to others");
    let last = bench.peer(false);
    assert_eq!(told(&mut bench, last, 43), 1, "six of eight places");
    assert_eq!(
        (
            told(&mut bench, outbound, 44),
            told(&mut bench, outbound, 45)
        ),
        (1, 1)
    );
    assert_eq!(told(&mut bench, outbound, 46), 0, "all places");
    // When the silent ones are given up, there is room again.
    let mut now = Duration::ZERO;
    while bench.core.next_deadline().is_some() {
        bench.wait(Duration::from_secs(1));
        now += Duration::from_secs(1);
        assert!(now < Duration::from_secs(200));
    }
    assert_eq!(told(&mut bench, late, 50), 1);
}

#[test]
fn two_inbound_peers_do_not_hold_all_places_that_there_are_for_their_kind() {
    let mut bench = bench();
    let holders = [bench.peer(false), bench.peer(false)];
    for seed in 0..40 {
        let holder = holders[usize::try_from(seed % 2).unwrap()];
        bench.receive(holder, announcement(&transactions(seed, 3)));
    }
    let honest = bench.peer(false);
    let asked = bench.receive(honest, announcement(&transactions(100, 3)));
    assert_eq!(words(&[honest], &asked), ["0 request for a block Compact"]);
}

#[test]
fn a_block_that_was_announced_is_expected_of_its_teller_after_it_has_waited_too() {
    let mut bench = bench();
    let peer = bench.peer(true);
    let all: Vec<_> = (0..20).map(|seed| transactions(seed, 3)).collect();
    for all in &all[..5] {
        bench.receive(peer, announcement(all));
    }
    // The fifth waited for a place.
    let after = bench.receive(peer, whole(&all[0]));
    assert!(
        words(&[peer], &after).contains(&"0 request for a block Compact".to_owned()),
        "{after:?}"
    );
    let after = bench.receive(peer, BlockMessage::NotFound(id(&all[4])));
    assert_eq!(words(&[peer], &after), ["0 NoAnswer"]);
    // Of what it told of long before others it may have nothing left.
    for all in &all[5..] {
        bench.receive(peer, announcement(all));
    }
    let after = bench.receive(peer, whole(&all[1]));
    assert!(
        words(&[peer], &after).contains(&"0 request for a block Compact".to_owned()),
        "{after:?}"
    );
    let after = bench.receive(peer, BlockMessage::NotFound(id(&all[6])));
    assert_eq!(words(&[peer], &after), ["0 request for a block Compact"]);
}

#[test]
fn who_has_nothing_of_what_it_tells_of_pays_however_much_it_tells_of() {
    let mut bench = bench();
    let peer = bench.peer(false);
    let (mut asked, mut paid) = (VecDeque::new(), 0);
    let mut told = 0;
    while told < 100 {
        let mut after = bench.receive(peer, announcement(&transactions(told, 3)));
        told += 1;
        // It answers late, so that it has told of many others since.
        if told > 8
            && let Some(id) = asked.pop_front()
        {
            after.extend(bench.receive(peer, BlockMessage::NotFound(id)));
        }
        for action in after {
            match action {
                Action::Send {
                    message: BlockMessage::GetBlock(GetBlock { id, .. }),
                    ..
                } => asked.push_back(id),
                Action::Misdeed { .. } => paid += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(paid, 92 - 16, "its word is taken now and then");
}

#[test]
fn what_was_told_of_long_before_others_were_made_may_be_gone() {
    let mut bench = bench();
    let peer = bench.peer(false);
    bench.receive(peer, announcement(&transactions(1, 3)));
    for seed in 0..CompactConfig::default().surely_kept() {
        bench.make(&transactions(100 + seed, 3));
    }
    let after = bench.receive(peer, BlockMessage::NotFound(id(&transactions(1, 3))));
    assert!(after.is_empty(), "whatever it tells of: {after:?}");
}

#[test]
fn many_inbound_sources_leave_room_for_an_outbound_one() {
    let mut bench = bench();
    let all = transactions(1, 10);
    let mut peers: Vec<_> = (0..20).map(|_| bench.peer(false)).collect();
    for peer in &peers {
        bench.receive(*peer, announcement(&all));
    }
    peers.push(bench.peer(true));
    assert!(bench.receive(peers[20], announcement(&all)).is_empty());
    let asked = bench.wait(Duration::from_millis(500));
    assert_eq!(words(&peers, &asked)[0], "20 request for a block Compact");
}

#[test]
fn a_compact_block_for_which_there_is_no_room_is_asked_for_whole() {
    let config = CompactConfig {
        max_held_bytes: 500,
        ..CompactConfig::default()
    };
    let mut bench = Bench::new(config);
    let peers = [bench.peer(true)];
    let all = transactions(1, 100);
    let asked = bench.receive(peers[0], compact(&all));
    assert_eq!(words(&peers, &asked), ["0 request for a block Compact"]);
    let asked = bench.receive(peers[0], compact(&all));
    assert_eq!(words(&peers, &asked), ["0 request for a block Whole"]);
    assert_eq!(
        words(&peers, &bench.receive(peers[0], whole(&all))),
        ["0 high-bandwidth mode true"]
    );
}

#[test]
fn a_check_that_is_never_answered_holds_nobody_up_for_ever() {
    let mut bench = bench();
    let peers = [bench.peer(true), bench.peer(true)];
    let all = transactions(1, 10);
    bench.pool = pool(&all);
    bench.keeps = |action| matches!(action, Action::Join(_));
    bench.receive(peers[0], compact(&all));
    bench.receive(peers[1], announcement(&all));
    assert!(bench.wait(Duration::from_secs(19)).is_empty());
    let asked = bench.wait(Duration::from_secs(1));
    assert_eq!(
        words(&peers, &asked),
        ["1 request for a block Compact"],
        "and nobody pays"
    );
}

#[test]
fn other_bytes_under_a_blocks_identity_do_not_end_its_download_nor_withdraw_it() {
    let all = transactions(1, 10);
    let ignored = [&b"I"[..], &block(&all).1.data[1..]].concat();
    for data in [Bytes::from(ignored), Bytes::from_static(b"rejected")] {
        let mut bench = bench();
        let peers = [bench.peer(true), bench.peer(true), bench.peer(true)];
        bench.receive(peers[2], BlockMessage::HighBandwidth(true));
        bench.pool = pool(&all);
        bench.receive(peers[0], announcement(&all));
        bench.keeps = |action| matches!(action, Action::CheckBlock(_));
        let bad = WholeBlock { id: id(&all), data };
        let bad = bench.receive(peers[1], BlockMessage::Whole(bad));
        let mut good = bench.receive(peers[0], compact(&all));
        let check = good.pop();
        assert_eq!(words(&peers, &good), ["2 compact block"]);
        bench.keeps = |_| false;
        let after = bench.settle(bad);
        let blamed: Vec<_> = words(&peers, &after);
        assert!(
            blamed.is_empty() || blamed == ["1 InvalidItem"],
            "{blamed:?}"
        );
        let missing = MissingTransactions {
            id: id(&all),
            indexes: vec![1],
        };
        let served = bench.receive(peers[2], BlockMessage::GetTransactions(missing));
        assert_eq!(words(&peers, &served), ["2 missing transactions"]);
        let after = bench.settle(check.into_iter().collect());
        let words = words(&peers, &after);
        assert!(
            words.contains(&"0 high-bandwidth mode true".to_owned()),
            "{words:?}"
        );
        assert!(
            !words.iter().any(|words| words.starts_with('2')),
            "it has it: {words:?}"
        );
    }
}

/// One step of a random life: who, what, about which block.
type Step = (usize, u8, u64, u8);

fn message(kind: u8, all: &[Bytes], detail: u8) -> BlockMessage {
    let some = usize::from(detail % 10);
    match kind {
        0 => announcement(all),
        1 => compact(all),
        2 => whole(all),
        3 => answer(id(all), &all[8..]),
        4 => answer(id(all), &all[some..]),
        5 => get(
            &id(all),
            if detail.is_multiple_of(2) {
                Form::Whole
            } else {
                Form::Compact
            },
        ),
        6 => BlockMessage::GetTransactions(MissingTransactions {
            id: id(all),
            indexes: vec![some, some + 5],
        }),
        7 => BlockMessage::NotFound(id(all)),
        8 => BlockMessage::HighBandwidth(detail.is_multiple_of(2)),
        9 => BlockMessage::Announcement(Announcement {
            id: id(all),
            header: Bytes::new(),
        }),
        10 => compact(&all[some..]),
        _ => BlockMessage::Whole(WholeBlock {
            id: id(all),
            data: Bytes::from_static(b"wrong"),
        }),
    }
}

proptest! {
    #[test]
    fn a_random_life_ends_in_peace(
        steps in prop::collection::vec((0usize..4, 0u8..18, 0u64..4, any::<u8>()), 0..120),
        pooled in 0usize..=10,
    ) {
        let config = CompactConfig { max_recent_blocks: 2, max_in_progress: 3, ..CompactConfig::default() };
        let mut bench = Bench::new(config);
        let peers: Vec<_> = (0..4).map(|place| bench.peer(place == 0)).collect();
        let mut kept: Vec<Action> = Vec::new();
        let steps: Vec<Step> = steps;
        for (peer, kind, seed, detail) in steps {
            let peer = peers[peer];
            let mut all = transactions(seed, 10);
            if seed == 3 { all[4] = Bytes::from_static(b"invalid"); }
            bench.pool = pool(&all[..pooled]);
            // Checks are kept back and answered later, in any order, or never.
            bench.keeps = is_check;
            let actions = match kind {
                12 => { bench.make(&all).1 }
                13 => bench.core.peer_gone(&peer, bench.now),
                14 => { bench.core.peer_connected(peer, detail.is_multiple_of(2)); Vec::new() }
                15 => bench.wait(Duration::from_millis(u64::from(detail) * 50)),
                16 | 17 if !kept.is_empty() => {
                    let check = kept.swap_remove(usize::from(detail) % kept.len());
                    answer_check(&TestChain, &mut bench.core, check, &bench.pool, bench.now)
                }
                16 | 17 => Vec::new(),
                kind => bench.core.receive(peer, message(kind, &all, detail), bench.now),
            };
            kept.extend(actions.into_iter().filter(is_check));
        }
        // Nothing is waited for for ever, and a deadline that has passed is not set again.
        for _ in 0..100 {
            let Some(deadline) = bench.core.next_deadline() else {
                prop_assert_eq!(bench.core.in_progress(), 0);
                return Ok(());
            };
            prop_assert!(bench.core.in_progress() <= 3);
            bench.now = bench.now.max(deadline);
            bench.core.on_time(bench.now);
            prop_assert!(bench.core.next_deadline().is_none_or(|next| next > bench.now));
        }
        prop_assert!(false, "it never ends");
    }
}
