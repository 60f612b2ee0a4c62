//! The attacks, a file a family.

mod blocks;
mod control;
mod direct;
mod discovery;
mod frames;
mod gossip;
mod handshakes;
mod items;
mod pools;
mod readers;
mod streams;
mod votes;
mod webtransport;

use super::Attack;

pub const FAMILIES: &[&[Attack]] = &[
    control::ATTACKS,
    frames::ATTACKS,
    items::ATTACKS,
    readers::ATTACKS,
    pools::ATTACKS,
    blocks::ATTACKS,
    gossip::ATTACKS,
    discovery::ATTACKS,
    direct::ATTACKS,
    streams::ATTACKS,
    handshakes::ATTACKS,
    webtransport::ATTACKS,
    votes::ATTACKS,
];

/// Fields of a frame of docs/propagation.md.
mod kind {
    pub const ITEMS: u64 = 1;
    pub const ANNOUNCE: u64 = 2;
    pub const FETCH: u64 = 3;
    pub const LINK: u64 = 4;
    pub const ACKNOWLEDGE: u64 = 5;
    pub const BLOCK: u64 = 6;
    pub const CODED: u64 = 7;
    pub const RECONCILE: u64 = 8;
}

const URGENT: &str = "/urgent/1";
const BLOCK: &str = "/block/1";
const BULK: &str = "/bulk/1";

/// A frame of a lane, with its length in front.
fn frame(kind: u64, message: impl AsRef<[u8]>) -> Vec<u8> {
    super::proto::Proto::new().bytes(kind, message).framed()
}

/// An item's id on the lanes.
fn short_id(item: &[u8]) -> [u8; 8] {
    use sha2::{Digest, Sha256};
    *Sha256::digest(item).first_chunk().expect("32 bytes")
}

/// A batch of items, plain.
fn batch<'a>(items: impl IntoIterator<Item = &'a [u8]>) -> super::proto::Proto {
    let items = items.into_iter();
    items.fold(super::proto::Proto::new(), |batch, item| {
        batch.bytes(1, item)
    })
}

/// A batch as an LZ4 block.
fn packed(batch: &super::proto::Proto) -> super::proto::Proto {
    let size = batch.as_ref().len() as u64;
    super::proto::Proto::new()
        .bytes(2, lz4_flex::compress(batch.as_ref()))
        .uint(3, size)
}
