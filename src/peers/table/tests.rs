use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::{
    peers::Banned,
    platform::{self, test},
};

mod watermarks;

const HELLO: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(70);

fn table(max_peers: usize) -> Table {
    let limits = Limits {
        max_peers,
        low_watermark: 0,
        hello: HELLO,
        silence: SILENCE,
    };
    let half_life = Duration::from_secs(600);
    Table::new(
        limits,
        Reputation::new(half_life, -20.0, -50.0, 100),
        Bans::new(HashSet::new(), half_life, 100),
        Grouping::default(),
        &[7; 16],
    )
}

fn connection(number: usize) -> ConnectionId {
    ConnectionId::new_unchecked(number)
}

fn from(peer: PeerId, direction: Direction) -> PeerInfo {
    PeerInfo {
        direction: Some(direction),
        ..PeerInfo::new(peer)
    }
}

fn actions(table: &mut Table) -> Vec<Action> {
    std::iter::from_fn(|| table.next_action()).collect()
}

/// A peer that dialled us and is of our network.
fn friend(table: &mut Table, number: usize, now: Instant) -> PeerId {
    let peer = PeerId::random();
    table.connected(connection(number), from(peer, Direction::Inbound), now);
    table.greeted(&peer, now).expect("a place");
    table.lanes(peer, true, now);
    assert_eq!(table.stage(&peer), Some(Stage::Ready));
    actions(table);
    peer
}

#[test]
fn a_dialled_peer_is_greeted_opened_shown_and_gone() {
    let (mut table, peer, now) = (table(1), PeerId::random(), platform::now());
    table.connected(connection(1), from(peer, Direction::Outbound), now);
    assert_eq!(actions(&mut table), [Action::Greet(peer)]);
    assert!(!table.is_shown(&peer));
    table.greeted(&peer, now).expect("a place");
    assert_eq!(actions(&mut table), [Action::Open(peer)]);
    table.lanes(peer, true, now);
    let [Action::Ready(info)] = &actions(&mut table)[..] else {
        panic!("it is shown")
    };
    assert!(info.selkie && table.is_shown(&peer) && table.outbound() == 1);
    table.closed(&peer, connection(1), "it left".to_owned());
    let reason = "it left".to_owned();
    let gone = Action::Gone {
        peer,
        reason,
        shown: true,
    };
    assert_eq!(actions(&mut table), [gone]);
    assert!(table.shown().next().is_none() && table.deadlines.is_empty());
}

#[test]
fn whoever_is_let_go_is_not_let_in_until_it_is_gone() {
    let (mut table, now) = (table(4), platform::now());
    let peer = friend(&mut table, 1, now);
    table.let_go(peer, "the user wants it".to_owned());
    table.let_go(peer, "a second reason".to_owned());
    assert_eq!(actions(&mut table), [Action::Close(peer)]);
    for direction in [Direction::Inbound, Direction::Outbound] {
        assert!(table.admits(&peer, direction, now).is_err());
    }
    table.closed(&peer, connection(1), "closed".to_owned());
    let [Action::Gone { reason, .. }] = &actions(&mut table)[..] else {
        panic!("it is gone")
    };
    assert_eq!(reason, "the user wants it");
    assert!(table.admits(&peer, Direction::Outbound, now).is_ok());
}

#[test]
fn who_says_no_hello_keeps_nobody_out() {
    let (mut table, now) = (table(2), platform::now());
    let mute: Vec<_> = (0..NEWCOMERS * 3)
        .map(|number| {
            let peer = PeerId::random();
            assert!(table.admits(&peer, Direction::Inbound, now).is_ok());
            table.connected(connection(number), from(peer, Direction::Inbound), now);
            peer
        })
        .collect();
    let ending = |peer: &&PeerId| table.stage(peer) == Some(Stage::Ending);
    assert_eq!(mute.iter().take_while(ending).count(), NEWCOMERS * 2 - 2);
    assert!(table.has_place());
    friend(&mut table, 1000, now);
    friend(&mut table, 1001, now);
    assert!(!table.has_place());
}

/// One that dialled us from there.
fn at(peer: PeerId, host: u8) -> PeerInfo {
    let address = format!("/ip4/1.2.3.{host}/tcp/1");
    PeerInfo {
        addresses: vec![address.parse().expect("an address")],
        ..from(peer, Direction::Inbound)
    }
}

