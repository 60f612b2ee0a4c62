//! What a peer's frames cost, decided before `yamux` has them.
//!
//! A window counts bytes. `yamux` keeps an allocation for each frame until it is read, so whoever sends its bytes one by one takes
//! many times the memory that its windows let it: two GB for a connection. And a stream beyond the limit ends the whole connection there, though
//! the limits of two nodes need not be the same. So each frame passes here first, and is cut and put together anew:
//!
//! - Bytes go on in pieces, of [`LONGEST`] at most. One of less than [`PIECE`] goes on where all before it in its stream was read. Else it
//!   waits for the next ones, until they are [`PIECE`] together, all before them is read, or the stream ends. So `yamux` has one
//!   short piece of each stream, and others of which each two hold [`PIECE`].
//! - What a stream brings that nobody has, since it was dropped or is beyond the limit, is thrown away as it comes.
//! - What is unread is counted, and where its connection has its share of the node's room (`unread.rs`), nothing more is read until some of it was, which is told (`links.rs`).
//!
//! Bounds: of what windows let a peer send, what `unread.rs` has room for.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex, Weak},
    task::{Context, Poll, Waker, ready},
};

use ::yamux::{DEFAULT_CREDIT, Mode};
use futures::{AsyncRead, AsyncWrite};

use super::unread::Unread;
use crate::{
    platform::lock::lock,
    transport::links::{self, Link},
};

/// Bytes that are worth an allocation of their own.
pub(super) const PIECE: usize = 4 << 10;
/// The longest piece: what is under way when its stream is dropped, `yamux` takes all the same.
const LONGEST: usize = 16 << 10;
/// What a stream's window may begin with beyond what the specification grants.
const MOST_CREDIT: u32 = u32::MAX - DEFAULT_CREDIT;
/// Bytes that wait for others to be flushed with, at most: what seals them keeps as much memory three times over.
const MUCH: usize = 32 << 10;
/// Steps in one go.
const TURN: usize = 256;

/// A frame's header: version, type, flags, stream, length.
pub(super) type Header = [u8; 12];

/// The types and flags of the specification that matter here.
pub(super) const DATA: u8 = 0;
pub(super) const WINDOW: u8 = 1;
pub(super) const GO_AWAY: u8 = 3;
pub(super) const SYN: u16 = 1;
pub(super) const FIN: u16 = 4;
pub(super) const RST: u16 = 8;

pub(super) fn header(kind: u8, flags: u16, stream: u32, length: u32) -> Header {
    let ([f, g], [s, t, u, v]) = (flags.to_be_bytes(), stream.to_be_bytes());
    let [l, m, n, o] = length.to_be_bytes();
    [0, kind, f, g, s, t, u, v, l, m, n, o]
}

/// The streams of a connection, known to its frames and to whoever holds one.
#[derive(Clone)]
pub(super) struct Streams(Arc<Mutex<All>>);

struct All {
    known: HashMap<u32, Stream>,
    /// How many of them the peer has opened.
    theirs: usize,
    max: usize,
    max_theirs: usize,
    /// What this node is: the specification gives each side its own numbers.
    mode: Mode,
    /// Streams that have nothing to be read but what waits here.
    hungry: Vec<u32>,
    /// What `yamux` has of all streams, and what waits here.
    unread: Unread,
    /// Whether there was no room for more, and who is told.
    is_stopped: bool,
    link: Option<Arc<Link>>,
    /// Who reads frames, and who waits to open a stream.
    reader: Option<Waker>,
    opener: Option<Waker>,
}

#[derive(Default)]
struct Stream {
    is_theirs: bool,
    /// Whether the peer has said that it is all there is.
    has_ended: bool,
    /// Bytes that `yamux` has of it.
    unread: usize,
    waiting: Vec<u8>,
}

impl Streams {
    /// None yet; so many at most, and so many at most of the peer's.
    pub(super) fn new(max: usize, max_theirs: usize, mode: Mode, unread: Unread) -> Self {
        Self(Arc::new(Mutex::new(All {
            known: HashMap::new(),
            theirs: 0,
            max,
            max_theirs,
            mode,
            hungry: Vec::new(),
            unread,
            is_stopped: false,
            link: None,
            reader: None,
            opener: None,
        })))
    }

    /// A link, where it is told whether they are read.
    pub(super) fn link(&self) -> Arc<Link> {
        let link = Arc::new(Link::new(Widening(Arc::downgrade(&self.0))));
        lock(&self.0).link = Some(Arc::clone(&link));
        link
    }

