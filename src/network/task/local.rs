//! Peers found on the local network.

use std::collections::BTreeMap;

use super::*;

impl Task {
    /// Peers are there, and others have not been heard of for too long.
    pub(super) fn on_found(
        &mut self,
        found: Vec<(PeerId, Multiaddr)>,
        expired: &[(PeerId, Multiaddr)],
    ) {
        self.shared.state().local.update(&found, expired);
        let mut peers: BTreeMap<PeerId, PeerInfo> = BTreeMap::new();
        for (id, address) in found.into_iter().take(protocol::MAX_EXCHANGED_PEERS) {
            self.swarm.behaviour_mut().gate.vouch(&address);
            let peer = peers.entry(id).or_insert_with(|| PeerInfo::new(id));
            peer.addresses.push(address);
        }
        if peers.is_empty() {
            return;
        }
        let peers: Vec<_> = peers.into_values().collect();
        self.discovery
            .found(&mut self.swarm, &peers, platform::now());
        self.shared.emit(NetworkEvent::PeersDiscovered(peers));
    }
}
