//! Who panics is told with the place, the seed, the moment and what happened last. A simulation a process: each has one of its own.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::Command,
    time::Duration,
};

use selkie_sim::{net::Line, panicked_at, simulate};

/// Tells the process that is to panic from the one that looks on.
const CHILD: &str = "SIM_PANICKING_CHILD";

const LINE: u32 = line!() + 2;
async fn fails() {
    panic!("on purpose");
}

#[test]
fn the_panic_that_ends_a_run_is_told_with_its_place_seed_moment_and_last_events() {
    if std::env::var_os(CHILD).is_some() {
        return panic_in_a_node();
    }
    let this = std::env::current_exe().expect("a program");
    let mut command = Command::new(this);
    let output = command.arg("--nocapture").env(CHILD, "1").output();
    let output = output.expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    for words in [
        "on purpose",
        "seed 7, at 1.5s of virtual time, node 0; the last events:",
        "1.000000 node 0: it is well",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

fn panic_in_a_node() {
    assert_eq!(panicked_at(), None);
    let ended = catch_unwind(AssertUnwindSafe(|| {
        simulate(7, |simulation| {
            // What is caught ends nothing.
            let _ = catch_unwind(|| panic!("caught"));
            let node = simulation.add(0, Line::default());
            simulation.run_for(Duration::from_secs(1));
            simulation.note(node, "it is well");
            simulation.run_for(Duration::from_millis(500));
            simulation.block_on(node, fails());
        })
    }));
    assert!(ended.is_err());
    let place = format!("{}:{LINE}", file!());
    assert_eq!(panicked_at(), Some(place.as_str()));
}
