//! How the command ends: signals, closed pipes, and readers that have stopped reading.

use std::{
    fs,
    io::Write,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use crate::{
    CHAIN,
    command::{PATIENCE, Running, a_key, command, finish, selkie, signal, stderr},
    pages::run_with_page,
};

/// A pipe into which nothing more fits, and its other end, which nobody reads.
fn a_full_pipe() -> (OwnedFd, UnixStream) {
    let (mut pipe, unread) = UnixStream::pair().expect("a pair");
    pipe.set_nonblocking(true).expect("it does not wait");
    while pipe.write(b"x").is_ok() {}
    pipe.set_nonblocking(false).expect("it waits");
    (pipe.into(), unread)
}

/// A command that writes to a full pipe and has begun to listen.
fn writing_to_nobody(arguments: &[&str], begun: &str) -> (Running, UnixStream) {
    let (stdout, unread) = a_full_pipe();
    let mut child = command(arguments)
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let stderr = child.stderr.take().expect("a pipe");
    let running = Running::writing(child, stderr);
    running.line(|line| line.contains(begun));
    (running, unread)
}

#[test]
fn a_closed_pipe_ends_the_node() {
    let folder = tempfile::tempdir().expect("a folder");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let key = a_key(folder.path());
    let ended = finish(&mut command(&["run", "--key", &key]), writer);
    assert_eq!(ended.status.code(), Some(0), "{}", stderr(&ended));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_under_its_output_ends_no_node() {
    let full = || fs::File::create("/dev/full").expect("every Linux has it");
    let folder = tempfile::tempdir().expect("a folder");
    let (key, www) = (
        a_key(folder.path()),
        folder.path().to_str().expect("a path"),
    );
    let mut child = command(&run_with_page(&key, www))
        .stdout(full())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let stderr_pipe = child.stderr.take().expect("a pipe");
    let mut node = Running::writing(child, stderr_pipe);
    node.line(|line| line.starts_with("can't write to stdout: "));
    // It still starts what comes after its first lines, and ends in order.
    node.line(|line| line.contains("not built"));
    signal("TERM", node.child.id());
    assert_eq!(node.child.wait().expect("it ends").code(), Some(0));
    // A command whose only output is lost has failed, and names it.
    let shown = finish(&mut command(&["config", "show"]), full());
    assert_eq!(shown.status.code(), Some(1));
    assert!(
        stderr(&shown).contains("error: can't write to stdout: "),
        "{}",
        stderr(&shown)
    );
}

#[test]
fn who_stops_reading_keeps_no_command_from_ending() {
    let folder = tempfile::tempdir().expect("a folder");
    let (key, www) = (
        a_key(folder.path()),
        folder.path().to_str().expect("a path"),
    );
    let run = run_with_page(&key, www);
    let devnet = [
        "devnet", "2", "--port", "0", "--www", www, "--replay", CHAIN, "--rate", "0",
    ];
    for arguments in [&run[..], &devnet] {
        let (mut running, _unread) = writing_to_nobody(arguments, "not built");
        signal("TERM", running.child.id());
        let code = running.child.wait().expect("it ends").code();
        assert_eq!(code, Some(0), "{arguments:?}");
    }
}

/// As long as signals are told apart, and far less than a second.
const BETWEEN: Duration = Duration::from_millis(50);

/// A node that takes long to end, since a peer has stopped before it said that it has a block; and that peer.
fn ending_slowly(folder: &Path) -> (Running, Running) {
    let file = |name: &str| folder.join(name).display().to_string();
    let run = |key: &str, more: &[&str]| {
        Running::start(&[&["run", "--json", "--key", &file(key)], more].concat())
    };
    let node = run("identity.key", &[]);
    let address = node.address("/tcp/");
    let peer = run("peer.key", &["--bootstrap", &address]);
    for both in [&node, &peer] {
        both.object(|line| line["type"] == "peer:connect");
    }
    signal("STOP", peer.child.id());
    let block = file("block");
    fs::write(&block, "a block").expect("written");
    let submit = ["submit", &block, "--kind", "block", "--chain", "opaque"];
    let sent = selkie(&[&submit[..], &["--to", &address]].concat());
    assert_eq!(sent.status.code(), Some(0), "{}", stderr(&sent));
    node.object(|line| line["type"] == "item:accepted");
    (node, peer)
}

#[test]
fn two_signals_in_a_moment_are_one_wish() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut node, _peer) = ending_slowly(folder.path());
    // As `timeout` sends them, to its child and to the group that this is in.
    let id = node.child.id();
    for _ in 0..2 {
        signal("TERM", id);
        thread::sleep(BETWEEN);
    }
    assert_eq!(node.child.wait().expect("it ends").code(), Some(0));
    assert!(folder.path().join("identity.key.book").exists());
}

#[test]
fn a_second_interrupt_ends_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut node, _peer) = ending_slowly(folder.path());
    let end = Instant::now() + PATIENCE;
    // Those of the first second count as one.
    let status = loop {
        node.interrupt();
        if let Some(status) = node.child.try_wait().expect("it is there") {
            break status;
        }
        assert!(Instant::now() < end, "it goes on");
    };
    assert_eq!(status.code(), Some(130));
}
