//! A stream of bytes one way, as TCP carries it.
//!
//! What is written goes through the sender's line, along the path, and through the receiver's line, in order, in pieces of at most
//! [`MAX_PIECE`]. Modelled is what decides how long that takes:
//!
//! - The congestion window (RFC 5681): [`INITIAL_WINDOW`] bytes may be under way (RFC 6928), and for each byte that is acknowledged one more,
//!   up to [`MAX_WINDOW`], or up to half of what it was when something was lost last; beyond that one segment a window. A loss halves
//!   it, once a round trip; after a timeout it is one segment. After [`IDLE`] of silence it is what it was at first.
//! - Each packet of a piece may be lost, and what it carried comes again, on the sender's line too. What was before it is there; it holds up all
//!   that is behind it: for a round trip where three packets follow to tell the sender, else, and where it is lost again, until the
//!   sender's timer rings ([`MIN_TIMEOUT`] and a round trip, doubled each time, at most [`MAX_TIMEOUT`]; RFC 6298).
//! - On a path that is cut all is lost; it comes once the path is back and the timer has rung. What comes is acknowledged on the path back: where
//!   that one is cut, the receiver has it and the sender does not know, so that its window fills, and then it stalls.
//! - A sender whose timer has rung [`MAX_TIMEOUTS`] times in a row gives the connection up, after about a quarter of an hour.
//! - The receiver takes [`RECEIVE_WINDOW`] bytes that nobody has read.
//! - The line's queue: who would have bytes wait there longer than [`QUEUE`] waits itself, and so does who has bytes of its own there for longer
//!   than [`TURN`], so that connections take turns.
//!
//! Not modelled: the kernel's own buffer before the window, acknowledgements' share of the line, the loss of single ones (the next says it
//! all), packets out of order.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Buf, Bytes};
use futures::{AsyncRead, AsyncWrite};
use selkie_sim_host::clock::{self, Key};

use super::{SEGMENT, now, packets, with};
use crate::{executor::Node, record};

const MAX_PIECE: usize = 64 << 10;
const INITIAL_WINDOW: usize = 10 * SEGMENT;
const MIN_WINDOW: usize = 2 * SEGMENT;
const MAX_WINDOW: usize = 4 << 20;
const RECEIVE_WINDOW: usize = 4 << 20;
const IDLE: Duration = Duration::from_secs(1);
const MIN_TIMEOUT: Duration = Duration::from_millis(200);
const MAX_TIMEOUT: Duration = Duration::from_secs(120);
/// As Linux has it (`tcp_retries2`), and the longest timeout too.
const MAX_TIMEOUTS: u32 = 15;
/// Packets behind a lost one that tell the sender.
const TELLING: usize = 3;
const QUEUE: Duration = Duration::from_millis(20);
const TURN: Duration = Duration::from_millis(2);

/// One end of a connection.
pub(super) struct Stream {
    reads: Shared,
    writes: Shared,
}

/// The same, for who does not keep it alive.
pub(super) struct WeakStream(Weak<Mutex<Pipe>>, Weak<Mutex<Pipe>>);

/// The two ends of a connection; the first one's node is named first.
pub(super) fn connection(one: Node, other: Node) -> (End, End) {
    let pipe = |from, to| Arc::new(Mutex::new(Pipe::new(from, to)));
    let (there, back) = (pipe(one, other), pipe(other, one));
    let end = |reads: &Shared, writes: &Shared| {
        End(Stream {
            reads: Arc::clone(reads),
            writes: Arc::clone(writes),
        })
    };
    (end(&back, &there), end(&there, &back))
}

/// The end of a connection that its node holds; the connection is closed when it is dropped.
pub(super) struct End(Stream);

impl End {
    pub(super) fn stream(&self) -> Stream {
        Stream {
            reads: Arc::clone(&self.0.reads),
            writes: Arc::clone(&self.0.writes),
        }
    }
}

