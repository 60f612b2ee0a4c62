//! A packet of mDNS, from anybody on the link: few addresses, all at the host that sent it.
#![no_main]

use std::net::Ipv4Addr;

use libfuzzer_sys::fuzz_target;
use selkie::transport::check_mdns;

fuzz_target!(|packet: &[u8]| {
    let host = Ipv4Addr::new(10, 77, 0, 1);
    if let Some(neighbour) = check_mdns(packet, host) {
        assert!(neighbour.addresses.len() <= 8 && neighbour.host == host);
        for address in neighbour.addresses {
            assert!(address.to_string().starts_with("/ip4/10.77.0.1"));
        }
    }
});
