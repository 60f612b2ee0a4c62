use super::{
    super::{
        Ledger,
        address::Address,
        tests::{PROPOSER, accepted, chain, genesis, grow, header, key, transfer, vote},
    },
    *,
};
use crate::{
    chain::Verdict,
    platform::{self, SystemTime, test},
    storage::{MemoryStore, Store},
};

fn store() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new(1 << 24, &LIGHT_SCHEMA).expect("made"))
}

fn light() -> LightLedger {
    LightLedger::open(genesis(), store()).expect("opened")
}

fn headers(of: &Ledger, from: u64) -> Vec<Bytes> {
    ChainStore::headers(of, from, usize::MAX, usize::MAX)
}

fn follow(light: &LightLedger, of: &Ledger) {
    let new = headers(of, light.tip().height + 1);
    assert_eq!(light.append_headers(&new), (new.len(), SyncVerdict::Accept));
}

/// Three of four vote for a block, and all of these hear it.
fn finalize(block: &Item, ledgers: &[&dyn Application]) {
    for voter in 101..=103 {
        let vote = vote(voter, block);
        for ledger in ledgers {
            let checked = vote.check(*ledger);
            assert_eq!(checked.verdict, Verdict::Accept, "{}", checked.reason);
            ledger.deliver(&vote);
        }
    }
}

fn account(number: u8) -> StateRequest {
    let address = Address::of(&key(number));
    StateRequest {
        key: Bytes::copy_from_slice(address.as_bytes()),
        height: None,
    }
}

#[test]
fn headers_are_taken_kept_and_found_again() {
    let (maker, _) = chain(150);
    let store = store();
    let light = LightLedger::open(genesis(), Arc::clone(&store) as Arc<dyn Store>);
    let light = light.expect("opened");
    let all = headers(&maker, 1);
    for some in [&all[..1], &all[1..64], &all[64..65], &all[65..]] {
        assert_eq!(
            light.append_headers(some),
            (some.len(), SyncVerdict::Accept)
        );
    }
    let again = LightLedger::open(genesis(), store).expect("opened");
    for light in [&light, &again] {
        assert_eq!(light.tip(), ChainStore::tip(&maker));
        for height in [0, 1, 63, 64, 65, 128, 150, 151] {
            assert_eq!(light.id_at(height), ChainStore::id_at(&maker, height));
        }
        assert_eq!(light.base(), 151, "nothing is served");
    }
    let late = light.append_headers(&all[149..]);
    assert!(matches!(late, (0, SyncVerdict::Ignore(_))), "{late:?}");
    let other = Genesis {
        network: "other".to_owned(),
        ..genesis()
    };
    let refused = LightLedger::open(other, Arc::clone(&again.0.store));
    assert!(matches!(refused, Err(LedgerError::OtherGenesis { .. })));
}

#[test]
fn a_header_of_nobody_is_named_and_nothing_of_what_came_with_it_is_kept() {
    let (maker, _) = chain(5);
    let light = light();
    let mut forged = headers(&maker, 1);
    for at in [4, 2] {
        let mut bytes = forged[at].to_vec();
        bytes[Header::LENGTH - 1] ^= 1;
        forged[at] = bytes.into();
        let answer = light.append_headers(&forged[..=at]);
        assert!(
            matches!(&answer, (place, SyncVerdict::Reject(_)) if *place == at),
            "{answer:?}"
        );
    }
    assert_eq!(light.tip().height, 0);
    let orphan = light.append_headers(&headers(&maker, 2));
    assert!(matches!(orphan, (0, SyncVerdict::Retry(_))), "{orphan:?}");
    follow(&light, &maker);
}

#[test]
fn a_longer_branch_takes_over_and_none_that_leaves_what_is_final() {
    let (one, other) = (super::super::tests::ledger(), super::super::tests::ledger());
    accepted(&other, &transfer(1, 2, 5, 1, 0));
    for _ in 0..70 {
        grow(&one);
    }
    let blocks: Vec<_> = (0..75).map(|_| grow(&other)).collect();
    let light = light();
    follow(&light, &one);
    taken(&light, &headers(&other, 1)[..70]);
    assert_eq!(light.tip(), ChainStore::tip(&one), "it is no longer");
    let longer = headers(&other, 1);
    assert_eq!(light.append_headers(&longer), (75, SyncVerdict::Accept));
    assert_eq!(light.tip(), ChainStore::tip(&other));
    finalize(&blocks[69], &[&light, &other]);
    assert_eq!(light.final_height(), 70);
    for _ in 0..10 {
        grow(&one);
    }
    let (_, refused) = light.append_headers(&headers(&one, 1));
    assert!(matches!(refused, SyncVerdict::Ignore(_)), "{refused:?}");
    assert_eq!(light.tip(), ChainStore::tip(&other));
}

