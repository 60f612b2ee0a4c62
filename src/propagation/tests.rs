//! Two nodes, and a link between them that loses what is on its way.

use std::time::Duration;

use bytes::{Buf, Bytes};

use super::{
    blocks::{coded::CodedConfig, compact::test_chain::TestChain},
    *,
};
use crate::{
    chain::ItemId,
    intake::DeliveredBlocks,
    lanes::Decode,
    platform::test,
    propagation::blocks::compact::{BlockMessage, WholeBlock, test_chain::block},
};

/// The cores of a node, what it has accepted, and what it says of the other one.
struct Node {
    core: Propagation,
    /// The other one: what goes to anybody else is lost.
    other: PeerId,
    /// How often its chain was asked about a coded broadcast.
    coded: usize,
    delivered: DeliveredBlocks,
    has: HashSet<TransactionKey>,
    blocks: HashSet<ItemId>,
    misdeeds: Vec<Misdeed>,
    /// What its chain makes of a peer's items.
    verdict: Verdict,
    /// How many it had checked.
    checked: usize,
    /// Whether it takes part in comparisons of pools.
    compares: bool,
    /// What is to be sent.
    sends: Vec<(Class, Outgoing)>,
}

impl Node {
    fn new(other: PeerId, outbound: bool, now: Instant) -> Self {
        Self::among(&[], other, outbound, &PropagationConfig::default(), now)
    }

    /// With strangers that were here before.
    fn among(
        strangers: &[PeerId],
        other: PeerId,
        outbound: bool,
        config: &PropagationConfig,
        now: Instant,
    ) -> Self {
        let mut core = Propagation::new(config, [[3; 16]; 4]);
        for peer in strangers.iter().chain([&other]) {
            core.joined(*peer, outbound, now);
        }
        Self {
            core,
            other,
            coded: 0,
            delivered: DeliveredBlocks::new(1000, &[1; 16]),
            has: HashSet::new(),
            blocks: HashSet::new(),
            misdeeds: Vec::new(),
            verdict: Verdict::Accept,
            checked: 0,
            compares: false,
            sends: Vec::new(),
        }
    }

    fn accept(&mut self, kind: ItemKind, from: Option<PeerId>, items: Vec<Fresh>, now: Instant) {
        self.has.extend(items.iter().map(|fresh| fresh.key));
        let accepted = items.into_iter().map(|fresh| Accepted {
            key: fresh.key,
            data: fresh.data,
            fee: 0,
        });
        let accepted = accepted.collect();
        self.core
            .concluded(kind, from, accepted, std::iter::empty(), now);
    }

    /// Its chain judges what a peer has brought.
    fn judge(&mut self, kind: ItemKind, from: PeerId, items: Vec<Fresh>, now: Instant) {
        self.checked += items.len();
        if self.verdict == Verdict::Accept {
            return self.accept(kind, Some(from), items, now);
        }
        let refused = items.iter().map(|fresh| (fresh.key, self.verdict));
        let refused: Vec<_> = refused.collect();
        self.core
            .concluded(kind, Some(from), Vec::new(), refused.into_iter(), now);
    }

    /// Does what is to be done.
    fn act(&mut self, now: Instant) {
        while let Some(action) = self.core.action() {
            match action {
                Action::Send(to, class, outgoing) if to == self.other => {
                    self.sends.push((class, outgoing));
                }
                Action::Misdeed(_, misdeed) => self.misdeeds.push(misdeed),
                Action::Tell(Event::Check(Unchecked {
                    kind, from, items, ..
                })) => self.judge(kind, from, items, now),
                Action::Tell(Event::Work(step)) if self.compares => {
                    self.core.stepped(step.run(), now);
                }
                Action::Tell(Event::Ask(question, _)) => {
                    let is_coded = matches!(question, Question::CodedHeader { .. });
                    self.coded += usize::from(is_coded);
                    let pool = self.core.pieces(&question);
                    let answer = question.ask_now(TestChain, &self.delivered, &pool);
                    let accepted = answer.accepted().map(|(block, _)| block.id.clone());
                    self.blocks.extend(accepted);
                    self.core.answered(answer, now);
                }
                _ => {}
            }
        }
    }

    /// Everything that goes out now.
    fn send(&mut self, to: PeerId, now: Instant) -> Vec<(Class, Outgoing)> {
        self.core.on_time(now);
        self.act(now);
        let mut sent = std::mem::take(&mut self.sends);
        for class in Propagation::CLASSES {
            while let Some(outgoing) = self.core.next(to, *class, 1 << 20, now) {
                sent.push((*class, outgoing));
            }
        }
        sent
    }

