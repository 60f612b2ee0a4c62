//! Peers that lie, stall or change their minds: the honest ones' chain comes all the same, and who lied pays.

use std::{cell::Cell, rc::Rc};

use proptest::prelude::*;

use super::{
    network::{Answers, Network},
    small_chain::{BAD, BAD_NUMBER, SmallChain, block, header, read},
    *,
};
use crate::{chain::ChainStore, platform::test};

/// What a liar does; its chain is the honest one unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lie {
    /// It answers nothing.
    Silent,
    /// It sends a byte of a block each second.
    Drips,
    /// Other blocks than the asked ones.
    WrongBlocks,
    /// A block with a byte changed.
    Flipped,
    /// One header is left out.
    Unlinked,
    /// It says that its chain is much longer.
    Boasts,
    /// A longer chain with a block that the chain rejects.
    BadBlock,
    /// A longer chain with a header that the chain rejects.
    BadHeader,
    /// Headers without an end, and no blocks.
    Endless,
    /// It has none of the blocks of which it sent the headers.
    ChangesItsMind,
    /// Another tip each time it speaks, and nothing behind it.
    Flutters,
    /// All is refused.
    Busy,
    /// More blocks than were asked for.
    TooMany,
    /// Pieces of a block that never end.
    EndlessBlock,
}

const LIES: [Lie; 14] = [
    Lie::Silent,
    Lie::Drips,
    Lie::WrongBlocks,
    Lie::Flipped,
    Lie::Unlinked,
    Lie::Boasts,
    Lie::BadBlock,
    Lie::BadHeader,
    Lie::Endless,
    Lie::ChangesItsMind,
    Lie::Flutters,
    Lie::Busy,
    Lie::TooMany,
    Lie::EndlessBlock,
];

