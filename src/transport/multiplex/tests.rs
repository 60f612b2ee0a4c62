use std::{
    cell::Cell,
    future::poll_fn,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::Wake,
    time::Duration,
};

use futures::{AsyncReadExt, AsyncWriteExt, io::WriteHalf};
use libp2p::{
    PeerId,
    core::{ConnectedPoint, muxing::StreamMuxerExt},
};
use tokio::{io::DuplexStream, sync::Notify};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

use super::{
    frames::{DATA, GO_AWAY, RST, SYN, WINDOW, header},
    unread::{LEAST, ROOM},
    *,
};
use crate::{platform::lock::lock, transport::links::Links};

type Io = Compat<DuplexStream>;

const PING: u8 = 2;
const ACK: u16 = 2;

/// A connection, and the bare bytes of its peer.
fn pair(messages: usize) -> (Connection<Io>, Io) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let multiplex = Multiplex::new(messages);
    (
        multiplex.connection(near.compat(), Mode::Server),
        far.compat(),
    )
}

/// A way that takes all and brings nothing; how many bytes it had each time it was flushed.
#[derive(Clone, Default)]
struct Sink {
    unflushed: usize,
    flushed: Arc<Mutex<Vec<usize>>>,
}

impl AsyncRead for Sink {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Pending
    }
}

impl AsyncWrite for Sink {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.unflushed += bytes.len();
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let bytes = std::mem::take(&mut self.unflushed);
        lock(&self.flushed).push(bytes);
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

#[test]
fn frames_that_wait_together_go_out_together_as_far_as_they_are_not_much() {
    let (sink, mut cx) = (Sink::default(), Context::from_waker(Waker::noop()));
    let multiplex = Multiplex::new(32);
    let mut connection = multiplex.connection(sink.clone(), Mode::Client);
    let Poll::Ready(Ok(mut stream)) = connection.poll_outbound_unpin(&mut cx) else {
        panic!("there is room");
    };
    // The first time with a ping of 12 bytes.
    for (frames, lengths) in [
        (&[16 << 10, 8 << 10, 100][..], vec![(24 << 10) + 100 + 48]),
        (&[16 << 10; 4], vec![(32 << 10) + 24; 2]),
    ] {
        for bytes in frames {
            let wrote = Pin::new(&mut stream).poll_write(&mut cx, &vec![7; *bytes]);
            assert!(matches!(wrote, Poll::Ready(Ok(count)) if count == *bytes));
        }
        assert!(connection.poll_unpin(&mut cx).is_pending());
        assert_eq!(std::mem::take(&mut *lock(&sink.flushed)), lengths);
    }
}

/// What the node has said to its peer.
#[derive(Default)]
struct Heard {
    /// Bytes that the first stream may send.
    credit: Cell<u32>,
    ping: Cell<Option<u32>>,
    pongs: Cell<u32>,
    news: Notify,
}

impl Heard {
    async fn hear(&self, mut io: impl AsyncRead + Unpin) {
        let mut frame = [0; 12];
        while io.read_exact(&mut frame).await.is_ok() {
            let word = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|next| frame[at + next]));
            match (frame[1], u16::from(frame[3])) {
                (WINDOW, _) => self.credit.set(self.credit.get() + word(8)),
                (PING, SYN) => self.ping.set(Some(word(8))),
                (PING, ACK) => self.pongs.set(self.pongs.get() + 1),
                (kind, _) => assert!(matches!(kind, DATA | GO_AWAY), "{kind}"),
            }
            self.news.notify_one();
        }
    }

    async fn until(&self, holds: impl Fn() -> bool) {
        while !holds() {
            self.news.notified().await;
        }
    }
}

