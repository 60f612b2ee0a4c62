use super::{
    coded::{Announce, ChunkSet, Frame},
    compact::{
        CompactBlock, Form, GetBlock, HeaderCheck, MissingTransactions, Transactions,
        test_chain::{TestChain, block},
    },
    *,
};
use crate::{
    chain::{Checked, TransactionKey, Verdict},
    intake::DeliveredBlocks,
    platform::test,
    propagation::{pool::Pieces, wire::Frame as LaneFrame},
};

#[test]
fn a_block_whose_check_outlasts_its_chunks_goes_to_others_all_the_same() {
    let [maker, other] = [(); 2].map(|()| PeerId::random());
    let mut now = crate::platform::now();
    let config = PropagationConfig::default();
    let pool = Mempool::new(config.mempool.clone(), &[1; 16]);
    let (delivered, pieces) = (DeliveredBlocks::new(10, &[1; 16]), Pieces::default());
    let mut blocks = Blocks::new(&config, [[2; 16]; 2]);
    blocks.joined(maker, true, now);
    blocks.joined(other, true, now);
    let transactions = (0..5).map(|number| vec![number; 60_000].into());
    let (id, block, parts) = block(&transactions.collect::<Vec<_>>());
    let encoded = Encoded::of(id, parts.header, block.data.clone()).expect("a block");
    let announcement = encoded.announcement().clone();
    let have = ChunkSet::EMPTY;
    let chunks = (0..=u8::MAX).map_while(|index| encoded.chunk(index));
    let chunks = chunks.take(announcement.shape().data_chunks());
    let mut frames = vec![Frame::Announce(Announce { announcement, have })];
    frames.extend(chunks.map(Frame::Chunk));
    let mut check = None;
    for frame in frames {
        let mut outputs = blocks.on_coded(maker, frame, now);
        while let Some(output) = outputs.pop() {
            match output {
                Output::Ask(question @ Question::CodedBlock { .. }) => check = Some(question),
                Output::Ask(question) => {
                    let answer = question.ask_now(TestChain, &delivered, &pieces);
                    outputs.extend(blocks.answered(answer, &pool, now));
                }
                _ => {}
            }
        }
    }
    let answer = check.expect("it is decoded");
    let answer = answer.ask_now(TestChain, &delivered, &pieces);
    now += config.coded.lifetime;
    blocks.on_time(&pool, now);
    while blocks.next(&other, coded::MAX_FRAME, now).is_some() {}
    for output in blocks.answered(answer, &pool, now) {
        if let Output::Ask(question) = output {
            let answer = question.ask_now(TestChain, &delivered, &pieces);
            blocks.answered(answer, &pool, now);
        }
    }
    assert!(blocks.next(&other, coded::MAX_FRAME, now).is_some());
}

#[test]
fn who_was_told_of_a_block_on_other_streams_is_not_told_again_where_it_does_not_go_in_chunks() {
    let (peer, now) = (PeerId::random(), crate::platform::now());
    let config = PropagationConfig::default();
    let pool = Mempool::new(config.mempool.clone(), &[1; 16]);
    let mut blocks = Blocks::new(&config, [[2; 16]; 2]);
    blocks.joined(peer, true, now);
    let transactions = (0..5).map(|number| vec![number; 60_000].into());
    let (id, block, _) = block(&transactions.collect::<Vec<_>>());
    let accepted = AcceptedBlock::new(id.clone(), block, TestChain);
    let outputs = blocks.accepted(accepted, &pool, now);
    assert!(matches!(outputs[..], [Output::Ask(Question::Encode(..))]));
    // Meanwhile.
    let mut outputs = blocks.moved(peer, true, now);
    outputs.extend(blocks.answered(Answer::Encoded(id, None), &pool, now));
    let told = outputs.iter();
    let told = told.filter(|output| matches!(output, Output::Send(..)));
    assert_eq!(told.count(), 1, "who tells twice pays");
}

