#![allow(missing_docs)]
use std::{collections::BTreeMap, sync::Mutex, time::{Duration, Instant}};
static ALL: Mutex<BTreeMap<&'static str, Vec<f64>>> = Mutex::new(BTreeMap::new());
pub fn note(name: &'static str, took: Duration) {
    ALL.lock().unwrap().entry(name).or_default().push(took.as_secs_f64() * 1e3);
}
pub fn timed<T>(name: &'static str, f: impl FnOnce() -> T) -> T {
    let b = Instant::now();
    let r = f();
    note(name, b.elapsed());
    r
}
pub fn start() {
    std::thread::spawn(|| loop {
        std::thread::sleep(Duration::from_secs(3));
        let all = std::mem::take(&mut *ALL.lock().unwrap());
        let mut text = String::from("---\n");
        for (name, mut v) in all {
            v.sort_by(f64::total_cmp);
            let n = v.len();
            let sum: f64 = v.iter().sum();
            text += &format!("{name:<28} n {n:>8} sum {sum:>9.1} p50 {:.4} p99 {:.3} p999 {:.3} max {:.2} ms\n", v[n/2], v[n*99/100], v[n*999/1000], v[n-1]);
        }
        eprint!("{text}");
    });
    std::thread::spawn(|| loop {
        let b = Instant::now();
        std::thread::sleep(Duration::from_millis(5));
        note("late thread", b.elapsed().saturating_sub(Duration::from_millis(5)));
    });
    tokio::spawn(async { loop {
        let b = Instant::now();
        tokio::time::sleep(Duration::from_millis(5)).await;
        note("late task", b.elapsed().saturating_sub(Duration::from_millis(5)));
    }});
}
