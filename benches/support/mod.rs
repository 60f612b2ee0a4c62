//! What all measurements share: medians with their spread, the table and the JSON file; and their smoke form, which runs each for a
//! moment and judges nothing.

use std::{fs, ops::RangeInclusive, path::Path};

use serde_json::{Value, json};

/// Whether this is the smoke form: all of it runs, for a moment, so that what no longer works shows at once. Its figures say nothing.
pub fn smoke() -> bool {
    std::env::var_os("SELKIE_BENCH_SMOKE").is_some()
}

/// How much there is of something in a measurement, and in its smoke form.
pub fn full_or<T>(full: T, in_smoke: T) -> T {
    if smoke() { in_smoke } else { full }
}

/// The median of some rounds, with the least and the most of them; or what was measured once, which has no spread.
#[derive(Clone, Copy)]
pub struct Measured {
    median: f64,
    spread: Option<[f64; 2]>,
}

impl Measured {
    /// No number where there are no rounds.
    pub fn of(rounds: impl IntoIterator<Item = f64>) -> Self {
        let mut rounds: Vec<_> = rounds.into_iter().collect();
        let median = quantile(&mut rounds, 0.5);
        let spread = match rounds[..] {
            [least, .., most] => Some([least, most]),
            _ => None,
        };
        Self { median, spread }
    }
}

impl From<f64> for Measured {
    fn from(once: f64) -> Self {
        Self {
            median: once,
            spread: None,
        }
    }
}

/// One figure beside its baseline.
pub struct Figure {
    pub name: String,
    pub value: Measured,
    pub unit: &'static str,
    /// Measured in the same run.
    pub baseline: Option<Measured>,
    pub baseline_name: &'static str,
    /// Where the ratio to the baseline has to be; the value itself, where there is no baseline.
    pub target: Option<RangeInclusive<f64>>,
}

impl Figure {
    fn ratio(&self) -> Option<f64> {
        self.baseline
            .map(|baseline| self.value.median / baseline.median)
    }

    fn met(&self) -> Option<bool> {
        let measured = self.ratio().unwrap_or(self.value.median);
        Some(self.target.as_ref()?.contains(&measured))
    }

    /// The target in words.
    fn bound(&self) -> Option<String> {
        let target = self.target.as_ref()?;
        let (least, most) = (*target.start(), *target.end());
        Some(if least > 0.0 && most.is_finite() {
            format!("{least} to {most}")
        } else if least > 0.0 {
            format!("at least {least}")
        } else {
            format!("at most {most}")
        })
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "value": self.value.median,
            "spread": self.value.spread,
            "unit": self.unit,
            "baseline": self.baseline.map(|baseline| baseline.median),
            "baseline_spread": self.baseline.and_then(|baseline| baseline.spread),
            "baseline_name": self.baseline_name,
            "ratio": self.ratio(),
            "target": self.bound(),
            "met": self.met(),
        })
    }
}

/// Prints the table and writes `target/bench/GROUP.json`; in the smoke form it says only that all of it ran.
pub fn report(group: &str, figures: &[Figure]) {
    if smoke() {
        println!("{group}: {} figures, not kept", figures.len());
        return;
    }
    println!(
        "{:<44} {:>10} {:>10} {:>7}",
        group, "selkie", "baseline", "ratio"
    );
    for figure in figures {
        let number =
            |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.3}"));
        let spread = figure.value.spread;
        let spread = spread.map(|[least, most]| format!("(rounds: {least:.3} to {most:.3})"));
        let verdict = match figure.met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        println!(
            "{:<44} {:>10} {:>10} {:>7} {} {} {}",
            format!("{} ({})", figure.name, figure.unit),
            number(Some(figure.value.median)),
            number(figure.baseline.map(|baseline| baseline.median)),
            number(figure.ratio()),
            figure.bound().unwrap_or_default(),
            verdict,
            spread.unwrap_or_default(),
        );
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    fs::create_dir_all(&folder).expect("target/ can be written");
    let json = Value::Array(figures.iter().map(Figure::json).collect());
    let text = serde_json::to_string_pretty(&json).expect("plain values");
    fs::write(folder.join(format!("{group}.json")), text + "\n").expect("target/ can be written");
}

/// The value below which this share of the samples lies; no number where there are none.
pub fn quantile(samples: &mut [f64], share: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    let rank = (samples.len() as f64 * share).ceil() as usize;
    let sample = samples.get(rank.clamp(1, samples.len().max(1)) - 1);
    sample.copied().unwrap_or(f64::NAN)
}

/// CPU time of this process so far, in seconds (Linux: user and system from /proc).
pub fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks: f64 = after
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok())
        .sum();
    // USER_HZ is 100 on every Linux that Rust runs on.
    ticks / 100.0
}
