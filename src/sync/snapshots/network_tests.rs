//! What a network of sources does to a node that takes a snapshot. Virtual time; the figures are those of docs/sync-snapshots.md.

use std::time::Duration;

use proptest::prelude::*;

use libp2p::PeerId;

use super::{
    Action, Bitmap, Checkpoint, Download, DownloadConfig, Memory, NoSnapshot, Outcome, Part,
    Reason, Trust,
    simulation::{Content, MIB, Manners, Report, Simulation, Sink, SourceSpec, offer, root_at},
};
use crate::{
    chain::{ChunkOrder, SyncVerdict},
    peers::Misdeed,
};
// Natively alone: a hundred MiB are hashed, for which wasm that is not optimised takes minutes.
use core::prelude::v1::test;

const SECOND: Duration = Duration::from_secs(1);

fn run(sources: Vec<SourceSpec>) -> Report {
    Simulation::new(DownloadConfig::default(), sources, Sink::default()).run()
}

/// A snapshot of so many chunks of 256 KiB, and a bit.
fn small(height: u64, chunks: usize) -> std::sync::Arc<Content> {
    Content::new(height, MIB / 4, chunks * MIB / 4 - 1000, 1)
}

#[test]
fn three_sources_are_nearly_three_times_as_fast_as_one() {
    let content = Content::new(5000, MIB, 96 * MIB, 1);
    let time = |count| {
        let report = run((0..count).map(|_| SourceSpec::honest(&content)).collect());
        assert_eq!(report.synced(), Some(5000));
        assert!(report.misdeeds.is_empty(), "{:?}", report.misdeeds);
        (report.fetch().0, report.bytes)
    };
    let ((one, all), (three, bytes)) = (time(1), time(3));
    println!(
        "one source {one:.2} s, three {three:.2} s: {:.2} times",
        one / three
    );
    println!(
        "three sources: {:.3} of the bytes of one",
        bytes as f64 / all as f64
    );
    assert!(one / three >= 2.7);
    assert!((bytes as f64) < 1.05 * all as f64);
}

#[test]
fn a_source_that_stalls_does_not_hold_up_the_end() {
    let content = Content::new(5000, MIB / 4, 160 * MIB, 1);
    let alone = run((0..3).map(|_| slow(&content, 1e6)).collect()).fetch().0;
    // At the beginning, on the way, and at 99%.
    for at in [1, 20, 40, 41] {
        let mut sources: Vec<_> = (0..4).map(|_| slow(&content, 1e6)).collect();
        sources[2].manners = Manners::Stalls(SECOND * at);
        let report = run(sources);
        let (time, end) = report.fetch();
        println!(
            "one of four stalls after {at} s: {time:.1} s of {alone:.1}, the last 1% {:.2}%",
            100.0 * end / time
        );
        assert_eq!(report.synced(), Some(5000));
        assert!(end <= 0.02 * time, "{end} of {time}");
        assert!(time <= 1.02 * alone + 0.5, "{time}");
        assert!(report.blamed().iter().all(|source| *source == 2));
    }
}

fn slow(content: &std::sync::Arc<Content>, rate: f64) -> SourceSpec {
    SourceSpec {
        rate,
        ..SourceSpec::honest(content)
    }
}

#[test]
fn sources_that_send_hardly_anything_cost_little() {
    let content = Content::new(5000, MIB / 4, 64 * MIB, 1);
    let alone = run((0..2).map(|_| slow(&content, 1e6)).collect()).fetch().0;
    for rate in [1.0, 100.0, 20_000.0] {
        let mut sources: Vec<_> = (0..2).map(|_| slow(&content, 1e6)).collect();
        sources.extend((0..3).map(|_| slow(&content, rate)));
        let report = run(sources);
        let time = report.fetch().0;
        println!("three of five send {rate} bytes a second: {time:.1} s of {alone:.1}");
        assert_eq!(report.synced(), Some(5000));
        assert!(time <= 1.02 * alone + 0.5, "{time}");
        assert!(report.bytes < content.snapshot.size as usize * 21 / 20);
    }
}

