//! Places at relays: asked for at the start, and again when one is refused, fails or ends.
//!
//! A relay may be no relay, be full, restart or be out of reach, and a place lasts as long as the relay likes: so a place is asked for
//! again after a pause, which doubles up to [`PAUSE`] and starts anew with each success. A state machine without I/O. Bounds: the
//! addresses of the configuration.

use std::time::Duration;

use libp2p::{Multiaddr, core::transport::ListenerId};

use crate::platform::Instant;

/// The first and the longest pause before a place is asked for again.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Circuits(Vec<Place>);

struct Place {
    address: Multiaddr,
    state: State,
    pause: Duration,
}

enum State {
    /// Asked for, or had.
    Listens(ListenerId),
    Due(Instant),
}

impl Circuits {
    /// A place is asked for, at the relay's address as configured.
    pub(crate) fn asked(&mut self, address: Multiaddr, listener: ListenerId) {
        let state = State::Listens(listener);
        match self.0.iter_mut().find(|place| place.address == address) {
            Some(place) => place.state = state,
            None => self.0.push(Place {
                address,
                state,
                pause: PAUSE.0,
            }),
        }
    }

    /// The relay has given the place.
    pub(crate) fn is_up(&mut self, listener: ListenerId) {
        if let Some(place) = self.of(listener) {
            place.pause = PAUSE.0;
        }
    }

    /// It has not, or no longer. The address as configured, if this was such a place.
    pub(crate) fn ended(&mut self, listener: ListenerId, now: Instant) -> Option<Multiaddr> {
        let place = self.of(listener)?;
        place.fails(now);
        Some(place.address.clone())
    }

    /// It could not even be asked for.
    pub(crate) fn failed(&mut self, address: &Multiaddr, now: Instant) {
        let mut places = self.0.iter_mut();
        if let Some(place) = places.find(|place| place.address == *address) {
            place.fails(now);
        }
    }

    /// Where to ask again now.
    pub(crate) fn due(&self, now: Instant) -> Vec<Multiaddr> {
        let due = |place: &&Place| matches!(place.state, State::Due(at) if at <= now);
        let due = self.0.iter().filter(due);
        due.map(|place| place.address.clone()).collect()
    }

    fn of(&mut self, listener: ListenerId) -> Option<&mut Place> {
        let is_its =
            |place: &&mut Place| matches!(place.state, State::Listens(id) if id == listener);
        self.0.iter_mut().find(is_its)
    }
}

impl Place {
    fn fails(&mut self, now: Instant) {
        self.state = State::Due(now + self.pause);
        self.pause = (self.pause * 2).min(PAUSE.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::{self, test};

    #[test]
    fn a_place_that_ends_is_asked_for_again_less_and_less_often() {
        let (mut circuits, mut now) = (Circuits::default(), platform::now());
        let address: Multiaddr = "/ip4/192.0.2.1/tcp/1/p2p-circuit".parse().expect("one");
        assert_eq!(
            circuits.ended(ListenerId::next(), now),
            None,
            "no such place"
        );
        for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
            let listener = ListenerId::next();
            circuits.asked(address.clone(), listener);
            assert!(circuits.due(now + PAUSE.1).is_empty(), "it may come yet");
            assert_eq!(circuits.ended(listener, now), Some(address.clone()));
            assert_eq!(circuits.ended(listener, now), None, "it is told once");
            now += Duration::from_secs(pause);
            assert!(circuits.due(now - Duration::from_millis(1)).is_empty());
            let due = circuits.due(now);
            assert_eq!(due.first(), Some(&address));
        }
        let listener = ListenerId::next();
        circuits.asked(address.clone(), listener);
        circuits.is_up(listener);
        circuits.ended(listener, now);
        assert_eq!(circuits.due(now + PAUSE.0).len(), 1, "it starts anew");
        circuits.failed(&address, now);
        assert!(circuits.due(now + PAUSE.0).is_empty());
    }
}
