//! What a connection and those who use it tell each other past libp2p's traits, which have no words for it.
//!
//! A connection **stands** while it is read no further: what came by it was not read here, and has filled its room. All that the peer says
//! by it waits behind that, its answers and votes among it; so whoever waits for an answer has to know.
//!
//! Streams of the user's own protocols are **kept** while more of them is there than was read ahead (`network/streams/ahead.rs`): each may have as much
//! unread as a stream may, for as long as its owner likes. What the connection needs for the rest, gossip and lanes, is not to be theirs. So its window is wider by as much
//! as they may have, but for the first one ([`Link::keep`]), and stays so where its peer can't be told of less ([`Window::narrows`]). Of the room for that a connection may have as much as it leaves free (A. Choudhury, E. Hahne, 1998).
//!
//! A transport makes the [`Link`] with the connection, and knows of the connection whose it is and where it leads; libp2p gives those who use it the
//! same two when it is there, and by these they find the link ([`Links::of`]). Where a peer has two at one address, they find the newer one.
//!
//! Bounds: an entry for each connection, and for as many that are gone; 32 MiB by which windows are wider, all together.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{
        ConnectedPoint,
        muxing::{StreamMuxer, StreamMuxerBox},
    },
};

use crate::platform::lock::lock;

/// Addresses that are looked through for some whose connections are gone, at least.
const FEW: usize = 64;

/// By how many bytes all windows together may be wider.
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
    links: HashMap<(PeerId, Multiaddr), Weak<Link>>,
    /// With so many those are forgotten that are gone.
    many: usize,
}

impl Links {
    /// A connection is there: who knows its peer and address finds its link.
    pub fn connected(&self, peer: PeerId, endpoint: &ConnectedPoint, link: &Arc<Link>) {
        // It is told once.
        let _ = link.room.set(Arc::clone(&self.0.kept));
        let mut known = lock(&self.0.known);
        if known.links.len() >= known.many {
            known.links.retain(|_, link| link.strong_count() > 0);
            known.many = FEW + 2 * known.links.len();
        }
        let remote = endpoint.get_remote_address().clone();
        known.links.insert((peer, remote), Arc::downgrade(link));
    }

    /// The link of a peer's connection to this address; `None`: nothing is known of such a one.
    pub fn of(&self, peer: PeerId, remote: &Multiaddr) -> Option<Arc<Link>> {
        let known = lock(&self.0.known);
        known.links.get(&(peer, remote.clone()))?.upgrade()
    }
}

/// The window of a connection, as far as that can be changed.
pub trait Window: Send + Sync {
    /// Bytes that a stream may have unread.
    fn of_stream(&self) -> usize;

    /// By so many bytes the connection's is wider than it was at first.
    fn widen(&self, bytes: usize);

    /// Whether it may be narrower again: not where a peer keeps what it was granted once.
    fn narrows(&self) -> bool;
}

/// See the module's documentation.
#[derive(Default)]
pub struct Link {
    state: Mutex<State>,
    /// `None`: nothing is known of it.
    window: Option<Box<dyn Window>>,
    /// By how much that is wider, and the room of which this is taken.
    wider: Mutex<usize>,
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
    listener: Option<Waker>,
}

impl Link {
    /// One of a connection with this window.
    pub fn new(window: impl Window + 'static) -> Self {
        Self {
            state: Mutex::default(),
            window: Some(Box::new(window)),
            wider: Mutex::default(),
            room: OnceLock::new(),
        }
    }

    /// So many streams are kept. Returns whether there is room for so many; if not, nothing changes.
    pub fn keep(&self, streams: usize) -> bool {
        let Some(window) = &self.window else {
            return true;
        };
        let mut wider = lock(&self.wider);
        let mut bytes = streams.saturating_sub(1).saturating_mul(window.of_stream());
        if !window.narrows() {
            bytes = bytes.max(*wider);
        }
        if bytes == *wider {
            return true;
        }
        let Some(room) = self.room.get() else {
            return false;
        };
        let taken = room.fetch_update(Relaxed, Relaxed, |taken| {
            let others = taken.saturating_sub(*wider);
            let is_fair = bytes < *wider || others + 2 * bytes <= ROOM;
            is_fair.then_some(others + bytes)
        });
        if taken.is_err() {
            return false;
        }
        *wider = bytes;
        window.widen(bytes);
        true
    }

