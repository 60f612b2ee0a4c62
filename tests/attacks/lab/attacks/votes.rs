//! No attack: honest peers whose votes are large, and are told of instead of pushed.

use std::time::Duration;

use selkie::{Item, Keypair, NetworkError, NetworkEvent, P2PNetworkManager, Vote};

use crate::lab::{
    Attack,
    attacker::Ctx,
    honest::quiet,
    victim::{Chain, Fate},
};

pub const ATTACKS: &[Attack] = &[Attack {
    honest: true,
    configure: |config| config.protocol.propagation.votes.push_peers = 0,
    ..Attack::new(
        "large-votes",
        "12 honest peers, each with a vote of 64 KiB a second, which none of them pushes",
        |ctx| Box::pin(large(ctx)),
    )
    .by(12)
}];

/// The largest that there are (`votes.max_item`).
const VOTE: usize = 64 << 10;

async fn large(ctx: Ctx) {
    let begin = std::time::Instant::now();
    let mut nodes = tokio::task::JoinSet::new();
    for peer in 0..ctx.identities as u64 {
        let ctx = ctx.clone();
        nodes.spawn(async move {
            let mut config = quiet();
            config.protocol.propagation.votes.push_peers = 0;
            let node = P2PNetworkManager::with(config, Keypair::generate_ed25519(), Chain).await;
            let node = node.expect("the configuration is right");
            let mut events = node.subscribe_events();
            node.start().await.expect("nothing to listen on");
            node.dial(ctx.tcp()).await.expect("the victim is there");
            let suffers = |what: String| {
                ctx.suffered.lock().expect("no panic").push(Fate {
                    peer: node.local_peer_id.to_string(),
                    what,
                    seconds: begin.elapsed().as_secs_f64(),
                });
            };
            let mut seconds = tokio::time::interval(Duration::from_secs(1));
            for number in 0.. {
                tokio::select! {
                    _ = seconds.tick() => {
                        let vote = ctx.unique(peer << 32 | number, VOTE);
                        // A vote that is not sent measures nothing.
                        match node.submit(Item::Vote(Vote::new(vote))).await {
                            Ok(_) | Err(NetworkError::Busy) => {}
                            Err(error) => suffers(format!("its vote is not sent: {error}")),
                        }
                    }
                    event = events.recv() => if let Some(
                        event @ (NetworkEvent::PeerScored { .. } | NetworkEvent::PeerDisconnected { .. })
                    ) = event {
                        suffers(event.to_string());
                    }
                }
            }
        });
    }
    while nodes.join_next().await.is_some() {}
}
