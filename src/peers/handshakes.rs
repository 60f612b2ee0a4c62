//! Handshakes: connections that came from outside and have not proved who they are yet.
//!
//! Until then only the address is known, so places are shared out by address ([`Crowds`]): 300 silent sockets of one host must not keep
//! others out (ProvableHQ/snarkOS#3311, status-im/nim-eth#111). When all places are taken, the handshake of the most crowded
//! address on which nothing has come for longest gives way to a newcomer from a less crowded one; so an address can only ever crowd
//! itself out.
//!
//! That is worth something only where who comes is at that address: TCP's handshake shows it, and QUIC's Retry, before either has a place here
//! (`transport/quic/listener.rs`). WebRTC's first packet may name anybody's address. So those over WebRTC are counted by themselves, as far as their pace lets them in (`transport/hosts/admission.rs`): they have an eighth of the
//! places ([`KEPT`]) and what others leave them beyond, where they give way to whoever comes by another transport; and they push out each other alone. So packets from forged
//! addresses keep out who comes by WebRTC, and nobody else, and sockets of few hosts keep out nobody who comes by WebRTC.
//!
//! A newcomer from an address that is itself the most crowded replaces that one's, if nothing has come for
//! [`Handshakes::SILENCE`], or if it is older than [`Handshakes::GRACE`]: an honest dialler speaks at once and is done sooner, so silent
//! sockets give way as fast as they come again, and a burst of honest nodes behind one address don't push each other out. Whoever
//! commands as many addresses as there are places can still wear newcomers out, at the price of a connection each, if it fills all places anew
//! within a round trip.
//!
//! How fast handshakes come from an address has no limit: it would bound what is computed only for who has few addresses. Turns bound what that
//! holds up (`transport/door.rs`).
//!
//! A state machine without I/O: `T` is what ends a handshake; the driver is `transport/door.rs`. Bounds: the limit in all, of which
//! one address may have some. A newcomer costs the same however many there are.

use std::{collections::HashMap, time::Duration};

use libp2p::{Multiaddr, multiaddr::Protocol};

use super::{AddressGroup, crowds::Crowds};
use crate::platform::Instant;

/// Of so many places one is kept for those that may name a forged address.
const KEPT: usize = 8;

/// A handshake among [`Handshakes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HandshakeId(u64);

/// Why a newcomer is turned away before it is listened to: its address has as many handshakes under way as it may, and all may be honest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many connections of this address have not proved who they are yet")]
pub struct Crowded;

/// See the module's documentation.
#[derive(Debug)]
pub struct Handshakes<T> {
    most: usize,
    most_per_address: usize,
    next: u64,
    open: HashMap<HandshakeId, Handshake<T>>,
    /// Those that have shown that they are at their address.
    located: Crowds<Key>,
    /// Those whose address may be forged.
    claimed: Crowds<Key>,
}

/// The longest silent first.
type Key = (Instant, HandshakeId);

#[derive(Debug)]
struct Handshake<T> {
    group: AddressGroup,
    began: Instant,
    /// Since when nothing has come, or as if; never later than now, since it is compared with others'.
    silent_since: Instant,
    /// Over UDP the steps of a handshake are not seen here.
    shows_steps: bool,
    is_located: bool,
    end: T,
}

impl<T> Handshake<T> {
    fn key(&self, id: HandshakeId) -> Key {
        (self.silent_since, id)
    }
}

/// Whether who comes has shown that it is at its address.
fn is_located(remote: &Multiaddr) -> bool {
    !remote
        .iter()
        .any(|part| matches!(part, Protocol::WebRTCDirect))
}

impl<T> Handshakes<T> {
    /// So long must nothing have come of a handshake for it to give way to another from the same address.
    pub const SILENCE: Duration = Duration::from_millis(250);
    /// So old must one be to do so whatever came of it.
    pub const GRACE: Duration = Duration::from_secs(1);

