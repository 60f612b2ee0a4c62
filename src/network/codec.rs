//! Length-framed messages over request-response: the codec of both our protocols.
//!
//! The length is an unsigned varint, checked against the limit before a byte is allocated; the buffer
//! then grows with what really arrives, so that a lying length costs nothing.
//!
//! What streams hold is bounded in bytes: a frame is read once there is room for all of it on its connection, and what goes
//! beyond its first `SMALL` bytes once there is room on the node, and keeps its places until it is dropped. So short frames
//! wait for nobody else's, and a length alone takes no room from others. Accounts, and the peers in each, have the node's room in turns, and who sends
//! slowly gives way to those that wait (`traffic/room.rs`), and loses its stream in any case when the request times out
//! (`protocol.request_response_config.request_timeout`). For what finds no room within half of that time there is none. Long requests are
//! for peers that said hello: those of others are
//! refused unread. The node may hear of a hello a moment later than the peer, which goes on at once: so a request waits for
//! that as long as its pauses are. A frame that is sent may have a place too, and gives way in the same manner where it is not read.
//!
//! A request that was not read to its end is a request still, an `Err`: libp2p drops the ones that can't be read without a
//! word, and then nobody would be told why or pay for what was read. Its answer is written, and then the stream is dropped without a close:
//! over Yamux nothing else tells the peer to write no more, and it would write on until its own time is over. Who asks reads
//! an answer all the same where its writing failed, and so hears why at once.
//!
//! A request or an answer that is cut short is no fault: its sender's time was over, or it gave way to others.

use std::{
    fmt, io,
    ops::Deref,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{
    AsyncRead, AsyncWrite, AsyncWriteExt, FutureExt,
    future::{self, Either},
};
use libp2p::{PeerId, StreamProtocol, request_response::Codec};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    config::RequestResponseConfig,
    frames::{LongFrames, Place, read_length, read_on},
    peers::Account,
    platform::{self, Delay, Instant, lock::lock},
};

/// So much of a frame needs no room of the node's, in bytes.
const SMALL: usize = 64 << 10;
/// How long a long frame has its room at least, whoever waits: its sender has so much of the request's time to lose.
pub(super) const GRACE: Duration = Duration::from_millis(250);
/// How often a long request's sender is looked up, which has not said hello as far as is known, and how long after the first look
/// comes the second; each pause is twice as long as the one before, 1.27 s in all.
const PAUSES: u32 = 7;
const PAUSE: Duration = Duration::from_millis(10);

/// A frame, and the place that it takes until it is dropped.
#[derive(Debug, Default)]
pub struct Frame {
    bytes: Vec<u8>,
    _own: Option<OwnedSemaphorePermit>,
    place: Option<Place>,
    progress: Option<Progress>,
}

impl Frame {
    /// One to be sent, with its place.
    pub(super) fn placed(bytes: Vec<u8>, mut place: Place) -> Self {
        place.shrink(bytes.len());
        Self {
            place: Some(place),
            ..Self::from(bytes)
        }
    }

    /// One that asks; what tells how far it has come.
    pub(crate) fn asking(bytes: Vec<u8>) -> (Self, Progress) {
        let progress = Progress::default();
        let frame = Self {
            progress: Some(progress.clone()),
            ..Self::from(bytes)
        };
        (frame, progress)
    }
}

impl From<Vec<u8>> for Frame {
    /// One to be sent, which takes no place.
    fn from(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            ..Self::default()
        }
    }
}

impl Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A request as it was read, or why it was not read to its end.
pub type Request = Result<Frame, Unread>;

/// A request that was not read to its end.
#[derive(Debug)]
pub struct Unread {
    /// Why.
    pub error: io::Error,
    /// Bytes that were read of it.
    pub bytes: usize,
}

/// How far a request and its answer have come, for who asks: clones tell of the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Arc<Mutex<Step>>);

/// See [`Progress`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Step {
    /// The request is not written to its end.
    #[default]
    Asking,
    /// It is, since then, and the answer is owed.
    Asked(Instant),
    /// The answer has begun.
    Answered,
}

impl Progress {
    pub(crate) fn set(&self, step: Step) {
        *lock(&self.0) = step;
    }

    pub(crate) fn get(&self) -> Step {
        *lock(&self.0)
    }
}

/// Frames of at most `max` bytes. Each stream has its own clone, which knows how far things have come there.
#[derive(Clone, Debug)]
pub struct FrameCodec {
    max: usize,
    room: Option<Room>,
    /// Whether the request was not read, or not written, to its end.
    is_cut: bool,
    progress: Option<Progress>,
}

