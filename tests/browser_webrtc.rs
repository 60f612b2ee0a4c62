//! The browser's WebRTC multiplexer between two connections of one page, which need no server: they are told
//! each other's descriptions. That a page reaches a native node is in tests/browser/join.test.mjs.
//!
//! Only a page has `RTCPeerConnection`. Nothing here sleeps.
#![cfg(target_arch = "wasm32")]

use std::{future::poll_fn, io, pin::Pin, task::Poll};

use futures::{
    AsyncReadExt, AsyncWriteExt,
    future::{Either, join, join_all, select},
    pin_mut,
};
use js_sys::{Function, Promise, Reflect};
use libp2p::core::muxing::StreamMuxer;
use selkie::transport::webrtc::{Connection, MAX_OURS, MAX_UNREAD, MAX_WAITING, Stream};
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use wasm_bindgen_futures::JsFuture;
use wasm_bindgen_test::wasm_bindgen_test;
use web_sys::{RtcPeerConnection, RtcSdpType, RtcSessionDescriptionInit};

/// Two connections to each other, and a first stream between them.
struct Pair {
    a: Connection,
    b: Connection,
    first: (Stream, Stream),
    /// What the browser calls them.
    peers: (RtcPeerConnection, RtcPeerConnection),
}

impl Pair {
    async fn new() -> Self {
        let [(mut a, peer_a), (mut b, peer_b)] = [(); 2].map(|()| {
            let peer = RtcPeerConnection::new().expect("a page has WebRTC");
            (Connection::new(peer.clone()), peer)
        });
        // The offer speaks of data channels only if there is one.
        let here = open(&mut a).await;
        let offer = described(&peer_a, RtcSdpType::Offer, peer_a.create_offer()).await;
        done(peer_b.set_remote_description(&offer)).await;
        let answer = described(&peer_b, RtcSdpType::Answer, peer_b.create_answer()).await;
        done(peer_a.set_remote_description(&answer)).await;
        let there = accept(&mut b).await.expect("the first stream");
        Self {
            a,
            b,
            first: (here, there),
            peers: (peer_a, peer_b),
        }
    }

    /// A stream, on both sides.
    async fn open_stream(&mut self) -> (Stream, Stream) {
        let here = open(&mut self.a).await;
        (here, accept(&mut self.b).await.expect("a stream"))
    }

    /// A few bytes over a stream.
    async fn exchange(&mut self) -> Vec<u8> {
        let (mut a, mut b) = self.open_stream().await;
        self.drive(async {
            a.write_all(b"on").await.expect("written");
            a.flush().await.expect("flushed");
            read(&mut b, 2).await
        })
        .await
    }

    /// Lets both connections do what they have to do beside a test's own work.
    async fn drive<T>(&mut self, work: impl Future<Output = T>) -> T {
        let Self { a, b, .. } = self;
        let driving = poll_fn(|cx| {
            let _ = Pin::new(&mut *a).poll(cx);
            let _ = Pin::new(&mut *b).poll(cx);
            Poll::<()>::Pending
        });
        pin_mut!(driving, work);
        match select(driving, work).await {
            Either::Left(((), _)) => unreachable!("it never ends"),
            Either::Right((result, _)) => result,
        }
    }
}

async fn open(connection: &mut Connection) -> Stream {
    poll_fn(|cx| Pin::new(&mut *connection).poll_outbound(cx))
        .await
        .expect("a stream")
}

async fn accept(connection: &mut Connection) -> Result<Stream, selkie::transport::webrtc::Error> {
    poll_fn(|cx| Pin::new(&mut *connection).poll_inbound(cx)).await
}

/// A description with all its candidates.
async fn described(
    peer: &RtcPeerConnection,
    kind: RtcSdpType,
    made: Promise,
) -> RtcSessionDescriptionInit {
    let gathered = Promise::new(&mut |resolve, _| {
        let listener = Closure::<dyn Fn(JsValue)>::new(move |event: JsValue| {
            // The last event has no candidate.
            if Reflect::get(&event, &"candidate".into()).is_ok_and(|c| c.is_null()) {
                let _ = resolve.call0(&JsValue::NULL);
            }
        });
        peer.set_onicecandidate(Some(listener.into_js_value().unchecked_ref()));
    });
    let made = JsFuture::from(made).await.expect("a description");
    done(peer.set_local_description(made.unchecked_ref())).await;
    done(gathered).await;
    let whole = RtcSessionDescriptionInit::new(kind);
    whole.set_sdp(&peer.local_description().expect("just set").sdp());
    whole
}

async fn done(promise: Promise) {
    JsFuture::from(promise).await.expect("the browser takes it");
}

/// Bytes that betray a swapped, lost or repeated message.
fn pattern(length: usize) -> Vec<u8> {
    (0u32..)
        .flat_map(|n| n.wrapping_mul(0x9E37_79B1).to_be_bytes())
        .take(length)
        .collect()
}

async fn read(stream: &mut Stream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.expect("all of it");
    bytes
}

#[wasm_bindgen_test]
async fn bytes_go_both_ways_in_order_and_whole() {
    let mut pair = Pair::new().await;
    let bytes = pattern(2 << 20);
    let (mut a, mut b) = pair.open_stream().await;
    let echo = async {
        let mut back = Vec::new();
        b.read_to_end(&mut back).await.expect("its end");
        b.write_all(&back).await.expect("written");
        b.close().await.expect("closed");
    };
    let ask = async {
        a.write_all(&bytes).await.expect("written");
        a.close().await.expect("closed");
        let mut back = Vec::new();
        a.read_to_end(&mut back).await.expect("its end");
        back
    };
    let ((), back) = pair.drive(join(echo, ask)).await;
    assert!(back == bytes);
}