    /// Room for `most` handshakes, of which `most_per_address` from one address; each at least 1.
    pub fn new(most: usize, most_per_address: usize) -> Self {
        Self {
            most: most.max(1),
            most_per_address: most_per_address.max(1),
            next: 0,
            open: HashMap::new(),
            located: Crowds::new(),
            claimed: Crowds::new(),
        }
    }

    /// Handshakes under way.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// A newcomer from this address: its id, and the end of the handshake that gives way to it, if one has to.
    ///
    /// # Errors
    /// [`Crowded`]: it is to be dropped.
    pub fn enter(
        &mut self,
        remote: &Multiaddr,
        end: T,
        now: Instant,
    ) -> Result<(HandshakeId, Option<T>), Crowded> {
        let (group, is_located) = (AddressGroup::of(remote), is_located(remote));
        let ended = match self.who_gives_way(group, is_located, now)? {
            Some(id) => self.take(id),
            None => None,
        };
        let id = HandshakeId(self.next);
        self.next += 1;
        let handshake = Handshake {
            group,
            began: now,
            silent_since: now,
            shows_steps: remote.iter().any(|part| matches!(part, Protocol::Tcp(_))),
            is_located,
            end,
        };
        self.crowds(is_located).insert(group, handshake.key(id));
        self.open.insert(id, handshake);
        Ok((id, ended))
    }

    /// Something has come of a handshake.
    pub fn goes_on(&mut self, id: HandshakeId, now: Instant) {
        let Some(handshake) = self.open.get_mut(&id) else {
            return;
        };
        // After its grace nothing that comes of it counts.
        let latest = handshake.began + (Self::GRACE - Self::SILENCE);
        let silent_since = now.min(latest).max(handshake.silent_since);
        let (group, before) = (handshake.group, handshake.key(id));
        handshake.silent_since = silent_since;
        let (after, is_located) = (handshake.key(id), handshake.is_located);
        let crowds = self.crowds(is_located);
        crowds.remove(group, &before);
        crowds.insert(group, after);
    }

    /// A handshake is over, or its connection is gone.
    pub fn leave(&mut self, id: HandshakeId) {
        self.take(id);
    }

    fn who_gives_way(
        &self,
        group: AddressGroup,
        is_located: bool,
        now: Instant,
    ) -> Result<Option<HandshakeId>, Crowded> {
        let like = if is_located {
            &self.located
        } else {
            &self.claimed
        };
        let count = like.of(group);
        if count < self.most_per_address {
            let has_place = !is_located || like.len() < self.most - self.most / KEPT;
            if has_place && self.len() < self.most {
                return Ok(None);
            }
            if is_located
                && has_place
                && let Some((_, (_, first))) = self.claimed.first_of_most_crowded()
            {
                return Ok(Some(first));
            }
            if let Some((most, (_, first))) = like.first_of_most_crowded()
                && most > count
            {
                return Ok(Some(first));
            }
        }
        let (_, first) = like.first_of(group).ok_or(Crowded)?;
        let may_be_honest = self.open.get(&first).is_some_and(|handshake| {
            let (since, patience) = if handshake.shows_steps {
                (handshake.silent_since, Self::SILENCE)
            } else {
                (handshake.began, Self::GRACE)
            };
            now.saturating_duration_since(since) < patience
        });
        if may_be_honest {
            return Err(Crowded);
        }
        Ok(Some(first))
    }

    fn take(&mut self, id: HandshakeId) -> Option<T> {
        let taken = self.open.remove(&id)?;
        let key = taken.key(id);
        self.crowds(taken.is_located).remove(taken.group, &key);
        Some(taken.end)
    }

