//! A bare gossipsub node: anonymous, its queues long enough to lose nothing, its ids cheap.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use futures::{FutureExt, StreamExt};
use libp2p::{
    Multiaddr, Swarm, SwarmBuilder,
    gossipsub::{self, IdentTopic, MessageAuthenticity, MessageId, PublishError, ValidationMode},
    noise,
    swarm::SwarmEvent,
    tcp, yamux,
};

/// Messages that may wait for a peer.
const QUEUE: usize = 20_000;

pub type Event = SwarmEvent<gossipsub::Event>;

pub struct Node {
    pub swarm: Swarm<gossipsub::Behaviour>,
    topic: IdentTopic,
    /// Why its connection ended, if it did.
    closed: Option<String>,
}

impl Node {
    pub fn new() -> Self {
        let config = gossipsub::ConfigBuilder::default()
            .validation_mode(ValidationMode::Anonymous)
            .message_id_fn(|message| {
                let mut hasher = DefaultHasher::new();
                message.data.hash(&mut hasher);
                MessageId::from(hasher.finish().to_le_bytes().to_vec())
            })
            .connection_handler_queue_len(QUEUE)
            .publish_queue_duration(Duration::from_secs(60))
            .forward_queue_duration(Duration::from_secs(60))
            .build()
            .expect("a configuration");
        let mut behaviour = gossipsub::Behaviour::new(MessageAuthenticity::Anonymous, config)
            .expect("it is anonymous");
        let topic = IdentTopic::new("bench");
        behaviour.subscribe(&topic).expect("a topic");
        let swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(
                tcp::Config::default().nodelay(true),
                noise::Config::new,
                yamux::Config::default,
            )
            .expect("tcp")
            // With the 10 MB of libp2p's default, quinn ends a connection that loses many packets of one flight.
            .with_quic_config(|mut quic| {
                quic.max_stream_data = 2 << 20;
                quic
            })
            .with_behaviour(|_| behaviour)
            .expect("a behaviour")
            .with_swarm_config(|config| {
                config.with_idle_connection_timeout(Duration::from_secs(600))
            })
            .build();
        Self {
            swarm,
            topic,
            closed: None,
        }
    }

    /// The address at which it can be reached.
    pub async fn listen(&mut self, address: &str) -> Multiaddr {
        let address = address.parse().expect("an address");
        self.swarm.listen_on(address).expect("listening");
        loop {
            if let SwarmEvent::NewListenAddr { address, .. } = self.swarm.select_next_some().await {
                return address;
            }
        }
    }

    /// Dials; returns when the other side has said what it is subscribed to.
    pub async fn join(&mut self, address: Multiaddr) {
        self.swarm.dial(address).expect("dialling");
        while !subscribed(&self.swarm.select_next_some().await) {}
    }

    /// Lets the swarm do what there is to do now.
    pub async fn work(&mut self) {
        while let Some(Some(event)) = self.swarm.next().now_or_never() {
            if let SwarmEvent::ConnectionClosed { cause, .. } = event {
                self.closed = Some(format!("{cause:?}"));
            }
        }
        tokio::task::yield_now().await;
    }

    /// Publishes; false where the queue is full: let the swarm work first.
    pub fn publish(&mut self, data: Vec<u8>) -> bool {
        match self.swarm.behaviour_mut().publish(self.topic.clone(), data) {
            Ok(_) => true,
            Err(PublishError::AllQueuesFull(_)) => false,
            Err(error) => panic!("gossipsub refuses: {error}; closed: {:?}", self.closed),
        }
    }
}

/// Whether a peer has said what it is subscribed to.
pub fn subscribed(event: &Event) -> bool {
    matches!(
        event,
        SwarmEvent::Behaviour(gossipsub::Event::Subscribed { .. })
    )
}

/// The payload, if the event is a message.
pub fn message(event: Event) -> Option<Vec<u8>> {
    match event {
        SwarmEvent::Behaviour(gossipsub::Event::Message { message, .. }) => {
            Some(message.data.to_vec())
        }
        _ => None,
    }
}
