use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    swarm::{ConnectionId, NetworkBehaviour},
};

use super::{
    super::{handler::decoder, inner, members::Members, reading::Reading},
    *,
};
use crate::{
    config::Config,
    peers::Account,
    platform::{lock::lock, test},
};

/// What a peer has sent, and sends.
#[derive(Clone, Default)]
struct Line(Arc<Mutex<VecDeque<u8>>>);

impl Line {
    fn send(&self, bytes: impl IntoIterator<Item = u8>) {
        lock(&self.0).extend(bytes);
    }
}

impl AsyncRead for Line {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut bytes = lock(&self.0);
        if bytes.is_empty() {
            return Poll::Pending;
        }
        Poll::Ready(std::io::Read::read(&mut *bytes, buffer))
    }
}

/// A peer of ours that is listened to.
fn listen() -> (Ears<Line>, Line, Arc<Reading>) {
    let (config, peer) = (Config::default(), PeerId::random());
    let reading = Arc::new(Reading::new(&config.protocol.gossipsub_config));
    let mut inner = inner::build(&config, reading.longest).expect("right");
    let (connection, nowhere) = (ConnectionId::new_unchecked(0), Multiaddr::empty());
    let speaker = inner.handle_established_inbound_connection(connection, peer, &nowhere, &nowhere);
    let decoder = decoder(&speaker.expect("let in")).expect("it has one");
    let mut members = Members::default();
    let guest = members.guest(peer, Account::Peer(peer), &reading);
    members.admit(&peer, true, 0);
    reading.know(peer);
    let line = Line::default();
    (Ears::new(line.clone(), decoder, guest), line, reading)
}

fn length(bytes: usize) -> Vec<u8> {
    let mut head = Vec::new();
    prost::encode_length_delimiter(bytes, &mut head).expect("there is room");
    head
}

/// A frame of so many bytes that says nothing: fields that gossipsub has not.
fn frame(bytes: usize) -> Vec<u8> {
    let mut frame = vec![0x7a];
    let inside = bytes - 1 - length(bytes).len();
    frame.extend(length(inside));
    frame.resize(bytes, 0);
    frame
}

#[test]
fn a_long_frame_keeps_its_room_for_no_pace() {
    let (mut ears, line, reading) = listen();
    let all = reading.room.free_kib();
    let long = frame(1 << 20);
    line.send(length(long.len()));
    line.send(long[..1000].iter().copied());
    let own = ears.guest.peer;
    let mut next = ears.next().boxed();
    assert!((&mut next).now_or_never().is_none() && reading.room.free_kib() == all - 1024);
    // Others use up the pace of all.
    let (peer, now) = (PeerId::random(), platform::now());
    let bytes = 64 << 20;
    reading.count(peer, Cost { items: 1, bytes }, now, now);
    line.send(long[1000..].iter().copied());
    let heard = next.now_or_never().expect("it has come");
    drop(heard.expect("it is whole"));
    assert_eq!(reading.room.free_kib(), all);
    // The next one waits without, once its share is used up too.
    reading.count(own, Cost { items: 1, bytes }, now, now);
    line.send(length(long.len()));
    line.send(long);
    assert!(ears.next().now_or_never().is_none());
    assert_eq!(reading.room.free_kib(), all);
}

#[test]
fn what_is_left_of_a_frame_that_was_given_up_is_skipped_and_paid_for() {
    let (mut ears, line, reading) = listen();
    line.send(vec![1; 3000]);
    ears.skips = 3000;
    line.send(length(3));
    line.send(frame(3));
    let heard = ears.next().now_or_never().expect("it is there");
    assert!(
        heard
            .expect("it is whole")
            .is_some_and(|heard| heard.fault.is_none())
    );
    let (peer, long) = (ears.guest.peer, 2 << 20);
    for _ in 0..3 {
        assert_eq!(reading.ready(&peer, platform::now()), Admission::Now);
        line.send(length(long));
        assert!(ears.next().now_or_never().is_none(), "it does not come");
    }
    assert!(matches!(
        reading.ready(&peer, platform::now()),
        Admission::At(_)
    ));
}