#[test]
fn what_finds_no_room_in_a_queue_is_told_when_there_is_some() {
    let [asks, other] = [(); 2].map(|()| PeerId::random());
    let now = crate::platform::now();
    let config = PropagationConfig::default();
    let pool = Mempool::new(config.mempool.clone(), &[1; 16]);
    let mut blocks = Blocks::new(&config, [[2; 16]; 2]);
    blocks.joined(asks, true, now);
    blocks.joined(other, true, now);
    let message = |frame: &mut Bytes| {
        let length = prost::decode_length_delimiter(&mut *frame);
        assert_eq!(length.expect("a length"), frame.len());
        match LaneFrame::read(frame.clone()) {
            Ok(Kind::Block(message)) => BlockMessage::decode(message, 1 << 20).expect("right"),
            other => panic!("{other:?}"),
        }
    };
    let (mut told, mut ids) = (Vec::new(), Vec::new());
    for number in 0..3 {
        let (id, block, parts) = block(&[vec![number; 100].into()]);
        let accepted = AcceptedBlock {
            id: id.clone(),
            keys: parts
                .transactions
                .iter()
                .map(|data| TransactionKey::of(data))
                .collect(),
            key: TransactionKey::of(&block.data),
            block,
            parts: Some(parts),
            is_first: true,
        };
        for output in blocks.accepted(accepted, &pool, now) {
            match output {
                Output::Send(peer, _, mut frame) => told.push((peer, message(&mut frame))),
                other => panic!("{other:?}"),
            }
        }
        ids.push(id);
    }
    assert_eq!(told.len(), 6);
    let request = compact::GetBlock {
        id: ids[0].clone(),
        form: compact::Form::Compact,
    };
    blocks.on_block(asks, BlockMessage::GetBlock(request), now);
    for (peer, message) in &told {
        blocks.dropped(*peer, message);
    }
    let mut asked = blocks.next(&asks, 1 << 20, now).expect("it asked").bytes;
    assert_eq!(message(&mut asked).name(), "whole block");
    for (peer, missed) in [(asks, &ids[1..]), (other, &ids[..])] {
        for id in missed {
            let mut told = blocks.next(&peer, 1 << 20, now).expect("it missed it");
            match message(&mut told.bytes) {
                BlockMessage::Announcement(announcement) => assert_eq!(announcement.id, *id),
                other => panic!("{other:?}"),
            }
        }
        assert!(blocks.next(&peer, 1 << 20, now).is_none(), "once");
    }
    assert!(blocks.behind.is_empty());
}

#[test]
fn who_has_the_chain_asked_in_vain_pays_by_its_limits() {
    let (peer, now) = (PeerId::random(), crate::platform::now());
    let config = PropagationConfig::default();
    let pool = Mempool::new(config.mempool.clone(), &[1; 16]);
    let mut blocks = Blocks::new(&config, [[2; 16]; 2]);
    blocks.joined(peer, false, now);
    let id = ItemId::sha256(b"a block");
    let header = Bytes::from_static(b"a header");
    let check = HeaderCheck { id, header, peer };
    for (verdict, pays) in [
        (Verdict::Ignore, true),
        (Verdict::Accept, false),
        (Verdict::Reject, false),
    ] {
        let checked = Checked {
            id: check.id.clone(),
            verdict,
            ..Checked::ignore(b"a header", "")
        };
        let answer = Answer::Header(check.clone(), checked);
        let outputs = blocks.answered(answer, &pool, now);
        let surcharge = outputs.iter().find_map(|output| match output {
            Output::Surcharge(who, Class::Block, cost) => Some((*who, cost.items)),
            _ => None,
        });
        assert_eq!(surcharge, pays.then_some((peer, IN_VAIN)), "{verdict:?}");
    }
}

