//! A filter of the kernel on this thread: who asks it for randomness ends the process, and is told why.

use libc::{c_int, sock_filter, sock_fprog};

const MESSAGE: &[u8] =
    b"sim: a crate asked the kernel itself for randomness, so this run can't be repeated\n";

/// Whether the kernel takes the filter. It holds for this thread and those that it starts.
pub fn set() -> bool {
    let code = |code: u32| u16::try_from(code).unwrap_or(u16::MAX);
    let wanted = u32::try_from(libc::SYS_getrandom).unwrap_or(u32::MAX);
    let step = |code: u16, k: u32, jt: u8, jf: u8| sock_filter { code, jt, jf, k };
    let mut steps = [
        // The number of the system call stands first in what the filter sees.
        step(code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS), 0, 0, 0),
        step(
            code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K),
            wanted,
            0,
            1,
        ),
        step(
            code(libc::BPF_RET | libc::BPF_K),
            libc::SECCOMP_RET_TRAP,
            0,
            0,
        ),
        step(
            code(libc::BPF_RET | libc::BPF_K),
            libc::SECCOMP_RET_ALLOW,
            0,
            0,
        ),
    ];
    let program = sock_fprog {
        len: u16::try_from(steps.len()).unwrap_or(0),
        filter: steps.as_mut_ptr(),
    };
    // SAFETY: the handler does nothing but write and exit, and the program outlives the call that reads it.
    unsafe {
        let handler: extern "C" fn(c_int) = tell_and_exit;
        libc::signal(libc::SIGSYS, handler as libc::sighandler_t);
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                std::ptr::from_ref(&program),
            ) == 0
    }
}

extern "C" fn tell_and_exit(_: c_int) {
    // SAFETY: both may be called in a signal's handler.
    unsafe {
        libc::write(2, MESSAGE.as_ptr().cast(), MESSAGE.len());
        libc::_exit(101);
    }
}
