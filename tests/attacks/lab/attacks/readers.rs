//! Peers that ask for much and read little, or say that they have read what they have not.

use std::time::Duration;

use super::{BLOCK, BULK, URGENT, batch, frame, items::big, kind};
use crate::lab::{
    Attack,
    attacker::Ctx,
    link::{Manners, Service, flood, put},
    proto::Proto,
};

pub const ATTACKS: &[Attack] = &[
    Attack::new(
        "lying-acknowledgements",
        "fetches a transaction of 1 MiB without end, reads nothing, and says that all is read",
        |ctx| Box::pin(fetch_unread(ctx, true)),
    ),
    Attack::new(
        "lying-acknowledgements-by-16",
        "the same from 16 identities",
        |ctx| Box::pin(fetch_unread(ctx, true)),
    )
    .by(16),
    Attack::new(
        "acknowledgements",
        "nothing but acknowledgements, of numbers as large as there are",
        |ctx| Box::pin(acknowledgements(ctx)),
    ),
    Attack::new(
        "slow-reader-bulk",
        "fetches a transaction of 1 MiB without end and reads nothing",
        |ctx| Box::pin(fetch_unread(ctx, false)),
    )
    .by(16),
    Attack::new(
        "one-item-4096-times",
        "fetches that name one transaction 4,096 times",
        |ctx| Box::pin(fetch_repeated(ctx)),
    ),
    Attack::new(
        "slow-reader-urgent",
        "sends transactions and does not read the lane on which they are acknowledged and votes come",
        |ctx| Box::pin(unread_acknowledgements(ctx)),
    )
    .by(4),
    Attack::new(
        "slow-reader-block",
        "asks for a block of 2 MiB without end and reads nothing",
        |ctx| Box::pin(unread_blocks(ctx, 2 << 20, 1)),
    )
    .by(16),
    Attack::new(
        "blocks-unread-by-32",
        "makes block after block of 4 MB, asks for each and reads none",
        |ctx| Box::pin(unread_blocks(ctx, 4_000_000, u64::MAX)),
    )
    .by(32),
];

const ITEM: usize = 1 << 20;

fn deaf(lane: &str) -> Manners {
    Manners::good().with(lane, Service::Hold)
}

async fn fetch_unread(ctx: Ctx, lie: bool) {
    ctx.siege(deaf(BULK), move |link, ctx, number| async move {
        let (mut urgent, mut bulk) = (link.lane(URGENT).await?, link.lane(BULK).await?);
        let (item, id) = big(&ctx, number as u64, ITEM);
        put(&mut bulk, &frame(kind::ITEMS, batch([&item[..]]))).await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let fetch = frame(kind::FETCH, Proto::new().bytes(1, id));
        let fetches = flood(&mut bulk, &fetch);
        if !lie {
            return fetches.await;
        }
        let lie = Proto::new().uint(1, ITEM as u64).uint(2, ITEM as u64);
        let lies = frame(kind::ACKNOWLEDGE, lie);
        tokio::try_join!(fetches, flood(&mut urgent, &lies))?;
        Ok(())
    })
    .await;
}

async fn acknowledgements(ctx: Ctx) {
    ctx.siege(Manners::good(), |link, _, _| async move {
        let mut urgent = link.lane(URGENT).await?;
        let lie = Proto::new().uint(1, u64::MAX).uint(2, u64::MAX);
        flood(&mut urgent, &frame(kind::ACKNOWLEDGE, lie)).await
    })
    .await;
}

async fn fetch_repeated(ctx: Ctx) {
    ctx.siege(Manners::good(), |link, ctx, _| async move {
        let mut bulk = link.lane(BULK).await?;
        let (item, id) = big(&ctx, 0, ITEM);
        put(&mut bulk, &frame(kind::ITEMS, batch([&item[..]]))).await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let fetch = frame(kind::FETCH, Proto::new().bytes(1, id.repeat(4096)));
        flood(&mut bulk, &fetch).await
    })
    .await;
}

async fn unread_acknowledgements(ctx: Ctx) {
    ctx.siege(deaf(URGENT), |link, ctx, peer| async move {
        let mut bulk = link.lane(BULK).await?;
        for number in 0.. {
            // A frame an item: an acknowledgement each.
            let item = ctx.unique((peer as u64) << 32 | number, 64);
            let mut frames = frame(kind::ITEMS, batch([&item[..]]));
            frames = frames.repeat(256);
            put(&mut bulk, &frames).await?;
        }
        Ok(())
    })
    .await;
}

/// So many blocks of so many bytes, each made and asked for; the last one without end.
async fn unread_blocks(ctx: Ctx, size: usize, count: u64) {
    ctx.siege(deaf(BLOCK), move |link, ctx, peer| async move {
        let mut block = link.lane(BLOCK).await?;
        for number in 1.. {
            let (data, _) = big(&ctx, (peer as u64) << 32 | number, size);
            let id = sha256(&data);
            let whole = Proto::new().bytes(1, id).bytes(2, &data);
            let whole = Proto::new().bytes(6, whole);
            put(&mut block, &frame(kind::BLOCK, whole)).await?;
            tokio::time::sleep(Duration::from_millis(200)).await;
            let get = Proto::new().bytes(1, id).uint(2, 1);
            let get = frame(kind::BLOCK, Proto::new().bytes(3, get));
            if number == count {
                return flood(&mut block, &get).await;
            }
            put(&mut block, &get).await?;
        }
        Ok(())
    })
    .await;
}

/// What the opaque chain calls a block.
fn sha256(data: &[u8]) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    Sha256::digest(data).into()
}