/// A block that came in compact form and is put together: what the chain is asked about it.
fn joined(
    blocks: &mut Blocks,
    maker: PeerId,
    transactions: &[Bytes],
    now: Instant,
) -> (ItemId, Question) {
    let config = PropagationConfig::default();
    let pool = Mempool::new(config.mempool, &[1; 16]);
    let (id, _, parts) = block(transactions);
    let compact = CompactBlock::new(id.clone(), &parts, 1, 8 << 20, |_, _| true);
    let compact = BlockMessage::Compact(compact.expect("it has a compact form"));
    let mut outputs = blocks.on_block(maker, compact, now);
    loop {
        match outputs.pop().expect("it is checked") {
            Output::Ask(question @ Question::Block(_)) => return (id, question),
            Output::Ask(question) => {
                let answer = question.ask_now(
                    TestChain,
                    &DeliveredBlocks::new(10, &[1; 16]),
                    &Pieces::default(),
                );
                outputs.extend(blocks.answered(answer, &pool, now));
            }
            _ => {}
        }
    }
}

/// A frame as it comes to a peer that reads all the time.
fn frame(blocks: &mut Blocks, peer: &PeerId, now: Instant) -> Option<BlockMessage> {
    let mut bytes = Vec::new();
    loop {
        let outgoing = blocks.next(peer, 10_000, now)?;
        bytes.extend(outgoing.bytes);
        if outgoing.frames > 0 {
            break;
        }
    }
    let mut frame = Bytes::from(bytes);
    let length = prost::decode_length_delimiter(&mut frame);
    assert_eq!(length.expect("a length"), frame.len());
    match LaneFrame::read(frame) {
        Ok(Kind::Block(message)) => Some(BlockMessage::decode(message, 16 << 20).expect("right")),
        other => panic!("{other:?}"),
    }
}

// Only natively: seconds there, many in a browser, which adds nothing.
#[core::prelude::v1::test]
fn who_reads_nothing_of_what_it_asks_for_holds_no_blocks_of_its_own() {
    const SIZE: usize = 4_000_000;
    let now = crate::platform::now();
    let config = PropagationConfig::default();
    let pool = Mempool::new(config.mempool.clone(), &[1; 16]);
    let mut blocks = Blocks::new(&config, [[2; 16]; 2]);
    let peers = [(); 20].map(|()| PeerId::random());
    peers
        .iter()
        .for_each(|peer| drop(blocks.joined(*peer, false, now)));
    let (mut held, mut number) = (0, 0_u8);
    for peer in peers {
        // Four blocks that nobody else asks for.
        for _ in 0..4 {
            number += 1;
            let transactions = vec![Bytes::from(vec![number; SIZE / 64]); 64];
            let (id, block, _) = block(&transactions);
            let accepted = AcceptedBlock::new(id.clone(), block, TestChain);
            blocks.accepted(accepted, &pool, now);
            let whole = GetBlock {
                id: id.clone(),
                form: Form::Whole,
            };
            let indexes = (1..64).collect();
            let missing = MissingTransactions { id, indexes };
            for question in [
                BlockMessage::GetBlock(whole),
                BlockMessage::GetTransactions(missing),
            ] {
                let outputs = blocks.on_block(peer, question, now);
                let sent = outputs.into_iter().map(|output| match output {
                    Output::Send(_, _, frame) => frame.len(),
                    _ => 0,
                });
                held += sent.sum::<usize>();
            }
        }
        // What its stream has room for, and no more.
        held += blocks
            .next(&peer, BLOCK_ROOM, now)
            .map_or(0, |outgoing| outgoing.bytes.len());
    }
    assert!(held < 20 * (BLOCK_ROOM + 1000), "{held}");
}

