//! A protocol of one's own: a request with an answer, over a stream of the connection that there is.
//!
//! Ann answers `/example/greet/1`; Bob asks. A question is read to its end, and no further than it may be long: who asks is a
//! stranger. With the word `serve` Ann goes on, for tabs: `node.open(peer, '/example/greet/1')`; and asks whoever comes
//! for `/example/name/1`, if they have that.

use std::{env, error::Error, io};

use futures::{AsyncReadExt, AsyncWriteExt};
use selkie::{NetworkConfig, NetworkEvent, P2PNetworkManager, PeerId, ProtocolStream};

const GREET: &str = "/example/greet/1";
const NAME: &str = "/example/name/1";
/// Bytes of a name.
const LONGEST: u64 = 1024;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let ann = node("/ip4/127.0.0.1/tcp/0/ws").await?;
    ann.handle(GREET, |_, stream| greet(stream)).await?;
    let address = ann.listeners().remove(0);
    if env::args().nth(1).as_deref() == Some("serve") {
        println!("{address}");
        return serve(ann).await;
    }

    let bob = node("/ip4/127.0.0.1/tcp/0").await?;
    bob.dial(address).await?;
    let answer = ask(&bob, ann.local_peer_id, GREET, "Bob").await?;
    println!("{answer}");
    bob.shutdown().await;
    ann.shutdown().await;
    Ok(())
}

async fn node(listen: &str) -> Result<P2PNetworkManager, Box<dyn Error>> {
    let node = P2PNetworkManager::new(NetworkConfig {
        listen_addresses: vec![listen.parse()?],
        ..Default::default()
    })
    .await?;
    node.start().await?;
    Ok(node)
}

/// Answers a question, and ends the answer.
async fn greet(mut stream: ProtocolStream) -> io::Result<()> {
    let name = text(&mut stream).await?;
    stream
        .write_all(format!("hello, {name}").as_bytes())
        .await?;
    stream.close().await
}

/// Asks a peer.
async fn ask(
    node: &P2PNetworkManager,
    peer: PeerId,
    protocol: &str,
    question: &str,
) -> Result<String, Box<dyn Error>> {
    let mut stream = node.open(peer, protocol).await?;
    stream.write_all(question.as_bytes()).await?;
    stream.close().await?;
    Ok(text(&mut stream).await?)
}

/// What is said to the end.
async fn text(stream: &mut ProtocolStream) -> io::Result<String> {
    let mut text = String::new();
    stream.take(LONGEST).read_to_string(&mut text).await?;
    Ok(text)
}

/// Asks those who come for their names.
async fn serve(node: P2PNetworkManager) -> Result<(), Box<dyn Error>> {
    let mut events = node.subscribe_events();
    while let Some(event) = events.recv().await {
        match event {
            NetworkEvent::PeerConnected(peer) => {
                match ask(&node, peer.peer_id, NAME, "who are you?").await {
                    Ok(name) => println!("{name} is here"),
                    Err(error) => println!("somebody is here: {error}"),
                }
            }
            NetworkEvent::HandlerFailed { .. } => println!("{event}"),
            _ => {}
        }
    }
    Ok(())
}
