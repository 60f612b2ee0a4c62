//! Peers that are none of ours: libp2p's own behaviours, and streams on which any bytes can be written.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::{
    PeerId, StreamProtocol, Swarm, SwarmBuilder, Transport,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, MemoryTransport},
        upgrade::Version,
    },
    gossipsub, identify,
    identity::Keypair,
    noise, ping,
    request_response::{self as rr, ProtocolSupport},
    swarm::{NetworkBehaviour, SwarmEvent, behaviour::toggle::Toggle},
    tcp, yamux,
};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::support::soon;

/// Writes requests and answers as they are given, framed or not, and reads to the end of the stream.
#[derive(Clone, Default)]
pub struct AnyBytes {
    /// Whether it never comes to the end of a request.
    endless: bool,
    /// Whether it never reads an answer.
    deaf: bool,
}

impl rr::Codec for AnyBytes {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        io.read_to_end(&mut bytes).await?;
        Ok(bytes)
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        protocol: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        if self.deaf {
            std::future::pending::<()>().await;
        }
        self.read_request(protocol, io).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        io.write_all(&bytes).await?;
        if self.endless {
            io.flush().await?;
            std::future::pending::<()>().await;
        }
        io.close().await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        protocol: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        self.write_request(protocol, io, bytes).await
    }
}

/// The protocol of direct messages.
const MESSAGE: &str = "/selkie/selkie-dev/message/1";

/// Answers one ping on a stream and ends it, as js-libp2p and go-libp2p do with streams that are idle for a while.
#[derive(Clone, Default)]
pub struct OnePing;

impl rr::Codec for OnePing {
    type Protocol = StreamProtocol;
    type Request = [u8; 32];
    type Response = [u8; 32];

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<[u8; 32]> {
        let mut bytes = [0; 32];
        io.read_exact(&mut bytes).await?;
        Ok(bytes)
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        protocol: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<[u8; 32]> {
        self.read_request(protocol, io).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: [u8; 32],
    ) -> io::Result<()> {
        io.write_all(&bytes).await?;
        io.close().await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        protocol: &StreamProtocol,
        io: &mut T,
        bytes: [u8; 32],
    ) -> io::Result<()> {
        self.write_request(protocol, io, bytes).await
    }
}

#[derive(NetworkBehaviour)]
pub struct Raw {
    pub gossip: gossipsub::Behaviour,
    pub identify: identify::Behaviour,
    ping: Toggle<ping::Behaviour>,
    one_ping: Toggle<rr::Behaviour<OnePing>>,
    pub hello: Toggle<rr::Behaviour<AnyBytes>>,
    pub message: Toggle<rr::Behaviour<AnyBytes>>,
    /// The same, and no answer is read.
    deaf: rr::Behaviour<AnyBytes>,
    /// The same, and the stream stays open.
    stuck: rr::Behaviour<AnyBytes>,
    /// Any bytes on gossipsub's own protocol.
    pub scripted: rr::Behaviour<AnyBytes>,
    /// The same, and the stream stays open.
    unfinished: rr::Behaviour<AnyBytes>,
}

/// How a peer answers pings.
#[derive(Clone, Copy, PartialEq)]
enum Ping {
    None,
    Libp2p,
    OneAStream,
}

type Action = Box<dyn FnOnce(&mut Swarm<Raw>) + Send>;

/// A swarm in its own task.
pub struct RawPeer {
    pub id: PeerId,
    /// Where it listens, with its identity at the end.
    pub address: selkie::Multiaddr,
    /// Bytes that it has written, where its connection is one in memory.
    pub written: Arc<AtomicUsize>,
    actions: mpsc::UnboundedSender<Action>,
    asleep: Arc<AtomicBool>,
    events: mpsc::UnboundedReceiver<SwarmEvent<RawEvent>>,
}

/// What docs/wire.md tells implementers to use.
fn message_id(message: &gossipsub::Message) -> gossipsub::MessageId {
    let digest = Sha256::new()
        .chain_update(message.topic.as_str())
        .chain_update(&message.data)
        .finalize();
    gossipsub::MessageId::from(digest[..20].to_vec())
}

/// The end of a connection in memory, which holds [`Self::HELD`] bytes: all else that was written the other side has taken.
pub struct Counted<C> {
    io: C,
    written: Arc<AtomicUsize>,
}

impl Counted<()> {
    /// What libp2p's channel has room for is pieces, 4,096 of them.
    pub const HELD: usize = 4096 * Self::PIECE;
    const PIECE: usize = 256;
}

impl<C: AsyncRead + Unpin> AsyncRead for Counted<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Counted<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let piece = buf.get(..Counted::PIECE).unwrap_or(buf);
        let written = Pin::new(&mut self.io).poll_write(cx, piece);
        if let Poll::Ready(Ok(count)) = &written {
            self.written.fetch_add(*count, Ordering::Relaxed);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}

/// TCP, and connections in memory whose bytes are counted.
fn transport(key: &Keypair, written: Arc<AtomicUsize>) -> Boxed<(PeerId, StreamMuxerBox)> {
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
    let tcp = tcp
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(key).expect("a key"))
        .multiplex(yamux::Config::default())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let memory = MemoryTransport::new()
        .map(move |io, _| Counted {
            io,
            written: Arc::clone(&written),
        })
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(key).expect("a key"))
        .multiplex(yamux::Config::default())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    tcp.or_transport(memory)
        .map(|either, _| either.into_inner())
        .boxed()
}

