//! A hash for tables of short ids: SipHash-1-3 under a key of this node.
//!
//! Whoever makes transactions makes their short ids too, and with enough tries thousands that would share one place of a
//! table whose hash is known. The key is random for each node and is never told. It is a parameter, and not
//! std's `RandomState`, because a core has no source of randomness of its own and std's is a constant in a browser.

use std::hash::BuildHasher;

use siphasher::sip::SipHasher13;

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(super) struct Keyed(SipHasher13);

impl Keyed {
    pub(super) fn new(key: &[u8; 16]) -> Self {
        Self(SipHasher13::new_with_key(key))
    }
}

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        self.0
    }
}
