//! How the network asks a chain, whatever its rules are written in.
//!
//! [`Rules`] is the one seam between the two, and its answers are futures. An [`Application`] answers at once and takes its thread
//! meanwhile ([`Synchronous`]); rules written in JavaScript answer when their promises do (`web/application.rs`). Whoever asks does so
//! within [`run`], which is the only one that knows the difference: with an application the whole work is one call on a thread
//! for slow work, in which nothing waits; otherwise it goes on beside the network task.
//!
//! Rules that fail, by a panic or an exception, have said nothing of the item: it is ignored, nobody pays, and what failed is told
//! ([`Failures`]). Bounds: one failure is kept until it is told, further ones are counted.

use std::{
    future::ready,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use libp2p::PeerId;

use super::{
    Application, Block, BlockParts, ChainStore, Checked, Item, MAX_STATE_ROOT, ProvenState,
    SnapshotSink, SnapshotSource, StateBatch, StateRequest, StateResponse, StateRoot, SyncVerdict,
    TransactionKey, TrustVerifier, Unkept, Verdict, unkept::Shown,
};
use crate::{
    config::ProtocolConfig,
    network::watching::{self, Watcher},
    platform::{self, lock::lock},
    storage::StoreError,
    sync::core::{Begin, ChainSync, Syncing},
};

/// What a user hears of an item over which the rules failed.
const FAILED: &str = "the application failed while checking it; see its log";

/// See the module's documentation. What each call means is said at the one of [`Application`] with its name.
pub(crate) trait Rules: Send + Sync + 'static {
    /// Whether each answer is there as soon as it is asked for, and its thread taken until then.
    fn takes_its_thread(&self) -> bool;

    /// What is said to votes or transactions, each in its place. One that is accepted is delivered before that, if it is to be.
    fn judge<'a>(&'a self, candidates: &'a [Candidate]) -> BoxFuture<'a, Vec<Checked>>;

    fn check_block<'a>(&'a self, block: &'a Block) -> BoxFuture<'a, Checked>;

    fn check_header<'a>(&'a self, header: &'a Bytes) -> BoxFuture<'a, Checked>;

    fn split_block<'a>(&'a self, block: &'a Block) -> BoxFuture<'a, Option<BlockParts>>;

    fn join_block<'a>(
        &'a self,
        header: &'a Bytes,
        transactions: &'a [Bytes],
    ) -> BoxFuture<'a, Option<Block>>;

    /// Delivers an accepted block; whether it was taken.
    fn deliver_block<'a>(&'a self, block: &'a Block) -> BoxFuture<'a, bool>;

    fn query<'a>(&'a self, request: &'a StateRequest) -> BoxFuture<'a, Option<StateResponse>>;

    /// The question to put in place of this one. Rules that are promises have none yet.
    fn provable(&self, request: StateRequest) -> StateRequest {
        request
    }

    /// Whether an answer holds, where that is checked.
    fn check_state<'a>(
        &'a self,
        _request: &'a StateRequest,
        _answer: &'a StateResponse,
    ) -> BoxFuture<'a, Option<SyncVerdict>> {
        ready(None).boxed()
    }

    /// What watches its state. `None`: this chain offers that to nobody, as rules that are promises do not yet.
    fn watcher(&self) -> Option<Watcher> {
        None
    }

    fn is_provable<'a>(&'a self, _key: &'a Bytes) -> BoxFuture<'a, bool> {
        ready(false).boxed()
    }

    fn trusted_state(&self) -> BoxFuture<'_, Option<StateRoot>> {
        ready(None).boxed()
    }

    fn prove_state<'a>(&'a self, _batch: &'a StateBatch) -> BoxFuture<'a, Option<ProvenState>> {
        ready(None).boxed()
    }

    fn verify_state<'a>(
        &'a self,
        _batch: &'a StateBatch,
        _answer: &'a ProvenState,
    ) -> BoxFuture<'a, SyncVerdict> {
        ready(SyncVerdict::Retry(FAILED.to_owned())).boxed()
    }

    /// Begins to sync the chain, with random and secret numbers; `None`: it gives no store. Rules that are promises give none yet.
    fn sync(&self, _: &ProtocolConfig, _: ([u8; 16], u32)) -> Option<Box<dyn Syncing>> {
        None
    }

    /// `None`: there is no answer, the application failed.
    fn stake_of<'a>(&'a self, peer: &'a PeerId) -> BoxFuture<'a, Option<u64>>;

    /// How long the chain takes from block to block, if that can be said.
    fn block_interval(&self) -> Option<Duration> {
        None
    }

    /// Ready when all that was delivered is kept. Rules that are promises keep nothing yet.
    fn flush(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        ready(Ok(())).boxed()
    }

    /// The same, and lets go of it.
    #[allow(
        dead_code,
        reason = "a page's node asks for it; elsewhere whoever made the chain has it"
    )]
    fn close(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        ready(Ok(())).boxed()
    }

    /// What has failed since this was asked last.
    fn failures(&self) -> &Failures;

    /// What this node has said itself and the chain has not kept yet.
    fn unkept(&self) -> &Unkept;
}

