//! What a connection and those who use it tell each other past libp2p's traits, which have no words for it.
//!
//! A connection **stands** while it is read no further: what came by it was not read here, and has filled its room. All that the peer says
//! by it waits behind that, its answers and votes among it; so whoever waits for an answer has to know.
//!
//! Streams of the user's own protocols are **kept** while more of them is there than was read ahead (`network/streams/ahead.rs`): each may have as much
//! unread as a stream may, for as long as its owner likes. What the connection needs for the rest, gossip and lanes, is not to be theirs. So its window may be wider by as much
//! as they may have, but for the first one, which has its part of the window as it is. It becomes so piece by piece, a stream's window each time that all of it
//! is used up ([`Link::wider`]), so that what is booked is what is unread; over QUIC the peer says so, and what is booked is no more than it has sent
//! ([`Window::may_be_used_up`]). And it stays so where its peer can't be told of less ([`Window::narrows`]).
//! The first such piece is the connection's own, whatever others have; of the room for the rest a connection may have as much as it leaves free (A. Choudhury, E. Hahne, 1998).
//! Where there is none, the connection stands until its streams are read; who keeps them sees to those that nobody reads ([`Link::is_short`]).
//!
//! A transport makes the [`Link`] with the connection, and knows of the connection whose it is and where it leads. libp2p gives those who use it the
//! same two when it is there, and a number; by these they find the link ([`Links::of`]). Of links that nobody has asked for yet, and whose connections are not being closed, the
//! elder one is meant: libp2p tells of connections in the order in which they came. So one address may have several.
//!
//! Bounds: an entry for each connection, and for as many that are gone; 32 MiB by which windows are wider, all together, and a stream's window for each connection.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{
        ConnectedPoint, Endpoint,
        muxing::{StreamMuxer, StreamMuxerBox},
    },
    swarm::ConnectionId,
};

use crate::platform::lock::lock;

/// Links that are looked through for some whose connections are gone, at least.
const FEW: usize = 64;

/// By how many bytes all windows together may be wider, but for the first piece of each.
const ROOM: usize = 32 << 20;

/// The links of a node's connections. All clones are one.
#[derive(Clone, Debug, Default)]
pub struct Links(Arc<All>);

#[derive(Debug, Default)]
struct All {
    known: Mutex<Known>,
    kept: Room,
}

/// How much of [`ROOM`] is taken.
type Room = Arc<AtomicUsize>;

#[derive(Debug, Default)]
struct Known {
    /// Those that nobody has asked for yet, in the order in which they came.
    new: HashMap<Way, Vec<Weak<Link>>>,
    found: HashMap<ConnectionId, Weak<Link>>,
    /// With so many those are forgotten that are gone.
    many: usize,
}

/// Whose a connection is, who dialled, and where it leads.
type Way = (PeerId, Endpoint, Multiaddr);

impl Links {
    /// A connection is there: who knows its peer and address finds its link.
    pub fn connected(&self, peer: PeerId, endpoint: &ConnectedPoint, link: &Arc<Link>) {
        // It is told once.
        let _ = link.room.set(Arc::clone(&self.0.kept));
        let mut known = lock(&self.0.known);
        known.forget();
        let remote = endpoint.get_remote_address().clone();
        let way = (peer, endpoint.to_endpoint(), remote);
        let links = known.new.entry(way).or_default();
        links.retain(is_there);
        links.push(Arc::downgrade(link));
    }

    /// The link of a connection that libp2p tells of, to this peer at this address; `None`: nothing is known of it.
    pub fn of(
        &self,
        connection: ConnectionId,
        (peer, endpoint): (PeerId, Endpoint),
        remote: &Multiaddr,
    ) -> Option<Arc<Link>> {
        let mut known = lock(&self.0.known);
        if let Some(link) = known.found.get(&connection) {
            return link.upgrade();
        }
        known.forget();
        let link = known.take(&(peer, endpoint, remote.clone()));
        known.found.insert(connection, link.clone());
        link.upgrade()
    }
}

