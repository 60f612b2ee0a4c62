//! Items that are known, empty, packed out of proportion, or announced and then not there.

use std::sync::Arc;

use super::{BULK, URGENT, batch, frame, kind, packed, short_id};
use crate::lab::{
    Attack,
    attacker::Ctx,
    link::{Manners, Service, flood, put, read_frame},
    proto::{Proto, fields},
};

pub const ATTACKS: &[Attack] = &[
    Attack::new(
        "packed-known-items",
        "the same batch of 4,096 known transactions, of which 16 KiB unpack to 4 MiB",
        |ctx| Box::pin(known(ctx, 1000, true)),
    ),
    Attack::new(
        "packed-known-items-by-8",
        "the same from eight peers",
        |ctx| Box::pin(known(ctx, 1000, true)),
    )
    .by(8),
    Attack::new(
        "known-transactions",
        "the same 4,096 transactions of 100 bytes, plain",
        |ctx| Box::pin(known(ctx, 100, false)),
    ),
    Attack::new("known-votes", "one vote again and again", |ctx| {
        Box::pin(known_votes(ctx))
    }),
    Attack::new(
        "new-votes",
        "ever new votes, as fast as they are read",
        |ctx| Box::pin(new_votes(ctx)),
    ),
    Attack::new(
        "new-transactions",
        "ever new transactions, as fast as they are read",
        |ctx| Box::pin(new_transactions(ctx)),
    ),
    Attack::new(
        "two-million-empty-items-packed",
        "two million items of no bytes in a packed batch",
        |ctx| Box::pin(empty(ctx, true)),
    ),
    Attack::new(
        "two-million-empty-items",
        "the same in a plain frame",
        |ctx| Box::pin(empty(ctx, false)),
    ),
    Attack::new(
        "padded-batches",
        "packed batches of a new transaction of 8 bytes each, of which 66 KiB unpack to 4 MiB that nobody knows",
        |ctx| Box::pin(padded(ctx)),
    ),
    Attack::new(
        "announced-then-missing",
        "announces ever new transactions, and says that it has not got them when they are fetched",
        |ctx| Box::pin(missing(ctx)),
    ),
];

const MOST: u64 = 4096;

/// A batch that packs well: its items differ in their first bytes only.
fn similar(ctx: &Ctx, length: usize) -> Proto {
    let items = (0..MOST).map(|number| {
        let mut item = ctx.unique(number, 8);
        item.resize(length, 0);
        item
    });
    let items: Vec<_> = items.collect();
    batch(items.iter().map(Vec::as_slice))
}

async fn known(ctx: Ctx, length: usize, pack: bool) {
    ctx.siege(Manners::good(), move |link, ctx, _| async move {
        let mut bulk = link.lane(BULK).await?;
        let plain = similar(&ctx, length);
        let batch = if pack { packed(&plain) } else { plain };
        flood(&mut bulk, &frame(kind::ITEMS, batch)).await
    })
    .await;
}

async fn known_votes(ctx: Ctx) {
    ctx.siege(Manners::good(), |link, ctx, _| async move {
        let mut urgent = link.lane(URGENT).await?;
        let vote = ctx.unique(0, 100);
        flood(&mut urgent, &frame(kind::ITEMS, batch([&vote[..]]))).await
    })
    .await;
}

async fn new_votes(ctx: Ctx) {
    ctx.siege(Manners::good(), |link, ctx, _| async move {
        let mut urgent = link.lane(URGENT).await?;
        for number in 0.. {
            let votes = ctx.unique(number, 100 * 64);
            put(&mut urgent, &frame(kind::ITEMS, batch(votes.chunks(100)))).await?;
        }
        Ok(())
    })
    .await;
}

async fn new_transactions(ctx: Ctx) {
    ctx.siege(Manners::good(), |link, ctx, _| async move {
        let mut bulk = link.lane(BULK).await?;
        for number in 0.. {
            let items = ctx.unique(number, 250 * 256);
            put(&mut bulk, &frame(kind::ITEMS, batch(items.chunks(250)))).await?;
        }
        Ok(())
    })
    .await;
}

async fn empty(ctx: Ctx, pack: bool) {
    ctx.siege(Manners::good(), move |link, _, _| async move {
        let mut bulk = link.lane(BULK).await?;
        let plain = batch(std::iter::repeat_n(&[][..], 2_000_000));
        let batch = if pack { packed(&plain) } else { plain };
        flood(&mut bulk, &frame(kind::ITEMS, batch)).await
    })
    .await;
}

async fn padded(ctx: Ctx) {
    ctx.siege(Manners::good(), |link, ctx, _| async move {
        let mut bulk = link.lane(BULK).await?;
        // Some noise, or it would be packed too well to be taken.
        let mut filling = ctx.unique(0, 66 << 10);
        filling.resize((4 << 20) - 1024, 0);
        for number in 1.. {
            let item = ctx.unique(number, 8);
            let batch = batch([&item[..]]).bytes(15, &filling);
            put(&mut bulk, &frame(kind::ITEMS, packed(&batch))).await?;
        }
        Ok(())
    })
    .await;
}

/// Answers each fetch on the lane that the victim opened by a frame on its own.
async fn missing(ctx: Ctx) {
    let (wanted, mut fetched) = tokio::sync::mpsc::unbounded_channel::<Vec<u8>>();
    let service = Service::Custom(Arc::new(move |mut stream| {
        let wanted = wanted.clone();
        Box::pin(async move {
            while let Ok(frame) = read_frame(&mut stream, 6 << 20).await {
                for fetch in fields(&frame, kind::FETCH) {
                    for ids in fields(fetch, 1) {
                        let _ = wanted.send(ids.to_vec());
                    }
                }
            }
        })
    }));
    let manners = Manners::good().with(BULK, service);
    let key = libp2p::identity::Keypair::generate_ed25519();
    for number in 0.. {
        while fetched.try_recv().is_ok() {}
        let _: std::io::Result<()> = async {
            let link = crate::lab::link::Link::join(&ctx.tcp(), &key, manners.clone()).await?;
            let mut bulk = link.lane(BULK).await?;
            let mut ids = number << 32;
            loop {
                const COUNT: usize = 1024;
                let announce = Proto::new()
                    .bytes(1, ctx.unique(ids, 8 * COUNT))
                    .bytes(2, [0x7f].repeat(COUNT))
                    .bytes(3, [0x01].repeat(COUNT));
                put(&mut bulk, &frame(kind::ANNOUNCE, announce)).await?;
                ids += 1;
                // Each announcement waits to be fetched, so that it is not one too many.
                while let Ok(Some(ids)) =
                    tokio::time::timeout(std::time::Duration::from_millis(100), fetched.recv())
                        .await
                {
                    let missing = Proto::new().bytes(4, ids);
                    put(&mut bulk, &frame(kind::ITEMS, missing)).await?;
                }
            }
        }
        .await;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// An item that a peer brings and then fetches.
pub fn big(ctx: &Ctx, number: u64, length: usize) -> (Vec<u8>, [u8; 8]) {
    let item = ctx.unique(number, length);
    let id = short_id(&item);
    (item, id)
}
