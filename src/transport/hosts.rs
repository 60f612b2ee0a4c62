//! WebRTC's tasks in runtimes of their own, so that they end.
//!
//! `webrtc` 0.17 starts a dozen tasks for a connection, which hold each other; those of a handshake that is given up are told by
//! nobody, and stay as long as their runtime does, with all their memory. `libp2p-webrtc` has no way to close what it has not
//! handed out, and one small packet from an address that need not be the sender's begins a handshake. So what WebRTC starts, it
//! starts in a *host*: a runtime of one thread. A host that has [`PER_HOST`] handshakes' remains is full, and ends with them,
//! [`LINGER`] after the last connection that came up in it is gone: by then ICE has given up, and has told the socket that it shares
//! with others. A connection that ends leaves nothing behind, since it is closed, whoever drops it.
//!
//! Tasks can't move to another runtime, so a connection that came up stays among what is left of its host's handshakes, and keeps
//! that alive. Hosts are small, so that few have such a connection. Newcomers are refused before any connection is ended: only
//! where all hosts are full, there is a connection in each, and none is about to go, the connections of the host with the
//! fewest end, of the youngest of such. The next is not before that one is gone.
//!
//! What a flood of first packets from forged addresses can do: use up the pace at which handshakes begin ([`admission`]), so that
//! of the newcomers by WebRTC who were not here before as many are turned away as the flood outnumbers them. At 40 a second a host fills in 1.6 s, and is
//! gone after some 52 s: the flood has 41 hosts at most, and who comes after it waits a moment only. While it lasts, each peer that gets in
//! may keep one host more: 23 have room beside the flood, then there is less for newcomers. What it can't do: end a connection, unless
//! connections live in all 64 hosts; then it ends those of one host, one of 64 connections at least, in 40 s at least.
//! Our own dials are out of its reach: their pace is ours, and they have hosts of their own, [`MAX_DIAL_HOSTS`].
//!
//! Bounds: [`MAX_HOSTS`] and [`MAX_DIAL_HOSTS`] hosts, each a thread with what is left of [`PER_HOST`] handshakes and what is under way.
//! Where there are so many and all are full, or the pace is used up, a newcomer by WebRTC is turned away, before it takes a place from another; those
//! by other transports are not. How many handshakes there are at once is `door.rs`'s business. What stays is `libp2p-webrtc`'s own list of the addresses
//! that it has told of: some forty bytes for each that sent a first packet and was turned away, which is not listened to again from
//! the same port. Nothing bounds that: `libp2p-webrtc` 0.10 forgets an address when its connection is up or its socket is closed, and opens that
//! itself, so that nothing can stand before it, and to close it ends all connections that came by it. 12,500 forged packets a second leave 1.8 GB in an hour.

mod admission;
mod connection;
mod host;

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, Weak, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use futures::FutureExt;
use libp2p::{
    Multiaddr, Transport,
    core::{
        muxing::StreamMuxerBox,
        transport::{DialOpts, ListenerId, TransportError, TransportEvent},
    },
};

use self::{admission::Admission, connection::Connection, host::Host};
use super::{
    Boxed,
    newcomers::{Connecting, poll_admitted},
};
use crate::{
    peers::AddressGroup,
    platform::{self, lock::lock},
};

/// Handshakes of which something is left in one host; and connections in it, where there may be more hosts.
const PER_HOST: usize = 64;
/// Hosts at once of those that come to us.
const MAX_HOSTS: usize = 64;
/// Hosts at once of those that we dial.
const MAX_DIAL_HOSTS: usize = 16;
/// How long a connection may take to close once it was dropped.
const CLOSING: Duration = Duration::from_secs(10);
/// How long a host stays behind: ICE gives up after 30 s.
const LINGER: Duration = Duration::from_secs(40);

type Output = <Boxed as Transport>::Output;

/// A transport whose connections have their tasks in hosts.
pub struct Hosted {
    inner: Boxed,
    comers: Hosts,
    dials: Hosts,
    admission: Arc<Mutex<Admission>>,
}