/// Sends as much as it may on its first stream.
async fn flood(io: &mut WriteHalf<Io>, heard: &Heard, sent: &Cell<usize>) {
    let piece = [7; 16 << 10];
    while heard.credit.get() > 0 {
        let length = heard.credit.get().min(16 << 10);
        heard.credit.set(heard.credit.get() - length);
        let length_of = usize::try_from(length).expect("small");
        io.write_all(&header(DATA, 0, 1, length))
            .await
            .expect("it is there");
        io.write_all(&piece[..length_of])
            .await
            .expect("it is there");
        sent.set(sent.get() + length_of);
        // Its window comes meanwhile.
        tokio::task::yield_now().await;
    }
}

/// A round trip that is made of nothing but this attack's delay: so much time the node's reader has for half a window.
const LATE: Duration = Duration::from_millis(500);
/// Enough for windows of twice as much.
const READ: usize = 16 << 20;
/// What is read at most at once.
const AT_ONCE: usize = 64 << 10;

#[tokio::test]
async fn who_makes_its_round_trips_long_and_is_not_read_gets_a_window_that_grows_by_1_mib_and_no_more()
 {
    let (mut connection, peer) = pair(32);
    let (heard, sent, read) = (Heard::default(), Cell::new(0), Cell::new(0));
    let (hears, mut speaks) = peer.split();
    let node = async {
        let mut stream = None;
        poll_fn(|cx| {
            let _ = connection.poll_unpin(cx);
            if stream.is_none()
                && let Poll::Ready(opened) = connection.poll_inbound_unpin(cx)
            {
                stream = Some(opened.expect("a stream"));
            }
            let mut room = vec![0; AT_ONCE];
            while read.get() < READ
                && let Some(stream) = stream.as_mut()
                && let Poll::Ready(count) = Pin::new(stream).poll_read(cx, &mut room)
            {
                read.set(read.get() + count.expect("bytes"));
                let _ = connection.poll_unpin(cx);
            }
            heard.news.notify_one();
            Poll::<()>::Pending
        })
        .await;
    };
    let attack = async {
        speaks
            .write_all(&header(WINDOW, SYN, 1, 0))
            .await
            .expect("it is there");
        heard.credit.set(heard.credit.get() + DEFAULT_CREDIT);
        heard.until(|| heard.ping.get().is_some()).await;
        tokio::time::sleep(LATE).await;
        let ping = heard.ping.take().expect("it came");
        speaks
            .write_all(&header(PING, ACK, 0, ping))
            .await
            .expect("it is there");
        let mut last = 0;
        while read.get() < READ || last < sent.get() {
            last = sent.get();
            flood(&mut speaks, &heard, &sent).await;
            // Whatever it may send more is told before the answer to the second of these.
            for _ in 0..2 {
                let pongs = heard.pongs.get();
                speaks
                    .write_all(&header(PING, SYN, 0, 9))
                    .await
                    .expect("it is there");
                heard.until(|| heard.pongs.get() > pongs).await;
            }
        }
    };
    tokio::select! {
        () = heard.hear(hears) => panic!("the node has ended the connection"),
        () = node => {}
        () = attack => {}
    }
    let unread = sent.get() - read.get();
    assert!(unread <= GROWTH + bytes(DEFAULT_CREDIT), "{unread}");
    // Half a window is read before more is granted, and that is done as the next is read: none comes after the last.
    assert!(
        unread >= (GROWTH + bytes(DEFAULT_CREDIT)) / 2 - AT_ONCE,
        "a long way is worth a long window: {unread}"
    );
}

/// The next frame of the node's that says nothing of windows: its type, flags and stream.
async fn next(peer: &mut Io) -> (u8, u16, u32) {
    loop {
        let mut frame = [0; 12];
        peer.read_exact(&mut frame).await.expect("a frame");
        let stream = u32::from_be_bytes([4, 5, 6, 7].map(|at| frame[at]));
        if frame[1] != WINDOW {
            return (frame[1], u16::from(frame[3]), stream);
        }
    }
}

