//! Watching a ledger's state for who asks: each answer is what has changed since the last one on that connection, at first all.
//!
//! Where nothing changes for [`QUIET`] an empty answer says that the node is there: so a watch needs no other word than a question and its answer. The first one comes
//! after [`FIRST`], where no state is verified until then. Bounds: [`MOST`] watch at once, so that others who ask find a place; who is gone watches no more.

use std::{pin::pin, sync::Arc, time::Duration};

use futures::future::{Either, select};
use futures_timer::Delay;
use selkie::{
    P2PNetworkManager, StateChange, StateWatch,
    chain::{
        StateRoot,
        ledger::{Account, Address},
    },
};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Who may watch at once.
pub(super) const MOST: usize = super::MOST / 2;
/// How long nothing changes before that is an answer; less than the patience of who asks.
pub(super) const QUIET: Duration = Duration::from_secs(20);

/// How long the first answer waits for a verified state.
const FIRST: Duration = Duration::from_secs(2);

/// What one who asks watches.
pub(super) struct Watched {
    keys: Vec<Address>,
    watch: StateWatch,
    /// How long its next answer waits for a change.
    quiet: Duration,
    /// Its place among those who watch.
    _place: OwnedSemaphorePermit,
}

impl Watched {
    /// Goes on with the watch of these keys, or begins it.
    ///
    /// # Errors
    /// For a person: the node proves no state, has ended, or too many watch.
    pub(super) async fn of<'watch>(
        watched: &'watch mut Option<Self>,
        keys: Vec<Address>,
        node: &P2PNetworkManager,
        places: &Arc<Semaphore>,
    ) -> Result<&'watch mut Self, String> {
        let going_on = watched.take().filter(|watched| watched.keys == keys);
        Ok(match going_on {
            Some(same) => watched.insert(same),
            None => watched.insert(Self::open(keys, node, places).await?),
        })
    }

    async fn open(
        keys: Vec<Address>,
        node: &P2PNetworkManager,
        places: &Arc<Semaphore>,
    ) -> Result<Self, String> {
        let place = Arc::clone(places).try_acquire_owned();
        let place =
            place.map_err(|_| format!("{MOST} watch the state already; end one of them"))?;
        let named = keys.iter().map(|key| key.as_bytes().to_vec());
        let watch = node.watch_state(named).await;
        Ok(Self {
            watch: watch.map_err(|error| error.to_string())?,
            keys,
            quiet: FIRST,
            _place: place,
        })
    }

    /// Waits for what has changed, unless who asks is `gone`.
    ///
    /// # Errors
    /// For a person: the node has ended.
    pub(super) async fn next(&mut self, gone: impl Future<Output = ()>) -> Result<Value, String> {
        let quiet = Delay::new(std::mem::replace(&mut self.quiet, QUIET));
        let gone = pin!(gone);
        let until = select(quiet, gone);
        let change = match select(pin!(self.watch.recv()), until).await {
            Either::Left((Some(change), _)) => Some(change),
            Either::Left((None, _)) => return Err("the node has ended".to_owned()),
            Either::Right(_) => None,
        };
        match change {
            Some(StateChange { at, values, .. }) => {
                let account = |(key, value): (&bytes::Bytes, &bytes::Bytes)| {
                    let account = match value.is_empty() {
                        true => Account::default(),
                        false => Account::decode(value).map_err(|error| error.to_string())?,
                    };
                    let (balance, nonce) = (account.balance, account.nonce);
                    Ok(json!({"key": hex::encode(key), "balance": balance, "nonce": nonce}))
                };
                let accounts: Result<Vec<_>, String> = values.iter().map(account).collect();
                Ok(state(Some(&at), accounts?))
            }
            None => Ok(state(self.watch.verified().as_ref(), Vec::new())),
        }
    }
}

/// What has changed up to a state; `None`: none is verified yet.
fn state(at: Option<&StateRoot>, accounts: Vec<Value>) -> Value {
    json!({
        "type": "state",
        "height": at.map(|at| at.height),
        "stateRoot": at.map(|at| hex::encode(&at.root)),
        "accounts": accounts,
    })
}
