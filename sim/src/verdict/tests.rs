use selkie::{ItemId, Keypair, PeerId};

use super::*;
use crate::{
    healing::Healing,
    net::Sent,
    peering::Peering,
    run::Span,
    scenario::{Nodes, PeersBy},
    spread::{HandedIn, Spreads},
};

const SECOND: Duration = Duration::from_secs(1);

/// What a run has shown; at first nothing but three honest nodes for a minute.
struct Shown {
    must: Must,
    publish: Vec<Publish>,
    ran: Vec<Vec<Span>>,
    liars: BTreeSet<Node>,
    spreads: Spreads,
    peers: Vec<PeerId>,
    lives: Peering,
    healing: Option<Healing>,
    bans: BTreeSet<(Node, Node)>,
    scores: BTreeMap<(Node, Node), f64>,
    odd: Vec<String>,
}

impl Shown {
    fn new(must: Must) -> Self {
        let keys = (0..3).map(|_| Keypair::generate_ed25519());
        let peers: Vec<PeerId> = keys.map(|key| key.public().to_peer_id()).collect();
        let mut spreads = Spreads::default();
        for (node, peer) in peers.iter().enumerate() {
            spreads.started(node, *peer);
        }
        let wanted = must.peers.as_ref().map_or(0, |peers| peers.count);
        Self {
            must,
            publish: Vec::new(),
            ran: vec![vec![(Duration::ZERO, None)]; 3],
            liars: BTreeSet::new(),
            spreads,
            peers,
            lives: Peering::new(wanted),
            healing: None,
            bans: BTreeSet::new(),
            scores: BTreeMap::new(),
            odd: Vec::new(),
        }
    }

    /// Node 0 publishes one at ten seconds, which came to the others after so many milliseconds.
    fn item(mut self, kind: Kind, name: &[u8], took: &[u64]) -> Self {
        let id = self.hand_in(0, kind, name, 10 * SECOND);
        self.spreads.answered(&id, true);
        for (node, took) in (1..).zip(took) {
            let at = 10 * SECOND + Duration::from_millis(*took);
            self.spreads.came(node, self.peers[0], &id, at);
        }
        self
    }

    /// An item of the publication of its kind, which this node has not answered yet.
    fn hand_in(&mut self, by: Node, kind: Kind, name: &[u8], at: Duration) -> ItemId {
        let id = ItemId::sha256(name);
        let publications = &self.publish;
        let publication = publications.iter().position(|publish| publish.kind == kind);
        let item = HandedIn {
            by,
            kind,
            bytes: 500,
            at,
            publication,
        };
        self.spreads.published(item, &id);
        id
    }

    /// That should be published.
    fn publishes(mut self, kind: Kind) -> Self {
        self.publish.push(Publish {
            kind,
            from: Nodes::All,
            start: 10 * SECOND,
            end: 50 * SECOND,
            per_second: 1.0,
            bytes: 500,
            known: None,
            transaction_bytes: 400,
        });
        self
    }

    fn verdicts(self) -> Vec<Verdict> {
        let node = |node| NodeReport {
            peer: String::new(),
            runs: true,
            lies: self.liars.contains(&node),
            peers: 2,
            honest_peers: 1,
            banned_networks: 0,
            sent: Sent {
                line: 1_000,
                ..Sent::default()
            },
            streams: 0,
            ran: Vec::new(),
        };
        let due = Due {
            must: &self.must,
            duration: 60 * SECOND,
            ran: &self.ran,
            liars: &self.liars,
        };
        let nodes: Vec<_> = (0..3).map(node).collect();
        let items = self.spreads.judged(|item| due.nodes(item));
        let deliveries = Deliveries::of(&items, None, &due);
        let seen = Seen {
            publish: &self.publish,
            nodes: &nodes,
            items: &items,
            deliveries: &deliveries,
            lives: self.lives.lives(),
            healing: self.healing.as_ref(),
            bans: &self.bans,
            scores: &self.scores,
            odd: &self.odd,
            memory: 5 << 20,
        };
        of(&due, &seen)
    }

