//! The streams that are open on a connection: all are read ahead (`ahead.rs`), and the connection's window is as wide as the full ones want it
//! ([`Link::keep`]).
//!
//! Where there is no room for that and the connection stands, now and [`PATIENCE`] before, those full ones are reset of which nobody has taken what was read ahead meanwhile; but for one,
//! which has its part of the window as it is. A stream that is read is not reset, whoever has the room: its connection goes as fast as it is read. What is
//! open when the connection ends is cut off.
//!
//! Bounds: one buffer, while there are streams; one timer.

use std::{
    sync::{Arc, Weak},
    task::Context,
    time::Duration,
};

use futures::{AsyncRead, AsyncWrite, FutureExt};

use super::ahead::{AHEAD, Ahead, Call};
use crate::{platform::Delay, transport::links::Link};

/// How long a full stream may not be read where there is no room for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// See the module's documentation.
pub(super) struct Keeper<S: AsyncRead + AsyncWrite + Unpin> {
    /// The connection's.
    link: Option<Arc<Link>>,
    open: Vec<Weak<Ahead<S>>>,
    /// They call when there is something to do with one.
    call: Arc<Call>,
    /// By way of which they are read, while there are some.
    room: Vec<u8>,
    /// How long those that nobody reads may go on so, where there is no room.
    waits: Option<Delay>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Keeper<S> {
    /// None yet, of a connection with this link.
    pub(super) fn new(link: Option<Arc<Link>>) -> Self {
        Self {
            link,
            open: Vec::new(),
            call: Arc::default(),
            room: Vec::new(),
            waits: None,
        }
    }

    /// One more, until it is dropped.
    pub(super) fn keep(&mut self, stream: S) -> Arc<Ahead<S>> {
        let stream = Arc::new(Ahead::new(stream, Arc::clone(&self.call)));
        self.open.push(Arc::downgrade(&stream));
        stream
    }

    /// Does what there is to do, and is woken for more.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        if self.call.came(cx) {
            self.read_ahead();
        }
        if !self.open.is_empty() {
            self.make_room(cx);
        }
    }

    fn read_ahead(&mut self) {
        self.room.resize(AHEAD, 0);
        let (mut full, room) = (0, &mut self.room);
        self.open.retain(|stream| {
            let stream = stream.upgrade();
            let is_full = stream.as_ref().is_some_and(|stream| stream.fill(room));
            full += usize::from(is_full);
            stream.is_some()
        });
        if self.open.is_empty() {
            self.room = Vec::new();
        }
        if let Some(link) = &self.link {
            link.keep(full);
        }
    }

    fn make_room(&mut self, cx: &mut Context<'_>) {
        let Some(link) = self.link.as_ref().filter(|link| link.wants_more()) else {
            self.waits = None;
            return;
        };
        if self.waits.is_none() && link.is_short(cx) {
            // From now on it counts.
            streams(&self.open).for_each(|stream| _ = stream.is_left());
            self.waits = Some(Delay::new(PATIENCE));
        }
        let waits = self.waits.as_mut();
        if waits.is_some_and(|waits| waits.poll_unpin(cx).is_ready()) {
            self.time_is_up(cx);
            cx.waker().wake_by_ref();
        }
    }

    /// Resets those that were not read meanwhile, if the connection stands yet and there is no room by now.
    fn time_is_up(&mut self, cx: &Context<'_>) {
        self.waits = None;
        let goes_on = |link: &Arc<Link>| !link.is_short(cx) || link.widen();
        if self.link.as_ref().is_some_and(goes_on) {
            return;
        }
        let left = streams(&self.open).filter(|stream| stream.is_left());
        for stream in left.skip(1) {
            tracing::debug!("a stream that is not read is reset: there is no room for more");
            stream.reset();
        }
    }
}

fn streams<S>(open: &[Weak<Ahead<S>>]) -> impl Iterator<Item = Arc<Ahead<S>>> {
    open.iter().filter_map(Weak::upgrade)
}

impl<S: AsyncRead + AsyncWrite + Unpin> Drop for Keeper<S> {
    /// The connection has ended, be it that this side has ended it.
    fn drop(&mut self) {
        streams(&self.open).for_each(|stream| stream.cut_off());
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        task::{Poll, Waker},
    };

    use libp2p::{PeerId, core::ConnectedPoint};

    use super::{super::ahead::tests::Pipe, *};
    use crate::{
        platform::test,
        transport::links::{Links, Window},
    };

    struct Fixed;

    impl Window for Fixed {
        fn of_stream(&self) -> usize {
            1 << 20
        }

        fn may_be_used_up(&self) -> bool {
            true
        }

        fn update(&self, _: usize) {}

        fn narrows(&self) -> bool {
            false
        }
    }

