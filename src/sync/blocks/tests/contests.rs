//! Branches that contest what is here: followed until they are better, charged for where they never are, and told where all peers are on one.

use super::*;
use crate::platform::test;

/// A node with these headers alone, and one that serves these blocks.
fn light_and(seed: u8, ours: SmallChain, theirs: &SmallChain) -> Network {
    let mut network = Network::new(seed);
    let sink = network.node(ours);
    let source = network.node(theirs.clone());
    network.link(sink, source, millis(10), MEGABYTE);
    network
}

#[test]
fn a_branch_of_headers_is_followed_through_many_answers_until_it_is_longer() {
    let chain = SmallChain::of(4000, 10);
    let theirs = chain.fork(100);
    theirs.grow(5000, 1, 10);
    let mut network = light_and(1, chain.light(4000), &theirs);
    let mut lowest = 4000;
    let took = network.run_until(seconds(20), |network| {
        lowest = lowest.min(network.chain(0).tip().height);
        has(network, 0, &theirs)
    });
    assert!(took.is_some(), "{:?}", network.chain(0).tip());
    assert_eq!(lowest, 4000, "it took the place in one step");
    assert!(network.nodes[0].misdeeds.is_empty());
    assert!(network.nodes[0].surcharges.is_empty());
    // What follows on it comes as before.
    theirs.grow(50, 1, 10);
    network.offer(
        1,
        &theirs.block(&theirs.tip().id).expect("it is here"),
        None,
    );
    let took = network.run_until(seconds(20), |network| has(network, 0, &theirs));
    assert!(took.is_some(), "{:?}", network.chain(0).tip());
}

#[test]
fn a_branch_that_never_is_better_is_charged_to_who_sent_it() {
    for is_light in [true, false] {
        let chain = SmallChain::of(6000, 10);
        let ours = match is_light {
            true => chain.light(6000),
            false => chain.fork(6000),
        };
        let theirs = chain.fork(100);
        theirs.grow(5000, 1, 10);
        // It does not come over to ours.
        theirs.finalize(5000);
        let mut network = light_and(2, ours, &theirs);
        network.run_for(seconds(10));
        assert!(has(&network, 0, &chain), "light: {is_light}");
        let node = &network.nodes[0];
        let source = network.nodes[1].id;
        assert_eq!(node.surcharges, [(source, 4096)], "light: {is_light}");
        assert!(node.misdeeds.is_empty(), "it may have lost a race honestly");
        assert!(network.core(0).branch.is_none());
    }
}

#[test]
fn who_sends_headers_in_vain_and_then_some_that_are_none_is_charged_for_the_first_too() {
    let chain = SmallChain::of(6000, 10);
    let theirs = chain.fork(100);
    theirs.grow(5000, 1, 10);
    let (tip, mut skips) = (theirs.tip(), 0);
    let mut network = Network::new(5);
    let sink = network.node(chain);
    let liar = network.other(Box::new(move |_, kind| match kind {
        Kind::GetHeaders(request) => {
            let locator = request.locator().expect("places");
            let held = |place: &&BlockPlace| theirs.id_at(place.height).as_ref() == Some(&place.id);
            let common = locator.iter().find(held).map_or(0, |place| place.height);
            let headers = wire::Headers {
                number: request.number,
                headers: theirs.headers(common + 1 + skips, wire::MAX_HEADERS, 1 << 20),
                tip: Some(Status::new(&theirs.tip(), 0)),
            };
            skips += 1;
            vec![(Duration::ZERO, Kind::Headers(headers))]
        }
        _ => Vec::new(),
    }));
    network.link(sink, liar, millis(10), MEGABYTE);
    network.tell(liar, sink, Kind::Status(Status::new(&tip, 0)));
    network.run_for(seconds(60));
    assert!(network.core(sink).branch.is_none());
    let (charged, liar) = (&network.nodes[sink].surcharges, network.nodes[liar].id);
    let is_charged = matches!(charged[..], [(peer, count)] if peer == liar && count > 0);
    assert!(is_charged, "{charged:?}");
}

