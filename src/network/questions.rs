//! Questions about the state that go to peers, whose answers are checked before anybody sees them.
//!
//! A peer whose answer is false pays, whoever has asked. What asks in the background keeps no node running: it holds the way to the task as long as a
//! question goes out, and no longer.

use std::sync::Arc;

use bytes::Bytes;
use libp2p::PeerId;
use tokio::sync::{mpsc::WeakSender, oneshot};

use super::{
    protocol::{NetworkMessage, Told},
    requests::Message,
    shared::{Command, Shared},
};
use crate::{
    chain::{StateBatch, StateRequest, StateResponse, SyncVerdict, rules},
    config::Config,
    error::ProtocolError,
    intake::ItemLimits,
};

/// See the module's documentation.
#[derive(Clone)]
pub(crate) struct Questions {
    pub(crate) shared: Arc<Shared>,
    pub(crate) config: Arc<Config>,
    commands: WeakSender<Command>,
}

impl Questions {
    pub(super) fn new(
        shared: &Arc<Shared>,
        config: &Arc<Config>,
        commands: WeakSender<Command>,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            config: Arc::clone(config),
            commands,
        }
    }

    /// What a peer has of one key; only what holds, where the chain can tell.
    pub(super) async fn state(
        &self,
        peer: PeerId,
        request: StateRequest,
    ) -> Result<StateResponse, ProtocolError> {
        let chain = Arc::clone(&self.shared.rules);
        let request = chain.provable(request);
        let message = NetworkMessage::StateRequest(request.clone());
        let Some(Told::One(answer)) = self.message(peer, &message).await? else {
            return Err(no_state());
        };
        let check = async move {
            let verdict = chain.check_state(&request, &answer).await;
            (answer, verdict.unwrap_or(SyncVerdict::Accept))
        };
        let checked = rules::run(&*self.shared.rules, check).await;
        let (answer, verdict) = checked.ok_or(ProtocolError::NotRunning)?;
        self.judged(peer, verdict).await?;
        self.shared.look_again();
        Ok(answer)
    }

    /// The values of many keys in a state that is trusted here, in their order.
    pub(super) async fn batch(
        &self,
        peer: PeerId,
        batch: StateBatch,
    ) -> Result<Vec<Bytes>, ProtocolError> {
        let message = NetworkMessage::StateBatch(batch.clone());
        // Nodes that know of no batches answer for the first key alone, and say nothing of a root.
        let Some(Told::Many(at, answer)) = self.message(peer, &message).await? else {
            return Err(no_state());
        };
        let chain = Arc::clone(&self.shared.rules);
        let verify = async move {
            let verdict = match batch.is_answered_by(&at, &answer) {
                Ok(()) => chain.verify_state(&batch, &answer).await,
                Err(wrong) => SyncVerdict::Reject(wrong.to_owned()),
            };
            (answer.values, verdict)
        };
        let verified = rules::run(&*self.shared.rules, verify).await;
        let (values, verdict) = verified.ok_or(ProtocolError::NotRunning)?;
        self.judged(peer, verdict).await?;
        Ok(values)
    }

    async fn judged(&self, peer: PeerId, verdict: SyncVerdict) -> Result<(), ProtocolError> {
        match verdict {
            SyncVerdict::Accept => Ok(()),
            SyncVerdict::Reject(reason) => {
                // A node that has ended blames nobody.
                let _ = self.tell(Command::Forged { peer }).await;
                Err(ProtocolError::Forged(reason))
            }
            SyncVerdict::Ignore(reason) | SyncVerdict::Retry(reason) => {
                Err(ProtocolError::Unproven(reason))
            }
        }
    }

    /// Sends a message, and waits for its answer.
    pub(super) async fn message(
        &self,
        peer: PeerId,
        message: &NetworkMessage,
    ) -> Result<Option<Told>, ProtocolError> {
        if let Some((kind, size)) = message.item() {
            ItemLimits::new(&self.config.protocol.propagation).check(kind, size)?;
        }
        message.check_fields()?;
        let config = &self.config.protocol.request_response_config;
        let (frame, limit) = (message.encode(), config.max_message_size);
        if frame.len() > limit {
            let (size, field) = (
                frame.len(),
                "protocol.request_response_config.max_message_size",
            );
            return Err(ProtocolError::TooLarge { size, limit, field });
        }
        if !self.shared.peers().is_shown(&peer) {
            return Err(ProtocolError::NotConnected(peer));
        }
        let message = Message {
            frame,
            names_peers: matches!(message, NetworkMessage::PeerExchange(_)),
            items: match message {
                NetworkMessage::StateBatch(batch) => batch.costs(),
                _ => 1,
            },
        };
        let (reply, answer) = oneshot::channel();
        let asked = Command::Send {
            peer,
            message,
            reply,
        };
        self.tell(asked).await?;
        answer.await.map_err(|_| ProtocolError::NotRunning)?
    }

    pub(super) async fn tell(&self, command: Command) -> Result<(), ProtocolError> {
        let commands = self.commands.upgrade().ok_or(ProtocolError::NotRunning)?;
        let sent = commands.send(command).await;
        sent.map_err(|_| ProtocolError::NotRunning)
    }
}

fn no_state() -> ProtocolError {
    ProtocolError::Refused("an answer without state".to_owned())
}
