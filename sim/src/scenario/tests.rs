use super::*;

const GOOD: &str = r#"
    about = "a test"
    nodes = 20
    duration = "60s"
    topology = { kind = "random-regular", degree = 4 }
    network = { latency = "50ms", jitter = "5ms", loss = 0.001 }

    [[publish]]
    kind = "transaction"
    start = "10s"
    end = "30s"
    per_second = 20.0
    bytes = 1024

    [[fault]]
    kind = "crash"
    at = "15s"
    until = "20s"
    nodes = "10%"

    [must]
    delivered = 1.0
"#;

fn error(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    let parsed = Scenario::parse(&GOOD.replacen(from, to, 1));
    parsed.expect_err("it is wrong").to_string()
}

#[test]
fn a_scenario_is_read() {
    let scenario = Scenario::parse(GOOD).expect("it is right");
    assert_eq!(scenario.publish[0].from, Nodes::All);
    assert_eq!(scenario.fault[0].times().1, Some(Duration::from_secs(20)));
    assert_eq!(scenario.must.within, Duration::from_secs(10));
    // What is published alone asks for no time.
    let nothing = GOOD
        .replace("delivered = 1.0", "")
        .replace("60s", "31s")
        .replace("degree = 4", "degree = 6");
    assert!(Scenario::parse(&nothing).is_ok());
}

#[test]
fn every_kind_of_fault_is_read() {
    for fault in [
        "kind = \"crash\"\nloses_disk = true",
        "kind = \"power-off\"",
        "kind = \"blackhole\"",
        "kind = \"no-inbound\"",
        "kind = \"slow-cpu\"\npoll = \"1ms\"",
        "kind = \"slow-application\"\ncheck = \"1s\"",
        "kind = \"line\"\nup_mbit = 1.0\ndown_mbit = 0.0",
        "kind = \"skew\"\nseconds = -3.5",
        "kind = \"liars\"\nper_second = 1.0\nbytes = 100",
    ] {
        let text = GOOD.replace("kind = \"crash\"", fault);
        let scenario = Scenario::parse(&text).expect(fault);
        let times = (Duration::from_secs(15), Some(Duration::from_secs(20)));
        assert_eq!(scenario.fault[0].times(), times);
        assert_eq!(scenario.fault[0].named().len(), 1);
    }
}