#[test]
fn what_turns_out_not_to_be_final_is_taken_off() {
    let (one, other) = (super::super::tests::ledger(), super::super::tests::ledger());
    accepted(&other, &transfer(1, 2, 5, 1, 0));
    let blocks: Vec<_> = (0..66).map(|_| (grow(&one), grow(&other)).1).collect();
    let light = light();
    follow(&light, &one);
    finalize(&blocks[64], &[&other]);
    let request = light.provable(account(1));
    let answer = other.query(&request).expect("it is final");
    assert_eq!(answer.height, 65);
    assert_eq!(
        light.check_state(&request, &answer),
        Some(SyncVerdict::Accept)
    );
    assert_eq!(light.tip().height, 64, "the 65th was another");
    assert_eq!(
        light.append_headers(&headers(&other, 1)),
        (66, SyncVerdict::Accept)
    );
    assert_eq!(light.final_height(), 65);
}

#[test]
fn only_answers_that_are_proven_hold() {
    let (maker, mut blocks) = chain(3);
    let light = light();
    accepted(&maker, &transfer(4, 9, 300, 7, 0));
    blocks.push(grow(&maker));
    let request = light.provable(account(4));
    assert_eq!(maker.query(&request), None, "nothing is final yet");
    follow(&light, &maker);
    let early = StateRequest {
        height: Some(3),
        ..account(4)
    };
    let answer = maker.query(&early).expect("it is here");
    let verdict = light.check_state(&early, &answer);
    assert!(
        matches!(verdict, Some(SyncVerdict::Retry(_))),
        "{verdict:?}"
    );

    finalize(&blocks[3], &[&maker, &light]);
    assert_eq!(
        light.check_state(&early, &answer),
        Some(SyncVerdict::Accept)
    );
    let latest = maker.query(&request).expect("it is final");
    assert_eq!(latest.height, 4);
    assert_eq!(
        light.check_state(&request, &latest),
        Some(SyncVerdict::Accept)
    );
    assert_ne!(answer.value, latest.value);
    // Who has no header at all trusts it as well.
    let new = LightLedger::open(genesis(), store()).expect("opened");
    assert_eq!(
        new.check_state(&request, &latest),
        Some(SyncVerdict::Accept)
    );

    let forgeries = [
        StateResponse {
            value: answer.value.clone(),
            ..latest.clone()
        },
        StateResponse {
            height: 3,
            ..latest.clone()
        },
        StateResponse {
            proof: Bytes::new(),
            ..latest.clone()
        },
        StateResponse {
            proof: answer.proof.clone(),
            ..latest.clone()
        },
    ];
    for forged in &forgeries {
        let verdict = light.check_state(&request, forged);
        assert!(
            matches!(verdict, Some(SyncVerdict::Reject(_))),
            "{verdict:?}"
        );
    }
    let other_height = StateResponse {
        height: 2,
        ..answer.clone()
    };
    let verdict = light.check_state(&early, &other_height);
    assert!(
        matches!(verdict, Some(SyncVerdict::Reject(_))),
        "{verdict:?}"
    );
    // Any byte of it may be wrong.
    for at in 0..latest.proof.len() {
        let mut proof = latest.proof.to_vec();
        proof[at] ^= 1;
        let forged = StateResponse {
            proof: proof.into(),
            ..latest.clone()
        };
        let verdict = light.check_state(&request, &forged);
        assert!(matches!(verdict, Some(SyncVerdict::Reject(_))), "byte {at}");
    }
}

#[test]
fn who_has_another_block_at_a_height_is_no_liar() {
    let (ours, blocks) = chain(2);
    let (theirs, _) = chain(1);
    accepted(&theirs, &transfer(3, 2, 1, 1, theirs.tip().height));
    grow(&theirs);
    let light = light();
    follow(&light, &ours);
    finalize(&blocks[1], &[&ours, &light]);
    let question = StateRequest {
        height: Some(2),
        ..account(3)
    };
    let answer = theirs.query(&question).expect("it has a block there");
    let judges: [&dyn Application; 2] = [&ours, &light];
    for judge in judges {
        let verdict = judge.check_state(&judge.provable(question.clone()), &answer);
        assert!(
            matches!(verdict, Some(SyncVerdict::Ignore(_))),
            "{verdict:?}"
        );
    }
}