/// What a chain gives to be synced: each as far as it does.
#[derive(Clone, Default)]
pub(crate) struct Synced {
    pub(crate) store: Option<Arc<dyn ChainStore>>,
    pub(crate) trust: Option<Arc<dyn TrustVerifier>>,
    pub(crate) source: Option<Arc<dyn SnapshotSource>>,
    pub(crate) sink: Option<Arc<dyn SnapshotSink>>,
}

/// A vote or a transaction that is to be judged.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) item: Item,
    /// What names its bytes.
    pub(crate) key: TransactionKey,
    /// Whether it goes to the application once it is accepted.
    pub(crate) delivers: bool,
}

/// Has work done in which these rules are asked. It may take long; `None`: the host is ending, or something panicked.
pub(crate) fn run<T, W>(rules: &dyn Rules, work: W) -> impl Future<Output = Option<T>> + use<T, W>
where
    T: Send + 'static,
    W: Future<Output = T> + Send + 'static,
{
    let takes_its_thread = rules.takes_its_thread();
    async move {
        if takes_its_thread {
            let done = platform::offload(move || work.now_or_never()).await;
            return done.flatten();
        }
        // Not in the midst of what the network task is at.
        platform::offload(|| ()).await?;
        Some(work.await)
    }
}

/// What rules have failed at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The call, by its name.
    pub(crate) call: &'static str,
    /// In the words of the panic or exception.
    pub(crate) reason: String,
    /// How often something failed since the last one was told.
    pub(crate) count: u64,
}

/// The first failure that was not told yet, and how many there were.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<Option<Failure>>);

impl Failures {
    pub(crate) fn note(&self, call: &'static str, reason: String) {
        let mut failure = lock(&self.0);
        let first = failure.get_or_insert(Failure {
            call,
            reason,
            count: 0,
        });
        first.count += 1;
    }

    pub(crate) fn take(&self) -> Option<Failure> {
        lock(&self.0).take()
    }
}

/// The answer for bytes over which the rules failed.
pub(crate) fn failed(data: &[u8]) -> Checked {
    Checked::ignore(data, FAILED)
}

/// An application, as rules.
pub(crate) struct Synchronous {
    application: Arc<dyn Application>,
    /// Begins to sync it. This and the next are named here, below their rooms, so that a wasm without a store does not hold them (ADR 0029).
    begin: Option<Begin>,
    /// Watches its state.
    watcher: Option<Watcher>,
    failures: Failures,
    unkept: Arc<Unkept>,
    /// Its store as peers may see it, once it is synced.
    shown: OnceLock<Arc<dyn ChainStore>>,
}

impl Synchronous {
    pub(crate) fn new(application: Arc<dyn Application>) -> Self {
        Self {
            begin: Some(ChainSync::begin),
            watcher: Some(watching::run),
            ..Self::without_store(application)
        }
    }

    /// The same for an application that gives no store, and no state to watch. A wasm in which all are made so does not hold what syncs and watches.
    pub(crate) fn without_store(application: Arc<dyn Application>) -> Self {
        Self {
            application,
            begin: None,
            watcher: None,
            failures: Failures::default(),
            unkept: Arc::default(),
            shown: OnceLock::new(),
        }
    }

