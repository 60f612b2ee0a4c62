//! Room for long frames, common to all connections, in which the slowest gives way.
//!
//! A length is soon said, and its bytes may never come. So who waits for room for [`GRACE`] has the frame ended that brings the
//! fewest bytes a second, of those that have had their room so long; and again after each further [`GRACE`], one at a time however many wait. Who keeps
//! room from others has to send faster than they do.
//!
//! Bounds: the room; an entry of fixed size for each frame in it.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{
    AsyncRead, FutureExt,
    future::{self, Either},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::codec::read_on;
use crate::platform::{self, Delay, Instant, lock::lock};

/// How long a frame has its room at least, whoever waits.
const GRACE: Duration = Duration::from_millis(250);
/// What is read before it is counted, in bytes.
const PIECE: usize = 16 << 10;

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(super) struct Room {
    /// In KiB.
    free: Arc<Semaphore>,
    coming: Arc<Mutex<Coming>>,
}

/// The frames that are coming.
#[derive(Debug, Default)]
struct Coming {
    next: u64,
    frames: BTreeMap<u64, Progress>,
    /// When a frame gave way last: one in each [`GRACE`], however many wait.
    gave_way_at: Option<Instant>,
}

#[derive(Debug)]
struct Progress {
    since: Instant,
    bytes: u64,
    gives_way: oneshot::Sender<()>,
}

/// A frame's room, from the moment at which it has it until all of it has come, or this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    entry: Entry,
    place: OwnedSemaphorePermit,
    /// Hears when the frame is to be ended.
    hurried: oneshot::Receiver<()>,
}

/// A frame among those that are coming, until this is dropped.
#[derive(Debug)]
struct Entry {
    number: u64,
    coming: Arc<Mutex<Coming>>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        lock(&self.coming).frames.remove(&self.number);
    }
}

impl Room {
    /// Room for so many KiB, all free.
    pub(super) fn new(kib: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(kib)),
            coming: Arc::default(),
        }
    }

    /// Waits for so many KiB, and has others hurry.
    pub(super) async fn enter(&self, kib: u32) -> io::Result<Turn> {
        let mut waits = Arc::clone(&self.free).acquire_many_owned(kib).boxed();
        let place = loop {
            match future::select(waits, Delay::new(GRACE)).await {
                Either::Left((place, _)) => break place.map_err(io::Error::other)?,
                Either::Right(((), longer)) => {
                    waits = longer;
                    lock(&self.coming).hurry(platform::now());
                }
            }
        };
        let (number, hurried) = lock(&self.coming).begin(platform::now());
        let coming = Arc::clone(&self.coming);
        Ok(Turn {
            entry: Entry { number, coming },
            place,
            hurried,
        })
    }

    #[cfg(test)]
    pub(super) fn free_kib(&self) -> usize {
        self.free.available_permits()
    }
}

impl Turn {
    /// Reads `length` bytes more; the place is the frame's until it is dropped.
    ///
    /// # Errors
    /// `ResourceBusy` where it was too slow for those that waited, and what `read_on` says.
    pub(super) async fn read<T: AsyncRead + Unpin + Send>(
        self,
        io: &mut T,
        bytes: &mut Vec<u8>,
        length: usize,
    ) -> io::Result<OwnedSemaphorePermit> {
        let entry = &self.entry;
        let comes = async {
            let mut left = length;
            while left > 0 {
                let piece = left.min(PIECE);
                read_on(io, bytes, piece).await?;
                lock(&entry.coming).brought(entry.number, piece);
                left -= piece;
            }
            Ok(())
        };
        match future::select(comes.boxed(), self.hurried).await {
            Either::Left((read, _)) => read.map(|()| self.place),
            Either::Right(_) => Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "it came too slowly while others waited for its room; send it again later",
            )),
        }
    }
}

impl Coming {
    fn begin(&mut self, now: Instant) -> (u64, oneshot::Receiver<()>) {
        let (gives_way, hurried) = oneshot::channel();
        let number = self.next;
        self.next += 1;
        let progress = Progress {
            since: now,
            bytes: 0,
            gives_way,
        };
        self.frames.insert(number, progress);
        (number, hurried)
    }

    fn brought(&mut self, number: u64, bytes: usize) {
        if let Some(frame) = self.frames.get_mut(&number) {
            frame.bytes = frame.bytes.saturating_add(bytes as u64);
        }
    }

    /// The slowest of those whose time is up gives way, unless one has just now.
    fn hurry(&mut self, now: Instant) {
        if self.gave_way_at.is_some_and(|at| now < at + GRACE) {
            return;
        }
        let age = |frame: &Progress| now.saturating_duration_since(frame.since);
        let old = self.frames.iter().filter(|(_, frame)| age(frame) >= GRACE);
        let pace = |frame: &Progress| u128::from(frame.bytes << 20) / age(frame).as_micros().max(1);
        let slowest = old.min_by_key(|(_, frame)| pace(frame));
        if let Some(number) = slowest.map(|(number, _)| *number)
            && let Some(frame) = self.frames.remove(&number)
        {
            self.gave_way_at = Some(now);
            // An error says that it has come meanwhile.
            let _ = frame.gives_way.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn the_slowest_of_those_whose_time_is_up_gives_way() {
        let (mut coming, start) = (Coming::default(), platform::now());
        let (fast, mut fast_ends) = coming.begin(start);
        let (slow, mut slow_ends) = coming.begin(start);
        let late = start + GRACE;
        let (_, mut new_ends) = coming.begin(late);
        coming.brought(fast, 2000);
        coming.brought(slow, 1000);
        coming.hurry(start + GRACE / 2);
        assert!(slow_ends.try_recv().is_err(), "it has its time");
        coming.hurry(late);
        assert!(slow_ends.try_recv().is_ok());
        assert!(fast_ends.try_recv().is_err() && new_ends.try_recv().is_err());
        coming.hurry(late + GRACE / 2);
        coming.hurry(late + GRACE);
        assert!(new_ends.try_recv().is_ok(), "it brings nothing");
        coming.hurry(late + GRACE);
        assert!(fast_ends.try_recv().is_err(), "one has just given way");
        coming.hurry(late + GRACE * 2);
        assert!(fast_ends.try_recv().is_ok());
        assert!(coming.frames.is_empty());
    }
}