#[test]
fn an_answer_that_is_far_behind_is_none() {
    let (maker, blocks) = chain(40);
    let light = light();
    follow(&light, &maker);
    let request = light.provable(account(1));
    finalize(&blocks[4], &[&maker, &light]);
    let old = maker.query(&request).expect("it is final");
    finalize(&blocks[39], &[&maker, &light]);
    let verdict = light.check_state(&request, &old);
    assert!(
        matches!(verdict, Some(SyncVerdict::Ignore(_))),
        "{verdict:?}"
    );
}

#[test]
fn transfers_are_passed_on_by_their_signatures_and_blocks_are_not() {
    let light = light();
    let paid = transfer(1, 2, 5, 1, 0).check(&light);
    assert_eq!((paid.verdict, paid.fee), (Verdict::Accept, Some(1)));
    let mut forged = transfer(1, 2, 5, 1, 0).data().to_vec();
    forged[150] ^= 1;
    let forged = Item::new(crate::chain::ItemKind::Transaction, forged);
    assert_eq!(forged.check(&light).verdict, Verdict::Reject);
    let (_, blocks) = chain(1);
    assert_eq!(blocks[0].check(&light).verdict, Verdict::Ignore);
    assert_eq!(header(&blocks[0]).height, 1);
}

/// Headers on top of a place, of which the last alone is signed, by who proposes in these tests. `what` tells them from others.
fn branch(from: Tip, count: u64, what: u8) -> Vec<Bytes> {
    let genesis = genesis().hash();
    let mut parent = from;
    let headers = (1..=count).map(|number| {
        let header = Header {
            height: parent.height + 1,
            parent: parent.id,
            state_root: [what; 32],
            transfers_root: [0; 32],
            count: 0,
            time: 1000 * (parent.height + 1),
            proposer: Address::of(&key(PROPOSER)),
            signature: [0; 64],
        };
        let header = match number == count {
            true => header.sign(&genesis, &key(PROPOSER)),
            false => header,
        };
        parent = Tip::of(&header);
        header.encode().into()
    });
    headers.collect()
}

fn place_of(header: &Bytes) -> Tip {
    Tip::of(&Header::decode(header).expect("a header"))
}

fn vote_for(voter: u8, place: Tip) -> Vote {
    let vote = HeaderVote::new(&genesis().hash(), &key(voter), place.height, place.id);
    Vote::new(vote.encode())
}

/// Three of four have voted for it.
fn decide(light: &LightLedger, place: Tip) {
    for voter in 101..=103 {
        let vote = vote_for(voter, place);
        if light.check_vote(&vote).verdict == Verdict::Accept {
            light.deliver(&Item::Vote(vote));
        }
    }
}

fn ignored(light: &LightLedger, headers: &[Bytes]) -> bool {
    matches!(light.append_headers(headers), (_, SyncVerdict::Ignore(_)))
}

fn taken(light: &LightLedger, headers: &[Bytes]) {
    let answer = light.append_headers(headers);
    assert_eq!(answer, (headers.len(), SyncVerdict::Accept));
}

fn root() -> Tip {
    Tip {
        height: 0,
        id: genesis().hash(),
    }
}

#[test]
fn votes_bring_back_what_a_proposer_led_astray() {
    let light = light();
    let first = branch(root(), 10, 1);
    taken(&light, &first);
    let end = place_of(&first[9]);
    decide(&light, end);
    assert_eq!(light.final_height(), 10);
    let (honest, astray) = (branch(end, 20, 1), branch(end, 990, 2));
    taken(&light, &astray);
    assert_eq!(light.tip().height, 1000);
    decide(&light, place_of(&honest[0]));
    assert_eq!(light.tip().height, 10, "the voters have another 11th");
    assert!(ignored(&light, &astray), "and it does not come back");
    taken(&light, &honest);
    assert_eq!((light.tip().height, light.final_height()), (30, 11));
    // What is decided is so after a restart too.
    let again = LightLedger::open(genesis(), Arc::clone(&light.0.store)).expect("opened");
    assert_eq!((again.tip().height, again.final_height()), (30, 11));
    assert!(ignored(&again, &branch(end, 50, 3)));
}

/// The last header that may be taken on top of a place, signed, with those before it; and so many after it.
fn up_to(most: u64, from: Tip, more: u64, what: u8) -> (Vec<Bytes>, Vec<Bytes>) {
    let near = branch(from, most - from.height, what);
    let end = near.last().map_or(from, place_of);
    (near, branch(end, more, what))
}

