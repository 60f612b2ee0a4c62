//! What no run may do ends its process, with the reason.

use std::process::Command;

use selkie_sim::{net::Line, simulate};

/// Tells the process that is to end from the one that looks on.
const CHILD: &str = "SIM_TRAPPED_CHILD";

#[test]
fn a_node_that_starts_a_thread_ends_the_run() {
    if std::env::var_os(CHILD).is_some() {
        let _ = simulate(7, |simulation| {
            let node = simulation.add(0, Line::default());
            simulation.block_on(node, async {
                let _ = std::thread::spawn(|| ()).join();
            });
        });
        return;
    }
    let this = std::env::current_exe().expect("a program");
    let mut command = Command::new(this);
    command.args(["--exact", "a_node_that_starts_a_thread_ends_the_run"]);
    let output = command
        .args(["--nocapture"])
        .env(CHILD, "1")
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(101), "{said}");
    assert!(said.contains("started a thread"), "{said}");
}