    /// What the chain gives to be synced, as peers may see it.
    pub(crate) fn synced(&self) -> Synced {
        let store = self.ask("chain_store", <dyn Application>::chain_store);
        let trust = self.ask("trust_verifier", <dyn Application>::trust_verifier);
        let source = self.ask("snapshot_source", <dyn Application>::snapshot_source);
        let sink = self.ask("snapshot_sink", <dyn Application>::snapshot_sink);
        let shown = |store| -> Arc<dyn ChainStore> {
            let show =
                || -> Arc<dyn ChainStore> { Arc::new(Shown::new(store, Arc::clone(&self.unkept))) };
            Arc::clone(self.shown.get_or_init(show))
        };
        Synced {
            store: store.flatten().map(shown),
            trust: trust.flatten(),
            source: source.flatten(),
            sink: sink.flatten(),
        }
    }

    /// What the application says. Whatever it leaves half done where it panics is its own business; nothing of ours is.
    fn ask<T>(&self, call: &'static str, ask: impl FnOnce(&dyn Application) -> T) -> Option<T> {
        let said = platform::guard(|| ask(&*self.application));
        said.map_err(|reason| self.failures.note(call, reason)).ok()
    }

    /// Of the state after blocks above this height peers are told nothing.
    fn shown_height(&self) -> u64 {
        let shown = self.shown.get().filter(|_| !self.unkept.is_empty());
        shown.map_or(u64::MAX, |shown| shown.tip().height)
    }

    fn judged(&self, candidate: &Candidate) -> Option<Checked> {
        let checked = match &candidate.item {
            Item::Transaction(transaction) => self.ask("check_transaction", |application| {
                application.check_transaction_by_key(transaction, &candidate.key)
            }),
            Item::Vote(vote) => self.ask("check_vote", |application| application.check_vote(vote)),
            Item::Block(block) => self.checked(block),
        }?;
        if checked.verdict == Verdict::Accept && candidate.delivers {
            self.delivered(&candidate.item)?;
        }
        Some(checked)
    }

    fn checked(&self, block: &Block) -> Option<Checked> {
        self.ask("check_block", |application| application.check_block(block))
    }

    fn delivered(&self, item: &Item) -> Option<()> {
        self.ask("deliver", |application| application.deliver(item))
    }
}

impl Rules for Synchronous {
    fn takes_its_thread(&self) -> bool {
        true
    }

    fn judge<'a>(&'a self, candidates: &'a [Candidate]) -> BoxFuture<'a, Vec<Checked>> {
        let judged = candidates.iter().map(|candidate| {
            let judged = self.judged(candidate);
            judged.unwrap_or_else(|| failed(candidate.item.data()))
        });
        ready(judged.collect()).boxed()
    }

    fn check_block<'a>(&'a self, block: &'a Block) -> BoxFuture<'a, Checked> {
        let checked = self.checked(block);
        ready(checked.unwrap_or_else(|| failed(&block.data))).boxed()
    }

    fn check_header<'a>(&'a self, header: &'a Bytes) -> BoxFuture<'a, Checked> {
        let checked = self.ask("check_header", |application| {
            application.check_header(header)
        });
        ready(checked.unwrap_or_else(|| failed(header))).boxed()
    }

    fn split_block<'a>(&'a self, block: &'a Block) -> BoxFuture<'a, Option<BlockParts>> {
        let parts = self.ask("split_block", |application| application.split_block(block));
        ready(parts.flatten()).boxed()
    }

