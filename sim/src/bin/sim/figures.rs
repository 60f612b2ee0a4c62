//! The figures of docs/simulation.md: runs beside plain gossipsub, as rows for `tools/figures`.
//!
//! What a scenario's nodes must keep is the target that its figures stand beside. A row is written as soon as its runs are over, so that
//! who stops early has the rows before.

use std::{
    fs,
    path::{Path, PathBuf},
};

use selkie_sim::{Scenario, scenario::files};
use serde::Serialize;

use crate::{
    Options, Outcome, folder,
    many::{self, Brief},
};

/// In this order: a scenario, or a folder of them, and with how many nodes where not with its own.
const RUNS: [(&str, &[usize]); 9] = [
    ("transactions", &[]),
    ("blocks", &[]),
    ("world", &[]),
    ("attacks", &[]),
    ("figures/rest", &[]),
    ("figures/load", &[20, 100, 300, 1_000]),
    ("figures/peers", &[]),
    ("figures/block", &[]),
    ("figures/spread", &[]),
];

/// One run beside the other.
#[derive(Serialize)]
struct Row {
    name: String,
    about: String,
    /// Honest ones.
    nodes: usize,
    selkie: Brief,
    gossipsub: Brief,
    /// What repeats it.
    command: String,
}

/// All runs, or those of scenarios whose names begin as the one that is asked for; returns whether all came to their ends.
pub(crate) fn take(options: &Options) -> Outcome<bool> {
    let wanted = options.scenario.as_deref().unwrap_or_default();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench/sim.json");
    fs::create_dir_all(file.parent().unwrap_or(&file))?;
    let mut rows: Vec<Row> = Vec::new();
    let mut all_ended = true;
    for (name, nodes) in runs(options)? {
        if !name.starts_with(wanted) {
            continue;
        }
        let row = row(&name, nodes, options)?;
        println!("{}\n{}", row.name, row.told());
        all_ended &= row.selkie.figures.is_some() && row.gossipsub.figures.is_some();
        rows.push(row);
        fs::write(&file, serde_json::to_string_pretty(&rows)?)?;
    }
    if rows.is_empty() {
        return Err(format!("no figures are taken of \"{wanted}\"").into());
    }
    println!(
        "written to {}; `./build.sh figures sim` takes them",
        file.display()
    );
    Ok(all_ended)
}

/// The names of all scenarios, each with the number of nodes where another is wanted than its own.
fn runs(options: &Options) -> Outcome<Vec<(String, Option<usize>)>> {
    let mut runs = Vec::new();
    for (name, nodes) in RUNS {
        let names = match folder().join(name) {
            within if within.is_dir() => files(&within)?
                .iter()
                .map(|file| Ok(name_of(file)?.display().to_string()))
                .collect::<Outcome<Vec<_>>>()?,
            _ => vec![name.to_owned()],
        };
        for name in names {
            match (options.nodes, nodes) {
                (None, [_, ..]) => runs.extend(nodes.iter().map(|all| (name.clone(), Some(*all)))),
                (all, _) => runs.push((name, all)),
            }
        }
    }
    Ok(runs)
}

/// A scenario of the house, as it is called.
pub(crate) fn name_of(file: &Path) -> Outcome<PathBuf> {
    Ok(file.strip_prefix(folder())?.with_extension(""))
}

fn row(name: &str, nodes: Option<usize>, options: &Options) -> Outcome<Row> {
    let scenario = Scenario::load(&folder().join(name).with_extension("toml"))?;
    let mut arguments = vec![
        name.to_owned(),
        "--seed".to_owned(),
        options.seed.to_string(),
    ];
    if let Some(nodes) = nodes {
        arguments.extend(["--nodes".to_owned(), nodes.to_string()]);
    }
    let command = format!("./build.sh sim {} --baseline", arguments.join(" "));
    let selkie = many::child(None, &arguments)?;
    arguments.push("--gossipsub".to_owned());
    let gossipsub = many::child(None, &arguments)?;
    let nodes = nodes.unwrap_or(scenario.nodes);
    Ok(Row {
        name: format!("{name}, {nodes} nodes"),
        about: scenario.about,
        nodes,
        selkie,
        gossipsub,
        command,
    })
}

impl Row {
    fn told(&self) -> String {
        let both = self
            .selkie
            .figures
            .as_ref()
            .zip(self.gossipsub.figures.as_ref());
        let beside =
            both.map(|(selkie, gossipsub)| selkie.beside("selkie", gossipsub, "gossipsub"));
        let mut text = beside.unwrap_or_default();
        for (name, run) in [("selkie", &self.selkie), ("gossipsub", &self.gossipsub)] {
            if !run.broken.is_empty() {
                let broken = run.broken.join(", ");
                text.push_str(&format!("what does not hold with {name}: {broken}\n"));
            }
        }
        text
    }
}