#[test]
fn a_snapshot_that_does_not_come_is_given_up() {
    let (content, other) = (small(6000, 40), small(5000, 40));
    let none = || SourceSpec {
        have: Some(Bitmap::new(40)),
        ..SourceSpec::honest(&content)
    };
    let busy = || SourceSpec::bad(&content, Manners::Refuses(Reason::Busy));
    let missing = || SourceSpec::bad(&content, Manners::Refuses(Reason::Missing));
    let drips = || slow(&content, 8000.0);
    // Of one that nobody has any more, what has come stays: who had it may be back for the next search.
    let bad: [(&dyn Fn() -> SourceSpec, usize); 4] =
        [(&none, 1), (&busy, 1), (&missing, 0), (&drips, 1)];
    for (bad, abandoned) in bad {
        let alone = run(vec![bad()]);
        assert!(matches!(alone.outcome, Some(Outcome::Blocks(_))));
        assert!(alone.time < 60 * SECOND, "{:?}", alone.time);
        assert_eq!(alone.abandoned, abandoned, "whether what came is of no use");
        // Three of them are believed before an honest one, and then no more.
        let sources = vec![bad(), bad(), bad(), SourceSpec::honest(&other)];
        let report = run(sources);
        assert_eq!(report.synced(), Some(5000));
    }
}

#[test]
fn what_was_rejected_is_not_tried_in_the_next_search() {
    let (bad, peer) = (small(6000, 40), PeerId::random());
    let (offer, _) = offer(&bad, None);
    let id = bad.snapshot.id();
    let mut now = crate::platform::now();
    let mut memory = Memory::default();
    let mut tried = 0;
    for _ in 0..3 {
        let download = Download::new(DownloadConfig::default(), 0, 7, now);
        let mut download = download.remembering(memory);
        download.offers(peer, vec![offer.clone()], now);
        for _ in 0..200 {
            now += SECOND / 10;
            download.on_time(now);
            while let Some(action) = download.action() {
                match action {
                    Action::CheckTrust(_) => download.trust_checked(&id, Trust::Final, now),
                    Action::Offer(_) => {
                        tried += 1;
                        let reject = SyncVerdict::Reject("rubbish".to_owned());
                        download.offered(&id, reject, (&[], ChunkOrder::Any), now);
                    }
                    _ => {}
                }
            }
        }
        memory = download.memory();
    }
    assert_eq!(tried, 1);
}

/// A download that fetches a snapshot of this content, of a peer that offers it.
fn fetching(content: &std::sync::Arc<Content>) -> (Download, crate::platform::Instant) {
    let (offer, _) = offer(content, None);
    let id = content.snapshot.id();
    let mut now = crate::platform::now();
    let mut download = Download::new(DownloadConfig::default(), 0, 7, now);
    download.offers(PeerId::random(), vec![offer], now);
    now += 2 * SECOND;
    download.on_time(now);
    download.trust_checked(&id, Trust::Final, now);
    download.offered(&id, SyncVerdict::Accept, (&[], ChunkOrder::Any), now);
    while download.action().is_some() {}
    assert!(download.progress(now).is_some());
    (download, now)
}

#[test]
fn a_snapshot_that_blocks_have_passed_is_left() {
    let (mut download, now) = fetching(&small(6000, 40));
    download.chain_is_at(5999, now);
    assert_eq!(download.action(), None);
    download.chain_is_at(6000, now);
    let actions: Vec<_> = std::iter::from_fn(|| download.action()).collect();
    let cancels = |it: &Action| matches!(it, Action::Send(_, super::Message::Cancel(_)));
    assert!(actions.iter().any(cancels), "{actions:?}");
    assert!(actions.contains(&Action::Abandon), "{actions:?}");
    assert!(download.progress(now).is_none());
}

#[test]
fn a_snapshot_that_was_begun_goes_before_those_of_more_peers_and_above() {
    let (begun, newer) = (small(5000, 40), small(6000, 40));
    let id = begun.snapshot.id();
    for (height, wanted) in [(0, id), (4990, id), (5000, newer.snapshot.id())] {
        let now = crate::platform::now();
        let config = DownloadConfig {
            min_gain: 1000,
            ..DownloadConfig::default()
        };
        let mut download = Download::new(config, height, 7, now).going_on_with(Some(id));
        for content in [&newer, &newer, &newer, &begun] {
            let (offer, _) = offer(content, None);
            download.offers(PeerId::random(), vec![offer], now);
        }
        download.on_time(now + SECOND);
        let Some(Action::CheckTrust(chosen)) = download.action() else {
            panic!("none is chosen");
        };
        assert_eq!(chosen.id(), wanted, "{height}");
    }
}

