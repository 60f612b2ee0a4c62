//! Where a peer is, signed by itself: so others can pass it on, and none can change it.
//!
//! libp2p's routing record (RFC 0003) in a signed envelope (RFC 0002), as go-libp2p and js-libp2p write them. Its sequence number is the date of its signing
//! in seconds since 1970, or one more than the last: of two the later counts, and one that is older than [`SignedRecord::LIFE`] counts no more. It
//! has addresses of each transport that the peer listens on, so that who has few transports, as a tab, learns whether it can dial it at all.
//!
//! A node has one of itself and keeps those of the peers in its book (`book/records.rs`). Bounds: [`SignedRecord::MAX_BYTES`], looked at before anything
//! is decoded; to open one costs the check of one signature.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId, core::SignedEnvelope, identity::Keypair};
use prost::Message;

use super::{AddressPolicy, transport_name, without_id};
use crate::{order, platform::SystemTime};

/// RFC 0002's domain and payload type of a peer's record (multicodec `libp2p-peer-record`).
const DOMAIN: &str = "libp2p-peer-record";
const PAYLOAD_TYPE: &[u8] = &[0x03, 0x01];
/// A record may be so much ahead of this host's date.
const AHEAD: Duration = Duration::from_secs(3600);

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRecord {
    /// Whose it is.
    pub peer: PeerId,
    /// Of two records the one with the larger number counts.
    pub sequence: u64,
    /// Where the peer says that it is; what of it may be dialled is the [`AddressPolicy`]'s business.
    pub addresses: Vec<Multiaddr>,
    /// The envelope.
    pub bytes: Bytes,
}

/// Why a record is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordFault {
    /// More than [`SignedRecord::MAX_BYTES`].
    #[error(
        "a peer's record is over the limit of {} bytes",
        SignedRecord::MAX_BYTES
    )]
    TooLarge,
    /// No envelope with a record in it.
    #[error("what was told is no peer's record")]
    Malformed,
    /// The signature is not that of the peer that it names.
    #[error("a peer's record is not signed by that peer")]
    Forged,
    /// Signed by a kind of key that this node does not know.
    #[error("a peer's record is signed by a key of an unknown kind")]
    UnknownKey,
    /// Older than [`SignedRecord::LIFE`], or of the future: here or there the clock may be wrong.
    #[error("a peer's record is not of today; is this host's clock right?")]
    Expired,
    /// A later one of that peer is known.
    #[error("a later record of that peer is known")]
    Older,
}

impl RecordFault {
    /// Whether who told it is to blame: it has to look before it passes on. Clocks and what another has heard of are no fault of its.
    pub fn is_blamed(self) -> bool {
        matches!(self, Self::TooLarge | Self::Malformed | Self::Forged)
    }
}

#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(bytes = "vec", tag = "1")]
    peer_id: Vec<u8>,
    #[prost(uint64, tag = "2")]
    sequence: u64,
    #[prost(message, repeated, tag = "3")]
    addresses: Vec<Address>,
}

#[derive(Clone, PartialEq, Message)]
struct Address {
    #[prost(bytes = "vec", tag = "1")]
    multiaddr: Vec<u8>,
}

impl SignedRecord {
    /// The largest one, in bytes. Ten addresses over five transports take some 500.
    pub const MAX_BYTES: usize = 1024;
    /// How long one counts.
    pub const LIFE: Duration = Duration::from_secs(24 * 3600);

    /// Signs where this node is: as many of its addresses as have room, one of each transport first. `after`: the last record's sequence number.
    /// `None` where the key signs nothing.
    pub fn sign(
        key: &Keypair,
        addresses: &[Multiaddr],
        after: u64,
        date: SystemTime,
    ) -> Option<Self> {
        let peer = key.public().to_peer_id();
        let sequence = seconds(date).max(after.saturating_add(1));
        let mut addresses = one_of_each_first(addresses);
        loop {
            let record = Record {
                peer_id: peer.to_bytes(),
                sequence,
                addresses: addresses
                    .iter()
                    .map(|address| Address {
                        multiaddr: address.to_vec(),
                    })
                    .collect(),
            };
            let payload = record.encode_to_vec();
            let envelope =
                SignedEnvelope::new(key, DOMAIN.to_owned(), PAYLOAD_TYPE.to_vec(), payload);
            let bytes: Bytes = envelope.ok()?.into_protobuf_encoding().into();
            if bytes.len() <= Self::MAX_BYTES {
                return Some(Self {
                    peer,
                    sequence,
                    addresses,
                    bytes,
                });
            }
            addresses.pop()?;
        }
    }