#[test]
fn nobody_leads_far_above_what_is_decided() {
    for decided in [0, 5] {
        let light = light();
        let honest = branch(root(), 10, 1);
        taken(&light, &honest);
        if decided > 0 {
            decide(&light, place_of(&honest[4]));
        }
        let most = decided + MAX_UNDECIDED;
        let (near, rest) = up_to(most, place_of(&honest[9]), 5, 1);
        let (count, verdict) = light.append_headers(&[&near[..], &rest].concat());
        assert_eq!((count as u64, light.tip().height), (most - 10, most));
        assert!(matches!(verdict, SyncVerdict::Retry(_)), "{verdict:?}");
        let (count, verdict) = light.append_headers(&rest);
        assert!(matches!(verdict, SyncVerdict::Retry(_)), "{verdict:?}");
        assert_eq!((count, light.tip().height), (0, most), "nor bit by bit");
        // Votes for what is far above are heard, and not passed on.
        let high = branch(place_of(&near[near.len() - 1]), 200, 1);
        let place = place_of(&high[199]);
        for voter in 101..=103 {
            let checked = light.check_vote(&vote_for(voter, place));
            assert_eq!(checked.verdict, Verdict::Ignore, "{}", checked.reason);
        }
        let elsewhere = branch(place_of(&near[near.len() - 1]), 200, 9);
        assert!(ignored(&light, &elsewhere), "it leads elsewhere");
        taken(&light, &high);
        assert_eq!(light.final_height(), most + 200);
    }
}

#[test]
fn of_a_branch_that_has_just_become_the_chain_the_rest_may_come_later() {
    let light = light();
    taken(&light, &branch(root(), 10, 2));
    let (near, rest) = up_to(MAX_UNDECIDED, root(), 5, 1);
    let (count, verdict) = light.append_headers(&[&near[..], &rest].concat());
    assert_eq!((count, light.tip().height), (near.len(), MAX_UNDECIDED));
    assert!(matches!(verdict, SyncVerdict::Retry(_)), "{verdict:?}");
}

#[test]
fn what_contests_waits_until_it_is_longer_though_nothing_here_is_settled() {
    let light = light();
    let astray = branch(root(), 250, 2);
    taken(&light, &astray);
    let honest = branch(root(), 100, 1);
    let next = branch(place_of(&honest[99]), 1, 1);
    let rest = branch(place_of(&next[0]), 199, 1);
    decide(&light, place_of(&rest[198]));
    assert_eq!(light.final_height(), 0);
    // It was signed once, and costs nobody anything to send again.
    let old = branch(root(), 1, 3);
    for _ in 0..3 {
        taken(&light, &old);
        assert_eq!(light.tip().height, 250);
    }
    taken(&light, &honest);
    taken(&light, &next);
    assert_eq!(light.tip().height, 250);
    assert_eq!(light.id_at(250), Some(name(&place_of(&astray[249]).id)));
    assert!(ignored(&light, &astray[..100]), "it is here");
    taken(&light, &rest);
    assert_eq!(light.tip().height, 300);
    assert_eq!(light.final_height(), 300);
    assert_eq!(light.id_at(100), Some(name(&place_of(&honest[99]).id)));
    let again = LightLedger::open(genesis(), Arc::clone(&light.0.store)).expect("opened");
    assert_eq!(again.tip(), light.tip());
    assert_eq!(again.id_at(101), Some(name(&place_of(&next[0]).id)));
}

#[test]
fn what_waits_takes_the_place_of_what_the_votes_have_cut() {
    let light = light();
    let first = branch(root(), 10, 1);
    taken(&light, &first);
    let end = place_of(&first[9]);
    taken(&light, &branch(end, 990, 2));
    let honest = branch(end, 20, 1);
    taken(&light, &honest);
    assert_eq!(light.tip().height, 1000, "it waits");
    decide(&light, place_of(&honest[0]));
    assert_eq!((light.tip().height, light.final_height()), (30, 11));
    // What they have decided against waits no longer.
    let (honest, other) = (branch(place_of(&honest[19]), 20, 1), branch(end, 9, 3));
    assert!(ignored(&light, &other));
    taken(&light, &honest);
    assert_eq!(light.tip().height, 50);
}

#[test]
fn as_long_as_may_wait_is_long_enough_against_what_nobody_has_voted_for() {
    let light = light();
    let far = Tip {
        height: 3 * MAX_UNDECIDED,
        id: [7; 32],
    };
    decide(&light, far);
    taken(&light, &branch(root(), MAX_UNDECIDED + 1, 2));
    let (most, last) = up_to(MAX_UNDECIDED - 1, root(), 1, 1);
    taken(&light, &most);
    assert_eq!(light.tip().height, MAX_UNDECIDED + 1);
    taken(&light, &last);
    assert_eq!(light.tip().height, MAX_UNDECIDED);
    assert_eq!(
        light.id_at(MAX_UNDECIDED),
        Some(name(&place_of(&last[0]).id))
    );
}

