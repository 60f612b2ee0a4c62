//! Peers found on the local network.

use super::*;

impl Task {
    /// Peers are there, and others have not been heard of for too long.
    pub(super) fn on_found(
        &mut self,
        found: Vec<(PeerId, Multiaddr)>,
        expired: &[(PeerId, Multiaddr)],
    ) {
        self.shared.state().local.update(&found, expired);
        let mut peers: HashMap<PeerId, PeerInfo> = HashMap::new();
        for (id, address) in found.into_iter().take(protocol::MAX_EXCHANGED_PEERS) {
            self.swarm.behaviour_mut().gate.vouch(&address);
            peers
                .entry(id)
                .or_insert_with(|| PeerInfo::new(id))
                .addresses
                .push(address);
        }
        if peers.is_empty() {
            return;
        }
        for (id, peer) in &peers {
            if self.peers.len() < self.config.network.max_peers && !self.peers.contains_key(id) {
                let options = DialOpts::peer_id(*id)
                    .addresses(peer.addresses.clone())
                    .build();
                let _ = self.swarm.dial(options);
            }
        }
        self.shared
            .emit(NetworkEvent::PeersDiscovered(peers.into_values().collect()));
    }
}
