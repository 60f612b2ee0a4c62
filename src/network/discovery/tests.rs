use std::{io, sync::Mutex};

use libp2p::{
    TransportError,
    core::{
        Endpoint,
        transport::{PortUse, dummy::DummyTransport},
    },
    identity::Keypair,
    relay, swarm,
};
use tokio::sync::oneshot;

use super::{
    book::{ACROSS, FEEL, FromBook},
    wishes::GIVEN_UP,
    *,
};
use crate::{
    chain::{Opaque, rules::Synchronous},
    error::NetworkError,
    network::behaviour::MAX_DIALS,
    peers::{AddressBook, AddressPolicy, Grouping, RefusedAddress},
    platform::test,
    transport::{self, Boxed, links::Links},
};

/// A node that dials and never hears what becomes of it.
fn deaf() -> (Swarm<Guarded<Behaviour>>, Discovery) {
    let (config, keypair) = (Config::default(), Keypair::generate_ed25519());
    let own = keypair.public().to_peer_id();
    let book = AddressBook::new(own, |_| true, Grouping::default(), [7; 32], platform::now());
    let rules = Arc::new(Synchronous::new(Arc::new(Opaque)));
    let shared = Arc::new(Shared::new(rules, &config, book, &[7; 16]));
    let policy = Arc::new(Mutex::new(AddressPolicy::new(own, true, &[1; 16])));
    let (_, circuits) = relay::client::new(own);
    let local = transport::local_discovery(&config, own).expect("off");
    let known = (policy, Arc::clone(&shared.table), shared.grouping.clone());
    let behaviour = Behaviour::new(
        &config,
        &keypair,
        circuits,
        local,
        known,
        None,
        Links::default(),
    )
    .expect("right");
    let nowhere: Boxed = libp2p::Transport::boxed(DummyTransport::new());
    let discovery = Discovery::new(own, &config, shared, &[7; 16]);
    let config = swarm::Config::with_executor(|_| {});
    (
        Swarm::new(nowhere, Guarded::new(behaviour), own, config),
        discovery,
    )
}

#[test]
fn a_seed_whose_dial_fails_at_once_is_dialled_again() {
    let ((mut swarm, mut discovery), now) = (deaf(), platform::now());
    let address = |port: u32| -> Multiaddr {
        let text = format!("/ip4/192.0.2.1/tcp/{port}");
        text.parse().expect("an address")
    };
    for port in 1..=MAX_DIALS {
        let (reply, _) = oneshot::channel();
        discovery.dial(&mut swarm, address(port), reply, now);
    }
    assert_eq!(discovery.wishes.dials.len(), MAX_DIALS as usize);
    let seed = PeerInfo {
        addresses: vec![address(1000)],
        ..PeerInfo::new(PeerId::random())
    };
    let (reply, mut answer) = oneshot::channel();
    discovery.dial_seed(&mut swarm, &seed, reply, now);
    let answered = answer.try_recv().expect("it is said at once");
    assert!(matches!(answered, Err(NetworkError::Dial { .. })));
    let due = discovery.dialing.due(1, 0, now);
    assert_eq!(
        due.len(),
        1,
        "it is not taken for one that is being dialled"
    );
}

fn seed() -> PeerInfo {
    PeerInfo {
        addresses: vec!["/ip4/1.2.3.4/tcp/1000".parse().expect("an address")],
        ..PeerInfo::new(PeerId::random())
    }
}

#[test]
fn all_of_the_users_peers_that_are_kept_in_mind_make_no_room_for_others() {
    let ((_, mut discovery), now) = (deaf(), platform::now());
    let peers: Vec<_> = (0..2049).map(|_| seed()).collect();
    for peer in &peers {
        discovery.added(peer.peer_id, peer.addresses[0].clone(), now);
    }
    let table = discovery.shared.peers();
    let mut kept = 0;
    for PeerInfo { peer_id, .. } in &peers {
        let is_kept = discovery.dialing.knows(peer_id);
        assert_eq!(table.is_of_users(peer_id), is_kept);
        kept += usize::from(is_kept);
    }
    assert_eq!(kept, 2048, "one gave way");
}

