//! Locks that hold for moments only.
//!
//! A thread that takes a lock which it holds already waits for ever, in silence; in a browser it panics, and nothing says where. So with debug
//! assertions, as in all tests, each thread knows which locks it holds, and taking one of them again is a panic that names both places.

use std::{
    cell::RefCell,
    ops::{Deref, DerefMut},
    panic::Location,
    ptr,
    sync::{Mutex, MutexGuard, PoisonError},
};

thread_local! {
    /// The addresses of the locks that this thread holds, and where they were taken.
    static HELD: RefCell<Vec<(usize, &'static Location<'static>)>> = const { RefCell::new(Vec::new()) };
}

/// A lock that is held as long as this lives.
pub(crate) struct Guard<'a, T> {
    inner: MutexGuard<'a, T>,
    address: usize,
}

/// The lock. No code of ours panics while it holds one, so a poisoned one is sound.
#[track_caller]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> Guard<'_, T> {
    let address = ptr::from_ref(mutex).addr();
    if cfg!(debug_assertions) {
        takes(address, Location::caller());
    }
    Guard {
        inner: mutex.lock().unwrap_or_else(PoisonError::into_inner),
        address,
    }
}

#[track_caller]
fn takes(address: usize, place: &'static Location<'static>) {
    // What ends with its thread may lock after this is gone.
    let held = HELD.try_with(|held| {
        let mut held = held.borrow_mut();
        let before = held.iter().find(|(other, _)| *other == address).copied();
        if before.is_none() {
            held.push((address, place));
        }
        before
    });
    if let Ok(Some((_, before))) = held {
        panic!("this thread holds the lock already, which it took at {before}; let go of it first");
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        if cfg!(debug_assertions) {
            let lets_go = |held: &RefCell<Vec<(usize, _)>>| {
                held.borrow_mut()
                    .retain(|(address, _)| *address != self.address);
            };
            let _ = HELD.try_with(lets_go);
        }
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[core::prelude::v1::test]
    #[should_panic(
        expected = "this thread holds the lock already, which it took at src/platform/lock.rs"
    )]
    fn who_would_wait_for_itself_is_told_where() {
        let mutex = Mutex::new(0);
        let _held = lock(&mutex);
        lock(&mutex);
    }

    #[core::prelude::v1::test]
    fn a_lock_that_was_let_go_is_taken_again_and_others_beside_it() {
        let (one, other) = (Mutex::new(1), Mutex::new(2));
        for _ in 0..2 {
            let (mut one, other) = (lock(&one), lock(&other));
            *one += *other;
        }
        assert_eq!(*lock(&one), 5);
    }
}
