//! How fast peers are read: each, and all together.
//!
//! A peer pays for all that it sends out of its own pace, which is half of that of all together; also for what it owes from before when it comes again.
//! What passes of it is let in at the pace of all. Where that is used up, a known peer has its share beside it: the same pace divided by the
//! known peers, and [`BURST`] of it at once. A frame that costs more waits until so much of the share has come together. So many who use up the
//! common pace hold up nobody else, and no more than twice that pace is let in, whatever they bring at once.
//!
//! Bounds: an account of fixed size for each connected peer, and for those that left owing (`debts.rs`).

use std::{collections::HashMap, time::Duration};

use libp2p::PeerId;

use crate::{
    config::GossipsubConfig,
    debts::Debts,
    platform::Instant,
    traffic::{Admission, Cost, Pace, Rate},
};

/// Seconds' worth of messages that may come at once.
const MESSAGES_AT_ONCE: u64 = 20;
/// The same of bytes.
const BYTES_AT_ONCE: u64 = 2;
/// How much of a share may come at once.
const BURST: Duration = Duration::from_secs(2);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Paces {
    messages: u64,
    bytes: u64,
    all: Measure,
    accounts: HashMap<PeerId, Account>,
    /// How many are known.
    known: u64,
    gone: Debts<Account>,
}

/// What was read, against a pace.
#[derive(Clone, Copy, Debug)]
struct Measure {
    items: Pace,
    bytes: Pace,
}

#[derive(Debug)]
struct Account {
    own: Measure,
    /// Until when its share is used up.
    booked: Option<Instant>,
    is_known: bool,
}

impl Measure {
    /// So many messages and bytes a second.
    fn new(messages: u64, bytes: u64) -> Self {
        let pace = |per_second: u64, times: u64| {
            let burst = per_second.saturating_mul(times);
            Pace::new(Rate { per_second, burst })
        };
        Self {
            items: pace(messages, MESSAGES_AT_ONCE),
            bytes: pace(bytes, BYTES_AT_ONCE),
        }
    }

    fn ready(&self, now: Instant) -> Admission {
        self.items.ready(now).later(self.bytes.ready(now))
    }

    fn charge(&mut self, cost: Cost, now: Instant) {
        self.items.charge(cost.items, now);
        self.bytes.charge(cost.bytes, now);
    }
}

impl Account {
    /// When it owes nothing more.
    fn paid_at(&self) -> Option<Instant> {
        let own = self.own.items.rests_at().max(self.own.bytes.rests_at());
        own.max(self.booked)
    }
}

impl Paces {
    pub(super) fn new(config: &GossipsubConfig) -> Self {
        let messages = u64::from(config.max_messages_per_second);
        let bytes = config.max_bytes_per_second;
        Self {
            messages,
            bytes,
            all: Measure::new(messages, bytes),
            accounts: HashMap::new(),
            known: 0,
            gone: Debts::default(),
        }
    }

    /// A peer is known, and has a share.
    pub(super) fn know(&mut self, peer: PeerId) {
        let account = self.account(peer);
        if !std::mem::replace(&mut account.is_known, true) {
            self.known += 1;
        }
    }

    /// A peer is gone; what it owes is not.
    pub(super) fn forget(&mut self, peer: &PeerId, now: Instant) {
        let Some(mut account) = self.accounts.remove(peer) else {
            return;
        };
        self.known -= u64::from(std::mem::take(&mut account.is_known));
        if let Some(paid_at) = account.paid_at() {
            self.gone.keep(*peer, account, paid_at, now);
        }
    }

    /// When more may be read from a peer.
    pub(super) fn ready(&self, peer: &PeerId, now: Instant) -> Admission {
        let account = self.accounts.get(peer).or_else(|| self.gone.get(peer));
        let own = account.map(|account| account.own.ready(now));
        let own = own.unwrap_or(Admission::Now);
        own.later(self.lets_in(peer, Cost::default(), now, now))
    }

    /// Counts what a peer sends.
    pub(super) fn charge(&mut self, peer: PeerId, mut cost: Cost, now: Instant) {
        cost.items = cost
            .items
            .min(self.messages.saturating_mul(MESSAGES_AT_ONCE) / 2);
        self.account(peer).own.charge(cost, now);
    }

    /// When a frame that has waited since then may be let in.
    pub(super) fn lets_in(
        &self,
        peer: &PeerId,
        cost: Cost,
        since: Instant,
        now: Instant,
    ) -> Admission {
        let Admission::At(all) = self.all.ready(now) else {
            return Admission::Now;
        };
        let account = self.accounts.get(peer).filter(|account| account.is_known);
        let Some(booked) = account.map(|account| self.book(account, cost, since)) else {
            return Admission::At(all);
        };
        let wait = booked.saturating_duration_since(now).saturating_sub(BURST);
        if wait.is_zero() {
            return Admission::Now;
        }
        Admission::At(all.min(now + wait))
    }