#[test]
fn silent_peers_of_one_address_give_way_to_each_other_and_to_others() {
    let (mut table, now) = (table(1), platform::now());
    let come = |table: &mut Table, number, host| {
        let peer = PeerId::random();
        table.connected(connection(number), at(peer, host), now);
        peer
    };
    let other = come(&mut table, 0, 2);
    let crowd: Vec<_> = (1..NEWCOMERS * 4)
        .map(|number| come(&mut table, number, 1))
        .collect();
    assert_eq!(table.stage(&other), Some(Stage::Greeting), "the eldest");
    let live = |peer: &&PeerId| table.stage(peer) == Some(Stage::Greeting);
    assert_eq!(crowd.iter().filter(live).count(), NEWCOMERS);
    assert!(crowd[NEWCOMERS * 3 - 1..].iter().all(|peer| live(&peer)));
    // Where an address has as many connections as it may.
    let eldest = crowd[NEWCOMERS * 3 - 1];
    let [crowded, nobody] = [1, 3].map(|host| AddressGroup::of(&at(eldest, host).addresses[0]));
    assert!(table.makes_room(crowded) && !table.makes_room(nobody));
    assert_eq!(table.stage(&eldest), Some(Stage::Ending));
    table.greeted(&other, now).expect("a place");
}

#[test]
fn a_full_table_tells_the_next_one() {
    let (mut table, now) = (table(1), platform::now());
    let first = friend(&mut table, 1, now);
    let late = PeerId::random();
    assert_eq!(table.admits(&late, Direction::Outbound, now), Err(FULL));
    assert!(table.admits(&late, Direction::Inbound, now).is_ok());
    table.connected(connection(2), from(late, Direction::Inbound), now);
    assert_eq!(table.greeted(&late, now), Err(FULL));
    table.turn_away(late, FULL, now);
    assert_eq!(
        actions(&mut table),
        [Action::Refused {
            peer: late,
            address: None,
            reason: FULL.to_owned()
        }]
    );
    table.on_time(now + FAREWELL * 2);
    assert_eq!(actions(&mut table), [Action::Close(late)]);
    table.closed(&first, connection(1), String::new());
    assert!(table.has_place());
}

#[test]
fn plain_peers_have_half_of_the_places() {
    let (mut table, now) = (table(4), platform::now());
    for number in 0..3 {
        let peer = PeerId::random();
        table.connected(connection(number), from(peer, Direction::Inbound), now);
        table.never_greets(peer, now);
        let expected = if number < 2 {
            Stage::Plain
        } else {
            Stage::Ending
        };
        assert_eq!(table.stage(&peer), Some(expected));
    }
    assert!(!table.needs_gossip(ItemKind::Vote));
    for id in table.peers.keys().copied().collect::<Vec<_>>() {
        table.gossips(&id, ItemKind::Vote, true);
    }
    assert!(table.needs_gossip(ItemKind::Vote) && !table.needs_gossip(ItemKind::Block));
    friend(&mut table, 10, now);
    friend(&mut table, 11, now);
    assert!(!table.has_place());
}

#[test]
fn who_cannot_be_identified_is_a_plain_peer_and_loses_nothing() {
    let (mut table, peer, now) = (table(4), PeerId::random(), platform::now());
    table.connected(connection(1), from(peer, Direction::Inbound), now);
    table.unidentified(&peer, now);
    table.on_time(now + UNIDENTIFIED);
    assert!(matches!(&actions(&mut table)[..], [Action::Ready(info)] if !info.selkie));
    // Its hello comes late: it is one of ours, and shown once.
    table.greeted(&peer, now).expect("a place");
    table.lanes(peer, true, now);
    assert_eq!(actions(&mut table), [Action::Open(peer)]);
    assert!(table.shown().all(|info| info.selkie));
}