    fn link(links: &Links) -> Arc<Link> {
        let link = Arc::new(Link::new(Fixed));
        let endpoint = ConnectedPoint::Listener {
            local_addr: "/memory/1".parse().expect("an address"),
            send_back_addr: "/memory/2".parse().expect("an address"),
        };
        links.connected(PeerId::random(), &endpoint, &link);
        link
    }

    fn read(stream: &Ahead<Pipe>) -> Poll<io::Result<usize>> {
        let mut nobody = Context::from_waker(Waker::noop());
        stream.poll_read(&mut nobody, &mut [0; AHEAD])
    }

    /// The links of connections that have all room.
    fn greedy(links: &Links) -> Vec<Arc<Link>> {
        let greedy: Vec<_> = (0..10).map(|_| link(links)).collect();
        for link in &greedy {
            link.keep(1000);
            while link.widen() {}
        }
        greedy
    }

    /// Five streams of a connection with this link, all of them full.
    fn full(link: &Arc<Link>) -> (Keeper<Pipe>, Vec<Pipe>, Vec<Arc<Ahead<Pipe>>>) {
        let mut keeper = Keeper::new(Some(Arc::clone(link)));
        let pipes: Vec<_> = (0..5).map(|_| Pipe::default()).collect();
        let streams: Vec<_> = pipes.iter().map(|pipe| keeper.keep(pipe.clone())).collect();
        pipes.iter().for_each(|pipe| pipe.put(9 * AHEAD));
        (keeper, pipes, streams)
    }

    #[test]
    fn where_others_have_all_room_those_are_reset_that_nobody_reads() {
        let links = Links::default();
        let greedy = greedy(&links);
        let link = link(&links);
        let (mut keeper, pipes, streams) = full(&link);
        let poll = |keeper: &mut Keeper<Pipe>| {
            keeper.poll(&mut Context::from_waker(Waker::noop()));
            keeper.waits.is_some()
        };
        assert!(!poll(&mut keeper) && link.wants_more());
        while link.widen() {}
        assert!(!poll(&mut keeper), "it does not stand");
        link.set_stands(true);
        assert!(poll(&mut keeper));
        for _ in 0..3 {
            // Of the second and the last all is read, of the third a little.
            for stream in [&streams[1], &streams[4]] {
                assert!(matches!(read(stream), Poll::Ready(Ok(AHEAD))));
            }
            let mut nobody = Context::from_waker(Waker::noop());
            assert!(streams[2].poll_read(&mut nobody, &mut [0]).is_ready());
            poll(&mut keeper);
            keeper.time_is_up(&nobody);
            let held: Vec<_> = pipes.iter().map(Pipe::is_held).collect();
            // Of the others the first one stays.
            assert_eq!(held, [true, true, false, false, true]);
            assert!(poll(&mut keeper), "three are full");
        }
        // Others have less.
        drop(greedy);
        poll(&mut keeper);
        keeper.time_is_up(&Context::from_waker(Waker::noop()));
        assert!(!poll(&mut keeper) && !link.wants_more());
        drop(keeper);
        for stream in &streams {
            while let Poll::Ready(Ok(1..)) = read(stream) {}
            assert!(matches!(read(stream), Poll::Ready(Err(_))));
        }
    }

    #[test]
    fn where_the_connection_has_gone_on_none_is_reset_before_it_stands_for_so_long_again() {
        let links = Links::default();
        let _greedy = greedy(&links);
        let link = link(&links);
        let (mut keeper, pipes, _streams) = full(&link);
        let mut nobody = Context::from_waker(Waker::noop());
        keeper.poll(&mut nobody);
        while link.widen() {}
        for stands in [true, false] {
            link.set_stands(stands);
            keeper.poll(&mut nobody);
            assert!(keeper.waits.is_some());
        }
        keeper.time_is_up(&nobody);
        assert!(pipes.iter().all(Pipe::is_held));
        keeper.poll(&mut nobody);
        assert!(keeper.waits.is_none(), "it goes on");
        link.set_stands(true);
        keeper.poll(&mut nobody);
        keeper.time_is_up(&nobody);
        assert_eq!(pipes.iter().filter(|pipe| pipe.is_held()).count(), 1);
    }

    #[test]
    fn there_is_a_buffer_while_there_are_streams() {
        let mut keeper = Keeper::new(None);
        let mut nobody = Context::from_waker(Waker::noop());
        let stream = keeper.keep(Pipe::default());
        keeper.poll(&mut nobody);
        let room = keeper.room.as_ptr();
        let other = keeper.keep(Pipe::default());
        keeper.poll(&mut nobody);
        assert_eq!(keeper.room.as_ptr(), room, "the same");
        drop((stream, other));
        keeper.poll(&mut nobody);
        assert!(keeper.room.is_empty());
    }
}
