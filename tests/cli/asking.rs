//! Asking a running node: who is connected, whom it knows and keeps out, and what is said where none runs.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    process::Stdio,
    thread,
};

use selkie::PeerId;
use serde_json::{Value, json};

use crate::command::{Running, a_key, command, selkie, stderr, stdout};

/// What a command prints with `--json`.
fn object(arguments: &[&str]) -> Value {
    let output = selkie(&[arguments, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).expect("an object")
}

/// Somebody's.
fn peer_id_of(number: u8) -> String {
    let id = PeerId::from_bytes(&[0, 2, number, number]);
    id.expect("a short id").to_string()
}

/// A node that has started, and its peer id.
fn a_node(key: &str, more: &[&str]) -> (Running, String) {
    let node = Running::start(&[&["run", "--json", "--key", key], more].concat());
    let start = node.object(|line| line["type"] == "start");
    (node, start["peerId"].as_str().expect("an id").to_owned())
}

#[test]
fn a_running_node_tells_who_is_there_and_keeps_out_whom_it_is_told() {
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let [key, other] = folders.each_ref().map(|folder| a_key(folder.path()));
    let (node, peer_id) = a_node(&key, &[]);
    let address = node.address("/tcp/");
    let (guest, guest_id) = a_node(&other, &["--bootstrap", &address]);
    for both in [&node, &guest] {
        both.object(|line| line["type"] == "peer:connect");
    }

    let mode = fs::metadata(format!("{key}.sock"))
        .expect("a socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let status = object(&["status", "--key", &key]);
    assert_eq!(
        (&status["type"], &status["peerId"]),
        (&"status".into(), &peer_id.clone().into())
    );
    assert_eq!(status["peers"]["connected"], 1);
    let shown = stdout(&selkie(&["status", "--key", &key]));
    assert!(
        shown.contains(&peer_id) && shown.contains("1 peer of at most"),
        "{shown}"
    );
    let peers = object(&["peers", "--key", &key]);
    let [peer] = peers["peers"].as_array().expect("a list").as_slice() else {
        panic!("{peers}")
    };
    assert_eq!(
        (&peer["peerId"], &peer["direction"]),
        (&guest_id.clone().into(), &"inbound".into())
    );
    let shown = stdout(&selkie(&["peers", "--key", &key]));
    assert!(
        shown.starts_with("PEER ") && shown.contains(&guest_id),
        "{shown}"
    );
    let metrics = object(&["metrics", "--key", &key]);
    assert_eq!(metrics["type"], "metrics");
    assert_eq!(
        (
            &metrics["connections"]["active"],
            &metrics["peers"]["distribution"]["tcp"]
        ),
        (&1.into(), &1.into())
    );
    assert_eq!(metrics["peers"]["reputation"][&guest_id], 0.0);
    let shown = stdout(&selkie(&["metrics", "--key", &key]));
    assert!(
        shown.contains("1 connection open") && shown.contains("1 peer: tcp 1"),
        "{shown}"
    );
    let book = object(&["book", "--key", &other]);
    let known = book["peers"].as_array().expect("a list");
    assert!(
        known
            .iter()
            .any(|known| known["peerId"] == peer_id && known["tried"] == true),
        "{book}"
    );

    let score = object(&["score", &guest_id, "--key", &key]);
    assert_eq!(
        (&score["score"], &score["banned"]),
        (&0.0.into(), &false.into())
    );
    let asked = |command| object(&[command, &guest_id, "--tag", "friend", "--key", &key]);
    assert_eq!(asked("protect")["tag"], "friend");
    let kept = stdout(&selkie(&["protect", &guest_id, "--key", &key]));
    assert!(kept.contains("keeps its place"), "{kept}");
    assert_eq!(asked("unprotect")["protected"], true);
    let lets = object(&["unprotect", &guest_id, "--key", &key]);
    assert_eq!(
        (&lets["tag"], &lets["protected"]),
        (&"user".into(), &false.into())
    );
    let untagged = selkie(&["protect", &guest_id, "--tag", "", "--key", &key]);
    assert_eq!(untagged.status.code(), Some(1));
    assert!(
        stderr(&untagged).contains("give a tag of 1 to 64 bytes"),
        "{}",
        stderr(&untagged)
    );
    let ban = object(&["ban", &guest_id, "--for", "1h", "--key", &key]);
    assert_eq!(ban["peerId"], guest_id);
    node.object(|line| line["type"] == "peer:disconnect");
    let bans = object(&["bans", "--key", &key]);
    assert_eq!(bans["bans"][0]["peerId"], guest_id);
    assert_eq!(bans["bans"][0]["until"], ban["until"]);
    let shown = stdout(&selkie(&["bans", "--key", &key]));
    assert!(
        shown.contains(&guest_id) && shown.contains("for 59m"),
        "{shown}"
    );
    assert_eq!(
        object(&["unban", &guest_id, "--key", &key])["peerId"],
        guest_id
    );
    let again = selkie(&["unban", &guest_id, "--key", &key]);
    assert_eq!(again.status.code(), Some(1));
    assert!(
        stderr(&again).contains("is not banned for a while"),
        "{}",
        stderr(&again)
    );
    assert_eq!(
        stdout(&selkie(&["bans", "--key", &key])),
        "nobody is banned\n"
    );

    assert_eq!((guest.end().0, node.end().0), (Some(0), Some(0)));
    assert!(!fs::exists(format!("{key}.sock")).expect("it can be looked for"));
}

#[test]
fn a_running_node_tells_how_far_its_chain_is() {
    let folders = [(); 3].map(|()| tempfile::tempdir().expect("a folder"));
    let [key, other, third] = folders.each_ref().map(|folder| a_key(folder.path()));
    let ledger = ["--chain", "ledger"];
    let (maker, _) = a_node(&key, &[&ledger[..], &["--propose", "200"]].concat());
    let address = maker.address("/tcp/");
    let joins = [&ledger[..], &["--bootstrap", &address]].concat();
    let (follower, _) = a_node(&other, &joins);
    follower.object(|line| line["type"] == "sync:done");
    let told = object(&["sync", "status", "--key", &other]);
    assert_eq!(
        (&told["type"], &told["phase"]),
        (&"sync".into(), &"synced".into())
    );
    assert!(told["height"].as_u64() > Some(0), "{told}");
    assert_eq!(
        (&told["peers"], &told["snapshot"]),
        (&1.into(), &Value::Null)
    );
    let status = object(&["status", "--key", &other]);
    assert_eq!(status["sync"]["phase"], "synced");
    let shown = stdout(&selkie(&["sync", "status", "--key", &other]));
    assert!(shown.contains("as far as its peers"), "{shown}");
    let (plain, _) = a_node(&third, &[]);
    let none = selkie(&["sync", "status", "--key", &third]);
    assert_eq!(none.status.code(), Some(1));
    assert!(
        stderr(&none).contains("keeps no chain"),
        "{}",
        stderr(&none)
    );
    for node in [plain, follower, maker] {
        assert_eq!(node.end().0, Some(0));
    }
}

#[test]
fn where_no_node_runs_it_is_said_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = a_key(folder.path());
    for command in ["status", "peers", "bans", "book"] {
        let output = selkie(&[command, "--key", &key]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        let told = stderr(&output);
        assert!(told.contains("selkie run") && told.contains(&key), "{told}");
    }
    for wrong in [
        &["ban"][..],
        &["ban", "nobody"],
        &["ban", &peer_id_of(2), "--for", "soon"],
        &["ban", &peer_id_of(2), "--for", "500ms"],
    ] {
        assert_eq!(selkie(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn what_a_killed_node_left_is_no_node_and_in_nobodys_way() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = a_key(folder.path());
    let (mut node, peer_id) = a_node(&key, &[]);
    node.address("/tcp/");
    let banned = object(&["ban", &peer_id_of(2), "--for", "1h", "--key", &key]);
    assert_eq!(banned["kept"], true);
    let network = object(&["ban", "203.0.113.7/24", "--for", "2h", "--key", &key]);
    assert_eq!(network["network"], "203.0.113.0/24");
    node.child.kill().expect("it runs");
    node.child.wait().expect("it ends");
    let output = selkie(&["peers", "--key", &key]);
    assert!(
        stderr(&output).contains("selkie run"),
        "{}",
        stderr(&output)
    );
    let (node, again) = a_node(&key, &[]);
    node.address("/tcp/");
    assert_eq!(peer_id, again);
    assert_eq!(object(&["status", "--key", &key])["peerId"], peer_id);
    let bans = object(&["bans", "--key", &key]);
    assert_eq!(bans["bans"][0]["peerId"], banned["peerId"]);
    assert_eq!(bans["bans"][1]["network"], network["network"]);
    assert_eq!(bans["bans"][1]["byUser"], true);
    let lifted = object(&["unban", "203.0.113.0/24", "--key", &key]);
    assert_eq!(lifted["network"], network["network"]);
    assert_eq!(node.end().0, Some(0));
}

#[test]
fn a_node_is_asked_where_it_is_told_to_be_and_nowhere_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let (key, socket) = (a_key(folder.path()), folder.path().join("here"));
    let socket = socket.to_str().expect("a path");
    fs::write(socket, "something else").expect("written");
    let refused = selkie(&["run", "--key", &key, "--control", socket]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("no socket"),
        "{}",
        stderr(&refused)
    );
    assert_eq!(fs::read(socket).expect("it is there"), b"something else");
    fs::remove_file(socket).expect("it is ours");

    let (node, peer_id) = a_node(&key, &["--control", socket]);
    node.address("/tcp/");
    assert_eq!(object(&["status", "--control", socket])["peerId"], peer_id);
    let taken = folder.path().join("other.key").display().to_string();
    let taken = selkie(&["run", "--key", &taken, "--control", socket]);
    assert!(
        stderr(&taken).contains("another node"),
        "{}",
        stderr(&taken)
    );
    // An endless question ends that connection alone.
    let mut endless = UnixStream::connect(socket).expect("it is there");
    while endless.write_all(&[b'x'; 1000]).is_ok() {}
    assert_eq!(object(&["status", "--control", socket])["peerId"], peer_id);
    assert_eq!(node.end().0, Some(0));

    let (node, _) = a_node(&key, &["--no-control"]);
    node.address("/tcp/");
    assert!(!fs::exists(format!("{key}.sock")).expect("it can be looked for"));
    assert_eq!(node.end().0, Some(0));
}

#[test]
fn who_watches_is_told_again_until_the_node_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = a_key(folder.path());
    let (node, _) = a_node(&key, &[]);
    node.address("/tcp/");
    let watching = Running::start(&["peers", "--watch", "--json", "--key", &key]);
    for _ in 0..2 {
        watching.object(|line| line["type"] == "peers");
    }
    assert_eq!(watching.end().0, Some(0));
    let mut command = command(&["peers", "--watch", "--json", "--key", &key]);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.expect("it starts");
    let stdout = child.stdout.take().expect("a pipe");
    let mut watching = Running::writing(child, stdout);
    watching.object(|line| line["type"] == "peers");
    assert_eq!(node.end().0, Some(0));
    assert_eq!(watching.child.wait().expect("it ends").code(), Some(1));
    assert!(said(&mut watching).contains("the node has ended"));
}

/// What a command wrote to stderr until it ended.
fn said(running: &mut Running) -> String {
    let pipe = running.child.stderr.take().expect("a pipe");
    std::io::read_to_string(pipe).expect("text")
}

#[test]
fn who_waits_for_a_node_that_does_not_answer_is_interrupted_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("deaf");
    let deaf = UnixListener::bind(&socket).expect("it is free");
    let socket = socket.to_str().expect("a path");
    let mut command = command(&["status", "--control", socket]);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.expect("it starts");
    let stdout = child.stdout.take().expect("a pipe");
    let mut asking = Running::writing(child, stdout);
    let (mut asked, _) = deaf.accept().expect("it asks");
    // It waits by now.
    asked.read_exact(&mut [0; 5]).expect("a question");
    asking.interrupt();
    assert_eq!(asking.child.wait().expect("it ends").code(), Some(1));
    assert!(said(&mut asking).contains("interrupted"));
}

/// Who asks is answered so, an answer a question, and no more.
fn a_node_that_answers(socket: &str, answers: Vec<Value>) {
    let listener = UnixListener::bind(socket).expect("it is free");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.expect("a connection");
            let mut questions = BufReader::new(&stream).lines();
            for answer in &answers {
                questions.next().expect("a question").expect("read");
                writeln!(&stream, "{}", json!({"answer": answer})).expect("written");
            }
        }
    });
}

