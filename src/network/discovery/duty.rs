//! Those whom the application needs at a time: what [`Duties`](crate::peers::Duties) says is done here.
//!
//! A committee's addresses are those that its members registered, each of which may be anybody's: so they pass the address policy, and only the user's own words and where a
//! peer was reached before do not.

use std::time::Duration;

use libp2p::{PeerId, Swarm};

use super::Discovery;
use crate::{
    config::modern,
    network::{behaviour::Behaviour, guarded::Guarded},
    peers::{Due, DutyError, PeerInfo, Relieved},
    platform::Instant,
};

/// Why a peer is let go that was dialled for a duty.
const RELIEVED: &str = "its duty is over, and this node has the peers that it wants";

impl Discovery {
    /// The application needs peers for a time.
    pub(crate) fn expects(
        &mut self,
        swarm: &mut Swarm<Guarded<Behaviour>>,
        peers: &[PeerInfo],
        (begins_in, lasts): (Duration, Duration),
        now: Instant,
    ) -> Result<(), DutyError> {
        let named = peers.iter().map(|peer| Due {
            peer: peer.peer_id,
            addresses: peer
                .dial_addresses()
                .map(|address| modern(&address))
                .collect(),
        });
        self.duties.expect(named, begins_in, lasts, now)?;
        for peer in peers {
            self.dialing.wanted(&peer.peer_id, now);
        }
        self.see_to_duties(swarm, now);
        Ok(())
    }

    /// Relieves those whose duty is over, and dials those of the others that are not here: with the wanted ones not into the last place, which is for who comes.
    pub(super) fn see_to_duties(&mut self, swarm: &mut Swarm<Guarded<Behaviour>>, now: Instant) {
        for relieved in self.duties.end(now) {
            self.relieve(swarm, relieved);
        }
        let begin = self.duties.begin(now);
        let mut peers = self.shared.peers();
        for peer in begin {
            peers.is_on_duty(peer, true);
        }
        let is_here = |peer: &PeerId| {
            peers.stage(peer).is_some()
                || self.dialing.is_dialling(peer)
                || self.from_book.is_dialling(peer)
                || self.dialing.is_dismissed(peer)
        };
        let ours = peers.outbound() + self.dialling() + usize::from(self.keeps_one);
        let room = self.places.saturating_sub(ours);
        let due = self.duties.due(room, is_here, now);
        drop(peers);
        for due in &due {
            self.dialing.dials(&due.peer);
        }
        self.dial_them(swarm, due, now);
    }

    /// A peer's duty is over. Who is here for that alone is let go, where there are as many others as are wanted, and who is only being dialled for it, is not any more.
    fn relieve(&self, swarm: &mut Swarm<Guarded<Behaviour>>, relieved: Relieved) {
        let peer = relieved.peer;
        let mut peers = self.shared.peers();
        peers.is_on_duty(peer, false);
        let is_surplus = peers.outbound() > self.wanted;
        let is_others = peers.keeps_place(&peer) || self.dialing.knows(&peer);
        if relieved.dialled && is_surplus && !is_others {
            peers.let_go(peer, RELIEVED.to_owned());
        }
        drop(peers);
        if relieved.dialling {
            self.abort_unwanted(swarm, peer);
        }
    }
}
