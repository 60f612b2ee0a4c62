//! What outlives the frame that it came in.
//!
//! Byte strings of a decoded message are slices of its frame, and a slice keeps all of that in memory, whatever else was in there:
//! fields that nobody knows here, for one. What is weighed later is the slice. So whatever waits for longer than its frame does is copied where it is
//! much less than the frame.

use bytes::Bytes;

/// These parts of a frame of so many bytes; they hold twice their length at most.
pub(crate) fn kept<const N: usize>(parts: [Bytes; N], frame: usize) -> [Bytes; N] {
    let length: usize = parts.iter().map(Bytes::len).sum();
    if length < frame / 2 {
        parts.map(|part| Bytes::copy_from_slice(&part))
    } else {
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn what_is_much_less_than_its_frame_leaves_it() {
        let frame = Bytes::from(vec![7; 1000]);
        let is_slice = |part: &Bytes| frame.as_ptr_range().contains(&part.as_ptr());
        let [small] = kept([frame.slice(..499)], frame.len());
        assert!(!is_slice(&small) && small == frame.slice(..499));
        let [large] = kept([frame.slice(..500)], frame.len());
        assert!(is_slice(&large));
        let together = kept([frame.slice(..250), frame.slice(250..500)], frame.len());
        assert!(together.iter().all(is_slice));
    }
}