#[wasm_bindgen_test]
async fn what_comes_before_anybody_listens_is_not_lost() {
    let mut pair = Pair::new().await;
    let mut theirs = Vec::new();
    for number in 0..20u8 {
        let mut stream = open(&mut pair.a).await;
        pair.drive(async {
            stream.write_all(&[number; 100]).await.expect("written");
            stream.flush().await.expect("flushed");
        })
        .await;
        theirs.push(stream);
    }
    // Channels come in the order of their opening, so that this byte is the last to arrive.
    for number in 0..20u8 {
        let mut stream = accept(&mut pair.b).await.expect("a stream");
        assert_eq!(pair.drive(read(&mut stream, 100)).await, [number; 100]);
    }
}

#[wasm_bindgen_test]
async fn what_was_written_last_arrives_though_the_stream_is_dropped() {
    let mut pair = Pair::new().await;
    let bytes = pattern(100_000);
    let (mut a, mut b) = pair.open_stream().await;
    pair.drive(async {
        a.write_all(&bytes).await.expect("written");
        a.close().await.expect("closed");
    })
    .await;
    drop(a);
    let mut all = Vec::new();
    pair.drive(b.read_to_end(&mut all)).await.expect("its end");
    assert!(all == bytes);
}

#[wasm_bindgen_test]
async fn a_stream_dropped_before_its_end_is_a_reset() {
    let mut pair = Pair::new().await;
    let (a, mut b) = pair.open_stream().await;
    drop(a);
    // libp2p-webrtc-utils tells the reset by a read after the end.
    assert_eq!(pair.drive(b.read(&mut [0])).await.expect("the end"), 0);
    let error = pair.drive(b.read(&mut [0])).await.expect_err("a reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[wasm_bindgen_test]
async fn who_opens_more_streams_than_may_wait_loses_them() {
    let mut pair = Pair::new().await;
    const TOO_MANY: usize = 5;
    let mut streams = Vec::new();
    for _ in 0..MAX_WAITING + TOO_MANY {
        streams.push(open(&mut pair.a).await);
    }
    let ends = join_all(streams.iter_mut().rev().take(TOO_MANY).map(|stream| async {
        // A closed channel is the end of its bytes.
        stream.read(&mut [0]).await.expect("the end")
    }));
    assert_eq!(pair.drive(ends).await, [0; TOO_MANY]);
    for _ in 0..MAX_WAITING {
        accept(&mut pair.b).await.expect("a stream that waited");
    }
}

#[wasm_bindgen_test]
async fn without_a_number_for_a_stream_the_connection_breaks_and_nothing_else() {
    let mut pair = Pair::new().await;
    // As browsers do where all numbers are taken, be it by a peer that opens its channels under ours.
    let none_left = Function::new_with_args(
        "peer",
        "peer.createDataChannel = () => { throw new DOMException('none left', 'OperationError') }",
    );
    none_left
        .call1(&JsValue::NULL, &pair.peers.0)
        .expect("a method can be hidden");
    let refused = poll_fn(|cx| Pin::new(&mut pair.a).poll_outbound(cx)).await;
    assert!(refused.is_err());
    assert_eq!(Pair::new().await.exchange().await, b"on");
}

#[wasm_bindgen_test]
async fn who_has_many_streams_open_waits_for_one_to_end() {
    let mut pair = Pair::new().await;
    let mut streams = Vec::new();
    while streams.len() < MAX_OURS - 1 {
        let (here, _) = pair.open_stream().await;
        streams.push(here);
    }
    let next = poll_fn(|cx| Poll::Ready(Pin::new(&mut pair.a).poll_outbound(cx).is_pending()));
    assert!(next.await, "the first stream is one too");
    drop(streams.pop());
    let Pair { a, b, .. } = &mut pair;
    let opened = poll_fn(|cx| {
        let _ = Pin::new(&mut *a).poll(cx);
        let _ = Pin::new(&mut *b).poll(cx);
        Pin::new(&mut *a).poll_outbound(cx)
    });
    assert!(opened.await.is_ok());
}

#[wasm_bindgen_test]
async fn who_sends_more_than_may_wait_unread_loses_the_stream() {
    let mut pair = Pair::new().await;
    let (mut a, mut b) = pair.open_stream().await;
    let chunk = [7; 8 * 1024];
    let sent = pair
        .drive(async {
            let mut sent = 0;
            while a.write_all(&chunk).await.is_ok() && a.flush().await.is_ok() {
                sent += chunk.len();
            }
            sent
        })
        .await;
    assert!(sent >= MAX_UNREAD, "{sent}");
    let error = pair.drive(b.read(&mut [0])).await.expect_err("overrun");
    assert!(error.to_string().contains("more than may wait"), "{error}");
    // The connection goes on, and its room is free again.
    assert_eq!(pair.exchange().await, b"on");
}

#[wasm_bindgen_test]
async fn a_connection_that_is_closed_ends_the_other_sides_streams() {
    let mut pair = Pair::new().await;
    poll_fn(|cx| Pin::new(&mut pair.a).poll_close(cx))
        .await
        .expect("closed");
    let end = pair.first.1.read(&mut [0]).await;
    assert_eq!(end.expect("the end"), 0);
}
