//! What would be no part of the seed is refused at the beginning, or ends the process.

use std::process::Command;

/// Tells the process that is to end from the one that looks on.
const CHILD: &str = "SIM_HOST_TRAPPED_CHILD";
/// What that one ends with where the kernel takes no filter.
const REFUSED: i32 = 77;

#[test]
fn who_asks_the_kernel_itself_for_randomness_ends_the_process() {
    if std::env::var_os(CHILD).is_some() {
        // Where the kernel refuses the filter nothing can be trapped, and a run says so.
        if !selkie_sim_host::trap::set() {
            std::process::exit(REFUSED);
        }
        let mut bytes = [0_u8; 8];
        // SAFETY: there is room for so many bytes.
        unsafe { libc::syscall(libc::SYS_getrandom, bytes.as_mut_ptr(), bytes.len(), 0) };
        std::process::exit(1);
    }
    let this = std::env::current_exe().expect("a program");
    let mut command = Command::new(this);
    command.args([
        "--exact",
        "who_asks_the_kernel_itself_for_randomness_ends_the_process",
    ]);
    let output = command
        .arg("--nocapture")
        .env(CHILD, "1")
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(REFUSED) {
        return;
    }
    assert_eq!(output.status.code(), Some(101), "{said}");
    assert!(said.contains("asked the kernel itself"), "{said}");
}

#[test]
fn a_thread_that_has_taken_randomness_before_is_told_to_be_too_late() {
    let thread = std::thread::spawn(|| {
        let _ = std::hash::RandomState::new();
        selkie_sim_host::begin(1)
    });
    let why = thread.join().expect("it passes").expect_err("it is late");
    assert!(why.contains("fresh thread"), "{why}");
}