#[test]
fn a_source_that_comes_again_finds_what_it_has_sent() {
    let (content, other) = (small(5000, 40), small(6000, 40));
    let mut sources = vec![
        SourceSpec::bad(&content, Manners::Vanishes(SECOND * 2)),
        SourceSpec::honest(&content),
        SourceSpec::honest(&other),
    ];
    sources[1].at = SECOND * 5;
    sources[2].at = SECOND * 3 / 2;
    sources[0].rate = 2e6;
    let report = run(sources);
    assert_eq!(report.synced(), Some(5000));
    assert_eq!(report.offered.len(), 1);
}

#[test]
fn a_liar_pays_at_once_and_the_honest_finish() {
    let content = small(5000, 40);
    let lies = [
        (Manners::FalseGroup, Misdeed::FalseSnapshot),
        (Manners::FalseValues, Misdeed::FalseSnapshot),
        (Manners::Short, Misdeed::InvalidMessage),
        (Manners::Misplaced, Misdeed::InvalidMessage),
    ];
    for (manners, price) in lies {
        let sources = vec![
            SourceSpec::honest(&content),
            SourceSpec::bad(&content, manners),
            SourceSpec::honest(&content),
        ];
        let report = run(sources);
        assert_eq!(report.synced(), Some(5000), "{manners:?}");
        assert_eq!(report.misdeeds, [(1, price)], "{manners:?}: once");
        assert_eq!(report.applied.len(), 40);
    }
    let unasked = vec![
        SourceSpec::honest(&content),
        SourceSpec::bad(&content, Manners::Unasked),
    ];
    let report = run(unasked);
    assert_eq!(report.synced(), Some(5000));
    assert_eq!(report.blamed(), [1].into());
}

#[test]
fn alone_with_a_liar_it_is_blocks() {
    let content = small(5000, 40);
    for manners in [
        Manners::FalseGroup,
        Manners::FalseValues,
        Manners::Misplaced,
    ] {
        let report = run(vec![SourceSpec::bad(&content, manners)]);
        assert_eq!(report.outcome, Some(Outcome::Blocks(NoSnapshot::Nobody)));
        assert_eq!(report.misdeeds.len(), 1);
    }
}

#[test]
fn who_offers_what_the_sink_rejects_pays_once_another_one_is_taken() {
    let (content, other) = (small(5000, 8), Content::new(5000, MIB / 4, 2 * MIB, 2));
    let rejects = |contents: &[&Content]| Sink {
        rejects: contents.iter().map(|it| it.snapshot.root).collect(),
        ..Sink::default()
    };
    // More liars than honest ones, and as many.
    for honest in [1, 2] {
        let mut sources: Vec<_> = (0..2).map(|_| SourceSpec::honest(&other)).collect();
        sources.extend((0..honest).map(|_| SourceSpec::honest(&content)));
        let simulation = Simulation::new(DownloadConfig::default(), sources, rejects(&[&other]));
        let report = simulation.run();
        assert_eq!(report.synced(), Some(5000));
        let is_tried = report.offered.len() == 2;
        let price = Misdeed::FalseSnapshot;
        let right = if is_tried {
            vec![(0, price), (1, price)]
        } else {
            Vec::new()
        };
        assert_eq!(report.misdeeds, right);
        assert!(is_tried || honest == 2);
    }
    // All say the same: it may be our error.
    let sources = (0..3).map(|_| SourceSpec::honest(&content)).collect();
    let report = Simulation::new(DownloadConfig::default(), sources, rejects(&[&content])).run();
    let reason = "not that state".to_owned();
    let right = NoSnapshot::Rejected {
        rejected: 1,
        reason,
    };
    assert_eq!(report.outcome, Some(Outcome::Blocks(right)));
    assert_eq!(report.misdeeds, []);
    // The same, where another height is taken: nothing is proven.
    let newer = Content::new(6000, MIB / 4, 2 * MIB, 2);
    let sources = vec![SourceSpec::honest(&newer), SourceSpec::honest(&content)];
    let report = Simulation::new(DownloadConfig::default(), sources, rejects(&[&newer])).run();
    assert_eq!(report.synced(), Some(5000));
    assert_eq!(report.misdeeds, []);
}

