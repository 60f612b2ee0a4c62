//! Blocks that come to a node from well-behaved and slow peers, step by step.

use std::time::Duration;

use bytes::Bytes;

use super::actions::Action;
use super::choice::Form;
use super::config::CompactConfig;
use super::message::{Announcement, BlockMessage, GetBlock, Transactions, WholeBlock};
use super::test_chain::{
    Bench, announcement, bench, block, compact, get, pool, transactions, whole, words,
};
use crate::chain::Block;
use crate::chain::{Checked, ItemId};
use crate::platform::test;

fn missing(transactions: &[Bytes], indexes: &[usize]) -> BlockMessage {
    BlockMessage::Transactions(Transactions {
        id: block(transactions).0,
        transactions: indexes
            .iter()
            .map(|index| transactions[*index].clone())
            .collect(),
    })
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn an_announced_block_comes_in_compact_form_with_what_is_missing() {
    let mut bench = bench();
    let peers = [bench.peer(true), bench.peer(false)];
    let all = transactions(1, 10);
    bench.pool = pool(&all[..8]);
    let asked = bench.receive(peers[0], announcement(&all));
    assert_eq!(words(&peers, &asked), ["0 request for a block Compact"]);
    let asked = bench.receive(peers[0], compact(&all));
    assert_eq!(
        words(&peers, &asked),
        ["0 request for missing transactions"]
    );
    let got = bench.receive(peers[0], missing(&all, &[8, 9]));
    assert_eq!(
        words(&peers, &got),
        ["1 announcement", "0 high-bandwidth mode true"]
    );
    assert_eq!(bench.core.next_deadline(), None);
    assert_eq!(
        bench.core.high_bandwidth_peers().collect::<Vec<_>>(),
        [&peers[0]]
    );
    // What this node lacked, its peers probably lack as well.
    bench.receive(peers[1], BlockMessage::HighBandwidth(true));
    let sent = bench.receive(peers[1], get(&block(&all).0, Form::Compact));
    let [
        Action::Send {
            message: BlockMessage::Compact(compact),
            ..
        },
    ] = sent.as_slice()
    else {
        panic!("{sent:?}");
    };
    assert_eq!(
        compact
            .prefilled()
            .iter()
            .map(|it| it.index)
            .collect::<Vec<_>>(),
        [0, 8, 9]
    );
}

#[test]
fn who_asks_for_missing_transactions_takes_the_whole_block_too() {
    let mut bench = bench();
    let peers = [bench.peer(true), bench.peer(false)];
    let all = transactions(1, 10);
    bench.pool = pool(&all[..8]);
    bench.receive(peers[0], announcement(&all));
    let asked = bench.receive(peers[0], compact(&all));
    assert_eq!(
        words(&peers, &asked),
        ["0 request for missing transactions"]
    );
    let got = bench.receive(peers[0], whole(&all));
    assert_eq!(
        words(&peers, &got),
        ["1 announcement", "0 high-bandwidth mode true"]
    );
    assert_eq!(bench.core.next_deadline(), None);
}

#[test]
fn a_silent_peer_gets_company_from_the_other_side_first_and_pays_in_the_end() {
    let mut bench = bench();
    let peers: Vec<_> = (0..6).map(|place| bench.peer(place == 3)).collect();
    let all = transactions(1, 10);
    for (place, peer) in peers.iter().enumerate() {
        let asked = bench.receive(*peer, announcement(&all));
        assert_eq!(asked.is_empty(), place > 0);
    }
    let patience = CompactConfig::default().patience;
    assert_eq!(bench.core.next_deadline(), Some(bench.now + patience));
    assert!(bench.wait(patience - SECOND / 1000).is_empty());
    let asked = bench.wait(SECOND / 1000);
    let whom = |asked: &[Action]| {
        let words = words(&peers, asked).into_iter();
        words.map(|it| it[..1].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(whom(&asked), ["3", "1", "2"], "three at a time");
    assert_eq!(bench.core.next_deadline(), Some(bench.now + patience));
    assert_eq!(whom(&bench.wait(patience)), ["4", "5"]);
    assert!(bench.wait(patience).is_empty(), "nobody is left");
    let give_up_after = 20 * SECOND;
    assert_eq!(
        bench.core.next_deadline(),
        Some(bench.now + give_up_after - 3 * patience)
    );
    let given_up = bench.wait(give_up_after - 3 * patience);
    assert_eq!(words(&peers, &given_up), ["0 NoAnswer"]);
    let given_up = bench.wait(patience);
    let expected = ["1 NoAnswer", "2 NoAnswer", "3 NoAnswer"];
    assert_eq!(words(&peers, &given_up), expected);
    // It comes late, but in time.
    bench.pool = pool(&all);
    let got = bench.receive(peers[4], compact(&all));
    let mut got = words(&peers, &got);
    got.sort();
    let expected = [
        "0 announcement",
        "1 announcement",
        "2 announcement",
        "3 announcement",
        "4 high-bandwidth mode true",
    ];
    assert_eq!(got, expected, "those that were given up may not have it");
    assert_eq!(bench.core.next_deadline(), None);
    // Answers after the block is here cost nobody anything.
    for place in [0, 1, 2, 3, 5] {
        assert!(bench.receive(peers[place], compact(&all)).is_empty());
    }
    // Who had let us wait is asked after others, and before others when it has answered.
    let next = transactions(2, 10);
    for peer in &peers {
        bench.receive(*peer, announcement(&next));
    }
    bench.wait(patience);
    let last = transactions(3, 10);
    let asked = |bench: &mut Bench, all: &[Bytes]| {
        let told = [1, 4].map(|place| bench.receive(peers[place], announcement(all)));
        whom(&told.concat())
    };
    bench.make(&next);
    assert_eq!(
        asked(&mut bench, &last),
        ["1"],
        "nobody else has told of it yet"
    );
    assert_eq!(whom(&bench.wait(patience)), ["4"]);
}

#[test]
fn an_answer_to_an_earlier_question_is_let_go() {
    let mut bench = bench();
    let peers = [bench.peer(true)];
    let all = transactions(1, 10);
    bench.pool = pool(&all[..8]);
    bench.receive(peers[0], compact(&all));
    assert_eq!(words(&peers, &bench.wait(20 * SECOND)), ["0 NoAnswer"]);
    let asked = bench.receive(peers[0], announcement(&all));
    assert_eq!(words(&peers, &asked), ["0 request for a block Compact"]);
    assert!(bench.receive(peers[0], missing(&all, &[8, 9])).is_empty());
    let asked = bench.receive(peers[0], compact(&all));
    assert_eq!(
        words(&peers, &asked),
        ["0 request for missing transactions"]
    );
    let got = bench.receive(peers[0], missing(&all, &[8, 9]));
    assert_eq!(words(&peers, &got), ["0 high-bandwidth mode true"]);
}

#[test]
fn a_source_that_goes_is_replaced_at_once() {
    let mut bench = bench();
    let peers = [bench.peer(true), bench.peer(true)];
    let all = transactions(1, 10);
    bench.receive(peers[0], announcement(&all));
    bench.receive(peers[1], announcement(&all));
    let next = bench.core.peer_gone(&peers[0], bench.now);
    assert_eq!(words(&peers, &next), ["1 is to be asked"]);
    assert!(bench.core.peer_gone(&peers[1], bench.now).is_empty());
    assert_eq!(bench.core.next_deadline(), None, "nobody is left");
    assert!(
        bench.receive(peers[0], announcement(&all)).is_empty(),
        "a stranger is ignored"
    );
}

#[test]
fn only_one_compact_block_at_a_time_costs_a_request() {
    let mut bench = bench();
    let peers = [bench.peer(true), bench.peer(true)];
    let all = transactions(1, 10);
    bench.pool = pool(&all[..8]);
    let asked = bench.receive(peers[0], compact(&all));
    assert_eq!(
        words(&peers, &asked),
        ["0 request for missing transactions"]
    );
    assert!(bench.receive(peers[1], compact(&all)).is_empty());
    assert_eq!(
        words(&peers, &bench.wait(2 * SECOND)),
        ["1 request for a block Compact"]
    );
    // Another one that needs nothing more is put to use at once.
    bench.pool = pool(&all);
    let third = bench.peer(false);
    let peers = [peers[0], peers[1], third];
    let got = bench.receive(third, compact(&all));
    assert_eq!(words(&peers, &got), ["2 high-bandwidth mode true"]);
}

#[test]
fn compact_blocks_that_come_during_the_header_check_are_tried_in_turn() {
    let mut bench = bench();
    let peers = [bench.peer(true), bench.peer(true), bench.peer(true)];
    let all = transactions(1, 10);
    bench.pool = pool(&all[..9]);
    bench.keeps = |action| matches!(action, Action::CheckHeader(_));
    let check = bench.receive(peers[0], compact(&all));
    assert!(
        bench.receive(peers[1], compact(&all)).is_empty(),
        "one check for one header"
    );
    let (id, _, parts) = block(&all);
    let prefilled = super::CompactBlock::new(id, &parts, 9, 1000, |index, _| index == 9).unwrap();
    assert!(
        bench
            .receive(peers[2], BlockMessage::Compact(prefilled))
            .is_empty()
    );
    bench.keeps = |_| false;
    let got = bench.settle(check);
    let expected = [
        "0 request for missing transactions",
        "2 high-bandwidth mode true",
    ];
    let got: Vec<_> = words(&peers, &got);
    assert_eq!(got, expected, "the third had what was missing");
}

#[test]
fn opaque_blocks_are_announced_by_identity_and_travel_whole() {
    let mut bench = bench();
    let peers = [bench.peer(true), bench.peer(true)];
    let data = Bytes::from_static(b"opaque");
    let id = ItemId::sha256(&data);
    let sent = bench.core.accepted(
        id.clone(),
        Block::new(data.clone()),
        None,
        0,
        Some(peers[0]),
        bench.now,
    );
    let sent = bench.settle(sent);
    let [Action::Send { message, .. }, _] = sent.as_slice() else {
        panic!("{sent:?}");
    };
    let header = Bytes::new();
    assert_eq!(
        *message,
        BlockMessage::Announcement(Announcement {
            id: id.clone(),
            header
        })
    );
    let served = bench.receive(peers[1], get(&id, Form::Compact));
    assert_eq!(words(&peers, &served), ["1 whole block"]);

    // The other side; its chain has the trait's defaults.
    let mut other = self::bench();
    let peers = [other.peer(true)];
    other.keeps = |_| true;
    let actions = other.receive(peers[0], message.clone());
    let [Action::CheckHeader(check)] = actions.as_slice() else {
        panic!("{actions:?}");
    };
    let ignored = Checked::ignore(b"", "this chain does not check headers alone");
    let actions = other
        .core
        .header_checked(check.clone(), &ignored, other.now);
    assert_eq!(words(&peers, &actions), ["0 is to be asked"]);
    let request = other.core.next_request(&peers[0], other.now);
    assert_eq!(request, Some(get(&id, Form::Whole)));
    let actions = other.receive(
        peers[0],
        BlockMessage::Whole(WholeBlock {
            id: id.clone(),
            data,
        }),
    );
    let [Action::CheckBlock(check)] = actions.as_slice() else {
        panic!("{actions:?}");
    };
    let actions = other
        .core
        .block_checked(check.clone(), &Checked::accept(id), None, 0, other.now);
    let actions = other.settle(actions);
    assert_eq!(words(&peers, &actions), ["0 high-bandwidth mode true"]);
}

#[test]
fn blocks_that_are_not_for_now_are_dropped_without_blame() {
    let mut bench = bench();
    let peers = [bench.peer(true)];
    let header = Bytes::from_static(&[b'I'; 33]);
    let id = ItemId::sha256(&header);
    let ignored = BlockMessage::Announcement(Announcement { id, header });
    assert!(bench.receive(peers[0], ignored.clone()).is_empty());
    assert!(bench.receive(peers[0], ignored).is_empty());
    assert_eq!(bench.core.next_deadline(), None);
}

#[test]
fn a_block_that_was_accepted_and_forgotten_is_not_fetched_again() {
    let config = CompactConfig {
        max_recent_blocks: 2,
        ..CompactConfig::default()
    };
    let mut bench = Bench::new(config);
    let peers = [bench.peer(true)];
    let (id, _) = bench.make(&transactions(1, 10));
    bench.make(&transactions(2, 10));
    bench.make(&transactions(3, 10));
    let answer = bench.receive(peers[0], get(&id, Form::Compact));
    assert_eq!(words(&peers, &answer), ["0 not found"]);
    assert!(
        bench
            .receive(peers[0], announcement(&transactions(1, 10)))
            .is_empty()
    );
    assert!(
        bench
            .receive(peers[0], compact(&transactions(1, 10)))
            .is_empty()
    );
    assert!(
        bench
            .receive(peers[0], whole(&transactions(1, 10)))
            .is_empty()
    );
}

#[test]
fn a_block_from_elsewhere_ends_its_download() {
    let mut bench = bench();
    let peers = [bench.peer(true), bench.peer(true)];
    let all = transactions(1, 10);
    bench.receive(peers[0], announcement(&all));
    let (_, sent) = bench.make(&all);
    assert_eq!(words(&peers, &sent), ["1 announcement"], "the first has it");
    assert_eq!(bench.core.next_deadline(), None);
    assert!(
        bench.receive(peers[0], compact(&all)).is_empty(),
        "late, but asked for"
    );
}

#[test]
fn a_burst_from_one_peer_comes_block_by_block() {
    let mut bench = bench();
    let peer = bench.peer(true);
    let all: Vec<_> = (0..20).map(|seed| transactions(seed, 3)).collect();
    let mut sent: Vec<_> = all
        .iter()
        .flat_map(|all| bench.receive(peer, announcement(all)))
        .collect();
    let mut came = 0;
    while let Some(action) = sent.pop() {
        let Action::Send { message, .. } = action else {
            panic!("{action:?}");
        };
        if let BlockMessage::GetBlock(GetBlock { id, .. }) = message {
            let transactions = all.iter().find(|it| block(it).0 == id).unwrap();
            sent.extend(bench.receive(peer, whole(transactions)));
            assert!(bench.core.is_accepted(&id));
            came += 1;
        }
        assert!(
            bench
                .core
                .next_deadline()
                .is_none_or(|at| at <= bench.now + 20 * SECOND)
        );
        sent.extend(bench.wait(Duration::ZERO));
    }
    assert_eq!(came, 20);
    assert_eq!(bench.core.next_deadline(), None);
}
