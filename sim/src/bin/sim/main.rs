//! `sim NAME`: runs a scenario of `scenarios/`, or a file, and says whether all holds that must.

mod figures;
mod many;

use std::{
    fmt::Write as _,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use selkie_sim::{
    Scenario,
    figures::Figures,
    panicked_at,
    report::{Bytes, Report},
    run::run,
    scenario::Speaks,
    simulate,
};

use many::Brief;

/// Runs real Selkie nodes in virtual time: a scenario, from a seed, and what must hold in it.
#[derive(Parser)]
#[command(name = "sim")]
struct Options {
    /// The scenario: a name from sim/scenarios, or a file.
    #[arg(required_unless_present_any = ["list", "figures"])]
    scenario: Option<String>,
    /// All randomness follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// As many seeds, each in a process of its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    seeds: u64,
    /// So many processes at once, instead of one for each core.
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
    /// So many nodes, instead of the scenario's.
    #[arg(long)]
    nodes: Option<usize>,
    /// Runs each seed twice, and compares the hashes.
    #[arg(long)]
    twice: bool,
    /// The same, so many times.
    #[arg(long, conflicts_with = "twice")]
    times: Option<NonZeroUsize>,
    /// Another build of this program, which runs each seed the last time.
    #[arg(long)]
    beside: Option<PathBuf>,
    /// Looks for a smaller scenario that fails as the first seed that does, and writes it to sim/target/shrunk.
    #[arg(long)]
    shrink: bool,
    /// Writes all that happened as JSON.
    #[arg(long, conflicts_with_all = ["seeds", "twice", "times", "shrink"])]
    trace: Option<PathBuf>,
    /// Writes a page that shows the run, for a browser.
    #[arg(long, conflicts_with_all = ["seeds", "twice", "times", "shrink"])]
    html: Option<PathBuf>,
    /// Runs it with plain gossipsub too, and shows both side by side.
    #[arg(long, conflicts_with_all = ["seeds", "twice", "times", "shrink"])]
    baseline: bool,
    /// What the nodes speak, instead of what the scenario says.
    #[arg(long, hide = true)]
    gossipsub: bool,
    /// Takes the figures of the documents: runs of many scenarios beside gossipsub, all or those whose names begin as this one.
    #[arg(long, conflicts_with_all = ["seeds", "twice", "times", "beside", "shrink", "trace", "html", "baseline", "gossipsub"])]
    figures: bool,
    /// Lists the scenarios.
    #[arg(long)]
    list: bool,
    /// One line of JSON, and nothing else: for the runs of many seeds.
    #[arg(long, hide = true)]
    brief: bool,
}

fn main() -> ExitCode {
    match act(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sim: {error}");
            ExitCode::from(2)
        }
    }
}

/// Told of a run whose kernel refused the filter, as one within another sandbox may.
const UNTRAPPED: &str = "sim: the kernel takes no filter of system calls here: randomness that a crate takes from it directly ends no run, and \
    shows only where two runs of a seed differ";

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn act(options: &Options) -> Outcome<bool> {
    if options.list {
        return list().map(|()| true);
    }
    if options.figures {
        return figures::take(options);
    }
    let name = options.scenario.as_deref().unwrap_or_default();
    let file = find(name)?;
    let mut scenario = Scenario::load(&file)?;
    if let Some(nodes) = options.nodes {
        scenario.nodes = nodes;
        scenario.check()?;
    }
    if options.gossipsub {
        scenario.speaks = Speaks::Gossipsub;
    }
    if options.seeds > 1 || options.times() > 1 || options.shrink {
        return many::many(options, &file);
    }
    let report = match one(&scenario, options)? {
        Ok(report) => report,
        Err(failed) if options.brief => {
            println!("{}", serde_json::to_string(&Brief::of_failed(failed.kind))?);
            return Ok(false);
        }
        Err(failed) => {
            let again = options.again(options.seed);
            return Err(format!("{}; again: {again}", failed.words).into());
        }
    };
    if !report.traps_entropy {
        eprintln!("{UNTRAPPED}");
    }
    if let Some(trace) = &options.trace {
        let file = std::io::BufWriter::new(std::fs::File::create(trace)?);
        serde_json::to_writer(file, &report)?;
    }
    if let Some(page) = &options.html {
        std::fs::write(page, report.html()?)?;
    }
    if options.brief {
        println!("{}", serde_json::to_string(&Brief::of(&report))?);
    } else {
        print!("{}", told(&scenario, &report));
        if !report.holds() {
            println!("again: {}", options.again(options.seed));
        }
    }
    if options.baseline {
        beside(options, &file, &Figures::of(&report))?;
    }
    Ok(report.holds())
}

