//! Virtual time, and what waits for it.
//!
//! Moments are durations since the beginning. What is due at one moment comes in the order in which it was asked for.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    task::Waker,
    time::Duration,
};

use libc::{c_int, c_void, clockid_t, time_t, timespec, timeval};

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

/// The C library's function, for whoever is linked with this crate: the date, as above.
///
/// # Safety
/// As for that one: `time` points to a `timeval`, and the zone, which is obsolete, is not asked for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gettimeofday(time: *mut timeval, _zone: *mut c_void) -> c_int {
    let mut date = timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a `timespec`, and the caller's to a `timeval`.
    unsafe {
        let outcome = clock_gettime(libc::CLOCK_REALTIME, &raw mut date);
        if outcome == 0 {
            time.write(timeval {
                tv_sec: date.tv_sec,
                tv_usec: date.tv_nsec / 1_000,
            });
        }
        outcome
    }
}

/// The C library's function, for whoever is linked with this crate: the date in whole seconds, as above.
///
/// # Safety
/// As for that one: `time` is null, or points to a `time_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn time(time: *mut time_t) -> time_t {
    let mut date = timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a `timespec`, and the caller's, where it is any, to a `time_t`.
    unsafe {
        if clock_gettime(libc::CLOCK_REALTIME, &raw mut date) != 0 {
            return -1;
        }
        if !time.is_null() {
            time.write(date.tv_sec);
        }
    }
    date.tv_sec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_the_c_library_for_the_date_is_shown_the_virtual_one() {
        let thread = std::thread::spawn(|| {
            crate::begin(1).expect("a fresh thread");
            advance(Duration::from_micros(2_500_001));
            let mut of_day = timeval {
                tv_sec: 0,
                tv_usec: 0,
            };
            let mut seconds = 0;
            // SAFETY: the pointers are to what the functions write.
            let (outcome, told) = unsafe {
                let outcome = libc::gettimeofday(&raw mut of_day, std::ptr::null_mut());
                (outcome, libc::time(&raw mut seconds))
            };
            let date = i64::try_from(DATE).expect("a date") + 2;
            assert_eq!((outcome, of_day.tv_sec, of_day.tv_usec), (0, date, 500_001));
            assert_eq!((told, seconds), (date, date));
        });
        thread.join().expect("it passes");
    }

    #[test]
    fn other_threads_have_the_systems_date() {
        let now = std::time::SystemTime::now();
        let date = now.duration_since(std::time::UNIX_EPOCH).expect("after it");
        // SAFETY: it is not asked to write.
        let told = unsafe { libc::time(std::ptr::null_mut()) };
        let told = u64::try_from(told).expect("after 1970");
        assert!(told.abs_diff(date.as_secs()) <= 1, "{told}, {date:?}");
    }
}
