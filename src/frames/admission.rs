//! Frames that wait for their room, and move: what drives [`Room`] for whoever reads or writes long ones.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    AsyncRead, AsyncWrite, AsyncWriteExt, FutureExt,
    future::{self, Either},
};
use libp2p::PeerId;
use tokio::sync::oneshot;

use super::{PIECE, read_some};
use crate::{
    peers::Account,
    platform::{self, Delay, lock::lock},
    traffic::Room,
};

/// Room for long frames of all peers together, which its copies share.
#[derive(Clone, Debug)]
pub(crate) struct LongFrames(Arc<Mutex<Frames>>);

#[derive(Debug)]
struct Frames {
    room: Room<Account>,
    /// Who is to hear what becomes of a frame.
    listeners: HashMap<u64, Listener>,
}

#[derive(Debug)]
struct Listener {
    begins: Option<oneshot::Sender<()>>,
    gives_way: oneshot::Sender<()>,
}

/// A frame's place, while it waits, moves and is there, until this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    number: u64,
    frames: Arc<Mutex<Frames>>,
    /// Hears when the frame is to be ended.
    hurried: oneshot::Receiver<()>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut frames = lock(&self.frames);
        frames.listeners.remove(&self.number);
        frames.room.end(self.number, platform::now());
        frames.begin();
    }
}

impl Frames {
    /// Tells those that have their room now.
    fn begin(&mut self) {
        while let Some(number) = self.room.begin() {
            let listener = self.listeners.get_mut(&number);
            if let Some(begins) = listener.and_then(|listener| listener.begins.take()) {
                // Who has stopped listening drops its place.
                let _ = begins.send(());
            }
        }
    }

    /// Somebody has waited for long.
    fn hurry(&mut self) {
        for number in self.room.hurry(platform::now()) {
            if let Some(listener) = self.listeners.remove(&number) {
                let _ = listener.gives_way.send(());
            }
        }
    }
}

impl LongFrames {
    /// Room for so many KiB, all free, of which one peer may have so many; a frame has its room for the grace at least,
    /// whoever waits.
    pub(crate) fn new(kib: usize, most: usize, grace: Duration) -> Self {
        let room = Room::new(kib, most, grace);
        let listeners = HashMap::new();
        Self(Arc::new(Mutex::new(Frames { room, listeners })))
    }

    /// Waits until a frame of so many bytes has its room, and has others hurry meanwhile.
    pub(crate) async fn enter(&self, who: (PeerId, Account), bytes: usize) -> Place {
        let (begins, mut begun) = oneshot::channel();
        let (gives_way, hurried) = oneshot::channel();
        let (place, grace) = {
            let mut frames = lock(&self.0);
            let number = frames.room.wait(who, bytes.div_ceil(1024));
            let listener = Listener {
                begins: Some(begins),
                gives_way,
            };
            frames.listeners.insert(number, listener);
            frames.begin();
            let place = Place {
                number,
                frames: Arc::clone(&self.0),
                hurried,
            };
            (place, frames.room.grace())
        };
        while let Either::Right(((), longer)) = future::select(begun, Delay::new(grace)).await {
            begun = longer;
            lock(&self.0).hurry();
        }
        place
    }

    /// Whether the first frame of a peer that waits, of so many bytes, waits for others of its own.
    pub(crate) fn is_of_one(&self, who: (PeerId, Account), bytes: usize) -> bool {
        lock(&self.0).room.is_of_one(&who, bytes.div_ceil(1024))
    }

    #[cfg(test)]
    pub(crate) fn free_kib(&self) -> usize {
        lock(&self.0).room.free()
    }
}

