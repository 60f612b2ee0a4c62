//! What is said to batches, of which some may be this node's own word: a block or a vote of its own, which the chain keeps before anybody hears of it.
//!
//! What a vote rests on was written when it was made, so that is kept before the chain is given the vote: it would count it, and show what it counts. A
//! block is kept by being given to the chain, and is shown to nobody meanwhile ([`crate::chain::Unkept`]). What can't be kept is as if it had not been accepted, and
//! its maker is told; it may hand in the same again, once there is room.

use std::sync::Arc;

use super::{DeliveredBlocks, batch::Load, judged::Judged};
use crate::{
    chain::{
        ItemKind,
        rules::{self, Rules},
    },
    storage::StoreError,
};

/// Has every item of these batches checked, all of one kind, and what is our own word kept. `None`: the host is ending, or something panicked.
pub(crate) async fn judge(
    mut loads: Vec<Load>,
    rules: Arc<dyn Rules>,
    blocks: Arc<DeliveredBlocks>,
) -> Option<Vec<Judged>> {
    let words = loads
        .iter()
        .map(|load| load.is_our_word().then_some(load.kind));
    let words: Vec<_> = words.collect();
    let mut kept = Ok(());
    if words.contains(&Some(ItemKind::Vote)) {
        kept = keep(&rules).await?;
        if kept.is_err() {
            let own = loads.iter_mut().filter(|load| load.is_our_word());
            own.for_each(|load| load.delivers = false);
        }
    }
    let (asked, delivered) = (Arc::clone(&rules), Arc::clone(&blocks));
    let check = async move { Judged::of(loads, &*asked, &delivered).await };
    let mut judged = rules::run(&*rules, check).await?;
    if words.iter().all(Option::is_none) {
        return Some(judged);
    }
    if kept.is_ok() {
        kept = keep(&rules).await?;
    }
    let said = judged.iter_mut().zip(words);
    for (judged, kind) in said.filter_map(|(judged, word)| Some((judged, word?))) {
        match &kept {
            Ok(()) => judged.keys().for_each(|key| rules.unkept().tell(key)),
            Err(error) => judged.is_not_kept(kind, error, &blocks),
        }
    }
    Some(judged)
}

/// Has the chain keep what it was given.
async fn keep(rules: &Arc<dyn Rules>) -> Option<Result<(), StoreError>> {
    let last = rules.unkept().last();
    // To be asked for it may take as long as a disk does.
    let asked = Arc::clone(rules);
    let asks = async move { Some(asked.flush()) };
    let kept = rules::run(&**rules, asks).await.flatten()?.await;
    if kept.is_ok() {
        rules.unkept().keep(last);
    }
    Some(kept)
}
