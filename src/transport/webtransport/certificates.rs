//! The certificates of a WebTransport listener: the one in use, the next, and the one before.
//!
//! A browser that is given a certificate's hash demands that it is valid for at most 14 days (W3C WebTransport,
//! `serverCertificateHashes`) and that now is among them. So time is cut into periods of [`PERIOD`], for each of which a certificate
//! serves that begins [`SKEW`] before and ends [`OVERLAP`] after. An address carries the hashes of this period's and the next's, and is good for
//! 12 to 24 days.
//!
//! They follow from the identity and the period's number alone ([`derive`]), as go-libp2p's do. So they outlast the node: one that starts again
//! has its old address; and they depend on the clock, but not on what it said before: once it is right, they are.
//! Where the periods begin depends on the identity, so that not all nodes change their addresses at once.
//!
//! Who dials compares all hashes of the address with those that Noise tells (libp2p/specs webtransport), and takes no address of which one is
//! missing there. So the last period's is told too: addresses from before the change have that and this one's. No clock here: `now` goes in.

use std::time::Duration;

use libp2p::{identity::Keypair, multiaddr::multihash::Multihash};
use wtransport::{
    Identity,
    tls::{Certificate, CertificateChain, PrivateKey},
};

use super::Error;

use crate::{
    platform::SystemTime,
    transport::certificates::{derive, root},
};

const DAY: u64 = 86_400;
/// The longest that browsers allow, in seconds.
const LIFE: u64 = 14 * DAY;
/// How long after its period a certificate is valid: for clocks that are fast.
const OVERLAP: u64 = DAY;
/// How long before: for clocks that are slow.
const SKEW: u64 = DAY;
/// How long each serves.
const PERIOD: u64 = LIFE - SKEW - OVERLAP;
/// Multihash's number for SHA-256.
const SHA256: u64 = 0x12;

/// A certificate's hash, as it stands in an address.
pub(super) type Hash = Multihash<64>;

pub(super) struct Certificates {
    root: Keypair,
    period: u64,
    shown: Identity,
    /// The last period's, this one's, and the next one's.
    hashes: [Hash; 3],
}

impl Certificates {
    /// Those of an identity at this time.
    pub(super) fn new(identity: &Keypair, now: SystemTime) -> Result<Self, Error> {
        Self::of(root(identity), now)
    }

    fn of(root: Keypair, now: SystemTime) -> Result<Self, Error> {
        let period = period(&root, now);
        let [(_, last), (shown, current), (_, next)] = [
            certificate(&root, period.saturating_sub(1))?,
            certificate(&root, period)?,
            certificate(&root, period.saturating_add(1))?,
        ];
        Ok(Self {
            root,
            period,
            shown,
            hashes: [last, current, next],
        })
    }

    /// What browsers are shown now.
    pub(super) fn shown(&self) -> Identity {
        self.shown.clone_identity()
    }

    /// Those of the address: the one in use first, then the next.
    pub(super) fn addressed(&self) -> [Hash; 2] {
        let [_, current, next] = self.hashes;
        [current, next]
    }

    /// Those that an address may have which is still good.
    pub(super) fn proved(&self) -> [Hash; 3] {
        self.hashes
    }

    /// The certificates of now, if these are another time's.
    pub(super) fn renewed(&self, now: SystemTime) -> Result<Option<Self>, Error> {
        if period(&self.root, now) == self.period {
            return Ok(None);
        }
        Self::of(self.root.clone(), now).map(Some)
    }
}

/// Which period a time is in. Before 1970 it is the first.
fn period(root: &Keypair, now: SystemTime) -> u64 {
    let since = now.duration_since(SystemTime::UNIX_EPOCH);
    (since.unwrap_or(Duration::ZERO).as_secs() + shift(root)) / PERIOD
}

/// How much earlier the periods of an identity begin, in seconds.
fn shift(root: &Keypair) -> u64 {
    let secret = root.derive_secret(b"selkie/certificate/webtransport/shift");
    let word = secret.and_then(|secret| secret.first_chunk().copied());
    u64::from_be_bytes(word.unwrap_or_default()) % PERIOD
}

