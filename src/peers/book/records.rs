//! What peers have signed of where they are: who tells of a peer with its record is believed as that peer itself would be.
//!
//! A record replaces what others said of the peer's addresses, and no stranger's word adds to it while the peer is reached there. Only the
//! latest counts. Those of peers that this node has reached itself it passes on ([`AddressBook::records`]), each drawn by chance, so that an attacker who
//! fills the table of new peers is not spread by honest ones. A record brings a peer no other place in the book than a word would: its teller's network decides.

use std::collections::BTreeSet;

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};

use super::{AddressBook, NetworkGroup, tidy};
use crate::{
    peers::{
        RecordFault,
        record::{SignedRecord, is_of_today},
    },
    platform::{Instant, SystemTime},
};

impl AddressBook {
    /// Somebody of the network `source` tells a peer's record, of whose addresses these may be dialled.
    ///
    /// # Errors
    /// [`RecordFault::Older`].
    pub fn signed(
        &mut self,
        source: NetworkGroup,
        record: &SignedRecord,
        addresses: &[Multiaddr],
        now: Instant,
    ) -> Result<(), RecordFault> {
        let known = self.entries.get(&record.peer);
        if known.is_some_and(|known| known.sequence > record.sequence) {
            return Err(RecordFault::Older);
        }
        if !self.told(source, record.peer, addresses, now) {
            return Ok(());
        }
        // Of so many some have no room: first come those that this node can dial.
        let (dialled, others): (Vec<_>, Vec<_>) = addresses
            .iter()
            .filter_map(tidy)
            .partition(|address| (self.dials)(address));
        self.change(&record.peer, |entry, _, _| {
            entry.says_it_is_at(dialled.into_iter().chain(others));
            entry.sequence = record.sequence;
            entry.record = Some(record.bytes.clone());
        });
        Ok(())
    }

    /// The records of some peers that this node has reached, each as likely as the others; none of `asker`'s, nor any that counts no more on that date.
    pub fn records(&mut self, asker: &PeerId, most: usize, date: SystemTime) -> Vec<Bytes> {
        let mut drawn = BTreeSet::new();
        // Some are drawn twice.
        for _ in 0..most * 2 {
            if drawn.len() < most
                && let Some(peer) = self.random.one_of(self.signed.members())
                && peer != asker
            {
                drawn.insert(*peer);
            }
        }
        let entries = drawn.iter().filter_map(|peer| self.entries.get(peer));
        let counting = entries.filter(|entry| is_of_today(entry.sequence, date));
        counting.filter_map(|entry| entry.record.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use libp2p::identity::Keypair;

    use super::super::Grouping;
    use super::*;
    use crate::platform::{self, test};

    fn at(network: u8) -> Multiaddr {
        let text = format!("/ip4/50.{network}.0.1/tcp/1");
        text.parse().expect("an address")
    }

    fn date() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn record(key: &Keypair, network: u8, after: u64) -> SignedRecord {
        SignedRecord::sign(key, &[at(network)], after, date()).expect("it signs")
    }

    fn book(seed: u8) -> (AddressBook, NetworkGroup, Instant) {
        let now = platform::now();
        let book = AddressBook::new(
            PeerId::random(),
            |_| true,
            Grouping::default(),
            [seed; 32],
            now,
        );
        (book, Grouping::default().of(&at(9)), now)
    }

    fn addresses(book: &AddressBook, peer: &PeerId) -> Vec<Multiaddr> {
        let known = book.candidate(peer);
        known.map_or(Vec::new(), |known| known.addresses)
    }

    #[test]
    fn what_a_peer_signed_counts_more_than_what_others_say_until_it_is_not_there() {
        let ((mut book, source, now), key) = (book(7), Keypair::generate_ed25519());
        let record = record(&key, 1, 0);
        let peer = record.peer;
        book.told(source, peer, &[at(2)], now);
        assert_eq!(book.signed(source, &record, &[at(1)], now), Ok(()));
        book.told(source, peer, &[at(3)], now);
        assert_eq!(addresses(&book, &peer), [at(1)]);
        book.dials(peer, now);
        book.failed(peer, true, now);
        book.told(source, peer, &[at(3)], now);
        assert_eq!(addresses(&book, &peer), [at(1), at(3)]);
    }

    #[test]
    fn an_older_record_is_refused_over_a_restart_too() {
        let ((mut book, source, now), key) = (book(7), Keypair::generate_ed25519());
        let first = record(&key, 1, 0);
        let second = record(&key, 2, first.sequence);
        for told in [&first, &second, &second] {
            let addresses = &told.addresses;
            assert_eq!(book.signed(source, told, addresses, now), Ok(()));
        }
        let replayed = |book: &mut AddressBook| book.signed(source, &first, &first.addresses, now);
        assert_eq!(replayed(&mut book), Err(RecordFault::Older));
        let bytes = book.save(&[], now, date());
        let own = PeerId::random();
        let loaded = AddressBook::load(
            &bytes,
            own,
            |_| true,
            Grouping::default(),
            [8; 32],
            now,
            date(),
        );
        let (mut book, _) = loaded.expect("it was saved");
        assert_eq!(replayed(&mut book), Err(RecordFault::Older));
        assert_eq!(addresses(&book, &second.peer), [at(2)]);
    }

    #[test]
    fn records_of_peers_that_were_reached_are_passed_on_and_no_others() {
        let (mut book, source, now) = book(7);
        let records: Vec<_> = (0..40)
            .map(|network| record(&Keypair::generate_ed25519(), network, 0))
            .collect();
        for record in &records {
            assert_eq!(
                book.signed(source, record, &record.addresses, now),
                Ok(()),
                "it has a place"
            );
        }
        let asker = PeerId::random();
        assert!(book.records(&asker, 16, date()).is_empty());
        for (record, network) in records.iter().zip(0..20) {
            book.connected(record.peer, &at(network), true, now);
            book.reached(record.peer, &at(network), now);
        }
        let passed = book.records(&asker, 16, date());
        assert!((8..=16).contains(&passed.len()), "{}", passed.len());
        let is_reached = |bytes: &Bytes| records[..20].iter().any(|one| one.bytes == bytes);
        assert!(passed.iter().all(is_reached));
        let tomorrow = date() + SignedRecord::LIFE + Duration::from_secs(60);
        assert!(book.records(&asker, 16, tomorrow).is_empty(), "expired");
        for record in &records {
            book.forget(&record.peer);
        }
        assert!(book.records(&asker, 16, date()).is_empty());
        assert!(book.signed.members().is_empty());
    }

    #[test]
    fn a_node_with_few_transports_keeps_the_addresses_that_it_can_dial() {
        let now = platform::now();
        let ws = |address: &Multiaddr| address.to_string().ends_with("/ws");
        let mut tab = AddressBook::new(PeerId::random(), ws, Grouping::default(), [7; 32], now);
        let port = |port| -> Multiaddr {
            let way = if port > 12 { "/ws" } else { "" };
            let text = format!("/ip4/50.1.0.1/tcp/{port}{way}");
            text.parse().expect("an address")
        };
        let all: Vec<_> = (1..15).map(port).collect();
        let key = Keypair::generate_ed25519();
        let record = SignedRecord::sign(&key, &all, 0, date()).expect("it signs");
        let source = Grouping::default().of(&at(9));
        assert_eq!(tab.signed(source, &record, &all, now), Ok(()));
        let known = tab.choose(now).expect("it can be dialled");
        assert_eq!(known.addresses, [port(13), port(14)]);
    }
}
