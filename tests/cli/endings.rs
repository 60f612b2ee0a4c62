//! How the command ends: signals, closed pipes, and readers that have stopped reading.

use std::{
    fs,
    io::Write,
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::Stdio,
    time::Instant,
};

use crate::{
    CHAIN,
    command::{PATIENCE, Running, a_key, command, finish, signal, stderr},
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

#[test]
fn a_second_interrupt_ends_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let www = folder.path().to_str().expect("a path");
    // It waits a moment for who does not read.
    let devnet = ["devnet", "1", "--port", "0", "--www", www];
    let (mut devnet, _unread) = writing_to_nobody(&devnet, "not built");
    let end = Instant::now() + PATIENCE;
    // Signals that come too close count as one: more are sent until it has seen two.
    let status = loop {
        devnet.interrupt();
        if let Some(status) = devnet.child.try_wait().expect("it is there") {
            break status;
        }
        assert!(Instant::now() < end, "it goes on");
    };
    assert_eq!(status.code(), Some(130));
}
