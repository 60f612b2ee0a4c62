//! Signs of life.

use libp2p::ping;

use super::*;

impl Task {
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
                self.shared.peers().ponged(&peer, took, platform::now());
                self.shared.state().recorder.round_trip(took);
                let lanes = &mut self.swarm.behaviour_mut().lanes;
                lanes.core.propagation.measured(&peer, took);
            }
            Err(ping::Failure::Unsupported) => self.shared.peers().never_pongs(&peer),
            Err(failure) => {
                tracing::debug!(%peer, %failure, "no answer to a ping");
                self.shared.peers().ping_failed(&peer, connection);
            }
        }
    }
}
