//! Room for the long frames of all lanes together, before and while they are read.
//!
//! What is short, as votes and batches are, is read as it comes. A longer frame begins, and then waits until what is undone of its lane leaves
//! it room, and for its turn among all peers' ([`crate::traffic::Room`]): that is felt as a lane that is read no further. Its room is its own until
//! the core is done with it: with a block or an item, when the chain has judged it. One that comes slowly while others wait gives way: what
//! there is of it is dropped, and the rest passed over as it comes, so that the stream goes on. Nobody pays for having waited, or given way.
//!
//! Bounds: [`BLOCKS`] and [`OTHERS`], and [`MOST`] of either for one peer; of a frame that waits, its first bytes.

use std::{
    fmt,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use libp2p::PeerId;

use super::excuses::Whose;
use crate::{
    frames::{LongFrames, Place},
    peers::Account,
    traffic::Lane,
};

/// Frames of more bytes are long: no batch and no vote is. A chunk of a block may be.
pub(super) const SHORT: usize = 128 << 10;
/// For the long frames of blocks and for all others, in KiB, and for those of one peer: three of the largest blocks, and two.
const BLOCKS: usize = 12 << 10;
const OTHERS: usize = 8 << 10;
const MOST: usize = 8 << 10;
/// How long a frame has its room at least, whoever waits.
const GRACE: Duration = Duration::from_secs(1);

/// The rooms for a node's long frames: no block waits behind transactions.
#[derive(Clone, Debug)]
pub(super) struct Rooms {
    blocks: LongFrames,
    others: LongFrames,
}

impl Rooms {
    pub(super) fn new() -> Self {
        let room = |kib| LongFrames::new(kib, MOST, GRACE);
        Self {
            blocks: room(BLOCKS),
            others: room(OTHERS),
        }
    }

    /// For a frame that begins on this lane.
    pub(super) fn of(&self, lane: Lane) -> LongFrames {
        match lane {
            Lane::Block => self.blocks.clone(),
            Lane::Urgent | Lane::Bulk => self.others.clone(),
        }
    }
}

/// The long frame of a stream.
pub(super) struct Long {
    room: LongFrames,
    who: (PeerId, Account),
    stage: Stage,
    /// How many bytes one has in all that gave way, until that is told.
    lost: Option<usize>,
}

enum Stage {
    /// There is none.
    None,
    /// It waits until its lane has room for it.
    Full,
    /// It waits for its turn, and has so many bytes in all.
    Waits(BoxFuture<'static, Place>, usize),
    /// It is read, and has so many bytes in all.
    Moves(Place, usize),
    /// It has given way: so many bytes are left, of how many.
    Skips { left: usize, whole: usize },
}

impl Long {
    pub(super) fn new(room: LongFrames, who: (PeerId, Account)) -> Self {
        Self {
            room,
            who,
            stage: Stage::None,
            lost: None,
        }
    }

    /// Whose doing it is that we let it wait; one that waits for others of its own peer waits for itself. What is passed over does not wait: it is read as
    /// it comes.
    pub(super) fn held(&self) -> Option<Whose> {
        match &self.stage {
            Stage::Full => Some(Whose::Peers),
            Stage::Waits(_, whole) => {
                let waits_for_itself = self.room.is_of_one(self.who, *whole);
                (!waits_for_itself).then_some(Whose::Ours)
            }
            Stage::None | Stage::Moves(..) | Stage::Skips { .. } => None,
        }
    }

    /// Whether a frame gave way whose rest has not passed yet.
    pub(super) fn passes(&self) -> bool {
        matches!(self.stage, Stage::Skips { .. })
    }

    /// Whether it has its room, and is to be read on.
    pub(super) fn moves(&self) -> bool {
        matches!(self.stage, Stage::Moves(..))
    }

    /// Ready when a frame of so many bytes has its room, where its lane has so much.
    pub(super) fn poll_enter(
        &mut self,
        whole: usize,
        fits: usize,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        if matches!(self.stage, Stage::None | Stage::Full) {
            if whole > fits {
                self.stage = Stage::Full;
                return Poll::Pending;
            }
            let (room, who) = (self.room.clone(), self.who);
            let enters = async move { room.enter(who, whole).await };
            self.stage = Stage::Waits(enters.boxed(), whole);
        }
        self.poll_begins(cx)
    }

    /// What gets its room moves from then on, whether it is read or not: so it gives way where it does not come.
    fn poll_begins(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Stage::Waits(enters, whole) = &mut self.stage {
            let (place, whole) = (ready!(enters.poll_unpin(cx)), *whole);
            place.moves();
            self.stage = Stage::Moves(place, whole);
        }
        Poll::Ready(())
    }

    /// So many bytes more of it were read.
    pub(super) fn moved(&self, bytes: usize) {
        if let Stage::Moves(place, _) = &self.stage {
            place.moved(bytes);
        }
    }

    /// All of it is read: its place, which is its own from now on.
    pub(super) fn take(&mut self) -> Option<Place> {
        match std::mem::replace(&mut self.stage, Stage::None) {
            Stage::Moves(place, _) => {
                place.rests();
                Some(place)
            }
            _ => None,
        }
    }

    /// Ready when it gives way, of which so many bytes were read; what is all here does not.
    pub(super) fn poll_gives_way(&mut self, read: usize, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.poll_begins(cx));
        let Stage::Moves(place, whole) = &mut self.stage else {
            return Poll::Pending;
        };
        if read >= *whole {
            return Poll::Pending;
        }
        ready!(place.poll_hurried(cx));
        let (left, whole) = (whole.saturating_sub(read), *whole);
        self.stage = Stage::Skips { left, whole };
        self.lost = Some(whole);
        Poll::Ready(())
    }

    /// How many bytes a frame has in all that has given way since this was last asked.
    pub(super) fn take_lost(&mut self) -> Option<usize> {
        self.lost.take()
    }

    /// How many bytes are to be passed over; none where a frame that gave way is over, which had so many in all.
    pub(super) fn skips(&mut self, more: usize) -> Option<(usize, usize)> {
        let Stage::Skips { left, whole } = &mut self.stage else {
            return None;
        };
        *left = left.saturating_sub(more);
        let skips = (*left, *whole);
        if skips.0 == 0 {
            self.stage = Stage::None;
        }
        Some(skips)
    }
}

impl fmt::Debug for Long {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Long").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::platform::test;

    const LONG: usize = 256 << 10;

    /// A frame that has its room, of which nothing comes, while somebody waits for it.
    fn hurried() -> (Long, Context<'static>) {
        let kib = LONG / 1024;
        let room = LongFrames::new(kib, kib, Duration::from_millis(1));
        let [silent, other] = [(); 2].map(|()| {
            let peer = PeerId::random();
            (peer, Account::Peer(peer))
        });
        let mut long = Long::new(room.clone(), silent);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(long.poll_enter(LONG, LONG, &mut cx).is_ready());
        let waits = async {
            futures::future::select(
                room.enter(other, LONG).boxed(),
                crate::platform::Delay::new(Duration::from_millis(50)),
            )
            .await;
        };
        futures::executor::block_on(waits);
        (long, cx)
    }

    // A browser's tests can't wait.
    #[core::prelude::v1::test]
    fn a_frame_that_is_all_here_gives_way_no_more() {
        let (mut long, mut cx) = hurried();
        assert!(long.poll_gives_way(LONG, &mut cx).is_pending());
        assert!(long.take().is_some());
        let (mut long, mut cx) = hurried();
        assert!(long.poll_gives_way(LONG - 1, &mut cx).is_ready());
        assert_eq!(long.skips(1), Some((0, LONG)));
    }

    #[test]
    fn who_waits_for_itself_is_not_held_up_by_us() {
        let room = LongFrames::new(2 * LONG / 1024, LONG / 1024, GRACE);
        let [greedy, other] = [(); 2].map(|()| {
            let peer = PeerId::random();
            (peer, Account::Peer(peer))
        });
        let mut cx = Context::from_waker(Waker::noop());
        let mut frame = |who| {
            let mut long = Long::new(room.clone(), who);
            let enters = long.poll_enter(LONG, LONG, &mut cx);
            (long, enters.is_ready())
        };
        let (_first, begins) = frame(greedy);
        assert!(begins);
        let (second, begins) = frame(greedy);
        assert!(!begins && second.held().is_none(), "it has its part");
        let (_third, begins) = frame(other);
        assert!(begins);
        let (fourth, begins) = frame((PeerId::random(), other.1));
        assert!(
            !begins && fourth.held() == Some(Whose::Ours),
            "others have all"
        );
    }
}
