//! Peers that tell of a block and keep it, or let it drip, beside one that has it; and honest ones on slow lines. In virtual time.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use libp2p::PeerId;
use proptest::prelude::*;

use super::actions::Action;
use super::choice::Form;
use super::config::CompactConfig;
use super::download::ALONE;
use super::message::{BlockMessage, GetBlock};
use super::test_chain::{
    Bench, announcement, bench, block, compact, get, pool, transactions, whole, words,
};
use crate::peers::Misdeed;
use crate::platform::{Instant, test};

/// How long an honest peer takes to answer.
const FETCH: Duration = Duration::from_millis(80);
/// How often the lanes say what has come.
const STEP: Duration = Duration::from_millis(100);

/// What those do who have no block for us.
#[derive(Clone, Copy, Debug)]
enum Liar {
    Silent,
    /// Sends the compact form, and no transaction that is missing.
    Withholds,
    /// Sends a byte of a long frame now and then.
    Drips,
    /// Begins a long frame, and another, and another.
    Begins,
}

/// One node, peers that have told it of a block, and what these are about to do.
struct Scene {
    bench: Bench,
    all: Vec<Bytes>,
    liar: Liar,
    honest: PeerId,
    due: Vec<(Instant, Event)>,
    blamed: Vec<(PeerId, Misdeed)>,
    asked: BTreeSet<PeerId>,
}

#[derive(Clone)]
enum Event {
    Message(PeerId, BlockMessage),
    /// So many bytes of a frame of so many, and what comes so often after that.
    Comes(PeerId, usize, usize),
}

impl Scene {
    fn new(liar: Liar, honest: PeerId, bench: Bench) -> Self {
        Self {
            bench,
            all: transactions(1, 10),
            liar,
            honest,
            due: Vec::new(),
            blamed: Vec::new(),
            asked: BTreeSet::new(),
        }
    }

    fn at(&mut self, after: Duration, event: Event) {
        self.due.push((self.bench.now + after, event));
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Misdeed { peer, misdeed, .. } => self.blamed.push((peer, misdeed)),
                Action::Send { peer, message, .. } => self.asked(peer, &message),
                _ => {}
            }
        }
    }

    fn asked(&mut self, peer: PeerId, message: &BlockMessage) {
        let is_first = match message {
            BlockMessage::GetBlock(GetBlock { form, .. }) => *form == Form::Compact,
            BlockMessage::GetTransactions(_) => false,
            _ => return,
        };
        self.asked.insert(peer);
        let answer = Event::Message(peer, compact(&self.all));
        match self.liar {
            _ if peer == self.honest && is_first => self.at(FETCH, answer),
            _ if peer == self.honest => self.at(FETCH, Event::Message(peer, whole(&self.all))),
            Liar::Withholds if is_first => self.at(FETCH, answer),
            Liar::Silent | Liar::Withholds => {}
            Liar::Drips => self.at(FETCH, Event::Comes(peer, 1, 4 << 20)),
            Liar::Begins => self.at(FETCH, Event::Comes(peer, 1, 20_000)),
        }
    }

    /// Lets time pass until the block is here; how long that took.
    fn run(&mut self) -> Duration {
        let begin = self.bench.now;
        let id = block(&self.all).0;
        while !self.bench.core.is_accepted(&id) {
            let next = self.due.iter().map(|(at, _)| *at).min();
            let deadline = self.bench.core.next_deadline();
            let now = next.into_iter().chain(deadline).min().expect("it ends");
            assert!(now < begin + Duration::from_secs(60), "it is held up");
            self.bench.now = self.bench.now.max(now);
            if deadline.is_some_and(|at| at <= now) {
                let actions = self.bench.wait(Duration::ZERO);
                self.act(actions);
            }
            let is_due = |(at, _): &(Instant, Event)| *at <= now;
            let due: Vec<_> = self.due.extract_if(.., |it| is_due(it)).collect();
            for (_, event) in due {
                self.happens(event);
            }
        }
        self.bench.now - begin
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Message(peer, message) => {
                let actions = self.bench.receive(peer, message);
                self.act(actions);
            }
            Event::Comes(peer, bytes, length) => {
                let (now, bench) = (self.bench.now, &mut self.bench);
                let actions = bench.core.comes(&peer, (bytes, length), now);
                let actions = bench.settle(actions);
                self.act(actions);
                let next = match self.liar {
                    Liar::Begins => Event::Comes(peer, bytes, length + 1),
                    _ => Event::Comes(peer, bytes + 1, length),
                };
                self.at(STEP, next);
            }
        }
    }
}

