//! Blocks of a file that another process gets.

use std::fs;

use serde_json::Value;

use crate::{
    BLOCK, BLOCK_ID, CHAIN,
    command::{
        Running, a_joining_peer, a_key, a_plain_peer, an_idle_peer, command, selkie, signal,
        stderr, stdout,
    },
};

#[test]
fn a_replayed_block_arrives_in_another_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = a_key(folder.path());
    let node = Running::start(&["run", "--json", "--chain", "bitcoin", "--key", &key]);
    let start = node.object(|line| line["type"] == "start");
    let address = node.address("/tcp/");
    assert!(
        address.ends_with(start["peerId"].as_str().expect("a peer")),
        "{address}"
    );
    let second = selkie(&["run", "--key", &key]);
    assert!(
        stderr(&second).contains("another node runs with the key"),
        "{}",
        stderr(&second)
    );

    let fast = ["--rate", "0", "--transaction-rate", "0"];
    let replayed = selkie(&[&["replay", BLOCK, "--json", "--to", &address][..], &fast].concat());
    assert_eq!(replayed.status.code(), Some(0), "{}", stderr(&replayed));
    let end: Value =
        serde_json::from_str(stdout(&replayed).lines().last().expect("a line")).expect("JSON");
    assert_eq!(
        (&end["blocks"], &end["transactions"]),
        (&1.into(), &1556.into())
    );
    assert_eq!((&end["refused"], &end["delayed"]), (&0.into(), &0.into()));
    let block = node.object(|line| line["kind"] == "block");
    assert_eq!(
        (&block["id"], &block["bytes"]),
        (&BLOCK_ID.into(), &999_887.into())
    );
    let (code, rest) = node.end();
    assert_eq!(code, Some(0));
    assert!(
        rest.last().is_some_and(|line| line.contains("stopped")),
        "{rest:?}"
    );
}

#[test]
fn a_replay_of_which_not_all_was_read_says_so_and_fails() {
    let folder = tempfile::tempdir().expect("a folder");
    let chain = fs::read(CHAIN).expect("testdata is in the repository");
    let path = folder.path().join("blk00000.dat");
    // The blocks 168 to 170; the last one brings the file's first payment, which readers acknowledge.
    fs::write(&path, &chain[37_586..38_530]).expect("written");
    let path = path.to_str().expect("a path");
    let key = a_key(folder.path());
    let node = Running::start(&["run", "--json", "--chain", "bitcoin", "--key", &key]);
    let to = node.address("/tcp/");
    let idle = an_idle_peer();
    let words = [
        "replay", path, "--json", "--rate", "0.5", "--to", &to, "--to", &idle,
    ];
    let (mut replay, errors) = Running::with_errors(&mut command(&words));
    node.object(|line| line["kind"] == "block");
    signal("STOP", node.child.id());
    for _ in 0..3 {
        replay.object(|line| line["type"] == "block:sent");
    }
    let id = to.rsplit('/').next().expect("an id");
    errors.next(|line| line.starts_with(&format!("waiting for {id}")));
    drop(node);
    let end = replay.object(|line| line["type"] == "end");
    assert_eq!(end["all_read"], false);
    let why = errors.next(|line| line.contains("nobody says"));
    assert!(
        why.contains(
            "1 peer left before, 1 peer had not joined the topics of all of it before it went"
        ) && why.contains(&format!("{id} is gone: ")),
        "{why}"
    );
    assert_eq!(replay.child.wait().expect("it ends").code(), Some(1));
}

#[test]
fn who_acknowledges_nothing_was_handed_all_of_it_and_has_not_read_it() {
    let topics = ["block", "transaction"].map(|kind| format!("/selkie/selkie-dev/{kind}/1"));
    let plain = a_plain_peer(&topics.each_ref().map(String::as_str));
    let folder = tempfile::tempdir().expect("a folder");
    let chain = fs::read(CHAIN).expect("testdata is in the repository");
    let path = folder.path().join("blk00000.dat");
    fs::write(&path, &chain[37_586..38_530]).expect("written");
    let path = path.to_str().expect("a path");
    let words = ["replay", path, "--json", "--rate", "0", "--to", &plain];
    let replayed = selkie(&words);
    assert_eq!(replayed.status.code(), Some(0), "{}", stderr(&replayed));
    let end = stdout(&replayed);
    let end: Value = serde_json::from_str(end.lines().last().expect("a line")).expect("JSON");
    assert_eq!(
        (&end["all_read"], &end["all_handed"]),
        (&false.into(), &true.into())
    );
    assert_eq!(end["blocks"], 3);
}

