//! The address book alone: 100,000 insertions, and as many choices of whom to dial, while it is full.
//!
//! Each step of a tenth of a second tells of a new peer, at an address in one of 22,784 networks, by a teller in one of 256; and chooses one to dial, of whom every other
//! lets us in and stays until eight more have. The profile is flat if the last steps, in a full book, cost what the first do, in an empty one.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use selkie::{
    Multiaddr, PeerId,
    peers::{AddressBook, Candidate, Grouping},
    platform,
};

use crate::support::{Figure, Measured, full_or};

const STEPS: usize = 100_000;
const TENTHS: usize = 10;
const SLOTS: usize = 8;
const STEP: Duration = Duration::from_millis(100);
/// Times what a step costs at first.
const MOST: f64 = 2.0;

pub fn measure() -> Vec<Figure> {
    let (inserted, chosen) = run(full_or(STEPS, 1000));
    eprintln!("an insertion: {inserted:.2?} us; a choice: {chosen:.2?} us, by tenths of all");
    let figure = |name: &str, tenths: Vec<f64>| Figure {
        name: format!("address book, {name}, last tenth of 100000"),
        value: Measured::from(tenths[TENTHS - 1]),
        unit: "us",
        baseline: Some(tenths[0].into()),
        baseline_name: "the first tenth",
        target: Some(0.0..=MOST),
    };
    vec![figure("an insertion", inserted), figure("a choice", chosen)]
}

/// Microseconds an insertion and a choice takes, in each tenth of the steps.
fn run(steps: usize) -> (Vec<f64>, Vec<f64>) {
    let mut now = platform::now();
    let (own, grouping) = (PeerId::random(), Grouping::default());
    let mut book = AddressBook::new(own, |_| true, grouping.clone(), [7; 32], now);
    let mut links = VecDeque::new();
    let (mut inserted, mut chosen, mut choices) = (Vec::new(), Vec::new(), 0);
    for tenth in 0..TENTHS {
        let told: Vec<_> = (0..steps / TENTHS)
            .map(|number| stranger(tenth * steps / TENTHS + number))
            .collect();
        let (mut inserting, mut choosing) = (Duration::ZERO, Duration::ZERO);
        for (number, (teller, peer, address)) in told.iter().enumerate() {
            now += STEP;
            let source = grouping.of_teller(teller);
            let begin = Instant::now();
            book.told(source, *peer, std::slice::from_ref(address), now);
            let middle = Instant::now();
            if let Some(candidate) = book.choose(now) {
                choices += 1;
                dialled(&mut book, candidate, number % 2 == 0, &mut links, now);
            }
            choosing += middle.elapsed();
            inserting += middle - begin;
        }
        let each = |time: Duration| time.as_secs_f64() * 1e6 / told.len() as f64;
        inserted.push(each(inserting));
        chosen.push(each(choosing));
    }
    assert!(choices > steps * 9 / 10, "only {choices} were chosen");
    (inserted, chosen)
}

/// What becomes of a dial.
fn dialled(
    book: &mut AddressBook,
    candidate: Candidate,
    lets_in: bool,
    links: &mut VecDeque<PeerId>,
    now: selkie::platform::Instant,
) {
    let (peer, address) = (candidate.peer, &candidate.addresses[0]);
    if !lets_in {
        return book.failed(peer, true, now);
    }
    book.connected(peer, address, true, now);
    book.reached(peer, address, now);
    links.push_back(peer);
    if links.len() > SLOTS
        && let Some(eldest) = links.pop_front()
    {
        book.gone(eldest, now);
    }
}

/// Whose word it is, of whom, and where that one is said to be.
fn stranger(number: usize) -> (Multiaddr, PeerId, Multiaddr) {
    let mixed = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let [a, b, c, d, e, ..] = mixed.to_be_bytes();
    // All of the internet.
    let address = |a: u8, b: u8, c: u8| format!("/ip4/{}.{b}.{c}.1/tcp/30303", 11 + a % 89);
    let [teller, home] =
        [address(40, d, 1), address(a, b, c.max(e))].map(|text| text.parse().expect("an address"));
    (teller, PeerId::random(), home)
}
