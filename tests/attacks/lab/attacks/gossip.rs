//! Gossipsub, spoken by hand: peers that know nothing of Selkie.

use std::time::Duration;

use libp2p::identity::Keypair;

use crate::lab::{
    Attack,
    attacker::Ctx,
    link::{Link, Manners, Service, flood, name, put},
    proto::Proto,
};

pub const ATTACKS: &[Attack] = &[
    Attack::new(
        "unjoined-topics",
        "messages of 64 KiB on ever new topics that nobody joined",
        |ctx| Box::pin(unjoined(ctx)),
    ),
    Attack::new(
        "gossip-unread",
        "19 peers take part in the items' topics and never read what the twentieth has the victim pass on",
        |ctx| Box::pin(unread(ctx)),
    )
    .by(20),
    Attack::new(
        "long-topics",
        "subscribes to topics whose names are 1 MiB long",
        |ctx| Box::pin(long_topics(ctx)),
    )
    .by(20),
    Attack::new(
        "subscription-flips",
        "joins and leaves topics, as fast as that is read",
        |ctx| Box::pin(flips(ctx)),
    ),
    Attack::new(
        "gossip-promises",
        "promises ever new messages (IHAVE) and asks for ones that nobody has (IWANT)",
        |ctx| Box::pin(promises(ctx)),
    ),
    Attack::new(
        "grafts-and-prunes",
        "joins and leaves the mesh of a topic, as fast as that is read",
        |ctx| Box::pin(grafts(ctx)),
    ),
    Attack::new(
        "gossip-replayed",
        "the same 64 transactions again and again by gossip",
        |ctx| Box::pin(replayed(ctx)),
    ),
    Attack::new(
        "gossip-flood",
        "ever new transactions by gossip",
        |ctx| Box::pin(new_items(ctx)),
    ),
    Attack::new(
        "gossip-unwanted",
        "tells of ever new messages that it does not want (IDONTWANT)",
        |ctx| Box::pin(unwanted(ctx)),
    ),
];

const MESHSUB: &str = "/meshsub/1.2.0";
const LARGE: usize = 64 << 10;

fn subscription(topic: impl AsRef<[u8]>, joins: u64) -> Proto {
    let options = Proto::new().uint(1, joins).bytes(2, topic);
    Proto::new().bytes(1, options)
}

fn message(topic: &str, data: &[u8]) -> Proto {
    Proto::new().bytes(2, Proto::new().bytes(2, data).bytes(4, topic))
}

fn control(field: u64, message: Proto) -> Vec<u8> {
    let control = Proto::new().bytes(field, message);
    Proto::new().bytes(3, control).framed()
}

fn transactions() -> String {
    name("/transaction/1")
}

/// Connects as a plain peer from each identity, and attacks on a stream of gossipsub.
async fn siege<F, Fut>(ctx: Ctx, manners: Manners, attack: F)
where
    F: Fn(libp2p::core::muxing::SubstreamBox, Ctx, usize) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = std::io::Result<()>> + Send + 'static,
{
    ctx.storm(move |ctx: Ctx, key: Keypair, number| {
        let (manners, attack) = (manners.clone(), attack.clone());
        async move {
            let link = Link::dial(&ctx.tcp(), &key, manners).await?;
            let stream = link.open(MESHSUB).await?;
            tokio::select! {
                done = attack(stream, ctx, number) => done,
                () = link.ended() => Ok(()),
            }
        }
    })
    .await;
}

async fn unjoined(ctx: Ctx) {
    siege(ctx, Manners::plain(), |mut stream, ctx, _| async move {
        for number in 0.. {
            let topic = format!("nobody/{number}");
            let data = ctx.unique(number, LARGE);
            put(&mut stream, &message(&topic, &data).framed()).await?;
        }
        Ok(())
    })
    .await;
}