#[test]
fn where_all_peers_leave_what_is_final_that_is_told_though_they_are_behind() {
    let ours = SmallChain::of(100, 300);
    ours.finalize(90);
    let theirs = SmallChain::default();
    theirs.grow(20, 1, 300);
    let of_theirs = || {
        let chain = theirs.fork(20);
        chain.finalize(10);
        chain
    };
    let mut network = Network::new(31);
    let sink = network.node(ours.clone());
    let honest = network.node(ours.fork(100));
    let first = network.node(of_theirs());
    let second = network.node(of_theirs());
    for source in [honest, first] {
        network.link(sink, source, millis(10), MEGABYTE);
    }
    // Their chain lives, so each says again and again what it has.
    let live = |network: &mut Network| {
        for _ in 0..8 {
            let next = block(&theirs.tip(), 1, b"of the new one");
            theirs.put(&next);
            for source in [first, second] {
                network.offer(source, &next, None);
            }
            network.run_for(seconds(1));
        }
        let statuses = network.nodes[sink].statuses.iter();
        statuses.rev().find_map(|status| status.trouble.clone())
    };
    assert_eq!(live(&mut network), None, "one stranger is none of ours");
    network.unlink(sink, honest);
    network.run_for(BENCH);
    let alone = live(&mut network).expect("there is nobody else");
    assert!(alone.contains("only one peer says so"), "{alone}");
    network.link(sink, second, millis(10), MEGABYTE);
    let trouble = live(&mut network).expect("it is told");
    assert!(trouble.contains("the chain is final there"), "{trouble}");
    assert!(trouble.contains("2 of 2 peers"), "{trouble}");
    assert!(network.nodes[sink].misdeeds.is_empty());
}

#[test]
fn who_sent_headers_does_not_pay_for_who_was_asked_for_the_next_ones() {
    let chain = SmallChain::of(6000, 10);
    let ours = chain.light(6000);
    let theirs = chain.fork(100);
    theirs.grow(8000, 1, 10);
    let mut network = light_and(3, ours.clone(), &theirs);
    let other = network.node(theirs.fork(8100));
    let begun = network.run_until(seconds(5), |network| network.core(0).branch.is_some());
    assert!(begun.is_some());
    network.rate(1, 0, 1.0);
    network.link(0, other, millis(10), MEGABYTE);
    // What comes now is of no use any more.
    ours.finalize(8000);
    let ended = network.run_until(seconds(5), |network| network.core(0).branch.is_none());
    assert!(ended.is_some());
    let node = &network.nodes[0];
    assert!(node.surcharges.is_empty(), "{:?}", node.surcharges);
    assert!(node.misdeeds.is_empty());
}

#[test]
fn a_branch_that_was_better_is_not_charged_when_it_is_outgrown() {
    let chain = SmallChain::of(200, 10);
    let theirs = chain.fork(100);
    theirs.grow(200, 1, 10_000);
    theirs.finalize(200);
    let ours = chain.fork(200);
    let mut network = Network::new(4);
    let sink = network.node(ours.clone());
    let source = network.node(theirs.clone());
    network.link(sink, source, millis(10), MEGABYTE);
    let is_better = |network: &Network| {
        let branch = network.core(0).branch.as_ref();
        branch.is_some_and(|branch| branch.was_better)
    };
    assert!(network.run_until(seconds(5), is_better).is_some());
    // While its blocks come ours grows past it, and it goes on, but not as far.
    ours.grow(200, 2, 10);
    theirs.grow(20, 1, 10);
    network.run_for(seconds(20));
    assert!(has(&network, 0, &ours));
    assert!(network.core(0).branch.is_none());
    let charged = &network.nodes[0].surcharges;
    assert!(charged.is_empty(), "{charged:?}");
}
