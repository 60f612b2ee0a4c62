//! The behaviour, driven by hand: what connections say, and what they are told.

mod express;
mod reading;

use std::{collections::HashSet, task::Waker, time::Duration};

use libp2p::{
    core::ConnectedPoint,
    swarm::behaviour::{ConnectionClosed, ConnectionEstablished},
};

use bytes::Bytes;

use super::{
    acknowledge::Acknowledge,
    feed::MAX_URGENT,
    handler::{Frame, Handled, MAX_UNHANDLED, Report, Size},
    *,
};
use crate::{
    platform::test,
    traffic::{Class, Cost, Lane, Load},
};

/// A core that has frames of all classes, as many as there are of each in `waiting`, and is done with what comes at once.
#[derive(Default)]
struct Probe {
    waiting: [usize; Class::ALL.len()],
    /// Bytes in each, unpacked.
    payload: usize,
    /// Instead of blocks: pieces of them, how long each is and whether a frame ends with it. What is longer than the room is held back.
    pieces: Option<VecDeque<(usize, bool)>>,
    met: Vec<&'static str>,
    /// Frames that are kept, and what they took.
    kept: Option<Vec<Taken>>,
    /// How often it was asked for what goes out next.
    asked: usize,
    actions: VecDeque<Action<&'static str>>,
    /// Frames that came, in all and when a peer left.
    heard: usize,
    left_after: Vec<usize>,
    /// What waits for limits.
    withheld: HashSet<Class>,
    /// How long what its peers send was not read.
    unheard: Duration,
    /// By when all is to have answered, and who has not.
    deadline: Option<(Instant, PeerId)>,
}

#[derive(Clone, Debug)]
struct Reader;

impl Decode for Reader {
    type Frame = &'static str;

    fn decode(
        &self,
        _: Lane,
        _: Bytes,
    ) -> Result<Decoded<Self::Frame>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Decoded {
            frame: "a frame",
            class: Class::Transaction,
            cost: Cost::default(),
        })
    }
}

/// How long the probe's frames are.
const FRAME: usize = 1000;

impl Core for Probe {
    type Decoder = Reader;
    type Event = &'static str;
    const CLASSES: &'static [Class] = &Class::ALL;
    const AWAITED: &'static [Class] = &Class::ALL;

    fn decoder(&self) -> Reader {
        Reader
    }

    fn joined(&mut self, _: PeerId, _: bool, _: Instant) {
        self.met.push("joined");
    }

    fn moved(&mut self, _: PeerId, _: bool, _: Instant) {
        self.met.push("moved");
    }

    fn gone(&mut self, _: PeerId, _: Instant) {
        self.met.push("gone");
        self.left_after.push(self.heard);
    }

    fn frame(&mut self, from: PeerId, _: &'static str, took: Taken, _: Instant) {
        self.heard += 1;
        match &mut self.kept {
            Some(kept) => kept.push(took),
            None => self.actions.push_back(Action::Done(from, took)),
        }
    }

    fn comes(&mut self, _: PeerId, _: Lane, _: Coming, _: Instant) {}

    fn skipped(&mut self, _: PeerId, _: Lane, length: usize, _: Instant) {
        assert_eq!(length, 1 << 20);
        self.met.push("skipped");
    }

    fn unheard(&mut self, _: PeerId, time: Duration, _: Instant) {
        self.unheard += time;
        self.deadline = self.deadline.map(|(at, peer)| (at + time, peer));
    }

    fn next(&mut self, _: PeerId, class: Class, room: usize, _: Instant) -> Option<Outgoing> {
        self.asked += 1;
        if class == Class::Block
            && let Some(pieces) = &mut self.pieces
        {
            let (length, ends) = pieces.pop_front_if(|(length, _)| *length <= room)?;
            return Some(Outgoing {
                frames: usize::from(ends),
                ..Outgoing::one(vec![0; length].into())
            });
        }
        let waiting = &mut self.waiting[class.place()];
        *waiting = waiting.checked_sub(1)?;
        let byte = u8::try_from(class.place()).expect("small");
        let frame = Outgoing::one(vec![byte; FRAME].into());
        Some(Outgoing {
            payload: self.payload,
            ..frame
        })
    }

    fn withheld(&mut self, _: PeerId, class: Class, _: Instant) {
        self.withheld.insert(class);
    }

    fn dropped(&mut self, _: PeerId, _: Class, _: Outgoing) {
        self.met.push("dropped");
    }

    fn next_at(&self, _: &PeerId, class: Class, now: Instant) -> Option<Instant> {
        (self.waiting[class.place()] > 0).then_some(now)
    }

    fn is_settled(&self, _: Option<&PeerId>, _: Instant) -> bool {
        true
    }

    fn action(&mut self) -> Option<Action<&'static str>> {
        self.actions.pop_front()
    }

    fn on_time(&mut self, now: Instant) {
        if let Some((_, peer)) = self.deadline.take_if(|(at, _)| *at <= now) {
            let misdeed = Action::Misdeed(peer, Misdeed::NoAnswer);
            self.actions.push_back(misdeed);
        }
    }

    fn next_deadline(&mut self) -> Option<Instant> {
        self.deadline.map(|(at, _)| at)
    }
}

/// Peers' lanes, and one peer.
struct Driven {
    lanes: Lanes<Probe>,
    peer: PeerId,
}

