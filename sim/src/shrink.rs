//! A smaller scenario that fails as a larger one does.
//!
//! Greedy, as delta debugging is (Zeller and Hildebrandt, 2002): halves of the faults and of the publications are left out, then single ones;
//! there are fewer nodes; it ends sooner, and less is published. What still fails is gone on from, until nothing of that does, or the runs
//! are used up. The scenario is changed as the table of its file, so that nothing else in it changes.

use std::{collections::HashSet, time::Duration};

use humantime_serde::re::humantime::{format_duration, parse_duration};
use toml::{Table, Value};

use crate::Scenario;

/// A smaller scenario that still fails, and in how many runs it was found; at most so many.
pub fn shrink(
    scenario: Table,
    most: usize,
    mut fails: impl FnMut(&Table) -> bool,
) -> (Table, usize) {
    let mut best = scenario;
    let mut tried = HashSet::from([best.to_string()]);
    let mut runs = 0;
    loop {
        let before = tried.len();
        for step in STEPS {
            while let Some(smaller) = step(&best).into_iter().find(|smaller| {
                let text = smaller.to_string();
                let is_new = runs < most && Scenario::parse(&text).is_ok() && tried.insert(text);
                runs += usize::from(is_new);
                is_new && fails(smaller)
            }) {
                best = smaller;
            }
        }
        if tried.len() == before {
            return (best, runs);
        }
    }
}

/// Smaller ones than this, the smallest first.
type Step = fn(&Table) -> Vec<Table>;

const STEPS: [Step; 5] = [
    |table| without(table, "fault"),
    |table| without(table, "publish"),
    fewer_nodes,
    sooner,
    less,
];

fn list<'a>(table: &'a Table, name: &str) -> &'a [Value] {
    table
        .get(name)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

fn with(table: &Table, name: &str, value: impl Into<Value>) -> Table {
    let mut changed = table.clone();
    changed.insert(name.to_owned(), value.into());
    changed
}

/// Without either half of a list, and without each of it.
fn without(table: &Table, name: &str) -> Vec<Table> {
    let all = list(table, name);
    let (first, last) = all.split_at(all.len() / 2);
    let halves = [first, last]
        .into_iter()
        .filter(|_| all.len() > 2)
        .map(<[_]>::to_vec);
    let each = (0..all.len()).map(|left_out| {
        let mut rest = all.to_vec();
        rest.remove(left_out);
        rest
    });
    halves
        .chain(each)
        .map(|rest| with(table, name, rest))
        .collect()
}

fn fewer_nodes(table: &Table) -> Vec<Table> {
    let nodes = table.get("nodes").and_then(Value::as_integer).unwrap_or(0);
    let fewer = [nodes / 4, nodes / 2, nodes * 3 / 4, nodes - 1];
    fewer
        .into_iter()
        .filter(|fewer| *fewer < nodes)
        .map(|fewer| with(table, "nodes", fewer))
        .collect()
}

fn duration(table: &Table, name: &str) -> Option<Duration> {
    parse_duration(table.get(name)?.as_str()?).ok()
}

fn text(duration: Duration) -> String {
    format_duration(Duration::from_millis(
        u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
    ))
    .to_string()
}

/// The run ends sooner: what would begin after that is left out, and what is published ends with it.
fn sooner(table: &Table) -> Vec<Table> {
    let Some(whole) = duration(table, "duration") else {
        return Vec::new();
    };
    let shorter = |part: f64| {
        let end = whole.mul_f64(part);
        let begins = |entry: &Value, field| {
            let begin = entry.as_table().and_then(|entry| duration(entry, field));
            begin.is_some_and(|begin| begin < end)
        };
        let mut changed = with(table, "duration", text(end));
        let mut lists: [Vec<Value>; 2] =
            ["publish", "fault"].map(|name| list(table, name).to_vec());
        lists[0].retain(|publish| begins(publish, "start"));
        lists[1].retain(|fault| begins(fault, "at"));
        for publish in lists[0].iter_mut().filter_map(Value::as_table_mut) {
            if duration(publish, "end").is_none_or(|own| own > end) {
                publish.insert("end".to_owned(), text(end).into());
            }
        }
        for (name, list) in ["publish", "fault"].into_iter().zip(lists) {
            if table.contains_key(name) {
                changed.insert(name.to_owned(), list.into());
            }
        }
        changed
    };
    [0.25, 0.5, 0.75, 0.9].map(shorter).into()
}