#[test]
fn a_seed_that_was_full_is_asked_for_others_when_it_is_dialled_again() {
    let ((mut swarm, mut discovery), now) = (deaf(), platform::now());
    let seed = seed();
    discovery.added(seed.peer_id, seed.addresses[0].clone(), now);
    discovery.dialing.connected(&seed.peer_id);
    discovery.refused(&seed.peer_id, "it is full", now);
    discovery.gone(&mut swarm, &seed.peer_id, "it is full", now);
    // No lookup is due by itself.
    discovery.look_at = now + Duration::from_secs(3600);
    for (seconds, looks) in [(59, 0), (60, 1)] {
        discovery.on_time(&mut swarm, now + Duration::from_secs(seconds));
        assert_eq!(swarm.behaviour_mut().routing.lookups(), looks, "{seconds}");
    }
}

/// The dial that is under way ends at a peer.
fn connects(discovery: &mut Discovery, peer: PeerId, address: &Multiaddr, now: Instant) {
    let connection = *discovery.wishes.dials.keys().next().expect("it is dialled");
    let endpoint = ConnectedPoint::Dialer {
        address: address.clone(),
        role_override: Endpoint::Dialer,
        port_use: PortUse::Reuse,
    };
    let info = PeerInfo {
        direction: Some(Direction::Outbound),
        ..PeerInfo::new(peer)
    };
    discovery.shared.peers().connected(connection, info, now);
    discovery.connected(peer, connection, &endpoint, now);
}

#[test]
fn a_dial_that_was_given_up_brings_no_peer() {
    let now = platform::now();
    let address = seed().addresses[0].clone();
    let stage = |discovery: &Discovery, peer: PeerId| discovery.shared.peers().stage(&peer);
    // Before it is connected, and before it is ready.
    for early in [true, false] {
        let ((mut swarm, mut discovery), peer) = (deaf(), PeerId::random());
        let (reply, answer) = oneshot::channel();
        discovery.dial(&mut swarm, address.clone(), reply, now);
        let answer = (!early).then_some(answer);
        connects(&mut discovery, peer, &address, now);
        if answer.is_some() {
            assert_eq!(stage(&discovery, peer), Some(Stage::Greeting));
            drop(answer);
            assert!(discovery.lets_go(peer));
        }
        assert_eq!(stage(&discovery, peer), Some(Stage::Ending));
        discovery.gone(&mut swarm, &peer, GIVEN_UP, now);
        let later = now + Duration::from_secs(3600);
        assert!(discovery.dialing.due(1, 0, later).is_empty());
    }
}

#[test]
fn a_dial_of_a_peer_that_is_being_refused_waits_for_its_end_and_dials_anew() {
    let ((mut swarm, mut discovery), now) = (deaf(), platform::now());
    let (peer, address) = (PeerId::random(), seed().addresses[0].clone());
    let (reply, mut refused) = oneshot::channel();
    discovery.dial(&mut swarm, address.clone(), reply, now);
    connects(&mut discovery, peer, &address, now);
    discovery.shared.peers().turn_away(peer, "it is full", now);
    discovery.refused(&peer, "it is full", now);
    assert!(matches!(
        refused.try_recv(),
        Ok(Err(NetworkError::Dial { .. }))
    ));
    // An address does not say whose it is, until a second connection is there, which ends with the first.
    let (reply, mut anew) = oneshot::channel();
    discovery.dial(&mut swarm, address.clone(), reply, now);
    connects(&mut discovery, peer, &address, now);
    assert!(discovery.wishes.dials.is_empty());
    discovery.shared.peers().clear();
    discovery.gone(&mut swarm, &peer, "it was refused", now);
    assert!(anew.try_recv().is_err(), "that was no answer");
    assert_eq!(discovery.wishes.dials.len(), 1, "it is dialled anew");
    connects(&mut discovery, peer, &address, now);
    assert!(discovery.wishes.ready(peer));
    assert!(matches!(anew.try_recv(), Ok(Ok(it)) if it == peer));
}