impl Known {
    /// The one that came first.
    fn take(&mut self, way: &Way) -> Weak<Link> {
        let Some(links) = self.new.get_mut(way) else {
            return Weak::new();
        };
        links.retain(is_there);
        let first = (!links.is_empty()).then(|| links.remove(0));
        if links.is_empty() {
            self.new.remove(way);
        }
        first.unwrap_or_default()
    }

    /// Forgets those that are gone, where there are many.
    fn forget(&mut self) {
        if self.new.len() + self.found.len() >= self.many {
            self.new.retain(|_, links| links.iter().any(is_there));
            self.found.retain(|_, link| link.strong_count() > 0);
            self.many = FEW + 2 * (self.new.len() + self.found.len());
        }
    }
}

/// Whether its connection is there, and not on its way out.
fn is_there(link: &Weak<Link>) -> bool {
    let link = link.upgrade();
    link.is_some_and(|link| !link.ends.load(Relaxed))
}

/// The window of a connection, as far as that can be changed.
pub trait Window: Send + Sync {
    /// Bytes that a stream may have unread.
    fn of_stream(&self) -> usize;

    /// Whether so much has come since it was made wider that all of it may be used up: of some windows only the peer says it, and can lie.
    fn may_be_used_up(&self) -> bool;

    /// By how many bytes the connection's is to be wider than it was at first. It is told, too, when more streams are kept, or fewer.
    fn update(&self, wider: usize);

    /// Whether it may be narrower again: not where a peer keeps what it was granted once.
    fn narrows(&self) -> bool;
}

/// See the module's documentation.
#[derive(Default)]
pub struct Link {
    state: Mutex<State>,
    /// Whether its connection is being closed.
    ends: AtomicBool,
    /// `None`: nothing is known of it.
    window: Option<Box<dyn Window>>,
    kept: Mutex<Kept>,
    room: OnceLock<Room>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct State {
    stands: bool,
    /// What was heard of that.
    heard: bool,
    /// Who hears of it, and who keeps streams.
    listener: Option<Waker>,
    keeper: Option<Waker>,
}

/// How many streams are kept, and by how many bytes the window is wider.
#[derive(Clone, Copy, Debug, Default)]
struct Kept {
    streams: usize,
    wider: usize,
}

impl Kept {
    /// By how much it may be, if a stream has so much.
    fn most(self, of_stream: usize) -> usize {
        self.streams.saturating_sub(1).saturating_mul(of_stream)
    }
}

impl Link {
    /// One of a connection with this window.
    pub fn new(window: impl Window + 'static) -> Self {
        Self {
            state: Mutex::default(),
            ends: AtomicBool::default(),
            window: Some(Box::new(window)),
            kept: Mutex::default(),
            room: OnceLock::new(),
        }
    }

    /// So many streams are kept.
    pub fn keep(&self, streams: usize) {
        let Some(window) = &self.window else {
            return;
        };
        let mut kept = lock(&self.kept);
        if kept.streams == streams {
            return;
        }
        kept.streams = streams;
        let most = kept.most(window.of_stream());
        if window.narrows() && most < kept.wider {
            self.book(&mut kept, most);
        }
        let wider = kept.wider;
        drop(kept);
        window.update(wider);
    }

    /// Whether streams are kept for which the window is not as wide as it may be.
    pub fn wants_more(&self) -> bool {
        let kept = *lock(&self.kept);
        let window = self.window.as_ref();
        window.is_some_and(|window| kept.wider < kept.most(window.of_stream()))
    }

    /// All of the window is used up. Returns by how much it is wider from now on, if it is.
    pub fn wider(&self) -> Option<usize> {
        let window = self.window.as_ref().filter(|it| it.may_be_used_up())?;
        let of_stream = window.of_stream();
        let mut kept = lock(&self.kept);
        let wider = kept.wider + of_stream;
        let is_wanted = wider <= kept.most(of_stream);
        (is_wanted && self.book(&mut kept, wider)).then_some(wider)
    }

    /// As [`Self::wider`], and the window is made so.
    pub fn widen(&self) -> bool {
        let wider = self.wider();
        if let (Some(wider), Some(window)) = (wider, &self.window) {
            window.update(wider);
        }
        wider.is_some()
    }

