//! What a page's addresses need of the crate of this name: each symbol stands for some bits, the first for the highest. The crate reads its
//! encodings from tables at run time, so that one is as large as all.

/// The encoding that addresses of Tor are written in. They have no padding: their lengths are whole.
pub const BASE32: Encoding = Encoding::new(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567");

/// An alphabet of 2, 4, 8, 16, 32 or 64 symbols; no padding.
pub struct Encoding(&'static [u8]);

/// No text of the encoding.
#[derive(Debug)]
pub struct DecodeError;

impl Encoding {
    pub const fn new(alphabet: &'static [u8]) -> Self {
        Self(alphabet)
    }

    fn bits(&self) -> u32 {
        self.0.len().ilog2()
    }

    pub fn encode(&self, bytes: &[u8]) -> String {
        let (bits, mask) = (self.bits(), self.0.len() - 1);
        let symbol = |value: usize| char::from(self.0[value & mask]);
        let (mut text, mut held, mut count) = (String::new(), 0usize, 0);
        for byte in bytes {
            held = (held << 8 | usize::from(*byte)) & 0xffff;
            count += 8;
            while count >= bits {
                count -= bits;
                text.push(symbol(held >> count));
            }
        }
        if count > 0 {
            text.push(symbol(held << (bits - count)));
        }
        text
    }

    pub fn decode(&self, text: &[u8]) -> Result<Vec<u8>, DecodeError> {
        let bits = self.bits();
        let (mut bytes, mut held, mut count) = (Vec::new(), 0usize, 0);
        for symbol in text {
            let value = self.0.iter().position(|known| known == symbol);
            held = (held << bits | value.ok_or(DecodeError)?) & 0xffff;
            count += bits;
            if count >= 8 {
                count -= 8;
                bytes.push((held >> count) as u8);
            }
        }
        // One text for the same bytes: nothing is left over but zeros, fewer than a symbol has.
        let is_whole = count < bits && held & ((1 << count) - 1) == 0;
        is_whole.then_some(bytes).ok_or(DecodeError)
    }

    pub fn decode_len(&self, length: usize) -> Result<usize, DecodeError> {
        Ok(length * self.bits() as usize / 8)
    }

    pub fn decode_mut(&self, text: &[u8], output: &mut [u8]) -> Result<usize, DecodeError> {
        let bytes = self.decode(text)?;
        if bytes.len() != output.len() {
            return Err(DecodeError);
        }
        output.copy_from_slice(&bytes);
        Ok(bytes.len())
    }
}
