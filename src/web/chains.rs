//! Chains in Rust by their names: those that are built in, and those of a crate that is built on this one.

use std::{cell::RefCell, sync::Arc};

use crate::{
    Application,
    chain::{
        Opaque,
        bitcoin::Bitcoin,
        rules::{Rules, Synchronous},
    },
};

/// Makes what a node asks.
type Make = Box<dyn Fn() -> Arc<dyn Rules>>;

thread_local! {
    static CHAINS: RefCell<Vec<(String, Make)>> = RefCell::new(vec![
        ("opaque".to_owned(), Box::new(|| without_store(Opaque))),
        ("bitcoin".to_owned(), Box::new(|| without_store(Bitcoin))),
    ]);
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
    let (name, make) = (name.into(), Box::new(move || rules(make())));
    CHAINS.with_borrow_mut(|chains| {
        // Of two with a name the last one is meant.
        chains.retain(|(known, _)| *known != name);
        chains.push((name, make));
    });
}

/// What a node of this chain asks.
///
/// # Errors
/// The names that there are.
pub(super) fn find(name: &str) -> Result<Arc<dyn Rules>, String> {
    CHAINS.with_borrow(|chains| {
        let known = chains.iter().find(|(known, _)| known == name);
        known.map(|(_, make)| make()).ok_or_else(|| {
            let names: Vec<_> = chains.iter().map(|(name, _)| &**name).collect();
            names.join(", ")
        })
    })
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
        platform::test,
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
        let rules = find(name).expect("it has the name");
        let judged = rules.judge(&[candidate]).await.remove(0);
        assert_eq!(judged.verdict, Verdict::Reject);
        judged.reason
    }

    #[test]
    async fn a_chain_is_found_by_its_name_and_the_last_one_counts() {
        assert_eq!(find("mine").err().as_deref(), Some("opaque, bitcoin"));
        register("mine", || Says("the first"));
        assert_eq!(said("mine").await, "the first");
        register("mine", || Says("the second"));
        register("other", || Says("another"));
        assert_eq!(said("mine").await, "the second");
        let known = "opaque, bitcoin, mine, other";
        assert_eq!(find("").err().as_deref(), Some(known));
        assert!(find("bitcoin").is_ok());
    }
}