#[test]
fn who_offers_another_state_than_the_chains_pays_where_that_is_proven() {
    let content = small(5000, 8);
    let untrue = content.untrue();
    let liars = || (0..4).map(|_| SourceSpec::honest(&untrue));
    let mut sources: Vec<_> = liars().collect();
    sources.push(SourceSpec::honest(&content));
    let report = run(sources);
    assert_eq!(report.synced(), Some(5000));
    assert_eq!(report.blamed(), [0, 1, 2, 3].into());
    assert_eq!(report.misdeeds.len(), 4);
    // Alone they may be right, and our header wrong.
    let report = run(liars().collect());
    assert_eq!(report.outcome, Some(Outcome::Blocks(NoSnapshot::Untrusted)));
    assert_eq!(report.misdeeds, []);
}

#[test]
fn a_checkpoint_is_trusted_without_a_header() {
    let content = small(5000, 8);
    let config = DownloadConfig {
        checkpoint: Some(Checkpoint {
            height: 5000,
            state_root: root_at(5000).to_vec(),
        }),
        ..DownloadConfig::default()
    };
    let sources = vec![
        SourceSpec::honest(&content.untrue()),
        SourceSpec::honest(&content),
    ];
    let simulation = Simulation::new(config, sources, Sink::default());
    let report = simulation.trusting(|_| panic!("nobody is asked")).run();
    assert_eq!(report.synced(), Some(5000));
    assert_eq!(report.blamed().into_iter().filter(|it| *it != 0).count(), 0);
}

#[test]
fn without_a_final_header_it_is_blocks_after_a_while() {
    let sources = vec![SourceSpec::honest(&small(5000, 8))];
    let simulation = Simulation::new(DownloadConfig::default(), sources, Sink::default());
    let report = simulation.trusting(|_| Trust::NotYet).run();
    assert_eq!(report.outcome, Some(Outcome::Blocks(NoSnapshot::Untrusted)));
    assert!(report.time >= DownloadConfig::default().trust);
    assert_eq!(report.misdeeds, []);
}

#[test]
fn without_a_snapshot_of_use_it_is_blocks() {
    let stale = small(500, 8);
    let config = DownloadConfig {
        max_snapshot_bytes: MIB as u64,
        ..DownloadConfig::default()
    };
    let large = small(5000, 8);
    for (config, sources) in [
        (DownloadConfig::default(), vec![]),
        (DownloadConfig::default(), vec![SourceSpec::honest(&stale)]),
        (config, vec![SourceSpec::honest(&large)]),
    ] {
        let report = Simulation::new(config, sources, Sink::default()).run();
        assert_eq!(report.outcome, Some(Outcome::Blocks(NoSnapshot::Nobody)));
        assert_eq!(report.misdeeds, []);
        assert_eq!(report.bytes, 0);
    }
}

#[test]
fn who_vanishes_withdraws_changes_its_mind_or_refuses_does_no_harm() {
    let content = small(5000, 200);
    let some_time = SECOND * 3;
    let manners = [
        Manners::Vanishes(some_time),
        Manners::Withdraws(some_time),
        Manners::ChangesItsMind(some_time),
        Manners::Refuses(Reason::Busy),
        Manners::Refuses(Reason::Missing),
        Manners::Refuses(Reason::Gone),
        Manners::Refuses(Reason::Cancelled),
    ];
    for manners in manners {
        let sources = vec![
            SourceSpec::honest(&content),
            SourceSpec::bad(&content, manners),
            SourceSpec::honest(&content),
        ];
        let report = run(sources);
        assert_eq!(report.synced(), Some(5000), "{manners:?}");
        assert_eq!(report.misdeeds, [], "{manners:?}");
        assert!(report.bytes < content.snapshot.size as usize * 11 / 10);
    }
}

#[test]
fn where_nobody_has_it_any_more_a_newer_one_is_taken_and_without_that_it_is_blocks() {
    let (old, new) = (small(5000, 200), small(6000, 40));
    let leaving = || SourceSpec::bad(&old, Manners::Withdraws(SECOND * 3));
    let later = SourceSpec {
        at: SECOND * 2,
        ..SourceSpec::honest(&new)
    };
    let report = run(vec![leaving(), leaving(), later]);
    assert_eq!(report.synced(), Some(6000));
    assert_eq!(report.misdeeds, []);
    let report = run(vec![leaving(), leaving()]);
    assert_eq!(report.outcome, Some(Outcome::Blocks(NoSnapshot::Nobody)));
    // A newer one alone is no reason to begin anew.
    let later = SourceSpec {
        at: SECOND * 2,
        ..SourceSpec::honest(&new)
    };
    let report = run(vec![SourceSpec::honest(&old), later]);
    assert_eq!(report.synced(), Some(5000));
}

