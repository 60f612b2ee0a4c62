//! The `selkie` command as a user sees it: output, exit codes, files, signals.
#![cfg(unix)]

mod asking;
mod command;
mod endings;
mod killed;
mod last_words;
mod ledger;
mod naming;
mod pages;
mod replaying;
// systemd is Linux's, and so is this `script`.
#[cfg(target_os = "linux")]
mod service;
mod submitting;

use std::{fs, os::unix::fs::PermissionsExt, process::Stdio};

use command::{Running, a_key, command, finish, selkie, stderr, stdout};

const BLOCK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/block-413567.raw");
const CHAIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/chain-0-438.dat");
const BLOCK_ID: &str = "0000000000000000025aff8be8a55df8f89c77296db6198f272d6577325d4069";

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
        "status",
        "metrics",
        "sync",
        "peers",
        "score",
        "book",
        "bans",
        "ban",
        "unban",
        "protect",
        "unprotect",
        "snapshot",
        "state",
        "submit",
        "completions",
        "man",
        "--quiet",
        "Exit codes",
        "130",
    ] {
        assert!(text.contains(word), "{word} is missing in:\n{text}");
    }
    assert!(!text.contains('\x1b'), "colours on a pipe");
}

#[test]
fn wrong_usage_ends_with_2() {
    let wrong: [&[&str]; 10] = [
        &[],
        &["fly"],
        &["run", "--listen", "localhost:1"],
        &["run", "--genesis", "xyz"],
        &["run", "--log", "loud"],
        &["replay"],
        &["replay", BLOCK],
        &["devnet", "0"],
        &["run", "--propose", "100"],
        &["run", "--chain", "ledger", "--propose", "0"],
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

/// A map in which all of IPv4 is one provider's.
const AS_MAP: [u8; 30] = [
    0xfb, 0x03, 0xec, 0x0f, 0xb0, 0x3f, 0xc0, 0xfe, 0x00, 0xfb, 0x03, 0xec, 0x0f, 0xb0, 0x3f, 0xc0,
    0xfe, 0x00, 0xfb, 0x03, 0xec, 0x0f, 0xb0, 0xff, 0xff, 0xfe, 0xff, 0x00, 0x00, 0x00,
];

#[test]
fn a_configuration_is_checked_and_the_default_is_right() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("node.toml");
    let check = |text: &str| {
        fs::write(&path, text).expect("written");
        selkie(&["config", "check", path.to_str().expect("a path")])
    };
    let shown = stdout(&selkie(&["config", "show"]));
    let public = "[node]\nweb = \"0.0.0.0:8420\"\nweb_public = true";
    for right in [&shown, public] {
        assert_eq!(check(right).status.code(), Some(0), "{right}");
    }
    let map = folder.path().join("asmap.dat");
    let with_map = |rest: &str| format!("[node]\nas_map = {map:?}{rest}");
    fs::write(&map, AS_MAP).expect("written");
    assert_eq!(check(&with_map("")).status.code(), Some(0));
    let written_over = with_map(&format!("\naddress_book = {map:?}"));
    assert!(stderr(&check(&written_over)).contains("that is node.address_book too"));
    fs::write(&map, &AS_MAP[..20]).expect("written");
    let torn = stderr(&check(&with_map("")));
    assert!(
        torn.contains("node.as_map = ") && torn.contains("asmap.dat: it is no AS map of"),
        "{torn}"
    );
    assert!(torn.contains("at byte 1"), "{torn}");
    let long = format!("[node]\ncontrol = \"/{}\"", "x".repeat(108));
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
            "[network]\nlisten_addresses = [\"/dns4/example.org/tcp/443/tls/ws\"]",
            "network.listen_addresses[0] = /dns4/example.org/tcp/443/tls/ws: TLS needs a certificate",
        ),
        (
            "[security.tls_config]\ncertificate = \"no/such/cert.pem\"\nkey = \"no/such/key.pem\"",
            "security.tls_config.certificate = no/such/cert.pem",
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
        (
            "[protocol.validation]\nmax_unread_bytes = 4194304",
            "max_unread_bytes = 4194304: give at least 4195328",
        ),
        ("[node]\nweb = \"localhost\"", "line 2"),
        (
            "[node]\nweb = \"0.0.0.0:8420\"",
            "node.web = 0.0.0.0:8420: others could reach it",
        ),
        (
            "[node]\nkey = \"here.key\"\naddress_book = \"./here.key\"",
            "node.address_book = ./here.key: that is node.key too",
        ),
        (
            "[node]\nkey = \"here.key\"\ncontrol = \"here.key.book\"",
            "node.control = here.key.book: that is node.address_book too",
        ),
        (&long, "give a shorter path"),
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
    let named = stderr(&check("[network]\nmax_peers = 0"));
    assert!(named.contains(path.to_str().expect("a path")), "{named}");
    let object = |words: &[&str]| -> serde_json::Value {
        let output = selkie(&[&["config"], words, &["--json"]].concat());
        serde_json::from_str(&stdout(&output)).expect("an object")
    };
    let path = path.to_str().expect("a path");
    let wrong = object(&["check", path]);
    assert_eq!(
        (&wrong["config"], &wrong["right"]),
        (&path.into(), &false.into())
    );
    assert!(
        wrong["problem"]
            .as_str()
            .is_some_and(|text| text.contains("max_peers")),
        "{wrong}"
    );
    fs::write(path, &shown).expect("written");
    assert_eq!(object(&["check", path])["right"], true);
    assert_eq!(object(&["show"])["network"]["max_peers"], 50);
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