impl Place {
    /// What takes this place has only so many bytes, as is known now.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let mut frames = lock(&self.frames);
        frames.room.shrink(self.number, bytes.div_ceil(1024));
        frames.begin();
    }

    /// Reads `length` bytes more; `bytes` has what came of them, whatever happens.
    ///
    /// # Errors
    /// `ResourceBusy` where it was too slow for those that waited, and what `read_some` says.
    pub(crate) async fn read<T: AsyncRead + Unpin + Send>(
        &mut self,
        io: &mut T,
        bytes: &mut Vec<u8>,
        length: usize,
    ) -> io::Result<()> {
        let counted = self.counter();
        let comes = async {
            let mut left = length;
            while left > 0 {
                let count = read_some(io, bytes, left).await?;
                counted(count);
                left -= count;
            }
            Ok(())
        };
        self.in_time(comes).await
    }

    /// Writes all of these bytes, a short head before them, and closes the stream's sending side.
    ///
    /// # Errors
    /// `ResourceBusy` where they were taken too slowly for those that waited, and what the stream says.
    pub(crate) async fn write<T: AsyncWrite + Unpin + Send>(
        &mut self,
        io: &mut T,
        head: &[u8],
        bytes: &[u8],
    ) -> io::Result<()> {
        let counted = self.counter();
        let goes = async {
            io.write_all(head).await?;
            for piece in bytes.chunks(PIECE) {
                io.write_all(piece).await?;
                counted(piece.len());
            }
            io.close().await
        };
        self.in_time(goes).await
    }

    /// The frame moves from now on: whoever reads it without [`Place::read`] counts what moves, and looks whether it is to give way.
    pub(crate) fn moves(&self) {
        lock(&self.frames).room.moves(self.number, platform::now());
    }

    /// So many bytes of it have moved.
    pub(crate) fn moved(&self, bytes: usize) {
        lock(&self.frames).room.moved(self.number, bytes);
    }

    /// All of it is there, or it is to move no further.
    pub(crate) fn rests(&self) {
        lock(&self.frames).room.rests(self.number);
    }

    /// Ready, once, when it is to give way.
    pub(crate) fn poll_hurried(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.hurried.poll_unpin(cx).map(drop)
    }

    /// Counts bytes that have moved.
    fn counter(&self) -> impl Fn(usize) + Send + use<> {
        let (frames, number) = (Arc::clone(&self.frames), self.number);
        move |bytes| lock(&frames).room.moved(number, bytes)
    }

    /// Has a frame move until it has, or is to give way.
    async fn in_time(
        &mut self,
        moves: impl Future<Output = io::Result<()>> + Send,
    ) -> io::Result<()> {
        self.moves();
        let moved = match future::select(moves.boxed(), &mut self.hurried).await {
            Either::Left((moved, _)) => moved,
            Either::Right(_) => Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "it moved too slowly while others waited for its room; try again later",
            )),
        };
        self.rests();
        moved
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    use super::*;

    /// Takes so many bytes, and is never closed.
    struct Taker(usize);

    impl AsyncWrite for Taker {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let count = bytes.len().min(self.0);
            self.0 -= count;
            if count == 0 {
                return Poll::Pending;
            }
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    // A browser's tests can't wait.
    #[core::prelude::v1::test]
    fn what_is_not_taken_gives_way_from_the_first_byte_to_the_end() {
        const BYTES: usize = 1 << 20;
        let [silent, honest] = [(); 2].map(|()| {
            let peer = PeerId::random();
            (peer, Account::Peer(peer))
        });
        let head = [0; 3];
        for taken in [0, head.len(), head.len() + PIECE] {
            let frames = LongFrames::new(1 << 10, 1 << 10, Duration::from_millis(1));
            let place = frames.enter(silent, BYTES).now_or_never();
            let mut place = place.expect("there is room");
            let written = async move {
                let bytes = vec![7; BYTES];
                place.write(&mut Taker(taken), &head, &bytes).await
            };
            let (written, _place) =
                futures::executor::block_on(future::join(written, frames.enter(honest, BYTES)));
            let busy = written.map_err(|error| error.kind());
            assert_eq!(busy, Err(io::ErrorKind::ResourceBusy), "{taken}");
        }
    }
}
