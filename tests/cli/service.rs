//! A node that a service manager has started: what it is told, and SIGHUP.

use std::{
    fs,
    io::Read,
    net::TcpListener,
    os::unix::net::{UnixDatagram, UnixStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Instant,
};

use serde_json::Value;

use crate::command::{
    Lines, PATIENCE, Running, a_key, command, finish, selkie, signal, stderr, stdout,
};

/// The manager's end, in a folder.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(folder: &Path) -> Self {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).expect("it is free");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Self { socket, path }
    }

    /// What it is told next, pulses aside.
    fn told(&self) -> String {
        loop {
            let told = self.any();
            if told != "WATCHDOG=1" {
                return told;
            }
        }
    }

    fn any(&self) -> String {
        let mut datagram = [0; 1024];
        let length = self.socket.recv(&mut datagram).expect("a datagram");
        let text = String::from_utf8(datagram[..length].to_vec());
        text.expect("text").trim_end().to_owned()
    }
}

#[test]
fn the_manager_hears_that_a_node_is_ready_alive_reloading_and_stopping() {
    let folder = tempfile::tempdir().expect("a folder");
    let (manager, key) = (Manager::new(folder.path()), a_key(folder.path()));
    let config = folder.path().join("node.toml");
    fs::write(&config, "").expect("written");
    let config = config.to_str().expect("a path");
    let mut running = command(&["run", "--json", "--key", &key, "--config", config]);
    running.env("NOTIFY_SOCKET", &manager.path);
    running.env("WATCHDOG_USEC", "200000");
    let (node, _errors) = Running::with_errors(&mut running);
    assert_eq!(manager.told(), "READY=1");
    let status = selkie(&["status", "--json", "--key", &key]);
    let status: Value = serde_json::from_str(&stdout(&status)).expect("an answer");
    assert_ne!(status["listening"], Value::Array(Vec::new()));
    for _ in 0..3 {
        assert_eq!(manager.any(), "WATCHDOG=1");
    }
    signal("HUP", node.child.id());
    let reloading = manager.told();
    let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
    let time = time.and_then(|time| time.parse::<u64>().ok());
    assert!(time > Some(0), "{reloading}");
    assert_eq!(manager.told(), "READY=1");
    node.interrupt();
    assert_eq!(manager.told(), "STOPPING=1");
    assert_eq!(node.end().0, Some(0));
}

#[test]
fn a_node_that_cannot_listen_is_never_ready() {
    let folder = tempfile::tempdir().expect("a folder");
    let (manager, key) = (Manager::new(folder.path()), a_key(folder.path()));
    let busy = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = busy.local_addr().expect("an address").port();
    let address = format!("/ip4/127.0.0.1/tcp/{port}");
    let mut running = command(&["run", "--key", &key, "--listen", &address]);
    running.env("NOTIFY_SOCKET", &manager.path);
    let ended = finish(&mut running, Stdio::piped());
    assert_eq!(ended.status.code(), Some(1), "{}", stderr(&ended));
    // It has ended, and what it said is here.
    manager.socket.set_nonblocking(true).expect("a socket");
    let nothing = manager.socket.recv(&mut [0; 16]);
    let nothing = nothing.expect_err("it never listened").kind();
    assert_eq!(nothing, std::io::ErrorKind::WouldBlock);
}

#[test]
fn a_node_whose_manager_is_gone_runs_all_the_same_and_without_a_watchdog_there_is_no_pulse() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = a_key(folder.path());
    let mut running = command(&["run", "--json", "--key", &key]);
    running.env("NOTIFY_SOCKET", folder.path().join("nobody"));
    let (node, errors) = Running::with_errors(&mut running);
    errors.next(|line| line.contains("NOTIFY_SOCKET"));
    assert_eq!(selkie(&["status", "--key", &key]).status.code(), Some(0));
    assert_eq!(node.end().0, Some(0));

    let manager = Manager::new(folder.path());
    let mut running = command(&["run", "--quiet", "--key", &key]);
    running.env("NOTIFY_SOCKET", &manager.path);
    let (node, _errors) = Running::with_errors(&mut running);
    assert_eq!(manager.any(), "READY=1");
    let status = selkie(&["status", "--quiet", "--key", &key]);
    assert!(
        stdout(&status).contains("listens at"),
        "{}",
        stderr(&status)
    );
    signal("HUP", node.child.id());
    assert!(manager.any().starts_with("RELOADING=1"));
    assert_eq!(manager.any(), "READY=1");
    node.interrupt();
    assert_eq!(manager.any(), "STOPPING=1");
    // What was asked for, and no event.
    let (code, lines) = node.end();
    assert_eq!((code, lines.len()), (Some(0), 1), "{lines:?}");
    assert!(lines[0].contains("nothing has changed"), "{lines:?}");
}