proptest! {
    #[test]
    fn liars_hold_a_block_up_for_a_patience_or_so(
        liars in 0usize..16,
        place in 0usize..16,
        outbound in any::<u16>(),
        kind in 0usize..4,
        round_trip in 0u64..300,
    ) {
        let liar = [Liar::Silent, Liar::Withholds, Liar::Drips, Liar::Begins][kind];
        let config = CompactConfig::default();
        let mut bench = bench();
        let peers: Vec<_> = (0..=liars).map(|at| bench.peer(outbound >> at & 1 == 1)).collect();
        let round_trip = Duration::from_millis(round_trip);
        peers.iter().for_each(|peer| bench.core.measured(peer, round_trip));
        let honest = peers[place % peers.len()];
        let mut scene = Scene::new(liar, honest, bench);
        scene.bench.pool = pool(&scene.all[..8]);
        let told = announcement(&scene.all);
        for peer in &peers {
            let actions = scene.bench.receive(*peer, told.clone());
            scene.act(actions);
        }
        let took = scene.run();
        let patience = config.patience + 2 * round_trip;
        // The first is asked alone, the others three at a time. Who drips, or answers one of two questions, has one patience more.
        let rounds = 1 + liars.saturating_sub(1).div_ceil(config.max_parallel);
        let rounds = u32::try_from(if liars == 0 { 0 } else { rounds }).expect("small");
        let each = match liar {
            Liar::Silent => patience,
            Liar::Withholds => patience + FETCH,
            Liar::Drips => 2 * patience + FETCH + STEP,
            Liar::Begins => 4 * STEP + patience + FETCH,
        };
        let most = each * rounds + 2 * FETCH;
        prop_assert!(took <= most, "{liar:?}, {liars}: {took:?} of {most:?}");
        if liars <= config.max_parallel && matches!(liar, Liar::Silent) {
            prop_assert!(took <= patience + 2 * FETCH, "{took:?}");
        }
        prop_assert!(scene.blamed.is_empty(), "not so soon");
        // Of the next block it is known who lets us wait: whoever tells first is asked, and then the one who has answered before.
        if matches!(liar, Liar::Silent) && scene.asked.len() == peers.len() {
            scene.all = transactions(2, 10);
            scene.due.clear();
            let told = announcement(&scene.all);
            for peer in peers.iter().rev() {
                let actions = scene.bench.receive(*peer, told.clone());
                scene.act(actions);
            }
            let took = scene.run();
            prop_assert!(took <= patience + 2 * FETCH, "{took:?}");
        }
    }
}

/// A peer answers at so many bytes in 100 ms: what happened until then, and when it was over. Another one has the block too.
fn slow_line(pace: usize, bench: &mut Bench) -> (Vec<String>, Duration) {
    const LENGTH: usize = 4 << 20;
    let peers = [bench.peer(true), bench.peer(false)];
    let all = transactions(1, 10);
    let begin = bench.now;
    let mut happened = Vec::new();
    let mut note = |peers: &[PeerId], actions: &[Action]| happened.extend(words(peers, actions));
    for peer in &peers {
        let actions = bench.receive(*peer, announcement(&all));
        note(&peers, &actions);
    }
    let mut bytes = pace;
    while bytes < LENGTH {
        let actions = bench.wait(STEP);
        note(&peers, &actions);
        let actions = bench.core.comes(&peers[0], (bytes, LENGTH), bench.now);
        note(&peers, &bench.settle(actions));
        bytes += pace;
    }
    let took = bench.now - begin;
    let actions = bench.receive(peers[0], whole(&all));
    note(&peers, &actions);
    (happened, took)
}

