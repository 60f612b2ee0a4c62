//! Reads streams ahead of their owners, so that one that nobody reads is known.
//!
//! Bytes that wait in a multiplexer count there for the whole connection, whosever they are: a few streams that are not read could use up its
//! window, and nothing else would come by it, no vote, no answer and no ping. No multiplexer tells what waits. So the connection takes from a stream
//! what its owner does not, up to [`AHEAD`] bytes: one of which more is there is *full*. For those a connection's window is widened
//! ([`Link::keep`](crate::transport::links::Link::keep)), so that it never stands for them; where there is no room for that, one is reset.
//!
//! Bounds: [`AHEAD`] bytes of each stream.

use std::{
    io,
    mem::take,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::AcqRel},
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
        self.is_new
            .store(true, std::sync::atomic::Ordering::Release);
        self.waker.wake();
    }

    /// Whether it was called since this was last asked. It is woken for the next one.
    pub(super) fn came(&self, cx: &Context<'_>) -> bool {
        self.waker.register(cx.waker());
        self.is_new.swap(false, AcqRel)
    }
}

/// Who is woken when there is something to read: both, since the owner may not read.
struct Readers {
    call: Arc<Call>,
    /// Whether there may be something that the connection has not looked for.
    is_new: AtomicBool,
    owner: AtomicWaker,
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
    end: Option<Result<(), (io::ErrorKind, String)>>,
    is_full: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Ahead<S> {
    /// Nothing is taken of it yet; the connection is called to look for more.
    pub(super) fn new(stream: S, call: Arc<Call>) -> Self {
        let readers = Arc::new(Readers {
            call,
            is_new: AtomicBool::new(false),
            owner: AtomicWaker::new(),
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
            }),
        }
    }

    /// Takes what is there, by way of this room. Returns whether it is full, and whether it was before.
    pub(super) fn fill(&self, room: &mut [u8]) -> (bool, bool) {
        let mut inner = lock(&self.inner);
        let was_full = inner.is_full;
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
        (inner.is_full, was_full)
    }

    /// Nobody gets more of it, either way.
    pub(super) fn reset(&self) {
        let mut inner = lock(&self.inner);
        let why = "too much of it was not read, and there was no room for more";
        inner.end = Some(Err((io::ErrorKind::ConnectionReset, why.to_owned())));
        inner.is_full = false;
        drop(inner.stream.take());
        drop(inner);
        self.readers.owner.wake();
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
                self.readers.call();
            }
            return Poll::Ready(Ok(count));
        }
        if let Some(end) = &inner.end {
            let end = end.clone().map(|()| 0);
            return Poll::Ready(end.map_err(|(kind, why)| io::Error::new(kind, why)));
        }
        self.readers.owner.register(cx.waker());
        let read = inner.poll(&mut Context::from_waker(&self.waker), buf);
        if read.is_ready() || take(&mut inner.is_full) {
            // The stream wakes nobody before it is asked again, or it is full no more.
            self.readers.call();
        }
        read
    }

    /// For its owner: does something else with the stream.
    pub(super) fn poll_with<T>(
        &self,
        poll: impl FnOnce(Pin<&mut S>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let mut inner = lock(&self.inner);
        match &mut inner.stream {
            Some(stream) => poll(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

impl<S: AsyncRead + Unpin> Inner<S> {
    /// Reads the stream itself, and notes its end.
    fn poll(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Ok(0));
        };
        let read = ready!(Pin::new(stream).poll_read(cx, buf));
        match &read {
            Ok(0) => self.end = Some(Ok(())),
            Ok(_) => {}
            Err(error) => self.end = Some(Err((error.kind(), error.to_string()))),
        }
        Poll::Ready(read)
    }
}

impl<S> Drop for Ahead<S> {
    /// It is full no more.
    fn drop(&mut self) {
        self.readers.call();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::platform::test;

    /// A stream of what is put in, until its end.
    #[derive(Clone, Default)]
    struct Pipe(Arc<Mutex<Bytes>>);

    #[derive(Default)]
    struct Bytes {
        bytes: VecDeque<u8>,
        next: u8,
        has_ended: bool,
        reader: Option<Waker>,
    }

    impl Pipe {
        fn put(&self, count: usize) {
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

        fn left(&self) -> usize {
            lock(&self.0).bytes.len()
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
        assert_eq!(ahead.fill(&mut room), (false, false));
        pipe.put(10);
        assert!(
            call.came(&cx),
            "the connection hears of it, and not the owner alone"
        );
        assert_eq!(ahead.fill(&mut room), (false, false));
        assert_eq!(pipe.left(), 0);
        pipe.put(2 * AHEAD);
        assert!(call.came(&cx));
        assert_eq!(ahead.fill(&mut room), (true, false));
        assert_eq!(pipe.left(), AHEAD + 10, "the rest waits");
        assert!(matches!(read(&ahead, 10), Poll::Ready(Ok(read)) if read == bytes(0, 10)));
        assert_eq!(ahead.fill(&mut room), (true, true));
        let mut all = 10;
        while let Poll::Ready(Ok(more)) = read(&ahead, 1000) {
            assert_eq!(more, bytes(all, more.len()));
            all += more.len();
        }
        assert_eq!(all, 2 * AHEAD + 10);
        assert!(call.came(&cx), "it is full no more");
        assert_eq!(ahead.fill(&mut room), (false, false));
        pipe.put(1);
        lock(&pipe.0).has_ended = true;
        assert!(call.came(&cx));
        assert_eq!(ahead.fill(&mut room), (false, false));
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
        assert_eq!(ahead.fill(&mut vec![0; AHEAD]), (true, false));
        ahead.reset();
        assert_eq!(Arc::strong_count(&pipe.0), 1, "the stream is gone");
        assert!(matches!(read(&ahead, AHEAD), Poll::Ready(Ok(read)) if read.len() == AHEAD));
        for _ in 0..2 {
            assert!(matches!(
                read(&ahead, 1),
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset
            ));
        }
        let written = ahead.poll_with(|stream| {
            stream.poll_write(&mut Context::from_waker(Waker::noop()), b"more")
        });
        assert!(matches!(written, Poll::Ready(Err(_))));
    }
}