/// Streams of gossipsub's own protocol.
fn gossip_streams(endless: bool) -> rr::Behaviour<AnyBytes> {
    let name = StreamProtocol::new("/meshsub/1.1.0");
    let config = rr::Config::default().with_request_timeout(std::time::Duration::from_secs(120));
    rr::Behaviour::with_codec(
        AnyBytes {
            endless,
            deaf: false,
        },
        [(name, ProtocolSupport::Outbound)],
        config,
    )
}

/// Whether a frame's message is a peer exchange.
fn is_exchange(mut frame: &[u8]) -> bool {
    prost::decode_length_delimiter(&mut frame).is_ok() && frame.first() == Some(&0x2a)
}

impl RawPeer {
    /// A peer with gossipsub, identify and ping, and nothing of Selkie's.
    pub async fn plain() -> Self {
        Self::start(false, Ping::Libp2p, |_| {
            gossipsub::MessageAuthenticity::Anonymous
        })
        .await
    }

    /// A plain one that signs its messages, as js-libp2p does by default.
    pub async fn signing() -> Self {
        let signed = |key: &Keypair| gossipsub::MessageAuthenticity::Signed(key.clone());
        Self::start(false, Ping::Libp2p, signed).await
    }

    /// One that has Selkie's protocols too, and writes on them what the test says.
    pub async fn hostile() -> Self {
        Self::start(true, Ping::Libp2p, |_| {
            gossipsub::MessageAuthenticity::Anonymous
        })
        .await
    }

    /// A plain one that knows no ping.
    pub async fn without_ping() -> Self {
        Self::start(false, Ping::None, |_| {
            gossipsub::MessageAuthenticity::Anonymous
        })
        .await
    }

    /// A plain one that ends a ping's stream whenever it has answered.
    pub async fn with_one_ping_a_stream() -> Self {
        Self::start(false, Ping::OneAStream, |_| {
            gossipsub::MessageAuthenticity::Anonymous
        })
        .await
    }

    /// Answers so many pings.
    pub async fn pinged(&mut self, times: usize) {
        for _ in 0..times {
            let (ping, channel) = self
                .event("a ping", |event| match event {
                    SwarmEvent::Behaviour(RawEvent::OnePing(rr::Event::Message {
                        message:
                            rr::Message::Request {
                                request, channel, ..
                            },
                        ..
                    })) => Some((request, channel)),
                    SwarmEvent::ConnectionClosed { .. } => panic!("it was let go"),
                    _ => None,
                })
                .await;
            self.act(move |swarm| {
                let pings = swarm.behaviour_mut().one_ping.as_mut().expect("it has one");
                // An error says that nobody waits for it any more.
                let _ = pings.send_response(channel, ping);
            });
        }
    }

