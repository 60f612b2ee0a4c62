//! Reads streams ahead of their owners, so that one that nobody reads is known.
//!
//! Bytes that wait in a multiplexer count there for the whole connection, whosever they are: a few streams that are not read could use up its
//! window, and nothing else would come by it, no vote, no answer and no ping. No multiplexer tells what waits. So the connection takes from a stream
//! what its owner does not, up to [`AHEAD`] bytes: one of which more is there is *full*. For those a connection's window becomes wider
//! ([`Link::keep`](crate::transport::links::Link::keep)), so that it does not stand for them. Where there is no room for that, it stands until they are read, and
//! those that nobody reads are reset (`keeper.rs`): who takes [`AHEAD`] bytes now and then reads.
//!
//! Bounds: [`AHEAD`] bytes of each stream.

use std::{
    io,
    mem::take,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{
            AtomicBool,
            Ordering::{self, AcqRel},
        },
    },
    task::{Context, Poll, Wake, Waker, ready},
};

use futures::{AsyncRead, AsyncWrite, task::AtomicWaker};

use crate::platform::lock::lock;

/// Bytes of a stream that are taken before its owner wants them.
pub(super) const AHEAD: usize = 16 << 10;

/// Calls for a connection's task, where one of its streams has something to take.
#[derive(Debug, Default)]
pub(super) struct Call {
    is_new: AtomicBool,
    waker: AtomicWaker,
}

impl Call {
    fn call(&self) {
        self.is_new.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether it was called since this was last asked. It is woken for the next one.
    pub(super) fn came(&self, cx: &Context<'_>) -> bool {
        self.waker.register(cx.waker());
        self.is_new.swap(false, AcqRel)
    }
}

/// Who is woken when there is something to read: both, since the owner may not read. And who writes, once nothing can be written any more.
struct Readers {
    call: Arc<Call>,
    /// Whether there may be something that the connection has not looked for.
    is_new: AtomicBool,
    owner: AtomicWaker,
    writer: AtomicWaker,
}

impl Readers {
    fn call(&self) {
        if !self.is_new.swap(true, AcqRel) {
            self.call.call();
        }
    }
}

impl Wake for Readers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.call();
        self.owner.wake();
    }
}

/// A stream that its owner reads and its connection reads ahead.
pub(super) struct Ahead<S> {
    readers: Arc<Readers>,
    /// The same, as the stream wants it.
    waker: Waker,
    inner: Mutex<Inner<S>>,
}

struct Inner<S> {
    /// Until it is reset.
    stream: Option<S>,
    /// What was taken, and how much of that the owner has.
    taken: Vec<u8>,
    at: usize,
    /// How reading it has ended.
    end: Option<Result<(), String>>,
    is_full: bool,
    /// Whether all that was taken has waited since that was last asked.
    is_left: bool,
    /// Whether its connection has ended, so that no more comes than what is there.
    is_cut_off: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Ahead<S> {
    /// Nothing is taken of it yet; the connection is called to look for more.
    pub(super) fn new(stream: S, call: Arc<Call>) -> Self {
        let readers = Arc::new(Readers {
            call,
            is_new: AtomicBool::new(false),
            owner: AtomicWaker::new(),
            writer: AtomicWaker::new(),
        });
        readers.call();
        Self {
            waker: Waker::from(Arc::clone(&readers)),
            readers,
            inner: Mutex::new(Inner {
                stream: Some(stream),
                taken: Vec::new(),
                at: 0,
                end: None,
                is_full: false,
                is_left: false,
                is_cut_off: false,
            }),
        }
    }

    /// Takes what is there, by way of this room. Returns whether it is full.
    pub(super) fn fill(&self, room: &mut [u8]) -> bool {
        let mut inner = lock(&self.inner);
        if self.readers.is_new.swap(false, AcqRel) {
            let mut cx = Context::from_waker(&self.waker);
            loop {
                let left = AHEAD.saturating_sub(inner.taken.len());
                inner.is_full = left == 0 && inner.end.is_none();
                let length = left.min(room.len());
                let room = &mut room[..length];
                if length == 0 || inner.end.is_some() {
                    break;
                }
                match inner.poll(&mut cx, room) {
                    Poll::Ready(Ok(count)) => inner.taken.extend_from_slice(&room[..count]),
                    Poll::Ready(Err(_)) => {}
                    Poll::Pending => break,
                }
                self.readers.owner.wake();
            }
        }
        inner.is_full
    }

    /// Whether it is full of what was there when this was last asked.
    pub(super) fn is_left(&self) -> bool {
        let mut inner = lock(&self.inner);
        let is_full = inner.is_full;
        std::mem::replace(&mut inner.is_left, is_full) && is_full
    }

    /// Nobody gets more of it, either way.
    pub(super) fn reset(&self) {
        let mut inner = lock(&self.inner);
        let why = "too much of it was not read, and there was no room for more";
        inner.end = Some(Err(why.to_owned()));
        inner.is_full = false;
        drop(inner.stream.take());
        drop(inner);
        self.readers.call();
        self.wake_all();
    }

    /// Its connection has ended: what is there can be read, and nothing is waited for. Not every multiplexer wakes whoever waits then.
    pub(super) fn cut_off(&self) {
        lock(&self.inner).is_cut_off = true;
        self.wake_all();
    }

    fn wake_all(&self) {
        self.readers.owner.wake();
        self.readers.writer.wake();
    }

    /// For its owner.
    pub(super) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut inner = lock(&self.inner);
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let here = inner.taken.get(inner.at..).unwrap_or_default();
        if !here.is_empty() {
            let count = here.len().min(buf.len());
            buf[..count].copy_from_slice(&here[..count]);
            inner.at += count;
            if inner.at == inner.taken.len() {
                (inner.taken, inner.at) = (Vec::new(), 0);
                inner.is_left = false;
                self.readers.call();
            }
            return Poll::Ready(Ok(count));
        }
        if let Some(end) = &inner.end {
            return Poll::Ready(end.clone().map(|()| 0).map_err(reset));
        }
        self.readers.owner.register(cx.waker());
        let read = inner.poll(&mut Context::from_waker(&self.waker), buf);
        if read.is_ready() || take(&mut inner.is_full) {
            // The stream wakes nobody before it is asked again, or it is full no more.
            self.readers.call();
        }
        inner.unless_cut_off(read)
    }

