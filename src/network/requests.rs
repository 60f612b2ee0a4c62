//! Direct messages on their way: who waits for which answer.
//!
//! Bounds: request-response limits streams per connection and times each out, and a caller waits for each
//! entry, so the table holds no more than callers wait.

use std::{collections::HashMap, time::Duration};

use libp2p::request_response::{OutboundFailure, OutboundRequestId};
use tokio::sync::oneshot;

use super::protocol::Answer;
use crate::{chain::StateResponse, error::ProtocolError, platform::Instant};

/// What the caller of a direct message waits for.
pub(crate) type Reply = oneshot::Sender<Result<Option<StateResponse>, ProtocolError>>;

/// Requests without an answer yet.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    waiting: HashMap<OutboundRequestId, (Instant, Reply)>,
}

impl Requests {
    /// A request was sent.
    pub(crate) fn sent(&mut self, id: OutboundRequestId, reply: Reply, now: Instant) {
        self.waiting.insert(id, (now, reply));
    }

    /// An answer came: tells the caller, and says how long it took and whether it was a message at all.
    pub(crate) fn answered(
        &mut self,
        id: OutboundRequestId,
        frame: &[u8],
        now: Instant,
    ) -> Option<(Duration, bool)> {
        let (at, reply) = self.waiting.remove(&id)?;
        let answer = Answer::decode(frame);
        let valid = answer.is_ok();
        // A caller that no longer waits has lost interest, which is its right.
        let _ = reply.send(match answer {
            Ok(Answer::Received) => Ok(None),
            Ok(Answer::State(state)) => Ok(Some(state)),
            Ok(Answer::Refused(reason)) => Err(ProtocolError::Refused(reason)),
            Err(error) => Err(error.into()),
        });
        Some((now.saturating_duration_since(at), valid))
    }

    /// No answer will come.
    pub(crate) fn failed(
        &mut self,
        id: OutboundRequestId,
        failure: &OutboundFailure,
        protocol: &str,
    ) {
        if let Some((_, reply)) = self.waiting.remove(&id) {
            let _ = reply.send(Err(match failure {
                OutboundFailure::Timeout => ProtocolError::Timeout,
                OutboundFailure::UnsupportedProtocols => {
                    ProtocolError::Unsupported(protocol.to_owned())
                }
                other => ProtocolError::Broken(other.to_string()),
            }));
        }
    }
}