    /// Their connection is being closed.
    pub(super) fn end(&self) {
        if let Some(link) = &lock(&self.0).link {
            link.ends();
        }
    }

    /// Whether there was room for it.
    pub(super) fn has(&self, id: u32) -> bool {
        lock(&self.0).known.contains_key(&id)
    }

    /// Waits until there is room for one that this node opens.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut all = lock(&self.0);
        if all.known.len() < all.max {
            return Poll::Ready(());
        }
        all.opener = Some(cx.waker().clone());
        Poll::Pending
    }

    /// This node has opened one.
    pub(super) fn opened(&self, id: u32) {
        lock(&self.0).known.insert(id, Stream::default());
    }

    /// So many bytes of it were read.
    pub(super) fn read(&self, id: u32, count: usize) {
        let mut all = lock(&self.0);
        let Some(stream) = all.known.get_mut(&id) else {
            return;
        };
        let count = count.min(stream.unread);
        stream.unread -= count;
        if stream.unread == 0 && !stream.waiting.is_empty() {
            all.hungry.push(id);
            all.wake_reader();
        }
        all.freed(count);
    }

    /// Whether nothing more of it is an end, and no reset and no connection that broke: `yamux` reads the same of all three.
    pub(super) fn has_ended(&self, id: u32) -> bool {
        let all = lock(&self.0);
        all.known.get(&id).is_some_and(|stream| stream.has_ended)
    }

    /// Nobody has it any more.
    pub(super) fn dropped(&self, id: u32) {
        let mut all = lock(&self.0);
        if let Some(stream) = all.known.remove(&id) {
            all.theirs -= usize::from(stream.is_theirs);
            all.freed(stream.unread + stream.waiting.len());
        }
        if let Some(opener) = all.opener.take() {
            opener.wake();
        }
    }
}

/// Makes more room for what a connection has unread. The streams know its link, so it does not keep them.
struct Widening(Weak<Mutex<All>>);

impl links::Window for Widening {
    fn of_stream(&self) -> usize {
        usize::try_from(DEFAULT_CREDIT).unwrap_or(usize::MAX)
    }

    /// It is counted here, and asked only then.
    fn may_be_used_up(&self) -> bool {
        true
    }

    fn update(&self, wider: usize) {
        if let Some(all) = self.0.upgrade() {
            let mut all = lock(&all);
            all.unread.wider = wider;
            // It may be wider yet.
            if all.is_stopped {
                all.wake_reader();
            }
        }
    }

    fn narrows(&self) -> bool {
        true
    }
}

impl All {
    /// The peer opens one: it is known where there is room. One under a number of this node's is none to `yamux`, and nobody would drop it.
    fn opens(&mut self, id: u32) {
        let is_theirs = match self.mode {
            Mode::Client => id != 0 && id.is_multiple_of(2),
            Mode::Server => !id.is_multiple_of(2),
        };
        let has_room = self.theirs < self.max_theirs && self.known.len() < self.max;
        if is_theirs && has_room && !self.known.contains_key(&id) {
            self.theirs += 1;
            let stream = Stream {
                is_theirs: true,
                ..Stream::default()
            };
            self.known.insert(id, stream);
        }
    }

    /// So many bytes are unread no more.
    fn freed(&mut self, bytes: usize) {
        self.unread.remove(bytes);
        if self.is_stopped && self.unread.has_room() {
            self.wake_reader();
        }
    }

    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Whether there is room for what comes of this stream; what nobody has needs none.
    fn has_room(&mut self, to: Option<u32>) -> bool {
        let is_kept = to.is_some_and(|id| self.known.contains_key(&id));
        self.is_stopped = is_kept && !self.unread.has_room() && !self.widens();
        if let Some(link) = &self.link {
            link.set_stands(self.is_stopped);
        }
        !self.is_stopped
    }

    /// Whether streams that are kept make more room (`links.rs`).
    fn widens(&mut self) -> bool {
        while let Some(wider) = self.link.as_ref().and_then(|link| link.wider()) {
            self.unread.wider = wider;
            if self.unread.has_room() {
                return true;
            }
        }
        false
    }