    /// Whether there is room for that: then it is so much wider.
    fn book(&self, kept: &mut Kept, wider: usize) -> bool {
        let (before, after) = (self.beyond(kept.wider), self.beyond(wider));
        if before != after {
            let Some(room) = self.room.get() else {
                return false;
            };
            let booked = room.fetch_update(Relaxed, Relaxed, |taken| {
                let others = taken.saturating_sub(before);
                let is_fair = after < before || others + 2 * after <= ROOM;
                is_fair.then_some(others + after)
            });
            if booked.is_err() {
                return false;
            }
        }
        kept.wider = wider;
        true
    }

    /// What of that is more than the connection's own piece.
    fn beyond(&self, wider: usize) -> usize {
        let own = self.window.as_ref().map_or(0, |window| window.of_stream());
        wider.saturating_sub(own)
    }

    /// Whether the connection stands and could have more, if there were room. Who asks is woken when it stands, or does no more.
    pub fn is_short(&self, cx: &Context<'_>) -> bool {
        let mut state = lock(&self.state);
        wakes(&mut state.keeper, cx);
        let stands = state.stands;
        drop(state);
        stands && self.wants_more()
    }

    /// Its connection is being closed.
    pub fn ends(&self) {
        self.ends.store(true, Relaxed);
    }

    /// Whether the connection is read no further.
    pub fn set_stands(&self, stands: bool) {
        let mut state = lock(&self.state);
        let is_new = std::mem::replace(&mut state.stands, stands) != stands;
        let keeper = is_new.then(|| state.keeper.take()).flatten();
        let is_news = state.heard != stands;
        let listener = is_news.then(|| state.listener.take()).flatten();
        drop(state);
        for waker in [keeper, listener].into_iter().flatten() {
            waker.wake();
        }
    }

    /// Whether it stands, when that is news.
    pub fn poll_stands(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut state = lock(&self.state);
        if state.heard != state.stands {
            state.heard = state.stands;
            return Poll::Ready(state.stands);
        }
        wakes(&mut state.listener, cx);
        Poll::Pending
    }
}

fn wakes(waker: &mut Option<Waker>, cx: &Context<'_>) {
    match waker {
        Some(waker) => waker.clone_from(cx.waker()),
        none => *none = Some(cx.waker().clone()),
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(room) = self.room.get() {
            let beyond = self.beyond(lock(&self.kept).wider);
            room.fetch_sub(beyond, Relaxed);
        }
    }
}

/// A connection with its link.
pub struct Linked {
    muxer: StreamMuxerBox,
    link: Arc<Link>,
}

impl Linked {
    /// A connection that says there what is to be said of it.
    pub fn new<M>(muxer: M, link: Arc<Link>) -> Self
    where
        M: StreamMuxer + Send + 'static,
        M::Substream: Send + 'static,
        M::Error: Send + Sync + 'static,
    {
        let muxer = StreamMuxerBox::new(muxer);
        Self { muxer, link }
    }

    /// One of which nothing is known.
    pub fn unknown(muxer: StreamMuxerBox) -> Self {
        let link = Arc::default();
        Self { muxer, link }
    }

    /// The connection itself, now that it is known whose it is.
    pub fn into_muxer(
        self,
        peer: PeerId,
        endpoint: &ConnectedPoint,
        links: &Links,
    ) -> StreamMuxerBox {
        links.connected(peer, endpoint, &self.link);
        self.muxer
    }
}

#[cfg(test)]
mod tests {
    use libp2p::core::transport::PortUse;

    use super::*;
    use crate::platform::test;

    #[test]
    fn that_a_connection_stands_is_heard_when_it_is_news() {
        let link = Link::default();
        let hear = || {
            let mut cx = Context::from_waker(Waker::noop());
            match link.poll_stands(&mut cx) {
                Poll::Ready(stands) => Some(stands),
                Poll::Pending => None,
            }
        };
        assert_eq!(hear(), None);
        link.set_stands(true);
        link.set_stands(true);
        assert_eq!((hear(), hear()), (Some(true), None));
        link.set_stands(false);
        link.set_stands(true);
        assert_eq!(hear(), None, "it stands yet");
        link.set_stands(false);
        assert_eq!((hear(), hear()), (Some(false), None));
    }

