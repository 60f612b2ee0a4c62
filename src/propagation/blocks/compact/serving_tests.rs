//! Blocks that a node gives its peers, and how it knows that they have arrived, step by step.

use std::time::Duration;

use bytes::Bytes;

use super::actions::Action;
use super::choice::Form;
use super::config::CompactConfig;
use super::message::{Announcement, BlockMessage, MissingTransactions};
use super::test_chain::{
    Bench, announcement, bench, block, compact, get, pool, transactions, whole, words,
};
use crate::chain::{Block, BlockParts, Checked, ItemId, Verdict};
use crate::platform::test;

const SECOND: Duration = Duration::from_secs(1);

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
fn as_many_of_the_largest_blocks_are_kept_as_a_peer_is_blamed_for_not_having() {
    let mut bench = bench();
    let config = CompactConfig::default();
    let mut make = |number: u8| {
        let data = vec![number; config.max_block_bytes];
        let (id, block) = (ItemId::sha256(&data), Block::new(data));
        let made = id.clone();
        bench.core.accepted(made, block, None, 0, None, bench.now);
        id
    };
    let first = make(0);
    let surely_kept = u8::try_from(config.surely_kept()).expect("few");
    for number in 1..=surely_kept {
        make(number);
    }
    assert!(bench.core.block(&first).is_some());
}

#[test]
fn a_block_has_arrived_when_its_peer_says_so_and_not_before() {
    let (mut here, mut there) = (bench(), bench());
    let (to, from) = (here.peer(true), there.peer(false));
    assert!(here.core.is_settled(None), "there is nothing");
    let all = transactions(1, 10);
    let (id, told) = here.make(&all);
    assert_eq!(words(&[to], &told), ["0 announcement"]);
    assert!(!here.core.is_settled(None), "it is only announced");
    there.receive(from, announcement(&all));
    here.receive(to, get(&id, Form::Compact));
    assert!(!here.core.is_settled(None), "its parts may be asked for");
    there.keeps = |action| matches!(action, Action::CheckBlock(_));
    there.pool = pool(&all);
    let check = there.receive(from, compact(&all));
    assert!(there.settled.is_empty(), "it is being checked");
    there.keeps = |_| false;
    there.settle(check);
    assert_eq!(there.settled, [(from, id.clone())]);
    here.receive(to, BlockMessage::Settled(id));
    assert!(here.core.is_settled(None));
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
    assert!(bench.core.is_accepted(&id) && bench.core.is_settled(None));
    // Who came later is told, and waited for.
    let late = bench.peer(true);
    let told = bench.core.tell_newest(late, 1, |_| true);
    assert_eq!(words(&[late], &told), ["0 announcement"]);
    assert!(!bench.core.is_settled(None));
    bench.receive(late, BlockMessage::Settled(id));
    assert!(bench.core.is_settled(None));
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
    assert!(bench.settled.is_empty() && bench.core.is_settled(None));
    // Its check may be going on there.
    let other = bench.peer(true);
    bench.make(&transactions(2, 10));
    bench.receive(other, compact(&transactions(2, 10)));
    assert!(!bench.core.is_settled(None));
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
