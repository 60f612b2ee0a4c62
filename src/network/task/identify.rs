//! What peers say of themselves.

use libp2p::identify;

use super::*;
use crate::{
    network::{behaviour, protocol::Quoted},
    traffic::{Cost, Protocol as Limited},
};

/// What telling who it is costs a peer, of one a second and 50 at once: five times, then once in 10 s.
const TELLING: u64 = 10;
/// The longest telling, in bytes; libp2p reads no more.
const LONGEST: u64 = 4096;

impl Task {
    /// Whether a peer may say again who it is. What comes sooner is not looked at, and much of it has its price.
    fn listens_to(&mut self, id: PeerId) -> bool {
        let (now, telling) = (
            platform::now(),
            Cost {
                items: TELLING,
                bytes: 0,
            },
        );
        if self
            .limiter
            .admits(id, Limited::Identify, telling, now)
            .is_ok()
        {
            return true;
        }
        let ignored = Cost {
            items: 1,
            bytes: LONGEST,
        };
        let discovery = Limited::Discovery;
        if self.limiter.admits(id, discovery, ignored, now).is_err() {
            self.note(id, Misdeed::TooManyMessages);
        }
        false
    }

    pub(super) fn on_identify(&mut self, id: PeerId, info: identify::Info) {
        if !self.listens_to(id) {
            return;
        }
        let speaks = |name: &str| {
            info.protocols
                .iter()
                .any(|protocol| protocol.as_ref() == name)
        };
        // Who dialled us and does not speak the hello is a plain libp2p peer; nothing more is to come.
        if !speaks(behaviour::HELLO.as_ref()) {
            self.shared.peers().never_greets(id, platform::now());
        }
        if self
            .config
            .protocol_name("kad/1")
            .is_ok_and(|name| speaks(name.as_ref()))
        {
            let behaviour = self.swarm.behaviour_mut();
            let learnt = behaviour.gate.learnt(&id, &id, &info.listen_addrs);
            behaviour.routing.told(id, &learnt);
            let source = behaviour.gate.network(&id);
            self.discovery.says(source, id, &learnt, platform::now());
        }
        let agent = Quoted(&info.agent_version).to_string();
        self.shared.peers().identified(&id, &agent);
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