#[test]
fn who_does_not_read_keeps_no_block_from_others() {
    let [maker, unread, little, much] = [(); 4].map(|()| PeerId::random());
    let now = crate::platform::now();
    let config = PropagationConfig::default();
    let pool = Mempool::new(config.mempool.clone(), &[1; 16]);
    let mut blocks = Blocks::new(&config, [[2; 16]; 2]);
    for peer in [maker, unread, little, much] {
        blocks.joined(peer, false, now);
    }
    let ask = |blocks: &mut Blocks, peer, id: &ItemId, indexes| {
        let id = id.clone();
        let missing = MissingTransactions { id, indexes };
        let outputs = blocks.on_block(peer, BlockMessage::GetTransactions(missing), now);
        assert!(matches!(outputs[..], [Output::Feed(fed)] if fed == peer));
    };
    // One asks for almost all of all that is kept, and reads nothing.
    for number in 0..7_u8 {
        let transactions = vec![Bytes::from(vec![100 + number; 60_000]); 60];
        let (id, block, _) = block(&transactions);
        let accepted = AcceptedBlock::new(id.clone(), block, TestChain);
        blocks.accepted(accepted, &pool, now);
        ask(&mut blocks, unread, &id, (1..60).collect());
    }
    let transactions = (0..5).map(|number| vec![number; 40_000].into());
    let transactions: Vec<_> = transactions.collect();
    let (id, _) = joined(&mut blocks, maker, &transactions, now);
    for (peer, indexes) in [(little, vec![1]), (much, (0..5).collect())] {
        ask(&mut blocks, peer, &id, indexes.clone());
        let expected = indexes.iter().map(|index| transactions[*index].clone());
        let expected = Transactions {
            id: id.clone(),
            transactions: expected.collect(),
        };
        let got = frame(&mut blocks, &peer, now);
        assert_eq!(got, Some(BlockMessage::Transactions(expected)));
    }
}

