//! One item of any chain that another process gets, and what the environment and the usual files say.

use std::{
    fs,
    io::Write,
    process::Stdio,
    time::{Duration, Instant},
};

use selkie::{
    Application, Block,
    chain::{
        bitcoin::Bitcoin,
        ledger::{Genesis, HeaderVote, development_key},
    },
};
use serde_json::Value;

use crate::command::{
    Running, a_joining_peer, a_key, a_plain_peer, an_idle_peer, command, finish, selkie, stderr,
    stdout,
};

#[test]
fn an_item_of_each_kind_arrives_in_another_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = a_key(folder.path());
    let node = Running::start(&["run", "--json", "--key", &key]);
    let address = node.address("/tcp/");
    for kind in ["transaction", "vote", "block"] {
        let path = folder.path().join(kind);
        fs::write(&path, format!("a {kind} of some chain")).expect("written");
        let path = path.to_str().expect("a path");
        // Peers know a block by the id that its chain gives it.
        let words = [
            "submit", path, "--kind", kind, "--to", &address, "--json", "--chain", "opaque",
        ];
        let sent = selkie(&words);
        assert_eq!(sent.status.code(), Some(0), "{}", stderr(&sent));
        let told: Value = serde_json::from_str(&stdout(&sent)).expect("JSON");
        let came = node.object(|line| line["type"] == "item:accepted" && line["kind"] == kind);
        assert_eq!((&told["id"], &told["bytes"]), (&came["id"], &came["bytes"]));
    }
    assert_eq!(node.end().0, Some(0));
}

/// Files that only a listener with TLS needs: who has none may be unable to read them.
#[test]
fn who_listens_nowhere_with_tls_needs_no_certificate() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let [config, item] = ["node.toml", "item"].map(at);
    let named =
        "[security.tls_config]\ncertificate = \"no/such/cert.pem\"\nkey = \"no/such/key.pem\"";
    let secure = "[network]\nlisten_addresses = [\"/ip4/127.0.0.1/tcp/0/tls/ws\"]";
    fs::write(&config, format!("{secure}\n{named}")).expect("written");
    fs::write(&item, "a vote of some chain").expect("written");
    let of_file = selkie(&["run", "--config", &config, "--key", &at("first.key")]);
    assert_eq!(of_file.status.code(), Some(1));
    let problem = stderr(&of_file);
    assert!(
        problem.contains("security.tls_config.certificate = no/such/cert.pem"),
        "{problem}"
    );
    let elsewhere = ["--config", &config, "--listen", "/ip4/127.0.0.1/tcp/0"];
    let run = ["run", "--json", "--key", &at("first.key")];
    let node = Running::start(&[&run[..], &elsewhere].concat());
    let address = node.address("/tcp/");
    let submit = ["submit", &item, "--kind", "vote", "--to", &address];
    let own = ["--key", &at("second.key")];
    let sent = selkie(&[&submit[..], &elsewhere, &own].concat());
    assert_eq!(sent.status.code(), Some(0), "{}", stderr(&sent));
    assert_eq!(node.end().0, Some(0));
}

#[test]
fn what_is_of_a_chain_is_judged_and_named_as_it_is_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = a_key(folder.path());
    let submit = |chain: &str, kind: &str, data: &[u8], address: &str| {
        let path = folder.path().join(kind);
        fs::write(&path, data).expect("written");
        let path = path.to_str().expect("a path");
        selkie(&[
            "submit", path, "--kind", kind, "--to", address, "--json", "--chain", chain,
        ])
    };
    let told = |sent: &std::process::Output| -> Value {
        assert_eq!(sent.status.code(), Some(0), "{}", stderr(sent));
        serde_json::from_str(&stdout(sent)).expect("JSON")
    };

    let node = Running::start(&["run", "--json", "--key", &key, "--chain", "bitcoin"]);
    let address = node.address("/tcp/");
    let block = fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/testdata/block-413567.raw"
    ));
    let block = Block::new(block.expect("it is in the repository"));
    let parts = Bitcoin.split_block(&block).expect("a block");
    let payment = parts.transactions.last().expect("it has some");
    let sent = told(&submit("bitcoin", "transaction", payment, &address));
    let came = node.object(|line| line["type"] == "item:accepted");
    assert_eq!(sent["id"], came["id"], "its txid");
    let nothing = submit("bitcoin", "transaction", &[7; 153], &address);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(stderr(&nothing).contains("nothing of this chain"));
    assert_eq!(node.end().0, Some(0));

    let node = Running::start(&["run", "--json", "--key", &key, "--chain", "ledger"]);
    let address = node.address("/tcp/");
    let genesis = Genesis::development("selkie-dev").hash();
    let voter = development_key("selkie-dev", "voter 0");
    let vote = HeaderVote::new(&genesis, &voter, 1, [7; 32]).encode();
    let sent = told(&submit("ledger", "vote", &vote, &address));
    let came = node.object(|line| line["type"] == "item:accepted");
    assert_eq!(sent["id"], came["id"]);
    let stranger = development_key("selkie-dev", "nobody");
    let vote = HeaderVote::new(&genesis, &stranger, 1, [7; 32]).encode();
    let nothing = submit("ledger", "vote", &vote, &address);
    assert!(stderr(&nothing).contains("nobody who votes here"));
    assert_eq!(node.end().0, Some(0));
}

