//! What peers say of themselves.

use libp2p::identify;

use super::*;
use crate::network::{behaviour, protocol::Quoted};

impl Task {
    pub(super) fn on_identify(&mut self, id: PeerId, info: identify::Info) {
        let speaks = |name: &str| {
            info.protocols
                .iter()
                .any(|protocol| protocol.as_ref() == name)
        };
        // Who dialled us and does not speak the hello is a plain libp2p peer; nothing more is to come.
        if !speaks(behaviour::HELLO.as_ref()) {
            self.plain(id);
        }
        if self
            .config
            .protocol_name("kad/1")
            .is_ok_and(|name| speaks(name.as_ref()))
        {
            let behaviour = self.swarm.behaviour_mut();
            for address in behaviour.gate.learnt(&id, &id, &info.listen_addrs) {
                behaviour.kad.add_address(&id, address);
            }
        }
        let agent = Quoted(&info.agent_version).to_string();
        if let Some(peer) = self.shared.state().peers.get_mut(&id) {
            peer.agent.clone_from(&agent);
        } else if let Some(peer) = self.peers.get_mut(&id).and_then(|peer| peer.info.as_mut()) {
            peer.agent.clone_from(&agent);
        }
        let protocols = info
            .protocols
            .iter()
            .take(64)
            .map(|p| Quoted(p.as_ref()).to_string())
            .collect();
        self.shared.emit(NetworkEvent::PeerIdentified {
            peer_id: id,
            agent,
            protocols,
        });
    }
}