impl Stream {
    /// Both ends find the connection reset.
    pub(super) fn break_off(&self) {
        for pipe in [&self.reads, &self.writes] {
            lock(pipe).break_off();
        }
    }

    /// This node's end is gone, and says nothing.
    pub(super) fn vanish(&self, node: Node) {
        for pipe in [&self.reads, &self.writes] {
            let mut pipe = lock(pipe);
            if pipe.from == node {
                pipe.vanish();
            }
        }
    }

    pub(super) fn downgrade(&self) -> WeakStream {
        WeakStream(Arc::downgrade(&self.reads), Arc::downgrade(&self.writes))
    }
}

impl WeakStream {
    pub(super) fn is_alive(&self) -> bool {
        self.0.strong_count() > 0
    }

    pub(super) fn upgrade(&self) -> Option<Stream> {
        let (reads, writes) = (self.0.upgrade()?, self.1.upgrade()?);
        Some(Stream { reads, writes })
    }
}

type Shared = Arc<Mutex<Pipe>>;

fn lock(pipe: &Shared) -> MutexGuard<'_, Pipe> {
    pipe.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who waits, and until when where that is known.
#[derive(Default)]
struct Waits {
    waker: Option<Waker>,
    alarm: Option<Key>,
}

impl Waits {
    /// Nobody waits any more. Returns who did.
    fn end(&mut self) -> Option<Waker> {
        if let Some(alarm) = self.alarm.take() {
            clock::cancel(alarm);
        }
        self.waker.take()
    }

    fn begin(&mut self, cx: &Context<'_>) {
        self.waker = Some(cx.waker().clone());
    }

    /// Who waits, and does not know how long, waits until then.
    fn until(&mut self, moment: Duration) {
        if let (Some(waker), None) = (&self.waker, self.alarm) {
            self.alarm = Some(clock::wake_at(moment, waker.clone()));
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.end() {
            waker.wake();
        }
    }
}

struct Pipe {
    from: Node,
    to: Node,
    window: usize,
    /// Up to here the window grows fast.
    threshold: usize,
    /// Until then the window is not halved again.
    is_halved_until: Duration,
    /// Sent and not acknowledged.
    under_way: usize,
    /// When which are.
    acknowledged: VecDeque<(Duration, usize)>,
    last_sent: Duration,
    /// When what was sent last is through the line.
    is_out: Duration,
    writer: Waits,
    /// Nothing is written any more.
    is_closed: bool,
    /// On the path, in order; the end is an empty piece.
    flying: VecDeque<Bytes>,
    last_arrives: Duration,
    /// Pieces that are at the end of the path and wait for one before them.
    held: usize,
    /// What held one up comes to its end at a moment that is known.
    is_held: bool,
    /// Packets of the first piece on the path that are under way once more.
    again: usize,
    /// All that is held was lost on a path that was cut.
    is_swallowed: bool,
    /// How often the timer has rung in a row.
    timeouts: u32,
    /// What has come and the sender does not know of.
    untold: usize,
    /// The sender's timer runs for that.
    probes: bool,
    /// There, from these moments on.
    readable: VecDeque<(Duration, Bytes)>,
    unread: usize,
    reader: Waits,
    /// Nobody reads any more.
    is_left: bool,
    is_broken: bool,
    /// The sender has given it up; nobody tells the receiver.
    is_given_up: bool,
}

impl Pipe {
    fn new(from: Node, to: Node) -> Self {
        Self {
            from,
            to,
            window: INITIAL_WINDOW,
            threshold: MAX_WINDOW,
            is_halved_until: Duration::ZERO,
            under_way: 0,
            acknowledged: VecDeque::new(),
            last_sent: now(),
            is_out: Duration::ZERO,
            writer: Waits::default(),
            is_closed: false,
            flying: VecDeque::new(),
            last_arrives: Duration::ZERO,
            held: 0,
            is_held: false,
            again: 0,
            is_swallowed: false,
            timeouts: 0,
            untold: 0,
            probes: false,
            readable: VecDeque::new(),
            unread: 0,
            reader: Waits::default(),
            is_left: false,
            is_broken: false,
            is_given_up: false,
        }
    }

