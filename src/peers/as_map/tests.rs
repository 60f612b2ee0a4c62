//! Maps that others have made, maps that are made here of prefixes, and what is no map.

use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv6Net};
use proptest::prelude::*;

use super::*;
use crate::platform::test;

/// A map of prefixes, of which the longest counts.
pub(crate) fn map(prefixes: &[(&str, u32)]) -> AsMap {
    let parsed = prefixes.iter().map(|(prefix, number)| {
        let net: IpNet = prefix.parse().expect("a prefix");
        (mapped(net), *number)
    });
    AsMap::read(&encoded(parsed.collect())).expect("a map")
}

/// As a prefix of IPv6.
fn mapped(net: IpNet) -> Ipv6Net {
    match net {
        IpNet::V4(net) => {
            let ip = net.addr().to_ipv6_mapped();
            Ipv6Net::new_assert(ip, 96 + net.prefix_len()).trunc()
        }
        IpNet::V6(net) => net.trunc(),
    }
}

/// Who has the addresses of a prefix.
#[derive(Clone)]
enum Tree {
    Nobody,
    One(u32),
    Two(Box<[Tree; 2]>),
}

impl Tree {
    /// A longer prefix comes after the shorter ones.
    fn put(&mut self, prefix: Ipv6Net, depth: u8, number: u32) {
        if depth == prefix.prefix_len() {
            *self = Self::One(number);
            return;
        }
        if !matches!(self, Self::Two(_)) {
            *self = Self::Two(Box::new([self.clone(), self.clone()]));
        }
        if let Self::Two(halves) = self {
            let bit = (u128::from(prefix.addr()) >> (127 - depth)) & 1;
            halves[usize::from(bit == 1)].put(prefix, depth + 1, number);
        }
    }

    fn write(&self) -> Vec<bool> {
        match self {
            Self::Nobody => unreachable!("no instruction says so"),
            Self::One(number) => answer(*number),
            Self::Two(halves) => match &**halves {
                [Self::Nobody, half] => matching(true, half),
                [half, Self::Nobody] => matching(false, half),
                [Self::One(number), Self::One(other)] => {
                    let default = [vec![true, true, true], coded(*number, SYSTEM)].concat();
                    [default, pattern(&[true]), answer(*other)].concat()
                }
                [zero, one] => {
                    let (zero, one) = (zero.write(), one.write());
                    let by = u32::try_from(zero.len()).expect("few");
                    [vec![true, false], coded(by, JUMP), zero, one].concat()
                }
            },
        }
    }
}

fn answer(number: u32) -> Vec<bool> {
    [vec![false], coded(number, SYSTEM)].concat()
}

/// The bits that only one half of the addresses have, as far as that goes on.
fn matching(first: bool, mut half: &Tree) -> Vec<bool> {
    let mut bits = vec![first];
    while let Tree::Two(halves) = half {
        half = match &**halves {
            [Tree::Nobody, half] => {
                bits.push(true);
                half
            }
            [half, Tree::Nobody] => {
                bits.push(false);
                half
            }
            _ => break,
        };
    }
    let patterns = bits.chunks(8).flat_map(pattern);
    patterns.chain(half.write()).collect()
}

fn pattern(bits: &[bool]) -> Vec<bool> {
    let pattern = bits.iter().fold(1, |all, bit| all * 2 + u32::from(*bit));
    [vec![true, true, false], coded(pattern, PATTERN)].concat()
}

fn coded(number: u32, (least, sizes): (u32, RangeInclusive<u32>)) -> Vec<bool> {
    let (mut size, largest) = sizes.into_inner();
    let (mut rest, mut bits) = (number - least, Vec::new());
    while rest >= 1 << size {
        rest -= 1 << size;
        size += 1;
        bits.push(true);
    }
    if size < largest {
        bits.push(false);
    }
    bits.extend((0..size).rev().map(|place| (rest >> place) & 1 == 1));
    bits
}

/// The lowest bit of each byte first.
fn bytes(bits: &[bool]) -> Vec<u8> {
    let byte = |bits: &[bool]| {
        let bits = bits.iter().zip(0..);
        bits.fold(0, |byte, (bit, place)| byte | (u8::from(*bit) << place))
    };
    bits.chunks(8).map(byte).collect()
}

fn encoded(mut prefixes: Vec<(Ipv6Net, u32)>) -> Vec<u8> {
    prefixes.sort_by_key(|(prefix, _)| prefix.prefix_len());
    let mut tree = Tree::Nobody;
    for (prefix, number) in prefixes {
        tree.put(prefix, 0, number);
    }
    bytes(&tree.write())
}