#[test]
fn an_item_comes_by_stdin_too_and_is_never_cut() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = a_key(folder.path());
    let node = Running::start(&["run", "--json", "--key", &key]);
    let address = node.address("/tcp/");
    let give = |bytes: &[u8], kind: &str| {
        let mut giving = command(&["submit", "-", "--kind", kind, "--to", &address]);
        let piped = giving.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = piped.stderr(Stdio::piped()).spawn().expect("it starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        // It may end before it has read all of what is too long.
        let _ = stdin.write_all(bytes);
        drop(stdin);
        child.wait_with_output().expect("it ran")
    };
    let sent = give(b"by a pipe", "transaction");
    assert_eq!(sent.status.code(), Some(0), "{}", stderr(&sent));
    node.object(|line| line["kind"] == "transaction");
    for (bytes, problem) in [
        (&[][..], "is empty"),
        (&[1; 65_537], "more than 65536 bytes"),
    ] {
        let refused = give(bytes, "vote");
        assert_eq!(refused.status.code(), Some(1));
        assert!(stderr(&refused).contains(problem), "{}", stderr(&refused));
    }
    assert_eq!(node.end().0, Some(0));
}

#[test]
fn who_is_to_get_it_must_be_named_and_there() {
    let file = env!("CARGO_MANIFEST_DIR").to_owned() + "/Cargo.toml";
    let nobody = selkie(&["submit", &file, "--kind", "vote"]);
    assert_eq!(nobody.status.code(), Some(2));
    assert!(
        stderr(&nobody).contains("--to or --bootstrap"),
        "{}",
        stderr(&nobody)
    );
    let to = ["--to", "/ip4/127.0.0.1/tcp/1"];
    let gone = selkie(&[&["submit", &file, "--kind", "transaction"], &to[..]].concat());
    assert_eq!(gone.status.code(), Some(1));
    assert!(
        stderr(&gone).contains("nobody listens"),
        "{}",
        stderr(&gone)
    );
}

#[test]
fn how_many_have_it_is_said_and_where_nobody_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = |name: &str| folder.path().join(name).display().to_string();
    let [one, two] =
        ["one.key", "two.key"].map(|name| Running::start(&["run", "--json", "--key", &key(name)]));
    let (first, second) = (one.address("/tcp/"), two.address("/tcp/"));
    let file = folder.path().join("vote");
    fs::write(&file, "aye").expect("written");
    let file = file.to_str().expect("a path");
    let silent = "/ip4/127.0.0.1/tcp/1";
    let words = [
        "submit", file, "--kind", "vote", "--json", "--to", &first, "--to", silent, "--to", &second,
    ];
    let sent = selkie(&words);
    assert_eq!(sent.status.code(), Some(0), "{}", stderr(&sent));
    let told: Value = serde_json::from_str(&stdout(&sent)).expect("JSON");
    // Nobody acknowledges a vote.
    assert_eq!((&told["read"], &told["handed"]), (&0.into(), &2.into()));
    assert_eq!(told["peers"], 2);
    assert_eq!(told["unreached"].as_array().map(Vec::len), Some(1));
    assert_eq!(told["unreached"][0]["address"], silent);
    assert!(stderr(&sent).contains(silent), "{}", stderr(&sent));
    for node in [one, two] {
        node.object(|line| line["type"] == "item:accepted");
        assert_eq!(node.end().0, Some(0));
    }
}

