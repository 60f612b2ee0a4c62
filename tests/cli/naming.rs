//! Which node is meant, by flags, environment and files: the same one for `selkie run`, a question and `selkie key`. And that its files are different ones.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::command::{Running, command, finish, selkie, stderr, stdout};

/// A folder with keys `a` and `b`, a configuration that names `a` and the socket `filed`, one that names only that, and one that names `b`.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let place = Self(folder);
        for (name, table) in [
            ("node.toml", "key = \"KEY\"\ncontrol = \"SOCKET\""),
            ("socket.toml", "control = \"SOCKET\""),
            ("other.toml", "key = \"OTHER\""),
        ] {
            let table = table
                .replace("KEY", &place.file("a"))
                .replace("SOCKET", &place.file("filed"))
                .replace("OTHER", &place.file("b"));
            fs::write(place.path(name), format!("[node]\n{table}\n")).expect("written");
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A command in an environment, in which names with an @ are files of this folder, with this usual configuration.
    fn command(&self, words: &[&str], environment: &[(&str, &str)], usual: &str) -> Command {
        let real = |word: &str| match word.strip_prefix('@') {
            Some(name) => self.file(name),
            None => word.to_owned(),
        };
        let words: Vec<_> = words.iter().map(|word| real(word)).collect();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let mut command = command(&words);
        let config = self.path("config/selkie");
        fs::create_dir_all(&config).expect("a folder");
        let usual = match usual {
            "" => String::new(),
            usual => fs::read_to_string(self.path(usual)).expect("it is there"),
        };
        fs::write(config.join("node.toml"), usual).expect("written");
        command
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("XDG_STATE_HOME", self.path("state"));
        for (variable, value) in environment {
            command.env(variable, real(value));
        }
        command
    }
}

/// A case: flags, those of `key show`, the environment, the usual configuration; and where key and socket of the node are.
type Case<'a> = (
    &'a [&'a str],
    &'a [&'a str],
    &'a [(&'a str, &'a str)],
    &'a str,
    (&'a str, &'a str),
);

#[test]
fn run_a_question_and_key_mean_one_node() {
    let place = Place::new();
    let both = [("SELKIE_KEY", "@a"), ("SELKIE_CONTROL", "@said")];
    let cases: [Case<'_>; 10] = [
        (
            &[],
            &[],
            &[],
            "",
            (
                "state/selkie/identity.key",
                "state/selkie/identity.key.sock",
            ),
        ),
        (&[], &[], &[], "node.toml", ("a", "filed")),
        (
            &[],
            &[],
            &[("SELKIE_KEY", "@b")],
            "socket.toml",
            ("b", "filed"),
        ),
        (
            &[],
            &[],
            &[("SELKIE_CONTROL", "@said")],
            "node.toml",
            ("a", "said"),
        ),
        (
            &[],
            &[],
            &[("SELKIE_CONFIG", "@other.toml")],
            "node.toml",
            ("b", "b.sock"),
        ),
        (
            &["--key", "@b"],
            &["@b"],
            &both,
            "node.toml",
            ("b", "b.sock"),
        ),
        (
            &["--control", "@here"],
            &[],
            &both,
            "node.toml",
            ("a", "here"),
        ),
        (
            &["--no-config"],
            &["--no-config"],
            &[],
            "node.toml",
            (
                "state/selkie/identity.key",
                "state/selkie/identity.key.sock",
            ),
        ),
        (
            &["--config", "@other.toml"],
            &["--config", "@other.toml"],
            &both,
            "node.toml",
            ("b", "b.sock"),
        ),
        // As where a composed file has `${KEY:-}`.
        (
            &[],
            &[],
            &[
                ("SELKIE_KEY", ""),
                ("SELKIE_CONFIG", ""),
                ("SELKIE_CONTROL", ""),
                ("SELKIE_LISTEN", ""),
                ("SELKIE_CHAIN", ""),
                ("SELKIE_LOG_FORMAT", ""),
            ],
            "node.toml",
            ("a", "filed"),
        ),
    ];
    for (flags, key_flags, environment, usual, (key, socket)) in cases {
        let said = format!("{flags:?} {environment:?} {usual}");
        let of = |words: &[&str], flags: &[&str]| {
            place.command(&[words, flags].concat(), environment, usual)
        };
        let mut running = of(&["run", "--json"], flags);
        let mut child = running.stdout(Stdio::piped()).spawn().expect("it starts");
        let pipe = child.stdout.take().expect("a pipe");
        let node = Running::writing(child, pipe);
        let start = node.object(|line| line["type"] == "start");
        node.address("/tcp/");
        assert!(place.path(socket).exists(), "{said}");
        let status = finish(&mut of(&["status", "--json"], flags), Stdio::piped());
        assert_eq!(status.status.code(), Some(0), "{said}: {}", stderr(&status));
        let status: Value = serde_json::from_str(&stdout(&status)).expect("JSON");
        assert_eq!(status["peerId"], start["peerId"], "{said}");
        let shown = finish(
            &mut of(&["key", "show", "--json"], key_flags),
            Stdio::piped(),
        );
        let shown: Value = serde_json::from_str(&stdout(&shown)).expect("JSON");
        assert_eq!(shown["peerId"], start["peerId"], "{said}");
        assert_eq!(shown["file"], place.file(key), "{said}");
        assert_eq!(node.end().0, Some(0), "{said}");
    }
}

#[test]
fn a_node_whose_files_are_one_does_not_start_and_they_stay() {
    let place = Place::new();
    let file = |name: &str| place.file(name);
    let [key, config, data] = ["key", "node.toml", "data"].map(file);
    let made = selkie(&["key", "new", &key]);
    assert_eq!(made.status.code(), Some(0));
    let before = fs::read(&key).expect("it is there");
    let run = ["run", "--chain", "ledger", "--key", &key];
    for more in [
        &["--address-book", &key][..],
        &["--control", &key],
        &["--data", &key],
        &["--config", &config, "--address-book", &config],
        &["--data", &data, "--address-book", &data],
        &["--data", &data, "--control", &data],
        &["--address-book", &data, "--control", &data],
        &["--data", &file("key.book")],
        &["--as-map", &key],
    ] {
        let refused = selkie(&[&run[..], more].concat());
        let said = stderr(&refused);
        assert_eq!(refused.status.code(), Some(1), "{more:?}: {said}");
        assert!(said.contains("a file of its own"), "{more:?}: {said}");
    }
    let absent = selkie(&[&run[..], &["--as-map", &file("none")]].concat());
    assert_eq!(absent.status.code(), Some(1));
    let said = stderr(&absent);
    assert!(
        said.contains("none is of no use: it can't be opened"),
        "{said}"
    );
    assert_eq!(fs::read(&key).expect("it stays"), before);
    assert!(!Path::new(&data).exists());
}

#[test]
fn the_folder_of_a_control_socket_is_made() {
    let place = Place::new();
    let (key, socket) = (place.file("a"), place.file("run/selkie/socket"));
    let node = Running::start(&["run", "--json", "--key", &key, "--control", &socket]);
    node.address("/tcp/");
    let status = selkie(&["status", "--control", &socket]);
    assert_eq!(status.status.code(), Some(0), "{}", stderr(&status));
    assert_eq!(node.end().0, Some(0));
}