/// Of each publication the first half, the second, or half as much a second.
fn less(table: &Table) -> Vec<Table> {
    let all = list(table, "publish");
    let mut smaller = Vec::new();
    for (index, publish) in all.iter().enumerate() {
        let Some(publish) = publish.as_table() else {
            continue;
        };
        let mut changed = |field: &str, value: Value| {
            let mut list = all.to_vec();
            list[index] = with(publish, field, value).into();
            smaller.push(with(table, "publish", list));
        };
        if let (Some(start), Some(end)) = (duration(publish, "start"), duration(publish, "end")) {
            let middle = text(start + end.saturating_sub(start) / 2);
            changed("end", middle.clone().into());
            changed("start", middle.into());
        }
        let rate = publish.get("per_second").and_then(Value::as_float);
        if let Some(rate) = rate.filter(|rate| *rate > 0.1) {
            changed("per_second", (rate / 2.0).into());
        }
    }
    smaller
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: &str = r#"
        about = "a test"
        nodes = 40
        duration = "80s"
        topology = { kind = "random-regular", degree = 4 }

        [[publish]]
        kind = "transaction"
        start = "10s"
        end = "70s"
        per_second = 20.0
        bytes = 1024

        [[publish]]
        kind = "vote"
        start = "5s"
        end = "30s"
        per_second = 2.0
        bytes = 200

        [[fault]]
        kind = "crash"
        at = "15s"
        until = "20s"
        nodes = "10%"

        [[fault]]
        kind = "partition"
        at = "30s"
        until = "40s"
        groups = 2

        [[fault]]
        kind = "reset"
        at = "50s"
        nodes = [3]
    "#;

    fn large() -> Table {
        LARGE.parse().expect("a table")
    }

    fn read(table: &Table) -> Scenario {
        Scenario::parse(&table.to_string()).expect("it is right")
    }

    #[test]
    fn what_it_takes_to_fail_is_left_and_nothing_else() {
        use crate::scenario::{Fault, Kind};
        // It fails where a partition happens while votes are published among at least ten.
        let fails = |table: &Table| {
            let scenario = read(table);
            let votes = |publish: &crate::scenario::Publish| publish.kind == Kind::Vote;
            let parted = |fault: &Fault| matches!(fault, Fault::Partition { .. });
            scenario.nodes >= 10
                && scenario.publish.iter().any(votes)
                && scenario.fault.iter().any(parted)
        };
        let (small, runs) = shrink(large(), 1_000, fails);
        let small = read(&small);
        assert_eq!(
            (small.nodes, small.fault.len(), small.publish.len()),
            (10, 1, 1)
        );
        assert!(
            small.duration < Duration::from_secs(40),
            "{:?}",
            small.duration
        );
        assert!(small.publish[0].per_second < 0.2);
        assert!(runs < 100, "{runs}");
    }

    #[test]
    fn it_ends_with_its_runs_and_tries_nothing_twice_and_nothing_wrong() {
        let mut tried = Vec::new();
        let (same, runs) = shrink(large(), 1_000, |table| {
            read(table);
            tried.push(table.to_string());
            false
        });
        assert_eq!((same, runs), (large(), tried.len()));
        let all: HashSet<_> = tried.iter().collect();
        assert_eq!(all.len(), tried.len());
        let (_, runs) = shrink(large(), 7, |_| true);
        assert_eq!(runs, 7);
        let nothing: Table =
            "about = \"\"\nnodes = 2\nduration = \"1s\"\ntopology = { kind = \"line\" }"
                .parse()
                .expect("a table");
        assert_eq!(shrink(nothing.clone(), 0, |_| true), (nothing, 0));
    }
}
