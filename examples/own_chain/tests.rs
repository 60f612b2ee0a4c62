//! What whole nodes do with the guest book, on a network in memory.

use bytes::Bytes;
use selkie::{
    Block, Config, Item, NetworkError, ProtocolError, Transaction,
    test_utils::{Node, in_memory, network_of},
};

use crate::guest_book::{GuestBook, entry};

/// So many nodes in a row, each with a book of its own.
async fn network(count: usize) -> (Vec<Node>, Vec<GuestBook>) {
    let books: Vec<_> = (0..count).map(|_| GuestBook::default()).collect();
    let config: Config = in_memory();
    let nodes = network_of(count, config, |number| books[number].clone()).await;
    (nodes, books)
}

fn writes(entry: &Bytes) -> Item {
    Item::Transaction(Transaction::new(entry.clone()))
}

/// Every node has accepted this, in this order.
async fn all_have(nodes: &mut [Node], items: &[Item]) {
    for node in nodes {
        for item in items {
            assert_eq!(node.item().await.0, *item);
        }
    }
}

#[tokio::test]
async fn a_page_reaches_every_book_with_its_entries() {
    let (mut nodes, books) = network(3).await;
    let entries = [entry(3, "Ann was here"), entry(5, "so was Bob")];
    for data in &entries {
        nodes[0].submit(writes(data)).await.expect("it is an entry");
        // One after the other, as the order of two is nobody's promise.
        all_have(&mut nodes, &[writes(data)]).await;
    }
    let page = Item::Block(books[0].next_page(&entries));
    nodes[0].submit(page.clone()).await.expect("it is the next");
    all_have(&mut nodes, &[page]).await;
    for book in &books {
        assert_eq!(book.written().pages, 1);
    }
}

#[tokio::test]
async fn pages_follow_one_another_from_any_node() {
    let (mut nodes, books) = network(3).await;
    for (writer, text) in [(0, "one"), (2, "two"), (1, "three")] {
        let page = Item::Block(books[writer].next_page(&[entry(1, text)]));
        nodes[writer]
            .submit(page.clone())
            .await
            .expect("it is the next");
        all_have(&mut nodes, &[page]).await;
    }
    let last: Vec<_> = books.iter().map(|book| book.written().pages).collect();
    assert_eq!(last, [3, 3, 3]);
}

#[tokio::test]
async fn what_is_wrong_is_refused_where_it_is_written() {
    let (nodes, books) = network(1).await;
    let no_text = Bytes::from_static(&[0; 8]);
    let torn = Block::new(vec![0; 20]);
    let early = {
        let ahead = GuestBook::default();
        let first = ahead.next_page(&[]);
        selkie::Application::deliver(&ahead, &Item::Block(first));
        ahead.next_page(&[])
    };
    for (item, reason) in [
        (writes(&no_text), "an entry is a fee and a text"),
        (Item::Block(torn), "the page is torn"),
        (Item::Block(early), "page 2, but 0 are written"),
    ] {
        let error = nodes[0].submit(item).await.expect_err("it is wrong");
        assert!(
            matches!(
                &error,
                NetworkError::Protocol(
                    ProtocolError::Rejected { .. } | ProtocolError::Ignored { .. }
                )
            ),
            "{error:?}"
        );
        assert!(error.to_string().contains(reason), "{error}");
    }
    assert_eq!(books[0].written().pages, 0);
}
