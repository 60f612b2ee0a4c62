//! WebTransport sessions that stop half-way, as no browser stops.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use wtransport::Endpoint;

use crate::lab::{
    Attack,
    attacker::{Ctx, Via},
    honest::{webtransport_config, webtransport_url},
};

pub const ATTACKS: &[Attack] = &[
    Attack::new(
        "webtransport-no-streams",
        "300 clients that let the victim open no streams of one direction",
        |ctx| Box::pin(raw(ctx, 0, false)),
    )
    .by(300)
    .newcomers(Via::WebTransport),
    Attack::new(
        "webtransport-half-frame",
        "300 clients that leave HTTP/3's first frame unfinished",
        |ctx| Box::pin(raw(ctx, 16, true)),
    )
    .by(300)
    .newcomers(Via::WebTransport),
    Attack::new(
        "webtransport-no-noise",
        "300 sessions that never prove an identity",
        |ctx| Box::pin(no_noise(ctx)),
    )
    .by(300)
    .newcomers(Via::WebTransport),
];

/// A QUIC connection under HTTP/3's name that does not go on.
async fn raw(ctx: Ctx, streams: u32, half: bool) {
    ctx.storm(move |ctx, _, _| async move {
        // What wtransport would use: certificates by their hashes, HTTP/3.
        let config = webtransport_config(&ctx.address(Via::WebTransport), Ipv4Addr::LOCALHOST);
        let mut config = config.quic_config().clone();
        let mut transport = quinn::TransportConfig::default();
        transport
            .max_concurrent_uni_streams(streams.into())
            .keep_alive_interval(Some(Duration::from_secs(3)));
        config.transport_config(Arc::new(transport));
        let client = quinn::Endpoint::client(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let victim = SocketAddr::from((Ipv4Addr::LOCALHOST, ctx.port(Via::WebTransport)));
        let connecting = client
            .connect_with(config, victim, "localhost")
            .map_err(io::Error::other)?;
        let connection = connecting.await?;
        let mut control = connection.open_uni().await?;
        if half {
            // A control stream; a frame of settings, 60 bytes long, of which none come.
            control.write_all(&[0, 4, 60]).await?;
        }
        connection.closed().await;
        Ok(())
    })
    .await;
}

async fn no_noise(ctx: Ctx) {
    ctx.storm(|ctx, _, _| async move {
        let address = ctx.address(Via::WebTransport);
        let client = Endpoint::client(webtransport_config(&address, Ipv4Addr::LOCALHOST))?;
        let session = client.connect(webtransport_url(&address)).await;
        let session = session.map_err(io::Error::other)?;
        session.closed().await;
        Ok(())
    })
    .await;
}
