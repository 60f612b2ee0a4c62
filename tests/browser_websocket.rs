//! The browser's WebSocket transport against a server on loopback that behaves well or badly
//! (tests/support/echo-server.mjs, which also tells this file its address at compile time).
//!
//! One binary for all places: the environment of the test runner says whether it runs in a page,
//! in a worker or in Node. Nothing here sleeps: where the other side must have seen something first,
//! the server is asked and answers when it has.
#![cfg(target_arch = "wasm32")]

use std::{
    io,
    pin::{Pin, pin},
    task::Poll,
};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, future::join, poll};
use libp2p::{
    Multiaddr,
    core::{
        Endpoint, Transport as _,
        transport::{DialOpts, ListenerId, PortUse, TransportError},
    },
};
use selkie::transport::websocket::{
    Connection, Error, MAX_MESSAGE, MAX_UNREAD, MAX_UNSENT, Transport,
};
use wasm_bindgen_test::{console_log, wasm_bindgen_test};
use web_time::Instant;

const DIALER: DialOpts = DialOpts {
    role: Endpoint::Dialer,
    port_use: PortUse::Reuse,
};

/// `/ip4/127.0.0.1/tcp/<port>` of the server.
fn server() -> &'static str {
    match option_env!("SELKIE_TEST_ECHO") {
        Some(address) => address,
        None => panic!("run through tests/support/echo-server.mjs, which sets SELKIE_TEST_ECHO"),
    }
}

/// The address of the server's `path`, which is percent-encoded as multiaddresses want it.
fn at(path: &str) -> Multiaddr {
    let path = path.replace('/', "%2F").replace('?', "%3F");
    format!("{}/x-parity-ws/{path}", server()).parse().unwrap()
}

async fn dial(address: Multiaddr) -> Result<Connection, Error> {
    Transport.dial(address, DIALER).unwrap().await
}

async fn connect(path: &str) -> Connection {
    dial(at(path)).await.unwrap()
}

/// Asks the server a question and waits for its answer.
async fn control(question: &str) -> String {
    let mut connection = connect(&format!("/control/{question}")).await;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Bytes that betray a swapped, lost or repeated message.
fn pattern(length: usize) -> Vec<u8> {
    (0u32..)
        .flat_map(|n| n.wrapping_mul(0x9E37_79B1).to_be_bytes())
        .take(length)
        .collect()
}

fn cause(error: &io::Error) -> &Error {
    error
        .get_ref()
        .and_then(|inner| inner.downcast_ref())
        .unwrap_or_else(|| panic!("not of this transport: {error:?}"))
}

/// Writes until the connection says wait; returns how much it took.
async fn fill(connection: &mut Connection) -> usize {
    let piece = vec![1; MAX_MESSAGE];
    let mut taken = 0;
    while let Poll::Ready(written) = poll!(pin!(connection.write(&piece))) {
        taken += written.unwrap();
    }
    taken
}

#[wasm_bindgen_test]
async fn a_kibibyte_comes_back_and_at_once() {
    const ROUNDS: usize = 300;
    let mut connection = connect("/echo").await;
    let sent = pattern(1024);
    let mut received = vec![0; sent.len()];
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        connection.write_all(&sent).await.unwrap();
        connection.flush().await.unwrap();
        connection.read_exact(&mut received).await.unwrap();
        times.push(start.elapsed());
        assert_eq!(received, sent);
    }
    times.sort();
    let (median, p99) = (times[ROUNDS / 2], times[ROUNDS * 99 / 100]);
    console_log!("1 KiB echo round trip: median {median:?}, p99 {p99:?}");
    // A transport that polls takes its period, 100 ms in the usual one.
    assert!(median.as_millis() < 20, "{median:?}");
    connection.close().await.unwrap();
}

#[wasm_bindgen_test]
async fn many_bytes_come_back_in_order() {
    let connection = connect("/echo").await;
    let sent = pattern(4 * 1024 * 1024 + 3);
    let mut received = vec![0; sent.len()];
    let start = Instant::now();
    let (mut reader, mut writer) = connection.split();
    let (written, read) = join(writer.write_all(&sent), reader.read_exact(&mut received)).await;
    written.unwrap();
    read.unwrap();
    console_log!("4 MiB echo: {:?}", start.elapsed());
    assert!(received == sent);
}

#[wasm_bindgen_test]
async fn a_write_is_split_into_messages() {
    let mut connection = connect("/echo").await;
    let sent = pattern(3 * MAX_MESSAGE);
    assert_eq!(connection.write(&sent).await.unwrap(), MAX_MESSAGE);
    assert_eq!(connection.write(&[]).await.unwrap(), 0);
}

