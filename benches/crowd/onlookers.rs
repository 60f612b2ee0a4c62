//! Peers that are told of everything and want nothing, since others have pushed it to them already: most of a node's peers are such.
//!
//! They are raw peers, so that a thousand of them need less than a core: each reads what comes, acknowledges each frame when it is whole, as a node does, and asks
//! for nothing.

use std::sync::Arc;

use futures::{AsyncReadExt, StreamExt, stream};
use libp2p::{Multiaddr, identity::Keypair};
use tokio::sync::mpsc;

use crate::{
    JOINING,
    lab::{
        link::{Link, Manners, PIECE, Service, put},
        proto::{Proto, take_varint},
    },
};

/// Fields of a frame of docs/propagation.md.
const ACKNOWLEDGE: u64 = 5;

/// So many of them; they stay as long as this is held.
pub async fn join(count: usize, hub: &Multiaddr) -> Vec<Link> {
    let joining = stream::iter(0..count).map(|_| onlooker(hub));
    joining.buffer_unordered(JOINING).collect().await
}

async fn onlooker(hub: &Multiaddr) -> Link {
    let (note, mut noted) = mpsc::unbounded_channel::<usize>();
    let read = move |mut stream: libp2p::core::muxing::SubstreamBox| {
        let note = note.clone();
        let reading = async move {
            let (mut buffer, mut begun) = (vec![0; PIECE / 16], Vec::new());
            while let Ok(bytes @ 1..) = stream.read(&mut buffer).await {
                begun.extend_from_slice(&buffer[..bytes]);
                let whole = whole_frames(&begun);
                if whole > 0 {
                    begun.drain(..whole);
                    let _ = note.send(whole);
                }
            }
        };
        Box::pin(reading) as futures::future::BoxFuture<'static, ()>
    };
    let manners = Manners::good().with("/bulk/1", Service::Custom(Arc::new(read)));
    let link = Link::join(hub, &Keypair::generate_ed25519(), manners).await;
    let link = link.expect("there is a place");
    let lanes = futures::try_join!(
        link.lane("/urgent/1"),
        link.lane("/block/1"),
        link.lane("/bulk/1")
    );
    let (mut urgent, block, bulk) = lanes.expect("it speaks them");
    tokio::spawn(async move {
        let _open = (block, bulk);
        while let Some(bytes) = noted.recv().await {
            let all = bytes + std::iter::from_fn(|| noted.try_recv().ok()).sum::<usize>();
            let acknowledge = Proto::new().uint(1, all as u64).uint(2, all as u64);
            let frame = Proto::new().bytes(ACKNOWLEDGE, acknowledge).framed();
            if put(&mut urgent, &frame).await.is_err() {
                return;
            }
        }
    });
    link
}

/// How many bytes there are of frames that are whole, with the lengths in front.
fn whole_frames(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    loop {
        let before = rest.len();
        let length = take_varint(&mut rest).and_then(|length| usize::try_from(length).ok());
        match length.and_then(|length| rest.get(length..)) {
            Some(after) => rest = after,
            None => return bytes.len() - before,
        }
    }
}
