//! A peer's bytes as a message: an error, or a message that survives the wire unchanged.

#![no_main]

use libfuzzer_sys::fuzz_target;
use selkie::NetworkMessage;

fuzz_target!(|data: &[u8]| {
    if let Ok(message) = NetworkMessage::decode(data) {
        assert_eq!(NetworkMessage::decode(&message.encode()), Ok(message));
    }
});