/// What a peer says, while the node's connection moves. Streams that come are taken up.
async fn meanwhile<T>(
    connection: &mut Connection<Io>,
    taken: &mut Vec<Stream>,
    peer: impl Future<Output = T>,
) -> T {
    let node = poll_fn(|cx| {
        while let Poll::Ready(opened) = connection.poll_inbound_unpin(cx) {
            taken.push(opened.expect("it lives"));
        }
        connection.poll_unpin(cx).map(drop)
    });
    tokio::select! {
        () = node => panic!("the connection has ended"),
        done = peer => done,
    }
}

async fn say(peer: &mut Io, frame: [u8; 12]) {
    peer.write_all(&frame).await.expect("it is there");
}

#[tokio::test]
async fn a_surplus_stream_is_reset_and_no_other() {
    let (mut connection, mut peer) = pair(2);
    let (room, surplus) = (OTHERS + 2 - OWN, 8);
    let mut taken = Vec::new();
    let attack = async {
        say(&mut peer, header(PING, SYN, 0, 9)).await;
        for number in 0..u32::try_from(room + surplus).expect("small") {
            say(&mut peer, header(WINDOW, SYN, 2 * number + 1, 0)).await;
            // Of no stream that lives.
            say(&mut peer, header(DATA, 0, 2 * number + 1, 1)).await;
            peer.write_all(&[7]).await.expect("it is there");
        }
        let mut reset = Vec::new();
        while reset.len() < surplus {
            match next(&mut peer).await {
                (DATA, RST, stream) => reset.push(stream),
                (PING, ..) => {}
                other => panic!("{other:?}"),
            }
        }
        reset
    };
    let reset = meanwhile(&mut connection, &mut taken, attack).await;
    let first = u32::try_from(2 * room + 1).expect("small");
    assert!(reset.iter().all(|stream| *stream >= first), "{reset:?}");
    assert_eq!(taken.len(), room);
    // A place that is free again is taken again.
    taken.pop();
    let again = async {
        say(&mut peer, header(WINDOW, SYN, 9999, 0)).await;
        say(&mut peer, header(PING, SYN, 0, 10)).await;
        while !matches!(next(&mut peer).await, (PING, ACK, _)) {}
    };
    meanwhile(&mut connection, &mut taken, again).await;
    assert_eq!(taken.len(), room);
}

#[tokio::test]
async fn who_opens_all_it_can_keeps_nobody_from_opening_one() {
    let (mut connection, mut peer) = pair(2);
    let mut taken = Vec::new();
    let opens = async {
        for number in 0..1000 {
            say(&mut peer, header(WINDOW, SYN, 2 * number + 1, 0)).await;
        }
        say(&mut peer, header(PING, SYN, 0, 9)).await;
        while !matches!(next(&mut peer).await, (PING, ACK, _)) {}
    };
    meanwhile(&mut connection, &mut taken, opens).await;
    let mut own = Vec::new();
    let mut context = Context::from_waker(Waker::noop());
    while let Poll::Ready(opened) = connection.poll_outbound_unpin(&mut context) {
        own.push(opened.expect("it lives"));
    }
    assert_eq!(own.len(), OWN);
    let woken = poll_fn(|cx| {
        let opened = connection.poll_outbound_unpin(cx).map(|one| one.is_ok());
        // One ends only now that another is waited for.
        own.pop();
        opened
    });
    assert!(woken.await);
}

#[tokio::test]
async fn bytes_that_came_one_by_one_are_read_as_they_came() {
    let (mut connection, mut peer) = pair(2);
    let (mut taken, count) = (Vec::new(), DEFAULT_CREDIT);
    let crumbs = async {
        say(&mut peer, header(WINDOW, SYN, 1, 0)).await;
        for number in 0..count {
            let frame = [&header(DATA, 0, 1, 1)[..], &[number.to_le_bytes()[0]]].concat();
            peer.write_all(&frame).await.expect("it is there");
        }
        say(&mut peer, header(PING, SYN, 0, 9)).await;
        while !matches!(next(&mut peer).await, (PING, ACK, _)) {}
    };
    meanwhile(&mut connection, &mut taken, crumbs).await;
    let mut stream = taken.pop().expect("it is there");
    let reads = async {
        let mut read = vec![0; bytes(count)];
        stream.read_exact(&mut read).await.expect("they are there");
        read
    };
    let read = meanwhile(&mut connection, &mut taken, reads).await;
    let right = |(number, byte): (usize, &u8)| *byte == number.to_le_bytes()[0];
    assert!(read.iter().enumerate().all(right));
}