impl Driven {
    fn new() -> Self {
        let peer = PeerId::random();
        let lanes = Lanes::new(&Config::default(), Probe::default(), Links::default());
        let lanes = lanes.expect("right");
        let mut driven = Self { lanes, peer };
        driven.connect(1);
        driven.lanes.greeted(peer);
        driven
    }

    /// With streams that are open on its first connection.
    fn open() -> Self {
        let mut driven = Self::new();
        driven.report(1, Report::Open(1));
        driven.drain();
        driven
    }

    fn connect(&mut self, connection: usize) {
        let address = "/memory/1".parse().expect("an address");
        let endpoint = ConnectedPoint::Dialer {
            address,
            role_override: Endpoint::Dialer,
            port_use: PortUse::New,
        };
        let established = ConnectionEstablished {
            peer_id: self.peer,
            connection_id: ConnectionId::new_unchecked(connection),
            endpoint: &endpoint,
            failed_addresses: &[],
            other_established: connection - 1,
        };
        let event = FromSwarm::ConnectionEstablished(established);
        self.lanes.on_swarm_event(event);
    }

    fn disconnect(&mut self, connection: usize, remaining: usize) {
        let address = "/memory/1".parse().expect("an address");
        let endpoint = ConnectedPoint::Dialer {
            address,
            role_override: Endpoint::Dialer,
            port_use: PortUse::New,
        };
        let closed = ConnectionClosed {
            peer_id: self.peer,
            connection_id: ConnectionId::new_unchecked(connection),
            endpoint: &endpoint,
            cause: None,
            remaining_established: remaining,
        };
        self.lanes
            .on_swarm_event(FromSwarm::ConnectionClosed(closed));
    }

    fn report(&mut self, connection: usize, report: Report<&'static str>) {
        let connection = ConnectionId::new_unchecked(connection);
        self.lanes
            .on_connection_handler_event(self.peer, connection, report);
    }

    /// Frames of 10 bytes each, one report.
    fn frames(&mut self, lane: Lane, count: usize) {
        let frames = (0..count).map(|_| (Frame::Core("a frame", None), SIZE));
        let frames = frames.collect();
        self.report(1, Report::Frames(lane, frames));
    }

    fn acknowledge(&mut self, read: u64, done: u64) {
        let frame = Frame::Acknowledge(Acknowledge { read, done });
        self.report(1, Report::Frames(Lane::Urgent, vec![(frame, SIZE)]));
    }

    /// The core has so many frames of a class.
    fn has(&mut self, class: Class, count: usize) {
        self.lanes.core.waiting[class.place()] += count;
        self.lanes.core.actions.push_back(Action::Feed(self.peer));
    }

    /// What connections are told, and events.
    fn drain(&mut self) -> (Vec<(ConnectionId, Order)>, Vec<Event<&'static str>>) {
        let (mut orders, mut events) = (Vec::new(), Vec::new());
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(action) = self.lanes.poll(&mut context) {
            match action {
                ToSwarm::NotifyHandler {
                    handler: NotifyHandler::One(connection),
                    event,
                    ..
                } => {
                    orders.push((connection, event));
                }
                ToSwarm::GenerateEvent(event) => events.push(event),
                other => panic!("{other:?}"),
            }
        }
        (orders, events)
    }
}

const SIZE: Size = Size {
    wire: 10,
    held: 300,
};

/// Bytes that are to be sent on a lane.
fn sent(orders: &[(ConnectionId, Order)], on: Lane) -> usize {
    let bytes = orders.iter().map(|(_, order)| match order {
        Order::Send(lane, bytes) if *lane == on => bytes.len(),
        _ => 0,
    });
    bytes.sum()
}

/// The classes of frames that are to be sent, in order.
fn classes(orders: &[(ConnectionId, Order)]) -> Vec<Class> {
    let class = |(_, order): &(ConnectionId, Order)| match order {
        Order::Send(_, bytes) if bytes.len() == FRAME => Some(Class::ALL[usize::from(bytes[0])]),
        _ => None,
    };
    orders.iter().filter_map(class).collect()
}

#[test]
fn the_core_hears_what_found_no_room_in_a_queue() {
    let mut driven = Driven::new();
    let most = crate::traffic::SchedulerConfig::default().block.max_items;
    for _ in 0..=most {
        let outgoing = Outgoing::one(Bytes::from_static(&[0; 10]));
        let send = Action::Send(driven.peer, Class::Block, outgoing);
        driven.lanes.core.actions.push_back(send);
    }
    let (_, events) = driven.drain();
    let dropped = |event: &&Event<_>| matches!(event, Event::Dropped(_, Class::Block));
    assert_eq!(events.iter().filter(dropped).count(), 1, "{events:?}");
    let met = &driven.lanes.core.met;
    assert_eq!(met.iter().filter(|met| **met == "dropped").count(), 1);
}

#[test]
fn who_leaves_before_its_verdict_owes_what_that_costs() {
    let mut driven = Driven::open();
    let cost = Cost {
        items: 1_000_000,
        bytes: 0,
    };
    driven.disconnect(1, 0);
    let surcharge = Action::Surcharge(driven.peer, Class::Block, cost);
    driven.lanes.core.actions.push_back(surcharge);
    driven.drain();
    let mut download = lock(&driven.lanes.download);
    let now = platform::now();
    assert_ne!(
        download.ready(&driven.peer, Class::Block, now),
        crate::traffic::Admission::Now
    );
}

