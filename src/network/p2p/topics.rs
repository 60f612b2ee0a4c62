//! Gossip topics that are not Selkie's own: any libp2p peer may take part in them.

use libp2p::PeerId;

use super::P2PNetworkManager;
use crate::{
    chain::Verdict,
    error::NetworkError,
    network::{TopicInfo, shared::Command},
};

impl P2PNetworkManager {
    /// Takes part in a plain gossipsub topic, whoever else does. With `validate`, each message waits for
    /// [`Self::report`] before it is passed on; else it is passed on at once.
    ///
    /// # Errors
    /// [`NetworkError::Argument`] where the name is over 256 bytes, 256 topics are joined, or the topic is one of Selkie's own;
    /// [`NetworkError::NotRunning`].
    pub async fn subscribe_topic(
        &self,
        topic: impl Into<String>,
        validate: bool,
    ) -> Result<(), NetworkError> {
        let topic = topic.into();
        self.ask(|reply| Command::JoinTopic {
            topic,
            validate,
            reply,
        })
        .await?
    }

    /// Leaves a plain topic.
    ///
    /// # Errors
    /// [`NetworkError::NotRunning`].
    pub async fn unsubscribe_topic(&self, topic: impl Into<String>) -> Result<(), NetworkError> {
        self.command(Command::LeaveTopic {
            topic: topic.into(),
        })
        .await
    }

    /// The plain topics that this node takes part in, by name, with who else does.
    ///
    /// # Errors
    /// [`NetworkError::NotRunning`].
    pub async fn topics(&self) -> Result<Vec<TopicInfo>, NetworkError> {
        self.ask(|reply| Command::Topics { reply }).await
    }

    /// Publishes on a plain gossipsub topic, joined or not. Waits for peers that have much to read, a second at most for each
    /// and three in all: who has not read by then may lose it, which [`NetworkEvent::GossipImpaired`](crate::NetworkEvent::GossipImpaired) tells.
    ///
    /// # Errors
    /// [`NetworkError::NoPeers`]; [`NetworkError::Busy`] where too much waits already (64 messages or 8 MiB), or peers made no room
    /// in that time: try again;
    /// duplicates or sizes as [`NetworkError::Protocol`]; [`NetworkError::Argument`] where the topic carries the chain's items, which
    /// [`Self::submit`] sends; [`NetworkError::NotRunning`].
    pub async fn publish_topic(
        &self,
        topic: impl Into<String>,
        data: impl Into<bytes::Bytes>,
    ) -> Result<(), NetworkError> {
        let (topic, data) = (topic.into(), data.into());
        self.ask(|reply| Command::Publish { topic, data, reply })
            .await?
    }

    /// The verdict on a message of a topic that was subscribed with `validate`. A rejected message costs `source`
    /// reputation. The first verdict on a message counts; later ones, and those on what is not known, do nothing.
    ///
    /// # Errors
    /// [`NetworkError::NotRunning`].
    pub async fn report(
        &self,
        message_id: Vec<u8>,
        source: PeerId,
        verdict: Verdict,
    ) -> Result<(), NetworkError> {
        self.command(Command::Report {
            message_id,
            source,
            verdict,
        })
        .await
    }
}