/// A node that reads this configuration.
struct Configured {
    file: PathBuf,
    node: Running,
    errors: Lines,
}

impl Configured {
    fn start(file: PathBuf, text: &str, key: &str, more: &[&str]) -> Self {
        fs::write(&file, text).expect("written");
        let shown = file.to_str().expect("a path");
        let words = ["run", "--json", "--key", key, "--config", shown];
        let mut running: Command = command(&[&words[..], more].concat());
        let (node, errors) = Running::with_errors(&mut running);
        Self { file, node, errors }
    }

    fn writes(&self, text: &str) {
        fs::write(&self.file, text).expect("written");
        signal("HUP", self.node.child.id());
    }

    /// What comes of another text.
    fn reads(&self, text: &str) -> (Value, Value) {
        self.writes(text);
        let told = self.node.object(|line| line["type"] == "config:reload");
        assert_eq!(told["config"], self.file.to_str().expect("a path"));
        (told["taken"].clone(), told["restart"].clone())
    }
}

#[test]
fn what_can_change_changes_on_sighup_and_what_waits_for_a_restart_is_said() {
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let [key, other] = folders.each_ref().map(|folder| a_key(folder.path()));
    let guest = Running::start(&["run", "--json", "--key", &other]);
    let start = guest.object(|line| line["type"] == "start");
    let (address, id) = (
        guest.address("/tcp/"),
        start["peerId"].as_str().expect("an id"),
    );
    let file = folders[0].path().join("node.toml");
    let held = Configured::start(file, "", &key, &["--log-format", "json"]);
    held.node.address("/tcp/");

    assert_eq!(
        held.reads(""),
        (
            Value::from(Vec::<Value>::new()),
            Value::from(Vec::<Value>::new())
        )
    );
    let bootstrap = format!("[network]\nbootstrap_peers = [\"{address}\"]\n");
    let (taken, waits) = held.reads(&format!(
        "{bootstrap}max_peers = 7\n[node]\nlog = \"debug\""
    ));
    assert_eq!(
        taken,
        Value::from(vec!["node.log", "network.bootstrap_peers"])
    );
    assert_eq!(waits, Value::from(vec!["network.max_peers"]));
    // Its own events may come before what was read.
    guest.object(|line| line["type"] == "peer:connect");
    held.errors
        .next(|line| line.contains("\"level\":\"DEBUG\""));

    // Of what was not taken it is said again; and whom nobody names any more stays known.
    let banned = format!("[security.blacklist_config]\npeers = [\"{id}\"]\n");
    let (taken, waits) = held.reads(&format!(
        "{banned}[node]\nlog = \"debug\"\n[network]\nmax_peers = 8"
    ));
    assert_eq!(taken, Value::from(vec!["security.blacklist_config.peers"]));
    assert_eq!(
        waits,
        Value::from(vec!["network.bootstrap_peers", "network.max_peers"])
    );
    guest.object(|line| line["type"] == "peer:disconnect");
    let bans = || -> Value {
        let output = selkie(&["bans", "--json", "--key", &key]);
        serde_json::from_str(&stdout(&output)).expect("an answer")
    };
    assert_eq!(
        (&bans()["bans"][0]["peerId"], &bans()["bans"][0]["until"]),
        (&id.into(), &Value::Null)
    );

    // A broken file changes nothing, whatever else it says.
    for (broken, why) in [
        (
            "[security.blacklist_config]\npeers = []\n[network]\nmax_peers = 0",
            "network.max_peers = 0",
        ),
        (
            "[security.blacklist_config]\npeers = []\n[node]\nlog = \"loud\"",
            "\"loud\" is no level",
        ),
        ("[security", "line 1"),
        // What would keep a node from its next start.
        (
            "[security.blacklist_config]\npeers = []\n[node]\nweb = \"0.0.0.0:1\"",
            "node.web = 0.0.0.0:1",
        ),
        (
            "[security.blacklist_config]\npeers = []\n[node]\nas_map = \"/none\"",
            "node.as_map = /none",
        ),
        (
            "[security.blacklist_config]\npeers = []\n[network]\nlisten_addresses = [\"/ip4/127.0.0.1/tcp/0/tls/ws\"]\n\
             [security.tls_config]\ncertificate = \"/none\"\nkey = \"/none\"",
            "security.tls_config.certificate = /none",
        ),
    ] {
        held.writes(broken);
        let file = held.file.to_str().expect("a path");
        let goes_on = format!("goes on with the configuration that it had: {file}");
        let told = held.errors.next(|line| line.contains(&goes_on));
        if !told.contains(why) {
            held.errors.next(|line| line.contains(why));
        }
        assert_eq!(bans()["bans"][0]["peerId"], id, "{broken}");
    }
    fs::remove_file(&held.file).expect("it is there");
    signal("HUP", held.node.child.id());
    held.errors.next(|line| line.contains("can't open"));

    let (taken, _) = held.reads("");
    assert_eq!(
        taken,
        Value::from(vec!["node.log", "security.blacklist_config.peers"])
    );
    assert_eq!(bans()["bans"], Value::Array(Vec::new()));
    assert_eq!(held.node.end().0, Some(0));
    assert_eq!(guest.end().0, Some(0));
}

