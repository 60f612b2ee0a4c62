//! Runs of many seeds, a process each, as many at once as there are cores.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, mpsc},
    thread,
};

use selkie_sim::{figures::Figures, report::Report, shrink::shrink, verdict::Verdict};
use toml::Table;

use crate::{Options, Outcome};

/// The most runs for a smaller scenario.
const SHRINKING: usize = 60;

/// What a run in a process of its own says.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Brief {
    /// None where it did not come to its end.
    hash: Option<String>,
    /// What did not hold, or where or how it failed.
    pub(crate) broken: Vec<String>,
    pub(crate) figures: Option<Figures>,
    /// What must hold, and what does.
    pub(crate) verdicts: Vec<Verdict>,
}

impl Brief {
    pub(crate) fn of(report: &Report) -> Self {
        let broken = report.verdicts.iter().filter(|verdict| !verdict.holds);
        Self {
            hash: Some(report.hash.clone()),
            broken: broken.map(|verdict| verdict.what.clone()).collect(),
            figures: Some(Figures::of(report)),
            verdicts: report.verdicts.clone(),
        }
    }

    pub(crate) fn of_failed(how: String) -> Self {
        Self {
            hash: None,
            broken: vec![how],
            figures: None,
            verdicts: Vec::new(),
        }
    }

    /// Whether both are runs of one kind, as far as that can be told. What was measured (memory) may differ.
    fn is_like(&self, other: &Self) -> bool {
        self.hash == other.hash && (self.hash.is_some() || self.broken == other.broken)
    }
}

/// All seeds that are asked for.
fn seeds(options: &Options) -> Outcome<Vec<u64>> {
    let last = options.seed.checked_add(options.seeds - 1);
    let last = last.ok_or_else(|| {
        format!(
            "there are no {} seeds from {} on: the last is {}",
            options.seeds,
            options.seed,
            u64::MAX
        )
    })?;
    Ok((options.seed..=last).collect())
}

/// Runs them, and says what came of each, in order. Returns whether all hold, and are the same each time.
pub(crate) fn many(options: &Options, file: &Path) -> Outcome<bool> {
    let seeds = seeds(options)?;
    let mut failed = Vec::new();
    let mut differ = Vec::new();
    each(options, file, &seeds, |seed, runs| {
        println!("seed {seed}: {}", told(runs));
        let first = &runs[0];
        if runs.iter().any(|run| !run.is_like(first)) {
            differ.push(seed);
        }
        if let Some(run) = runs.iter().find(|run| !run.broken.is_empty()) {
            failed.push((seed, run.broken.clone()));
        }
    })?;
    for (seed, _) in &failed {
        println!("again: {}", options.again(*seed));
    }
    for seed in &differ {
        println!("again: {}{}", options.again(*seed), options.repeated());
    }
    let different = if differ.is_empty() {
        String::new()
    } else {
        format!("; not the same each time: {differ:?}")
    };
    let hold = seeds.len() - failed.len();
    println!("{hold} of {} seeds hold{different}", seeds.len());
    if let (true, Some((seed, broken))) = (options.shrink, failed.first()) {
        smaller(options, file, *seed, broken)?;
    }
    Ok(failed.is_empty() && differ.is_empty())
}

/// A seed's runs, in words.
fn told(runs: &[Brief]) -> String {
    let (first, times) = (&runs[0], runs.len());
    let hash = first.hash.as_deref().map(short);
    let mut line = format!("{}, hash {}", said(first), hash.unwrap_or("none"));
    let others = runs.iter().filter(|run| !run.is_like(first)).count();
    line.push_str(&match times {
        _ if others > 0 => format!(", ANOTHER in {others} of {times} runs"),
        // Without hashes nobody can say that they were the same.
        _ if hash.is_none() => String::new(),
        1 => String::new(),
        2 => ", the same twice".to_owned(),
        _ => format!(", the same {times} times"),
    });
    line
}

fn said(run: &Brief) -> String {
    if run.broken.is_empty() {
        "holds".to_owned()
    } else {
        format!("BROKEN: {}", run.broken.join(", "))
    }
}

fn short(hash: &str) -> &str {
    hash.get(..16).unwrap_or(hash)
}

