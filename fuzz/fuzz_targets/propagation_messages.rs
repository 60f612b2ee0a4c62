//! A peer's bytes as what the lanes read: each an error, or something that survives the wire unchanged. The first byte says
//! which.

#![no_main]

use libfuzzer_sys::fuzz_target;
use selkie::propagation::{blocks::{coded, compact::BlockMessage}, check_frame, pool::reconcile::Message};

fuzz_target!(|data: &[u8]| {
    let Some((which, data)) = data.split_first() else {
        return;
    };
    let bytes = || data.to_vec().into();
    match which % 5 {
        0 => drop(check_frame(bytes())),
        1 => {
            if let Ok(message) = BlockMessage::decode(bytes(), 1 << 20) {
                let again = BlockMessage::decode(message.encode().into(), 1 << 20);
                assert_eq!(again, Ok(message));
            }
        }
        2 => {
            if let Ok(frame) = coded::Frame::decode(bytes()) {
                assert_eq!(coded::Frame::decode(frame.encode().into()), Ok(frame));
            }
        }
        3 => drop(selkie::check_sync(bytes())),
        _ => {
            if let Ok(message) = Message::from_bytes(data) {
                let again = Message::from_bytes(&message.clone().to_bytes());
                assert_eq!(again, Ok(message));
            }
        }
    }
});