/// Room for the frames that are being read or handled: of all connections, and of one, in KiB.
///
/// libp2p clones a behaviour's codec for each connection, and that clone for each stream of it. So the first clone has a
/// connection's room of its own, and those of it share that.
struct Room {
    all: LongFrames,
    per_connection: usize,
    /// Whether a peer has said hello.
    is_greeted: Arc<dyn Fn(&PeerId) -> bool + Send + Sync>,
    /// How long a frame may wait for room.
    patience: Duration,
    newcomer: Newcomer,
    connection: Option<Connection>,
}

/// Whose connection it is that the codec is cloned for next: libp2p does not tell.
pub(super) type Newcomer = Arc<Mutex<Option<(PeerId, Account)>>>;

#[derive(Clone)]
struct Connection {
    peer: PeerId,
    account: Account,
    room: Arc<Semaphore>,
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").finish_non_exhaustive()
    }
}

impl Clone for Room {
    fn clone(&self) -> Self {
        let begin = || {
            let (peer, account) = lock(&self.newcomer).take()?;
            let room = Arc::new(Semaphore::new(self.per_connection));
            Some(Connection {
                peer,
                account,
                room,
            })
        };
        Self {
            all: self.all.clone(),
            per_connection: self.per_connection,
            is_greeted: Arc::clone(&self.is_greeted),
            patience: self.patience,
            newcomer: Arc::clone(&self.newcomer),
            connection: self.connection.clone().or_else(begin),
        }
    }
}

impl Room {
    /// Waits for room on the connection, then reads a frame of `length` bytes as far as there is room for it on the node; `frame`
    /// has what came of it, whatever happens.
    async fn read<T: AsyncRead + Unpin + Send>(
        &self,
        io: &mut T,
        frame: &mut Frame,
        length: usize,
        is_asked: bool,
    ) -> io::Result<()> {
        let nobody = || io::Error::other("this codec was never given a connection");
        let Connection {
            peer,
            account,
            room,
        } = self.connection.as_ref().ok_or_else(nobody)?;
        if length > SMALL && !is_asked && !self.hears_hello(peer).await {
            let problem = "say hello before you send long messages; see docs/wire.md";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
        }
        let mut patience = Delay::new(self.patience);
        let kib = u32::try_from(length.div_ceil(1024)).unwrap_or(u32::MAX);
        let own = Arc::clone(room).acquire_many_owned(kib);
        let own = in_time(own.boxed(), &mut patience).await?;
        frame._own = Some(own.map_err(io::Error::other)?);
        read_on(io, &mut frame.bytes, length.min(SMALL)).await?;
        let rest = length - frame.bytes.len();
        if rest > 0 {
            let place = self.all.enter((*peer, *account), length);
            let mut place = in_time(place.boxed(), &mut patience).await?;
            place.read(io, &mut frame.bytes, rest).await?;
            frame.place = Some(place);
        }
        Ok(())
    }

    /// Whether a peer has said hello, or does within the pauses.
    async fn hears_hello(&self, peer: &PeerId) -> bool {
        for pause in 0..PAUSES {
            if (self.is_greeted)(peer) {
                return true;
            }
            Delay::new(PAUSE * (1 << pause)).await;
        }
        (self.is_greeted)(peer)
    }
}

/// What comes while there is patience.
///
/// # Errors
/// `ResourceBusy` where it does not.
async fn in_time<F: Future + Unpin>(comes: F, patience: &mut Delay) -> io::Result<F::Output> {
    match future::select(comes, patience).await {
        Either::Left((come, _)) => Ok(come),
        Either::Right(_) => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "too many other messages are under way; try again later",
        )),
    }
}

impl FrameCodec {
    /// A codec for frames of at most `max` bytes.
    pub fn new(max: usize) -> Self {
        Self {
            max,
            room: None,
            is_cut: false,
            progress: None,
        }
    }

    /// Frames that are read take at most so many bytes at once on one connection and on all together; at least one fits. Long
    /// requests are for peers that said hello. Whoever has it cloned for a connection names the peer before.
    pub(super) fn with_room(
        self,
        config: &RequestResponseConfig,
        is_greeted: impl Fn(&PeerId) -> bool + Send + Sync + 'static,
        newcomer: Newcomer,
    ) -> Self {
        let (per_connection, all) = (config.max_connection_bytes, config.max_bytes);
        let kib = |bytes: usize| {
            bytes
                .max(self.max)
                .div_ceil(1024)
                .min(Semaphore::MAX_PERMITS)
        };
        let room = Room {
            all: LongFrames::new(kib(all), kib(all), GRACE),
            per_connection: kib(per_connection),
            is_greeted: Arc::new(is_greeted),
            patience: config.request_timeout / 2,
            newcomer,
            connection: None,
        };
        Self {
            room: Some(room),
            ..self
        }
    }