    fn receive(&mut self, from: PeerId, sent: Vec<(Class, Outgoing)>, now: Instant) {
        for (class, mut outgoing) in sent {
            while outgoing.bytes.has_remaining() {
                let length = prost::decode_length_delimiter(&mut outgoing.bytes);
                let frame = outgoing.bytes.split_to(length.expect("a length"));
                let decoded = self.core.decoder().decode(class.lane(), frame);
                let frame = decoded.expect("right").frame;
                self.core.frame(from, frame, Taken::nothing(), now);
            }
            self.act(now);
        }
    }
}

fn item(kind: ItemKind, number: u32) -> Fresh {
    let mut data = format!("{kind} {number}").into_bytes();
    data.resize(200, 7);
    Fresh {
        key: TransactionKey::of(&data),
        data: data.into(),
        promised: None,
    }
}

/// What both have to send crosses.
fn exchange([one, other]: &mut [Node; 2], [here, there]: [PeerId; 2], now: Instant) {
    let (sent, answers) = (one.send(there, now), other.send(here, now));
    other.receive(here, sent, now);
    one.receive(there, answers, now);
}

#[test]
fn a_whole_blocks_frame_is_done_with_when_the_chain_has_judged_it() {
    let (there, now) = (PeerId::random(), crate::platform::now());
    let mut node = Node::new(there, true, now);
    let whole = |data: &[u8]| {
        BlockMessage::Whole(WholeBlock {
            id: ItemId::sha256(data),
            data: data.to_vec().into(),
        })
    };
    let mut told = |message| {
        let took = Taken::nothing();
        node.core.frame(there, Input::Block(message), took, now);
        let actions: Vec<_> = std::iter::from_fn(|| node.core.action()).collect();
        let asks = |action: &&Action<_>| matches!(action, Action::Tell(Event::Ask(_, Some(_))));
        let is_done = |action: &&Action<_>| matches!(action, Action::Done(..));
        [
            actions.iter().filter(asks).count(),
            actions.iter().filter(is_done).count(),
        ]
    };
    assert_eq!(told(whole(b"a block")), [1, 0]);
    assert_eq!(told(whole(b"a block")), [0, 1], "it is being checked");
    assert_eq!(told(BlockMessage::HighBandwidth(true)), [0, 1]);
}

#[test]
fn who_roams_in_the_middle_of_a_stream_loses_nothing_and_nobody_pays() {
    let ([here, there], mut now) = ([PeerId::random(), PeerId::random()], crate::platform::now());
    let mut nodes = [Node::new(there, true, now), Node::new(here, false, now)];
    for round in 0..300 {
        for kind in [ItemKind::Vote, ItemKind::Transaction] {
            for (place, node) in nodes.iter_mut().enumerate() {
                let number = round * 100 + u32::try_from(place).expect("small") * 50;
                let items = (number..number + 10).map(|number| item(kind, number));
                // They go on while nothing arrives.
                node.accept(kind, None, items.collect(), now);
            }
        }
        let is_dead = (100..120).contains(&round);
        let [one, other] = &mut nodes;
        let (sent, answers) = (one.send(there, now), other.send(here, now));
        if !is_dead {
            other.receive(here, sent, now);
            one.receive(there, answers, now);
        }
        if round == 119 {
            one.core.moved(there, true, now);
            other.core.moved(here, false, now);
        }
        now += Duration::from_millis(10);
    }
    for _ in 0..500 {
        now += Duration::from_millis(10);
        exchange(&mut nodes, [here, there], now);
    }
    let [one, other] = &nodes;
    assert_eq!(one.has.len(), 300 * 2 * 2 * 10);
    assert!(one.has == other.has, "{} there", other.has.len());
    assert_eq!((&one.misdeeds[..], &other.misdeeds[..]), (&[][..], &[][..]));
}

/// A block of which all is new, so that it goes in chunks.
fn large(number: u8) -> AcceptedBlock {
    let transactions = (0..5).map(|index| vec![number * 5 + index; 60_000].into());
    let (id, block, _) = block(&transactions.collect::<Vec<_>>());
    AcceptedBlock::new(id, block, TestChain)
}

