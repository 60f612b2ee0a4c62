//! The dashboard's connections: bounded in number, and none holds its place for nothing.
//!
//! A request's head has [`HEAD`] to arrive, counted from the connection's start or the answer before it, and a connection on which no byte
//! moves for [`STALL`] is closed: whoever sends a byte now and then, or does not read what it asked for, is not waited for.
//! Where all [`MAX_CONNECTIONS`] places are taken, a newcomer gets the one that has been quiet the longest among those of the
//! address with the most of them. So no crowd of idle sockets keeps a page out, and no address drives out
//! those of another while it has more itself.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{IpAddr, Ipv6Addr},
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::Router;
use futures::future::select;
use futures_timer::Delay;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

/// Connections at once: some tabs, each with the six that browsers open.
const MAX_CONNECTIONS: usize = 256;
/// How long the head of a request may take.
const HEAD: Duration = Duration::from_secs(10);
/// How long no byte may go either way.
const STALL: Duration = Duration::from_secs(20);
/// The pause after the system gave no connection, for want of descriptors say.
const PAUSE: Duration = Duration::from_secs(1);

/// Serves until the runtime ends.
pub(super) async fn serve(listener: TcpListener, router: Router) {
    let places = Arc::new(Mutex::new(Places::default()));
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                let place = Place::take(&places, address.ip());
                tokio::spawn(answer(stream, place, router.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "the dashboard's server gets no connection");
                Delay::new(PAUSE).await;
            }
        }
    }
}

/// Answers on one connection until either side has enough, or its place is given to another.
async fn answer(stream: TcpStream, place: Place, router: Router) {
    let stream = Watched {
        stream,
        moved: Arc::clone(&place.moved),
    };
    let mut server = auto::Builder::new(TokioExecutor::new()).http1_only();
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD);
    let connection =
        pin!(server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    let stalled = pin!(stalled(place.moved));
    // An error is the client's affair.
    drop(select(connection, select(stalled, place.given_away)).await);
    lock(&place.places).open.remove(&place.id);
}

/// Returns when nothing has moved for so long.
async fn stalled(moved: Moved) {
    loop {
        let quiet = lock(&moved).elapsed();
        match STALL.checked_sub(quiet) {
            Some(rest) if !rest.is_zero() => Delay::new(rest).await,
            _ => return,
        }
    }
}

/// When a byte last went either way.
type Moved = Arc<Mutex<Instant>>;

/// Who is here.
#[derive(Debug, Default)]
struct Places {
    open: BTreeMap<u64, Open>,
    next: u64,
}

#[derive(Debug)]
struct Open {
    network: IpAddr,
    moved: Moved,
    /// Its end tells that the place is another's now.
    _gives_away: oneshot::Sender<()>,
}

/// A place in the house.
struct Place {
    id: u64,
    moved: Moved,
    given_away: oneshot::Receiver<()>,
    places: Arc<Mutex<Places>>,
}

impl Place {
    /// The next place; where there is none, that of another one.
    fn take(places: &Arc<Mutex<Places>>, from: IpAddr) -> Self {
        let (gives_away, given_away) = oneshot::channel();
        let moved = Moved::new(Mutex::new(Instant::now()));
        let mut open = lock(places);
        if open.open.len() >= MAX_CONNECTIONS
            && let Some(id) = open.least_wanted()
        {
            open.open.remove(&id);
        }
        let id = open.next;
        open.next += 1;
        open.open.insert(
            id,
            Open {
                network: network(from),
                moved: Arc::clone(&moved),
                _gives_away: gives_away,
            },
        );
        drop(open);
        Self {
            id,
            moved,
            given_away,
            places: Arc::clone(places),
        }
    }
}

impl Places {
    /// Of the address with the most connections, the one that has been quiet the longest.
    fn least_wanted(&self) -> Option<u64> {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for open in self.open.values() {
            *counts.entry(open.network).or_default() += 1;
        }
        let most = counts.values().copied().max()?;
        let crowd = self
            .open
            .iter()
            .filter(|(_, open)| counts.get(&open.network) == Some(&most));
        let quietest = crowd.min_by_key(|(_, open)| *lock(&open.moved));
        quietest.map(|(id, _)| *id)
    }
}

/// What one host has for itself: an IPv4 address, or the 64 bits of an IPv6 network.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        ip => ip,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing panics while it holds one of these.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stream that notes when a byte has moved.
struct Watched {
    stream: TcpStream,
    moved: Moved,
}

impl Watched {
    fn note(&self) {
        *lock(&self.moved) = Instant::now();
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if polled.is_ready() {
            self.note();
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if polled.is_ready() {
            self.note();
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        if polled.is_ready() {
            self.note();
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(places: &Arc<Mutex<Places>>, from: &str) -> Place {
        Place::take(places, from.parse().expect("an address"))
    }

    #[test]
    fn a_newcomer_gets_the_quietest_place_of_the_largest_crowd() {
        let places = Arc::default();
        let mut guest = take(&places, "192.0.2.7");
        let mut crowd: Vec<_> = (1..MAX_CONNECTIONS)
            .map(|_| take(&places, "192.0.2.8"))
            .collect();
        *lock(&crowd[0].moved) = Instant::now() + Duration::from_secs(1);
        let _late = take(&places, "192.0.2.9");
        assert_eq!(lock(&places).open.len(), MAX_CONNECTIONS);
        assert!(guest.given_away.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        let mut gone = crowd
            .iter_mut()
            .map(|place| place.given_away.try_recv() == Err(oneshot::error::TryRecvError::Closed));
        assert_eq!(gone.next(), Some(false), "it was not quiet");
        assert_eq!(
            gone.next(),
            Some(true),
            "it was the first of the quiet ones"
        );
        assert!(!gone.any(|gone| gone));
    }

    #[test]
    fn a_host_is_an_ipv4_address_or_an_ipv6_network() {
        let same = |a: &str, b: &str| {
            network(a.parse().expect("an address")) == network(b.parse().expect("an address"))
        };
        assert!(same("2001:db8::1", "2001:db8::2:3") && !same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1") && !same("192.0.2.1", "192.0.2.2"));
    }
}
