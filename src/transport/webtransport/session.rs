//! One WebTransport session on one QUIC connection, and the one owner of that connection.
//!
//! HTTP/3 (RFC 9114) with extended CONNECT (RFC 9220) is spoken here as far as a session takes it
//! (draft-ietf-webtrans-http3-02, what browsers speak): our SETTINGS go out, the client's control streams are read and forgotten, its first
//! request must be for libp2p's path, and each stream of the session begins with the session's number. `wtransport` brings the
//! frames and headers; its own driver is not used, since its tasks keep a connection whose client stands still for ever,
//! and take one stream's first bytes at a time.
//!
//! No task is spawned: who holds a [`Session`] polls it. The connection ends when the session is dropped, whoever still has a
//! handle on it, so whoever stops waiting for a handshake has ended it too.
//!
//! Bounds, none of which needs the client's good will: [`EARLY_STREAMS`] streams and [`EARLY_BYTES`] unread on a connection until
//! [`Session::trust`]; [`MAX_FRAME`] bytes a frame, [`MAX_CONTROL`] bytes a control stream in its life, [`MAX_CONTROL_STREAMS`] such streams.

use std::task::{Context, Poll};

use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, Either, select},
    ready,
    stream::FuturesUnordered,
};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use wtransport::proto::{
    frame::Frame,
    headers::Headers,
    session::{SessionRequest, SessionResponse},
    settings::Settings,
    stream_header::StreamHeader,
    varint::VarInt as ProtoInt,
};

use super::{Caller, Error, Watch, Window, trust};

/// Where libp2p's WebTransport lives on a host, and how it proves who it is.
const PATH: &str = "/.well-known/libp2p-webtransport?type=noise";
/// Bidirectional streams that a client may have open before it is trusted: the request, Noise, and one to spare.
pub(super) const EARLY_STREAMS: u32 = 3;
/// What a client may send unread before it is trusted, over all streams, in bytes.
pub(super) const EARLY_BYTES: u32 = 16 * 1024;
/// Unidirectional streams that a client may open in all: control, two of QPACK, and a few that mean nothing.
pub(super) const MAX_CONTROL_STREAMS: u32 = 8;
/// The longest frame that is read, in bytes.
const MAX_FRAME: u64 = 4096;
/// Frames before the request that mean nothing here.
const MAX_SKIPPED: usize = 8;
/// What is read of one control stream in its life, in bytes.
const MAX_CONTROL: usize = 64 * 1024;

// Streams and frames of HTTP/3 and WebTransport.
const CONTROL: u64 = 0x00;
const QPACK_ENCODER: u64 = 0x02;
const QPACK_DECODER: u64 = 0x03;
const HEADERS: u64 = 0x01;
const WEBTRANSPORT_STREAM: u64 = 0x41;
/// `H3_REQUEST_REJECTED`.
const REJECTED: VarInt = VarInt::from_u32(0x010b);

/// The two halves of a stream.
pub(super) type Halves = (SendStream, RecvStream);
type Opening = BoxFuture<'static, Result<Halves, Error>>;

/// See the module's documentation.
pub(super) struct Session {
    quic: Owner,
    window: Window,
    id: VarInt,
    /// Our ends of control stream and request: HTTP/3 forbids to end them.
    _kept: (SendStream, SendStream),
    /// Reads what HTTP/3 wants read; ends when the session does.
    watch: BoxFuture<'static, ()>,
    accepting: Option<Opening>,
    /// Streams of the client whose first bytes are awaited: at most as many as it may have streams.
    beginning: FuturesUnordered<BoxFuture<'static, Option<Halves>>>,
    outbound: Option<Opening>,
}

/// Closes the connection when it is dropped. Handles on a connection keep it open, and streams and half-done futures have
/// some; this one decides.
struct Owner(Connection);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.close(VarInt::from_u32(0), b"");
    }
}

impl Session {
    /// The whole of the handshake up to the session. Takes as long as the client likes: who drops it, ends it.
    ///
    /// # Errors
    /// [`Error::Path`] for a request of anything but libp2p's path, which is answered with 404; else what broke.
    pub(super) async fn accept(caller: Caller) -> Result<Self, Error> {
        let (quic, window) = caller.answered().await?;
        let quic = Owner(quic);
        let control = control_streams(quic.0.clone()).boxed();
        let (request, control) = match select(request(&quic.0).boxed(), control).await {
            Either::Left((request, control)) => (request?, control),
            Either::Right(((), _)) => return Err(Error::Ended),
        };
        let Request {
            settings,
            answer,
            receive,
        } = request;
        let id = VarInt::from(receive.id());
        Ok(Self {
            quic,
            window,
            id,
            _kept: (settings, answer),
            watch: watch(control, receive).boxed(),
            accepting: None,
            beginning: FuturesUnordered::new(),
            outbound: None,
        })
    }