    /// For its owner: does something else with the stream.
    pub(super) fn poll_with<T>(
        &self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let mut inner = lock(&self.inner);
        let Some(stream) = &mut inner.stream else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        self.readers.writer.register(cx.waker());
        let done = poll(Pin::new(stream), cx);
        inner.unless_cut_off(done)
    }
}

impl<S> Inner<S> {
    /// What came of a call, where that is not to wait for a connection that has ended.
    fn unless_cut_off<T>(&self, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match done {
            Poll::Ready(Err(error)) if self.is_cut_off => Poll::Ready(Err(reset(error))),
            Poll::Pending if self.is_cut_off => Poll::Ready(Err(reset("the connection has ended"))),
            done => done,
        }
    }
}

/// No more comes, nor goes: the peer has reset the stream, or the connection has ended, which transports tell in words of their own.
fn reset(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, why)
}

impl<S: AsyncRead + Unpin> Inner<S> {
    /// Reads the stream itself, and notes its end.
    fn poll(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Ok(0));
        };
        let read = ready!(Pin::new(stream).poll_read(cx, buf));
        let read = read.map_err(|error| error.to_string());
        match &read {
            Ok(0) => self.end = Some(Ok(())),
            Ok(_) => {}
            Err(why) => self.end = Some(Err(why.clone())),
        }
        Poll::Ready(read.map_err(reset))
    }
}

