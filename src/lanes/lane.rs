//! A connection's lanes: three each way, one for each [`Lane`].
//!
//! Votes have a stream of their own and blocks another, so that they overtake whatever waits for room. Each
//! stream goes one way; the other side opens its own. Bounds: a frame is at most [`MAX_FRAME`] long, which is checked before
//! it is buffered, and a long one waits for room ([`Long`]); what waits to be written is bounded by the behaviour, which asks for room first.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use futures::{AsyncRead, AsyncWrite};
use libp2p::{
    Stream, StreamProtocol,
    core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo},
};

use super::{
    acknowledge::Acknowledge,
    core::Coming,
    excuses::Whose,
    long::{Long, SHORT},
};
use crate::{frames::Place, traffic::Lane};

/// The longest frame that is read, in bytes: a block of 4 MiB with the lengths of its transactions.
const MAX_FRAME: usize = (5 << 20) + 1024;
/// How much is read from a stream at once: at least, and of a frame whose length is known.
const READ: usize = 4 << 10;
const MAX_READ: usize = 64 << 10;
/// How much is read of what begins a burst.
const FIRST: usize = 256;
/// The longest length in front of a frame, in bytes.
const MAX_LENGTH: usize = 5;

/// The rest of a lane's protocol's name.
pub(super) fn name(lane: Lane) -> &'static str {
    match lane {
        Lane::Urgent => "urgent/1",
        Lane::Block => "block/1",
        Lane::Bulk => "bulk/1",
    }
}

/// The lanes that may be opened, each under its protocol's name.
#[derive(Clone, Debug)]
pub(crate) struct LaneUpgrade(pub(super) Vec<LaneName>);

/// A lane and its protocol's name.
#[derive(Clone, Debug)]
pub(crate) struct LaneName(pub(super) Lane, pub(super) StreamProtocol);

impl AsRef<str> for LaneName {
    fn as_ref(&self) -> &str {
        self.1.as_ref()
    }
}

impl UpgradeInfo for LaneUpgrade {
    type Info = LaneName;
    type InfoIter = std::vec::IntoIter<LaneName>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for LaneUpgrade {
    type Output = (Lane, Stream);
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, stream: Stream, lane: LaneName) -> Self::Future {
        std::future::ready(Ok((lane.0, stream)))
    }
}

impl OutboundUpgrade<Stream> for LaneUpgrade {
    type Output = (Lane, Stream);
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Self::Output, Self::Error>>;

    fn upgrade_outbound(self, stream: Stream, lane: LaneName) -> Self::Future {
        std::future::ready(Ok((lane.0, stream)))
    }
}

/// Reads frames.
#[derive(Debug)]
pub(super) struct Reader<S = Stream> {
    stream: S,
    /// Initialised; what is read fills it from the front.
    buffer: BytesMut,
    filled: usize,
    /// `None`: a long frame is read as any other.
    long: Option<Long>,
}

/// What comes of a stream.
#[derive(Debug)]
pub(super) enum Read {
    /// A frame, the bytes that it took on the stream, and the place of a long one.
    Frame(Bytes, usize, Option<Place>),
    /// A long frame of so many bytes that gave way to others is over.
    Skipped(usize),
    /// Its end.
    End,
}

