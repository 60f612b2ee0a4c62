//! Length-framed messages as they come, and the room that all long ones share: for direct messages, gossip and the lanes.
//!
//! A frame's length is an unsigned varint. Whoever reads one checks it against a limit of its own before a byte is allocated; the
//! buffer then grows with what really arrives, so that a lying length costs nothing.

mod admission;

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Poll, ready},
};

pub(crate) use admission::{LongFrames, Place};
use futures::{AsyncRead, AsyncReadExt};

/// What is read or written in one go, in bytes.
const PIECE: usize = 16 << 10;

/// A frame's length, an unsigned varint; `None` at the stream's end.
///
/// # Errors
/// `InvalidData` where it is none, `UnexpectedEof` where it is cut short.
pub(crate) async fn read_length<T: AsyncRead + Unpin + Send>(
    io: &mut T,
) -> io::Result<Option<usize>> {
    let mut head = Vec::with_capacity(5);
    loop {
        let mut byte = [0];
        if io.read(&mut byte).await? == 0 {
            return match head.len() {
                0 => Ok(None),
                _ => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
        head.extend(byte);
        if byte[0] & 0x80 == 0 {
            return Ok(Some(prost::decode_length_delimiter(head.as_slice())?));
        }
        if head.len() == 5 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the length is over 5 bytes long",
            ));
        }
    }
}

/// So many bytes more; `bytes` has what came of them, whatever happens.
///
/// # Errors
/// `UnexpectedEof` where there are fewer.
pub(crate) async fn read_on<T: AsyncRead + Unpin + Send>(
    io: &mut T,
    bytes: &mut Vec<u8>,
    length: usize,
) -> io::Result<()> {
    let mut left = length;
    while left > 0 {
        left -= read_some(io, bytes, left).await?;
    }
    Ok(())
}

/// Some bytes more, of those that are `left`. Memory grows with what really arrives, threefold each time, and not beyond what is
/// to come.
///
/// # Errors
/// `UnexpectedEof` at the stream's end.
async fn read_some<T: AsyncRead + Unpin + Send>(
    io: &mut T,
    bytes: &mut Vec<u8>,
    left: usize,
) -> io::Result<usize> {
    poll_fn(|cx| {
        let mut piece = [0; PIECE];
        let most = left.min(PIECE);
        let room = piece.get_mut(..most).unwrap_or_default();
        let count = ready!(Pin::new(&mut *io).poll_read(cx, room))?;
        let came = room.get(..count).unwrap_or_default();
        if came.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        if bytes.capacity() - bytes.len() < count {
            bytes.reserve_exact(left.min(2 * bytes.len()).max(count));
        }
        bytes.extend_from_slice(came);
        Poll::Ready(Ok(came.len()))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;
    use futures::{FutureExt, io::Cursor};

    #[test]
    fn a_frame_takes_no_more_than_its_bytes() {
        for length in [1, PIECE - 1, PIECE, 3 * PIECE + 1, (1 << 20) + 5] {
            let mut bytes = Vec::new();
            let mut io = Cursor::new(vec![7; length + 9]);
            let read = read_on(&mut io, &mut bytes, length).now_or_never();
            read.expect("a cursor never waits").expect("all is there");
            assert_eq!((bytes.len(), bytes.capacity()), (length, length));
        }
    }
}