impl<S> Drop for Ahead<S> {
    /// It is full no more.
    fn drop(&mut self) {
        self.readers.call();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::platform::test;

    /// A stream of what is put in, until its end.
    #[derive(Clone, Default)]
    pub(in crate::network::streams) struct Pipe(Arc<Mutex<Bytes>>);

    #[derive(Default)]
    struct Bytes {
        bytes: VecDeque<u8>,
        next: u8,
        has_ended: bool,
        reader: Option<Waker>,
    }

    impl Pipe {
        pub(in crate::network::streams) fn put(&self, count: usize) {
            let mut pipe = lock(&self.0);
            for _ in 0..count {
                let next = pipe.next;
                pipe.bytes.push_back(next);
                pipe.next = next.wrapping_add(1);
            }
            if let Some(reader) = pipe.reader.take() {
                reader.wake();
            }
        }

        pub(in crate::network::streams) fn left(&self) -> usize {
            lock(&self.0).bytes.len()
        }

        /// Whether anybody has it as a stream.
        pub(in crate::network::streams) fn is_held(&self) -> bool {
            Arc::strong_count(&self.0) > 1
        }
    }

    impl AsyncRead for Pipe {
        fn poll_read(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            let mut pipe = lock(&self.0);
            if pipe.bytes.is_empty() && !pipe.has_ended {
                pipe.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(io::Read::read(&mut pipe.bytes, buf))
        }
    }

    impl AsyncWrite for Pipe {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn read(ahead: &Ahead<Pipe>, most: usize) -> Poll<io::Result<Vec<u8>>> {
        let (mut buf, mut cx) = (vec![0; most], Context::from_waker(Waker::noop()));
        let read = ahead.poll_read(&mut cx, &mut buf);
        read.map_ok(|count| buf[..count].to_vec())
    }

    fn bytes(from: usize, count: usize) -> Vec<u8> {
        (from..from + count).map(|number| number as u8).collect()
    }

    #[test]
    fn what_nobody_reads_is_taken_as_far_as_may_be_and_comes_in_order() {
        let (pipe, call) = (Pipe::default(), Arc::new(Call::default()));
        let ahead = Ahead::new(pipe.clone(), Arc::clone(&call));
        let cx = Context::from_waker(Waker::noop());
        let mut room = vec![0; AHEAD];
        assert!(call.came(&cx) && !call.came(&cx));
        assert!(!ahead.fill(&mut room));
        pipe.put(10);
        assert!(
            call.came(&cx),
            "the connection hears of it, and not the owner alone"
        );
        assert!(!ahead.fill(&mut room));
        assert_eq!(pipe.left(), 0);
        pipe.put(2 * AHEAD);
        assert!(call.came(&cx));
        assert!(ahead.fill(&mut room));
        assert_eq!(pipe.left(), AHEAD + 10, "the rest waits");
        assert!(matches!(read(&ahead, 10), Poll::Ready(Ok(read)) if read == bytes(0, 10)));
        assert!(ahead.fill(&mut room));
        let mut all = 10;
        while let Poll::Ready(Ok(more)) = read(&ahead, 1000) {
            assert_eq!(more, bytes(all, more.len()));
            all += more.len();
        }
        assert_eq!(all, 2 * AHEAD + 10);
        assert!(call.came(&cx), "it is full no more");
        assert!(!ahead.fill(&mut room));
        pipe.put(1);
        lock(&pipe.0).has_ended = true;
        assert!(call.came(&cx));
        assert!(!ahead.fill(&mut room));
        assert!(matches!(read(&ahead, 10), Poll::Ready(Ok(read)) if read.len() == 1));
        for _ in 0..2 {
            assert!(matches!(read(&ahead, 10), Poll::Ready(Ok(end)) if end.is_empty()));
        }
        drop(ahead);
        assert!(call.came(&cx));
    }

    #[test]
    fn one_that_is_reset_says_so_once_what_was_taken_is_read() {
        let (pipe, call) = (Pipe::default(), Arc::new(Call::default()));
        let ahead = Ahead::new(pipe.clone(), call);
        pipe.put(AHEAD + 1);
        assert!(ahead.fill(&mut vec![0; AHEAD]));
        let call = Arc::clone(&ahead.readers.call);
        assert!(call.came(&Context::from_waker(Waker::noop())));
        ahead.reset();
        assert!(
            call.came(&Context::from_waker(Waker::noop())),
            "one is full less"
        );
        assert!(!ahead.fill(&mut vec![0; AHEAD]));
        assert!(!pipe.is_held(), "the stream is gone");
        assert!(matches!(read(&ahead, AHEAD), Poll::Ready(Ok(read)) if read.len() == AHEAD));
        for _ in 0..2 {
            assert!(matches!(
                read(&ahead, 1),
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset
            ));
        }
        assert!(matches!(write(&ahead), Poll::Ready(Err(_))));
    }

    fn write(ahead: &Ahead<Pipe>) -> Poll<io::Result<usize>> {
        let mut cx = Context::from_waker(Waker::noop());
        ahead.poll_with(&mut cx, |stream, cx| stream.poll_write(cx, b"more"))
    }

    #[test]
    fn who_takes_little_of_it_does_not_read() {
        let (pipe, call) = (Pipe::default(), Arc::new(Call::default()));
        let (ahead, mut room) = (Ahead::new(pipe.clone(), call), vec![0; AHEAD]);
        pipe.put(4 * AHEAD);
        assert!(ahead.fill(&mut room));
        assert!(!ahead.is_left(), "since when it is not known");
        assert!(ahead.is_left());
        assert!(read(&ahead, AHEAD - 1).is_ready());
        assert!(ahead.fill(&mut room) && ahead.is_left());
        assert!(read(&ahead, 1).is_ready());
        assert!(ahead.fill(&mut room), "and it is full again");
        assert!(!ahead.is_left() && ahead.is_left());
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn whoever_waits_hears_that_the_connection_has_ended() {
        let (pipe, call) = (Pipe::default(), Arc::new(Call::default()));
        let ahead = Ahead::new(pipe.clone(), call);
        let [reads, writes] = [(); 2].map(|()| Arc::new(Woken::default()));
        let [reader, writer] = [&reads, &writes].map(|woken| Waker::from(Arc::clone(woken)));
        let read_by = |waker| ahead.poll_read(&mut Context::from_waker(waker), &mut [0; 8]);
        let write = || {
            let mut cx = Context::from_waker(&writer);
            ahead.poll_with(&mut cx, |_, _| Poll::<io::Result<()>>::Pending)
        };
        assert!(read_by(&reader).is_pending() && write().is_pending());
        ahead.cut_off();
        for woken in [&reads, &writes] {
            assert!(woken.0.load(Ordering::Relaxed));
        }
        pipe.put(3);
        assert!(
            matches!(read_by(&reader), Poll::Ready(Ok(3))),
            "it had come"
        );
        for ended in [read_by(&reader).map_ok(|_| ()), write()] {
            let Poll::Ready(Err(error)) = ended else {
                panic!("{ended:?}");
            };
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
    }
}