    fn join_block<'a>(
        &'a self,
        header: &'a Bytes,
        transactions: &'a [Bytes],
    ) -> BoxFuture<'a, Option<Block>> {
        let block = self.ask("join_block", |application| {
            application.join_block(header, transactions)
        });
        ready(block.flatten()).boxed()
    }

    fn deliver_block<'a>(&'a self, block: &'a Block) -> BoxFuture<'a, bool> {
        let delivered = self.delivered(&Item::Block(block.clone()));
        ready(delivered.is_some()).boxed()
    }

    /// Of the state after a block that is shown to nobody nothing is told either.
    fn query<'a>(&'a self, request: &'a StateRequest) -> BoxFuture<'a, Option<StateResponse>> {
        let ask = |request: &StateRequest| {
            let state = self.ask("query", |application| application.query(request));
            state.flatten()
        };
        let state = ask(request);
        let shown = self.shown_height();
        let is_shown = state.as_ref().is_none_or(|state| state.height <= shown);
        let state = match request.height {
            _ if is_shown => state,
            Some(_) => None,
            None => ask(&StateRequest {
                height: Some(shown),
                ..request.clone()
            }),
        };
        ready(state).boxed()
    }

    fn provable(&self, request: StateRequest) -> StateRequest {
        let provable = self.ask("provable", |application| {
            application.provable(request.clone())
        });
        provable.unwrap_or(request)
    }

    fn check_state<'a>(
        &'a self,
        request: &'a StateRequest,
        answer: &'a StateResponse,
    ) -> BoxFuture<'a, Option<SyncVerdict>> {
        let checked = self.ask("check_state", |application| {
            application.check_state(request, answer)
        });
        // Nothing passes for checked because the check has failed.
        let failed = || Some(SyncVerdict::Retry(FAILED.to_owned()));
        ready(checked.unwrap_or_else(failed)).boxed()
    }

    fn watcher(&self) -> Option<Watcher> {
        self.watcher
    }

    fn is_provable<'a>(&'a self, key: &'a Bytes) -> BoxFuture<'a, bool> {
        let is_provable = self.ask("is_provable", |application| application.is_provable(key));
        ready(is_provable.unwrap_or(false)).boxed()
    }

    fn trusted_state(&self) -> BoxFuture<'_, Option<StateRoot>> {
        const CALL: &str = "trusted_state";
        let trusted = self.ask(CALL, <dyn Application>::trusted_state).flatten();
        let trusted = trusted.filter(|state| {
            let length = state.root.len();
            let has_root = (1..=MAX_STATE_ROOT).contains(&length);
            if !has_root {
                let wrong = format!("its root has {length} bytes, not 1 to {MAX_STATE_ROOT}");
                self.failures.note(CALL, wrong);
            }
            has_root
        });
        ready(trusted).boxed()
    }

    /// As with [`Rules::query`].
    fn prove_state<'a>(&'a self, batch: &'a StateBatch) -> BoxFuture<'a, Option<ProvenState>> {
        if batch.at.height > self.shown_height() {
            return ready(None).boxed();
        }
        const CALL: &str = "prove_state";
        let proven = self.ask(CALL, |application| application.prove_state(batch));
        // Peers would take this node for a liar.
        let proven = proven.flatten().filter(|proven| {
            let (values, keys) = (proven.values.len(), batch.keys.len());
            if values != keys {
                let wrong = format!("it gave {values} values for {keys} keys");
                self.failures.note(CALL, wrong);
            }
            values == keys
        });
        ready(proven).boxed()
    }

    fn verify_state<'a>(
        &'a self,
        batch: &'a StateBatch,
        answer: &'a ProvenState,
    ) -> BoxFuture<'a, SyncVerdict> {
        let verified = self.ask("verify_state", |application| {
            application.verify_state(batch, answer)
        });
        // Nothing passes for verified because that has failed.
        ready(verified.unwrap_or_else(|| SyncVerdict::Retry(FAILED.to_owned()))).boxed()
    }

    fn sync(&self, config: &ProtocolConfig, secrets: ([u8; 16], u32)) -> Option<Box<dyn Syncing>> {
        self.begin?(self.synced(), config, secrets, platform::now())
    }

    fn stake_of<'a>(&'a self, peer: &'a PeerId) -> BoxFuture<'a, Option<u64>> {
        let stake = self.ask("stake_of", |application| application.stake_of(peer));
        ready(stake).boxed()
    }

    fn block_interval(&self) -> Option<Duration> {
        let mut interval = None;
        self.ask("block_interval", |application| {
            interval = application.block_interval();
        });
        interval
    }

    fn flush(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        kept(self.ask("flush", <dyn Application>::flush))
    }

    fn close(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        kept(self.ask("close", <dyn Application>::close))
    }

    fn failures(&self) -> &Failures {
        &self.failures
    }

    fn unkept(&self) -> &Unkept {
        &self.unkept
    }
}

