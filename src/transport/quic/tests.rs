//! Ours against ours and against libp2p's, over good ways and bad ones.

use std::{
    collections::HashSet,
    future::poll_fn,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use futures::{AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _};
use libp2p::{
    Transport as _,
    core::{
        muxing::{StreamMuxerBox, StreamMuxerExt as _, SubstreamBox},
        transport::TransportEvent,
    },
    quic,
};
use tokio::{net::UdpSocket, sync::mpsc, time::Instant};

use super::*;
use crate::transport::{
    Boxed,
    links::{Link, Links},
};

const LOOPBACK: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
/// So long is the long way, that much is under way.
const WAY: Duration = Duration::from_millis(50);
/// What has been sent when the loss begins: the sender's window has grown as far as it may.
const BEFORE: usize = 6_000_000;
const SENT: usize = 12_000_000;
/// Packets of which every second one is lost.
const LOSSY: usize = 1000;

fn ours() -> Boxed {
    with_windows(Windows::default())
}

fn with_windows(windows: Windows) -> Boxed {
    Transport::new(&Keypair::generate_ed25519(), windows, &Executor::default())
        .expect("a certificate")
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .boxed()
}

/// libp2p's own.
fn theirs() -> Boxed {
    quic::tokio::Transport::new(quic::Config::new(&Keypair::generate_ed25519()))
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .boxed()
}

/// Listens, and says at which socket.
async fn listen(node: &mut Boxed, address: &str) -> SocketAddr {
    let address: Multiaddr = address.parse().expect("an address");
    node.listen_on(ListenerId::next(), address)
        .expect("it listens");
    match poll_fn(|cx| Pin::new(&mut *node).poll(cx)).await {
        TransportEvent::NewAddress { listen_addr, .. } => plain(&listen_addr).expect("of QUIC"),
        event => panic!("{event:?}"),
    }
}

/// The next connection, and where it is from.
async fn accept(node: &mut Boxed) -> (PeerId, StreamMuxerBox, SocketAddr) {
    loop {
        if let TransportEvent::Incoming {
            upgrade,
            send_back_addr,
            ..
        } = poll_fn(|cx| Pin::new(&mut *node).poll(cx)).await
        {
            let (peer, muxer) = upgrade.await.expect("a connection");
            return (peer, muxer, plain(&send_back_addr).expect("of QUIC"));
        }
    }
}

async fn dial(node: &mut Boxed, to: SocketAddr) -> (PeerId, StreamMuxerBox) {
    let options = DialOpts {
        role: Role::Dialer,
        port_use: PortUse::Reuse,
    };
    let dialled = node.dial(multiaddress(to), options).expect("an address");
    dialled.await.expect("a connection")
}

async fn opened(muxer: &mut StreamMuxerBox) -> SubstreamBox {
    poll_fn(|cx| muxer.poll_outbound_unpin(cx))
        .await
        .expect("a stream")
}

async fn accepted(muxer: &mut StreamMuxerBox) -> SubstreamBox {
    poll_fn(|cx| {
        if let Poll::Ready(stream) = muxer.poll_inbound_unpin(cx) {
            return Poll::Ready(stream);
        }
        let _ = muxer.poll_unpin(cx);
        Poll::Pending
    })
    .await
    .expect("a stream")
}

/// A way to a node. Packets there take so long, and those of which `passes` says so are lost, by their lengths; all come back.
async fn way(
    node: SocketAddr,
    takes: Duration,
    mut passes: impl FnMut(usize) -> bool + Send + 'static,
) -> SocketAddr {
    let bind = || UdpSocket::bind("127.0.0.1:0");
    let (near, far) = (
        bind().await.expect("a socket"),
        bind().await.expect("a socket"),
    );
    far.connect(node).await.expect("loopback");
    let (near, far) = (Arc::new(near), Arc::new(far));
    let address = near.local_addr().expect("it is bound");
    let (on_the_way, mut arriving) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn({
        let far = Arc::clone(&far);
        async move {
            while let Some((at, packet)) = arriving.recv().await {
                tokio::time::sleep_until(at).await;
                let _ = far.send(&packet).await;
            }
        }
    });
    tokio::spawn(async move {
        let (mut there, mut back, mut client) = (vec![0; 65_536], vec![0; 65_536], None);
        loop {
            tokio::select! {
                Ok((length, from)) = near.recv_from(&mut there) => {
                    client = Some(from);
                    if passes(length) {
                        let _ = on_the_way.send((Instant::now() + takes, there[..length].to_vec()));
                    }
                }
                Ok(length) = far.recv(&mut back) => {
                    if let Some(client) = client {
                        let _ = near.send_to(&back[..length], client).await;
                    }
                }
            }
        }
    });
    address
}

/// Each side knows who the other is; a stream goes either way, both of its ends are told, and the connection ends in order.
async fn speaks(mut listener: Boxed, mut dialler: Boxed) {
    let to = listen(&mut listener, LOOPBACK).await;
    let ((dials, mut there, _), (listens, mut here)) =
        futures::join!(accept(&mut listener), dial(&mut dialler, to));
    assert_ne!(dials, listens);
    for (from, word) in [(&mut here, 1), (&mut there, 2)] {
        let mut stream = opened(from).await;
        stream
            .write_all(&vec![word; 70_000])
            .await
            .expect("it lives");
        stream.close().await.expect("it lives");
        stream.close().await.expect("as often as one likes");
    }
    for (at, word) in [(&mut there, 1), (&mut here, 2)] {
        let mut stream = accepted(at).await;
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.expect("it lives");
        assert_eq!(read, vec![word; 70_000]);
    }
    here.close().await.expect("it ends");
    let ended = poll_fn(|cx| there.poll_inbound_unpin(cx)).await;
    assert!(ended.is_err());
}

#[tokio::test]
async fn it_speaks_to_its_like_and_to_libp2ps() {
    speaks(ours(), ours()).await;
    speaks(ours(), theirs()).await;
    speaks(theirs(), ours()).await;
}

#[test]
fn only_addresses_of_plain_quic_are_taken() {
    let socket = |text: &str| plain(&text.parse().expect("an address"));
    let right = Some(([127, 0, 0, 1], 7).into());
    let name = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    assert_eq!(socket("/ip4/127.0.0.1/udp/7/quic-v1"), right);
    assert_eq!(
        socket(&format!("/ip4/127.0.0.1/udp/7/quic-v1/p2p/{name}")),
        right
    );
    assert!(socket("/ip6/::1/udp/7/quic-v1").is_some());
    for other in [
        "/ip4/127.0.0.1/udp/7",
        "/ip4/127.0.0.1/udp/7/quic",
        "/ip4/127.0.0.1/udp/7/quic-v1/webtransport",
        "/ip4/127.0.0.1/tcp/7",
        "/dns/example.org/udp/7/quic-v1",
    ] {
        assert_eq!(socket(other), None, "{other}");
    }
}

#[tokio::test]
async fn what_names_no_host_is_not_dialled() {
    let mut node = ours();
    let refused = |node: &mut Boxed, text: &str, role| {
        let options = DialOpts {
            role,
            port_use: PortUse::Reuse,
        };
        let dialled = node.dial(text.parse().expect("an address"), options);
        matches!(dialled, Err(TransportError::MultiaddrNotSupported(_)))
    };
    for nowhere in ["/ip4/127.0.0.1/udp/0/quic-v1", "/ip6/::/udp/1/quic-v1"] {
        assert!(refused(&mut node, nowhere, Role::Dialer), "{nowhere}");
    }
    let there = "/ip4/127.0.0.1/udp/1/quic-v1";
    assert!(refused(&mut node, there, Role::Listener));
    assert!(!refused(&mut node, there, Role::Dialer));
}

/// Else no NAT would show others the address at which this node is reached.
#[tokio::test]
async fn a_dial_goes_from_the_socket_that_listens_where_one_reaches_there() {
    let (mut listener, mut dialler) = (ours(), ours());
    let to = listen(&mut listener, LOOPBACK).await;
    let dials = async |listener: &mut Boxed, dialler: &mut Boxed| {
        let ((_, _there, from), _here) = futures::join!(accept(listener), dial(dialler, to));
        from
    };
    let first = dials(&mut listener, &mut dialler).await;
    assert_eq!(
        dials(&mut listener, &mut dialler).await,
        first,
        "one socket"
    );
    if std::net::UdpSocket::bind("[::1]:0").is_ok() {
        listen(&mut dialler, "/ip6/::1/udp/0/quic-v1").await;
        assert_eq!(dials(&mut listener, &mut dialler).await, first, "not there");
    }
    let listens = listen(&mut dialler, LOOPBACK).await;
    assert_eq!(dials(&mut listener, &mut dialler).await, listens);
}

#[tokio::test]
async fn an_address_that_stands_for_all_is_reported_as_those_and_a_listener_ends() {
    let mut node = ours();
    let id = ListenerId::next();
    let everywhere = "/ip4/0.0.0.0/udp/0/quic-v1".parse().expect("an address");
    node.listen_on(id, everywhere).expect("it listens");
    let mut reported = HashSet::new();
    while !reported
        .iter()
        .any(|socket: &SocketAddr| socket.ip().is_loopback())
    {
        match poll_fn(|cx| Pin::new(&mut node).poll(cx)).await {
            TransportEvent::NewAddress { listen_addr, .. } => {
                reported.insert(plain(&listen_addr).expect("of QUIC"));
            }
            event => panic!("{event:?}"),
        }
    }
    assert!(
        reported
            .iter()
            .all(|socket| socket.port() != 0 && !socket.ip().is_unspecified())
    );
    assert!(node.remove_listener(id));
    loop {
        match poll_fn(|cx| Pin::new(&mut node).poll(cx)).await {
            TransportEvent::NewAddress { .. } => {}
            TransportEvent::ListenerClosed {
                listener_id,
                reason,
            } => {
                reason.expect("in order");
                break assert_eq!(listener_id, id);
            }
            event => panic!("{event:?}"),
        }
    }
    assert!(
        poll_fn(|cx| Pin::new(&mut node).poll(cx))
            .now_or_never()
            .is_none()
    );
    assert!(!node.remove_listener(id));
}

/// Its peer grants 15 MB, of which nothing is acknowledged.
#[tokio::test]
async fn who_acknowledges_nothing_holds_no_more_than_the_window() {
    let (mut node, mut peer) = (ours(), theirs());
    let to = listen(&mut node, LOOPBACK).await;
    let goes = Arc::new(AtomicBool::new(true));
    let passes = Arc::clone(&goes);
    let to = way(to, Duration::ZERO, move |_| passes.load(Relaxed)).await;
    let ((_, mut muxer, _), _peer) = futures::join!(accept(&mut node), dial(&mut peer, to));
    goes.store(false, Relaxed);
    let (mut streams, mut written) = (Vec::new(), 0);
    for _ in 0..16 {
        let mut stream = opened(&mut muxer).await;
        while let Some(count) = stream.write(&[7; 65_536]).now_or_never() {
            written += count.expect("it lives");
        }
        streams.push(stream);
    }
    assert_eq!(written, MAX_UNACKNOWLEDGED_BYTES as usize);
}

#[tokio::test]
async fn an_honest_stream_survives_a_flight_of_which_half_is_lost() {
    let (mut node, mut dialler) = (ours(), ours());
    let to = listen(&mut node, LOOPBACK).await;
    let lost = Arc::new(AtomicUsize::new(0));
    let (losing, mut bytes, mut packets) = (Arc::clone(&lost), 0, 0);
    let way = way(to, WAY, move |length| {
        bytes += length;
        packets += usize::from(bytes > BEFORE);
        let is_lost = bytes > BEFORE && packets < LOSSY && packets % 2 == 0;
        losing.fetch_add(usize::from(is_lost), Relaxed);
        !is_lost
    })
    .await;
    let ((_, mut there, _), (_, mut here)) =
        futures::join!(accept(&mut node), dial(&mut dialler, way));
    let reader = tokio::spawn(async move {
        let mut stream = accepted(&mut there).await;
        let (mut room, mut read) = (vec![0; 65_536], 0);
        loop {
            match stream.read(&mut room).await {
                Ok(0) => return Ok(read),
                Ok(count) => read += count,
                Err(error) => return Err(error.to_string()),
            }
        }
    });
    let mut stream = opened(&mut here).await;
    let written = async {
        let piece = vec![7; 65_536];
        for _ in 0..SENT / piece.len() {
            stream.write_all(&piece).await?;
        }
        stream.close().await
    };
    written.await.expect("the connection lives");
    let read = reader
        .await
        .expect("no panic")
        .expect("the connection lives");
    assert_eq!(read, SENT / 65_536 * 65_536);
    assert!(
        lost.load(Relaxed) > 300,
        "half of a flight was lost: {lost:?}"
    );
}

/// Others that have so many windows of the node's.
fn others(windows: &Windows, count: usize) -> Vec<Window> {
    (0..count).map(|_| windows.grant()).collect()
}

#[tokio::test]
async fn who_comes_when_others_have_all_room_leaves_no_more_unread_than_the_least() {
    let windows = Windows::default();
    for (count, most) in [(0, windows::MOST), (50, windows::LEAST)] {
        let _others = others(&windows, count);
        let (mut node, mut peer) = (with_windows(windows.clone()), theirs());
        let to = listen(&mut node, LOOPBACK).await;
        let ((_, mut there, _), (_, mut here)) =
            futures::join!(accept(&mut node), dial(&mut peer, to));
        let (mut told, mut hears) = (opened(&mut there).await, None);
        let mut streams = Vec::new();
        for _ in 0..8 {
            streams.push(opened(&mut here).await);
        }
        let (mut written, mut still) = (0, 0);
        // When nothing has moved in so many round trips, nothing does.
        while still < 20 {
            still += 1;
            for stream in &mut streams {
                while let Some(count) = stream.write(&[7; 65_536]).now_or_never() {
                    (written, still) = (written + count.expect("it lives"), 0);
                }
                let _ = stream.flush().now_or_never();
            }
            told.write_all(&[1]).await.expect("it lives");
            told.flush().await.expect("it lives");
            if hears.is_none() {
                hears = Some(accepted(&mut here).await);
            }
            let heard = hears.as_mut().expect("it was opened");
            heard.read_exact(&mut [0]).await.expect("it lives");
        }
        assert_eq!(written, most as usize);
    }
}

/// As where gossip and two lanes are read no further: a vote, and an answer, still come.
#[tokio::test]
async fn streams_that_are_not_read_leave_others_room() {
    leave_others_room(ours(), windows::MOST / 4).await;
    // And where others have all room.
    let windows = Windows::default();
    let _others = others(&windows, 50);
    leave_others_room(with_windows(windows), windows::LEAST / 4).await;
}

async fn leave_others_room(mut node: Boxed, window: u32) {
    let mut peer = ours();
    let to = listen(&mut node, LOOPBACK).await;
    let ((_, mut there, _), (_, mut here)) = futures::join!(accept(&mut node), dial(&mut peer, to));
    let mut unread = Vec::new();
    for _ in 0..3 {
        let mut stream = opened(&mut here).await;
        let all = vec![7; window as usize];
        stream.write_all(&all).await.expect("it lives");
        stream.flush().await.expect("it lives");
        unread.push((stream, accepted(&mut there).await));
    }
    for word in [1; 100] {
        let mut stream = opened(&mut here).await;
        stream.write_all(&[word; 4096]).await.expect("it lives");
        stream.close().await.expect("it lives");
        let mut read = Vec::new();
        let mut stream = accepted(&mut there).await;
        stream.read_to_end(&mut read).await.expect("it lives");
        assert_eq!(read, [word; 4096]);
    }
}

/// A node's connection with its link, and its peer's.
async fn linked() -> (StreamMuxerBox, Arc<Link>, StreamMuxerBox) {
    let ((sender, mut links), keypair) = (mpsc::unbounded_channel(), Keypair::generate_ed25519());
    let node = Transport::new(&keypair, Windows::default(), &Executor::default());
    let mut node = node
        .expect("a certificate")
        .map(move |(peer, muxer), endpoint| {
            let link = muxer.link();
            // It has the room of a node.
            Links::default().connected(peer, &endpoint, &link);
            sender.send(link).expect("it is asked for");
            (peer, StreamMuxerBox::new(muxer))
        })
        .boxed();
    let mut peer = ours();
    let to = listen(&mut node, LOOPBACK).await;
    let ((_, muxer, _), (_, from)) = futures::join!(accept(&mut node), dial(&mut peer, to));
    let link = links.recv().await.expect("a connection");
    (muxer, link, from)
}

/// Says, while the connection is driven, whether it stands, when that is news.
async fn stands(muxer: &mut StreamMuxerBox, link: &Link) -> bool {
    poll_fn(|cx| {
        let _ = muxer.poll_unpin(cx);
        link.poll_stands(cx)
    })
    .await
}

/// So many streams that have begun, here and there.
async fn begun(
    muxer: &mut StreamMuxerBox,
    from: &mut StreamMuxerBox,
    count: usize,
) -> (Vec<SubstreamBox>, Vec<SubstreamBox>) {
    let (mut here, mut there) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let begins = async {
            let mut stream = opened(from).await;
            stream.write_all(b"first").await.expect("it lives");
            stream
        };
        // The first bytes may wait for a window that is wider, so the connection is driven meanwhile.
        let (stream, came) = futures::join!(begins, accepted(muxer));
        there.push(stream);
        here.push(came);
    }
    (here, there)
}