/// A connection of the node, and a peer that fills the window of each of its streams.
struct Flood {
    connection: Connection<Io>,
    taken: Vec<Stream>,
    peer: DuplexStream,
    said: Arc<[u8]>,
    written: usize,
}

impl Flood {
    const STREAMS: u32 = 32;
    /// What is on its way to the node.
    const WAY: usize = 1 << 16;

    /// All that peers say.
    fn words() -> Arc<[u8]> {
        let said = (0..Self::STREAMS).flat_map(|number| {
            let id = 2 * number + 1;
            let heads = [
                header(WINDOW, SYN, id, 0),
                header(DATA, 0, id, DEFAULT_CREDIT),
            ];
            [heads.concat(), vec![7; bytes(DEFAULT_CREDIT)]].concat()
        });
        said.collect()
    }

    fn new(multiplex: &Multiplex, said: &Arc<[u8]>) -> Self {
        let (near, peer) = tokio::io::duplex(Self::WAY);
        let multiplex = multiplex.clone();
        Self {
            connection: multiplex.connection(near.compat(), Mode::Server),
            taken: Vec::new(),
            peer,
            said: Arc::clone(said),
            written: 0,
        }
    }

    fn is_done(&self) -> bool {
        self.written == self.said.len()
    }

    fn poll_node(&mut self, cx: &mut Context<'_>) {
        loop {
            let _ = self.connection.poll_unpin(cx);
            let Poll::Ready(stream) = self.connection.poll_inbound_unpin(cx) else {
                return;
            };
            self.taken.push(stream.expect("it lives"));
        }
    }

    /// Both go on until nothing moves.
    fn moves(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let mut still = 0;
        while still < 3 && !self.is_done() {
            let rest = &self.said[self.written..];
            let peer = Pin::new(&mut self.peer);
            match tokio::io::AsyncWrite::poll_write(peer, &mut cx, rest) {
                Poll::Ready(count) => {
                    self.written += count.expect("it is there");
                    still = 0;
                }
                Poll::Pending => still += 1,
            }
            self.poll_node(&mut cx);
        }
    }

    /// Reads what is there, of each stream as much as this at most; how much that is.
    fn read(&mut self, most: usize) -> usize {
        let mut cx = Context::from_waker(Waker::noop());
        let mut room = vec![0; most];
        let counts = self.taken.iter_mut().map(|stream| {
            match Pin::new(stream).poll_read(&mut cx, &mut room) {
                Poll::Ready(count) => count.expect("bytes"),
                Poll::Pending => 0,
            }
        });
        counts.sum()
    }
}

