use super::*;
use crate::platform::{self, test};
use proptest::prelude::*;

const PUBLIC: &str = "/ip4/1.2.3.4/tcp/4001";
const PRIVATE: &str = "/ip4/192.168.1.9/tcp/4001";
const LOOPBACK: &str = "/ip4/127.0.0.1/tcp/4001";

fn address(text: &str) -> Multiaddr {
    text.parse().expect("an address")
}

fn policy() -> AddressPolicy {
    AddressPolicy::new(PeerId::random(), false, &[1; 16])
}

/// What a peer at `teller` may say of itself, of these.
fn learnt(policy: &mut AddressPolicy, teller: &str, told: &[&str]) -> Vec<String> {
    let told: Vec<_> = told.iter().map(|text| address(text)).collect();
    let teller = address(teller);
    let taken = policy.learnt(Scope::of_remote(&teller), &PeerId::random(), &told);
    policy.note(ip_of(&teller), &taken);
    taken.iter().map(ToString::to_string).collect()
}

#[test]
fn a_peer_names_nothing_nearer_than_itself() {
    let all = [
        LOOPBACK,
        "/memory/7",
        "/ip4/169.254.169.254/tcp/80",
        "/ip6/fe80::1/tcp/80",
        PRIVATE,
        "/ip4/100.64.0.1/udp/1/quic-v1",
        "/ip6/fd00::1/tcp/1",
        PUBLIC,
    ];
    let mut policy = policy();
    assert_eq!(learnt(&mut policy, PUBLIC, &all), all[7..]);
    assert_eq!(learnt(&mut policy, PRIVATE, &all), all[4..]);
    assert_eq!(
        learnt(&mut policy, "/ip4/169.254.1.1/tcp/1", &all),
        all[2..]
    );
    assert_eq!(learnt(&mut policy, LOOPBACK, &all), all);
    let relayed = format!("{LOOPBACK}/p2p/{}/p2p-circuit", PeerId::random());
    assert_eq!(
        learnt(&mut policy, &relayed, &all),
        all[7..],
        "whence is not known"
    );
}

#[test]
fn a_name_that_the_user_gave_tells_how_far_its_peer_is() {
    let mut policy = policy();
    for (teller, taken) in [
        ("/dns4/node1/tcp/1", true),
        ("/dns4/node1.internal/tcp/1", true),
        ("/dns4/node1.example.org/tcp/1", false),
    ] {
        let learnt = learnt(&mut policy, teller, &[PRIVATE]);
        assert_eq!(!learnt.is_empty(), taken, "{teller}");
    }
}

#[test]
fn forms_that_a_stranger_may_tell() {
    let id = PeerId::random();
    let hash = "uEiDikp5KVUgkLta1EjUN-IKbHk-dUBg8VzKgf5nXxLK46w";
    let right = [
        "/ip4/1.2.3.4/tcp/1".to_owned(),
        "/ip6/2606:4700::1/tcp/1".to_owned(),
        "/ip4/1.2.3.4/tcp/1/ws".to_owned(),
        "/ip4/1.2.3.4/tcp/1/wss".to_owned(),
        "/ip4/1.2.3.4/tcp/1/tls/ws".to_owned(),
        "/ip4/1.2.3.4/udp/1/quic-v1".to_owned(),
        format!("/ip4/1.2.3.4/udp/1/quic-v1/webtransport/certhash/{hash}/certhash/{hash}"),
        format!("/ip4/1.2.3.4/udp/1/webrtc-direct/certhash/{hash}"),
        format!("/ip4/1.2.3.4/tcp/1/p2p/{id}/p2p-circuit"),
    ];
    let wrong = [
        "/ip4/1.2.3.4/tcp/80/x-parity-ws/%2Freboot%3Fnow".to_owned(),
        "/ip4/1.2.3.4/tcp/80/x-parity-wss/%2Freboot%3Fnow".to_owned(),
        "/ip4/1.2.3.4/tcp/80/tls/x-parity-ws/%2Freboot".to_owned(),
        "/ip4/1.2.3.4/tcp/80/tls/sni/router/ws".to_owned(),
        "/ip4/1.2.3.4/tcp/80/http/http-path/reboot".to_owned(),
        "/ip4/1.2.3.4/tcp/80/http".to_owned(),
        "/ip4/1.2.3.4/tcp/0".to_owned(),
        "/ip4/1.2.3.4/udp/0/quic-v1".to_owned(),
        "/ip4/1.2.3.4/udp/1".to_owned(),
        "/ip4/1.2.3.4".to_owned(),
        "/tcp/1".to_owned(),
        "/ip4/203.0.113.1/tcp/1".to_owned(),
        "/ip4/0.0.0.0/tcp/1".to_owned(),
        "/ip4/224.0.0.1/udp/1/quic-v1".to_owned(),
        "/ip6/64:ff9b::10.0.0.1/tcp/1".to_owned(),
        "/unix/%2Frun%2Fdocker.sock".to_owned(),
        "/dnsaddr/example.org".to_owned(),
        "/dns4/example.org/tcp/443/wss".to_owned(),
        "/dns4/example.org/tcp/443".to_owned(),
        format!("/ip4/10.0.0.1/tcp/1/p2p/{id}/p2p-circuit"),
        format!("/ip4/1.2.3.4/tcp/1/p2p/{id}/p2p-circuit/p2p/{id}/p2p-circuit"),
        "/ip4/1.2.3.4/tcp/1/p2p-circuit".to_owned(),
        format!("/ip4/1.2.3.4/tcp/1/p2p/{id}"),
        format!(
            "/ip4/1.2.3.4/udp/1/webrtc-direct{}",
            format!("/certhash/{hash}").repeat(5)
        ),
    ];
    let mut policy = policy();
    for text in &right {
        assert_eq!(learnt(&mut policy, PUBLIC, &[text]), [text.as_str()]);
    }
    for text in &wrong {
        assert_eq!(learnt(&mut policy, PUBLIC, &[text]), [""; 0], "{text}");
    }
}

