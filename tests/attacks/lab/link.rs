//! A raw peer's connection: libp2p's transports and multiplexers, and above them nothing that is not written here.
//!
//! Streams are negotiated by hand, so that a peer may leave a negotiation half done; what the other side opens is answered as the
//! peer's [`Manners`] say. Nothing is limited and nothing is checked: the other side is to hold out.

use std::{
    future::poll_fn,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
};

use futures::{AsyncReadExt, AsyncWriteExt, future::BoxFuture};
use libp2p::{
    Multiaddr, PeerId, Transport,
    core::{
        Endpoint,
        muxing::{StreamMuxerBox, StreamMuxerExt, SubstreamBox},
        transport::{DialOpts, PortUse},
        upgrade::Version,
    },
    identity::Keypair,
    multiaddr::Protocol,
    noise, quic, tcp, websocket, yamux,
};
use tokio::sync::{mpsc, oneshot, watch};

use super::proto::{Proto, framed};

/// The network that the victim is of.
pub const NETWORK: &str = "selkie-dev";
const MULTISTREAM: &str = "/multistream/1.0.0";
const HELLO: &str = "/selkie/hello/1";
const IDENTIFY: &str = "/ipfs/id/1.0.0";
/// What goes out in one piece.
pub const PIECE: usize = 64 << 10;

/// What all links of this process did.
pub static DIALS: AtomicU64 = AtomicU64::new(0);
pub static REFUSALS: AtomicU64 = AtomicU64::new(0);
pub static ENDS: AtomicU64 = AtomicU64::new(0);
pub static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// What a peer does with a stream that the other side opens.
#[derive(Clone)]
pub enum Service {
    /// Reads and forgets.
    Read,
    /// Agrees to the protocol and never reads.
    Hold,
    /// Sends back what comes: ping.
    Echo,
    /// Writes this and closes: identify.
    Tell(Vec<u8>),
    /// Whatever an attack wants.
    Custom(Arc<dyn Fn(SubstreamBox) -> BoxFuture<'static, ()> + Send + Sync>),
}

/// How a peer answers streams: by the ends of their protocols' names, the first that fits.
#[derive(Clone)]
pub struct Manners {
    services: Vec<(String, Service)>,
    /// Streams are taken and their negotiation is never answered.
    mute: bool,
}

impl Manners {
    /// A peer of the network that reads its lanes; it neither gossips nor knows the DHT.
    pub fn good() -> Self {
        let lanes = ["/urgent/1", "/block/1", "/bulk/1", "/message/1"];
        let lanes = lanes.map(|lane| (lane.to_owned(), Service::Read));
        Self {
            services: lanes.to_vec(),
            mute: false,
        }
        .with("/ipfs/ping/1.0.0", Service::Echo)
    }

    /// A libp2p peer that gossips and knows nothing of Selkie.
    pub fn plain() -> Self {
        Self {
            services: Vec::new(),
            mute: false,
        }
        .with("/ipfs/ping/1.0.0", Service::Echo)
        .with("/meshsub/1.2.0", Service::Read)
    }

    /// Takes all streams and answers none.
    pub fn mute() -> Self {
        Self {
            services: Vec::new(),
            mute: true,
        }
    }

    pub fn with(mut self, protocol: &str, service: Service) -> Self {
        self.services.insert(0, (protocol.to_owned(), service));
        self
    }

    fn service(&self, protocol: &str) -> Option<&Service> {
        let mut services = self.services.iter();
        Some(&services.find(|(end, _)| protocol.ends_with(end))?.1)
    }

    /// The names in full.
    fn protocols(&self) -> impl Iterator<Item = String> + '_ {
        let full = |(end, _): &(String, Service)| {
            if end.ends_with("sub/1.2.0") || end.starts_with("/ipfs") {
                end.clone()
            } else {
                name(end)
            }
        };
        self.services.iter().map(full)
    }

    fn is_selkie(&self) -> bool {
        self.mute || self.service("/urgent/1").is_some()
    }
}

/// A protocol's name on the victim's network.
pub fn name(end: &str) -> String {
    format!("/selkie/{NETWORK}{end}")
}