    /// Gives what waits of the streams that have nothing else; `cx` hears of the next ones, and of room for more.
    fn feed(&mut self, out: &mut Vec<u8>, cx: &Context<'_>) {
        for id in self.hungry.drain(..) {
            if let Some(stream) = self.known.get_mut(&id) {
                stream.give(id, out);
            }
        }
        match &mut self.reader {
            Some(reader) => reader.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    /// Gives all that waits: there comes no more.
    fn feed_all(&mut self, out: &mut Vec<u8>) {
        for (id, stream) in &mut self.known {
            stream.give(*id, out);
        }
    }
}

impl Stream {
    /// What waits goes on.
    fn give(&mut self, id: u32, out: &mut Vec<u8>) {
        if !self.waiting.is_empty() {
            self.goes_on(id, self.waiting.len(), out);
            out.append(&mut self.waiting);
            // Most streams have nothing that waits.
            self.waiting = Vec::new();
        }
    }

    /// So many bytes go on, which follow.
    fn goes_on(&mut self, id: u32, length: usize, out: &mut Vec<u8>) {
        self.unread += length;
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        out.extend(header(DATA, 0, id, length));
    }

    fn is_read(&self) -> bool {
        self.unread == 0 && self.waiting.is_empty()
    }
}

/// A connection's bytes, as pieces that are worth what `yamux` keeps of them.
pub(super) struct Frames<C> {
    io: C,
    streams: Streams,
    /// What has come of a header.
    header: Header,
    filled: usize,
    body: Option<Body>,
    piece: Option<Piece>,
    /// What has come of a short piece.
    aside: Vec<u8>,
    /// What is to be read next, and how much of it was.
    out: Vec<u8>,
    given: usize,
    /// Whether there was an end: below, what has ended may not be asked again.
    has_ended: bool,
    /// Bytes that were written and not flushed.
    unflushed: usize,
}

/// What is to come of a frame.
#[derive(Clone, Copy)]
struct Body {
    /// Its stream, or nobody.
    to: Option<u32>,
    /// Bytes that are in no piece yet.
    left: usize,
    /// Whether it is the stream's last one.
    is_last: bool,
}

/// What is to come of a piece, in bytes.
#[derive(Clone, Copy)]
enum Piece {
    /// Goes on as it comes.
    Passed(usize),
    /// Is put to what waits, or thrown away.
    Aside(usize),
}

impl<C> Frames<C> {
    pub(super) fn new(io: C, streams: Streams) -> Self {
        Self {
            io,
            streams,
            header: [0; 12],
            filled: 0,
            body: None,
            piece: None,
            aside: Vec::new(),
            out: Vec::new(),
            given: 0,
            has_ended: false,
            unflushed: 0,
        }
    }

    /// A header has come.
    fn begin(&mut self) {
        let frame = self.header;
        self.filled = 0;
        let [_, kind, f, g, s, t, u, v, l, m, n, o] = frame;
        let flags = u16::from_be_bytes([f, g]);
        let id = u32::from_be_bytes([s, t, u, v]);
        let length = u32::from_be_bytes([l, m, n, o]);
        let has = |flag: u16| flags & flag != 0;
        let mut all = lock(&self.streams.0);
        if kind == GO_AWAY {
            all.feed_all(&mut self.out);
        }
        if !matches!(kind, DATA | WINDOW) {
            return self.out.extend(frame);
        }
        // Nor is one whose window begins with more than there is.
        let is_one = kind == DATA || length <= MOST_CREDIT;
        if has(SYN) && !has(RST) && is_one {
            all.opens(id);
        }
        let mut stream = all.known.get_mut(&id);
        if let Some(stream) = stream.as_mut() {
            stream.has_ended |= has(FIN);
        }
        let is_end = has(RST) || kind == WINDOW && has(FIN);
        if let Some(stream) = stream.as_mut().filter(|_| is_end) {
            stream.give(id, &mut self.out);
        }
        if kind == WINDOW {
            return self.out.extend(frame);
        }
        let is_heard = stream.is_some() && !has(RST);
        // Its bytes come between what the flags say of the stream's beginning and of its end.
        let is_last = is_heard && has(FIN);
        let before = if is_last { flags & !FIN } else { flags };
        if before != 0 {
            self.out.extend(header(DATA, before, id, 0));
        }
        self.body = Some(Body {
            to: is_heard.then_some(id),
            left: usize::try_from(length).unwrap_or(usize::MAX),
            is_last,
        });
    }

    /// The next piece of a frame, or its end.
    fn advance(&mut self, body: Body) {
        let all = &mut *lock(&self.streams.0);
        let stream = body.to.and_then(|id| Some((id, all.known.get_mut(&id)?)));
        let length = body.left.min(LONGEST);
        if length > 0 {
            self.body = Some(Body {
                left: body.left - length,
                ..body
            });
            self.piece = Some(match stream {
                Some((id, stream)) if length >= PIECE || stream.is_read() => {
                    stream.give(id, &mut self.out);
                    stream.goes_on(id, length, &mut self.out);
                    all.unread.add(length);
                    Piece::Passed(length)
                }
                _ => Piece::Aside(length),
            });
            return;
        }
        self.body = None;
        if let Some((id, stream)) = stream.filter(|_| body.is_last) {
            stream.give(id, &mut self.out);
            self.out.extend(header(DATA, FIN, id, 0));
        }
    }

    /// A short piece has come.
    fn put_aside(&mut self) {
        self.piece = None;
        let all = &mut *lock(&self.streams.0);
        let to = self.body.and_then(|body| body.to);
        if let Some((id, stream)) = to.and_then(|id| Some((id, all.known.get_mut(&id)?))) {
            all.unread.add(self.aside.len());
            stream.waiting.append(&mut self.aside);
            if stream.unread == 0 || stream.waiting.len() >= PIECE {
                stream.give(id, &mut self.out);
            }
        }
        self.aside.clear();
    }

    /// No more comes.
    fn end(&mut self) {
        self.has_ended = true;
        (self.filled, self.body, self.piece) = (0, None, None);
        lock(&self.streams.0).feed_all(&mut self.out);
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> AsyncRead for Frames<C> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.unflushed > 0
            && let Poll::Ready(flushed) = this.flush(cx)
        {
            flushed?;
        }
        for _ in 0..TURN {
            let rest = this.out.get(this.given..).unwrap_or_default();
            if !rest.is_empty() {
                let count = io::Read::read(&mut &*rest, buf)?;
                this.given += count;
                return Poll::Ready(Ok(count));
            }
            this.out.clear();
            this.out.shrink_to(2 * PIECE);
            this.given = 0;
            if this.has_ended {
                return Poll::Ready(Ok(0));
            }
            let io = Pin::new(&mut this.io);
            match (this.piece, this.body) {
                (Some(Piece::Passed(left)), _) => {
                    let most = buf.len().min(left);
                    let room = buf.get_mut(..most).unwrap_or_default();
                    let count = ready!(io.poll_read(cx, room))?;
                    let left = left.saturating_sub(count);
                    this.piece = (left > 0).then_some(Piece::Passed(left));
                    this.has_ended = count == 0;
                    return Poll::Ready(Ok(count));
                }
                (Some(Piece::Aside(left)), _) => {
                    let mut room = [0; PIECE];
                    let most = room.len().min(left);
                    let room = room.get_mut(..most).unwrap_or_default();
                    let count = ready!(io.poll_read(cx, room))?;
                    this.aside.extend(room.iter().take(count));
                    this.piece = Some(Piece::Aside(left.saturating_sub(count)));
                    if count == left {
                        this.put_aside();
                    } else if count == 0 {
                        this.end();
                    }
                }
                (None, Some(body)) => {
                    let mut all = lock(&this.streams.0);
                    if body.left == 0 || all.has_room(body.to) {
                        drop(all);
                        this.advance(body);
                        continue;
                    }
                    all.feed(&mut this.out, cx);
                    if this.out.is_empty() {
                        return Poll::Pending;
                    }
                }
                (None, None) => {
                    lock(&this.streams.0).feed(&mut this.out, cx);
                    if !this.out.is_empty() {
                        continue;
                    }
                    let room = this.header.get_mut(this.filled..).unwrap_or_default();
                    let count = ready!(io.poll_read(cx, room))?;
                    this.filled += count;
                    if this.filled == this.header.len() {
                        this.begin();
                    } else if count == 0 {
                        this.end();
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<C: AsyncWrite + Unpin> Frames<C> {
    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.unflushed = 0;
        Poll::Ready(Ok(()))
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Frames<C> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.io).poll_write(cx, buf))?;
        this.unflushed += written;
        Poll::Ready(Ok(written))
    }

    /// `yamux` flushes after each frame, and reads after the last one: what is written goes out when that is much, or all. So several frames are sealed as one,
    /// and handed to the system at once.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.unflushed < MUCH {
            return Poll::Ready(Ok(()));
        }
        this.flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_close(cx)
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests;