    fn broken(self) -> Vec<String> {
        let broken = self.verdicts().into_iter().filter(|each| !each.holds);
        broken.map(|each| each.what).collect()
    }
}

fn must(change: impl FnOnce(&mut Must)) -> Must {
    let mut must = Must::default();
    change(&mut must);
    must
}

#[test]
fn deliveries_hops_and_percentiles_are_those_of_all_that_were_due() {
    let strict = || {
        must(|must| {
            must.delivered = Some(0.5);
            must.p90 = Some(SECOND);
            must.p99 = Some(SECOND);
            must.max_hops = Some(3);
        })
    };
    let good = Shown::new(strict()).item(Kind::Vote, b"v", &[100, 200]);
    assert!(good.broken().is_empty());
    let late = Shown::new(strict()).item(Kind::Vote, b"v", &[100, 1_200]);
    assert_eq!(late.broken(), ["p90", "p99"]);
    let last = must(|must| {
        must.last = Some(SECOND);
        must.p90_to_most = Some(SECOND);
    });
    let late = Shown::new(last.clone()).item(Kind::Vote, b"v", &[100, 1_200]);
    assert_eq!(late.broken(), ["last", "p90_to_most"]);
    let good = Shown::new(last).item(Kind::Vote, b"v", &[100, 200]);
    assert!(good.broken().is_empty());
    // Half of it is enough, and to the other half nothing can be said of time or hops.
    let lost = Shown::new(strict()).item(Kind::Vote, b"v", &[100]);
    let verdicts = lost.verdicts();
    let broken: Vec<_> = verdicts.iter().filter(|each| !each.holds).collect();
    let names: Vec<_> = broken.iter().map(|each| each.what.as_str()).collect();
    assert_eq!(names, ["p90", "p99", "max_hops"]);
    assert!(broken.iter().all(|each| each.found == "not delivered"));
    // Where nothing is due, that is what is wrong.
    assert_eq!(Shown::new(strict()).broken(), ["due"]);
}

#[test]
fn what_a_node_does_not_take_is_told_and_may_be_allowed() {
    for (taken, broken) in [(1.0, ["taken"].as_slice()), (0.5, &[])] {
        // What was taken arrived.
        let must = must(|must| {
            must.taken = taken;
            must.kept = Some(1.0);
        });
        let mut shown = Shown::new(must).item(Kind::Block, b"b", &[1, 1]);
        let refused = shown.hand_in(1, Kind::Block, b"refused", 10 * SECOND);
        shown.spreads.answered(&refused, false);
        assert_eq!(shown.broken(), broken);
    }
}

#[test]
fn each_publication_makes_an_item_that_is_judged() {
    let shown = || {
        let must = must(|must| must.vote = Some(votes_within(20 * SECOND)));
        let shown = Shown::new(must).publishes(Kind::Block);
        shown.publishes(Kind::Vote).item(Kind::Vote, b"v", &[1, 1])
    };
    assert_eq!(shown().broken(), ["publish[0]"]);
    let good = shown().item(Kind::Block, b"b", &[1, 1]);
    assert!(good.broken().is_empty());
    // Of the one the run's end is too near; of the other nothing is asked but that it is taken.
    let mut late = Shown::new(shown().must)
        .publishes(Kind::Block)
        .publishes(Kind::Vote);
    for kind in [Kind::Block, Kind::Vote] {
        let id = late.hand_in(0, kind, kind.name().as_bytes(), 55 * SECOND);
        late.spreads.answered(&id, true);
    }
    let verdicts = late.verdicts();
    let broken: Vec<_> = verdicts.iter().filter(|each| !each.holds).collect();
    let names: Vec<_> = broken.iter().map(|each| each.what.as_str()).collect();
    assert_eq!(names, ["publish[1]", "vote.due"]);
    assert_eq!(broken[0].found, "0 of 1 items");
}

fn votes_within(within: Duration) -> Limits {
    Limits {
        delivered: Some(1.0),
        within: Some(within),
        ..Limits::default()
    }
}