#[test]
fn a_block_that_does_not_go_in_chunks_comes_in_another_way_within_seconds() {
    // By whichever limit, at whoever sends it and at whoever is to have it. A limit of 0 is one that others have filled.
    let limit = |change: fn(&mut CodedConfig)| {
        let mut coded = CodedConfig::default();
        change(&mut coded);
        coded
    };
    let limits = [
        // A stranger has the place.
        limit(|coded| coded.max_peers = 1),
        limit(|coded| coded.max_broadcasts = 0),
        limit(|coded| coded.max_bytes = 0),
        limit(|coded| coded.max_introduced = 0),
        limit(|coded| coded.introduce_burst = 0),
        limit(|coded| coded.max_block_bytes = 1024),
    ];
    let places = [[true, false], [false, true], [true, true]];
    let cases = limits
        .iter()
        .flat_map(|limit| places.map(|limited| (limit, limited)));
    for (limit, limited) in cases {
        let ids = [PeerId::random(), PeerId::random()];
        let mut now = crate::platform::now();
        let few = PropagationConfig {
            coded: limit.clone(),
            ..PropagationConfig::default()
        };
        let node = |place: usize| {
            let many = PropagationConfig::default();
            let config = if limited[place] { &few } else { &many };
            let stranger = [PeerId::random()];
            Node::among(&stranger, ids[1 - place], place == 0, config, now)
        };
        let mut nodes = [node(0), node(1)];
        nodes[0].core.publish_block(large(1), now);
        for _ in 0..200 {
            now += Duration::from_millis(10);
            exchange(&mut nodes, ids, now);
        }
        let [one, other] = &nodes;
        let case = format!("{limited:?} {limit:?}");
        assert_eq!(other.blocks.len(), 1, "{case}");
        assert!(other.coded == 0 || !limited[1], "{case}");
        assert!(
            one.misdeeds.is_empty() && other.misdeeds.is_empty(),
            "{case}"
        );
    }
}

#[test]
fn a_block_of_who_is_doubted_comes_in_another_way_than_chunks() {
    let ([here, there], mut now) = ([PeerId::random(), PeerId::random()], crate::platform::now());
    let mut nodes = [Node::new(there, true, now), Node::new(here, false, now)];
    // A broadcast comes to nothing, since all chunks of it are lost.
    nodes[0].core.publish_block(large(1), now);
    let end = now + PropagationConfig::default().coded.lifetime * 2;
    while now < end {
        now += Duration::from_millis(100);
        let [one, other] = &mut nodes;
        let (mut sent, answers) = (one.send(there, now), other.send(here, now));
        sent.retain(|(_, outgoing)| outgoing.bytes.len() < 1000);
        other.receive(here, sent, now);
        one.receive(there, answers, now);
    }
    assert_eq!((nodes[1].blocks.len(), nodes[1].coded), (0, 1));
    let block = large(2);
    let id = block.id.clone();
    nodes[0].core.publish_block(block, now);
    for _ in 0..1000 {
        now += Duration::from_millis(10);
        exchange(&mut nodes, [here, there], now);
    }
    assert!(nodes[1].blocks.contains(&id));
    assert_eq!(nodes[1].coded, 1, "no chunks of it were taken");
}

#[test]
fn a_burst_of_large_new_blocks_loses_none_and_nobody_pays() {
    let ([here, there], mut now) = ([PeerId::random(), PeerId::random()], crate::platform::now());
    let mut nodes = [Node::new(there, true, now), Node::new(here, false, now)];
    for number in 0..20 {
        nodes[0].core.publish_block(large(number), now);
    }
    assert!(!nodes[0].core.is_settled(None, now));
    for _ in 0..1000 {
        now += Duration::from_millis(10);
        exchange(&mut nodes, [here, there], now);
    }
    let [one, other] = &nodes;
    assert_eq!((&one.misdeeds[..], &other.misdeeds[..]), (&[][..], &[][..]));
    assert_eq!(other.blocks.len(), 20);
    assert!(one.core.is_settled(None, now));
    assert!(
        other.core.is_settled(None, now),
        "nobody had anything from it"
    );
}