#[test]
fn a_tab_takes_public_names_with_a_certificate() {
    let mut tab = AddressPolicy::new(PeerId::random(), true, &[1; 16]);
    let long = format!("/dns4/{}.org/tcp/443/wss", "a".repeat(64));
    let wrong = [
        "/dns4/node.example.org/tcp/443/ws",
        "/dns4/node.example.org/tcp/443",
        "/dns4/node.example.org/udp/443/quic-v1/webtransport",
        "/dns4/node.example.org/tcp/443/x-parity-wss/%2Freboot",
        "/dns4/router/tcp/443/wss",
        "/dns4/printer.local/tcp/443/wss",
        "/dns4/router.LAN/tcp/443/wss",
        "/dns4/127.0.0.1/tcp/443/wss",
        "/dns4/a.0x7f/tcp/443/wss",
        "/dns4/user@example.org/tcp/443/wss",
        "/dns4/.org/tcp/443/wss",
        "/dnsaddr/example.org/tcp/443/wss",
        &long,
    ];
    let right = [
        "/dns4/node.example.org/tcp/443/wss",
        "/dns/xn--e1afmkfd.xn--p1ai/tcp/8443/tls/ws",
    ];
    assert_eq!(learnt(&mut tab, PUBLIC, &wrong), [""; 0]);
    assert_eq!(learnt(&mut tab, PUBLIC, &right), right);
}

#[test]
fn ids_own_addresses_number_and_length() {
    let own = PeerId::random();
    let mut policy = AddressPolicy::new(own, false, &[1; 16]);
    policy.owns(&address(PUBLIC));
    let peer = PeerId::random();
    let told = |peer: &PeerId, texts: &[String]| {
        let told: Vec<_> = texts.iter().map(|text| address(text)).collect();
        policy.learnt(Scope::Public, peer, &told)
    };
    let other = "/ip4/1.2.3.5/tcp/1";
    let theirs = format!("{other}/p2p/{peer}");
    assert_eq!(
        told(&peer, std::slice::from_ref(&theirs)),
        [address(other)],
        "the id is cut off"
    );
    assert_eq!(
        told(&peer, &[theirs, other.into()]),
        [address(other)],
        "once"
    );
    assert!(told(&peer, &[format!("{other}/p2p/{own}")]).is_empty());
    assert!(
        told(&own, &[other.into()]).is_empty(),
        "we know where we are"
    );
    assert!(told(&peer, &[PUBLIC.into()]).is_empty(), "this is ours");
    let many: Vec<_> = (1..100)
        .map(|port| format!("/ip4/1.2.3.5/tcp/{port}"))
        .collect();
    assert_eq!(told(&peer, &many).len(), AddressPolicy::MAX_ADDRESSES);
    let hash = "/certhash/uEiDikp5KVUgkLta1EjUN-IKbHk-dUBg8VzKgf5nXxLK46w";
    let long = format!("/ip4/1.2.3.5/udp/1/quic-v1/webtransport{}", hash.repeat(7));
    assert!(told(&peer, &[long]).is_empty());
}