#[test]
fn a_block_that_its_chain_refuses_is_sent_to_its_end_to_who_has_begun_to_read_it() {
    let [maker, reads, waits] = [(); 3].map(|()| PeerId::random());
    let now = crate::platform::now();
    let config = PropagationConfig::default();
    let pool = Mempool::new(config.mempool.clone(), &[1; 16]);
    let mut blocks = Blocks::new(&config, [[2; 16]; 2]);
    for peer in [maker, reads, waits] {
        blocks.joined(peer, false, now);
    }
    let transactions = (0..5).map(|number| vec![number; 40_000].into());
    let mut transactions: Vec<Bytes> = transactions.collect();
    transactions[4] = Bytes::from_static(b"invalid");
    let (id, check) = joined(&mut blocks, maker, &transactions, now);
    for peer in [reads, waits] {
        let id = id.clone();
        let indexes = (0..4).collect();
        let missing = MissingTransactions { id, indexes };
        blocks.on_block(peer, BlockMessage::GetTransactions(missing), now);
    }
    let begun = blocks.next(&reads, 10_000, now).expect("it asked");
    let mut came = begun.bytes.len();
    let (delivered, pieces) = (DeliveredBlocks::new(10, &[1; 16]), Pieces::default());
    let answer = check.ask_now(TestChain, &delivered, &pieces);
    let outputs = blocks.answered(answer, &pool, now);
    let told = outputs.iter().filter_map(|output| match output {
        Output::Send(peer, Class::Block, _) => Some(*peer),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [waits], "it is not here any more");
    while let Some(outgoing) = blocks.next(&reads, 10_000, now) {
        came += outgoing.bytes.len();
    }
    assert!((160_000..161_000).contains(&came), "{came}");
    assert!(blocks.next(&waits, 10_000, now).is_none());
}

#[test]
fn what_is_left_of_a_block_that_is_accepted_is_counted_for_those_who_have_begun_to_read_it() {
    let now = crate::platform::now();
    let config = PropagationConfig::default();
    let pool = Mempool::new(config.mempool.clone(), &[1; 16]);
    let mut blocks = Blocks::new(&config, [[2; 16]; 2]);
    let (maker, readers) = (PeerId::random(), [(); 5].map(|()| PeerId::random()));
    blocks.joined(maker, false, now);
    for (number, reader) in (0_u8..).zip(readers) {
        blocks.joined(reader, false, now);
        let transactions = (0..66).map(|index| [number, index].repeat(30_000).into());
        let transactions: Vec<_> = transactions.collect();
        let (id, check) = joined(&mut blocks, maker, &transactions, now);
        let indexes = (0..66).collect();
        let missing = MissingTransactions { id, indexes };
        blocks.on_block(reader, BlockMessage::GetTransactions(missing), now);
        assert!(blocks.next(&reader, 20_000, now).is_some());
        let (delivered, pieces) = (DeliveredBlocks::new(10, &[1; 16]), Pieces::default());
        blocks.answered(check.ask_now(TestChain, &delivered, &pieces), &pool, now);
    }
    // Each has hold of 8 MB that nobody else has.
    let goes_on = readers.map(|reader| blocks.next(&reader, 20_000, now).is_some());
    assert_eq!(goes_on.into_iter().filter(|goes_on| *goes_on).count(), 1);
}

#[test]
fn what_is_wanted_goes_out_before_the_next_block_begins() {
    let (peer, now) = (PeerId::random(), crate::platform::now());
    let config = PropagationConfig::default();
    let pool = Mempool::new(config.mempool.clone(), &[1; 16]);
    let (delivered, pieces) = (DeliveredBlocks::new(10, &[3; 16]), Pieces::default());
    let mut blocks = Blocks::new(&config, [[2; 16]; 2]);
    blocks.joined(peer, true, now);
    for number in 0..2 {
        let (id, block, _) = block(&[vec![number; 60_000].into(), vec![9; 60_000].into()]);
        let accepted = AcceptedBlock::new(id.clone(), block, TestChain);
        blocks.accepted(accepted, &pool, now);
        let form = Form::Whole;
        blocks.on_block(peer, BlockMessage::GetBlock(GetBlock { id, form }), now);
    }
    let begun = blocks.next(&peer, 20_000, now).expect("it asked");
    assert_eq!(begun.frames, 0);
    // Meanwhile the peer tells of chunks.
    let transactions = (0..5).map(|number| vec![number; 50_000].into());
    let (id, block, parts) = block(&transactions.collect::<Vec<_>>());
    let encoded = Encoded::of(id, parts.header, block.data).expect("a block");
    let announcement = encoded.announcement().clone();
    let have = ChunkSet::first(announcement.shape().chunks());
    let announce = Frame::Announce(Announce { announcement, have });
    for output in blocks.on_coded(peer, announce, now) {
        if let Output::Ask(question) = output {
            let answer = question.ask_now(TestChain, &delivered, &pieces);
            blocks.answered(answer, &pool, now);
        }
    }
    // However little room is left after the frame.
    let mut is_over = false;
    while !is_over {
        is_over = blocks.next(&peer, 20_000, now).expect("the rest").frames == 1;
    }
    let mut word = blocks.next(&peer, 1, now).expect("what is wanted").bytes;
    let length = prost::decode_length_delimiter(&mut word);
    assert_eq!(length.expect("a length"), word.len());
    assert!(matches!(LaneFrame::read(word), Ok(Kind::Coded(_))));
    let next = blocks.next(&peer, 20_000, now).expect("the other block");
    assert_eq!((next.frames, next.items), (0, 1));
}

/// A peer announces a block of this number, whose header is good.
fn announces(blocks: &mut Blocks, peer: PeerId, number: u8, now: Instant) -> Vec<Output> {
    let config = PropagationConfig::default();
    let pool = Mempool::new(config.mempool, &[1; 16]);
    let (delivered, pieces) = (DeliveredBlocks::new(10, &[1; 16]), Pieces::default());
    let (id, _, parts) = block(&[vec![number; 100].into()]);
    let header = parts.header;
    let told = BlockMessage::Announcement(compact::Announcement { id, header });
    let mut rest = Vec::new();
    for output in blocks.on_block(peer, told, now) {
        match output {
            Output::Ask(question) => {
                let answer = question.ask_now(TestChain, &delivered, &pieces);
                rest.extend(blocks.answered(answer, &pool, now));
            }
            other => rest.push(other),
        }
    }
    rest
}

/// Blocks of these peers, all of which we dialled.
fn blocks_of(peers: &[PeerId], now: Instant) -> (Blocks, Mempool) {
    let config = PropagationConfig::default();
    let mut blocks = Blocks::new(&config, [[2; 16]; 2]);
    for peer in peers {
        blocks.joined(*peer, true, now);
    }
    (blocks, Mempool::new(config.mempool, &[1; 16]))
}

#[test]
fn who_reads_a_block_slowly_pays_for_no_request_that_stands_behind_it() {
    // For so many seconds it reads.
    for (reads, blames) in [(70, 0), (2, 1), (0, 1)] {
        let (peer, mut now) = (PeerId::random(), crate::platform::now());
        let (mut blocks, pool) = blocks_of(&[peer], now);
        let transactions = vec![Bytes::from(vec![7; 60_000]); 60];
        let (id, block, _) = block(&transactions);
        blocks.accepted(AcceptedBlock::new(id.clone(), block, TestChain), &pool, now);
        let form = Form::Whole;
        blocks.on_block(peer, BlockMessage::GetBlock(GetBlock { id, form }), now);
        blocks.next(&peer, BLOCK_ROOM, now).expect("it asked");
        announces(&mut blocks, peer, 1, now);
        assert!(blocks.has_request(&peer));
        let mut blamed = 0;
        for second in 0..70 {
            now += Duration::from_secs(1);
            if second < reads {
                blocks.next(&peer, 20_000, now).expect("the rest");
            }
            let outputs = blocks.on_time(&pool, now).into_iter();
            blamed += outputs
                .filter(|output| matches!(output, Output::Misdeed(..)))
                .count();
        }
        assert_eq!(blamed, blames);
        assert!(!blocks.has_request(&peer), "it is given up");
    }
}

#[test]
fn what_the_lanes_say_of_a_peer_moves_the_time_that_it_has() {
    let (peer, start) = (PeerId::random(), crate::platform::now());
    let (mut blocks, _) = blocks_of(&[peer], start);
    let limits = PropagationConfig::default().blocks;
    let fed = announces(&mut blocks, peer, 1, start);
    assert!(matches!(fed[..], [Output::Feed(to)] if to == peer));
    blocks.next_request(&peer, start).expect("a request");
    assert_eq!(blocks.next_deadline(), Some(start + limits.patience));
    let round_trip = Duration::from_millis(100);
    blocks.measured(&peer, round_trip);
    let patience = limits.patience + 2 * round_trip;
    assert_eq!(blocks.next_deadline(), Some(start + patience));
    // Some of its answer.
    let later = start + patience / 2;
    let coming = Coming {
        bytes: 10_000,
        length: 40_000,
    };
    blocks.comes(peer, coming, later);
    assert_eq!(blocks.next_deadline(), Some(later + patience));
    // That is silent from then on, and was not heard for a while.
    let late = later + patience;
    blocks.on_time(&Mempool::new(Default::default(), &[1; 16]), late);
    assert_eq!(blocks.next_deadline(), Some(start + limits.give_up_after));
    blocks.unheard(&peer, patience, late);
    let given_up = start + limits.give_up_after + patience;
    assert_eq!(blocks.next_deadline(), Some(given_up));
}

#[test]
fn who_announces_a_block_is_sent_no_more_of_it() {
    let (peer, now) = (PeerId::random(), crate::platform::now());
    let (mut blocks, pool) = blocks_of(&[peer], now);
    let (id, block, parts) = block(&[vec![1; 100].into()]);
    blocks.accepted(AcceptedBlock::new(id.clone(), block, TestChain), &pool, now);
    let get = GetBlock {
        id: id.clone(),
        form: Form::Whole,
    };
    blocks.on_block(peer, BlockMessage::GetBlock(get), now);
    let header = parts.header;
    let told = BlockMessage::Announcement(compact::Announcement { id, header });
    blocks.on_block(peer, told, now);
    assert!(blocks.next(&peer, BLOCK_ROOM, now).is_none());
}
