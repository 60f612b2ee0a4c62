//! Virtual time, and what waits for it.
//!
//! Moments are durations since the beginning. What is due at one moment comes in the order in which it was asked for.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    task::Waker,
    time::Duration,
};

use libc::{c_int, clockid_t, timespec};

use crate::is_virtual;

/// What `Instant` has at the beginning, in seconds: programs subtract from it, so it is long after the machine's start.
const UPTIME: u64 = 1 << 20;
/// The date at the beginning: 2026-01-01, in seconds since 1970.
const DATE: u64 = 1_767_225_600;

/// When, and which of those at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(Duration, u64);

enum Due {
    Wake(Waker),
    Call(Box<dyn FnOnce()>),
}

#[derive(Default)]
struct Waiting {
    due: BTreeMap<Key, Due>,
    asked: u64,
}

thread_local! {
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    /// How many nanoseconds the date is ahead for whoever runs now.
    static SKEW: Cell<i64> = const { Cell::new(0) };
    static WAITING: RefCell<Waiting> = RefCell::default();
}

/// The moment.
pub fn now() -> Duration {
    NOW.get()
}

/// From now on the date, not the moment, is so many nanoseconds ahead of the true one, or behind it.
pub fn skew(nanoseconds: i64) {
    SKEW.set(nanoseconds);
}

/// Wakes at a moment; what is past comes with the next step.
pub fn wake_at(moment: Duration, waker: Waker) -> Key {
    wait(moment, Due::Wake(waker))
}

/// Calls at a moment, outside of all tasks.
pub fn call_at(moment: Duration, call: impl FnOnce() + 'static) -> Key {
    wait(moment, Due::Call(Box::new(call)))
}

/// No more, if it is not due yet.
pub fn cancel(key: Key) {
    // What is dropped here may ask for timers itself. At the end of the thread there may be none left.
    let gone = WAITING.try_with(|waiting| waiting.borrow_mut().due.remove(&key));
    drop(gone);
}

/// The next moment for which something waits.
pub fn next() -> Option<Duration> {
    WAITING.with_borrow(|waiting| waiting.due.keys().next().map(|Key(moment, _)| *moment))
}

/// Goes on to a moment and does all that is due by then. Time never goes back.
pub fn advance(moment: Duration) {
    NOW.set(now().max(moment));
    while let Some(due) = WAITING.with_borrow_mut(|waiting| {
        let first = waiting.due.first_entry()?;
        (first.key().0 <= now()).then(|| first.remove())
    }) {
        match due {
            Due::Wake(waker) => waker.wake(),
            Due::Call(call) => call(),
        }
    }
}

/// Nothing waits any more.
pub fn clear() {
    drop(take());
}

/// What waited, for who does not want it dropped.
pub fn take() -> impl Sized {
    WAITING.take()
}

fn wait(moment: Duration, due: Due) -> Key {
    assert!(
        is_virtual(),
        "a simulated node set a timer on a thread of its own"
    );
    WAITING.with_borrow_mut(|waiting| {
        waiting.asked += 1;
        let key = Key(moment, waiting.asked);
        waiting.due.insert(key, due);
        key
    })
}

/// Whether the standard library shows this clock.
pub(crate) fn is_below_std() -> bool {
    let (before, now) = (std::time::Instant::now(), NOW.get());
    NOW.set(now + Duration::from_nanos(1));
    let moved = std::time::Instant::now().duration_since(before);
    NOW.set(now);
    moved == Duration::from_nanos(1)
}

/// The C library's function, for whoever is linked with this crate.
///
/// # Safety
/// As for that one: `time` points to a `timespec`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    let virtual_time = match clock {
        _ if !is_virtual() => None,
        // What work costs is measured with these, and nothing else is.
        libc::CLOCK_PROCESS_CPUTIME_ID | libc::CLOCK_THREAD_CPUTIME_ID => None,
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => {
            let date = now() + Duration::from_secs(DATE);
            let skew = Duration::from_nanos(SKEW.get().unsigned_abs());
            Some(if SKEW.get() < 0 {
                date.saturating_sub(skew)
            } else {
                date + skew
            })
        }
        _ => Some(now() + Duration::from_secs(UPTIME)),
    };
    match virtual_time {
        None => {
            // SAFETY: the arguments are the caller's.
            let outcome = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
            c_int::try_from(outcome).unwrap_or(-1)
        }
        Some(at) => {
            let spec = timespec {
                tv_sec: at.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: at.subsec_nanos().into(),
            };
            // SAFETY: the caller's pointer is to a `timespec`.
            unsafe { time.write(spec) };
            0
        }
    }
}