#[test]
fn what_is_stored_is_not_fetched_again() {
    let content = small(5000, 100);
    let sink = Sink {
        stored: (0..100).filter(|index| index % 10 != 3).collect(),
        ..Sink::default()
    };
    let sources = vec![SourceSpec::honest(&content), SourceSpec::honest(&content)];
    let report = Simulation::new(DownloadConfig::default(), sources, sink).run();
    assert_eq!(report.synced(), Some(5000));
    assert_eq!(report.applied.len(), 10);
    assert!(
        report.bytes <= 10 * MIB / 4 + 100 * 32 + MIB / 4,
        "{}",
        report.bytes
    );
    // All of it.
    let sink = Sink {
        stored: (0..100).collect(),
        ..Sink::default()
    };
    let report = Simulation::new(
        DownloadConfig::default(),
        vec![SourceSpec::honest(&content)],
        sink,
    )
    .run();
    assert_eq!((report.synced(), report.bytes), (Some(5000), 0));
}

#[test]
fn memory_is_bounded_however_slow_the_sink_and_however_many_the_sources() {
    let content = Content::new(5000, MIB, 64 * MIB, 1);
    let config = DownloadConfig {
        max_bytes_in_flight: 8 * MIB,
        ..DownloadConfig::default()
    };
    let sources = (0..12).map(|_| slow(&content, 50e6)).collect();
    let sink = Sink {
        delay: Duration::from_millis(200),
        ..Sink::default()
    };
    let report = Simulation::new(config, sources, sink).run();
    assert_eq!(report.synced(), Some(5000));
    assert!(
        report.most_in_flight <= 8 * MIB,
        "{}",
        report.most_in_flight
    );
    assert_eq!(report.misdeeds, []);
}

#[test]
fn a_sink_that_takes_chunks_in_their_order_gets_them_so_within_the_limit() {
    let content = Content::new(5000, MIB / 4, 32 * MIB, 1);
    let config = DownloadConfig {
        max_bytes_in_flight: 8 * MIB,
        ..DownloadConfig::default()
    };
    let rising = |sources| {
        let sink = Sink {
            order: ChunkOrder::Rising,
            ..Sink::default()
        };
        Simulation::new(config.clone(), sources, sink).run()
    };
    let alone = rising((0..3).map(|_| slow(&content, 2e6)).collect());
    // Whoever has the next chunk and does not send it, holds up little.
    let mut sources: Vec<_> = (0..3).map(|_| slow(&content, 2e6)).collect();
    sources.push(slow(&content, 20_000.0));
    sources.push(SourceSpec::bad(&content, Manners::Stalls(SECOND * 2)));
    let disturbed = rising(sources);
    println!(
        "in order {:.2} s, disturbed {:.2} s",
        alone.fetch().0,
        disturbed.fetch().0
    );
    for report in [&alone, &disturbed] {
        assert_eq!(report.synced(), Some(5000));
        assert!(report.applied.iter().map(|(index, _)| *index).eq(0..128));
        assert!(
            report.most_in_flight <= 8 * MIB,
            "{}",
            report.most_in_flight
        );
    }
    assert!(disturbed.fetch().0 < 1.3 * alone.fetch().0);
}

#[test]
fn a_sink_that_cannot_now_is_asked_again_and_one_that_never_can_is_our_error() {
    let content = small(5000, 20);
    let runs = |retries| {
        let sink = Sink {
            retries,
            ..Sink::default()
        };
        let sources = vec![SourceSpec::honest(&content)];
        Simulation::new(DownloadConfig::default(), sources, sink).run()
    };
    let report = runs(30);
    assert_eq!((report.synced(), report.applied.len()), (Some(5000), 20));
    assert_eq!(report.abandoned, 0);
    let report = runs(usize::MAX);
    let reason = "the disk is full".to_owned();
    assert_eq!(
        report.outcome,
        Some(Outcome::Blocks(NoSnapshot::Sink { reason }))
    );
    assert_eq!(report.misdeeds, []);
}