#[test]
fn who_wants_no_events_hears_what_is_wrong_with_the_node_and_where_its_page_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name);
    let secret = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("a name");
    let certificate = params.self_signed(&secret).expect("a certificate");
    let write = |name, tag: &str, der: &[u8]| {
        let text = pem::encode(&pem::Pem::new(tag, der));
        fs::write(file(name), text).expect("written");
    };
    write("cert.pem", "CERTIFICATE", certificate.der());
    write("key.pem", "PRIVATE KEY", &secret.serialize_der());
    let config = format!(
        "[network]\nlisten_addresses = [\"/ip4/127.0.0.1/tcp/0/tls/ws\"]\n\
         [security.tls_config]\ncertificate = {:?}\nkey = {:?}",
        file("cert.pem"),
        file("key.pem")
    );
    fs::write(file("node.toml"), config).expect("written");
    let (key, config) = (a_key(folder.path()), file("node.toml"));
    let config = config.to_str().expect("a path");
    let words = ["run", "--quiet", "--key", &key, "--config", config];
    let (node, errors) = Running::with_errors(&mut command(
        &[&words[..], &["--web", "127.0.0.1:0"]].concat(),
    ));
    node.line(|line| line.contains("the dashboard is at http://127.0.0.1:"));
    fs::write(file("cert.pem"), "garbage").expect("written");
    errors.next(|line| line.contains("security.tls_config.certificate"));
    let (code, lines) = node.end();
    assert_eq!((code, lines), (Some(0), Vec::new()), "nothing else is said");
}

#[test]
#[cfg(target_os = "linux")]
fn of_what_cannot_be_compared_nothing_is_taken() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    let folder = tempfile::tempdir().expect("a folder");
    // TOML has no word for such a name.
    let key = folder.path().join(OsStr::from_bytes(b"\xff.key"));
    let file = folder.path().join("node.toml");
    let shown = file.to_str().expect("a path");
    fs::write(&file, "").expect("written");
    let mut running = command(&["run", "--json", "--config", shown, "--key"]);
    let (node, errors) = Running::with_errors(running.arg(&key));
    node.address("/tcp/");
    let guest_key = a_key(folder.path());
    let guest = Running::start(&["run", "--json", "--key", &guest_key]);
    let start = guest.object(|line| line["type"] == "start");
    let id = start["peerId"].as_str().expect("an id");
    let banned = format!("[security.blacklist_config]\npeers = [\"{id}\"]\n");
    fs::write(&file, banned).expect("written");
    signal("HUP", node.child.id());
    errors.next(|line| line.contains("goes on with the configuration that it had"));
    let asked = command(&["bans", "--json", "--key"])
        .arg(&key)
        .output()
        .expect("it runs");
    let bans: Value = serde_json::from_str(&stdout(&asked)).expect("an answer");
    assert_eq!(bans["bans"], Value::Array(Vec::new()));
    assert_eq!(node.end().0, Some(0));
    assert_eq!(guest.end().0, Some(0));
}

