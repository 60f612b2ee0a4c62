//! What goes by the lanes: pools that are compared, blocks in compact form and in chunks.

use std::{
    num::NonZeroU64,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use selkie::{
    Block, Config, Item, ItemKind, Transaction, Vote,
    chain::TransactionKey,
    chain::{Application, bitcoin::Bitcoin},
};

use crate::support::*;

async fn broadcast(node: &Node, transactions: Vec<Transaction>) {
    for outcome in node
        .broadcast_transactions(transactions)
        .await
        .expect("there is a peer")
    {
        outcome.expect("it is accepted");
    }
}

/// Waits for so many items.
async fn items(node: &mut Node, count: usize) -> Vec<Item> {
    let mut items = Vec::new();
    while items.len() < count {
        items.push(node.item().await.0);
    }
    items
}

fn comparing(min_age: Duration, interval: Duration) -> Config {
    let mut config = listening(TCP);
    config.protocol.propagation.reconcile.min_age = min_age;
    config.protocol.propagation.reconcile.interval = interval;
    config
}

#[tokio::test]
async fn who_compares_pools_with_the_first_word_costs_nobody_anything() {
    let config = comparing(Duration::ZERO, Duration::from_millis(10));
    let mut pairs = Vec::new();
    for _ in 0..4 {
        let mut pair = [
            Node::start(config.clone()).await,
            Node::start(config.clone()).await,
        ];
        let [a, b] = &mut pair;
        // Both ask as soon as their own streams are open, whether the other's are or not.
        let (one, other) = futures::join!(a.dial(b.address()), b.dial(a.address()));
        assert!(one.is_ok() || other.is_ok());
        a.connected(b.id()).await;
        b.connected(a.id()).await;
        broadcast(a, transactions(20)).await;
        items(b, 20).await;
        pairs.push(pair);
    }
    // As long as an unanswered one is waited for, and longer: nothing tells that none is.
    tokio::time::sleep(Duration::from_secs(3)).await;
    for [a, b] in &pairs {
        assert_eq!((a.score(&b.id()).0, b.score(&a.id()).0), (0.0, 0.0));
    }
}

#[tokio::test]
async fn who_comes_later_gets_what_is_in_the_pools() {
    let config = comparing(Duration::ZERO, Duration::from_secs(60));
    let (mut a, mut b) = (
        Node::start(config.clone()).await,
        Node::start(config.clone()).await,
    );
    connect(&mut a, &mut b).await;
    broadcast(&a, transactions(300)).await;
    items(&mut b, 300).await;
    let (mut c, mut d) = (Node::start(config.clone()).await, Node::start(config).await);
    connect(&mut c, &mut d).await;
    let own: Vec<_> = transactions(330).split_off(290);
    broadcast(&c, own).await;
    items(&mut d, 40).await;
    items(&mut c, 40).await;
    // c dials, and each learns what only the other has.
    c.dial(b.address()).await.expect("it is there");
    let mut learnt = items(&mut c, 290).await;
    let mut expected: Vec<_> = transactions(290)
        .into_iter()
        .map(Item::Transaction)
        .collect();
    let by_bytes = |a: &Item, b: &Item| a.data().cmp(b.data());
    learnt.sort_by(by_bytes);
    expected.sort_by(by_bytes);
    assert!(learnt == expected);
    assert_eq!(items(&mut b, 30).await.len(), 30);
}

#[tokio::test]
async fn what_was_lost_on_the_way_comes_with_the_next_comparison() {
    let (soon, later) = (Duration::from_secs(1), Duration::from_secs(60));
    let mut a = Node::start(comparing(Duration::ZERO, later)).await;
    let mut b = Node::start(comparing(Duration::ZERO, soon)).await;
    let mut c = Node::start(comparing(Duration::ZERO, later)).await;
    connect(&mut b, &mut a).await;
    connect(&mut b, &mut c).await;
    broadcast(&a, transactions(20)).await;
    items(&mut b, 20).await;
    items(&mut c, 20).await;
    // c is connected to a newcomer that knows nothing, and is not asked on connecting: it asks by itself.
    let mut newcomer = Node::start(comparing(Duration::ZERO, soon)).await;
    connect(&mut c, &mut newcomer).await;
    items(&mut newcomer, 20).await;
}

#[tokio::test]
async fn a_block_of_known_transactions_costs_a_few_percent_of_its_bytes() {
    let mut a = Node::with(listening(TCP), Bitcoin).await;
    let mut b = Node::with(listening(TCP), Bitcoin).await;
    connect(&mut a, &mut b).await;
    let block = Block::new(block());
    let parts = Bitcoin.split_block(&block).expect("it is Bitcoin's");
    let payments = parts.transactions.into_iter().skip(1).map(Transaction::new);
    let payments: Vec<_> = payments.collect();
    let count = payments.len();
    broadcast(&a, payments).await;
    items(&mut b, count).await;
    items(&mut a, count).await;
    let before = b.message_metrics().bytes_received;
    a.submit(Item::Block(block.clone()))
        .await
        .expect("it is valid");
    let (received, _, source) = b.item().await;
    assert_eq!(source, Some(a.id()));
    assert!(received == Item::Block(block.clone()));
    let cost = b.message_metrics().bytes_received - before;
    assert!(cost * 20 < block.data.len() as u64, "{cost} bytes");
}

#[tokio::test]
async fn a_large_block_of_new_transactions_reaches_all_in_chunks() {
    let mut nodes = Vec::new();
    for _ in 0..4 {
        nodes.push(Node::with(listening(TCP), Bitcoin).await);
    }
    // A line, so that the chunks are passed on.
    for place in 1..nodes.len() {
        let (before, rest) = nodes.split_at_mut(place);
        connect(&mut rest[0], &mut before[place - 1]).await;
    }
    let block = Item::Block(Block::new(block()));
    nodes[0].submit(block.clone()).await.expect("it is valid");
    let ids: Vec<_> = nodes.iter().map(Node::id).collect();
    for (place, node) in nodes.iter_mut().enumerate() {
        let (received, _, source) = node.item().await;
        assert!(received == block);
        // They may have found each other meanwhile, so it may come from any of them.
        let is_other = |source| ids.contains(&source) && source != ids[place];
        assert_eq!(source.is_some_and(is_other), place > 0);
    }
}

#[tokio::test]
async fn what_the_application_removes_is_offered_no_more() {
    let config = comparing(Duration::ZERO, Duration::from_secs(60));
    let (mut a, mut b) = (
        Node::start(config.clone()).await,
        Node::start(config.clone()).await,
    );
    connect(&mut a, &mut b).await;
    let all = transactions(20);
    broadcast(&a, all.clone()).await;
    items(&mut b, 20).await;
    let replaced = all.iter().take(5);
    let keys: Vec<_> = replaced
        .map(|transaction| TransactionKey::of(&transaction.data))
        .collect();
    b.remove_transactions(keys).await.expect("it runs");
    a.shutdown().await;
    let mut c = Node::start(config).await;
    connect(&mut c, &mut b).await;
    let learnt = items(&mut c, 15).await;
    assert!(
        learnt
            .iter()
            .all(|item| all[5..].iter().any(|one| one.data == *item.data()))
    );
    // Nothing comes after them but what is made now.
    let newest = Transaction::new("newest");
    broadcast(&b, vec![newest.clone()]).await;
    assert!(c.item().await.0 == Item::Transaction(newest));
}

/// Transactions of 250 bytes that no compression makes smaller.
fn noise(count: u64) -> Vec<Transaction> {
    let mut state = 1_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut transaction = |_| {
        let mut data: Vec<_> = (0..32).flat_map(|_| next()).collect();
        data.truncate(250);
        Transaction::new(data)
    };
    (0..count).map(&mut transaction).collect()
}

/// 500 kB at 250 kB/s, of which 50 kB may go at once: the least time that takes. Votes pass.
async fn two_seconds_worth(sender: Config, receiver: Config) {
    let (mut a, mut b) = (Node::start(sender).await, Node::start(receiver).await);
    connect(&mut a, &mut b).await;
    let begin = Instant::now();
    broadcast(&a, noise(2000)).await;
    a.submit(Item::Vote(Vote::new("aye")))
        .await
        .expect("a peer");
    let arrived = items(&mut b, 2001).await;
    let took = begin.elapsed();
    assert!(took > Duration::from_millis(1200), "{took:?}");
    let vote = arrived
        .iter()
        .position(|item| item.kind() == ItemKind::Vote);
    assert!(vote.expect("it is there") < 1500, "{vote:?}");
}

fn slow() -> selkie::traffic::BudgetConfig {
    selkie::traffic::BudgetConfig {
        global: NonZeroU64::new(250_000),
        ..Default::default()
    }
}

#[tokio::test]
async fn what_is_sent_waits_for_its_budget_and_votes_do_not() {
    let mut config = listening(TCP);
    config.protocol.propagation.upload = slow();
    two_seconds_worth(config, listening(TCP)).await;
}

#[tokio::test]
async fn what_is_read_waits_for_its_budget_and_votes_do_not() {
    let mut config = listening(TCP);
    config.protocol.propagation.download = slow();
    two_seconds_worth(listening(TCP), config).await;
}

#[tokio::test]
async fn who_sends_too_often_is_read_more_slowly_and_loses_nothing() {
    let mut config = listening(TCP);
    config.security.rate_limits.votes_per_second = 10;
    let (mut a, mut b) = (Node::start(listening(TCP)).await, Node::start(config).await);
    connect(&mut a, &mut b).await;
    let begin = Instant::now();
    // As long as a vote may be: what is read in one go may exceed the limit, and of these that is one.
    for number in 0..13_u8 {
        let vote = Vote::new(vec![number; 64 << 10]);
        a.submit(Item::Vote(vote)).await.expect("a peer");
    }
    items(&mut b, 13).await;
    // Before the last one is read those before it wear off but for a burst of 3: 9 of them, 10 in a second.
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(900), "{took:?}");
    assert_eq!(b.peer_metrics().peer_count, 1, "nobody is let go for it");
}

