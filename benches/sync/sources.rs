//! A snapshot from sources behind lines of 5 MB/s: three beside one, and four of which one stalls. All nodes are in this process; what is taken is dropped.

use selkie::{Multiaddr, P2PNetworkManager};

use crate::{
    lines::{limited, port_of},
    nodes::{LISTEN, config, runtime, started},
    state::{Sink, Source, Times},
    support::{Figure, full_or},
};

const BYTES: u64 = 100_000_000;
const CHUNK: u32 = 256 << 10;
/// Bytes a second of each source.
const RATE: f64 = 5e6;
/// What comes of the one that stalls: it does when about three quarters are here.
const STALLS_AFTER: u64 = BYTES * 3 / 16;
/// Beside one source.
const TIMES: f64 = 2.7;
/// Of the time, for the last hundredth.
const LAST: f64 = 0.02;

pub fn measure() -> Vec<Figure> {
    let state = Source::of(full_or(BYTES, 1 << 20), CHUNK);
    let take = |lines: &[u64]| {
        let times = runtime().block_on(taken(&state, lines));
        let took = (times.finished - times.offered).as_secs_f64();
        let last = times.chunks.len() - times.chunks.len().div_ceil(100);
        let since = times.finished - times.chunks[last.saturating_sub(1)];
        let last = since.as_secs_f64() / took;
        eprintln!(
            "   {} sources: {took:.2} s, the last 1% {last:.4} of it",
            lines.len()
        );
        (took, last)
    };
    eprintln!("a snapshot over lines of 5 MB/s");
    let whole = u64::MAX;
    let (one, _) = take(&[whole]);
    let (three, _) = take(&[whole; 3]);
    let (_, last) = take(&[whole, whole, whole, STALLS_AFTER]);
    let rate = |seconds: f64| full_or(BYTES, 1 << 20) as f64 / 1e6 / seconds;
    vec![
        Figure {
            name: "snapshot from three sources of 5 MB/s".to_owned(),
            value: rate(three).into(),
            unit: "MB/s",
            baseline: Some(rate(one).into()),
            baseline_name: "one of them",
            target: Some(TIMES..=f64::INFINITY),
        },
        Figure {
            name: "snapshot from four sources, one stalls, the last 1%".to_owned(),
            value: last.into(),
            unit: "of the time",
            baseline: None,
            baseline_name: "",
            target: Some(0.0..=LAST),
        },
    ]
}

/// Takes it from a source for each line, which carries so many bytes.
async fn taken(state: &Source, lines: &[u64]) -> Times {
    let mut sources: Vec<P2PNetworkManager> = Vec::new();
    let mut addresses: Vec<Multiaddr> = Vec::new();
    for most in lines {
        let source = started(config(Some(LISTEN)), state.clone()).await;
        let port = limited(port_of(&source.listeners()[0]), RATE, *most).await;
        let at = format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}", source.local_peer_id);
        addresses.push(at.parse().expect("an address"));
        sources.push(source);
    }
    let (sink, told) = Sink::new(None);
    let mut config = config(None);
    Sink::trusts(&mut config);
    let node = started(config, sink).await;
    for address in addresses {
        node.dial(address).await.expect("it is there");
    }
    let times = tokio::task::spawn_blocking(move || told.recv().expect("it has all"));
    let times = times.await.expect("no panic");
    node.shutdown().await;
    for source in sources {
        source.shutdown().await;
    }
    times
}
