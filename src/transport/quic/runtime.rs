//! Where QUIC's tasks run: connections with those of the other transports ([`Executor`]), so that who makes others' handshakes wait
//! makes nobody else's votes wait; an endpoint, which hands packets to all of them, beside those.

use std::{
    fmt, io,
    net::UdpSocket,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime};

use crate::platform::Executor;

/// The runtime of one endpoint. See the module's documentation.
pub struct Connections {
    executor: Executor,
    /// Whether the endpoint runs: it is what starts first.
    has_endpoint: AtomicBool,
}

impl Connections {
    /// For an endpoint that is made with it.
    pub fn new(executor: &Executor) -> Self {
        Self {
            executor: executor.clone(),
            has_endpoint: AtomicBool::new(false),
        }
    }
}

impl Runtime for Connections {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, work: Pin<Box<dyn Future<Output = ()> + Send>>) {
        if self.has_endpoint.swap(true, Ordering::Relaxed) {
            self.executor.spawn(work);
        } else {
            TokioRuntime.spawn(work);
        }
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}
