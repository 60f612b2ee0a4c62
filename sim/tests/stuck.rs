//! Who waits for something outside of virtual time ends the run. One test, since a process has one simulation.

use std::time::Duration;

use selkie_sim::{Failure, net::Line, simulate_within};

#[test]
fn a_node_that_blocks_is_named() {
    let outcome = simulate_within(Duration::from_secs(2), 7, |simulation| {
        let node = simulation.add(0, Line::default());
        simulation.run_for(Duration::from_millis(1_500));
        simulation.block_on(node, async {
            // Nobody else is there to wake it.
            futures::executor::block_on(futures_timer::Delay::new(Duration::from_secs(1)));
        });
    });
    let failure = outcome.expect_err("it blocks");
    let words = failure.to_string();
    assert!(
        words.contains("node 0") && words.contains("1.5s") && words.contains("block_on"),
        "{words}"
    );
    assert!(matches!(failure, Failure::Stuck { node: Some(0), .. }));
}