/// Nothing is kept because the application has panicked.
fn kept(
    asked: Option<BoxFuture<'static, Result<(), StoreError>>>,
) -> BoxFuture<'static, Result<(), StoreError>> {
    let panicked = |reason| StoreError::Failed {
        place: "what the application keeps".to_owned(),
        reason,
    };
    let Some(kept) = asked else {
        return ready(Err(panicked("it panicked; see its log".to_owned()))).boxed();
    };
    let kept = async move { platform::guarded(kept).await };
    kept.map(move |kept| kept.unwrap_or_else(|reason| Err(panicked(reason))))
        .boxed()
}

/// What comes of work with an application, in tests.
#[cfg(test)]
pub(crate) fn at_once<T>(work: impl Future<Output = T>) -> T {
    work.now_or_never().expect("an application answers at once")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{chain::Transaction, platform::test};

    #[test]
    fn failures_are_told_once_with_their_number() {
        let failures = Failures::default();
        assert_eq!(failures.take(), None);
        for reason in ["first", "second", "third"] {
            failures.note("check_vote", reason.to_owned());
        }
        let failure = failures.take().expect("some failed");
        assert_eq!((failure.count, failure.reason.as_str()), (3, "first"));
        assert_eq!(failures.take(), None);
    }

    /// Says of its state what peers would punish.
    struct Odd(usize);

    impl Application for Odd {
        fn trusted_state(&self) -> Option<StateRoot> {
            let root = vec![7; self.0].into();
            Some(StateRoot { height: 1, root })
        }

        fn prove_state(&self, _: &StateBatch) -> Option<ProvenState> {
            let (values, proof) = (vec![Bytes::new(); self.0], Bytes::new());
            Some(ProvenState { values, proof })
        }
    }

    #[test]
    fn a_state_that_peers_would_punish_is_not_taken_and_that_is_told() {
        let batch = StateBatch {
            at: StateRoot::default(),
            keys: vec![Bytes::new(); MAX_STATE_ROOT],
        };
        for length in [0, 1, MAX_STATE_ROOT, MAX_STATE_ROOT + 1] {
            let rules = Synchronous::new(Arc::new(Odd(length)));
            let told = || rules.failures.take().map(|failure| failure.call);
            let taken = rules.trusted_state().now_or_never().expect("at once");
            let is_right = (1..=MAX_STATE_ROOT).contains(&length);
            assert_eq!(taken.is_some(), is_right, "{length}");
            assert_eq!(told(), (!is_right).then_some("trusted_state"));
            let proven = rules.prove_state(&batch).now_or_never().expect("at once");
            let is_right = length == MAX_STATE_ROOT;
            assert_eq!(proven.is_some(), is_right, "{length}");
            assert_eq!(told(), (!is_right).then_some("prove_state"));
        }
    }

    /// Panics over everything.
    struct Broken;

    impl Application for Broken {
        fn check_transaction(&self, _: &Transaction) -> Checked {
            panic!("out of paper")
        }

        fn check_block(&self, _: &Block) -> Checked {
            panic!("out of ink")
        }

        fn split_block(&self, _: &Block) -> Option<BlockParts> {
            panic!("out of order")
        }
    }

    // A browser's panic ends the whole instance.
    #[core::prelude::v1::test]
    fn a_panic_is_an_answer_that_costs_nobody() {
        let rules = Synchronous::new(Arc::new(Broken));
        let data = Bytes::from_static(b"pay Ann 5");
        let candidate = Candidate {
            key: TransactionKey::of(&data),
            item: Item::Transaction(Transaction::new(data.clone())),
            delivers: true,
        };
        let judged = at_once(rules.judge(std::slice::from_ref(&candidate)));
        assert_eq!(judged, [failed(&data)]);
        let block = Block::new(data);
        assert_eq!(
            at_once(rules.check_block(&block)).verdict,
            Verdict::Ignore,
            "nobody pays"
        );
        assert_eq!(at_once(rules.split_block(&block)), None);
        let failure = rules.failures().take().expect("it is told");
        assert_eq!(
            (failure.call, failure.reason.as_str(), failure.count),
            ("check_transaction", "out of paper", 3)
        );
    }
}