    async fn start(
        selkie: bool,
        ping: Ping,
        authenticity: fn(&Keypair) -> gossipsub::MessageAuthenticity,
    ) -> Self {
        let streams = |name: &'static str| {
            let codec = || {
                let protocols = [(StreamProtocol::new(name), ProtocolSupport::Full)];
                rr::Behaviour::with_codec(AnyBytes::default(), protocols, rr::Config::default())
            };
            Toggle::from(selkie.then(codec))
        };
        let outgoing = |codec| {
            let protocols = [(StreamProtocol::new(MESSAGE), ProtocolSupport::Outbound)];
            rr::Behaviour::with_codec(codec, protocols, rr::Config::default())
        };
        let written = Arc::new(AtomicUsize::new(0));
        let mut swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_other_transport(|key| transport(key, Arc::clone(&written)))
            .expect("infallible")
            .with_behaviour(|key| {
                let config = gossipsub::ConfigBuilder::default()
                    .validation_mode(gossipsub::ValidationMode::None)
                    .message_id_fn(message_id)
                    .max_transmit_size(4 << 20)
                    .build()
                    .expect("right");
                Raw {
                    gossip: gossipsub::Behaviour::new(authenticity(key), config).expect("right"),
                    identify: identify::Behaviour::new(identify::Config::new(
                        "/other/1".to_owned(),
                        key.public(),
                    )),
                    ping: Toggle::from((ping == Ping::Libp2p).then(ping::Behaviour::default)),
                    one_ping: Toggle::from((ping == Ping::OneAStream).then(|| {
                        let name = StreamProtocol::new("/ipfs/ping/1.0.0");
                        let protocols = [(name, ProtocolSupport::Inbound)];
                        rr::Behaviour::with_codec(OnePing, protocols, rr::Config::default())
                    })),
                    hello: streams("/selkie/hello/1"),
                    message: streams(MESSAGE),
                    deaf: outgoing(AnyBytes {
                        endless: false,
                        deaf: true,
                    }),
                    stuck: outgoing(AnyBytes {
                        endless: true,
                        deaf: false,
                    }),
                    scripted: gossip_streams(false),
                    unfinished: gossip_streams(true),
                }
            })
            .expect("infallible")
            .with_swarm_config(|config| {
                config.with_idle_connection_timeout(std::time::Duration::from_secs(3600))
            })
            .build();
        swarm
            .listen_on(crate::support::TCP.parse().expect("an address"))
            .expect("loopback");
        let id = *swarm.local_peer_id();
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address.with_p2p(id).expect("no other id is at its end");
            }
        };
        let (actions, mut todo) = mpsc::unbounded_channel::<Action>();
        let (events, receiver) = mpsc::unbounded_channel();
        let asleep = Arc::new(AtomicBool::new(false));
        let sleeps = Arc::clone(&asleep);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    action = todo.recv() => match action {
                        Some(action) => action(&mut swarm),
                        None => return,
                    },
                    event = swarm.select_next_some(), if !sleeps.load(Ordering::Relaxed) => drop(events.send(event)),
                }
            }
        });
        Self {
            id,
            address,
            written,
            actions,
            asleep,
            events: receiver,
        }
    }

    /// Does something with the swarm.
    pub fn act(&self, action: impl FnOnce(&mut Swarm<Raw>) + Send + 'static) {
        assert!(
            self.actions.send(Box::new(action)).is_ok(),
            "the raw peer runs"
        );
    }

    /// The first event from now on that `wanted` makes something of.
    pub async fn event<T>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(SwarmEvent<RawEvent>) -> Option<T>,
    ) -> T {
        let next = async {
            loop {
                let event = self.events.recv().await.expect("the raw peer runs");
                if let Some(value) = wanted(event) {
                    return value;
                }
            }
        };
        soon(what, next).await
    }

    /// Stays connected, and reads nothing any more.
    pub fn fall_asleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        self.act(|_| {});
    }

    pub fn dial(&self, address: selkie::Multiaddr) {
        self.act(|swarm| swarm.dial(address).expect("dialled"));
    }

    pub async fn connected(&mut self) {
        self.event("a raw connection", |event| match event {
            SwarmEvent::ConnectionEstablished { .. } => Some(()),
            _ => None,
        })
        .await;
    }

    pub async fn disconnected(&mut self) {
        self.event("the end of a raw connection", |event| match event {
            SwarmEvent::ConnectionClosed { .. } => Some(()),
            _ => None,
        })
        .await;
    }

    pub fn subscribe(&self, topic: impl Into<String>) {
        let topic = gossipsub::IdentTopic::new(topic);
        self.act(move |swarm| {
            swarm
                .behaviour_mut()
                .gossip
                .subscribe(&topic)
                .expect("allowed");
        });
    }

    pub fn publish(&self, topic: impl Into<String>, data: &'static str) {
        let topic = gossipsub::IdentTopic::new(topic);
        self.act(move |swarm| {
            drop(
                swarm
                    .behaviour_mut()
                    .gossip
                    .publish(topic, data)
                    .expect("published"),
            )
        });
    }

    /// Waits until the peer is known to take part in a topic.
    pub async fn subscribed(&mut self, wanted: &str) {
        self.event("a subscription", |event| match event {
            SwarmEvent::Behaviour(RawEvent::Gossip(gossipsub::Event::Subscribed {
                topic, ..
            })) => (topic.as_str() == wanted).then_some(()),
            _ => None,
        })
        .await;
    }

    /// The next gossip message's topic and bytes.
    pub async fn gossip(&mut self) -> (String, Vec<u8>) {
        self.event("gossip", |event| match event {
            SwarmEvent::Behaviour(RawEvent::Gossip(gossipsub::Event::Message {
                message, ..
            })) => Some((message.topic.into_string(), message.data)),
            _ => None,
        })
        .await
    }

    /// Writes on a new stream of gossipsub's.
    pub fn script(&self, to: PeerId, bytes: Vec<u8>) {
        self.act(move |swarm| {
            swarm.behaviour_mut().scripted.send_request(&to, bytes);
        });
    }

    /// Begins to write on a new stream of gossipsub's, and comes to no end.
    pub fn begin_script(&self, to: PeerId, bytes: Vec<u8>) {
        self.act(move |swarm| {
            swarm.behaviour_mut().unfinished.send_request(&to, bytes);
        });
    }

    /// Writes on a new stream of `/selkie/hello/1`.
    pub fn hello(&self, to: PeerId, bytes: Vec<u8>) {
        self.act(move |swarm| {
            let hello = swarm.behaviour_mut().hello.as_mut().expect("hostile");
            hello.send_request(&to, bytes);
        });
    }

    /// Writes on a new stream of the message protocol.
    pub fn message(&self, to: PeerId, bytes: Vec<u8>) {
        self.act(move |swarm| {
            let message = swarm.behaviour_mut().message.as_mut().expect("hostile");
            message.send_request(&to, bytes);
        });
    }

    /// The same, and reads nothing of the answer.
    pub fn deaf_message(&self, to: PeerId, bytes: Vec<u8>) {
        self.act(move |swarm| {
            swarm.behaviour_mut().deaf.send_request(&to, bytes);
        });
    }

    /// Begins to write on a new stream of the message protocol, and comes to no end.
    pub fn begin_message(&self, to: PeerId, bytes: Vec<u8>) {
        self.act(move |swarm| {
            swarm.behaviour_mut().stuck.send_request(&to, bytes);
        });
    }

    /// The next answer to what was written; `None` where the stream ended without one.
    pub async fn answer(&mut self) -> Option<Vec<u8>> {
        self.event("an answer", |event| match event {
            SwarmEvent::Behaviour(RawEvent::Hello(event) | RawEvent::Message(event)) => match event
            {
                rr::Event::Message {
                    message: rr::Message::Response { response, .. },
                    ..
                } => Some(Some(response)),
                rr::Event::OutboundFailure { .. } => Some(None),
                _ => None,
            },
            _ => None,
        })
        .await
    }

    /// The next request on either protocol, and how to answer it; where the node says that it is is left unanswered.
    pub async fn request(&mut self) -> (Vec<u8>, rr::ResponseChannel<Vec<u8>>) {
        self.event("a request", |event| match event {
            SwarmEvent::Behaviour(RawEvent::Hello(event) | RawEvent::Message(event)) => match event
            {
                rr::Event::Message {
                    message:
                        rr::Message::Request {
                            request, channel, ..
                        },
                    ..
                } => (!is_exchange(&request)).then_some((request, channel)),
                _ => None,
            },
            _ => None,
        })
        .await
    }

    pub fn respond(&self, channel: rr::ResponseChannel<Vec<u8>>, bytes: Vec<u8>) {
        // Any of the two sends it: the channel knows its stream.
        self.act(move |swarm| {
            let streams = swarm.behaviour_mut().message.as_mut().expect("hostile");
            streams
                .send_response(channel, bytes)
                .expect("the stream is open");
        });
    }

    /// Connects to a node by its rules: dials, says hello as docs/wire.md says, takes part in its topics.
    pub async fn join(&mut self, node: &crate::support::Node) {
        self.subscribe("/selkie/selkie-dev/block/1");
        self.dial(node.address());
        self.connected().await;
        self.hello(node.id(), framed(&good_hello()));
        self.answer().await.expect("welcome");
    }
}

/// A message with its length in front.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    prost::encode_length_delimiter(message.len(), &mut frame).expect("vectors grow");
    frame.extend(message);
    frame
}

/// A hello of network `selkie-dev` without a genesis: field 1 of docs/wire.md.
pub fn good_hello() -> Vec<u8> {
    [&[0x0a, 10][..], b"selkie-dev"].concat()
}
