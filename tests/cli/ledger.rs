//! The built-in account chain, run by the command.

use std::collections::BTreeSet;

use selkie::{
    chain::ledger::{Address, Genesis, SCHEMA, Transfer, development_key},
    storage::{Batch, RedbStore, Schema, Step},
};

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
    assert!(refused.contains("is open in another process"), "{refused}");
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
fn an_account_is_watched_while_it_changes() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (key, other) = (a_key(folder.path()), file("other.key"));
    let ledger = ["run", "--json", "--chain", "ledger"];
    let maker = [&ledger[..], &["--propose", "100", "--key", &key]].concat();
    let maker = Running::start(&maker);
    let address = maker.address("/tcp/");
    // Who follows proves it as well.
    let words = [&ledger[..], &["--key", &other, "--bootstrap", &address]].concat();
    let follower = Running::start(&words);
    follower.object(|line| line["kind"] == "vote");
    let payer = development_key("selkie-dev", "account 0");
    let [from, to] = [Address::of(&payer), Address::new([7; 32])];
    let [shown_from, shown_to] = [from, to].map(|address| address.to_string());
    let watching = [&key, &other].map(|key| {
        let words = ["state", "watch", &shown_from, &shown_to, "--json"];
        let watch = Running::start(&[&words[..], &["--key", key]].concat());
        // Who has just met the maker may have verified no state yet.
        let first = watch.object(|line| line["height"].is_u64());
        let accounts = first["accounts"].as_array().expect("a list");
        let has = |shown: &str| {
            let account = accounts.iter().find(|account| account["key"] == shown);
            account.expect("all at first")["balance"].clone()
        };
        assert_eq!(has(&shown_to), 0);
        assert_eq!(has(&shown_from), 1_000_000_000_000_u64);
        watch
    });
    let genesis = Genesis::development("selkie-dev").hash();
    let transfer = Transfer::new(&genesis, &payer, to, 5, 1, 0).encode();
    let path = file("transfer");
    std::fs::write(&path, transfer).expect("written");
    let submit = ["submit", &path, "--kind", "transaction", "--to", &address];
    let sent = selkie(&[&submit[..], &["--chain", "ledger"]].concat());
    assert_eq!(sent.status.code(), Some(0), "{}", stderr(&sent));
    for watch in watching {
        let change = watch.object(|line| line["type"] == "state");
        let accounts = change["accounts"].as_array().expect("a list");
        let paid = accounts.iter().find(|account| account["key"] == shown_to);
        assert_eq!(paid.expect("it was paid")["balance"], 5, "{change}");
        assert!(change["height"].as_u64() > Some(0) && change["stateRoot"].is_string());
        let (code, lines) = watch.end();
        assert_eq!(code, Some(0));
        assert!(lines.last().is_some_and(|line| line.contains("\"end\"")));
    }
    for node in [maker, follower] {
        assert_eq!(node.end().0, Some(0));
    }
}

#[test]
fn who_keeps_no_ledger_has_no_state_to_watch() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = a_key(folder.path());
    let node = Running::start(&["run", "--json", "--key", &key]);
    node.address("/tcp/");
    let account = "07".repeat(32);
    let watch = selkie(&["state", "watch", &account, "--json", "--key", &key]);
    assert_eq!(watch.status.code(), Some(1));
    let told: serde_json::Value = serde_json::from_slice(&watch.stdout).expect("an object");
    assert_eq!(told["type"], "error");
    assert!(stderr(&watch).contains("state"), "{}", stderr(&watch));
    assert_eq!(node.end().0, Some(0));
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
    // Of three blocks.
    for _ in 0..12 {
        follower.object(|line| line["kind"] == "vote");
    }
    assert_eq!(follower.end().0, Some(0));
    let held = snapshot(&[&["list"], &place[..]].concat());
    let said = stderr(&held);
    assert!(said.contains("is open in another process"), "{said}");
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
    // Those beyond what a node keeps go, unless that is not wanted.
    let newest = made["height"].as_u64().expect("a number");
    let heights = |words: &[&str], deleted: &[u64]| {
        let made = object(&snapshot(&[&["create"], words, &place[..]].concat()));
        assert_eq!(made["deleted"], serde_json::json!(deleted));
        let listed = snapshot(&[&["list"], &place[..]].concat()).stdout;
        let listed = String::from_utf8(listed).expect("text");
        let height = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).expect("an object");
            line["height"].as_u64().expect("a number")
        };
        listed.lines().map(height).collect::<BTreeSet<_>>()
    };
    assert_eq!(heights(&["--height", "1"], &[]), [1, newest].into());
    assert_eq!(heights(&["--height", "2"], &[1]), [2, newest].into());
    let all = heights(&["--height", "1", "--keep-all"], &[]);
    assert_eq!(all, [1, 2, newest].into());
    assert_eq!(heights(&["--keep", "1"], &[2, 1]), [newest].into());
    let config = file("node.toml");
    std::fs::write(&config, "[protocol.sync.snapshots]\nkeep = 3").expect("written");
    let as_the_node = |height| heights(&["--height", height, "--config", &config], &[]);
    assert_eq!(as_the_node("1"), [1, newest].into());
    assert_eq!(as_the_node("2"), [1, 2, newest].into());
    let words = ["create", "--config", "/no/such/file"];
    let unknown = snapshot(&[&words[..], &place[..]].concat());
    let said = stderr(&unknown);
    assert!(said.contains("--keep-all"), "{said}");
    let wrong = snapshot(&[&["create", "--chunk-bytes", "1000"], &place[..]].concat());
    let said = stderr(&wrong);
    assert!(said.contains("chunks of 1000 bytes"), "{said}");
}

