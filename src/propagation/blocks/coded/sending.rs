//! What goes to a peer next.
//!
//! A source sends each chunk to one peer only, unasked and marked to be spread, so that after one upload of the block
//! the network holds all of it. Who gets such a chunk is the only one to have it, and passes it on unasked as well. All
//! others send what they are asked for. Chunks that fewer of our peers hold go first, counting what is on its way to
//! them.
//!
//! To ask costs a round trip. While a peer has not said a word about the broadcast, that is idle time, so a node in between sends
//! it one chunk in four unasked: less than half of these meet a copy on its way.

use libp2p::PeerId;

use super::broadcast::{Broadcast, Phase};
use super::chunk_set::ChunkSet;
use super::link::Link;
use super::wire::{Announce, Frame, Status};
use crate::platform::Instant;

/// The most chunks that are sent unasked to a peer that has not said a word about the broadcast.
const MAX_UNHEARD: usize = 16;
/// One chunk in so many is sent unasked by a node in between to a peer that has not said a word about the broadcast.
const EAGER: u64 = 4;

impl Broadcast {
    /// What the peer is to be told before it gets any chunk, if that fits into `room` bytes.
    pub(super) fn next_word(&mut self, to: &PeerId, room: usize, now: Instant) -> Option<Frame> {
        let (id, held, done) = (self.id(), self.held, self.is_done());
        let silent = self.phase() == Phase::Header;
        let link = self.links.get_mut(to).filter(|_| !silent)?;
        let announces = !link.told && !link.heard;
        let frame = if announces {
            Frame::Announce(Announce {
                announcement: self.announcement.clone(),
                have: held,
            })
        } else if link.stale || !link.told {
            Frame::Status(Status {
                broadcast: id,
                have: held,
                want: link.asked,
                done,
            })
        } else {
            return None;
        };
        if frame.encoded_len() > room {
            return None;
        }
        link.told = true;
        if !announces && link.tells_wants(now) {
            self.progress = now;
        }
        // An announcement says neither what is wanted nor that nothing is.
        link.stale = announces && (done || !link.asked.is_empty());
        Some(frame)
    }

    /// The next chunk for the peer, if there is one that fits into `room` bytes.
    pub(super) fn next_chunk(&mut self, to: &PeerId, room: usize) -> Option<Frame> {
        let link = self.links.get(to)?;
        if !link.told || link.done || link.barred {
            return None;
        }
        let candidates = self.held - link.known();
        let pushed = candidates & self.pushable(link);
        let wanted = candidates & link.wants;
        let from = if pushed.is_empty() { wanted } else { pushed };
        let index = from
            .iter()
            .min_by_key(|&index| (self.copies(index), self.order(index)))?;
        let mut chunk = self.chunk(index)?;
        chunk.spread = self.source && !self.given().contains(index);
        let frame = Frame::Chunk(chunk);
        if frame.encoded_len() > room {
            return None;
        }
        self.links.get_mut(to)?.sent.insert(index);
        Some(frame)
    }

    /// The chunks that this peer may be sent unasked.
    fn pushable(&self, link: &Link) -> ChunkSet {
        let enough = self.announcement.shape().data_chunks();
        let unheard = !link.heard && link.sent.len() >= MAX_UNHEARD;
        if !link.unasked || unheard || link.known().len() >= enough {
            return ChunkSet::EMPTY;
        }
        if self.source {
            return self.all() - self.given();
        }
        let eager = |index: &u8| !link.heard && self.order(*index).is_multiple_of(EAGER);
        self.spread | self.held.iter().filter(eager).collect()
    }

    /// The chunks that were sent to anybody who is still here.
    fn given(&self) -> ChunkSet {
        let links = self.links.values();
        links.fold(ChunkSet::EMPTY, |all, link| all | link.sent)
    }

    /// How many peers hold a chunk, or will.
    fn copies(&self, index: u8) -> usize {
        let links = self.links.values();
        links.filter(|link| link.known().contains(index)).count()
    }
}
