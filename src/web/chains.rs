//! Chains in Rust by their names: those that are built in, and those of a crate that is built on this one.

use std::{cell::RefCell, future::ready, rc::Rc, sync::Arc};

use futures::{FutureExt, TryFutureExt, future::LocalBoxFuture};

#[cfg(feature = "ledger")]
use super::ledger;
use crate::{
    Application,
    chain::{
        Opaque,
        bitcoin::Bitcoin,
        rules::{Rules, Synchronous},
    },
    config::Config,
    error::{ConfigError, NetworkError},
};

/// What a node asks, as soon as it is there.
type Made = LocalBoxFuture<'static, Result<Arc<dyn Rules>, NetworkError>>;

/// Makes it for a node of this configuration, in which it may say what the node is to know of the chain; and whether what it stores outlasts the node.
type Make = Rc<dyn Fn(&mut Config, bool) -> Made>;

/// Where those built-in ones are that are not here.
const ELSEWHERE: &str = if cfg!(feature = "ledger") {
    ""
} else {
    " ('ledger' and 'ledger-light' are in ledger_bg.wasm, and in a build of your own with selkie's feature `ledger`)"
};

thread_local! {
    static CHAINS: RefCell<Vec<(String, Make)>> = RefCell::new(built_in());
}

fn built_in() -> Vec<(String, Make)> {
    Vec::from([
        named("opaque", |_, _| made(without_store(Opaque))),
        named("bitcoin", |_, _| made(without_store(Bitcoin))),
        #[cfg(feature = "ledger")]
        named("ledger", |config, keeps| {
            ledger::open(config, false, keeps).boxed_local()
        }),
        #[cfg(feature = "ledger")]
        named("ledger-light", |config, keeps| {
            ledger::open(config, true, keeps).boxed_local()
        }),
    ])
}

/// Gives a chain a name, under which `createNode({ wasm, application: 'name' })` of the npm package starts nodes that judge by it. `make` is called for
/// each of them.
///
/// For a crate of one's own that is built to WebAssembly in place of the package's: a `cdylib` on wasm32 that depends on this crate and
/// registers what it has as it is loaded. `wasm-bindgen --target web` makes the two files of it that the package takes.
/// `examples/chain-in-a-tab` is a complete one.
///
/// ```ignore
/// #[wasm_bindgen(start)]
/// fn start() {
///     selkie::web::register("payments", || Payments);
/// }
/// ```
pub fn register<A: Application>(name: impl Into<String>, make: impl Fn() -> A + 'static) {
    add(named(name, move |_, _| made(rules(make()))));
}

