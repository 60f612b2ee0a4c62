//! One item's way through the chain's check.

use crate::{
    chain::{Application, Checked, Item, Verdict},
    propagation::blocks::AcceptedBlock,
};

/// Has an item checked; of an accepted block, what propagation wants to know of it. May take long.
pub(crate) fn checked(
    item: &Item,
    application: &dyn Application,
) -> (Checked, Option<AcceptedBlock>) {
    let checked = item.check(application);
    let block = match item {
        Item::Block(block) if checked.verdict == Verdict::Accept => {
            let id = checked.id.clone();
            Some(AcceptedBlock::of(id, block.clone(), application))
        }
        _ => None,
    };
    (checked, block)
}
