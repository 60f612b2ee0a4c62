//! What the task makes of time: no socket is opened, and the clock is the test's.

use super::*;
use crate::{
    chain::{Block, Checked, ItemId, Opaque, rules::Synchronous},
    peers::{AddressBook, EclipseSign, Grouping, SignedRecord},
    propagation::blocks::{AcceptedBlock, compact::BlockCheck},
};

/// A task that dials nobody by itself, and what it shares.
fn idle() -> (Task, Arc<Shared>) {
    let (mut config, keypair) = (Config::default(), Keypair::generate_ed25519());
    config.network.listen_addresses = Vec::new();
    config.protocol.kademlia_config.wanted_peers = 0;
    let own = keypair.public().to_peer_id();
    let book = AddressBook::new(own, |_| true, Grouping::default(), [7; 32], platform::now());
    let rules = Arc::new(Synchronous::new(Arc::new(Opaque)));
    let shared = Arc::new(Shared::new(rules, &config, book, &[7; 16]));
    let asked = (
        mpsc::channel(1).1,
        ItemKind::ALL.map(|_| mpsc::channel(1).1),
    );
    let task = Task::new(Arc::new(config), &keypair, Arc::clone(&shared), asked);
    (task.expect("the configuration is right"), shared)
}

fn at(network: u8, host: u8) -> Multiaddr {
    let text = format!("/ip4/50.{network}.0.{host}/tcp/1");
    text.parse().expect("an address")
}

/// A tick each second, in no time.
fn ticks(task: &mut Task, from: Instant, seconds: std::ops::RangeInclusive<u64>) {
    for second in seconds {
        task.on_tick(from + Duration::from_secs(second));
    }
}

#[core::prelude::v1::test]
fn signs_of_an_eclipse_are_told_shown_and_taken_back() {
    let ((mut task, shared), now) = (idle(), platform::now());
    let wants = |event: &NetworkEvent| matches!(event, NetworkEvent::EclipseSuspected { .. });
    let mut events = shared.subscribe(Box::new(wants), 1 << 20);
    let mut told = move || match events.try_recv() {
        Some(NetworkEvent::EclipseSuspected { signs }) => Some(signs),
        _ => None,
    };
    // Ten honest peers were reached once, each in a network of its own.
    for network in 1..=10 {
        let (peer, home) = (PeerId::random(), at(network, 1));
        let mut book = shared.book();
        book.connected(peer, &home, true, now);
        book.reached(peer, &home, now);
        book.gone(peer, now);
    }
    let attackers: Vec<_> = (1..=8)
        .map(|host| (PeerId::random(), at(200, host)))
        .collect();
    for (peer, address) in &attackers {
        shared.book().connected(*peer, address, true, now);
        assert_eq!(shared.grouping.of(address).to_string(), "50.200.0.0/16");
    }
    ticks(&mut task, now, 1..=25);
    assert_eq!(told(), None, "it may be chance");
    ticks(&mut task, now, 26..=60);
    let few = vec![EclipseSign::FewNetworks];
    assert_eq!(told(), Some(few.clone()));
    assert_eq!(shared.state().eclipse_signs, few);
    for (peer, _) in &attackers {
        shared.book().gone(*peer, now);
    }
    ticks(&mut task, now, 61..=300);
    assert_eq!(told(), None, "they may come again");
    ticks(&mut task, now, 301..=400);
    assert_eq!(told(), Some(Vec::new()));
    assert!(shared.state().eclipse_signs.is_empty());
}

#[core::prelude::v1::test]
fn of_a_peer_that_was_told_no_more_records_are_taken_than_it_was_asked_for() {
    let ((mut task, shared), teller) = (idle(), PeerId::random());
    let wants = |event: &NetworkEvent| matches!(event, NetworkEvent::PeersDiscovered(_));
    let mut events = shared.subscribe(Box::new(wants), 1 << 20);
    let records = (1..=3).map(|host| {
        let key = Keypair::generate_ed25519();
        let signed = SignedRecord::sign(&key, &[at(host, 1)], 0, platform::date());
        signed.expect("it fits").bytes
    });
    let answer = Answer::Peers(records.collect()).encode();
    for wanted in [0, 2] {
        task.on_told(teller, wanted, &answer);
        let found = match events.try_recv() {
            Some(NetworkEvent::PeersDiscovered(found)) => found.len(),
            _ => 0,
        };
        assert_eq!(found, wanted);
    }
}

#[core::prelude::v1::test]
fn who_brings_a_block_over_the_lanes_is_of_use_if_it_is_the_first() {
    let ((mut task, shared), now) = (idle(), platform::now());
    for (number, is_first) in [(1, true), (2, false)] {
        let peer = PeerId::random();
        let connection = ConnectionId::new_unchecked(number);
        let info = PeerInfo::new(peer);
        shared.peers().connected(connection, info, now);
        let block = Block::new(vec![7_u8; 100]);
        let id = ItemId::sha256(&block.data);
        let accepted = AcceptedBlock {
            is_first,
            ..AcceptedBlock::new(id.clone(), block.clone(), Opaque)
        };
        let check = BlockCheck {
            id: id.clone(),
            peer,
            block,
            whole: false,
        };
        let answer = BlockAnswer::Checked(check, Checked::accept(id), Some(Box::new(accepted)));
        task.on_block_answered(Some(answer), None);
        let brought = shared.peers().last_brought(&peer, ItemKind::Block);
        assert_eq!(brought.is_some(), is_first);
    }
}
