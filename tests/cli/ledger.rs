//! The built-in account chain, run by the command.

use selkie::chain::ledger::{Address, development_key};

use crate::command::{Running, a_key, selkie, stderr};

#[test]
fn blocks_and_votes_of_a_ledger_come_to_who_joins_and_its_file_is_held_by_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (key, data, other) = (a_key(folder.path()), file("ledger"), file("other.key"));
    let ledger = ["run", "--json", "--chain", "ledger"];
    let maker = [
        &ledger[..],
        &["--propose", "100", "--key", &key, "--data", &data],
    ]
    .concat();
    let maker = Running::start(&maker);
    let start = maker.object(|line| line["type"] == "start");
    let genesis = start["network"]["genesis"].as_str().expect("hex");
    assert_eq!(genesis.len(), 64, "peers are told which ledger it is");
    let address = maker.address("/tcp/");
    let second = selkie(&[&ledger[..], &["--key", &other, "--data", &data]].concat());
    let refused = stderr(&second);
    assert!(refused.contains("another process has"), "{refused}");
    let follower =
        Running::start(&[&ledger[..], &["--key", &other, "--bootstrap", &address]].concat());
    for _ in 0..3 {
        let block = follower.object(|line| line["kind"] == "block");
        assert_eq!(block["bytes"], 213, "a header alone");
    }
    follower.object(|line| line["kind"] == "vote");
    assert_eq!(follower.end().0, Some(0));
    assert_eq!(maker.end().0, Some(0));
}

#[test]
fn snapshots_of_a_ledgers_file_are_made_listed_and_looked_at() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (key, data) = (a_key(folder.path()), file("ledger"));
    let place = ["--json", "--data", &data];
    let snapshot = |words: &[&str]| selkie(&[&["snapshot"], words].concat());
    let absent = snapshot(&[&["list"], &place[..]].concat());
    let said = stderr(&absent);
    assert!(said.contains("there is no ledger at"), "{said}");
    let ledger = ["run", "--json", "--chain", "ledger", "--propose", "20"];
    let maker = Running::start(&[&ledger[..], &["--key", &key, "--data", &data]].concat());
    // Votes go to somebody.
    let (address, other) = (maker.address("/tcp/"), file("other.key"));
    let words = [
        "run",
        "--json",
        "--chain",
        "ledger",
        "--key",
        &other,
        "--bootstrap",
        &address,
    ];
    let follower = Running::start(&words);
    for _ in 0..5 {
        follower.object(|line| line["kind"] == "vote");
    }
    assert_eq!(follower.end().0, Some(0));
    let held = snapshot(&[&["list"], &place[..]].concat());
    let said = stderr(&held);
    assert!(said.contains("another process has"), "{said}");
    assert_eq!(maker.end().0, Some(0));
    let object = |output: &std::process::Output| -> serde_json::Value {
        assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
        serde_json::from_slice(&output.stdout).expect("one object")
    };
    let none = snapshot(&[&["inspect"], &place[..]].concat());
    assert!(stderr(&none).contains("there is no such snapshot"));
    let made = object(&snapshot(&[&["create"], &place[..]].concat()));
    assert!(
        made["height"].as_u64() > Some(0) && made["chunks"] == 1,
        "{made}"
    );
    let listed = object(&snapshot(&[&["list"], &place[..]].concat()));
    assert_eq!(listed["id"], made["id"]);
    let height = made["height"].to_string();
    let looked_at = object(&snapshot(&[&["inspect", &height], &place[..]].concat()));
    assert!(looked_at["proofBytes"].as_u64() > Some(213), "{looked_at}");
    let account = Address::of(&development_key("selkie-dev", "account 0")).to_string();
    let words = [&["state", "get", &account, "--proof"], &place[..]].concat();
    let state = object(&selkie(&words));
    assert_eq!(state["balance"], 1_000_000_000_000_u64, "{state}");
    assert!(
        state["proof"]
            .as_str()
            .is_some_and(|proof| !proof.is_empty())
    );
    let wrong = snapshot(&[&["create", "--chunk-bytes", "1000"], &place[..]].concat());
    let said = stderr(&wrong);
    assert!(said.contains("chunks of 1000 bytes"), "{said}");
}
