//! Who is not of our network is told so and let go; who speaks plain libp2p may take part in what is open.

use libp2p::gossipsub;
use selkie::{Config, Item, ItemKind, NetworkEvent, NetworkMessage, Verdict, Vote};

use crate::{raw_peer::RawPeer, support::*};

async fn refuse_each_other(ours: Config, theirs: Config, words: &str) {
    let mut listener = Node::start(ours).await;
    let mut dialler = Node::start(theirs).await;
    let error = soon("the refusal", dialler.dial(listener.address()))
        .await
        .expect_err("a stranger");
    assert_eq!(error.code(), "dial");
    assert!(error.to_string().contains(words), "{error}");
    for reason in [
        listener.refused(dialler.id()).await,
        dialler.refused(listener.id()).await,
    ] {
        assert!(reason.contains(words), "{reason}");
    }
    // Both are good for others still, and neither shows the stranger.
    assert!(listener.get_connected_peers().is_empty() && dialler.get_connected_peers().is_empty());
    let mut friend = Node::start((*listener.config).clone()).await;
    connect(&mut friend, &mut listener).await;
}

#[tokio::test]
async fn another_network_is_refused_with_a_reason_on_both_sides() {
    let mut other = listening(TCP);
    other.chain.network_id = "other-net".to_owned();
    let words = "this is network \"selkie-dev\", not \"other-net\"; check chain.network_id";
    refuse_each_other(listening(TCP), other, words).await;
}

#[tokio::test]
async fn another_genesis_is_refused_with_a_reason_on_both_sides() {
    let (mut ours, mut theirs) = (listening(TCP), listening(TCP));
    ours.chain.genesis = vec![0xaa; 32];
    theirs.chain.genesis = vec![0xbb; 32];
    let words = format!(
        "begins with block {}, not {}",
        "aa".repeat(32),
        "bb".repeat(32)
    );
    refuse_each_other(ours, theirs, &words).await;
}

#[tokio::test]
async fn a_plain_libp2p_peer_gossips_items_both_ways() {
    let mut node = Node::with(listening(TCP), TestChain::default()).await;
    let mut plain = RawPeer::plain().await;
    let topic = "/selkie/selkie-dev/transaction/1";
    plain.subscribe(topic);
    plain.dial(node.address());
    plain.subscribed(topic).await;
    node.connected(plain.id).await;
    assert!(!node.get_connected_peers()[0].selkie);

    plain.publish(topic, "pay");
    let (item, _, source) = node.item().await;
    assert_eq!(
        (item, source),
        (Item::new(ItemKind::Transaction, "pay"), Some(plain.id))
    );
    plain.publish(topic, "bad money");
    assert_eq!(node.scored(plain.id).await.1, -10.0);
    node.submit(Item::new(ItemKind::Transaction, "back"))
        .await
        .expect("it subscribed before it was ready");
    assert_eq!(plain.gossip().await, (topic.to_owned(), b"back".to_vec()));

    let vote = NetworkMessage::ConsensusVote(Vote::new("aye"));
    let error = node
        .send_message(plain.id, vote)
        .await
        .expect_err("it does not speak that")
        .to_string();
    assert!(
        error.starts_with("the peer does not speak /selkie/selkie-dev/message/1"),
        "{error}"
    );
}

#[tokio::test]
async fn a_plain_libp2p_peer_takes_part_once_it_has_joined_a_topic() {
    let mut node = Node::start(listening(TCP)).await;
    let mut plain = RawPeer::plain().await;
    plain.dial(node.address());
    node.connected(plain.id).await;
    let kind = ItemKind::Transaction;
    assert!(!node.takes_part(plain.id, kind).await.expect("it runs"));
    let (topic, id) = ("/selkie/selkie-dev/transaction/1", plain.id);
    plain.subscribe(topic);
    let takes_part = async {
        while !node.takes_part(id, kind).await.expect("it runs") {
            tokio::task::yield_now().await;
        }
    };
    let heard = plain.subscribed(topic);
    soon("its part", async { futures::join!(takes_part, heard) }).await;
    let mut other = Node::start(Config::default()).await;
    connect(&mut other, &mut node).await;
    let nobody = selkie::PeerId::random();
    for (peer, kind, takes_part) in [
        (id, ItemKind::Vote, false),
        (other.id(), ItemKind::Vote, true),
        (nobody, kind, false),
    ] {
        let told = node.takes_part(peer, kind).await.expect("it runs");
        assert_eq!(told, takes_part, "{kind}");
    }
}

