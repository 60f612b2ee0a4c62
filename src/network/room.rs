//! Frames that wait for their room, and come: what drives [`Room`] for direct messages and for gossip.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{
    AsyncRead, FutureExt,
    future::{self, Either},
};
use libp2p::PeerId;
use tokio::sync::oneshot;

use super::codec::read_on;
use crate::{
    platform::{self, Delay, lock::lock},
    traffic::Room,
};

/// What is read before it is counted, in bytes.
const PIECE: usize = 16 << 10;

/// Room for long frames of all peers together, which its copies share.
#[derive(Clone, Debug)]
pub(crate) struct LongFrames(Arc<Mutex<Frames>>);

#[derive(Debug)]
struct Frames {
    room: Room,
    /// Who is to hear what becomes of a frame.
    listeners: HashMap<u64, Listener>,
}

#[derive(Debug)]
struct Listener {
    begins: Option<oneshot::Sender<()>>,
    gives_way: oneshot::Sender<()>,
}

/// A frame's place, while it waits, comes and is there, until this is dropped.
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
        while let Some(number) = self.room.begin(platform::now()) {
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
    /// Room for so many KiB, all free; a frame has its room for the grace at least, whoever waits.
    pub(crate) fn new(kib: usize, grace: Duration) -> Self {
        let room = Room::new(kib, grace);
        let listeners = HashMap::new();
        Self(Arc::new(Mutex::new(Frames { room, listeners })))
    }

    /// Waits until a peer's frame of so many bytes has its room, and has others hurry meanwhile.
    pub(crate) async fn enter(&self, peer: PeerId, bytes: usize) -> Place {
        let (begins, mut begun) = oneshot::channel();
        let (gives_way, hurried) = oneshot::channel();
        let (place, grace) = {
            let mut frames = lock(&self.0);
            let number = frames.room.wait(peer, bytes.div_ceil(1024));
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

    #[cfg(test)]
    pub(crate) fn free_kib(&self) -> usize {
        lock(&self.0).room.free()
    }
}

impl Place {
    /// Reads `length` bytes more; `bytes` has what came of them, whatever happens.
    ///
    /// # Errors
    /// `ResourceBusy` where it was too slow for those that waited, and what `read_on` says.
    pub(crate) async fn read<T: AsyncRead + Unpin + Send>(
        &mut self,
        io: &mut T,
        bytes: &mut Vec<u8>,
        length: usize,
    ) -> io::Result<()> {
        let (frames, number) = (&self.frames, self.number);
        let comes = async {
            let mut left = length;
            while left > 0 {
                let piece = left.min(PIECE);
                read_on(io, bytes, piece).await?;
                lock(frames).room.brought(number, piece);
                left -= piece;
            }
            Ok(())
        };
        let read = match future::select(comes.boxed(), &mut self.hurried).await {
            Either::Left((read, _)) => read,
            Either::Right(_) => Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "it came too slowly while others waited for its room; send it again later",
            )),
        };
        lock(frames).room.came(number);
        read
    }
}
