//! What peers tell of addresses: identify's push, Kademlia, the exchange of peers.

use std::time::Duration;

use futures::AsyncWriteExt;
use libp2p::{Multiaddr, identity::Keypair};

use super::super::link::{Link, identify, read_frame};
use crate::lab::{
    Attack,
    attacker::Ctx,
    link::{Manners, Service, name, put},
    proto::Proto,
};

pub const ATTACKS: &[Attack] = &[
    Attack::new(
        "identify-pushes",
        "pushes ever new addresses, 130 times a second, and claims to serve the DHT",
        |ctx| Box::pin(pushes(ctx, Duration::from_micros(7_700))),
    ),
    Attack::new(
        "identify-pushes-without-pause",
        "the same as fast as they are taken",
        |ctx| Box::pin(pushes(ctx, Duration::ZERO)),
    ),
    Attack::new(
        "kad-records",
        "puts ever new records of 60 KiB into the DHT",
        |ctx| Box::pin(kad(ctx, record)),
    ),
    Attack::new(
        "kad-providers",
        "says that it provides ever new keys",
        |ctx| Box::pin(kad(ctx, provider)),
    ),
    Attack::new(
        "kad-questions",
        "asks for the peers nearest to ever new keys",
        |ctx| Box::pin(kad(ctx, question)),
    ),
    Attack::new(
        "peer-exchange",
        "direct messages of 4 MiB that tell of peers",
        |ctx| Box::pin(exchange(ctx)),
    ),
];

const PUSH: &str = "/ipfs/id/push/1.0.0";
const KAD: &str = "/kad/1";

async fn pushes(ctx: Ctx, pause: Duration) {
    let manners = Manners::good().with(KAD, Service::Hold);
    let told = manners.clone();
    ctx.storm(move |ctx, key, _| {
        let (manners, told) = (manners.clone(), told.clone());
        async move {
            let link = Link::join(&ctx.tcp(), &key, manners).await?;
            for number in 0u64.. {
                let addresses: Vec<Multiaddr> = (0..16u64)
                    .map(|place| {
                        let host = number * 16 + place;
                        let [.., a, b, c] = host.to_be_bytes();
                        format!("/ip4/44.{a}.{b}.{c}/tcp/4001")
                            .parse()
                            .expect("an address")
                    })
                    .collect();
                let mut stream = link.open(PUSH).await?;
                put(&mut stream, &identify(&key, &told, &addresses)).await?;
                stream.close().await?;
                if pause.is_zero() {
                    tokio::task::yield_now().await;
                } else {
                    tokio::time::sleep(pause).await;
                }
            }
            Ok(())
        }
    })
    .await;
}

async fn kad(ctx: Ctx, message: fn(&Ctx, &Keypair, u64) -> Proto) {
    ctx.storm(move |ctx, key, _| async move {
        let link = Link::join(&ctx.tcp(), &key, Manners::good()).await?;
        let mut stream = link.lane(KAD).await?;
        for number in 0.. {
            let message = message(&ctx, &key, number);
            put(&mut stream, &message.framed()).await?;
            let answered = read_frame(&mut stream, 1 << 20);
            // Providers are not answered for, nor what is not kept.
            let _ = tokio::time::timeout(Duration::from_millis(1), answered).await;
        }
        Ok(())
    })
    .await;
}

fn record(ctx: &Ctx, _: &Keypair, number: u64) -> Proto {
    let (key, value) = (ctx.unique(number, 32), ctx.unique(number, 15 << 10));
    let record = Proto::new().bytes(1, &key).bytes(2, value);
    Proto::new().uint(1, 0).bytes(2, &key).bytes(3, record)
}

fn provider(ctx: &Ctx, key: &Keypair, number: u64) -> Proto {
    let address: Multiaddr = "/ip4/44.1.2.3/tcp/4001".parse().expect("an address");
    let peer = Proto::new()
        .bytes(1, key.public().to_peer_id().to_bytes())
        .bytes(2, address.to_vec())
        .uint(3, 1);
    // A multihash of SHA-256.
    let key = [&[0x12, 0x20][..], &ctx.unique(number, 32)].concat();
    Proto::new().uint(1, 2).bytes(2, key).bytes(9, peer)
}

fn question(ctx: &Ctx, _: &Keypair, number: u64) -> Proto {
    Proto::new().uint(1, 4).bytes(2, ctx.unique(number, 32))
}

async fn exchange(ctx: Ctx) {
    ctx.siege(Manners::good(), |link, _, _| async move {
        let long = "x".repeat(4000);
        for round in 0.. {
            let mut message = Proto::new();
            for peer in 0..64 {
                let id = Keypair::generate_ed25519().public().to_peer_id();
                let mut info = Proto::new().bytes(1, id.to_bytes());
                for number in 0..16 {
                    let text = format!("/dns4/{round}.{peer}.{number}.{long}/tcp/1");
                    let address: Multiaddr = text.parse().expect("an address");
                    info = info.bytes(2, address.to_vec());
                }
                message = message.bytes(1, info);
            }
            let message = Proto::new().bytes(5, message).framed();
            let mut stream = link.open(&name("/message/1")).await?;
            put(&mut stream, &message).await?;
            stream.close().await?;
            let _ = read_frame(&mut stream, 1 << 20).await?;
        }
        Ok(())
    })
    .await;
}