#[tokio::test]
async fn a_burst_of_opaque_blocks_arrives_whole() {
    let mut a = Node::start(listening(TCP)).await;
    let mut b = Node::start(listening(TCP)).await;
    connect(&mut a, &mut b).await;
    let blocks = (0..40u8).map(|number| Item::Block(Block::new(vec![number; 256 << 10])));
    let submits = blocks.map(|block| a.submit(block));
    let mut sent = futures::future::try_join_all(submits)
        .await
        .expect("all are taken");
    let mut came = Vec::new();
    for _ in 0..sent.len() {
        came.push(b.item().await.1);
    }
    sent.sort();
    came.sort();
    assert_eq!(came, sent);
    for node in [&a, &b] {
        let scores = node.peer_metrics().peer_reputation;
        assert!(scores.values().all(|score| *score == 0.0), "{scores:?}");
    }
}

/// Waits for so many blocks, whoever sends them.
async fn blocks(node: &mut Node, count: usize) -> Vec<Vec<u8>> {
    let items = items(node, count).await.into_iter();
    items.map(|item| item.data().to_vec()).collect()
}

fn are_unblamed(nodes: &[&Node]) {
    for node in nodes {
        let scores = node.peer_metrics().peer_reputation;
        assert!(scores.values().all(|score| *score == 0.0), "{scores:?}");
    }
}

