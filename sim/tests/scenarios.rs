//! Runs of scenarios, each in a process of its own.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn sim(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    command.args(arguments).output().expect("it starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A scenario in a file of its own.
fn file(name: &str, content: &str) -> PathBuf {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&file, content).expect("there is room");
    file
}

const SMALL: &str = r#"
    about = "a few nodes in a line"
    nodes = 5
    duration = "20s"
    topology = { kind = "line" }
    network = { latency = "30ms", jitter = "10ms", loss = 0.001 }

    [[publish]]
    kind = "transaction"
    start = "5s"
    end = "10s"
    per_second = 5.0
    bytes = 300

    [[publish]]
    kind = "vote"
    start = "5s"
    end = "10s"
    per_second = 5.0
    bytes = 200

    [[publish]]
    kind = "block"
    from = [0, 4]
    start = "8s"
    end = "12s"
    per_second = 0.5
    bytes = 200000

    [must]
    delivered = 1.0
"#;

#[test]
fn a_seed_gives_one_hash_and_another_seed_another() {
    let file = file("small.toml", SMALL);
    let file = file.to_str().expect("readable");
    let twice = sim(&[file, "--seeds", "2", "--twice"]);
    let said = text(&twice.stdout);
    assert!(twice.status.success(), "{said}{}", text(&twice.stderr));
    assert_eq!(said.matches("the same twice").count(), 2, "{said}");
    let hashes: Vec<_> = said
        .split("hash ")
        .skip(1)
        .map(|rest| &rest[..16])
        .collect();
    assert_ne!(hashes[0], hashes[1], "{said}");
}

#[test]
fn a_run_says_what_held_and_shows_what_happened() {
    let file = file(
        "traced.toml",
        &SMALL.replace("delivered = 1.0", "delivered = 1.0\np99 = \"1ns\""),
    );
    let trace = file.with_extension("json");
    let page = file.with_extension("html");
    let [file, trace, page] = [&file, &trace, &page].map(|file| file.to_str().expect("readable"));
    let run = sim(&[file, "--trace", trace, "--html", page, "--seed", "7"]);
    let said = text(&run.stdout);
    assert_eq!(run.status.code(), Some(1), "{said}{}", text(&run.stderr));
    assert!(
        said.contains("holds   delivered") && said.contains("BROKEN  p99"),
        "{said}"
    );
    assert!(said.contains("--seed 7"), "how to run it again: {said}");
    let trace = std::fs::read_to_string(trace).expect("it is written");
    let trace: serde_json::Value = serde_json::from_str(&trace).expect("JSON");
    let items = trace["items"].as_array().expect("items");
    assert!(
        !items.is_empty()
            && items
                .iter()
                .all(|item| item["came"].as_object().map(serde_json::Map::len) == Some(4))
    );
    assert_eq!(trace["seed"], 7);
    assert!(items.iter().all(|item| item["taken"] == true));
    let bytes = &trace["bytes"];
    let count = |name: &str| bytes[name].as_u64().expect("a count");
    let items = bytes["items"].as_object().expect("kinds");
    assert_eq!(items.len(), 3, "{bytes}");
    let parts = ["headers", "again", "framing", "rest"].map(count);
    let of_items: u64 = items.values().filter_map(serde_json::Value::as_u64).sum();
    assert_eq!(
        parts.iter().sum::<u64>() + of_items,
        count("lines"),
        "{bytes}"
    );
    assert!(parts.iter().all(|part| *part > 0), "{bytes}");
    assert!(
        said.contains("votes ") && said.contains("on all lines"),
        "{said}"
    );
    let page = std::fs::read_to_string(page).expect("it is written");
    assert!(page.contains("a few nodes in a line") && !page.contains("\"DATA\""));
}