    /// Reads one frame.
    ///
    /// # Errors
    /// `InvalidData` where the length is no varint or over the limit, `UnexpectedEof` where the frame is cut short,
    /// `ConnectionAborted` where it does not even begin: a busy peer's libp2p ends streams so; `ResourceBusy` where it gave way, or
    /// found no room, `PermissionDenied` where its sender has to say hello before.
    pub async fn read<T: AsyncRead + Unpin + Send>(&self, io: &mut T) -> io::Result<Frame> {
        let read = self.read_frame(io, false).await;
        read.map_err(|unread| unread.error)
    }

    /// Reads one frame, which was asked for or not.
    async fn read_frame<T: AsyncRead + Unpin + Send>(&self, io: &mut T, is_asked: bool) -> Request {
        let mut frame = Frame::default();
        match self.fill(io, &mut frame, is_asked).await {
            Ok(()) => Ok(frame),
            Err(error) => Err(Unread {
                error: in_words(error),
                bytes: frame.len(),
            }),
        }
    }

    async fn fill<T: AsyncRead + Unpin + Send>(
        &self,
        io: &mut T,
        frame: &mut Frame,
        is_asked: bool,
    ) -> io::Result<()> {
        let length = read_length(io).await?;
        let length = length.ok_or_else(|| {
            let problem = "the peer ended the stream without a message; it may be busy";
            io::Error::new(io::ErrorKind::ConnectionAborted, problem)
        })?;
        if let Some(progress) = &self.progress {
            progress.set(Step::Answered);
        }
        if length > self.max {
            let problem = format!(
                "a frame of {length} bytes is over the limit of {}",
                self.max
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        match &self.room {
            Some(room) => room.read(io, frame, length, is_asked).await,
            None => read_on(io, &mut frame.bytes, length).await,
        }
    }

    /// Writes one frame and closes the stream's sending side.
    ///
    /// # Errors
    /// `InvalidInput` where the frame is over the limit, and what the stream itself says.
    pub async fn write<T: AsyncWrite + Unpin + Send>(
        &self,
        io: &mut T,
        frame: &[u8],
    ) -> io::Result<()> {
        self.write_frame(io, frame, None).await
    }

    /// Writes one frame, which has a place or not, and closes the stream's sending side.
    async fn write_frame<T: AsyncWrite + Unpin + Send>(
        &self,
        io: &mut T,
        frame: &[u8],
        place: Option<&mut Place>,
    ) -> io::Result<()> {
        let head = self.head(frame)?;
        if let Some(place) = place {
            return place.write(io, &head, frame).await;
        }
        io.write_all(&head).await?;
        io.write_all(frame).await?;
        io.close().await
    }

    /// What goes before a frame.
    fn head(&self, frame: &[u8]) -> io::Result<Vec<u8>> {
        if frame.len() > self.max {
            let problem = format!(
                "a frame of {} bytes is over the limit of {}",
                frame.len(),
                self.max
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        let mut head = Vec::with_capacity(5);
        prost::encode_length_delimiter(frame.len(), &mut head)?;
        Ok(head)
    }
}

/// What is cut short is told in words.
fn in_words(error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::UnexpectedEof {
        return error;
    }
    let problem = "the stream ended in the middle of a message; its sender may be busy or out of time, \
                   try again later";
    io::Error::new(io::ErrorKind::UnexpectedEof, problem)
}

/// Whether a stream failed by what the peer wrote, not by the network, nor by time.
pub(crate) fn is_garbage(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

impl Codec for FrameCodec {
    type Protocol = StreamProtocol;
    type Request = Request;
    type Response = Frame;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Request> {
        let request = self.read_frame(io, false).await;
        self.is_cut = request.is_err();
        Ok(request)
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Frame> {
        let read = self.read_frame(io, true).await;
        read.map_err(|Unread { error, .. }| {
            if !self.is_cut || is_garbage(&error) {
                return error;
            }
            let problem =
                "the peer reads this message no further; it may be busy, send it again later";
            io::Error::new(io::ErrorKind::ConnectionAborted, problem)
        })
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Request,
    ) -> io::Result<()> {
        let mut frame = request.map_err(|unread| unread.error)?;
        self.progress = frame.progress.take();
        let written = self.write(io, &frame).await;
        match (&self.progress, written) {
            (_, Err(error)) if error.kind() == io::ErrorKind::InvalidInput => return Err(error),
            // Who refuses a request reads it no further, and says why.
            (_, Err(_)) => self.is_cut = true,
            (Some(progress), Ok(())) => progress.set(Step::Asked(platform::now())),
            (None, Ok(())) => {}
        }
        Ok(())
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        mut frame: Frame,
    ) -> io::Result<()> {
        let mut place = frame.place.take();
        if !self.is_cut {
            return self.write_frame(io, &frame, place.as_mut()).await;
        }
        io.write_all(&self.head(&frame)?).await?;
        io.write_all(&frame).await?;
        io.flush().await?;
        // An error has libp2p drop the stream as it is.
        let end = "its request was not read to its end, which it was told";
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;
    use futures::{AsyncReadExt, FutureExt, io::Cursor};
    use proptest::prelude::*;

    fn read(bytes: &[u8], max: usize) -> io::Result<Vec<u8>> {
        FrameCodec::new(max)
            .read(&mut Cursor::new(bytes))
            .now_or_never()
            .expect("a cursor never waits")
            .map(|frame| frame.to_vec())
    }

    proptest! {
        #[test]
        fn a_frame_survives(frame in proptest::collection::vec(any::<u8>(), 0..1024)) {
            let mut io = Cursor::new(Vec::new());
            FrameCodec::new(1024).write(&mut io, &frame).now_or_never().expect("a cursor never waits").expect("fits");
            prop_assert_eq!(read(io.get_ref(), 1024).expect("whole"), frame);
        }

        #[test]
        fn any_bytes_give_a_frame_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(frame) = read(&bytes, 32) { prop_assert!(frame.len() <= 32); }
        }
    }

    #[test]
    fn a_lying_length_is_refused_before_it_costs() {
        let error = read(&[0xff, 0xff, 0xff, 0xff, 0x0f], 1024).expect_err("4 GiB");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(
            read(&[0xff; 10], 1024).expect_err("endless").kind(),
            io::ErrorKind::InvalidData
        );
        assert_eq!(
            read(&[10, 1, 2], 1024).expect_err("cut short").kind(),
            io::ErrorKind::UnexpectedEof
        );
        for cut in [&[][..], &[0x80], &[10, 1, 2]] {
            let cut = read(cut, 1024).expect_err("no frame, or not all of it");
            assert!(!is_garbage(&cut), "{cut}");
        }
    }

    /// What a peer sends of a frame of `length` bytes that never ends.
    fn silent(length: usize, sent: usize) -> impl AsyncRead + Unpin + Send {
        let mut bytes = Vec::new();
        prost::encode_length_delimiter(length, &mut bytes).expect("there is room");
        bytes.resize(bytes.len() + sent, 0);
        Cursor::new(bytes).chain(Silence)
    }

    struct Silence;

    impl AsyncRead for Silence {
        fn poll_read(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            _: &mut [u8],
        ) -> std::task::Poll<io::Result<usize>> {
            std::task::Poll::Pending
        }
    }

    /// A codec with room, and its clones for connections of these peers, all of which said hello.
    fn connections<const N: usize>(
        max: usize,
        room: (usize, usize),
        peers: [PeerId; N],
    ) -> [FrameCodec; N] {
        connections_where(|_| true, max, config(room), peers)
    }

    fn config((max_connection_bytes, max_bytes): (usize, usize)) -> RequestResponseConfig {
        RequestResponseConfig {
            max_connection_bytes,
            max_bytes,
            ..RequestResponseConfig::default()
        }
    }

    fn connections_where<const N: usize>(
        is_greeted: impl Fn(&PeerId) -> bool + Send + Sync + 'static,
        max: usize,
        config: RequestResponseConfig,
        peers: [PeerId; N],
    ) -> [FrameCodec; N] {
        let newcomer = Newcomer::default();
        let codec = FrameCodec::new(max).with_room(&config, is_greeted, Arc::clone(&newcomer));
        peers.map(|peer| {
            *lock(&newcomer) = Some((peer, Account::Peer(peer)));
            codec.clone()
        })
    }

    // A browser's tests can't wait.
    #[core::prelude::v1::test]
    fn long_requests_are_for_peers_that_said_hello() {
        const LONG: usize = SMALL + 1;
        let peers = [PeerId::random()];
        let [codec] = connections_where(|_| false, LONG, config((LONG, LONG)), peers);
        let kind = |read: io::Result<Frame>| read.map_err(|error| error.kind());
        let mut request = silent(LONG, LONG);
        let long = futures::executor::block_on(codec.read(&mut request));
        assert!(matches!(kind(long), Err(io::ErrorKind::PermissionDenied)));
        let short = codec.read(&mut silent(SMALL, SMALL)).now_or_never();
        assert!(matches!(short.map(kind), Some(Ok(frame)) if frame.len() == SMALL));
        let mut answer = silent(LONG, LONG);
        let asked = codec.read_frame(&mut answer, true).now_or_never();
        assert!(matches!(asked, Some(Ok(frame)) if frame.len() == LONG));
    }

    #[core::prelude::v1::test]
    fn a_long_request_waits_for_a_hello_that_is_heard_a_moment_later() {
        const LONG: usize = SMALL + 1;
        let looks = std::sync::atomic::AtomicU32::new(0);
        let late = move |_: &PeerId| looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= 3;
        let [codec] = connections_where(late, LONG, config((LONG, LONG)), [PeerId::random()]);
        let read = futures::executor::block_on(codec.read(&mut silent(LONG, LONG)));
        assert_eq!(read.expect("it said hello").len(), LONG);
    }

    #[test]
    fn promises_take_room_of_their_own_connection_only() {
        let peer = PeerId::random();
        let [one, other] = connections(1 << 20, (2 << 20, 3 << 20), [peer, peer]);
        let free = |codec: &FrameCodec| {
            let room = codec.room.as_ref().expect("it has room");
            let connection = room.connection.as_ref().expect("a connection's");
            (connection.room.available_permits(), room.all.free_kib())
        };
        let promise = |codec: &FrameCodec| {
            let codec = codec.clone();
            async move { codec.read(&mut silent(1 << 20, 0)).await.map(drop) }.boxed()
        };
        let mut waiting: Vec<_> = [&one, &one, &one].map(promise).into();
        for read in &mut waiting {
            assert!(read.now_or_never().is_none(), "the frame does not come");
        }
        assert_eq!((free(&one), free(&other)), ((0, 3072), (2048, 3072)));
        waiting.clear();
        assert_eq!(free(&one), (2048, 3072));
    }

    // A browser's tests can't wait.
    #[core::prelude::v1::test]
    fn slow_frames_hold_up_nobody_else() {
        const LONG: usize = 1 << 20;
        let peers = [(); 5].map(|()| PeerId::random());
        let [a, b, c, codec, honest] = connections(LONG, (LONG, 2 * LONG), peers);
        let slow = |codec: &FrameCodec| {
            let codec = codec.clone();
            async move { codec.read(&mut silent(LONG, SMALL)).await.map(drop) }.boxed()
        };
        let mut slow = [&a, &b, &c].map(slow);
        for read in &mut slow {
            assert!(read.now_or_never().is_none());
        }
        let room = &codec.room.as_ref().expect("it has room").all;
        assert_eq!(room.free_kib(), 0);
        let frame = |length| {
            let mut io = Cursor::new(Vec::new());
            let written = codec.write(&mut io, &vec![7; length]).now_or_never();
            written.expect("a cursor never waits").expect("it fits");
            io.set_position(0);
            io
        };
        let short = codec.clone().read(&mut frame(SMALL)).now_or_never();
        assert!(short.is_some_and(|read| read.is_ok_and(|frame| frame.len() == SMALL)));
        let slow = futures::future::join_all(slow);
        let mut io = frame(LONG);
        let honest = honest.read(&mut io).boxed();
        let read = futures::executor::block_on(futures::future::select(honest, slow));
        let futures::future::Either::Left((read, _)) = read else {
            panic!("the slow ones end first");
        };
        assert_eq!(read.expect("whole").len(), LONG);
    }

    #[core::prelude::v1::test]
    fn what_finds_no_room_is_told_so() {
        const LONG: usize = 1 << 20;
        let peers = [(); 2].map(|()| PeerId::random());
        let hasty = RequestResponseConfig {
            request_timeout: 2 * GRACE,
            ..config((LONG, LONG))
        };
        let [first, second] = connections_where(|_| true, LONG, hasty, peers);
        let read = |codec: &FrameCodec| {
            let codec = codec.clone();
            async move { codec.read(&mut silent(LONG, LONG)).await }.boxed()
        };
        let held = read(&first).now_or_never().expect("all is there");
        for waits in [&first, &second] {
            let told = futures::executor::block_on(read(waits)).map_err(|error| error.kind());
            assert!(matches!(told, Err(io::ErrorKind::ResourceBusy)), "{told:?}");
        }
        drop(held);
        assert!(
            read(&second)
                .now_or_never()
                .is_some_and(|read| read.is_ok())
        );
    }
}
