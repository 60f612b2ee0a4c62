//! A peer's bytes as a message: an error, or a message that survives the wire unchanged; and as a record that a peer signed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use selkie::{NetworkMessage, peers::SignedRecord};
use std::time::SystemTime;

fuzz_target!(|data: &[u8]| {
    if let Ok(message) = NetworkMessage::decode(data) {
        assert_eq!(NetworkMessage::decode(&message.encode()), Ok(message));
    }
    let record = SignedRecord::open(data, SystemTime::UNIX_EPOCH);
    assert!(record.is_err_and(|fault| !fault.to_string().is_empty()) || data.len() <= SignedRecord::MAX_BYTES);
});
