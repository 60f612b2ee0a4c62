//! A native process: tokio's runtime.

use libp2p::swarm;

/// The usual `#[test]`.
#[cfg(test)]
pub use core::prelude::v1::test;

/// Starts a task on the current tokio runtime.
pub fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
}

/// Runs a slow function on a thread for blocking work. `None` when it panicked or the runtime is ending.
pub async fn offload<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

/// libp2p's connections run as tokio tasks.
pub fn swarm_config() -> swarm::Config {
    swarm::Config::with_tokio_executor()
}