#[test]
fn silence_ends_a_peer_and_a_lost_ping_does_not() {
    let (mut table, now) = (table(4), platform::now());
    let peer = friend(&mut table, 1, now);
    table.ping_failed(&peer, connection(1));
    assert_eq!(actions(&mut table), [], "its only connection stays");
    let later = now + SILENCE - Duration::from_secs(1);
    table.ponged(&peer, Duration::ZERO, later);
    table.on_time(now + SILENCE);
    assert_eq!(actions(&mut table), []);
    // Of two connections the one that does not answer is dead.
    table.connected(connection(2), from(peer, Direction::Inbound), later);
    table.ping_failed(&peer, connection(1));
    assert_eq!(
        actions(&mut table),
        [Action::CloseConnection(connection(1))]
    );
    table.closed(&peer, connection(1), String::new());
    // The host slept: nobody was silent.
    table.slept(SILENCE);
    table.on_time(later + SILENCE);
    assert_eq!(actions(&mut table), []);
    // Nor while its connection was not read here.
    table.unheard(&peer, SILENCE);
    table.on_time(later + SILENCE * 2);
    assert_eq!(actions(&mut table), []);
    table.on_time(later + SILENCE * 3);
    assert_eq!(actions(&mut table), [Action::Close(peer)]);
}

#[test]
fn silence_says_nothing_of_a_plain_peer_without_ping_and_all_of_ours() {
    let (mut table, now) = (table(4), platform::now());
    let peer = friend(&mut table, 1, now);
    table.never_pongs(&peer);
    table.on_time(now + SILENCE);
    assert_eq!(actions(&mut table), [Action::Close(peer)]);
    let plain = PeerId::random();
    table.connected(connection(2), from(plain, Direction::Inbound), now);
    table.never_pongs(&plain);
    table.never_greets(plain, now);
    actions(&mut table);
    table.on_time(now + SILENCE * 2);
    assert_eq!(actions(&mut table), [], "it can't answer");
}

#[test]
fn who_is_told_to_go_stays_no_longer_by_asking_on() {
    let (mut table, now) = (table(4), platform::now());
    let peer = PeerId::random();
    table.connected(connection(1), from(peer, Direction::Inbound), now);
    table.turn_away(peer, "another network", now);
    actions(&mut table);
    for number in 0..5 {
        let later = now + Duration::from_millis(100) * number;
        table.turn_away(peer, "another network", later);
        table.told(&peer, later);
    }
    table.on_time(now + FAREWELL);
    assert_eq!(actions(&mut table), [Action::Close(peer)]);
}

#[test]
fn a_peer_that_roams_comes_in_and_its_eldest_connection_goes() {
    let (mut table, now) = (table(4), platform::now());
    let peer = friend(&mut table, 1, now);
    let mut comes = |number| {
        table.admits(&peer, Direction::Inbound, now)?;
        table.connected(connection(number), from(peer, Direction::Inbound), now);
        Ok::<_, &str>(actions(&mut table))
    };
    assert_eq!(comes(2), Ok(vec![]), "two may be dialled at once");
    let gone = |number| Action::CloseConnection(connection(number));
    assert_eq!(comes(3), Ok(vec![gone(1)]));
    // The closing of the dead ones takes its time, which is not without end.
    assert_eq!(comes(4), Ok(vec![gone(1), gone(2)]));
    assert_eq!((comes(5).is_ok(), comes(6).is_ok()), (true, true));
    assert!(comes(7).is_err(), "four are still being closed");
    for number in 1..=4 {
        table.closed(&peer, connection(number), String::new());
    }
    assert_eq!(actions(&mut table), [], "it is here");
    assert!(table.is_shown(&peer));
    assert_eq!(table.admits(&peer, Direction::Inbound, now), Ok(()));
}

#[test]
fn misdeeds_disconnect_and_ban() {
    let (mut table, now) = (table(4), platform::now());
    let peer = friend(&mut table, 1, now);
    table.misdeed(peer, Misdeed::InvalidItem, now);
    assert_eq!(
        table.shown().map(|info| info.reputation).sum::<f64>(),
        -10.0
    );
    for _ in 0..4 {
        table.misdeed(peer, Misdeed::InvalidItem, now);
    }
    assert_eq!(table.stage(&peer), Some(Stage::Ending));
    table.closed(&peer, connection(1), String::new());
    let outbound = table.admits(&peer, Direction::Outbound, now);
    assert_eq!(outbound, Err(BANNED));
    // Once it is let in to hear of it.
    assert_eq!(table.admits(&peer, Direction::Inbound, now), Ok(()));
    let info = PeerInfo {
        direction: Some(Direction::Inbound),
        ..PeerInfo::new(peer)
    };
    table.connected(connection(2), info, now);
    assert_eq!(table.greeted(&peer, now), Err(BANNED));
    table.on_time(now + UNIDENTIFIED);
    assert_eq!(table.stage(&peer), Some(Stage::Ending));
    table.closed(&peer, connection(2), String::new());
    let again = table.admits(&peer, Direction::Inbound, now);
    assert_eq!(again, Err(BANNED));
}

