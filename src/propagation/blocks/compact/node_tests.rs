//! The state machine of one node among well-behaved and slow peers, step by step.

use std::time::Duration;

use bytes::Bytes;

use super::actions::Action;
use super::choice::Form;
use super::config::CompactConfig;
use super::message::{
    Announcement, BlockMessage, GetBlock, MissingTransactions, Transactions, WholeBlock,
};
use super::test_chain::{Bench, announcement, block, compact, pool, transactions, whole, words};
use crate::chain::Block;
use crate::chain::{BlockParts, Checked, ItemId, Verdict};
use crate::platform::test;

fn bench() -> Bench {
    Bench::new(CompactConfig::default())
}

fn missing(transactions: &[Bytes], indexes: &[usize]) -> BlockMessage {
    BlockMessage::Transactions(Transactions {
        id: block(transactions).0,
        transactions: indexes
            .iter()
            .map(|index| transactions[*index].clone())
            .collect(),
    })
}

fn get(id: &ItemId, form: Form) -> BlockMessage {
    let id = id.clone();
    BlockMessage::GetBlock(GetBlock { id, form })
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
fn peers_that_want_blocks_unasked_get_the_compact_form_and_all_others_the_header() {
    let mut bench = bench();
    let peers = [bench.peer(true), bench.peer(false), bench.peer(false)];
    bench.receive(peers[0], BlockMessage::HighBandwidth(true));
    bench.receive(peers[1], BlockMessage::HighBandwidth(true));
    bench.receive(peers[1], BlockMessage::HighBandwidth(false));
    let (id, sent) = bench.make(&transactions(1, 10));
    let mut told = words(&peers, &sent);
    told.sort();
    assert_eq!(
        told,
        ["0 compact block", "1 announcement", "2 announcement"]
    );
    assert!(
        bench.make(&transactions(1, 10)).1.is_empty(),
        "a block is told of once"
    );
    let served = bench.receive(peers[2], get(&id, Form::Whole));
    assert_eq!(words(&peers, &served), ["2 whole block"]);
}

#[test]
fn a_block_is_passed_on_once_it_is_joined_and_served_whole_once_it_is_accepted() {
    let all = transactions(1, 10);
    for verdict in [Verdict::Accept, Verdict::Ignore, Verdict::Reject] {
        let mut bench = bench();
        let peers = [bench.peer(true), bench.peer(false), bench.peer(false)];
        bench.pool = pool(&all);
        bench.receive(peers[1], BlockMessage::HighBandwidth(true));
        bench.keeps = |action| matches!(action, Action::CheckBlock(_));
        let mut early = bench.receive(peers[0], compact(&all));
        let Some(Action::CheckBlock(check)) = early.pop() else {
            panic!("a block to check");
        };
        assert_eq!(words(&peers, &early), ["1 compact block"]);
        let request = MissingTransactions {
            id: check.id.clone(),
            indexes: vec![3, 4],
        };
        let served = bench.receive(peers[1], BlockMessage::GetTransactions(request));
        assert_eq!(words(&peers, &served), ["1 missing transactions"]);
        assert!(
            bench
                .receive(peers[1], get(&check.id, Form::Whole))
                .is_empty()
        );

        let (id, block, parts) = block(&all);
        let checked = Checked {
            verdict,
            ..Checked::accept(id)
        };
        let parts = Some(parts).filter(|_| verdict == Verdict::Accept);
        let after = bench
            .core
            .block_checked(check, &checked, parts, 0, bench.now);
        let after = bench.settle(after);
        let expected: &[&str] = match verdict {
            Verdict::Accept => &[
                "1 whole block",
                "2 announcement",
                "0 high-bandwidth mode true",
            ],
            Verdict::Ignore => &["1 not found"],
            // Joined and refused: nobody pays, and the whole block is asked for.
            Verdict::Reject => &["1 not found", "0 request for a block Whole"],
        };
        assert_eq!(words(&peers, &after), expected);
        if let [
            Action::Send {
                message: BlockMessage::Whole(whole),
                ..
            },
            ..,
        ] = after.as_slice()
        {
            assert_eq!(whole.data, block.data);
        }
    }
}

#[test]
fn a_silent_peer_gets_company_from_the_other_side_first_and_pays_in_the_end() {
    let mut bench = bench();
    let peers: Vec<_> = (0..5).map(|place| bench.peer(place == 3)).collect();
    let all = transactions(1, 10);
    for (place, peer) in peers.iter().enumerate() {
        let asked = bench.receive(*peer, announcement(&all));
        assert_eq!(asked.is_empty(), place > 0);
    }
    assert_eq!(bench.core.next_deadline(), Some(bench.now + 2 * SECOND));
    assert!(bench.wait(SECOND).is_empty());
    assert_eq!(
        words(&peers, &bench.wait(SECOND)),
        ["3 request for a block Compact"]
    );
    assert_eq!(
        words(&peers, &bench.wait(2 * SECOND)),
        ["1 request for a block Compact"]
    );
    assert!(
        bench.wait(2 * SECOND).is_empty(),
        "three are asked at a time"
    );
    assert_eq!(bench.core.next_deadline(), Some(bench.now + 14 * SECOND));
    assert_eq!(
        words(&peers, &bench.wait(14 * SECOND)),
        ["0 NoAnswer", "2 request for a block Compact"]
    );
    assert_eq!(
        words(&peers, &bench.wait(2 * SECOND)),
        ["3 NoAnswer", "4 request for a block Compact"]
    );
    // It comes late, but in time.
    bench.pool = pool(&all);
    let got = bench.receive(peers[1], compact(&all));
    let mut got = words(&peers, &got);
    got.sort();
    let expected = [
        "0 announcement",
        "1 high-bandwidth mode true",
        "3 announcement",
    ];
    assert_eq!(got, expected, "those that were given up may not have it");
    assert_eq!(bench.core.next_deadline(), None);
    // Answers after the block is here cost nobody anything.
    for place in [0, 2, 3, 4] {
        assert!(bench.receive(peers[place], compact(&all)).is_empty());
    }
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
    assert_eq!(words(&peers, &next), ["1 request for a block Compact"]);
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
    assert_eq!(words(&peers, &actions), ["0 request for a block Whole"]);
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
fn small_blocks_go_whole_and_the_hook_has_the_last_word() {
    let mut bench = bench();
    let peers = [bench.peer(true), bench.peer(true), bench.peer(true)];
    bench.receive(peers[0], BlockMessage::HighBandwidth(true));
    let (_, sent) = bench.make(&transactions(1, 1));
    assert!(words(&peers, &sent).contains(&"0 whole block".to_owned()));

    let hook = |offer: &super::Offer<'_>| super::Choice {
        form: if offer.asked {
            Form::Coded
        } else {
            Form::Whole
        },
        why: "a test",
    };
    bench.core = super::CompactBlocks::new(CompactConfig::default(), [1; 16], hook);
    for peer in &peers[..2] {
        bench.core.peer_connected(*peer, true);
    }
    let (id, sent) = bench.make(&transactions(2, 10));
    let mut told = words(&peers, &sent);
    told.sort();
    assert_eq!(told, ["0 whole block", "1 whole block"]);
    let coded = bench.receive(peers[1], get(&id, Form::Compact));
    assert_eq!(words(&peers, &coded), ["1 coded"]);
    // A whole block that comes unasked is as good as one that was asked for.
    let mut other = self::bench();
    let peer = other.peer(false);
    let got = other.receive(peer, whole(&transactions(2, 10)));
    assert_eq!(words(&[peer], &got), ["0 high-bandwidth mode true"]);
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
fn parts_that_are_no_block_of_the_chain_have_no_compact_form() {
    let mut bench = bench();
    let peers = [bench.peer(true)];
    let (id, block, parts) = block(&transactions(1, 10));
    let header = Bytes::new();
    let parts = BlockParts { header, ..parts };
    bench
        .core
        .accepted(id.clone(), block, Some(parts), 0, None, bench.now);
    let served = bench.receive(peers[0], get(&id, Form::Compact));
    assert_eq!(words(&peers, &served), ["0 whole block"]);
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

#[test]
fn own_blocks_wait_until_somebody_comes_for_those_before_them() {
    let mut bench = bench();
    let fill = |bench: &mut Bench| {
        let mut made = Vec::new();
        while bench.core.has_room((0, 0), bench.now) {
            made.push(bench.make(&transactions(made.len() as u64 + 50, 3)).0);
            assert!(made.len() < 20);
        }
        made
    };
    let peer = bench.peer(true);
    let made = fill(&mut bench);
    assert_eq!(made.len(), 8, "half of what is kept");
    assert!(!bench.core.has_room((1, 0), bench.now));
    bench.receive(peer, get(&made[0], Form::Whole));
    assert!(bench.core.has_room((0, 0), bench.now));
    assert!(!bench.core.has_room((1, 0), bench.now), "one is coming");
    assert!(bench.core.has_room((0, 1), bench.now));
    assert!(!bench.core.has_room((0, 16 << 20), bench.now));
    bench.make(&transactions(80, 3));
    assert!(!bench.core.has_room((0, 0), bench.now));
    bench.wait(20 * SECOND);
    assert!(bench.core.has_room((0, 0), bench.now), "nobody comes");
}

#[test]
fn a_block_has_arrived_when_its_peer_says_so_and_not_before() {
    let (mut here, mut there) = (bench(), bench());
    let (to, from) = (here.peer(true), there.peer(false));
    assert!(here.core.is_settled(), "there is nothing");
    let all = transactions(1, 10);
    let (id, told) = here.make(&all);
    assert_eq!(words(&[to], &told), ["0 announcement"]);
    assert!(!here.core.is_settled(), "it is only announced");
    there.receive(from, announcement(&all));
    here.receive(to, get(&id, Form::Compact));
    assert!(!here.core.is_settled(), "its parts may be asked for");
    there.keeps = |action| matches!(action, Action::CheckBlock(_));
    there.pool = pool(&all);
    let check = there.receive(from, compact(&all));
    assert!(there.settled.is_empty(), "it is being checked");
    there.keeps = |_| false;
    there.settle(check);
    assert_eq!(there.settled, [(from, id.clone())]);
    here.receive(to, BlockMessage::Settled(id));
    assert!(here.core.is_settled());
}

#[test]
fn whoever_brought_a_block_is_not_waited_for() {
    let mut bench = bench();
    let (teller, also) = (bench.peer(true), bench.peer(true));
    let all = transactions(1, 10);
    let (id, ..) = block(&all);
    bench.pool = pool(&all);
    bench.receive(teller, announcement(&all));
    bench.receive(also, compact(&all));
    assert!(bench.core.is_accepted(&id) && bench.core.is_settled());
    // Who came later is told, and waited for.
    let late = bench.peer(true);
    let told = bench.core.tell_newest(late, 1);
    assert_eq!(words(&[late], &told), ["0 announcement"]);
    assert!(!bench.core.is_settled());
    bench.receive(late, BlockMessage::Settled(id));
    assert!(bench.core.is_settled());
}

#[test]
fn who_has_a_block_already_or_does_not_want_it_says_so_at_once() {
    let mut bench = bench();
    let all = transactions(1, 10);
    let (id, _) = bench.make(&all);
    let late = bench.peer(true);
    bench.receive(late, announcement(&all));
    assert_eq!(bench.settled, [(late, id.clone())]);
    // Who was told hears nothing more, and has said that it has it.
    let mut bench = self::bench();
    let peer = bench.peer(true);
    bench.make(&all);
    bench.receive(peer, announcement(&all));
    assert!(bench.settled.is_empty() && bench.core.is_settled());
    // Its check may be going on there.
    let other = bench.peer(true);
    bench.make(&transactions(2, 10));
    bench.receive(other, compact(&transactions(2, 10)));
    assert!(!bench.core.is_settled());
    // A header that is not for now.
    let header = Bytes::from_static(&[b'I'; 33]);
    let id = ItemId::sha256(&header);
    let ignored = Announcement {
        id: id.clone(),
        header,
    };
    bench.receive(peer, BlockMessage::Announcement(ignored));
    assert_eq!(bench.settled, [(peer, id)]);
}

#[test]
fn a_peer_that_has_all_blocks_already_holds_up_nobody() {
    let mut bench = bench();
    let peer = bench.peer(true);
    for seed in 0..100 {
        assert!(bench.core.has_room((0, 0), bench.now));
        let (id, _) = bench.make(&transactions(seed, 3));
        bench.receive(peer, BlockMessage::Settled(id));
    }
}