#[test]
fn whether_it_was_taken_is_asked_of_each_item_that_has_an_answer() {
    // One at the end, one of a publisher that crashes: both have said no.
    for (by, at) in [(0, 55), (1, 10)] {
        let mut shown = Shown::new(Must::default());
        shown.ran[1] = vec![(Duration::ZERO, Some(12 * SECOND))];
        let id = shown.hand_in(by, Kind::Vote, b"v", at * SECOND);
        shown.spreads.answered(&id, false);
        assert_eq!(shown.broken(), ["taken"], "node {by}");
    }
    // Who ran on and has not answered has not taken it; who crashed before that may have.
    let mut silent = Shown::new(Must::default());
    silent.hand_in(0, Kind::Vote, b"v", 10 * SECOND);
    assert_eq!(silent.broken(), ["taken"]);
    let mut crashed = Shown::new(Must::default()).publishes(Kind::Vote);
    crashed.ran[1] = vec![(Duration::ZERO, Some(12 * SECOND))];
    crashed.hand_in(1, Kind::Vote, b"v", 10 * SECOND);
    // Where nobody answered at all, nothing was shown.
    assert_eq!(crashed.broken(), ["publish[0]", "answered"]);
}

#[test]
fn what_is_kept_of_nothing_is_not_kept() {
    let shown = || Shown::new(must(|must| must.kept = Some(1.0)));
    assert_eq!(shown().broken(), ["due"]);
    let mut refused = shown();
    refused.must.taken = 0.0;
    let id = refused.hand_in(0, Kind::Vote, b"v", 10 * SECOND);
    refused.spreads.answered(&id, false);
    assert_eq!(refused.broken(), ["promised"]);
}

#[test]
fn each_kind_may_keep_a_part_of_its_own() {
    let must = must(|must| {
        let kept = |part| Limits {
            kept: Some(part),
            ..Limits::default()
        };
        must.transaction = Some(kept(1.0));
        must.vote = Some(kept(0.5));
    });
    for (which, broken) in [
        (Kind::Vote, [].as_slice()),
        (Kind::Transaction, &["transaction.kept"]),
    ] {
        let mut shown = Shown::new(must.clone());
        for kind in [Kind::Vote, Kind::Transaction] {
            let to_all: &[u64] = if kind == which { &[1] } else { &[1, 1] };
            shown = shown.item(kind, kind.name().as_bytes(), to_all);
        }
        assert_eq!(shown.broken(), broken);
    }
}

#[test]
fn the_time_of_each_kind_is_told() {
    let must = must(|must| {
        must.delivered = Some(1.0);
        must.vote = Some(votes_within(SECOND));
    });
    let shown = Shown::new(must).item(Kind::Vote, b"v", &[1, 1]);
    let verdicts = shown.verdicts();
    let wanted = |what: &str| {
        let verdict = verdicts.iter().find(|verdict| verdict.what == what);
        verdict.expect(what).wanted.as_str()
    };
    assert_eq!(wanted("delivered"), "100.00% within 10s, votes 1s");
    assert_eq!(wanted("vote.delivered"), "100.00% within 1s");
}

#[test]
fn each_kind_has_limits_of_its_own() {
    let limits = must(|must| {
        must.delivered = Some(1.0);
        must.vote = Some(Limits {
            delivered: Some(1.0),
            within: Some(Duration::from_millis(500)),
            ..Limits::default()
        });
        must.block = Some(Limits {
            p99: Some(SECOND),
            max_hops: Some(0),
            ..Limits::default()
        });
    });
    let shown = Shown::new(limits)
        .item(Kind::Transaction, b"t", &[5_000, 5_000])
        .item(Kind::Vote, b"v", &[400, 600])
        .item(Kind::Block, b"b", &[2_000, 100]);
    let broken = ["delivered", "block.p99", "block.max_hops", "vote.delivered"];
    assert_eq!(shown.broken(), broken);
}