#[test]
fn what_many_connections_leave_unread_has_one_room() {
    let (multiplex, said) = (Multiplex::new(32), Flood::words());
    let floods = (0..24).map(|_| Flood::new(&multiplex, &said));
    let mut floods: Vec<_> = floods.collect();
    for flood in &mut floods {
        flood.moves();
        let written = flood.written;
        assert!((LEAST..ROOM / 4).contains(&written), "{written}");
    }
    let written: usize = floods.iter().map(|flood| flood.written).sum();
    let most = ROOM + floods.len() * (LEAST + 2 * Flood::WAY);
    assert!(written <= most, "{written}");
    drop(floods);
    // What those had that are gone is others'.
    let mut next = Flood::new(&multiplex, &said);
    next.moves();
    assert!(next.written > ROOM / 6, "{}", next.written);
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn whose_connection_is_read_no_further_is_told_until_it_is_read_again() {
    let (multiplex, said) = (Multiplex::new(32), Flood::words());
    let mut flood = Flood::new(&multiplex, &said);
    let link = flood.connection.link();
    let stands = || {
        let mut cx = Context::from_waker(Waker::noop());
        match link.poll_stands(&mut cx) {
            Poll::Ready(stands) => Some(stands),
            Poll::Pending => None,
        }
    };
    assert_eq!(stands(), None);
    flood.moves();
    assert!(!flood.is_done() && stands() == Some(true));
    while !flood.is_done() {
        flood.read(256 << 10);
        flood.moves();
    }
    flood.read(256 << 10);
    flood.poll_node(&mut Context::from_waker(Waker::noop()));
    assert_eq!(stands(), Some(false));
}

#[test]
fn streams_that_are_kept_have_room_once_all_of_it_is_used_up() {
    let (multiplex, said) = (Multiplex::new(32), Flood::words());
    let mut flood = Flood::new(&multiplex, &said);
    let link = flood.connection.link();
    let endpoint = ConnectedPoint::Listener {
        local_addr: "/memory/1".parse().expect("an address"),
        send_back_addr: "/memory/2".parse().expect("an address"),
    };
    Links::default().connected(PeerId::random(), &endpoint, &link);
    flood.moves();
    assert!(!flood.is_done());
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    flood.poll_node(&mut Context::from_waker(&waker));
    let stands = || link.poll_stands(&mut Context::from_waker(Waker::noop()));
    assert_eq!(stands(), Poll::Ready(true));
    link.keep(bytes(Flood::STREAMS));
    assert!(woken.0.load(Ordering::Relaxed) && link.wants_more());
    flood.moves();
    assert!(
        flood.is_done() && link.wants_more(),
        "no more than was needed"
    );
    assert_eq!(stands(), Poll::Ready(false));
}

#[test]
fn who_has_its_share_is_heard_again_once_some_of_it_was_read_and_can_be_closed_before() {
    let (multiplex, said) = (Multiplex::new(32), Flood::words());
    let mut flood = Flood::new(&multiplex, &said);
    flood.moves();
    assert!(!flood.is_done());
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    flood.poll_node(&mut Context::from_waker(&waker));
    assert!(!woken.0.load(Ordering::Relaxed));
    // Of each stream less than a new window is granted for.
    let mut read = flood.read(4096);
    assert!(woken.0.load(Ordering::Relaxed));
    while read < flood.taken.len() * bytes(DEFAULT_CREDIT) || !flood.is_done() {
        flood.moves();
        read += flood.read(256 << 10);
    }
    let mut stopped = Flood::new(&multiplex, &said);
    stopped.moves();
    assert!(!stopped.is_done());
    futures::executor::block_on(stopped.connection.close()).expect("it ends");
}

#[test]
fn who_does_not_read_its_resets_is_not_read_either() {
    const ROOM: usize = 12 << 9;
    let (near, mut peer) = tokio::io::duplex(ROOM);
    let mut connection = Multiplex::new(2).connection(near.compat(), Mode::Server);
    let mut cx = Context::from_waker(Waker::noop());
    let (mut opened, mut still) = (0, 0);
    while still < 3 {
        let opening = header(WINDOW, SYN, 2 * opened + 1, 0);
        match tokio::io::AsyncWrite::poll_write(Pin::new(&mut peer), &mut cx, &opening) {
            Poll::Ready(count) => {
                assert_eq!(count.expect("it is there"), opening.len());
                (opened, still) = (opened + 1, 0);
            }
            Poll::Pending => still += 1,
        }
        // Nobody holds what comes.
        for _ in 0..3 {
            let _ = connection.poll_unpin(&mut cx);
            drop(connection.poll_inbound_unpin(&mut cx));
        }
    }
    // Those, what is on the way, and what is under way.
    let most = OTHERS + 2 + GHOSTS + 2 * ROOM / 12 + 8;
    let opened = usize::try_from(opened).expect("few");
    assert!((GHOSTS..most).contains(&opened), "{opened}");
}