/// The map of Bitcoin Core's own test (`asmap_test_vectors` in `src/test/netbase_tests.cpp`, v31): 128 ranges by chance.
const PUBLISHED: &str = "\
    fd38d50f7d5d665357f64bba6bfc190d6078a7e68e5d3ac032edf47f8b5755f87881bfd3633d9aa7c1fa279b3\
    6fe26c63bbc9de44e0f04e5a382d8e1cddbe1c26653bc939d4327f287e8b4d1f8aff33176787cb0ff7cb28e3f\
    daef0f8f47357f801c9f7ff7a99f7f9c9f99de7f3156ae00f23eb27a303bc486aa3ccc31ec19394c2f8a53ddd\
    ea3cc56257f3b7e9b1f488be9c1137db823759aa4e071eef2e984aaf97b52d5f88d0f373dd190fe45e06efef1\
    df7278be680a73a74c76db4dd910f1d30752c57fe2bc9f079f1a1e1b036c2a69219f11c5e11980a3fa51f4f82\
    d36373de73b1863a8c27e36ae0e4f705be3d76ecff038a75bc0f92ba7e7f6f4080f1c47c34d095367ecf4406c\
    1e3bbc17ba4d6f79ea3f031b876799ac268b1e0ea9babf0f9a8e5f6c55e363c6363df46afc696d7afceaf49b6\
    e62df9e9dc27e70664cafe5c53df66dd0b8237678ada90e73f05ec60e6f6e96c3cbb1ea2f9dece115d5bdba10\
    33e53662a7d72a29477b5beb35710591d3e23e5f0379baea62ffdee535bcdf879cbf69b88d7ea37c8015381cf\
    63dc33d28f757a4a5e15d6a08";
/// What that test expects.
const EXPECTED: [(&str, u32); 19] = [
    ("0:1559:183:3728:224c:65a5:62e6:e991", 961_340),
    ("d0:d493:faa0:8609:e927:8b75:293c:f5a4", 961_340),
    ("2a0:26f:8b2c:2ee7:c7d1:3b24:4705:3f7f", 693_761),
    ("a77:7cd4:4be5:a449:89f2:3212:78c6:ee38", 0),
    ("1336:1ad6:2f26:4fe3:d809:7321:6e0d:4615", 672_176),
    ("1d56:abd0:a52f:a8d5:d5a7:a610:581d:d792", 499_880),
    ("378e:7290:54e5:bd36:4760:971c:e9b9:570d", 0),
    ("406c:820b:272a:c045:b74e:fc0a:9ef2:cecc", 248_495),
    ("46c2:ae07:9d08:2d56:d473:2bc7:57e3:20ac", 248_495),
    ("50d2:3db6:52fa:2e7:12ec:5bc4:1bd1:49f9", 124_471),
    ("53e1:1812:ffa:dccf:f9f2:64be:75fa:795", 539_993),
    ("544d:eeba:3990:35d1:ad66:f9a3:576d:8617", 374_443),
    ("6a53:40dc:8f1d:3ffa:efeb:3aa3:df88:b94b", 435_070),
    ("87aa:d1c9:9edb:91e7:aab1:9eb9:baa0:de18", 244_121),
    ("9f00:48fa:88e3:4b67:a6f3:e6d2:5cc1:5be2", 862_116),
    ("c49f:9cc6:86ad:ba08:4580:315e:dbd1:8a62", 969_411),
    ("dff5:8021:61d:b17d:406d:7888:fdac:4a20", 969_411),
    ("e888:6791:2960:d723:bcfd:47e1:2d8c:599f", 824_019),
    ("ffff:d499:8c4b:4941:bc81:d5b9:b51e:85a8", 824_019),
];

#[test]
fn a_published_map_says_what_bitcoin_core_reads_in_it() {
    let published = hex::decode(PUBLISHED).expect("hex");
    let map = AsMap::read(&published).expect("a map");
    for (ip, number) in EXPECTED {
        let known = map.system_of(ip.parse().expect("an address"));
        assert_eq!(known.unwrap_or(0), number, "{ip}");
    }
    // Of the same test: all of IPv4 is one system's.
    let four = "fb03ec0fb03fc0fe00fb03ec0fb03fc0fe00fb03ec0fb0fffffeff000000";
    let four = AsMap::read(&hex::decode(four).expect("hex")).expect("a map");
    let system = |ip: &str| four.system_of(ip.parse().expect("an address"));
    assert_eq!(system("1.2.3.4"), Some(1));
    assert_eq!(system("::ffff:1.2.3.4"), Some(1));
    assert_eq!(system("2606:4700::1"), None);
}

#[test]
fn the_longest_prefix_counts_and_who_has_none_has_no_system() {
    let map = map(&[
        ("1.2.0.0/15", 64_500),
        ("1.2.3.0/24", 33_521_664),
        ("2606:4700::/32", 13_335),
    ]);
    let system = |ip: &str| map.system_of(ip.parse().expect("an address"));
    assert_eq!(system("1.3.255.255"), Some(64_500));
    assert_eq!(system("1.2.3.4"), Some(33_521_664));
    assert_eq!(system("2606:4700:1::"), Some(13_335));
    for unknown in ["1.4.0.0", "2606:4701::", "::1", "::1.2.3.4"] {
        assert_eq!(system(unknown), None, "{unknown}");
    }
}

