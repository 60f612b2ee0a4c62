//! The web server of a node: the page, what it says of the node, and who leaves it idle.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
};

use serde_json::Value;

use crate::{
    CHAIN,
    command::{PATIENCE, Running, a_key, selkie, stderr, stdout},
};

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
    let host = host.unwrap_or(authority(url));
    get_as(url, path, &format!("Host: {host}"))
}

fn authority(url: &str) -> &str {
    url.trim_start_matches("http://").trim_end_matches('/')
}

/// The same with all that a browser or a proxy says of itself.
fn get_as(url: &str, path: &str, said: &str) -> (String, String) {
    let mut stream = TcpStream::connect(authority(url)).expect("it is served");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    write!(
        stream,
        "GET {path} HTTP/1.1\r\n{said}\r\nConnection: close\r\n\r\n"
    )
    .expect("asked");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("answered");
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_lowercase(), body.to_owned())
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

#[test]
fn a_devnet_tells_programs_in_objects_and_when_it_is_quiet_its_address_and_its_end() {
    let words = ["devnet", "2", "--port", "0", "--json", "--replay", CHAIN];
    let devnet = Running::start(&words);
    let web = devnet.object(|_| true);
    assert_eq!(
        (&web["type"], &web["nodes"], &web["links"]),
        (&"web".into(), &2.into(), &1.into())
    );
    let url = web["url"].as_str().expect("an address");
    let (_, body) = get(url, "/api/node", None);
    let node: Value = serde_json::from_str(&body).expect("JSON");
    let address = node["bootstrap"][0].as_str().expect("an address");
    let sent = selkie(&[
        "replay",
        CHAIN,
        "--quiet",
        "--rate",
        "0",
        "--to",
        address,
        "--genesis",
        node["network"]["genesis"].as_str().expect("hex"),
    ]);
    assert_eq!(stdout(&sent).lines().count(), 1, "{}", stderr(&sent));
    let joined = devnet.object(|line| line["type"] == "peer:connect");
    assert_eq!(joined["node"], 1);
    devnet.object(|line| line["type"] == "peer:disconnect" && line["node"] == 1);
    assert_eq!(devnet.end().0, Some(0));

    let devnet = Running::start(&[&words[..], &["--quiet"]].concat());
    devnet.object(|line| line["type"] == "web");
    let (code, lines) = devnet.end();
    assert_eq!((code, lines.len()), (Some(0), 1), "{lines:?}");
    let end: Value = serde_json::from_str(&lines[0]).expect("JSON");
    assert_eq!(end["type"], "end");
}

/// A node with a page, whose files are in the folder `www`.
pub fn run_with_page<'a>(key: &'a str, www: &'a str) -> [&'a str; 8] {
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
fn a_page_is_told_first_where_others_reach_the_node() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("node.toml");
    let reached =
        r#"external_addresses = ["/ip4/203.0.113.1/tcp/30303", "/dns4/example.org/tcp/443/wss"]"#;
    fs::write(&config, format!("[network]\n{reached}")).expect("written");
    let (key, config) = (a_key(folder.path()), config.display().to_string());
    let node = Running::start(&[
        "run",
        "--json",
        "--key",
        &key,
        "--config",
        &config,
        "--web",
        "127.0.0.1:0",
    ]);
    let web = node.object(|line| line["type"] == "web");
    let url = web["url"].as_str().expect("a url");
    let (_, body) = get(url, "/api/node", None);
    let said: Value = serde_json::from_str(&body).expect("JSON");
    let bootstrap = said["bootstrap"].as_array().expect("addresses");
    let first = format!(
        "/dns4/example.org/tcp/443/wss/p2p/{}",
        said["peer_id"].as_str().expect("an id")
    );
    assert_eq!(bootstrap[0], first);
    let second = bootstrap[1].as_str().expect("its own");
    assert!(
        second.contains("/ip4/127.0.0.1/tcp/") && second.contains("/ws/p2p/"),
        "{second}"
    );
    // A page that a proxy serves by https can dial nothing of this host.
    let host = format!("Host: {}", authority(url));
    for by in [
        "Referer: https://example.org/",
        "X-Forwarded-Proto: https\r\nReferer: https://example.org/page",
    ] {
        let (_, body) = get_as(url, "/api/node", &format!("{host}\r\n{by}"));
        let said: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(said["bootstrap"], serde_json::json!([first]), "{by}");
    }
    assert_eq!(node.end().0, Some(0));
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