impl<S: AsyncRead + Unpin> Reader<S> {
    pub(super) fn new(stream: S, long: Option<Long>) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            filled: 0,
            long,
        }
    }

    /// How much is here of a frame that is not whole yet; `None` where not even its length is known.
    pub(super) fn coming(&self) -> Option<Coming> {
        let (head, length) = length(self.buffer.get(..self.filled)?).ok()??;
        Some(Coming {
            bytes: self.filled,
            length: head + length,
        })
    }

    /// Whether we let the peer's frame wait, and whose doing that is.
    pub(super) fn held(&self) -> Option<Whose> {
        self.long.as_ref().and_then(Long::held)
    }

    /// Whether the rest of a long frame that gave way is still to pass.
    pub(super) fn passes(&self) -> bool {
        self.long.as_ref().is_some_and(Long::passes)
    }

    /// Whether a long frame has its room, and is to be read on.
    pub(super) fn is_under_way(&self) -> bool {
        self.long.as_ref().is_some_and(Long::moves)
    }

    /// How long a frame is that has given way since this was last asked.
    pub(super) fn take_lost(&mut self) -> Option<usize> {
        self.long.as_mut().and_then(Long::take_lost)
    }

    /// Looks whether a long frame is to give way, which it does also while it is not read.
    pub(super) fn look_around(&mut self, cx: &mut Context<'_>) {
        if let Some(long) = &mut self.long
            && long.poll_gives_way(self.filled, cx).is_ready()
        {
            (self.buffer, self.filled) = (BytesMut::new(), 0);
        }
    }

    /// What comes next. A long frame waits for its room, and before that until it is no longer than what `fits` in its lane.
    ///
    /// # Errors
    /// `InvalidData` where a length breaks the rules, `UnexpectedEof` where a frame is cut short.
    pub(super) fn poll_next(
        &mut self,
        fits: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Read>> {
        loop {
            self.look_around(cx);
            if let Some(skipped) = ready!(self.poll_skip(cx))? {
                return Poll::Ready(Ok(Read::Skipped(skipped)));
            }
            let filled = self.buffer.get(..self.filled).unwrap_or_default();
            let mut wanted = READ;
            if let Some((head, length)) = length(filled)? {
                let whole = head + length;
                if self.filled >= whole {
                    let mut frame = self.buffer.split_to(whole).freeze();
                    self.filled -= whole;
                    frame.advance(head);
                    // It stays until its items are checked, and all of a buffer with it: more than what it counts as.
                    if whole < READ {
                        frame = Bytes::copy_from_slice(&frame);
                    }
                    let place = self.long.as_mut().and_then(Long::take);
                    return Poll::Ready(Ok(Read::Frame(frame, whole, place)));
                }
                // Memory comes as the frame does, whatever its length says.
                wanted = (whole - self.filled).clamp(READ, MAX_READ);
                if whole > SHORT
                    && let Some(long) = &mut self.long
                {
                    if self.filled < READ {
                        wanted = READ;
                    } else {
                        ready!(long.poll_enter(whole, fits, cx));
                        // So it is moved once, and takes no more than it has room for.
                        let most = whole.saturating_add(READ);
                        let more = most.saturating_sub(self.buffer.len());
                        self.buffer.reserve(more);
                    }
                }
            }
            let count = if self.filled == 0 && self.buffer.is_empty() {
                // A lane on which nothing comes holds no memory: the first bytes of a burst make the buffer.
                let mut first = [0; FIRST];
                let count = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut first))?;
                self.buffer.extend(first.iter().take(count));
                count
            } else {
                if self.buffer.len() < self.filled + wanted {
                    self.buffer.resize(self.filled + wanted, 0);
                }
                let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
                match Pin::new(&mut self.stream).poll_read(cx, room) {
                    Poll::Ready(count) => count?,
                    Poll::Pending => {
                        if self.filled == 0 {
                            self.buffer = BytesMut::new();
                        }
                        return Poll::Pending;
                    }
                }
            };
            if count == 0 {
                return Poll::Ready(if self.filled == 0 {
                    Ok(Read::End)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                });
            }
            self.filled += count;
            if let Some(long) = &self.long {
                long.moved(count);
            }
        }
    }

    /// Passes over what is left of a frame that gave way; how many bytes it had, where it was that.
    fn poll_skip(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<usize>>> {
        let mut count = 0;
        while let Some((left, whole)) = self.long.as_mut().and_then(|long| long.skips(count)) {
            if left == 0 {
                return Poll::Ready(Ok(Some(whole)));
            }
            let mut nowhere = [0; READ];
            let nowhere = nowhere.get_mut(..left.min(READ)).unwrap_or_default();
            count = ready!(Pin::new(&mut self.stream).poll_read(cx, nowhere))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Poll::Ready(Ok(None))
    }
}

/// The length in front, and how long it is itself; `None` where it is not all there.
fn length(buffer: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let head = buffer
        .iter()
        .take(MAX_LENGTH)
        .position(|byte| byte & 0x80 == 0);
    let Some(head) = head else {
        return if buffer.len() < MAX_LENGTH {
            Ok(None)
        } else {
            Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the length is over 5 bytes long",
            ))
        };
    };
    let length = prost::decode_length_delimiter(buffer)?;
    if length > MAX_FRAME {
        let problem = format!("a frame of {length} bytes is over the limit of {MAX_FRAME}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    Ok(Some((head + 1, length)))
}

/// Cuts a stream into frames as a node does, and reads those that are the lanes' own; how many there are. For tools: fuzzing, analysers.
///
/// # Errors
/// As `Reader::poll_next` has them; `InvalidData` for an acknowledgement that is broken.
pub fn check_lane(stream: &[u8]) -> io::Result<usize> {
    let mut reader = Reader::new(futures::io::Cursor::new(stream), None);
    let mut cx = Context::from_waker(Waker::noop());
    let mut frames = 0;
    while let Poll::Ready(read) = reader.poll_next(usize::MAX, &mut cx) {
        let Read::Frame(frame, ..) = read? else {
            break;
        };
        if let Some(acknowledge) = Acknowledge::read(&frame) {
            acknowledge.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
        frames += 1;
    }
    Ok(frames)
}

/// Writes bytes in the order in which they came.
#[derive(Debug)]
pub(super) struct Writer<S = Stream> {
    stream: S,
    queue: VecDeque<Bytes>,
    unflushed: bool,
}

impl<S: AsyncWrite + Unpin> Writer<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            queue: VecDeque::new(),
            unflushed: false,
        }
    }

    pub(super) fn push(&mut self, bytes: Bytes) {
        self.queue.push_back(bytes);
    }

    /// Writes as much as goes; how many bytes were written, none when all is done.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut written = 0;
        while let Some(bytes) = self.queue.front_mut() {
            let count = match Pin::new(&mut self.stream).poll_write(cx, bytes) {
                Poll::Ready(count) => count?,
                // What was written is told now, and this is asked again.
                Poll::Pending if written > 0 => break,
                Poll::Pending => return Poll::Pending,
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            bytes.advance(count);
            (self.unflushed, written) = (true, written + count);
            if bytes.is_empty() {
                self.queue.pop_front();
            }
        }
        if self.unflushed && written == 0 {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(written))
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use libp2p::PeerId;

    use super::*;
    use crate::{frames::LongFrames, peers::Account, platform::test};

    /// A stream that brings a piece at a time, and then nothing.
    struct Pieces(VecDeque<Vec<u8>>);

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            room: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            let Some(piece) = self.0.pop_front() else {
                return Poll::Pending;
            };
            room[..piece.len()].copy_from_slice(&piece);
            Poll::Ready(Ok(piece.len()))
        }
    }

    /// A stream that takes a little at a time, and so much in all.
    struct Takes(usize);

    impl AsyncWrite for Takes {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let count = bytes.len().min(10).min(self.0);
            self.0 -= count;
            match count {
                0 => Poll::Pending,
                count => Poll::Ready(Ok(count)),
            }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn what_a_stream_takes_is_written_in_one_go() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut writer = Writer::new(Takes(70));
        for length in [35, 20, 25] {
            writer.push(vec![7; length].into());
        }
        let mut write = |writer: &mut Writer<Takes>| writer.poll_write(&mut cx).map(Result::ok);
        assert_eq!(write(&mut writer), Poll::Ready(Some(70)));
        assert!(write(&mut writer).is_pending());
        writer.stream.0 = 100;
        assert_eq!(write(&mut writer), Poll::Ready(Some(10)));
        assert!(writer.unflushed);
        assert_eq!(write(&mut writer), Poll::Ready(Some(0)));
        assert!(!writer.unflushed);
    }

    #[test]
    fn a_short_frame_keeps_no_more_than_itself_in_memory() {
        for length in [20_u8, 100] {
            // Its length alone, so that what is read on is read into a buffer for more.
            let pieces = [vec![length], vec![7; length.into()]];
            let mut reader = Reader::new(Pieces(pieces.into()), None);
            let mut cx = Context::from_waker(Waker::noop());
            let read = reader.poll_next(usize::MAX, &mut cx);
            let Poll::Ready(Ok(Read::Frame(frame, wire, _))) = read else {
                panic!("it is there");
            };
            assert!(reader.poll_next(usize::MAX, &mut cx).is_pending());
            assert_eq!(
                (frame.len(), wire),
                (usize::from(length), usize::from(length) + 1)
            );
            let memory = frame.try_into_mut().expect("nobody else has it").capacity();
            assert_eq!(memory, usize::from(length));
        }
    }

    /// A frame of so many bytes, in pieces as they are asked for.
    fn pieces(length: usize) -> VecDeque<Vec<u8>> {
        let mut frame = Vec::new();
        prost::encode_length_delimiter(length, &mut frame).expect("there is room");
        frame.resize(frame.len() + length, 7);
        let (first, rest) = frame.split_at(FIRST.min(frame.len()));
        let rest = rest.chunks(READ);
        std::iter::once(first)
            .chain(rest)
            .map(<[u8]>::to_vec)
            .collect()
    }

    const LONG: usize = 2 * SHORT;

    /// Room for one long frame.
    fn room() -> LongFrames {
        let kib = LONG / 1024 + 1;
        LongFrames::new(kib, kib, Duration::from_millis(1))
    }

    fn reader(room: &LongFrames, pieces: VecDeque<Vec<u8>>) -> Reader<Pieces> {
        let peer = PeerId::random();
        let long = Long::new(room.clone(), (peer, Account::Peer(peer)));
        Reader::new(Pieces(pieces), Some(long))
    }

    #[test]
    fn a_long_frame_waits_where_its_lane_or_the_node_has_no_room_and_a_short_one_does_not() {
        let (room, mut cx) = (room(), Context::from_waker(Waker::noop()));
        let mut first = reader(&room, pieces(LONG));
        assert!(first.poll_next(LONG, &mut cx).is_pending());
        assert!(first.held() == Some(Whose::Peers) && first.filled < 2 * READ);
        let Poll::Ready(Ok(Read::Frame(frame, _, place))) = first.poll_next(usize::MAX, &mut cx)
        else {
            panic!("it is all there");
        };
        assert!(first.poll_next(usize::MAX, &mut cx).is_pending());
        let memory = frame.try_into_mut().map(|frame| frame.capacity());
        assert!(memory.is_ok_and(|memory| memory < LONG + 2 * READ));
        let mut second = reader(&room, pieces(LONG));
        assert!(second.poll_next(usize::MAX, &mut cx).is_pending());
        assert!(second.held() == Some(Whose::Ours) && second.buffer.len() < 3 * READ);
        let mut short = reader(&room, pieces(SHORT - 3));
        let read = short.poll_next(0, &mut cx);
        assert!(matches!(read, Poll::Ready(Ok(Read::Frame(_, SHORT, None)))));
        drop(place);
        let read = second.poll_next(usize::MAX, &mut cx);
        assert!(matches!(read, Poll::Ready(Ok(Read::Frame(_, _, Some(_))))));
        drop((read, second));
        assert_eq!(room.free_kib(), LONG / 1024 + 1);
    }

    // A browser's tests can't wait.
    #[core::prelude::v1::test]
    fn a_long_frame_that_is_not_read_gives_its_room_away() {
        let (room, mut cx) = (room(), Context::from_waker(Waker::noop()));
        let mut first = reader(&room, pieces(LONG).drain(..8).collect());
        assert!(first.poll_next(usize::MAX, &mut cx).is_pending() && first.is_under_way());
        let mut unread = reader(&room, pieces(LONG));
        assert!(unread.poll_next(usize::MAX, &mut cx).is_pending() && unread.held().is_some());
        drop(first);
        let mut honest = reader(&room, pieces(LONG));
        let come = poll_fn(|cx| {
            unread.look_around(cx);
            honest.poll_next(usize::MAX, cx)
        });
        let read = futures::executor::block_on(come).expect("right");
        assert!(matches!(read, Read::Frame(_, _, Some(_))));
    }

    // A browser's tests can't wait.
    #[core::prelude::v1::test]
    fn a_long_frame_that_does_not_come_gives_way_and_the_stream_goes_on() {
        let room = room();
        let mut rest = pieces(LONG);
        let mut silent = reader(&room, rest.drain(..8).collect());
        let mut honest = reader(&room, pieces(LONG));
        let come = poll_fn(|cx| {
            assert!(silent.poll_next(usize::MAX, cx).is_pending());
            honest.poll_next(usize::MAX, cx)
        });
        let read = futures::executor::block_on(come).expect("right");
        assert!(matches!(read, Read::Frame(_, _, Some(_))));
        assert!(silent.buffer.is_empty());
        assert!(silent.held().is_none(), "the rest is read as it comes");
        let whole = LONG + 3;
        let told = [(); 2].map(|()| silent.take_lost());
        assert_eq!(told, [Some(whole), None], "before it is passed over");
        drop(read);
        assert_eq!(room.free_kib(), LONG / 1024 + 1);
        silent.stream.0.extend(rest);
        silent.stream.0.extend(pieces(20));
        let mut cx = Context::from_waker(Waker::noop());
        let read = silent.poll_next(usize::MAX, &mut cx);
        assert!(matches!(read, Poll::Ready(Ok(Read::Skipped(skipped))) if skipped == whole));
        let read = silent.poll_next(usize::MAX, &mut cx);
        assert!(matches!(read, Poll::Ready(Ok(Read::Frame(_, 21, None)))));
        assert!(silent.poll_next(usize::MAX, &mut cx).is_pending());
        silent.stream.0.extend(pieces(LONG).drain(..8));
        assert!(silent.poll_next(usize::MAX, &mut cx).is_pending());
        assert!(silent.is_under_way(), "the next one has its room again");
    }
}
