//! The behaviour, driven by hand: what connections say, and what they are told.

use std::task::Waker;

use libp2p::{
    core::ConnectedPoint,
    swarm::behaviour::{ConnectionClosed, ConnectionEstablished},
};

use super::{
    feed::MAX_URGENT,
    handler::{Handled, Size},
    *,
};
use crate::{intake::Way, platform::test, propagation::wire::Fetch};

/// Peers' lanes, and one peer.
struct Driven {
    lanes: Lanes,
    peer: PeerId,
}

impl Driven {
    fn new() -> Self {
        let lanes = Lanes::new(&Config::default(), [[1; 16]; 4]).expect("right");
        let peer = PeerId::random();
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

    fn report(&mut self, connection: usize, report: Report) {
        let connection = ConnectionId::new_unchecked(connection);
        self.lanes
            .on_connection_handler_event(self.peer, connection, report);
    }

    /// Frames of 10 bytes each, one report.
    fn frames(&mut self, lane: Lane, kinds: impl IntoIterator<Item = Kind>) {
        let size = Size {
            wire: 10,
            held: 300,
        };
        let frames = kinds.into_iter().map(|kind| (Input::Other(kind), size));
        let frames = frames.collect();
        self.report(1, Report::Frames(lane, frames));
    }

    /// What connections are told, and events.
    fn drain(&mut self) -> (Vec<(ConnectionId, Order)>, Vec<Event>) {
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

    fn publish(&mut self, number: u64, size: usize) {
        let mut data = number.to_le_bytes().to_vec();
        data.resize(size, u8::try_from(number % 251).expect("small"));
        let item = Accepted {
            key: TransactionKey::of(&data),
            data: data.into(),
            fee: 0,
        };
        let kind = ItemKind::Transaction;
        self.lanes
            .concluded(kind, Way::Other, vec![item], &[], Instant::now());
    }
}

/// Bytes that are to be sent on a lane.
fn sent(orders: &[(ConnectionId, Order)], on: Lane) -> usize {
    let bytes = orders.iter().map(|(_, order)| match order {
        Order::Send(lane, bytes) if *lane == on => bytes.len(),
        _ => 0,
    });
    bytes.sum()
}

fn unknown_id() -> Kind {
    let ids = [ShortId::new([9; 8])];
    Kind::Fetch(Fetch {
        ids: wire::column(ids.into_iter()),
    })
}

#[test]
fn many_little_frames_are_answered_by_one_acknowledgement() {
    let mut driven = Driven::open();
    driven.frames(Lane::Bulk, (0..64).map(|_| unknown_id()));
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
    assert!(sent(&orders, Lane::Bulk) < 20, "an id is looked for once");
}

#[test]
fn who_reads_no_acknowledgements_gets_few() {
    let mut driven = Driven::open();
    let mut bytes = 0;
    for _ in 0..200_000 {
        driven.frames(Lane::Bulk, [unknown_id()]);
        let (orders, _) = driven.drain();
        bytes += sent(&orders, Lane::Urgent);
    }
    assert!((MAX_URGENT..MAX_URGENT + 20).contains(&bytes), "{bytes}");
}

#[test]
fn who_lies_about_what_it_has_read_is_sent_no_more_and_pays() {
    let mut driven = Driven::open();
    let lie = Kind::Acknowledge(Acknowledge {
        read: u64::MAX,
        done: u64::MAX,
    });
    let (mut bytes, mut paid) = (0, 0);
    for number in 0..200 {
        driven.publish(number, 100_000);
        driven.frames(Lane::Urgent, [lie.clone()]);
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
    driven.frames(Lane::Bulk, [unknown_id()]);
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
fn a_peer_that_begins_anew_is_met_anew() {
    let mut driven = Driven::open();
    driven.report(1, Report::Renewed);
    let (_, events) = driven.drain();
    assert!(
        matches!(events[..], [Event::Work(_)]),
        "pools are compared anew: {events:?}"
    );
    let peer = &driven.lanes.peers[&driven.peer];
    assert!(peer.is_excused(Instant::now()));
    assert_eq!(driven.lanes.open_peers(), 1);
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
    assert!(driven.lanes.next_deadline().is_some(), "it is tried again");
    driven.report(1, Report::Open(1));
    assert_eq!(driven.lanes.open_peers(), 0, "that attempt has failed");
}
