use selkie::{ItemId, Keypair, PeerId};

use super::*;
use crate::spread::{HandedIn, Spreads};

const SECOND: Duration = Duration::from_secs(1);

/// So many nodes that have started, and their ids.
fn nodes(count: usize) -> (Spreads, Vec<PeerId>) {
    let keys = (0..count).map(|_| Keypair::generate_ed25519());
    let peers: Vec<PeerId> = keys.map(|key| key.public().to_peer_id()).collect();
    let mut spreads = Spreads::default();
    for (node, peer) in peers.iter().enumerate() {
        spreads.started(node, *peer);
    }
    (spreads, peers)
}

/// One of so many bytes.
fn item(by: Node, kind: Kind, bytes: usize, at: Duration) -> HandedIn {
    HandedIn {
        by,
        kind,
        bytes,
        at,
        publication: None,
    }
}

struct Run {
    must: Must,
    ran: Vec<Vec<Span>>,
    liars: BTreeSet<Node>,
}

impl Run {
    /// All of so many run for a minute.
    fn of(count: usize) -> Self {
        Self {
            must: Must::default(),
            ran: vec![vec![(Duration::ZERO, None)]; count],
            liars: BTreeSet::new(),
        }
    }

    fn due(&self) -> Due<'_> {
        Due {
            must: &self.must,
            duration: 60 * SECOND,
            ran: &self.ran,
            liars: &self.liars,
        }
    }

    fn judge(&self, spreads: Spreads) -> (Vec<Spread>, Deliveries) {
        let due = self.due();
        let items = spreads.judged(|item| due.nodes(item));
        let deliveries = Deliveries::of(&items, None, &due);
        (items, deliveries)
    }
}

#[test]
fn an_item_that_its_node_did_not_take_is_judged() {
    let (mut spreads, peers) = nodes(3);
    let [taken, refused] = [b"a", b"b"].map(|data| ItemId::sha256(data));
    spreads.published(item(0, Kind::Vote, 100, SECOND), &taken);
    spreads.published(item(1, Kind::Vote, 100, SECOND), &refused);
    spreads.answered(&taken, true);
    spreads.answered(&refused, false);
    spreads.came(1, peers[0], &taken, 2 * SECOND);
    spreads.came(2, peers[1], &taken, 3 * SECOND);
    let (items, found) = Run::of(3).judge(spreads);
    assert_eq!((found.items, found.taken), (2, 1));
    assert_eq!((found.due, found.in_time, found.missing), (4, 2, 2));
    assert_eq!((found.promised, found.kept), (2, 2));
    assert_eq!(items[1].missing, [0, 2]);
    assert_eq!((found.hops, found.useful, found.came), (2, 200, 2));
}

#[test]
fn a_percentile_is_one_of_all_that_were_due() {
    let (mut spreads, peers) = nodes(101);
    let id = ItemId::sha256(b"a");
    spreads.published(item(0, Kind::Transaction, 100, SECOND), &id);
    // To 98 of 100 it comes, and to them fast.
    for node in 1..=98 {
        spreads.came(node, peers[0], &id, SECOND + Duration::from_millis(10));
    }
    let (_, found) = Run::of(101).judge(spreads);
    let fast = Quantile::After(Duration::from_millis(10));
    assert_eq!((found.quantile(0.5), found.quantile(0.98)), (fast, fast));
    assert_eq!(found.quantile(0.99), Quantile::NotDelivered);
    assert_eq!(
        (found.p90.is_some(), found.p99, found.last),
        (true, None, None)
    );
    assert_eq!(found.p90_to_most, found.p90, "95 of 100 have it");
    let nothing = Deliveries::default();
    assert_eq!(nothing.quantile(0.5), Quantile::NothingDue);
}