#[test]
fn bytes_are_counted_for_each_delivery_and_each_byte_of_it() {
    for (most, broken) in [(1_500.0, [].as_slice()), (1_499.0, &["bytes_per_delivery"])] {
        let must = must(|must| {
            must.bytes_per_delivery = Some(most);
            must.bytes_per_useful_byte = Some(3.0);
        });
        let shown = Shown::new(must).item(Kind::Vote, b"v", &[1, 1]);
        assert_eq!(shown.broken(), broken);
    }
    let nothing = must(|must| must.bytes_per_delivery = Some(9e9));
    assert_eq!(Shown::new(nothing).broken(), ["bytes_per_delivery"]);
}

#[test]
fn a_network_must_be_one_again_in_time_and_must_have_been_apart() {
    let shown = |whole: &[u32]| {
        let mut shown = Shown::new(must(|must| must.whole = Some(5 * SECOND)));
        let mut healing = Healing::new([10 * SECOND]);
        for at in whole {
            healing.is_whole(*at * SECOND);
        }
        shown.healing = Some(healing);
        shown
    };
    assert!(shown(&[15]).broken().is_empty());
    for (why, whole) in [("late", [16].as_slice()), ("never", &[]), ("always", &[10])] {
        assert_eq!(shown(whole).broken(), ["whole"], "{why}");
    }
}

#[test]
fn peers_must_be_there_in_time_at_each_start_that_lasts() {
    let wanted = || {
        must(|must| {
            must.peers = Some(PeersBy {
                count: 2,
                within: 5 * SECOND,
            });
        })
    };
    let start = |shown: &mut Shown, node: Node, from: u32, took: &[u32]| {
        shown.lives.started(node, from * SECOND);
        for (which, took) in took.iter().enumerate() {
            let peer = shown.peers[which];
            shown.lives.connected(node, peer, (from + took) * SECOND);
        }
    };
    let mut good = Shown::new(wanted());
    start(&mut good, 0, 0, &[1, 5]);
    // Its process ended before, and another began too late for the run.
    good.ran[1] = vec![(Duration::ZERO, Some(3 * SECOND)), (57 * SECOND, None)];
    start(&mut good, 1, 0, &[1]);
    start(&mut good, 1, 57, &[]);
    assert!(good.broken().is_empty());
    for took in [&[1, 6][..], &[1]] {
        let mut late = Shown::new(wanted());
        start(&mut late, 0, 0, &[1, 2]);
        start(&mut late, 2, 0, took);
        assert_eq!(late.broken(), ["peers"]);
    }
    assert_eq!(Shown::new(wanted()).broken(), ["peers"], "none has started");
}

#[test]
fn honest_nodes_keep_their_names_with_honest_ones() {
    let mut limits = must(|must| {
        must.liars_banned = Some(1.0);
        must.min_honest_score = Some(-1.0);
    });
    let shown = |must: &Must| {
        let mut shown = Shown::new(must.clone());
        shown.liars.insert(2);
        shown.scores = [((2, 0), -50.0), ((0, 2), -90.0), ((0, 1), -1.0)].into();
        // The liar bans whom it likes.
        shown.bans = [(0, 2), (2, 0)].into();
        shown
    };
    assert!(shown(&limits).broken().is_empty());
    let mut scored = shown(&limits);
    scored.scores.insert((1, 0), -1.5);
    scored.bans.remove(&(0, 2));
    assert_eq!(scored.broken(), ["liars_banned", "min_honest_score"]);
    let mut banned = shown(&limits);
    banned.bans.insert((1, 0));
    assert_eq!(banned.broken(), ["honest_may_be_banned"]);
    limits.honest_may_be_banned = true;
    let mut banned = shown(&limits);
    banned.bans.insert((1, 0));
    assert!(banned.broken().is_empty());
}

#[test]
fn memory_and_oddities_are_judged() {
    let mut shown = Shown::new(must(|must| must.max_memory_mib = Some(4)));
    shown.odd.push("it came twice".to_owned());
    let verdicts = shown.verdicts();
    let broken: Vec<_> = verdicts.iter().filter(|each| !each.holds).collect();
    assert_eq!(broken.len(), 2);
    assert_eq!(
        (broken[0].what.as_str(), broken[0].found.as_str()),
        ("max_memory_mib", "5")
    );
    assert_eq!(broken[1].found, "1, first: it came twice");
}
