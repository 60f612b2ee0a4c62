//! Protocols of the user's own: streams both ways, what they cost, and what can be wrong with them.

use std::{
    future::pending,
    io::{self, ErrorKind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::{
    StreamProtocol, Swarm, SwarmBuilder, identify, noise, swarm::NetworkBehaviour, yamux,
};
use selkie::{
    Item, Multiaddr, NetworkError, NetworkEvent, PeerId, ProtocolError, ProtocolStream,
    StateRequest, Vote,
};
use tokio::sync::{Notify, Semaphore, mpsc};

use crate::support::*;

const ECHO: &str = "/echo/1";
/// As many as a peer may have open.
const MAX: usize = 16;

/// Says what it hears, until that ends.
async fn echo(_: PeerId, stream: ProtocolStream) -> io::Result<()> {
    let (read, mut write) = stream.split();
    futures::io::copy(read, &mut write).await?;
    write.close().await
}

async fn pair(address: &str) -> (Node, Node) {
    let (mut one, mut other) = (
        Node::start(listening(address)).await,
        Node::start(listening(address)).await,
    );
    connect(&mut one, &mut other).await;
    (one, other)
}

/// Says all of it at once, and hears it again to the end.
async fn echoes(stream: impl AsyncRead + AsyncWrite, said: &[u8]) {
    let (mut read, mut write) = stream.split();
    let mut heard = Vec::new();
    let says = async {
        write.write_all(said).await?;
        write.close().await
    };
    let both = futures::future::try_join(says, read.read_to_end(&mut heard));
    soon("the echo", both).await.expect("it is said again");
    assert!(heard == said, "{} of {}", heard.len(), said.len());
}

async fn opened(from: &Node, to: &Node) -> ProtocolStream {
    let opened = soon("a stream", from.open(to.id(), ECHO)).await;
    opened.expect("there is room")
}

/// How a read ends that finds no more.
async fn rest(mut stream: ProtocolStream) -> io::Result<Vec<u8>> {
    let mut rest = Vec::new();
    let read = soon("an end", stream.read_to_end(&mut rest)).await;
    read.map(|_| rest)
}

/// What a handler failed at.
async fn failure(node: &mut Node) -> (String, PeerId, String) {
    node.event("a failure", |event| match event {
        NetworkEvent::HandlerFailed {
            protocol,
            peer_id,
            reason,
        } => Some((protocol, peer_id, reason)),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn streams_carry_much_both_ways_and_end_in_order() {
    for address in ["/memory/0", TCP, "/ip4/127.0.0.1/udp/0/quic-v1"] {
        let (one, other) = pair(address).await;
        for node in [&one, &other] {
            node.handle(ECHO, echo).await.expect("it runs");
        }
        let said: Vec<u8> = (0..3_000_000u32).map(|n| n.to_le_bytes()[0]).collect();
        for (from, to) in [(&one, &other), (&other, &one)] {
            let streams = [opened(from, to).await, opened(from, to).await];
            let echoes = streams.map(|stream| echoes(stream, &said));
            futures::future::join_all(echoes).await;
        }
        echoes(opened(&one, &other).await, b"").await;
    }
}

#[tokio::test]
async fn what_can_not_be_handled_or_opened_says_so() {
    let (one, other) = pair("/memory/0").await;
    let code = |outcome: Result<(), NetworkError>| outcome.expect_err("a mistake").code();
    one.handle(ECHO, echo).await.expect("it runs");
    assert_eq!(code(one.handle(ECHO, echo).await), "invalid-argument");
    assert_eq!(
        code(one.handle("/selkie/hello/1", echo).await),
        "invalid-argument"
    );
    for number in 1..16 {
        let handled = one.handle(format!("/other/{number}"), echo).await;
        handled.expect("there is room");
    }
    assert_eq!(
        code(one.handle("/other/16", echo).await),
        "invalid-argument"
    );
    one.unhandle("/other/1").await.expect("it runs");
    let handled = one.handle("/other/16", echo).await;
    handled.expect("there is room again");

    let open = |peer, name: &'static str| other.open(peer, name);
    echoes(open(one.id(), "/other/16").await.expect("handled"), b"hi").await;
    for (peer, name, right) in [
        (one.id(), "/other/1", "unsupported"),
        (one.id(), "other", "invalid-argument"),
        (one.id(), "/ipfs/ping/1.0.0", "invalid-argument"),
        (PeerId::random(), ECHO, "not-connected"),
        (other.id(), ECHO, "not-connected"),
    ] {
        let refused = soon("an answer", open(peer, name)).await;
        assert_eq!(refused.expect_err("refused").code(), right, "{name}");
    }
    one.ban(other.id(), None).await.expect("it runs");
    let refused = one.open(other.id(), ECHO).await;
    assert_eq!(refused.expect_err("banned").code(), "not-connected");
}

#[tokio::test]
async fn a_handler_that_fails_resets_its_stream_and_is_told() {
    let (one, mut other) = pair("/memory/0").await;
    let fails = |_, mut stream: ProtocolStream| async move {
        let mut word = [0; 5];
        stream.read_exact(&mut word).await?;
        assert_ne!(&word, b"panic", "as it was told");
        stream.write_all(b"half").await?;
        stream.flush().await?;
        Err(io::Error::other("out of paper"))
    };
    other.handle(ECHO, fails).await.expect("it runs");
    for (word, why) in [(b"error", "out of paper"), (b"panic", "as it was told")] {
        let mut stream = opened(&one, &other).await;
        stream.write_all(word).await.expect("it is there");
        stream.flush().await.expect("it is there");
        let error = rest(stream).await.expect_err("it was reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let (protocol, peer, reason) = failure(&mut other).await;
        assert_eq!((&*protocol, peer), (ECHO, one.id()));
        assert!(reason.contains(why), "{reason}");
    }
}

#[tokio::test]
async fn a_stream_that_nobody_reads_holds_a_window_and_the_rest_waits() {
    let (one, other) = pair("/memory/0").await;
    let (go, read) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let (goes, reads) = (Arc::clone(&go), Arc::clone(&read));
    let slow = move |_, mut stream: ProtocolStream| {
        let (go, read) = (Arc::clone(&goes), Arc::clone(&reads));
        async move {
            go.notified().await;
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await?;
            read.store(all.len(), Ordering::Relaxed);
            stream.close().await
        }
    };
    other.handle(ECHO, slow).await.expect("it runs");
    let mut stream = opened(&one, &other).await;
    let (piece, mut sent) = (vec![7; 1 << 16], 0);
    // That nothing more goes is to be seen in time only.
    let patience = Duration::from_millis(300);
    while let Ok(count) = tokio::time::timeout(patience, stream.write(&piece)).await {
        sent += count.expect("it is there");
        assert!(sent < 8 << 20, "it has no end");
    }
    // Its window, but for what the protocol's name took.
    assert!(sent >= (1 << 18) - 256, "{sent}");
    // Others are not held up.
    echoes_beside(&one, &other).await;
    go.notify_one();
    let rest_of_it = vec![7; 4 << 20];
    soon("room", stream.write_all(&rest_of_it))
        .await
        .expect("it is read now");
    stream.close().await.expect("it is there");
    assert_eq!(rest(stream).await.expect("an end"), b"");
    assert_eq!(read.load(Ordering::Relaxed), sent + rest_of_it.len());
}

#[tokio::test]
async fn streams_that_nobody_reads_hold_up_no_vote_and_no_answer() {
    // Of each stream nearly a window: over QUIC four of them are all of a connection's.
    for (address, each) in [(TCP, 250_000), ("/ip4/127.0.0.1/udp/0/quic-v1", 1_000_000)] {
        let (mut one, mut other) = pair(address).await;
        let (go, heard) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        // As many as there may be, and each writes what the other does not read.
        for node in [&one, &other] {
            let (go, heard) = (Arc::clone(&go), Arc::clone(&heard));
            let slow = move |_, mut stream: ProtocolStream| {
                let (go, heard) = (Arc::clone(&go), Arc::clone(&heard));
                async move {
                    // It is closed when it is time.
                    let _ = go.acquire().await;
                    heard.fetch_add(1, Ordering::Relaxed);
                    let mut all = Vec::new();
                    stream.read_to_end(&mut all).await?;
                    heard.fetch_add(all.len(), Ordering::Relaxed);
                    stream.close().await
                }
            };
            node.handle(ECHO, slow).await.expect("it runs");
        }
        let mut streams = Vec::new();
        for _ in 0..MAX {
            streams.push(opened(&one, &other).await);
            streams.push(opened(&other, &one).await);
        }
        let piece = vec![7; each];
        let writes = streams.iter_mut().map(|stream| stream.write_all(&piece));
        let written = soon("room", futures::future::try_join_all(writes)).await;
        written.expect("they are there");
        for number in 0..3 {
            let vote = |of: &str| Item::Vote(Vote::new(format!("{of} {number}")));
            one.submit(vote("one")).await.expect("it is sent");
            other.submit(vote("other")).await.expect("it is sent");
            for node in [&mut one, &mut other] {
                let mut items = [node.item().await.2, node.item().await.2];
                items.sort();
                assert!(
                    items[0].is_none() && items[1].is_some(),
                    "its own and the other's"
                );
            }
            let question = || StateRequest::default();
            for (from, to) in [(&one, &other), (&other, &one)] {
                // Whatever the answer is.
                let asked = soon("an answer", from.request_state(to.id(), question())).await;
                assert!(!matches!(asked, Err(ProtocolError::Timeout)), "{asked:?}");
            }
        }
        unblamed(&mut one);
        unblamed(&mut other);
        // Nothing of it is lost, and all of it can be had.
        go.close();
        let ends = streams.into_iter().map(|mut stream| async move {
            stream.close().await?;
            rest(stream).await
        });
        let ends = soon("the ends", futures::future::join_all(ends)).await;
        assert!(ends.iter().all(|end| matches!(end.as_deref(), Ok(b""))));
        assert_eq!(heard.load(Ordering::Relaxed), 2 * MAX * (each + 1));
    }
}

/// They are full one and all, and have taken no more of their windows than they need.
#[tokio::test]
async fn what_others_leave_unread_resets_no_stream_that_is_read() {
    const GREEDY: usize = 6;
    const EACH: usize = 100_000;
    let address = "/ip4/127.0.0.1/udp/0/quic-v1";
    let (mut node, mut honest) = pair(address).await;
    let (go, heard) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let (goes, hears) = (Arc::clone(&go), Arc::clone(&heard));
    let slow = move |_, mut stream: ProtocolStream| {
        let (go, heard) = (Arc::clone(&goes), Arc::clone(&hears));
        async move {
            // It is closed when it is time.
            let _ = go.acquire().await;
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await?;
            heard.fetch_add(all.len(), Ordering::Relaxed);
            stream.close().await
        }
    };
    let holds = |_, stream: ProtocolStream| async move {
        let _stream = stream;
        pending().await
    };
    node.handle("/never/1", holds).await.expect("it runs");
    node.handle(ECHO, slow).await.expect("it runs");
    let piece = vec![7; EACH];
    let mut unread = Vec::new();
    for _ in 0..GREEDY {
        let mut greedy = Node::start(listening(address)).await;
        connect(&mut greedy, &mut node).await;
        let mut streams = Vec::new();
        for _ in 0..MAX {
            let stream = greedy.open(node.id(), "/never/1").await;
            let mut stream = stream.expect("there is room");
            stream.write_all(&piece).await.expect("it is there");
            streams.push(stream);
        }
        heard_by(&node, &greedy).await;
        unread.push((greedy, streams));
    }
    let mut streams = Vec::new();
    for _ in 0..MAX {
        let mut stream = opened(&honest, &node).await;
        stream.write_all(&piece).await.expect("it is there");
        streams.push(stream);
    }
    heard_by(&node, &honest).await;
    go.close();
    let ends = streams.into_iter().map(|mut stream| async move {
        stream.close().await?;
        rest(stream).await
    });
    let ends = soon("the ends", futures::future::join_all(ends)).await;
    assert!(ends.iter().all(|end| matches!(end.as_deref(), Ok(b""))));
    assert_eq!(heard.load(Ordering::Relaxed), MAX * EACH);
    unblamed(&mut honest);
}

/// What was sent before this is there when it is answered.
async fn heard_by(node: &Node, from: &Node) {
    let asked = soon(
        "an answer",
        from.request_state(node.id(), StateRequest::default()),
    )
    .await;
    assert!(!matches!(asked, Err(ProtocolError::Timeout)), "{asked:?}");
}

#[tokio::test]
async fn whoever_waits_hears_that_this_side_has_disconnected() {
    for address in ["/memory/0", TCP, "/ip4/127.0.0.1/udp/0/quic-v1"] {
        let (mut one, other) = pair(address).await;
        let holds = |_, stream| async move {
            let _stream: ProtocolStream = stream;
            pending().await
        };
        other.handle(ECHO, holds).await.expect("it runs");
        let mut reads = opened(&one, &other).await;
        let mut writes = opened(&one, &other).await;
        let begun = Arc::new(Semaphore::new(0));
        let says = Arc::clone(&begun);
        let waits = tokio::spawn(async move {
            let mut nothing = [0];
            let read = async {
                says.add_permits(1);
                reads.read(&mut nothing).await.map(drop)
            };
            let much = vec![7; 16 << 20];
            let written = async {
                says.add_permits(1);
                writes.write_all(&much).await
            };
            futures::join!(read, written)
        });
        let _ = begun.acquire_many(2).await.expect("it is open");
        one.disconnect(other.id()).await.expect("it is there");
        let (read, written) = soon("the ends", waits).await.expect("no panic");
        for end in [read, written] {
            let error = end.expect_err("it was cut off");
            assert_eq!(
                error.kind(),
                ErrorKind::ConnectionReset,
                "{address}: {error}"
            );
        }
        one.disconnected(other.id()).await;
    }
}

async fn echoes_beside(one: &Node, other: &Node) {
    one.handle("/beside/1", echo).await.expect("it runs");
    let stream = other.open(one.id(), "/beside/1").await;
    echoes(stream.expect("there is room"), b"beside").await;
}

#[tokio::test]
async fn as_many_as_may_be_are_open_and_a_place_that_is_free_is_taken_again() {
    let (one, other) = pair("/memory/0").await;
    other.handle(ECHO, echo).await.expect("it runs");
    let mut streams = Vec::new();
    for _ in 0..MAX {
        streams.push(opened(&one, &other).await);
    }
    let busy = one.open(other.id(), ECHO).await.expect_err("no room");
    let NetworkError::Protocol(ProtocolError::TooManyStreams(MAX)) = busy else {
        panic!("{busy:?}");
    };
    assert_eq!(busy.code(), "busy");
    // Its end is heard there before a stream that comes after it.
    let ends = streams.pop().expect("one");
    echoes(ends, b"the last word").await;
    echoes(opened(&one, &other).await, b"again").await;
}

#[tokio::test]
async fn the_end_of_a_node_resets_its_streams() {
    for stays in [false, true] {
        let (mut one, other) = pair(TCP).await;
        let holds = |_, stream| async move {
            let _stream: ProtocolStream = stream;
            pending().await
        };
        other.handle(ECHO, holds).await.expect("it runs");
        let stream = opened(&one, &other).await;
        let end = stream.connection_end();
        if stays {
            one.disconnect(other.id()).await.expect("it is there");
        } else {
            soon("the end", other.shutdown()).await;
        }
        soon("the connection's end", end).await;
        let error = rest(stream).await.expect_err("it was cut off");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
        one.disconnected(other.id()).await;
        let refused = one.open(other.id(), ECHO).await.expect_err("it is gone");
        assert_eq!(refused.code(), "not-connected");
    }
}

/// A peer with streams by libp2p's own crate, which bounds nothing.
#[derive(NetworkBehaviour)]
struct Raw {
    identify: identify::Behaviour,
    streams: libp2p_stream::Behaviour,
}

fn raw() -> Swarm<Raw> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            libp2p::tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )
        .expect("a transport")
        .with_behaviour(|key| Raw {
            identify: identify::Behaviour::new(identify::Config::new(
                "/raw/1".to_owned(),
                key.public(),
            )),
            streams: libp2p_stream::Behaviour::new(),
        })
        .expect("a behaviour")
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
        .build()
}

#[tokio::test]
async fn a_plain_peer_is_served_once_it_is_known_and_has_no_more_than_its_share() {
    let mut node = Node::start(listening(TCP)).await;
    let (sender, mut held) = mpsc::unbounded_channel();
    let holds = move |_, stream: ProtocolStream| {
        let sender = sender.clone();
        async move {
            let _ = sender.send(stream);
            Ok(())
        }
    };
    node.handle("/hold/1", holds).await.expect("it runs");
    node.handle(ECHO, echo).await.expect("it runs");
    let mut raw = raw();
    let (id, mut control) = (*raw.local_peer_id(), raw.behaviour().streams.new_control());
    let mut theirs = control
        .accept(StreamProtocol::new("/theirs/1"))
        .expect("nobody has it");
    let address: Multiaddr = node.address();
    raw.dial(address).expect("it can be dialled");
    tokio::spawn(async move {
        loop {
            raw.select_next_some().await;
        }
    });
    // At once: it is not known yet what this peer is.
    let mut streams = Vec::new();
    let peer = node.id();
    let mut open = async |name| {
        let opened = control.open_stream(peer, StreamProtocol::new(name)).await;
        opened.expect("it is negotiated")
    };
    for _ in 0..MAX {
        streams.push(open("/hold/1").await);
    }
    node.connected(id).await;
    let mut kept = Vec::new();
    for _ in 0..MAX {
        kept.push(soon("a stream", held.recv()).await.expect("one more"));
    }
    let mut surplus = open("/hold/1").await;
    let mut nothing = [0];
    let end = soon("the reset", surplus.read(&mut nothing)).await;
    assert!(!matches!(end, Ok(1)), "{end:?}");
    assert!(held.try_recv().is_err());
    drop(kept);
    echoes(open(ECHO).await, b"there is room again").await;
    // And the other way.
    let stream = node.open(id, "/theirs/1").await.expect("it has that");
    let (from, theirs) = soon("it there", theirs.next()).await.expect("one");
    assert_eq!(from, peer);
    let served = tokio::spawn(async move {
        let (read, mut write) = theirs.split();
        futures::io::copy(read, &mut write).await?;
        write.close().await
    });
    echoes(stream, b"of another make").await;
    served.await.expect("no panic").expect("it ends in order");
}

/// A peer that says no hello, though it is one of ours by what identify says: here nothing, so it is not known what it is.
#[derive(NetworkBehaviour)]
struct Silent {
    streams: libp2p_stream::Behaviour,
}

#[tokio::test]
async fn strangers_that_say_no_hello_take_nobody_s_place() {
    let mut config = listening(TCP);
    config.network.connection_timeout = Duration::from_secs(60);
    let mut node = Node::start(config).await;
    node.handle(ECHO, echo).await.expect("it runs");
    let mut friend = Node::start(listening(TCP)).await;
    connect(&mut friend, &mut node).await;
    // As many as would fill the room of all, and some that wait on.
    let mut held = Vec::new();
    for _ in 0..64 {
        let mut silent = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(
                libp2p::tcp::Config::default(),
                noise::Config::new,
                yamux::Config::default,
            )
            .expect("a transport")
            .with_behaviour(|_| Silent {
                streams: libp2p_stream::Behaviour::new(),
            })
            .expect("a behaviour")
            .with_swarm_config(|config| {
                config.with_idle_connection_timeout(Duration::from_secs(60))
            })
            .build();
        let mut control = silent.behaviour().streams.new_control();
        silent.dial(node.address()).expect("it can be dialled");
        tokio::spawn(async move {
            loop {
                silent.select_next_some().await;
            }
        });
        for _ in 0..MAX {
            match control
                .open_stream(node.id(), StreamProtocol::new(ECHO))
                .await
            {
                Ok(stream) => held.push(stream),
                Err(_) => break,
            }
        }
    }
    assert!(held.len() > 512, "{}", held.len());
    for _ in 0..MAX {
        echoes(opened(&friend, &node).await, b"there is room").await;
    }
}