#[test]
fn what_is_no_map_is_refused_with_its_place() {
    let large = vec![0; MAX_AS_MAP_BYTES + 1];
    assert_eq!(AsMap::read(&[]), Err(AsMapError::Empty));
    assert_eq!(AsMap::read(&large), Err(AsMapError::TooLarge));
    let published = hex::decode(PUBLISHED).expect("hex");
    for end in 1..published.len() {
        let torn = AsMap::read(&published[..end]);
        assert!(
            matches!(torn, Err(AsMapError::Malformed { byte, .. }) if byte <= end),
            "{end} bytes: {torn:?}"
        );
    }
    let (one, jump) = (answer(1), [vec![true, false], coded(17, JUMP)].concat());
    let default = [vec![true, true, true], coded(1, SYSTEM)].concat();
    let short = pattern(&[true]);
    let problem = |parts: &[&[bool]]| match AsMap::read(&bytes(&parts.concat())) {
        Err(AsMapError::Malformed { problem, .. }) => problem,
        other => panic!("{other:?}"),
    };
    assert_eq!(problem(&[&default, &one]), "a default is of no use");
    assert_eq!(
        problem(&[&default, &default, &short, &one]),
        "a default is of no use"
    );
    assert_eq!(
        problem(&[&short, &short, &one]),
        "two short patterns stand in the place of one"
    );
    assert_eq!(problem(&[&one, &[false; 8]]), "something follows its end");
    assert_eq!(problem(&[&one, &[true]]), "something follows its end");
    assert_eq!(
        problem(&[&jump, &one]),
        "it ends in the middle of an instruction"
    );
    let far = [vec![true, false], coded(1000, JUMP)].concat();
    assert_eq!(problem(&[&far, &one, &one]), "a jump leads out of it");
    let nearer = [vec![true, false], coded(41, JUMP)].concat();
    assert_eq!(
        problem(&[&jump, &nearer, &one, &one, &one]),
        "a jump leads over the end of another"
    );
    let later = [vec![true, false], coded(18, JUMP)].concat();
    assert_eq!(
        problem(&[&later, &one, &[false], &one]),
        "no way leads to what comes next"
    );
    assert_eq!(
        problem(&[&jump, &pattern(&[true; 8]), &one, &one]),
        "an instruction lies where a jump leads to"
    );
    let whole = pattern(&[true; 8]).repeat(16);
    assert!(AsMap::read(&bytes(&[whole.clone(), one.clone()].concat())).is_ok());
    assert_eq!(
        problem(&[&whole, &short, &one]),
        "it asks for more than an address has"
    );
}

#[test]
fn maps_are_told_apart_by_their_marks() {
    let [one, other] = [1, 2].map(|number| map(&[("1.0.0.0/8", number)]));
    assert_eq!(one.mark(), one.clone().mark());
    assert_ne!(one.mark(), other.mark());
}

/// Prefixes that are often inside of each other.
fn prefixes() -> impl Strategy<Value = Vec<(Ipv6Net, u32)>> {
    let head = prop_oneof![Just(0xffff_u128 << 32), Just(0x2606 << 112), any::<u128>()];
    let prefix = (head, any::<u128>(), 0u8..=24, 1u32..300_000);
    let prefix = prefix.prop_map(|(head, tail, length, number)| {
        let (keeps, length) = match head >> 32 {
            0xffff => (96, 96 + length),
            _ => (16, 16 + length),
        };
        // Near each other, so that some meet.
        let tail = (tail & (0x3 << 126)) >> keeps;
        let ip = Ipv6Addr::from(head | tail);
        (Ipv6Net::new_assert(ip, length).trunc(), number)
    });
    proptest::collection::vec(prefix, 1..20)
}

proptest! {
    #[test]
    fn a_map_says_what_its_prefixes_say(prefixes in prefixes(), others: Vec<u128>) {
        let mut sorted = prefixes.clone();
        sorted.sort_by_key(|(prefix, _)| prefix.prefix_len());
        let map = AsMap::read(&encoded(prefixes));
        let map = map.expect("what is encoded is a map");
        let edges = sorted.iter().flat_map(|(prefix, _)| [prefix.network(), prefix.broadcast()]);
        let others = others.into_iter().map(Ipv6Addr::from);
        for ip in edges.chain(others).collect::<Vec<_>>() {
            let longest = sorted.iter().rev().find(|(prefix, _)| prefix.contains(&ip));
            // Of two that are alike the later one was put last.
            prop_assert_eq!(map.system_of(ip.into()), longest.map(|(_, number)| *number), "{}", ip);
        }
    }

    #[test]
    fn no_bytes_do_harm(bytes: Vec<u8>, flips: Vec<(u16, u8)>, ips: [u128; 4]) {
        let mut published = hex::decode(PUBLISHED).expect("hex");
        let size = published.len();
        for (place, mask) in flips {
            published[usize::from(place) % size] ^= mask;
        }
        for bytes in [bytes, published] {
            if let Ok(map) = AsMap::read(&bytes) {
                for ip in ips {
                    map.system_of(Ipv6Addr::from(ip).into());
                }
            }
        }
    }
}
