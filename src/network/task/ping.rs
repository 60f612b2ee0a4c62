//! Signs of life.

use libp2p::ping;

use super::*;

impl Task {
    /// By when a peer that is alive has answered the next ping.
    pub(super) fn next_sign_of_life(&self) -> Instant {
        platform::now()
            + self.config.network.keepalive_interval
            + self.config.network.connection_timeout
    }

    pub(super) fn on_ping(
        &mut self,
        ping::Event {
            peer,
            connection,
            result,
        }: ping::Event,
    ) {
        match result {
            Ok(took) => {
                let deadline = self.next_sign_of_life();
                if let Some(peer) = self.peers.get_mut(&peer)
                    && peer.stage == Stage::Ready
                {
                    peer.deadline = Some(deadline);
                }
                let mut state = self.shared.state();
                state.recorder.round_trip(took);
                if let Some(info) = state.peers.get_mut(&peer) {
                    info.round_trip = Some(took);
                }
            }
            // It can't answer, so its silence says nothing.
            Err(ping::Failure::Unsupported) => {
                if let Some(peer) = self.peers.get_mut(&peer) {
                    peer.pings = false;
                    if peer.stage == Stage::Ready {
                        peer.deadline = None;
                    }
                }
            }
            Err(failure) => {
                tracing::debug!(%peer, %failure, "no answer to a ping");
                if self
                    .peers
                    .get(&peer)
                    .is_some_and(|peer| peer.connections == 1)
                {
                    self.let_go(peer, SILENT.to_owned());
                }
                self.swarm.close_connection(connection);
            }
        }
    }
}