    /// The sender hears that nobody reads, if it hears anything.
    fn is_heard(&self) -> bool {
        with(|network| network.path(self.to, self.from).is_some())
    }

    fn break_off(&mut self) {
        self.is_broken = true;
        self.flying.clear();
        self.readable.clear();
        self.writer.wake();
        self.reader.wake();
    }

    /// What is on the path is lost, and nothing more comes.
    fn vanish(&mut self) {
        self.is_closed = true;
        self.flying.clear();
        self.held = 0;
        self.untold = 0;
    }

    /// The sender's timer has rung too often.
    fn give_up(&mut self) {
        self.vanish();
        self.is_given_up = true;
        self.writer.wake();
    }

    /// A way there and back.
    fn round_trip(&self) -> Duration {
        with(|network| {
            let path = |from, to| network.usual_path(from, to).latency;
            path(self.from, self.to) + path(self.to, self.from)
        })
    }

    /// Takes what is acknowledged by now.
    fn settle(&mut self) {
        let now = now();
        while let Some((at, count)) = self.acknowledged.front().copied() {
            if at > now {
                break;
            }
            self.acknowledged.pop_front();
            self.under_way = self.under_way.saturating_sub(count);
            let more = if self.window < self.threshold {
                count
            } else {
                count * SEGMENT / self.window
            };
            self.window = (self.window + more).min(MAX_WINDOW);
        }
        if self.under_way == 0 && now.saturating_sub(self.last_sent) > IDLE {
            self.window = self.window.min(INITIAL_WINDOW);
        }
    }

    /// Sends some of these bytes; `None` where none may go yet, and the writer is woken then.
    fn write(&mut self, bytes: &[u8], cx: &Context<'_>) -> Option<Sent> {
        self.writer.end();
        self.settle();
        let now = now();
        let line_free = with(|network| network.hosts.get(self.from).map(|host| host.up_free));
        let line_free = line_free.unwrap_or_default().saturating_sub(QUEUE);
        let turn = line_free.max(self.is_out.saturating_sub(TURN));
        if turn > now {
            self.writer.begin(cx);
            self.writer.until(turn);
            return None;
        }
        let window = self.window.saturating_sub(self.under_way);
        let receiver = RECEIVE_WINDOW.saturating_sub(self.under_way + self.unread);
        let room = window.min(receiver).min(MAX_PIECE);
        if room == 0 {
            self.writer.begin(cx);
            if let Some((next, _)) = self.acknowledged.front() {
                self.writer.until(*next);
            }
            return None;
        }
        let piece = Bytes::copy_from_slice(bytes.get(..room).unwrap_or(bytes));
        Some(self.send(piece))
    }

    /// Puts a piece on its way.
    fn send(&mut self, piece: Bytes) -> Sent {
        let count = piece.len();
        let (is_out, delay) = with(|network| {
            let path = network.usual_path(self.from, self.to);
            let delay = network.delay(path);
            let sender = network.hosts.get_mut(self.from);
            (sender.map_or_else(now, |host| host.send(count)), delay)
        });
        self.is_out = is_out;
        self.last_arrives = self.last_arrives.max(is_out + delay);
        self.last_sent = now();
        self.under_way += count;
        self.flying.push_back(piece);
        let arrives = self.last_arrives;
        Sent { count, arrives }
    }