async fn write_each(streams: &mut [SubstreamBox], bytes: usize) {
    let writes = streams.iter_mut().map(|stream| async move {
        let written = stream.write_all(&vec![7; bytes]).await;
        written.expect("it lives");
        stream.flush().await.expect("it lives");
    });
    futures::future::join_all(writes).await;
}

#[tokio::test]
async fn a_connection_whose_window_is_used_up_stands_until_it_is_read() {
    const EACH: usize = 2 << 20;
    let (mut muxer, link, mut from) = linked().await;
    let (mut here, mut there) = begun(&mut muxer, &mut from, 6).await;
    // One that is idle, and one that finds that others have used it up.
    let idle = (here.pop(), there.pop());
    let mut writes = write_each(&mut there, EACH).boxed().fuse();
    futures::select! {
        () = writes => panic!("it has no end"),
        stands = stands(&mut muxer, &link).boxed().fuse() => assert!(stands),
    }
    // What is given up brings its peer little, and it can send no more for that.
    drop(idle);
    let news = stands(&mut muxer, &link);
    let news = tokio::time::timeout(Duration::from_secs(2), news).await;
    assert!(news.is_err(), "it stands yet");
    let reads = here.iter_mut().map(|stream| async move {
        let mut all = vec![0; EACH + 5];
        stream.read_exact(&mut all).await.expect("it lives");
    });
    let reads = futures::future::join_all(reads);
    let ((), _, stands) = futures::join!(writes, reads, stands(&mut muxer, &link));
    assert!(!stands);
}

