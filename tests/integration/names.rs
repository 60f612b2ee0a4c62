//! `/dnsaddr`: a name's text records say where peers are. In a network of its own, whose only nameserver is the test's.

use std::{
    collections::HashMap,
    net::UdpSocket,
    sync::{Arc, Mutex},
    time::Duration,
};

use selkie::{Multiaddr, NetworkError, PeerId, PeerInfo};

use crate::{local_network::within, support::*};

/// Loopback alone, where names are asked for.
const NETWORK: &str = "ip link set lo up && file=$(mktemp) && echo 'nameserver 127.0.0.1' > $file \
    && mount --bind $file /etc/resolv.conf && rm $file";

/// What names lead to; of others the nameserver says nothing at all.
type Texts = Arc<Mutex<HashMap<String, Vec<String>>>>;

#[tokio::test]
async fn a_name_leads_to_its_peer_whatever_else_the_resolver_says_or_does_not() {
    let name = "names::a_name_leads_to_its_peer_whatever_else_the_resolver_says_or_does_not";
    within(NETWORK, name, lead_to_peers()).await;
}

async fn lead_to_peers() {
    let texts = nameserver();
    let says = |name: &str, lines: Vec<String>| {
        let mut texts = texts.lock().expect("no panic");
        texts.insert(name.to_owned(), lines);
    };
    let (seed, other) = (
        Node::start(listening(TCP)).await,
        Node::start(listening(TCP)).await,
    );
    let at = |node: &Node, peer: PeerId| {
        let mut address = node.address();
        address.pop();
        format!("dnsaddr={address}/p2p/{peer}")
    };
    let name_of = |name: &str| -> Multiaddr {
        let text = format!("/dnsaddr/{name}/p2p/{}", seed.id());
        text.parse().expect("an address")
    };

    // Among other things, and behind another name.
    let closed = format!("dnsaddr=/ip4/127.0.0.1/tcp/1/p2p/{}", seed.id());
    let onwards = format!("dnsaddr={}", name_of("region.test"));
    let rubbish = ["v=spf1 -all", "dnsaddr=", "dnsaddr=rubbish"].map(str::to_owned);
    let mut lines = rubbish.to_vec();
    lines.extend([at(&other, other.id()), closed, onwards]);
    says("seeds.test", lines);
    says("region.test", vec![at(&seed, seed.id())]);
    let mut config = listening(TCP);
    config.network.connection_timeout = Duration::from_secs(2);
    config.network.bootstrap_peers = vec![PeerInfo {
        addresses: vec![name_of("seeds.test")],
        ..PeerInfo::new(seed.id())
    }];
    let mut node = Node::start(config.clone()).await;
    let joined = soon("bootstrap", node.connect_bootstrap_peers()).await;
    joined.expect("the name leads there");
    node.connected(seed.id()).await;

    // Another peer's address, nothing of use, itself for ever, and no word: each ends with an error, and brings nobody.
    config.network.bootstrap_peers.clear();
    let node = Node::start(config).await;
    says("false.test", vec![at(&other, seed.id())]);
    says("empty.test", rubbish.to_vec());
    says(
        "circle.test",
        vec![format!("dnsaddr={}", name_of("circle.test"))],
    );
    for (name, why) in [
        ("false.test", "another peer answers there"),
        ("empty.test", ""),
        ("circle.test", ""),
        ("silent.test", "it did not answer in time"),
    ] {
        let dialled = soon(name, node.dial(name_of(name))).await;
        let Err(NetworkError::Dial { reason, .. }) = dialled else {
            panic!("{name}: {dialled:?}")
        };
        assert!(reason.contains(why), "{name}: {reason}");
    }
    assert!(node.get_connected_peers().is_empty());

    // While a nameserver is silent others are dialled.
    let waits = node.dial(name_of("mute.test"));
    let dialled = soon("the dial", node.dial(other.address()));
    let (waits, dialled) = futures::join!(waits, dialled);
    waits.expect_err("nobody says where it is");
    dialled.expect("no name is needed");
}

/// Answers questions for text records, on a thread of its own, until the process ends.
fn nameserver() -> Texts {
    let socket = UdpSocket::bind("127.0.0.1:53").expect("a network of its own");
    let texts = Texts::default();
    let known = Arc::clone(&texts);
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            if let Some(answer) = answer(&question[..length], &known) {
                socket.send_to(&answer, from).expect("loopback");
            }
        }
    });
    texts
}

/// RFC 1035, 4.1: the answer to a question for the text records of `_dnsaddr.<name>`.
fn answer(question: &[u8], texts: &Texts) -> Option<Vec<u8>> {
    const HEADER: usize = 12;
    let (mut labels, mut at) = (Vec::new(), HEADER);
    while question[at] > 0 {
        let end = at + 1 + usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..end]).to_lowercase());
        at = end;
    }
    // The name's end, its type and its class.
    let asked = &question[HEADER..at + 5];
    let name = labels.join(".");
    let texts = texts.lock().expect("no panic");
    let lines = texts.get(name.strip_prefix("_dnsaddr.")?)?;
    let count = u8::try_from(lines.len()).expect("few");
    let mut answer = question[..2].to_vec();
    // No error, one question, so many answers.
    answer.extend([0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0]);
    answer.extend(asked);
    for line in lines {
        let length = u8::try_from(line.len()).expect("short");
        // The same name, TXT, the internet, a minute.
        answer.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60, 0, length + 1, length]);
        answer.extend(line.as_bytes());
    }
    Some(answer)
}
