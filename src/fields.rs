//! A walk over a protobuf message's fields that allocates nothing: what a message claims to hold is looked at before it
//! is decoded.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// The bytes are no protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a protobuf message")]
pub(crate) struct Malformed;

/// The fields of a message in the order of its bytes: each one's tag and, of those that have a length (strings, bytes,
/// messages), the bytes. Ends after the first error.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The fields of `message`.
    pub(crate) fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    /// The bytes of all fields with a tag; none where the message is malformed before it.
    pub(crate) fn tagged(self, wanted: u32) -> impl Iterator<Item = &'a [u8]> {
        let wanted = move |(tag, value)| (tag == wanted).then_some(value);
        self.map_while(Result::ok).filter_map(wanted)
    }

    fn read(&mut self) -> Result<(u32, &'a [u8]), Malformed> {
        let (tag, wire_type) = decode_key(&mut self.0).map_err(|_| Malformed)?;
        if wire_type != WireType::LengthDelimited {
            skip_field(wire_type, tag, &mut self.0, DecodeContext::default())
                .map_err(|_| Malformed)?;
            return Ok((tag, &[]));
        }
        let length = decode_varint(&mut self.0).map_err(|_| Malformed)?;
        let length = usize::try_from(length).map_err(|_| Malformed)?;
        let (value, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok((tag, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_walked_to_their_end(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let held: usize = Fields::of(&bytes).map_while(Result::ok).map(|(_, value)| value.len()).sum();
            prop_assert!(held <= bytes.len());
        }
    }

    #[test]
    fn fields_are_found_and_a_lying_length_ends_the_walk() {
        let message = [0x0a, 2, b'h', b'i', 0x10, 7, 0x1a, 0, 0x0a, 9, b'x'];
        let fields: Vec<_> = Fields::of(&message).collect();
        let right = [
            Ok((1, &b"hi"[..])),
            Ok((2, &[][..])),
            Ok((3, &[][..])),
            Err(Malformed),
        ];
        assert_eq!(fields, right);
        assert_eq!(Fields::of(&message).tagged(1).count(), 1);
    }
}