    fn endpoint(port: usize) -> ConnectedPoint {
        ConnectedPoint::Listener {
            local_addr: "/memory/1".parse().expect("an address"),
            send_back_addr: format!("/memory/{port}").parse().expect("an address"),
        }
    }

    /// Asks for a link as libp2p tells of connections.
    fn of(links: &Links, number: usize, peer: PeerId, port: usize) -> Option<Arc<Link>> {
        let (id, endpoint) = (ConnectionId::new_unchecked(number), endpoint(port));
        let who = (peer, endpoint.to_endpoint());
        links.of(id, who, endpoint.get_remote_address())
    }

    fn is(found: Option<Arc<Link>>, link: &Arc<Link>) -> bool {
        found.is_some_and(|found| Arc::ptr_eq(&found, link))
    }

    #[test]
    fn a_link_is_found_as_long_as_its_connection_is_there_and_the_rest_is_forgotten() {
        let (links, peer) = (Links::default(), PeerId::random());
        let [first, second] = [2, 3].map(|port| {
            let link = Arc::default();
            links.connected(peer, &endpoint(port), &link);
            link
        });
        assert!(is(of(&links, 0, peer, 3), &second));
        assert!(is(of(&links, 1, peer, 2), &first));
        assert!(is(of(&links, 1, peer, 2), &first), "whoever asks");
        assert!(of(&links, 2, PeerId::random(), 2).is_none());
        drop(first);
        assert!(of(&links, 1, peer, 2).is_none());
        for number in 10..10_000 {
            let (one, link) = (PeerId::random(), Arc::default());
            links.connected(one, &endpoint(2), &link);
            assert!(is(of(&links, number, one, 2), &link));
            // Nobody asks for these.
            links.connected(peer, &endpoint(2), &Arc::default());
            links.connected(PeerId::random(), &endpoint(2), &Arc::default());
        }
        let known = lock(&links.0.known);
        assert!(known.new.len() + known.found.len() < 4 * FEW);
        assert!(known.new.values().all(|links| links.len() < 2));
        drop(known);
        assert!(is(of(&links, 0, peer, 3), &second));
    }

    #[test]
    fn two_connections_from_one_address_have_each_its_own_link() {
        let (links, peer) = (Links::default(), PeerId::random());
        let connected = |endpoint: &ConnectedPoint| {
            let link = Arc::default();
            links.connected(peer, endpoint, &link);
            link
        };
        let (first, second) = (connected(&endpoint(2)), connected(&endpoint(2)));
        let dialled = ConnectedPoint::Dialer {
            address: "/memory/2".parse().expect("an address"),
            role_override: Endpoint::Dialer,
            port_use: PortUse::Reuse,
        };
        let ours = connected(&dialled);
        let remote = dialled.get_remote_address();
        let who = (peer, Endpoint::Dialer);
        let found = links.of(ConnectionId::new_unchecked(7), who, remote);
        assert!(is(found, &ours), "not the newest, nor the eldest");
        assert!(is(of(&links, 1, peer, 2), &first));
        assert!(is(of(&links, 2, peer, 2), &second));
        assert!(is(of(&links, 1, peer, 2), &first), "it is the elder's yet");
        // One that is refused is told to nobody, and takes a while to close.
        let refused = connected(&endpoint(2));
        refused.ends();
        let third = connected(&endpoint(2));
        assert!(is(of(&links, 4, peer, 2), &third));
        assert!(of(&links, 5, peer, 2).is_none(), "of it nothing is known");
        let later = connected(&endpoint(2));
        assert!(of(&links, 5, peer, 2).is_none(), "nor is it later");
        assert!(is(of(&links, 6, peer, 2), &later));
    }

    const STREAM: usize = 1 << 20;

    struct Wide(Arc<AtomicUsize>, bool);

