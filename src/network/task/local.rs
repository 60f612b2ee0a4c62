//! Peers found on the local network.

use super::*;
use crate::peers::{Heard, Neighbour};

impl Task {
    /// Somebody on the local network says that a peer is there. No more than a word: what may be dialled of it is up to the address policy.
    pub(super) fn on_neighbour(&mut self, mut neighbour: Neighbour) {
        let now = platform::now();
        let gate = &self.swarm.behaviour().gate;
        neighbour.addresses = gate.learnt_near(&neighbour);
        if neighbour.addresses.is_empty() {
            return;
        }
        let info = PeerInfo {
            addresses: neighbour.addresses.clone(),
            ..PeerInfo::new(neighbour.peer)
        };
        let host = neighbour.host;
        let heard = self.shared.state().local.heard(neighbour, now);
        if heard == Heard::LeftOut {
            return;
        }
        let gate = &self.swarm.behaviour().gate;
        gate.keeps_near(host, &info.addresses);
        if let Heard::New(Some(gave_way)) = heard {
            self.discovery.left(&gave_way);
        }
        self.discovery.found(&mut self.swarm, &info, now);
        if heard != Heard::Again {
            self.shared.emit(NetworkEvent::PeersDiscovered(vec![info]));
        }
    }

    /// Asks the local network who is there.
    pub(super) fn ask_neighbours(&self) {
        transport::ask_neighbours(&self.swarm.behaviour().local);
    }
}
