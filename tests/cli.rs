//! The `selkie` command as a user sees it: output, exit codes, files, signals.
#![cfg(unix)]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt, net::UnixStream},
    },
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const BLOCK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/block-413567.raw");
const CHAIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/chain-0-438.dat");
const BLOCK_ID: &str = "0000000000000000025aff8be8a55df8f89c77296db6198f272d6577325d4069";

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selkie"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs a command that ends by itself.
fn selkie(arguments: &[&str]) -> Output {
    finish(&mut command(arguments), Stdio::piped())
}

fn finish(command: &mut Command, stdout: impl Into<Stdio>) -> Output {
    let piped = command.stdout(stdout).stderr(Stdio::piped());
    let child = piped.spawn().expect("it starts");
    let id = child.id();
    let (sender, ended) = mpsc::channel();
    // Fails where the test has given up.
    thread::spawn(move || sender.send(child.wait_with_output()));
    match ended.recv_timeout(PATIENCE) {
        Ok(output) => output.expect("it ran"),
        Err(_) => {
            signal("KILL", id);
            panic!("it did not end: {command:?}")
        }
    }
}

fn signal(name: &str, id: u32) {
    let status = Command::new("sh")
        .args(["-c", &format!("kill -{name} {id}")])
        .status();
    assert!(status.expect("sh runs").success());
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A command that goes on until it is interrupted; its lines arrive as they are written.
struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut child = command(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let stdout = child.stdout.take().expect("a pipe");
        Self::writing(child, stdout)
    }

    /// A child that writes lines into a pipe.
    fn writing(child: Child, pipe: impl Read + Send + 'static) -> Self {
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// The next line that is wanted.
    fn line(&self, wanted: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if wanted(&line) => return line,
                Ok(line) => seen.push(line),
                Err(error) => panic!("{error}; it wrote: {seen:#?}"),
            }
        }
    }

    /// The next object that is wanted.
    fn object(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let parsed = |line: &str| serde_json::from_str(line).expect("an object per line");
        parsed(&self.line(|line| wanted(&parsed(line))))
    }

    /// An address at which it listens.
    fn address(&self, transport: &str) -> String {
        let listens = self.object(|line| {
            let address = line["address"].as_str().unwrap_or_default();
            line["type"] == "listening" && address.contains(transport) && !address.contains("/ws")
        });
        listens["address"].as_str().expect("an address").to_owned()
    }

    fn interrupt(&self) {
        signal("INT", self.child.id());
    }

    /// Interrupts; returns the exit code and the lines that were left.
    fn end(mut self) -> (Option<i32>, Vec<String>) {
        self.interrupt();
        let code = self.child.wait().expect("it ends").code();
        (code, self.lines.iter().collect())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error says that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection to the web server that stays open.
struct Open(BufReader<TcpStream>);

impl Open {
    /// Connects and asks; the answer may be long in coming.
    fn ask(authority: &str) -> Self {
        let stream = TcpStream::connect(authority).expect("it is served");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut open = Self(BufReader::new(stream));
        open.ask_again(authority);
        open
    }

    fn ask_again(&mut self, authority: &str) {
        let request = format!("GET /api/node HTTP/1.1\r\nHost: {authority}\r\n\r\n");
        let stream = self.0.get_mut();
        stream.write_all(request.as_bytes()).expect("asked");
    }

    /// Reads one answer to its end; returns its first line.
    fn answer(&mut self) -> String {
        let lines = self.0.by_ref().lines().map(|line| line.expect("a line"));
        let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
        let length = head
            .iter()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length = length.expect("a length").parse().expect("a number");
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).expect("a body");
        head[0].clone()
    }
}

/// An answer to a GET: head and body.
fn get(url: &str, path: &str, host: Option<&str>) -> (String, String) {
    let authority = url.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(authority).expect("it is served");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let host = host.unwrap_or(authority);
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )
    .expect("asked");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("answered");
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_lowercase(), body.to_owned())
}