    fn crowds(&mut self, is_located: bool) -> &mut Crowds<Key> {
        if is_located {
            &mut self.located
        } else {
            &mut self.claimed
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::platform::{self, test};
    use proptest::prelude::*;

    fn address(host: u8) -> Multiaddr {
        format!("/ip4/1.2.3.{host}/tcp/1")
            .parse()
            .expect("an address")
    }

    #[test]
    fn silent_sockets_of_one_host_keep_nobody_out() {
        let (mut handshakes, now) = (Handshakes::new(9, 6), platform::now());
        for number in 0..6 {
            let entered = handshakes.enter(&address(1), number, now);
            assert_eq!(entered.expect("room").1, None);
        }
        let crowded = handshakes.enter(&address(1), 6, now);
        assert_eq!(crowded, Err(Crowded), "all of them may be honest");
        let later = now + Handshakes::<u32>::SILENCE;
        let replaced = handshakes.enter(&address(1), 7, later);
        let replaced = replaced.expect("another of this host");
        assert_eq!(replaced.1, Some(0), "the oldest");
        for (host, ended) in [(2, None), (3, None), (4, Some(1)), (5, Some(2))] {
            let entered = handshakes
                .enter(&address(host), 100, now)
                .expect("a newcomer");
            assert_eq!(entered.1, ended, "host {host}");
        }
        assert_eq!(handshakes.len(), 8);
    }

    /// More sockets of one host than there are places for it, each of which comes again 50 ms after it was let go or turned away: who
    /// comes from the same host, speaks within 100 ms and is done within 200 gets in each time.
    #[test]
    fn beside_silent_sockets_of_its_own_host_a_newcomer_gets_in() {
        let (mut handshakes, start) = (Handshakes::new(512, 256), platform::now());
        let mut outside: VecDeque<_> = (0..300).map(|_| start).collect();
        let mut inside = None;
        let (mut came, mut tries) = (0, 0);
        for millis in 1..4000 {
            let now = start + Duration::from_millis(millis);
            let again = now + Duration::from_millis(50);
            match (millis % 200, inside) {
                (25, _) if millis > 1000 => {
                    tries += 1;
                    if let Ok((id, ended)) = handshakes.enter(&address(1), true, now) {
                        inside = Some(id);
                        outside.extend(ended.map(|_| again));
                    }
                }
                (100, Some(id)) => handshakes.goes_on(id, now),
                (175, Some(id)) => {
                    handshakes.leave(id);
                    inside = None;
                    came += 1;
                }
                _ => {}
            }
            let due = outside.partition_point(|at| *at <= now);
            for _ in outside.drain(..due).collect::<Vec<_>>() {
                let ended = handshakes.enter(&address(1), false, now);
                let ended = ended.map_or(Some(false), |(_, ended)| ended);
                assert_ne!(ended, Some(true), "it is not done yet");
                outside.extend(ended.map(|_| again));
            }
        }
        assert_eq!((came, tries), (15, 15));
    }

    #[test]
    fn who_goes_on_stays_until_its_grace_is_over() {
        let (mut handshakes, start) = (Handshakes::new(2, 2), platform::now());
        let steps = |millis| start + Duration::from_millis(millis);
        let (speaks, _) = handshakes.enter(&address(1), 1, start).expect("room");
        handshakes.enter(&address(1), 2, start).expect("room");
        handshakes.goes_on(speaks, steps(200));
        let ended = |handshakes: &mut Handshakes<u32>, millis| {
            let entered = handshakes.enter(&address(1), 3, steps(millis));
            entered.map(|(_, ended)| ended)
        };
        assert_eq!(ended(&mut handshakes, 250), Ok(Some(2)), "the silent one");
        assert_eq!(ended(&mut handshakes, 449), Err(Crowded));
        // However often it says something.
        for millis in [400, 700, 900, 1000] {
            handshakes.goes_on(speaks, steps(millis));
        }
        assert_eq!(ended(&mut handshakes, 999), Ok(Some(3)));
        assert_eq!(ended(&mut handshakes, 1000), Ok(Some(1)));
    }

    #[test]
    fn over_udp_a_handshake_has_its_grace() {
        let quic: Multiaddr = "/ip4/1.2.3.4/udp/5/quic-v1".parse().expect("an address");
        let (mut handshakes, now) = (Handshakes::new(1, 1), platform::now());
        handshakes.enter(&quic, 1, now).expect("room");
        let silent = now + Handshakes::<u32>::SILENCE;
        let crowded = handshakes.enter(&quic, 2, silent);
        assert_eq!(crowded, Err(Crowded));
        let old = now + Handshakes::<u32>::GRACE;
        assert_eq!(
            handshakes.enter(&quic, 3, old).expect("its turn").1,
            Some(1)
        );
    }

    /// WebRTC's first packet says where it comes from, and may lie.
    fn forged(number: u16) -> Multiaddr {
        let [high, low] = number.to_be_bytes();
        format!("/ip4/5.6.{high}.{low}/udp/1/webrtc-direct")
            .parse()
            .expect("an address")
    }

    #[test]
    fn first_packets_from_forged_addresses_push_no_newcomer_out_before_each_other() {
        let (mut handshakes, mut now) = (Handshakes::new(512, 256), platform::now());
        let mut packets = (0..).map(forged);
        let mut flood = |handshakes: &mut Handshakes<bool>, now: &mut Instant, count| {
            for remote in packets.by_ref().take(count) {
                *now += Duration::from_micros(1400);
                let (_, ended) = handshakes.enter(&remote, false, *now).expect("a newcomer");
                assert_ne!(ended, Some(true), "others are forged");
            }
        };
        flood(&mut handshakes, &mut now, 600);
        handshakes.enter(&address(1), true, now).expect("a place");
        flood(&mut handshakes, &mut now, 2000);
        assert_eq!(handshakes.len(), 512);
    }

    /// As behind a reverse proxy, or of an office.
    #[test]
    fn first_packets_from_forged_addresses_push_out_none_of_a_crowded_address() {
        let (mut handshakes, now) = (Handshakes::new(512, 256), platform::now());
        for _ in 0..2 {
            handshakes.enter(&address(1), true, now).expect("room");
        }
        for number in 0..511 {
            let (_, ended) = handshakes
                .enter(&forged(number), false, now)
                .expect("a place, or another's like it");
            assert_ne!(ended, Some(true), "{number}");
        }
        // Who has shown where it is takes their places, but for those that are kept.
        for number in 0..446 {
            let host = 2 + u8::try_from(number / 128).expect("few");
            let (_, ended) = handshakes
                .enter(&address(host), true, now)
                .expect("a place");
            assert_eq!(ended, Some(false), "{number}");
        }
        for number in 600..700 {
            let (_, ended) = handshakes
                .enter(&forged(number), false, now)
                .expect("another's like it");
            assert_eq!(ended, Some(false), "it pushes out nobody else");
        }
    }

    #[test]
    fn silent_sockets_of_two_hosts_keep_nobody_out_who_comes_by_webrtc() {
        let (mut handshakes, mut now) = (Handshakes::new(512, 256), platform::now());
        let silent = |number: u64| address(1 + u8::from(number >= 256));
        for number in 0..512 {
            let _ = handshakes.enter(&silent(number), false, now);
        }
        let (browser, ended) = handshakes.enter(&forged(0), true, now).expect("a place");
        assert_eq!(ended, None, "there is one for it");
        // Nor does it lose it to those that come again, or come from elsewhere.
        for number in 0..2000 {
            now += Duration::from_millis(1);
            let remote = match number % 4 {
                0 => address(3),
                _ => silent(number % 512),
            };
            let ended = handshakes.enter(&remote, false, now);
            assert_ne!(ended.map(|(_, ended)| ended), Ok(Some(true)));
        }
        handshakes.leave(browser);
    }

    #[test]
    fn first_packets_that_name_an_address_lock_it_out_of_no_other_transport() {
        let (mut handshakes, mut now) = (Handshakes::new(512, 256), platform::now());
        let forged = "/ip4/1.2.3.1/udp/5/webrtc-direct"
            .parse()
            .expect("an address");
        let quic: Multiaddr = "/ip4/1.2.3.1/udp/5/quic-v1".parse().expect("an address");
        for _ in 0..256 {
            handshakes.enter(&forged, false, now).expect("room");
        }
        for honest in [address(1), quic].into_iter().cycle().take(100) {
            now += Duration::from_millis(1);
            let (id, ended) = handshakes.enter(&honest, true, now).expect("it is there");
            assert_ne!(ended, Some(true));
            for _ in 0..3 {
                // It has a place of its own, is turned away, or another like it gives way.
                let ended = handshakes
                    .enter(&forged, false, now)
                    .map(|(_, ended)| ended);
                assert_ne!(ended, Ok(Some(true)));
            }
            handshakes.leave(id);
            let _ = handshakes.enter(&forged, false, now);
        }
    }

    #[test]
    fn handshakes_that_are_over_lock_nobody_out() {
        let (mut handshakes, now) = (Handshakes::new(512, 256), platform::now());
        let quic: Multiaddr = "/ip4/1.2.3.1/udp/5/quic-v1".parse().expect("an address");
        for remote in [&quic, &address(1)].into_iter().cycle().take(1000) {
            let (id, _) = handshakes.enter(remote, (), now).expect("room");
            handshakes.goes_on(id, now);
            handshakes.leave(id);
        }
        assert!(handshakes.enter(&address(1), (), now).is_ok());
    }

    #[test]
    fn among_many_addresses_the_oldest_handshake_gives_way() {
        let (mut handshakes, now) = (Handshakes::new(4, 4), platform::now());
        for host in 1..=4 {
            handshakes.enter(&address(host), host, now).expect("room");
        }
        assert_eq!(
            handshakes.enter(&address(9), 9, now).expect("a newcomer").1,
            Some(1)
        );
        assert_eq!(
            handshakes.enter(&address(9), 10, now),
            Err(Crowded),
            "it is as crowded as any"
        );
    }

    #[test]
    fn a_handshake_that_is_over_gives_its_place_back() {
        let (mut handshakes, now) = (Handshakes::new(1, 1), platform::now());
        let (id, _) = handshakes.enter(&address(1), (), now).expect("room");
        handshakes.leave(id);
        handshakes.leave(id);
        assert!(handshakes.is_empty() && handshakes.located.len() == 0);
        assert_eq!(
            handshakes.enter(&address(1), (), now).expect("room").1,
            None
        );
    }

    proptest! {
        /// Whatever one address does, others get in; no limit is passed; who gives way is in the most crowded group.
        #[test]
        fn an_address_crowds_out_only_itself(
            steps in proptest::collection::vec((0u8..6, 0u64..800, 0..4), 1..200),
            most in 2usize..12,
            per_address in 1usize..12,
        ) {
            let mut handshakes = Handshakes::new(most, per_address);
            let (mut now, mut open) = (platform::now(), Vec::new());
            for (host, milliseconds, step) in steps {
                now += Duration::from_millis(milliseconds);
                let size = |handshakes: &Handshakes<u8>, host| {
                    handshakes.located.of(AddressGroup::of(&address(host)))
                };
                let before: Vec<_> = (0..6).map(|host| size(&handshakes, host)).collect();
                let crowd = before.iter().copied().max().unwrap_or_default();
                match handshakes.enter(&address(host), host, now) {
                    Ok((id, ended)) => {
                        open.push(id);
                        if let Some(ended) = ended.filter(|ended| *ended != host) {
                            prop_assert_eq!(before[usize::from(ended)], crowd);
                        }
                    }
                    Err(Crowded) => {
                        let own = before[usize::from(host)];
                        prop_assert!(own == crowd || own == per_address, "a newcomer from a less crowded address");
                    }
                }
                match step {
                    0 | 1 if !open.is_empty() => handshakes.leave(open.remove(0)),
                    2 => open.last().into_iter().for_each(|id| handshakes.goes_on(*id, now)),
                    _ => {}
                }
                prop_assert!(handshakes.len() <= most);
                prop_assert!((0..6).all(|host| size(&handshakes, host) <= per_address));
                prop_assert_eq!(handshakes.located.len(), handshakes.len());
            }
        }
    }
}
