//! Peers that say anything at any time: a node neither panics nor holds more than it may.

use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;
use proptest::prelude::*;

use super::*;
use crate::chain::{ItemId, Verdict};
use crate::platform::test;

/// Something happens: peer, block, chunk or set, and how much time has passed in milliseconds.
type Event = (u8, u8, u8, u8, u16);

fn verdict(number: u8) -> Verdict {
    [
        Verdict::Accept,
        Verdict::Accept,
        Verdict::Ignore,
        Verdict::Reject,
    ][usize::from(number % 4)]
}

fn frame(block: &Encoded, kind: u8, number: u8) -> Frame {
    let have = ChunkSet::first(usize::from(number % 80));
    match kind % 5 {
        0 => Frame::Announce(Announce {
            announcement: block.announcement().clone(),
            have,
        }),
        1 => Frame::Status(Status {
            broadcast: block.id(),
            have,
            want: ChunkSet::first(usize::from(number)),
            done: number.is_multiple_of(7),
        }),
        _ => {
            let mut chunk = block.chunk(number % 64).expect("a chunk");
            if number.is_multiple_of(31) {
                chunk.data = Bytes::from_static(b"no");
            }
            Frame::Chunk(chunk)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_happens_a_node_stays_within_its_bounds(
        events in prop::collection::vec(any::<Event>(), 0..400),
    ) {
        let config = CodedConfig { max_broadcasts: 3, max_bytes: 9000, ..CodedConfig::default() };
        let peers = [(); 3].map(|()| PeerId::random());
        let blocks: Vec<_> = (1..6u8)
            .map(|i| Encoded::of(ItemId::sha256(&[i / 2]), Bytes::new(), vec![i; 1000].into()).expect("a block"))
            .collect();
        let mut now = crate::platform::now();
        let mut core = Broadcasts::new(config, [1; 16]);
        for (who, what, kind, number, time) in events {
            now += Duration::from_millis(u64::from(time % 300));
            let peer = peers[usize::from(who % 3)];
            let block = &blocks[usize::from(what % 5)];
            let mut actions = match kind {
                0..3 => { core.peer_gone(&peer, now); Vec::new() }
                3..20 => { core.peer_joined(peer, now); Vec::new() }
                20..23 => { let _ = core.start(block.clone(), now); Vec::new() }
                23..40 => core.on_time(now),
                _ => core.receive(peer, frame(block, kind, number), now),
            };
            let mut rounds = 0;
            while let Some(action) = actions.pop() {
                rounds += 1;
                prop_assert!(rounds < 100, "no end of actions");
                actions.extend(match action {
                    Action::CheckHeader { broadcast, .. } => core.header_checked(broadcast, verdict(number), now),
                    Action::Reconstruct(it) => core.reconstructed(it.run(), now),
                    Action::CheckBlock { broadcast, .. } => core.block_checked(broadcast, verdict(time as u8), now),
                    Action::Abandoned { .. } | Action::Needless { .. } | Action::Misdeed { .. } => Vec::new(),
                });
            }
            for peer in &peers {
                let sent = std::iter::from_fn(|| core.next(peer, 4096, now)).take(1000).count();
                prop_assert!(sent < 1000, "no end of frames");
                prop_assert_eq!(core.next(peer, 0, now), None);
            }
            let (count, bytes) = core.load();
            prop_assert!(count <= 3 && bytes <= 9000);
        }
    }
}
