//! A native process: tokio's runtime.

use std::{any::Any, panic::AssertUnwindSafe};

use bytes::Bytes;
use futures::FutureExt;
use tokio::runtime::Handle;

mod executor;

pub use executor::{Executor, turn_is_over};

/// The usual `#[test]`.
#[cfg(test)]
pub use core::prelude::v1::test;

/// Starts a task on the current tokio runtime.
pub fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
}

/// Runs a slow function on a thread for blocking work; for a caller without a runtime of tokio, on its own. `None` when it panicked or the
/// runtime is ending.
pub async fn offload<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(work).await.ok(),
        Err(_) => guard(work).ok(),
    }
}

/// Runs a future to its end; an error says with which words it panicked.
///
/// # Errors
/// The panic's message.
pub async fn guarded<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let outcome = AssertUnwindSafe(work).catch_unwind().await;
    outcome.map_err(|panic| words(&*panic))
}

/// Calls a function; an error says with which words it panicked.
///
/// # Errors
/// The panic's message.
pub fn guard<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(AssertUnwindSafe(call)).map_err(|panic| words(&*panic))
}

/// What a node sends for a frame of its lanes: the frame; a simulated one may mean harm.
pub fn sent_for(frame: Bytes) -> Option<Bytes> {
    Some(frame)
}

/// A number in digits.
pub fn digits(number: f64) -> String {
    number.to_string()
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it does not say why").to_owned()
}
