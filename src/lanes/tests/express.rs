//! What overtakes what, and by how much.

use super::{super::handler::MAX_FRAMES, *};
use crate::platform::test;

#[test]
fn votes_go_before_what_other_lanes_tell_but_not_before_their_session() {
    let mut driven = Driven::open();
    let (peer, connection) = (driven.peer, ConnectionId::new_unchecked(1));
    let mut express = driven.lanes.arrivals.of(peer, connection);
    let vote = || Report::Frames(Lane::Urgent, vec![(Frame::Core("a vote", None), SIZE)]);
    driven.lanes.core.kept = Some(Vec::new());
    let lanes = |driven: &mut Driven| {
        driven.drain();
        let kept = driven.lanes.core.kept.as_mut().expect("it keeps them");
        kept.drain(..).map(|taken| taken.lane()).collect::<Vec<_>>()
    };
    for _ in 0..100 {
        express.send(vote());
    }
    let first = lanes(&mut driven);
    assert!(!first.is_empty() && first.len() < 100, "{}", first.len());
    driven.frames(Lane::Bulk, 1);
    let rest = lanes(&mut driven);
    assert_eq!((rest[0], rest.len()), (Lane::Bulk, 101 - first.len()));

    // What is said after the peer opened its streams anew is read when that is dealt with.
    express.began();
    assert!(!express.is_free());
    driven.report(1, Report::Renewed);
    let (orders, _) = driven.drain();
    let met = orders
        .iter()
        .filter(|(_, order)| matches!(order, Order::Met));
    assert_eq!(met.count(), 1);
    express.met();
    assert!(express.is_free());
}

#[test]
fn what_was_read_before_a_session_or_connection_ended_is_dealt_with_before_that() {
    let mut driven = Driven::open();
    let (peer, connection) = (driven.peer, ConnectionId::new_unchecked(1));
    let express = driven.lanes.arrivals.of(peer, connection);
    // More than goes ahead at once.
    let votes = || {
        for _ in 0..2 * MAX_FRAMES {
            let vote = (Frame::Core("a vote", None), SIZE);
            express.send(Report::Frames(Lane::Urgent, vec![vote]));
        }
    };
    votes();
    driven.report(1, Report::Renewed);
    driven.drain();
    let core = &driven.lanes.core;
    assert_eq!(core.met, ["joined", "gone", "joined"]);
    assert_eq!(
        (&core.left_after[..], core.heard),
        (&[2 * MAX_FRAMES][..], 2 * MAX_FRAMES)
    );
    votes();
    driven.disconnect(1, 0);
    driven.drain();
    let all = 4 * MAX_FRAMES;
    let core = &driven.lanes.core;
    assert_eq!((core.left_after[1], core.heard), (all, all));
}

#[test]
fn where_all_send_without_end_each_connection_has_its_turn_on_all_lanes() {
    const FLOODERS: usize = 8;
    const TURNS: usize = 4 * FLOODERS;
    let mut driven = Driven::open();
    let report = |lane, count: usize| {
        let frames = (0..count).map(|_| (Frame::Core("a frame", None), SIZE));
        Report::Frames(lane, frames.collect())
    };
    let (first, voter) = (driven.peer, ConnectionId::new_unchecked(1));
    let mut flooders = Vec::new();
    for number in 2..2 + FLOODERS {
        driven.peer = PeerId::random();
        driven.connect(number);
        let (peer, connection) = (driven.peer, ConnectionId::new_unchecked(number));
        let express = driven.lanes.arrivals.of(peer, connection);
        for _ in 0..8 {
            express.send(report(Lane::Urgent, MAX_FRAMES));
        }
        flooders.push((peer, connection, express));
    }
    let express = driven.lanes.arrivals.of(first, voter);
    express.send(report(Lane::Urgent, 1));

    let mut handled = [0; FLOODERS];
    let mut voted_at = None;
    for turn in 0..TURNS {
        // As the swarm does: when the behaviour has nothing to do, a report of the connection whose turn it is.
        let (orders, _) = driven.drain();
        for (connection, order) in orders {
            let Order::Handled(lanes) = order else {
                continue;
            };
            for _ in 0..lanes[Lane::Urgent.place()].reports {
                let place = flooders.iter().position(|(_, id, _)| *id == connection);
                let Some(place) = place else {
                    voted_at = Some(turn);
                    continue;
                };
                handled[place] += 1;
                let (_, _, express) = &flooders[place];
                express.send(report(Lane::Urgent, MAX_FRAMES));
            }
        }
        let (peer, connection, _) = &flooders[turn % FLOODERS];
        let bulk = report(Lane::Bulk, 1);
        driven
            .lanes
            .on_connection_handler_event(*peer, *connection, bulk);
    }
    // As many urgent reports as others, of each connection as many, and the vote behind one of each.
    let all: usize = handled.iter().sum();
    assert!((TURNS - 1..=TURNS + 1).contains(&all), "{handled:?}");
    let alike = TURNS / FLOODERS - 1..=TURNS / FLOODERS + 1;
    assert!(handled.iter().all(|one| alike.contains(one)), "{handled:?}");
    assert!(
        voted_at.is_some_and(|turn| turn <= FLOODERS),
        "{voted_at:?}"
    );
}
