//! Records of peers: this node tells its own to each peer of ours, and asks for others' while it wants peers.
//!
//! It tells a peer once that is ready, and all of them where its addresses are others, which it looks at each minute, or its record is a quarter of a day old.
//! Unasked it takes a peer's own record only; what it has asked for it takes as the word of the one who answers
//! ([`AddressBook::signed`](crate::peers::AddressBook::signed)). It passes on those of peers that it has reached itself. A telling that is lost is nobody's fault.
//! Bounds: [`MAX_RECORDS`] in an answer; tellings without an answer end with their time.

use super::*;
use crate::{
    network::{
        exchange::MAX_RECORDS,
        protocol::{Quoted, Telling},
    },
    peers::{RecordFault, Scope, SignedRecord},
    traffic::{Cost, Protocol as Limited},
};

/// How often it is looked whether the node's addresses are others.
const LOOK: Duration = Duration::from_secs(60);
/// How old its record becomes.
const RENEW: Duration = Duration::from_secs(6 * 3600);
/// A node that knows fewer peers asks for more, also where it wants none at the moment.
const FEW: usize = 64;

/// This node's own record.
pub(super) struct OwnRecord {
    key: Keypair,
    signed: Option<SignedRecord>,
    /// When it was signed, and when it is looked at next.
    at: Instant,
    look_at: Instant,
}

impl OwnRecord {
    /// None yet.
    pub(super) fn new(key: Keypair, now: Instant) -> Self {
        Self {
            key,
            signed: None,
            at: now,
            look_at: now,
        }
    }

    /// Signs another one if these addresses are others, or it is old; whether it did.
    fn renew(&mut self, addresses: &[Multiaddr], now: Instant) -> bool {
        let before = self.signed.as_ref();
        let (after, is_young) = (
            before.map_or(0, |signed| signed.sequence),
            now.saturating_duration_since(self.at) < RENEW,
        );
        let Some(signed) = SignedRecord::sign(&self.key, addresses, after, platform::date()) else {
            return false;
        };
        if before.is_some_and(|before| is_young && before.addresses == signed.addresses) {
            return false;
        }
        (self.signed, self.at) = (Some(signed), now);
        true
    }
}

impl Task {
    /// Where this node says that it is: public places only, if it has any.
    fn own_addresses(&self) -> Vec<Multiaddr> {
        let listeners = self.shared.state().listeners.clone();
        let all = self.swarm.external_addresses().cloned().chain(listeners);
        let mut all: Vec<_> = all.filter(|address| Scope::of(address).is_some()).collect();
        let is_public = |address: &Multiaddr| Scope::of(address) == Some(Scope::Public);
        if all.iter().any(is_public) {
            all.retain(is_public);
        }
        all
    }

    /// Signs this node's record anew where that is due, and tells all peers of ours.
    pub(super) fn look_at_record(&mut self, now: Instant) {
        if now < self.own_record.look_at {
            return;
        }
        self.own_record.look_at = now + LOOK;
        let addresses = self.own_addresses();
        if !self.own_record.renew(&addresses, now) {
            return;
        }
        let peers = self.shared.peers();
        let ours = peers.shown().filter(|peer| peer.selkie);
        let ours: Vec<_> = ours.map(|peer| peer.peer_id).collect();
        drop(peers);
        for peer in ours {
            self.tell(peer, now);
        }
    }

    /// Tells a peer where this node is, and asks it for others where they are wanted.
    pub(super) fn tell(&mut self, peer: PeerId, now: Instant) {
        if self.own_record.signed.is_none() {
            let addresses = self.own_addresses();
            self.own_record.renew(&addresses, now);
        }
        let signed = self.own_record.signed.iter();
        let reachable = signed.filter(|signed| !signed.addresses.is_empty());
        let wanted = if self.discovery.wants_others(FEW) {
            MAX_RECORDS
        } else {
            0
        };
        let telling = Telling {
            records: reachable.map(|signed| signed.bytes.clone()).collect(),
            wants: u32::try_from(wanted).unwrap_or_default(),
        };
        if telling == Telling::default() {
            return;
        }
        let frame = telling.encode(self.swarm.local_peer_id());
        self.requests.told(peer, frame.len(), now);
        let message = &mut self.swarm.behaviour_mut().message;
        let (request, _) = message.send_request(&peer, frame);
        self.tellings.insert(request, (peer, wanted));
    }