#[tokio::test]
async fn who_was_away_is_told_of_the_blocks_that_were_made_meanwhile() {
    let mut node = Node::start(listening(TCP)).await;
    let mut other = Node::start(listening(TCP)).await;
    let mut leaf = Node::start(listening(TCP)).await;
    connect(&mut other, &mut node).await;
    let mut made = 0_u8;
    let mut make = |count: u8| {
        let numbers = made..made + count;
        made += count;
        numbers.map(|number| vec![number; 1000]).collect::<Vec<_>>()
    };
    // It knows some, and not what came before it or while it was away.
    for count in [5, 3, 2] {
        let new = make(count);
        for block in &new {
            let block = Item::Block(Block::new(block.clone()));
            node.submit(block).await.expect("a peer");
        }
        blocks(&mut other, new.len()).await;
        connect(&mut leaf, &mut node).await;
        let mut came = blocks(&mut leaf, new.len()).await;
        came.sort();
        assert_eq!(came, new);
        leaf.disconnect(node.id()).await.expect("it is connected");
        leaf.disconnected(node.id()).await;
        node.disconnected(leaf.id()).await;
    }
    are_unblamed(&[&node, &other, &leaf]);
}

#[tokio::test]
async fn a_block_that_comes_over_a_slow_line_is_asked_of_nobody_else() {
    const LENGTH: usize = 400_000;
    let mut maker = Node::start(listening(TCP)).await;
    let mut other = Node::start(listening(TCP)).await;
    let mut slow = Node::start(listening(TCP)).await;
    connect(&mut other, &mut maker).await;
    // 100 kB in a second, which takes longer than the patience for a peer that is silent. What comes before the block passes at once.
    let (pace, allowed) = watch::channel(100_000);
    let (_free, free) = watch::channel(u64::MAX);
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        while !pace.is_closed() {
            ticks.tick().await;
            pace.send_modify(|bytes| *bytes += 5000);
        }
    });
    let address = narrow(&maker.address(), [free, allowed]).await;
    slow.dial(address).await.expect("the proxy carries it");
    slow.connected(maker.id()).await;
    maker.connected(slow.id()).await;
    let block: Vec<_> = noise(LENGTH as u64 / 250)
        .into_iter()
        .flat_map(|one| one.data.to_vec())
        .collect();
    let block = Item::Block(Block::new(block));
    let before = slow.message_metrics().bytes_received;
    maker.submit(block.clone()).await.expect("a peer");
    other.item().await;
    // The block is on its way already when another tells of it.
    soon("the block's beginning", async {
        while slow.message_metrics().bytes_received - before < LENGTH as u64 / 10 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let before = other.message_metrics().bytes_sent;
    connect(&mut slow, &mut other).await;
    let (came, _, from) = slow.item().await;
    assert!(came == block);
    assert_eq!(from, Some(maker.id()), "who told of it first");
    let sent = other.message_metrics().bytes_sent - before;
    assert!(sent < LENGTH as u64 / 2, "{sent}");
    are_unblamed(&[&maker, &other, &slow]);
}
