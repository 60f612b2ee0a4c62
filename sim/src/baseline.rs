//! A node of plain rust-libp2p gossipsub, to measure Selkie beside: the same links, lines and items, and nothing of Selkie but the chain.
//!
//! Noise, Yamux and gossipsub v1.2 with libp2p's own defaults, but for the largest message, and for the chain's verdict, for which a message waits
//! (`validate_messages`) as in any chain. It knows the peers that it dials and those that dial it; no peers are looked for.

use std::{cell::RefCell, collections::HashMap, rc::Rc, time::Duration};

use futures::{FutureExt, StreamExt, channel::mpsc, channel::oneshot};
use futures_timer::Delay;
use libp2p::{
    Multiaddr, PeerId, Swarm, Transport,
    core::upgrade::Version,
    gossipsub::{
        self, ConfigBuilder, Event, IdentTopic, MessageAcceptance, MessageAuthenticity, TopicHash,
    },
    identity::Keypair,
    noise,
    swarm::{
        self, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
    yamux,
};
use selkie::{Application, Item, ItemId, ItemKind, Verdict};

use crate::{executor, net};

/// How often whom it does not reach is dialled.
const REDIAL: Duration = Duration::from_secs(2);
/// Connections over which nothing is said stay.
const IDLE: Duration = Duration::from_secs(24 * 3600);

/// What such a node is told.
pub struct Plan {
    /// Its identity.
    pub keypair: Keypair,
    /// Where it listens.
    pub address: Multiaddr,
    /// Whom it dials.
    pub dials: Vec<Multiaddr>,
    /// The largest message.
    pub max_message: usize,
    /// Its chain.
    pub application: Box<dyn Application>,
}

/// An item that a node has accepted: from whom, or nobody where it is its own.
pub struct Heard {
    /// The item.
    pub item: Item,
    /// Its identity in the chain.
    pub id: ItemId,
    /// Who brought it.
    pub source: Option<PeerId>,
}

/// A node that runs, for who has it publish.
#[derive(Clone)]
pub struct Handle {
    submissions: mpsc::UnboundedSender<Submission>,
    peers: Rc<RefCell<Vec<PeerId>>>,
}

/// An item of its own, and who waits for what becomes of it.
type Submission = (Item, oneshot::Sender<Result<(), String>>);

impl Handle {
    /// Checks an item and publishes it.
    ///
    /// # Errors
    /// Why it does not go out.
    pub async fn submit(&self, item: Item) -> Result<(), String> {
        let (answer, answered) = oneshot::channel();
        let gone = || "the node has ended".to_owned();
        let sent = self.submissions.unbounded_send((item, answer));
        sent.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// Peers that it is connected to.
    pub fn peers(&self) -> Vec<PeerId> {
        self.peers.borrow().clone()
    }
}

/// A node, for the executor to run as a task of its host; called as that node ([`executor::as_node`]).
///
/// # Panics
/// Where gossipsub does not take its own defaults.
pub fn node(plan: Plan, heard: impl FnMut(Heard) + 'static) -> (Handle, impl Future<Output = ()>) {
    let (submissions, inbox) = mpsc::unbounded();
    let peers = Rc::default();
    let handle = Handle {
        submissions,
        peers: Rc::clone(&peers),
    };
    let swarm = swarm(&plan).unwrap_or_else(|error| panic!("a gossipsub node: {error}"));
    let topics = ItemKind::ALL.map(|kind| (topic(kind).hash(), kind));
    let mut node = Node {
        swarm,
        dials: plan.dials,
        application: plan.application,
        topics: topics.into(),
        heard: Box::new(heard),
        peers,
    };
    (handle, async move { node.run(inbox).await })
}

fn topic(kind: ItemKind) -> IdentTopic {
    IdentTopic::new(kind.name())
}

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn swarm(plan: &Plan) -> Outcome<Swarm<gossipsub::Behaviour>> {
    let config = ConfigBuilder::default()
        .max_transmit_size(plan.max_message)
        .validate_messages()
        .build()?;
    let signed = MessageAuthenticity::Signed(plan.keypair.clone());
    let mut behaviour = gossipsub::Behaviour::new(signed, config)?;
    for kind in ItemKind::ALL {
        behaviour.subscribe(&topic(kind))?;
    }
    let transport = net::transport()
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(&plan.keypair)?)
        .multiplex(yamux::Config::default())
        .boxed();
    let tasks = |task| executor::spawn(executor::running(), task);
    let config = swarm::Config::with_executor(tasks).with_idle_connection_timeout(IDLE);
    let peer = plan.keypair.public().to_peer_id();
    let mut swarm = Swarm::new(transport, behaviour, peer, config);
    swarm.listen_on(plan.address.clone())?;
    Ok(swarm)
}

struct Node {
    swarm: Swarm<gossipsub::Behaviour>,
    dials: Vec<Multiaddr>,
    application: Box<dyn Application>,
    topics: HashMap<TopicHash, ItemKind>,
    heard: Box<dyn FnMut(Heard)>,
    peers: Rc<RefCell<Vec<PeerId>>>,
}

impl Node {
    async fn run(&mut self, mut inbox: mpsc::UnboundedReceiver<Submission>) {
        self.dial();
        let mut redial = Delay::new(REDIAL).fuse();
        loop {
            futures::select_biased! {
                event = self.swarm.select_next_some() => self.on_event(event),
                submission = inbox.next() => match submission {
                    Some((item, answer)) => drop(answer.send(self.publish(&item))),
                    None => return,
                },
                () = redial => {
                    self.dial();
                    redial = Delay::new(REDIAL).fuse();
                }
            }
        }
    }

    /// Dials who is not connected. Who can't be reached is dialled again.
    fn dial(&mut self) {
        for address in &self.dials {
            let Some(libp2p::multiaddr::Protocol::P2p(peer)) = address.iter().last() else {
                continue;
            };
            let options = DialOpts::peer_id(peer)
                .addresses(vec![address.clone()])
                .condition(PeerCondition::DisconnectedAndNotDialing);
            let _ = self.swarm.dial(options.build());
        }
    }

    fn publish(&mut self, item: &Item) -> Result<(), String> {
        let checked = item.check(&*self.application);
        if checked.verdict != Verdict::Accept {
            return Err(checked.reason);
        }
        let gossip = self.swarm.behaviour_mut();
        let published = gossip.publish(topic(item.kind()), item.data().to_vec());
        published.map_err(|error| error.to_string())?;
        self.accepted(item.clone(), checked.id, None);
        Ok(())
    }

    fn accepted(&mut self, item: Item, id: ItemId, source: Option<PeerId>) {
        self.application.deliver(&item);
        (self.heard)(Heard { item, id, source });
    }

    fn on_event(&mut self, event: SwarmEvent<Event>) {
        match event {
            SwarmEvent::Behaviour(Event::Message {
                propagation_source: source,
                message_id,
                message,
            }) => {
                let Some(kind) = self.topics.get(&message.topic) else {
                    return;
                };
                let item = Item::new(*kind, message.data);
                let checked = item.check(&*self.application);
                let acceptance = match checked.verdict {
                    Verdict::Accept => MessageAcceptance::Accept,
                    Verdict::Ignore => MessageAcceptance::Ignore,
                    Verdict::Reject => MessageAcceptance::Reject,
                };
                let gossip = self.swarm.behaviour_mut();
                gossip.report_message_validation_result(&message_id, &source, acceptance);
                if checked.verdict == Verdict::Accept {
                    self.accepted(item, checked.id, Some(source));
                }
            }
            SwarmEvent::ConnectionEstablished { .. } | SwarmEvent::ConnectionClosed { .. } => {
                self.peers
                    .replace(self.swarm.connected_peers().copied().collect());
            }
            _ => {}
        }
    }
}
