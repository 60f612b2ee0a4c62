//! Bans: who is kept out until when, peers and whole networks.
//!
//! Identities are free, so a ban of one peer costs its owner nothing; addresses are not. Where [`CROWD`]`.0` peers of one public address (of IPv6 the first
//! 64 bits) are banned for misdeeds at one time, further ones are not let in from there for [`SHORT`]; where [`CROWD`]`.1` such addresses of one network
//! (/16, of IPv6 /32) are, none from that network. Honest ones may share an address, behind a provider's NAT, or a network: so it is short, who
//! is connected stays, and this node goes on dialling there. What the user bans has neither exception.
//!
//! Bounds: `max_bans` for a while; of more, the one that ends first of those for misdeeds is dropped. Where all are the user's, a new one of the user's takes the
//! place of the one that ends first, and one for a misdeed is not kept: who did it is disconnected, and its score stays. To look an address up costs as many steps as it has bits.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt,
    net::IpAddr,
    str::FromStr,
    time::Duration,
};

use ipnet::IpNet;
use libp2p::PeerId;

use crate::{
    order,
    platform::{Instant, SystemTime},
};

/// The longest ban for a while.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);
/// So many banned peers of an address, and so many banned addresses of a network, have that banned.
const CROWD: (usize, usize) = (3, 4);
/// For how long.
const SHORT: Duration = Duration::from_secs(600);

/// Who may be banned: one peer, or all at an address or in a network. Reads from a peer's id, `203.0.113.7`, or `203.0.113.0/24`. IPv4 that is written as IPv6
/// (`::ffff:203.0.113.7`) is taken for what it is, since no connection has such an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Banned {
    /// Whatever its address.
    Peer(PeerId),
    /// Whoever comes from there, or is there.
    Network(IpNet),
}

impl fmt::Display for Banned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(peer) => peer.fmt(f),
            Self::Network(net) if net.prefix_len() == net.max_prefix_len() => net.addr().fmt(f),
            Self::Network(net) => net.fmt(f),
        }
    }
}

/// A text names nobody who could be banned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is no peer's id, no address and no network; write 12D3KooW…, 203.0.113.7 or 203.0.113.0/24"
)]
pub struct BannedError(String);

impl FromStr for Banned {
    type Err = BannedError;

    fn from_str(text: &str) -> Result<Self, BannedError> {
        if let Ok(net) = text.parse::<IpNet>() {
            Ok(net.into())
        } else if let Ok(ip) = text.parse::<IpAddr>() {
            Ok(IpNet::from(ip).into())
        } else {
            let peer = text.parse::<PeerId>();
            peer.map(Self::Peer)
                .map_err(|_| BannedError(text.to_owned()))
        }
    }
}

impl From<PeerId> for Banned {
    fn from(peer: PeerId) -> Self {
        Self::Peer(peer)
    }
}

impl From<IpNet> for Banned {
    fn from(net: IpNet) -> Self {
        Self::Network(unmapped(net).trunc())
    }
}

/// The network of IPv4 that one of IPv6 stands for (RFC 4291, 2.5.5.2); any other as it is.
fn unmapped(net: IpNet) -> IpNet {
    /// The bits before IPv4's.
    const PREFIX: u8 = 96;
    let mapped = match net {
        IpNet::V6(net) => net.addr().to_ipv4_mapped(),
        IpNet::V4(_) => None,
    };
    mapped
        .zip(net.prefix_len().checked_sub(PREFIX))
        .and_then(|(ip, bits)| IpNet::new(ip.into(), bits).ok())
        .unwrap_or(net)
}

/// A ban.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ban {
    /// Who is kept out.
    pub who: Banned,
    /// Until when, by the host's date as it is now; `None`: for ever, by `security.blacklist_config.peers`.
    pub until: Option<SystemTime>,
    /// Whether the user wants it so, and not what was done.
    pub by_user: bool,
}

/// A ban for a while, as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Who is kept out.
    pub who: Banned,
    /// For how long still.
    pub left: Duration,
    /// Whether the user wants it so.
    pub by_user: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Bans {
    always: HashSet<PeerId>,
    until: BTreeMap<Banned, Until>,
    /// The same, the one that ends first in front: those for misdeeds, and the user's.
    ends: [BTreeSet<(Instant, Banned)>; 2],
    /// How many of those that are banned for misdeeds are in a network.
    crowds: BTreeMap<IpNet, usize>,
    duration: Duration,
    max_bans: usize,
}