    /// Opens a record that somebody told. Addresses that this node can't read are left out.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn open(bytes: &[u8], date: SystemTime) -> Result<Self, RecordFault> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(RecordFault::TooLarge);
        }
        let envelope =
            SignedEnvelope::from_protobuf_encoding(bytes).map_err(|error| match error {
                libp2p::core::signed_envelope::DecodingError::InvalidPublicKey(_) => {
                    RecordFault::UnknownKey
                }
                _ => RecordFault::Malformed,
            })?;
        let (payload, key) = envelope
            .payload_and_signing_key(DOMAIN.to_owned(), PAYLOAD_TYPE)
            .map_err(|error| match error {
                libp2p::core::signed_envelope::ReadPayloadError::InvalidSignature => {
                    RecordFault::Forged
                }
                _ => RecordFault::Malformed,
            })?;
        let record = Record::decode(payload).map_err(|_| RecordFault::Malformed)?;
        let peer = key.to_peer_id();
        if record.peer_id != peer.to_bytes() {
            return Err(RecordFault::Forged);
        }
        if !is_of_today(record.sequence, date) {
            return Err(RecordFault::Expired);
        }
        let addresses = record.addresses.into_iter();
        let addresses = addresses.filter_map(|address| Multiaddr::try_from(address.multiaddr).ok());
        Ok(Self {
            peer,
            sequence: record.sequence,
            addresses: addresses.take(AddressPolicy::MAX_ADDRESSES).collect(),
            bytes: Bytes::copy_from_slice(bytes),
        })
    }
}

/// Whether a record with this sequence number counts on that date.
pub(super) fn is_of_today(sequence: u64, date: SystemTime) -> bool {
    let now = seconds(date);
    let oldest = now.saturating_sub(SignedRecord::LIFE.as_secs());
    (oldest..=now.saturating_add(AHEAD.as_secs())).contains(&sequence)
}