    /// Counts what was let in: for all together where there is room, for the peer's share where there is none.
    pub(super) fn count(&mut self, peer: PeerId, cost: Cost, since: Instant, now: Instant) {
        let account = self.accounts.get(&peer).filter(|account| account.is_known);
        let booked = account.map(|account| self.book(account, cost, since));
        match (booked, self.accounts.get_mut(&peer)) {
            (Some(booked), Some(account)) if self.all.ready(now) != Admission::Now => {
                account.booked = Some(booked);
            }
            _ => self.all.charge(cost, now),
        }
    }

    /// Until when a peer's share is used up with this. Each of so many has as many times less.
    fn book(&self, account: &Account, cost: Cost, since: Instant) -> Instant {
        let worth = |units: u64, per_second| {
            let burst = per_second;
            Rate { per_second, burst }.worth(units.saturating_mul(self.known))
        };
        let worth = worth(cost.items, self.messages).max(worth(cost.bytes, self.bytes));
        account.booked.map_or(since, |booked| booked.max(since)) + worth
    }

    /// The account of a peer that is here.
    fn account(&mut self, peer: PeerId) -> &mut Account {
        let half = Measure::new(self.messages.div_ceil(2), self.bytes.div_ceil(2));
        let anew = Account {
            own: half,
            booked: None,
            is_known: false,
        };
        let account = self.accounts.entry(peer);
        account.or_insert_with(|| self.gone.take(&peer).unwrap_or(anew))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    const MIB: u64 = 1 << 20;

    fn paces() -> Paces {
        Paces::new(&GossipsubConfig::default())
    }

    fn bytes(bytes: u64) -> Cost {
        Cost { items: 1, bytes }
    }

    /// Whether it was let in.
    fn enter(paces: &mut Paces, peer: PeerId, cost: Cost, since: Instant, now: Instant) -> bool {
        let lets_in = paces.lets_in(&peer, cost, since, now) == Admission::Now;
        if lets_in {
            paces.count(peer, cost, since, now);
        }
        lets_in
    }

    #[test]
    fn many_who_use_up_the_common_pace_hold_up_no_known_peer() {
        let (mut paces, honest, mut now) = (paces(), PeerId::random(), crate::platform::now());
        paces.know(honest);
        let full = Cost {
            items: 1783,
            bytes: 64 << 10,
        };
        let attackers = [(); 100].map(|()| PeerId::random());
        attackers.iter().for_each(|attacker| paces.know(*attacker));
        let stranger = PeerId::random();
        let start = now;
        while enter(&mut paces, stranger, full, start, now) {}
        assert!(matches!(paces.ready(&stranger, now), Admission::At(at) if at <= now + BURST));
        // Four frames of a message a second.
        for _ in 0..240 {
            now += Duration::from_millis(250);
            for attacker in &attackers {
                enter(&mut paces, *attacker, full, start, now);
            }
            let one = Cost {
                items: 2,
                bytes: 500,
            };
            assert!(enter(&mut paces, honest, one, now, now));
        }
        paces.forget(&honest, now);
        assert!(matches!(paces.ready(&honest, now), Admission::At(at) if at <= now + BURST));
    }

    #[test]
    fn shares_let_in_no_more_than_twice_the_pace_whatever_comes_at_once() {
        let (mut paces, start) = (paces(), crate::platform::now());
        let pace = GossipsubConfig::default().max_bytes_per_second;
        let peers = [(); 50].map(|()| PeerId::random());
        peers.iter().for_each(|peer| paces.know(*peer));
        let large = 4 * MIB;
        let mut since = [start; 50];
        let mut let_in = 0;
        for tenth in 0..600 {
            let now = start + Duration::from_millis(100) * tenth;
            for (peer, since) in peers.iter().zip(&mut since) {
                while enter(&mut paces, *peer, bytes(large), *since, now) {
                    let_in += large;
                    *since = now;
                }
            }
            // Both paces, what may come of each at once, and one frame over.
            let most = 2 * (pace * u64::from(tenth) / 10 + BYTES_AT_ONCE * pace) + large;
            assert!(
                let_in <= most,
                "{let_in} bytes in {tenth} tenths of a second"
            );
        }
        assert!(let_in > pace * 60, "the shares come beside it");
    }

    #[test]
    fn who_comes_again_owes_what_it_owed() {
        let (mut paces, peer, now) = (paces(), PeerId::random(), crate::platform::now());
        paces.charge(peer, bytes(64 * MIB), now);
        let before = paces.ready(&peer, now);
        assert!(matches!(before, Admission::At(_)));
        paces.forget(&peer, now);
        assert_eq!(paces.ready(&peer, now), before);
        paces.know(peer);
        assert!(paces.gone.get(&peer).is_none() && paces.known == 1);
        assert_eq!(paces.ready(&peer, now), before);
        paces.forget(&peer, now);
        assert!(paces.accounts.is_empty() && paces.known == 0);
    }
}