    /// A peer names others, or tells of itself.
    pub(super) fn on_exchange(
        &mut self,
        peer: PeerId,
        mut named: Vec<PeerInfo>,
        telling: &Telling,
        bytes: u64,
    ) -> Answer {
        let now = platform::now();
        let (cost, discovery) = (Cost { items: 1, bytes }, Limited::Discovery);
        if self.limiter.admits(peer, discovery, cost, now).is_err() {
            self.note(peer, Misdeed::TooManyMessages);
            return Answer::Refused("you name peers more often than you may".to_owned());
        }
        if let Some(record) = telling.records.first()
            && let Err(fault) = self.learn(peer, record, Some(peer), now)
            && fault.is_blamed()
        {
            return Answer::Refused(fault.to_string());
        }
        let gate = &self.swarm.behaviour().gate;
        for told in &mut named {
            told.addresses = gate.learnt(&peer, &told.peer_id, &told.addresses);
        }
        named.retain(|told| !told.addresses.is_empty());
        let source = gate.network(&peer);
        if *telling == Telling::default() {
            self.shared.state().recorder.received();
            self.discovery.named(&mut self.swarm, source, &named, now);
            self.shared.emit(NetworkEvent::PeersDiscovered(named));
            return Answer::Received;
        }
        match usize::try_from(telling.wants).map_or(MAX_RECORDS, |wants| wants.min(MAX_RECORDS)) {
            0 => Answer::Received,
            most => {
                let records = self.shared.book().records(&peer, most, platform::date());
                Answer::Peers(records)
            }
        }
    }

    /// What a peer answered to a telling: the records that were asked for, so many at most.
    pub(super) fn on_told(&mut self, peer: PeerId, wanted: usize, answer: &[u8]) {
        match Answer::decode(answer) {
            Ok(Answer::Peers(records)) => {
                let now = platform::now();
                let learnt = records
                    .iter()
                    .take(wanted)
                    .map(|record| self.learn(peer, record, None, now));
                let found: Vec<_> = learnt.flatten().flatten().collect();
                if !found.is_empty() {
                    self.discovery.on_time(&mut self.swarm, now);
                    self.shared.emit(NetworkEvent::PeersDiscovered(found));
                }
            }
            Ok(Answer::Refused(reason)) => {
                tracing::debug!(%peer, reason = %Quoted(&reason), "it does not take this node's record");
            }
            Ok(Answer::Received | Answer::State(_)) => {}
            Err(_) => self.note(peer, Misdeed::InvalidMessage),
        }
    }

    /// Takes a record that a peer told, which is to be of `meant`, if that is clear; the peer, if it may be dialled.
    fn learn(
        &mut self,
        teller: PeerId,
        record: &[u8],
        meant: Option<PeerId>,
        now: Instant,
    ) -> Result<Option<PeerInfo>, RecordFault> {
        let learnt = SignedRecord::open(record, platform::date()).and_then(|record| {
            if meant.is_some_and(|meant| meant != record.peer) {
                // Nobody asked for another's.
                return Ok(None);
            }
            let gate = &self.swarm.behaviour().gate;
            let addresses = gate.learnt(&teller, &record.peer, &record.addresses);
            let source = gate.network(&teller);
            let mut book = self.shared.book();
            book.signed(source, &record, &addresses, now)?;
            let found = PeerInfo {
                addresses,
                ..PeerInfo::new(record.peer)
            };
            Ok(Some(found).filter(|found| !found.addresses.is_empty()))
        });
        if let Err(fault) = &learnt {
            tracing::debug!(peer = %teller, %fault, "a record is not taken");
            if fault.is_blamed() {
                self.note(teller, Misdeed::InvalidMessage);
            }
        }
        learnt
    }
}
