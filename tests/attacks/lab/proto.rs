//! Protobuf by hand: an attacker writes fields that no message has, in numbers that no encoder gives.

/// A message in the making.
#[derive(Clone, Default)]
pub struct Proto(Vec<u8>);

impl Proto {
    pub fn new() -> Self {
        Self::default()
    }

    /// A field that is a varint.
    pub fn uint(mut self, field: u64, value: u64) -> Self {
        varint(&mut self.0, field << 3);
        varint(&mut self.0, value);
        self
    }

    /// A field that is bytes, a string or a message.
    pub fn bytes(mut self, field: u64, bytes: impl AsRef<[u8]>) -> Self {
        varint(&mut self.0, (field << 3) | 2);
        varint(&mut self.0, bytes.as_ref().len() as u64);
        self.0.extend_from_slice(bytes.as_ref());
        self
    }

    /// A field that is a `fixed64`.
    pub fn fixed64(mut self, field: u64, value: u64) -> Self {
        varint(&mut self.0, (field << 3) | 1);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Its bytes with their length in front.
    pub fn framed(&self) -> Vec<u8> {
        framed(&self.0)
    }
}

impl AsRef<[u8]> for Proto {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Bytes with their length in front.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(message.len() + 5);
    varint(&mut frame, message.len() as u64);
    frame.extend_from_slice(message);
    frame
}

/// The bytes of a message's field, as often as it is there.
pub fn fields(message: &[u8], wanted: u64) -> Vec<&[u8]> {
    let (mut found, mut rest) = (Vec::new(), message);
    while let Some(key) = take_varint(&mut rest) {
        let length = match key & 7 {
            0 => {
                take_varint(&mut rest);
                0
            }
            1 => 8,
            2 => take_varint(&mut rest).map_or(usize::MAX, |length| length as usize),
            _ => 4,
        };
        let Some((bytes, after)) = rest.split_at_checked(length) else {
            break;
        };
        if key >> 3 == wanted {
            found.push(bytes);
        }
        rest = after;
    }
    found
}

fn varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// The varint in front, taken off.
pub fn take_varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (place, byte) in from.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            *from = &from[place + 1..];
            return Some(value);
        }
    }
    None
}