impl Lie {
    /// What it pays for when it is asked, if it pays.
    fn misdeeds(self) -> &'static [Misdeed] {
        match self {
            Self::Silent => &[Misdeed::NoAnswer],
            Self::Drips => &[Misdeed::NoAnswer],
            Self::WrongBlocks | Self::Flipped | Self::BadBlock | Self::BadHeader => {
                &[Misdeed::InvalidItem]
            }
            Self::Unlinked | Self::TooMany | Self::EndlessBlock => &[Misdeed::InvalidMessage],
            Self::Boasts | Self::Flutters => &[Misdeed::FalseAnnouncement],
            Self::Endless | Self::ChangesItsMind => &[Misdeed::FalseAnnouncement],
            Self::Busy => &[],
        }
    }

    fn chain(self, honest: &SmallChain) -> SmallChain {
        let length = honest.tip().height;
        match self {
            Self::BadBlock => {
                let chain = honest.fork(length / 2);
                chain.put(&block(&chain.tip(), 9, BAD));
                chain.grow(length, 9, 300);
                chain
            }
            Self::BadHeader => {
                let chain = honest.fork(length / 2);
                chain.grow(1, BAD_NUMBER, 300);
                chain.grow(length, 9, 300);
                chain
            }
            _ => honest.fork(length),
        }
    }

    fn answers(self, honest: &SmallChain) -> Answers {
        self.answers_of(self.chain(honest))
    }

    fn answers_of(self, chain: SmallChain) -> Answers {
        let mut flutters = 0;
        Box::new(move |_, kind| {
            let soon = |kind| vec![(Duration::ZERO, kind)];
            match (self, &kind) {
                (_, Kind::Status(_)) => {
                    let tip = self.tip(&chain, &mut flutters);
                    soon(Kind::Status(Status::new(&tip, 0)))
                }
                (Self::Silent, _) => Vec::new(),
                (Self::Busy, Kind::GetHeaders(wire::GetHeaders { number, .. }))
                | (Self::Busy, Kind::GetBlocks(wire::GetBlocks { number, .. })) => {
                    soon(Kind::Refusal(wire::Refusal {
                        number: *number,
                        reason: 0,
                    }))
                }
                (_, Kind::GetHeaders(request)) => {
                    soon(Kind::Headers(self.headers(&chain, request, &mut flutters)))
                }
                (_, Kind::GetBlocks(request)) => self.blocks(&chain, request),
                _ => Vec::new(),
            }
        })
    }

    fn tip(self, chain: &SmallChain, flutters: &mut u64) -> BlockPlace {
        let mut tip = chain.tip();
        match self {
            Self::Boasts | Self::Endless => tip.height += 1_000_000,
            Self::Flutters => {
                *flutters += 1;
                tip = BlockPlace {
                    height: tip.height + *flutters,
                    id: ItemId::sha256(&flutters.to_le_bytes()),
                };
            }
            _ => {}
        }
        tip
    }

    fn headers(
        self,
        chain: &SmallChain,
        request: &wire::GetHeaders,
        flutters: &mut u64,
    ) -> wire::Headers {
        let locator = request.locator().expect("places");
        let held = |place: &&BlockPlace| chain.id_at(place.height).as_ref() == Some(&place.id);
        let common = locator.iter().find(held);
        let mut headers = Vec::new();
        if self == Self::Endless {
            let mut place = locator[0].clone();
            for _ in 0..wire::MAX_HEADERS {
                let next = header(&block(&place, 77, b"nowhere"));
                place = read(&next).expect("a header").place();
                headers.push(next);
            }
        } else if let Some(common) = common {
            headers = chain.headers(common.height + 1, wire::MAX_HEADERS, 1 << 20);
        }
        if self == Self::Unlinked && headers.len() > 2 {
            headers.remove(1);
        }
        if self == Self::Flutters {
            headers.clear();
        }
        wire::Headers {
            number: request.number,
            headers,
            tip: Some(Status::new(&self.tip(chain, flutters), 0)),
        }
    }

    fn blocks(self, chain: &SmallChain, request: &wire::GetBlocks) -> Vec<(Duration, Kind)> {
        let number = request.number;
        let find = |id: &Bytes| chain.block(&ItemId::new(id)?);
        let mut blocks: Vec<Bytes> = request
            .ids
            .iter()
            .filter_map(find)
            .map(|b| b.data)
            .collect();
        let empty = wire::Blocks {
            number,
            ..wire::Blocks::default()
        };
        let soon = |answer| vec![(Duration::ZERO, Kind::Blocks(answer))];
        match self {
            Self::Drips => {
                let data = blocks.first().cloned().unwrap_or_default();
                let drop = |place: usize| {
                    let piece = wire::Blocks {
                        piece: data.slice(place..=place),
                        size: data.len() as u64,
                        ..empty.clone()
                    };
                    (seconds(place as u64), Kind::Blocks(piece))
                };
                return (0..data.len()).map(drop).collect();
            }
            Self::WrongBlocks => blocks = vec![block(&chain.tip(), 3, b"wrong").data],
            Self::Flipped => {
                if let Some(first) = blocks.first_mut() {
                    let mut bytes = first.to_vec();
                    *bytes.last_mut().expect("not empty") ^= 1;
                    *first = bytes.into();
                }
            }
            Self::Endless | Self::ChangesItsMind => blocks.clear(),
            Self::TooMany => blocks.extend(blocks.clone()),
            Self::EndlessBlock => {
                let piece = wire::Blocks {
                    piece: vec![0; 1000].into(),
                    size: 1500,
                    ..empty
                };
                return vec![
                    (Duration::ZERO, Kind::Blocks(piece.clone())),
                    (Duration::ZERO, Kind::Blocks(piece)),
                ];
            }
            _ => {}
        }
        soon(wire::Blocks {
            blocks,
            ended: request.ids.len() as u64 + 1,
            ..empty
        })
    }
}

/// A new node between liars and honest peers; which of them comes first the seed says.
fn among(lies: &[Lie], honest: usize, seed: u8) -> (Network, SmallChain, Vec<usize>) {
    let chain = SmallChain::of(600, 500);
    let mut network = Network::new(seed);
    let sink = network.node(SmallChain::default());
    let mut liars = Vec::new();
    for lie in lies {
        let liar = network.other(lie.answers(&chain));
        liars.push(liar);
        network.link(sink, liar, millis(5), MEGABYTE);
    }
    for _ in 0..honest {
        let source = network.node(chain.fork(600));
        network.link(sink, source, millis(25), MEGABYTE);
    }
    // They answer a status with their own.
    (network, chain, liars)
}