/// The counts are those of the peers, whatever happens in whatever order.
fn agree(table: &Table, max_peers: usize) {
    let count = |wanted: Place| {
        table
            .peers
            .values()
            .filter(|peer| peer.place() == wanted)
            .count()
    };
    assert_eq!(
        (table.ours, table.plain),
        (count(Place::Ours), count(Place::Plain))
    );
    assert_eq!(table.newcomers.len(), count(Place::Newcomer));
    assert!(
        table.ours + table.plain <= max_peers && table.newcomers.len() <= NEWCOMERS + max_peers
    );
    let deadlines = table
        .peers
        .iter()
        .filter_map(|(id, peer)| Some((peer.deadline?, *id)));
    assert_eq!(table.deadlines, deadlines.collect());
    let outbound = table.peers.values().filter(|peer| peer.is_outbound());
    assert_eq!(table.outbound(), outbound.count());
    for kind in ItemKind::ALL {
        let needed = table.peers.values().any(|peer| peer.needs_gossip(kind));
        assert_eq!(table.needs_gossip(kind), needed);
    }
    for peer in table.peers.values() {
        let count = peer.connections.len();
        assert!((1..=CONNECTIONS_PER_PEER + GIVING_WAY).contains(&count));
    }
}

proptest! {
    #[test]
    fn places_and_deadlines_agree_with_the_peers(
        steps in proptest::collection::vec((0..14_u8, 0..50_usize, 0..2_000_u64), 0..400)
    ) {
        const PLACES: usize = 6;
        let mut table = table(PLACES);
        let peers: Vec<_> = (0..50).map(|_| PeerId::random()).collect();
        let (mut now, mut next, mut open) = (platform::now(), 0, Vec::new());
        for (what, which, millis) in steps {
            now += Duration::from_millis(millis);
            let id = peers[which];
            match what {
                0..=3 => {
                    let direction = [Direction::Inbound, Direction::Outbound][usize::from(what % 2)];
                    if table.admits(&id, direction, now).is_ok() {
                        next += 1;
                        open.push((id, connection(next)));
                        table.connected(connection(next), from(id, direction), now);
                    }
                }
                4 if !open.is_empty() => {
                    let (id, connection) = open.swap_remove(which % open.len());
                    table.closed(&id, connection, String::new());
                }
                5 => {
                    if let Err(reason) = table.greeted(&id, now) {
                        table.turn_away(id, reason, now);
                    }
                }
                6 => table.lanes(id, millis % 2 == 0, now),
                7 => table.never_greets(id, now),
                8 => table.misdeed(id, Misdeed::InvalidItem, now),
                9 => table.unidentified(&id, now),
                10 => table.slept(Duration::from_millis(millis)),
                11 => table.gossips(&id, ItemKind::ALL[which % 3], millis % 2 == 0),
                12 => table.let_go(id, String::new()),
                _ => table.ponged(&id, Duration::ZERO, now),
            }
            table.on_time(now);
            for action in std::iter::from_fn(|| table.next_action()).collect::<Vec<_>>() {
                let closes = |(peer, open): &mut (PeerId, ConnectionId)| match &action {
                    Action::Close(id) => peer == id,
                    // A connection's last bytes may take their time.
                    Action::CloseConnection(connection) => open == connection && millis % 2 == 0,
                    _ => false,
                };
                for (id, connection) in open.extract_if(.., closes) {
                    table.closed(&id, connection, String::new());
                }
            }
            agree(&table, PLACES);
        }
    }
}

/// It has one more connection, to this address.
fn comes_from(table: &mut Table, peer: PeerId, number: usize, address: &str, now: Instant) {
    let info = PeerInfo {
        addresses: vec![address.parse().expect("an address")],
        ..from(peer, Direction::Inbound)
    };
    table.connected(connection(number), info, now);
}

