//! Blocks that are told of and do not come, in compact form and in coded chunks.

use super::{BLOCK, frame, kind};
use crate::lab::{
    Attack,
    attacker::Ctx,
    link::{Manners, flood, put},
    proto::Proto,
};

pub const ATTACKS: &[Attack] = &[
    Attack::new(
        "coded-announcements",
        "announces ever new blocks in chunks, says that it holds all, and sends none",
        |ctx| Box::pin(coded(ctx)),
    ),
    Attack::new(
        "coded-announcements-by-16",
        "the same from 16 peers",
        |ctx| Box::pin(coded(ctx)),
    )
    .by(16),
    Attack::new(
        "block-announcements",
        "announces ever new blocks and answers no question",
        |ctx| Box::pin(announced(ctx)),
    ),
    Attack::new(
        "block-questions",
        "asks for blocks that nobody has",
        |ctx| Box::pin(questions(ctx)),
    ),
    Attack::new(
        "compact-blocks",
        "compact blocks of 65,536 transactions that nobody has",
        |ctx| Box::pin(compact(ctx)),
    ),
];

async fn coded(ctx: Ctx) {
    ctx.siege(Manners::good(), |link, ctx, peer| async move {
        let mut block = link.lane(BLOCK).await?;
        for number in 0.. {
            let number = (peer as u64) << 40 | number;
            let announce = Proto::new()
                .bytes(1, ctx.unique(2 * number, 32))
                .uint(3, 4 << 20)
                .bytes(4, ctx.unique(2 * number + 1, 32))
                .bytes(5, [0xff; 32]);
            let coded = Proto::new().bytes(1, announce);
            put(&mut block, &frame(kind::CODED, coded)).await?;
        }
        Ok(())
    })
    .await;
}

async fn announced(ctx: Ctx) {
    ctx.siege(Manners::good(), |link, ctx, _| async move {
        let mut block = link.lane(BLOCK).await?;
        for number in 0.. {
            let announcement = Proto::new().bytes(1, ctx.unique(number, 32));
            let message = Proto::new().bytes(1, announcement);
            put(&mut block, &frame(kind::BLOCK, message)).await?;
        }
        Ok(())
    })
    .await;
}

async fn questions(ctx: Ctx) {
    ctx.siege(Manners::good(), |link, ctx, _| async move {
        let mut block = link.lane(BLOCK).await?;
        let get = Proto::new().bytes(1, ctx.unique(0, 32));
        let message = Proto::new().bytes(3, get);
        flood(&mut block, &frame(kind::BLOCK, message)).await
    })
    .await;
}

async fn compact(ctx: Ctx) {
    ctx.siege(Manners::good(), |link, ctx, _| async move {
        let mut block = link.lane(BLOCK).await?;
        let short_ids = ctx.unique(0, 6 * 65_535);
        for number in 1.. {
            let compact = Proto::new()
                .bytes(1, ctx.unique(number, 32))
                .bytes(2, ctx.unique(number, 80))
                .fixed64(3, number)
                .bytes(4, &short_ids)
                // Skip 0, 10 bytes.
                .bytes(5, [0, 10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
            let message = Proto::new().bytes(2, compact);
            put(&mut block, &frame(kind::BLOCK, message)).await?;
        }
        Ok(())
    })
    .await;
}
