//! Slow lines: ports on loopback behind which another one lies.

use std::{
    io,
    time::{Duration, Instant},
};

use libp2p::multiaddr::Protocol;
use selkie::Multiaddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
};

/// Half a round trip of the long line.
const LATENCY: Duration = Duration::from_millis(100);
/// What of a limited line goes at once; what it lags behind by the system's clock it makes up for.
const PIECE: usize = 16 << 10;
const LAG: Duration = Duration::from_millis(20);
/// Bytes that wait in front of a limited line.
const WAITING: u32 = 128 << 10;

pub fn port_of(address: &Multiaddr) -> u16 {
    let port = address.iter().find_map(|part| match part {
        Protocol::Tcp(port) => Some(port),
        _ => None,
    });
    port.expect("a TCP address")
}

/// A port behind which another one lies at the end of the long line.
pub async fn delayed(far: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(("127.0.0.1", far)).await.expect("there");
            let ((from_near, to_near), (from_far, to_far)) = (halves(near), halves(far));
            tokio::spawn(carry_later(from_near, to_far));
            tokio::spawn(carry_later(from_far, to_near));
        }
    });
    port
}

/// A port behind which another one lies, from which come so many bytes a second, and after so many none.
pub async fn limited(far: u16, per_second: f64, most: u64) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.set_recv_buffer_size(WAITING).expect("it is open");
            let far = socket.connect(([127, 0, 0, 1], far).into()).await;
            let ((mut from_near, to_near), (from_far, mut to_far)) =
                (halves(near), halves(far.expect("there")));
            tokio::spawn(async move { tokio::io::copy(&mut from_near, &mut to_far).await });
            tokio::spawn(carry_slowly(from_far, to_near, per_second, most));
        }
    });
    port
}

fn halves(stream: TcpStream) -> (OwnedReadHalf, OwnedWriteHalf) {
    stream.set_nodelay(true).expect("it is open");
    stream.into_split()
}

/// One direction of the long line: what goes in comes out later, and as much may be on the way as goes in meanwhile.
async fn carry_later(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
    let (put, mut under_way) = mpsc::channel::<(Instant, Vec<u8>)>(1024);
    tokio::spawn(async move {
        while let Some((at, bytes)) = under_way.recv().await {
            tokio::time::sleep_until(at.into()).await;
            to.write_all(&bytes).await?;
        }
        to.shutdown().await
    });
    loop {
        let mut bytes = vec![0; 64 << 10];
        let length = from.read(&mut bytes).await?;
        if length == 0 {
            return Ok(());
        }
        bytes.truncate(length);
        if put.send((Instant::now() + LATENCY, bytes)).await.is_err() {
            return Ok(());
        }
    }
}

/// One direction of a limited line. Where it carries nothing more it stays open.
async fn carry_slowly(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    per_second: f64,
    most: u64,
) -> io::Result<()> {
    let (mut bytes, mut carried, mut free_at) = (vec![0; PIECE], 0, Instant::now());
    while carried < most {
        let length = from.read(&mut bytes).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&bytes[..length]).await?;
        carried += length as u64;
        let least = Instant::now().checked_sub(LAG).unwrap_or(free_at);
        free_at = free_at.max(least) + Duration::from_secs_f64(length as f64 / per_second);
        tokio::time::sleep_until(free_at.into()).await;
    }
    std::future::pending().await
}
