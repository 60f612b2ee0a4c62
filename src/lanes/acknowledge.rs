//! The one frame that is the lanes' own: how far a peer has got with the bulk stream.

use std::error::Error;

use bytes::Bytes;
use prost::Message as _;

/// The first byte of such a frame: field 5, by its length. Cores use other fields.
const KEY: u8 = 5 << 3 | 2;

/// So many more bytes of the bulk stream are read, and so many are done with.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Acknowledge {
    #[prost(uint64, tag = "1")]
    pub(super) done: u64,
    #[prost(uint64, tag = "2")]
    pub(super) read: u64,
}

/// A whole frame.
#[derive(Clone, PartialEq, prost::Message)]
struct Frame {
    #[prost(message, tag = "5")]
    acknowledge: Option<Acknowledge>,
}

impl Acknowledge {
    /// Reads a frame, its length already taken off; `None`: it is another.
    ///
    /// # Errors
    /// It is broken.
    pub(super) fn read(frame: &Bytes) -> Option<Result<Self, Box<dyn Error + Send + Sync>>> {
        (frame.first() == Some(&KEY)).then(|| {
            let mut body = frame.slice(1..);
            if prost::decode_length_delimiter(&mut body)? != body.len() {
                return Err("a frame is one field, to its end".into());
            }
            Ok(Self::decode(body)?)
        })
    }

    /// The frame with its length in front, ready to be sent.
    pub(super) fn into_frame(self) -> Bytes {
        let frame = Frame {
            acknowledge: Some(self),
        };
        frame.encode_length_delimited_to_vec().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn it_is_read_as_it_is_written_and_nothing_else_is() {
        let acknowledge = Acknowledge { done: 7, read: 300 };
        let mut frame = acknowledge.clone().into_frame();
        assert_eq!(frame.split_to(1)[..], [7], "a short one");
        let read = Acknowledge::read(&frame).expect("it is one");
        assert_eq!(read.expect("whole"), acknowledge);
        assert!(Acknowledge::read(&Bytes::new()).is_none());
        assert!(Acknowledge::read(&Bytes::from_static(&[0x22, 0])).is_none());
        let cut = frame.slice(..frame.len() - 1);
        assert!(matches!(Acknowledge::read(&cut), Some(Err(_))));
        let more = [&frame[..], &[0]].concat();
        assert!(matches!(Acknowledge::read(&more.into()), Some(Err(_))));
    }
}
