//! Frames that carry nothing: each has to be read, and none is an item that a limit counts.

use super::{BLOCK, BULK, URGENT, frame, kind};
use crate::lab::{
    Attack,
    attacker::Ctx,
    link::{Manners, flood},
    proto::Proto,
};

pub const ATTACKS: &[Attack] = &[
    Attack::new(
        "link-flips",
        "asks for pushes and for announcements in turn, on the lanes of votes and transactions",
        |ctx| Box::pin(link_flips(ctx)),
    ),
    Attack::new(
        "empty-frames",
        "batches of no items, announcements of none, fetches of none",
        |ctx| Box::pin(empty_frames(ctx)),
    ),
    Attack::new(
        "frames-of-nothing",
        "frames of no bytes at all, on each lane",
        |ctx| Box::pin(everywhere(ctx, vec![0])),
    ),
    Attack::new("unknown-kinds", "frames of a kind that is none", |ctx| {
        Box::pin(everywhere(ctx, frame(99, "")))
    }),
    Attack::new(
        "fetches-of-nothing",
        "fetches 4,096 ids at a time that nobody has",
        |ctx| Box::pin(fetches(ctx)),
    ),
    Attack::new(
        "announcements-of-nothing",
        "announces ever new transactions and never sends one",
        |ctx| Box::pin(announcements(ctx)),
    ),
];

async fn link_flips(ctx: Ctx) {
    let push = |push| frame(kind::LINK, Proto::new().uint(1, push));
    on_lanes(ctx, &[URGENT, BULK], [push(0), push(1)].concat()).await;
}

async fn empty_frames(ctx: Ctx) {
    let kinds = [kind::ITEMS, kind::ANNOUNCE, kind::FETCH];
    let frames = kinds.map(|kind| frame(kind, "")).concat();
    on_lanes(ctx, &[URGENT, BULK], frames).await;
}

async fn everywhere(ctx: Ctx, frames: Vec<u8>) {
    on_lanes(ctx, &[URGENT, BLOCK, BULK], frames).await;
}

/// The same on some lanes at once.
async fn on_lanes(ctx: Ctx, lanes: &'static [&'static str], frames: Vec<u8>) {
    ctx.siege(Manners::good(), move |link, _, _| {
        let frames = frames.clone();
        async move {
            let mut streams = Vec::new();
            for lane in lanes {
                streams.push(link.lane(lane).await?);
            }
            let floods = streams.iter_mut().map(|stream| flood(stream, &frames));
            futures::future::try_join_all(floods).await?;
            Ok(())
        }
    })
    .await;
}

async fn fetches(ctx: Ctx) {
    ctx.siege(Manners::good(), |link, ctx, _| async move {
        let mut bulk = link.lane(BULK).await?;
        let ids = Proto::new().bytes(1, ctx.unique(1, 8 * 4096));
        flood(&mut bulk, &frame(kind::FETCH, ids)).await
    })
    .await;
}

async fn announcements(ctx: Ctx) {
    const IDS: usize = 4096;
    ctx.siege(Manners::good(), |link, ctx, _| async move {
        let mut bulk = link.lane(BULK).await?;
        let sizes = [0xfa, 0x01].repeat(IDS);
        let fees = [0x01].repeat(IDS);
        for number in 0.. {
            let announce = Proto::new()
                .bytes(1, ctx.unique(number, 8 * IDS))
                .bytes(2, &sizes)
                .bytes(3, &fees);
            crate::lab::link::put(&mut bulk, &frame(kind::ANNOUNCE, announce)).await?;
        }
        Ok(())
    })
    .await;
}