    /// As many pieces as were held have come to the end of the path. Returns when to look again, if something holds them up.
    fn arrive(&mut self) -> Option<Duration> {
        while self.held > 0 {
            let mut flying = self.flying.iter().map(Bytes::len);
            let first = flying.next()?;
            let behind: usize = flying.take(TELLING).map(packets).sum();
            let Some(path) = with(|network| network.path(self.from, self.to)) else {
                self.is_swallowed = true;
                return self.timer(first.min(SEGMENT));
            };
            if std::mem::take(&mut self.is_swallowed) {
                let swallowed = self.flying.iter().take(self.held).map(Bytes::len).sum();
                self.send_again(swallowed);
            }
            let is_again = self.again > 0;
            let drawn = if is_again { self.again } else { packets(first) };
            let Some((intact, lost)) = with(|network| network.losses(drawn, path.loss)) else {
                self.timeouts = 0;
                self.again = 0;
                self.held -= 1;
                if let Some(piece) = self.flying.pop_front() {
                    self.deliver(piece);
                }
                continue;
            };
            if !is_again && intact > 0 {
                let head = self.flying.front_mut()?.split_to(intact * SEGMENT);
                self.deliver(head);
            }
            self.again = lost;
            let bytes = first.min(lost * SEGMENT);
            if !is_again && drawn - intact - 1 + behind >= TELLING {
                self.send_again(bytes);
                self.halve();
                return Some(now() + self.round_trip());
            }
            return self.timer(bytes);
        }
        None
    }

    /// So many bytes are sent again once the sender's timer has rung: when. `None` where it has rung too often.
    fn timer(&mut self, bytes: usize) -> Option<Duration> {
        if self.timeouts == MAX_TIMEOUTS {
            self.give_up();
            return None;
        }
        self.threshold = (self.window / 2).max(MIN_WINDOW);
        self.window = SEGMENT;
        self.send_again(bytes);
        let timeout = self.timeout() * (1 << self.timeouts);
        self.timeouts += 1;
        Some(now() + timeout.min(MAX_TIMEOUT))
    }

    /// The timer's first time.
    fn timeout(&self) -> Duration {
        MIN_TIMEOUT + self.round_trip()
    }

    fn halve(&mut self) {
        if now() >= self.is_halved_until {
            self.is_halved_until = now() + self.round_trip();
            self.threshold = (self.window / 2).max(MIN_WINDOW);
            self.window = self.threshold;
        }
    }

    fn send_again(&self, bytes: usize) {
        with(|network| {
            if let Some(host) = network.hosts.get_mut(self.from) {
                host.send_again(bytes);
            }
        });
    }

    fn deliver(&mut self, piece: Bytes) {
        record::piece(self.from, self.to, &piece);
        let count = piece.len();
        let (there, back) = with(|network| {
            let receiver = network.hosts.get_mut(self.to);
            let there = receiver.map_or_else(now, |host| host.receive(count));
            let is_open = network.path(self.to, self.from).is_some();
            let back = network.usual_path(self.to, self.from).latency;
            (there, is_open.then_some(back))
        });
        self.untold += count;
        if let Some(back) = back {
            self.acknowledge(there + back);
        }
        if self.is_left {
            return;
        }
        self.unread += count;
        self.readable.push_back((there, piece));
        if there <= now() {
            self.reader.wake();
        } else {
            self.reader.until(there);
        }
    }

    /// At this moment the sender knows of all that has come.
    fn acknowledge(&mut self, moment: Duration) {
        let count = std::mem::take(&mut self.untold);
        self.acknowledged.push_back((moment, count));
        self.writer.until(moment);
    }