#[test]
fn a_peer_that_is_wanted_otherwise_stays_though_a_dial_of_it_was_given_up() {
    let ((mut swarm, mut discovery), now) = (deaf(), platform::now());
    let (seed, address) = (seed(), seed().addresses[0].clone());
    discovery.added(seed.peer_id, address.clone(), now);
    let (reply, _) = oneshot::channel();
    discovery.dial(&mut swarm, address.clone(), reply, now);
    connects(&mut discovery, seed.peer_id, &address, now);
    assert!(!discovery.lets_go(seed.peer_id));
    let stage = discovery.shared.peers().stage(&seed.peer_id);
    assert_eq!(stage, Some(Stage::Greeting));
}

#[test]
fn who_is_to_be_dialled_later_is_dialled_at_once_after_a_sleep() {
    let ((mut swarm, mut discovery), now) = (deaf(), platform::now());
    let (peer, refusing) = (PeerId::random(), PeerId::random());
    for peer in [peer, refusing] {
        let (reply, _answer) = oneshot::channel();
        let address = seed().addresses[0].clone();
        discovery.dial(&mut swarm, address.clone(), reply, now);
        connects(&mut discovery, peer, &address, now);
    }
    discovery.refused(&refusing, "it is full", now);
    for peer in [peer, refusing] {
        discovery.gone(&mut swarm, &peer, "it is gone", now);
    }
    assert!(!discovery.dialing.is_dialling(&peer));
    discovery.woke(&mut swarm, now);
    assert!(discovery.dialing.is_dialling(&peer));
    // To ask again at once would change nothing.
    assert!(!discovery.dialing.is_dialling(&refusing));
}

#[test]
fn whom_the_user_has_dialled_is_dialled_again_when_it_is_lost() {
    let ((mut swarm, mut discovery), now) = (deaf(), platform::now());
    let (peer, address) = (PeerId::random(), seed().addresses[0].clone());
    let (reply, _answer) = oneshot::channel();
    discovery.dial(&mut swarm, address.clone(), reply, now);
    connects(&mut discovery, peer, &address, now);
    discovery.gone(&mut swarm, &peer, "it is gone", now);
    let due = discovery.dialing.due(1, 0, now + LOOK.0);
    let due: Vec<_> = due
        .into_iter()
        .map(|due| (due.peer, due.addresses))
        .collect();
    assert_eq!(due, [(peer, vec![address])]);
}

/// Tells of a peer at this port, and says who it is.
fn told(discovery: &Discovery, port: u16, now: Instant) -> PeerId {
    let address = format!("/ip4/1.{port}.3.4/tcp/1000");
    let address = address.parse().expect("an address");
    let mut book = discovery.shared.book();
    loop {
        let peer = PeerId::random();
        // Another may have its place.
        if book.told(
            NetworkGroup::Fleeting,
            peer,
            std::slice::from_ref(&address),
            now,
        ) {
            return peer;
        }
    }
}

#[test]
fn a_node_that_has_all_its_peers_dials_some_of_the_book_now_and_then() {
    let ((mut swarm, mut discovery), now) = (deaf(), platform::now());
    // None but this one: nobody lacks.
    discovery.wanted = 1;
    told(&discovery, 1, now);
    discovery.on_time(&mut swarm, now);
    assert_eq!(discovery.from_book.chosen.len(), 1);
    for port in 2..20 {
        told(&discovery, port, now);
    }
    for seconds in 1..=ACROSS.as_secs() {
        discovery.on_time(&mut swarm, now + Duration::from_secs(seconds));
        let FromBook { chosen, felt, .. } = &discovery.from_book;
        let across = chosen.len() - felt.len() - 1;
        // Each the first time within its pause, and then again.
        let most = seconds / FEEL.as_secs() + 1;
        assert!(across <= 1 && felt.len() as u64 <= most);
        assert!(felt.len() as u64 >= most - 1);
    }
    let FromBook { chosen, felt, .. } = &discovery.from_book;
    assert_eq!(
        chosen.len() - felt.len(),
        2,
        "the first one, and one across"
    );
}

