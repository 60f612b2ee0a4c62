//! Small blocks over a long line, beside one a round trip.

use selkie::chain::ChainStore;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    lines::{delayed, port_of},
    nodes::{LISTEN, config, runtime, started},
    small_chain::SmallChain,
    support::{Figure, Measured, full_or},
    synced,
};

/// Blocks, and their bytes.
const SMALL: (u64, usize) = (50_000, 300);
/// So many times one at a time.
const TIMES: f64 = 500.0;

pub fn measure() -> Vec<Figure> {
    runtime().block_on(small())
}

async fn small() -> Vec<Figure> {
    let (count, bytes) = (full_or(SMALL.0, 500), SMALL.1);
    eprintln!("{count} blocks of {bytes} bytes over a line of 200 ms");
    let chain = SmallChain::of(count, bytes);
    let source = started(config(Some(LISTEN)), chain.clone()).await;
    let mine = SmallChain::default();
    let sink = started(config(None), mine.clone()).await;
    let round_trips = round_trips(delayed(echo().await).await).await;
    let one_each = round_trips.iter().map(|round_trip| 1.0 / round_trip);
    let port = delayed(port_of(&source.listeners()[0])).await;
    let at = format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}", source.local_peer_id);
    let took = synced(&sink, at.parse().expect("an address"), count).await;
    assert_eq!(mine.tip(), chain.tip());
    vec![Figure {
        name: "small blocks, 200 ms round trip".to_owned(),
        value: (count as f64 / took.as_secs_f64()).into(),
        unit: "blocks/s",
        baseline: Some(Measured::of(one_each)),
        baseline_name: "one a round trip",
        target: Some(TIMES..=f64::INFINITY),
    }]
}

/// A port that says what it hears.
async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).expect("it is open");
            let (mut from, mut to) = stream.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from, &mut to).await });
        }
    });
    port
}

/// How long a byte takes there and back, in seconds.
async fn round_trips(port: u16) -> Vec<f64> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("there");
    stream.set_nodelay(true).expect("it is open");
    let mut samples = Vec::new();
    for _ in 0..5 {
        let begin = std::time::Instant::now();
        stream.write_all(&[1]).await.expect("it is open");
        stream.read_exact(&mut [0]).await.expect("it is open");
        samples.push(begin.elapsed().as_secs_f64());
    }
    samples
}
