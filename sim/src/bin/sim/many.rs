//! Runs of many seeds, a process each, as many at once as there are cores.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, mpsc},
    thread,
};

use selkie_sim::{figures::Figures, shrink::shrink};
use toml::Table;

use crate::{Options, Outcome};

/// The most runs for a smaller scenario.
const SHRINKING: usize = 60;

/// What a run in a process of its own says.
#[derive(Clone, serde::Deserialize)]
pub(crate) struct Brief {
    hash: String,
    pub(crate) broken: Vec<String>,
    pub(crate) figures: Option<Figures>,
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
    let times = options.times();
    let mut failed = Vec::new();
    let mut differ = Vec::new();
    each(options, file, &seeds, |seed, runs| {
        let first = &runs[0];
        let mut line = format!("seed {seed}: {}, hash {}", said(first), short(&first.hash));
        let others = runs.iter().filter(|run| run.hash != first.hash).count();
        if others > 0 {
            line.push_str(&format!(", ANOTHER in {others} of {} runs", runs.len()));
            differ.push(seed);
        } else if times == 2 {
            line.push_str(", the same twice");
        } else if times > 2 {
            line.push_str(&format!(", the same {times} times"));
        }
        println!("{line}");
        if !first.broken.is_empty() {
            failed.push((seed, first.broken.clone()));
        }
    })?;
    for (seed, _) in &failed {
        println!("again: {}", options.again(*seed));
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
    Ok(serde_json::from_str(&text).unwrap_or_else(|_| Brief {
        hash: "none".to_owned(),
        broken: vec![format!("it ended with {}", output.status)],
        figures: None,
    }))
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
