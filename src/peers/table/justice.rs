//! What misdeeds and the user's bans lead to: scores, bans, and who is let go.
//!
//! A connection is at the address that it came from, or that was dialled; where a name was dialled, natively at the one to which that led
//! ([`Table::located`]). In a browser, and behind a relay, where a peer is is not known, and no ban of its network reaches it.

use std::collections::HashSet;

use super::*;
use crate::peers::{Banned, Judgement, Scope};

impl Table {
    /// It did wrong: the score, and what follows from it.
    pub fn misdeed(&mut self, id: PeerId, misdeed: Misdeed, now: Instant) {
        let (score, judgement) = self.reputation.note(id, misdeed, now);
        let reason = misdeed.reason();
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.info.reputation = score;
        }
        self.actions.push_back(Action::Scored(id, reason, score));
        match judgement {
            Judgement::Stay => {}
            Judgement::Disconnect => {
                self.let_go(id, format!("its reputation is used up: {reason}"));
            }
            Judgement::Ban => {
                let newest = self.addresses(&id).last();
                let public = newest.filter(|ip| Scope::of_ip(*ip) == Some(Scope::Public));
                self.bans.convict(id, public, now);
                let words = if self.bans.holds(&id, now) {
                    "it is banned"
                } else {
                    "its reputation is used up, and there is no room for a ban beside the user's (security.blacklist_config.max_bans)"
                };
                self.let_go(id, format!("{words}: {reason}"));
            }
        }
    }

    /// What peers did.
    pub fn reputation(&self) -> &Reputation {
        &self.reputation
    }

    /// Who is kept out.
    pub fn bans(&self) -> &Bans {
        &self.bans
    }

    /// The same, to restore some.
    pub fn bans_mut(&mut self) -> &mut Bans {
        &mut self.bans
    }

    /// The user keeps a peer or a network out, for so long or as long as is usual, and lets go whoever is there with any of its connections. A network
    /// takes a look at each peer.
    pub fn ban(&mut self, who: Banned, duration: Option<Duration>, now: Instant) {
        self.bans.ban(who, duration, now);
        match who {
            Banned::Peer(id) => self.let_go(id, "it is banned by this node's user".to_owned()),
            Banned::Network(net) => {
                let is_there = |peer: &Peer| peer.addresses().any(|ip| net.contains(&ip));
                let there = self.peers.iter().filter(|(_, peer)| is_there(peer));
                for id in there.map(|(id, _)| *id).collect::<Vec<_>>() {
                    let reason = "its network is banned by this node's user";
                    self.let_go(id, reason.to_owned());
                }
            }
        }
    }

    /// The user keeps these peers out for ever, in place of those before, and lets go who of them is there.
    pub fn blacklist(&mut self, peers: HashSet<PeerId>) {
        for id in &peers {
            self.let_go(*id, "it is banned by this node's user".to_owned());
        }
        self.bans.always(peers);
    }

    /// Lets somebody in again, a peer with its score as far forgiven as it has to be for that; false where it was not kept out for a while.
    pub fn unban(&mut self, who: &Banned, now: Instant) -> bool {
        let was_banned = self.bans.lift(who);
        if let Banned::Peer(id) = who
            && was_banned
        {
            let score = self.reputation.forgive(*id, now);
            if let Some(peer) = self.peers.get_mut(id) {
                peer.info.reputation = score;
            }
        }
        was_banned
    }

    /// What keeps a peer out now that is connected at its addresses, or would come from one of these: itself, and networks around them.
    pub fn kept_out_by(
        &self,
        id: &PeerId,
        known: impl IntoIterator<Item = IpAddr>,
        now: Instant,
    ) -> BTreeSet<Banned> {
        let itself = self.bans.holds(id, now).then_some(Banned::Peer(*id));
        let addresses = self.addresses(id).chain(known);
        let networks = addresses.flat_map(|ip| self.bans.around(ip, now));
        // One after the other: `collect` sorts, by code of its own.
        let mut all = BTreeSet::new();
        all.extend(itself);
        all.extend(networks.map(|(who, _)| who));
        all
    }

    /// Where a peer is, by each of its connections, the newest last.
    fn addresses(&self, id: &PeerId) -> impl Iterator<Item = IpAddr> {
        let peer = self.peers.get(id).into_iter();
        peer.flat_map(|peer| peer.addresses())
    }
}
