//! The comparison of pools.

use std::time::Duration;

use super::{BULK, batch, frame, kind};
use crate::lab::{
    Attack,
    attacker::Ctx,
    link::{Link, Manners, flood, put},
    proto::Proto,
};

pub const ATTACKS: &[Attack] = &[
    Attack::new(
        "comparisons-and-reconnects",
        "fills the pool; then eight peers begin a comparison, and go, and come again",
        |ctx| Box::pin(reconnecting(ctx)),
    )
    .by(8),
    Attack::new(
        "comparisons",
        "begins comparisons without end on one connection",
        |ctx| Box::pin(without_end(ctx)),
    ),
    Attack::new(
        "half-comparisons",
        "eight peers begin comparisons and say no more",
        |ctx| Box::pin(half(ctx)),
    )
    .by(8),
];

const POOL: u64 = 50_000;

fn request(salt: u64) -> Vec<u8> {
    let request = Proto::new().fixed64(1, salt).uint(2, POOL / 2);
    frame(kind::RECONCILE, Proto::new().bytes(1, request))
}

/// Fills the victim's pool with small transactions.
async fn fill(ctx: &Ctx) -> std::io::Result<()> {
    let key = libp2p::identity::Keypair::generate_ed25519();
    let link = Link::join(&ctx.tcp(), &key, Manners::good()).await?;
    let mut bulk = link.lane(BULK).await?;
    const BATCH: u64 = 1000;
    for number in 0..POOL / BATCH {
        let items = ctx.unique(number, 64 * BATCH as usize);
        put(&mut bulk, &frame(kind::ITEMS, batch(items.chunks(64)))).await?;
        // The honest two have to keep pace: it is no flood.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What is younger than 5 s is not compared, but listed all the same.
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(())
}

async fn reconnecting(ctx: Ctx) {
    let _ = fill(&ctx).await;
    ctx.siege(Manners::good(), |link, ctx, number| async move {
        let mut bulk = link.lane(BULK).await?;
        put(&mut bulk, &request(number as u64)).await?;
        drop(ctx);
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(())
    })
    .await;
}

async fn without_end(ctx: Ctx) {
    let _ = fill(&ctx).await;
    ctx.siege(Manners::good(), |link, _, _| async move {
        let mut bulk = link.lane(BULK).await?;
        flood(&mut bulk, &request(7)).await
    })
    .await;
}

async fn half(ctx: Ctx) {
    let _ = fill(&ctx).await;
    ctx.siege(Manners::good(), |link, _, number| async move {
        let mut bulk = link.lane(BULK).await?;
        put(&mut bulk, &request(number as u64)).await?;
        link.ended().await;
        Ok(())
    })
    .await;
}
