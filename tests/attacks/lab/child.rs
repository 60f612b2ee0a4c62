//! Processes of one measurement: this program again, told by a variable of the environment which part it plays.
//!
//! A child reads a word a line and answers some with a line of JSON behind [`MARK`]; it ends with its input.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead, BufReader, Write},
    process::{self, ChildStdout, Command, Stdio},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{attacker, victim};

const VARIABLE: &str = "SELKIE_ATTACKS_PART";
/// Tells answers from what a test's frame prints.
const MARK: &str = "@";
/// How much below others an attacker's process stands: it has a core as long as nobody else wants it, as if it were another
/// machine's.
const NICE: &str = "10";

/// What a child is to be.
#[derive(Serialize, Deserialize)]
pub enum Part {
    Victim {
        attack: String,
    },
    Attacker {
        attack: String,
        order: attacker::Order,
    },
}

/// In a child: plays its part and does not return. In the parent: nothing.
pub fn play() {
    let Ok(part) = std::env::var(VARIABLE) else {
        return;
    };
    match serde_json::from_str(&part).expect("the parent wrote it") {
        Part::Victim { attack } => victim::play(&attack),
        Part::Attacker { attack, order } => attacker::play(&attack, order),
    }
    process::exit(0);
}

/// In a child: an answer.
pub fn say(answer: &impl Serialize) {
    let text = serde_json::to_string(answer).expect("plain values");
    println!("{MARK}{text}");
    let _ = io::stdout().flush();
}

/// In a child: the words that the parent says, until it says no more.
pub fn words() -> impl Iterator<Item = String> {
    io::stdin().lines().map_while(Result::ok)
}

/// A child as its parent sees it.
pub struct Child {
    process: process::Child,
    lines: io::Lines<BufReader<ChildStdout>>,
}

impl Child {
    pub fn start(part: &Part) -> Self {
        let program = std::env::current_exe().expect("it runs");
        let mut command = match part {
            Part::Victim { .. } => Command::new(program),
            Part::Attacker { .. } => {
                let mut nice = Command::new("nice");
                nice.args(["-n", NICE]).arg(program);
                nice
            }
        };
        let part = serde_json::to_string(part).expect("plain values");
        // The arguments are for a test's frame; a bench looks at the variable first.
        let mut process = command
            .args(["child", "--exact", "--ignored", "--nocapture"])
            .env(VARIABLE, part)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child");
        let stdout = process.stdout.take().expect("piped");
        let lines = BufReader::new(stdout).lines();
        Self { process, lines }
    }

    pub fn tell(&mut self, word: &str) -> io::Result<()> {
        let mut stdin = self.process.stdin.as_ref().expect("piped");
        writeln!(stdin, "{word}")
    }

    /// What it says next; an error where it has ended.
    pub fn answer<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        for line in self.lines.by_ref() {
            if let Some(text) = line?.strip_prefix(MARK) {
                return serde_json::from_str(text).map_err(io::Error::other);
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    pub fn ask<T: DeserializeOwned>(&mut self, word: &str) -> io::Result<T> {
        self.tell(word)?;
        self.answer()
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Whether it has ended, and not because it was told to.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.process.try_wait(), Ok(None))
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Memory that a process has, in MiB (Linux: resident set).
pub fn memory(process: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let fields: BTreeMap<_, _> = status
        .lines()
        .filter_map(|line| line.split_once(':'))
        .collect();
    let kibibytes = fields
        .get("VmRSS")
        .and_then(|rest| rest.split_whitespace().next());
    kibibytes
        .and_then(|text| text.parse::<f64>().ok())
        .unwrap_or(0.0)
        / 1024.0
}

/// CPU time of a process so far, in seconds (Linux: user and system).
pub fn cpu_seconds(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after.split_whitespace().skip(11).take(2);
    let ticks: f64 = ticks.filter_map(|field| field.parse::<f64>().ok()).sum();
    // USER_HZ is 100 on every Linux that Rust runs on.
    ticks / 100.0
}

/// How many threads of this host want a core (Linux: over the last minute).
pub fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split(' ').next().unwrap_or_default();
    first.parse().unwrap_or(0.0)
}