/// What a DHT's answer holds reaches a dial without a teller.
#[test]
fn what_nobody_vouches_for_is_dialled_only_among_near_peers() {
    let (mut policy, now) = (policy(), platform::now());
    let mut seconds = 0;
    let mut dial = |policy: &mut AddressPolicy, text| {
        seconds += 60;
        policy.admit_dial(&address(text), now + Duration::from_secs(seconds))
    };
    assert_eq!(dial(&mut policy, PUBLIC), Ok(()));
    assert_eq!(
        dial(&mut policy, LOOPBACK),
        Err(RefusedAddress::TooNear),
        "nobody was met"
    );
    policy.met(Scope::Host);
    assert_eq!(dial(&mut policy, LOOPBACK), Ok(()), "a network on one host");
    policy.met(Scope::Private);
    assert_eq!(dial(&mut policy, LOOPBACK), Err(RefusedAddress::TooNear));
    assert_eq!(dial(&mut policy, PRIVATE), Ok(()), "a network in one house");
    policy.met(Scope::Public);
    assert_eq!(dial(&mut policy, PRIVATE), Err(RefusedAddress::TooNear));
    assert_eq!(
        learnt(&mut policy, "/ip4/10.0.0.1/tcp/1", &[PRIVATE]),
        [PRIVATE]
    );
    assert_eq!(dial(&mut policy, PRIVATE), Ok(()), "somebody near told it");
    assert_eq!(
        dial(&mut policy, "/ip4/1.2.3.4/tcp/80/x-parity-ws/%2Freboot"),
        Err(RefusedAddress::Shape)
    );
    for anything in [
        "/ip4/127.0.0.1/tcp/80/x-parity-ws/%2Fmine",
        "/dns4/router/tcp/1",
        "/unix/%2Frun",
    ] {
        policy.vouch(&address(anything));
        assert_eq!(dial(&mut policy, anything), Ok(()), "the user wants it");
    }
}

#[test]
fn an_address_that_did_not_answer_is_left_alone_for_a_while() {
    let (mut policy, now) = (policy(), platform::now());
    let (learnt, mine) = (address(PUBLIC), address("/ip4/1.2.3.5/tcp/1"));
    policy.vouch(&mine);
    for _ in 0..3 {
        assert_eq!(
            policy.admit_dial(&mine, now),
            Ok(()),
            "the user may try as often as he likes"
        );
    }
    let again = format!("{PUBLIC}/p2p/{}", PeerId::random());
    assert_eq!(policy.admit_dial(&learnt, now), Ok(()));
    assert_eq!(
        policy.admit_dial(&address(&again), now),
        Err(RefusedAddress::Recently)
    );
    let later = now + AddressPolicy::BACK_OFF;
    assert_eq!(policy.admit_dial(&learnt, later), Ok(()));
    assert_eq!(
        policy.admit_dial(&learnt, later),
        Err(RefusedAddress::Recently)
    );
    policy.answered(&learnt);
    assert_eq!(policy.admit_dial(&learnt, later), Ok(()), "a peer is there");
}

fn any_address() -> impl Strategy<Value = Multiaddr> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..40);
    let host = prop_oneof![
        any::<u32>().prop_map(|ip| format!("/ip4/{}", std::net::Ipv4Addr::from(ip))),
        any::<u128>().prop_map(|ip| format!("/ip6/{}", std::net::Ipv6Addr::from(ip))),
        Just("/ip4/127.0.0.1".to_owned()),
        Just("/ip4/10.0.0.1".to_owned()),
        Just("/dns4/router.lan".to_owned()),
    ];
    let way = proptest::sample::select(vec![
        "/tcp/80",
        "/tcp/80/ws",
        "/tcp/80/x-parity-ws/%2Freboot",
        "/udp/7/quic-v1",
        "/tcp/443/wss",
        "",
    ]);
    prop_oneof![
        bytes.prop_map(|bytes| Multiaddr::try_from(bytes).unwrap_or_else(|_| address(PRIVATE))),
        (host, way).prop_map(|(host, way)| address(&format!("{host}{way}"))),
    ]
}

proptest! {
    /// Whatever far peers tell, in whatever order, no dial goes near this node or carries a path.
    #[test]
    fn nothing_near_is_dialled_at_a_strangers_word(told in proptest::collection::vec(any_address(), 0..40)) {
        let (mut policy, now) = (policy(), platform::now());
        policy.met(Scope::Public);
        let taken = policy.learnt(Scope::Public, &PeerId::random(), &told);
        prop_assert!(taken.len() <= AddressPolicy::MAX_ADDRESSES);
        for address in taken.iter().chain(&told) {
            if policy.admit_dial(address, now).is_err() {
                continue;
            }
            prop_assert_eq!(Scope::of(address), Some(Scope::Public));
            let mut parts = address.iter();
            prop_assert!(!parts.any(|part| matches!(part, Protocol::Ws(path) | Protocol::Wss(path) if path != "/")));
        }
    }

    #[test]
    fn everything_is_bounded(ports in proptest::collection::vec(1u16.., 1..50), limit in 1usize..8) {
        let (mut policy, now) = (policy(), platform::now());
        let keyed = Keyed::new(&[1; 16]);
        policy.told = Told::new(limit, keyed.clone());
        policy.vouched = Remembered::new(limit, keyed);
        for (seconds, port) in (0..).zip(ports) {
            let near = address(&format!("/ip4/127.0.0.1/tcp/{port}"));
            let learnt = policy.learnt(Scope::Host, &PeerId::random(), [&near]);
            policy.note(None, &learnt);
            policy.vouch(&near);
            prop_assert_eq!(policy.admit_dial(&near, now), Ok(()));
            policy.note_try(near.clone(), now + Duration::from_secs(seconds));
            prop_assert!(policy.told.contains(&near) && policy.vouched.contains(&near));
            prop_assert!(policy.told.len() <= limit && policy.vouched.len() <= limit);
        }
        prop_assert!(policy.tried.len() <= AddressPolicy::MAX_TRIED);
    }
}