#[test]
fn who_makes_blocks_faster_than_a_peer_reads_them_does_not_pay_for_those_that_are_gone() {
    let ([here, there], mut now) = ([PeerId::random(), PeerId::random()], crate::platform::now());
    let [mut one, mut other] = [Node::new(there, true, now), Node::new(here, false, now)];
    let mut half = Vec::new();
    for step in 0..1000 {
        if let Some(number) = u8::try_from(step).ok().filter(|number| *number < 40) {
            let transactions = (0..5).map(|index| vec![number * 5 + index; 20_000].into());
            let (id, block, _) = block(&transactions.collect::<Vec<_>>());
            let block = AcceptedBlock::new(id, block, TestChain);
            one.core.publish_block(block, now);
        }
        now += Duration::from_millis(10);
        one.core.on_time(now);
        one.act(now);
        // It reads so much in a step. The rest of a frame goes before anything else, and then what waits in the queue.
        let (mut room, mut frames) = (16_usize << 10, Vec::new());
        loop {
            if half.is_empty() {
                frames.append(&mut one.sends);
            }
            let Some(outgoing) = one.core.next(there, Class::Block, room, now) else {
                break;
            };
            room = room.saturating_sub(outgoing.bytes.len());
            half.extend(outgoing.bytes);
            if outgoing.frames > 0 {
                let frame = Outgoing::one(std::mem::take(&mut half).into());
                frames.push((Class::Block, frame));
            }
            if room == 0 {
                break;
            }
        }
        other.receive(here, frames, now);
        one.receive(there, other.send(here, now), now);
    }
    assert!(
        other.blocks.len() < 40,
        "some were gone before it read them"
    );
    assert!(other.blocks.len() > 10, "{}", other.blocks.len());
    assert_eq!((&one.misdeeds[..], &other.misdeeds[..]), (&[][..], &[][..]));
}

/// The transactions and votes that go out to a peer.
fn pushed(core: &mut Propagation, to: PeerId, class: Class, now: Instant) -> Vec<TransactionKey> {
    let mut keys = Vec::new();
    while let Some(mut outgoing) = core.next(to, class, 1 << 20, now) {
        while outgoing.bytes.has_remaining() {
            let length = prost::decode_length_delimiter(&mut outgoing.bytes);
            let frame = outgoing.bytes.split_to(length.expect("a length"));
            let decoded = core.decoder().decode(class.lane(), frame).expect("right");
            if let Input::Tree(_, TreeInput::Items { batch, .. }) = decoded.frame {
                keys.extend(batch.into_iter().map(|(key, _)| key));
            }
        }
    }
    keys
}

#[test]
fn what_one_peer_floods_pushes_out_nothing_of_others_and_is_read_after_it() {
    let [flooder, honest, reader] = [(); 3].map(|()| PeerId::random());
    let mut config = PropagationConfig::default();
    config.transactions.max_log_bytes = 512 << 10;
    config.votes.max_log_bytes = 512 << 10;
    config.mempool.max_bytes = 512 << 10;
    // One that floods by the lanes, and one that has none.
    let all = [flooder, honest, reader];
    for (flooder, peers) in [(flooder, &all[..]), (PeerId::random(), &all[1..])] {
        for (kind, class) in [
            (ItemKind::Vote, Class::Vote),
            (ItemKind::Transaction, Class::Transaction),
        ] {
            let mut now = crate::platform::now();
            let mut core = Propagation::new(&config, [[3; 16]; 4]);
            for peer in peers {
                core.joined(*peer, false, now);
            }
            let accept = |core: &mut Propagation, from, numbers: std::ops::Range<u32>, now| {
                let items = numbers.map(|number| item(kind, number));
                let accepted = items.map(|Fresh { key, data, .. }| Accepted { key, data, fee: 0 });
                core.concluded(kind, from, accepted.collect(), std::iter::empty(), now);
            };
            let mut few = Vec::new();
            for round in 0..20_u32 {
                let first = round * 1000;
                accept(&mut core, Some(honest), first..first + 1, now);
                accept(&mut core, None, first + 1..first + 2, now);
                accept(&mut core, Some(flooder), first + 2..first + 1000, now);
                few.extend([first, first + 1].map(|number| item(kind, number).key));
                // All of it within the time in which votes are pushed, and not announced.
                now += Duration::from_millis(6);
            }
            let came = pushed(&mut core, reader, class, now);
            let last = few.iter().map(|few| came.iter().position(|key| key == few));
            let last = last
                .max_by_key(|place| place.unwrap_or(usize::MAX))
                .flatten();
            assert!(last.is_some_and(|last| last < 1000), "{kind}: {last:?}");
            assert!(
                came.len() > 1000,
                "and the last of the flood: {}",
                came.len()
            );
            if kind == ItemKind::Transaction {
                let is_pooled = |key: &TransactionKey| core.mempool.contains_short(key.short());
                assert!(few.iter().all(is_pooled), "for blocks, and for who asks");
            }
        }
    }
}

