//! A peer's bytes as messages about snapshots: an error, or something that survives the wire unchanged and that a node takes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use selkie::{
    PeerId,
    sync::snapshots::{Download, DownloadConfig, HashedPiece, Message, Serving, ServingConfig},
};

fuzz_target!(|data: &[u8]| {
    let Ok(message) = Message::decode(data.to_vec().into()) else {
        return;
    };
    assert_eq!(Message::decode(message.encode().into()), Ok(message.clone()));
    let (peer, now) = (PeerId::random(), web_time::Instant::now());
    let mut download = Download::new(DownloadConfig::default(), 0, 1, now);
    let mut serving = Serving::new(ServingConfig::default());
    serving.joined(peer);
    match message {
        Message::Offers(offers) => {
            let own = offers.iter().map(|offer| (offer.clone(), None));
            serving.offer(own.collect::<Vec<_>>());
            assert!(serving.next(&peer, 1 << 20, now).is_some());
            download.offers(peer, offers, now);
        }
        Message::Request(request) => serving.request(peer, request, now),
        Message::Cancel(number) => serving.cancel(peer, number),
        Message::Piece(piece) => download.piece(peer, &HashedPiece::of(piece), now),
        Message::Refusal(refusal) => download.refused(peer, refusal, now),
        Message::Seek | Message::Proof(..) => {}
    }
});