#[test]
fn what_is_wrong_is_told_with_field_and_value() {
    let wrong = SMALL.replace("nodes = 5", "nodes = 5\ncolour = \"red\"");
    let wrong = file("wrong.toml", &wrong);
    let run = sim(&[wrong.to_str().expect("readable")]);
    assert_eq!(run.status.code(), Some(2));
    assert!(
        text(&run.stderr).contains("unknown field `colour`"),
        "{}",
        text(&run.stderr)
    );
    let missing = sim(&["no-such-scenario"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains("no-such-scenario"));
}

#[test]
fn seeds_that_are_not_there_are_no_seeds_that_hold() {
    let file = file("no_seeds.toml", SMALL);
    let file = file.to_str().expect("readable");
    let last = u64::MAX.to_string();
    let none = sim(&[file, "--seed", &last, "--seeds", "2"]);
    assert_eq!(none.status.code(), Some(2), "{}", text(&none.stdout));
    assert!(
        text(&none.stderr).contains("no 2 seeds"),
        "{}",
        text(&none.stderr)
    );
    let zero = sim(&[file, "--seeds", "0"]);
    assert_eq!(zero.status.code(), Some(2));
    let one = sim(&[file, "--seed", &last, "--times", "3"]);
    let said = text(&one.stdout);
    assert!(one.status.success(), "{said}{}", text(&one.stderr));
    assert!(
        said.contains("the same 3 times") && said.contains("1 of 1 seeds hold"),
        "{said}"
    );
}

#[test]
fn a_seed_that_fails_is_told_with_a_smaller_scenario_that_fails_too() {
    let hard = SMALL.replace(
        "delivered = 1.0",
        "vote = { p99 = \"1ms\" }\ndelivered = 1.0\nwithin = \"2s\"",
    );
    let file = file("hard.toml", &hard);
    let run = sim(&[file.to_str().expect("readable"), "--seed", "5", "--shrink"]);
    let said = text(&run.stdout);
    assert_eq!(run.status.code(), Some(1), "{said}{}", text(&run.stderr));
    assert!(
        said.contains("BROKEN: vote.p99") && said.contains("--seed 5"),
        "{said}"
    );
    let place = said.split("./build.sh sim ").last().unwrap_or_default();
    let place = place.split_whitespace().next().expect("a file");
    let small = std::fs::read_to_string(place).expect("it is written");
    assert!(
        !small.contains("transaction") && !small.contains("block"),
        "{small}"
    );
    let again = sim(&[place, "--seed", "5"]);
    assert!(
        text(&again.stdout).contains("BROKEN  vote.p99"),
        "{}",
        text(&again.stdout)
    );
}

#[test]
fn plain_gossipsub_is_shown_beside() {
    let file = file("beside.toml", SMALL);
    let run = sim(&[file.to_str().expect("readable"), "--baseline"]);
    let said = text(&run.stdout);
    assert!(run.status.success(), "{said}{}", text(&run.stderr));
    let rows: Vec<_> = said
        .lines()
        .filter(|line| line.contains(": came"))
        .collect();
    assert_eq!(rows.len(), 3, "{said}");
    for row in rows {
        assert_eq!(row.matches("100.00%").count(), 2, "{said}");
    }
    assert!(!said.contains("does not hold"), "{said}");
}

#[test]
fn a_block_of_known_transactions_takes_few_bytes() {
    let scenario = |known: &str| {
        let blocks = r#"
            about = "blocks"
            nodes = 5
            duration = "20s"
            topology = { kind = "random-regular", degree = 4 }
            network = { latency = "30ms" }

            [[publish]]
            kind = "transaction"
            start = "3s"
            end = "8s"
            per_second = 60.0
            bytes = 1000

            [[publish]]
            kind = "block"
            from = [2]
            start = "12s"
            end = "16s"
            per_second = 1.0
            bytes = 100000
            KNOWN

            [must]
            delivered = 1.0
            within = "4s"
        "#;
        blocks.replace("KNOWN", known)
    };
    let mut sent = Vec::new();
    for (name, known) in [("known", "known = 1.0"), ("whole", "")] {
        let file = file(&format!("{name}.toml"), &scenario(known));
        let trace = file.with_extension("json");
        let [file, trace] = [&file, &trace].map(|file| file.to_str().expect("readable"));
        let run = sim(&[file, "--trace", trace]);
        assert!(run.status.success(), "{}", text(&run.stdout));
        let trace = std::fs::read_to_string(trace).expect("it is written");
        let trace: serde_json::Value = serde_json::from_str(&trace).expect("JSON");
        let events = trace["events"].as_array().expect("events");
        let makes = |event: &&serde_json::Value| {
            let what = event["what"].as_str().unwrap_or_default();
            what.contains("makes a block of 10")
        };
        assert_eq!(events.iter().any(|event| makes(&event)), name == "known");
        let nodes = trace["nodes"].as_array().expect("nodes");
        sent.push(
            nodes
                .iter()
                .filter_map(|node| node["sent"]["line"].as_u64())
                .sum::<u64>(),
        );
    }
    assert!(sent[0] + 1_000_000 < sent[1], "{sent:?}");
}

#[test]
fn who_spoils_chunks_is_banned_and_so_is_their_network_and_blocks_come_all_the_same() {
    let trace = Path::new(env!("CARGO_TARGET_TMPDIR")).join("one-network.json");
    let run = sim(&[
        "attacks/one-network",
        "--trace",
        trace.to_str().expect("readable"),
    ]);
    let said = text(&run.stdout);
    assert!(run.status.success(), "{said}{}", text(&run.stderr));
    let trace = std::fs::read_to_string(trace).expect("it is written");
    let trace: serde_json::Value = serde_json::from_str(&trace).expect("JSON");
    let nodes = trace["nodes"].as_array().expect("nodes");
    let banned = |lies: bool| {
        let nodes = nodes.iter().filter(move |node| node["lies"] == lies);
        nodes.filter_map(|node| node["banned_networks"].as_u64())
    };
    assert!(banned(false).sum::<u64>() > 0, "{said}");
    assert_eq!(banned(true).sum::<u64>(), 0, "honest ones are in no crowd");
    let events = trace["events"].as_array().expect("events");
    let mut words = events.iter().filter_map(|event| event["what"].as_str());
    assert!(words.any(|words| words.contains("it is banned: it sent an invalid message")));
}

#[test]
fn two_hosts_may_be_nearer_than_others() {
    let content = SMALL
        .replace("nodes = 5", "nodes = 2")
        .replace("[0, 4]", "[0, 1]")
        .replace("latency = \"30ms\"", "latency = \"2s\"")
        .replace(
            "[must]",
            "[[path]]\nbetween = [1, 0]\nlatency = \"10ms\"\n[must]\nlast = \"1s\"",
        );
    let file = file("near.toml", &content);
    let run = sim(&[file.to_str().expect("readable")]);
    assert!(run.status.success(), "{}", text(&run.stdout));
}

const ATTACKED: &str = r#"
    about = "some of each kind that mean harm, and honest nodes that notice little"
    nodes = 6
    duration = "25s"
    start = "1s"
    topology = { kind = "random-regular", degree = 3 }
    network = { latency = "30ms", jitter = "10ms" }

    [[publish]]
    kind = "transaction"
    start = "6s"
    end = "15s"
    per_second = 4.0
    bytes = 300

    [[attacker]]
    count = 1
    does = { kind = "withhold" }

    [[attacker]]
    count = 1
    does = { kind = "censor", whom = [0, 1] }
    from = "8s"

    [[attacker]]
    count = 1
    does = { kind = "announce" }

    [[attacker]]
    count = 1
    does = { kind = "read-slowly", bytes_per_second = 500.0 }

    [[attacker]]
    count = 1
    does = { kind = "reconnect", every = "700ms" }

    [[attacker]]
    count = 1
    does = { kind = "rename", every = "700ms" }
    start = "5s"

    [must]
    delivered = 1.0
    within = "8s"
    min_honest_score = 0.0
"#;

#[test]
fn honest_nodes_go_on_among_those_that_mean_harm() {
    let file = file("attacked.toml", ATTACKED);
    let file = file.to_str().expect("readable");
    let trace = file.replace(".toml", ".json");
    let run = sim(&[file, "--trace", &trace, "--baseline"]);
    let said = text(&run.stdout);
    assert!(run.status.success(), "{said}{}", text(&run.stderr));
    let trace = std::fs::read_to_string(trace).expect("it is written");
    let trace: serde_json::Value = serde_json::from_str(&trace).expect("JSON");
    let nodes = trace["nodes"].as_array().expect("nodes");
    let harmful = nodes.iter().filter(|node| node["lies"] == true);
    assert_eq!((nodes.len(), harmful.count()), (12, 6));
    let lives = |node: usize| nodes[node]["ran"].as_array().map_or(0, Vec::len);
    assert!(lives(10) > 20 && lives(11) > 20, "they start anew");
    let twice = sim(&[file, "--twice"]);
    assert!(twice.status.success(), "{}", text(&twice.stdout));
}
