//! Streams that are opened and left: multistream-select and yamux as levers.

use std::{sync::Arc, time::Duration};

use futures::AsyncWriteExt;

use super::BULK;
use crate::lab::{
    Attack,
    attacker::{Ctx, Via},
    link::{Link, Manners, line, name},
};

pub const ATTACKS: &[Attack] = &[
    Attack::new(
        "unanswered-streams",
        "says hello, and never answers the streams that the victim opens to it",
        |ctx| Box::pin(unanswered(ctx)),
    )
    .by(16),
    Attack::new(
        "streams-without-protocol",
        "opens as many streams as it may and names no protocol",
        |ctx| Box::pin(nameless(ctx, false)),
    )
    .by(16),
    Attack::new(
        "streams-half-named",
        "opens as many streams as it may and names half a protocol",
        |ctx| Box::pin(nameless(ctx, true)),
    )
    .by(16),
    Attack::new(
        "stream-churn",
        "opens streams of lanes and drops them, as fast as it can",
        |ctx| Box::pin(churn(ctx)),
    ),
    Attack::new(
        "protocol-guesses",
        "asks for protocols that nobody speaks, as fast as it is refused",
        |ctx| Box::pin(guesses(ctx)),
    ),
    Attack::new(
        "reconnects",
        "comes with ever new identities, says hello and goes, 64 at a time",
        |ctx| Box::pin(reconnects(ctx, Via::Tcp)),
    )
    .by(64)
    .newcomers(Via::Tcp),
    Attack::new("reconnects-quic", "the same over QUIC", |ctx| {
        Box::pin(reconnects(ctx, Via::Quic))
    })
    .by(64)
    .newcomers(Via::Quic),
];

async fn unanswered(ctx: Ctx) {
    ctx.siege(Manners::mute(), |link, _, _| async move {
        link.ended().await;
        Ok(())
    })
    .await;
}

async fn nameless(ctx: Ctx, half: bool) {
    ctx.siege(Manners::good(), move |link, _, _| async move {
        let mut streams = Vec::new();
        while let Ok(Ok(mut stream)) =
            tokio::time::timeout(Duration::from_secs(1), link.bare()).await
        {
            if half {
                let mut words = line("/multistream/1.0.0");
                words.extend([120, b'/']);
                stream.write_all(&words).await?;
            } else {
                stream.write_all(&[]).await?;
            }
            stream.flush().await?;
            streams.push(stream);
            // More would be refused by this side's own yamux.
            if streams.len() == 256 {
                break;
            }
        }
        link.ended().await;
        Ok(())
    })
    .await;
}

async fn churn(ctx: Ctx) {
    ctx.siege(Manners::good(), |link, _, _| async move {
        loop {
            drop(link.lane(BULK).await?);
        }
    })
    .await;
}

async fn guesses(ctx: Ctx) {
    ctx.siege(Manners::good(), |link, _, _| async move {
        for number in 0.. {
            let link = Arc::clone(&link);
            let guess = name(&format!("/guess/{number}"));
            if let Err(error) = link.open(&guess).await
                && error.kind() != std::io::ErrorKind::Unsupported
            {
                return Err(error);
            }
        }
        Ok(())
    })
    .await;
}

async fn reconnects(ctx: Ctx, via: Via) {
    ctx.storm(move |ctx, _, _| async move {
        loop {
            let key = libp2p::identity::Keypair::generate_ed25519();
            let _ = Link::join(&ctx.address(via), &key, Manners::good()).await;
        }
    })
    .await;
}
