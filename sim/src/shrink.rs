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

const STEPS: [Step; 7] = [
    |table| without(table, "fault"),
    |table| without(table, "publish"),
    |table| without(table, "attacker"),
    fewer_attackers,
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

/// Some numbers below that of a field.
fn fewer(table: &Table, field: &str) -> Vec<i64> {
    let count = table.get(field).and_then(Value::as_integer).unwrap_or(0);
    let fewer = [count / 4, count / 2, count * 3 / 4, count - 1];
    fewer.into_iter().filter(|fewer| *fewer < count).collect()
}

fn fewer_nodes(table: &Table) -> Vec<Table> {
    let fewer = fewer(table, "nodes").into_iter();
    fewer.map(|fewer| with(table, "nodes", fewer)).collect()
}

/// Fewer of each kind that means harm.
fn fewer_attackers(table: &Table) -> Vec<Table> {
    let all = list(table, "attacker");
    let kinds = all.iter().enumerate();
    let kinds = kinds.filter_map(|(index, kind)| Some((index, kind.as_table()?)));
    let smaller = kinds.flat_map(|(index, kind)| {
        fewer(kind, "count").into_iter().map(move |count| {
            let mut list = all.to_vec();
            list[index] = with(kind, "count", count).into();
            with(table, "attacker", list)
        })
    });
    smaller.collect()
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

/// The run ends sooner: what would begin after that is left out, attackers too, and what is published ends with it.
fn sooner(table: &Table) -> Vec<Table> {
    let Some(whole) = duration(table, "duration") else {
        return Vec::new();
    };
    let shorter = |part: f64| {
        let end = whole.mul_f64(part);
        // What says nothing of its beginning begins with the run.
        let begins = |entry: &Value, field| {
            let begin = entry.as_table().and_then(|entry| duration(entry, field));
            begin.is_none_or(|begin| begin < end)
        };
        let mut changed = with(table, "duration", text(end));
        let names = ["publish", "fault", "attacker"];
        let mut lists = names.map(|name| list(table, name).to_vec());
        lists[0].retain(|publish| begins(publish, "start"));
        lists[1].retain(|fault| begins(fault, "at"));
        lists[2].retain(|kind| begins(kind, "start") && begins(kind, "from"));
        for publish in lists[0].iter_mut().filter_map(Value::as_table_mut) {
            if duration(publish, "end").is_none_or(|own| own > end) {
                publish.insert("end".to_owned(), text(end).into());
            }
        }
        for (name, list) in names.into_iter().zip(lists) {
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
    fn attackers_are_left_out_and_fewer_too() {
        use crate::scenario::Attack;
        let attackers = r#"
            [[attacker]]
            count = 20
            does = { kind = "withhold" }

            [[attacker]]
            count = 12
            does = { kind = "announce" }
            from = "60s"

            [[attacker]]
            count = 6
            does = { kind = "censor", whom = [0] }
            start = "2s"
        "#;
        let table: Table = format!("{LARGE}{attackers}").parse().expect("a table");
        // It fails where at least three censor.
        let fails = |table: &Table| {
            let attackers = read(table).attacker;
            let censor = attackers
                .iter()
                .filter(|kind| matches!(kind.does, Attack::Censor { .. }));
            censor.map(|kind| kind.count).sum::<usize>() >= 3
        };
        let (small, _) = shrink(table, 1_000, fails);
        let small = read(&small);
        let counts: Vec<_> = small.attacker.iter().map(|kind| kind.count).collect();
        assert_eq!((counts, small.nodes), (vec![3], 5));
        assert!(
            small.duration < Duration::from_secs(4),
            "{:?}",
            small.duration
        );
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