#[test]
fn who_may_dial_a_circuit_may_dial_its_relay() {
    let (relay, ann) = (PeerId::random(), PeerId::random());
    let circuit = address(&format!("{LOOPBACK}/p2p/{relay}/p2p-circuit/p2p/{ann}"));
    let relay = address(&format!("{LOOPBACK}/p2p/{relay}"));
    let now = platform::now();
    let mut by_user = policy();
    assert_eq!(
        by_user.admit_dial(&relay, now),
        Err(RefusedAddress::TooNear)
    );
    by_user.vouch(&circuit);
    assert_eq!(by_user.admit_dial(&relay, now), Ok(()));
    let mut by_neighbour = policy();
    let learnt = by_neighbour.learnt(Scope::Host, &ann, [&circuit]);
    by_neighbour.note(None, &learnt);
    assert_eq!(by_neighbour.admit_dial(&relay, now), Ok(()));
}

#[test]
fn who_tells_without_end_forgets_what_it_told_itself() {
    let (mut policy, now) = (policy(), platform::now());
    policy.met(Scope::Public);
    assert_eq!(
        learnt(&mut policy, "/ip4/10.0.0.1/tcp/1", &[PRIVATE]),
        [PRIVATE]
    );
    let host = |last: u8| Some(IpAddr::from([10, 0, 0, last]));
    let at = |port: usize| address(&format!("/ip4/10.0.0.2/tcp/{}", port + 1));
    for port in 0..2 * AddressPolicy::MAX_VOUCHED {
        policy.note(host(2), &[at(port)]);
    }
    assert_eq!(policy.told.len(), AddressPolicy::MAX_VOUCHED);
    let eldest = policy.admit_dial(&at(0), now);
    assert_eq!(eldest, Err(RefusedAddress::TooNear));
    // What another host told is there still; and those that tell much share what there is.
    assert_eq!(policy.admit_dial(&address(PRIVATE), now), Ok(()));
    for port in 0..2 * AddressPolicy::MAX_VOUCHED {
        policy.note(host(3), &[at(10_000 + port)]);
    }
    let last = at(2 * AddressPolicy::MAX_VOUCHED - 1);
    assert!(policy.told.contains(&last) && policy.told.contains(&address(PRIVATE)));
}

#[test]
fn what_is_not_kept_is_not_dialled() {
    let (mut policy, now) = (policy(), platform::now());
    policy.met(Scope::Public);
    let near = address(PRIVATE);
    let learnt = policy.learnt(Scope::Private, &PeerId::random(), [&near]);
    assert_eq!(
        policy.admit_dial(&near, now),
        Err(RefusedAddress::TooNear),
        "nobody kept it"
    );
    policy.note(None, &learnt);
    assert_eq!(policy.admit_dial(&near, now), Ok(()));
}

#[test]
fn a_name_is_known_by_where_it_led() {
    let (mut policy, peer) = (policy(), PeerId::random());
    let name = address("/dns4/node1.example.org/tcp/1/wss");
    let ip = |text: &str| text.parse::<IpAddr>().ok();
    assert_eq!(policy.place_of(&peer, &name), None);
    policy.led_to(peer, &address("/ip4/1.2.3.4/tcp/1"));
    policy.led_to(peer, &address("/ip4/1.2.3.5/tcp/1"));
    assert_eq!(policy.place_of(&peer, &name), ip("1.2.3.5"));
    assert_eq!(policy.place_of(&PeerId::random(), &name), None);
    // An address is what it is, and behind a relay nobody's is known.
    assert_eq!(policy.place_of(&peer, &address(PUBLIC)), ip("1.2.3.4"));
    let relayed = name
        .with(Protocol::P2p(PeerId::random()))
        .with(Protocol::P2pCircuit);
    assert_eq!(policy.place_of(&peer, &relayed), None);
    for _ in 0..2 * AddressPolicy::MAX_ANSWERED {
        policy.led_to(PeerId::random(), &address(PUBLIC));
    }
    assert_eq!(policy.answered.len(), AddressPolicy::MAX_ANSWERED);
}