fn a_key(folder: &Path) -> String {
    folder.join("identity.key").display().to_string()
}

#[test]
fn help_tells_of_all_commands_and_exit_codes() {
    let help = selkie(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    let text = stdout(&help);
    for word in [
        "run",
        "replay",
        "devnet",
        "key",
        "config",
        "Exit codes",
        "130",
    ] {
        assert!(text.contains(word), "{word} is missing in:\n{text}");
    }
    assert!(!text.contains('\x1b'), "colours on a pipe");
}

#[test]
fn wrong_usage_ends_with_2() {
    let wrong: [&[&str]; 8] = [
        &[],
        &["fly"],
        &["run", "--listen", "localhost:1"],
        &["run", "--genesis", "xyz"],
        &["run", "--log", "loud"],
        &["replay"],
        &["replay", BLOCK],
        &["devnet", "0"],
    ];
    for arguments in wrong {
        let output = selkie(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
    let listen = stderr(&selkie(&["run", "--listen", "localhost:1"]));
    assert!(
        listen.contains("localhost:1") && listen.contains("/ip4/127.0.0.1/tcp/"),
        "{listen}"
    );
}

#[test]
fn a_configuration_is_checked_and_the_default_is_right() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("node.toml");
    let check = |text: &str| {
        fs::write(&path, text).expect("written");
        selkie(&["config", "check", path.to_str().expect("a path")])
    };
    let shown = stdout(&selkie(&["config", "show"]));
    assert_eq!(check(&shown).status.code(), Some(0));
    let wrong = [
        (
            "[network]\nmax_peers = 0",
            "network.max_peers = 0: give a number from 1",
        ),
        ("[network]\nmax_pears = 1", "line 2, column 1"),
        ("[network]\nlisten_addresses = [\"nowhere\"]", "\"nowhere\""),
        ("[chain]\napplication = \"dogecoin\"", "bitcoin"),
        ("network", "line 1"),
        (
            "[network]\nlisten_addresses = [\"/dns4/example.org/tcp/1\"]",
            "network.listen_addresses[0] = /dns4/example.org/tcp/1: a name is no interface",
        ),
        (
            "[network]\nexternal_addresses = [\"/ip4/0.0.0.0/tcp/1\"]",
            "network.external_addresses[0] = /ip4/0.0.0.0/tcp/1",
        ),
        (
            "[protocol.propagation.transactions]\nmax_item = 16777216",
            "max_item = 16777216: give a number of bytes from 1024 to 4194304",
        ),
        (
            "[protocol.gossipsub_config]\nmax_transmit_size = 8388608",
            "max_transmit_size = 8388608: give a number of bytes from 1024 to 4194304",
        ),
        (
            "[protocol.propagation.reconcile]\ninterval = \"0s\"",
            "protocol.propagation.reconcile.interval = 0ns: give a time from 10ms",
        ),
        ("[node]\nweb = \"localhost\"", "line 2"),
    ];
    for (text, named) in wrong {
        let output = check(text);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            stderr(&output).contains(named),
            "{text}: {}",
            stderr(&output)
        );
    }
    let absent = selkie(&["config", "check", "/no/such/file"]);
    assert_eq!(absent.status.code(), Some(1));
    assert!(stderr(&absent).contains("/no/such/file"));
}

#[test]
fn a_key_is_private_and_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().to_str().expect("a path");
    let key = |what: &str| {
        let mut command = command(&["key", what]);
        finish(command.env("XDG_STATE_HOME", state), Stdio::piped())
    };
    let absent = key("show");
    assert_eq!(absent.status.code(), Some(1));
    assert!(
        stderr(&absent).contains("selkie key new"),
        "{}",
        stderr(&absent)
    );
    let made = stdout(&key("new"));
    assert!(made.starts_with("12D3KooW"), "{made}");
    let path = folder.path().join("selkie/identity.key");
    let mode = fs::metadata(&path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(stdout(&key("show")), made);
    assert_eq!(key("new").status.code(), Some(1));
    assert_eq!(stdout(&key("show")), made);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("opened to others");
    assert!(stderr(&key("show")).contains("chmod 600"));
}

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
fn a_replay_of_which_not_all_was_taken_says_so_and_fails() {
    let folder = tempfile::tempdir().expect("a folder");
    let chain = fs::read(CHAIN).expect("testdata is in the repository");
    let path = folder.path().join("blk00000.dat");
    // The blocks 168 to 170; the last one brings the file's first payment, which takers acknowledge.
    fs::write(&path, &chain[37_586..38_530]).expect("written");
    let path = path.to_str().expect("a path");
    let key = a_key(folder.path());
    let node = Running::start(&["run", "--json", "--chain", "bitcoin", "--key", &key]);
    let to = node.address("/tcp/");
    let mut replay = Running::start(&["replay", path, "--json", "--to", &to, "--rate", "0.5"]);
    node.object(|line| line["kind"] == "block");
    signal("STOP", node.child.id());
    for _ in 0..3 {
        replay.object(|line| line["type"] == "block:sent");
    }
    drop(node);
    let end = replay.object(|line| line["type"] == "end");
    assert_eq!(end["all_taken"], false);
    assert_eq!(replay.child.wait().expect("it ends").code(), Some(1));
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
fn a_devnet_invites_tabs_and_shows_blocks() {
    let site = tempfile::tempdir().expect("a folder");
    fs::create_dir(site.path().join("assets")).expect("a folder");
    fs::write(site.path().join("index.html"), "the page").expect("written");
    fs::write(site.path().join("assets/a-1.wasm"), "wasm").expect("written");
    let www = site.path().to_str().expect("a path");
    let devnet = Running::start(&[
        "devnet", "3", "--port", "0", "--www", www, "--js", www, "--replay", CHAIN,
    ]);
    let ready = devnet.line(|_| true);
    let url = ready.split(' ').next().expect("a word");
    assert!(
        url.starts_with("http://127.0.0.1:") && url.ends_with('/'),
        "{ready}"
    );

    let (head, body) = get(url, "/api/node", None);
    assert!(
        head.contains("200 ok") && head.contains("no-store"),
        "{head}"
    );
    let node: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(
        (&node["network"]["id"], &node["network"]["application"]),
        (&"selkie-dev".into(), &"bitcoin".into())
    );
    assert!(
        node["network"]["genesis"]
            .as_str()
            .is_some_and(|hash| hash.starts_with("000000000019d668"))
    );
    let bootstrap = node["bootstrap"].as_array().expect("addresses");
    let address = bootstrap
        .first()
        .and_then(Value::as_str)
        .expect("an address");
    let peer_id = node["peer_id"].as_str().expect("a peer");
    assert!(
        address.contains("/ws/p2p/") && address.ends_with(peer_id),
        "{address}"
    );
    let direct = bootstrap
        .iter()
        .any(|address| address.to_string().contains("/webrtc-direct/certhash/"));
    assert_eq!(direct, cfg!(feature = "webrtc"));

    let (head, body) = get(url, "/", None);
    assert_eq!(body, "the page");
    assert!(
        head.contains("wasm-unsafe-eval") && head.contains("no-cache") && head.contains("nosniff"),
        "{head}"
    );
    let (head, _) = get(url, "/assets/a-1.wasm", None);
    assert!(
        head.contains("application/wasm") && head.contains("immutable"),
        "{head}"
    );
    assert!(
        get(url, "/selkie/assets/a-1.wasm", None)
            .0
            .contains("200 ok")
    );
    assert!(get(url, "/../../Cargo.toml", None).0.contains("404"));
    assert!(get(url, "/", Some("localhost")).0.contains("200 ok"));
    let (head, body) = get(url, "/api/node", Some("rebound.example"));
    assert!(head.contains("421") && !body.contains(peer_id), "{head}");

    let folder = tempfile::tempdir().expect("a folder");
    let genesis = node["network"]["genesis"].as_str().expect("hex");
    let key = a_key(folder.path());
    let join = [
        "--bootstrap",
        address,
        "--genesis",
        genesis,
        "--chain",
        "bitcoin",
    ];
    let guest = Running::start(&[&["run", "--json", "--key", &key][..], &join].concat());
    guest.object(|line| line["kind"] == "block");
    devnet.line(|line| line.contains("joined node 1 over ws"));
    assert_eq!(guest.end().0, Some(0));
    devnet.line(|line| line.contains("left node 1"));
    assert_eq!(devnet.end().0, Some(0));
}

/// A node with a page, whose files are in the folder `www`.
fn run_with_page<'a>(key: &'a str, www: &'a str) -> [&'a str; 8] {
    [
        "run",
        "--json",
        "--key",
        key,
        "--web",
        "127.0.0.1:0",
        "--www",
        www,
    ]
}

#[test]
fn a_dashboard_that_is_not_built_is_said_to_be() {
    let folder = tempfile::tempdir().expect("a folder");
    let (key, nothing) = (
        a_key(folder.path()),
        folder.path().to_str().expect("a path"),
    );
    let node = Running::start(&run_with_page(&key, nothing));
    let web = node.object(|line| line["type"] == "web");
    let url = web["url"].as_str().expect("a url");
    let (head, body) = get(url, "/", None);
    assert!(
        head.contains("404") && body.contains("./build.sh run"),
        "{head}\n{body}"
    );
    // What createNode takes as its `network`: a chain without a genesis has none to name.
    let (_, body) = get(url, "/api/node", None);
    let said: Value = serde_json::from_str(&body).expect("JSON");
    let network = serde_json::json!({"id": "selkie-dev", "application": "opaque"});
    assert_eq!(said["network"], network);
    let port = url
        .trim_end_matches('/')
        .rsplit(':')
        .next()
        .expect("a port");
    let taken = selkie(&["devnet", "1", "--port", port]);
    assert_eq!(taken.status.code(), Some(1));
    assert!(stderr(&taken).contains("is taken"), "{}", stderr(&taken));
    assert_eq!(node.end().0, Some(0));
    let open = selkie(&["run", "--key", &key, "--web", "0.0.0.0:0"]);
    assert!(stderr(&open).contains("--web-public"), "{}", stderr(&open));
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

#[test]
fn idle_sockets_keep_no_page_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = a_key(folder.path());
    let run = ["run", "--json", "--key", &key, "--web", "127.0.0.1:0"];
    let node = Running::start(&run);
    let web = node.object(|line| line["type"] == "web");
    let url = web["url"].as_str().expect("a url");
    let authority = url.trim_start_matches("http://").trim_end_matches('/');
    let connect = |_| TcpStream::connect(authority).expect("it listens");
    let _idle: Vec<_> = (0..300).map(connect).collect();
    let mut first = Open::ask(authority);
    assert_eq!(first.answer(), "HTTP/1.1 200 OK");
    // More of them, and the one that was used last stays.
    let _more: Vec<_> = (0..200).map(connect).collect();
    first.ask_again(authority);
    assert_eq!(first.answer(), "HTTP/1.1 200 OK");
    assert!(get(url, "/api/node", None).0.contains("200 ok"));
    assert_eq!(node.end().0, Some(0));
}

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

#[test]
fn a_mounted_secret_is_a_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = a_key(folder.path());
    let made = stdout(&selkie(&["key", "new", &key]));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o440)).expect("as it is mounted");
    let refused = selkie(&["run", "--key", &key]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("--shared-key"),
        "{}",
        stderr(&refused)
    );
    let shown = selkie(&["key", "show", &key, "--shared-key"]);
    assert_eq!(stdout(&shown), made);
    let node = Running::start(&["run", "--json", "--key", &key, "--shared-key"]);
    let start = node.object(|line| line["type"] == "start");
    assert_eq!(start["peerId"], made.trim());
    assert_eq!(node.end().0, Some(0));
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