#[wasm_bindgen_test]
async fn a_writer_waits_for_a_slow_peer_and_goes_on() {
    let mut connection = connect("/slow").await;
    let taken = fill(&mut connection).await;
    let limit = usize::try_from(MAX_UNSENT).unwrap();
    assert!((limit..=limit + MAX_MESSAGE).contains(&taken), "{taken}");
    let mut rest = vec![2; 16 * 1024 * 1024];
    *rest.last_mut().unwrap() = 255;
    // More than the buffers between here and there hold: done only once the server reads.
    let (written, _) = join(connection.write_all(&rest), control("release")).await;
    written.unwrap();
    let mut count = [0; 8];
    connection.read_exact(&mut count).await.unwrap();
    assert_eq!(
        str::from_utf8(&count).unwrap(),
        (taken + rest.len()).to_string()
    );
}

#[wasm_bindgen_test]
async fn a_waiting_writer_and_reader_hear_of_a_broken_connection() {
    let mut connection = connect("/slow").await;
    fill(&mut connection).await;
    let (mut reader, mut writer) = connection.split();
    let endless = async {
        loop {
            if let Err(error) = writer.write(&[0; MAX_MESSAGE]).await {
                return error;
            }
        }
    };
    let read = async { reader.read(&mut [0; 1]).await.unwrap_err() };
    let ((written, read), _) = join(join(endless, read), control("abort")).await;
    assert!(matches!(cause(&read), Error::Broken), "{read}");
    assert!(
        matches!(cause(&written), Error::Broken | Error::Closed),
        "{written}"
    );
}

#[wasm_bindgen_test]
async fn what_came_before_the_peers_close_is_read_then_the_end() {
    let mut connection = connect("/close-after?bytes=100000").await;
    let mut received = Vec::new();
    connection.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, vec![7; 100_000]);
    let error = connection.write(&[1]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    connection.close().await.unwrap();
}

#[wasm_bindgen_test]
async fn what_came_before_a_break_is_read_then_the_error() {
    let mut connection = connect("/abort").await;
    let mut received = Vec::new();
    let error = connection.read_to_end(&mut received).await.unwrap_err();
    assert_eq!(received, b"bye");
    assert!(matches!(cause(&error), Error::Broken), "{error}");
    assert!(connection.flush().await.is_err());
}

#[wasm_bindgen_test]
async fn the_peers_reason_is_told() {
    let mut connection = connect("/reject").await;
    let error = connection.read(&mut [0; 1]).await.unwrap_err();
    match cause(&error) {
        Error::ClosedByPeer { code, reason } => {
            assert_eq!((*code, reason.as_str()), (4001, "not today"));
        }
        other => panic!("{other}"),
    }
}

#[wasm_bindgen_test]
async fn closing_waits_for_the_peer_and_wakes_the_reader() {
    let connection = connect("/silent").await;
    let (mut reader, mut writer) = connection.split();
    let mut byte = [0; 1];
    let (read, closed) = join(reader.read(&mut byte), writer.close()).await;
    assert_eq!(read.unwrap(), 0);
    closed.unwrap();
    assert!(writer.write(&[1]).await.is_err());
    writer.close().await.unwrap();
}

#[wasm_bindgen_test]
async fn text_is_an_error() {
    let mut connection = connect("/text").await;
    let error = connection.read(&mut [0; 1]).await.unwrap_err();
    assert!(matches!(cause(&error), Error::Text), "{error}");
}

#[wasm_bindgen_test]
async fn a_flood_that_nobody_reads_ends_the_connection() {
    let mut connection = connect(&format!("/flood?bytes={}", MAX_UNREAD + 1)).await;
    assert_eq!(control("flood-ended").await, "4000");
    let error = connection.read(&mut [0; 1]).await.unwrap_err();
    assert!(matches!(cause(&error), Error::TooMuchUnread), "{error}");
}

#[wasm_bindgen_test]
async fn as_much_as_may_wait_unread_is_read_later() {
    let mut connection = connect(&format!("/close-after?bytes={MAX_UNREAD}")).await;
    // It ends with the server's close, so everything is here by then.
    control("all-closed").await;
    let mut received = Vec::new();
    connection.read_to_end(&mut received).await.unwrap();
    assert_eq!(received.len(), MAX_UNREAD);
}

#[wasm_bindgen_test]
async fn a_port_where_nobody_listens_is_unreachable() {
    let port = control("unused-port").await;
    let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}/ws").parse().unwrap();
    let error = dial(address).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains(&format!("ws://127.0.0.1:{port}/"))
    );
}

