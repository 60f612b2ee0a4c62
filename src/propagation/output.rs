//! What the cores here want done.

use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;

use crate::{
    chain::TransactionKey,
    lanes::Outgoing,
    peers::Misdeed,
    platform::Instant,
    propagation::{
        announce::Announce,
        blocks::Question,
        pool::{
            Mempool,
            reconcile::{self, Awaited},
            sessions::Step,
        },
        wire::Kind,
    },
    traffic::{Class, Cost},
};

/// One thing that a core wants done.
#[derive(Debug)]
pub(crate) enum Output {
    /// Send a frame.
    Send(PeerId, Class, Bytes),
    /// Something that was to be sent to a peer is not: it reads too slowly.
    Dropped(PeerId, Class),
    /// There is something to send to a peer when it reads.
    Feed(PeerId),
    /// Send a message of the comparison of pools.
    Compare(PeerId, reconcile::Message),
    /// Tell a peer of these transactions.
    Announce(PeerId, Announce),
    /// What a peer sends of these was asked for, from now on.
    Await(PeerId, Awaited, Instant),
    /// Send these transactions to a peer as if it had asked.
    Serve(PeerId, Vec<TransactionKey>),
    /// Have the chain answer; the answer goes to [`super::Propagation::answered`].
    Ask(Question),
    /// Do this off the network task; what comes of it goes to [`super::Propagation::stepped`].
    Work(Step),
    /// A peer's frame costs it more of its limits than it seemed to.
    Surcharge(PeerId, Class, Cost),
    /// A peer reads so slowly that so many batches were gone before it had read them.
    Overtaken(PeerId, u64),
    /// A peer did wrong.
    Misdeed(PeerId, Misdeed),
}

impl From<Kind> for Outgoing {
    fn from(kind: Kind) -> Self {
        Self {
            items: kind.ids(),
            bytes: kind.into_frame(),
            frames: 1,
            payload: 0,
        }
    }
}

/// The question about a whole block, where there is one.
pub(super) fn take_whole(outputs: &mut Vec<Output>) -> Option<Question> {
    let is_whole =
        |output: &Output| matches!(output, Output::Ask(Question::Block(check)) if check.whole);
    let place = outputs.iter().position(is_whole)?;
    match outputs.remove(place) {
        Output::Ask(question) => Some(question),
        _ => None,
    }
}

/// A core, as all of them are driven.
pub(super) trait Part {
    /// A peer takes part, perhaps anew. `outbound`: we dialled it.
    fn joined(&mut self, peer: PeerId, outbound: bool, now: Instant) -> Vec<Output>;

    /// What was under way to a peer and from it may be lost: it is sent, or asked for, again.
    fn moved(&mut self, peer: PeerId, outbound: bool, now: Instant) -> Vec<Output>;

    /// A peer is gone.
    fn gone(&mut self, peer: PeerId, now: Instant) -> Vec<Output>;

    /// What a peer sends was not read here for so long: what it was asked for and has not sent has as much more time.
    fn unheard(&mut self, peer: &PeerId, time: Duration, now: Instant);

    /// Moves on what has waited.
    fn on_time(&mut self, pool: &Mempool, now: Instant) -> Vec<Output>;

    /// When [`Part::on_time`] has something to do.
    fn next_deadline(&mut self) -> Option<Instant>;
}