impl Hosted {
    /// This transport, so contained. `seed` is random and secret.
    pub fn new(inner: Boxed, seed: &[u8; 16]) -> Self {
        Self {
            inner,
            comers: Hosts::new(MAX_HOSTS, LINGER),
            dials: Hosts::new(MAX_DIAL_HOSTS, LINGER),
            admission: Arc::new(Mutex::new(Admission::new(seed))),
        }
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
        Ok(self.dials.contain(dial))
    }

    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Connecting, io::Error>> {
        let Self {
            inner,
            comers,
            admission,
            ..
        } = self.get_mut();
        let comers = &*comers;
        poll_admitted(inner, cx, |remote| {
            if !lock(admission).admits(remote, platform::now()) {
                // What was not polled is nothing yet.
                tracing::debug!(%remote, "handshakes by WebRTC begin too fast: turned a newcomer away");
                return None;
            }
            let (group, admission) = (AddressGroup::of(remote), Arc::clone(admission));
            Some(move |upgrade| {
                let contained = comers.contain(upgrade);
                async move {
                    let up = contained.await?;
                    lock(&admission).came_up(group);
                    Ok(up)
                }
                .boxed()
            })
        })
    }
}

/// The hosts of those that come to us, or of those that we dial.
#[derive(Clone)]
struct Hosts(Arc<Mutex<All>>);

struct All {
    /// The one that takes newcomers.
    current: Option<Arc<Host>>,
    /// All of those that live.
    hosts: Vec<Weak<Host>>,
    /// Each host's thread has a copy.
    threads: Arc<()>,
    max: usize,
    linger: Duration,
}