#[test]
fn each_liar_alone_holds_up_nobody_and_pays() {
    for lie in LIES {
        for seed in 0..3 {
            let (mut network, chain, liars) = among(&[lie], 2, seed);
            let took = network.run_until(seconds(120), |network| has(network, 0, &chain));
            let tip = network.chain(0).tip().height;
            assert!(took.is_some(), "{lie:?} {seed}: {tip}");
            network.run_for(seconds(1));
            let super::network::Actor::Node { sync, .. } = &network.nodes[0].actor else {
                panic!("it is ours");
            };
            assert_eq!(sync.held, 0, "{lie:?} {seed}");
            let liar = network.nodes[liars[0]].id;
            let misdeeds = &network.nodes[0].misdeeds;
            if misdeeds.contains(&(liar, Misdeed::InvalidMessage)) {
                assert!(!sync.asked.contains(&liar), "{lie:?} {seed}: it waits");
            }
            let others = misdeeds.iter().filter(|(peer, _)| *peer != liar);
            assert_eq!(others.count(), 0, "{lie:?} {seed}: {misdeeds:?}");
        }
    }
}

#[test]
fn each_liar_pays_where_it_is_asked() {
    for lie in LIES.into_iter().filter(|lie| !lie.misdeeds().is_empty()) {
        let paid = (0..8).any(|seed| {
            let (mut network, _, liars) = among(&[lie], 1, seed);
            network.run_for(seconds(100));
            let liar = network.nodes[liars[0]].id;
            let right = |(peer, misdeed): &(PeerId, Misdeed)| {
                *peer == liar && lie.misdeeds().contains(misdeed)
            };
            network.nodes[0].misdeeds.iter().any(right)
        });
        assert!(paid, "{lie:?}");
    }
}

#[test]
fn who_is_busy_late_and_always_is_asked_ever_more_seldom() {
    let asked = Rc::new(Cell::new(0));
    let count = Rc::clone(&asked);
    let mut network = Network::new(29);
    let sink = network.node(SmallChain::default());
    let busy = network.other(Box::new(move |_, kind| match kind {
        Kind::GetHeaders(request) => {
            count.set(count.get() + 1);
            let refusal = wire::Refusal {
                number: request.number,
                reason: wire::Reason::Busy as i32,
            };
            vec![(millis(9900), Kind::Refusal(refusal))]
        }
        _ => Vec::new(),
    }));
    network.link(sink, busy, millis(5), MEGABYTE);
    let tip = SmallChain::of(100, 10).tip();
    network.tell(busy, sink, Kind::Status(Status::new(&tip, 0)));
    network.run_for(seconds(120));
    assert!((4..=7).contains(&asked.get()), "{}", asked.get());
    assert!(network.nodes[sink].misdeeds.is_empty());
}

#[test]
fn headers_without_an_end_take_bounded_memory() {
    let (mut network, _, _) = among(&[Lie::Endless], 0, 5);
    for _ in 0..100 {
        network.run_for(seconds(1));
        let super::network::Actor::Node { sync, .. } = &network.nodes[0].actor else {
            panic!("it is ours");
        };
        let most = SyncConfig::default().max_headers + wire::MAX_HEADERS;
        assert!(
            sync.branch
                .as_ref()
                .is_none_or(|branch| branch.len() <= most)
        );
    }
    assert_eq!(network.chain(0).tip().height, 0);
}

#[test]
fn where_all_have_what_the_chain_rejects_nobody_pays() {
    let theirs = SmallChain::of(50, 300);
    theirs.put(&block(&theirs.tip(), 0, BAD));
    theirs.grow(50, 0, 300);
    let mut network = sources(12, &theirs, &[MEGABYTE; 3]);
    network.run_for(seconds(200));
    assert_eq!(network.chain(0).tip().height, 50);
    assert!(
        network.nodes[0].misdeeds.is_empty(),
        "{:?}",
        network.nodes[0].misdeeds
    );
    let last = network.nodes[0].statuses.last().expect("some");
    let trouble = last.trouble.as_deref().expect("it is told");
    assert!(
        trouble.contains("at height 51 is rejected: a bad body (3 of 3 peers"),
        "{trouble}"
    );
}

