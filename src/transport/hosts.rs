//! WebRTC's tasks in runtimes of their own, so that they end.
//!
//! `webrtc` 0.17 starts a dozen tasks for a connection, which hold each other; those of a handshake that is given up are told by
//! nobody, and stay as long as their runtime does, with all their memory. `libp2p-webrtc` has no way to close what it has not
//! handed out, and one small packet from an address that need not be the sender's begins a handshake. So what WebRTC starts, it
//! starts in a *host*: a runtime of one thread. A host takes [`PER_HOST`] connections, one after the other; then the next host
//! begins, and the full one ends, with whatever is left in it, [`LINGER`] after the last connection that came up in it is gone: by
//! then ICE has given up, and has told the socket that it shares with others.
//!
//! Bounds: [`MAX_HOSTS`] hosts, each with what is left of [`PER_HOST`] handshakes. Where there are so many and all are full, a
//! newcomer by WebRTC is turned away until one of them ends; those by other transports are not. How many handshakes there are
//! at once is `door.rs`'s business. What stays is `libp2p-webrtc`'s own list of the addresses that it has told of: some
//! forty bytes for each that sent a first packet and was turned away, which is not listened to again from the same port.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    thread,
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use libp2p::{
    Multiaddr, Transport,
    core::{
        muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent, SubstreamBox},
        transport::{DialOpts, ListenerId, TransportError, TransportEvent},
    },
};
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
    task::JoinHandle,
};

use super::Boxed;
use crate::platform::{Delay, lock::lock};

/// Connections that begin in one host.
const PER_HOST: usize = 256;
/// Hosts at once.
const MAX_HOSTS: usize = 16;
/// How long a host stays behind: ICE gives up after 30 s.
const LINGER: Duration = Duration::from_secs(40);

type Output = <Boxed as Transport>::Output;
type Connecting = BoxFuture<'static, io::Result<Output>>;

/// A transport whose connections have their tasks in hosts.
pub struct Hosted {
    inner: Boxed,
    hosts: Hosts,
}

impl Hosted {
    /// This transport, so contained.
    pub fn new(inner: Boxed) -> Self {
        let hosts = Hosts::new(LINGER);
        Self { inner, hosts }
    }
}

impl Transport for Hosted {
    type Output = Output;
    type Error = io::Error;
    type ListenerUpgrade = Connecting;
    type Dial = Connecting;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Connecting, TransportError<io::Error>> {
        let dial = self.inner.dial(address, options)?;
        Ok(self.hosts.contain(dial))
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Connecting, io::Error>> {
        let event = Pin::new(&mut self.inner).poll(cx);
        event.map(|event| event.map_upgrade(|upgrade| self.hosts.contain(upgrade)))
    }
}

/// All hosts of a transport.
#[derive(Clone)]
struct Hosts(Arc<Mutex<All>>);

struct All {
    /// The one that takes newcomers, and how many it has taken.
    current: Option<(Arc<Host>, usize)>,
    /// Each host's thread has a copy.
    threads: Arc<()>,
    linger: Duration,
}

impl Hosts {
    /// None yet.
    fn new(linger: Duration) -> Self {
        Self(Arc::new(Mutex::new(All {
            current: None,
            threads: Arc::new(()),
            linger,
        })))
    }

    /// What is begun with the first poll takes a place; what nobody polls takes none.
    fn contain(
        &self,
        connecting: impl Future<Output = io::Result<Output>> + Send + 'static,
    ) -> Connecting {
        let hosts = self.clone();
        async move {
            let host = hosts.place()?;
            let (peer, inner) = host.run(connecting).await?;
            Ok((peer, StreamMuxerBox::new(Connection { inner, host })))
        }
        .boxed()
    }