/// The certificate of a period, and its hash.
fn certificate(root: &Keypair, period: u64) -> Result<(Identity, Hash), Error> {
    let wrong = |error: &dyn ToString| Error::Certificate(error.to_string());
    let begins = period.saturating_mul(PERIOD).saturating_sub(shift(root));
    let from = begins.saturating_sub(SKEW);
    let valid = [from, from.saturating_add(LIFE)];
    let made = derive(root, &format!("webtransport/{period}"), valid).map_err(|e| wrong(&e))?;
    let certificate = Certificate::from_der(made.der).map_err(|error| wrong(&error))?;
    let hash = certificate.hash();
    let hash = Multihash::wrap(SHA256, hash.as_ref()).map_err(|error| wrong(&error))?;
    let chain = CertificateChain::single(certificate);
    let identity = Identity::new(chain, PrivateKey::from_der_pkcs8(made.key));
    Ok((identity, hash))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use wtransport::tls::Certificate;

    use super::*;

    fn identity() -> Keypair {
        Keypair::ed25519_from_bytes([7; 32]).expect("32 bytes")
    }

    /// When the period began that has this time.
    pub(in super::super) fn began(identity: &Keypair, now: SystemTime) -> SystemTime {
        let seconds = period(identity, now) * PERIOD - shift(identity);
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn at(days: u64, seconds: u64) -> SystemTime {
        began(
            &identity(),
            SystemTime::UNIX_EPOCH + Duration::from_secs(20_000 * DAY),
        ) + Duration::from_secs(days * DAY + seconds)
    }

    fn made(now: SystemTime) -> Certificates {
        Certificates::new(&identity(), now).expect("made")
    }

    fn look(shown: &Certificates, now: SystemTime) -> Option<Certificates> {
        shown.renewed(now).expect("looked")
    }

    /// From when to when browsers take it, in seconds.
    fn validity(shown: &Certificate) -> [SystemTime; 2] {
        let (_, read) = x509_parser::parse_x509_certificate(shown.der()).expect("X.509");
        let validity = read.validity();
        [validity.not_before, validity.not_after].map(|time| {
            let seconds = u64::try_from(time.timestamp()).expect("after 1970");
            SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
        })
    }

    fn shows_a_valid_one(certificates: &Certificates, now: SystemTime) -> bool {
        let shown = certificates.shown();
        let leaf = &shown.certificate_chain().as_slice()[0];
        let [from, until] = validity(leaf);
        assert_eq!(certificates.addressed()[0].digest(), leaf.hash().as_ref());
        assert_eq!(
            until.duration_since(from).ok(),
            Some(Duration::from_secs(LIFE))
        );
        let margin = Duration::from_secs(DAY);
        from + margin <= now && now + margin <= until
    }

    #[test]
    fn a_node_that_starts_again_has_its_old_ones() {
        let before = made(at(0, 0));
        assert_eq!(made(at(11, DAY - 1)).proved(), before.proved());
        let other = Certificates::new(&Keypair::generate_ed25519(), at(0, 0)).expect("made");
        assert!(
            other
                .proved()
                .iter()
                .all(|hash| !before.proved().contains(hash))
        );
    }

    #[test]
    fn the_next_takes_over_and_the_last_is_still_proved() {
        let first = made(at(0, 0));
        assert!(look(&first, at(11, DAY - 1)).is_none());
        let second = look(&first, at(12, 0)).expect("renewed");
        let ([was, promised], [is, _]) = (first.addressed(), second.addressed());
        assert_eq!(is, promised, "who has the old address still finds it");
        assert!(second.proved().contains(&was), "and it is proved");
        assert!(look(&second, at(12, 0)).is_none());
        assert_eq!(
            made(at(12, 0)).proved(),
            second.proved(),
            "a start then is no other"
        );
    }

    /// A computer whose clock was wrong when it started (libp2p/go-libp2p#1833).
    #[test]
    fn made_under_a_wrong_clock_they_are_right_once_it_is() {
        let right = made(at(0, 0));
        let early = made(SystemTime::UNIX_EPOCH);
        for wrong in [&early, &made(at(30, 0)), &made(at(9000, 0))] {
            let healed = look(wrong, at(0, 0)).expect("renewed");
            assert_eq!(healed.proved(), right.proved());
        }
        assert!(shows_a_valid_one(&right, at(0, 0)));
    }

    /// After the year 9999 there are none, which is said.
    #[test]
    fn a_clock_beyond_all_dates_is_an_error_and_heals() {
        let far = SystemTime::UNIX_EPOCH + Duration::from_secs(300_000_000_000);
        assert!(Certificates::new(&identity(), far).is_err());
        let shown = made(at(0, 0));
        assert!(shown.renewed(far).is_err());
        assert!(look(&shown, at(0, 0)).is_none());
    }

    #[test]
    fn nodes_do_not_change_their_addresses_all_at_once() {
        let shifts: std::collections::HashSet<u64> = (0..8)
            .map(|byte| shift(&Keypair::ed25519_from_bytes([byte; 32]).expect("32 bytes")))
            .collect();
        assert_eq!(shifts.len(), 8);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        /// Wherever the clock jumps, what is shown after a look is valid then, for a day more and since a day.
        #[test]
        fn what_is_shown_is_always_valid(hours in proptest::collection::vec(0u64..5000, 1..4)) {
            let mut shown = made(at(100, 0));
            for now in hours.into_iter().map(|hours| at(0, hours * 3600)) {
                if let Some(renewed) = look(&shown, now) {
                    shown = renewed;
                }
                prop_assert!(shows_a_valid_one(&shown, now));
                prop_assert!(look(&shown, now).is_none());
            }
        }
    }
}