#[wasm_bindgen_test]
async fn an_abandoned_dial_leaves_nothing_behind() {
    let mut dialing = Box::pin(dial(at("/silent")));
    assert!(poll!(&mut dialing).is_pending());
    drop(dialing);
    control("all-closed").await;
}

/// Connections that are dropped, some with bytes unread, leave no socket, no JavaScript value and no
/// memory.
#[wasm_bindgen_test]
async fn many_connections_leave_nothing_behind() {
    async fn round(count: usize) -> (u32, usize) {
        for _ in 0..count {
            let mut connection = connect("/echo").await;
            connection.write_all(&[9; 10_000]).await.unwrap();
            connection.read_exact(&mut [0; 100]).await.unwrap();
        }
        control("all-closed").await;
        (
            wasm_bindgen::externref_heap_live_count(),
            core::arch::wasm32::memory_size(0),
        )
    }
    let before = round(20).await;
    let after = round(200).await;
    assert_eq!(before, after, "(values, pages)");
}

#[wasm_bindgen_test]
async fn addresses_of_others_are_left_to_others() {
    const PEER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    let relayed = format!("/ip4/1.2.3.4/tcp/1/ws/p2p/{PEER}/p2p-circuit");
    for address in [
        "/ip4/1.2.3.4/tcp/1",
        "/ip4/1.2.3.4/udp/1/quic-v1",
        "/ip4/1.2.3.4/tcp/1/tls",
        "/dnsaddr/example.org/tcp/1/ws",
        "/memory/1",
        &relayed,
    ] {
        let address: Multiaddr = address.parse().unwrap();
        assert!(unsupported(
            Transport.dial(address.clone(), DIALER),
            &address
        ));
    }
    let hostile: Multiaddr = "/dns/evil.org%2F/tcp/1/ws".parse().unwrap();
    assert!(unsupported(
        Transport.dial(hostile.clone(), DIALER),
        &hostile
    ));
    let fine: Multiaddr = "/ip4/1.2.3.4/tcp/1/ws".parse().unwrap();
    let listener = DialOpts {
        role: Endpoint::Listener,
        ..DIALER
    };
    assert!(unsupported(Transport.dial(fine.clone(), listener), &fine));
    assert!(unsupported(
        Transport.listen_on(ListenerId::next(), fine.clone()),
        &fine
    ));
}

/// Whether the transport handed the address back, untouched.
fn unsupported<T>(result: Result<T, TransportError<Error>>, address: &Multiaddr) -> bool {
    matches!(result, Err(TransportError::MultiaddrNotSupported(back)) if back == *address)
}

/// The URL is in the sentence of a failed dial; nothing listens on these.
#[wasm_bindgen_test]
async fn addresses_become_urls() {
    const PEER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    let port = control("unused-port").await;
    let name = "127.0.0.1";
    for (address, url) in [
        (
            format!("/ip4/{name}/tcp/{port}/wss"),
            format!("wss://{name}:{port}/"),
        ),
        (
            format!("/ip4/{name}/tcp/{port}/tls/ws"),
            format!("wss://{name}:{port}/"),
        ),
        (
            format!("/ip4/{name}/tcp/{port}/ws/p2p/{PEER}"),
            format!("ws://{name}:{port}/"),
        ),
        (
            format!("/ip6/::1/tcp/{port}/ws"),
            format!("ws://[::1]:{port}/"),
        ),
        (
            format!("/dns/localhost/tcp/{port}/ws"),
            format!("ws://localhost:{port}/"),
        ),
        (
            format!("/dns4/localhost/tcp/{port}/ws"),
            format!("ws://localhost:{port}/"),
        ),
        (
            format!("/ip4/1.2.3.4/tcp/{port}/tls/sni/localhost/ws"),
            format!("wss://localhost:{port}/"),
        ),
        (
            format!("/ip4/{name}/tcp/{port}/x-parity-ws/a%2Fb"),
            format!("ws://{name}:{port}/a/b"),
        ),
    ] {
        let error = dial(address.parse().unwrap()).await.unwrap_err();
        assert!(
            error.to_string().contains(&format!(" {url};")),
            "{address}: {error}"
        );
    }
}

/// The swarm moves connections between tasks and pins them.
#[wasm_bindgen_test]
fn a_connection_fits_the_swarm() {
    fn fits<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>() {}
    fits::<Connection>();
    fits::<Pin<Box<Connection>>>();
}