    /// The host for one more connection; it lives as long as somebody has it.
    fn place(&self) -> io::Result<Arc<Host>> {
        let mut all = lock(&self.0);
        if let Some((host, taken)) = &mut all.current {
            *taken += 1;
            let host = Arc::clone(host);
            if *taken == PER_HOST {
                all.current = None;
            }
            return Ok(host);
        }
        if Arc::strong_count(&all.threads) > MAX_HOSTS {
            return Err(io::Error::other(
                "too many handshakes by WebRTC were given up; try another transport, or later",
            ));
        }
        let host = Arc::new(Host::start(Arc::clone(&all.threads), all.linger)?);
        all.current = Some((Arc::clone(&host), 1));
        Ok(host)
    }
}

/// A runtime and its thread. Both end, and all tasks with them, a while after this is dropped.
struct Host {
    runtime: Handle,
    _end: oneshot::Sender<()>,
}

impl Host {
    fn start(alive: Arc<()>, linger: Duration) -> io::Result<Self> {
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
            _end: end,
        })
    }

    /// Runs a handshake on the host's one thread. So nothing of the peer's comes between its end and the moment at which
    /// somebody listens to the peer's streams: `libp2p-webrtc` loses those that are opened between.
    async fn run<T: Send + 'static>(
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

/// A connection that holds its host.
struct Connection {
    inner: StreamMuxerBox,
    host: Arc<Host>,
}

impl Connection {
    fn within<R>(
        self: Pin<&mut Self>,
        call: impl FnOnce(Pin<&mut StreamMuxerBox>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        let this = self.get_mut();
        let _within = this.host.runtime.enter();
        call(Pin::new(&mut this.inner))
    }
}

impl StreamMuxer for Connection {
    type Substream = SubstreamBox;
    type Error = io::Error;

    fn poll_inbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<SubstreamBox>> {
        self.within(|inner| inner.poll_inbound(cx))
    }

    fn poll_outbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<SubstreamBox>> {
        self.within(|inner| inner.poll_outbound(cx))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.within(|inner| inner.poll_close(cx))
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        self.within(|inner| inner.poll(cx))
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    /// A handshake that starts a task which nobody ends, and comes to nothing; the task's end is heard.
    fn given_up(hosts: &Hosts) -> oneshot::Receiver<()> {
        let (task, ended) = oneshot::channel::<()>();
        let handshake = async move {
            tokio::spawn(async move {
                pending::<()>().await;
                drop(task);
            });
            Err(io::ErrorKind::TimedOut.into())
        };
        let outcome = futures::executor::block_on(hosts.contain(handshake));
        assert_eq!(
            outcome.err().map(|error| error.kind()),
            Some(io::ErrorKind::TimedOut)
        );
        ended
    }

    #[test]
    fn what_is_left_of_handshakes_ends_with_their_host() {
        let hosts = Hosts::new(Duration::ZERO);
        let ended: Vec<_> = (0..PER_HOST * 3).map(|_| given_up(&hosts)).collect();
        assert!(lock(&hosts.0).current.is_none(), "three are full");
        for ended in ended {
            assert!(ended.blocking_recv().is_err(), "the task is dropped");
        }
    }

    #[test]
    fn a_host_stays_while_a_connection_lives_and_there_are_so_many() {
        let hosts = Hosts::new(Duration::ZERO);
        let mut live = Vec::new();
        for _ in 0..MAX_HOSTS {
            live.push(hosts.place().expect("a place"));
            (1..PER_HOST).for_each(|_| drop(hosts.place().expect("a place")));
        }
        assert!(hosts.place().is_err(), "all are full and live");
        let running = live[0].runtime.spawn(ready(7));
        assert_eq!(futures::executor::block_on(running).expect("it runs"), 7);
        live.pop();
        while hosts.place().is_err() {
            thread::yield_now();
        }
    }

    #[test]
    fn a_handshake_that_is_dropped_goes_with_all_it_has() {
        let hosts = Hosts::new(Duration::ZERO);
        let (held, dropped) = oneshot::channel::<()>();
        let handshake = async move {
            let _held = held;
            pending().await
        };
        assert!(hosts.contain(handshake).now_or_never().is_none());
        assert!(dropped.blocking_recv().is_err());
    }

    #[test]
    fn what_nobody_polls_takes_no_place() {
        let hosts = Hosts::new(Duration::ZERO);
        drop(hosts.contain(pending()));
        assert!(lock(&hosts.0).current.is_none());
    }
}
