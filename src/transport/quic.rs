//! What a peer may have unread over QUIC, and over WebTransport, which is QUIC below.
//!
//! quinn ends a whole connection where one stream has over [`MAX_SPANS`] pieces that do not touch each other, since each costs room of
//! its own. A link that loses many packets of one flight, as a full buffer does, makes as many of them out of what an honest peer
//! sent: with the 10 MB a stream that rust-libp2p grants, 7,000 packets may be under way. A stream may therefore have so little
//! unread that its packets, even if every second one is lost, stay below that number. The price is the rate of one stream over
//! a long way: 2 MiB each round trip, 20 MB a second at 100 ms.

use libp2p::{identity::Keypair, quic};

use crate::config::Config;

/// Bytes of a stream that may be unread.
pub(super) const MAX_STREAM_BYTES: u32 = 2 << 20;
/// Bytes of a connection that may be unread, rust-libp2p's default.
pub(super) const MAX_CONNECTION_BYTES: u32 = 15_000_000;

/// Pieces of one stream that quinn keeps (`MAX_CHUNKS` of quinn-proto 0.11).
const MAX_SPANS: u32 = 1024;
/// What a packet carries of a stream at least, where its sender has more to send: QUIC's smallest packet (RFC 9000, 14.1) less its header and seal.
const PACKET_BYTES: u32 = 1150;
const _: () = assert!(MAX_STREAM_BYTES / PACKET_BYTES / 2 < MAX_SPANS);

/// The configuration of a native node's QUIC.
pub(super) fn config(keypair: &Keypair, config: &Config) -> quic::Config {
    let mut quic = quic::Config::new(keypair);
    quic.handshake_timeout = config.network.connection_timeout;
    quic.max_stream_data = MAX_STREAM_BYTES;
    quic.max_connection_data = MAX_CONNECTION_BYTES;
    quic
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        net::SocketAddr,
        pin::Pin,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
        task::Poll,
        time::Duration,
    };

    use futures::{AsyncReadExt as _, AsyncWriteExt as _};
    use libp2p::{
        Multiaddr, Transport as _,
        core::{
            Endpoint,
            muxing::{StreamMuxerBox, StreamMuxerExt as _},
            transport::{DialOpts, ListenerId, PortUse, TransportEvent},
        },
        multiaddr::Protocol,
    };
    use tokio::{net::UdpSocket, sync::mpsc, time::Instant};

    use super::*;
    use crate::transport::Boxed;

    /// So long is the way, that much is under way.
    const WAY: Duration = Duration::from_millis(50);
    /// What has been sent when the loss begins: the sender's window has grown as far as it may.
    const BEFORE: usize = 6_000_000;
    const SENT: usize = 12_000_000;
    /// Packets of which every second one is lost.
    const LOSSY: usize = 3000;

    fn transport() -> Boxed {
        let quic = config(&Keypair::generate_ed25519(), &Config::default());
        quic::tokio::Transport::new(quic)
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
            .boxed()
    }

    /// A long way to a node, which loses every second packet for a while. Returns where it begins, and what it has lost.
    async fn lossy_way(node: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
        let bind = || UdpSocket::bind("127.0.0.1:0");
        let (near, far) = (
            bind().await.expect("a socket"),
            bind().await.expect("a socket"),
        );
        far.connect(node).await.expect("loopback");
        let (near, far) = (Arc::new(near), Arc::new(far));
        let address = near.local_addr().expect("it is bound");
        let lost = Arc::new(AtomicUsize::new(0));
        let (on_the_way, mut arriving) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
        tokio::spawn({
            let far = Arc::clone(&far);
            async move {
                while let Some((at, packet)) = arriving.recv().await {
                    tokio::time::sleep_until(at).await;
                    let _ = far.send(&packet).await;
                }
            }
        });
        tokio::spawn({
            let lost = Arc::clone(&lost);
            async move {
                let (mut there, mut back) = (vec![0; 65_536], vec![0; 65_536]);
                let (mut bytes, mut packets, mut client) = (0, 0, None);
                loop {
                    tokio::select! {
                        Ok((length, from)) = near.recv_from(&mut there) => {
                            client = Some(from);
                            bytes += length;
                            packets += usize::from(bytes > BEFORE);
                            if bytes > BEFORE && packets < LOSSY && packets % 2 == 0 {
                                lost.fetch_add(1, Relaxed);
                                continue;
                            }
                            let _ = on_the_way.send((Instant::now() + WAY, there[..length].to_vec()));
                        }
                        Ok(length) = far.recv(&mut back) => {
                            if let Some(client) = client {
                                let _ = near.send_to(&back[..length], client).await;
                            }
                        }
                    }
                }
            }
        });
        (address, lost)
    }

    fn address(socket: SocketAddr) -> Multiaddr {
        Multiaddr::from(socket.ip())
            .with(Protocol::Udp(socket.port()))
            .with(Protocol::QuicV1)
    }

    #[tokio::test]
    async fn an_honest_stream_survives_a_flight_of_which_half_is_lost() {
        let mut node = transport();
        node.listen_on(ListenerId::next(), address(([127, 0, 0, 1], 0).into()))
            .expect("it listens");
        let listening = poll_fn(|cx| Pin::new(&mut node).poll(cx)).await;
        let TransportEvent::NewAddress { listen_addr, .. } = listening else {
            panic!("{listening:?}");
        };
        let port = listen_addr.iter().find_map(|part| match part {
            Protocol::Udp(port) => Some(port),
            _ => None,
        });
        let port = port.expect("a UDP port");
        let (way, lost) = lossy_way(([127, 0, 0, 1], port).into()).await;

        let reader = tokio::spawn(async move {
            let coming = loop {
                if let TransportEvent::Incoming { upgrade, .. } =
                    poll_fn(|cx| Pin::new(&mut node).poll(cx)).await
                {
                    break upgrade;
                }
            };
            let (_, mut muxer) = coming.await.expect("a connection");
            let mut stream = poll_fn(|cx| {
                if let Poll::Ready(stream) = muxer.poll_inbound_unpin(cx) {
                    return Poll::Ready(stream);
                }
                let _ = muxer.poll_unpin(cx);
                Poll::Pending
            })
            .await
            .expect("a stream");
            let (mut room, mut read) = (vec![0; 65_536], 0);
            loop {
                match stream.read(&mut room).await {
                    Ok(0) => return Ok(read),
                    Ok(count) => read += count,
                    Err(error) => return Err(error.to_string()),
                }
            }
        });
        let mut dialler = transport();
        let options = DialOpts {
            role: Endpoint::Dialer,
            port_use: PortUse::New,
        };
        let (_, mut muxer) = dialler
            .dial(address(way), options)
            .expect("an address")
            .await
            .expect("a connection");
        let mut stream = poll_fn(|cx| muxer.poll_outbound_unpin(cx))
            .await
            .expect("a stream");
        let written = async {
            let piece = vec![7; 65_536];
            for _ in 0..SENT / piece.len() {
                stream.write_all(&piece).await?;
            }
            stream.close().await
        };
        written.await.expect("the connection lives");
        let read = reader
            .await
            .expect("no panic")
            .expect("the connection lives");
        assert_eq!(read, SENT / 65_536 * 65_536);
        assert!(lost.load(Relaxed) > 500, "a flight was lost: {lost:?}");
    }
}