    /// Ends the session.
    pub(super) fn close(&self) {
        self.quic.0.close(VarInt::from_u32(0), b"");
    }

    /// The client has proved who it is: from now on it may have the windows and streams of a peer.
    pub(super) fn trust(&mut self) {
        trust(&self.quic.0, &mut self.window);
    }

    /// What looks whether its connection stands.
    pub(super) fn watch(&self) -> Watch {
        Watch::new(self.quic.0.clone(), &self.window)
    }

    /// The client's next stream. Those whose first bytes are late hold up no other.
    pub(super) fn poll_inbound(&mut self, cx: &mut Context<'_>) -> Poll<Result<Halves, Error>> {
        loop {
            match self.beginning.poll_next_unpin(cx) {
                Poll::Ready(Some(Some(halves))) => return Poll::Ready(Ok(halves)),
                Poll::Ready(Some(None)) => continue,
                Poll::Ready(None) | Poll::Pending => {}
            }
            let quic = &self.quic.0;
            let accepting = self.accepting.get_or_insert_with(|| {
                let quic = quic.clone();
                async move { Ok(quic.accept_bi().await?) }.boxed()
            });
            let accepted = ready!(accepting.poll_unpin(cx));
            self.accepting = None;
            self.beginning.push(beginning(accepted?, self.id).boxed());
        }
    }

    /// A stream of ours, begun when it is first asked for.
    pub(super) fn poll_outbound(&mut self, cx: &mut Context<'_>) -> Poll<Result<Halves, Error>> {
        let (quic, id) = (&self.quic.0, self.id);
        let outbound = self.outbound.get_or_insert_with(|| {
            let quic = quic.clone();
            async move {
                let (mut send, receive) = quic.open_bi().await?;
                send.write_all(&[encoded(WEBTRANSPORT_STREAM), encoded(id.into_inner())].concat())
                    .await?;
                Ok((send, receive))
            }
            .boxed()
        });
        let opened = ready!(outbound.poll_unpin(cx));
        self.outbound = None;
        Poll::Ready(opened)
    }

    /// Ready when the session has ended; not to be asked again then.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.watch.poll_unpin(cx)
    }

    /// The client's first stream of the session.
    pub(super) async fn first(&mut self) -> Result<Halves, Error> {
        std::future::poll_fn(|cx| {
            if self.poll_end(cx).is_ready() {
                return Poll::Ready(Err(Error::Ended));
            }
            self.poll_inbound(cx)
        })
        .await
    }
}

struct Request {
    settings: SendStream,
    answer: SendStream,
    receive: RecvStream,
}

/// Our settings, the client's request, and our answer.
async fn request(quic: &Connection) -> Result<Request, Error> {
    let mut settings = quic.open_uni().await?;
    settings.write_all(&our_settings()?).await?;
    let (mut answer, mut receive) = quic.accept_bi().await?;
    let path = requested_path(&mut receive).await?;
    let right = path == PATH;
    let response = if right {
        SessionResponse::ok()
    } else {
        SessionResponse::not_found()
    };
    answer
        .write_all(&bytes_of(&response.headers().generate_frame())?)
        .await?;
    if right {
        return Ok(Request {
            settings,
            answer,
            receive,
        });
    }
    // The connection ends with us, so the client gets its answer first.
    let _ = answer.finish();
    let _ = answer.stopped().await;
    Err(Error::Path)
}

/// The path that the client's first request asks a session for.
async fn requested_path(receive: &mut RecvStream) -> Result<String, Error> {
    for _ in 0..MAX_SKIPPED {
        let kind = number(receive).await?;
        let length = number(receive).await?;
        if length > MAX_FRAME {
            return Err(Error::Http("a frame is too long"));
        }
        let mut payload = vec![0; usize::try_from(length).unwrap_or_default()];
        receive.read_exact(&mut payload).await?;
        if kind == HEADERS {
            let headers = Headers::with_frame(&Frame::new_headers(payload.into()))
                .map_err(|_| Error::Http("the request's headers can't be read"))?;
            let request = SessionRequest::try_from(headers)
                .map_err(|_| Error::Http("the request asks for no WebTransport session"))?;
            return Ok(request.path().to_owned());
        }
    }
    Err(Error::Http("the request does not begin with headers"))
}

