//! The two certificates of a WebTransport listener: the one in use, and the next.
//!
//! A browser that is given a certificate's hash demands that it is valid for at most 14 days (W3C WebTransport,
//! `serverCertificateHashes`) and that now is among them. So each lives for 14 days, the next takes over [`OVERLAP`]
//! before the one in use ends, and an address that carries both hashes is good for 13 to 25 days. A state
//! machine without a clock: `now` goes in.

use std::time::Duration;

use libp2p::multiaddr::multihash::Multihash;
use wtransport::{Identity, tls::self_signed::time::OffsetDateTime};

use super::Error;

use crate::platform::SystemTime;

const DAY: Duration = Duration::from_secs(86_400);
/// The longest that browsers allow.
const LIFE: Duration = Duration::from_secs(14 * 86_400);
/// How long before the end of the one in use the next takes over.
const OVERLAP: Duration = DAY;
/// Clocks that are late find the certificate valid too.
const SKEW: Duration = DAY;
/// Multihash's number for SHA-256.
const SHA256: u64 = 0x12;

/// The certificates' hashes, as they stand in an address.
pub(super) type Hashes = [Multihash<64>; 2];

pub(super) struct Certificates {
    current: Certificate,
    next: Certificate,
}

struct Certificate {
    identity: Identity,
    hash: Multihash<64>,
    begins: SystemTime,
    ends: SystemTime,
}

impl Certificates {
    pub(super) fn new(now: SystemTime) -> Result<Self, Error> {
        let current = Certificate::new(now)?;
        let next = Certificate::new(current.ends - OVERLAP)?;
        Ok(Self { current, next })
    }

    /// What browsers are shown now.
    pub(super) fn current(&self) -> Identity {
        self.current.identity.clone_identity()
    }

    /// The one in use first.
    pub(super) fn hashes(&self) -> Hashes {
        [self.current.hash, self.next.hash]
    }

    /// The certificates from now on, if these are no longer right: the next is in use and has one after it, or, after a
    /// long sleep or when they were made under a wrong clock, both are new.
    pub(super) fn renewed(&self, now: SystemTime) -> Result<Option<Self>, Error> {
        if now < self.current.begins || now + OVERLAP >= self.next.ends {
            return Self::new(now).map(Some);
        }
        if now + OVERLAP < self.current.ends {
            return Ok(None);
        }
        let current = Certificate {
            identity: self.next.identity.clone_identity(),
            hash: self.next.hash,
            begins: self.next.begins,
            ends: self.next.ends,
        };
        let next = Certificate::new(current.ends - OVERLAP)?;
        Ok(Some(Self { current, next }))
    }
}

impl Certificate {
    /// One that serves from `begin` on.
    fn new(begin: SystemTime) -> Result<Self, Error> {
        let wrong = |error: &dyn ToString| Error::Certificate(error.to_string());
        let from = begin - SKEW;
        let ends = from + LIFE;
        let identity = Identity::self_signed_builder()
            // Browsers compare the hash and no name.
            .subject_alt_names(["selkie"])
            .validity_period(OffsetDateTime::from(from), OffsetDateTime::from(ends))
            .build()
            .map_err(|error| wrong(&error))?;
        let chain = identity.certificate_chain().as_slice();
        let leaf = chain.first().ok_or_else(|| wrong(&"an empty chain"))?;
        let hash = Multihash::wrap(SHA256, leaf.hash().as_ref()).map_err(|error| wrong(&error))?;
        Ok(Self {
            identity,
            hash,
            begins: from,
            ends,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn after(days: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + DAY * 20_000 + DAY * u32::try_from(days).expect("few")
    }

    #[test]
    fn the_next_takes_over_before_the_first_ends() {
        let first = Certificates::new(after(0)).expect("made");
        assert!(first.current.ends > after(0));
        assert!(first.renewed(after(11)).expect("looked").is_none());
        let second = first.renewed(after(12)).expect("looked").expect("renewed");
        let ([_, promised], [current, next]) = (first.hashes(), second.hashes());
        assert_eq!(current, promised, "who has the old address still finds it");
        assert!(!first.hashes().contains(&next));
        assert!(second.renewed(after(12)).expect("looked").is_none());
        assert!(second.current.ends > after(12) + OVERLAP);
    }

    #[test]
    fn after_a_long_sleep_both_are_new() {
        let first = Certificates::new(after(0)).expect("made");
        let second = first.renewed(after(99)).expect("looked").expect("renewed");
        assert!(second.current.ends > after(99));
        let old: HashSet<_> = first.hashes().into();
        assert!(second.hashes().iter().all(|hash| !old.contains(hash)));
    }

    /// A computer whose clock was wrong when it started (libp2p/go-libp2p#1833). Whoever compares the hash finds the old
    /// certificate not yet valid, so an address with it is worth nothing.
    #[test]
    fn made_under_a_wrong_clock_both_are_new_once_it_is_right() {
        let wrong = Certificates::new(after(30)).expect("made");
        let right = wrong.renewed(after(0)).expect("looked").expect("renewed");
        assert!(right.current.begins <= after(0) && after(0) < right.current.ends);
        let old: HashSet<_> = wrong.hashes().into();
        assert!(right.hashes().iter().all(|hash| !old.contains(hash)));
        assert!(right.renewed(after(0)).expect("looked").is_none());
        assert!(
            wrong.renewed(after(29)).expect("looked").is_none(),
            "a day is within the skew"
        );
    }

    proptest! {
        /// Wherever the clock jumps, what is shown after a look is valid then, and for a day more.
        #[test]
        fn what_is_shown_is_always_valid(days in proptest::collection::vec(0u64..200, 1..6)) {
            let mut shown = Certificates::new(after(100)).expect("made");
            for now in days.into_iter().map(after) {
                if let Some(renewed) = shown.renewed(now).expect("looked") {
                    shown = renewed;
                }
                prop_assert!(shown.current.begins <= now && now + OVERLAP < shown.current.ends);
                prop_assert!(shown.next.begins <= shown.current.ends);
                prop_assert!(shown.renewed(now).expect("looked").is_none());
            }
        }
    }

    /// Seen as any host sees it: by the certificate alone.
    #[test]
    fn a_certificate_is_what_its_hash_says_and_serves_when_it_must() {
        let pair = Certificates::new(after(0)).expect("made");
        let shown = pair.current();
        let leaf = &shown.certificate_chain().as_slice()[0];
        assert_eq!(pair.hashes()[0].digest(), leaf.hash().as_ref());
        assert_eq!(pair.current.ends, after(13), "14 days, one of them past");
        assert_eq!(pair.next.ends, after(25));
    }
}