#[test]
fn of_nodes_that_start_at_once_some_look_across_at_any_time() {
    let now = platform::now();
    let seed = |node: u128| node.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let nodes = (1..=64).map(|node| FromBook::new(&seed(node).to_le_bytes(), now));
    let tenth = |at: Instant, pause: Duration| {
        (at.saturating_duration_since(now).as_secs_f64() * 10.0 / pause.as_secs_f64()) as usize
    };
    let mut looks = [[0; 11]; 2];
    for node in nodes {
        looks[0][tenth(node.across_at, ACROSS)] += 1;
        looks[1][tenth(node.feel_at, FEEL)] += 1;
    }
    assert!(
        looks.iter().all(|tenths| !tenths[..10].contains(&0)),
        "{looks:?}"
    );
}

#[test]
fn a_dial_that_says_nothing_of_where_a_peer_is_does_not_count_against_it() {
    let ((_, mut discovery), now) = (deaf(), platform::now());
    let peer = told(&discovery, 1, now);
    let known = discovery.shared.book().candidate(&peer);
    let known = known.expect("it was told of").addresses[0].clone();
    let elsewhere = seed().addresses[0].clone();
    // This node is online.
    let other = PeerInfo {
        direction: Some(Direction::Outbound),
        ..PeerInfo::new(PeerId::random())
    };
    let [first, second] = [1, 2].map(ConnectionId::new_unchecked);
    discovery.shared.peers().connected(first, other, now);
    let silent = io::Error::from(io::ErrorKind::TimedOut);
    let ours = io::Error::other(RefusedAddress::Recently);
    let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
    let rows = [
        (&elsewhere, silent, 0),
        (&known, ours, 0),
        (&known, refused, 1),
    ];
    for (address, error, counted) in rows {
        let attempt = (address.clone(), TransportError::Other(error));
        let error = DialError::Transport(vec![attempt]);
        discovery.failed(second, Some(peer), &error, now);
        let book = discovery.shared.book();
        let failures: u32 = book.peers().map(|known| known.failures).sum();
        assert_eq!(failures, counted, "{error}");
    }
}

#[test]
fn whom_the_user_let_go_is_not_dialled_from_the_book() {
    let ((mut swarm, mut discovery), now) = (deaf(), platform::now());
    let peer = told(&discovery, 1, now);
    discovery.dialing.dismissed(&peer);
    discovery.on_time(&mut swarm, now);
    assert!(discovery.from_book.chosen.is_empty());
    assert_eq!(discovery.shared.book().counts(), (0, 0));
}

#[test]
fn the_book_is_asked_as_soon_as_fewer_were_dialled_than_are_wanted() {
    let ((mut swarm, mut discovery), now) = (deaf(), platform::now());
    discovery.wanted = 3;
    for port in 1..10 {
        told(&discovery, port, now);
    }
    discovery.on_time(&mut swarm, now);
    assert_eq!(discovery.from_book.chosen.len(), 3, "as many as are wanted");
    let first = *discovery.from_book.chosen.first().expect("three");
    let error = DialError::Aborted;
    let connection = ConnectionId::new_unchecked(1);
    discovery.failed(connection, Some(first), &error, now);
    assert_eq!(discovery.from_book.chosen.len(), 2);
    discovery.on_time(&mut swarm, now);
    assert!(discovery.from_book.chosen.len() == 3 && !discovery.from_book.chosen.contains(&first));
}

/// How many dials are under way.
fn dials(swarm: &Swarm<Guarded<Behaviour>>) -> u32 {
    let info = swarm.network_info();
    info.connection_counters().num_pending_outgoing()
}

