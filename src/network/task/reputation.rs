//! What a misdeed costs, and what follows.

use super::*;

impl Task {
    /// A misdeed: the score, and what follows from it.
    pub(super) fn note(&mut self, peer: PeerId, misdeed: Misdeed) {
        let now = platform::now();
        let (score, judgement) = self.reputation.note(peer, misdeed, now);
        let reason = misdeed.reason();
        self.swarm.behaviour_mut().gossip.set_score(&peer, score);
        if let Some(info) = self.shared.state().peers.get_mut(&peer) {
            info.reputation = score;
        }
        self.shared.emit(NetworkEvent::PeerScored {
            peer_id: peer,
            reason,
            score,
        });
        match judgement {
            Judgement::Stay => {}
            Judgement::Disconnect => {
                self.let_go(peer, format!("its reputation is used up: {reason}"))
            }
            Judgement::Ban => {
                self.swarm.behaviour_mut().gate.bans.ban(peer, now);
                self.let_go(peer, format!("it is banned: {reason}"));
            }
        }
    }
}
