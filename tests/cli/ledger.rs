//! The built-in account chain, run by the command.

use crate::command::{Running, a_key, selkie, stderr};

#[test]
fn blocks_and_votes_of_a_ledger_come_to_who_joins_and_its_file_is_held_by_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (key, data, other) = (a_key(folder.path()), file("ledger"), file("other.key"));
    let ledger = ["run", "--json", "--chain", "ledger"];
    let maker = [
        &ledger[..],
        &["--propose", "100", "--key", &key, "--data", &data],
    ]
    .concat();
    let maker = Running::start(&maker);
    let start = maker.object(|line| line["type"] == "start");
    let genesis = start["network"]["genesis"].as_str().expect("hex");
    assert_eq!(genesis.len(), 64, "peers are told which ledger it is");
    let address = maker.address("/tcp/");
    let second = selkie(&[&ledger[..], &["--key", &other, "--data", &data]].concat());
    let refused = stderr(&second);
    assert!(refused.contains("another process has"), "{refused}");
    let follower =
        Running::start(&[&ledger[..], &["--key", &other, "--bootstrap", &address]].concat());
    for _ in 0..3 {
        let block = follower.object(|line| line["kind"] == "block");
        assert_eq!(block["bytes"], 213, "a header alone");
    }
    follower.object(|line| line["kind"] == "vote");
    assert_eq!(follower.end().0, Some(0));
    assert_eq!(maker.end().0, Some(0));
}