#[test]
fn a_networks_ban_reaches_each_connection_and_where_a_name_led() {
    let (mut table, now) = (table(9), platform::now());
    let [roams, named, other] = [(); 3].map(|()| PeerId::random());
    comes_from(&mut table, roams, 1, "/ip4/9.9.9.9/tcp/1", now);
    comes_from(&mut table, roams, 2, "/ip4/1.2.3.4/tcp/1", now);
    comes_from(&mut table, named, 3, "/dns4/example.org/tcp/1", now);
    table.located(&named, "1.2.9.9".parse().expect("an address"));
    comes_from(&mut table, other, 4, "/dns4/example.org/tcp/1", now);
    let network: Banned = "1.2.0.0/16".parse().expect("a network");
    table.ban(network, None, now);
    let stages = [roams, named, other].map(|peer| table.stage(&peer));
    let right = [Stage::Ending, Stage::Ending, Stage::Greeting].map(Some);
    assert_eq!(stages, right);
    let by = [&roams, &other].map(|peer| table.kept_out_by(peer, [], now));
    assert_eq!(by, [BTreeSet::from([network]), BTreeSet::new()]);
    // One that has ended counts no more.
    table.closed(&roams, connection(2), String::new());
    assert!(table.kept_out_by(&roams, [], now).is_empty());
}

#[test]
fn misdeeds_count_where_a_peer_is_now() {
    let (mut table, now) = (table(9), platform::now());
    for number in 0..3 {
        let peer = PeerId::random();
        let first = format!("/ip4/9.9.9.{number}/tcp/1");
        comes_from(&mut table, peer, 2 * number, &first, now);
        comes_from(&mut table, peer, 2 * number + 1, "/ip4/1.2.3.4/tcp/1", now);
        table.misdeed(peer, Misdeed::FalseProof, now);
    }
    let at = |ip: &str| ip.parse::<IpAddr>().expect("an address");
    assert!(table.bans().holds_address(at("1.2.3.4"), true, now));
    // Nothing of near ones, behind which a whole network may be.
    for number in 6..9 {
        let peer = PeerId::random();
        comes_from(&mut table, peer, number, "/ip4/10.0.0.1/tcp/1", now);
        table.misdeed(peer, Misdeed::FalseProof, now);
    }
    assert!(!table.bans().holds_address(at("10.0.0.1"), true, now));
}

#[test]
fn who_is_let_in_again_may_begin_again_unless_its_address_is_banned() {
    let (mut table, now) = (table(9), platform::now());
    let at: IpAddr = "1.2.3.4".parse().expect("an address");
    let mut peers = Vec::new();
    for number in 0..3 {
        let peer = PeerId::random();
        comes_from(&mut table, peer, number, "/ip4/1.2.3.4/tcp/1", now);
        table.misdeed(peer, Misdeed::FalseProof, now);
        table.closed(&peer, connection(number), String::new());
        peers.push(peer);
    }
    let peer = peers[0];
    let host = "1.2.3.4".parse().expect("an address");
    let both = BTreeSet::from([Banned::Peer(peer), host]);
    assert_eq!(table.kept_out_by(&peer, [at], now), both);
    assert!(table.unban(&peer.into(), now) && !table.unban(&peer.into(), now));
    assert_eq!(table.kept_out_by(&peer, [at], now), BTreeSet::from([host]));
    assert!(table.unban(&host, now));
    assert!(table.kept_out_by(&peer, [at], now).is_empty());
    assert_eq!(table.reputation().score(&peer, now), -20.0);
    table.misdeed(peer, Misdeed::TooManyMessages, now);
    assert!(!table.bans().holds(&peer, now), "for a trifle");
}

#[test]
fn who_is_let_go_without_a_ban_is_not_said_to_have_one() {
    let (mut table, now) = (table(9), platform::now());
    table.bans = Bans::new(HashSet::new(), HELLO, 1);
    for words in ["it is banned", "there is no room for a ban"] {
        let peer = friend(&mut table, 1, now);
        table.misdeed(peer, Misdeed::FalseProof, now);
        table.closed(&peer, connection(1), String::new());
        let actions = actions(&mut table);
        let told = actions.iter().find_map(|action| match action {
            Action::Gone { reason, .. } => Some(reason),
            _ => None,
        });
        assert!(told.is_some_and(|told| told.contains(words)), "{told:?}");
        table.ban(PeerId::random().into(), None, now);
    }
}
