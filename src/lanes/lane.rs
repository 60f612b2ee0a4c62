//! A connection's lanes: three each way, one for each [`Lane`].
//!
//! Votes have a stream of their own and blocks another, so that they overtake whatever waits for room. Each
//! stream goes one way; the other side opens its own. Bounds: a frame is at most [`MAX_FRAME`] long, which is checked before
//! it is buffered; what waits to be written is bounded by the behaviour, which asks for room first.

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

use super::{acknowledge::Acknowledge, core::Coming};
use crate::traffic::Lane;

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
}

impl<S: AsyncRead + Unpin> Reader<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            filled: 0,
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

    /// The next frame, with the bytes that it took on the stream; `None` at the stream's end.
    ///
    /// # Errors
    /// `InvalidData` where a length breaks the rules, `UnexpectedEof` where a frame is cut short.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<(Bytes, usize)>>> {
        loop {
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
                    return Poll::Ready(Ok(Some((frame, whole))));
                }
                // Memory comes as the frame does, whatever its length says.
                wanted = (whole - self.filled).clamp(READ, MAX_READ);
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
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                });
            }
            self.filled += count;
        }
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
    let mut reader = Reader::new(futures::io::Cursor::new(stream));
    let mut cx = Context::from_waker(Waker::noop());
    let mut frames = 0;
    while let Poll::Ready(frame) = reader.poll_next(&mut cx) {
        let Some((frame, _)) = frame? else {
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

    /// Writes what there is; how many bytes were written, none when all is done.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Some(bytes) = self.queue.front_mut() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            bytes.advance(count);
            self.unflushed = true;
            if bytes.is_empty() {
                self.queue.pop_front();
            }
            return Poll::Ready(Ok(count));
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

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

    #[test]
    fn a_short_frame_keeps_no_more_than_itself_in_memory() {
        for length in [20_u8, 100] {
            // Its length alone, so that what is read on is read into a buffer for more.
            let pieces = [vec![length], vec![7; length.into()]];
            let mut reader = Reader::new(Pieces(pieces.into()));
            let mut cx = Context::from_waker(Waker::noop());
            let Poll::Ready(Ok(Some((frame, wire)))) = reader.poll_next(&mut cx) else {
                panic!("it is there");
            };
            assert!(reader.poll_next(&mut cx).is_pending());
            assert_eq!(
                (frame.len(), wire),
                (usize::from(length), usize::from(length) + 1)
            );
            let memory = frame.try_into_mut().expect("nobody else has it").capacity();
            assert_eq!(memory, usize::from(length));
        }
    }
}
