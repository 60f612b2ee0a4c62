//! Streams of the user's own protocols: a task of its own serves each, and what fails is told.

use super::*;
use crate::network::streams::Inbound;

impl Task {
    pub(super) fn on_stream(&mut self, inbound: Inbound) {
        let Inbound {
            peer,
            protocol,
            stream,
            serve,
        } = inbound;
        let failures = self.failures.0.clone();
        platform::spawn(async move {
            let served = platform::guarded(async move { serve(peer, stream).await }).await;
            let reason = match served {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(panic) => format!("it panicked: {panic}"),
            };
            let failure = NetworkEvent::HandlerFailed {
                protocol: protocol.to_string(),
                peer_id: peer,
                reason,
            };
            // An error says that the node has ended.
            let _ = failures.send(failure).await;
        });
    }
}