#[derive(Clone, Copy, Debug)]
struct Until {
    end: Instant,
    by_user: bool,
    /// In which network it is counted.
    within: Option<IpNet>,
    /// Whether it was let in once to hear of it.
    told: bool,
}

impl Bans {
    /// Keeps `always` out; other bans last `duration`.
    pub fn new(always: HashSet<PeerId>, duration: Duration, max_bans: usize) -> Self {
        Self {
            always,
            until: BTreeMap::new(),
            ends: Default::default(),
            crowds: BTreeMap::new(),
            duration,
            max_bans,
        }
    }

    /// Keeps a peer out from now on for its misdeeds, for as long as is usual; and, where it was one of several from there, others of its public address.
    pub fn convict(&mut self, peer: PeerId, address: Option<IpAddr>, now: Instant) {
        let Some(ip) = address else {
            return self.put(peer.into(), self.duration, None, false, now);
        };
        let (host, network) = match ip {
            IpAddr::V4(_) => (32, 16),
            IpAddr::V6(_) => (64, 32),
        };
        let [host, network] = [host, network].map(|bits| around(ip, bits));
        self.put(peer.into(), self.duration, host, false, now);
        if self.crowd(host) >= CROWD.0 {
            self.put_network(host, network, now);
            if self.crowd(network) >= CROWD.1 {
                self.put_network(network, None, now);
            }
        }
    }

    /// The user keeps somebody out from now on, for so long, ten years at most, or as long as is usual.
    pub fn ban(&mut self, who: Banned, duration: Option<Duration>, now: Instant) {
        self.put(who, duration.unwrap_or(self.duration), None, true, now);
    }

    /// Keeps these peers out for ever from now on, and none of those before.
    pub fn always(&mut self, peers: HashSet<PeerId>) {
        self.always = peers;
    }

    /// Puts a ban back that was kept.
    pub fn restore(&mut self, kept: Kept, now: Instant) {
        self.put(kept.who, kept.left, None, kept.by_user, now);
    }

    fn put_network(&mut self, net: Option<IpNet>, within: Option<IpNet>, now: Instant) {
        // The user's own ban of it stays as it is.
        let who = net.map(Banned::from);
        if let Some(who) = who
            && !self.until.get(&who).is_some_and(|until| until.by_user)
        {
            self.put(who, SHORT, within, false, now);
        }
    }

    fn put(
        &mut self,
        who: Banned,
        duration: Duration,
        within: Option<IpNet>,
        by_user: bool,
        now: Instant,
    ) {
        let before = self.until.get(&who).copied();
        self.lift(&who);
        let over =
            |ends: &BTreeSet<(Instant, Banned)>| ends.first().is_some_and(|(end, _)| *end <= now);
        while self.until.len() >= self.max_bans || self.ends.iter().any(over) {
            let firsts = self.ends.iter().filter_map(BTreeSet::first);
            let Some((end, first)) = firsts.min_by_key(|(end, _)| *end > now).copied() else {
                break;
            };
            let is_users = self.ends[1].contains(&(end, first));
            if is_users && end > now && !by_user {
                return;
            }
            self.lift(&first);
        }
        let mut until = Until {
            end: now + duration.min(LONGEST),
            by_user,
            within,
            told: false,
        };
        // What comes to light later weakens no ban that is there: not the user's, nor its end, nor where it is counted.
        if let Some(before) = before.filter(|before| !by_user && before.end > now) {
            until = Until {
                end: until.end.max(before.end),
                within: within.or(before.within),
                ..before
            };
        }
        self.until.insert(who, until);
        self.ends[usize::from(until.by_user)].insert((until.end, who));
        if let Some(net) = until.within {
            *self.crowds.entry(net).or_default() += 1;
        }
    }

    fn crowd(&self, net: Option<IpNet>) -> usize {
        net.and_then(|net| self.crowds.get(&net).copied())
            .unwrap_or_default()
    }

    /// Lets somebody in again. False where it was not kept out for a while; one that is so for ever stays.
    pub fn lift(&mut self, who: &Banned) -> bool {
        let Some(until) = self.until.remove(who) else {
            return false;
        };
        if let Some(net) = until.within
            && let Some(count) = self.crowds.get_mut(&net)
        {
            *count -= 1;
            if *count == 0 {
                self.crowds.remove(&net);
            }
        }
        self.ends[usize::from(until.by_user)].remove(&(until.end, *who))
    }

