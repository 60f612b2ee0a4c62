//! How the output for programs ends: with one object that says how, whatever happens.

use std::process::Stdio;

use serde_json::Value;

use crate::{
    CHAIN,
    command::{
        Lines, Running, a_key, an_idle_peer, command, finish, selkie, signal, stderr, stdout,
    },
};

/// Nobody listens there.
const NOBODY: &str = "/ip4/127.0.0.1/tcp/1";

#[test]
fn a_command_that_fails_says_why_in_its_only_object() {
    let folder = tempfile::tempdir().expect("a folder");
    let absent = folder.path().join("absent").display().to_string();
    let file = env!("CARGO_MANIFEST_DIR").to_owned() + "/Cargo.toml";
    let account = "00".repeat(32);
    let rows: [(&[&str], &str); 15] = [
        (&["run", "--config", &absent], "error"),
        (&["devnet", "--replay", &absent], "error"),
        (&["replay", &absent, "--to", NOBODY], "end"),
        (&["replay", CHAIN, "--to", NOBODY], "end"),
        (
            &["submit", &absent, "--kind", "vote", "--to", NOBODY],
            "error",
        ),
        (
            &["submit", &file, "--kind", "vote", "--to", NOBODY],
            "error",
        ),
        (&["status", "--key", &absent], "error"),
        (&["metrics", "--watch", "--key", &absent], "error"),
        (&["peers", "--watch", "--key", &absent], "error"),
        (&["sync", "status", "--watch", "--key", &absent], "error"),
        (&["key", "show", &absent], "error"),
        (&["snapshot", "list", "--data", &absent], "error"),
        (&["ledger", "reset", "--data", &absent], "error"),
        (&["state", "get", &account, "--data", &absent], "error"),
        (&["config", "check", &absent], ""),
    ];
    for (words, kind) in rows {
        let output = selkie(&[words, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        let (told, said) = (stdout(&output), stderr(&output));
        assert_eq!(told.lines().count(), 1, "{words:?}: {told}{said}");
        let told: Value = serde_json::from_str(&told).expect("an object");
        assert_eq!(told["type"].as_str().unwrap_or_default(), kind, "{told}");
        let problem = told["problem"].as_str().expect("a sentence");
        assert!(said.contains(problem), "{words:?}: {problem}; {said}");
    }
}

/// The last of some lines.
fn last(lines: &[String]) -> Value {
    serde_json::from_str(lines.last().expect("a line")).expect("an object")
}

#[test]
fn who_asks_again_and_again_is_told_of_the_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = a_key(folder.path());
    let node = Running::start(&["run", "--json", "--chain", "ledger", "--key", &key]);
    node.address("/tcp/");
    let rest = ["--watch", "--json", "--key", &key];
    for (words, kind) in [
        (&["metrics"][..], "metrics"),
        (&["peers"], "peers"),
        (&["sync", "status"], "sync"),
    ] {
        let watch = Running::start(&[words, &rest[..]].concat());
        watch.object(|line| line["type"] == kind);
        let (code, lines) = watch.end();
        assert_eq!((code, &last(&lines)["type"]), (Some(0), &"end".into()));
    }
    let mut watch = Running::start(&[&["peers"], &rest[..]].concat());
    watch.object(|line| line["type"] == "peers");
    drop(node);
    let told = watch.object(|line| line["type"] != "peers");
    assert_eq!(told["type"], "error");
    let problem = told["problem"].as_str().expect("a sentence");
    assert!(problem.contains("has ended"), "{problem}");
    assert_eq!(watch.child.wait().expect("it ends").code(), Some(1));
}

#[test]
fn a_replay_that_is_interrupted_says_how_far_it_came() {
    let words = [
        "replay",
        CHAIN,
        "--json",
        "--listen",
        "/ip4/127.0.0.1/tcp/0",
    ];
    for (more, code, says) in [
        (&[][..], Some(1), Some("interrupted")),
        (&["--loop"], Some(0), None),
    ] {
        let replay = Running::start(&[&words[..], more].concat());
        replay.object(|line| line["type"] == "listening");
        let (ended, lines) = replay.end();
        let end = last(&lines);
        assert_eq!((ended, &end["type"]), (code, &"end".into()), "{end}");
        assert_eq!(
            (&end["blocks"], &end["all_read"]),
            (&0.into(), &false.into())
        );
        let problem = end["problem"].as_str();
        let right = match says {
            Some(word) => problem.is_some_and(|problem| problem.contains(word)),
            None => problem.is_none(),
        };
        assert!(right, "{end}");
    }
}

#[test]
fn what_is_interrupted_before_it_is_sent_says_so() {
    let file = env!("CARGO_MANIFEST_DIR").to_owned() + "/Cargo.toml";
    let idle = an_idle_peer();
    let words = ["submit", &file, "--kind", "vote", "--json", "--to", &idle];
    let (mut submit, errors): (Running, Lines) = Running::with_errors(&mut command(&words));
    errors.next(|line| line.starts_with("waiting: "));
    signal("INT", submit.child.id());
    let told = submit.object(|_| true);
    assert_eq!(told["type"], "error");
    assert!(
        told["problem"].to_string().contains("interrupted"),
        "{told}"
    );
    assert_eq!(submit.child.wait().expect("it ends").code(), Some(1));
}

#[cfg(target_os = "linux")]
#[test]
fn where_stdout_takes_nothing_stderr_says_all() {
    let full = std::fs::File::create("/dev/full").expect("every Linux has it");
    let mut showing = command(&["key", "show", "/no/such/key", "--json"]);
    let shown = finish(&mut showing, Stdio::from(full));
    assert_eq!(shown.status.code(), Some(1));
    assert!(
        stderr(&shown).contains("/no/such/key"),
        "{}",
        stderr(&shown)
    );
}
