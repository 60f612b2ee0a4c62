//! An AS map, from a file: what passes as one answers for every address. Its last bytes are the address, too.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libfuzzer_sys::fuzz_target;
use selkie::peers::AsMap;

fuzz_target!(|bytes: &[u8]| {
    let Ok(map) = AsMap::read(bytes) else {
        return;
    };
    let mut octets = [0; 16];
    for (octet, byte) in octets.iter_mut().rev().zip(bytes.iter().rev()) {
        *octet = *byte;
    }
    map.system_of(Ipv6Addr::from(octets).into());
    let [a, b, c, d, ..] = octets;
    let four = Ipv4Addr::new(a, b, c, d);
    let as_six = IpAddr::from(four.to_ipv6_mapped());
    assert_eq!(map.system_of(four.into()), map.system_of(as_six));
});