fn seconds(date: SystemTime) -> u64 {
    date.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// As many addresses as one peer may tell: the first of each transport, then the second ones, and so on.
fn one_of_each_first(addresses: &[Multiaddr]) -> Vec<Multiaddr> {
    let mut of_transport: BTreeMap<&str, usize> = BTreeMap::new();
    let mut ranked: Vec<_> = addresses
        .iter()
        .map(without_id)
        .filter(|address| address.len() <= AddressPolicy::MAX_BYTES)
        .map(|address| {
            let rank = of_transport.entry(transport_name(&address)).or_default();
            *rank += 1;
            (*rank, address)
        })
        .collect();
    order::sort_by_key(&mut ranked, |(rank, _)| *rank);
    let ranked = ranked.into_iter().map(|(_, address)| address);
    ranked.take(AddressPolicy::MAX_ADDRESSES).collect()
}

#[cfg(test)]
mod tests {
    use libp2p::core::PeerRecord;
    use proptest::prelude::*;

    use super::*;
    use crate::platform::test;

    fn address(text: &str) -> Multiaddr {
        text.parse().expect("an address")
    }

    fn date(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    const NOW: u64 = 1_800_000_000;

    fn record(key: &Keypair) -> SignedRecord {
        let addresses = ["/ip4/1.2.3.4/tcp/5", "/ip4/1.2.3.4/udp/5/quic-v1"].map(address);
        SignedRecord::sign(key, &addresses, 0, date(NOW)).expect("it signs")
    }

    #[test]
    fn a_record_is_what_libp2p_reads_and_writes() {
        let key = Keypair::generate_ed25519();
        let ours = record(&key);
        assert_eq!(SignedRecord::open(&ours.bytes, date(NOW)), Ok(ours.clone()));
        let envelope = SignedEnvelope::from_protobuf_encoding(&ours.bytes).expect("an envelope");
        let read = PeerRecord::from_signed_envelope_interop(envelope).expect("a record");
        assert_eq!((read.peer_id(), read.seq()), (ours.peer, ours.sequence));
        assert_eq!(read.addresses(), ours.addresses);
        let theirs = PeerRecord::new_interop(&key, ours.addresses.clone()).expect("it signs");
        let at = date(theirs.seq());
        let bytes = theirs.into_signed_envelope().into_protobuf_encoding();
        let opened = SignedRecord::open(&bytes, at).expect("a record");
        assert_eq!((opened.peer, opened.addresses), (ours.peer, ours.addresses));
    }

    #[test]
    fn what_counts_no_more_or_not_yet_is_expired_and_nobodys_fault() {
        let record = record(&Keypair::generate_ed25519());
        let day = SignedRecord::LIFE.as_secs();
        for (at, counts) in [
            (NOW, true),
            (NOW + day, true),
            (NOW + day + 1, false),
            (NOW - 3600, true),
            (NOW - 3601, false),
            (0, false),
        ] {
            let opened = SignedRecord::open(&record.bytes, date(at));
            assert_eq!(opened.is_ok(), counts, "{at}");
            assert!(counts || opened == Err(RecordFault::Expired));
        }
        assert!(!RecordFault::Expired.is_blamed() && !RecordFault::Older.is_blamed());
    }

    #[test]
    fn forged_torn_and_oversized_records_are_named_and_blamed() {
        let (mine, other) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        let open = |bytes: &[u8]| SignedRecord::open(bytes, date(NOW)).expect_err("it is wrong");
        let sign = |key, domain: &str, payload| {
            SignedEnvelope::new(key, domain.to_owned(), PAYLOAD_TYPE.to_vec(), payload)
                .expect("it signs")
                .into_protobuf_encoding()
        };
        let of = |key: &Keypair| Record {
            peer_id: key.public().to_peer_id().to_bytes(),
            sequence: NOW,
            addresses: Vec::new(),
        };
        let in_anothers_name = sign(&mine, DOMAIN, of(&other).encode_to_vec());
        let for_another_use = sign(&mine, "something else", of(&mine).encode_to_vec());
        let nonsense = sign(&mine, DOMAIN, vec![0xff; 9]);
        let mut changed = record(&mine).bytes.to_vec();
        *changed.last_mut().expect("bytes") ^= 1;
        let faults = [
            (open(&in_anothers_name), RecordFault::Forged),
            (open(&for_another_use), RecordFault::Forged),
            (open(&changed), RecordFault::Forged),
            (open(&nonsense), RecordFault::Malformed),
            (open(b"nonsense"), RecordFault::Malformed),
            (
                open(&vec![0; SignedRecord::MAX_BYTES + 1]),
                RecordFault::TooLarge,
            ),
        ];
        for (told, right) in faults {
            assert_eq!(told, right);
            assert!(told.is_blamed(), "{told}");
        }
    }

    #[test]
    fn the_next_one_is_later_whatever_the_clock_says() {
        let key = Keypair::generate_ed25519();
        let next = |after, at| SignedRecord::sign(&key, &[], after, at).expect("it signs");
        assert_eq!(next(NOW, date(NOW)).sequence, NOW + 1);
        assert_eq!(next(NOW, date(NOW + 7)).sequence, NOW + 7);
        // A browser has no date before 1970.
        if let Some(before) = SystemTime::UNIX_EPOCH.checked_sub(Duration::from_secs(7)) {
            assert_eq!(next(0, before).sequence, 1);
        }
    }

    #[test]
    fn each_transport_has_its_address_where_all_have_no_room() {
        let (key, hash) = (
            Keypair::generate_ed25519(),
            "/certhash/uEiDDq4_xNyDorZBH3TlGazyJdOWSwvo4PUo5YHFMrvDE8g".repeat(2),
        );
        let mut addresses: Vec<_> = (1..40)
            .map(|port| {
                address(&format!(
                    "/ip4/1.2.3.4/udp/{port}/quic-v1/webtransport{hash}"
                ))
            })
            .collect();
        let (tcp, ws) = (
            address("/ip4/1.2.3.4/tcp/5"),
            address("/ip4/1.2.3.4/tcp/6/ws"),
        );
        addresses.extend([tcp.clone(), ws.clone()]);
        let record = SignedRecord::sign(&key, &addresses, 0, date(NOW)).expect("it signs");
        assert!(record.bytes.len() <= SignedRecord::MAX_BYTES);
        assert_eq!(record.addresses.get(1..3), Some(&[tcp, ws][..]));
        assert!(record.addresses.len() > 5);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_record_or_a_fault(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = SignedRecord::open(&bytes, date(NOW));
        }
    }
}