#[test]
fn the_rarest_chunks_go_first_and_partial_sources_are_asked_for_what_they_have() {
    let content = small(5000, 120);
    let part = |chunks: std::ops::Range<u32>| {
        let mut have = Bitmap::new(120);
        for chunk in chunks {
            have.insert(chunk);
        }
        SourceSpec {
            have: Some(have),
            ..SourceSpec::honest(&content)
        }
    };
    // The last twenty are nowhere but at the first one.
    let report = run(vec![
        SourceSpec::honest(&content),
        part(0..100),
        part(0..100),
    ]);
    assert_eq!(report.synced(), Some(5000));
    let of = |source| {
        report
            .asked
            .iter()
            .filter(move |(it, part)| *it == source && *part != Part::Hashes)
    };
    let mut first: Vec<_> = of(0).take(20).map(|(_, part)| *part).collect();
    first.sort();
    assert_eq!(first, (100..120).map(Part::Chunk).collect::<Vec<_>>());
    assert!(of(1).count() > 30 && of(1).all(|(_, part)| *part < Part::Chunk(100)));
    // Together two have all.
    let report = run(vec![part(0..70), part(50..120)]);
    assert_eq!(report.synced(), Some(5000));
    // What nobody has does not come: it is blocks.
    let report = run(vec![
        part(0..70),
        SourceSpec {
            manners: Manners::Vanishes(SECOND * 20),
            ..part(0..70)
        },
        SourceSpec {
            at: SECOND * 15,
            ..part(60..120)
        },
    ]);
    assert_eq!(report.synced(), Some(5000));
}

fn manners() -> impl Strategy<Value = Manners> {
    let at = (0u64..8000).prop_map(Duration::from_millis);
    prop_oneof![
        Just(Manners::Honest),
        at.clone().prop_map(Manners::Stalls),
        Just(Manners::FalseGroup),
        Just(Manners::FalseValues),
        Just(Manners::Short),
        Just(Manners::Misplaced),
        at.clone().prop_map(Manners::Vanishes),
        at.clone().prop_map(Manners::Withdraws),
        at.prop_map(Manners::ChangesItsMind),
        prop::sample::select(vec![
            Reason::Busy,
            Reason::Gone,
            Reason::Missing,
            Reason::Cancelled
        ])
        .prop_map(Manners::Refuses),
    ]
}

#[test]
fn what_is_on_its_way_of_who_withdraws_costs_it_nothing_where_its_part_is_begun_anew() {
    let (content, millis) = (small(5000, 25), Duration::from_millis);
    let bad = |manners, rate, latency, at| SourceSpec {
        rate,
        latency: millis(latency),
        at: millis(at),
        ..SourceSpec::bad(&content, manners)
    };
    let honest = SourceSpec {
        latency: millis(45),
        ..SourceSpec::honest(&content)
    };
    let sources = vec![
        honest,
        // Its values are right, and then its groups are not: so another one is asked without values, and nothing of the part stays.
        bad(Manners::FalseGroup, 8_347_607.0, 68, 1045),
        bad(Manners::Withdraws(millis(1416)), 6_946_140.0, 194, 0),
    ];
    let report = run(sources);
    assert_eq!(report.synced(), Some(5000));
    assert_eq!(report.misdeeds, [(1, Misdeed::FalseSnapshot)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever others do, with one honest source it is the right state, and the honest are never taken for liars.
    #[test]
    fn with_one_honest_source_it_ends_well(
        others in prop::collection::vec((manners(), 1e3f64..1e7, 0u64..300, 0u64..4000), 0..7),
        chunks in 1usize..60, latency in 1u64..400, retries in 0usize..5, delay in 0u64..50, rising: bool,
    ) {
        let content = small(5000, chunks);
        let millis = Duration::from_millis;
        let mut sources = vec![SourceSpec { latency: millis(latency), ..SourceSpec::honest(&content) }];
        sources.extend(others.iter().map(|(manners, rate, latency, at)| SourceSpec {
            rate: *rate,
            latency: millis(*latency),
            at: millis(*at),
            ..SourceSpec::bad(&content, *manners)
        }));
        let order = if rising { ChunkOrder::Rising } else { ChunkOrder::Any };
        let sink = Sink { retries, delay: millis(delay), order, ..Sink::default() };
        let report = Simulation::new(DownloadConfig::default(), sources, sink).run();
        prop_assert_eq!(report.synced(), Some(5000));
        prop_assert_eq!(report.applied.len(), chunks);
        for (source, misdeed) in &report.misdeeds {
            let honest = source.checked_sub(1).map_or(Manners::Honest, |place| others[place].0);
            let is_liar = matches!(honest, Manners::FalseGroup | Manners::FalseValues | Manners::Short | Manners::Misplaced);
            prop_assert!(is_liar || *misdeed == Misdeed::NoAnswer, "{honest:?} {misdeed:?}");
        }
    }
}
