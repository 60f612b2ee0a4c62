//! `sim NAME`: runs a scenario of `scenarios/`, or a file, and says whether all holds that must.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use selkie_sim::{Scenario, report::Report, run::run, simulate, verdict::quantile};

/// Runs real Selkie nodes in virtual time: a scenario, from a seed, and what must hold in it.
#[derive(Parser)]
#[command(name = "sim")]
struct Options {
    /// The scenario: a name from sim/scenarios, or a file.
    #[arg(required_unless_present = "list")]
    scenario: Option<String>,
    /// All randomness follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// As many seeds, one after the other, each in a process of its own.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// So many nodes, instead of the scenario's.
    #[arg(long)]
    nodes: Option<usize>,
    /// Runs each seed twice, and compares the hashes.
    #[arg(long)]
    twice: bool,
    /// Writes all that happened as JSON.
    #[arg(long, conflicts_with_all = ["seeds", "twice"])]
    trace: Option<PathBuf>,
    /// Writes a page that shows the run, for a browser.
    #[arg(long, conflicts_with_all = ["seeds", "twice"])]
    html: Option<PathBuf>,
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

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn act(options: &Options) -> Outcome<bool> {
    if options.list {
        return list().map(|()| true);
    }
    let name = options.scenario.as_deref().unwrap_or_default();
    let file = find(name)?;
    let mut scenario = Scenario::load(&file)?;
    if let Some(nodes) = options.nodes {
        scenario.nodes = nodes;
        scenario.check()?;
    }
    if options.seeds > 1 || options.twice {
        return many(options);
    }
    let report = one(&scenario, options)?;
    if let Some(trace) = &options.trace {
        let file = std::io::BufWriter::new(std::fs::File::create(trace)?);
        serde_json::to_writer(file, &report)?;
    }
    if let Some(page) = &options.html {
        std::fs::write(page, report.html()?)?;
    }
    if options.brief {
        let broken = report.verdicts.iter().filter(|verdict| !verdict.holds);
        let broken: Vec<_> = broken.map(|verdict| verdict.what).collect();
        println!(
            "{}",
            serde_json::json!({ "hash": report.hash, "broken": broken })
        );
    } else {
        print!("{}", told(&scenario, &report));
        if !report.holds() {
            println!("again: {}", options.again(options.seed));
        }
    }
    Ok(report.holds())
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
    let files = std::fs::read_dir(folder())?.collect::<Result<Vec<_>, _>>()?;
    let mut files: Vec<_> = files.into_iter().map(|file| file.path()).collect();
    files.sort();
    for file in files {
        let scenario = Scenario::load(&file)?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        println!("{name:<24} {:>4} nodes  {}", scenario.nodes, scenario.about);
    }
    Ok(())
}

impl Options {
    /// What repeats a run.
    fn again(&self, seed: u64) -> String {
        format!("./build.sh sim {}", self.arguments(seed).join(" "))
    }

    fn arguments(&self, seed: u64) -> Vec<String> {
        let mut arguments = vec![self.scenario.clone().unwrap_or_default()];
        arguments.extend(["--seed".to_owned(), seed.to_string()]);
        if let Some(nodes) = self.nodes {
            arguments.extend(["--nodes".to_owned(), nodes.to_string()]);
        }
        arguments
    }
}

/// A run in this process, with a bar where somebody sees it.
fn one(scenario: &Scenario, options: &Options) -> Outcome<Report> {
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
        simulate(seed, move |simulation| run(&scenario, simulation, &told))
            .map_err(|failure| failure.to_string())
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
    // Whoever panicked has said where.
    let outcome = running
        .join()
        .map_err(|_| format!("the run ended in a panic; again: {}", options.again(seed)))?;
    Ok(outcome?)
}

/// Runs of several seeds, and what they say.
fn many(options: &Options) -> Outcome<bool> {
    let mut failed = Vec::new();
    let mut differ = Vec::new();
    for seed in options.seed..options.seed.saturating_add(options.seeds) {
        let first = child(options, seed)?;
        let said = if first.broken.is_empty() {
            "holds".to_owned()
        } else {
            format!("BROKEN: {}", first.broken.join(", "))
        };
        let mut line = format!(
            "seed {seed}: {said}, hash {}",
            first.hash.get(..16).unwrap_or(&first.hash)
        );
        if options.twice {
            let second = child(options, seed)?;
            if second.hash == first.hash {
                line.push_str(", the same twice");
            } else {
                line.push_str(", ANOTHER the second time");
                differ.push(seed);
            }
        }
        println!("{line}");
        if !first.broken.is_empty() {
            failed.push(seed);
        }
    }
    for seed in &failed {
        println!("again: {}", options.again(*seed));
    }
    println!(
        "{} of {} seeds hold{}",
        options.seeds - u64::try_from(failed.len()).unwrap_or(0),
        options.seeds,
        if differ.is_empty() {
            String::new()
        } else {
            format!("; not the same twice: {differ:?}")
        }
    );
    Ok(failed.is_empty() && differ.is_empty())
}

#[derive(serde::Deserialize)]
struct Brief {
    hash: String,
    broken: Vec<String>,
}

/// A run in a process of its own.
fn child(options: &Options, seed: u64) -> Outcome<Brief> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(options.arguments(seed)).arg("--brief");
    let output = command.stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    match serde_json::from_str(&text) {
        Ok(brief) => Ok(brief),
        Err(_) => Ok(Brief {
            hash: "none".to_owned(),
            broken: vec![format!("it ended with {}", output.status)],
        }),
    }
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
    let mut latencies: Vec<Duration> = Vec::new();
    for item in &report.items {
        latencies.extend(
            item.came
                .values()
                .map(|came| came.at.saturating_sub(item.at)),
        );
    }
    latencies.sort_unstable();
    let at = |part| quantile(&latencies, part).unwrap_or_default().as_secs_f64() * 1e3;
    say(format!(
        "{} items, {} deliveries: p50 {:.0} ms, p90 {:.0} ms, p99 {:.0} ms, the last {:.0} ms; {} not taken",
        report.items.len(),
        latencies.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0),
        report.not_taken.len(),
    ));
    if let Some(first) = report.not_taken.first() {
        say(format!("not taken, first: {first}"));
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