/// A connection. Dropped, it ends without a word.
pub struct Link {
    opens: mpsc::UnboundedSender<oneshot::Sender<SubstreamBox>>,
    ended: watch::Receiver<bool>,
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Link {
    /// Connects and proves an identity; the victim's own is not looked at.
    pub async fn dial(address: &Multiaddr, key: &Keypair, manners: Manners) -> io::Result<Self> {
        DIALS.fetch_add(1, Ordering::Relaxed);
        match muxer(address, key).await {
            Ok(muxer) => Ok(Self::over(muxer, key, manners)),
            Err(error) => {
                REFUSALS.fetch_add(1, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    fn over(muxer: StreamMuxerBox, key: &Keypair, manners: Manners) -> Self {
        let (opens, wanted) = mpsc::unbounded_channel();
        let (end, ended) = watch::channel(false);
        let identify = identify(key, &manners, &[]);
        let manners = Arc::new(manners.with(IDENTIFY, Service::Tell(identify)));
        let driver = tokio::spawn(async move {
            drive(muxer, wanted, manners).await;
            ENDS.fetch_add(1, Ordering::Relaxed);
            end.send_replace(true);
        });
        Self {
            opens,
            ended,
            driver,
        }
    }

    /// As [`Self::dial`], and says hello as docs/wire.md has it.
    pub async fn join(address: &Multiaddr, key: &Keypair, manners: Manners) -> io::Result<Self> {
        let link = Self::dial(address, key, manners).await?;
        link.hello().await?;
        Ok(link)
    }

    /// Says hello and reads the answer, whatever it is.
    pub async fn hello(&self) -> io::Result<()> {
        let mut stream = self.open(HELLO).await?;
        stream
            .write_all(&Proto::new().bytes(1, NETWORK).framed())
            .await?;
        stream.close().await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        if answer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// A stream on which nothing was negotiated.
    pub async fn bare(&self) -> io::Result<SubstreamBox> {
        let (reply, stream) = oneshot::channel();
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.opens
            .send(reply)
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        stream.await.map_err(gone)
    }

    /// A stream of a protocol, given its whole name.
    pub async fn open(&self, protocol: &str) -> io::Result<SubstreamBox> {
        let mut stream = self.bare().await?;
        let mut words = line(MULTISTREAM);
        words.extend(line(protocol));
        stream.write_all(&words).await?;
        stream.flush().await?;
        for wanted in [MULTISTREAM, protocol] {
            if read_line(&mut stream).await? != wanted {
                return Err(io::ErrorKind::Unsupported.into());
            }
        }
        Ok(stream)
    }

    /// A stream of one of the network's protocols, such as `/bulk/1`.
    pub async fn lane(&self, end: &str) -> io::Result<SubstreamBox> {
        self.open(&name(end)).await
    }

    /// Returns when the connection has ended.
    pub async fn ended(&self) {
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }
}

/// Writes and flushes, and counts it.
pub async fn put(stream: &mut SubstreamBox, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await?;
    WRITTEN.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    Ok(())
}

/// The same bytes again and again, in pieces of [`PIECE`] at least, as fast as they are taken.
pub async fn flood(stream: &mut SubstreamBox, bytes: &[u8]) -> io::Result<()> {
    let piece = bytes.repeat(PIECE.div_ceil(bytes.len().max(1)));
    loop {
        put(stream, &piece).await?;
        tokio::task::yield_now().await;
    }
}

/// What identify says of a peer with these manners, at these addresses.
pub fn identify(key: &Keypair, manners: &Manners, addresses: &[Multiaddr]) -> Vec<u8> {
    let mut message = Proto::new()
        .bytes(1, key.public().encode_protobuf())
        .bytes(5, "/selkie/1")
        .bytes(6, "raw");
    for address in addresses {
        message = message.bytes(2, address.to_vec());
    }
    for protocol in manners.protocols() {
        message = message.bytes(3, protocol);
    }
    if manners.is_selkie() {
        message = message.bytes(3, HELLO);
    }
    message.framed()
}

async fn muxer(address: &Multiaddr, key: &Keypair) -> io::Result<StreamMuxerBox> {
    let options = DialOpts {
        role: Endpoint::Dialer,
        port_use: PortUse::New,
    };
    // The identity at the end is no part of what a transport dials.
    let parts = address
        .iter()
        .filter(|part| !matches!(part, Protocol::P2p(_)));
    let address: Multiaddr = parts.collect();
    let has = |wanted: Protocol<'_>| address.iter().any(|part| part == wanted);
    let tcp = || tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
    let noise = noise::Config::new(key).map_err(io::Error::other)?;
    let mut transport = if has(Protocol::QuicV1) {
        quic::tokio::Transport::new(quic::Config::new(key))
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
            .boxed()
    } else if has(Protocol::Ws("/".into())) {
        websocket::Config::new(tcp())
            .upgrade(Version::V1)
            .authenticate(noise)
            .multiplex(yamux::Config::default())
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
            .boxed()
    } else {
        tcp()
            .upgrade(Version::V1)
            .authenticate(noise)
            .multiplex(yamux::Config::default())
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
            .boxed()
    };
    let dial = transport.dial(address, options).map_err(io::Error::other)?;
    let (_, muxer): (PeerId, _) = dial.await.map_err(io::Error::other)?;
    Ok(muxer)
}

/// Runs a connection until it ends.
async fn drive(
    mut muxer: StreamMuxerBox,
    mut opens: mpsc::UnboundedReceiver<oneshot::Sender<SubstreamBox>>,
    manners: Arc<Manners>,
) {
    let mut served = tokio::task::JoinSet::new();
    let mut wanted: Option<oneshot::Sender<SubstreamBox>> = None;
    poll_fn(|cx| {
        loop {
            while let Poll::Ready(Some(_)) = served.poll_join_next(cx) {}
            match muxer.poll_unpin(cx) {
                Poll::Ready(Ok(_)) => continue,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
            match muxer.poll_inbound_unpin(cx) {
                Poll::Ready(Ok(stream)) => {
                    served.spawn(serve(stream, Arc::clone(&manners)));
                    continue;
                }
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
            if wanted.is_none() {
                match opens.poll_recv(cx) {
                    Poll::Ready(Some(reply)) => wanted = Some(reply),
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
            match muxer.poll_outbound_unpin(cx) {
                Poll::Ready(Ok(stream)) => {
                    if let Some(reply) = wanted.take() {
                        let _ = reply.send(stream);
                    }
                }
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
}

async fn serve(mut stream: SubstreamBox, manners: Arc<Manners>) {
    if manners.mute {
        return std::future::pending().await;
    }
    let Ok(service) = agree(&mut stream, &manners).await else {
        return;
    };
    match service {
        Service::Read => {
            let mut buffer = vec![0; PIECE];
            while let Ok(1..) = stream.read(&mut buffer).await {}
        }
        Service::Hold => std::future::pending().await,
        Service::Echo => {
            let mut ball = [0; 32];
            while stream.read_exact(&mut ball).await.is_ok()
                && stream.write_all(&ball).await.is_ok()
                && stream.flush().await.is_ok()
            {}
        }
        Service::Tell(words) => {
            let _ = stream.write_all(&words).await;
            let _ = stream.close().await;
        }
        Service::Custom(serve) => serve(stream).await,
    }
}

/// The listener's side of multistream-select.
async fn agree(stream: &mut SubstreamBox, manners: &Manners) -> io::Result<Service> {
    loop {
        let said = read_line(stream).await?;
        let service = manners.service(&said).cloned();
        let answer = if said == MULTISTREAM || service.is_some() {
            line(&said)
        } else {
            line("na")
        };
        stream.write_all(&answer).await?;
        stream.flush().await?;
        if let Some(service) = service {
            return Ok(service);
        }
    }
}

/// A word of multistream-select.
pub fn line(word: &str) -> Vec<u8> {
    framed(format!("{word}\n").as_bytes())
}

async fn read_line(stream: &mut SubstreamBox) -> io::Result<String> {
    let bytes = read_frame(stream, 1024).await?;
    let text = String::from_utf8(bytes).map_err(io::Error::other)?;
    Ok(text.trim_end().to_owned())
}

/// The next bytes with a length in front.
pub async fn read_frame(stream: &mut SubstreamBox, most: usize) -> io::Result<Vec<u8>> {
    let (mut length, mut shift) = (0usize, 0);
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    if length > most {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}
