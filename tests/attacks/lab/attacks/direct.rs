//! Direct messages, hellos and pings.

use std::{io, sync::Arc};

use futures::AsyncWriteExt;

use crate::lab::{
    Attack,
    attacker::{Ctx, Via},
    link::{Link, Manners, flood, name, put, read_frame},
    proto::Proto,
};

pub const ATTACKS: &[Attack] = &[
    Attack::new(
        "state-questions",
        "asks for state on many streams at once, as fast as they are opened",
        |ctx| {
            Box::pin(messages(ctx, |ctx, number| {
                Proto::new().bytes(4, Proto::new().bytes(1, ctx.unique(number, 1024)))
            }))
        },
    ),
    Attack::new(
        "direct-replayed",
        "sends the same 64 transactions directly, again and again",
        |ctx| {
            Box::pin(messages(ctx, |ctx, number| {
                Proto::new().bytes(2, ctx.unique(number % 64, 250))
            }))
        },
    ),
    Attack::new(
        "direct-large",
        "sends ever new transactions of 1 MiB directly",
        |ctx| {
            Box::pin(messages(ctx, |ctx, number| {
                Proto::new().bytes(2, ctx.unique(number, 1 << 20))
            }))
        },
    ),
    Attack::new(
        "messages-unfinished-by-32",
        "32 peers begin direct messages of 4 MiB over QUIC, each on 32 streams, and end none",
        |ctx| Box::pin(unfinished(ctx)),
    )
    .by(32),
    Attack::new("hellos", "says hello again and again", |ctx| {
        Box::pin(hellos(ctx))
    }),
    Attack::new(
        "pings",
        "pings on many streams, as fast as they are answered",
        |ctx| Box::pin(pings(ctx)),
    ),
];

const AT_ONCE: u64 = 64;

async fn messages(ctx: Ctx, message: fn(&Ctx, u64) -> Proto) {
    ctx.siege(Manners::good(), move |link, ctx, _| async move {
        let mut streams = tokio::task::JoinSet::new();
        for number in 0..AT_ONCE {
            let (link, ctx) = (Arc::clone(&link), ctx.clone());
            streams.spawn(async move {
                for round in 0.. {
                    let message = message(&ctx, round * AT_ONCE + number);
                    let _ = request(&link, &message.framed()).await;
                }
            });
        }
        link.ended().await;
        streams.abort_all();
        Ok(())
    })
    .await;
}

/// What finds no room stands unread in the windows of its stream and connection.
async fn unfinished(ctx: Ctx) {
    ctx.storm(|ctx, key, number| async move {
        let link = Link::join(&ctx.address(Via::Quic), &key, Manners::good()).await?;
        let message = Proto::new().bytes(2, ctx.unique(number as u64, 4_000_000));
        let mut frame = message.framed();
        frame.pop();
        let frame: Arc<[u8]> = frame.into();
        let mut streams = tokio::task::JoinSet::new();
        for _ in 0..AT_ONCE / 2 {
            let (mut stream, frame) = (link.open(&name("/message/1")).await?, Arc::clone(&frame));
            streams.spawn(async move {
                let written = put(&mut stream, &frame).await;
                std::future::pending::<()>().await;
                written
            });
        }
        link.ended().await;
        Ok(())
    })
    .await;
}

async fn request(link: &Link, frame: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = link.open(&name("/message/1")).await?;
    put(&mut stream, frame).await?;
    stream.close().await?;
    read_frame(&mut stream, 5 << 20).await
}

async fn hellos(ctx: Ctx) {
    ctx.siege(Manners::good(), |link, _, _| async move {
        loop {
            link.hello().await?;
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn pings(ctx: Ctx) {
    ctx.siege(Manners::good(), |link, _, _| async move {
        let mut streams = Vec::new();
        for _ in 0..16 {
            streams.push(link.open("/ipfs/ping/1.0.0").await?);
        }
        let floods = streams.iter_mut().map(|stream| flood(stream, &[7; 32]));
        futures::future::try_join_all(floods).await?;
        Ok(())
    })
    .await;
}
