//! A configuration from a file or from JavaScript, and a peer's address: an error, or a configuration of which `check` says what is
//! wrong; one that is right reads the same after it was written.

#![no_main]

use libfuzzer_sys::fuzz_target;
use selkie::{Config, PeerInfo};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(peer) = text.parse::<PeerInfo>() {
        assert_eq!(peer.to_string().parse(), Ok(peer));
    }
    let read = [
        toml::from_str::<Config>(text).ok(),
        serde_json::from_str::<Config>(text).ok(),
    ];
    for config in read.into_iter().flatten() {
        if config.check().is_ok() {
            let written = toml::to_string(&config).expect("what is right can be written");
            assert_eq!(toml::from_str(&written), Ok(config));
        }
    }
});
