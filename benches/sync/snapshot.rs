//! A snapshot from one process to another, beside one raw stream of libp2p's over the same transport.
//!
//! The source reads chunks from a file, checks and sends them; the sink checks each group as it comes, and has the built-in ledger keep each chunk in
//! its file, on the disk before it counts as taken; or drops it, which tells what keeping costs. The time is that from the offer to the sink until it has
//! all. Beside the store stands the disk alone: as many bytes into a plain file, flushed as often as a store that takes 16 MiB at a time.

use std::{fs, io::Write, time::Instant};

use crate::{
    child::{self, Child},
    nodes::{config, started},
    state::{Sink, Source, noise},
    support::{Figure, Measured, cpu_seconds, full_or},
};

const ROUNDS: usize = 3;
const BYTES: u64 = 2_000_000_000;
/// Bytes of a chunk, as nodes make them.
pub const CHUNK: u32 = 1008 << 10;
/// Of the raw stream's rate.
const SHARE: f64 = 0.7;
/// MB in memory at most.
const MEMORY: f64 = 200.0;
/// What the plain file is flushed after.
const FLUSHED: usize = 16 << 20;

/// What one round came to.
struct Round {
    /// MB a second.
    rate: f64,
    ends: [End; 2],
}

/// Of the source, and of the sink.
struct End {
    /// Seconds of CPU time, and MB in memory at most.
    cpu: f64,
    memory: f64,
}

#[derive(Clone, Copy)]
enum Side {
    Raw,
    Dropped,
    Stored,
}

pub fn measure() -> Vec<Figure> {
    let (rounds, bytes) = (full_or(ROUNDS, 1), full_or(BYTES, 3 << 20));
    let disk = Measured::of((0..rounds).map(|_| disk(bytes)));
    let mut figures = Vec::new();
    for (name, listen) in [
        ("TCP", "/ip4/127.0.0.1/tcp/0"),
        ("QUIC", "/ip4/127.0.0.1/udp/0/quic-v1"),
    ] {
        eprintln!("a snapshot of {bytes} bytes over {name}: {rounds} rounds");
        let mut sides = [const { Vec::new() }; 3];
        for _ in 0..rounds {
            for side in [Side::Raw, Side::Dropped, Side::Stored] {
                sides[side as usize].push(round(side, listen, bytes));
            }
        }
        figures.extend(compare(name, &sides, disk));
    }
    figures
}

fn round(side: Side, listen: &str, bytes: u64) -> Round {
    let bytes_said = bytes.to_string();
    let (what, source) = match side {
        Side::Raw => ("raw", "raw-source"),
        Side::Dropped => ("dropped", "source"),
        Side::Stored => ("stored", "source"),
    };
    let (mut source, address) = Child::start(&[source, listen, &bytes_said]);
    let [_, before, _] = source.ask();
    let address = address.to_string();
    let (mut sink, _) = match side {
        Side::Raw => Child::start(&["raw-sink", &address, &bytes_said]),
        _ => Child::start(&["sink", what, &address]),
    };
    let [seconds, sinks_cpu, sinks_memory] = sink.ask();
    let [_, after, memory] = source.ask();
    sink.end();
    source.end();
    let round = Round {
        rate: bytes as f64 / 1e6 / seconds,
        ends: [
            End {
                cpu: after - before,
                memory,
            },
            End {
                cpu: sinks_cpu,
                memory: sinks_memory,
            },
        ],
    };
    let [source, sink] = &round.ends;
    eprintln!(
        "   {what}: {:.0} MB/s; source {:.2} s of CPU, {:.0} MB; sink {:.2} s, {:.0} MB",
        round.rate, source.cpu, source.memory, sink.cpu, sink.memory
    );
    round
}

fn compare(name: &str, sides: &[Vec<Round>; 3], disk: Measured) -> Vec<Figure> {
    let of =
        |side: Side, of: &dyn Fn(&Round) -> f64| Measured::of(sides[side as usize].iter().map(of));
    let rate = |side| of(side, &|round| round.rate);
    let figure = |what: &str, unit, value, (baseline_name, baseline), target| Figure {
        name: format!("{name}, 2 GB of snapshot, {what}"),
        value,
        unit,
        baseline: Some(baseline),
        baseline_name,
        target,
    };
    let raw = ("one raw stream", rate(Side::Raw));
    let share = Some(SHARE..=f64::INFINITY);
    let mut figures = vec![
        figure("rate", "MB/s", rate(Side::Stored), raw, share),
        figure("rate, dropped", "MB/s", rate(Side::Dropped), raw, None),
        figure(
            "rate, beside the disk",
            "MB/s",
            rate(Side::Stored),
            ("a plain file, flushed", disk),
            None,
        ),
    ];
    for (end, who) in ["source", "sink"].into_iter().enumerate() {
        let cpu = |side| of(side, &|round: &Round| round.ends[end].cpu);
        let memory = |side| of(side, &|round: &Round| round.ends[end].memory);
        let raw = ("one raw stream", cpu(Side::Raw));
        let what = format!("CPU of the {who}");
        figures.push(figure(&what, "s", cpu(Side::Stored), raw, None));
        figures.push(Figure {
            name: format!("{name}, 2 GB of snapshot, memory of the {who} at most"),
            value: memory(Side::Stored),
            unit: "MB",
            baseline: None,
            baseline_name: "",
            target: Some(0.0..=MEMORY),
        });
    }
    figures
}

/// MB a second into a plain file.
fn disk(bytes: u64) -> f64 {
    let mut file = tempfile::tempfile().expect("a file");
    let (piece, begin) = (noise(1, FLUSHED), Instant::now());
    let mut left = bytes as usize;
    while left > 0 {
        let now = &piece[..piece.len().min(left)];
        file.write_all(now).expect("there is room");
        file.sync_data().expect("it is written");
        left -= now.len();
    }
    bytes as f64 / 1e6 / begin.elapsed().as_secs_f64()
}

/// The child at the source.
pub async fn serve(listen: &str, bytes: &str) {
    let state = Source::of(bytes.parse().expect("a number"), CHUNK);
    let node = started(config(Some(listen)), state).await;
    println!("{}", node.listeners()[0]);
    child::answer(|| figures(0.0));
    std::future::pending().await
}

/// The child at the sink: its figures are there once it has all.
pub async fn take(keeps: &str, source: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ledger");
    let (sink, told) = Sink::new((keeps == "stored").then_some(&file));
    let mut config = config(None);
    Sink::trusts(&mut config);
    let node = started(config, sink).await;
    child::answer(move || {
        let times = told.recv().expect("it has all");
        // This process ends before it would be deleted.
        fs::remove_dir_all(folder.path()).expect("it is ours");
        figures((times.finished - times.offered).as_secs_f64())
    });
    println!("{source}");
    node.dial(source.parse::<selkie::Multiaddr>().expect("an address"))
        .await
        .expect("it is there");
    std::future::pending().await
}

/// What a child tells: seconds that it took, CPU time so far, and MB in memory at most.
pub fn figures(seconds: f64) -> Vec<f64> {
    vec![seconds, cpu_seconds(), most_memory()]
}

/// MB of this process that were in memory at most (Linux).
fn most_memory() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) * 1024.0 / 1e6
}
