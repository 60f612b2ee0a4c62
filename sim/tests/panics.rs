//! Who panics is told with the place. One test, since a process has one simulation.

use std::panic::{AssertUnwindSafe, catch_unwind};

use selkie_sim::{net::Line, panicked_at, simulate};

const LINE: u32 = line!() + 2;
async fn fails() {
    panic!("on purpose");
}

#[test]
fn the_panic_that_ends_a_run_has_a_place() {
    assert_eq!(panicked_at(), None);
    let ended = catch_unwind(AssertUnwindSafe(|| {
        simulate(7, |simulation| {
            // What is caught ends nothing.
            let _ = catch_unwind(|| panic!("caught"));
            let node = simulation.add(0, Line::default());
            simulation.block_on(node, fails());
        })
    }));
    assert!(ended.is_err());
    let place = format!("{}:{LINE}", file!());
    assert_eq!(panicked_at(), Some(place.as_str()));
}