fn our_settings() -> Result<Vec<u8>, Error> {
    let settings = Settings::builder()
        .qpack_max_table_capacity(ProtoInt::from_u32(0))
        .qpack_blocked_streams(ProtoInt::from_u32(0))
        .enable_connect_protocol()
        .enable_webtransport()
        .enable_h3_datagrams()
        .webtransport_max_sessions(ProtoInt::from_u32(1))
        .build();
    let mut bytes = Vec::new();
    let written = StreamHeader::new_control().write(&mut bytes);
    written.map_err(|_| Error::Http("no room for the settings"))?;
    bytes.extend(bytes_of(&settings.generate_frame())?);
    Ok(bytes)
}

fn bytes_of(frame: &Frame<'_>) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(frame.write_size());
    let written = frame.write(&mut bytes);
    written.map_err(|_| Error::Http("no room for a frame"))?;
    Ok(bytes)
}

/// Reads the client's unidirectional streams until one breaks the rules or the connection ends.
async fn control_streams(quic: Connection) {
    let mut reading = FuturesUnordered::new();
    let mut accepted = 0;
    loop {
        let next = async {
            if accepted < MAX_CONTROL_STREAMS {
                quic.accept_uni().await.ok()
            } else {
                // Further ones wait for ever: their credit is not given back.
                quic.closed().await;
                None
            }
        };
        let stopped = async {
            loop {
                match reading.next().await {
                    Some(Ok(())) => {}
                    Some(Err(_)) => return,
                    None => std::future::pending().await,
                }
            }
        };
        let stream = match select(next.boxed(), stopped.boxed()).await {
            Either::Left((Some(stream), _)) => stream,
            Either::Left((None, _)) | Either::Right(_) => return,
        };
        accepted += 1;
        reading.push(control_stream(stream).boxed());
    }
}

/// One of them; only those that have to stay open make an end of the session when they end.
async fn control_stream(mut stream: RecvStream) -> Result<(), Error> {
    match number(&mut stream).await? {
        CONTROL | QPACK_ENCODER | QPACK_DECODER => {
            forget(&mut stream).await;
            Err(Error::Ended)
        }
        _ => {
            // An error says that it has ended already.
            let _ = stream.stop(REJECTED);
            Ok(())
        }
    }
}

/// Over when the client ends its request, which ends the session, or a control stream.
async fn watch(control: BoxFuture<'static, ()>, mut request: RecvStream) {
    select(control, forget(&mut request).boxed()).await;
}

/// Reads a stream to its end, or to more than anybody has to say on it.
async fn forget(stream: &mut RecvStream) {
    let (mut bytes, mut left) = ([0; 512], MAX_CONTROL);
    while let Ok(Some(count)) = stream.read(&mut bytes).await {
        match left.checked_sub(count) {
            Some(less) => left = less,
            None => return,
        }
    }
}

/// The client's stream, once it has said that it belongs to the session.
async fn beginning((mut send, mut receive): Halves, id: VarInt) -> Option<Halves> {
    let kind = number(&mut receive).await.ok()?;
    let session = number(&mut receive).await.ok()?;
    if kind == WEBTRANSPORT_STREAM && session == id.into_inner() {
        return Some((send, receive));
    }
    // Errors say that it has ended already.
    let _ = send.reset(REJECTED);
    let _ = receive.stop(REJECTED);
    None
}

/// QUIC's integers (RFC 9000, 16): the first two bits tell how many bytes.
async fn number(stream: &mut RecvStream) -> Result<u64, Error> {
    let mut first = [0];
    stream.read_exact(&mut first).await?;
    let [first] = first;
    let mut rest = [0; 7];
    let rest = match first >> 6 {
        0 => &mut rest[..0],
        1 => &mut rest[..1],
        2 => &mut rest[..3],
        _ => &mut rest[..],
    };
    stream.read_exact(rest).await?;
    let begin = u64::from(first & 0x3f);
    Ok(rest
        .iter()
        .fold(begin, |number, byte| (number << 8) | u64::from(*byte)))
}

fn encoded(number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let number = ProtoInt::try_from(number).unwrap_or(ProtoInt::MAX);
    // A vector has room.
    let _ = wtransport::proto::bytes::BytesWriter::put_varint(&mut bytes, number);
    bytes
}
