//! A browser tab, a worker or Node: one thread and its microtask queue.

use libp2p::swarm;

use crate::platform;

/// `#[test]` in a browser.
#[cfg(test)]
pub use wasm_bindgen_test::wasm_bindgen_test as test;

/// Starts a task on the microtask queue.
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    wasm_bindgen_futures::spawn_local(task);
}

/// Runs a function in a later macrotask, so that the page can paint and read input first.
pub async fn offload<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    platform::Delay::new(std::time::Duration::ZERO).await;
    Some(work())
}

/// Runs a future to its end. A panic is the end of the whole instance here, and JavaScript hears of it as a trap.
///
/// # Errors
/// None in a browser.
pub async fn guarded<T>(work: impl Future<Output = T>) -> Result<T, String> {
    Ok(work.await)
}

/// Calls a function; as [`guarded`].
///
/// # Errors
/// None in a browser.
pub fn guard<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    Ok(call())
}

/// libp2p's connections run on the microtask queue.
pub fn swarm_config() -> swarm::Config {
    swarm::Config::with_wasm_executor()
}
