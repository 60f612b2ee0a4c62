//! The baseline: one stream of bare libp2p, whose bytes nobody looks into.

use std::{
    io,
    sync::mpsc,
    time::{Duration, Instant},
};

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{
    Multiaddr, Stream, StreamProtocol, Swarm, SwarmBuilder, multiaddr::Protocol, noise,
    swarm::SwarmEvent, tcp, yamux,
};

use crate::{
    child,
    snapshot::{CHUNK, figures},
    state::noise as bytes_of,
};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/bench/1");
const IDLE: Duration = Duration::from_secs(3600);

fn node() -> Swarm<libp2p_stream::Behaviour> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default().nodelay(true),
            noise::Config::new,
            yamux::Config::default,
        )
        .expect("tcp")
        .with_quic()
        .with_behaviour(|_| libp2p_stream::Behaviour::new())
        .expect("a behaviour")
        .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE))
        .build()
}

/// The child at the source.
pub async fn serve(listen: &str, bytes: &str) {
    let bytes: usize = bytes.parse().expect("a number");
    let mut swarm = node();
    let mut control = swarm.behaviour().new_control();
    let mut streams = control.accept(PROTOCOL).expect("nobody has it");
    tokio::spawn(async move {
        while let Some((_, stream)) = streams.next().await {
            tokio::spawn(give(stream, bytes));
        }
    });
    swarm
        .listen_on(listen.parse().expect("an address"))
        .expect("it listens");
    child::answer(|| figures(0.0));
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            println!("{address}/p2p/{}", swarm.local_peer_id());
        }
    }
}

async fn give(mut stream: Stream, mut left: usize) -> io::Result<()> {
    let piece = bytes_of(1, CHUNK as usize);
    while left > 0 {
        let now = &piece[..piece.len().min(left)];
        stream.write_all(now).await?;
        left -= now.len();
    }
    stream.close().await
}

/// The child at the sink: its figures are there once it has all.
pub async fn take(source: &str, bytes: &str) {
    let bytes: usize = bytes.parse().expect("a number");
    let source: Multiaddr = source.parse().expect("an address");
    let Some(Protocol::P2p(peer)) = source.iter().last() else {
        panic!("an address with its peer");
    };
    let mut swarm = node();
    let mut control = swarm.behaviour().new_control();
    swarm.dial(source.clone()).expect("it can be dialled");
    loop {
        if let SwarmEvent::ConnectionEstablished { .. } = swarm.select_next_some().await {
            break;
        }
    }
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    let (ended, told) = mpsc::channel();
    child::answer(move || figures(told.recv().expect("it has all")));
    println!("{source}");
    let begin = Instant::now();
    let mut stream = control
        .open_stream(peer, PROTOCOL)
        .await
        .expect("it is negotiated");
    let (mut piece, mut came) = (vec![0; 64 << 10], 0);
    loop {
        match stream.read(&mut piece).await.expect("it is open") {
            0 => break,
            length => came += length,
        }
    }
    assert_eq!(came, bytes);
    ended
        .send(begin.elapsed().as_secs_f64())
        .expect("it is awaited");
    std::future::pending().await
}