#[test]
fn whom_the_application_needs_is_dialled_also_where_nobody_is_wanted() {
    let ((mut swarm, mut discovery), now) = (deaf(), platform::now());
    discovery.wanted = 0;
    let minute = Duration::from_secs(60);
    let [needed, later] = [seed(), seed()];
    let soon = (Duration::ZERO, minute);
    let expected = discovery.expects(&mut swarm, std::slice::from_ref(&needed), soon, now);
    assert_eq!((expected, dials(&swarm)), (Ok(()), 1));
    let far = (minute * 2, minute);
    let expected = discovery.expects(&mut swarm, std::slice::from_ref(&later), far, now);
    assert_eq!((expected, dials(&swarm)), (Ok(()), 1));
    discovery.on_time(&mut swarm, now);
    assert_eq!(dials(&swarm), 1, "once");
    let on_duty = |discovery: &Discovery, peer: &PeerInfo| {
        let peers = discovery.shared.peers();
        peers.keeps_place(&peer.peer_id)
    };
    assert!(on_duty(&discovery, &needed) && !on_duty(&discovery, &later));
    discovery.on_time(&mut swarm, now + minute * 3 / 2);
    assert_eq!(dials(&swarm), 2);
    assert!(!on_duty(&discovery, &needed) && on_duty(&discovery, &later));
    // Whom the user lets go meanwhile is not dialled again.
    discovery.dialing.dismissed(&later.peer_id);
    let error = DialError::Aborted;
    let connection = ConnectionId::new_unchecked(1);
    discovery.failed(
        connection,
        Some(later.peer_id),
        &error,
        now + minute * 3 / 2,
    );
    discovery.on_time(&mut swarm, now + minute * 2);
    assert_eq!(dials(&swarm), 2);
    discovery.on_time(&mut swarm, now + minute * 3);
    assert!(!on_duty(&discovery, &later));
}

#[test]
fn duties_and_wanted_peers_together_leave_a_place_for_who_comes() {
    let ((mut swarm, mut discovery), now) = (deaf(), platform::now());
    (discovery.wanted, discovery.places) = (0, 4);
    for number in 1..=2 {
        let peer = PeerInfo {
            direction: Some(Direction::Outbound),
            ..PeerInfo::new(PeerId::random())
        };
        let connection = ConnectionId::new_unchecked(number);
        discovery.shared.peers().connected(connection, peer, now);
    }
    let time = (Duration::ZERO, Duration::from_secs(60));
    let needed = [seed(), seed()];
    let expected = discovery.expects(&mut swarm, &needed, time, now);
    assert_eq!((expected, dials(&swarm)), (Ok(()), 1));
}

#[test]
fn who_is_protected_does_not_leave_for_another_of_the_book() {
    let ((_, mut discovery), now) = (deaf(), platform::now());
    discovery.wanted = 0;
    let outbound: Vec<_> = (1..=4)
        .map(|number: usize| {
            let peer = PeerInfo {
                direction: Some(Direction::Outbound),
                ..PeerInfo::new(PeerId::random())
            };
            let id = peer.peer_id;
            let connection = ConnectionId::new_unchecked(number);
            let mut peers = discovery.shared.peers();
            peers.connected(connection, peer, now);
            peers.never_greets(id, now);
            drop(peers);
            let address = format!("/ip4/50.{number}.0.1/tcp/1");
            let address = address.parse().expect("an address");
            discovery.shared.book().connected(id, &address, true, now);
            id
        })
        .collect();
    let [protected, on_duty, plain, newest] = outbound[..] else {
        panic!("four");
    };
    let mut peers = discovery.shared.peers();
    peers.protect(protected, "friend").expect("protected");
    peers.is_on_duty(on_duty, true);
    drop(peers);
    let may_leave = discovery.may_leave(&newest);
    assert_eq!(may_leave, [plain].into());
}