#[test]
fn of_a_state_that_nobody_has_proved_yet_that_is_told_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("control.sock");
    let socket = socket.to_str().expect("a path");
    let state = |height: Option<u64>, accounts: Value| json!({"type": "state", "height": height, "stateRoot": height.map(|_| "aa"), "accounts": accounts});
    let key = "07".repeat(32);
    let accounts = json!([{"key": key, "balance": 5, "nonce": 1}]);
    let (unproved, proved) = (state(None, json!([])), state(Some(3), accounts));
    let unchanged = state(Some(4), json!([]));
    let answers = [&unproved, &unproved, &proved, &unchanged].map(Clone::clone);
    a_node_that_answers(socket, answers.to_vec());
    let watch = ["state", "watch", &key, "--control", socket];
    let told = selkie(&[&watch[..], &["--json"]].concat());
    let told = stdout(&told);
    let mut told = told.lines().map(serde_json::from_str::<Value>);
    for object in [unproved, proved] {
        let line = told.next().expect("a line").expect("an object");
        for field in ["type", "height", "accounts"] {
            assert_eq!(line[field], object[field], "{line}");
        }
    }
    let last = told.next().expect("a line").expect("an object");
    assert_eq!((&last["type"], told.count()), (&"error".into(), 0));
    let told = selkie(&watch);
    assert_eq!(stdout(&told).lines().count(), 1, "{}", stdout(&told));
    assert_eq!(
        stderr(&told).matches("no state yet").count(),
        1,
        "{}",
        stderr(&told)
    );
}
