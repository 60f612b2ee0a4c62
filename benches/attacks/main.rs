//! What attacks do to a node, measured from outside: `./build.sh bench attacks`, and `-- NAMES` for some of them only.
//!
//! The smoke form does the first of each family without verdicts: `tests/attacks/` does all. `-- --seconds 8` attacks for less
//! than 20 s. Each row has a victim in a process of its own, two honest nodes that talk through it,
//! and an attacker with one thread. The laboratory is that of `tests/attacks/`, where the attacks are.

#[path = "../../tests/attacks/lab/mod.rs"]
mod lab;
mod verdict;

use std::{fs, path::Path, time::Duration};

use lab::{
    Attack, FAMILIES, all, child,
    measure::{Row, Times, measure},
};

/// As in the `selkie` command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// For figures.
const FULL: Times = Times {
    settling: Duration::from_secs(2),
    rest: Duration::from_secs(5),
    attack: Duration::from_secs(20),
    after: Duration::from_secs(5),
    newcomers: 20,
};

fn main() {
    child::play();
    let words: Vec<_> = std::env::args().skip(1).collect();
    let smoke = std::env::var_os("SELKIE_BENCH_SMOKE").is_some();
    let named = |attack: &&Attack| words.iter().any(|word| word == attack.name);
    let attacks: Vec<_> = if all().any(|attack| named(&attack)) {
        all().filter(named).collect()
    } else if smoke {
        FAMILIES
            .iter()
            .filter_map(|family| family.first())
            .collect()
    } else {
        all().collect()
    };
    let seconds = words.iter().skip_while(|word| *word != "--seconds").nth(1);
    let seconds = seconds.map(|text| text.parse().expect("a number of seconds"));
    let times = match seconds.map(Duration::from_secs) {
        Some(attack) => Times {
            rest: FULL.rest.min(attack / 2),
            attack,
            after: FULL.after.min(attack / 2),
            ..FULL
        },
        None if smoke => Times::SMOKE,
        None => FULL,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    println!(
        "{:<34} {:>19} {:>5} {:>15} {:>5}  verdict; the attacker",
        "attack", "MiB rest/most/after", "CPU", "p99 ms rest/now", "lost"
    );
    let mut rows = Vec::new();
    for attack in attacks {
        let row = runtime
            .block_on(measure(attack, times))
            .expect("the victim comes up");
        print(&row);
        rows.push(row);
    }
    if smoke {
        return println!("all of it ran");
    }
    save(&rows);
    let broken = rows
        .iter()
        .filter(|row| !verdict::broken(row).is_empty())
        .count();
    println!("{broken} of {} attacks broke a limit", rows.len());
}

fn print(row: &Row) {
    let broken = verdict::broken(row);
    let verdict = if broken.is_empty() {
        "held".to_owned()
    } else {
        format!("BROKE: {}", broken.join(", "))
    };
    let [rest, most, after] = row.memory;
    let [calm, now] = row.p99;
    println!(
        "{:<34} {rest:>5.0} {most:>6.0} {after:>6.0} {:>5.2} {calm:>6.1} {now:>8.1} {:>5}  {verdict}; {}",
        row.attack.name,
        row.cpu[0],
        row.votes.1 + row.transactions.1,
        verdict::fate(&row.account),
    );
}

fn save(rows: &[Row]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    fs::create_dir_all(&folder).expect("target/ can be written");
    let json: Vec<_> = rows.iter().map(verdict::json).collect();
    let text = serde_json::to_string_pretty(&json).expect("plain values");
    fs::write(folder.join("attacks.json"), text + "\n").expect("target/ can be written");
}