/// The same with plain gossipsub, in a process of its own, and both side by side.
fn beside(options: &Options, file: &Path, figures: &Figures) -> Outcome<()> {
    let mut arguments = options.arguments(file, options.seed);
    arguments.push("--gossipsub".to_owned());
    let plain = many::child(None, &arguments)?;
    if let Some(other) = &plain.figures {
        print!("\n{}", figures.beside("selkie", other, "gossipsub"));
    }
    if !plain.broken.is_empty() {
        let broken = plain.broken.join(", ");
        println!("what does not hold with gossipsub: {broken}");
    }
    Ok(())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

fn find(name: &str) -> Outcome<PathBuf> {
    let file = PathBuf::from(name);
    if file.extension().is_some() {
        return Ok(file);
    }
    let file = folder().join(name).with_extension("toml");
    if file.exists() {
        Ok(file)
    } else {
        Err(format!("there is no scenario \"{name}\"; `sim --list` names them").into())
    }
}

fn list() -> Outcome<()> {
    for file in selkie_sim::scenario::files(&folder())? {
        let scenario = Scenario::load(&file)?;
        let name = figures::name_of(&file)?;
        let (name, nodes) = (name.display(), scenario.all_nodes());
        println!("{name:<26} {nodes:>4} nodes  {}", scenario.about);
    }
    Ok(())
}

impl Options {
    /// How often each seed runs.
    fn times(&self) -> usize {
        let fewest = if self.twice || self.beside.is_some() {
            2
        } else {
            1
        };
        self.times.map_or(fewest, usize::from).max(fewest)
    }

    /// What repeats a run.
    fn again(&self, seed: u64) -> String {
        let name = Path::new(self.scenario.as_deref().unwrap_or_default());
        format!("./build.sh sim {}", self.arguments(name, seed).join(" "))
    }

    /// What it takes beside that to run it as often, by the same programs.
    fn repeated(&self) -> String {
        let beside = self.beside.as_ref();
        let beside = beside.map(|program| format!(" --beside {}", program.display()));
        format!(" --times {}{}", self.times(), beside.unwrap_or_default())
    }

    fn arguments(&self, scenario: &Path, seed: u64) -> Vec<String> {
        let mut arguments = vec![scenario.display().to_string()];
        arguments.extend(["--seed".to_owned(), seed.to_string()]);
        if let Some(nodes) = self.nodes {
            arguments.extend(["--nodes".to_owned(), nodes.to_string()]);
        }
        arguments
    }
}

/// A run that did not come to its end.
struct Failed {
    /// Where it panicked, or the kind of its failure: the same for a smaller scenario that fails so.
    kind: String,
    words: String,
}

/// A run in this process, with a bar where somebody sees it.
fn one(scenario: &Scenario, options: &Options) -> Outcome<Result<Report, Failed>> {
    let target = if options.brief {
        ProgressDrawTarget::hidden()
    } else {
        ProgressDrawTarget::stderr()
    };
    let length = u64::try_from(scenario.duration.as_millis()).unwrap_or(u64::MAX);
    let bar = ProgressBar::with_draw_target(Some(length), target);
    bar.set_style(ProgressStyle::with_template(
        "{bar:40} {msg} of virtual time, {elapsed} here, {eta} to go",
    )?);
    let (scenario, progress) = (scenario.clone(), Arc::new(AtomicU64::new(0)));
    let (told, seed) = (Arc::clone(&progress), options.seed);
    let running = std::thread::spawn(move || {
        simulate(seed, move |simulation| run(&scenario, simulation, &told)).map_err(|failure| {
            Failed {
                kind: failure.kind().to_owned(),
                words: failure.to_string(),
            }
        })
    });
    while !running.is_finished() {
        let milliseconds = progress.load(Ordering::Relaxed);
        bar.set_position(milliseconds);
        bar.set_message(format!(
            "{:.1} s",
            Duration::from_millis(milliseconds).as_secs_f64()
        ));
        std::thread::sleep(Duration::from_millis(50));
    }
    bar.finish_and_clear();
    let outcome = running.join().unwrap_or_else(|_| {
        let kind = format!("panic at {}", panicked_at().unwrap_or("an unknown place"));
        // Whoever panicked has said why.
        let words = format!("the run ended in a {kind}");
        Err(Failed { kind, words })
    });
    Ok(outcome)
}

/// A verdict and a table.
fn told(scenario: &Scenario, report: &Report) -> String {
    let mut text = String::new();
    let mut say = |line: String| {
        let _ = writeln!(text, "{line}");
    };
    let seconds = report.duration.as_secs_f64();
    let cpu = report.cost.cpu.as_secs_f64();
    say(scenario.about.clone());
    say(format!(
        "seed {}, {} nodes, {seconds:.0} virtual s in {cpu:.1} s of CPU ({:.2} a second), {} MiB, {} polls",
        report.seed,
        report.nodes.len(),
        seconds / cpu.max(0.001),
        report.cost.memory >> 20,
        report.cost.polls,
    ));
    for (kind, found) in &report.kinds {
        let at = |took: Option<Duration>| {
            took.map_or("never".to_owned(), |took| {
                format!("{:.0} ms", took.as_secs_f64() * 1e3)
            })
        };
        say(format!(
            "{:<12} {} of {} taken, {} deliveries due: p50 {}, p90 {}, p99 {}, the last {}; up to {} hops",
            format!("{}s", kind.name()),
            found.taken,
            found.items,
            found.due,
            at(found.p50),
            at(found.p90),
            at(found.p99),
            at(found.last),
            found.hops,
        ));
    }
    say(bytes(&report.bytes));
    if let Some(first) = report.not_taken.first() {
        say(format!(
            "{} not taken, first: {first}",
            report.not_taken.len()
        ));
    }
    for verdict in &report.verdicts {
        let mark = if verdict.holds { "holds " } else { "BROKEN" };
        say(format!(
            "  {mark}  {:<24} {:<28} {}",
            verdict.what, verdict.wanted, verdict.found
        ));
    }
    say(format!("hash {}", report.hash));
    text
}

/// What went over the lines, by what it was.
fn bytes(bytes: &Bytes) -> String {
    #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
    let mega = |count: u64| format!("{:.2} MB", count as f64 / 1e6);
    let mut classes: Vec<String> = bytes
        .items
        .iter()
        .map(|(kind, count)| format!("{}s {}", kind.name(), mega(*count)))
        .collect();
    for (name, count) in [
        ("other messages", bytes.rest),
        ("Noise and Yamux", bytes.framing),
        ("packets' headers", bytes.headers),
        ("sent again", bytes.again),
    ] {
        classes.push(format!("{name} {}", mega(count)));
    }
    format!("{} on all lines: {}", mega(bytes.lines), classes.join(", "))
}