    fn read(&mut self, room: &mut [u8], cx: &Context<'_>) -> Poll<io::Result<usize>> {
        let now = now();
        self.reader.end();
        let Some((at, piece)) = self.readable.front_mut() else {
            if self.is_broken {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            self.reader.begin(cx);
            return Poll::Pending;
        };
        if *at > now {
            let at = *at;
            self.reader.begin(cx);
            self.reader.until(at);
            return Poll::Pending;
        }
        // An empty piece is the end, and stays.
        let count = piece.len().min(room.len());
        if count > 0 {
            piece.copy_to_slice(&mut room[..count]);
            self.unread -= count;
            if piece.is_empty() {
                self.readable.pop_front();
            }
            if self.unread + count >= RECEIVE_WINDOW / 2 {
                self.writer.wake();
            }
        }
        Poll::Ready(Ok(count))
    }
}

/// A piece that is on its way.
struct Sent {
    count: usize,
    arrives: Duration,
}

/// At this moment one more piece is at the end of the path.
fn arrives(pipe: &Shared, moment: Duration) {
    let pipe = Arc::clone(pipe);
    clock::call_at(moment, move || {
        let mut this = lock(&pipe);
        this.held += 1;
        if !this.is_held {
            go_on(&pipe, this);
        }
    });
}

fn go_on(pipe: &Shared, mut this: MutexGuard<'_, Pipe>) {
    let again = this.arrive();
    this.is_held = again.is_some();
    if this.is_left && !this.is_broken {
        refuse(pipe, &this);
    }
    if let Some(moment) = again {
        let pipe = Arc::clone(pipe);
        clock::call_at(moment, move || go_on(&pipe, lock(&pipe)));
    } else {
        probe_later(pipe, this);
    }
}

/// Where the sender does not know of what has come, its timer runs.
fn probe_later(pipe: &Shared, mut this: MutexGuard<'_, Pipe>) {
    if this.untold > 0 && !this.probes {
        this.probes = true;
        let moment = now() + this.timeout();
        probe_at(pipe, moment);
    }
}

fn probe_at(pipe: &Shared, moment: Duration) {
    let pipe = Arc::clone(pipe);
    clock::call_at(moment, move || probe(&pipe, &mut lock(&pipe)));
}

/// It sends some of it again, which is acknowledged where it can be.
fn probe(pipe: &Shared, this: &mut Pipe) {
    // What is held up has a timer of its own, and is acknowledged together with this.
    this.probes = this.untold > 0 && !this.is_held;
    if !this.probes {
        return;
    }
    let is_open = with(|network| {
        network.path(this.from, this.to).is_some() && network.path(this.to, this.from).is_some()
    });
    if is_open {
        this.probes = false;
        this.timeouts = 0;
        this.send_again(SEGMENT);
        let moment = now() + this.round_trip();
        this.acknowledge(moment);
    } else if let Some(moment) = this.timer(SEGMENT) {
        probe_at(pipe, moment);
    }
}

/// The sender is told that nobody reads, where it can be.
fn refuse(pipe: &Shared, this: &Pipe) {
    let back = this.round_trip() / 2;
    let pipe = Arc::clone(pipe);
    clock::call_at(now() + back, move || {
        let mut this = lock(&pipe);
        if this.is_heard() {
            this.break_off();
        }
    });
}

/// The sender writes no more.
fn close(pipe: &Shared) {
    let mut this = lock(pipe);
    if !std::mem::replace(&mut this.is_closed, true) && !this.is_broken {
        let sent = this.send(Bytes::new());
        drop(this);
        arrives(pipe, sent.arrives);
    }
}

impl AsyncRead for End {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        lock(&self.0.reads).read(room, cx)
    }
}

impl AsyncWrite for End {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut pipe = lock(&self.0.writes);
        if pipe.is_broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if pipe.is_given_up {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if pipe.is_closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let Some(sent) = pipe.write(bytes, cx) else {
            return Poll::Pending;
        };
        drop(pipe);
        arrives(&self.0.writes, sent.arrives);
        Poll::Ready(Ok(sent.count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        close(&self.0.writes);
        Poll::Ready(Ok(()))
    }
}

/// What was written is still carried; who writes to this end is told that nobody is there.
impl Drop for End {
    fn drop(&mut self) {
        close(&self.0.writes);
        let mut reads = lock(&self.0.reads);
        reads.is_left = true;
        reads.readable.clear();
        refuse(&self.0.reads, &reads);
    }
}