impl Hosts {
    /// None yet, and so many at most.
    fn new(max: usize, linger: Duration) -> Self {
        Self(Arc::new(Mutex::new(All {
            current: None,
            hosts: Vec::new(),
            threads: Arc::new(()),
            max,
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
            let mut place = hosts.place()?;
            let (peer, inner) = place.host.run(connecting).await?;
            place.connect();
            Ok((peer, StreamMuxerBox::new(Connection::new(inner, place))))
        }
        .boxed()
    }

    /// A place for one more handshake; its host lives as long as somebody has it.
    fn place(&self) -> io::Result<Place> {
        let host = lock(&self.0).host()?;
        host.live.fetch_add(1, Ordering::Relaxed);
        let hosts = self.clone();
        Ok(Place {
            host,
            hosts,
            is_connected: false,
            is_closed: false,
        })
    }
}

impl All {
    /// The host for one more handshake: one that has room, or a new one.
    fn host(&mut self) -> io::Result<Arc<Host>> {
        self.hosts.retain(|host| host.strong_count() > 0);
        let hosts: Vec<_> = self.hosts.iter().filter_map(Weak::upgrade).collect();
        let open = hosts.iter().filter(|host| !host.is_full());
        let threads = Arc::strong_count(&self.threads) - 1;
        // The youngest first: what is given up there harms those least that have been here for long.
        let roomy = open.clone().rfind(|host| host.live() < PER_HOST);
        let host = if let Some(host) = roomy {
            Arc::clone(host)
        } else if threads < self.max {
            let host = Arc::new(Host::start(Arc::clone(&self.threads), self.linger)?);
            self.hosts.push(Arc::downgrade(&host));
            host
        } else if let Some(host) = open.min_by_key(|host| host.live()) {
            Arc::clone(host)
        } else {
            if threads == hosts.len() {
                make_room(&hosts);
            }
            return Err(io::Error::other(
                "too many handshakes by WebRTC were given up; try another transport, or later",
            ));
        };
        self.current = Some(Arc::clone(&host));
        Ok(host)
    }

    /// A host has become full: it takes no more.
    fn fill(&mut self, full: &Arc<Host>) {
        let current = self.current.as_ref();
        if current.is_some_and(|host| Arc::ptr_eq(host, full)) {
            self.current = None;
        }
    }
}

/// All hosts, the eldest first, are full: the one with the fewest connections ends them, unless there is one that goes without.
fn make_room(hosts: &[Arc<Host>]) {
    let goes = |host: &Arc<Host>| host.connected() == 0 || *host.ends.borrow();
    if !hosts.iter().any(goes)
        && let Some(fewest) = hosts.iter().rev().min_by_key(|host| host.connected())
    {
        fewest.ends.send_replace(true);
    }
}

/// A handshake's place in its host, and then its connection's. Unless that was closed, something is left of it.
struct Place {
    host: Arc<Host>,
    hosts: Hosts,
    is_connected: bool,
    is_closed: bool,
}

impl Place {
    /// Its handshake has become a connection.
    fn connect(&mut self) {
        self.is_connected = true;
        self.host.connected.fetch_add(1, Ordering::Relaxed);
    }

    /// Its connection is closed.
    fn give_back(mut self) {
        self.is_closed = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let host = &self.host;
        host.live.fetch_sub(1, Ordering::Relaxed);
        host.connected
            .fetch_sub(usize::from(self.is_connected), Ordering::Relaxed);
        if !self.is_closed && host.left.fetch_add(1, Ordering::Relaxed) + 1 == PER_HOST {
            lock(&self.hosts.0).fill(host);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, thread};

    use futures::future;
    use libp2p::{
        PeerId,
        core::{
            Endpoint,
            muxing::{StreamMuxer, StreamMuxerEvent, SubstreamBox},
            transport::{MemoryTransport, PortUse},
        },
    };
    use tokio::sync::oneshot;

    use super::{
        admission::{HERE, OPEN},
        *,
    };

    /// A connection on which nothing happens.
    struct Quiet;

    impl StreamMuxer for Quiet {
        type Substream = SubstreamBox;
        type Error = io::Error;

        fn poll_inbound(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<io::Result<SubstreamBox>> {
            Poll::Pending
        }

        fn poll_outbound(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<io::Result<SubstreamBox>> {
            Poll::Pending
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
            Poll::Pending
        }
    }

    fn connect(hosts: &Hosts) -> io::Result<StreamMuxerBox> {
        let comes_up = async { Ok((PeerId::random(), StreamMuxerBox::new(Quiet))) };
        let connected = futures::executor::block_on(hosts.contain(comes_up));
        connected.map(|(_, connection)| connection)
    }

    fn close(mut connection: StreamMuxerBox) {
        let closes = future::poll_fn(|cx| Pin::new(&mut connection).poll_close(cx));
        futures::executor::block_on(closes).expect("it closes");
    }

    fn lives(connection: &mut StreamMuxerBox) -> bool {
        let polled = future::poll_fn(|cx| Pin::new(&mut *connection).poll(cx));
        polled.now_or_never().is_none()
    }

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
        let hosts = Hosts::new(MAX_HOSTS, Duration::ZERO);
        let ended: Vec<_> = (0..PER_HOST * 3).map(|_| given_up(&hosts)).collect();
        assert!(lock(&hosts.0).current.is_none(), "three are full");
        for ended in ended {
            assert!(ended.blocking_recv().is_err(), "the task is dropped");
        }
    }

    #[test]
    fn connections_that_ended_take_no_place() {
        let hosts = Hosts::new(MAX_HOSTS, Duration::ZERO);
        let _lives = connect(&hosts).expect("a place");
        for number in 0..PER_HOST * 2 {
            let connection = connect(&hosts).expect("a place");
            // Its owner may just drop it.
            match number % 2 {
                0 => close(connection),
                _ => drop(connection),
            }
        }
        let all = lock(&hosts.0);
        let host = all.current.as_ref().expect("there is one");
        assert_eq!(host.left.load(Ordering::Relaxed), 0);
        assert!(
            Arc::strong_count(&all.threads) <= 3,
            "what is dropped closes behind"
        );
    }

    /// A host that is full, and in which so many connections live.
    fn full(hosts: &Hosts, connections: usize) -> Vec<StreamMuxerBox> {
        let live = (0..connections).map(|_| connect(hosts).expect("a place"));
        let live = live.collect();
        (0..PER_HOST).for_each(|_| drop(given_up(hosts)));
        live
    }

    #[test]
    fn a_flood_ends_connections_of_one_host_only_where_all_are_full_of_them() {
        let hosts = Hosts::new(MAX_HOSTS, LINGER);
        // The first and the second have one connection, the others two.
        let count = |round: usize| 2 - usize::from(round < 2);
        let mut connections: Vec<_> = (0..MAX_HOSTS)
            .map(|round| full(&hosts, count(round)))
            .collect();
        assert!(
            connections.iter_mut().flatten().all(lives),
            "a flood ends none"
        );
        assert!((0..PER_HOST).all(|_| connect(&hosts).is_err()));
        for (round, mut connection) in connections.into_iter().enumerate() {
            let live = connection.iter_mut().all(lives);
            assert_eq!(
                live,
                round != 1,
                "the younger one of those with the fewest: {round}"
            );
        }
    }

    #[test]
    fn hosts_that_go_by_themselves_are_waited_for() {
        let hosts = Hosts::new(MAX_HOSTS, LINGER);
        let mut connections: Vec<_> = (0..MAX_HOSTS)
            .flat_map(|round| full(&hosts, usize::from(round > 0)))
            .collect();
        assert!(connect(&hosts).is_err() && connections.iter_mut().all(lives));
    }

    #[test]
    fn a_connection_in_each_full_host_leaves_places_for_others() {
        let hosts = Hosts::new(MAX_HOSTS, Duration::ZERO);
        let mut connections = Vec::new();
        for _ in 0..2 * MAX_HOSTS {
            let connection = loop {
                connections.retain_mut(lives);
                if let Ok(connection) = connect(&hosts) {
                    break connection;
                }
                thread::yield_now();
            };
            connections.push(connection);
            (0..PER_HOST).for_each(|_| drop(given_up(&hosts)));
            assert!(connections.len() <= MAX_HOSTS);
        }
    }

    #[test]
    fn what_a_flood_begins_leaves_hosts_for_who_comes_after_it() {
        // What fills hosts in the time that one takes to fill, to be given up and to linger, with what comes at once, fits into two thirds of them.
        let per_second = OPEN.per_second + HERE.per_second;
        let fill = (PER_HOST as u64).div_ceil(per_second);
        let goes_after = fill + 10 + LINGER.as_secs();
        let most = OPEN.burst + HERE.burst + per_second * goes_after;
        assert!(most <= (PER_HOST * MAX_HOSTS * 2 / 3) as u64, "{most}");
    }

    #[test]
    fn first_packets_of_others_leave_our_own_dials_alone() {
        let inner = MemoryTransport::new()
            .map(|_, _| (PeerId::random(), StreamMuxerBox::new(Quiet)))
            .boxed();
        let mut hosted = Hosted::new(inner, &[1; 16]);
        let address: Multiaddr = "/memory/7734".parse().expect("an address");
        let listens = hosted.listen_on(ListenerId::next(), address.clone());
        listens.expect("it is free");
        let now = platform::now();
        while lock(&hosted.admission).admits(&address, now) {}
        let _live: Vec<_> = (0..MAX_HOSTS).map(|_| full(&hosted.comers, 1)).collect();
        assert!(connect(&hosted.comers).is_err());
        let options = DialOpts {
            role: Endpoint::Dialer,
            port_use: PortUse::New,
        };
        let dial = hosted.dial(address, options).expect("it can be dialled");
        futures::executor::block_on(dial).expect("a place");
    }

    #[test]
    fn a_handshake_that_is_dropped_goes_with_all_it_has() {
        let hosts = Hosts::new(MAX_HOSTS, Duration::ZERO);
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
        let hosts = Hosts::new(MAX_HOSTS, Duration::ZERO);
        drop(hosts.contain(pending()));
        assert!(lock(&hosts.0).current.is_none());
    }
}