#[test]
fn who_answers_over_a_slow_line_is_left_alone() {
    let (happened, took) = slow_line(100_000, &mut bench());
    assert!(took > Duration::from_secs(4));
    let expected = [
        "0 request for a block Compact",
        "0 high-bandwidth mode true",
    ];
    assert_eq!(happened, expected);
}

#[test]
fn who_answers_for_long_gets_company_however_steadily_it_does() {
    let (happened, took) = slow_line(50_000, &mut bench());
    assert!(took > Duration::from_secs(8));
    let expected = [
        "0 request for a block Compact",
        "1 request for a block Compact",
        "0 high-bandwidth mode true",
    ];
    assert_eq!(happened, expected);
}

#[test]
fn who_sends_just_enough_holds_a_block_up_for_a_few_patiences() {
    let mut bench = bench();
    let peers = [bench.peer(true), bench.peer(false)];
    let all = transactions(1, 10);
    let begin = bench.now;
    for peer in &peers {
        bench.receive(*peer, announcement(&all));
    }
    let mut happened = Vec::new();
    for step in 1.. {
        let actions = bench.wait(STEP);
        happened.extend(words(&peers, &actions));
        let coming = (3400 * step, 640 << 10);
        let actions = bench.core.comes(&peers[0], coming, bench.now);
        happened.extend(words(&peers, &bench.settle(actions)));
        if !happened.is_empty() {
            break;
        }
    }
    assert_eq!(happened, ["1 request for a block Compact"]);
    let most = CompactConfig::default().patience * ALONE + STEP * 2;
    assert!(bench.now - begin <= most, "{:?}", bench.now - begin);
}

#[test]
fn who_answers_too_slowly_gets_company_and_pays_for_nothing() {
    let (happened, took) = slow_line(10_000, &mut bench());
    assert!(took > Duration::from_secs(40));
    let expected = [
        "0 request for a block Compact",
        "1 request for a block Compact",
        // It has sent nothing at all.
        "1 NoAnswer",
        "1 announcement",
        "0 high-bandwidth mode true",
    ];
    let mut happened = happened;
    happened.sort();
    let mut expected = expected.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(happened, expected);
}

#[test]
fn who_lets_a_frame_drip_pays_in_the_end() {
    let mut bench = bench();
    let peers = [bench.peer(true)];
    let all = transactions(1, 10);
    bench.receive(peers[0], announcement(&all));
    let mut blamed = Vec::new();
    let begin = bench.now;
    for bytes in 0..1000 {
        let actions = bench.core.comes(&peers[0], (bytes, 4 << 20), bench.now);
        blamed.extend(bench.settle(actions));
        blamed.extend(bench.wait(STEP));
        if !blamed.is_empty() {
            break;
        }
    }
    assert_eq!(words(&peers, &blamed), ["0 NoAnswer"]);
    let took = bench.now - begin;
    let most = CompactConfig::default().give_up_after + STEP;
    assert!(took <= most, "{took:?}");
}

#[test]
fn who_was_not_heard_is_given_up_later_and_others_are_asked_as_soon() {
    let mut bench = bench();
    let peers = [bench.peer(true), bench.peer(false)];
    let all = transactions(1, 10);
    for peer in &peers {
        bench.receive(*peer, announcement(&all));
    }
    let config = CompactConfig::default();
    let unheard = config.give_up_after / 2;
    let asked = words(&peers, &bench.wait(config.patience));
    assert_eq!(asked, ["1 request for a block Compact"]);
    bench.wait(unheard);
    bench.core.unheard(&peers[0], unheard, bench.now);
    let first = words(&peers, &bench.wait(config.give_up_after - unheard));
    assert_eq!(first, ["1 NoAnswer"]);
    let second = words(&peers, &bench.wait(unheard + STEP));
    assert_eq!(second, ["0 NoAnswer"]);
}