#[test]
fn many_little_frames_are_answered_by_one_acknowledgement() {
    let mut driven = Driven::open();
    driven.frames(Lane::Bulk, 64);
    let (orders, events) = driven.drain();
    assert!(events.is_empty(), "{events:?}");
    let handled = orders.iter().filter_map(|(_, order)| match order {
        Order::Handled(lanes) => Some(lanes[Lane::Bulk.place()]),
        _ => None,
    });
    let all = Handled {
        reports: 1,
        bytes: 64 * 300,
    };
    assert_eq!(handled.collect::<Vec<_>>(), [all]);
    assert!(sent(&orders, Lane::Urgent) < 20);
}

#[test]
fn a_connection_is_woken_for_several_acknowledgements_at_once_and_for_each_where_it_waits() {
    let reports = |driven: &mut Driven| {
        let (orders, _) = driven.drain();
        let reports = orders.iter().map(|(_, order)| match order {
            Order::Handled(lanes) => lanes[Lane::Urgent.place()].reports,
            _ => 0,
        });
        reports.collect::<Vec<_>>()
    };
    let mut driven = Driven::open();
    let mut told = Vec::new();
    for _ in 0..2 * MAX_UNHANDLED {
        driven.acknowledge(0, 0);
        told.extend(reports(&mut driven));
    }
    assert_eq!(told, [MAX_UNHANDLED / 2; 4]);
    driven.acknowledge(0, 0);
    driven.frames(Lane::Urgent, 1);
    assert_eq!(reports(&mut driven), [2], "with the next that is told");
    driven.acknowledge(0, 0);
    driven.report(1, Report::Held(Lane::Urgent, Some(Whose::Peers)));
    assert_eq!(reports(&mut driven), [1], "its room may be waited for");
    driven.acknowledge(0, 0);
    assert_eq!(reports(&mut driven), [1]);
}

#[test]
fn whose_lanes_had_room_has_nothing_to_get_when_there_is_more() {
    let mut driven = Driven::open();
    driven.has(Class::Transaction, 1);
    driven.drain();
    let asked = driven.lanes.core.asked;
    driven.report(1, Report::Written(1, Lane::Bulk, FRAME));
    driven.acknowledge(FRAME as u64, FRAME as u64);
    driven.drain();
    assert_eq!(driven.lanes.core.asked, asked);
    // More than its window.
    driven.has(Class::Transaction, 100);
    let first = sent(&driven.drain().0, Lane::Bulk);
    driven.report(1, Report::Written(1, Lane::Bulk, first));
    driven.acknowledge(first as u64, first as u64);
    let second = sent(&driven.drain().0, Lane::Bulk);
    assert_eq!(
        (first < second + first, first + second),
        (true, 100 * FRAME)
    );
}

#[test]
fn a_lane_that_is_paused_is_not_read_on_until_it_is_resumed() {
    let mut driven = Driven::open();
    driven.lanes.core.kept = Some(Vec::new());
    let reports = |orders: &[(ConnectionId, Order)], lane: Lane| {
        let reports = orders.iter().map(|(_, order)| match order {
            Order::Handled(lanes) => lanes[lane.place()].reports,
            _ => 0,
        });
        reports.sum::<usize>()
    };
    driven.frames(Lane::Urgent, 3);
    driven.lanes.pause(driven.peer, Lane::Urgent, Whose::Peers);
    driven.frames(Lane::Urgent, 3);
    driven.frames(Lane::Bulk, 3);
    let (orders, _) = driven.drain();
    assert_eq!(reports(&orders, Lane::Urgent), 0);
    assert_eq!(reports(&orders, Lane::Bulk), 1, "another lane goes on");
    let blamed = |driven: &mut Driven| {
        for misdeed in [Misdeed::NoAnswer, Misdeed::FalseAnnouncement] {
            let action = Action::Misdeed(driven.peer, misdeed);
            driven.lanes.core.actions.push_back(action);
        }
        let (_, events) = driven.drain();
        events.len()
    };
    assert_eq!(blamed(&mut driven), 1, "its answers may stand there");
    driven.lanes.resume(driven.peer, Lane::Urgent);
    let (orders, _) = driven.drain();
    assert_eq!(reports(&orders, Lane::Urgent), 2);
}