#[test]
fn of_what_peers_refuse_nothing_says_that_they_took_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let node = |chain: &str| {
        let key = at(&format!("{chain}.key"));
        Running::start(&["run", "--json", "--chain", chain, "--key", &key])
    };
    let [ledger, bitcoin] = ["ledger", "bitcoin"].map(node);
    let start = ledger.object(|line| line["type"] == "start");
    let genesis = start["network"]["genesis"].as_str().expect("it has one");
    let [at_ledger, at_bitcoin] = [&ledger, &bitcoin].map(|node| node.address("/tcp/"));
    let file = at("item");
    fs::write(&file, [7; 100]).expect("written");
    for (kind, node, address, chain, says) in [
        (
            "transaction",
            &ledger,
            &at_ledger,
            &["--genesis", genesis][..],
            "1 of 1 peer has read it",
        ),
        (
            "vote",
            &ledger,
            &at_ledger,
            &["--genesis", genesis],
            "1 of 1 peer was handed it",
        ),
        (
            "block",
            &bitcoin,
            &at_bitcoin,
            &["--chain", "opaque"],
            "wants nothing more of it",
        ),
    ] {
        let words = ["submit", &file, "--kind", kind, "--to", address];
        let sent = selkie(&[&words[..], chain].concat());
        assert_eq!(sent.status.code(), Some(0), "{}", stderr(&sent));
        node.object(|line| line["type"] == "item:refused" && line["kind"] == kind);
        let told = stdout(&sent);
        assert!(
            told.contains(says) && told.contains("peers do not say"),
            "{told}"
        );
        let told = selkie(&[&words[..], &["--json"], chain].concat());
        let told: Value = serde_json::from_str(&stdout(&told)).expect("JSON");
        let has = if kind == "vote" { "handed" } else { "read" };
        assert_eq!((&told[has], &told["taken"]), (&1.into(), &Value::Null));
    }
    for node in [ledger, bitcoin] {
        assert_eq!(node.end().0, Some(0));
    }
}

#[test]
fn who_acknowledges_nothing_was_handed_it_and_has_not_read_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Running::start(&["run", "--json", "--key", &a_key(folder.path())]);
    let address = node.address("/tcp/");
    let plain = a_plain_peer(&["/selkie/selkie-dev/transaction/1"]);
    let elsewhere = a_plain_peer(&["weather"]);
    let file = folder.path().join("transaction");
    fs::write(&file, "pay").expect("written");
    let file = file.to_str().expect("a path");
    let submit = ["submit", file, "--kind", "transaction"];
    let to = ["--to", &address, "--to", &plain, "--to", &elsewhere];
    let sent = selkie(&[&submit[..], &to, &["--json"]].concat());
    assert_eq!(sent.status.code(), Some(0), "{}", stderr(&sent));
    let told: Value = serde_json::from_str(&stdout(&sent)).expect("JSON");
    assert_eq!((&told["read"], &told["handed"]), (&1.into(), &1.into()));
    assert_eq!(told["peers"], 3);
    let sent = selkie(&[&submit[..], &["--to", &plain]].concat());
    let told = stdout(&sent);
    assert!(
        told.contains("1 of 1 peer was handed it") && !told.contains("has read it"),
        "{told}{}",
        stderr(&sent)
    );
    assert_eq!(node.end().0, Some(0));
}

#[test]
fn who_joins_once_the_item_has_gone_was_not_handed_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Running::start(&["run", "--json", "--key", &a_key(folder.path())]);
    let (address, (plain, joins)) = (node.address("/tcp/"), a_joining_peer(&[]));
    let file = folder.path().join("transaction");
    fs::write(&file, "pay").expect("written");
    let file = file.to_str().expect("a path");
    let submit = ["submit", file, "--kind", "transaction", "--json"];
    let to = ["--to", &address, "--to", &plain];
    let submit = Running::start(&[&submit[..], &to].concat());
    node.object(|line| line["type"] == "item:accepted");
    let topic = "/selkie/selkie-dev/transaction/1".to_owned();
    joins.unbounded_send(topic).expect("it runs");
    let told = submit.object(|line| line["type"] == "sent");
    assert_eq!((&told["read"], &told["handed"]), (&1.into(), &0.into()));
    assert_eq!(told["peers"], 2);
    assert_eq!(node.end().0, Some(0));
}

