//! Every attack of the laboratory for a moment: nobody crashes, no honest item is lost, no honest peer pays, and memory stays
//! within a limit that no figure of `./build.sh bench attacks` comes near. Figures are measured there.
#![cfg(not(target_arch = "wasm32"))]

mod lab;

use lab::{
    all, child, find,
    measure::{Newcomers, Times, measure},
};

/// As in the `selkie` command, whose memory is meant.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The most that a moment of an attack may add to the victim, in MiB.
const MEMORY: f64 = 256.0;

/// The other processes of a measurement: this program again.
#[test]
#[ignore = "no test: the measurements start it"]
fn child() {
    child::play();
}

async fn holds_out(name: &str) {
    let row = measure(find(name), Times::SMOKE)
        .await
        .expect("the victim comes up");
    let (about, added) = (row.attack.about, row.added());
    let told = (
        &row.account,
        &row.deeds,
        row.memory,
        row.p99,
        row.cpu,
        row.newcomers
            .map(|Newcomers { via, of, came }| (via, of, came)),
        row.load,
    );
    // For who asks with --no-capture.
    println!("{added:.0} MiB above rest: {told:?}");
    assert_eq!(row.stopped, None, "{about}: {told:?}");
    assert_eq!(
        (row.votes.1, row.transactions.1),
        (0, 0),
        "{about}: of {} honest votes and {} transactions, so many are lost: {told:?}",
        row.votes.0,
        row.transactions.0
    );
    assert!(
        row.suffered.is_empty(),
        "{about}: honest peers pay: {:?}",
        row.suffered
    );
    assert!(added < MEMORY, "{about}: {added} MiB above rest: {told:?}");
}

macro_rules! attacks {
    ($($(#[$mark:meta])* $name:ident)*) => {
        $($(#[$mark])*
        #[tokio::test]
        async fn $name() {
            holds_out(&stringify!($name).replace('_', "-")).await;
        })*

        #[test]
        fn all_attacks_are_here() {
            let here = [$(stringify!($name)),*].map(|name| name.replace('_', "-"));
            let missing: Vec<_> = all().map(|attack| attack.name).filter(|name| !here.iter().any(|here| here == name)).collect();
            assert!(missing.is_empty(), "{missing:?}");
        }
    };
}

attacks! {
    a_core_alone
    link_flips
    empty_frames
    frames_of_nothing
    unknown_kinds
    fetches_of_nothing
    announcements_of_nothing
    packed_known_items
    packed_known_items_by_8
    known_transactions
    known_votes
    new_votes
    new_transactions
    two_million_empty_items_packed
    two_million_empty_items
    padded_batches
    announced_then_missing
    lying_acknowledgements
    lying_acknowledgements_by_16
    acknowledgements
    slow_reader_bulk
    one_item_4096_times
    slow_reader_urgent
    slow_reader_block
    blocks_unread_by_32
    comparisons_and_reconnects
    comparisons
    half_comparisons
    coded_announcements
    coded_announcements_by_16
    block_announcements
    block_questions
    compact_blocks
    unjoined_topics
    gossip_unread
    long_topics
    subscription_flips
    gossip_promises
    grafts_and_prunes
    gossip_replayed
    gossip_flood
    gossip_unwanted
    identify_pushes
    identify_pushes_without_pause
    kad_records
    kad_providers
    kad_questions
    peer_exchange
    state_questions
    direct_replayed
    direct_large
    messages_unfinished_by_32
    hellos
    pings
    unanswered_streams
    streams_without_protocol
    streams_half_named
    stream_churn
    protocol_guesses
    reconnects
    reconnects_quic
    silent_tcp
    half_open_tcp
    silent_websocket
    half_open_websocket
    half_open_quic
    silent_quic
    no_hello
    webtransport_no_streams
    webtransport_half_frame
    webtransport_no_noise
    large_votes
}
