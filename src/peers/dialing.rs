//! Whom to dial, and when again.
//!
//! A state machine without I/O. It knows the bootstrap peers, each with all its addresses however the list writes them, and the
//! peers found on the local network. Those that are not connected are dialled as long as fewer peers than wanted were dialled
//! with success: who dialled *us* proves nothing, an attacker does that too. A failure doubles the pause, up to
//! [`PAUSE`]; an end of a connection starts anew. Whom the user lets go stays away until somebody asks for it.
//!
//! Bounds: the bootstrap list, and [`FOUND`] peers of the local network of [`ADDRESSES`] addresses each; who was not found again
//! for [`FORGET`] is forgotten.

use std::{collections::BTreeMap, time::Duration};

use libp2p::{Multiaddr, PeerId};

use crate::platform::Instant;

/// The first and the longest pause between two dials of one peer.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(20));
/// How long a peer that turned us away is left alone.
const REFUSED: Duration = Duration::from_secs(60);
/// Peers of the local network that are kept in mind.
const FOUND: usize = 256;
/// Addresses of one of them.
const ADDRESSES: usize = 16;
/// When a peer of the local network is forgotten: mDNS asks every five minutes.
const FORGET: Duration = Duration::from_secs(360);

/// See the module's documentation.
#[derive(Debug)]
pub struct Dialing {
    own: PeerId,
    targets: BTreeMap<PeerId, Target>,
}

#[derive(Debug)]
struct Target {
    addresses: Vec<Multiaddr>,
    state: State,
    pause: Duration,
    /// When it was last found on the local network; `None` for a bootstrap peer.
    found: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Due(Instant),
    Dialling,
    Connected,
    /// The user let it go.
    Dismissed,
}

impl Dialing {
    /// Knows nobody; never dials `own`.
    pub fn new(own: PeerId) -> Self {
        Self {
            own,
            targets: BTreeMap::new(),
        }
    }

    /// A bootstrap peer, or one more address of it.
    pub fn seed(&mut self, peer: PeerId, address: Multiaddr, now: Instant) {
        self.learn(peer, address, None, now);
    }

    /// A peer of the local network, at an address.
    pub fn found(&mut self, peer: PeerId, address: Multiaddr, now: Instant) {
        self.targets
            .retain(|_, target| target.found.is_none_or(|at| at + FORGET > now));
        let local = self
            .targets
            .values()
            .filter(|target| target.found.is_some());
        if self.targets.contains_key(&peer) || local.count() < FOUND {
            self.learn(peer, address, Some(now), now);
        }
    }

    /// The user asks for it, also where it was let go before.
    pub fn wanted(&mut self, peer: &PeerId, now: Instant) {
        if let Some(target) = self.targets.get_mut(peer)
            && target.state == State::Dismissed
        {
            target.state = State::Due(now);
        }
    }

    /// Somebody else has begun to dial it: one of [`Self::connected`] and [`Self::failed`] follows.
    pub fn dials(&mut self, peer: &PeerId) {
        if let Some(target) = self.targets.get_mut(peer)
            && matches!(target.state, State::Due(_))
        {
            target.state = State::Dialling;
        }
    }

    /// It is connected, whoever dialled. Whom the user let go may come by itself, and is not dialled when it goes again.
    pub fn connected(&mut self, peer: &PeerId) {
        if let Some(target) = self.targets.get_mut(peer)
            && target.state != State::Dismissed
        {
            (target.state, target.pause) = (State::Connected, PAUSE.0);
        }
    }

    /// Its last connection ended.
    pub fn gone(&mut self, peer: &PeerId, now: Instant) {
        if let Some(target) = self.targets.get_mut(peer)
            && target.state == State::Connected
        {
            target.state = State::Due(now + target.pause);
        }
    }

    /// A dial of it failed.
    pub fn failed(&mut self, peer: &PeerId, now: Instant) {
        if let Some(target) = self.targets.get_mut(peer)
            && target.state == State::Dialling
        {
            target.state = State::Due(now + target.pause);
            target.pause = (target.pause * 2).min(PAUSE.1);
        }
    }

    /// It turned us away, or we it: asking again at once is of no use.
    pub fn refused(&mut self, peer: &PeerId) {
        if let Some(target) = self.targets.get_mut(peer) {
            target.pause = REFUSED;
        }
    }

    /// The user let it go.
    pub fn dismissed(&mut self, peer: &PeerId) {
        if let Some(target) = self.targets.get_mut(peer) {
            target.state = State::Dismissed;
        }
    }