#[test]
fn who_joins_after_the_first_item_was_not_handed_all_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let chain = fs::read(CHAIN).expect("testdata is in the repository");
    let path = folder.path().join("blk00000.dat");
    fs::write(&path, &chain[37_586..38_530]).expect("written");
    let path = path.to_str().expect("a path");
    let topics = ["block", "transaction"].map(|kind| format!("/selkie/selkie-dev/{kind}/1"));
    let key = a_key(folder.path());
    let node = Running::start(&["run", "--json", "--chain", "bitcoin", "--key", &key]);
    let (to, (late, joins)) = (node.address("/tcp/"), a_joining_peer(&[]));
    let words = [
        "replay", path, "--json", "--rate", "0.5", "--to", &to, "--to", &late,
    ];
    let (mut replay, errors) = Running::with_errors(&mut command(&words));
    replay.object(|line| line["type"] == "block:sent");
    for topic in topics {
        joins.unbounded_send(topic).expect("it runs");
    }
    // What is left goes to the late one alone.
    drop(node);
    let end = replay.object(|line| line["type"] == "end");
    assert_eq!(
        (&end["all_read"], &end["all_handed"], &end["blocks"]),
        (&false.into(), &false.into(), &3.into())
    );
    let why = errors.next(|line| line.contains("nobody says"));
    let late = "1 peer had not joined the topics of all of it before it went";
    assert!(why.contains(late), "{why}");
    assert_eq!(replay.child.wait().expect("it ends").code(), Some(1));
}

#[test]
fn a_feed_that_its_peer_lets_go_says_why_and_how_far_it_came() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = a_key(folder.path());
    let node = Running::start(&["run", "--json", "--chain", "bitcoin", "--key", &key]);
    let address = node.address("/tcp/");
    // By their format the chain is another, and neither side names a genesis.
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/block-17034870.rlp");
    let replayed = selkie(&["replay", file, "--json", "--to", &address]);
    assert_eq!(replayed.status.code(), Some(1));
    let id = address.rsplit('/').next().expect("an id");
    let why = stderr(&replayed);
    let last = why.lines().last().expect("an error");
    assert!(last.contains(&format!("{id} is gone: ")), "{why}");
    assert!(last.contains("banned"), "{why}");
    let end = stdout(&replayed);
    let end: Value = serde_json::from_str(end.lines().last().expect("a line")).expect("JSON");
    assert_eq!(
        (&end["type"], &end["all_read"]),
        (&"end".into(), &false.into())
    );
    assert!(end["transactions"].as_u64() > Some(0), "{end}");
    assert_eq!(node.end().0, Some(0));
}

#[test]
fn a_peer_of_another_chain_is_refused_and_told_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Running::start(&[
        "run",
        "--json",
        "--genesis",
        "aa",
        "--key",
        &a_key(folder.path()),
    ]);
    let replayed = selkie(&[
        "replay",
        CHAIN,
        "--to",
        &node.address("/tcp/"),
        "--genesis",
        "bb",
    ]);
    assert_eq!(replayed.status.code(), Some(1));
    assert!(
        stderr(&replayed).contains("genesis"),
        "{}",
        stderr(&replayed)
    );
    node.object(|line| line["type"] == "peer:refused");
    assert_eq!(node.end().0, Some(0));
}

#[test]
fn what_is_no_block_file_is_named() {
    let output = selkie(&[
        "replay",
        env!("CARGO_BIN_EXE_selkie"),
        "--to",
        "/ip4/127.0.0.1/tcp/1",
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("holds no blocks"),
        "{}",
        stderr(&output)
    );
    let output = selkie(&["replay", CHAIN, "--to", "/ip4/127.0.0.1/tcp/1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("nobody listens"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn all_whole_blocks_of_a_torn_file_are_replayed() {
    let folder = tempfile::tempdir().expect("a folder");
    let chain = fs::read(CHAIN).expect("testdata is in the repository");
    let second = 8 + 285;
    let torn = [
        &chain[..second],
        &[0; 8],
        &chain[second..second + 50],
        &chain[second..],
    ]
    .concat();
    let path = folder.path().join("blk00000.dat");
    fs::write(&path, torn).expect("written");
    let key = a_key(folder.path());
    let node = Running::start(&["run", "--json", "--chain", "bitcoin", "--key", &key]);
    let path = path.to_str().expect("a path");
    let to = node.address("/tcp/");
    let rates = ["--rate", "0", "--transaction-rate", "0"];
    let replayed = selkie(&[&["replay", path, "--json", "--to", &to][..], &rates].concat());
    assert_eq!(replayed.status.code(), Some(0), "{}", stderr(&replayed));
    let end: Value =
        serde_json::from_str(stdout(&replayed).lines().last().expect("a line")).expect("JSON");
    let told = chain[second..second + 50]
        .iter()
        .filter(|byte| **byte != 0)
        .count();
    assert_eq!(
        (&end["blocks"], &end["skipped"]),
        (&439.into(), &told.into())
    );
    assert_eq!(node.end().0, Some(0));
}