    /// Whether the connection is read no further.
    pub fn set_stands(&self, stands: bool) {
        let mut state = lock(&self.state);
        state.stands = stands;
        let listener = (state.heard != stands)
            .then(|| state.listener.take())
            .flatten();
        drop(state);
        if let Some(listener) = listener {
            listener.wake();
        }
    }

    /// Whether it stands, when that is news.
    pub fn poll_stands(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut state = lock(&self.state);
        if state.heard != state.stands {
            state.heard = state.stands;
            return Poll::Ready(state.stands);
        }
        match &mut state.listener {
            Some(listener) => listener.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(room) = self.room.get() {
            room.fetch_sub(*lock(&self.wider), Relaxed);
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

    #[test]
    fn a_link_is_found_as_long_as_its_connection_is_there_and_the_rest_is_forgotten() {
        let (links, peer) = (Links::default(), PeerId::random());
        let endpoint = |port: usize| ConnectedPoint::Listener {
            local_addr: "/memory/1".parse().expect("an address"),
            send_back_addr: format!("/memory/{port}").parse().expect("an address"),
        };
        let [first, second] = [2, 3].map(|port| {
            let link = Arc::default();
            links.connected(peer, &endpoint(port), &link);
            link
        });
        let of = |peer, port: usize| links.of(peer, endpoint(port).get_remote_address());
        assert!(of(peer, 2).is_some_and(|link| Arc::ptr_eq(&link, &first)));
        assert!(of(peer, 3).is_some_and(|link| Arc::ptr_eq(&link, &second)));
        assert!(of(PeerId::random(), 2).is_none());
        drop(first);
        assert!(of(peer, 2).is_none());
        for port in 0..10_000 {
            links.connected(PeerId::random(), &endpoint(port), &Arc::default());
        }
        assert!(lock(&links.0.known).links.len() < 4 * FEW);
        assert!(of(peer, 3).is_some());
    }

    const STREAM: usize = 1 << 20;

    struct Wide(Arc<AtomicUsize>, bool);

    impl Window for Wide {
        fn of_stream(&self) -> usize {
            STREAM
        }

        fn widen(&self, bytes: usize) {
            self.0.store(bytes, Relaxed);
        }

        fn narrows(&self) -> bool {
            self.1
        }
    }

    #[test]
    fn a_window_is_wider_by_what_streams_keep_as_far_as_there_is_room() {
        let (links, wide) = (Links::default(), Arc::<AtomicUsize>::default());
        let endpoint = ConnectedPoint::Listener {
            local_addr: "/memory/1".parse().expect("an address"),
            send_back_addr: "/memory/2".parse().expect("an address"),
        };
        let link = |narrows| {
            let link = Arc::new(Link::new(Wide(Arc::clone(&wide), narrows)));
            links.connected(PeerId::random(), &endpoint, &link);
            link
        };
        let first = link(true);
        let most = |link: &Link| (0..).take_while(|streams| link.keep(*streams)).count() - 1;
        assert!(first.keep(1) && wide.load(Relaxed) == 0, "it has a share");
        assert_eq!(most(&first), 17, "half of the room");
        assert_eq!(wide.load(Relaxed), 16 * STREAM);
        let second = link(true);
        assert_eq!(most(&second), 9, "as much as it leaves");
        assert!(first.keep(3) && wide.load(Relaxed) == 2 * STREAM);
        assert_eq!(most(&second), 16);
        assert!(second.keep(1) && first.keep(0));
        assert_eq!(links.0.kept.load(Relaxed), 0);
        assert!(first.keep(5));
        drop(first);
        assert_eq!(links.0.kept.load(Relaxed), 0);
        let granted = link(false);
        assert!(granted.keep(3) && granted.keep(0) && granted.keep(2));
        assert_eq!(wide.load(Relaxed), 2 * STREAM, "its peer has it yet");
        assert_eq!(links.0.kept.load(Relaxed), 2 * STREAM);
        assert!(
            Link::default().keep(1000),
            "who has no window needs no room"
        );
    }
}
