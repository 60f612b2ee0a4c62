//! Which peers' connections are read no further for now: what came by them was not read here, and has filled its room.
//!
//! All that a peer says stands behind that, its answers and votes among it. So whoever waits for an answer has to know of it. A multiplexer
//! that stops says so here ([`Stop`]), and who drives the lanes hears how long each peer stood ([`Stops::poll`]).
//!
//! Bounds: an entry for each peer that stands, and for each that stood since that was last heard.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use libp2p::PeerId;

use crate::platform::{self, Instant, lock::lock};

/// See the module's documentation. All clones are one.
#[derive(Clone, Debug, Default)]
pub struct Stops(Arc<Mutex<All>>);

#[derive(Debug, Default)]
struct All {
    peers: HashMap<PeerId, Standing>,
    /// Whose entry is news.
    news: Vec<PeerId>,
    listener: Option<Waker>,
}

#[derive(Debug)]
struct Standing {
    /// How many of its connections stand.
    connections: usize,
    since: Instant,
    /// How long it stood before, of which nobody has heard.
    stood: Duration,
    is_news: bool,
}

/// What is heard of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stood {
    /// Whose connection it is.
    pub peer: PeerId,
    /// Whether it stands now.
    pub stands: bool,
    /// For how long it did since that was last heard.
    pub time: Duration,
}

impl Stops {
    /// A connection of a peer, which is read.
    pub fn connection(&self, peer: PeerId) -> Stop {
        Stop {
            stops: self.clone(),
            peer,
            stands: false,
        }
    }

    /// Whether a peer stands, or stood, which was not heard yet.
    pub fn has(&self, peer: &PeerId) -> bool {
        lock(&self.0).peers.contains_key(peer)
    }

    /// The next that there is to hear.
    pub fn poll(&self, now: Instant, cx: &mut Context<'_>) -> Poll<Stood> {
        let all = &mut *lock(&self.0);
        while let Some(peer) = all.news.pop() {
            let Some(standing) = all.peers.get_mut(&peer) else {
                continue;
            };
            standing.is_news = false;
            let stands = standing.connections > 0;
            let mut time = mem::take(&mut standing.stood);
            if stands {
                time += now.saturating_duration_since(standing.since);
                standing.since = now;
            } else {
                all.peers.remove(&peer);
            }
            return Poll::Ready(Stood { peer, stands, time });
        }
        match &mut all.listener {
            Some(listener) => listener.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    fn set(&self, peer: PeerId, stands: bool) {
        let now = platform::now();
        let mut all = lock(&self.0);
        let standing = all.peers.entry(peer).or_insert(Standing {
            connections: 0,
            since: now,
            stood: Duration::ZERO,
            is_news: false,
        });
        if stands {
            if standing.connections == 0 {
                standing.since = now;
            }
            standing.connections += 1;
        } else {
            standing.connections = standing.connections.saturating_sub(1);
            if standing.connections == 0 {
                standing.stood += now.saturating_duration_since(standing.since);
            }
        }
        if !mem::replace(&mut standing.is_news, true) {
            all.news.push(peer);
        }
        let listener = all.listener.take();
        drop(all);
        if let Some(listener) = listener {
            listener.wake();
        }
    }
}

/// Where a connection says whether it stands; one that is dropped does not.
#[derive(Debug)]
pub struct Stop {
    stops: Stops,
    peer: PeerId,
    stands: bool,
}

impl Stop {
    /// Whether the connection is read no further.
    pub fn set(&mut self, stands: bool) {
        if mem::replace(&mut self.stands, stands) != stands {
            self.stops.set(self.peer, stands);
        }
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn a_peer_stands_as_long_as_one_of_its_connections_does() {
        let (stops, peer, now) = (Stops::default(), PeerId::random(), platform::now());
        let hear = || {
            let mut cx = Context::from_waker(Waker::noop());
            match stops.poll(now + Duration::from_secs(60), &mut cx) {
                Poll::Ready(Stood { stands, time, .. }) => Some((stands, time.as_secs() > 50)),
                Poll::Pending => None,
            }
        };
        let [mut first, mut second] = [(); 2].map(|()| stops.connection(peer));
        assert_eq!(hear(), None);
        first.set(true);
        first.set(true);
        assert_eq!((hear(), hear()), (Some((true, true)), None));
        second.set(true);
        first.set(false);
        assert_eq!(hear(), Some((true, false)));
        drop(second);
        assert_eq!((hear(), hear()), (Some((false, false)), None));
        assert!(lock(&stops.0).peers.is_empty());
        // What nobody heard in between is told too.
        first.set(true);
        first.set(false);
        assert_eq!((hear(), hear()), (Some((false, false)), None));
    }
}