#[test]
fn whose_long_answer_gave_way_to_others_is_asked_after_them_and_pays_nothing() {
    let mut bench = bench();
    let peers = [bench.peer(true), bench.peer(false)];
    let all = transactions(1, 10);
    let config = CompactConfig::default();
    for peer in &peers {
        bench.receive(*peer, announcement(&all));
    }
    let skipped = |bench: &mut Bench| {
        let actions = bench.core.skipped(&peers[0], bench.now);
        words(&peers, &bench.settle(actions))
    };
    let waited = |bench: &mut Bench, time| words(&peers, &bench.wait(time));
    assert_eq!(skipped(&mut bench), ["1 request for a block Compact"]);
    let again = waited(&mut bench, config.patience);
    assert_eq!(again, ["0 request for a block Whole"], "it may still");
    assert!(skipped(&mut bench).is_empty(), "all were asked");
    let blamed = [config.give_up_after, config.give_up_after]
        .map(|time| waited(&mut bench, time))
        .concat();
    assert_eq!(blamed, ["1 NoAnswer"], "who said nothing");
    assert_eq!(bench.core.in_progress(), 0);
}

#[test]
fn who_is_asked_again_behind_the_rest_of_what_was_lost_pays_nothing() {
    let mut bench = bench();
    let peer = bench.peer(true);
    bench.receive(peer, announcement(&transactions(1, 10)));
    let actions = bench.core.skipped(&peer, bench.now);
    let again = words(&[peer], &bench.settle(actions));
    assert_eq!(again, ["0 request for a block Whole"]);
    let time = 2 * CompactConfig::default().give_up_after;
    assert!(words(&[peer], &bench.wait(time)).is_empty());
    assert_eq!(bench.core.in_progress(), 0);
}

#[test]
fn an_answer_that_comes_though_another_frame_was_lost_is_taken() {
    let mut bench = bench();
    let peer = bench.peer(true);
    let all = transactions(1, 10);
    bench.receive(peer, announcement(&all));
    for lost in 1..3 {
        let actions = bench.core.skipped(&peer, bench.now);
        let asked = words(&[peer], &bench.settle(actions)).len();
        assert_eq!(asked, usize::from(lost == 1), "it gives the whole once");
    }
    bench.receive(peer, whole(&all));
    assert!(bench.core.is_accepted(&block(&all).0));
}

/// A peer tells of four blocks and answers for each in turn, at so many bytes in 100 ms: who is blamed, and how many blocks are here in the end.
fn one_after_the_other(pace: usize) -> (Vec<String>, usize) {
    const LENGTH: usize = 4 << 20;
    let mut bench = bench();
    let peer = bench.peer(true);
    let blocks: Vec<_> = (1..=4).map(|seed| transactions(seed, 10)).collect();
    for all in &blocks {
        bench.receive(peer, announcement(all));
    }
    let mut happened = Vec::new();
    for all in &blocks {
        // Long frames are told apart by their lengths.
        let length = LENGTH + usize::from(all[0][0]);
        for bytes in (pace..length).step_by(pace) {
            happened.extend(bench.wait(STEP));
            let actions = bench.core.comes(&peer, (bytes, length), bench.now);
            happened.extend(bench.settle(actions));
        }
        happened.extend(bench.receive(peer, whole(all)));
    }
    let are_here = blocks
        .iter()
        .filter(|all| bench.core.is_accepted(&block(all).0));
    let blamed = happened.extract_if(.., |it| matches!(it, Action::Misdeed { .. }));
    (
        words(&[peer], &blamed.collect::<Vec<_>>()),
        are_here.count(),
    )
}

#[test]
fn who_was_asked_for_four_blocks_at_once_sends_them_all_over_a_slow_line() {
    for pace in [50_000, 25_000, 10_000] {
        assert_eq!(one_after_the_other(pace), (Vec::new(), 4), "{pace}");
    }
}