#[test]
fn a_branch_that_is_sent_again_takes_the_place_of_what_may_be_longer_once_in_a_while() {
    let light = light();
    let far = Tip {
        height: 3 * MAX_UNDECIDED,
        id: [7; 32],
    };
    decide(&light, far);
    let [honest, old] = [1, 2].map(|what| branch(root(), MAX_UNDECIDED, what));
    for headers in [&honest, &old, &honest] {
        taken(&light, headers);
        assert_eq!(light.chain().tip, place_of(&headers[headers.len() - 1]));
    }
    // Nor does another of the same proposer, of which there may be any number.
    for other in [old, branch(root(), MAX_UNDECIDED, 3)] {
        assert!(ignored(&light, &other));
        assert!(light.chain().contest.is_none());
    }
    let end = light.chain().tip;
    taken(&light, &branch(end, 10, 1));
    assert_eq!(light.tip().height, MAX_UNDECIDED + 10);
    // One that is longer does at any time.
    let longer = branch(root(), MAX_UNDECIDED + 11, 2);
    taken(&light, &longer);
    assert_eq!(light.tip().height, MAX_UNDECIDED + 11);
}

#[test]
fn what_nobody_has_signed_is_no_word_about_what_is_final() {
    let light = light();
    let headers = branch(root(), 20, 1);
    taken(&light, &headers);
    decide(&light, place_of(&headers[9]));
    assert_eq!(light.final_height(), 10);
    for height in [5, 10] {
        let signed = branch(place_of(&headers[height - 2]), 1, 2);
        assert!(ignored(&light, &signed), "of {height}");
        let mut forged = signed[0].to_vec();
        forged[Header::LENGTH - 64..].fill(0);
        let refused = light.append_headers(&[forged.into()]);
        assert!(
            matches!(refused, (0, SyncVerdict::Reject(_))),
            "{refused:?}"
        );
    }
}

#[test]
fn headers_that_are_here_and_final_are_no_other_branch() {
    let light = light();
    taken(&light, &branch(root(), 20, 1));
    let end = light.chain().tip;
    decide(&light, end);
    assert_eq!(light.final_height(), 20);
    // Who answers can't always begin right after them.
    let more = branch(end, 20, 1);
    let before = branch(root(), 20, 1);
    taken(&light, &[&before[5..], &more].concat());
    assert_eq!(light.tip().height, 40);
}

#[test]
fn the_time_of_what_is_not_decided_is_not_far_ahead() {
    let light = light();
    let date = platform::date().duration_since(SystemTime::UNIX_EPOCH);
    let now = u64::try_from(date.expect("after 1970").as_millis()).expect("soon");
    let hours = |hours: u64| {
        let mut header = Header::decode(&branch(root(), 1, 1)[0]).expect("a header");
        header.time = now + hours * 3_600_000;
        header.sign(&genesis().hash(), &key(PROPOSER))
    };
    let ahead = hours(3);
    let forged = Header {
        signature: [0; 64],
        ..ahead
    };
    let refused = light.append_headers(&[forged.encode().into()]);
    assert!(matches!(refused, (0, SyncVerdict::Reject(_))));
    assert!(ignored(&light, &[ahead.encode().into()]));
    taken(&light, &[hours(1).encode().into()]);
    // The voters' clocks may be right.
    decide(&light, Tip::of(&ahead));
    taken(&light, &[ahead.encode().into()]);
    assert_eq!(light.final_height(), 1);
}

#[test]
fn a_voter_that_votes_far_ahead_pushes_out_its_own_votes_alone() {
    let mut far = FarVotes::new(&Arc::new(genesis()));
    let place = |height: u64| Tip {
        height,
        id: [7; 32],
    };
    let mut vote = |voter, height| {
        let vote = HeaderVote::new(&genesis().hash(), &key(voter), height, [7; 32]);
        far.insert(&vote)
    };
    assert_eq!(vote(101, 5000), None);
    assert_eq!(vote(102, 5000), None);
    for height in 6000..6100 {
        assert_eq!(vote(104, height), None);
    }
    assert_eq!(vote(104, 5000), None, "its own is pushed out");
    assert_eq!(vote(103, 5000), Some(place(5000)));
    far.is_decided(5000);
    assert_eq!(far.len(), 8);
}