/// The same for a chain that takes its time to be there, or may fail to: one that opens the browser's store. `createNode` waits for it, and rejects with
/// its error; a [`StoreError`](crate::storage::StoreError) has its code there (`storage-locked`, `storage-full`, …). The node that has ended asks the
/// chain to let go of it ([`Application::close`]), so that the next one can have it.
///
/// ```ignore
/// selkie::web::register_opening("ledger", || async {
///     let store = IndexedDbStore::open("my chain", 64 << 20, &ledger::SCHEMA).await?;
///     Ledger::open(genesis(), Arc::new(store))
/// });
/// ```
pub fn register_opening<A, E, F>(name: impl Into<String>, make: impl Fn() -> F + 'static)
where
    A: Application,
    E: Into<NetworkError> + 'static,
    F: Future<Output = Result<A, E>> + 'static,
{
    add(named(name, move |_, _| {
        make().map_ok(rules).map_err(Into::into).boxed_local()
    }));
}

fn named(
    name: impl Into<String>,
    make: impl Fn(&mut Config, bool) -> Made + 'static,
) -> (String, Make) {
    (name.into(), Rc::new(make))
}

fn add(chain: (String, Make)) {
    CHAINS.with_borrow_mut(|chains| {
        // Of two with a name the last one is meant.
        chains.retain(|(known, _)| *known != chain.0);
        chains.push(chain);
    });
}

/// What a node of this chain asks.
///
/// # Errors
/// There is none of this name, or it can't be had.
pub(super) async fn find(
    name: &str,
    config: &mut Config,
    keeps: bool,
) -> Result<Arc<dyn Rules>, NetworkError> {
    // Whoever makes one may register another.
    let found = CHAINS.with_borrow(|chains| {
        let known = chains.iter().find(|(known, _)| known == name);
        known.map(|(_, make)| Rc::clone(make)).ok_or_else(|| {
            let names: Vec<_> = chains.iter().map(|(name, _)| &**name).collect();
            let names = names.join(", ");
            let problem = format!("give one that this WebAssembly has{ELSEWHERE}: {names}");
            ConfigError::new("chain.application", name, problem)
        })
    });
    found?(config, keeps).await
}

fn made(rules: Arc<dyn Rules>) -> Made {
    ready(Ok(rules)).boxed_local()
}

fn rules(application: impl Application) -> Arc<dyn Rules> {
    Arc::new(Synchronous::new(Arc::new(application)))
}

fn without_store(application: impl Application) -> Arc<dyn Rules> {
    Arc::new(Synchronous::without_store(Arc::new(application)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Checked, Transaction,
        chain::{Item, TransactionKey, Verdict, rules::Candidate},
        platform::{self, test},
        storage::StoreError,
    };

    /// Says what it was told to.
    struct Says(&'static str);

    impl Application for Says {
        fn check_transaction(&self, transaction: &Transaction) -> Checked {
            Checked::reject(&transaction.data, self.0)
        }
    }

    async fn said(name: &str) -> String {
        let item = Item::Transaction(Transaction::new("pay"));
        let candidate = Candidate {
            key: TransactionKey::of(item.data()),
            item,
            delivers: false,
        };
        let rules = find(name, &mut Config::default(), false).await;
        let rules = rules.expect("it has the name");
        let judged = rules.judge(&[candidate]).await.remove(0);
        assert_eq!(judged.verdict, Verdict::Reject);
        judged.reason
    }

    async fn refused(name: &str) -> NetworkError {
        find(name, &mut Config::default(), false)
            .await
            .err()
            .expect("it can't be had")
    }

    #[test]
    async fn a_chain_is_found_by_its_name_and_the_last_one_counts() {
        let told = refused("mine").await;
        // Others may have given names before.
        let own: Vec<_> = built_in().into_iter().map(|(name, _)| name).collect();
        assert_eq!(
            own.contains(&"ledger-light".to_owned()),
            cfg!(feature = "ledger")
        );
        let own = format!(": {}", own.join(", "));
        assert!(told.to_string().contains(&own), "{told}");
        assert_eq!(told.code(), "config");
        let hint = told.to_string().contains("ledger_bg.wasm");
        assert_eq!(hint, !cfg!(feature = "ledger"), "{told}");
        register("mine", || Says("the first"));
        assert_eq!(said("mine").await, "the first");
        register("mine", || {
            register("made with it", || Says("a third"));
            Says("the second")
        });
        register("other", || Says("another"));
        assert_eq!(said("mine").await, "the second");
        let told = refused("").await.to_string();
        assert!(told.contains(&own), "{told}");
        assert!(told.ends_with(", mine, other, made with it"), "{told}");
        assert!(find("bitcoin", &mut Config::default(), false).await.is_ok());
    }

    #[test]
    async fn a_chain_that_opens_a_store_is_waited_for_and_its_error_has_a_code() {
        let locked = || StoreError::Locked {
            place: "the shelf".to_owned(),
        };
        register_opening("shelved", move || async move {
            platform::offload(|| ()).await;
            Err::<Opaque, _>(locked())
        });
        assert_eq!(refused("shelved").await.code(), "storage-locked");
        register_opening("shelved", || async {
            platform::offload(|| ()).await;
            Ok::<_, StoreError>(Says("it opens"))
        });
        assert_eq!(said("shelved").await, "it opens");
    }
}