#[test]
fn who_lets_the_first_of_four_answers_drip_pays_for_all_when_that_has_had_its_time() {
    // A little more than what is as good as nothing.
    let pace = 3400;
    let mut bench = bench();
    let peer = bench.peer(true);
    for seed in 1..=4 {
        bench.receive(peer, announcement(&transactions(seed, 10)));
    }
    let begin = bench.now;
    let mut blamed = Vec::new();
    for step in 1..1000 {
        let actions = bench.core.comes(&peer, (pace * step, 4 << 20), bench.now);
        blamed.extend(bench.settle(actions));
        blamed.extend(bench.wait(STEP));
        if bench.core.in_progress() == 0 {
            break;
        }
    }
    assert_eq!(words(&[peer], &blamed), ["0 NoAnswer"; 4]);
    let took = bench.now - begin;
    let most = CompactConfig::default().give_up_after * 3 + STEP;
    assert!(took <= most, "{took:?}");
}

#[test]
fn who_answers_all_but_the_first_question_pays_for_that_as_soon_as_ever() {
    let mut bench = bench();
    let peer = bench.peer(true);
    bench.receive(peer, announcement(&transactions(1, 10)));
    let mut blamed = Vec::new();
    let give_up_after = CompactConfig::default().give_up_after;
    for seed in 2..=20 {
        blamed.extend(bench.wait(give_up_after / 20));
        let all = transactions(seed, 10);
        bench.receive(peer, announcement(&all));
        bench.receive(peer, whole(&all));
        assert!(bench.core.is_accepted(&block(&all).0));
    }
    assert!(blamed.is_empty());
    blamed.extend(bench.wait(give_up_after / 20));
    assert_eq!(words(&[peer], &blamed), ["0 NoAnswer"]);
}

#[test]
fn a_line_that_falters_while_an_answer_comes_has_its_time_anew() {
    let mut bench = bench();
    let peer = bench.peer(true);
    let all = transactions(1, 10);
    bench.receive(peer, announcement(&all));
    let mut happened = Vec::new();
    for step in 1..300 {
        happened.extend(bench.wait(STEP));
        // A second each ten.
        if step % 100 >= 10 {
            let actions = bench.core.comes(&peer, (10_000 * step, 4 << 20), bench.now);
            happened.extend(bench.settle(actions));
        }
    }
    assert_eq!(words(&[peer], &happened), [""; 0]);
    bench.receive(peer, whole(&all));
    assert!(bench.core.is_accepted(&block(&all).0));
}

#[test]
fn nobody_is_late_with_what_it_was_not_asked_for_yet() {
    let mut bench = bench();
    bench.keeps = |action| matches!(action, Action::Ask { .. });
    let peers = [bench.peer(true), bench.peer(false)];
    let all = transactions(1, 10);
    let told = bench.receive(peers[0], announcement(&all));
    assert_eq!(words(&peers, &told), ["0 is to be asked"]);
    bench.receive(peers[1], announcement(&all));
    let config = CompactConfig::default();
    let others = bench.wait(config.patience);
    assert_eq!(words(&peers, &others), ["1 is to be asked"], "meanwhile");
    assert!(bench.wait(config.give_up_after).is_empty());
    let request = bench.core.next_request(&peers[0], bench.now);
    assert_eq!(request, Some(get(&block(&all).0, Form::Compact)));
    assert!(!bench.core.has_request(&peers[0]));
    let almost = config.give_up_after - STEP;
    assert!(bench.wait(almost).is_empty());
    let late = bench.wait(STEP);
    assert_eq!(words(&peers, &late), ["0 NoAnswer"]);
    // It reads nothing for so long that it could not be asked at all, and holds a place.
    let deaf = bench.wait(config.give_up_after);
    assert_eq!(words(&peers, &deaf), ["1 NoAnswer"]);
    assert_eq!(bench.core.in_progress(), 0);
}

#[test]
fn what_came_another_way_meanwhile_is_not_asked_for() {
    let mut bench = bench();
    bench.keeps = |action| matches!(action, Action::Ask { .. });
    let [stuck, other] = [bench.peer(true), bench.peer(false)];
    let all = transactions(1, 10);
    bench.receive(stuck, announcement(&all));
    bench.receive(other, whole(&all));
    assert!(bench.core.is_accepted(&block(&all).0));
    assert!(!bench.core.has_request(&stuck));
    assert_eq!(bench.core.next_request(&stuck, bench.now), None);
}
