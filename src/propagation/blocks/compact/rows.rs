//! Lists in one `bytes` field: numbers as unsigned varints, byte strings with their length in front, in a row.
//!
//! A protobuf `repeated` field is decoded before it can be counted, and an element of two bytes on the wire takes 32
//! or more in memory. A row is read by a cursor that hands out slices and stops at the first element too many.

use bytes::Bytes;

use crate::error::DecodeError;

/// Appends a number as an unsigned varint.
pub(super) fn put_number(row: &mut Vec<u8>, number: usize) {
    // A vector grows: encoding into one does not fail.
    let _ = prost::encode_length_delimiter(number, row);
}

/// Appends a byte string.
pub(super) fn put_bytes(row: &mut Vec<u8>, bytes: &[u8]) {
    put_number(row, bytes.len());
    row.extend_from_slice(bytes);
}

/// A cursor over a row.
pub(super) struct Row {
    field: &'static str,
    rest: Bytes,
}

impl Row {
    /// A cursor at the start of the row in the field of this name.
    pub(super) fn new(field: &'static str, bytes: Bytes) -> Self {
        Self { field, rest: bytes }
    }

    /// Whether everything is read.
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next number.
    pub(super) fn number(&mut self) -> Result<usize, DecodeError> {
        prost::decode_length_delimiter(&mut self.rest)
            .map_err(|_| self.wrong("no unsigned varint where one should be"))
    }

    /// The next byte string, as a slice of the row's memory.
    pub(super) fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let length = self.number()?;
        if length > self.rest.len() {
            return Err(self.wrong("an element is longer than what is left"));
        }
        Ok(self.rest.split_to(length))
    }

    /// The next index of a rising list: one more than the `previous` one, and the number read.
    pub(super) fn index_after(
        &mut self,
        previous: Option<usize>,
        limit: usize,
    ) -> Result<usize, DecodeError> {
        let skip = self.number()?;
        previous
            .map_or(Some(0), |previous| previous.checked_add(1))
            .and_then(|least| least.checked_add(skip))
            .filter(|&index| index < limit)
            .ok_or_else(|| self.wrong("an index past the last transaction"))
    }

    /// An error about this field.
    pub(super) fn wrong(&self, problem: &str) -> DecodeError {
        DecodeError::field(self.field, problem)
    }
}

/// How far an index is from the one after `previous`: what [`Row::index_after`] reads.
pub(super) fn skip(previous: Option<usize>, index: usize) -> usize {
    previous.map_or(index, |previous| {
        index.saturating_sub(previous).saturating_sub(1)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::platform::test;

    proptest! {
        #[test]
        fn garbage_ends_in_an_error_or_at_the_end(data in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut row = Row::new("row", data.clone().into());
            while !row.is_empty() {
                let before = row.rest.len();
                if row.bytes().is_err() { break }
                prop_assert!(row.rest.len() < before);
            }
            let mut row = Row::new("row", data.into());
            let mut previous = None;
            while !row.is_empty() {
                let Ok(index) = row.index_after(previous, 1000) else { break };
                prop_assert!(previous.is_none_or(|previous| previous < index) && index < 1000);
                previous = Some(index);
            }
        }

        #[test]
        fn what_is_put_is_read(
            indexes in prop::collection::btree_set(0usize..70_000, 0..50),
            strings in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
        ) {
            let mut row = Vec::new();
            let mut previous = None;
            for &index in &indexes {
                put_number(&mut row, skip(previous, index));
                previous = Some(index);
            }
            for string in &strings { put_bytes(&mut row, string); }
            let mut row = Row::new("row", row.into());
            let mut previous = None;
            for &index in &indexes {
                prop_assert_eq!(row.index_after(previous, 70_000).unwrap(), index);
                previous = Some(index);
            }
            for string in strings { prop_assert_eq!(row.bytes().unwrap(), string); }
            prop_assert!(row.is_empty());
        }
    }

    #[test]
    fn numbers_that_overflow_are_errors() {
        let mut row = Vec::new();
        put_number(&mut row, usize::MAX);
        let read = |previous| Row::new("row", row.clone().into()).index_after(previous, usize::MAX);
        assert!(read(None).is_err() && read(Some(3)).is_err() && read(Some(usize::MAX)).is_err());
        assert!(Row::new("row", vec![0xff; 11].into()).number().is_err());
    }
}
