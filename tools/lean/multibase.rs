//! What a page's addresses need of the crate of this name: of its two dozen bases those in which peers' ids and hashes of certificates
//! are written. Text of any other is an error, as that of an unknown base is.

use std::{error, fmt};

use data_encoding::Encoding;

const BASE58: &str = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// A base, without padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    Base16Lower,
    Base32Lower,
    Base58Btc,
    Base64,
    Base64Url,
}

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    UnknownBase(char),
    InvalidBaseString,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Base {
    const ALL: [Self; 5] = [
        Self::Base16Lower,
        Self::Base32Lower,
        Self::Base58Btc,
        Self::Base64,
        Self::Base64Url,
    ];

    pub fn code(&self) -> char {
        match self {
            Self::Base16Lower => 'f',
            Self::Base32Lower => 'b',
            Self::Base58Btc => 'z',
            Self::Base64 => 'm',
            Self::Base64Url => 'u',
        }
    }

    /// Of a symbol for so many bits; `None`: base 58, whose symbols stand for digits.
    fn encoding(&self) -> Option<Encoding> {
        let alphabet: &[u8] = match self {
            Self::Base16Lower => b"0123456789abcdef",
            Self::Base32Lower => b"abcdefghijklmnopqrstuvwxyz234567",
            Self::Base58Btc => return None,
            Self::Base64 => b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
            Self::Base64Url => b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
        };
        Some(Encoding::new(alphabet))
    }

    pub fn encode<I: AsRef<[u8]>>(&self, bytes: I) -> String {
        let bytes = bytes.as_ref();
        match self.encoding() {
            Some(encoding) => encoding.encode(bytes),
            None => base_x::encode(BASE58, bytes),
        }
    }

    pub fn decode<I: AsRef<str>>(&self, text: I) -> Result<Vec<u8>> {
        let text = text.as_ref();
        let bytes = match self.encoding() {
            Some(encoding) => encoding.decode(text.as_bytes()).ok(),
            None => base_x::decode(BASE58, text).ok(),
        };
        bytes.ok_or(Error::InvalidBaseString)
    }
}

/// A base's letter, and the text in it.
pub fn encode<T: AsRef<[u8]>>(base: Base, bytes: T) -> String {
    format!("{}{}", base.code(), base.encode(bytes))
}

/// The inverse of [`encode`].
pub fn decode<T: AsRef<str>>(text: T) -> Result<(Base, Vec<u8>)> {
    let mut text = text.as_ref().chars();
    let code = text.next().ok_or(Error::InvalidBaseString)?;
    let base = Base::ALL.iter().find(|base| base.code() == code);
    let base = *base.ok_or(Error::UnknownBase(code))?;
    Ok((base, base.decode(text.as_str())?))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownBase(code) => write!(f, "Unknown base code: {code}"),
            Self::InvalidBaseString => f.write_str("Invalid base string"),
        }
    }
}

impl error::Error for Error {}