#[test]
fn due_is_what_honest_nodes_owe_each_other_while_they_run() {
    let (mut spreads, peers) = nodes(6);
    let ids = [b"a", b"b", b"c", b"d"].map(|data| ItemId::sha256(data));
    let mut run = Run::of(6);
    run.liars.insert(1);
    // One ends before ten seconds are over, one has another life, and one begins later.
    run.ran[2] = vec![(Duration::ZERO, Some(15 * SECOND))];
    run.ran[3] = vec![(Duration::ZERO, Some(12 * SECOND)), (13 * SECOND, None)];
    run.ran[4] = vec![(11 * SECOND, None)];
    for (id, by, at) in [(0, 0, 10), (1, 1, 10), (2, 2, 10), (3, 0, 55)] {
        spreads.published(item(by, Kind::Vote, 1, at * SECOND), &ids[id]);
    }
    for node in 1..6 {
        spreads.came(node, peers[0], &ids[0], 11 * SECOND);
    }
    let (items, found) = run.judge(spreads);
    // Of the first item to the last node only; not of a liar's, of one whose maker ended, of one at the end.
    assert_eq!((found.items, found.due, found.in_time), (1, 1, 1));
    assert_eq!(found.came, 4, "to the others it came all the same");
    let due: Vec<bool> = items[0].came.values().map(|arrival| arrival.due).collect();
    assert_eq!(due, [false, false, false, false, true]);
    assert!(items[1..].iter().all(|item| item.missing.is_empty()));
}

#[test]
fn each_kind_has_its_own_time() {
    let (mut spreads, peers) = nodes(2);
    let mut run = Run::of(2);
    run.must.vote = Some(crate::scenario::Limits {
        within: Some(SECOND),
        ..crate::scenario::Limits::default()
    });
    for (kind, name) in [(Kind::Vote, b"v"), (Kind::Transaction, b"t")] {
        let id = ItemId::sha256(name);
        spreads.published(item(0, kind, 1, 10 * SECOND), &id);
        spreads.came(1, peers[0], &id, 12 * SECOND);
    }
    let (items, all) = run.judge(spreads);
    assert_eq!((all.due, all.in_time), (2, 1));
    let of = |kind| Deliveries::of(&items, Some(kind), &run.due()).in_time;
    assert_eq!([of(Kind::Vote), of(Kind::Transaction)], [0, 1]);
    assert_eq!(of(Kind::Block), 0);
}

#[test]
fn what_comes_twice_or_from_nowhere_is_odd_but_in_another_life() {
    let (mut spreads, peers) = nodes(3);
    let [known, unknown] = [b"a", b"b"].map(|data| ItemId::sha256(data));
    spreads.published(item(0, Kind::Block, 9, SECOND), &known);
    spreads.came(1, peers[0], &known, 2 * SECOND);
    spreads.started(1, peers[1]);
    spreads.came(1, peers[0], &known, 3 * SECOND);
    spreads.started(0, peers[0]);
    spreads.came(0, peers[1], &known, 3 * SECOND);
    assert!(spreads.odd.is_empty(), "{:?}", spreads.odd);
    spreads.came(1, peers[0], &known, 4 * SECOND);
    spreads.came(2, peers[0], &unknown, 4 * SECOND);
    spreads.answered(&unknown, true);
    let odd = spreads.odd.join("; ");
    assert!(
        odd.contains("to node 1 twice") && odd.contains("to node 2, and nobody had"),
        "{odd}"
    );
    assert_eq!(spreads.odd.len(), 3, "{odd}");
}

#[test]
fn an_item_has_come_to_most_once_95_of_100_have_it() {
    let (mut spreads, peers) = nodes(21);
    let ids: Vec<ItemId> = (0..10_u8).map(|each| ItemId::sha256(&[each])).collect();
    for (number, id) in (1..).zip(&ids) {
        spreads.published(item(0, Kind::Vote, 100, SECOND), id);
        // The last of them has each late, and the last item never comes to most.
        let reached = if number == 10 { 18 } else { 20 };
        for node in 1..=reached {
            let late = if node == 20 {
                9 * SECOND
            } else {
                Duration::ZERO
            };
            let took = Duration::from_millis(number) + late;
            spreads.came(node, peers[0], id, SECOND + took);
        }
    }
    let (_, found) = Run::of(21).judge(spreads);
    assert_eq!(found.p90_to_most, Some(Duration::from_millis(9)));
}