#[tokio::test]
async fn a_plain_libp2p_peer_can_be_dialled() {
    let mut node = Node::start(Config::default()).await;
    let plain = RawPeer::plain().await;
    let address = plain.address.clone();
    assert_eq!(
        soon("the dial", node.dial(address))
            .await
            .expect("no hello is needed"),
        plain.id
    );
    node.connected(plain.id).await;
    let agent = node.event("identify", |event| match event {
        NetworkEvent::PeerIdentified { protocols, .. } => Some(protocols),
        _ => None,
    });
    assert!(
        agent
            .await
            .iter()
            .any(|protocol| protocol == "/ipfs/ping/1.0.0")
    );
}

#[tokio::test]
async fn on_a_plain_topic_the_user_gives_the_verdict() {
    let (mut node, mut end) = (
        Node::start(listening(TCP)).await,
        Node::start(listening(TCP)).await,
    );
    node.subscribe_topic("weather", true).await.expect("joined");
    end.subscribe_topic("weather", false).await.expect("joined");
    connect(&mut end, &mut node).await;
    let mut plain = RawPeer::plain().await;
    plain.subscribe("weather");
    plain.dial(node.address());
    plain.subscribed("weather").await;
    node.connected(plain.id).await;

    let topic_item = |event| match event {
        NetworkEvent::TopicMessage(item) => Some(item),
        _ => None,
    };
    for (text, verdict) in [
        ("snow in August", Verdict::Reject),
        ("perhaps", Verdict::Ignore),
        ("rain", Verdict::Accept),
    ] {
        plain.publish("weather", text);
        let item = node.event("a topic message", topic_item).await;
        assert_eq!((&item.data[..], item.source), (text.as_bytes(), plain.id));
        // The first one counts.
        for verdict in [verdict, Verdict::Reject] {
            node.report(item.message_id.clone(), item.source, verdict)
                .await
                .expect("running");
        }
    }
    node.report(b"never came".to_vec(), plain.id, Verdict::Reject)
        .await
        .expect("running");
    assert_eq!(
        end.event("a topic message", topic_item).await.data,
        "rain",
        "only what was accepted went on"
    );
    assert_eq!(node.scored(plain.id).await.1, -10.0);

    end.publish_topic("weather", "sun")
        .await
        .expect("the node takes part");
    let item = node.event("a topic message", topic_item).await;
    node.report(item.message_id, item.source, Verdict::Accept)
        .await
        .expect("running");
    assert_eq!(
        plain.gossip().await,
        ("weather".to_owned(), b"sun".to_vec())
    );
    let score = node.peer_metrics().peer_reputation.get(&plain.id).copied();
    assert!(score.is_some_and(|score| score >= -10.0), "{score:?}");

    node.unsubscribe_topic("weather").await.expect("running");
    plain
        .event("an unsubscription", |event| match event {
            libp2p::swarm::SwarmEvent::Behaviour(crate::raw_peer::RawEvent::Gossip(
                gossipsub::Event::Unsubscribed { topic, .. },
            )) => {
                assert_eq!(topic.as_str(), "weather");
                Some(())
            }
            _ => None,
        })
        .await;
    let own = node
        .subscribe_topic("/selkie/selkie-dev/block/1", false)
        .await
        .expect_err("our own")
        .to_string();
    assert!(
        own.contains("this topic carries the chain's items"),
        "{own}"
    );
    assert!(node.subscribe_topic("", false).await.is_err());
}