#[test]
fn flags_go_before_what_a_file_says_anew_and_without_one_there_is_nothing_to_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = a_key(folder.path());
    let file = folder.path().join("node.toml");
    let flags = ["--log", "error", "--max-peers", "9"];
    let held = Configured::start(file, "", &key, &flags);
    held.node.address("/tcp/");
    let (taken, waits) = held.reads("[network]\nmax_peers = 7\n[node]\nlog = \"debug\"");
    let nothing = Value::from(Vec::<Value>::new());
    assert_eq!((&taken, &waits), (&nothing, &nothing));
    assert_eq!(held.node.end().0, Some(0));

    let mut running = command(&["run", "--json", "--no-config", "--key", &key]);
    let (node, errors) = Running::with_errors(&mut running);
    node.address("/tcp/");
    signal("HUP", node.child.id());
    errors.next(|line| line.contains("without a configuration"));
    assert_eq!(node.end().0, Some(0));
}

/// This line of a shell, run in a terminal that is closed where this is dropped. `None`: this host has no `script`, of util-linux.
fn in_a_terminal(line: &str, manager: &Manager) -> Option<Running> {
    let mut terminal = Command::new("script");
    terminal
        .args(["-qec", line, "/dev/null"])
        .env("NOTIFY_SOCKET", &manager.path)
        .stdin(Stdio::null());
    let Ok(mut terminal) = terminal.stdout(Stdio::piped()).spawn() else {
        println!("skipped: this host has no `script`");
        return None;
    };
    let pipe = terminal.stdout.take().expect("a pipe");
    Some(Running::writing(terminal, pipe))
}

#[test]
fn a_node_whose_terminal_is_closed_ends_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let (manager, key) = (Manager::new(folder.path()), a_key(folder.path()));
    let run = format!(
        "exec {} run --no-config --key {key}",
        env!("CARGO_BIN_EXE_selkie")
    );
    let Some(terminal) = in_a_terminal(&run, &manager) else {
        return;
    };
    terminal.line(|line| line.contains("/tcp/"));
    let socket = format!("{key}.sock");
    let mut asking = UnixStream::connect(&socket).expect("it can be asked");
    asking.set_read_timeout(Some(PATIENCE)).expect("a socket");
    drop(terminal);
    assert_eq!(asking.read(&mut [0]).expect("it ends"), 0);
    // What a killed node leaves is gone, once the last of it is.
    let end = Instant::now() + PATIENCE;
    while Path::new(&socket).exists() {
        assert!(Instant::now() < end, "it was killed");
        thread::yield_now();
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_node_that_is_to_outlive_its_terminal_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let (manager, key) = (Manager::new(folder.path()), a_key(folder.path()));
    // Its stdin is the terminal still.
    let run = format!(
        "trap '' HUP; echo $$; exec {} run --no-config --key {key} >/dev/null 2>&1",
        env!("CARGO_BIN_EXE_selkie")
    );
    let Some(terminal) = in_a_terminal(&run, &manager) else {
        return;
    };
    let id = terminal.line(|_| true).trim().parse().expect("a process");
    assert_eq!(manager.told(), "READY=1");
    drop(terminal);
    assert!(manager.told().starts_with("RELOADING=1"));
    assert_eq!(manager.told(), "READY=1");
    assert_eq!(selkie(&["status", "--key", &key]).status.code(), Some(0));
    signal("INT", id);
    assert_eq!(manager.told(), "STOPPING=1");
}

#[test]
fn the_unit_of_the_documents_starts_a_node_that_there_is() {
    let unit = include_str!("../../docs/selkie.service");
    assert!(unit.contains("\nType=notify-reload\n") && unit.contains("\nWatchdogSec="));
    let set = |name: &str| {
        let value = unit.lines().find_map(|line| line.strip_prefix(name));
        value.expect("it is set")
    };
    // Its user is not root, and yet may listen at port 443.
    assert_ne!(set("User="), "root");
    for set_of in ["AmbientCapabilities=", "CapabilityBoundingSet="] {
        assert_eq!(set(set_of), "CAP_NET_BIND_SERVICE", "{set_of}");
    }
    let words: Vec<_> = set("ExecStart=").split(' ').skip(1).collect();
    // What clap does not know it refuses before it helps.
    let helped = selkie(&[&words[..], &["--help"]].concat());
    assert_eq!(helped.status.code(), Some(0), "{}", stderr(&helped));
    let wrong = selkie(&[&words[..], &["--notify", "--help"]].concat());
    assert_eq!(wrong.status.code(), Some(2));
}