async fn unread(ctx: Ctx) {
    let manners = Manners::plain().with(MESHSUB, Service::Hold);
    siege(ctx, manners, |mut stream, ctx, peer| async move {
        for topic in ["/transaction/1", "/vote/1", "/block/1"] {
            put(&mut stream, &subscription(name(topic), 1).framed()).await?;
        }
        if peer > 0 {
            return std::future::pending().await;
        }
        for number in 0.. {
            let data = ctx.unique(number, LARGE);
            put(&mut stream, &message(&transactions(), &data).framed()).await?;
        }
        Ok(())
    })
    .await;
}

async fn long_topics(ctx: Ctx) {
    siege(ctx, Manners::plain(), |mut stream, ctx, peer| async move {
        for number in 0..515 {
            let mut topic = format!("{peer}/{number}/").into_bytes();
            topic.resize(1 << 20, b'x');
            put(&mut stream, &subscription(&topic, 1).framed()).await?;
        }
        drop(ctx);
        std::future::pending().await
    })
    .await;
}

async fn flips(ctx: Ctx) {
    siege(ctx, Manners::plain(), |mut stream, _, _| async move {
        let topics = (0..100).flat_map(|number| {
            let topic = format!("topic/{number}");
            [subscription(&topic, 1), subscription(&topic, 0)]
        });
        let frames: Vec<u8> = topics.flat_map(|frame| frame.framed()).collect();
        flood(&mut stream, &frames).await
    })
    .await;
}

async fn promises(ctx: Ctx) {
    siege(ctx, Manners::plain(), |mut stream, ctx, _| async move {
        put(&mut stream, &subscription(transactions(), 1).framed()).await?;
        for number in 0.. {
            let ids = ctx.unique(number, 20 * 1000);
            let ids = ids.chunks(20);
            let have = Proto::new().bytes(1, transactions());
            let have = ids.clone().fold(have, |have, id| have.bytes(2, id));
            let want = ids.fold(Proto::new(), |want, id| want.bytes(1, id));
            put(&mut stream, &control(1, have)).await?;
            put(&mut stream, &control(2, want)).await?;
        }
        Ok(())
    })
    .await;
}

async fn grafts(ctx: Ctx) {
    siege(ctx, Manners::plain(), |mut stream, _, _| async move {
        put(&mut stream, &subscription(transactions(), 1).framed()).await?;
        let graft = control(3, Proto::new().bytes(1, transactions()));
        let prune = control(4, Proto::new().bytes(1, transactions()).uint(3, 1));
        flood(&mut stream, &[graft, prune].concat()).await
    })
    .await;
}

async fn replayed(ctx: Ctx) {
    siege(ctx, Manners::plain(), |mut stream, ctx, _| async move {
        put(&mut stream, &subscription(transactions(), 1).framed()).await?;
        let items = (0..64).map(|number| ctx.unique(number, 250));
        let frames = items.flat_map(|item| message(&transactions(), &item).framed());
        flood(&mut stream, &frames.collect::<Vec<u8>>()).await
    })
    .await;
}

async fn new_items(ctx: Ctx) {
    siege(ctx, Manners::plain(), |mut stream, ctx, _| async move {
        put(&mut stream, &subscription(transactions(), 1).framed()).await?;
        for number in 0.. {
            let item = ctx.unique(number, 250);
            put(&mut stream, &message(&transactions(), &item).framed()).await?;
            if number % 64 == 0 {
                tokio::time::sleep(Duration::ZERO).await;
            }
        }
        Ok(())
    })
    .await;
}

async fn unwanted(ctx: Ctx) {
    siege(ctx, Manners::plain(), |mut stream, ctx, _| async move {
        put(&mut stream, &subscription(transactions(), 1).framed()).await?;
        for number in 0.. {
            let ids = ctx.unique(number, 20 * 1000);
            let unwanted = ids
                .chunks(20)
                .fold(Proto::new(), |message, id| message.bytes(1, id));
            put(&mut stream, &control(5, unwanted)).await?;
        }
        Ok(())
    })
    .await;
}