/// All runs, in as many processes at once as may be; each seed's are told once all before are.
fn each(
    options: &Options,
    file: &Path,
    seeds: &[u64],
    mut tell: impl FnMut(u64, &[Brief]),
) -> Outcome<()> {
    let times = options.times();
    let waiting = seeds
        .iter()
        .flat_map(|seed| (0..times).map(move |time| (*seed, time)));
    let waiting = Mutex::new(waiting);
    let (done, runs) = mpsc::channel();
    let jobs = options.jobs.map_or_else(cores, usize::from);
    thread::scope(|scope| {
        for _ in 0..jobs.min(seeds.len().saturating_mul(times)) {
            let (waiting, done) = (&waiting, done.clone());
            scope.spawn(move || {
                loop {
                    // Whoever panics holds no lock.
                    let next = waiting.lock().ok().and_then(|mut waiting| waiting.next());
                    let Some((seed, time)) = next else { return };
                    // The other build has the last one.
                    let beside = options.beside.as_deref().filter(|_| time + 1 == times);
                    let run = child(beside, &options.arguments(file, seed));
                    // Nobody waits any more where one could not be started.
                    let run = run.map_err(|error| error.to_string());
                    if done.send((seed, time, run)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        let mut of_seed: BTreeMap<u64, BTreeMap<usize, Brief>> = BTreeMap::new();
        let mut untold = seeds.iter().copied();
        let mut next = untold.next();
        for (seed, time, run) in runs {
            of_seed.entry(seed).or_default().insert(time, run?);
            while let Some(seed) = next
                && of_seed.get(&seed).is_some_and(|runs| runs.len() == times)
            {
                let runs: Vec<Brief> = of_seed
                    .remove(&seed)
                    .unwrap_or_default()
                    .into_values()
                    .collect();
                tell(seed, &runs);
                next = untold.next();
            }
        }
        Ok(())
    })
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// A run in a process of its own: of this program, or of another build of it.
pub(crate) fn child(program: Option<&Path>, arguments: &[String]) -> Outcome<Brief> {
    let this = std::env::current_exe()?;
    let program = program.unwrap_or(&this);
    let mut command = Command::new(program);
    command.args(arguments).arg("--brief");
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let ended = || Brief::of_failed(format!("it ended with {}", output.status));
    Ok(serde_json::from_str(&text).unwrap_or_else(|_| ended()))
}

/// Looks for a smaller scenario that breaks one of these too, and writes it to a file.
fn smaller(options: &Options, file: &Path, seed: u64, broken: &[String]) -> Outcome<()> {
    let mut table: Table = fs::read_to_string(file)?.parse()?;
    if let Some(nodes) = options.nodes {
        table.insert("nodes".to_owned(), i64::try_from(nodes)?.into());
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/shrunk");
    fs::create_dir_all(&folder)?;
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    let place = folder.join(format!("{name}-{seed}.toml"));
    let write = |table: &Table, place: &PathBuf| -> Outcome<()> {
        Ok(fs::write(place, toml::to_string_pretty(table)?)?)
    };
    println!("looking for a smaller scenario, in up to {SHRINKING} runs");
    let tried = folder.join(format!("{name}-{seed}-tried.toml"));
    let arguments = [
        tried.display().to_string(),
        "--seed".to_owned(),
        seed.to_string(),
    ];
    let (small, runs) = shrink(table, SHRINKING, |table| {
        let run = write(table, &tried).and_then(|()| child(None, &arguments));
        run.is_ok_and(|run| run.broken.iter().any(|each| broken.contains(each)))
    });
    let _ = fs::remove_file(&tried);
    write(&small, &place)?;
    println!(
        "smaller, after {runs} runs: ./build.sh sim {} --seed {seed}",
        place.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn ended(hash: &str) -> Brief {
        Brief {
            hash: Some(hash.to_owned()),
            broken: Vec::new(),
            figures: None,
            verdicts: Vec::new(),
        }
    }

    fn failed(how: &str) -> Brief {
        Brief::of_failed(how.to_owned())
    }

    #[test]
    fn runs_without_a_hash_are_never_told_to_be_the_same() {
        let [stuck, panic] = ["stuck", "panic at a.rs:3"].map(failed);
        let twice = |one: &Brief, other: &Brief| told(&[one.clone(), other.clone()]);
        let hashed = ended("abc");
        assert_eq!(twice(&hashed, &hashed), "holds, hash abc, the same twice");
        assert_eq!(twice(&stuck, &stuck), "BROKEN: stuck, hash none");
        let another = "ANOTHER in 1 of 2 runs";
        for (one, other) in [(&stuck, &panic), (&hashed, &stuck), (&stuck, &hashed)] {
            let told = twice(one, other);
            assert!(told.ends_with(another), "{told}");
        }
        let told = told(&[hashed.clone(), hashed, ended("abd")]);
        assert_eq!(told, "holds, hash abc, ANOTHER in 1 of 3 runs");
    }

    #[test]
    fn what_differs_is_run_again_as_often_and_by_the_same_programs() {
        let options = |arguments: &[&str]| {
            let all = ["sim", "small"].iter().chain(arguments);
            Options::try_parse_from(all).expect("they are right")
        };
        assert_eq!(options(&["--twice"]).repeated(), " --times 2");
        let beside = options(&["--times", "9", "--beside", "a/sim"]).repeated();
        assert_eq!(beside, " --times 9 --beside a/sim");
    }
}