    /// Whom to dial now, each with all its addresses; to be called while more peers are wanted.
    pub fn due(&mut self, now: Instant) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let mut due = Vec::new();
        for (peer, target) in &mut self.targets {
            if matches!(target.state, State::Due(at) if at <= now) {
                target.state = State::Dialling;
                due.push((*peer, target.addresses.clone()));
            }
        }
        due
    }

    fn learn(&mut self, peer: PeerId, address: Multiaddr, found: Option<Instant>, now: Instant) {
        if peer == self.own {
            return;
        }
        let target = self.targets.entry(peer).or_insert_with(|| Target {
            addresses: Vec::new(),
            state: State::Due(now),
            pause: PAUSE.0,
            found,
        });
        // A bootstrap peer stays one, also where it is a neighbour.
        target.found = target.found.and(found);
        if !target.addresses.contains(&address)
            && (found.is_none() || target.addresses.len() < ADDRESSES)
        {
            target.addresses.push(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::{self, test};

    fn address(port: u16) -> Multiaddr {
        format!("/ip4/192.0.2.1/tcp/{port}")
            .parse()
            .expect("an address")
    }

    fn second(now: Instant, seconds: u64) -> Instant {
        now + Duration::from_secs(seconds)
    }

    #[test]
    fn several_entries_of_one_peer_are_one_dial_of_all_addresses() {
        let (own, seed, now) = (PeerId::random(), PeerId::random(), platform::now());
        let mut dialing = Dialing::new(own);
        for port in [1, 2, 1] {
            dialing.seed(seed, address(port), now);
            dialing.seed(own, address(port), now);
        }
        assert_eq!(dialing.due(now), [(seed, vec![address(1), address(2)])]);
        assert!(
            dialing.due(second(now, 100)).is_empty(),
            "it is being dialled"
        );
    }

    #[test]
    fn failures_make_pauses_that_have_an_end() {
        let (seed, mut now) = (PeerId::random(), platform::now());
        let mut dialing = Dialing::new(PeerId::random());
        dialing.seed(seed, address(1), now);
        for pause in [1, 2, 4, 8, 16, 20, 20] {
            assert_eq!(dialing.due(now).len(), 1);
            dialing.failed(&seed, now);
            now = second(now, pause);
            assert!(dialing.due(now - Duration::from_millis(1)).is_empty());
        }
        dialing.connected(&seed);
        assert!(dialing.due(second(now, 100)).is_empty());
        dialing.gone(&seed, now);
        assert_eq!(dialing.due(second(now, 1)).len(), 1, "it starts anew");
        dialing.connected(&seed);
        dialing.refused(&seed);
        dialing.gone(&seed, now);
        assert!(dialing.due(second(now, 59)).is_empty());
        assert_eq!(dialing.due(second(now, 60)).len(), 1);
        dialing.connected(&seed);
        dialing.dismissed(&seed);
        dialing.gone(&seed, now);
        assert!(dialing.due(second(now, 10_000)).is_empty());
    }

    #[test]
    fn who_was_let_go_stays_away_until_the_user_asks_for_it() {
        let (seed, now) = (PeerId::random(), platform::now());
        let mut dialing = Dialing::new(PeerId::random());
        dialing.seed(seed, address(1), now);
        dialing.connected(&seed);
        dialing.dismissed(&seed);
        dialing.gone(&seed, now);
        // It comes by itself, and goes again.
        dialing.connected(&seed);
        dialing.gone(&seed, now);
        dialing.dials(&seed);
        dialing.failed(&seed, now);
        assert!(dialing.due(second(now, 10_000)).is_empty());
        dialing.wanted(&seed, now);
        assert_eq!(dialing.due(now).len(), 1);
    }

    #[test]
    fn neighbours_are_dialled_again_until_they_are_not_found_any_more() {
        let (peer, now) = (PeerId::random(), platform::now());
        let mut dialing = Dialing::new(PeerId::random());
        dialing.found(peer, address(1), now);
        assert_eq!(dialing.due(now).len(), 1);
        dialing.connected(&peer);
        dialing.gone(&peer, second(now, 95));
        assert_eq!(
            dialing.due(second(now, 96)).len(),
            1,
            "its record has not expired"
        );
        dialing.failed(&peer, second(now, 96));
        dialing.found(PeerId::random(), address(2), second(now, 361));
        let due = dialing.due(second(now, 361));
        assert!(
            due.iter().all(|(due, _)| *due != peer),
            "forgotten: {due:?}"
        );
    }

    #[test]
    fn neighbours_are_bounded() {
        let (mut dialing, now) = (Dialing::new(PeerId::random()), platform::now());
        let peer = PeerId::random();
        for port in 0..100 {
            dialing.found(peer, address(port), now);
        }
        assert_eq!(
            dialing
                .due(now)
                .first()
                .map(|(_, addresses)| addresses.len()),
            Some(ADDRESSES)
        );
        for _ in 0..1000 {
            dialing.found(PeerId::random(), address(1), now);
        }
        assert_eq!(dialing.targets.len(), FOUND);
    }
}