#[tokio::test]
async fn streams_that_are_kept_have_the_window_as_wide_as_they_are_long_and_it_never_stands() {
    const KEPT: usize = 12;
    let (mut muxer, link, mut from) = linked().await;
    let (mut here, mut there) = begun(&mut muxer, &mut from, KEPT).await;
    link.keep(KEPT);
    assert!(link.wants_more());
    // All that one may have unread.
    let each = windows::MOST_OF_STREAM as usize - 5;
    let mut writes = write_each(&mut there, each).boxed().fuse();
    futures::select! {
        () = writes => {}
        stands = stands(&mut muxer, &link).boxed().fuse() => panic!("it stands: {stands}"),
    }
    drop(writes);
    // The rest has as much as ever.
    let (_others, mut unread) = begun(&mut muxer, &mut from, 3).await;
    let mut writes = write_each(&mut unread, each).boxed().fuse();
    futures::select! {
        () = writes => {}
        stands = stands(&mut muxer, &link).boxed().fuse() => panic!("it stands: {stands}"),
    }
    for stream in &mut here {
        let mut all = vec![0; each + 5];
        stream.read_exact(&mut all).await.expect("it lives");
    }
}

#[tokio::test]
async fn who_says_that_all_is_used_up_has_the_window_no_wider_than_it_has_sent() {
    let (mut muxer, link, mut from) = linked().await;
    let (mut here, mut there) = begun(&mut muxer, &mut from, 3).await;
    link.keep(20);
    assert!(link.wants_more() && !link.widen(), "nothing has come");
    let piece = windows::MOST_OF_STREAM as usize;
    for _ in 0..3 {
        let mut all = vec![0; piece];
        let reads = here[0].read_exact(&mut all);
        let ((), read) = futures::join!(write_each(&mut there[..1], piece), reads);
        read.expect("it lives");
        assert!(link.widen(), "as much has come");
        assert!(!link.widen());
    }
}