#[test]
fn a_request_goes_out_by_its_class_and_nobody_pays_where_our_limits_keep_it_back() {
    for is_withheld in [true, false] {
        let (here, peer) = (PeerId::random(), PeerId::random());
        let mut now = crate::platform::now();
        let mut node = Node::new(peer, true, now);
        let mut maker = Node::new(here, false, now);
        let (id, block, _) = block(&[vec![1; 100].into()]);
        let accepted = AcceptedBlock::new(id, block, TestChain);
        maker.core.publish_block(accepted, now);
        let told = maker.send(here, now);
        node.receive(peer, told, now);
        let is_due = |node: &Node, now| node.core.next_at(&peer, Class::BlockRequest, now);
        assert_eq!(is_due(&node, now), Some(now));
        for second in 0..70 {
            now += Duration::from_secs(1);
            node.core.on_time(now);
            if is_withheld && second == 0 {
                let until = now + Duration::from_secs(60);
                node.core.withheld(peer, Class::BlockRequest, until);
            }
            node.act(now);
        }
        assert_eq!(node.misdeeds.len(), usize::from(!is_withheld));
        assert_eq!(is_due(&node, now), None, "it is given up");
        let request = node.core.next(peer, Class::BlockRequest, 1 << 20, now);
        assert!(request.is_none());
    }
}

/// A transaction that nobody packs smaller.
fn noise(number: u32) -> Fresh {
    let parts = (0..8).map(|part: u32| [number.to_le_bytes(), part.to_le_bytes()].concat());
    let hashes = parts.map(|part| *TransactionKey::of(&part).as_bytes());
    let data = hashes.collect::<Vec<_>>().concat();
    Fresh {
        key: TransactionKey::of(&data),
        data: data.into(),
        promised: None,
    }
}

/// A node that four others push to, so that the link to this one announces.
fn announced_to(other: PeerId, config: &PropagationConfig, now: Instant) -> Node {
    let strangers: Vec<_> = (0..4).map(|_| PeerId::random()).collect();
    Node::among(&strangers, other, true, config, now)
}

/// What one has to send crosses at so many bytes in a step at most, and what the other has at once. How many bytes of items the first has sent.
fn trickle(
    [slow, other]: &mut [Node; 2],
    [here, there]: [PeerId; 2],
    room: &mut usize,
    now: Instant,
) -> usize {
    slow.core.on_time(now);
    slow.act(now);
    let mut sent = std::mem::take(&mut slow.sends);
    while *room > 0
        && let Some(out) = slow.core.next(there, Class::Transaction, 1 << 20, now)
    {
        *room = room.saturating_sub(out.bytes.len());
        sent.push((Class::Transaction, out));
    }
    let bytes = sent.iter().map(|(_, out)| out.payload).sum();
    let answers = other.send(here, now);
    other.receive(here, sent, now);
    slow.receive(there, answers, now);
    bytes
}

#[test]
fn who_serves_much_of_a_comparison_pays_for_no_fetch_that_comes_meanwhile() {
    let ([here, there], start) = ([PeerId::random(), PeerId::random()], crate::platform::now());
    let full = Node::new(there, false, start);
    let newcomer = announced_to(here, &PropagationConfig::default(), start);
    let mut nodes = [full, newcomer];
    nodes.iter_mut().for_each(|node| node.compares = true);
    nodes[0].accept(
        ItemKind::Transaction,
        None,
        (0..20_000).map(noise).collect(),
        start,
    );
    let mut now = start + Duration::from_secs(60);
    nodes[0].core.joined(there, false, now);
    nodes[1].core.joined(here, true, now);
    let mut sent = 0;
    for step in 0..1500 {
        if step % 20 == 10 && step < 1000 {
            nodes[0].accept(ItemKind::Transaction, None, vec![noise(20_000 + step)], now);
        }
        // A megabyte a second.
        let mut room = if step % 6 == 0 { 60_000 } else { 0 };
        sent += trickle(&mut nodes, [here, there], &mut room, now);
        now += Duration::from_millis(10);
    }
    assert_eq!(nodes[1].misdeeds, []);
    assert_eq!(nodes[1].has.len(), 20_050, "{sent} bytes");
}