    impl Window for Wide {
        fn of_stream(&self) -> usize {
            STREAM
        }

        fn may_be_used_up(&self) -> bool {
            true
        }

        fn update(&self, wider: usize) {
            self.0.store(wider, Relaxed);
        }

        fn narrows(&self) -> bool {
            self.1
        }
    }

    fn wide(links: &Links, narrows: bool) -> (Arc<Link>, Arc<AtomicUsize>) {
        let wide = Arc::<AtomicUsize>::default();
        let link = Arc::new(Link::new(Wide(Arc::clone(&wide), narrows)));
        links.connected(PeerId::random(), &endpoint(2), &link);
        (link, wide)
    }

    /// How many pieces more there are, where all is used up each time.
    fn pieces(link: &Link) -> usize {
        (0..).take_while(|_| link.widen()).count()
    }

    #[test]
    fn a_window_is_wider_once_it_is_used_up_by_what_streams_keep_as_far_as_there_is_room() {
        let links = Links::default();
        let (first, wider) = wide(&links, true);
        assert!(!first.widen(), "nothing is kept");
        first.keep(1);
        assert!(!first.widen() && !first.wants_more(), "it has a part");
        first.keep(100);
        assert!(first.wants_more() && wider.load(Relaxed) == 0, "not before");
        assert_eq!(pieces(&first), 17, "its own, and half of the room");
        assert_eq!(wider.load(Relaxed), 17 * STREAM);
        assert!(first.wants_more());
        let (second, _) = wide(&links, true);
        second.keep(100);
        assert_eq!(pieces(&second), 9, "as much as it leaves");
        first.keep(3);
        assert_eq!(wider.load(Relaxed), 2 * STREAM);
        assert!(!first.wants_more());
        assert_eq!(pieces(&second), 7);
        second.keep(1);
        first.keep(0);
        assert_eq!(links.0.kept.load(Relaxed), 0);
        first.keep(5);
        assert_eq!(pieces(&first), 4);
        drop(first);
        assert_eq!(links.0.kept.load(Relaxed), 0);
        let (granted, wider) = wide(&links, false);
        granted.keep(3);
        assert_eq!(pieces(&granted), 2);
        granted.keep(0);
        assert!(!granted.widen() && !granted.wants_more());
        assert_eq!(wider.load(Relaxed), 2 * STREAM, "its peer has it yet");
        assert_eq!(links.0.kept.load(Relaxed), STREAM);
        let unknown = Link::default();
        unknown.keep(1000);
        assert!(!unknown.widen() && !unknown.wants_more());
    }

    #[test]
    fn whoever_has_the_room_a_connection_has_its_own_piece() {
        let links = Links::default();
        let greedy: Vec<_> = (0..40).map(|_| wide(&links, false).0).collect();
        for link in &greedy {
            link.keep(1000);
            pieces(link);
        }
        let (link, _) = wide(&links, false);
        link.keep(3);
        assert_eq!(pieces(&link), 1);
        // What is full and nothing but that costs nothing.
        let links = Links::default();
        let greedy: Vec<_> = (0..40).map(|_| wide(&links, false).0).collect();
        greedy.iter().for_each(|link| link.keep(1000));
        let (link, _) = wide(&links, false);
        link.keep(9);
        assert_eq!(pieces(&link), 8);
    }

    #[test]
    fn who_keeps_streams_hears_when_it_stands_for_want_of_room() {
        let links = Links::default();
        let (greedy, _) = wide(&links, true);
        let (others, _) = wide(&links, true);
        greedy.keep(1000);
        others.keep(1000);
        while greedy.widen() | others.widen() {}
        let (link, _) = wide(&links, true);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let is_short = || link.is_short(&Context::from_waker(&waker));
        link.keep(20);
        assert!(!is_short());
        pieces(&link);
        link.set_stands(true);
        assert!(woken.0.swap(false, Relaxed) && is_short());
        link.keep(1);
        assert!(!is_short(), "it is not for these that it stands");
        link.set_stands(false);
        assert!(woken.0.load(Relaxed));
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Relaxed);
        }
    }
}
