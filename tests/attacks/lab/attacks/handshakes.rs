//! Connections that never come to be: before authentication, and before the hello.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use libp2p::{Multiaddr, identity::Keypair};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpStream, UdpSocket},
};

use crate::lab::{
    Attack,
    attacker::{Ctx, Via},
    link::{Link, Manners, line},
};

pub const ATTACKS: &[Attack] = &[
    Attack::new("silent-tcp", "300 sockets that say nothing", |ctx| {
        Box::pin(sockets(ctx, Via::Tcp, Vec::new()))
    })
    .by(300)
    .newcomers(Via::Tcp),
    Attack::new(
        "half-open-tcp",
        "256 sockets that begin to negotiate Noise and stop",
        |ctx| {
            let words = [line("/multistream/1.0.0"), line("/noise"), vec![0, 32, 1]];
            Box::pin(sockets(ctx, Via::Tcp, words.concat()))
        },
    )
    .by(256)
    .newcomers(Via::Tcp),
    Attack::new(
        "silent-websocket",
        "300 sockets to the WebSocket listener that say nothing",
        |ctx| Box::pin(sockets(ctx, Via::WebSocket, Vec::new())),
    )
    .by(300)
    .newcomers(Via::WebSocket),
    Attack::new(
        "half-open-websocket",
        "256 sockets that send half a request for a WebSocket",
        |ctx| {
            Box::pin(sockets(
                ctx,
                Via::WebSocket,
                b"GET / HTTP/1.1\r\nHost: x\r\n".to_vec(),
            ))
        },
    )
    .by(256)
    .newcomers(Via::WebSocket),
    Attack::new(
        "half-open-quic",
        "256 handshakes of QUIC that end after their first packet, again and again",
        |ctx| Box::pin(quic(ctx)),
    )
    .by(256)
    .newcomers(Via::Quic),
    Attack::new(
        "silent-quic",
        "300 connections by QUIC, authenticated, that say no hello",
        |ctx| Box::pin(mute(ctx, Via::Quic)),
    )
    .by(300)
    .newcomers(Via::Quic),
    Attack::new("no-hello", "50 peers that never say hello", |ctx| {
        Box::pin(mute(ctx, Via::Tcp))
    })
    .by(50)
    .newcomers(Via::Tcp),
];

async fn sockets(ctx: Ctx, via: Via, words: Vec<u8>) {
    ctx.storm(move |ctx, _, _| {
        let words = words.clone();
        async move {
            let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, ctx.port(via))).await?;
            socket.write_all(&words).await?;
            // Until the victim ends it.
            let mut answer = vec![0; 1024];
            while let Ok(1..) = tokio::io::AsyncReadExt::read(&mut socket, &mut answer).await {}
            Ok(())
        }
    })
    .await;
}

async fn mute(ctx: Ctx, via: Via) {
    ctx.storm(move |ctx, key, _| async move {
        let link = Link::dial(&ctx.address(via), &key, Manners::mute()).await?;
        link.ended().await;
        Ok(())
    })
    .await;
}

/// Each handshake goes through sockets of its own that carry all packets to the victim, and the first one back: QUIC's Retry, which has the
/// dialler show that it is where it says.
async fn quic(ctx: Ctx) {
    ctx.storm(|ctx, _, _| async move {
        let port = ctx.port(Via::Quic);
        let ours = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let theirs = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        theirs.connect((Ipv4Addr::LOCALHOST, port)).await?;
        let address: Multiaddr =
            format!("/ip4/127.0.0.1/udp/{}/quic-v1", ours.local_addr()?.port())
                .parse()
                .map_err(io::Error::other)?;
        let dial = tokio::spawn(async move {
            Link::dial(&address, &Keypair::generate_ed25519(), Manners::mute()).await
        });
        let mut retry = vec![0; 2048];
        let (client, packet) = next(&ours).await?;
        theirs.send(&packet).await?;
        let length = theirs.recv(&mut retry).await?;
        ours.send_to(&retry[..length], client).await?;
        let goes_on = async {
            while let Ok((_, packet)) = next(&ours).await {
                let _ = theirs.send(&packet).await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), goes_on).await;
        dial.abort();
        Ok(())
    })
    .await;
}

/// The next packet, and where it is from.
async fn next(socket: &UdpSocket) -> io::Result<(SocketAddr, Vec<u8>)> {
    let mut packet = vec![0; 2048];
    let (length, from) = socket.recv_from(&mut packet).await?;
    packet.truncate(length);
    Ok((from, packet))
}
