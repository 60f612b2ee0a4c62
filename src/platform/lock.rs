//! Locks that hold for moments only.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The lock. No code of ours panics while it holds one, so a poisoned one is sound.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