    /// Who is kept out now for a while; the one that ends first in front.
    pub fn for_a_while(&self, now: Instant) -> impl Iterator<Item = Kept> {
        let kept = |by_user: bool| {
            let ends = self.ends[usize::from(by_user)].iter();
            ends.map(move |(end, who)| Kept {
                who: *who,
                left: end.saturating_duration_since(now),
                by_user,
            })
        };
        let mut bans: Vec<_> = kept(false).chain(kept(true)).collect();
        order::sort_by_key(&mut bans, |kept| (kept.left, kept.who));
        bans.into_iter().filter(|kept| !kept.left.is_zero())
    }

    /// All who are kept out now, those for ever first.
    pub fn all(&self, now: Instant, date: SystemTime) -> Vec<Ban> {
        let mut always: Vec<_> = self.always.iter().copied().collect();
        order::sort(&mut always);
        let always = always.into_iter().map(|peer| Ban {
            who: peer.into(),
            until: None,
            by_user: true,
        });
        let others = self.for_a_while(now).map(|kept| Ban {
            who: kept.who,
            until: Some(date.checked_add(kept.left).unwrap_or(date)),
            by_user: kept.by_user,
        });
        always.chain(others).collect()
    }

    /// Whether a peer is kept out now.
    pub fn holds(&self, peer: &PeerId, now: Instant) -> bool {
        let until = self.until.get(&Banned::Peer(*peer));
        self.always.contains(peer) || until.is_some_and(|until| until.end > now)
    }