#[test]
fn what_is_not_taken_is_not_brought_again_by_each_comparison() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Why {
        Ignored,
        Crowded,
        Expired,
    }
    for (why, most) in [(Why::Ignored, 4), (Why::Crowded, 2), (Why::Expired, 0)] {
        let ([here, there], start) = ([PeerId::random(), PeerId::random()], crate::platform::now());
        let mut config = PropagationConfig::default();
        config.reconcile.interval = Duration::from_secs(10);
        config.mempool.max_age = Duration::from_secs(3600);
        let small = PropagationConfig {
            mempool: pool::MempoolConfig {
                max_bytes: 32 << 10,
                ..config.mempool.clone()
            },
            ..config.clone()
        };
        let mine = if why == Why::Crowded { &small } else { &config };
        let mut nodes = [
            Node::among(&[], there, false, &config, start),
            announced_to(here, mine, start),
        ];
        nodes.iter_mut().for_each(|node| node.compares = true);
        let few: Vec<_> = (0..10).map(noise).collect();
        if why == Why::Expired {
            nodes[1].accept(ItemKind::Transaction, None, few.clone(), start);
        }
        let mut now = start + Duration::from_secs(1800);
        nodes[0].accept(ItemKind::Transaction, None, few.clone(), now);
        now = start + Duration::from_secs(3660);
        nodes[1].core.on_time(now);
        if why == Why::Crowded {
            let rich = (1000..1200).map(noise);
            let rich = rich.map(|Fresh { key, data, .. }| Accepted {
                key,
                data,
                fee: 1000,
            });
            let ours = rich.collect();
            let kind = ItemKind::Transaction;
            nodes[1]
                .core
                .concluded(kind, None, ours, std::iter::empty(), now);
        }
        if why == Why::Ignored {
            nodes[1].verdict = Verdict::Ignore;
        }
        now += Duration::from_secs(60);
        nodes[0].core.joined(there, false, now);
        nodes[1].core.joined(here, true, now);
        let mut brought = 0;
        for _ in 0..2000 {
            brought += trickle(&mut nodes, [here, there], &mut usize::MAX.clone(), now);
            now += Duration::from_millis(50);
        }
        let times = brought / 10 / 256;
        assert!(times <= most, "{why:?}: {times} times");
        assert!(
            why != Why::Ignored || nodes[1].checked >= 20,
            "nor is it forgotten for ever"
        );
        let is_here = few
            .iter()
            .any(|one| nodes[1].core.mempool.contains_short(one.key.short()));
        assert!(!is_here, "{why:?}");
    }
}

#[test]
fn what_the_chain_ignores_is_not_fetched_of_each_that_tells_of_it() {
    let (peers, start) = ([(); 10].map(|()| PeerId::random()), crate::platform::now());
    let mut core = Propagation::new(&PropagationConfig::default(), [[3; 16]; 4]);
    peers
        .iter()
        .for_each(|peer| core.joined(*peer, false, start));
    let one = noise(1);
    let told = || {
        let mut columns = announce::Columns::default();
        columns.push(one.key.short(), one.data.len(), 0);
        TreeInput::Announce(columns.into())
    };
    let (mut fetched, mut checked) = (0, 0);
    for step in 0..2000_u32 {
        let now = start + Duration::from_millis(10) * step;
        let teller = peers.get(usize::try_from(step / 10).expect("small"));
        // And one tells of it much later.
        let teller = teller
            .or(peers.first())
            .filter(|_| step % 10 == 0 && (step < 100 || step == 1900));
        if let Some(peer) = teller {
            let input = Input::Tree(ItemKind::Transaction, told());
            core.frame(*peer, input, Taken::nothing(), now);
        }
        core.on_time(now);
        for peer in peers {
            while let Some(mut out) = core.next(peer, Class::Transaction, 1 << 20, now) {
                prost::decode_length_delimiter(&mut out.bytes).expect("a length");
                let kind = wire::Frame::read(out.bytes).expect("right");
                if !matches!(kind, Kind::Fetch(_)) {
                    continue;
                }
                fetched += 1;
                let items = TreeInput::Items {
                    batch: vec![(one.key, one.data.clone())],
                    missing: Bytes::new(),
                    spared: Bytes::new(),
                };
                let input = Input::Tree(ItemKind::Transaction, items);
                core.frame(peer, input, Taken::nothing(), now);
            }
        }
        while let Some(action) = core.action() {
            if let Action::Tell(Event::Check(unchecked)) = action {
                checked += 1;
                let Unchecked {
                    kind, from, items, ..
                } = unchecked;
                let refused = items.iter().map(|fresh| (fresh.key, Verdict::Ignore));
                core.concluded(kind, Some(from), Vec::new(), refused, now);
            }
        }
    }
    assert_eq!((fetched, checked), (2, 2));
}
