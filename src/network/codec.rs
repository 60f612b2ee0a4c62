//! Length-framed messages over request-response: the codec of both our protocols.
//!
//! The length is an unsigned varint, checked against the limit before a byte is allocated; the buffer
//! then grows with what really arrives, so that a lying length costs nothing.
//!
//! A request that breaks these rules is a request still, an `Err`: libp2p drops the ones that can't be read without a
//! word, and then nobody would be told why or pay for it.

use std::io;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{StreamProtocol, request_response::Codec};

/// Frames of at most `max` bytes.
#[derive(Clone, Debug)]
pub struct FrameCodec {
    max: usize,
}

impl FrameCodec {
    /// A codec for frames of at most `max` bytes.
    pub fn new(max: usize) -> Self {
        Self { max }
    }

    /// Reads one frame.
    ///
    /// # Errors
    /// `InvalidData` where the length is no varint or over the limit, `UnexpectedEof` where the frame is cut short.
    pub async fn read<T: AsyncRead + Unpin + Send>(&self, io: &mut T) -> io::Result<Vec<u8>> {
        let length = read_length(io).await?;
        if length > self.max {
            let problem = format!(
                "a frame of {length} bytes is over the limit of {}",
                self.max
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        let mut frame = Vec::with_capacity(length.min(64 << 10));
        io.take(length as u64).read_to_end(&mut frame).await?;
        if frame.len() < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(frame)
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
        io.write_all(&head).await?;
        io.write_all(frame).await?;
        io.close().await
    }
}

async fn read_length<T: AsyncRead + Unpin + Send>(io: &mut T) -> io::Result<usize> {
    let mut head = Vec::with_capacity(5);
    loop {
        let mut byte = [0];
        io.read_exact(&mut byte).await?;
        head.extend(byte);
        if byte[0] & 0x80 == 0 {
            return Ok(prost::decode_length_delimiter(head.as_slice())?);
        }
        if head.len() == 5 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the length is over 5 bytes long",
            ));
        }
    }
}

/// Whether a stream failed by what the peer wrote, not by the network.
pub(crate) fn is_garbage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    )
}

impl Codec for FrameCodec {
    type Protocol = StreamProtocol;
    type Request = io::Result<Vec<u8>>;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<io::Result<Vec<u8>>> {
        match self.read(io).await {
            Err(error) if !is_garbage(&error) => Err(error),
            frame => Ok(frame),
        }
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        self.read(io).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        frame: io::Result<Vec<u8>>,
    ) -> io::Result<()> {
        self.write(io, &frame?).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        frame: Vec<u8>,
    ) -> io::Result<()> {
        self.write(io, &frame).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;
    use futures::{FutureExt, io::Cursor};
    use proptest::prelude::*;

    fn read(bytes: &[u8], max: usize) -> io::Result<Vec<u8>> {
        FrameCodec::new(max)
            .read(&mut Cursor::new(bytes))
            .now_or_never()
            .expect("a cursor never waits")
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
    }
}