#[test]
fn headers_of_a_longer_branch_without_its_blocks_undo_nothing() {
    let ours = SmallChain::of(150, 300);
    let theirs = ours.fork(100);
    theirs.grow(100, 1, 300);
    let mut network = Network::new(21);
    let sink = network.node(ours);
    let liar = network.other(Box::new(move |_, kind| {
        let answer = match &kind {
            Kind::Status(_) => Kind::Status(Status::new(&theirs.tip(), 0)),
            Kind::GetHeaders(request) => {
                Kind::Headers(Lie::ChangesItsMind.headers(&theirs, request, &mut 0))
            }
            Kind::GetBlocks(request) => {
                let first = theirs.block(&ItemId::new(&request.ids[0]).expect("an id"));
                let first = first.expect("it is here");
                if theirs.read_block(&first).expect("a block").height > 110 {
                    return Vec::new();
                }
                Kind::Blocks(wire::Blocks {
                    number: request.number,
                    blocks: vec![first.data],
                    ended: 2,
                    ..wire::Blocks::default()
                })
            }
            _ => return Vec::new(),
        };
        vec![(millis(50), answer)]
    }));
    network.link(sink, liar, millis(5), MEGABYTE);
    network.run_for(seconds(8));
    assert!(network.core(sink).held > 0, "the first ones have come");
    assert_eq!(network.chain(sink).appended(), 0);
}

#[test]
fn what_one_stranger_has_is_no_trouble_of_ours() {
    let chain = SmallChain::of(20, 300);
    let mut network = sources(22, &chain, &[MEGABYTE]);
    network.run_until(seconds(20), |network| has(network, 0, &chain));
    network.run_for(seconds(2));
    let theirs = chain.fork(20);
    theirs.grow(3, BAD_NUMBER, 300);
    let liar = network.other(Lie::BadHeader.answers_of(theirs));
    network.link(0, liar, millis(5), MEGABYTE);
    network.run_for(seconds(100));
    let refused = !network.core(0).blame.is_empty();
    assert!(refused, "it was asked");
    let statuses = &network.nodes[0].statuses;
    let trouble = statuses.iter().find_map(|status| status.trouble.clone());
    assert_eq!(trouble, None);
}

#[test]
fn what_one_stranger_has_is_no_trouble_of_ours_though_another_boasts() {
    let chain = SmallChain::of(20, 300);
    let mut network = sources(30, &chain, &[MEGABYTE]);
    network.run_until(seconds(20), |network| has(network, 0, &chain));
    let theirs = chain.fork(20);
    theirs.grow(3, BAD_NUMBER, 300);
    let tip = theirs.tip();
    let boaster = network.other(Box::new(|_, _| Vec::new()));
    network.link(0, boaster, millis(5), MEGABYTE);
    network.tell(boaster, 0, Kind::Status(Status::new(&tip, 0)));
    let liar = network.other(Lie::BadHeader.answers_of(theirs));
    network.link(0, liar, millis(5), MEGABYTE);
    network.run_for(seconds(60));
    assert!(!network.core(0).blame.is_empty(), "it was asked");
    let statuses = &network.nodes[0].statuses;
    let trouble = statuses.iter().find_map(|status| status.trouble.clone());
    assert_eq!(trouble, None);
}

#[test]
fn what_was_rejected_is_no_trouble_once_the_chain_has_gone_past_it() {
    let chain = SmallChain::of(20, 300);
    let mut network = Network::new(23);
    let sink = network.node(chain.fork(20));
    let theirs = chain.fork(20);
    theirs.grow(3, BAD_NUMBER, 300);
    let liar = network.other(Lie::BadHeader.answers_of(theirs));
    network.link(sink, liar, millis(5), MEGABYTE);
    network.run_for(seconds(10));
    let trouble = |network: &Network| {
        network.nodes[0]
            .statuses
            .last()
            .expect("told")
            .trouble
            .clone()
    };
    assert!(trouble(&network).is_some_and(|trouble| trouble.contains("height 21")));
    network.offer(sink, &block(&chain.tip(), 0, b"the next"), None);
    network.run_for(seconds(1));
    assert_eq!(trouble(&network), None);
}