    /// How long a peer is kept out still, if it is so for a while.
    pub fn left(&self, peer: &PeerId, now: Instant) -> Option<Duration> {
        let until = self.until.get(&Banned::Peer(*peer))?;
        Some(until.end.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    /// Whether a peer that is kept out for a while may come once more to hear of it, which it may once a ban.
    pub fn tells(&mut self, peer: &PeerId) -> bool {
        let until = self.until.get_mut(&Banned::Peer(*peer));
        until.is_some_and(|until| !std::mem::replace(&mut until.told, true))
    }

    /// Whether who is at this address is kept out now. `comes`: by itself; where it does not, only the user's bans count.
    pub fn holds_address(&self, ip: IpAddr, comes: bool, now: Instant) -> bool {
        let mut around = self.around(ip, now);
        around.any(|(_, by_user)| comes || by_user)
    }

    /// The networks around an address that are kept out now, and whether the user wants it so.
    pub fn around(&self, ip: IpAddr, now: Instant) -> impl Iterator<Item = (Banned, bool)> {
        // Networks stand behind peers.
        let any = matches!(self.until.last_key_value(), Some((Banned::Network(_), _)));
        let around = std::iter::successors(any.then(|| IpNet::from(ip)), IpNet::supernet);
        around.filter_map(move |net| {
            let until = self.until.get(&Banned::Network(net))?;
            (until.end > now).then_some((Banned::Network(net), until.by_user))
        })
    }
}

/// The network of so many bits around an address.
fn around(ip: IpAddr, bits: u8) -> Option<IpNet> {
    IpNet::new(ip, bits).ok().map(|net| net.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::{self, test};

    const MINUTE: Duration = Duration::from_secs(60);

    fn bans(always: &[PeerId], most: usize) -> (Bans, Instant) {
        let always = always.iter().copied().collect();
        (Bans::new(always, MINUTE * 60, most), platform::now())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_new_blacklist_takes_the_place_of_the_old_one_and_of_no_ban_for_a_while() {
        let [old, new, banned] = [(); 3].map(|()| PeerId::random());
        let (mut bans, now) = bans(&[old], 100);
        bans.ban(banned.into(), None, now);
        bans.always([new].into());
        let held = [old, new, banned].map(|peer| bans.holds(&peer, now));
        assert_eq!(held, [false, true, true]);
        bans.always(HashSet::new());
        assert!(!bans.holds(&new, now) && bans.holds(&banned, now));
    }

    #[test]
    fn what_comes_to_light_later_weakens_no_ban() {
        let (mut bans, now) = bans(&[], 100);
        let peer = PeerId::random();
        bans.ban(peer.into(), Some(MINUTE * 600), now);
        assert!(bans.tells(&peer) && !bans.tells(&peer), "once");
        bans.convict(peer, None, now);
        let kept: Vec<_> = bans.for_a_while(now).collect();
        assert_eq!((kept[0].left, kept[0].by_user), (MINUTE * 600, true));
        assert!(!bans.tells(&peer), "it was told");
        // Nor is one counted no longer where its peer is gone when the next verdict comes.
        let (host, others) = (ip("198.51.100.7"), [PeerId::random(), PeerId::random()]);
        for other in others {
            bans.convict(other, Some(host), now);
            bans.convict(other, None, now);
        }
        assert!(!bans.holds_address(host, true, now));
        bans.convict(PeerId::random(), Some(host), now);
        assert!(bans.holds_address(host, true, now));
    }

    #[test]
    fn a_ban_ends_and_the_table_is_bounded() {
        let for_ever = PeerId::random();
        let (mut bans, now) = bans(&[for_ever], 2);
        let peers = [PeerId::random(), PeerId::random(), PeerId::random()];
        for (seconds, peer) in (0..).zip(peers) {
            let now = now + Duration::from_secs(seconds);
            bans.ban(peer.into(), Some(MINUTE), now);
        }
        assert!(!bans.holds(&peers[0], now), "the first to end made room");
        assert!(bans.holds(&peers[1], now) && bans.holds(&peers[2], now));
        assert!(!bans.holds(&peers[1], now + MINUTE * 2));
        assert!(bans.holds(&for_ever, now + MINUTE * 1000));
        bans.ban(peers[2].into(), Some(MINUTE), now + MINUTE);
        assert!(bans.holds(&peers[2], now + MINUTE * 3 / 2), "it is longer");
        let ends: usize = bans.ends.iter().map(BTreeSet::len).sum();
        assert!(bans.until.len() <= 2 && ends == bans.until.len());
    }

    #[test]
    fn bans_for_misdeeds_push_out_none_of_the_users() {
        let (mut bans, now) = bans(&[], 2);
        let [wanted, other, third] = [(); 3].map(|()| PeerId::random());
        bans.ban(wanted.into(), Some(MINUTE), now);
        for peer in [other, third] {
            bans.convict(peer, None, now);
        }
        assert!(bans.holds(&wanted, now) && bans.holds(&third, now));
        assert!(!bans.holds(&other, now), "it made room");
        // Whatever has ended goes first.
        let later = now + MINUTE * 2;
        bans.convict(other, None, later);
        assert!(bans.holds(&other, later) && bans.holds(&third, later));
    }

    #[test]
    fn where_all_bans_are_the_users_one_for_a_misdeed_is_not_kept() {
        let (mut bans, now) = bans(&[], 2);
        let [first, second, third, other] = [(); 4].map(|()| PeerId::random());
        bans.ban(first.into(), Some(MINUTE), now);
        bans.ban(second.into(), Some(MINUTE * 2), now);
        bans.convict(other, Some(ip("1.2.3.4")), now);
        bans.restore(
            Kept {
                who: other.into(),
                left: MINUTE * 600,
                by_user: false,
            },
            now,
        );
        assert!(bans.holds(&first, now) && bans.holds(&second, now));
        assert!(!bans.holds(&other, now) && bans.crowds.is_empty());
        // One of those lengthened by a misdeed is there still, and the user may have another.
        bans.convict(first, None, now);
        assert!(bans.holds(&first, now + MINUTE * 30));
        bans.ban(third.into(), None, now);
        assert!(bans.holds(&third, now) && !bans.holds(&second, now));
        // Room is made by what has ended.
        let later = now + MINUTE * 61;
        bans.convict(other, None, later);
        assert!(bans.holds(&other, later));
    }

    #[test]
    fn bans_are_listed_and_lifted() {
        let date = SystemTime::UNIX_EPOCH;
        let [for_ever, first, second] = [(); 3].map(|()| PeerId::random());
        let (mut bans, now) = bans(&[for_ever], 9);
        bans.ban(second.into(), Some(Duration::MAX), now);
        bans.convict(first, None, now);
        let ban = |who: PeerId, until, by_user| Ban {
            who: who.into(),
            until,
            by_user,
        };
        let all = [
            ban(for_ever, None, true),
            ban(first, Some(date + MINUTE * 60), false),
            ban(second, Some(date + LONGEST), true),
        ];
        assert_eq!(bans.all(now, date), all);
        let later: Vec<_> = bans.for_a_while(now + MINUTE * 60).collect();
        let kept = Kept {
            who: second.into(),
            left: LONGEST - MINUTE * 60,
            by_user: true,
        };
        assert_eq!(later, [kept]);
        assert!(bans.lift(&second.into()) && !bans.holds(&second, now));
        assert!(!bans.lift(&second.into()) && !bans.lift(&for_ever.into()));
        assert!(bans.holds(&for_ever, now));
        let ends: usize = bans.ends.iter().map(BTreeSet::len).sum();
        assert_eq!((bans.until.len(), ends), (1, 1));
    }

    #[test]
    fn who_comes_from_where_several_were_banned_waits_a_short_while() {
        let (mut bans, now) = bans(&[], 100);
        let one = ip("1.2.3.4");
        let convict = |bans: &mut Bans, ip, times| {
            for _ in 0..times {
                bans.convict(PeerId::random(), Some(ip), now);
            }
        };
        convict(&mut bans, one, CROWD.0 - 1);
        assert!(!bans.holds_address(one, true, now), "it may be anybody");
        convict(&mut bans, one, 1);
        assert!(bans.holds_address(one, true, now));
        assert!(!bans.holds_address(one, false, now), "it is still dialled");
        assert!(!bans.holds_address(ip("1.2.3.5"), true, now));
        assert!(!bans.holds_address(one, true, now + SHORT));
        for host in 5..4 + CROWD.1 {
            convict(&mut bans, ip(&format!("1.2.3.{host}")), CROWD.0);
        }
        let other = ip("1.2.200.1");
        assert!(
            bans.holds_address(other, true, now),
            "its network is full of them"
        );
        assert!(!bans.holds_address(ip("1.3.0.1"), true, now));
        assert!(!bans.holds_address(other, true, now + SHORT));
        // What has ended counts no more.
        let later = now + MINUTE * 61;
        bans.convict(PeerId::random(), Some(one), later);
        assert!(!bans.holds_address(one, true, later));
        assert_eq!(bans.crowds.len(), 1);
        // One that is let in again neither.
        let who: Vec<_> = bans.until.keys().copied().collect();
        assert!(who.iter().all(|who| bans.lift(who)) && bans.crowds.is_empty());
    }

    #[test]
    fn households_of_ipv6_are_one_address() {
        let (mut bans, now) = bans(&[], 100);
        for host in 0..CROWD.0 {
            let address = ip(&format!("2606:4700:1:2::{host:x}"));
            bans.convict(PeerId::random(), Some(address), now);
        }
        assert!(bans.holds_address(ip("2606:4700:1:2:ffff::"), true, now));
        assert!(!bans.holds_address(ip("2606:4700:1:3::"), true, now));
    }

    #[test]
    fn the_user_bans_networks_both_ways_and_no_misdeed_shortens_that() {
        let (mut bans, now) = bans(&[], 100);
        let net: Banned = "1.2.3.4".parse().expect("an address");
        bans.ban(net, Some(MINUTE * 30), now);
        for _ in 0..CROWD.0 {
            bans.convict(PeerId::random(), Some(ip("1.2.3.4")), now);
        }
        let later = now + MINUTE * 20;
        assert!(bans.holds_address(ip("1.2.3.4"), true, later));
        assert!(bans.holds_address(ip("1.2.3.4"), false, later));
        let all: Banned = "0.0.0.0/0".parse().expect("a network");
        bans.ban(all, None, now);
        assert!(bans.holds_address(ip("9.9.9.9"), false, now));
        assert!(!bans.holds_address(ip("::1"), false, now));
    }

    #[test]
    fn who_is_banned_reads_as_it_shows() {
        let peer = PeerId::random().to_string();
        for (text, shows) in [
            (&*peer, &*peer),
            ("203.0.113.7", "203.0.113.7"),
            ("203.0.113.7/32", "203.0.113.7"),
            ("203.0.113.7/24", "203.0.113.0/24"),
            ("2001:db8::7/32", "2001:db8::/32"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("::ffff:203.0.113.7/120", "203.0.113.0/24"),
            ("::ffff:203.0.113.7/64", "::/64"),
        ] {
            let banned: Banned = text.parse().expect("it may be banned");
            assert_eq!(banned.to_string(), shows);
        }
        let error = "203.0.113".parse::<Banned>().expect_err("it names nobody");
        assert!(error.to_string().contains("203.0.113.0/24"), "{error}");
    }
}
