//! Feeds the blocks of files to a network as their own network saw them: of each block the
//! transactions one by one, then the block.
//!
//! Two rates bound the speed, of blocks and of transactions; a feed that falls behind (the network waits,
//! or the file is slow) catches up by 100 ms at most. An item that the network still remembers
//! is not sent again, which is no error: of a file fed in a loop a network of usual memory sees one round (`devnet.rs` has a
//! short one). Where nobody takes part, or there is no room, the feed says so once, and tries the item again
//! until its patience ends.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::bail;
use futures_timer::Delay;
use selkie::{
    Item, ItemId, ItemKind, NetworkError, P2PNetworkManager, ProtocolError,
    chain::block_file::{BlockFile, BlockFileError, Format},
};

use crate::takers::Takers;

/// How much of a delay is caught up.
const CATCH_UP: Duration = Duration::from_millis(100);
/// The pause while nobody takes part or all queues are full: short for a person, long for a machine.
const PAUSE: Duration = Duration::from_millis(100);
/// The pause after a whole pass of which the network remembered everything.
const IDLE_PASS: Duration = Duration::from_secs(1);

/// What to feed, and how fast.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    pub(crate) files: Vec<PathBuf>,
    /// At most so many per second; 0: as many as the network takes.
    pub(crate) blocks_per_second: f64,
    /// As above.
    pub(crate) transactions_per_second: f64,
    /// Begin again at the end.
    pub(crate) repeat: bool,
    /// How long to wait with one item for a peer that takes part, or for room; `None`: for ever.
    pub(crate) patience: Option<Duration>,
}

/// What has become of the items so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Totals {
    pub(crate) blocks: u64,
    pub(crate) transactions: u64,
    /// Of the items that were sent.
    pub(crate) bytes: u64,
    /// Not sent, because the network remembers them.
    pub(crate) known: u64,
    /// Sent late, because no peer had read enough to make room; or left to the next peer, because the last one went meanwhile.
    pub(crate) delayed: u64,
    /// Not sent, because the chain does not accept them.
    pub(crate) refused: u64,
    /// Bytes of the files that belong to no whole block.
    pub(crate) skipped: u64,
}

impl Totals {
    /// Counts what became of an item.
    fn count(&mut self, outcome: Outcome, at_once: bool, kind: ItemKind, bytes: usize) -> Step {
        self.delayed += u64::from(!at_once);
        match outcome {
            Outcome::Sent(id) => {
                match kind {
                    ItemKind::Block => self.blocks += 1,
                    _ => self.transactions += 1,
                }
                self.bytes = self
                    .bytes
                    .saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
                Step::Sent { kind, id, bytes }
            }
            Outcome::NotSent => {
                self.delayed += u64::from(at_once);
                Step::Passed
            }
            Outcome::Known => {
                self.known += 1;
                Step::Passed
            }
            Outcome::Refused(error) => {
                self.refused += 1;
                Step::Refused(error)
            }
        }
    }
}

/// What a feed has just done.
#[derive(Debug)]
pub(crate) enum Step {
    /// Nobody takes part, or there is no room, and why; told once an item.
    Waiting(String),
    /// An item was sent.
    Sent {
        kind: ItemKind,
        id: ItemId,
        bytes: usize,
    },
    /// An item was not sent, or only offered.
    Passed,
    /// The chain does not accept an item.
    Refused(ProtocolError),
    /// So many bytes of this pass's files are done.
    Read(u64),
}

/// The formats of files; fails early where one can't be read.
pub(crate) fn formats(files: &[PathBuf]) -> Result<Vec<Format>, BlockFileError> {
    files
        .iter()
        .map(|file| Ok(BlockFile::open(file)?.format()))
        .collect()
}

impl Feed {
    /// Feeds until the end of the files, or for ever with `repeat`; tells `watcher` each step.
    ///
    /// # Errors
    /// What is wrong with a file or the node; that nobody takes part.
    pub(crate) async fn run(
        &self,
        node: &P2PNetworkManager,
        takers: &mut Takers,
        mut watcher: impl FnMut(&Totals, Step) -> anyhow::Result<()>,
    ) -> anyhow::Result<Totals> {
        let mut totals = Totals::default();
        let mut block_turn = Turn::new(self.blocks_per_second);
        let mut transaction_turn = Turn::new(self.transactions_per_second);
        loop {
            let before = (totals.blocks, totals.transactions);
            let mut done: u64 = 0;
            for path in &self.files {
                // One block's worth of reading and splitting at a time, some milliseconds.
                let mut file = tokio::task::block_in_place(|| BlockFile::open(path))?;
                while let Some(item) = tokio::task::block_in_place(|| file.next()).transpose()? {
                    match item.kind() {
                        ItemKind::Block => block_turn.wait().await,
                        _ => transaction_turn.wait().await,
                    }
                    let (kind, bytes) = (item.kind(), item.data().len());
                    let waiting = |why| watcher(&totals, Step::Waiting(why));
                    let (outcome, at_once) =
                        submit(node, item, self.patience, takers, waiting).await?;
                    let step = totals.count(outcome, at_once, kind, bytes);
                    watcher(&totals, step)?;
                    watcher(&totals, Step::Read(done.saturating_add(file.offset())))?;
                }
                done = done.saturating_add(file.offset());
                totals.skipped = totals.skipped.saturating_add(file.skipped());
            }
            if !self.repeat {
                return Ok(totals);
            }
            if before == (totals.blocks, totals.transactions) {
                Delay::new(IDLE_PASS).await;
            }
        }
    }
}