#[test]
fn who_was_held_up_is_excused_meanwhile_and_has_as_much_more_time() {
    let mut driven = Driven::open();
    let (peer, start) = (driven.peer, platform::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    let peer = driven.lanes.peers.get_mut(&peer).expect("it is here");
    let first = ConnectionId::new_unchecked(1);
    let is_excused = |peer: &Peer, at| peer.excuses.covers(Misdeed::NoAnswer, at);
    assert!(!is_excused(peer, at(0)));
    // A vote that had to wait for the one before it.
    peer.hold(first, Lane::Urgent, Some(Whose::Peers));
    assert!(peer.hear(at(0)).is_none());
    peer.hold(first, Lane::Urgent, None);
    assert!(peer.hear(at(0)).is_none() && !is_excused(peer, at(0)));
    peer.hold(first, Lane::Block, Some(Whose::Peers));
    assert!(peer.hear(at(10)).is_none());
    peer.pause(Lane::Urgent, Whose::Peers);
    assert!(peer.hear(at(12)).is_none());
    peer.hold(first, Lane::Block, None);
    assert!(peer.hear(at(14)).is_none() && is_excused(peer, at(15)));
    peer.resume(Lane::Urgent);
    let unheard = peer.hear(at(16)).expect("it is over");
    assert!(unheard.time == at(16) - at(10) && !unheard.all);
    assert!(!is_excused(peer, at(16)));
    // Where it is this node's doing, for longer.
    peer.hold(first, Lane::Bulk, Some(Whose::Peers));
    assert!(peer.hear(at(100)).is_none() && !is_excused(peer, at(120)));
    peer.hold(first, Lane::Block, Some(Whose::Ours));
    assert!(peer.hear(at(120)).is_some() && is_excused(peer, at(140)));
}

#[test]
fn who_fills_a_lane_that_nobody_waits_for_or_fills_one_for_ever_pays_for_its_silence() {
    let mut driven = Driven::open();
    let covers = |driven: &Driven, after| {
        let excuses = driven.lanes.peers[&driven.peer].excuses;
        excuses.covers(
            Misdeed::NoAnswer,
            platform::now() + Duration::from_secs(after),
        )
    };
    driven.connect(2);
    driven.report(2, Report::Open(2));
    // It has moved, which is excused for a moment.
    assert!(!covers(&driven, 6));
    for lane in Lane::ALL {
        driven.report(1, Report::Held(lane, Some(Whose::Peers)));
        driven.report(1, Report::GaveWay(lane, 1 << 20));
        assert!(!covers(&driven, 6), "it is an elder connection");
    }
    driven.report(2, Report::Held(Lane::Bulk, Some(Whose::Peers)));
    assert!(covers(&driven, 6) && !covers(&driven, 21));
    driven.report(2, Report::Held(Lane::Bulk, None));
    assert!(!covers(&driven, 6));
    // Where both ends dial at once, the newest is not the same to both.
    driven.report(1, Report::Begun);
    assert!(covers(&driven, 6), "it answers by that one");
    driven.report(2, Report::Begun);
    assert!(!covers(&driven, 6));
    driven.disconnect(2, 1);
    assert!(covers(&driven, 6), "there is only that one left");
}

#[test]
fn whose_connection_is_not_read_pays_for_no_silence_and_has_as_much_more_time() {
    let mut driven = Driven::open();
    let blamed = |driven: &mut Driven| {
        let action = Action::Misdeed(driven.peer, Misdeed::NoAnswer);
        driven.lanes.core.actions.push_back(action);
        let (_, events) = driven.drain();
        let is_blame = |event: &Event<_>| matches!(event, Event::Misdeed(..));
        events.iter().any(is_blame)
    };
    driven.report(1, Report::Stands(true));
    let is_unheard = |driven: &Driven, at| driven.lanes.is_unheard(&driven.peer, at);
    assert!(is_unheard(&driven, platform::now()));
    assert!(!blamed(&mut driven));
    let later = platform::now() + Duration::from_secs(20);
    assert!(!is_unheard(&driven, later), "not for ever");
    let (peer, first) = (driven.peer, ConnectionId::new_unchecked(1));
    let stands = Report::Stands(false);
    driven.lanes.on_report(peer, first, stands, later);
    let (_, events) = driven.drain();
    assert!(!is_unheard(&driven, platform::now()));
    let told = events.iter().find_map(|event| match event {
        Event::Unheard(peers) => Some(peers[..].first()?.1),
        _ => None,
    });
    assert!(told.is_some_and(|time| driven.lanes.core.unheard >= time));
    assert!(blamed(&mut driven));
}

#[test]
fn a_node_that_comes_late_to_what_it_has_to_do_gives_all_as_much_more_time() {
    let behind = |late: Duration| {
        let mut driven = Driven::open();
        let now = platform::now();
        driven.lanes.due = Some(now);
        driven.lanes.look_how_late(now + late);
        let (_, events) = driven.drain();
        let told = events.iter().find_map(|event| match event {
            Event::Unheard(peers) => {
                let [(peer, time)] = peers[..] else {
                    panic!("{peers:?}");
                };
                (peer == driven.peer).then_some(time)
            }
            _ => None,
        });
        assert_eq!(told.unwrap_or_default(), driven.lanes.core.unheard);
        told
    };
    assert_eq!(behind(BEHIND / 2), None);
    let second = Duration::from_secs(1);
    assert!(behind(second).is_some_and(|time| time >= 2 * second));
    assert_eq!(behind(10 * MOST_BEHIND), Some(2 * MOST_BEHIND), "it slept");
}

#[test]
fn a_node_that_comes_late_to_a_deadline_reads_what_waits_before_it_blames_anybody() {
    let mut driven = Driven::open();
    let (asked, second) = (platform::now(), Duration::from_secs(1));
    let due = asked + 60 * second;
    driven.lanes.core.deadline = Some((due, driven.peer));
    driven.drain();
    let woken_by = driven.lanes.due.expect("it waits for something");
    assert!(woken_by <= platform::now() + PULSE, "or it knows too late");
    let blamed = |driven: &mut Driven, now| {
        driven.lanes.look_how_late(now);
        driven.lanes.on_time(now);
        driven.lanes.act(now);
        let events = driven.lanes.events.iter();
        let blames =
            |event: &&ToSwarm<_, _>| matches!(event, ToSwarm::GenerateEvent(Event::Misdeed(..)));
        events.filter(blames).count()
    };
    // It has looked in time, and was not polled again until the deadline was over.
    driven.lanes.due = Some(due);
    driven.lanes.look_how_late(due - second);
    assert_eq!(blamed(&mut driven, due + 3 * second), 0);
    assert_eq!(blamed(&mut driven, due + 5 * second), 0);
    assert_eq!(blamed(&mut driven, due + 7 * second), 1, "it is silent");
}

#[test]
fn that_a_connection_stands_by_which_nobody_waits_for_an_answer_excuses_nothing() {
    let mut driven = Driven::open();
    driven.connect(2);
    driven.report(2, Report::Open(2));
    let peer = driven.peer;
    let is_unheard = |driven: &Driven| driven.lanes.is_unheard(&peer, platform::now());
    driven.report(1, Report::Stands(true));
    assert!(!is_unheard(&driven), "it is an elder one");
    driven.report(2, Report::Stands(true));
    assert!(is_unheard(&driven));
    driven.report(2, Report::Stands(false));
    assert!(!is_unheard(&driven));
    driven.disconnect(2, 1);
    assert!(is_unheard(&driven), "there is only that one left");
}

#[test]
fn who_leaves_and_comes_again_has_not_stood_less() {
    let mut driven = Driven::open();
    let now = platform::now();
    let peer = driven
        .lanes
        .peers
        .get_mut(&driven.peer)
        .expect("it is here");
    peer.stands(ConnectionId::new_unchecked(1), true);
    assert_eq!(peer.hear(now), None);
    peer.stands(ConnectionId::new_unchecked(1), false);
    assert!(peer.hear(now + Duration::from_secs(20)).is_some());
    driven.disconnect(1, 0);
    driven.connect(1);
    driven.report(1, Report::Stands(true));
    let soon = platform::now() + Duration::from_secs(1);
    assert!(!driven.lanes.is_unheard(&driven.peer, soon));
}

#[test]
fn whose_frame_is_passed_over_is_excused_until_then_and_has_as_much_more_time_but_not_for_ever() {
    let mut driven = Driven::open();
    let now = platform::now();
    let at = |seconds| now + Duration::from_secs(seconds);
    let peer = driven
        .lanes
        .peers
        .get_mut(&driven.peer)
        .expect("it is there");
    let connection = ConnectionId::new_unchecked(1);
    let is_excused = |peer: &Peer, at| peer.excuses.covers(Misdeed::NoAnswer, at);
    peer.passes(connection, Lane::Bulk, true);
    assert!(peer.hear(at(0)).is_none());
    assert!(is_excused(peer, at(4)), "its answer stands behind the rest");
    peer.passes(connection, Lane::Bulk, false);
    let unheard = peer.hear(at(5)).map(|unheard| unheard.time);
    assert_eq!(unheard, Some(at(5) - at(0)));
    assert!(!is_excused(peer, at(5)));
    peer.passes(connection, Lane::Bulk, true);
    assert!(peer.hear(at(60)).is_none());
    assert!(is_excused(peer, at(79)) && !is_excused(peer, at(80)));
    peer.passes(connection, Lane::Bulk, false);
    assert!(peer.hear(at(60)).is_none());
    driven.report(1, Report::GaveWay(Lane::Block, 1 << 20));
    let action = Action::Misdeed(driven.peer, Misdeed::NoAnswer);
    driven.lanes.core.actions.push_back(action);
    let (_, events) = driven.drain();
    assert!(matches!(events[..], [Event::Skipped(_, Lane::Block)]));
}

#[test]
fn whose_votes_wait_for_our_checks_is_answered_and_pays_for_no_silence() {
    let mut driven = Driven::open();
    driven.has(Class::Transaction, 1000);
    let sent_and_written = |driven: &mut Driven| {
        let mut bytes = 0;
        loop {
            driven.lanes.turns.now(driven.peer);
            let (orders, _) = driven.drain();
            match sent(&orders, Lane::Bulk) {
                0 => return bytes,
                count => {
                    bytes += count;
                    driven.report(1, Report::Written(1, Lane::Bulk, count));
                }
            }
        }
    };
    let unread = sent_and_written(&mut driven);
    assert!((64 << 10..66 << 10).contains(&unread), "{unread}");
    driven.report(1, Report::Held(Lane::Urgent, Some(Whose::Ours)));
    let unheard = sent_and_written(&mut driven);
    assert_eq!(unread + unheard, 1000 * FRAME, "what it reads it gets");
    let blamed = |driven: &mut Driven| {
        let action = Action::Misdeed(driven.peer, Misdeed::NoAnswer);
        driven.lanes.core.actions.push_back(action);
        !driven.drain().1.is_empty()
    };
    assert!(!blamed(&mut driven), "its answer may be among the votes");
    driven.report(1, Report::Held(Lane::Urgent, None));
    driven.has(Class::Transaction, 1);
    assert_eq!(sent_and_written(&mut driven), 0, "it is heard again");
    let all = (1000 * FRAME) as u64;
    driven.acknowledge(all, all);
    assert_eq!(sent_and_written(&mut driven), FRAME);
}

#[test]
fn a_long_frame_that_gave_way_is_told_and_takes_nothing_of_the_peers_window() {
    let mut driven = Driven::open();
    driven.report(1, Report::GaveWay(Lane::Bulk, 1 << 20));
    let (orders, events) = driven.drain();
    assert!(matches!(events[..], [Event::Skipped(_, Lane::Bulk)]));
    assert_eq!(driven.lanes.core.met, ["joined", "skipped"], "at once");
    assert_eq!(sent(&orders, Lane::Urgent), 0, "there is more of it");
    driven.report(1, Report::Skipped(Lane::Bulk, 1 << 20));
    let (orders, events) = driven.drain();
    assert!(events.is_empty());
    let acknowledge = Acknowledge {
        read: 1 << 20,
        done: 1 << 20,
    };
    assert_eq!(sent(&orders, Lane::Urgent), acknowledge.into_frame().len());
}

#[test]
fn who_reads_no_acknowledgements_gets_few() {
    let mut driven = Driven::open();
    let mut bytes = 0;
    for _ in 0..200_000 {
        driven.frames(Lane::Bulk, 1);
        let (orders, _) = driven.drain();
        bytes += sent(&orders, Lane::Urgent);
    }
    assert!((MAX_URGENT..MAX_URGENT + 20).contains(&bytes), "{bytes}");
}

#[test]
fn who_lies_about_what_it_has_read_is_sent_no_more_and_pays() {
    let mut driven = Driven::open();
    let (mut bytes, mut paid) = (0, 0);
    for _ in 0..400 {
        driven.has(Class::Transaction, 100);
        driven.acknowledge(u64::MAX, u64::MAX);
        let (orders, events) = driven.drain();
        bytes += sent(&orders, Lane::Bulk);
        paid += events.len();
    }
    assert!(bytes < 1 << 18, "{bytes}");
    assert!(paid > 100, "more acknowledgements than frames: {paid}");
}

#[test]
fn a_new_connection_takes_over_and_the_former_one_is_not_believed_any_more() {
    let mut driven = Driven::open();
    driven.connect(2);
    let (orders, _) = driven.drain();
    let second = ConnectionId::new_unchecked(2);
    assert!(
        matches!(orders[..], [(one, Order::Read(true)), (other, Order::Open(2))] if one == second && other == second)
    );
    driven.report(2, Report::Open(2));
    // An acknowledgement is due for this.
    driven.frames(Lane::Bulk, 1);
    let (orders, events) = driven.drain();
    assert!(events.is_empty(), "it has never left: {events:?}");
    let sends = orders
        .iter()
        .filter(|(_, order)| matches!(order, Order::Send(..)));
    assert!(
        sends.clone().count() > 0 && sends.clone().all(|(connection, _)| *connection == second)
    );
    driven.report(1, Report::Broken(1));
    driven.disconnect(1, 1);
    assert_eq!(driven.lanes.open_peers(), 1);
    driven.disconnect(2, 0);
    assert_eq!(driven.lanes.open_peers(), 0);
}

#[test]
fn who_moves_is_excused_for_what_may_be_lost_and_for_nothing_else() {
    let mut driven = Driven::open();
    driven.connect(2);
    driven.report(2, Report::Open(2));
    assert_eq!(driven.lanes.core.met, ["joined", "moved"]);
    for misdeed in [
        Misdeed::NoAnswer,
        Misdeed::InvalidMessage,
        Misdeed::TooManyMessages,
        Misdeed::InvalidItem,
    ] {
        let action = Action::Misdeed(driven.peer, misdeed);
        driven.lanes.core.actions.push_back(action);
    }
    let (_, events) = driven.drain();
    let paid = |event: &Event<_>| matches!(event, Event::Misdeed(_, Misdeed::InvalidItem));
    assert!(matches!(&events[..], [event] if paid(event)), "{events:?}");
}

/// Where both ends dial at once, and it has opened its streams on the first connection before we have.
#[test]
fn who_has_told_by_two_connections_before_it_is_read_is_excused_for_what_it_told_twice() {
    for connections in 1..=2 {
        let mut driven = Driven::new();
        driven.report(1, Report::Begun);
        if connections == 2 {
            driven.connect(2);
            driven.report(2, Report::Begun);
        }
        let epoch = u64::try_from(connections).expect("few");
        driven.report(connections, Report::Open(epoch));
        let (orders, _) = driven.drain();
        let reads = orders
            .iter()
            .filter(|(_, order)| matches!(order, Order::Read(true)));
        assert_eq!(reads.count(), connections, "all are read");
        assert_eq!(driven.lanes.core.met, ["joined"]);
        let excuses = &driven.lanes.peers[&driven.peer].excuses;
        let is_excused = excuses.covers(Misdeed::TooManyMessages, platform::now());
        assert_eq!(is_excused, connections == 2);
    }
}

#[test]
fn who_leaves_and_comes_back_is_not_excused_again() {
    let mut driven = Driven::open();
    let excused = |driven: &Driven, after| {
        let peer = &driven.lanes.peers[&driven.peer];
        peer.excuses
            .covers(Misdeed::InvalidMessage, platform::now() + after)
    };
    let second = Duration::from_secs(1);
    driven.connect(2);
    assert!(excused(&driven, 4 * second));
    let at = driven.lanes.peers[&driven.peer].excuses.moved_at();
    for _ in 0..3 {
        driven.disconnect(1, 1);
        driven.disconnect(2, 0);
        driven.connect(1);
        driven.lanes.greeted(driven.peer);
        driven.report(1, Report::Open(1));
        driven.connect(2);
        let excuses = &driven.lanes.peers[&driven.peer].excuses;
        assert_eq!(excuses.moved_at(), at);
    }
}

#[test]
fn a_peer_that_begins_anew_is_met_anew() {
    let mut driven = Driven::open();
    driven.report(1, Report::Renewed);
    driven.drain();
    assert_eq!(driven.lanes.core.met, ["joined", "gone", "joined"]);
    let peer = &driven.lanes.peers[&driven.peer];
    assert!(
        peer.excuses
            .covers(Misdeed::InvalidMessage, platform::now())
    );
    assert_eq!(driven.lanes.open_peers(), 1);
}

/// In the middle of a frame that takes all the room, of which this is what is left.
fn half_way(rest: &[(usize, bool)]) -> Driven {
    let mut driven = Driven::open();
    let pieces = [(BLOCK_ROOM, false)]
        .into_iter()
        .chain(rest.iter().copied());
    driven.lanes.core.pieces = Some(pieces.collect());
    driven.has(Class::Block, 0);
    let (orders, _) = driven.drain();
    assert_eq!(sent(&orders, Lane::Block), BLOCK_ROOM);
    driven
}

#[test]
fn nothing_comes_between_the_pieces_of_a_frame() {
    let mut driven = half_way(&[(BLOCK_ROOM, false), (3, true), (4, true)]);
    for class in [Class::Block, Class::BlockRequest] {
        let outgoing = Outgoing::one(Bytes::from_static(&[0; 20]));
        let send = Action::Send(driven.peer, class, outgoing);
        driven.lanes.core.actions.push_back(send);
    }
    let mut lengths = Vec::new();
    for _ in 0..3 {
        let (orders, _) = driven.drain();
        lengths.extend(orders.iter().filter_map(|(_, order)| match order {
            Order::Send(Lane::Block, bytes) => Some(bytes.len()),
            _ => None,
        }));
        driven.report(1, Report::Written(1, Lane::Block, BLOCK_ROOM));
    }
    assert_eq!(lengths, [BLOCK_ROOM, 3, 20, 20, 4]);
}

#[test]
fn a_request_goes_out_between_two_frames_though_more_of_them_wait() {
    let mut driven = half_way(&[(3, true), (4, false), (5, true)]);
    driven.has(Class::BlockRequest, 1);
    driven.report(1, Report::Written(1, Lane::Block, BLOCK_ROOM));
    let (orders, _) = driven.drain();
    let lengths = orders.iter().filter_map(|(_, order)| match order {
        Order::Send(Lane::Block, bytes) => Some(bytes.len()),
        _ => None,
    });
    assert_eq!(lengths.collect::<Vec<_>>(), [3, FRAME, 4, 5]);
}

#[test]
fn what_was_held_back_for_want_of_room_goes_when_there_is_some() {
    let mut driven = Driven::open();
    let length = BLOCK_ROOM / 2 + 1;
    driven.lanes.core.pieces = Some([(length, true), (length, true)].into());
    driven.has(Class::Block, 0);
    let (orders, _) = driven.drain();
    assert_eq!(sent(&orders, Lane::Block), length);
    driven.report(1, Report::Written(1, Lane::Block, length));
    let (orders, _) = driven.drain();
    assert_eq!(sent(&orders, Lane::Block), length);
}

#[test]
fn a_frame_that_does_not_go_on_ends_the_streams() {
    let mut driven = half_way(&[]);
    driven.has(Class::Transaction, 1);
    driven.has(Class::BlockRequest, 1);
    driven.report(1, Report::Written(1, Lane::Block, BLOCK_ROOM));
    let (orders, events) = driven.drain();
    assert!(events.is_empty(), "nobody pays: {events:?}");
    assert_eq!(sent(&orders, Lane::Block) + sent(&orders, Lane::Bulk), 0);
    assert_eq!(driven.lanes.core.met, ["joined", "gone"]);
    assert_eq!(driven.lanes.open_peers(), 0);
    assert!(driven.lanes.turns.next().is_some(), "others are opened");
}

#[test]
fn a_peer_that_begins_anew_in_the_middle_of_a_frame_is_met_on_other_streams() {
    let mut driven = half_way(&[(10, true)]);
    driven.report(1, Report::Renewed);
    driven.drain();
    assert_eq!(driven.lanes.core.met, ["joined", "gone"]);
    assert_eq!(driven.lanes.open_peers(), 0);
    // A new connection is tried at once, and goes on with nothing of the former one.
    driven.connect(2);
    driven.report(2, Report::Open(2));
    let (orders, _) = driven.drain();
    assert_eq!(driven.lanes.open_peers(), 1);
    assert_eq!(sent(&orders, Lane::Block), 10);
}

#[test]
fn streams_that_do_not_open_are_tried_one_at_a_time() {
    let mut driven = Driven::new();
    let (orders, _) = driven.drain();
    assert!(matches!(orders[..], [(_, Order::Open(1))]));
    for _ in 0..10 {
        driven.report(1, Report::Broken(1));
        let (orders, events) = driven.drain();
        assert!(
            orders.is_empty() && events.is_empty(),
            "{orders:?} {events:?}"
        );
    }
    assert!(driven.lanes.turns.next().is_some(), "it is tried again");
    driven.report(1, Report::Open(1));
    assert_eq!(driven.lanes.open_peers(), 0, "that attempt has failed");
}

#[test]
fn every_class_goes_out_and_the_urgent_ones_first() {
    let mut driven = Driven::open();
    for class in Class::ALL.into_iter().rev() {
        driven.has(class, 1);
    }
    let (orders, _) = driven.drain();
    let classes = classes(&orders);
    assert_eq!(classes.len(), Class::ALL.len());
    let strict = [Class::Vote, Class::BlockRequest, Class::Block];
    assert_eq!(classes[..3], strict);
}

#[test]
fn a_class_at_its_limit_waits_and_holds_up_no_other() {
    let mut driven = Driven::open();
    let limits = Config::default().limits();
    let most = limits.block_request.items.expect("a limit").burst;
    let most = usize::try_from(most).expect("small");
    driven.has(Class::BlockRequest, 2 * most);
    let mut requests = 0;
    loop {
        let (orders, _) = driven.drain();
        let count = classes(&orders).len();
        if count == 0 {
            break;
        }
        requests += count;
        let written = sent(&orders, Lane::Block);
        driven.report(1, Report::Written(1, Lane::Block, written));
    }
    // Three quarters of the burst, and what became due while this ran.
    assert!((most * 3 / 4..most).contains(&requests), "{requests}");
    let made = 2 * most - driven.lanes.core.waiting[Class::BlockRequest.place()];
    assert_eq!(made, requests, "what is next is decided when it may go");
    assert!(driven.lanes.turns.next().is_some(), "the rest follows");
    assert!(driven.lanes.core.withheld.contains(&Class::BlockRequest));
    driven.has(Class::Block, 3);
    let (orders, _) = driven.drain();
    let blocks = classes(&orders);
    assert!(blocks.contains(&Class::Block), "{blocks:?}");
}

#[test]
fn who_is_made_much_for_leaves_others_their_turns() {
    let mut driven = Driven::open();
    driven.lanes.core.payload = MAX_WORK / 2;
    driven.has(Class::Transaction, 20);
    let mut frames = 0;
    for turn in 1..=10 {
        // Whoever polls does other things when this says that there is nothing, and comes back.
        let (orders, _) = driven.drain();
        frames += classes(&orders).len();
        assert_eq!(frames, 2 * turn);
    }
    let (orders, _) = driven.drain();
    assert!(classes(&orders).is_empty() && driven.lanes.turns.is_empty());
}

#[test]
fn what_comes_is_charged_to_its_class() {
    let driven = Driven::open();
    let now = platform::now();
    let limits = Config::default().limits();
    let most = limits.block_request.items.expect("a limit").burst;
    let mut download = Download::new(driven.peer, Arc::clone(&driven.lanes.download));
    let cost = Cost {
        items: 2 * most,
        bytes: 100,
    };
    download.charge([(Class::BlockRequest, Load::of_one(cost, 100))]);
    let mut shaper = lock(&driven.lanes.download);
    let ready = |shaper: &mut Shaper, lane| {
        shaper.lane_ready(&driven.peer, lane, now) == crate::traffic::Admission::Now
    };
    assert!(!ready(&mut shaper, Lane::Block));
    assert!(ready(&mut shaper, Lane::Urgent) && ready(&mut shaper, Lane::Bulk));
}

#[test]
fn a_lane_that_may_be_read_and_has_nothing_does_not_ask_again() {
    let driven = Driven::open();
    let mut download = Download::new(driven.peer, Arc::clone(&driven.lanes.download));
    let may = |download: &mut Download| {
        let mut cx = Context::from_waker(Waker::noop());
        Lane::ALL.map(|lane| download.poll_ready(lane, &mut cx).is_ready())
    };
    assert_eq!(may(&mut download), [true; 3]);
    // By its peer's other connection.
    let cost = Cost {
        items: u64::MAX >> 1,
        bytes: 0,
    };
    let mut other = Download::new(driven.peer, Arc::clone(&driven.lanes.download));
    other.charge([(Class::Transaction, Load::of_one(cost, 0))]);
    assert_eq!(may(&mut other), [true, true, false]);
    assert_eq!(may(&mut download), [true; 3], "one go of each lane");
    download.charge([(Class::Vote, Load::default())]);
    assert_eq!(may(&mut download), [true, true, false]);
}

#[test]
fn what_is_passed_over_is_charged_as_if_it_had_been_read() {
    let driven = Driven::open();
    let mut download = Download::new(driven.peer, Arc::clone(&driven.lanes.download));
    let limits = Config::default().limits();
    let most = limits.transaction.bytes.expect("a limit").burst;
    let length = 5 << 20;
    let mut passed = 0;
    let ready = |lane| {
        let now = platform::now();
        lock(&driven.lanes.download).lane_ready(&driven.peer, lane, now)
    };
    while ready(Lane::Bulk) == crate::traffic::Admission::Now {
        download.charge_skipped(Lane::Bulk, length);
        passed += length as u64;
        assert!(passed <= 2 * most, "it is free");
    }
    assert!(passed >= most);
    assert_eq!(ready(Lane::Block), crate::traffic::Admission::Now);
}

#[test]
fn a_broken_acknowledgement_is_found_in_a_stream() {
    let whole = Acknowledge { done: 7, read: 9 }.into_frame();
    assert_eq!(check_lane(&whole).expect("two numbers"), 1);
    let broken = [3, whole[1], 1, 0xff];
    assert!(check_lane(&broken).is_err());
}

#[test]
fn where_peers_send_without_end_what_else_waits_has_its_turns() {
    let mut driven = Driven::open();
    let (mut turns, mut context) = (0, Context::from_waker(Waker::noop()));
    for _ in 0..8 {
        // The swarm asks the behaviour after each report, and the connections have always another.
        driven.frames(Lane::Bulk, 64);
        while let Poll::Ready(action) = driven.lanes.poll(&mut context) {
            turns += usize::from(matches!(action, ToSwarm::GenerateEvent(Event::GiveWay)));
        }
    }
    assert_eq!(turns, 8 * 64 / MAX_CAME);
    // Who is alone with little is not interrupted.
    driven.frames(Lane::Urgent, 1);
    assert!(driven.drain().1.is_empty());
}
