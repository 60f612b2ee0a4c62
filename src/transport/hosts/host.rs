//! One host: a runtime of one thread, in which handshakes and the connections that they become have their tasks.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    runtime::{Builder, Handle},
    sync::{oneshot, watch},
    task::JoinHandle,
};

use super::PER_HOST;
use crate::platform::Delay;

/// A runtime and its thread. Both end, and all tasks with them, a while after this is dropped.
pub(super) struct Host {
    pub(super) runtime: Handle,
    /// Handshakes under way, and connections.
    pub(super) live: AtomicUsize,
    /// Connections.
    pub(super) connected: AtomicUsize,
    /// Handshakes of which something is left.
    pub(super) left: AtomicUsize,
    /// Whether its connections are to end.
    pub(super) ends: watch::Sender<bool>,
    _end: oneshot::Sender<()>,
}

impl Host {
    pub(super) fn start(alive: Arc<()>, linger: Duration) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        thread::Builder::new()
            .name("webrtc".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    // It is never sent: its end is the word.
                    let _ = ended.await;
                    Delay::new(linger).await;
                });
                drop(runtime);
                drop(alive);
            })?;
        Ok(Self {
            runtime: handle,
            live: AtomicUsize::new(0),
            connected: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            ends: watch::Sender::new(false),
            _end: end,
        })
    }

    pub(super) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    pub(super) fn connected(&self) -> usize {
        self.connected.load(Ordering::Relaxed)
    }

    pub(super) fn is_full(&self) -> bool {
        self.left.load(Ordering::Relaxed) >= PER_HOST
    }

    /// Runs a handshake on the host's one thread. So nothing of the peer's comes between its end and the moment at which
    /// somebody listens to the peer's streams: `libp2p-webrtc` loses those that are opened between.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        handshake: impl Future<Output = io::Result<T>> + Send + 'static,
    ) -> io::Result<T> {
        let mut running = Running(self.runtime.spawn(handshake));
        let ended = Pin::new(&mut running.0).await;
        ended.map_err(io::Error::other)?
    }
}

/// A task that is given up when this is dropped.
struct Running<T>(JoinHandle<T>);

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