/// What became of one item.
pub(crate) enum Outcome {
    Sent(ItemId),
    /// The network has it already.
    Known,
    /// Nobody could be sent it; the next Selkie peer is offered it.
    NotSent,
    /// The chain does not accept it.
    Refused(ProtocolError),
}

/// Sends one item, once somebody takes part; tells `waiting` once where nobody does, or there is no room. With the outcome comes whether there was room
/// at once.
///
/// # Errors
/// What is wrong with the node; that nobody takes part for as long as `patience` lasts, and why the last peer left.
pub(crate) async fn submit(
    node: &P2PNetworkManager,
    item: Item,
    patience: Option<Duration>,
    takers: &mut Takers,
    mut waiting: impl FnMut(String) -> anyhow::Result<()>,
) -> anyhow::Result<(Outcome, bool)> {
    let began = Instant::now();
    let (mut told, mut at_once, kind) = (false, true, item.kind());
    loop {
        let before = takers.before(node, kind).await?;
        let error = match node.submit(item.clone()).await {
            Ok(id) => {
                takers.sent(kind, before);
                return Ok((Outcome::Sent(id), at_once));
            }
            Err(error) => error,
        };
        let outcome = match error {
            // It was not taken.
            NetworkError::NoPeers { .. } | NetworkError::Busy => {
                let is_busy = matches!(error, NetworkError::Busy);
                at_once &= !is_busy;
                let is_over = patience.is_some_and(|patience| began.elapsed() > patience);
                if is_over || !std::mem::replace(&mut told, true) {
                    let why = match is_busy {
                        true => "no connected peer reads any more".to_owned(),
                        false => format!("no connected peer takes part{}", takers.why_gone()),
                    };
                    if is_over {
                        bail!("nobody takes the items: {why}");
                    }
                    waiting(why)?;
                }
                Delay::new(PAUSE).await;
                continue;
            }
            NetworkError::NotSent { .. } => Outcome::NotSent,
            NetworkError::Protocol(ProtocolError::Duplicate) => Outcome::Known,
            NetworkError::Protocol(error) => Outcome::Refused(error),
            error => return Err(error.into()),
        };
        return Ok((outcome, at_once));
    }
}

/// Whose turn comes at most so often.
struct Turn {
    interval: Option<Duration>,
    next: Instant,
}

impl Turn {
    /// `per_second` 0: always at once.
    fn new(per_second: f64) -> Self {
        let interval =
            (per_second > 0.0).then(|| Duration::try_from_secs_f64(per_second.recip()).ok());
        Self {
            interval: interval.flatten(),
            next: Instant::now(),
        }
    }

    async fn wait(&mut self) {
        let pause = self.take(Instant::now());
        if !pause.is_zero() {
            Delay::new(pause).await;
        }
    }

    /// Takes the next turn; returns how long until then.
    fn take(&mut self, now: Instant) -> Duration {
        let Some(interval) = self.interval else {
            return Duration::ZERO;
        };
        if now.saturating_duration_since(self.next) > CATCH_UP {
            self.next = now;
        }
        let pause = self.next.saturating_duration_since(now);
        self.next += interval;
        pause
    }
}

/// A rate, for clap.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text
        .parse()
        .map_err(|error| format!("{error}; give a number such as 2 or 0.5"))?;
    if rate == 0.0 || (0.001..=1e6).contains(&rate) {
        Ok(rate)
    } else {
        Err("give 0.001 to 1000000 per second, or 0 for no limit".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_come_evenly_and_a_delay_is_not_all_caught_up() {
        let start = Instant::now();
        let mut turn = Turn {
            next: start,
            ..Turn::new(100.0)
        };
        let step = Duration::from_millis(10);
        assert_eq!(
            [turn.take(start), turn.take(start), turn.take(start)],
            [Duration::ZERO, step, 2 * step]
        );
        let late = start + Duration::from_secs(9);
        assert_eq!([turn.take(late), turn.take(late)], [Duration::ZERO, step]);
        let mut unbounded = Turn::new(0.0);
        assert_eq!(
            [unbounded.take(start), unbounded.take(start)],
            [Duration::ZERO; 2]
        );
    }

    #[test]
    fn a_rate_is_a_positive_number_or_0() {
        assert_eq!((rate("0"), rate("0.5")), (Ok(0.0), Ok(0.5)));
        assert!(
            ["-1", "NaN", "inf", "1e-300", "fast"]
                .into_iter()
                .all(|text| rate(text).is_err())
        );
    }
}
