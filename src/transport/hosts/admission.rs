//! How fast handshakes by WebRTC begin, and whose.
//!
//! A first packet costs whoever sends it nothing, and may name anybody's address; here it makes a connection's tasks. So there is a pace, and what is
//! over it is dropped where it comes in, before it takes a place from a handshake that is under way. Newcomers are not just outnumbered:
//!
//! - An address has its [`SHARE`] of it. So packets that name their sender's own address take a fifth, and the rest is there for others.
//! - A quarter of it is kept for addresses of which a handshake has come up lately ([`HERE`]), a tenth of that for each: what was forged never does. So
//!   who was here before gets in beside a flood that names ever new addresses, or some of those that were here, but its own. Who was not is let
//!   in as far as the flood leaves the others' part ([`OPEN`]). A flood that names an address uses up its share, against which there is no means here.
//!
//! Bounds: the paces of twice [`MOST`] addresses, and the names of as many.

use std::collections::HashMap;

use libp2p::Multiaddr;

use crate::{
    keyed::Keyed,
    peers::AddressGroup,
    platform::Instant,
    remembered::Remembered,
    traffic::{Pace, Rate},
};

/// How fast handshakes of anybody begin.
pub(super) const OPEN: Rate = Rate {
    per_second: 30,
    burst: 384,
};
/// The same of those whose address is known, beside that.
pub(super) const HERE: Rate = Rate {
    per_second: 10,
    burst: 128,
};
/// The same of one address.
const SHARE: Rate = Rate {
    per_second: 8,
    burst: 96,
};
/// Of what is kept for those that are known, the part of one: a flood that names some of them keeps out none of the others.
const HERE_SHARE: Rate = Rate {
    per_second: 1,
    burst: 12,
};
/// So many addresses are remembered, at the paces above for much longer than one takes to have all of its share again.
const MOST: usize = 2048;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Admission {
    open: Pace,
    here: Pace,
    /// What addresses have of their shares, of all and of what is kept: those of late, and those before.
    shares: [HashMap<AddressGroup, [Pace; 2]>; 2],
    known: Remembered<AddressGroup>,
}

impl Admission {
    /// Nobody was here before. `seed` is random and secret.
    pub(super) fn new(seed: &[u8; 16]) -> Self {
        Self {
            open: Pace::new(OPEN),
            here: Pace::new(HERE),
            shares: Default::default(),
            known: Remembered::new(2 * MOST, Keyed::new(seed)),
        }
    }

    /// Whether a handshake may begin now whose first packet names this address.
    pub(super) fn admits(&mut self, remote: &Multiaddr, now: Instant) -> bool {
        let group = AddressGroup::of(remote);
        let share = self.shares.iter().find_map(|shares| shares.get(&group));
        let new = || [SHARE, HERE_SHARE].map(Pace::new);
        let [mut of_all, mut of_here] = share.copied().unwrap_or_else(new);
        let is_known = self.known.contains(&group);
        let mut is_kept = |now| of_here.admits(1, now) && self.here.admits(1, now);
        let admitted =
            of_all.admits(1, now) && (self.open.admits(1, now) || is_known && is_kept(now));
        if admitted {
            let [late, before] = &mut self.shares;
            if late.len() >= MOST {
                *before = std::mem::take(late);
            }
            late.insert(group, [of_all, of_here]);
        }
        admitted
    }

    /// A handshake from this address has come up.
    pub(super) fn came_up(&mut self, group: AddressGroup) {
        self.known.insert(group);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::platform;

    fn address(number: u32) -> Multiaddr {
        let ip = std::net::Ipv4Addr::from(0x0800_0000 + number);
        format!("/ip4/{ip}/udp/1/webrtc-direct")
            .parse()
            .expect("an address")
    }

    #[test]
    fn a_flood_that_names_its_own_address_leaves_others_their_turns() {
        let (mut admission, mut now) = (Admission::new(&[1; 16]), platform::now());
        let (mut flood, mut others) = (0, 0);
        for round in 0..100 {
            flood += (0..1000)
                .filter(|_| admission.admits(&address(0), now))
                .count() as u64;
            // Nobody has been here before.
            others += u64::from(admission.admits(&address(1 + round), now));
            now += Duration::from_millis(100);
        }
        assert_eq!(others, 100, "all of them");
        assert!(flood <= SHARE.burst + 10 * SHARE.per_second, "{flood}");
    }

    #[test]
    fn who_was_here_gets_in_beside_a_flood_that_names_others_who_were() {
        let (mut admission, mut now) = (Admission::new(&[1; 16]), platform::now());
        for known in 0..10 {
            assert!(admission.admits(&address(known), now));
            admission.came_up(AddressGroup::of(&address(known)));
        }
        for round in 0..300 {
            for number in 0..1000 {
                admission.admits(&address((1 << 20) + round * 1000 + number), now);
                admission.admits(&address(number % 5), now);
            }
            // Each of the others once in 2.5 s.
            if round % 5 == 0 {
                let other = 5 + round / 5 % 5;
                assert!(admission.admits(&address(other), now), "{round}");
            }
            now += Duration::from_millis(100);
        }
    }

    #[test]
    fn who_was_here_gets_in_beside_a_flood_from_forged_addresses() {
        let (mut admission, mut now) = (Admission::new(&[1; 16]), platform::now());
        let (mut number, mut flood) = (0, 0);
        for known in 0..20 {
            assert!(admission.admits(&address(known), now));
            admission.came_up(AddressGroup::of(&address(known)));
        }
        for round in 0..100 {
            flood += (0..1000)
                .filter(|_| {
                    number += 1;
                    admission.admits(&address((1 << 20) + number), now)
                })
                .count() as u64;
            assert!(admission.admits(&address(round % 20), now), "{round}");
            now += Duration::from_millis(100);
        }
        assert!(flood <= OPEN.burst + 10 * OPEN.per_second, "{flood}");
        let shares: usize = admission.shares.iter().map(HashMap::len).sum();
        assert!(shares <= 2 * MOST);
    }
}