#[test]
fn what_is_wrong_is_named_with_its_value() {
    for (from, to, words) in [
        (
            "nodes = 20",
            "nodes = 1",
            ["nodes", "1 is not from 2"].as_slice(),
        ),
        (
            "nodes = 20",
            "nodes = 20\nnode = 3",
            &["unknown field `node`"],
        ),
        ("nodes = 20", "nodes = -20", &["-20", "nodes"]),
        (
            "duration = \"60s\"",
            "duration = \"soon\"",
            &["soon", "duration"],
        ),
        (
            "duration = \"60s\"",
            "duration = \"0s\"",
            &["duration", "0ns"],
        ),
        ("degree = 4", "degree = 30", &["topology.degree", "30"]),
        ("degree = 4", "grade = 4", &["grade"]),
        ("loss = 0.001", "loss = 1.5", &["network.loss", "1.5"]),
        ("end = \"30s\"", "end = \"5s\"", &["publish[0].end", "5s"]),
        ("end = \"30s\"", "end = \"90s\"", &["publish[0].end", "90s"]),
        (
            "per_second = 20.0",
            "per_second = -1.0",
            &["publish[0].per_second", "-1"],
        ),
        (
            "per_second = 20.0",
            "per_second = 60000.0",
            &["publish[0].per_second", "60000 for 20s", "1000000 items"],
        ),
        (
            "nodes = 20",
            "nodes = 20\nwork_takes = \"2m\"",
            &["work_takes", "120s"],
        ),
        // Sums that no duration and no number holds.
        (
            "latency = \"50ms\"",
            "latency = \"18446744073709551615s\"",
            &[
                "network.latency",
                "18446744073709551615s one way",
                "over a minute",
            ],
        ),
        (
            "latency = \"50ms\", jitter = \"5ms\", loss = 0.001",
            "regions = { own = { shares = [1.0], round_trip_ms = [[130000.0]] } }",
            &["network.regions", "65s one way", "over a minute"],
        ),
        (
            "[must]",
            "[[path]]\nbetween = [0, 20]\n[must]",
            &["path[0].between", "no node 20"],
        ),
        (
            "[must]",
            "[[path]]\nbetween = [3, 3]\n[must]",
            &["path[0].between", "3 and 3"],
        ),
        (
            "[must]",
            "[[path]]\nbetween = [0, 3]\nlatency = \"2m\"\n[must]",
            &["path[0].latency", "120s one way"],
        ),
        (
            "[must]",
            "[[path]]\nbetween = [0, 3]\nloss = 2.0\n[must]",
            &["path[0].loss", "2 is not"],
        ),
        (
            "delivered = 1.0",
            "min_peers = 20",
            &["must.min_peers", "20 is more than the 19"],
        ),
        (
            "delivered = 1.0",
            "min_honest_peers = 21",
            &["must.min_honest_peers", "21 is more than the 19"],
        ),
        (
            "delivered = 1.0",
            "max_memory_mib = 0",
            &["must.max_memory_mib", "0 MiB"],
        ),
        (
            "[must]",
            "[[attacker]]\ncount = 3\nnetworks = 0\ndoes = { kind = \"withhold\" }\n[must]",
            &["networks", "integer `0`"],
        ),
        (
            "[must]",
            "[[attacker]]\ncount = 3\ndoes = { kind = \"spoil-chunks\", renames = \"1ms\" }\n[must]",
            &["attacker[0].does.renames", "1ms"],
        ),
        (
            "[must]",
            "[[attacker]]\ncount = 9223372036854775807\ndoes = { kind = \"withhold\" }\n[[attacker]]\ncount = 9223372036854775807\ndoes = { kind = \"withhold\" }\n[[attacker]]\ncount = 9223372036854775807\ndoes = { kind = \"withhold\" }\n[must]",
            &["attacker[0].count", "9223372036854775807"],
        ),
        (
            "[must]",
            "[[attacker]]\ncount = 3\ndoes = { kind = \"reconnect\", every = \"18446744073709551615s\" }\n[must]",
            &["attacker[0].does.every", "18446744073709551615s"],
        ),
        (
            "[must]",
            "[[line]]\nshare = 1.0\nup_mbit = 5.0\ndown_mbit = 1e-6\n[must]",
            &["line[0].down_mbit", "0.000001 is neither"],
        ),
        (
            "kind = \"crash\"\n    at = \"15s\"\n    until = \"20s\"",
            "kind = \"liars\"\nper_second = 60000.0\nbytes = 100\nat = \"15s\"\nuntil = \"9000days\"",
            &["fault[0].per_second", "60000 for 45s"],
        ),
        (
            "bytes = 1024",
            "bytes = 3",
            &["publish[0].bytes", "3 is not"],
        ),
        (
            "bytes = 1024",
            "bytes = 1024\nknown = 0.5",
            &["publish[0].known", "0.5 of an item"],
        ),
        (
            "kind = \"transaction\"",
            "kind = \"block\"\nknown = 1.5",
            &["publish[0].known", "1.5"],
        ),
        (
            "until = \"20s\"",
            "until = \"2s\"",
            &["fault[0].until", "2s"],
        ),
        ("at = \"15s\"", "at = \"15m\"", &["fault[0].at", "900s"]),
        (
            "nodes = \"10%\"",
            "nodes = \"110%\"",
            &["110%", "a part as"],
        ),
        (
            "nodes = \"10%\"",
            "nodes = [4, 20]",
            &["fault[0].nodes", "20"],
        ),
        ("kind = \"crash\"", "kind = \"fire\"", &["fire", "crash"]),
        (
            "delivered = 1.0",
            "delivered = 1.1",
            &["must.delivered", "1.1"],
        ),
        (
            "delivered = 1.0",
            "liars_banned = 1.0",
            &["must.liars_banned", "no liars"],
        ),
        (
            "delivered = 1.0",
            "delivered = 1.0\nwithin = \"2m\"",
            &["must.within", "120s"],
        ),
        (
            "delivered = 1.0",
            "delivered = 1.0\ntaken = 1.5",
            &["must.taken", "1.5"],
        ),
        ("delivered = 1.0", "kept = -1.0", &["must.kept", "-1"]),
        (
            "delivered = 1.0",
            "vote = { p99 = \"1s\" }",
            &["must.vote", "no vote is published"],
        ),
        (
            "delivered = 1.0",
            "transaction = { within = \"0s\", p90 = \"1s\" }",
            &["must.transaction.within", "0ns"],
        ),
        // A time alone makes items judged or not.
        (
            "delivered = 1.0",
            "delivered = 1.0\ntransaction = { within = \"2m\" }",
            &["must.transaction.within", "120s"],
        ),
        (
            "delivered = 1.0",
            "delivered = 1.0\nvote = { within = \"2s\" }",
            &["must.vote", "no vote is published"],
        ),
        (
            "delivered = 1.0",
            "kept = 1.0\nwithin = \"2m\"",
            &["must.within", "120s"],
        ),
        // The run is over before what is made at the start is due.
        (
            "delivered = 1.0",
            "delivered = 1.0\nwithin = \"51s\"",
            &["must.within", "51s", "50s"],
        ),
        (
            "delivered = 1.0",
            "transaction = { kept = 2.0 }",
            &["must.transaction.kept", "2 is not"],
        ),
        (
            "delivered = 1.0",
            "transaction = { hops = 3 }",
            &["unknown field `hops`"],
        ),
        (
            "delivered = 1.0",
            "bytes_per_delivery = 0.5",
            &["must.bytes_per_delivery", "0.5"],
        ),
        (
            "delivered = 1.0",
            "peers = { count = 20, within = \"5s\" }",
            &["must.peers.count", "20 is not"],
        ),
        (
            "delivered = 1.0",
            "peers = { count = 4, within = \"2m\" }",
            &["must.peers.within", "120s"],
        ),
        (
            "delivered = 1.0",
            "min_honest_score = nan",
            &["must.min_honest_score", "NaN"],
        ),
        (
            "kind = \"crash\"",
            "kind = \"slow-application\"\ncheck = \"2m\"",
            &["fault[0].check", "120s"],
        ),
        (
            "[must]",
            "[[line]]\nshare = 1.0\nup_mbit = -5.0\ndown_mbit = 5.0\n[must]",
            &["line[0].up_mbit", "-5"],
        ),
        (
            "kind = \"random-regular\", degree = 4",
            "kind = \"islands\", islands = 2, degree = 4, links = 0",
            &["topology.links", "0 is not"],
        ),
        (
            "[must]",
            "[[attacker]]\ncount = 0\ndoes = { kind = \"withhold\" }\n[must]",
            &["attacker[0].count", "0 is not"],
        ),
        (
            "[must]",
            "[[attacker]]\ncount = 3\ndoes = { kind = \"steal\" }\n[must]",
            &["steal", "withhold"],
        ),
        (
            "[must]",
            "[[attacker]]\ncount = 3\ndoes = { kind = \"censor\", whom = [20] }\n[must]",
            &["attacker[0].does.whom", "no node 20"],
        ),
        (
            "[must]",
            "[[attacker]]\ncount = 3\nfrom = \"90s\"\ndoes = { kind = \"announce\" }\n[must]",
            &["attacker[0].from", "90s"],
        ),
        (
            "[must]",
            "[[attacker]]\ncount = 3\ndoes = { kind = \"rename\", every = \"1ms\" }\n[must]",
            &["attacker[0].does.every", "1ms"],
        ),
        (
            "[must]",
            "[[attacker]]\ncount = 3\ndoes = { kind = \"read-slowly\", bytes_per_second = 0.0 }\n[must]",
            &["attacker[0].does.bytes_per_second", "0 is not"],
        ),
        (
            "[must]",
            "[config.network]\nmax_peers = 0\n[must]",
            &["config", "max_peers"],
        ),
    ] {
        let error = error(from, to);
        for word in words {
            assert!(error.contains(word), "{to}: {error}");
        }
    }
}

#[test]
fn hosts_of_who_means_harm_are_in_as_many_networks_as_is_said() {
    let text = GOOD.replace(
        "[must]",
        "[[attacker]]\ncount = 2\ndoes = { kind = \"withhold\" }\n
         [[attacker]]\ncount = 5\nnetworks = 2\ndoes = { kind = \"withhold\" }\n[must]",
    );
    let scenario = Scenario::parse(&text).expect("it is right");
    let neighbours: Vec<_> = (0..28).map(|node| scenario.neighbour(node)).collect();
    assert!(neighbours[..24].iter().all(Option::is_none));
    assert_eq!(neighbours[24..], [Some(22), Some(23), Some(22), None]);
}

#[test]
fn every_scenario_of_the_house_is_right() {
    let folder = File::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let files = files(&folder).expect("they are there");
    assert!(files.iter().any(|file| file.ends_with("attacks/dawn.toml")));
    for file in files {
        let loaded = Scenario::load(&file);
        assert!(loaded.is_ok(), "{}: {:?}", file.display(), loaded.err());
    }
}