#[test]
fn what_is_appended_of_one_branch_is_not_taken_off_another() {
    let right = SmallChain::of(400, 300);
    let theirs = SmallChain::default();
    theirs.grow(300, 1, 300);
    let mut network = Network::new(24);
    network.append = seconds(2);
    let sink = network.node(SmallChain::default());
    let liar = network.other(Box::new(move |_, kind| match &kind {
        Kind::Status(_) => vec![(Duration::ZERO, Kind::Status(Status::new(&theirs.tip(), 0)))],
        Kind::GetHeaders(request) => vec![(
            Duration::ZERO,
            Kind::Headers(Lie::WrongBlocks.headers(&theirs, request, &mut 0)),
        )],
        Kind::GetBlocks(request) => {
            let first = theirs.block(&ItemId::new(&request.ids[0]).expect("an id"));
            let answer = |data: Bytes| {
                Kind::Blocks(wire::Blocks {
                    number: request.number,
                    blocks: vec![data],
                    ..wire::Blocks::default()
                })
            };
            // The first one is right, and is being appended when the other comes.
            vec![
                (Duration::ZERO, answer(first.expect("it is here").data)),
                (millis(500), answer(block(&theirs.tip(), 3, b"wrong").data)),
            ]
        }
        _ => Vec::new(),
    }));
    let source = network.node(right.clone());
    network.link(sink, liar, millis(5), MEGABYTE);
    network.run_for(millis(300));
    network.link(sink, source, millis(5), 10.0 * MEGABYTE);
    let took = network.run_until(seconds(25), |network| has(network, sink, &right));
    assert!(took.is_some(), "{:?}", network.chain(sink).tip());
}

#[test]
fn answers_that_nobody_asked_for_cost() {
    let (mut network, chain, liars) = among(&[Lie::Silent], 1, 6);
    network.run_until(seconds(60), |network| has(network, 0, &chain));
    let answer = wire::Blocks {
        number: 1_000_000,
        blocks: vec![Bytes::from_static(b"unasked")],
        ..wire::Blocks::default()
    };
    network.tell(liars[0], 0, Kind::Blocks(answer));
    network.run_for(seconds(1));
    let liar = network.nodes[liars[0]].id;
    let misdeeds = &network.nodes[0].misdeeds;
    assert!(misdeeds.contains(&(liar, Misdeed::InvalidMessage)));
}

#[test]
fn who_asks_too_much_at_once_or_reads_nothing_is_not_served_for_ever() {
    let (mut network, chain, liars) = among(&[Lie::Silent], 1, 7);
    network.run_until(seconds(60), |network| has(network, 0, &chain));
    let ids = [chain.id_at(1).expect("it is here")];
    for number in 0..20 {
        let request = wire::GetBlocks::new(number, &ids, 1000);
        network.tell(liars[0], 0, Kind::GetBlocks(request));
    }
    network.run_for(seconds(1));
    let liar = network.nodes[liars[0]].id;
    let misdeeds = &network.nodes[0].misdeeds;
    assert!(misdeeds.contains(&(liar, Misdeed::TooManyMessages)));
}

/// Field of bytes, as Protocol Buffers have it.
fn field(key: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![key];
    prost::encoding::encode_varint(bytes.len() as u64, &mut field);
    field.extend(bytes);
    field
}

#[test]
fn a_padded_block_keeps_no_more_than_itself() {
    // A block, and much that no one knows.
    let answer = [field(0x12, &[7; 200]), field(0x7a, &[0; 60_000])].concat();
    let frame = field(wire::KEY, &field(0x2a, &answer));
    let Ok(Kind::Blocks(mut answer)) = Kind::read(frame.into()) else {
        panic!("unknown fields are none of our business");
    };
    let block = answer.blocks.remove(0);
    drop(answer);
    let block = block.try_into_mut().expect("nobody else has it");
    assert!(
        block.len() == 200 && block.capacity() < 1000,
        "{}",
        block.capacity()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_liars_together_hold_up_no_honest_peer(
        lies in proptest::collection::vec(0..LIES.len(), 1..6),
        seed in any::<u8>(),
    ) {
        let lies: Vec<_> = lies.into_iter().map(|lie| LIES[lie]).collect();
        let (mut network, chain, liars) = among(&lies, 2, seed);
        let took = network.run_until(seconds(300), |network| has(network, 0, &chain));
        prop_assert!(took.is_some(), "{:?}", network.chain(0).tip());
        let liars: Vec<_> = liars.iter().map(|liar| network.nodes[*liar].id).collect();
        for (peer, misdeed) in &network.nodes[0].misdeeds {
            prop_assert!(liars.contains(peer), "{misdeed:?}");
        }
    }

    #[test]
    fn frames_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Kind::read(bytes.clone().into());
        let mut framed = vec![wire::KEY, u8::try_from(bytes.len() % 128).expect("small")];
        framed.extend(bytes);
        let _ = Kind::read(framed.into());
    }
}