#[test]
fn who_takes_nothing_is_not_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Running::start(&["run", "--json", "--key", &a_key(folder.path())]);
    let (address, idle) = (node.address("/tcp/"), an_idle_peer());
    let file = folder.path().join("vote");
    fs::write(&file, "aye").expect("written");
    let file = file.to_str().expect("a path");
    let began = Instant::now();
    let words = [
        "submit", file, "--kind", "vote", "--json", "--to", &address, "--to", &idle,
    ];
    let sent = selkie(&words);
    assert_eq!(sent.status.code(), Some(0), "{}", stderr(&sent));
    let told: Value = serde_json::from_str(&stdout(&sent)).expect("JSON");
    assert_eq!((&told["handed"], &told["peers"]), (&1.into(), &2.into()));
    // It would be 30 s.
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(node.end().0, Some(0));
}

#[test]
fn a_block_wants_the_name_of_its_chain() {
    let file = env!("CARGO_MANIFEST_DIR").to_owned() + "/Cargo.toml";
    let block = [
        "submit",
        &file,
        "--kind",
        "block",
        "--to",
        "/ip4/127.0.0.1/tcp/1",
    ];
    for (chain, problem) in [
        (&[][..], "name the chain"),
        (&["--chain", "ledger"], "--propose"),
    ] {
        let refused = selkie(&[&block[..], chain].concat());
        assert_eq!(refused.status.code(), Some(2));
        assert!(stderr(&refused).contains(problem), "{}", stderr(&refused));
    }
}

#[test]
fn a_nodes_environment_is_for_no_other_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = a_key(folder.path());
    let node = Running::start(&["run", "--json", "--key", &key]);
    let address = node.address("/tcp/");
    let file = folder.path().join("vote");
    fs::write(&file, "a vote").expect("written");
    let file = file.to_str().expect("a path");
    let mut giving = command(&["submit", file, "--kind", "vote", "--to", &address]);
    giving.envs([
        ("SELKIE_KEY", &key),
        ("SELKIE_LISTEN", &"/nonsense".to_owned()),
    ]);
    let sent = finish(&mut giving, Stdio::piped());
    assert_eq!(sent.status.code(), Some(0), "{}", stderr(&sent));
    // Nor does the environment stand against a flag.
    let mut running = command(&["run", "--json", "--no-control", "--key", &key]);
    running.env("SELKIE_CONTROL", folder.path().join("other.sock"));
    let held = finish(&mut running, Stdio::piped());
    assert!(
        stderr(&held).contains("another node runs"),
        "{}",
        stderr(&held)
    );
    assert_eq!(node.end().0, Some(0));
}

#[test]
fn the_file_at_the_usual_place_is_read_and_the_environment_goes_before_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("selkie");
    fs::create_dir(&place).expect("a folder");
    fs::write(
        place.join("node.toml"),
        "[chain]\nnetwork_id = \"of-the-file\"",
    )
    .expect("written");
    let key = a_key(folder.path());
    let started = |environment: &[(&str, &str)]| {
        let mut running = command(&["run", "--json", "--key", &key, "--log-format", "json"]);
        running.env("XDG_CONFIG_HOME", folder.path());
        let child = running
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.expect("it starts");
        let pipe = child.stdout.take().expect("a pipe");
        let node = Running::writing(child, pipe);
        let network = node.object(|line| line["type"] == "start")["network"]["id"].clone();
        assert_eq!(node.end().0, Some(0));
        network
    };
    assert_eq!(started(&[]), "of-the-file");
    assert_eq!(
        started(&[("SELKIE_NETWORK_ID", "of-the-environment")]),
        "of-the-environment"
    );
}

#[test]
fn shells_and_man_are_told_of_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = selkie(&["completions", shell]);
        assert_eq!(script.status.code(), Some(0), "{}", stderr(&script));
        assert!(stdout(&script).contains("devnet"), "{shell}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let pages = selkie(&["man", folder.path().to_str().expect("a path")]);
    assert_eq!(pages.status.code(), Some(0), "{}", stderr(&pages));
    for page in ["selkie.1", "selkie-run.1", "selkie-peers.1"] {
        assert!(folder.path().join(page).is_file(), "{page}");
    }
}

#[test]
fn a_log_for_programs_is_one_object_a_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = a_key(folder.path());
    let flags = ["--log", "debug", "--log-format", "json"];
    let mut running = command(&[&["run", "--key", &key][..], &flags].concat());
    let child = running.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("it starts");
    let pipe = child.stderr.take().expect("a pipe");
    let node = Running::writing(child, pipe);
    let line = node.object(|line| line["level"] == "DEBUG");
    assert!(
        line["target"].is_string() && line["timestamp"].is_string(),
        "{line}"
    );
    assert_eq!(node.end().0, Some(0));
}