#[test]
fn what_is_kept_of_a_network_that_began_anew_is_in_the_way_until_it_is_reset() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (data, other) = (file("ledger"), file("other.key"));
    let key = a_key(folder.path());
    let maker = || {
        let words = ["run", "--json", "--chain", "ledger", "--propose", "20"];
        Running::start(&[&words[..], &["--key", &key]].concat())
    };
    let follows = |address: &str, data: &str, key: &str| {
        let words = ["run", "--json", "--chain", "ledger", "--data", data];
        Running::start(&[&words[..], &["--key", key, "--bootstrap", address]].concat())
    };
    let reset = |data: &str| selkie(&["ledger", "reset", "--json", "--data", data]);
    assert!(stderr(&reset(&data)).contains("there is no ledger at"));
    let first = maker();
    let follower = follows(&first.address("/tcp/"), &data, &other);
    let comes_to = |height| {
        let told = follower.object(|line| line["done"].as_u64() >= Some(height));
        told["done"].as_u64().expect("a number")
    };
    comes_to(5);
    // Enough to make something final, once the blocks are here that they are for.
    for _ in 0..8 {
        follower.object(|line| line["kind"] == "vote");
    }
    comes_to(comes_to(0) + 64);
    let held = reset(&data);
    assert!(stderr(&held).contains("is open in another process"));
    assert_eq!(follower.end().0, Some(0));
    assert_eq!(first.end().0, Some(0));

    let second = maker();
    let address = second.address("/tcp/");
    // Alone it makes no blocks; and before something is final there it would go on with the follower's chain, which is longer.
    let (anew, third) = (file("anew"), file("third.key"));
    let witness = follows(&address, &anew, &third);
    witness.object(|line| line["done"].as_u64() >= Some(5));
    let follower = follows(&address, &data, &other);
    let told = follower.object(|line| line["trouble"].is_string());
    let trouble = told["trouble"].as_str().expect("a text");
    assert!(trouble.contains("selkie ledger reset"), "{trouble}");
    assert_eq!(follower.end().0, Some(0));
    // By a link too.
    let link = file("link");
    std::os::unix::fs::symlink(&data, &link).expect("a link");
    let done = reset(&link);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert!(!std::path::Path::new(&data).exists());
    let follower = follows(&address, &data, &other);
    follower.object(|line| {
        assert!(line["trouble"].is_null(), "{line}");
        line["done"].as_u64() >= Some(5)
    });
    assert_eq!(follower.end().0, Some(0));
    assert_eq!(witness.end().0, Some(0));
    assert_eq!(second.end().0, Some(0));
}

#[test]
fn a_ledger_of_a_newer_version_is_not_reset_under_the_one_who_has_it_open() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("ledger");
    let newer = Schema {
        name: SCHEMA.name,
        steps: &[NEXT],
    };
    let held = RedbStore::open(&data, &newer).expect("a store");
    let reset = || selkie(&["ledger", "reset", "--data", data.to_str().expect("a path")]);
    let refused = reset();
    assert_eq!(refused.status.code(), Some(1));
    let said = stderr(&refused);
    assert!(said.contains("is open in another process"), "{said}");
    assert!(data.exists());
    drop(held);
    assert_eq!(reset().status.code(), Some(0));
    assert!(!data.exists());
}

/// To the next version, in which nothing is otherwise.
const NEXT: Step = |_| Ok(Batch::default());

#[test]
fn a_ledger_of_a_newer_version_is_reset_too_and_nothing_else_is() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, steps, is_one) in [(SCHEMA.name, &[NEXT][..], true), ("letters", &[], false)] {
        let data = folder.path().join(name);
        RedbStore::open(&data, &Schema { name, steps }).expect("a store");
        let shown = data.to_str().expect("a path");
        let done = selkie(&["ledger", "reset", "--data", shown]);
        assert_eq!(done.status.success(), is_one, "{}", stderr(&done));
        assert_eq!(data.exists(), !is_one);
    }
}
